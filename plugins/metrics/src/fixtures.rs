//! What every metric of this plugin is held against: scores by scipy and other packages, and its own declaration.

use lacuna_sdk::ndarray::Array2;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::testing;
use serde_json::Value;

/// Made by `tests/fixtures/metrics/make.py`.
const ROWS: &str = include_str!("../../../tests/fixtures/metrics/rows.json");

/// The score of two profiles without a knockout, or with the knockout of no gene.
pub fn score<M: Metric>(metric: &M, before: &[f32], after: &[f32]) -> f64 {
    score_knockout(metric, before, after, &[])
}

fn score_knockout<M: Metric>(metric: &M, before: &[f32], after: &[f32], genes: &[u32]) -> f64 {
    let levels = vec![0.0; genes.len()];
    let mut row = testing::row(before, after);
    row.knockout = Some(Knockout { cell: Some(0), genes, levels: &levels });
    metric.row(&row).unwrap()
}

/// A profile with zeros and ties.
pub fn random_row(stream: &mut Stream, genes: usize) -> Vec<f32> {
    let counts: Vec<u32> = (0..genes).map(|_| stream.random_range(0..6u32).saturating_sub(1)).collect();
    let total = counts.iter().sum::<u32>().max(1) as f32;
    counts.into_iter().map(|c| c as f32 / total).collect()
}

/// A row of the fixtures: its values, or the formula (i · factor mod modulus) / modulus of a long one.
fn profile(value: &Value) -> Vec<f32> {
    if let Some(values) = value.as_array() {
        return values.iter().map(|v| v.as_f64().unwrap() as f32).collect();
    }
    let number = |name: &str| value[name].as_u64().unwrap();
    let (factor, modulus) = (number("factor"), number("modulus"));
    (0..number("n")).map(|i| (i * factor % modulus) as f32 / modulus as f32).collect()
}

/// Holds the metric against every row of the fixtures, to 1e-12 relative.
pub fn agrees_with_scipy<M: Metric>(metric: &M) {
    let fixtures: Value = serde_json::from_str(ROWS).unwrap();
    let rows = fixtures["rows"].as_array().unwrap();
    assert!(rows.len() > 50);
    for row in rows {
        let (before, after) = (profile(&row["before"]), profile(&row["after"]));
        let genes: Vec<u32> =
            row["knockout"].as_array().unwrap().iter().map(|g| g.as_u64().unwrap() as u32).collect();
        let found = score_knockout(metric, &before, &after, &genes);
        match row["scores"][M::ID].as_f64() {
            None => assert!(found.is_nan(), "{}: expected no value, found {found}", row["name"]),
            Some(expected) => {
                // Absolute where the exact score is 0.
                let near = (found - expected).abs() <= 1e-12 * expected.abs().max(1e-3);
                assert!(near, "{} of {}: expected {expected}, found {found}", M::ID, row["name"]);
            }
        }
    }
}

/// Symmetry, identity, range and the way of a NaN, as declared, on random profiles.
pub fn is_as_declared<M: Metric>(metric: &M) {
    let mut stream = testing::context(7).stream(0);
    for i in 0..500 {
        let genes = 1 + i % 40;
        let (before, after) = (random_row(&mut stream, genes), random_row(&mut stream, genes));
        let found = score(metric, &before, &after);
        let (low, high) = M::INFO.range;
        assert!(found.is_nan() || (low..=high).contains(&found), "{found} of {before:?}, {after:?}");
        if M::INFO.symmetric {
            assert_eq!(found.to_bits(), score(metric, &after, &before).to_bits());
        }
        let same = score(metric, &before, &before);
        if let Some(identity) = M::INFO.identity {
            assert!(same.is_nan() || (same - identity).abs() < 1e-12, "{same} of {before:?}");
        }
        let mut spoiled = after.clone();
        spoiled[i % genes] = f32::NAN;
        assert!(score(metric, &before, &spoiled).is_nan() && score(metric, &spoiled, &before).is_nan());
    }
}

/// Made by `tests/fixtures/metrics/make_panels.py`.
const PANELS: &str = include_str!("../../../tests/fixtures/metrics/panels.json");

