//! Models that go on from a fitted one, and cells that are unlike those that a model was trained on.

use crate::runs::{assert_same, run_into};
use crate::support::{fail, lacuna, project, python_path, succeed, text};
use std::collections::BTreeMap;
use std::path::Path;

/// Two worlds with the same network, whose genes respond otherwise in the second; few cells of that.
const WORLDS: &str = r#"
format = 1
name = "worlds"
seed = 3

[steps.first]
use = "grn"
seed = 11
with = { cells = 400, genes = 40, regulators = 20, absent_genes = 8 }

[steps.first-parts]
use = "split"
from = "first"

[steps.second]
use = "grn"
seed = 11
with = { cells = 400, genes = 40, regulators = 20, absent_genes = 8, hill = 2.0, half_saturation = 2.0 }

[steps.second-parts]
use = "split"
from = "second"
test = 0.5

[steps.few-cells]
use = "prepare"
from = "second-parts.train"
cells = { at_most = 80 }
genes = { min_cells = 0 }

[steps.few]
use = "split"
from = "few-cells"
test = 0
validation = 0.3
"#;

/// A model of the first world, one that goes on from it with the few cells, and one of these alone.
fn models(model: &str, with: &str, tuned: &str) -> String {
    let step = |name: &str, train: &str, more: &str| {
        format!(
            "[steps.{model}-{name}]\nuse = \"{model}\"\ntrain = \"{train}.train\"\nvalidation = \"{train}.validation\"\n\
             {more}\n"
        )
    };
    let from = format!("from = \"{model}-source\"\n{tuned}");
    step("source", "first-parts", with) + &step("tuned", "few", &from) + &step("alone", "few", with)
}

fn rows(file: &Path) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(file).unwrap().deserialize().map(Result::unwrap).collect()
}

#[test]
fn a_model_tuned_on_few_cells_is_better_than_its_source_and_than_these_cells_alone() {
    let all = ["mlp", "sparse", "linear"];
    let names: Vec<String> =
        all.iter().flat_map(|m| ["source", "tuned", "alone"].map(|n| format!("{m}-{n}"))).collect();
    let steps = models("mlp", "with = { steps = 1500 }", "with = { steps = 500, learning_rate = 0.001 }")
        + &models("sparse", "", "")
        + &models("linear", "", "");
    let mapping = format!(
        "[steps.mapping]\nuse = \"evaluate\"\nmodels = {names:?}\ncells = \"second-parts.test\"\nbaselines = []\n\
         [steps.report]\nuse = \"report\"\nfrom = [\"mapping\"]\n"
    );
    let project = project(&format!("{WORLDS}{steps}{mapping}"));
    let output = lacuna(&["run"]).arg(project.path()).output().unwrap();
    let said = text(&output.stderr);
    succeed(output);
    assert!(said.contains("56 cells × 40 genes, 24 held out, going on from `mlp-source`"), "{said}");
    // Cells of both worlds have the same names.
    assert!(!said.contains("how well it remembers"), "{said}");
    let folder = project.path().join("runs/worlds/steps/mapping");
    let scores = rows(&folder.join("scores.csv"));
    let score = |model: &str, which: &str| -> f64 {
        let own = |r: &&BTreeMap<String, String>| {
            r["model"] == format!("{model}-{which}")
                && r["metric"] == "bray-curtis"
                && r["stratum"] == "cells"
        };
        scores.iter().find(own).unwrap()["value"].parse().unwrap()
    };
    for model in all {
        let [source, tuned, alone] = ["source", "tuned", "alone"].map(|which| score(model, which));
        println!("{model}: source {source:.4}, tuned {tuned:.4}, alone {alone:.4}");
        assert!(tuned < source && tuned < alone, "{model}: source {source}, tuned {tuned}, alone {alone}");
    }
    let unlike = rows(&folder.join("unlike.csv"));
    let mut told: Vec<&String> = unlike.iter().map(|r| &r["model"]).collect();
    let mut all: Vec<&String> = names.iter().collect();
    told.sort();
    all.sort();
    assert_eq!(told, all);
    let limit =
        |name: &str| unlike.iter().find(|r| r["model"] == name).unwrap()["limit"].parse::<f64>().unwrap();
    assert!(unlike.iter().all(|r| r["cells"] == "200"));
    // Of 256 and of 56 training cells.
    assert_eq!((limit("mlp-source"), limit("mlp-tuned")), (0.05, 6.3 / 57.0));
}

