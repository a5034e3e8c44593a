//! The host's steps on small files: what is read, chosen and split, and how shares are closed.

use crate::support::{fail, lacuna, project, root, succeed, text};
use arrow_array::StringArray;
use lacuna::data::{Cells, Csr, Frame};
use lacuna::formats::{H5ad, h5ad};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

#[test]
fn a_table_with_names_holds_counts_unless_it_is_said_to_hold_abundances() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("logged.csv");
    std::fs::write(&table, ",A,B\nc1,0.5,1.25\nc2,2.1,0\n").unwrap();
    let said = run(&path_key(&table), "").map(|_| ()).unwrap_err();
    assert!(
        said.contains("neither counts nor profiles") && said.contains("values = \"abundances\""),
        "{said}"
    );
    run(&format!("{}\nvalues = \"abundances\"", path_key(&table)), "").unwrap();
    std::fs::write(&table, "0.5,1.25\n2.1,0\n").unwrap();
    let said = run(&format!("{}\nvalues = \"counts\"", path_key(&table)), "").map(|_| ()).unwrap_err();
    assert!(said.contains("neither counts nor profiles"), "{said}");
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
    let one_cell = "not = { n_genes = [3, 4] }\nwhere = { total_counts = 10 }";
    assert_eq!(names(one_cell), ("c4".into(), "A B".into()));
    assert_eq!(names(&format!("{one_cell}\ngenes = {{ min_cells = 0 }}")).1, "A B C D");
    assert_eq!(names("genes = { only = [\"C\", \"A\"] }").1, "A C");
}

#[test]
fn genes_that_are_too_much_of_all_counts_are_left_out_with_a_warning() {
    let run = of_table("genes = { dominant = 0.5 }").unwrap();
    assert_eq!(screened(&run).var.names.join(" "), "B C D");
    assert!(warnings(&run).contains("A is 58 % of all counts: left out (`dominant`)"), "{}", warnings(&run));
    // Nor are its counts part of the library: what is left of c4's ten is one.
    let run =
        of_table("genes = { dominant = 0.5, only = [\"C\", \"B\", \"A\"] }\nclose = \"library\"").unwrap();
    let cells = screened(&run);
    assert_eq!(cells.var.names, ["B", "C", "(other genes)"]);
    assert_eq!(cells.x.row(0), (&[0u32, 1, 2][..], &[3f32, 1.0, 1.0][..]));
    assert_eq!(cells.x.row(3), (&[0u32][..], &[1f32][..]));
    let run = of_table("genes = { dominant = 0.5, always = [\"A\"] }").unwrap();
    assert_eq!(screened(&run).var.names.join(" "), "A B C D");
    assert!(!warnings(&run).contains("left out"), "{}", warnings(&run));
    let run = of_table("genes = { dominant = 0.7 }").unwrap();
    assert_eq!(screened(&run).var.names.join(" "), "A B C D");
}

#[test]
fn downsampled_cells_are_of_equal_depth_and_shallow_ones_are_left_out() {
    let run = of_table("downsample = 6").unwrap();
    let cells = screened(&run);
    // c3 has 3 counts, c5 has 4; c1 and c4 have 10, c2 has 6.
    assert_eq!(cells.obs.names.join(" "), "c1 c2 c4");
    assert!((0..3).all(|i| cells.x.row_sum(i) == 6.0));
    assert_eq!(cells.x.row(1), (&[0u32, 2][..], &[4f32, 2.0][..]));
    assert!(warnings(&run).contains("2 of 5 cells have fewer than 6 counts: left out"));
    // What the chosen genes leave is drawn too, and a second draw is of the first.
    let run = of_table("downsample = 9\ngenes = { only = [\"A\", \"B\"] }\nclose = \"library\"").unwrap();
    let cells = screened(&run);
    assert_eq!(cells.var.names, ["A", "B", "(other genes)"]);
    assert!((0..cells.len()).all(|i| cells.x.row_sum(i) == 9.0));
    let said = of_table("downsample = 60").map(|_| ()).unwrap_err();
    assert!(said.contains("no cell has 60 counts (`downsample`): the deepest has 10"), "{said}");
}

