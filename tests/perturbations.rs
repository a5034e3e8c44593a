//! Measured perturbations, and models of the less common kinds: learned from labels, for populations, gene scores.

use crate::support::{lacuna, project, python_path, root, run_python, succeed, text};
use std::path::Path;

fn kinds() -> String {
    let script = root().join("tests/plugins/kinds.py");
    format!("[plugins.kinds]\ncommand = [\"python3\", {:?}]\n", script.display().to_string())
}

const WORLD: &str = r#"
[steps.world]
use = "grn"
with = { preset = "dko", cells = 300, genes = 60, regulators = 20, measured_genes = 10, measured_pairs = 6, measured_cells = 40 }
[steps.cells]
use = "prepare"
from = "world"
perturbation = "perturbation"
[steps.singles]
use = "prepare"
from = "cells"
where = { nperts = [0, 1] }
[steps.doubles]
use = "prepare"
from = "cells"
where = { nperts = [0, 2] }
[steps.wild-type]
use = "prepare"
from = "cells"
where = { perturbation = "control" }
[steps.measured]
use = "py-measured"
train = "singles"
[steps.coupled]
use = "py-coupled"
train = "wild-type"
"#;

const STEPS: &str = r#"
[steps.ridge]
use = "linear"
train = "singles"
[steps.ranked]
use = "py-ranked"
train = "singles"
[steps.measured-screen]
use = "screen"
model = "measured"
cells = "wild-type"
knockouts = "each-expressed-gene"
impact = ["bray-curtis", { use = "euclidean", against = "observed" }]
[steps.coupled-screen]
use = "screen"
model = "coupled"
cells = "wild-type"
knockouts = "each-expressed-gene"
[steps.singles-scores]
use = "evaluate"
models = ["measured", "coupled", "ridge", "ranked"]
truth = "singles"
metrics = ["py-nearest", "pearson", "spearman"]
bootstrap = 20
random_targets = 3
[steps.doubles-scores]
use = "evaluate"
models = ["measured", "coupled", "world.truth"]
truth = "doubles"
cells = "wild-type"
metrics = ["py-nearest", "pearson"]
bootstrap = 20
random_targets = 3
[steps.report]
use = "report"
from = ["singles-scores", "doubles-scores", "measured-screen", "coupled-screen"]
"#;

fn pipeline(steps: &str) -> String {
    format!("format = 1\nname = \"perturbed\"\nseed = 1\n{}{WORLD}{steps}", kinds())
}

#[test]
fn models_of_every_kind_stand_beside_measured_perturbations() {
    let Some(path) = python_path() else { return };
    let project = project(&pipeline(STEPS));
    let output = lacuna(&["run"]).arg(project.path()).env("PATH", &path).output().unwrap();
    let steps = text(&output.stderr);
    let said = succeed(output);
    assert!(steps.contains("10 perturbations and 300 controls"), "{steps}");
    assert!(steps.contains("60 knockouts in a population of 300 cells"), "{steps}");
    // One that needs no labels learns from controls only; one that does is told when it has seen the answers.
    assert!(steps.contains("ridge              fitted to 300 cells × 60 genes"), "{steps}");
    assert!(
        steps.contains("measured learned from 400 of the perturbed cells that it is compared with"),
        "{steps}"
    );
    assert!(
        !said.contains("measured beats every baseline")
            && !said.contains("measured does not beat masked-mean"),
        "{said}"
    );
    // One set of baselines for all, since all have the same controls.
    let run = project.path().join("runs/perturbed");
    let scores = std::fs::read_to_string(run.join("steps/doubles-scores/scores.csv")).unwrap();
    assert!(
        !scores.contains(" of measured") && scores.contains("doubles,linear,pearson,perturbations,"),
        "{scores}"
    );
    let said = run_python("check_perturbations.py", &[Path::new(&run)]).unwrap();
    assert!(said.contains("recomputed 10 perturbations"), "{said}");
}

