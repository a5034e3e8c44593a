//! The whole simulator, as the host calls it.

use super::*;
use lacuna_sdk::arrow::{Array, Float64Array, StringArray};
use lacuna_sdk::ndarray::{Array2, Axis, array};
use lacuna_sdk::serde_json::{Value, json};
use lacuna_sdk::testing::{self, context};

fn grn(parameters: Value) -> Result<Grn> {
    Grn::new(GrnConfig::parse(&parameters).map_err(Error::Parameters)?)
}

fn simulate(parameters: Value, seed: u64) -> Simulation<Truth> {
    grn(parameters).unwrap().simulate(&context(seed)).unwrap()
}

fn dense(cells: &OwnedCells) -> Array2<f32> {
    let view = cells.to_view();
    let cells = Cells::from_view(&view);
    let mut values = Array2::zeros((cells.len(), cells.n_genes()));
    for c in 0..cells.len() {
        for (&j, &value) in cells.assemblage(c).iter().zip(cells.values(c)) {
            values[[c, j as usize]] = value;
        }
    }
    values
}

fn ask(truth: &Truth, cells: Cells<'_>, knockouts: &KnockoutList) -> Result<Array2<f32>> {
    let mut values = Array2::from_elem((knockouts.len(), cells.n_genes()), f32::NAN);
    let query = testing::query(cells, knockouts.as_knockouts());
    truth.predict(&query, &mut testing::answer(values.view_mut()), &context(0))?;
    Ok(values)
}

/// For each cell, the cell as it is, then single and double knockouts of what it expresses.
fn some_knockouts(cells: Cells<'_>) -> KnockoutList {
    let mut list = KnockoutList::new();
    for c in 0..cells.len() {
        list.push(c, &[]);
        let expressed = cells.assemblage(c);
        expressed.iter().for_each(|&gene| list.push(c, &[gene]));
        expressed.windows(2).step_by(5).for_each(|pair| list.push(c, pair));
    }
    list
}

fn bits(values: &Array2<f32>) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

struct Statistics {
    sparsity: f64,
    mean: f64,
    most: f32,
}

fn statistics(values: &Array2<f32>) -> Statistics {
    let expressed: Vec<f32> = values.iter().copied().filter(|&v| v > 0.0).collect();
    Statistics {
        sparsity: 1.0 - expressed.len() as f64 / values.len() as f64,
        mean: expressed.iter().map(|&v| f64::from(v)).sum::<f64>() / expressed.len() as f64,
        most: expressed.iter().copied().fold(0.0, f32::max),
    }
}

/// The means over 8 seeds of sparsity, mean expressed value and largest value.
fn mean_statistics(preset: &str) -> [f64; 3] {
    let of_seed = |seed| {
        let values = dense(&simulate(json!({"preset": preset}), seed).cells);
        assert_eq!(values.dim(), (500, 100));
        let Statistics { sparsity, mean, most } = statistics(&values);
        [sparsity, mean, f64::from(most)]
    };
    let seeds: Vec<[f64; 3]> = (0..8).map(of_seed).collect();
    std::array::from_fn(|i| seeds.iter().map(|found| found[i]).sum::<f64>() / 8.0)
}

/// The reference data have the sparsity 0.21, the mean 1.25 and the maximum 5. Over 30 networks, a prototype
/// in numpy has 0.2158 (sd 0.0021), 1.215 (0.057), 5.3 (0.6), and with dropout 0.338 (0.005), 1.10 (0.05),
/// 5.2 (0.8).
#[test]
fn the_presets_have_the_statistics_of_the_reference() {
    for (preset, expected) in [("dko", [0.2158, 1.215, 5.3]), ("dko-dropout", [0.338, 1.10, 5.2])] {
        let found = mean_statistics(preset);
        // About four standard errors of a mean over 8 networks.
        for ((found, expected), allowed) in found.into_iter().zip(expected).zip([0.006, 0.08, 1.0]) {
            assert!((found - expected).abs() < allowed, "{preset}: expected {expected}, found {found}");
        }
    }
}

