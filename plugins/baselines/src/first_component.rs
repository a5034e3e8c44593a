//! `first-component`

use crate::log_expression::LogExpression;
use crate::outer::{EFFECTS, Outer};
use lacuna_sdk::prelude::*;

/// The first principal component of log(1 + 10,000 p) over the training cells, signed and scaled by the target's own
/// loading: the score of gene j for the loss of gene g is −v_g v_j, v the component's loadings, of length 1. What most
/// sets the cells apart, mostly depth and type, is taken for what every loss changes: a model has to tell more. Genes that
/// are more than a fifth of all counts are left out, and score 0.
///
/// By power iteration from the genes' variances on, until the loadings move by less than 1e-7 (at most 1,000 times).
pub struct FirstComponent;

const TOLERANCE: f64 = 1e-7;
const MOST_ITERATIONS: usize = 1000;

impl Component for FirstComponent {
    const ID: &'static str = "first-component";
    const DOC: &'static str = "Scores each gene by its loading on the first principal component times that of the lost one, negated";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for FirstComponent {
    type Fitted = Outer;
    const INFO: ModelInfo = ModelInfo { source: "first principal component of log CP10k", ..EFFECTS };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Outer> {
        let cells = &training.cells;
        let loadings: Vec<f32> =
            loadings(&LogExpression::without_dominant(cells), cx)?.into_iter().map(|v| v as f32).collect();
        Outer::new(cells, loadings.iter().map(|v| -v).collect(), loadings)
    }
}

/// The loadings of length 1; 0 where no gene varies.
fn loadings(cells: &LogExpression<'_, '_>, cx: &Context) -> Result<Vec<f64>> {
    let mean = cells.mean();
    let mut axis = variances(cells, &mean);
    normalise(&mut axis);
    for _ in 0..MOST_ITERATIONS {
        cx.check()?;
        let mut next = times_covariance(cells, &mean, &axis);
        normalise(&mut next);
        let moved = axis.iter().zip(&next).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        axis = next;
        if moved < TOLERANCE {
            break;
        }
    }
    Ok(axis)
}

fn variances(cells: &LogExpression<'_, '_>, mean: &[f64]) -> Vec<f64> {
    let mut squares = vec![0.0; mean.len()];
    for cell in 0..cells.n_cells() {
        cells.of_cell(cell).for_each(|(gene, x)| squares[gene] += x * x);
    }
    let variance = |(sum, mean): (f64, &f64)| (sum / cells.n_cells() as f64 - mean * mean).max(0.0);
    squares.into_iter().zip(mean).map(variance).collect()
}

/// (X − mean)ᵀ (X − mean) v, X the cells' log expression, of which only what is above 0 is looked at.
fn times_covariance(cells: &LogExpression<'_, '_>, mean: &[f64], axis: &[f64]) -> Vec<f64> {
    let middle: f64 = mean.iter().zip(axis).map(|(m, v)| m * v).sum();
    let (mut product, mut total) = (vec![0.0; mean.len()], 0.0);
    for cell in 0..cells.n_cells() {
        let place = cells.of_cell(cell).map(|(gene, x)| x * axis[gene]).sum::<f64>() - middle;
        cells.of_cell(cell).for_each(|(gene, x)| product[gene] += place * x);
        total += place;
    }
    product.iter_mut().zip(mean).for_each(|(product, mean)| *product -= total * mean);
    product
}