#[test]
fn what_does_not_fit_a_models_answers_is_a_problem_of_the_pipeline() {
    let Some(path) = python_path() else { return };
    let cases = [
        (
            "[steps.x]\nuse = \"screen\"\nmodel = \"measured\"\ncells = \"world\"\nknockouts = \"each-expressed-gene\"",
            "a screen needs `impact`",
        ),
        (
            "[steps.x]\nuse = \"screen\"\nmodel = \"coupled\"\ncells = \"world\"\nknockouts = \"each-expressed-gene\"\n\
             impact = \"mae\"",
            "`coupled` answers with gene scores, which `impact` cannot compare",
        ),
        (
            "[steps.x]\nuse = \"screen\"\nmodel = \"measured\"\ncells = \"world\"\nknockouts = \"each-expressed-gene\"\n\
             impact = { use = \"mae\", against = \"observed\" }\nanchor = true",
            "`measured` answers with population means, which cannot be anchored to cells",
        ),
        (
            "[steps.s]\nuse = \"py-sampled\"\ntrain = \"world\"\n[steps.x]\nuse = \"screen\"\nmodel = \"s\"\ncells = \"world\"\n\
             knockouts = \"each-expressed-gene\"",
            "`s` answers with samples; a screen takes profiles, population means or gene scores",
        ),
        (
            "[steps.x]\nuse = \"evaluate\"\nmodels = [\"coupled\"]\ncells = \"world\"",
            "`coupled` answers with gene scores; profiles of cells are needed here",
        ),
        (
            "[steps.x]\nuse = \"evaluate\"\nmodels = [\"coupled\"]\ntruth = \"world\"",
            "models are compared with measured perturbations, and which these are in `world` is not known",
        ),
        (
            "[steps.x]\nuse = \"py-measured\"\ntrain = \"world\"",
            "`py-measured` learns from measured perturbations, and which these are in `world` is not known",
        ),
        (
            "[steps.x]\nuse = \"evaluate\"\nmodels = [\"coupled\"]\ncells = \"world\"\nmetrics = [\"py-nearest\"]",
            "`py-nearest` scores panels of measured perturbations",
        ),
        (
            "[steps.x]\nuse = \"evaluate\"\nmodels = [\"coupled\"]\ntruth = \"singles\"\nmetrics = [\"keystoneness\"]",
            "`keystoneness` compares profiles, not effects",
        ),
        (
            "[steps.x]\nuse = \"evaluate\"\nmodels = [\"ranked\"]\ntruth = \"singles\"\nmetrics = [\"bray-curtis\"]\n\
             [steps.ranked]\nuse = \"py-ranked\"\ntrain = \"world\"",
            "`bray-curtis` compares profiles, not effects",
        ),
        (
            "[steps.x]\nuse = \"evaluate\"\nmodels = [\"coupled\"]\ntruth = \"singles\"\nmetrics = [\"mae\"]",
            "`mae` compares sizes, and the gene scores of `coupled` have a unit of their own",
        ),
        (
            "[steps.x]\nuse = \"prepare\"\nfrom = \"world\"\nperturbation = { column = \"perturbation\", targets = { G001 = [] } }",
            "`targets` names no gene for `G001`",
        ),
        (
            "[steps.x]\nuse = \"prepare\"\nfrom = \"world\"\nperturbation = { colum = \"perturbation\" }",
            "`perturbation` of step `x` has no key `colum`",
        ),
    ];
    for (steps, expected) in cases {
        let project = project(&pipeline(steps));
        let output = lacuna(&["validate"]).arg(project.path()).env("PATH", &path).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{steps}");
        let said = text(&output.stdout);
        assert!(said.contains(expected), "{steps}\n{said}");
    }
}

