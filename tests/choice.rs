//! The step `best`: which model it chooses, and that the rest of a pipeline takes it like any other.

use crate::out_of_core::write_cells;
use crate::runs::{assert_same, run_into, wait_for};
use crate::support::{fail, lacuna, project, succeed, text};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

/// A choice, and beside it what it should choose, of the same seed.
const CHOICE: &str = r#"
format = 1
name = "choice"
seed = 7

[steps.world]
use = "grn"
with = { cells = 300, genes = 40, regulators = 20, absent_genes = 8 }

[steps.parts]
use = "split"
from = "world"

[steps.model]
use = "best"
seed = 4
models = [{ use = "mlp", with = { steps = 200 }, name = "network" }, "sparse"]
train = "parts.train"
validation = "parts.validation"

[steps.alone]
use = "sparse"
seed = 4
train = "parts.train"
validation = "parts.validation"

[steps.mapping]
use = "evaluate"
models = ["model", "alone"]
cells = "parts.test"

[steps.screen]
use = "screen"
model = "model"
cells = "world"
knockouts = "each-expressed-gene"
impact = "bray-curtis"

[steps.report]
use = "report"
from = ["screen", "mapping"]
"#;

/// The rows of best.csv, by column.
fn scores(step: &Path) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(step.join("best.csv")).unwrap().deserialize().map(Result::unwrap).collect()
}

fn names(step: &Path) -> Vec<String> {
    scores(step).iter().map(|row| row["model"].clone()).collect()
}

fn chosen(step: &Path) -> Vec<String> {
    scores(step).iter().filter(|row| row["chosen"] == "true").map(|row| row["model"].clone()).collect()
}

fn warnings(step: &Path) -> String {
    let record: Json = serde_json::from_slice(&std::fs::read(step.join("step.json")).unwrap()).unwrap();
    record["warnings"].to_string()
}

#[test]
fn the_best_model_on_cells_that_none_has_seen_is_what_its_own_step_would_fit() {
    let (project, dir) = (project(CHOICE), tempfile::tempdir().unwrap());
    run_into(project.path(), dir.path(), &[]);
    let step = |name: &str| dir.path().join("steps").join(name);
    let rows = scores(&step("model"));
    assert_eq!(names(&step("model")), ["network", "sparse", "mean", "masked-mean", "knn", "linear"]);
    let of = |name: &str| rows.iter().find(|row| row["model"] == name).unwrap();
    let number = |name: &str, column: &str| of(name)[column].parse::<f64>().unwrap();
    assert_eq!(chosen(&step("model")), ["sparse"]);
    assert!(number("sparse", "value") < number("network", "value"));
    for row in &rows {
        let name = row["model"].as_str();
        assert!(
            number(name, "lower") < number(name, "value") && number(name, "value") < number(name, "upper")
        );
        assert_eq!((row["scored"].as_str(), row["metric"].as_str()), ("24", "bray-curtis"));
        assert_eq!(row["baseline"] == "true", !["network", "sparse"].contains(&name));
    }
    assert_eq!(of("sparse")["beats"], "mean;masked-mean;knn;linear");
    let weights = |name: &str| std::fs::read(step(name).join("model.safetensors")).unwrap();
    assert!(weights("model") == weights("alone"));
    // The evaluation says the same of both, and the report tells of the choice.
    let mapping = std::fs::read_to_string(step("mapping").join("scores.csv")).unwrap();
    let of_model = |name: &str| -> Vec<String> {
        let rows = mapping.lines().filter(|line| line.starts_with(&format!("parts.test,{name},")));
        rows.map(|line| line.split(',').skip(2).collect::<Vec<_>>().join(",")).collect()
    };
    assert_eq!(of_model("model").len(), 6);
    assert_eq!(of_model("model"), of_model("alone"));
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("Which model was chosen: model") && page.contains("<b>sparse</b>, chosen"));
    // A finished choice is loaded, not made again.
    let genes = std::fs::read(step("screen").join("genes.csv")).unwrap();
    let output = lacuna(&["run", "--set", "steps.screen.effects=3", "--run-dir"])
        .arg(dir.path())
        .arg(project.path())
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("= model "), "{}", text(&output.stderr));
    succeed(output);
    assert!(std::fs::read(step("screen").join("genes.csv")).unwrap() == genes);
}

#[test]
fn a_choice_in_worker_processes_is_the_same() {
    let apart = CHOICE.replace("use = \"best\"", "use = \"best\"\nisolate = true");
    let folders = [CHOICE, &apart].map(|pipeline| {
        let (project, dir) = (project(pipeline), tempfile::tempdir().unwrap());
        run_into(project.path(), dir.path(), &[]);
        dir
    });
    assert_same(folders[0].path(), folders[1].path());
}

#[test]
fn each_parameter_of_each_candidate_is_locked_and_decides_what_is_run_again() {
    let project = project(CHOICE);
    succeed(lacuna(&["lock"]).arg(project.path()).output().unwrap());
    let lock = std::fs::read_to_string(project.path().join("pipeline.lock")).unwrap();
    for plugin in ["baselines", "metrics", "mlp", "sparse"] {
        assert!(lock.contains(&format!("[plugins.{plugin}]")), "{lock}");
    }
    succeed(lacuna(&["validate", "--locked"]).arg(project.path()).output().unwrap());
    let file = project.path().join("pipeline.toml");
    std::fs::write(&file, CHOICE.replace("steps = 200", "steps = 201")).unwrap();
    let output = lacuna(&["validate", "--locked"]).arg(project.path()).output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("step `model`: `models[0].component.with.steps` locked 200, found 201"), "{said}");
    let graph = succeed(lacuna(&["graph"]).arg(project.path()).output().unwrap());
    assert!(graph.contains("best"), "{graph}");
}