#[test]
fn what_is_not_counted_cannot_be_downsampled() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("shares.csv");
    std::fs::write(&table, ",A,B\nc1,0.5,1.25\nc2,2.1,0\n").unwrap();
    let read = format!("{}\nvalues = \"abundances\"", path_key(&table));
    let said = run(&read, "downsample = 1").map(|_| ()).unwrap_err();
    assert!(said.contains("downsampling needs whole numbers"), "{said}");
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
    let regulator = cells.var.column("regulator").unwrap().texts();
    assert_eq!(regulator.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
    let run = std::fs::read_to_string(project.path().join("runs/aligned/run.json")).unwrap();
    assert!(run.contains("1 of the model's 4 genes are not in the cells"));
    let set = "steps.fewer.genes.only=[\"G001\", \"G002\"]";
    let said = fail(lacuna(&["run", "--quiet", "--set", set]).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("the cells have 1 of the 4 genes"), "{said}");
}

/// What `init` says, and the pipeline that it writes, if it does.
fn init(file: &Path, options: &[&str]) -> (String, Option<String>) {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = dir.path().join("pipeline.toml");
    let output = lacuna(&["init"]).arg(file).arg("--output").arg(&pipeline).args(options).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.success(), pipeline.exists(), "{said}");
    if pipeline.exists() {
        succeed(lacuna(&["validate"]).arg(&pipeline).output().unwrap());
    }
    (said, std::fs::read_to_string(pipeline).ok())
}