#[test]
fn the_preset_dko_has_its_absent_genes_in_every_cell() {
    let values = dense(&simulate(json!({}), 1).cells);
    let found = statistics(&values);
    assert!((found.sparsity - 0.21).abs() < 0.01 && (found.mean - 1.25).abs() < 0.15);
    for cell in values.axis_iter(Axis(0)) {
        assert!(cell.iter().filter(|&&v| v == 0.0).count() >= 20);
    }
}

#[test]
fn cells_genes_and_network_are_named() {
    let made = simulate(json!({"cells": 3}), 1);
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    assert_eq!((cells.cell_name(2), cells.gene_name(0), cells.gene_name(99)), ("cell-0003", "G001", "G100"));
    let column = |column: lacuna_sdk::arrow::ArrayRef| -> Vec<bool> {
        let column = column.as_any().downcast_ref::<BooleanArray>().unwrap().clone();
        column.iter().map(Option::unwrap).collect()
    };
    assert_eq!(column(cells.obs("settled").unwrap().unwrap()), [true; 3]);
    let regulator = column(cells.var("regulator").unwrap().unwrap());
    assert!(regulator.iter().enumerate().all(|(j, &regulates)| regulates == (j < 50)));
    let network = made.network.unwrap();
    let weights = network.column_by_name("weight").unwrap();
    let weights = weights.as_any().downcast_ref::<Float64Array>().unwrap();
    let regulators = network.column_by_name("regulator").unwrap();
    let regulators = regulators.as_any().downcast_ref::<StringArray>().unwrap();
    assert!(weights.values().iter().any(|&w| w < 0.0) && weights.values().iter().all(|w| w.abs() <= 2.0));
    assert!(regulators.iter().all(|name| name.unwrap() <= "G050"));
}

#[test]
fn the_seed_decides_and_only_the_seed() {
    let values = |seed| dense(&simulate(json!({"cells": 40}), seed).cells);
    assert_eq!(bits(&values(7)), bits(&values(7)));
    assert_ne!(bits(&values(7)), bits(&values(8)));
    // A cell does not depend on how many others there are.
    let fewer = dense(&simulate(json!({"cells": 10}), 7).cells);
    assert_eq!(fewer, values(7).slice_axis(Axis(0), (0..10).into()));
}

#[test]
fn the_truth_of_no_knockout_is_the_cell_and_a_knocked_out_gene_is_silent() {
    for absent_repressor in ["no-effect", "derepressed"] {
        let made = simulate(json!({"cells": 20, "absent_repressor": absent_repressor}), 3);
        let (view, values) = (made.cells.to_view(), dense(&made.cells));
        let cells = Cells::from_view(&view);
        let list = some_knockouts(cells);
        let answers = ask(&made.truth, cells, &list).unwrap();
        let mut moved = 0;
        for (answer, knockout) in answers.axis_iter(Axis(0)).zip(list.as_knockouts().iter()) {
            let cell = values.index_axis(Axis(0), knockout.cell.unwrap());
            if knockout.genes.is_empty() {
                assert_eq!(answer, cell);
            }
            assert!(knockout.genes.iter().all(|&gene| answer[gene as usize] == 0.0));
            assert!(answer.iter().all(|&v| v == 0.0 || v >= 1e-3));
            moved += answer.iter().zip(cell).filter(|(a, b)| a != b).count();
        }
        assert!(moved > 2 * list.len(), "knockouts have consequences");
    }
}

#[test]
fn a_saved_truth_is_the_same_to_the_last_bit() {
    for parameters in [
        json!({"cells": 12, "decay": 0.123_456_789_012_345_68, "tolerance": 1.000_000_000_000_1e-8}),
        json!({"cells": 12, "preset": "dko-dropout", "topology": "scale-free", "hill": 1.3, "noise": 0.2}),
    ] {
        let made = simulate(parameters, u64::MAX - 3);
        let bytes = made.truth.save().unwrap();
        let loaded = Truth::load(&bytes).unwrap();
        assert_eq!(loaded.world(), made.truth.world());
        assert_eq!(loaded.save().unwrap(), bytes);
        let view = made.cells.to_view();
        let cells = Cells::from_view(&view);
        let list = some_knockouts(cells);
        let (before, after) = (ask(&made.truth, cells, &list), ask(&loaded, cells, &list));
        assert_eq!(bits(&before.unwrap()), bits(&after.unwrap()));
    }
}

