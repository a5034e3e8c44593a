//! Evaluations against measured perturbations: intervals over cells, ceilings, skills, random targets, and predictions
//! that others made.

use crate::support::{fail, lacuna, project, python, run_python, succeed, text};
use std::path::Path;

const WORLD: &str = r#"
format = 1
name = "measured"
seed = 5
[steps.world]
use = "grn"
with = { preset = "dko", cells = 300, genes = 60, regulators = 20, measured_genes = 4, measured_cells = 400, library_size = 50000 }
[steps.cells]
use = "prepare"
from = "world"
perturbation = "perturbation"
"#;

const SCORES: &str = r#"
[steps.correlation]
use = "estimators/correlation"
train = "cells"
[steps.scores]
use = "evaluate"
models = ["correlation", "world.truth"]
truth = "cells"
metrics = ["spearman", "pds", { use = "de-auroc", with = { fewest = 5 } }, "de-direction"]
skill_against = "first-component"
[steps.report]
use = "report"
from = ["scores"]
"#;

fn run(folder: &Path, more: &[&str]) -> (String, String) {
    let output = lacuna(&["run"]).args(more).arg(folder).output().unwrap();
    let steps = text(&output.stderr);
    (succeed(output), steps)
}

#[test]
fn scores_have_intervals_over_cells_a_ceiling_and_a_skill_whatever_the_threads() {
    let project = project(&format!("{WORLD}{SCORES}"));
    let (said, steps) = run(project.path(), &["--threads", "1"]);
    // Two models are compared: the intervals are wider.
    assert!(said.contains("97.5 % interval") && said.contains("Its own targets score better"), "{said}");
    assert!(steps.contains("correlation does not beat every simple baseline, by "), "{steps}");
    let folder = project.path().join("runs/measured/steps/scores");
    let scores = std::fs::read(folder.join("scores.csv")).unwrap();
    let listed = text(&scores);
    for row in ["cells,split-half,spearman,perturbations,", "cells,correlation (random targets),pds,G"] {
        assert!(listed.contains(row), "{row}: {listed}");
    }
    // Baselines of gene scores stand beside models of effects, and nowhere else.
    for baseline in ["first-component", "mean-expression", "all-up", "all-down", "masked-mean"] {
        assert!(listed.contains(&format!("cells,{baseline},spearman,perturbations,")), "{listed}");
    }
    let again = project.path().join("again");
    run(project.path(), &["--threads", "2", "--run-dir", again.to_str().unwrap()]);
    assert!(scores == std::fs::read(again.join("steps/scores/scores.csv")).unwrap());
    let report = std::fs::read_to_string(project.path().join("runs/measured/report.html")).unwrap();
    assert!(report.contains("split-half") && report.contains("does not beat"));
    if let Some(said) = run_python("check_evaluation.py", &[&project.path().join("runs/measured")]) {
        assert!(said.contains("recomputed 4 perturbations"), "{said}");
    }
}

#[test]
fn gene_scores_are_no_baselines_of_profiles() {
    let steps = "[steps.model]\nuse = \"mean\"\ntrain = \"world\"\n[steps.mapping]\nuse = \"evaluate\"\n\
                 models = [\"model\"]\ncells = \"world\"\n";
    let project_by_default = project(&format!("{WORLD}{steps}"));
    run(project_by_default.path(), &[]);
    let scores =
        std::fs::read_to_string(project_by_default.path().join("runs/measured/steps/mapping/scores.csv"))
            .unwrap();
    assert!(scores.contains(",masked-mean,") && !scores.contains("first-component"), "{scores}");
    let named = project(&format!("{WORLD}{steps}baselines = [\"first-component\"]\n"));
    let said = text(&lacuna(&["validate"]).arg(named.path()).output().unwrap().stdout);
    assert!(said.contains("`first-component` answers with gene scores"), "{said}");
}