fn normalise(axis: &mut [f64]) {
    let length = axis.iter().map(|v| v * v).sum::<f64>().sqrt();
    if length > 0.0 {
        axis.iter_mut().for_each(|v| *v /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::random_cells;
    use lacuna_sdk::testing;

    /// The largest eigenvalue and its vector of the plain covariance, by squaring the matrix.
    fn plain(cells: &Cells<'_>) -> Vec<Vec<f64>> {
        let (n, genes) = (cells.len(), cells.n_genes());
        let logs = LogExpression::without_dominant(cells);
        let mut x = vec![vec![0.0; genes]; n];
        (0..n).for_each(|c| logs.of_cell(c).for_each(|(j, value)| x[c][j] = value));
        let mean: Vec<f64> = (0..genes).map(|j| x.iter().map(|row| row[j]).sum::<f64>() / n as f64).collect();
        let entry =
            |i: usize, j: usize| x.iter().map(|row| (row[i] - mean[i]) * (row[j] - mean[j])).sum::<f64>();
        let mut matrix: Vec<Vec<f64>> =
            (0..genes).map(|i| (0..genes).map(|j| entry(i, j)).collect()).collect();
        for _ in 0..40 {
            let trace: f64 = (0..genes).map(|i| matrix[i][i]).sum();
            let scaled: Vec<Vec<f64>> =
                matrix.iter().map(|row| row.iter().map(|x| x / trace).collect()).collect();
            let product = |i: usize, j: usize| (0..genes).map(|k| scaled[i][k] * scaled[k][j]).sum::<f64>();
            matrix = (0..genes).map(|i| (0..genes).map(|j| product(i, j)).collect()).collect();
        }
        let trace: f64 = (0..genes).map(|i| matrix[i][i]).sum();
        matrix.iter().map(|row| row.iter().map(|x| x / trace).collect()).collect()
    }

    #[test]
    fn loadings_are_those_of_the_plain_covariance() {
        for seed in 1..4 {
            let owned = random_cells(40, 12, seed);
            let view = owned.to_view();
            let expected = plain(&Cells::from_view(&view));
            let fitted = testing::fit(&FirstComponent, &owned).unwrap();
            let lost: Vec<[u32; 1]> = (0..12).map(|gene| [gene]).collect();
            let list = testing::population(&lost.iter().map(|gene| &gene[..]).collect::<Vec<_>>());
            let found = testing::predict(&fitted, &owned, &list).unwrap();
            for (g, j) in (0..12).flat_map(|g| (0..12).map(move |j| (g, j))).filter(|(g, j)| g != j) {
                let (found, expected) = (f64::from(found[[g, j]]), -expected[g][j]);
                assert!((found - expected).abs() < 1e-5, "{g} {j}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_gene_that_dominates_the_library_changes_nothing_for_the_others() {
        let counts: [[f32; 4]; 4] =
            [[4.0, 1.0, 2.0, 1.0], [1.0, 3.0, 2.0, 2.0], [2.0, 2.0, 0.0, 4.0], [3.0, 0.0, 2.0, 3.0]];
        let scores = |rows: Vec<&[f32]>, genes: usize| {
            let cells = testing::cells(&rows);
            let fitted = testing::fit(&FirstComponent, &cells).unwrap();
            let found = testing::predict(&fitted, &cells, &testing::population(&[&[1]])).unwrap();
            (0..genes).map(|j| found[[0, j]]).collect::<Vec<f32>>()
        };
        // Of four genes each would be about a quarter: of eight none is above a fifth.
        let doubled: Vec<Vec<f32>> = counts.iter().map(|row| [&row[..], &row[..]].concat()).collect();
        let much = [90.0, 10.0, 70.0, 30.0];
        let dominated: Vec<Vec<f32>> =
            doubled.iter().zip(much).map(|(row, x)| [&row[..], &[x]].concat()).collect();
        let alone = scores(doubled.iter().map(Vec::as_slice).collect(), 8);
        let found = scores(dominated.iter().map(Vec::as_slice).collect(), 9);
        assert!(alone.iter().any(|x| x.abs() > 0.1));
        assert!(alone.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-5), "{alone:?} {found:?}");
        assert_eq!(found[8], 0.0);
    }

    #[test]
    fn cells_that_are_all_the_same_have_no_component() {
        let cells = testing::cells(&[&[1.0, 2.0], &[1.0, 2.0]]);
        let fitted = testing::fit(&FirstComponent, &cells).unwrap();
        let found = testing::predict(&fitted, &cells, &testing::population(&[&[0]])).unwrap();
        assert!(found.iter().all(|&x| x == 0.0));
    }
}