#[test]
fn damaged_or_foreign_bytes_are_refused() {
    let bytes = simulate(json!({"cells": 2}), 1).truth.save().unwrap();
    assert!((0..bytes.len()).step_by(97).all(|n| Truth::load(&bytes[..n]).is_err()));
    let saved = Saved::from_bytes(&bytes).unwrap();
    let error = |saved: Saved| Truth::load(&saved.to_bytes().unwrap()).err().unwrap();
    let format = error(saved.clone().text("format", "mlp 1"));
    assert_eq!(format, Error::data("expected the format `grn truth 1`, found `mlp 1`"));
    let seed = saved.get_text("parameters").unwrap().replace("\"seed\":\"1\"", "\"seed\":\"2\"");
    let other_draws = error(saved.clone().text("parameters", seed));
    assert_eq!(other_draws, Error::data("saved by a version of this plugin that draws cells in another way"));
    let hill = saved.get_text("parameters").unwrap().replace("\"hill\":\"1\"", "\"hill\":\"NaN\"");
    let out_of_range = error(saved.clone().text("parameters", hill));
    assert_eq!(out_of_range, Error::data("the saved parameters are out of their range"));
    let network = error(saved.text("network", "regulator,target,weight\nG001,G002,x"));
    assert_eq!(
        network,
        Error::data("the saved network: line 2: expected a weight other than 0, at most 1000000, found `x`")
    );
}

/// The same cells with some of them, and some of the genes, left out.
fn subset(cells: Cells<'_>, rows: &[usize], genes: &[usize]) -> (OwnedCells, Vec<u64>) {
    let mut part = OwnedCells::new(genes.iter().map(|&j| cells.gene_name(j).to_string()).collect());
    let mut profile = vec![0.0; cells.n_genes()];
    for &c in rows {
        cells.write_profile(c, &mut profile);
        let values: Vec<f32> = genes.iter().map(|&j| profile[j]).collect();
        part.push(cells.cell_name(c), &values);
    }
    (part, rows.iter().map(|&c| c as u64).collect())
}

#[test]
fn a_query_of_some_cells_and_genes_is_a_part_of_the_whole() {
    let made = simulate(json!({"cells": 30}), 5);
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    let (rows, genes): (Vec<usize>, Vec<usize>) = (vec![28, 3, 4, 11], (0..100).rev().step_by(3).collect());
    let (part, ids) = subset(cells, &rows, &genes);
    let mut part_view = part.to_view();
    part_view.ids = ids.as_slice().into();
    let part_cells = Cells::from_view(&part_view);
    let few = some_knockouts(part_cells);
    let mut same = KnockoutList::new();
    for knockout in few.as_knockouts().iter() {
        let of_whole: Vec<u32> = knockout.genes.iter().map(|&j| genes[j as usize] as u32).collect();
        same.push(rows[knockout.cell.unwrap()], &of_whole);
    }
    let whole = ask(&made.truth, cells, &same).unwrap();
    assert_eq!(bits(&ask(&made.truth, part_cells, &few).unwrap()), bits(&whole.select(Axis(1), &genes)));
}

#[test]
fn answers_do_not_depend_on_what_else_is_asked_or_by_whom() {
    let made = simulate(json!({"cells": 8}), 6);
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    let list = some_knockouts(cells);
    let together = bits(&ask(&made.truth, cells, &list).unwrap());
    let truth = Truth::load(&made.truth.save().unwrap()).unwrap();
    let alone = || -> Vec<u32> {
        let mut answers = vec![];
        for knockout in list.as_knockouts().iter() {
            let mut one = KnockoutList::new();
            one.push(knockout.cell.unwrap(), knockout.genes);
            answers.extend(bits(&ask(&truth, cells, &one).unwrap()));
        }
        answers
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(alone), scope.spawn(alone), scope.spawn(alone)];
        for thread in threads {
            assert_eq!(thread.join().unwrap(), together);
        }
    });
}