#[test]
fn replicates_are_named_by_an_annotation_and_a_skill_is_counted_from_a_baseline() {
    let scores = |more: &str| {
        format!(
            "{WORLD}[steps.correlation]\nuse = \"estimators/correlation\"\ntrain = \"cells\"\n[steps.scores]\nuse = \
             \"evaluate\"\nmodels = [\"correlation\"]\ntruth = \"cells\"\nmetrics = [\"spearman\"]\nbaselines = \
             [\"first-component\"]\nbootstrap = 20\nsplits = 3\nrandom_targets = 2\n{more}\n"
        )
    };
    // One value of `nperts` in each arm: no replicates.
    let single = project(&scores("replicate = \"nperts\""));
    let (_, steps) = run(single.path(), &[]);
    assert!(steps.contains("one replicate by `nperts`: controls, G0"), "{steps}");
    assert!(steps.contains("intervals cover cells, not animals"), "{steps}");
    let found = std::fs::read_to_string(single.path().join("runs/measured/steps/scores/scores.csv")).unwrap();
    let base =
        found.lines().find(|line| line.starts_with("cells,first-component,spearman,perturbations,")).unwrap();
    assert!(base.ends_with(",cells,0"), "{base}");
    for (more, expected) in [
        ("skill_against = \"first\"", "there is no baseline `first`"),
        ("min_cells = 0", "`min_cells` of step `scores` is a whole number, 1 or more"),
        ("informative = { halves = 2 }", "is a number from -1 to 1"),
    ] {
        let output = lacuna(&["validate"]).arg(project(&scores(more)).path()).output().unwrap();
        let said = text(&output.stdout);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{more}: {said}");
    }
    let project = project(&scores("replicate = \"donor\""));
    let said = fail(lacuna(&["run"]).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("the cells have no annotation `donor`"), "{said}");
}

#[test]
fn predictions_that_others_made_stand_beside_models_whatever_the_file() {
    if python().is_none() {
        return;
    }
    let project = project(&format!("{WORLD}{SCORES}"));
    run(project.path(), &[]);
    // The measured differences themselves, under labels in the styles of GEARS and scPerturb; one is left out.
    let first = project.path().join("runs/measured");
    run_python("make_predictions.py", &[&first, project.path()]);
    let mut steps = String::new();
    for (name, file) in [("csv", "p.csv.gz"), ("tsv", "p.tsv"), ("parquet", "p.parquet"), ("h5ad", "p.h5ad")]
    {
        let more = match name {
            "tsv" => "columns = { knockout = \"condition\", effect = \"lfc\" }",
            "h5ad" => "perturbation = \"perturbation\"",
            _ => "",
        };
        steps += &format!("[steps.{name}]\nuse = \"predictions\"\npath = \"{file}\"\n{more}\n");
    }
    let scores = |models: &str| {
        format!(
            "{steps}[steps.told]\nuse = \"evaluate\"\nmodels = {models}\ntruth = \"cells\"\nmetrics = [\"spearman\"]\n"
        )
    };
    let models = "[\"csv\", \"correlation\", \"tsv\", \"parquet\", \"h5ad\"]";
    std::fs::write(
        project.path().join("pipeline.toml"),
        format!(
            "{WORLD}[steps.correlation]\nuse = \"estimators/correlation\"\ntrain = \"cells\"\n{}",
            scores(models)
        ),
    )
    .unwrap();
    let (said, told) = run(project.path(), &[]);
    assert!(
        told.contains("csv predicts nothing of G") && told.contains("effects of 3 perturbations on 60 genes"),
        "{told}"
    );
    assert!(
        said.contains("✓ csv beats every baseline") && said.contains(" perturbations), by spearman"),
        "{said}"
    );
    let found = std::fs::read_to_string(first.join("steps/told/scores.csv")).unwrap();
    let row = |model: &str| {
        let start = format!("cells,{model},spearman,perturbations,");
        found.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_string()
    };
    let value: f64 = row("csv").split(',').next().unwrap().parse().unwrap();
    assert!(value > 0.9, "{value}");
    assert!(["tsv", "parquet", "h5ad"].iter().all(|name| row(name) == row("csv")), "{found}");
    assert!(row("correlation") != row("csv") && found.contains("cells,null,spearman,"), "{found}");
    // Alone, beside baselines of the truth's controls.
    std::fs::write(project.path().join("pipeline.toml"), format!("{WORLD}{}", scores("[\"csv\"]"))).unwrap();
    run(project.path(), &[]);
    let found = std::fs::read_to_string(first.join("steps/told/scores.csv")).unwrap();
    assert!(
        found.contains("cells,first-component,spearman,perturbations,0")
            || found.contains("cells,first-component,spearman,perturbations,-0"),
        "{found}"
    );
    // Predicted effects are no model.
    let screen = "[steps.screen]\nuse = \"screen\"\nmodel = \"csv\"\ncells = \"cells\"\nknockouts = \"each-expressed-gene\"\n";
    std::fs::write(project.path().join("pipeline.toml"), format!("{WORLD}{steps}{screen}")).unwrap();
    let said = text(&lacuna(&["validate"]).arg(project.path()).output().unwrap().stdout);
    assert!(
        said.contains("`model` of step `screen` takes a model") && said.contains("this is predicted effects"),
        "{said}"
    );
}