#[test]
fn init_chooses_the_groups_that_are_asked_for_and_never_two_treatments() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cells.h5ad");
    let names = |prefix: &str, n: usize| Frame::of_names((0..n).map(|i| format!("{prefix}{i}")).collect());
    let mut x = Csr::empty(2);
    (0..4).for_each(|_| x.push_row([(0, 1.0), (1, 2.0)].into_iter()));
    let (mut obs, column) = (names("c", 4), |texts: [&str; 4]| Arc::new(StringArray::from(texts.to_vec())));
    obs.push("perturbation", column(["control", "control", "G1", "G1"]));
    obs.push("condition", column(["WT", "KO", "WT", "KO"]));
    obs.push("cell type", column(["a", "b", "c", "a"]));
    h5ad::write(&file, &Cells::new(x, obs, names("g", 2)), &[]).unwrap();
    let chosen = |options: &[&str]| {
        let (_, written) = init(&file, options);
        written.unwrap().lines().find(|l| l.starts_with("where")).unwrap().to_string()
    };
    assert_eq!(chosen(&[]), r#"where = { perturbation = "control" }"#);
    assert_eq!(chosen(&["--group", "perturbation=control"]), r#"where = { perturbation = "control" }"#);
    assert_eq!(chosen(&["--group", "condition=KO"]), r#"where = { condition = "KO" }"#);
    let two = ["--group", "cell type=a", "--group", "cell type=b"];
    assert_eq!(chosen(&two), r#"where = { "cell type" = ["a", "b"], perturbation = "control" }"#);
}

#[test]
fn init_finds_counts_or_writes_nothing() {
    let (_, written) = init(&fixture("raw-and-layers.h5ad"), &[]);
    assert!(written.unwrap().contains("layer = \"counts\""));
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("t.csv");
    for (values, problem) in
        [("1,-2.5\nc2,0,1", "below 0"), ("nan,2\nc2,0,1", "finite"), ("0,0\nc2,0,0", "empty")]
    {
        std::fs::write(&table, format!(",A,B\nc1,{values}\n")).unwrap();
        let (said, written) = init(&table, &[]);
        assert!(said.contains(problem) && written.is_none(), "{said}");
    }
}

#[test]
fn shares_of_the_library_may_be_taken_twice() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.csv"), TABLE).unwrap();
    let project = project(&format!(
        "format = 1\nname = \"steps\"\n[steps.cells]\nuse = \"read\"\n{}\n[steps.first]\nuse = \"prepare\"\nfrom = \
         \"cells\"\nclose = \"library\"\ngenes = {{ only = [\"A\", \"B\", \"C\"] }}\n[steps.chosen]\nuse = \"prepare\"\n\
         from = \"first\"\nclose = \"library\"\ngenes = {{ only = [\"A\", \"B\"] }}\n{SCREEN}",
        path_key(&dir.path().join("t.csv"))
    ));
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let cells = screened(&project);
    assert_eq!(cells.var.names, ["A", "B", "(other genes)"]);
    assert_eq!(cells.x.row(0).1, [5.0, 3.0, 2.0]);
}

/// A small world, two groups of its cells, and further steps.
fn world(steps: &str) -> tempfile::TempDir {
    project(&format!(
        r#"
format = 1
name = "world"
[steps.world]
use = "grn"
with = {{ cells = 24, genes = 8, regulators = 4, absent_genes = 1 }}
{steps}
"#
    ))
}

const TWO_MODELS: &str = r#"
[steps.a]
use = "split"
from = "world"
[steps.b]
use = "split"
from = "world"
[steps.one]
use = "mlp"
train = "a.train"
validation = "a.validation"
with = { steps = 5 }
[steps.two]
use = "mlp"
train = "b.train"
validation = "b.validation"
with = { steps = 5 }
[steps.mapping]
use = "evaluate"
models = ["one", "two"]
cells = "a.test"
metrics = ["bray-curtis"]
"#;

#[test]
fn models_of_other_training_cells_have_baselines_of_their_own() {
    let project = world(TWO_MODELS);
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let mapping = project.path().join("runs/world/steps/mapping");
    let scores = std::fs::read_to_string(mapping.join("scores.csv")).unwrap();
    let rows = |model: &str| scores.lines().filter(|l| l.split(',').nth(1) == Some(model)).count();
    assert_eq!(
        [rows("one"), rows("mean of one"), rows("mean of two"), rows("mean")],
        [3, 3, 3, 0],
        "{scores}"
    );
    let step = std::fs::read_to_string(mapping.join("step.json")).unwrap();
    assert!(step.contains("two learned from ") && !step.contains("one learned from "), "{step}");
    let evaluation: Json =
        serde_json::from_slice(&std::fs::read(mapping.join("evaluation.json")).unwrap()).unwrap();
    for verdict in evaluation["verdicts"].as_array().unwrap() {
        let (text, model) = (verdict["text"].as_str().unwrap(), verdict["model"].as_str().unwrap());
        let other = if model == "one" { "of two" } else { "of one" };
        assert!(text.contains(&format!("of {model}")) && !text.contains(other), "{text}");
    }
}

#[test]
fn models_of_the_same_training_cells_stand_beside_the_same_baselines() {
    // One of them has the name of a baseline.
    let text = TWO_MODELS.replace("\"b.train\"", "\"a.train\"").replace("\"b.valid", "\"a.valid");
    let project = world(&text.replace("steps.two", "steps.knn").replace("\"two\"", "\"knn\""));
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let mapping = project.path().join("runs/world/steps/mapping");
    let scores = std::fs::read_to_string(mapping.join("scores.csv")).unwrap();
    let rows = |model: &str| scores.lines().filter(|l| l.split(',').nth(1) == Some(model)).count();
    assert_eq!([rows("one"), rows("mean"), rows("mean of one")], [3, 3, 0], "{scores}");
    assert_eq!([rows("knn"), rows("knn (baseline)")], [3, 3], "{scores}");
}

#[test]
fn too_few_cells_give_no_interval_and_no_verdict() {
    let few = TWO_MODELS.replace("from = \"world\"", "from = \"world\"\ntest = 0.1");
    let project = world(&few);
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let mapping = project.path().join("runs/world/steps/mapping");
    let scores = std::fs::read_to_string(mapping.join("scores.csv")).unwrap();
    let one = scores.lines().find(|l| l.contains(",one,bray-curtis,flattened,")).unwrap();
    let cut: Vec<&str> = one.split(',').collect();
    assert!(!cut[4].is_empty() && cut[5].is_empty() && cut[6].is_empty() && cut[8].is_empty(), "{one}");
}

const TWO_SCREENS: &str = r#"
[steps.truth]
use = "screen"
model = "world.truth"
cells = "world"
knockouts = "each-expressed-gene"
impact = "euclidean"
[steps.model]
use = "masked-mean"
train = "world"
[steps.screen]
use = "screen"
model = "model"
cells = "world"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
[steps.scores]
use = "evaluate"
screens = ["screen"]
truth = "truth"
[steps.report]
use = "report"
from = ["screen"]
"#;

#[test]
fn impacts_of_another_kind_are_not_compared_and_what_does_not_hold_any_more_is_taken_away() {
    let project = world(TWO_SCREENS);
    let run = |set: &str| lacuna(&["run", "--quiet", "--set", set]).arg(project.path()).output().unwrap();
    let of_run = |name: &str| project.path().join("runs/world").join(name);
    succeed(run("steps.truth.impact=\"bray-curtis\""));
    let report = std::fs::read_to_string(of_run("report.html")).unwrap();
    assert!(of_run("run.json").exists());
    let said = fail(run("seed=0"), 1);
    let why = "`impact` is metrics/bray-curtis against the null profile in the screen and metrics/euclidean against";
    assert!(said.contains(why), "{said}");
    // The truth's screen is another now: what was said of the folder is gone until a run ends well.
    assert!(!of_run("run.json").exists() && !of_run("report.html").exists());
    succeed(run("steps.truth.impact=\"bray-curtis\""));
    assert_eq!(std::fs::read_to_string(of_run("report.html")).unwrap(), report);
    // A report speaks of all that led to it, also of what changes no number of it.
    let name = ["--set", "name=\"other\""];
    let mut command = lacuna(&["run", "--quiet", "--set", "steps.truth.impact=\"bray-curtis\""]);
    succeed(command.args(name).arg(project.path()).output().unwrap());
    let other = std::fs::read_to_string(project.path().join("runs/other/report.html")).unwrap();
    assert!(other != report && other.contains("other"));
}

#[test]
fn masked_mean_has_no_opinion_on_the_excess_over_the_null() {
    let project = world(&TWO_SCREENS.replace("euclidean", "bray-curtis"));
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let scores = std::fs::read_to_string(project.path().join("runs/world/steps/scores/scores.csv")).unwrap();
    for line in scores.lines().filter(|l| l.contains(",masked-mean,") || l.contains(",null,")) {
        assert_eq!(line.split(',').nth(4), Some(""), "{line}");
    }
    assert!(scores.contains("screen,linear,spearman,all,"), "{scores}");
}

#[test]
fn inputs_without_a_common_group_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut steps = String::from("format = 1\nname = \"apart\"\n");
    for (name, kind) in [("known", "B"), ("new", "T")] {
        let mut x = Csr::empty(2);
        (0..3).for_each(|_| x.push_row([(0, 1.0), (1, 2.0)].into_iter()));
        let mut obs = Frame::of_names((0..3).map(|i| format!("c{i}")).collect());
        obs.push("cell_type", Arc::new(StringArray::from(vec![kind; 3])));
        let path = dir.path().join(format!("{name}.h5ad"));
        let genes = Frame::of_names(vec!["g0".into(), "g1".into()]);
        h5ad::write(&path, &Cells::new(x, obs, genes), &[]).unwrap();
        steps += &format!("[steps.{name}]\nuse = \"read\"\n{}\n", path_key(&path));
    }
    steps += "[steps.model]\nuse = \"mean\"\ntrain = \"known\"\nby = \"cell_type\"\n[steps.screen]\nuse = \
              \"screen\"\nmodel = \"model\"\ncells = \"new\"\nby = \"cell_type\"\nknockouts = \
              \"each-expressed-gene\"\nimpact = \"bray-curtis\"\n";
    let project = project(&steps);
    let said = fail(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("no group in common: `model` has [B]; `cells` has [T]"), "{said}");
}

#[test]
fn ports_of_one_step_in_a_list_are_two_members() {
    let steps = TWO_MODELS.split("[steps.one]").next().unwrap().to_string()
        + "[steps.screen]\nuse = \"screen\"\nmodel = \"world.truth\"\ncells = [\"a.train\", \"a.test\"]\nknockouts = \
           \"each-expressed-gene\"\nimpact = \"bray-curtis\"\n";
    let project = world(&steps);
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let folders = std::fs::read_dir(project.path().join("runs/world/steps/screen")).unwrap();
    let mut names: Vec<String> = folders.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["cells=a.test", "cells=a.train"]);
    let again = lacuna(&["run"]).arg(project.path()).output().unwrap();
    assert_eq!(text(&again.stderr).matches("= screen").count(), 2, "{}", text(&again.stderr));
}

