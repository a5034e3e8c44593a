//! `lacuna plugin check`: our own plugins pass, and each kind of fault is an outcome.

use crate::boundary::faulty;
use crate::support::{bin_dir, fail, lacuna, python_path, root, succeed, text};
use serde_json::Value as Json;
use std::path::Path;
use std::process::Output;

fn check(path: &Path, more: &[&str]) -> Output {
    lacuna(&["plugin", "check"]).arg(path).args(more).output().unwrap()
}

#[test]
fn all_first_party_plugins_pass() {
    let with = ["--with", "genes = { genes = [\"gene-0\", \"gene-5\"] }"];
    for plugin in ["metrics", "knockouts", "baselines", "estimators", "mlp", "sparse", "grn"] {
        let more = if plugin == "knockouts" { &with[..] } else { &[] };
        lacuna(&["plugin", "list"]).output().unwrap();
        let library =
            format!("{}lacuna_{plugin}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let said = succeed(check(&bin_dir().join(library), more));
        assert!(
            said.contains("is a plugin that Lacuna can rely on") && said.contains(" 0 failed, 0 advised"),
            "{said}"
        );
    }
}

#[test]
fn a_plugin_in_python_passes_for_all_four_kinds_and_its_pipeline_runs() {
    let Some(path) = python_path() else { return };
    let example = root().join("examples/python-plugin");
    let output =
        lacuna(&["plugin", "check"]).arg(example.join("plugin.py")).env("PATH", &path).output().unwrap();
    let said = succeed(output);
    for kind in [
        "py-hellinger: stays",
        "py-most-expressed: proposes",
        "py-shrunken-mean: is the same",
        "py-regulated: knows",
    ] {
        assert!(said.contains(&format!("✓ {kind}")), "{said}");
    }
    // What its README says of it works too.
    let asked = |words: &[&str]| {
        let mut command = lacuna(&["plugin"]);
        succeed(command.args(words).current_dir(&example).env("PATH", &path).output().unwrap())
    };
    let said = asked(&["inspect", "plugin.py"]);
    assert!(said.contains("strategy py-most-expressed") && said.contains("genes = 5"), "{said}");
    let said = asked(&["why", "python-plugin", "--project", "."]);
    assert!(said.contains("`python-plugin` is used") && said.contains("in a process of its own"), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = lacuna(&["run", "--run-dir"]);
        command.arg(dir.path()).arg(&example).env("PATH", &path).output().unwrap()
    };
    let said = succeed(run());
    assert!(said.contains("Keystone genes of truth"), "{said}");
    // Models and truths of Python are saved and loaded like others.
    let again = text(&run().stderr);
    assert_eq!(again.lines().filter(|l| l.starts_with("= ")).count(), 8, "{again}");
}

#[test]
fn models_and_metrics_of_the_less_common_kinds_are_checked_too() {
    let Some(path) = python_path() else { return };
    let plugin = root().join("tests/plugins/kinds.py");
    let said = succeed(lacuna(&["plugin", "check"]).arg(plugin).env("PATH", &path).output().unwrap());
    for case in [
        "py-measured: learns the same from the same seed",
        "py-coupled: answers 0, 1 and many knockouts with finite shares or scores",
        "py-nearest: scores a panel whatever its order",
    ] {
        assert!(said.contains(&format!("✓ {case}")), "{said}");
    }
    assert!(said.contains(" 0 failed, "), "{said}");
    // How fast it stops when it is asked to depends on the machine; nothing else may be advised.
    let advised = said.lines().filter(|line| line.starts_with("! "));
    let others = advised.filter(|line| !line.ends_with(": stops within a second when it is asked to"));
    assert_eq!(others.count(), 0, "{said}");
}

/// The findings of some cases about a component of the faulty plugin that fails somewhere, somehow.
fn outcomes(component: &str, fault: &str, how: &str, cases: &str) -> Vec<(String, String, String)> {
    let with = format!("{component} = {{ fault = \"{fault}\", how = \"{how}\" }}");
    let filter = format!("{component}: {cases}");
    let output = check(faulty(), &["--json", "--with", &with, "--filter", &filter, "--seconds", "3"]);
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    let one = |f: &Json| ["case", "outcome", "why"].map(|key| f[key].as_str().unwrap().to_string()).into();
    said["findings"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn what_is_wrong_with_a_plugin_is_found_and_named() {
    succeed(check(faulty(), &["--filter", "distance"]));
    let cases = [
        ("copycat", "predict", "panic", "answers 0, 1 and many", "failed", "a panic in Predict"),
        ("copycat", "predict", "abort", "answers 0, 1 and many", "crashed", "SIGABRT"),
        ("copycat", "predict", "loop", "answers 0, 1 and many", "timed out", "no sign of life for 3 s"),
        ("copycat", "save", "error", "is the same after", "failed", "an error of the author's"),
        ("copycat", "data", "unwritten", "answers 0, 1 and many", "failed", "found NaN"),
        ("picks", "data", "not-expressed", "proposes only genes", "failed", "does not express"),
        ("distance", "data", "infinite", "stays in its range", "failed", "found inf"),
        (
            "distance",
            "data",
            "reversed",
            "scores equal profiles as no",
            "failed",
            "scored 1 for equal profiles, 0.",
        ),
        ("world", "simulate", "segfault", "makes the same cells", "crashed", "SIGSEGV"),
        ("world", "data", "threads", "makes the same cells", "failed", "the annotations of its cells differ"),
        ("picks", "data", "threads", "proposes the same", "failed", "its proposals differ"),
        ("picks", "data", "order", "proposes the same", "failed", "it proposes the same in another order"),
        ("world", "new", "panic", "is made with its defaults", "failed", "a panic in New"),
    ];
    for (component, fault, how, case, outcome, why) in cases {
        let found = outcomes(component, fault, how, "");
        let of_case = found.iter().find(|(name, ..)| name.starts_with(case));
        let (_, word, reason) = of_case.unwrap_or_else(|| panic!("{component} {fault} {how}: {found:?}"));
        assert!(word == outcome && reason.contains(why), "{component} {fault} {how}: {word}: {reason}");
        // What has nothing to do with it passes.
        assert!(
            found.iter().any(|(name, word, _)| name == "has a doc line" && word == "passed"),
            "{found:?}"
        );
    }
}

/// A component of each kind, and where it works longest.
const AT_WORK: [(&str, &str); 4] =
    [("world", "simulate"), ("copycat", "fit"), ("picks", "propose"), ("distance", "score")];

#[test]
fn a_component_of_any_kind_is_advised_to_stop_when_it_is_asked_to() {
    let cases = [
        ("listens", "passed", ""),
        ("deaf", "failed", "it went on for "),
        ("error", "skipped", "its call ended before it could be asked to stop"),
    ];
    for (component, fault) in AT_WORK {
        for (how, outcome, why) in cases {
            let found = outcomes(component, fault, how, "stops within a second");
            let [(_, word, reason)] = found.as_slice() else { panic!("{component}: {found:?}") };
            assert!(word == outcome && reason.contains(why), "{component} {how}: {word}: {reason}");
        }
    }
}

#[test]
fn a_component_of_any_kind_is_advised_to_give_memory_back() {
    let finding = |component: &str, fault: &str, how: &str| {
        let found = outcomes(component, fault, how, "does not grow while");
        let [(_, word, reason)] = found.as_slice() else { panic!("{component}: {found:?}") };
        format!("{word}: {reason}")
    };
    for (component, at_work) in AT_WORK {
        // A model is called again and again when it predicts.
        let fault = if component == "copycat" { "predict" } else { at_work };
        let said = finding(component, fault, "leak");
        assert!(said.starts_with("failed: its process grew by ") && said.ends_with(" calls"), "{said}");
        assert_eq!(finding(component, "nowhere", "leak"), "passed: ", "{component}");
    }
    let said = finding("distance", "score", "listens");
    assert_eq!(said, "skipped: its calls take too long to be repeated often");
}

#[test]
fn only_what_failed_is_shown_and_can_be_tried_again() {
    let with = ["--with", "picks = { fault = \"data\", how = \"no-such-gene\" }", "--only-failed"];
    let output = check(faulty(), &with);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("✗ picks: ") && !said.contains('✓'), "{said}");
    let seed = said.split("--reproduce ").nth(1).unwrap().split(' ').next().unwrap();
    let again = check(faulty(), &[&with[..], &["--reproduce", seed]].concat());
    assert_eq!(text(&again.stdout), said);
    let said = fail(check(Path::new("nowhere.so"), &[]), 1);
    assert!(said.contains("it cannot be read"), "{said}");
    let said = fail(check(faulty(), &["--filter", "nothing like it"]), 2);
    assert!(said.contains("no case has `nothing like it` in its name"), "{said}");
}

/// A metric that declares some direction, and scores equal profiles with 1, others with less or more.
const DIRECTED: &str = r#"
import lacuna_plugin as lacuna
import numpy as np

class Directed(lacuna.Metric):
    "A metric with a direction"
    id = "directed"
    direction = "DIRECTION"
    identity = None

    def row(self, row):
        return 1.0 SIGN float(np.abs(row.before - row.after).sum())

lacuna.run("directed", [Directed])
"#;

#[test]
fn the_direction_that_a_metric_declares_is_the_one_of_its_scores() {
    let Some(path) = python_path() else { return };
    let outcome = |direction: &str, sign: &str| {
        let dir = tempfile::tempdir().unwrap();
        let script = DIRECTED.replace("DIRECTION", direction).replace("SIGN", sign);
        std::fs::write(dir.path().join("directed.py"), script).unwrap();
        let mut command = lacuna(&["plugin", "check", "--filter", "scores equal profiles as no worse"]);
        text(&command.arg(dir.path().join("directed.py")).env("PATH", &path).output().unwrap().stdout)
    };
    for (direction, right, wrong) in [("lower", "+", "-"), ("higher", "-", "+")] {
        let said = outcome(direction, right);
        assert!(said.starts_with("✓"), "{direction}: {said}");
        let said = outcome(direction, wrong);
        let expected =
            format!("failed: it declares that {direction} is better, and scored 1 for equal profiles");
        assert!(said.starts_with("✗") && said.contains(&expected), "{direction}: {said}");
    }
    let said = outcome("none", "+");
    assert!(said.contains("skipped: it declares no direction"), "{said}");
    let said = outcome("up", "+");
    assert!(said.contains("it declares the direction `up`; expected lower, higher or none"), "{said}");
}

/// A metric that takes 10 ms for each of its rows.
const SLOW: &str = r#"
import lacuna_plugin as lacuna
import time

class Slow(lacuna.Metric):
    "A metric that takes its time"
    id = "slow"

    def row(self, row):
        time.sleep(0.01)
        return 0.0

lacuna.run("slow", [Slow])
"#;

#[test]
fn a_metric_of_rows_in_python_stops_between_them() {
    let Some(path) = python_path() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("slow.py"), SLOW).unwrap();
    let mut command = lacuna(&["plugin", "check", "--filter", "stops within a second"]);
    let said = succeed(command.arg(dir.path().join("slow.py")).env("PATH", &path).output().unwrap());
    assert!(said.starts_with("✓ slow: stops within a second"), "{said}");
}

/// A model whose training has luck in it, and which says so or not.
const NOISY: &str = r#"
import sys
sys.path.insert(0, "EXAMPLE")
import lacuna_plugin as lacuna
import numpy as np
from plugin import Shares, ShrunkenMean

class Noisy(ShrunkenMean):
    "A model with luck"
    id = "noisy"
    varies = VARIES

    def fit(self, training, cx):
        shares = super().fit(training, cx).shares
        return Shares(shares * np.random.default_rng().uniform(1 - NOISE, 1 + NOISE, len(shares)))

lacuna.run("noisy", [Noisy])
"#;

#[test]
fn a_model_that_says_that_it_varies_is_held_to_a_tolerance() {
    let Some(path) = python_path() else { return };
    let outcome = |varies: &str, noise: &str| {
        let dir = tempfile::tempdir().unwrap();
        let example = root().join("examples/python-plugin").display().to_string();
        let script = NOISY.replace("EXAMPLE", &example).replace("VARIES", varies).replace("NOISE", noise);
        std::fs::write(dir.path().join("noisy.py"), script).unwrap();
        let mut command = lacuna(&["plugin", "check", "--filter", "learns the same"]);
        text(&command.arg(dir.path().join("noisy.py")).env("PATH", &path).output().unwrap().stdout)
    };
    assert!(outcome("True", "0.001").starts_with("✓"), "{}", outcome("True", "0.001"));
    let said = outcome("True", "0.9");
    assert!(said.contains("two trainings differ by up to"), "{said}");
    let said = outcome("False", "0.001");
    assert!(said.contains("the same training gave another model"), "{said}");
}

/// A model that goes on from a fitted one, with luck or without.
const GOING_ON: &str = r#"
import sys
sys.path.insert(0, "EXAMPLE")
import lacuna_plugin as lacuna
import numpy as np
from plugin import Shares, ShrunkenMean

class GoingOn(ShrunkenMean):
    "A model that goes on"
    id = "going-on"
    refines = True

    def refine(self, fitted, training, cx):
        both = fitted.shares + self.fit(training, cx).shares
        return Shares(both * np.random.default_rng().uniform(1 - NOISE, 1 + NOISE, len(both)) / 2)

lacuna.run("going-on", [GoingOn])
"#;

#[test]
fn a_model_that_goes_on_from_a_fitted_one_leads_to_the_same_each_time() {
    let Some(path) = python_path() else { return };
    let outcome = |noise: &str| {
        let dir = tempfile::tempdir().unwrap();
        let example = root().join("examples/python-plugin").display().to_string();
        let script = GOING_ON.replace("EXAMPLE", &example).replace("NOISE", noise);
        std::fs::write(dir.path().join("going_on.py"), script).unwrap();
        let mut command = lacuna(&["plugin", "check", "--filter", "goes on from a fitted model"]);
        text(&command.arg(dir.path().join("going_on.py")).env("PATH", &path).output().unwrap().stdout)
    };
    assert!(outcome("0").starts_with("✓"), "{}", outcome("0"));
    let said = outcome("0.1");
    assert!(said.contains("the same model and cells led to another model"), "{said}");
}