#[test]
fn samples_are_alike_and_certain() {
    let made = simulate(json!({"cells": 2}), 4);
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    let mut list = KnockoutList::new();
    list.push(1, &[cells.assemblage(1)[0]]);
    list.push(1, &[cells.assemblage(1)[1]]);
    list.push(0, &[]);
    let one = ask(&made.truth, cells, &list).unwrap();
    let (mut values, mut spread) = (Array2::from_elem((9, 100), 9.0), Array2::from_elem((9, 100), 9.0));
    let mut query = testing::query(cells, list.as_knockouts());
    query.samples = 3;
    let mut answer = testing::answer(values.view_mut());
    answer.spread = Some(spread.view_mut());
    made.truth.predict(&query, &mut answer, &context(0)).unwrap();
    assert_eq!(values, one.select(Axis(0), &[0, 0, 0, 1, 1, 1, 2, 2, 2]));
    assert_eq!(spread, Array2::<f32>::zeros((9, 100)));
}

#[test]
fn what_the_truth_does_not_know_is_named() {
    let truth = simulate(json!({"cells": 2, "absent_genes": 0}), 1).truth;
    let asked = |gene: &str, id: u64, knocked_out: u32| {
        let mut cells = OwnedCells::new(vec!["G001".into(), gene.into()]);
        cells.push("stranger", &[1.0, 1.0]);
        let ids = [id];
        let mut view = cells.to_view();
        view.ids = ids.as_slice().into();
        let mut list = KnockoutList::new();
        list.push(0, &[knocked_out]);
        ask(&truth, Cells::from_view(&view), &list).map(|_| ())
    };
    assert_eq!(asked("G002", 1, 1), Ok(()));
    let gene = "no gene `G0002` among the 100 genes of the simulated world; did you mean `G002`?";
    assert_eq!(asked("G0002", 1, 1), Err(Error::data(gene)));
    let cell = "cell `stranger` has the id 2, but the simulated world has 2 cells";
    assert_eq!(asked("G002", 2, 1), Err(Error::data(cell)));
    assert_eq!(asked("G002", 1, 7), Err(Error::data("a knockout of gene 7 of 2")));
}

/// Asks for one gene of cell 0 at a level; without a cell, of the population.
fn ask_level(made: &Simulation<Truth>, cell: Option<u64>, gene: u32, level: f32) -> Result<Array2<f32>> {
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    let (cell, offsets, genes, levels) = (cell.as_slice(), [0, 1], [gene], [level]);
    let knockouts = Knockouts::from_ref(lacuna_sdk::abi::KnockoutsRef {
        cell: cell.into(),
        offsets: offsets.as_slice().into(),
        genes: genes.as_slice().into(),
        levels: levels.as_slice().into(),
    });
    let mut values = Array2::zeros((1, cells.n_genes()));
    let query = testing::query(cells, knockouts);
    made.truth.predict(&query, &mut testing::answer(values.view_mut()), &context(0))?;
    Ok(values)
}

#[test]
fn a_level_multiplies_the_production_of_a_gene() {
    let made = simulate(json!({"cells": 1, "absent_genes": 0}), 1);
    let cell = dense(&made.cells);
    let ask = |gene, level| ask_level(&made, Some(0), gene, level);
    assert_eq!(ask(3, 1.0).unwrap(), cell);
    // Gene 70 regulates nobody, so it alone changes, and in proportion.
    let (gene, tripled) = (70, ask(70, 3.0).unwrap());
    assert!((tripled[[0, gene]] / cell[[0, gene]] - 3.0).abs() < 1e-6);
    assert_eq!((0..100).filter(|&j| tripled[[0, j]] != cell[[0, j]]).collect::<Vec<_>>(), [gene]);
    let [low, high] = [0.3, 2.0].map(|level| ask(3, level).unwrap()[[0, 3]] / cell[[0, 3]]);
    assert!((0.15..0.5).contains(&low) && (1.4..3.0).contains(&high), "{low}, {high}");
}