/// The score of one perturbation without targets, with these z values.
pub fn score_panel<M: Metric>(metric: &M, measured: &[f32], predicted: &[f32], z: &[f32]) -> f64 {
    let genes = measured.len();
    let of = |values: &[f32]| matrix(values, genes);
    let panel = OwnedPanel {
        parts: [of(measured), of(predicted), of(z), Array2::zeros((1, genes))],
        targets: testing::population(&[&[]]),
    };
    panel.score(metric)[0]
}

fn matrix(values: &[f32], genes: usize) -> Array2<f32> {
    Array2::from_shape_vec((values.len() / genes, genes), values.to_vec()).unwrap()
}

struct OwnedPanel {
    /// Measured and predicted effects, z values, the controls' mean.
    parts: [Array2<f32>; 4],
    targets: KnockoutList,
}

impl OwnedPanel {
    fn score<M: Metric>(&self, metric: &M) -> Vec<f64> {
        let [measured, predicted, z, controls] = &self.parts;
        let mut comparison = testing::comparison(measured.view(), predicted.view());
        comparison.observed = Some(z.view());
        comparison.controls = Some(controls.view());
        comparison.panel = Some(self.targets.as_knockouts());
        let mut scores = vec![0.0; measured.nrows()];
        metric.score(&comparison, &mut scores, &testing::context(1)).unwrap();
        scores
    }

