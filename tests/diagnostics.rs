//! Broken pipelines and what `lacuna validate` says of them, as snapshots beside them.
//!
//! `BLESS=1 cargo test` writes the snapshots anew; read the difference before you keep it.

use crate::support::{fail, lacuna, project, root, succeed, text};
use std::path::PathBuf;

fn broken() -> Vec<PathBuf> {
    let folder = root().join("tests/broken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    files
}

#[test]
fn each_broken_pipeline_gets_its_diagnostics() {
    let files = broken();
    assert!(files.len() >= 30);
    let mut changed = vec![];
    for file in files {
        let mut command = lacuna(&["validate", file.file_name().unwrap().to_str().unwrap()]);
        let output = command.current_dir(file.parent().unwrap()).output().unwrap();
        let said = text(&output.stdout).replace(file.parent().unwrap().to_str().unwrap(), "FOLDER");
        let said = format!("exit {}\n{said}{}", output.status.code().unwrap(), text(&output.stderr));
        let snapshot = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&snapshot, &said).unwrap();
        } else if std::fs::read_to_string(&snapshot).unwrap_or_default() != said {
            changed.push(format!("{}:\n{said}", file.display()));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn diagnostics_come_as_json_with_line_and_column() {
    let project = project("format = 1\n\n[steps.cells]\nuse = \"raed\"\n");
    let output = lacuna(&["validate", "--json"]).arg(project.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&problems[0]["line"], &problems[0]["column"]), (&4.into(), &7.into()));
    assert_eq!(problems[0]["help"], "did you mean `read`?");
}

const SMALL: &str = r#"
format = 1
[steps.cells]
use = "grn"
with = { cells = 12, genes = 8, regulators = 4, absent_genes = 1 }
[steps.parts]
use = "split"
from = "cells"
[steps.model]
use = "mlp"
train = "parts.train"
with = { steps = 5 }
[steps.screen]
use = "screen"
model = "model"
cells = "cells"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
"#;

#[test]
fn set_changes_a_value_and_its_errors_point_at_it() {
    let project = project(SMALL);
    let validate = |set: &[&str]| {
        let set = set.iter().flat_map(|s| ["--set", s]);
        lacuna(&["validate"]).arg(project.path()).args(set).output().unwrap()
    };
    succeed(validate(&["steps.model.with.steps=7", "steps.screen.knockouts.use=pairs", "name=other"]));
    let output = validate(&["steps.model.with.steps=many"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stdout);
    assert!(said.contains("--set:1:24") && said.contains("`steps` of `mlp` is a whole number"), "{said}");
    let said = text(&validate(&["steps.model.with"]).stdout);
    assert!(said.contains("expected `key.path=value`"), "{said}");
}

#[test]
fn the_graph_shows_steps_in_order_with_their_inputs() {
    let project = project(SMALL);
    let graph = succeed(lacuna(&["graph"]).arg(project.path()).output().unwrap());
    let lines: Vec<&str> = graph.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "cells   grn/grn",
            "parts   split  ← cells.cells",
            "model   mlp/mlp  ← parts.train",
            "screen  screen  ← model.model, cells.cells",
        ]
    );
    let dot = succeed(lacuna(&["graph", "--dot"]).arg(project.path()).output().unwrap());
    assert!(
        dot.starts_with("digraph") && dot.contains("\"parts\" -> \"model\" [label = \"train\"]"),
        "{dot}"
    );
}

#[test]
fn a_pipeline_that_is_not_there_or_not_text_is_said_plainly() {
    let said = fail(lacuna(&["run", "no/such/pipeline.toml"]).output().unwrap(), 2);
    assert!(said.contains("cannot read the pipeline no/such/pipeline.toml"), "{said}");
    let project = project("");
    std::fs::write(project.path().join("pipeline.toml"), b"format = 1\n# \xff\xfe\n").unwrap();
    let said = fail(lacuna(&["validate"]).arg(project.path()).output().unwrap(), 2);
    assert!(said.contains("expected UTF-8 text, but byte 14 is none"), "{said}");
}