#[test]
fn bad_levels_and_whole_populations_are_refused() {
    let made = simulate(json!({"cells": 1}), 1);
    for level in [-0.5, f32::NAN, f32::INFINITY] {
        let message = format!("the level of a gene: expected 0 to 1000000, found {level}");
        assert_eq!(ask_level(&made, Some(0), 0, level), Err(Error::data(message)));
    }
    let message = "the truth answers for cells, but knockout 0 names none";
    assert_eq!(ask_level(&made, None, 0, 0.0), Err(Error::data(message)));
    assert_eq!(ask_level(&made, Some(4), 0, 0.0), Err(Error::data("a knockout in cell 4 of 1")));
}

#[test]
fn truth_is_free_of_noise_and_cells_are_not() {
    let plain = simulate(json!({"cells": 50}), 2);
    let parameters =
        json!({"cells": 50, "noise": 0.1, "library_size": 2000, "dispersion": 0.1, "technical_dropout": 0.1});
    let noisy = simulate(parameters, 2);
    let counts = dense(&noisy.cells);
    assert!(counts.iter().all(|v| v.fract() == 0.0));
    assert!((counts.sum() / 50.0 - 1800.0).abs() < 60.0, "{}", counts.sum() / 50.0);
    assert!(dense(&plain.cells).iter().zip(&counts).all(|(&x, &count)| x > 0.0 || count == 0.0));
    let view = noisy.cells.to_view();
    let mut list = KnockoutList::new();
    (0..50).for_each(|c| list.push(c, &[]));
    assert_eq!(ask(&noisy.truth, Cells::from_view(&view), &list).unwrap(), dense(&plain.cells));
}

fn edge_list(text: &str) -> (std::path::PathBuf, Value) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (text, std::thread::current().id()).hash(&mut hasher);
    let name = format!("lacuna-grn-{}-{:x}.csv", std::process::id(), hasher.finish());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    let parameters = json!({"edges": path.to_str().unwrap(), "cells": 4, "absent_genes": 0, "redraw": 0});
    (path, parameters)
}

#[test]
fn an_edge_list_is_simulated() {
    let (path, parameters) = edge_list("regulator,target,weight\nA,B,-1.5\nB,C,2\n");
    let made = simulate(parameters, 1);
    std::fs::remove_file(path).unwrap();
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    assert_eq!(cells.gene_names(), ["A", "B", "C"]);
    // Nothing makes A; B = 1.5 · 1; C = 2 · 1.5 / 2.5.
    let values = dense(&made.cells);
    let expected = array![0.0, 1.5, 1.2];
    assert!(values.axis_iter(Axis(0)).all(|cell| (&cell - &expected).iter().all(|d: &f32| d.abs() < 1e-6)));
    let mut list = KnockoutList::new();
    list.push(2, &[1]);
    assert_eq!(ask(&made.truth, cells, &list).unwrap(), array![[0.0, 0.0, 0.0]]);
}

#[test]
fn a_bad_edge_list_is_an_error_with_file_and_line() {
    let (path, parameters) = edge_list("regulator,target,weight\nA,B,-1.5\nB,C,much\n");
    let error = grn(parameters.clone()).unwrap().simulate(&context(1)).err().unwrap();
    let place = path.display();
    let message =
        format!("edge list {place}, line 3: expected a weight other than 0, at most 1000000, found `much`");
    assert_eq!(error, Error::data(message));
    std::fs::remove_file(&path).unwrap();
    let gone = grn(parameters).unwrap().simulate(&context(1)).err().unwrap();
    assert!(matches!(gone, Error::Data(m) if m.starts_with(&format!("cannot read the edge list {place}: "))));
}

