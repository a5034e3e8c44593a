//! The shared real data: look, init, and the examples that use them.

use crate::accuracy::{scores, value};
use crate::support::{lacuna, project, python, root, run_python, shared, succeed};
use std::path::{Path, PathBuf};

const FILES: [&str; 5] = [
    "human_k562_crispri_tapseq.h5ad",
    "human_pbmc_4types.h5ad",
    "mouse_lung_endothelium_nkx2-1_indirect.h5ad",
    "mouse_microglia_trem2.h5ad",
    "mouse_microglia_wt_10x",
];

/// Training shortened: the test is about the way, not about the accuracy.
const SHORT: [&str; 2] = ["--set", "steps.model.with.steps=20"];

#[test]
fn look_says_what_is_in_each_file() {
    for file in FILES {
        let Some(path) = shared(file) else { return };
        let said = succeed(lacuna(&["look"]).arg(&path).output().unwrap());
        assert!(said.contains("counts; from 0 to") && said.contains("symbols"), "{said}");
        let json = succeed(lacuna(&["look", "--json"]).arg(&path).output().unwrap());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["matrices"][0]["values"]["kind"], "counts");
        assert!(json["cells"].as_u64().unwrap() > 600);
    }
}

#[test]
fn init_writes_a_pipeline_for_each_file_that_validates_and_runs() {
    for file in FILES {
        let Some(path) = shared(file) else { return };
        let dir = tempfile::tempdir().unwrap();
        let pipeline = dir.path().join("pipeline.toml");
        succeed(lacuna(&["init"]).arg(&path).arg("--output").arg(&pipeline).output().unwrap());
        let said = succeed(lacuna(&["validate"]).arg(&pipeline).output().unwrap());
        assert!(said.contains(": ok") && !said.contains("warning"), "{said}");
        succeed(lacuna(&["run", "--quiet"]).arg(&pipeline).args(SHORT).output().unwrap());
        let again = lacuna(&["init"]).arg(&path).arg("--output").arg(&pipeline).output().unwrap();
        assert_eq!(again.status.code(), Some(2));
    }
}

#[test]
fn init_takes_a_group_and_names_the_nearest_when_there_is_none() {
    let Some(path) = shared("human_pbmc_4types.h5ad") else { return };
    let dir = tempfile::tempdir().unwrap();
    let pipeline = dir.path().join("b.toml");
    let init = |group: &str| {
        lacuna(&["init", "--force", "--group", group])
            .arg(&path)
            .arg("--output")
            .arg(&pipeline)
            .output()
            .unwrap()
    };
    succeed(init("cell_type=B cells"));
    let written = std::fs::read_to_string(&pipeline).unwrap();
    assert!(written.contains("where = { cell_type = \"B cells\", perturbation = \"control\" }"), "{written}");
    let said = String::from_utf8(init("cell_type=B cell").stderr).unwrap();
    assert!(said.contains("did you mean `B cells`?"), "{said}");
    let said = String::from_utf8(init("celltype=B cells").stderr).unwrap();
    assert!(said.contains("did you mean `cell_type`?"), "{said}");
}

#[test]
fn trem2_screens_every_expressed_gene_of_2000_in_622_cells() {
    if shared("mouse_microglia_trem2.h5ad").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = lacuna(&["run", "--quiet", "--run-dir"]);
    succeed(command.arg(dir.path()).arg(root().join("examples/trem2")).args(SHORT).output().unwrap());
    let screen = std::fs::read(dir.path().join("steps/screen/screen.json")).unwrap();
    let screen: serde_json::Value = serde_json::from_slice(&screen).unwrap();
    assert_eq!((&screen["cells"], &screen["genes"]), (&622.into(), &2000.into()));
    let run: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("run.json")).unwrap()).unwrap();
    let peak = run["memory"]["peak_bytes"].as_u64().unwrap();
    assert!(peak < 2 << 30, "{peak} bytes");
    if python().is_some() {
        let said = run_python("check_run.py", &[dir.path(), Path::new("screen"), Path::new("model")]);
        println!("{}", said.unwrap());
        let all = shared("mouse_microglia_trem2.h5ad").unwrap();
        let chosen = dir.path().join("steps/screen/screen.h5ad");
        let arguments = [all.as_path(), &chosen, Path::new("0.05"), Path::new("2000"), Path::new("Trem2")];
        println!("{}", run_python("check_variable_genes.py", &arguments).unwrap());
    }
}

