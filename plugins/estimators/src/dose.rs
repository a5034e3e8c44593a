//! `dose`

use crate::batches::batches;
use crate::counts::{Counts, DOMINANT, log_cp10k};
use crate::scores::{ESTIMATOR, Scores};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `dose`.
    pub struct DoseConfig {
        /// Counts that are added to each gene's own, spread over the cells as their libraries are: they
        /// draw the slope of a gene of few counts to 0, and keep it finite.
        #[range(above(0.0))]
        pseudo_counts: f64 = 1.0,
        /// A gene above this share of all counts is left out of the libraries; 1 leaves none out.
        #[range(0.0..=1.0)]
        dominant: f64 = DOMINANT,
        /// An annotation of the cells: each of its values has a mean expression of its own.
        batch: Option<String> = None,
    }
}

/// Poisson regression of a gene's counts on the dose of the lost gene: c_j ~ exp(a + b x_g) L, over the
/// training cells, with x_g = log(1 + 10,000 c_g / L) and L a cell's library without g and without genes
/// above a share of `dominant` of all counts, so that depth is an offset. The score of gene j for the loss of gene g is the
/// logarithm of its fold change over all cells,
///
/// log(Σ L / Σ L exp(b x_g)), natural, from x_g = 0 in every cell against x_g as it is.
///
/// With batches, each has an a of its own, and the fold change is that of the sum over batches of the expected counts.
///
/// b is where Σ c x + κ φ(0) = Σ_B (C_B + κ L_B / L) φ_B(b), with C_B the counts of gene j in batch B, L_B its library, L
/// that of all, φ_B(b) = Σ L x exp(b x) / Σ L exp(b x) over its cells, and φ(0) the mean over all: the likelihood's
/// maximum with κ pseudo-counts, spread as L is. It is that of quasi-Poisson too, whose dispersion widens errors and moves
/// no slope. φ_B is the same for all genes j: it is tabled once for each target and inverted by cubic interpolation, to
/// about 1e-6. A slope ends where b times the range of x_g is ±12. A gene of the same dose in all cells of each batch
/// scores 0 everywhere.
pub struct Dose(DoseConfig);

impl Component for Dose {
    const ID: &'static str = "dose";
    const DOC: &'static str =
        "Poisson regression of each gene's counts on the lost one's expression, offset by depth";
    type Config = DoseConfig;
    fn new(config: DoseConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Dose {
    type Fitted = Scores;
    const INFO: ModelInfo = ModelInfo {
        source: "quasi-Poisson regression (Wedderburn 1974) with the library as offset",
        ..ESTIMATOR
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Scores> {
        Scores::check(&training.cells)?;
        let counts = Counts::of(&training.cells, self.0.dominant);
        let batches = batches(&training.cells, self.0.batch.as_deref())?;
        Scores::learn(&training.cells, cx, |target, row| {
            let doses = doses(&counts, target);
            let Some(tilts) = Tilts::of(&doses, &batches) else { return };
            let pseudo = self.0.pseudo_counts;
            for (gene, score) in row.iter_mut().enumerate() {
                let mut sums: Vec<f64> = tilts.shares.iter().map(|share| pseudo * share).collect();
                let (mut by_dose, mut silent) = (pseudo * tilts.mean, true);
                for &(cell, count) in
                    counts.of_gene(gene).iter().filter(|(cell, _)| doses[*cell].library > 0.0)
                {
                    sums[batches[cell]] += count;
                    by_dose += count * doses[cell].dose;
                    silent = false;
                }
                // A silent gene stays what it is, to the last bit.
                if !silent {
                    *score = tilts.log_fold(&sums, by_dose);
                }
            }
        })
    }
}

/// What one cell says of a target.
struct Dosed {
    /// Without the target; 0 for a cell that says nothing.
    library: f64,
    /// Log expression of the target.
    dose: f64,
}

fn doses(counts: &Counts<'_>, target: usize) -> Vec<Dosed> {
    let whole = |cell| Dosed { library: counts.library(cell), dose: 0.0 };
    let mut doses: Vec<Dosed> = (0..counts.n_cells()).map(whole).collect();
    for &(cell, count) in counts.of_gene(target) {
        let library = counts.library_without(cell, target, count);
        doses[cell] = Dosed { library, dose: log_cp10k(count, library) };
    }
    doses
}

/// Slopes that are tabled, from −[`STEPS`] to [`STEPS`].
const STEPS: i32 = 120;
/// From one slope to the next, times the range of doses.
const STEP: f64 = 0.1;

/// Of a target, for slopes b in equal steps.
struct Tilts {
    step: f64,
    /// φ(0) of all cells.
    mean: f64,
    /// The part of the libraries that each batch has.
    shares: Vec<f64>,
    /// Of each slope, and in it of each batch.
    rows: Vec<Vec<Tilt>>,
}

/// φ(b), φ′(b), and log(Σ L exp(b x) / Σ L), whose slope φ is.
#[derive(Clone, Default)]
struct Tilt {
    mean: f64,
    variance: f64,
    log_sum: f64,
}

impl Tilts {
    /// `None` if the dose is the same in all cells of each batch.
    fn of(doses: &[Dosed], batches: &[usize]) -> Option<Self> {
        let mut known: Vec<Vec<&Dosed>> = vec![];
        for (cell, &batch) in doses.iter().zip(batches) {
            known.resize_with(known.len().max(batch + 1), Vec::new);
            if cell.library > 0.0 {
                known[batch].push(cell);
            }
        }
        let library = |cells: &[&Dosed]| cells.iter().map(|cell| cell.library).sum::<f64>();
        let all: f64 = known.iter().map(|cells| library(cells)).sum();
        let shares: Vec<f64> = known.iter().map(|cells| library(cells) / all).collect();
        let (low, high) =
            known.iter().flatten().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), cell| {
                (low.min(cell.dose), high.max(cell.dose))
            });
        if high - low <= 1e-9 * high.max(1.0) || !(high - low).is_finite() {
            return None;
        }
        let step = STEP / (high - low);
        let tilts = |i: i32| known.iter().map(|cells| Tilt::of(cells, f64::from(i) * step)).collect();
        let rows: Vec<Vec<Tilt>> = (-STEPS..=STEPS).map(tilts).collect();
        let now = Tilt::mixed(&rows[STEPS as usize], &shares);
        let varies = now.variance > 1e-18 * (high - low) * (high - low);
        varies.then_some(Self { step, mean: now.mean, shares, rows })
    }

    /// The log fold change of a gene without the dose, from its counts in each batch and the sum of counts times
    /// doses: at the slope where φ is its mean dose, or where the table ends.
    fn log_fold(&self, counts: &[f64], by_dose: f64) -> f64 {
        let all: f64 = counts.iter().sum();
        let mean = by_dose / all;
        let next = self.rows.partition_point(|row| Tilt::mixed(row, counts).mean < mean);
        let fold = |log_sum: &dyn Fn(usize) -> f64| {
            let left = counts.iter().enumerate().map(|(batch, count)| count * (-log_sum(batch)).exp());
            (left.sum::<f64>() / all).ln()
        };
        if next == 0 || next == self.rows.len() {
            return fold(&|batch| self.rows[next.min(self.rows.len() - 1)][batch].log_sum);
        }
        let (a, b) = (&self.rows[next - 1], &self.rows[next]);
        let (from, to) = (Tilt::mixed(a, counts), Tilt::mixed(b, counts));
        // The part of a step from a to b.
        let width = to.mean - from.mean;
        let slopes = [&from, &to].map(|tilt| width / (tilt.variance.max(1e-300) * self.step));
        let part = cubic((mean - from.mean) / width, [0.0, 1.0], slopes);
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.5 };
        fold(&|batch| {
            let ends = [&a[batch], &b[batch]];
            cubic(part, ends.map(|tilt| tilt.log_sum), ends.map(|tilt| tilt.mean * self.step))
        })
    }
}