    fn read(value: &Value) -> Self {
        let numbers = |value: &Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(|v| v.as_f64().map_or(f32::NAN, |v| v as f32)).collect()
        };
        let genes = numbers(&value["controls"]).len();
        let part = |name: &str| {
            let rows = value[name].as_array().unwrap().iter().flat_map(numbers).collect::<Vec<_>>();
            matrix(&rows, genes)
        };
        let targets: Vec<Vec<u32>> = value["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|list| numbers(list).into_iter().map(|gene| gene as u32).collect())
            .collect();
        let controls = matrix(&numbers(&value["controls"]), genes);
        Self {
            parts: [part("measured"), part("predicted"), part("z"), controls],
            targets: testing::population(&targets.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        }
    }

    /// Effects and z values that go along, of 5 perturbations on 90 genes.
    fn random(seed: u64) -> Self {
        let mut stream = testing::context(seed).stream(0);
        let mut draw = |rows| Array2::from_shape_simple_fn((rows, 90), || stream.random_range(-1.0..1.0f32));
        let (mut measured, noise, controls) = (draw(5), draw(5), draw(1));
        let mut predicted = &measured * 0.5 + &noise * 0.5;
        let z = &measured * 6.0;
        for i in 0..5 {
            (measured[[i, i]], predicted[[i, i]]) = (0.0, 0.0);
        }
        let targets: Vec<[u32; 1]> = (0..5).map(|gene| [gene]).collect();
        let targets = testing::population(&targets.iter().map(|gene| &gene[..]).collect::<Vec<_>>());
        Self { parts: [measured, predicted, z, controls], targets }
    }
}

/// Holds a metric of panels against every panel of the fixtures, to 1e-6.
pub fn agrees_with_packages<M: Metric>(metric: &M) {
    let fixtures: Value = serde_json::from_str(PANELS).unwrap();
    let panels = fixtures["panels"].as_array().unwrap();
    let mut compared = 0;
    for panel in panels {
        let found = OwnedPanel::read(panel).score(metric);
        for (i, (found, expected)) in found.iter().zip(panel["scores"][M::ID].as_array().unwrap()).enumerate()
        {
            let what = format!("{} of perturbation {i} of {}", M::ID, panel["name"]);
            match expected.as_f64() {
                None => assert!(found.is_nan(), "{what}: expected no value, found {found}"),
                Some(expected) => {
                    compared += 1;
                    let near = (found - expected).abs() <= 1e-6 * expected.abs().max(1.0);
                    assert!(near, "{what}: expected {expected}, found {found}");
                }
            }
        }
    }
    assert!(compared > 10, "{} has {compared} scores only", M::ID);
}

/// `pearson` of each perturbation of a panel over the genes that no perturbation removes, and the fixtures' pearson-delta.
pub fn plain_correlations(name: &str) -> Vec<(f64, f64)> {
    let fixtures: Value = serde_json::from_str(PANELS).unwrap();
    let value = fixtures["panels"].as_array().unwrap().iter().find(|panel| panel["name"] == name).unwrap();
    let panel = OwnedPanel::read(value);
    let targets: Vec<u32> = panel.targets.as_knockouts().iter().flat_map(|p| p.genes.to_vec()).collect();
    let expected = value["scores"]["pearson-delta"].as_array().unwrap();
    let one = |(i, expected): (usize, &Value)| {
        let row = |part: &Array2<f32>| -> Vec<f32> {
            let kept = (0..part.ncols()).filter(|&gene| !targets.contains(&(gene as u32)));
            kept.map(|gene| part[[i, gene]]).collect()
        };
        let found = crate::pearson::pearson(&row(&panel.parts[0]), &row(&panel.parts[1]));
        (found, expected.as_f64().unwrap())
    };
    expected.iter().enumerate().map(one).collect()
}

/// Range, identity, scale, and the way of a NaN, as declared, on random panels.
pub fn is_declared_panel<M: Metric>(metric: &M) {
    for seed in 0..20 {
        let panel = OwnedPanel::random(seed);
        let scores = panel.score(metric);
        let (low, high) = M::INFO.range;
        assert!(scores.iter().all(|score| (low..=high).contains(score)), "{}: {scores:?}", M::ID);
        let with = |predicted: Array2<f32>| OwnedPanel {
            parts: [panel.parts[0].clone(), predicted, panel.parts[2].clone(), panel.parts[3].clone()],
            targets: panel.targets.clone(),
        };
        if let Some(identity) = M::INFO.identity {
            let same = with(panel.parts[0].clone()).score(metric);
            assert!(same.iter().all(|s| (s - identity).abs() < 1e-9), "{}: {same:?}", M::ID);
        }
        let scaled = with(&panel.parts[1] * 4.0).score(metric);
        let differs = scores.iter().zip(&scaled).any(|(a, b)| (a - b).abs() > 1e-9);
        assert!(!differs || !M::INFO.scale_free, "{}: {scores:?} {scaled:?}", M::ID);
        let mut spoiled = panel.parts[1].clone();
        spoiled[[2, 70]] = f32::NAN;
        assert!(with(spoiled).score(metric)[2].is_nan(), "{}", M::ID);
    }
}

/// Made by `tests/fixtures/metrics/make_populations.py`.
const POPULATIONS: &str = include_str!("../../../tests/fixtures/metrics/populations.json");

fn score_population<M: Metric>(metric: &M, measured: &Array2<f32>, predicted: &Array2<f32>) -> f64 {
    let mut scores = [0.0];
    let comparison = testing::comparison(measured.view(), predicted.view());
    metric.score(&comparison, &mut scores, &testing::context(1)).unwrap();
    scores[0]
}

/// Holds a metric of populations against every pair of the fixtures, to 1e-9.
pub fn agrees_with_pertpy<M: Metric>(metric: &M, name: &str) {
    let fixtures: Value = serde_json::from_str(POPULATIONS).unwrap();
    let pairs = fixtures["pairs"].as_array().unwrap();
    assert!(pairs.len() > 5);
    for pair in pairs {
        let genes = pair["genes"].as_u64().unwrap() as usize;
        let cells = |part: &str| matrix(&profile(&pair[part]), genes);
        let found = score_population(metric, &cells("measured"), &cells("predicted"));
        let expected = pair["scores"][name].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-9, "{name} of {}: {found} {expected}", pair["name"]);
    }
}

/// Range, identity, symmetry, and the way of a NaN, as declared, on random populations; no value without cells.
pub fn is_declared_population<M: Metric>(metric: &M) {
    let mut stream = testing::context(9).stream(0);
    for i in 0..40 {
        let genes = 1 + i % 12;
        let mut cells =
            |n: usize| Array2::from_shape_simple_fn((n, genes), || stream.random_range(0.0..3.0f32));
        let (measured, predicted) = (cells(2 + i % 7), cells(1 + i % 5));
        let found = score_population(metric, &measured, &predicted);
        let (low, high) = M::INFO.range;
        assert!((low..=high).contains(&found) && found > 0.0, "{found}");
        if M::INFO.symmetric {
            assert!((found - score_population(metric, &predicted, &measured)).abs() < 1e-12);
        }
        assert!(score_population(metric, &measured, &measured).abs() < 1e-12);
        let mut spoiled = predicted.clone();
        spoiled[[0, i % genes]] = f32::NAN;
        assert!(score_population(metric, &measured, &spoiled).is_nan());
        assert!(score_population(metric, &measured, &Array2::zeros((0, genes))).is_nan());
    }
}