#[test]
fn k562_runs_with_groups_and_listed_pairs() {
    if shared("human_k562_crispri_tapseq.h5ad").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = lacuna(&["run", "--quiet", "--run-dir"]);
    succeed(command.arg(dir.path()).arg(root().join("examples/k562")).args(SHORT).output().unwrap());
    let genes = std::fs::read_to_string(dir.path().join("steps/screen/genes.csv")).unwrap();
    assert!(["\nall,", "\nTAP1,", "\nTAP2,"].iter().all(|group| genes.contains(group)));
    let pairs = std::fs::read(dir.path().join("steps/pairs/screen.json")).unwrap();
    let pairs: serde_json::Value = serde_json::from_slice(&pairs).unwrap();
    let top: Vec<&str> = pairs["top"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(top.len(), 4);
    assert!(top.contains(&"CPQ+OXR1") || top.contains(&"OXR1+CPQ"), "{top:?}");
}

#[test]
fn differential_expression_equals_the_tables_of_the_data_and_scanpy() {
    let files = [
        ("mouse_microglia_trem2.h5ad", Some("truth_mouse_microglia_trem2.csv.gz")),
        ("mouse_lung_endothelium_nkx2-1_indirect.h5ad", Some("truth_mouse_lung_endothelium_nkx2-1.csv.gz")),
        ("human_k562_crispri_tapseq.h5ad", None),
    ];
    for (file, table) in files {
        let Some(path) = shared(file) else { return };
        let project = project(&format!(
            "format = 1\nname = \"differential\"\nseed = 1\n[steps.cells]\nuse = \"read\"\npath = {:?}\n{MEASURED}",
            path.display().to_string()
        ));
        succeed(
            lacuna(&["run", "--quiet", "--run-dir", "out"])
                .arg("pipeline.toml")
                .current_dir(project.path())
                .output()
                .unwrap(),
        );
        let table = table.map(|name| shared(name).expect("beside the cells"));
        let paths: Vec<PathBuf> = [project.path().join("out"), path].into_iter().chain(table).collect();
        run_python("check_differential.py", &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    }
}

const MEASURED: &str = r#"
[steps.all]
use = "prepare"
from = "cells"
perturbation = "perturbation"
[steps.unchanged]
use = "no-change"
train = "all"
[steps.scores]
use = "evaluate"
models = ["unchanged"]
truth = "all"
metrics = ["mae"]
baselines = []
"#;

/// Of science.md, section 7: an estimator, its parameters, and the 95 % interval of its mean Spearman with the measured changes.
/// Those with `dominant = 1` have HBE1, 44 % of the counts of K562 cells, in the library.
const ESTIMATORS: [(&str, &str, [f64; 2]); 9] = [
    ("correlation", "", [0.09, 0.38]),
    ("correlation", "dominant = 1", [0.09, 0.38]),
    ("ridge", "", [0.09, 0.35]),
    ("ridge", "on = \"presence\"", [0.08, 0.34]),
    ("covariance", "components = 10, dominant = 1", [0.08, 0.33]),
    ("pc-network", "", [0.03, 0.37]),
    ("pc-network", "dominant = 1", [0.03, 0.37]),
    ("dose", "", [0.03, 0.28]),
    ("matched", "", [0.01, 0.28]),
];

/// What was measured: file, labels, genes, and those of the perturbations that are informative.
const PERTURBED: [(&str, &str, &str, &[&str]); 3] = [
    (
        "mouse_microglia_trem2.h5ad",
        "\"perturbation\"",
        "{ min_cells = 0.05, highly_variable = 1000 }",
        &["Trem2"],
    ),
    ("mouse_lung_endothelium_nkx2-1_indirect.h5ad", "\"perturbation\"", "{ min_cells = 1 }", &["Nkx2-1"]),
    (
        "human_k562_crispri_tapseq.h5ad",
        "{ column = \"perturbation\", targets = { MYC_enh = \"MYC\", GATA1_enh = \"GATA1\" } }",
        "{ min_cells = 1 }",
        &["DSCC1", "GATA1", "MYC", "OXR1"],
    ),
];

#[test]
fn estimators_are_within_the_intervals_of_section_7_on_informative_knockouts() {
    let mut found = vec![vec![]; ESTIMATORS.len()];
    for (file, labels, genes, informative) in PERTURBED {
        let Some(path) = shared(file) else { return };
        let mut pipeline = format!(
            "format = 1\nname = \"estimators\"\nseed = 1\n[steps.cells]\nuse = \"read\"\npath = {:?}\n[steps.all]\nuse = \
             \"prepare\"\nfrom = \"cells\"\nperturbation = {labels}\ngenes = {genes}\n",
            path.display().to_string()
        );
        let names: Vec<String> = (0..ESTIMATORS.len()).map(|i| format!("m{i}")).collect();
        for (name, (model, with, _)) in names.iter().zip(ESTIMATORS) {
            pipeline += &format!(
                "[steps.{name}]\nuse = \"estimators/{model}\"\ntrain = \"all\"\nwith = {{ {with} }}\n"
            );
        }
        pipeline += &format!(
            "[steps.scores]\nuse = \"evaluate\"\nmodels = {names:?}\ntruth = \"all\"\nmetrics = [\"spearman\"]\n\
             baselines = []\n"
        );
        let project = project(&pipeline);
        succeed(
            lacuna(&["run", "--quiet", "--run-dir", "out", "."])
                .current_dir(project.path())
                .output()
                .unwrap(),
        );
        let scores = scores(&project.path().join("out"), "scores");
        for (name, found) in names.iter().zip(&mut found) {
            found.extend(informative.iter().map(|label| value(&scores, ["all", name, "spearman", label])));
        }
    }
    for ((model, with, [least, most]), found) in ESTIMATORS.iter().zip(found) {
        // A gene that cannot be matched has no score.
        let known: Vec<f64> = found.iter().copied().filter(|x| x.is_finite()).collect();
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        println!("{model} {with}: {mean:.3} of {found:.2?}");
        assert!((*least..=*most).contains(&mean), "{model} {with}: {mean}, not in {least}..{most}");
    }
    let folder = shared(FILES[0]).unwrap();
    let mut arguments = vec![folder.parent().unwrap()];
    arguments.extend(PERTURBED.iter().flat_map(|p| p.3).map(Path::new));
    if let Some(said) = run_python("check_informative.py", &arguments) {
        println!("{said}");
    }
}