impl Tilt {
    /// Of the cells of a batch at a slope.
    fn of(cells: &[&Dosed], slope: f64) -> Self {
        let all: f64 = cells.iter().map(|cell| cell.library).sum();
        if all <= 0.0 {
            return Self::default();
        }
        let mean = cells.iter().map(|cell| cell.library * cell.dose).sum::<f64>() / all;
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for cell in cells {
            // Around the mean, so that the variance keeps its digits.
            let x = cell.dose - mean;
            let weight = cell.library * (slope * x).exp();
            (sum, first, second) = (sum + weight, first + weight * x, second + weight * x * x);
        }
        let shift = first / sum;
        let log_sum = (sum / all).ln() + slope * mean;
        Self { mean: mean + shift, variance: second / sum - shift * shift, log_sum }
    }

    /// φ and φ′ of batches with these weights.
    fn mixed(batches: &[Self], weights: &[f64]) -> Self {
        let all: f64 = weights.iter().sum();
        let sum = |value: &dyn Fn(&Self) -> f64| {
            batches.iter().zip(weights).map(|(tilt, weight)| weight * value(tilt)).sum::<f64>() / all
        };
        Self { mean: sum(&|tilt| tilt.mean), variance: sum(&|tilt| tilt.variance), log_sum: 0.0 }
    }
}