#[test]
fn a_baseline_is_never_chosen_unless_it_is_named_but_the_step_warns_when_one_is_better() {
    let dir = tempfile::tempdir().unwrap();
    let run = |models: &str, more: &str| {
        let all = "models = [{ use = \"mlp\", with = { steps = 200 }, name = \"network\" }, \"sparse\"]";
        let project = project(&CHOICE.replace(all, &format!("models = {models}\n{more}")));
        run_into(project.path(), dir.path(), &[]);
        dir.path().join("steps/model")
    };
    let poor = r#"[{ use = "mlp", with = { steps = 1 } }]"#;
    let step = run(poor, "");
    assert_eq!(chosen(&step), ["mlp"]);
    let said = warnings(&step);
    assert!(said.contains("A BASELINE WON: ") && said.contains("is better than `mlp`"), "{said}");
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("A BASELINE WON"));
    let step = run(poor, "baselines = []");
    assert_eq!((names(&step), warnings(&step)), (vec!["mlp".to_string()], "[]".to_string()));
    let step = run(r#"[{ use = "mlp", with = { steps = 1 } }, "linear"]"#, "metric = \"spearman\"");
    assert_eq!(chosen(&step), ["linear"]);
    assert_eq!(names(&step), ["mlp", "linear", "mean", "masked-mean", "knn"]);
}

#[test]
fn a_killed_choice_keeps_the_candidates_that_were_fitted() {
    let network = "{ use = \"mlp\", with = { steps = 200 }, name = \"network\" }, \"sparse\"";
    let long = "\"sparse\", { use = \"mlp\", with = { steps = 20000, checkpoint_seconds = 0.01 } }";
    let project = project(&CHOICE.replace(network, long));
    let killed = |dir: &Path| {
        let scratch = dir.join("steps/model.part/.scratch");
        let training = || {
            let files = std::fs::read_dir(scratch.join("model-1")).into_iter().flatten().flatten();
            files.map(|f| f.path()).any(|path| path.extension().is_some_and(|e| e == "training"))
        };
        let mut child =
            lacuna(&["run", "--quiet", "--run-dir"]).arg(dir).arg(project.path()).spawn().unwrap();
        wait_for("a checkpoint of the second candidate", training);
        child.kill().unwrap();
        child.wait().unwrap();
        let scores = scratch.join("model-0/scores.json");
        let kept: Json = serde_json::from_slice(&std::fs::read(&scores).unwrap()).unwrap();
        assert_eq!(kept["scores"].as_array().unwrap().len(), 24);
        (scores, kept)
    };
    let (calm, disturbed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_into(project.path(), calm.path(), &[]);
    killed(disturbed.path());
    let output =
        lacuna(&["run", "-v", "--run-dir"]).arg(disturbed.path()).arg(project.path()).output().unwrap();
    let said = text(&output.stderr);
    succeed(output);
    assert!(said.contains("goes on where it was interrupted"), "{said}");
    assert_same(calm.path(), disturbed.path());
    // What is kept is what counts: with other scores the first candidate has these.
    let other = tempfile::tempdir().unwrap();
    let (file, mut kept) = killed(other.path());
    kept["scores"].as_array_mut().unwrap().iter_mut().for_each(|score| *score = 0.75.into());
    std::fs::write(file, kept.to_string()).unwrap();
    run_into(project.path(), other.path(), &[]);
    let rows = scores(&other.path().join("steps/model"));
    assert_eq!(rows[0]["value"], "0.75");
    assert_eq!(chosen(&other.path().join("steps/model")), ["mlp"]);
}

#[test]
fn each_group_of_cells_has_a_choice_of_its_own() {
    let project = project(
        r#"
format = 1
name = "groups"
[steps.cells]
use = "read"
path = "cells.h5ad"
[steps.parts]
use = "split"
from = "cells"
validation = 0.3
[steps.model]
use = "best"
by = "cell_type"
models = ["sparse", "knn", "linear"]
train = "parts.train"
validation = "parts.validation"
[steps.screen]
use = "screen"
by = "cell_type"
model = "model"
cells = "cells"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
"#,
    );
    write_cells(&project, 400, 12, 0.6);
    succeed(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap());
    for group in 0..4 {
        let step =
            |name: &str| project.path().join(format!("runs/groups/steps/{name}/cell_type=type {group}"));
        assert_eq!(chosen(&step("model")).len(), 1);
        assert!(step("screen").join("genes.csv").exists());
    }
}

#[test]
fn too_few_validation_cells_are_an_error_that_says_so() {
    let project = project(&CHOICE.replace("from = \"world\"", "from = \"world\"\nvalidation = 0.02"));
    let said = fail(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("expected 10 validation cells or more to choose on, found 6"), "{said}");
}

#[test]
fn a_choice_is_planned_by_the_effort_of_all_its_candidates() {
    let long = CHOICE.replace("steps = 200", "steps = 50000000");
    let (project, dir) = (project(&long), tempfile::tempdir().unwrap());
    let output =
        lacuna(&["plan", "--json", "--run-dir"]).arg(dir.path().join("run")).arg(project.path()).output();
    let plan: Json = serde_json::from_str(&succeed(output.unwrap())).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let model = steps.iter().find(|step| step["step"] == "model").unwrap();
    assert_eq!((&model["basis"]["of"], &model["basis"]["whole"]), (&"steps".into(), &50_000_000.into()));
    assert!(model["seconds"].as_f64().unwrap() > 60.0, "{model}");
    assert_eq!(plan["total"]["at_least"], false);
}
