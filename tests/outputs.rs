//! Results, read back with the tools users use, and recomputed by others.

use crate::support::{lacuna, project, python, run_python, succeed};
use std::path::Path;

const COUNTS: &str = r#"
format = 1
name = "counts"
seed = 3
[steps.world]
use = "grn"
with = { cells = 150, genes = 80, regulators = 30, absent_genes = 15, library_size = 3000.0 }
[steps.chosen]
use = "prepare"
from = "world"
genes = { min_cells = 0.1, highly_variable = 40, always = ["G003"] }
[steps.parts]
use = "split"
from = "chosen"
[steps.model]
use = "mlp"
train = "parts.train"
validation = "parts.validation"
with = { steps = 300 }
[steps.mapping]
use = "evaluate"
models = ["model"]
cells = "parts.test"
[steps.screen]
use = "screen"
model = "model"
cells = "chosen"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
[steps.report]
use = "report"
from = ["screen", "mapping"]
"#;

#[test]
fn python_reads_and_recomputes_a_run() {
    if python().is_none() {
        return;
    }
    let project = project(COUNTS);
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let run = project.path().join("runs/counts");
    let said = run_python("check_run.py", &[&run, Path::new("screen"), Path::new("model")]);
    println!("{}", said.unwrap());
    let steps = run.join("steps");
    let (world, screen) = (steps.join("world/cells.h5ad"), steps.join("screen/screen.h5ad"));
    let arguments = [world.as_path(), &screen, Path::new("0.1"), Path::new("40"), Path::new("G003")];
    println!("{}", run_python("check_variable_genes.py", &arguments).unwrap());
}

/// A report is one file that loads nothing, and tells its verdicts.
#[test]
fn a_report_needs_nothing_else() {
    let project = project(COUNTS);
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    let report = std::fs::read_to_string(project.path().join("runs/counts/report.html")).unwrap();
    for outside in ["<link", "src=\"http", "src='http", "@import", "url(http"] {
        assert!(!report.contains(outside), "the report has {outside}");
    }
    for said in
        ["Does the model beat simple baselines?", "Keystone genes", "Training", "What was run", "sha256"]
    {
        assert!(report.contains(said), "the report does not say {said}");
    }
}
