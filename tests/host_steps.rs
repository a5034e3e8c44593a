//! The host's steps on small files: what is read, chosen and split, and how shares are closed.

use crate::support::{fail, lacuna, project, root, succeed, text};
use lacuna::formats::H5ad;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

const SCREEN: &str = r#"
[steps.model]
use = "masked-mean"
train = "chosen"
[steps.screen]
use = "screen"
model = "model"
cells = "chosen"
knockouts = "each-expressed-gene"
impact = { use = "bray-curtis", against = "predicted" }
"#;

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/formats").join(name)
}

/// Runs `read` and `prepare` with these keys and a cheap screen; gives the run's folder, or what it said.
fn run(read: &str, prepare: &str) -> Result<tempfile::TempDir, String> {
    let project = project(&format!(
        "format = 1\nname = \"steps\"\n[steps.cells]\nuse = \"read\"\n{read}\n[steps.chosen]\nuse = \"prepare\"\nfrom = \
         \"cells\"\n{prepare}\n{SCREEN}"
    ));
    let output = lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap();
    if output.status.success() { Ok(project) } else { Err(fail(output, 1)) }
}

fn path_key(path: &Path) -> String {
    format!("path = {:?}", path.display().to_string())
}

/// The cells that were screened.
fn screened(project: &tempfile::TempDir) -> lacuna::data::Cells {
    H5ad::open(&project.path().join("runs/steps/steps/screen/screen.h5ad")).unwrap().cells("X").unwrap()
}

fn warnings(project: &tempfile::TempDir) -> String {
    let run: Json =
        serde_json::from_slice(&std::fs::read(project.path().join("runs/steps/run.json")).unwrap()).unwrap();
    run["steps"].as_array().unwrap().iter().map(|s| s["record"]["warnings"].to_string()).collect()
}

#[test]
fn every_format_is_told_by_its_content() {
    for name in
        ["csr-gzip.h5ad", "csc.h5ad", "dense-f32.h5ad", "csr-lzf-integers.h5ad", "tenx-v3.h5", "mtx-v3-gz"]
    {
        let run = run(&format!("{}\nvalues = \"abundances\"", path_key(&fixture(name))), "")
            .unwrap_or_else(|said| panic!("{name}: {said}"));
        let answer = fixture(&format!("{}.json", name.split('.').next().unwrap()));
        let answer: Json = serde_json::from_slice(&std::fs::read(answer).unwrap()).unwrap();
        let genes: Vec<&str> =
            answer["var_names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        let cells = screened(&run);
        assert!(!cells.is_empty() && cells.var.names.iter().all(|g| genes.contains(&g.as_str())), "{name}");
    }
}

#[test]
fn the_reference_layout_is_genes_by_cells_without_names() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("Ptrain.csv");
    std::fs::write(&table, "0.5,1.25,0\n2,0,0.75\n").unwrap();
    let run = run(&path_key(&table), "").unwrap();
    let cells = screened(&run);
    assert_eq!((cells.len(), cells.n_genes()), (3, 2));
    assert_eq!(cells.x.row(0), (&[0u32, 1][..], &[0.5f32, 2.0][..]));
    assert_eq!(cells.x.row(2), (&[1u32][..], &[0.75f32][..]));
    assert_eq!(cells.var.names, ["gene-1", "gene-2"]);
}

#[test]
fn x_that_holds_no_counts_is_an_error_that_says_where_counts_are() {
    let file = fixture("raw-and-layers.h5ad");
    let said = run(&path_key(&file), "").map(|_| ()).unwrap_err();
    assert!(said.contains("neither counts nor profiles") && said.contains("layer = \"counts\""), "{said}");
    run(&format!("{}\nlayer = \"counts\"", path_key(&file)), "").unwrap();
    let said = run(&format!("{}\nlayer = \"cuonts\"", path_key(&file)), "").map(|_| ()).unwrap_err();
    assert!(said.contains("cuonts") && said.contains("counts"), "{said}");
    let said = run(&path_key(&fixture("refused-zstd.h5ad")), "").map(|_| ()).unwrap_err();
    assert!(said.contains("gzip"), "{said}");
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("csr-gzip.h5ad")).unwrap();
    for share in [1, 20, 50, 80, 99] {
        let cut = dir.path().join("cut.h5ad");
        std::fs::write(&cut, &whole[..whole.len() * share / 100]).unwrap();
        let said = run(&path_key(&cut), "").map(|_| ()).unwrap_err();
        assert!(said.contains("step `cells`") && said.contains("cut.h5ad"), "{said}");
    }
}

const TABLE: &str = ",A,B,C,D\nc1,5,3,1,1\nc2,4,0,2,0\nc3,0,2,1,0\nc4,9,1,0,0\nc5,1,1,1,1\n";

fn of_table(prepare: &str) -> Result<tempfile::TempDir, String> {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("cells.csv");
    std::fs::write(&table, TABLE).unwrap();
    run(&path_key(&table), prepare)
}

