//! Log expression of cells: log(1 + 10,000 p), p the shares of a cell's profile; 0 where a gene is silent.

use lacuna_sdk::prelude::*;

/// Genes above this share of all counts dominate the library.
const DOMINANT: f64 = 0.2;

/// The log expression of cells.
pub struct LogExpression<'a, 'c> {
    cells: &'c Cells<'a>,
    /// The genes that are not looked at, and not in the library.
    left_out: Vec<bool>,
}

impl<'a, 'c> LogExpression<'a, 'c> {
    /// Of all genes.
    pub fn of(cells: &'c Cells<'a>) -> Self {
        Self { cells, left_out: vec![false; cells.n_genes()] }
    }

    /// Of the genes that do not dominate the library, in a library without those that do.
    pub fn without_dominant(cells: &'c Cells<'a>) -> Self {
        let mut counts = vec![0.0; cells.n_genes()];
        for cell in 0..cells.len() {
            let genes = cells.assemblage(cell).iter().zip(cells.values(cell));
            genes.for_each(|(&gene, &value)| counts[gene as usize] += f64::from(value));
        }
        let all: f64 = counts.iter().sum();
        Self { cells, left_out: counts.iter().map(|count| *count > DOMINANT * all).collect() }
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.cells.len()
    }

    /// The genes that a cell expresses, and their values.
    pub fn of_cell(&self, cell: usize) -> impl Iterator<Item = (usize, f64)> {
        let genes = self.cells.assemblage(cell).iter().map(|&gene| gene as usize);
        let values = genes.zip(self.cells.values(cell)).filter(|(gene, _)| !self.left_out[*gene]);
        let library: f64 = values.clone().map(|(_, &value)| f64::from(value)).sum();
        values.map(move |(gene, &value)| (gene, (1e4 * f64::from(value) / library).ln_1p()))
    }

    /// The mean over all cells, shape (genes).
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.left_out.len()];
        for cell in 0..self.n_cells() {
            self.of_cell(cell).for_each(|(gene, x)| mean[gene] += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= self.n_cells() as f64);
        mean
    }
}
