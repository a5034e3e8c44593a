//! What the cells are like that a model was trained on, to tell which others are unlike them.

use crate::data::{CellSet, Cells, Csr};
use crate::steps::screen::quantile;
use anyhow::Result;
use serde_json::{Value as Json, json};

/// How often training cells express each gene, how many genes they express, and how usual these are.
///
/// A cell that expresses many genes expresses rarer ones too. So a cell's genes are compared with as many genes of a cell in
/// which all odds, the ln(p / (1 − p)) of each gene, are higher or lower by the same, and genes independent. The excess is how
/// many standard deviations the sum of the odds of its genes is below what is expected of so many.
pub struct Familiar {
    /// The share of the training cells that express each gene, from (n + ½) / (cells + 1).
    presence: Vec<f32>,
    /// How many training cells there were.
    cells: usize,
    /// How many genes all but the deepest and the shallowest training cells express.
    genes: (f64, f64),
    /// The excess that few training cells pass.
    excess: f64,
    expected: Expected,
}

/// The share of the training cells that is taken for unlike them: half of it by their excess, a quarter at each end by their
/// number of genes.
const TAIL: f64 = 0.01;
/// A larger share of other cells is many.
const MANY: f64 = 0.05;

impl Familiar {
    /// What these cells are like.
    pub fn of(cells: &Cells) -> Self {
        let mut count = vec![0f64; cells.n_genes()];
        cells.x.indices.iter().for_each(|&gene| count[gene as usize] += 1.0);
        let sorted = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values
        };
        let excesses = sorted(excesses_among(&cells.x, &count));
        let numbers = sorted((0..cells.len()).map(|i| cells.x.range(i).len() as f64).collect());
        let genes = (quantile(&numbers, TAIL / 4.0), quantile(&numbers, 1.0 - TAIL / 4.0));
        let presence = presence(&count, cells.len());
        let (excess, expected) = (quantile(&excesses, 1.0 - TAIL / 2.0), Expected::of(&presence));
        Self { presence, cells: cells.len(), genes, excess, expected }
    }

    /// As it stands in a file.
    pub fn to_json(&self) -> Json {
        json!({
            "presence": self.presence, "cells": self.cells, "genes": [self.genes.0, self.genes.1], "excess": self.excess,
        })
    }

    /// From a file; none where it does not say it.
    pub fn from_json(json: &Json) -> Option<Self> {
        let presence = json["presence"].as_array()?.iter().map(|p| p.as_f64().map(|p| p as f32));
        let presence: Vec<f32> = presence.collect::<Option<_>>()?;
        let genes = (json["genes"][0].as_f64()?, json["genes"][1].as_f64()?);
        let (cells, expected) = (json["cells"].as_u64()? as usize, Expected::of(&presence));
        Some(Self { presence, cells, genes, excess: json["excess"].as_f64()?, expected })
    }

    /// The share of the training cells that express each gene.
    pub fn presence(&self) -> &[f32] {
        &self.presence
    }

    /// The share of unlike cells above which there are many. Three ends of what n training cells have in common are taken from
    /// their outermost cells when they are few: beyond these are, in 95 of 100 samples, less than 6.3 / (n + 1) of all cells
    /// of their kind (Beta(3, n − 2)).
    pub fn limit(&self) -> f64 {
        MANY.max(6.3 / (self.cells as f64 + 1.0))
    }

    /// The share of cells that are unlike the training cells, of which 1 % are. The cells have the model's genes.
    ///
    /// # Errors
    /// When the cells can't be read.
    pub fn unlike(&self, cells: &CellSet) -> Result<f64> {
        let mut unlike = 0;
        cells.each_matrix(&mut |_, x| {
            unlike += (0..x.n_rows()).filter(|&i| self.is_unlike(x.row(i).0)).count();
            Ok(())
        })?;
        Ok(unlike as f64 / cells.len().max(1) as f64)
    }

    fn is_unlike(&self, row: &[u32]) -> bool {
        let (number, (fewest, most)) = (row.len() as f64, self.genes);
        number < fewest || number > most || self.expected.excess(row) > self.excess
    }
}

/// Cells are judged by the others in so many parts.
const FOLDS: usize = 10;

/// The excess of each cell by what the other parts of the cells express: of few cells each would seem more usual than a cell
/// that is not among them. `count` is how many cells express each gene.
fn excesses_among(x: &Csr, count: &[f64]) -> Vec<f64> {
    let of_fold = |fold: usize| {
        let rows: Vec<&[u32]> = (fold..x.n_rows()).step_by(FOLDS).map(|i| x.row(i).0).collect();
        let mut others = count.to_vec();
        rows.iter().copied().flatten().for_each(|&gene| others[gene as usize] -= 1.0);
        let expected = Expected::of(&presence(&others, x.n_rows() - rows.len()));
        rows.into_iter().map(|row| expected.excess(row)).collect::<Vec<f64>>()
    };
    (0..FOLDS.min(x.n_rows())).flat_map(of_fold).collect()
}

/// The share of cells that express each gene, from how many do.
fn presence(count: &[f64], cells: usize) -> Vec<f32> {
    count.iter().map(|n| ((n + 0.5) / (cells as f64 + 1.0)) as f32).collect()
}

/// How usual genes are expected to be, by how many they are.
struct Expected {
    /// Of each gene.
    odds: Vec<f64>,
    /// With all odds higher by more and more: the number of genes, the sum of their odds, and its standard deviation
    /// among cells with that number.
    at: Vec<[f64; 3]>,
}

/// The odds are changed by up to this, in so many steps either way.
const FARTHEST: f64 = 12.0;
const STEPS: i32 = 192;
/// No share is taken for nearer to 0 or 1.
const NEAREST: f64 = 1e-7;

