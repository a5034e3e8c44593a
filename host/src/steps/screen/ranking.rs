//! Knockouts ranked by their mean impact over the cells.

use super::ImpactTable;
use crate::data::{Frame, Knockouts};
use anyhow::Result;
use std::collections::HashMap;

/// A knockout, whatever the cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Its name.
    pub label: String,
    /// Its genes.
    pub genes: Vec<u32>,
    /// Their levels.
    pub levels: Vec<f32>,
    /// The mean impact; its negative where the lowest are the strongest.
    pub strength: f64,
}

/// What tells knockouts apart: genes, and the bits of their levels.
pub type Identity = (Vec<u32>, Vec<u32>);

/// The identity of knockout `i`.
pub fn identity(knockouts: &Knockouts, i: usize) -> Identity {
    (knockouts.genes(i).to_vec(), knockouts.levels(i).iter().map(|level| level.to_bits()).collect())
}

impl Ranked {
    /// What tells it from others.
    pub fn identity(&self) -> Identity {
        (self.genes.clone(), self.levels.iter().map(|level| level.to_bits()).collect())
    }
}

/// Impacts of one column, added up knockout by knockout in the order of rows.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    rows: u64,
    values: u32,
    sum: f64,
}

/// The sums of all knockouts.
#[derive(Clone)]
pub struct Tally {
    column: usize,
    lowest_first: bool,
    /// Of single knockouts, by gene.
    singles: Vec<Sum>,
    others: HashMap<Identity, Sum>,
}

impl Tally {
    /// Of a column, over so many genes.
    pub fn new(column: usize, lowest_first: bool, genes: usize) -> Self {
        Self { column, lowest_first, singles: vec![Sum::default(); genes], others: HashMap::new() }
    }

    /// Adds the next rows.
    pub fn add(&mut self, part: &ImpactTable) {
        for (i, &value) in part.values[self.column].iter().enumerate() {
            let sum = match part.knockouts.single(i) {
                Some(gene) => &mut self.singles[gene as usize],
                None => self.others.entry(identity(&part.knockouts, i)).or_default(),
            };
            sum.rows += 1;
            if !value.is_nan() {
                sum.values += 1;
                sum.sum += f64::from(value);
            }
        }
    }

    /// All sums as numbers, from which [`restored`](Self::restored) makes them again; those of several genes by these.
    pub fn numbers(&self) -> Vec<u64> {
        let of = |sum: &Sum| [sum.rows, u64::from(sum.values), sum.sum.to_bits()];
        let mut out: Vec<u64> = self.singles.iter().flat_map(of).collect();
        let mut others: Vec<(&Identity, &Sum)> = self.others.iter().collect();
        others.sort_unstable_by_key(|(identity, _)| *identity);
        out.push(others.len() as u64);
        for ((genes, levels), sum) in others {
            out.push(genes.len() as u64);
            out.extend(genes.iter().chain(levels).map(|&n| u64::from(n)));
            out.extend(of(sum));
        }
        out
    }

    /// The sums that these numbers are of.
    pub fn restored(mut self, next: &mut dyn FnMut() -> Result<u64>) -> Result<Self> {
        fn sum(next: &mut dyn FnMut() -> Result<u64>) -> Result<Sum> {
            Ok(Sum { rows: next()?, values: next()? as u32, sum: f64::from_bits(next()?) })
        }
        for single in &mut self.singles {
            *single = sum(next)?;
        }
        for _ in 0..next()? {
            let n = next()?;
            let mut list = || (0..n).map(|_| next().map(|n| n as u32)).collect::<Result<Vec<u32>>>();
            let identity = (list()?, list()?);
            self.others.insert(identity, sum(next)?);
        }
        Ok(self)
    }

    /// In how many rows each gene is knocked out alone.
    pub fn rows_of_singles(&self) -> Vec<u64> {
        self.singles.iter().map(|sum| sum.rows).collect()
    }

    /// All knockouts, the strongest first; ties by name.
    pub fn ranked(self, var: &Frame) -> Vec<Ranked> {
        let sign = if self.lowest_first { -1.0 } else { 1.0 };
        let strength = |sum: Sum| match sum.values {
            0 => f64::NEG_INFINITY,
            n => sign * sum.sum / f64::from(n),
        };
        let ranked = |(genes, bits): Identity, sum: Sum| {
            let levels: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let mut one = Knockouts::default();
            one.push_population(&genes, &levels);
            Ranked { label: one.label(0, &var.names), genes, levels, strength: strength(sum) }
        };
        let singles = self.singles.into_iter().enumerate().filter(|(_, sum)| sum.rows > 0);
        let singles = singles.map(|(gene, sum)| ((vec![gene as u32], vec![0]), sum));
        let mut all: Vec<Ranked> = singles.chain(self.others).map(|(of, sum)| ranked(of, sum)).collect();
        all.sort_by(|a, b| b.strength.total_cmp(&a.strength).then_with(|| a.label.cmp(&b.label)));
        all
    }
}