#[test]
fn an_edge_list_needs_as_many_regulators_as_are_measured() {
    let (path, mut parameters) = edge_list("regulator,target,weight\nA,B,1\nA,C,1\n");
    parameters["measured_genes"] = 2.into();
    let error = grn(parameters).unwrap().simulate(&context(1)).err().unwrap();
    std::fs::remove_file(path).unwrap();
    let message = "measured_genes: expected at most the 1 genes of the network that regulate others, found 2";
    assert_eq!(error, Error::parameters(message));
}

#[test]
fn an_edge_list_needs_more_genes_than_are_absent() {
    let (path, mut parameters) = edge_list("regulator,target,weight\nA,B,1\n");
    parameters["absent_genes"] = 20.into();
    let error = grn(parameters).unwrap().simulate(&context(1)).err().unwrap();
    std::fs::remove_file(path).unwrap();
    let message = "absent_genes: expected fewer than the 2 genes of the network, found 20; give \
                   `absent_genes` or `absence`";
    assert_eq!(error, Error::parameters(message));
}

/// What an annotation of the cells says, as text.
fn column(cells: &OwnedCells, name: &str) -> Option<Vec<String>> {
    let view = cells.to_view();
    let column = Cells::from_view(&view).obs(name)?.unwrap();
    let any = column.as_any();
    Some(match any.downcast_ref::<StringArray>() {
        Some(texts) => texts.iter().map(|text| text.unwrap().to_string()).collect(),
        None => any.downcast_ref::<Int64Array>()?.values().iter().map(i64::to_string).collect(),
    })
}

fn measured(seed: u64) -> Simulation<Truth> {
    simulate(json!({"cells": 20, "measured_genes": 3, "measured_pairs": 2, "measured_cells": 4}), seed)
}

#[test]
fn perturbed_cells_follow_the_others_and_say_what_is_silent_in_them() {
    let made = measured(5);
    let values = dense(&made.cells);
    let (labels, numbers) =
        (column(&made.cells, "perturbation").unwrap(), column(&made.cells, "nperts").unwrap());
    assert_eq!(values.nrows(), 20 + (3 + 2) * 4);
    assert_eq!((labels[19].as_str(), numbers[19].as_str()), ("control", "0"));
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    assert_eq!([19, 20, 39].map(|c| cells.cell_name(c)), ["cell-0020", "perturbed-0001", "perturbed-0020"]);
    for c in 20..40 {
        let names: Vec<&str> = labels[c].split('+').collect();
        assert_eq!((&labels[c], &numbers[c]), (&labels[c / 4 * 4], &names.len().to_string()));
        assert!(names.is_sorted(), "{names:?}");
        for gene in cells.find_genes(&names).unwrap() {
            assert_eq!(values[[c, gene as usize]], 0.0);
            assert!(made.truth.world().network.regulates(gene as usize));
        }
    }
    let singles: Vec<&String> = (20..32).step_by(4).map(|c| &labels[c]).collect();
    assert!(singles.is_sorted() && labels[32] < labels[36]);
    let of_pairs = [32, 36].map(|c| labels[c].split('+').all(|name| singles.contains(&&name.to_string())));
    assert_eq!(of_pairs, [true, true]);
}

#[test]
fn unperturbed_cells_do_not_depend_on_what_is_measured() {
    let (plain, made) = (simulate(json!({"cells": 20}), 5), measured(5));
    assert_eq!((column(&plain.cells, "perturbation"), column(&plain.cells, "nperts")), (None, None));
    let first = dense(&made.cells).slice_axis(Axis(0), (0..20).into()).to_owned();
    assert_eq!(bits(&first), bits(&dense(&plain.cells)));
    let saved = |made: &Simulation<Truth>| {
        let bytes = made.truth.save().unwrap();
        Saved::from_bytes(&bytes).unwrap().get_text("parameters").unwrap().to_string()
    };
    assert!(!saved(&plain).contains("measured") && saved(&made).contains("measured"));
    // More cells in all are no more unperturbed ones: names keep their digits.
    let many = simulate(json!({"cells": 5, "measured_genes": 1, "measured_cells": 10_000}), 5);
    let view = many.cells.to_view();
    assert_eq!(Cells::from_view(&view).cell_name(4), "cell-0005");
}