#[test]
fn prepare_chooses_cells_and_genes() {
    let names = |prepare: &str| {
        let cells = screened(&of_table(prepare).unwrap());
        (cells.obs.names.join(" "), cells.var.names.join(" "))
    };
    assert_eq!(names("where = { n_genes = { min = 3 } }").0, "c1 c5");
    assert_eq!(names("not = { n_genes = [3, 4] }").0, "c2 c3 c4");
    assert_eq!(names("where = { total_counts = 10 }").0, "c1 c4");
    assert_eq!(names("genes = { min_cells = 0.8 }").1, "A B C");
    assert_eq!(names("genes = { min_cells = 4, always = [\"D\"] }").1, "A B C D");
    assert_eq!(names("genes = { only = [\"C\", \"A\"] }").1, "A C");
}

#[test]
fn cells_that_lose_all_genes_are_left_out_with_a_warning() {
    let run = of_table("genes = { only = [\"C\", \"D\"] }").unwrap();
    assert_eq!(screened(&run).obs.names.join(" "), "c1 c2 c3 c5");
    assert!(warnings(&run).contains("1 cells express fewer than 1 of the chosen genes"));
}

#[test]
fn closing_over_the_library_keeps_the_rest_as_a_gene_that_is_never_knocked_out() {
    let run = of_table("genes = { only = [\"A\", \"B\"] }\nclose = \"library\"").unwrap();
    let cells = screened(&run);
    assert_eq!(cells.var.names, ["A", "B", "(other genes)"]);
    assert_eq!(cells.x.row(0), (&[0u32, 1, 2][..], &[5f32, 3.0, 2.0][..]));
    assert_eq!(cells.x.row(3), (&[0u32, 1][..], &[9f32, 1.0][..]));
    let genes = std::fs::read_to_string(run.path().join("runs/steps/steps/screen/genes.csv")).unwrap();
    assert!(genes.contains(",A,") && !genes.contains("(other genes)"), "{genes}");
}

#[test]
fn split_keeps_the_shares_in_each_stratum_and_writes_who_went_where() {
    let file = fixture("columns-text.h5ad");
    let column = H5ad::open(&file).unwrap().obs().columns[0].name.clone();
    let project = project(&format!(
        "format = 1\nname = \"split\"\n[steps.cells]\nuse = \"read\"\n{}\nvalues = \"abundances\"\n[steps.parts]\nuse = \
         \"split\"\nfrom = \"cells\"\nstratify = \"{column}s\"\ntest = 0.4\n[steps.model]\nuse = \"mean\"\ntrain = \
         \"parts\"\n",
        path_key(&file)
    ));
    let said = fail(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains(&format!("did you mean `{column}`?")), "{said}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.csv"), TABLE).unwrap();
    let project = crate::support::project(&format!(
        "format = 1\nname = \"split\"\n[steps.cells]\nuse = \"read\"\n{}\n[steps.parts]\nuse = \"split\"\nfrom = \
         \"cells\"\ntest = 0.4\nvalidation = 0.2\n[steps.model]\nuse = \"mean\"\ntrain = \"parts\"\n",
        path_key(&dir.path().join("t.csv"))
    ));
    let output = lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap();
    assert!(text(&output.stderr).contains("nothing uses step `model`"));
    succeed(output);
    let split = std::fs::read_to_string(project.path().join("runs/split/steps/parts/split.csv")).unwrap();
    let count = |part: &str| split.lines().filter(|l| l.ends_with(part)).count();
    assert_eq!([count(",train"), count(",validation"), count(",test")], [2, 1, 2], "{split}");
}

#[test]
fn a_model_meets_cells_with_other_genes_by_name() {
    let project = project(
        r#"
format = 1
name = "aligned"
[steps.world]
use = "grn"
with = { cells = 30, genes = 10, regulators = 5, absent_genes = 2 }
[steps.known]
use = "prepare"
from = "world"
genes = { only = ["G003", "G001", "G005", "G007"] }
[steps.fewer]
use = "prepare"
from = "world"
genes = { only = ["G001", "G003", "G005", "G009"] }
[steps.model]
use = "masked-mean"
train = "known"
[steps.screen]
use = "screen"
model = "model"
cells = "fewer"
knockouts = "each-expressed-gene"
impact = { use = "bray-curtis", against = "predicted" }
"#,
    );
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let steps = project.path().join("runs/aligned/steps");
    let cells = H5ad::open(&steps.join("screen/screen.h5ad")).unwrap().cells("X").unwrap();
    assert_eq!(cells.var.names, ["G001", "G003", "G005", "G007"]);
    let run = std::fs::read_to_string(project.path().join("runs/aligned/run.json")).unwrap();
    assert!(run.contains("1 of the model's 4 genes are not in the cells"));
    let set = "steps.fewer.genes.only=[\"G001\", \"G002\"]";
    let said = fail(lacuna(&["run", "--quiet", "--set", set]).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("the cells have 1 of the 4 genes"), "{said}");
}
