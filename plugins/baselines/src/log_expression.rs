//! Log expression of cells: log(1 + 10,000 p), p the shares of a cell's profile; 0 where a gene is silent.

use lacuna_sdk::prelude::*;

/// The genes that a cell expresses, and their values.
pub fn of_cell<'a>(cells: &'a Cells<'_>, cell: usize) -> impl Iterator<Item = (usize, f64)> + use<'a> {
    let genes = cells.assemblage(cell).iter().map(|&gene| gene as usize);
    genes.zip(cells.shares(cell).map(|share| (1e4 * f64::from(share)).ln_1p()))
}

/// The mean over all cells, shape (genes).
pub fn mean(cells: &Cells<'_>) -> Vec<f64> {
    let mut mean = vec![0.0; cells.n_genes()];
    for cell in 0..cells.len() {
        of_cell(cells, cell).for_each(|(gene, x)| mean[gene] += x);
    }
    mean.iter_mut().for_each(|sum| *sum /= cells.len() as f64);
    mean
}