impl Expected {
    fn of(presence: &[f32]) -> Self {
        let odds = |&p: &f32| {
            let p = f64::from(p).clamp(NEAREST, 1.0 - NEAREST);
            (p / (1.0 - p)).ln()
        };
        let odds: Vec<f64> = presence.iter().map(odds).collect();
        let step = FARTHEST / f64::from(STEPS);
        let at = (-STEPS..=STEPS).map(|i| moments(&odds, step * f64::from(i))).collect();
        Self { odds, at }
    }

    /// The excess of a cell that expresses these genes.
    fn excess(&self, row: &[u32]) -> f64 {
        let (number, sum) = (row.len() as f64, row.iter().map(|&gene| self.odds[gene as usize]).sum::<f64>());
        let above = self.at.partition_point(|at| at[0] < number).clamp(1, self.at.len() - 1);
        let (low, high) = (self.at[above - 1], self.at[above]);
        let share = ((number - low[0]) / (high[0] - low[0]).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let between = |i: usize| low[i] + share * (high[i] - low[i]);
        (between(1) - sum) / between(2).max(NEAREST)
    }
}

/// The number of genes, the sum of their odds, and its standard deviation among cells with that number, when all odds are
/// higher by this.
fn moments(odds: &[f64], by: f64) -> [f64; 3] {
    let (mut number, mut sum, mut spread) = (0.0, 0.0, [0.0; 3]);
    for a in odds {
        let p = 1.0 / (1.0 + (-(a + by)).exp());
        let v = p * (1.0 - p);
        number += p;
        sum += p * a;
        spread[0] += v;
        spread[1] += v * a;
        spread[2] += v * a * a;
    }
    let variance = spread[2] - spread[1] * spread[1] / spread[0].max(f64::MIN_POSITIVE);
    [number, sum, variance.max(0.0).sqrt()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Frame;
    use crate::run::seeded_stream;
    use rand::RngExt;
    use std::sync::Arc;

    fn cells(presence: [f64; 2], seed: u64) -> CellSet {
        let (mut stream, mut x) = (seeded_stream(seed, 0), Csr::empty(60));
        for _ in 0..400 {
            let value = |g: u32| f32::from(u8::from(stream.random_bool(presence[g as usize % 2])));
            x.push_row((0..60u32).map(|g| (g, 0.0)).map(|(g, _)| g).zip((0..60).map(value)));
        }
        let names = |n: usize, of: &str| Frame::of_names((0..n).map(|i| format!("{of}{i}")).collect());
        CellSet::Held(Arc::new(Cells::new(x, names(400, "c"), names(60, "g"))))
    }

    #[test]
    fn cells_of_another_kind_are_unlike_and_of_the_same_kind_are_not() {
        let train = cells([0.8, 0.1], 1).load().unwrap();
        let familiar = Familiar::of(&train);
        let again = Familiar::from_json(&familiar.to_json()).unwrap();
        assert_eq!(again.presence, familiar.presence);
        assert!(again.unlike(&cells([0.8, 0.1], 2)).unwrap() < 0.04);
        assert!(again.unlike(&cells([0.1, 0.8], 3)).unwrap() > 0.99);
        assert!(again.unlike(&cells([0.3, 0.02], 4)).unwrap() > 0.5, "shallower cells");
        // Fewer genes, of which few surprise, and as many of other kinds: by the mean surprise alone they would make up for it.
        assert!(again.unlike(&cells([0.5, 0.25], 5)).unwrap() > 0.8);
        assert!(Familiar::from_json(&Json::Null).is_none());
    }

    #[test]
    fn few_training_cells_do_not_make_others_of_their_kind_unlike() {
        let fresh = cells([0.8, 0.1], 2);
        let over = |seed: u64| {
            let few = cells([0.8, 0.1], seed).load().unwrap().select_cells(&(0..50).collect::<Vec<_>>());
            let familiar = Familiar::of(&few);
            familiar.unlike(&fresh).unwrap() - familiar.limit()
        };
        let over: Vec<f64> = (10..50).map(over).collect();
        let (mean, many) = (over.iter().sum::<f64>() / 40.0, over.iter().filter(|o| **o > 0.0).count());
        assert!(mean < -0.04 && many <= 8, "{mean} {many}");
    }

    /// The expected odds, and their spread, against cells that are drawn.
    #[test]
    fn what_is_expected_of_so_many_genes_is_the_mean_of_cells_with_so_many() {
        let odds: Vec<f64> = (0..200).map(|g| f64::from(g % 7) - 4.0).collect();
        let presence: Vec<f32> = odds.iter().map(|a| (1.0 / (1.0 + (-a).exp())) as f32).collect();
        let expected = Expected::of(&presence);
        let (mut stream, mut of) = (seeded_stream(9, 0), std::collections::BTreeMap::new());
        for _ in 0..20_000 {
            let row: Vec<u32> =
                (0..200).filter(|&g| stream.random_bool(presence[g as usize].into())).collect();
            let excess = expected.excess(&row);
            of.entry(row.len()).or_insert_with(Vec::new).push(excess);
        }
        for (number, excesses) in of.into_iter().filter(|(_, e)| e.len() > 1000) {
            let n = excesses.len() as f64;
            let mean = excesses.iter().sum::<f64>() / n;
            let sd = (excesses.iter().map(|e| (e - mean) * (e - mean)).sum::<f64>() / n).sqrt();
            assert!(mean.abs() < 0.1 && (sd - 1.0).abs() < 0.1, "{number}: {mean} {sd}");
        }
    }
}
