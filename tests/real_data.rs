//! The shared real data: look, init, and the examples that use them.

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