/// A step that looks at the model that it goes on from, and takes no better one: one update, which nobody looks at.
const UNCHANGED: &str = r#"
[steps.source]
use = "mlp"
train = "first-parts.train"
validation = "first-parts.validation"
ensemble = 2
with = { steps = 30 }

[steps.tuned]
use = "mlp"
from = "source"
train = "few.train"
validation = "few.validation"
ensemble = 3
with = { steps = 1 }

[steps.mapping]
use = "evaluate"
models = ["source", "tuned"]
cells = "second-parts.test"
baselines = []
"#;

#[test]
fn members_of_an_ensemble_go_on_from_the_same_members_in_this_process_and_in_a_worker() {
    let pipeline = format!("{WORLDS}{UNCHANGED}");
    let (here, apart) =
        (project(&pipeline), project(&pipeline.replace("ensemble", "isolate = true\nensemble")));
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_into(here.path(), one.path(), &[]);
    run_into(apart.path(), other.path(), &[]);
    assert_same(one.path(), other.path());
    let model = |name: &str| std::fs::read(one.path().join("steps").join(name)).unwrap();
    let [first, second] = ["source/model.safetensors", "source/refits/seed-001.safetensors"].map(model);
    assert!(first != second);
    assert!(model("tuned/model.safetensors") == first);
    assert!(model("tuned/refits/seed-001.safetensors") == second);
    assert!(model("tuned/refits/seed-002.safetensors") == first);
    // Another source is another result.
    let folder = one.path().to_str().unwrap();
    let mut again = lacuna(&["run", "--run-dir", folder, "--set", "steps.source.with.steps=31"]);
    let output = again.arg(here.path()).output().unwrap();
    let said = text(&output.stderr);
    succeed(output);
    assert!(said.contains("✓ tuned") && said.contains("= few "), "{said}");
}

#[test]
fn a_source_has_the_genes_of_the_cells_in_their_order() {
    let fewer = "[steps.fewer]\nuse = \"prepare\"\nfrom = \"few.train\"\ngenes = { only = [\"G001\", \"G002\", \"G003\"] }\n";
    let tuned = "[steps.tuned]\nuse = \"linear\"\nfrom = \"linear-source\"\ntrain = \"fewer\"\n";
    let project = project(&format!("{WORLDS}{fewer}{}{tuned}", models("linear", "", "")));
    let said = fail(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap(), 1);
    let expected = "the training cells have 3 genes, and the model of `linear-source` knows 40";
    assert!(said.contains("step `tuned` (") && said.contains(expected), "{said}");
}

/// A model in Python that goes on from its weights, and says so or not.
const PYTHON: &str = r#"
import io
import lacuna_plugin as lacuna
import numpy as np

class Means(lacuna.Fitted):
    def __init__(self, sums, cells):
        self.sums, self.cells = sums, cells

    def predict(self, query, out, cx):
        for i in range(len(query.knockouts)):
            kept = np.setdiff1d(query.cells.assemblage(query.knockouts.cell[i]), query.knockouts.genes(i))
            out[i] = 0
            out[i, kept] = self.sums[kept] + 1e-9
            out[i] /= max(out[i].sum(), 1e-30)

    def save(self):
        data = io.BytesIO()
        np.savez(data, sums=self.sums, cells=self.cells)
        return data.getvalue()

    def tables(self):
        return {"cells": {"cells": np.array([self.cells], dtype=float)}}