#[test]
fn labels_that_cannot_be_read_are_said_with_what_there_is() {
    let world = "format = 1\nname = \"labels\"\n[steps.world]\nuse = \"grn\"\nwith = { cells = 40, genes = 20, regulators = 8, \
                 absent_genes = 2, measured_genes = 3, measured_cells = 20 }\n";
    let cases = [
        ("\"batch\"", 1, "`perturbation`: the cells have no annotation `batch`"),
        (
            "{ column = \"perturbation\", control = \"DMSO\" }",
            1,
            "no value of `perturbation` means a control; it is: G0",
        ),
        (
            "{ column = \"perturbation\", targets = { G001 = \"Trem2\" } }",
            1,
            "`perturbation.targets`: no gene `Trem2`",
        ),
        (
            "{ column = \"nperts\", control = [\"0\"] }",
            0,
            "1 of the 2 values of `nperts` name no genes of these cells: 1.",
        ),
        (
            "{ column = \"nperts\", control = \"0\", targets = { 1 = [\"G003\", \"G001\"] } }",
            0,
            "1 perturbations and 40 controls",
        ),
    ];
    for (value, code, expected) in cases {
        let steps = format!(
            "{world}[steps.cells]\nuse = \"prepare\"\nfrom = \"world\"\nperturbation = {value}\n[steps.model]\nuse = \"mean\"\ntrain = \"cells\"\n"
        );
        let project = project(&steps);
        let output = lacuna(&["run"]).arg(project.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{value}: {}", text(&output.stderr));
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(said.contains(expected), "{value}: {said}");
    }
}

/// The console's lines of a run in a folder of its own, or in one that has run before.
fn run(project: &Path, path: &std::ffi::OsStr) -> (String, String) {
    let output = lacuna(&["run"]).arg(project).env("PATH", path).output().unwrap();
    let steps = text(&output.stderr);
    (succeed(output), steps)
}

#[test]
fn who_learned_from_what_it_is_compared_with_is_named_and_gets_no_verdict() {
    let Some(path) = python_path() else { return };
    let parts = "[steps.parts]\nuse = \"split\"\nfrom = \"singles\"\ntest = 0.5\nvalidation = 0\n[steps.fewer]\nuse = \
                 \"prepare\"\nfrom = \"world\"\ngenes = { dominant = 0.03 }\n";
    let held = "learned from cells with 10 of the perturbations that it is compared with";
    let cells = |n: usize| format!("learned from {n} of the perturbed cells that it is compared with");
    let cases = [
        // Other cells of the same perturbations.
        ("use = \"py-measured\"\ntrain = \"parts.train\"", "parts.test", "[]", held.to_string()),
        // As validation cells, and as cells whose labels nobody read.
        (
            "use = \"py-measured\"\ntrain = \"parts.train\"\nvalidation = \"parts.test\"",
            "parts.test",
            "[]",
            "of the perturbed cells".into(),
        ),
        ("use = \"linear\"\ntrain = \"world\"", "singles", "[]", cells(400)),
        ("use = \"linear\"\ntrain = \"fewer\"", "singles", "[]", "of the perturbed cells".into()),
        // A baseline.
        (
            "use = \"linear\"\ntrain = \"singles\"",
            "singles",
            "[\"py-measured\", \"null\"]",
            format!("py-measured {}", cells(400)),
        ),
    ];
    for (model, truth, baselines, expected) in cases {
        let steps = format!(
            "{parts}[steps.m]\n{model}\n[steps.scores]\nuse = \"evaluate\"\nmodels = [\"m\"]\ntruth = \"{truth}\"\n\
             metrics = [\"pearson\"]\nbaselines = {baselines}\nperturbed_baselines = false\n"
        );
        let project = project(&pipeline(&steps));
        let (said, steps) = run(project.path(), &path);
        assert!(steps.contains(&expected), "{model}: {steps}");
        // Without these genes the cells of `fewer` have libraries of their own.
        assert!(steps.contains("of all counts: left out"), "{steps}");
        assert!(!said.contains("beats every") && !said.contains("m beats"), "{model}: {said}");
        assert!(!said.contains("beat py-measured") && !said.contains("py-measured,"), "{model}: {said}");
    }
}

#[test]
fn other_labels_are_other_cells() {
    let with = |perturbation: &str| {
        format!(
            "format = 1\nname = \"labels\"\nseed = 3\n[steps.world]\nuse = \"grn\"\nwith = {{ cells = 60, genes = 20, \
             regulators = 8, absent_genes = 2, measured_genes = 3, measured_cells = 20 }}\n[steps.cells]\nuse = \"prepare\"\n\
             from = \"world\"\n{perturbation}\n[steps.model]\nuse = \"linear\"\ntrain = \"cells\"\n[steps.screen]\nuse = \
             \"screen\"\nmodel = \"model\"\ncells = \"cells\"\nknockouts = \"each-expressed-gene\"\nimpact = \"bray-curtis\"\n"
        )
    };
    let path = std::env::var_os("PATH").unwrap();
    let used = project("");
    for (perturbation, learned) in [
        ("", "fitted to 120 cells"),
        ("perturbation = \"perturbation\"", "fitted to 60 cells"),
        ("perturbation = { column = \"nperts\", control = \"1\" }", "fitted to 60 cells"),
        ("", "fitted to 120 cells"),
    ] {
        std::fs::write(used.path().join("pipeline.toml"), with(perturbation)).unwrap();
        let fresh = project(&with(perturbation));
        let model = |folder: &Path| {
            let (_, steps) = run(folder, &path);
            assert!(steps.contains(learned), "{perturbation}: {steps}");
            std::fs::read(folder.join("runs/labels/steps/model/model.safetensors")).unwrap()
        };
        assert!(model(used.path()) == model(fresh.path()), "{perturbation}");
    }
}

#[test]
fn without_controls_nothing_is_predicted_and_labelled_baselines_find_labels_in_any_order() {
    let Some(path) = python_path() else { return };
    let scores = |more: &str| {
        format!("[steps.scores]\nuse = \"evaluate\"\ntruth = \"doubles\"\nmetrics = [\"pearson\"]\n{more}\n")
    };
    let none = "[steps.none]\nuse = \"prepare\"\nfrom = \"cells\"\nwhere = { nperts = 1 }\n";
    let steps = format!("{none}{}", scores("models = [\"coupled\"]\ncells = \"none\""));
    let output = lacuna(&["run"]).arg(project(&pipeline(&steps)).path()).env("PATH", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("there are no control cells to predict in"),
        "{}",
        text(&output.stderr)
    );
    for models in ["[\"coupled\", \"measured\"]", "[\"measured\", \"coupled\"]"] {
        let steps = scores(&format!("models = {models}\nbaselines = [\"py-measured\"]"));
        let project = project(&pipeline(&steps));
        run(project.path(), &path);
        let found =
            std::fs::read_to_string(project.path().join("runs/perturbed/steps/scores/scores.csv")).unwrap();
        assert!(found.contains("doubles,py-measured,pearson,perturbations,"), "{found}");
    }
}
