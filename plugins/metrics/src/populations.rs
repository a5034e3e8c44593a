//! Two populations of cells: distances between all their cells.

use crate::sum::sum;
use lacuna_sdk::ndarray::ArrayView2;
use lacuna_sdk::prelude::*;

/// What a metric of populations declares; each adds its own.
pub const OF_POPULATIONS: MetricInfo = MetricInfo { shape: Shape::Population, ..MetricInfo::ERROR };

/// The cells of a comparison, measured and predicted.
pub struct Populations<'a> {
    /// The measured cells.
    pub measured: ArrayView2<'a, f32>,
    /// The predicted ones.
    pub predicted: ArrayView2<'a, f32>,
}

impl<'a> Populations<'a> {
    /// Those of a comparison, of which one score is asked.
    pub fn of(id: &str, comparison: &Comparison<'a>, scores: usize) -> Result<Self> {
        let missing = |part| Error::data(format!("{id} needs {part}"));
        let measured = comparison.before.ok_or_else(|| missing("the measured cells"))?;
        let predicted = comparison.after.ok_or_else(|| missing("the predicted cells"))?;
        if measured.ncols() != predicted.ncols() || scores != 1 {
            return Err(Error::data(format!(
                "expected one score of cells with the same genes, found {scores} scores, {} and {} genes",
                measured.ncols(),
                predicted.ncols()
            )));
        }
        Ok(Self { measured, predicted })
    }

    /// Whether there are cells of both.
    pub fn are_there(&self) -> bool {
        self.measured.nrows() > 0 && self.predicted.nrows() > 0
    }
}

/// The mean over all pairs of a cell of the one and a cell of the other of something made of their squared distance.
pub fn mean_between(
    one: ArrayView2<'_, f32>,
    other: ArrayView2<'_, f32>,
    cx: &Context,
    term: impl Fn(f64) -> f64 + Sync,
) -> Result<f64> {
    let sums = each_row(one.nrows(), cx, |i| {
        (0..other.nrows()).map(|j| Ok(term(squared(row(one, i)?, row(other, j)?)))).sum()
    })?;
    Ok(sums.iter().sum::<f64>() / (one.nrows() * other.nrows()) as f64)
}

/// The same over all pairs of cells of one population, each cell with itself among them.
pub fn mean_within(
    cells: ArrayView2<'_, f32>,
    cx: &Context,
    term: impl Fn(f64) -> f64 + Sync,
) -> Result<f64> {
    let sums = each_row(cells.nrows(), cx, |i| {
        (i + 1..cells.nrows()).map(|j| Ok(term(squared(row(cells, i)?, row(cells, j)?)))).sum()
    })?;
    let n = cells.nrows() as f64;
    Ok((2.0 * sums.iter().sum::<f64>() + n * term(0.0)) / (n * n))
}

/// The median squared distance of two different cells; NaN of fewer than two.
pub fn median_squared(cells: ArrayView2<'_, f32>, cx: &Context) -> Result<f64> {
    let rows = each_row(cells.nrows(), cx, |i| {
        (i + 1..cells.nrows())
            .map(|j| Ok(squared(row(cells, i)?, row(cells, j)?)))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut all = rows.concat();
    all.sort_unstable_by(f64::total_cmp);
    let middle = all.len() / 2;
    Ok(match all.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => all[middle],
        _ => (all[middle - 1] + all[middle]) / 2.0,
    })
}

fn each_row<T: Send>(rows: usize, cx: &Context, one: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let found = cx.parallel_map(rows, |i| {
        cx.check()?;
        one(i)
    });
    found.into_iter().collect()
}

fn row(cells: ArrayView2<'_, f32>, i: usize) -> Result<&[f32]> {
    let found = cells.index_axis_move(lacuna_sdk::ndarray::Axis(0), i).to_slice();
    found.ok_or_else(|| Error::data(format!("expected the genes of cell {i} side by side in memory")))
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| (a - b) * (a - b))
}
