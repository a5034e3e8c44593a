//! Genes as columns of numbers, with the depth of sequencing taken out.

use crate::counts::{Counts, ROUNDING, depth};
use lacuna_sdk::ndarray::{Array2, Axis};
use lacuna_sdk::prelude::*;

/// Pearson residuals of counts, shape (cells, genes): r = (c − μ) / √(μ + μ² / θ) with μ = L Σc / ΣL, clipped
/// at ±√n (Lause, Berens and Kobak 2021). 0 of a silent gene, and of a cell without counts.
pub fn pearson(counts: &Counts<'_>, theta: f64, cx: &Context) -> Result<Array2<f64>> {
    let n = counts.n_cells();
    let all: f64 = (0..n).map(|cell| counts.library(cell)).sum();
    let sum = |gene| counts.of_gene(gene).iter().map(|(_, count)| count).sum::<f64>();
    let rates: Vec<f64> = (0..counts.n_genes()).map(|gene| sum(gene) / all).collect();
    let most = (n as f64).sqrt();
    let mut residuals = Array2::zeros((n, rates.len()));
    for (cell, mut row) in residuals.rows_mut().into_iter().enumerate() {
        cx.check()?;
        counts.of_cell(cell).for_each(|(gene, count)| row[gene] = count);
        for (value, rate) in row.iter_mut().zip(&rates) {
            let mean = counts.library(cell) * rate;
            let z = (*value - mean) / (mean + mean * mean / theta).sqrt();
            *value = if z.is_finite() { z.clamp(-most, most) } else { 0.0 };
        }
    }
    Ok(residuals)
}

/// The depth of each cell: log(1 + library), without dominant genes.
pub fn depths(counts: &Counts<'_>) -> Vec<f64> {
    (0..counts.n_cells()).map(|cell| depth(counts.library(cell))).collect()
}

/// What is left of each column after a regression on 1 and, if given, on a covariate such as the depth. A
/// column of which only rounding is left becomes 0.
pub fn take_out(columns: &mut Array2<f64>, covariate: Option<&[f64]>) {
    let before: Vec<f64> = columns.axis_iter(Axis(1)).map(|column| column.dot(&column)).collect();
    centre(columns);
    if let Some(d) = covariate.and_then(centred) {
        let d = lacuna_sdk::ndarray::Array1::from(d);
        let slopes = d.dot(columns) / d.dot(&d);
        for (mut row, &d) in columns.rows_mut().into_iter().zip(&d) {
            row.scaled_add(-d, &slopes);
        }
    }
    for (mut column, before) in columns.axis_iter_mut(Axis(1)).zip(before) {
        if column.dot(&column) <= ROUNDING * before {
            column.fill(0.0);
        }
    }
}

/// Subtracts each column's mean.
pub fn centre(columns: &mut Array2<f64>) {
    if let Some(means) = columns.mean_axis(Axis(0)) {
        columns.rows_mut().into_iter().for_each(|mut row| row -= &means);
    }
}

/// Values less their mean; `None` if they do not vary.
fn centred(values: &[f64]) -> Option<Vec<f64>> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    (squares(&centred) > ROUNDING * squares(values)).then_some(centred)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::DOMINANT;
    use crate::fixtures::random_cells;
    use lacuna_sdk::testing;

    #[test]
    fn residuals_are_those_of_the_formula_and_free_of_depth() {
        let owned = random_cells(50, 8, 1);
        let view = owned.to_view();
        let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
        let found = pearson(&counts, 100.0, &testing::context(1)).unwrap();
        let all: f64 = (0..50).map(|c| counts.library(c)).sum();
        for (c, j) in (0..50).flat_map(|c| (1..8).map(move |j| (c, j))) {
            let count = counts.of_cell(c).find(|x| x.0 == j).map_or(0.0, |x| x.1);
            let sum: f64 = counts.of_gene(j).iter().map(|x| x.1).sum();
            let mean = counts.library(c) * sum / all;
            let expected =
                ((count - mean) / (mean + mean * mean / 100.0).sqrt()).clamp(-50f64.sqrt(), 50f64.sqrt());
            assert!((found[[c, j]] - expected).abs() < 1e-9);
        }
        let (mut left, d) = (found.clone(), depths(&counts));
        take_out(&mut left, Some(&d));
        for column in left.axis_iter(Axis(1)) {
            let with_depth: f64 = column.iter().zip(&d).map(|(x, d)| x * d).sum();
            assert!(column.sum().abs() < 1e-9 && with_depth.abs() < 1e-8);
        }
        assert!(found.column(0).iter().all(|&x| x == 0.0) && left.column(0).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn what_only_follows_the_covariate_is_nothing() {
        let mut columns = lacuna_sdk::ndarray::array![[1.0, 5.0, 2.0], [2.0, 5.0, 0.0], [3.0, 5.0, 1.0]];
        take_out(&mut columns, Some(&[0.1, 0.2, 0.3]));
        assert!(columns.column(0).iter().chain(columns.column(1)).all(|&x| x == 0.0), "{columns}");
        assert!(columns.column(2).iter().any(|&x| x != 0.0));
    }
}