#[test]
fn of_an_agreement_the_lowest_values_are_the_strongest_impacts() {
    let steps = "[steps.screen]\nuse = \"screen\"\nmodel = \"world.truth\"\ncells = \"world\"\nknockouts = \
                 \"each-expressed-gene\"\nimpact = [\"pearson\", \"euclidean\"]\neffects = 1\n";
    let project = world(steps);
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let screen = project.path().join("runs/world/steps/screen");
    let genes = std::fs::read_to_string(screen.join("genes.csv")).unwrap();
    let means = |metric: &str| -> Vec<f64> {
        let own = genes.lines().filter(|l| l.starts_with(&format!("all,{metric},")));
        own.map(|l| l.split(',').nth(7).unwrap().parse().unwrap()).collect()
    };
    assert!(means("pearson").is_sorted() && means("euclidean").iter().rev().is_sorted(), "{genes}");
    let summary: Json = serde_json::from_slice(&std::fs::read(screen.join("screen.json")).unwrap()).unwrap();
    let first = genes.lines().nth(1).unwrap().split(',').nth(2).unwrap();
    assert_eq!(summary["keystones"][0]["gene"], first);
    assert_eq!(summary["top"][0], first);
}

#[test]
fn what_cannot_be_printed_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = lacuna(&["look"]).arg(fixture("dense-f32.h5ad")).stdout(full).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("cannot write to standard output"), "{}", text(&output.stderr));
}
