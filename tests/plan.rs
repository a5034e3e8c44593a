//! What `lacuna plan` says, held against the runs that follow. Times are not: machines differ, and so do moments.

use crate::runs::{TWO_PARTS, WHOLE, contents, run_into, spawn_until};
use crate::support::{fail, lacuna, project, python, root, succeed, text};
use serde_json::Value as Json;
use std::path::Path;
use std::process::{Command, Stdio};

/// Trains for hours.
const LONG: &str = r#"
format = 1
name = "long"

[steps.world]
use = "grn"
with = { cells = 60, genes = 24, regulators = 12, absent_genes = 4 }

[steps.parts]
use = "split"
from = "world"

[steps.model]
use = "mlp"
train = "parts.train"
validation = "parts.validation"
with = { steps = 100000000 }

[steps.mapping]
use = "evaluate"
models = ["model"]
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

fn plan_of(project: &Path, dir: &Path, more: &[&str]) -> Command {
    let mut command = lacuna(&["plan", "--quiet", "--json"]);
    command.arg(project).arg("--run-dir").arg(dir).args(more);
    command
}

fn planned(project: &Path, dir: &Path, more: &[&str]) -> Json {
    let output = plan_of(project, dir, more).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    serde_json::from_str(&succeed(output)).unwrap()
}

fn steps(plan: &Json) -> &Vec<Json> {
    plan["steps"].as_array().unwrap()
}

fn step<'a>(plan: &'a Json, name: &str) -> &'a Json {
    steps(plan).iter().find(|s| s["step"] == name).unwrap_or_else(|| panic!("no {name}: {plan:#}"))
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { bytes(&path) } else { path.metadata().unwrap().len() }).sum()
}

fn assert_near(planned: &Json, true_bytes: u64, what: &str) {
    let planned = planned.as_u64().unwrap();
    assert!(
        planned <= 2 * true_bytes && true_bytes <= 2 * planned,
        "{what}: {planned} B, and {true_bytes} B"
    );
}

#[test]
fn pairs_and_disk_are_those_of_the_run_and_what_it_left_costs_nothing() {
    for pipeline in [WHOLE, TWO_PARTS] {
        let (project, dir) = (project(pipeline), tempfile::tempdir().unwrap());
        let dir = dir.path().join("run");
        let plan = planned(project.path(), &dir, &[]);
        // Nothing is written, not even a folder.
        assert!(!dir.exists() && !project.path().join("runs").exists());
        run_into(project.path(), &dir, &[]);
        let mut pairs = 0;
        for planned in steps(&plan) {
            let name = planned["step"].as_str().unwrap();
            let labels = planned["labels"].as_object().unwrap().iter();
            let folder = labels.fold(dir.join("steps").join(name), |folder, (key, value)| {
                folder.join(format!("{key}={}", value.as_str().unwrap()))
            });
            assert_near(&planned["disk_bytes"], bytes(&folder), name);
            assert!(planned["seconds"].as_f64().unwrap() > 0.0, "{planned}");
            assert_eq!(planned["reused"], false);
            if planned["use"] == "screen" {
                let said: Json =
                    serde_json::from_slice(&std::fs::read(folder.join("screen.json")).unwrap()).unwrap();
                assert_eq!(planned["pairs"], said["knockouts"], "{name}");
                pairs += planned["pairs"].as_u64().unwrap();
            } else {
                assert_eq!(planned["pairs"], Json::Null);
            }
        }
        assert_near(&plan["total"]["disk_bytes"], bytes(&dir), "total");
        assert_eq!((&plan["total"]["pairs"], &plan["total"]["at_least"]), (&pairs.into(), &false.into()));

        let before = contents(&dir);
        let again = planned(project.path(), &dir, &[]);
        for s in steps(&again) {
            assert_eq!(
                (&s["reused"], &s["seconds"], &s["disk_bytes"]),
                (&true.into(), &0.0.into(), &0.into())
            );
        }
        assert_eq!((&again["total"]["seconds"], &again["total"]["disk_bytes"]), (&0.0.into(), &0.into()));
        assert!(contents(&dir) == before);
    }
}

#[test]
fn only_what_changed_costs() {
    let (project, dir) = (project(WHOLE), tempfile::tempdir().unwrap());
    run_into(project.path(), dir.path(), &[]);
    let before = contents(dir.path());
    let plan = planned(project.path(), dir.path(), &["--set", "steps.screen.effects=3"]);
    let anew: Vec<&str> =
        steps(&plan).iter().filter(|s| s["reused"] == false).map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(anew, ["screen", "impacts", "report"]);
    assert_eq!(plan["total"]["pairs"], step(&plan, "screen")["pairs"]);
    assert!(contents(dir.path()) == before);
}

