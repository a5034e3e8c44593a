//! `dose`

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
    }
}

/// Poisson regression of a gene's counts on the dose of the lost gene: c_j ~ exp(a + b x_g) L, over the
/// training cells, with x_g = log(1 + 10,000 c_g / L) and L a cell's library without g and without genes
/// above a share of `dominant` of all counts, so that depth is an offset. The score of gene j for the loss of gene g is the
/// logarithm of its fold change over all cells,
///
/// log(Σ L / Σ L exp(b x_g)), natural, from x_g = 0 in every cell against x_g as it is.
///
/// b is where Σ c x + κ φ(0) = (Σ c + κ) φ(b), φ(b) = Σ L x exp(b x) / Σ L exp(b x): the likelihood's maximum
/// with κ pseudo-counts, spread as L is. It is that of quasi-Poisson too, whose dispersion widens errors and
/// moves no slope. φ is the same for all genes j: it is tabled once for each target and inverted by cubic
/// interpolation, to about 1e-6. A slope ends where b times the range of x_g is ±12. A gene of the same dose
/// in all cells scores 0 everywhere.
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
        Scores::learn(&training.cells, cx, |target, row| {
            let doses = doses(&counts, target);
            let Some(tilts) = Tilts::of(&doses) else { return };
            for (gene, score) in row.iter_mut().enumerate() {
                let (mut sum, mut by_dose) = (0.0, 0.0);
                for &(cell, count) in
                    counts.of_gene(gene).iter().filter(|(cell, _)| doses[*cell].library > 0.0)
                {
                    sum += count;
                    by_dose += count * doses[cell].dose;
                }
                let pseudo = self.0.pseudo_counts;
                // A silent gene stays what it is, to the last bit.
                if sum > 0.0 {
                    *score = -tilts.log_sum((by_dose + pseudo * tilts.mean) / (sum + pseudo));
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

/// Of a target, for slopes b in equal steps: φ(b), φ′(b), and log(Σ L exp(b x) / Σ L), whose slope φ is.
struct Tilts {
    step: f64,
    /// φ(0).
    mean: f64,
    rows: Vec<Tilt>,
}

struct Tilt {
    mean: f64,
    variance: f64,
    log_sum: f64,
}

impl Tilts {
    /// `None` if the dose is the same in all cells.
    fn of(doses: &[Dosed]) -> Option<Self> {
        let known = || doses.iter().filter(|cell| cell.library > 0.0);
        let (low, high) = known().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), cell| {
            (low.min(cell.dose), high.max(cell.dose))
        });
        if high - low <= 1e-9 * high.max(1.0) || !(high - low).is_finite() {
            return None;
        }
        let step = STEP / (high - low);
        let all: f64 = known().map(|cell| cell.library).sum();
        let mean = known().map(|cell| cell.library * cell.dose).sum::<f64>() / all;
        let tilt = |i: i32| {
            let slope = f64::from(i) * step;
            let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
            for cell in known() {
                // Around the mean, so that the variance keeps its digits.
                let x = cell.dose - mean;
                let weight = cell.library * (slope * x).exp();
                (sum, first, second) = (sum + weight, first + weight * x, second + weight * x * x);
            }
            let shift = first / sum;
            let log_sum = (sum / all).ln() + slope * mean;
            Tilt { mean: mean + shift, variance: second / sum - shift * shift, log_sum }
        };
        Some(Self { step, mean, rows: (-STEPS..=STEPS).map(tilt).collect() })
    }

    /// log(Σ L exp(b x) / Σ L) at the slope b where φ(b) is this mean, or where the table ends.
    fn log_sum(&self, mean: f64) -> f64 {
        let next = self.rows.partition_point(|row| row.mean < mean);
        if next == 0 || next == self.rows.len() {
            return self.rows[next.min(self.rows.len() - 1)].log_sum;
        }
        let (a, b) = (&self.rows[next - 1], &self.rows[next]);
        // The part of a step from a to b.
        let width = b.mean - a.mean;
        let slopes = [a, b].map(|row| width / (row.variance.max(1e-300) * self.step));
        let part = cubic((mean - a.mean) / width, [0.0, 1.0], slopes);
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.5 };
        cubic(part, [a.log_sum, b.log_sum], [a.mean, b.mean].map(|mean| mean * self.step))
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

    fn model(pseudo_counts: f64) -> Dose {
        Dose(DoseConfig { pseudo_counts, ..DoseConfig::default() })
    }

    #[test]
    fn holds_what_every_estimator_holds() {
        holds_for_an_estimator(&model(1.0));
        holds_for_an_estimator(&model(1e-9));
    }

    /// b by reweighted least squares of counts on 1 and the dose, with an offset.
    fn slope(counts: &[f64], doses: &[Dosed]) -> f64 {
        let all: f64 = doses.iter().map(|cell| cell.library).sum();
        let (mut a, mut b) = ((counts.iter().sum::<f64>() / all).ln(), 0.0);
        for _ in 0..200 {
            let (mut h, mut g) = ([0.0; 3], [0.0; 2]);
            for (count, cell) in counts.iter().zip(doses) {
                let mean = cell.library * (a + b * cell.dose).exp();
                h = [h[0] + mean, h[1] + mean * cell.dose, h[2] + mean * cell.dose * cell.dose];
                g = [g[0] + count - mean, g[1] + (count - mean) * cell.dose];
            }
            let determinant = h[0] * h[2] - h[1] * h[1];
            a += (h[2] * g[0] - h[1] * g[1]) / determinant;
            b += (h[0] * g[1] - h[1] * g[0]) / determinant;
        }
        b
    }

    #[test]
    fn agrees_with_reweighted_least_squares() {
        for (seed, pseudo) in [(1, 1.0), (2, 1.0), (3, 20.0)] {
            let owned = random_cells(50, 9, seed);
            let found = scores(&model(pseudo), &owned);
            let view = owned.to_view();
            let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
            for (g, j) in (2..9usize).flat_map(|g| (1..9usize).map(move |j| (g, j))).filter(|(g, j)| g != j) {
                let doses = doses(&counts, g);
                let all: f64 = doses.iter().map(|cell| cell.library).sum();
                let mut own: Vec<f64> = doses.iter().map(|cell| pseudo * cell.library / all).collect();
                counts.of_gene(j).iter().for_each(|&(cell, count)| own[cell] += count);
                let b = slope(&own, &doses);
                let tilted: f64 = doses.iter().map(|cell| cell.library * (b * cell.dose).exp()).sum();
                let (expected, found) = ((all / tilted).ln(), f64::from(found[[g, j]]));
                assert!((expected - found).abs() < 1e-4, "{g} {j}: expected {expected}, found {found}");
            }
        }
    }

    #[test]
    fn what_rises_with_the_dose_falls_without_it() {
        let found = scores(&model(1.0), &random_cells(400, 10, 6));
        assert!(found[[3, 2]] < -0.3, "{found}");
        assert!(found[[5, 6]].abs() < 0.15, "{found}");
    }
}