#[test]
fn doubles_stand_beside_the_sums_of_their_singles_and_interactions_are_scored() {
    if python().is_none() {
        return;
    }
    let steps = |more: &str| {
        format!(
            "format = 1\nname = \"doubles\"\nseed = 2\n[steps.read]\nuse = \"read\"\npath = \"cells.h5ad\"\n\
             [steps.cells]\nuse = \"prepare\"\nfrom = \"read\"\nperturbation = \"condition\"\n[steps.told]\nuse = \
             \"predictions\"\npath = \"predicted.csv\"\n[steps.correlation]\nuse = \"estimators/correlation\"\ntrain = \
             \"cells\"\n[steps.scores]\nuse = \"evaluate\"\nmodels = [\"told\", \"correlation\"]\ntruth = \"cells\"\n\
             metrics = [\"spearman\", \"pds\"]\nbootstrap = 8\nrandom_targets = 2\n{more}\n[steps.report]\nuse = \
             \"report\"\nfrom = [\"scores\"]\n"
        )
    };
    let project = project(&steps(""));
    run_python("make_doubles.py", &[project.path()]);
    let (said, _) = run(project.path(), &[]);
    let expected =
        ["on cells (6 perturbations of two genes), by spearman", "additive (sees perturbed cells)"];
    assert!(expected.iter().all(|words| said.contains(words)), "{said}");
    let results = project.path().join("runs/doubles");
    let said = run_python("check_doubles.py", &[&results, project.path()]).unwrap();
    assert!(said.contains("recomputed 6 doubles of 13 perturbations"), "{said}");
    let report = std::fs::read_to_string(results.join("report.html")).unwrap();
    assert!(report.contains("interactions of two genes"));
    for none in ["perturbed_baselines = false", "baselines = []"] {
        std::fs::write(project.path().join("pipeline.toml"), steps(none)).unwrap();
        run(project.path(), &[]);
        let found = std::fs::read_to_string(results.join("steps/scores/scores.csv")).unwrap();
        assert!(
            !found.contains("sees perturbed cells") && found.contains(",interaction,"),
            "{none}: {found}"
        );
    }
}

