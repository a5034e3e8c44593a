//! Bad input: a clear error that says what and where, or a warning that lands in the results.

use crate::support::{fail, lacuna, project, succeed};
use serde_json::Value as Json;

/// Reads a table, fits the cheapest model, screens.
const PIPELINE: &str = r#"
format = 1
name = "inputs"
[steps.cells]
use = "read"
path = "cells.csv"
[steps.model]
use = "masked-mean"
train = "cells"
[steps.screen]
use = "screen"
model = "model"
cells = "cells"
knockouts = "each-expressed-gene"
impact = { use = "bray-curtis", against = "predicted" }
"#;

fn run(table: &[u8], more: &[&str]) -> std::process::Output {
    let project = project(PIPELINE);
    std::fs::write(project.path().join("cells.csv"), table).unwrap();
    let output = lacuna(&["run", "--quiet"]).arg(project.path()).args(more).output().unwrap();
    if output.status.success() {
        // The folder goes away with the test: what is wanted of it is printed.
        let run = std::fs::read_to_string(project.path().join("runs/inputs/run.json")).unwrap();
        return std::process::Output { stdout: run.into_bytes(), ..output };
    }
    output
}

fn says(table: &[u8], parts: &[&str]) {
    let said = fail(run(table, &[]), 1);
    for part in parts {
        assert!(said.contains(part), "expected `{part}` in: {said}");
    }
    assert!(said.contains("step `"), "no step is named: {said}");
}

fn warnings(table: &[u8], more: &[&str]) -> String {
    let run: Json = serde_json::from_str(&succeed(run(table, more))).unwrap();
    run["steps"].as_array().unwrap().iter().map(|s| s["record"]["warnings"].to_string()).collect()
}

#[test]
fn tables_that_are_no_cells() {
    says(b"", &["empty"]);
    says(b"1,2,3\n4,5\n", &["line 2"]);
    says(b"1,2\n3,x\n", &["x"]);
    says(b"1,2\n3,\xff\xfe\n", &["UTF-8"]);
    says(b",A,B\n", &["cells"]);
}

#[test]
fn values_that_are_no_counts_name_cell_and_gene() {
    says(b",A,B\nc1,1,2\nc2,3,-4\n", &["-4", "gene B", "cell c2"]);
    says(b",A,B\nc1,1,NaN\nc2,3,4\n", &["NaN", "gene B", "cell c1"]);
    says(b",A,B\nc1,1,inf\nc2,3,4\n", &["inf", "gene B", "cell c1"]);
}

#[test]
fn a_cell_without_genes_is_warned_of_and_cannot_be_trained_on() {
    let table = b",A,B\nc1,1,2\nc2,0,0\nc3,2,2\n";
    says(table, &["cell c2", "expresses no gene", "prepare"]);
}

#[test]
fn repeated_names_are_made_unique_with_a_warning() {
    let said = warnings(b",A,A,B\nc1,1,2,1\nc1,3,4,0\nc2,1,1,1\n", &[]);
    assert!(said.contains("1 repeated gene name") && said.contains("1 repeated cell name"), "{said}");
}

#[test]
fn an_unknown_gene_in_a_list_is_named_with_a_suggestion() {
    let table = b",Trem2,Apoe\nc1,1,2\nc2,3,4\n";
    let set = "steps.screen.knockouts={ use = \"genes\", with = { genes = [\"Apoe\", \"trem2\"] } }";
    let said = fail(run(table, &["--set", set]), 1);
    assert!(
        said.contains("trem2") && said.contains("did you mean `Trem2`?") && said.contains("`screen`"),
        "{said}"
    );
    let said = fail(run(table, &["--set", "steps.screen.effects=[\"Apo\"]"]), 1);
    assert!(said.contains("`effects`: no gene `Apo`") && said.contains("did you mean `Apoe`?"), "{said}");
}

#[test]
fn prepare_says_which_condition_nothing_meets() {
    let prepared = "steps.model.train=chosen";
    let with = |condition: &str| {
        let chosen = format!("steps.chosen={{ use = \"prepare\", from = \"cells\", {condition} }}");
        fail(run(b",A,B\nc1,1,2\nc2,3,4\n", &["--set", &chosen, "--set", prepared]), 1)
    };
    let said = with("where = { condition = \"WT\" }");
    assert!(said.contains("no annotation `condition`") && said.contains("n_genes"), "{said}");
    let said = with("where = { n_genes = { min = 5 } }");
    assert!(said.contains("`n_genes` is nowhere between 5 and inf"), "{said}");
    let said = with("genes = { only = [\"A\", \"b2\"] }");
    assert!(said.contains("`genes.only`: no gene `b2`"), "{said}");
    let said = with("genes = { min_cells = 3 }");
    assert!(said.contains("no gene is left"), "{said}");
}

#[test]
fn a_file_that_is_no_file_of_cells_says_what_is_read() {
    let project = project(PIPELINE.replace("cells.csv", "notes.txt").as_str());
    std::fs::write(project.path().join("notes.txt"), "Dear diary,\ntoday I sequenced a cell.\n").unwrap();
    let said = fail(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("notes.txt") && said.contains("step `cells`"), "{said}");
}