class Mean(lacuna.Model):
    "The mean profile of all cells that it has seen"
    id = "seen"
    refines = REFINES

    def fit(self, training, cx):
        profiles = training.cells.profiles().astype(float)
        return Means(profiles.sum(axis=0), len(profiles))

    def load(self, data):
        saved = np.load(io.BytesIO(data), allow_pickle=False)
        return Means(saved["sums"], int(saved["cells"]))
METHOD
lacuna.run("seen", [Mean])
"#;

const REFINE: &str = r#"
    def refine(self, fitted, training, cx):
        further = self.fit(training, cx)
        return Means(fitted.sums + further.sums, fitted.cells + further.cells)
"#;

#[test]
fn a_model_in_python_goes_on_from_a_fitted_one_if_it_says_so() {
    let Some(path) = python_path() else { return };
    let steps = "[plugins.seen]\ncommand = [\"python3\", \"seen.py\"]\n\
                 [steps.all]\nuse = \"seen\"\ntrain = \"first-parts.train\"\n\
                 [steps.tuned]\nuse = \"seen\"\nfrom = \"all\"\ntrain = \"few.train\"\n\
                 [steps.mapping]\nuse = \"evaluate\"\nmodels = [\"tuned\"]\ncells = \"second-parts.test\"\nbaselines = []\n";
    let run = |refines: &str, method: &str| {
        let project = project(&format!("{WORLDS}{steps}"));
        let script = PYTHON.replace("REFINES", refines).replace("METHOD", method);
        std::fs::write(project.path().join("seen.py"), script).unwrap();
        let output = lacuna(&["run", "--quiet"]).arg(project.path()).env("PATH", &path).output().unwrap();
        (project, output)
    };
    let (project, output) = run("True", REFINE);
    succeed(output);
    let cells = &rows(&project.path().join("runs/worlds/steps/tuned/cells.csv"))[0]["cells"];
    assert_eq!(cells.parse::<f64>().unwrap(), 256.0 + 56.0);
    let said = fail(run("False", REFINE).1, 2);
    assert!(said.contains("`seen` does not go on from a fitted model"), "{said}");
    assert!(said.contains("these do: linear, mlp, sparse"), "{said}");
    // One that says so and has no such method.
    let said = fail(run("True", "").1, 1);
    assert!(
        said.contains("step `tuned`") && said.contains("it does not go on from a fitted model"),
        "{said}"
    );
}

#[test]
fn cells_of_another_kind_are_counted_beside_the_scores_and_warned_of() {
    let other = WORLDS.replace("hill = 2.0", "hill = 2.0, technical_dropout = 0.4");
    let mapping = |name: &str, cells: &str| {
        format!(
            "[steps.{name}]\nuse = \"evaluate\"\nmodels = [\"model\"]\ncells = \"{cells}.test\"\n\
             baselines = [\"masked-mean\"]\n"
        )
    };
    let steps = "[steps.model]\nuse = \"masked-mean\"\ntrain = \"first-parts.train\"\n".to_string()
        + &mapping("same", "first-parts")
        + &mapping("other", "second-parts")
        + "[steps.report]\nuse = \"report\"\nfrom = [\"same\", \"other\"]\n";
    let project = project(&format!("{other}{steps}"));
    let output = lacuna(&["run"]).arg(project.path()).output().unwrap();
    let said = text(&output.stderr);
    succeed(output);
    let folder = project.path().join("runs/worlds");
    let share = |step: &str| -> f64 {
        let told = rows(&folder.join("steps").join(step).join("unlike.csv"));
        assert_eq!((told.len(), told[0]["model"].as_str()), (1, "model"));
        told[0]["unlike"].parse().unwrap()
    };
    let (same, other) = (share("same"), share("other"));
    assert!(same <= 0.05 && other > 0.9, "{same} {other}");
    let warnings: Vec<&str> = said.lines().filter(|l| l.contains("unlike the training cells")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    assert!(warnings[0].contains("% for `model`"), "{said}");
    let report = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.contains("unlike its training cells") && report.contains("%: it extrapolates"));
}
