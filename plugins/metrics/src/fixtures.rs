//! What every metric of this plugin is held against: scores by scipy, and its own declaration.

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
