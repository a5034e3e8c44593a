//! The examples that simulate their data, as a user runs them.

use crate::boundary::library_name;
use crate::support::{authors_target, bin_dir, cargo_in, lacuna, root, succeed, text};
use std::path::Path;
use std::process::Command;

#[test]
fn quickstart_prints_keystone_genes_and_draws_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = lacuna(&["run", "--run-dir"]);
    let said = succeed(command.arg(dir.path()).arg(root().join("examples/quickstart")).output().unwrap());
    assert!(said.contains("Keystone genes of screen") && said.contains("beats every baseline"), "{said}");
    draws(&dir.path().join("report.html"));
}

/// Opens a page in a browser: each place for a plot has to hold one. Without a browser this is skipped with the
/// reason; in CI it fails.
fn draws(page: &Path) {
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    browser.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    browser.args(["--virtual-time-budget=20000", "--dump-dom"]).arg(format!("file://{}", page.display()));
    let output = match browser.output() {
        Ok(output) => output,
        Err(e) if std::env::var_os("CI").is_none() => return println!("skipped: no chromium ({e})"),
        Err(e) => panic!("no chromium: {e}"),
    };
    let dom = text(&output.stdout);
    let (places, drawn) = (dom.matches("id=\"chart-").count(), dom.matches("class=\"marks\"").count());
    assert!(places >= 6, "{places} places for plots");
    assert_eq!(drawn, places, "plots drawn, and places for them");
}

#[test]
fn a_labs_models_of_measured_perturbations_are_built_checked_and_scored() {
    let folder = root().join("examples/perturb-seq");
    let target = authors_target();
    for command in ["build", "test"] {
        succeed(cargo_in(&folder, &[command, "--quiet", "--locked"], &target).output().unwrap());
    }
    let profile = bin_dir().file_name().unwrap().to_str().unwrap().to_string();
    let library = target.join(profile).join(library_name("perturb_seq"));
    let said = succeed(lacuna(&["plugin", "check"]).arg(&library).output().unwrap());
    assert!(said.contains(" 0 failed, 0 advised"), "{said}");
    for case in [
        "additive: answers each",
        "correlation: answers each",
        "dose: answers any level",
        "pds: scores a panel",
    ] {
        assert!(said.contains(&format!("✓ {case}")), "{said}");
    }
    let set = format!("plugins.perturb-seq.path={:?}", library.display().to_string());
    let scores = |more: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = lacuna(&["run", "--quiet", "--set", &set, "--run-dir"]);
        succeed(command.arg(dir.path()).args(more).arg(&folder).output().unwrap());
        std::fs::read_to_string(dir.path().join("steps/doubles-scores/scores.csv")).unwrap()
    };
    let apart = scores(&[]);
    let value = |model: &str| -> f64 {
        let row =
            apart.lines().find(|l| l.starts_with(&format!("doubles,{model},pds,perturbations,"))).unwrap();
        row.split(',').nth(4).unwrap().parse().unwrap()
    };
    // What was measured singly tells of pairs, and so does correlation; a dose does not tell of absence.
    assert!(value("additive") > 0.9 && value("correlation") > 0.9 && value("dose") < 0.7, "{apart}");
    let isolate = ["additive", "correlation", "dose", "singles-scores", "doubles-scores"];
    let sets: Vec<String> = isolate.iter().map(|step| format!("steps.{step}.isolate=false")).collect();
    let here: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    assert_eq!(scores(&here), apart, "in a worker, and in Lacuna's own process");
}

#[test]
fn a_third_partys_metric_in_its_own_workspace_is_built_and_used() {
    let folder = root().join("examples/first-plugin");
    assert!(std::fs::read_to_string(folder.join("src/lib.rs")).unwrap().lines().count() <= 30);
    let target = authors_target();
    succeed(cargo_in(&folder, &["build", "--quiet", "--locked"], &target).output().unwrap());
    let profile = bin_dir().file_name().unwrap().to_str().unwrap().to_string();
    let library = target.join(profile).join("libfirst_plugin.so");
    let inspected = succeed(lacuna(&["plugin", "inspect"]).arg(&library).output().unwrap());
    assert!(inspected.contains("metric squared-chord") && inspected.contains("floor = 0.0"), "{inspected}");
    let dir = tempfile::tempdir().unwrap();
    let set = format!("plugins.first-plugin.path={:?}", library.display().to_string());
    let mut command = lacuna(&["run", "--quiet", "--set", &set, "--run-dir"]);
    let said = succeed(command.arg(dir.path()).arg(&folder).output().unwrap());
    assert!(said.contains("first-plugin/squared-chord against predicted-null"), "{said}");
    let genes = std::fs::read_to_string(dir.path().join("steps/screen/genes.csv")).unwrap();
    assert!(genes.contains("all,squared-chord,") && genes.contains("all,bray-curtis,"));
}
