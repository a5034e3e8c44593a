//! Differential expression of measured perturbations: what the cells themselves say, before any model is asked.
//!
//! For each perturbation and gene the two-sided Wilcoxon rank-sum test of log1p(10⁴ c / library) between its cells and the
//! controls, c counts and library a cell's total over all genes; corrected for ties (Lehmann 1975), without a correction for
//! continuity, as scanpy and scipy do it; Benjamini & Hochberg 1995 over all genes of a perturbation.
//!
//! What is ranked are numbers of 32 bits, scaled and logged in scanpy's order: of a gene that most cells express rounding ties
//! some shares and parts others, which moves z by up to 5e-4. The logarithm is the nearest such number; numpy's is the next
//! one for one in twenty-five. Means are of numbers of 64 bits.

use super::ranks::Ranks;
use crate::data::Cells;
use crate::plugin::Services;
use crate::run::Cancelled;
use crate::statistics::adjusted;
use crate::steps::screen::write_parquet;
use anyhow::{Result, bail};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Added to mean shares before their ratio is taken.
const SHARE: f64 = 1e-6;

/// Genes change below this false discovery rate.
pub const RATE: f64 = 0.05;

/// The genes that change in each perturbation, by its label.
pub type Changed = BTreeMap<String, Vec<String>>;

/// A gene in a perturbation's cells, beside the controls.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Test {
    control: Side,
    perturbed: Side,
    /// Of the rank sum of the perturbed cells; above 0 where the gene is higher in them.
    z: f64,
    p: f64,
}

/// A gene in some cells.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Side {
    /// Mean of log1p(10⁴ share).
    mean_log: f64,
    /// Mean share of the library.
    mean_share: f64,
    /// Share of the cells that express it.
    expressed: f64,
}

/// Writes the table of all perturbations of at least so many cells, none where nothing can be tested; and says which genes
/// change in each, by the perturbations' labels.
pub fn write(cells: &Cells, min_cells: usize, host: &Services, path: &Path) -> Result<Changed> {
    let shares = by_gene(cells, &cells.library);
    let controls = Members::new(&cells.controls(), cells.len());
    let weights = vec![1; cells.len()];
    let perturbations = cells.measured.iter().flat_map(|m| m.cells_by_perturbation());
    let (mut tables, mut changed) = (vec![], Changed::new());
    for (perturbation, rows) in perturbations.filter(|(_, rows)| rows.len() >= min_cells) {
        if host.cancelled() {
            return Err(Cancelled.into());
        }
        let members = Members::new(&rows, cells.len());
        let tests: Vec<Test> =
            shares.par_iter().map(|gene| test(gene, (&controls, &members), &weights)).collect();
        let p = adjusted(&tests.iter().map(|test| test.p).collect::<Vec<_>>());
        let names = cells.var.names.iter().zip(p).filter(|(_, p)| *p < RATE).map(|(name, _)| name.clone());
        changed.insert(perturbation.label.clone(), names.collect());
        tables.push(table(&perturbation.label, &cells.var.names, &tests, (controls.n, members.n))?);
    }
    if !tables.is_empty() {
        write_parquet(path, &tables)?;
    }
    Ok(changed)
}

/// A gene in a cell that expresses it.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    /// The cell.
    pub cell: u32,
    /// Of the cell's library.
    share: f64,
    /// What is ranked: log1p(10⁴ share), as scanpy rounds it.
    pub rank_by: f64,
}

/// Each gene's values, as shares of these libraries.
pub fn by_gene(cells: &Cells, library: &[f64]) -> Vec<Vec<Value>> {
    let mut genes = vec![vec![]; cells.n_genes()];
    for (cell, &library) in library.iter().enumerate() {
        let (columns, values) = cells.x.row(cell);
        let scale = (library / 1e4) as f32;
        for (&gene, &value) in columns.iter().zip(values).filter(|(_, value)| **value > 0.0) {
            let share = f64::from(value) / library;
            genes[gene as usize].push(Value {
                cell: cell as u32,
                share,
                rank_by: f64::from(libm::log1p(f64::from(value / scale)) as f32),
            });
        }
    }
    genes
}