/// The cubic with these values and slopes at 0 and 1.
fn cubic(x: f64, values: [f64; 2], slopes: [f64; 2]) -> f64 {
    let rest = 1.0 - x;
    let by_values = (1.0 + 2.0 * x) * rest * rest * values[0] + x * x * (3.0 - 2.0 * x) * values[1];
    by_values + x * rest * (rest * slopes[0] - x * slopes[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{holds_for_an_estimator, random_cells, scores};
    use lacuna_sdk::arrow::Int64Array;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;
    use std::sync::Arc;

    fn model(pseudo_counts: f64) -> Dose {
        Dose(DoseConfig { pseudo_counts, ..DoseConfig::default() })
    }

    #[test]
    fn holds_what_every_estimator_holds() {
        holds_for_an_estimator(&model(1.0));
        holds_for_an_estimator(&model(1e-9));
    }

    /// b by reweighted least squares of counts on the batch and the dose, with an offset.
    fn slope(counts: &[f64], doses: &[Dosed], batches: &[usize], n: usize) -> f64 {
        let (mut a, mut b) = (vec![-3.0; n], 0.0);
        for _ in 0..500 {
            for (batch, a) in a.iter_mut().enumerate() {
                let mut sums = [0.0; 2];
                for ((count, cell), _) in counts.iter().zip(doses).zip(batches).filter(|x| *x.1 == batch) {
                    sums[0] += count;
                    sums[1] += cell.library * (b * cell.dose).exp();
                }
                *a = (sums[0] / sums[1]).ln();
            }
            // Newton's step for b, the batches' means as they follow it.
            let (mut gradient, mut within, mut first) = (0.0, 0.0, vec![[0.0; 2]; n]);
            for ((count, cell), &batch) in counts.iter().zip(doses).zip(batches) {
                let mean = cell.library * (a[batch] + b * cell.dose).exp();
                gradient += (count - mean) * cell.dose;
                within += mean * cell.dose * cell.dose;
                first[batch] = [first[batch][0] + mean * cell.dose, first[batch][1] + mean];
            }
            b += gradient / (within - first.iter().map(|[x, n]| x * x / n).sum::<f64>());
        }
        b
    }

    #[test]
    fn agrees_with_reweighted_least_squares() {
        for (seed, pseudo, lanes) in [(1, 1.0, 1), (2, 1.0, 1), (3, 20.0, 1), (4, 1.0, 2), (5, 3.0, 3)] {
            let lane: Vec<i64> = (0..50).map(|cell| (cell % lanes) as i64).collect();
            let owned = random_cells(50, 9, seed).with_obs("lane", Arc::new(Int64Array::from(lane)));
            let batch = (lanes > 1).then(|| "lane".to_string());
            let config = DoseConfig { pseudo_counts: pseudo, batch: batch.clone(), ..DoseConfig::default() };
            let found = scores(&Dose(config), &owned);
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            let (counts, batches) =
                (Counts::of(&cells, DOMINANT), batches(&cells, batch.as_deref()).unwrap());
            for (g, j) in (2..9usize).flat_map(|g| (1..9usize).map(move |j| (g, j))).filter(|(g, j)| g != j) {
                let doses = doses(&counts, g);
                let all: f64 = doses.iter().map(|cell| cell.library).sum();
                let mut own: Vec<f64> = doses.iter().map(|cell| pseudo * cell.library / all).collect();
                counts.of_gene(j).iter().for_each(|&(cell, count)| own[cell] += count);
                let b = slope(&own, &doses, &batches, lanes);
                let left = |batch: usize| {
                    let cells = || (0..50).filter(|&c| batches[c] == batch);
                    let library: f64 = cells().map(|c| doses[c].library).sum();
                    let tilted: f64 = cells().map(|c| doses[c].library * (b * doses[c].dose).exp()).sum();
                    cells().map(|c| own[c]).sum::<f64>() * library / tilted
                };
                let expected = ((0..lanes).map(left).sum::<f64>() / own.iter().sum::<f64>()).ln();
                let found = f64::from(found[[g, j]]);
                assert!(
                    (expected - found).abs() < 1e-4,
                    "{lanes} {g} {j}: expected {expected}, found {found}"
                );
            }
        }
    }

    #[test]
    fn what_only_differs_between_batches_says_nothing() {
        // One lane has more of g1 and g2, and nothing else goes with anything.
        let mut stream = testing::context(5).stream(0);
        let mut cells = OwnedCells::new((0..12).map(|j| format!("g{j}")).collect());
        for cell in 0..600 {
            let more = if cell % 2 == 0 { 4.0 } else { 1.0 };
            let row: Vec<f32> = (0..12)
                .map(|j| if matches!(j, 1 | 2) { 5.0 * more } else { 20.0 })
                .map(|mean: f64| stream.random_range(0.0..2.0 * mean).floor() as f32)
                .collect();
            cells.push(format!("c{cell}"), &row);
        }
        let lanes: Vec<i64> = (0..600).map(|cell| cell % 2).collect();
        let cells = cells.with_obs("lane", Arc::new(Int64Array::from(lanes)));
        let with = |batch: Option<&str>| {
            let batch = batch.map(String::from);
            scores(&Dose(DoseConfig { batch, ..DoseConfig::default() }), &cells)[[1, 2]]
        };
        assert!(with(None) < -0.2, "{}", with(None));
        assert!(with(Some("lane")).abs() < 0.1, "{}", with(Some("lane")));
    }

    #[test]
    fn an_annotation_that_is_not_there_is_an_error() {
        let batch = Some("lane".to_string());
        let model = Dose(DoseConfig { batch, ..DoseConfig::default() });
        assert!(testing::fit(&model, &random_cells(30, 5, 1)).is_err());
    }

    #[test]
    fn what_rises_with_the_dose_falls_without_it() {
        let found = scores(&model(1.0), &random_cells(400, 10, 6));
        assert!(found[[3, 2]] < -0.3, "{found}");
        assert!(found[[5, 6]].abs() < 0.15, "{found}");
    }
}
