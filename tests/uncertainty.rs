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

/// Two fits of a model on different halves of a world's cells, both screened in the same cells; the first with its uncertainty.
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
use = "@MODEL"
train = "half.train"
uncertainty = true
[steps.screen]
use = "screen"
model = "model"
cells = "half.train"
knockouts = "each-expressed-gene"
@IMPACT
effects = 100
[steps.fresh]
use = "@MODEL"
train = "half.test"
[steps.fresh-screen]
use = "screen"
model = "fresh"
cells = "half.train"
knockouts = "each-expressed-gene"
@IMPACT
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

fn two_fits_of(model: &str, impact: &str) -> tempfile::TempDir {
    project(&TWO_FITS.replace("@MODEL", model).replace("@IMPACT", impact))
}

/// What a fit says, and the interval that another fit gave it.
type Told = (Option<f64>, Option<f64>, Option<f64>);

/// Of the mean impacts of genes.
fn fresh_genes(dir: &Path) -> Vec<Told> {
    let told = genes(dir, "screen", ["refit_lower", "refit_upper"]);
    let fresh = genes(dir, "fresh-screen", ["impact_mean"]);
    told.iter().map(|(gene, [low, high])| (fresh[gene][0], *low, *high)).collect()
}

/// Of the effects of knockouts on genes.
fn fresh_effects(dir: &Path, column: &str) -> Vec<Told> {
    let told = effects(dir, "screen", ["refit_lower", "refit_upper"]);
    let fresh = effects(dir, "fresh-screen", [column]);
    told.iter().filter_map(|(key, [low, high])| Some((fresh.get(key)?[0], *low, *high))).collect()
}

fn assert_covered(genes: (f64, usize), effects: (f64, usize)) {
    println!("coverage: genes {genes:?}, effects {effects:?}");
    assert!(genes.1 == 200 && (0.90..=0.98).contains(&genes.0), "{genes:?}");
    assert!(effects.1 > 15_000 && (0.90..=0.98).contains(&effects.0), "{effects:?}");
}

/// The same of `ridge`, which chooses its penalty on validation cells; or is given one, as a fit to other cells has to be: it
/// might choose one of another decade.
fn two_ridges(given: Option<&str>) -> tempfile::TempDir {
    let model =
        given.map_or("ridge".into(), |penalty| format!("ridge\"\nwith = {{ penalty = {penalty} }} # \""));
    let pipeline = TWO_FITS.replace("@MODEL", &model).replace("@IMPACT", "");
    let pipeline = pipeline.replace("test = 0.5\nvalidation = 0", "test = 0.4\nvalidation = 0.2");
    project(&pipeline.replace("\nuncertainty", "\nvalidation = \"half.validation\"\nuncertainty"))
}

#[test]
fn refits_of_a_model_that_tunes_itself_keep_what_it_chose_so_that_intervals_cover() {
    let tuned = two_ridges(None);
    let (mut of_genes, mut of_effects) = (vec![], vec![]);
    for seed in ["1", "2"] {
        let [dir, given] = [0; 2].map(|_| tempfile::tempdir().unwrap());
        run_into(tuned.path(), dir.path(), &["--seed", seed]);
        let chosen = std::fs::read_to_string(dir.path().join("steps/model/chosen.csv")).unwrap();
        let penalty = chosen.strip_prefix("parameter,value\npenalty,").unwrap().trim();
        run_into(two_ridges(Some(penalty)).path(), given.path(), &["--seed", seed]);
        for name in ["half-000", "half-007", "half-019"] {
            let file = format!("steps/model/refits/{name}.safetensors");
            let [one, other] = [&dir, &given].map(|dir| std::fs::read(dir.path().join(&file)).ok());
            assert!(one.is_some() && one == other, "{name} is not that of the penalty that was chosen");
        }
        of_genes.extend(fresh_genes(given.path()));
        of_effects.extend(fresh_effects(given.path(), "score"));
    }
    assert_covered(coverage(of_genes.into_iter()), coverage(of_effects.into_iter()));
}

#[test]
fn intervals_cover_what_a_fit_to_other_cells_says_and_p_is_uniform_where_there_is_no_effect() {
    let project = two_fits_of("linear", "impact = \"bray-curtis\"");
    let (mut of_genes, mut of_effects, mut silent, mut found) = (vec![], vec![], vec![], vec![]);
    for seed in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        run_into(project.path(), dir.path(), &["--seed", seed]);
        let regulators = regulators(dir.path());
        for (gene, [p]) in &genes(dir.path(), "screen", ["p"]) {
            let list = if regulators.contains(gene) { &mut found } else { &mut silent };
            list.push(p.unwrap());
        }
        of_genes.extend(fresh_genes(dir.path()));
        of_effects.extend(fresh_effects(dir.path(), "log2fc"));
    }
    assert_covered(coverage(of_genes.into_iter()), coverage(of_effects.into_iter()));
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
    assert!(!dir.path().join("steps/model.part/model.safetensors").exists(), "it was fitted before");
}