/// Which of all cells are meant.
struct Members {
    is: Vec<bool>,
    n: usize,
}

impl Members {
    fn new(rows: &[usize], cells: usize) -> Self {
        let mut is = vec![false; cells];
        rows.iter().for_each(|&row| is[row] = true);
        Self { is, n: rows.len() }
    }

    /// A gene's values in these cells.
    fn of(&self, gene: &[Value]) -> Vec<Value> {
        gene.iter().filter(|value| self.is[value.cell as usize]).copied().collect()
    }
}

fn test(gene: &[Value], (controls, perturbed): (&Members, &Members), weights: &[u32]) -> Test {
    let (before, after) = (controls.of(gene), perturbed.of(gene));
    let listed = |values: &[Value]| values.iter().map(|value| (value.cell, value.rank_by)).collect();
    let ranks = Ranks::new(listed(&before), vec![listed(&after)]);
    let z = ranks.z(weights, (controls.n as f64, &[perturbed.n as f64]))[0];
    Test {
        control: Side::of(&before, controls.n),
        perturbed: Side::of(&after, perturbed.n),
        z,
        p: libm::erfc(z.abs() * std::f64::consts::FRAC_1_SQRT_2),
    }
}

impl Side {
    fn of(values: &[Value], cells: usize) -> Self {
        let mean = |sum: f64| sum / cells as f64;
        Self {
            mean_log: mean(values.iter().map(|value| (1e4 * value.share).ln_1p()).sum()),
            mean_share: mean(values.iter().map(|value| value.share).sum()),
            expressed: mean(values.len() as f64),
        }
    }
}

fn table(
    label: &str,
    genes: &[String],
    tests: &[Test],
    (controls, cells): (usize, usize),
) -> Result<RecordBatch> {
    if genes.len() != tests.len() {
        bail!("{} genes, but {} tests", genes.len(), tests.len());
    }
    let number = |of: &dyn Fn(&Test) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(tests.iter().map(of)))
    };
    let ratio = |t: &Test| ((t.perturbed.mean_share + SHARE) / (t.control.mean_share + SHARE)).log2();
    let count = |n: usize| -> ArrayRef { Arc::new(UInt64Array::from_value(n as u64, tests.len())) };
    let adjusted = adjusted(&tests.iter().map(|t| t.p).collect::<Vec<_>>());
    let columns: [(&str, ArrayRef); 14] = [
        ("perturbation", Arc::new(StringArray::from_iter_values(tests.iter().map(|_| label)))),
        ("gene", Arc::new(StringArray::from_iter_values(genes))),
        ("control_cells", count(controls)),
        ("cells", count(cells)),
        ("mean_log_control", number(&|t| t.control.mean_log)),
        ("mean_log", number(&|t| t.perturbed.mean_log)),
        ("delta", number(&|t| t.perturbed.mean_log - t.control.mean_log)),
        ("log2fc", number(&ratio)),
        ("mean_share_control", number(&|t| t.control.mean_share)),
        ("mean_share", number(&|t| t.perturbed.mean_share)),
        ("expressed_control", number(&|t| t.control.expressed)),
        ("expressed", number(&|t| t.perturbed.expressed)),
        ("z", number(&|t| t.z)),
        ("p", number(&|t| t.p)),
    ];
    let last: [(&str, ArrayRef); 1] = [("p_adjusted", Arc::new(Float64Array::from(adjusted)))];
    Ok(RecordBatch::try_from_iter(columns.into_iter().chain(last))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn adjusted_p_values_are_the_least_rates_at_which_each_is_found(
            p in prop::collection::vec(0.0f64..1.0, 0..30)
        ) {
            for (x, found) in p.iter().zip(adjusted(&p)) {
                let rate = |y: f64| y * p.len() as f64 / p.iter().filter(|&&z| z <= y).count() as f64;
                let least = p.iter().filter(|&&y| y >= *x).map(|&y| rate(y)).fold(1.0, f64::min);
                prop_assert!((found - least).abs() < 1e-12);
            }
        }
    }
}
