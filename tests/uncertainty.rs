//! Intervals, empirical nulls and the stability of rankings, on worlds whose truth is known.

use crate::runs::{assert_same, run_into};
use crate::support::{fail, lacuna, project, succeed};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

/// Two fits on different halves of a world's cells, both screened in the same cells; the first with its uncertainty.
const TWO_FITS: &str = r#"
format = 1
[steps.world]
use = "grn"
with = { preset = "dko", cells = 1000 }
[steps.half]
use = "split"
from = "world"
test = 0.5
validation = 0
[steps.model]
use = "linear"
train = "half.train"
uncertainty = true
[steps.screen]
use = "screen"
model = "model"
cells = "half.train"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
effects = 100
[steps.fresh]
use = "linear"
train = "half.test"
[steps.fresh-screen]
use = "screen"
model = "fresh"
cells = "half.train"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
effects = 100
"#;

/// gene → the numbers of these columns in genes.csv; none where it is empty.
fn genes<const N: usize>(dir: &Path, screen: &str, columns: [&str; N]) -> HashMap<String, [Option<f64>; N]> {
    let mut reader = csv::Reader::from_path(dir.join("steps").join(screen).join("genes.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let at = |name: &str| header.iter().position(|h| h == name).unwrap_or_else(|| panic!("no column {name}"));
    let (gene, places) = (at("gene"), columns.map(at));
    let row = |r: csv::StringRecord| (r[gene].to_string(), places.map(|i| r[i].parse().ok()));
    reader.records().map(|r| row(r.unwrap())).collect()
}

/// (knockout, gene) → the numbers of these columns in effects.parquet.
fn effects<const N: usize>(
    dir: &Path,
    screen: &str,
    columns: [&str; N],
) -> HashMap<(String, String), [Option<f64>; N]> {
    let file = File::open(dir.join("steps").join(screen).join("effects.parquet")).unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut found = HashMap::new();
    for batch in batches {
        let batch: RecordBatch = batch.unwrap();
        let text = |name: &str, i: usize| {
            batch.column_by_name(name).unwrap().as_string::<i32>().value(i).to_string()
        };
        let number = |name: &str, i: usize| {
            batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().iter().nth(i).unwrap()
        };
        for i in 0..batch.num_rows() {
            found.insert((text("knockout", i), text("gene", i)), columns.map(|name| number(name, i)));
        }
    }
    found
}

/// The share of values that lie within their interval, and how many there are.
fn coverage(of: impl Iterator<Item = (Option<f64>, Option<f64>, Option<f64>)>) -> (f64, usize) {
    let known: Vec<bool> = of.filter_map(|(x, low, high)| Some((low?..=high?).contains(&x?))).collect();
    (known.iter().filter(|inside| **inside).count() as f64 / known.len() as f64, known.len())
}

/// The greatest distance of the distribution of p values from the uniform one, in units of its 1 % point.
fn distance_from_uniform(mut p: Vec<f64>) -> f64 {
    p.sort_by(f64::total_cmp);
    let n = p.len() as f64;
    let distance = p.iter().enumerate().map(|(i, p)| (p - (i as f64 + 0.5) / n).abs()).fold(0.0, f64::max);
    distance * n.sqrt() / 1.63
}

fn regulators(dir: &Path) -> Vec<String> {
    let mut reader = csv::Reader::from_path(dir.join("steps/world/network.csv")).unwrap();
    let mut found: Vec<String> = reader.records().map(|r| r.unwrap()[0].to_string()).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn intervals_cover_what_a_fit_to_other_cells_says_and_p_is_uniform_where_there_is_no_effect() {
    let project = project(TWO_FITS);
    let (mut of_genes, mut of_effects, mut silent, mut found) = (vec![], vec![], vec![], vec![]);
    for seed in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        run_into(project.path(), dir.path(), &["--seed", seed]);
        let told = genes(dir.path(), "screen", ["refit_lower", "refit_upper", "p"]);
        let fresh = genes(dir.path(), "fresh-screen", ["impact_mean"]);
        let regulators = regulators(dir.path());
        of_genes.extend(told.iter().map(|(gene, [low, high, _])| (fresh[gene][0], *low, *high)));
        for (gene, [_, _, p]) in &told {
            let list = if regulators.contains(gene) { &mut found } else { &mut silent };
            list.push(p.unwrap());
        }
        let told = effects(dir.path(), "screen", ["refit_lower", "refit_upper"]);
        let fresh = effects(dir.path(), "fresh-screen", ["log2fc"]);
        let of = |(key, [low, high]): (&(String, String), &[Option<f64>; 2])| {
            Some((fresh.get(key)?[0], *low, *high))
        };
        of_effects.extend(told.iter().filter_map(of));
    }
    let (genes, effects) = (coverage(of_genes.into_iter()), coverage(of_effects.into_iter()));
    println!("coverage: genes {genes:?}, effects {effects:?}");
    assert!(genes.1 == 200 && (0.90..=0.99).contains(&genes.0), "{genes:?}");
    assert!(effects.1 > 15_000 && (0.90..=0.98).contains(&effects.0), "{effects:?}");
    // Genes that regulate nobody have no effect, in a world in which others do.
    let power = found.iter().filter(|p| **p < 0.05).count() as f64 / found.len() as f64;
    let distance = distance_from_uniform(silent);
    println!(
        "null: distance from uniform {distance:.2} of the 1 % point; of the regulators {power:.2} below .05"
    );
    assert!(distance < 1.0 && power > 0.8, "{distance} {power}");
}

/// 60 genes that know nothing of each other, in cells of different depth.
fn independent(cells: usize, seed: u64) -> String {
    let mut state = seed;
    let mut uniform = || {
        // Knuth's MMIX generator; its upper bits.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut text: String = (0..60).fold("cell".into(), |text, g| text + &format!(",g{g}"));
    for cell in 0..cells {
        let depth = 0.5 + uniform();
        let _ = write!(text, "\nc{cell}");
        for gene in 0..60 {
            let mean = depth * 3.0 * f64::from(gene + 5) / 60.0;
            // Poisson, by its own products of uniform numbers.
            let (mut count, mut product) = (0, uniform());
            while product > (-mean).exp() {
                count += 1;
                product *= uniform();
            }
            let _ = write!(text, ",{count}");
        }
    }
    text
}

#[test]
fn in_a_world_without_relations_p_is_uniform_and_nothing_is_found() {
    let pipeline = r#"
format = 1
seed = 5
[steps.cells]
use = "read"
path = "cells.csv"
values = "counts"
[steps.presence]
use = "sparse"
train = "cells"
uncertainty = true
[steps.together]
use = "correlation"
train = "cells"
uncertainty = true
[steps.by-presence]
use = "screen"
model = "presence"
cells = "cells"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
[steps.by-correlation]
use = "screen"
model = "together"
cells = "cells"
knockouts = "each-expressed-gene"
"#;
    let project = project(pipeline);
    std::fs::write(project.path().join("cells.csv"), independent(400, 11)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    run_into(project.path(), dir.path(), &[]);
    for screen in ["by-presence", "by-correlation"] {
        let told = genes(dir.path(), screen, ["p", "fdr"]);
        let distance = distance_from_uniform(told.values().map(|[p, _]| p.unwrap()).collect());
        let found = told.values().filter(|[_, fdr]| fdr.unwrap() < 0.05).count();
        let told = effects(dir.path(), screen, ["p"]);
        let small = told.values().filter(|[p]| p.unwrap() < 0.05).count() as f64 / told.len() as f64;
        println!(
            "{screen}: distance {distance:.2}, found {found}; effects: {small:.3} below .05 of {}",
            told.len()
        );
        assert!(distance < 1.0 && found <= 1, "{screen}: {distance} {found}");
        assert!((0.03..0.07).contains(&small), "{screen}: {small}");
    }
}

const ENSEMBLE: &str = r#"
format = 1
[steps.world]
use = "grn"
with = { cells = 60, genes = 24, regulators = 12, absent_genes = 4 }
[steps.parts]
use = "split"
from = "world"
test = 0
validation = 0.2
[steps.model]
use = "mlp"
train = "parts.train"
validation = "parts.validation"
ensemble = 3
uncertainty = { halves = 6, null = 6 }
with = { steps = 40 }
[steps.screen]
use = "screen"
model = "model"
cells = "world"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
effects = 4
[steps.report]
use = "report"
from = ["screen"]
"#;

fn summary(dir: &Path, step: &str) -> Json {
    serde_json::from_slice(&std::fs::read(dir.join("steps").join(step).join("screen.json")).unwrap()).unwrap()
}

#[test]
fn an_ensemble_and_its_refits_are_the_same_bytes_on_any_threads_and_after_a_stop() {
    let project = project(ENSEMBLE);
    let [one, two, stopped] = [0; 3].map(|_| tempfile::tempdir().unwrap());
    run_into(project.path(), one.path(), &["--threads", "1"]);
    run_into(project.path(), two.path(), &["--threads", "2"]);
    assert_same(one.path(), two.path());
    let stability = &summary(one.path(), "screen")["stability"];
    assert!(stability["seeds"].is_number() && stability["halves"].is_number(), "{stability}");
    // What a kill among the refits leaves: some of them, and the model.
    run_into(project.path(), stopped.path(), &[]);
    let (model, part) = (stopped.path().join("steps/model"), stopped.path().join("steps/model.part"));
    let record: Json = serde_json::from_slice(&std::fs::read(model.join("step.json")).unwrap()).unwrap();
    std::fs::rename(&model, &part).unwrap();
    std::fs::write(part.join(".key"), record["key"].as_str().unwrap()).unwrap();
    for name in ["step.json", "refits/half-003.safetensors", "refits/seed-002.safetensors"] {
        std::fs::remove_file(part.join(name)).unwrap();
    }
    let kept = std::fs::metadata(part.join("refits/half-001.safetensors")).unwrap().modified().unwrap();
    run_into(project.path(), stopped.path(), &[]);
    assert_same(one.path(), stopped.path());
    let again = std::fs::metadata(model.join("refits/half-001.safetensors")).unwrap().modified().unwrap();
    assert_eq!(kept, again, "a refit that was there was fitted again");
}

#[test]
fn the_impact_of_an_ensemble_is_the_mean_of_its_members_fused_or_not() {
    let project = project(ENSEMBLE);
    let [fused, generic] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    run_into(project.path(), fused.path(), &[]);
    let mut command = lacuna(&["run", "--quiet", "--run-dir"]);
    command.arg(generic.path()).arg(project.path()).env("LACUNA_GENERIC_SCREEN", "1");
    succeed(command.output().unwrap());
    let columns = ["impact_mean", "refit_lower", "refit_upper", "p"];
    let [one, other] = [&fused, &generic].map(|dir| genes(dir.path(), "screen", columns));
    for (gene, numbers) in one {
        for (a, b) in numbers.iter().zip(other[&gene]) {
            assert!((a.unwrap() - b.unwrap()).abs() < 1e-5, "{gene}: {a:?} {b:?}");
        }
    }
}

#[test]
fn one_replicate_is_warned_of_and_an_unknown_one_is_an_error() {
    let text = ENSEMBLE.replace("null = 6", "null = 0, replicate = \"donor\"");
    let with_donors =
        text.replace("use = \"split\"\nfrom = \"world\"", "use = \"split\"\nfrom = \"cells\"").replace(
            "[steps.parts]",
            "[steps.cells]\nuse = \"read\"\npath = \"cells.csv\"\nvalues = \"counts\"\n[steps.parts]",
        );
    let project = project(&with_donors.replace("cells = \"world\"", "cells = \"cells\""));
    std::fs::write(project.path().join("cells.csv"), independent(60, 3)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = lacuna(&["run", "--quiet", "--run-dir"]);
    let said = fail(command.arg(dir.path()).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("`replicate`") && said.contains("no annotation `donor`"), "{said}");
}