#[test]
fn a_perturbed_cell_is_one_more_cell_with_its_genes_silent_from_the_start() {
    let (made, more) = (measured(9), simulate(json!({"cells": 40}), 9));
    let world = made.truth.world();
    for c in 20..40 {
        let (perturbed, _) = world.draw(c);
        let (mut plain, _) = more.truth.world().draw(c);
        assert_ne!(plain.levels, [1.0; 100]);
        for &gene in world.perturbation(c) {
            (plain.levels[gene as usize], plain.start[gene as usize]) = (0.0, 0.0);
        }
        assert_eq!(perturbed, plain);
        // What is left of it moves no more.
        let mut steady = world.settle(&perturbed, &mut Solver::default()).x;
        let before = steady.clone();
        let circuit = world.circuit(&perturbed, &perturbed.levels);
        assert!(Solver::default().settle(&circuit, world.rules.limits, &mut steady));
        assert_eq!(steady, before);
    }
}

#[test]
fn the_truth_answers_for_perturbed_cells_too() {
    let made = measured(7);
    let values = dense(&made.cells);
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    let list = some_knockouts(cells);
    let answers = ask(&made.truth, cells, &list).unwrap();
    let mut moved = 0;
    for (answer, knockout) in answers.axis_iter(Axis(0)).zip(list.as_knockouts().iter()) {
        let c = knockout.cell.unwrap();
        let cell = values.index_axis(Axis(0), c);
        assert!(!knockout.genes.is_empty() || answer == cell, "cell {c}");
        let silent = knockout.genes.iter().chain(made.truth.world().perturbation(c));
        assert!(silent.into_iter().all(|&gene| answer[gene as usize] == 0.0));
        moved += usize::from(c >= 20 && answer.iter().zip(cell).filter(|(a, b)| a != b).count() > 1);
    }
    assert!(moved > 100, "{moved} knockouts in perturbed cells with consequences");
    // Its own gene once more, and a level of it, change nothing.
    for level in [0.0, 3.0] {
        let gene = made.truth.world().perturbation(25)[0];
        assert_eq!(ask_level(&made, Some(25), gene, level).unwrap().row(0), values.row(25));
    }

    let loaded = Truth::load(&made.truth.save().unwrap()).unwrap();
    assert_eq!((loaded.world(), loaded.save()), (made.truth.world(), made.truth.save()));
    assert_eq!(bits(&ask(&loaded, cells, &list).unwrap()), bits(&answers));
    let ((part, ids), mut few) =
        (subset(cells, &[39, 21, 3], &(0..100).collect::<Vec<_>>()), KnockoutList::new());
    (0..3).for_each(|c| few.push(c, &[]));
    let mut part_view = part.to_view();
    part_view.ids = ids.as_slice().into();
    let found = ask(&loaded, Cells::from_view(&part_view), &few).unwrap();
    assert_eq!(found, values.select(Axis(0), &[39, 21, 3]));
}

#[test]
fn perturbed_cells_are_measured_with_noise_as_others_are() {
    let parameters = json!({"cells": 10, "measured_genes": 2, "measured_cells": 30, "library_size": 2000});
    let counts = dense(&simulate(parameters, 2).cells);
    assert!(counts.iter().all(|v| v.fract() == 0.0));
    let mean = counts.slice_axis(Axis(0), (10..70).into()).sum() / 60.0;
    assert!((mean - 2000.0).abs() < 60.0, "{mean}");
}

#[test]
fn saved_perturbations_of_genes_that_are_not_there_are_refused() {
    let saved = Saved::from_bytes(&measured(1).truth.save().unwrap()).unwrap();
    let parameters = saved.get_text("parameters").unwrap().replace("\"measured\":\"", "\"measured\":\"100;");
    let error = Truth::load(&saved.text("parameters", parameters).to_bytes().unwrap()).err().unwrap();
    assert_eq!(error, Error::data("the saved perturbations do not fit the network"));
}