#[test]
fn impacts_of_pairs_beyond_those_of_their_genes_and_rankings_of_knockouts_are_scored() {
    let screen = |name: &str, model: &str| {
        format!(
            "[steps.{name}]\nuse = \"screen\"\nseed = 7\nmodel = \"{model}\"\ncells = \"world\"\nimpact = \"bray-curtis\"\n\
             knockouts = {{ use = \"pairs\", with = {{ sample = 900, singles = true }} }}\n"
        )
    };
    let project = project(&format!(
        "format = 1\nname = \"pairs\"\nseed = 4\n[steps.world]\nuse = \"grn\"\nwith = {{ preset = \"dko\", cells = 60, \
         genes = 30, regulators = 12, absent_genes = 6 }}\n[steps.model]\nuse = \"linear\"\ntrain = \"world\"\n{}{}\
         [steps.scores]\nuse = \"evaluate\"\nscreens = [\"screen\"]\ntruth = \"truth\"\nmetrics = [\"pearson\", \
         \"bray-curtis\", \"kendall\", \"ndcg\", \"rbo\", \"top-precision\", {{ use = \"top-auprc\", with = {{ share = 0.2 }} }}]\n\
         baselines = [\"knn\"]\nstrata = [\"regulator\"]\n",
        screen("screen", "model"),
        screen("truth", "world.truth"),
    ));
    let (said, _) = run(project.path(), &[]);
    assert!(said.contains("knn") && said.contains("interaction"), "{said}");
    if let Some(said) = run_python("check_pairs.py", &[&project.path().join("runs/pairs")]) {
        assert!(said.contains("recomputed 900 interactions"), "{said}");
    }
    // Rankings are of what is larger the more is changed.
    for (metric, expected) in [("ndcg", "`ndcg` compares profiles, not effects"), ("kendall", ": ok, ")] {
        let effects = format!(
            "{WORLD}[steps.correlation]\nuse = \"estimators/correlation\"\ntrain = \"cells\"\n[steps.scores]\nuse = \
             \"evaluate\"\nmodels = [\"correlation\"]\ntruth = \"cells\"\nmetrics = [\"{metric}\"]\n"
        );
        let output = lacuna(&["validate"]).arg(crate::support::project(&effects).path()).output().unwrap();
        assert!(text(&output.stdout).contains(expected), "{}", text(&output.stdout));
    }
}

#[test]
fn predicted_cells_are_compared_with_measured_ones_as_populations() {
    let steps = |models: &str| {
        format!(
            "format = 1\nname = \"cells\"\nseed = 3\n[steps.world]\nuse = \"grn\"\nwith = {{ preset = \"dko\", cells = 120, \
             genes = 40, regulators = 15, absent_genes = 8, measured_genes = 3, measured_cells = 60, library_size = 20000 }}\n\
             [steps.cells]\nuse = \"prepare\"\nfrom = \"world\"\nperturbation = \"perturbation\"\n[steps.linear]\nuse = \
             \"linear\"\ntrain = \"cells\"\n[steps.correlation]\nuse = \"estimators/correlation\"\ntrain = \"cells\"\n\
             [steps.scores]\nuse = \"evaluate\"\n{models}\nmetrics = [\"e-distance\", {{ use = \"e-distance\", with = {{ \
             squared = true }}, name = \"e-squared\" }}, \"mmd\", \"spearman\"]\nbaselines = [\"no-change\", \
             \"first-component\"]\nbootstrap = 8\n"
        )
    };
    let project =
        project(&steps("models = [\"world.truth\", \"linear\", \"correlation\"]\ntruth = \"cells\""));
    run(project.path(), &["--threads", "1"]);
    let scores = project.path().join("runs/cells/steps/scores/scores.csv");
    let first = std::fs::read(&scores).unwrap();
    let again = project.path().join("again");
    run(project.path(), &["--threads", "2", "--run-dir", again.to_str().unwrap()]);
    assert!(first == std::fs::read(again.join("steps/scores/scores.csv")).unwrap());
    if let Some(said) = run_python("check_populations.py", &[&project.path().join("runs/cells")]) {
        assert!(said.contains("recomputed 3 populations"), "{said}");
    }
    let mapping = crate::support::project(&steps("models = [\"linear\"]\ncells = \"cells\""));
    let said = text(&lacuna(&["validate"]).arg(mapping.path()).output().unwrap().stdout);
    assert!(said.contains("`mmd` compares predicted cells with those of measured perturbations"), "{said}");
}