/// 40 genes of which two are lacking in few cells, by a model that refuses such.
const REFUSED: &str = r#"
format = 1
[steps.cells]
use = "read"
path = "cells.csv"
values = "counts"
[steps.model]
use = "@MODEL"
train = "cells"
@MORE
[steps.screen]
use = "screen"
model = "model"
cells = "cells"
knockouts = "each-expressed-gene"
effects = 100
"#;

/// What a run of that pipeline warns of, with these cells.
fn warned(pipeline: &str, cells: &str, dir: &Path) -> String {
    let project = project(pipeline);
    std::fs::write(project.path().join("cells.csv"), cells).unwrap();
    let output = lacuna(&["run", "--run-dir"]).arg(dir).arg(project.path()).output().unwrap();
    succeed(output);
    std::fs::read_to_string(dir.join("run.json")).unwrap()
}

#[test]
fn halves_that_refuse_a_gene_make_no_interval_and_too_few_null_fits_are_told_with_numbers() {
    // g0 is lacking in 22 of 200 cells: in fewer than 20 of each half.
    let mut cells = independent(200, 5);
    let lines =
        cells.lines().enumerate().map(|(i, line)| match (i, line.splitn(3, ',').collect::<Vec<_>>()) {
            (0, _) => line.to_string(),
            (i, parts) => format!("{},{},{}", parts[0], if i <= 22 { 0 } else { 1 + i % 3 }, parts[2]),
        });
    cells = lines.collect::<Vec<_>>().join("\n");
    let dir = tempfile::tempdir().unwrap();
    let pipeline =
        REFUSED.replace("@MODEL", "matched").replace("@MORE", "uncertainty = { halves = 8, null = 2 }");
    let said = warned(&pipeline, &cells, dir.path());
    let told = genes(dir.path(), "screen", ["impact_mean", "refit_lower", "refit_upper", "p"]);
    let of = &told["g0"];
    assert!(of[0].unwrap() > 0.0 && of[1].is_none() && of[2].is_none() && of[3].is_some(), "{of:?}");
    assert!(told["g20"].iter().all(Option::is_some), "{:?}", told["g20"]);
    let told = effects(dir.path(), "screen", ["refit_lower", "refit_upper"]);
    assert!(told.iter().all(|((lost, _), [low, high])| lost != "g0" || (low.is_none() && high.is_none())));
    assert!(told.values().all(|[low, high]| low.is_none() || low < high), "an interval without width");
    // Scores of a population are the same in all its cells.
    assert!(summary(dir.path(), "screen")["stability"]["depth"].is_null());
    assert!(said.contains("are at the smallest p that 2 null fits can give"), "{said}");
}

#[test]
fn an_ensemble_of_a_model_without_chance_is_one_fit_and_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = REFUSED.replace("@MODEL", "ridge").replace("@MORE", "ensemble = 4");
    let said = warned(&pipeline, &independent(60, 5), dir.path());
    assert!(said.contains("its fits do not depend on the seed"), "{said}");
    let made = |n: usize| dir.path().join(format!("steps/model/refits/seed-00{n}.safetensors")).exists();
    assert_eq!([1, 2, 3].map(made), [true, false, false]);
    let pipeline = REFUSED.replace("@MODEL", "ridge").replace("@MORE", "");
    let alone = tempfile::tempdir().unwrap();
    warned(&pipeline, &independent(60, 5), alone.path());
    let columns = ["impact_mean", "rank"];
    let [together, alone] = [&dir, &alone].map(|dir| genes(dir.path(), "screen", columns));
    assert_eq!(together, alone);
}

#[test]
fn too_few_cells_to_halve_are_an_error_before_the_fit() {
    let pipeline = REFUSED.replace("@MODEL", "ridge").replace("@MORE", "uncertainty = true");
    let project = project(&pipeline);
    std::fs::write(project.path().join("cells.csv"), independent(3, 3)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = lacuna(&["run", "--quiet", "--run-dir"]);
    let said = fail(command.arg(dir.path()).arg(project.path()).output().unwrap(), 1);
    assert!(said.contains("expected 4 training cells or more, found 3"), "{said}");
}