#[test]
fn parameters_that_do_not_fit_together_are_refused() {
    let error = |parameters: Value| match grn(parameters) {
        Err(Error::Parameters(message)) => message,
        _ => panic!("expected an error"),
    };
    assert_eq!(
        error(json!({"absent_genes": 5, "absence": 0.1})),
        "absent_genes: `absence` is given too; give one of them"
    );
    assert_eq!(
        error(json!({"genes": 15})),
        "regulators: expected at most the 15 genes, found 50 from the preset; \
         absent_genes: expected fewer than the 15 genes, found 20 from the preset"
    );
    assert_eq!(
        error(json!({"regulators": 3, "gamma": 3.0})),
        "gamma: only the topology \"scale-free\" has an exponent; \
         mean_degree: expected fewer than the 3 regulators, found 3 from the preset"
    );
    assert_eq!(error(json!({"topology": "edge-list"})), "topology: \"edge-list\" needs the file `edges`");
    assert_eq!(
        error(json!({"topology": "scale-free", "edges": "e.csv"})),
        "edges: a list is given, but the topology is \"scale-free\""
    );
    assert_eq!(
        error(json!({"genes": 30, "repressing": 0.2, "edges": "e.csv"})),
        "genes: the edge list says this, leave it out; repressing: the edge list says this, leave it out"
    );
    assert_eq!(
        error(json!({"weight_low": 3})),
        "weight_high: expected more than 0, at least weight_low = 3, found 2 from the preset"
    );
    assert_eq!(error(json!({"dispersion": 1})), "dispersion: only counts have one; give `library_size` too");
    assert_eq!(error(json!({"mean_degree": 1})), "mean_degree: expected at least 2 and at most 100, found 1");
    assert_eq!(error(json!({"cells": 0})), "cells: expected at least 1 and at most 10000000, found 0");
    assert_eq!(
        error(json!({"measured_genes": 60})),
        "measured_genes: expected at most the 50 regulators, found 60"
    );
    assert_eq!(
        error(json!({"measured_genes": 12, "measured_pairs": 67})),
        "measured_pairs: expected at most the 66 pairs of 12 measured genes, found 67"
    );
    assert_eq!(
        error(json!({"measured_pairs": 1})),
        "measured_pairs: expected at most the 0 pairs of 0 measured genes, found 1"
    );
    assert_eq!(
        error(json!({"measured_genes": 5, "measured_cells": 2_000_000})),
        "measured_cells: expected at most 10000000 cells in all, found 10000500"
    );
    assert_eq!(error(json!({"gene": 10})), "unknown parameter `gene`; did you mean `genes`?");
}

#[test]
#[ignore = "prints how long the simulation and all knockouts take; run by hand, in release"]
fn timing() {
    let start = std::time::Instant::now();
    let made = simulate(json!({}), 1);
    println!("simulate 500 cells: {:?}", start.elapsed());
    let view = made.cells.to_view();
    let cells = Cells::from_view(&view);
    let (mut singles, mut doubles) = (KnockoutList::new(), KnockoutList::new());
    for c in 0..cells.len() {
        let expressed = cells.assemblage(c);
        expressed.iter().for_each(|&gene| singles.push(c, &[gene]));
        for k in 0..100 {
            let (a, b) = (k * 7 % expressed.len(), (k * 13 + 5 + k / 7) % expressed.len());
            let b = if a == b { (b + 1) % expressed.len() } else { b };
            doubles.push(c, &[expressed[a], expressed[b]]);
        }
    }
    for (name, list) in [("single", &singles), ("double", &doubles)] {
        let start = std::time::Instant::now();
        ask(&made.truth, cells, list).unwrap();
        println!("{} {name} knockouts: {:?}", list.len(), start.elapsed());
    }
}