#[test]
fn a_long_fit_is_told_from_a_little_of_it_and_what_needs_its_model_all_the_same() {
    let (project, dir) = (project(LONG), tempfile::tempdir().unwrap());
    let plan = planned(project.path(), dir.path(), &[]);
    let model = step(&plan, "model");
    assert_eq!((&model["basis"]["from"], &model["basis"]["of"]), (&"part".into(), &"steps".into()));
    assert_eq!(model["basis"]["whole"], 100_000_000);
    // A hundred million steps, and a line of training.csv for each.
    assert!(model["seconds"].as_f64().unwrap() > 60.0, "{model}");
    assert!(model["disk_bytes"].as_u64().unwrap() > 1_000_000_000, "{model}");
    for name in ["mapping", "screen", "report"] {
        assert!(step(&plan, name)["seconds"].as_f64().unwrap() < 60.0, "{plan:#}");
    }
    assert!(step(&plan, "screen")["pairs"].as_u64().unwrap() > 1000);
    assert_eq!(plan["total"]["at_least"], false);
}

#[test]
fn each_member_of_a_family_has_its_line() {
    let pipeline = r#"
format = 1
[steps.world]
use = "grn"
with = { cells = 20, genes = 8, regulators = 4, absent_genes = 1 }
[steps.one]
use = "masked-mean"
train = "world"
[steps.other]
use = "mean"
train = "world"
[steps.screen]
use = "screen"
model = ["one", "other"]
cells = "world"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
"#;
    let project = project(pipeline);
    let plan = planned(project.path(), &project.path().join("run"), &[]);
    let screens: Vec<&Json> = steps(&plan).iter().filter(|s| s["step"] == "screen").collect();
    let labels: Vec<&Json> = screens.iter().map(|s| &s["labels"]["model"]).collect();
    assert_eq!(labels, ["one", "other"]);
    assert_eq!(screens[0]["pairs"], screens[1]["pairs"]);
    let output = lacuna(&["plan"]).arg(project.path()).output().unwrap();
    assert!(text(&output.stderr).contains("trying out screen [other]"), "{}", text(&output.stderr));
    let said = succeed(output);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("step ") && lines[0].ends_with("from"), "{said}");
    assert!(lines.iter().any(|line| line.starts_with("screen [one]")), "{said}");
    assert!(lines.iter().any(|line| line.starts_with("total")), "{said}");
}

#[test]
fn what_would_go_wrong_in_a_run_is_an_error() {
    let broken = project("format = 1\n\n[steps.cells]\nuse = \"raed\"\n");
    let said = fail(lacuna(&["plan"]).arg(broken.path()).output().unwrap(), 2);
    assert!(said.contains("did you mean `read`?"), "{said}");
    let empty =
        format!("{LONG}\n[steps.none]\nuse = \"prepare\"\nfrom = \"world\"\nwhere = {{ no-such = \"x\" }}\n");
    let (empty, dir) = (project(&empty), tempfile::tempdir().unwrap());
    let said = fail(plan_of(empty.path(), &dir.path().join("run"), &[]).output().unwrap(), 1);
    assert!(said.contains("step `none` (") && said.contains("no annotation `no-such`"), "{said}");
    assert!(!dir.path().join("run").exists());
}

#[test]
fn ctrl_c_ends_a_plan_with_130() {
    let (project, dir) = (project(LONG), tempfile::tempdir().unwrap());
    let mut command = lacuna(&["plan", "--json"]);
    command.arg(project.path()).arg("--run-dir").arg(dir.path().join("run"));
    let child = spawn_until(command.stdin(Stdio::null()), "  trying out model");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(!dir.path().join("run").exists());
}

#[test]
fn a_fit_that_declares_no_effort_is_told_by_its_progress_or_is_unknown() {
    let Some(python) = python() else { return };
    let script = root().join("tests/plugins/slow.py");
    let pipeline = format!(
        "format = 1\n[plugins.slow]\ncommand = [{python:?}, {script:?}]\n[steps.world]\nuse = \"grn\"\nwith = {{ \
         cells = 20, genes = 8, regulators = 4, absent_genes = 1 }}\n[steps.model]\nuse = \"KIND\"\ntrain = \
         \"world\"\n[steps.screen]\nuse = \"screen\"\nmodel = \"model\"\ncells = \"world\"\nknockouts = \
         \"each-expressed-gene\"\nimpact = \"bray-curtis\"\n"
    );
    let plan = |kind: &str| {
        let project = project(&pipeline.replace("KIND", kind));
        planned(project.path(), &project.path().join("run"), &[])
    };
    let hours = |seconds: &Json| seconds.as_f64().unwrap() / 3600.0;
    let declared = plan("declared");
    assert!((1.0..9.0).contains(&hours(&step(&declared, "model")["seconds"])), "{declared:#}");
    let pairs = &step(&declared, "screen")["pairs"];
    assert!(step(&declared, "screen")["seconds"].is_f64() && pairs.is_u64(), "{declared:#}");

    let telling = plan("telling");
    assert_eq!(step(&telling, "model")["basis"]["from"], "progress");
    assert!((1.0..9.0).contains(&hours(&step(&telling, "model")["seconds"])), "{telling:#}");
    let silent = plan("silent");
    assert_eq!(step(&silent, "model")["seconds"], Json::Null);
    for plan in [&telling, &silent] {
        let screen = step(plan, "screen");
        assert_eq!((&screen["seconds"], &screen["pairs"]), (&Json::Null, pairs));
        assert_eq!(screen["basis"]["why"], "`model` was not finished here");
        assert_eq!(plan["total"]["at_least"], true);
    }
}
