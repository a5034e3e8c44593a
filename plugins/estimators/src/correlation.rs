//! `correlation`

use crate::counts::{Counts, DOMINANT, ROUNDING, depth, log_cp10k};
use crate::scores::{ESTIMATOR, Scores};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `correlation`.
    pub struct CorrelationConfig {
        /// Whether the depth of sequencing is taken out. Without, genes correlate for being seen in the
        /// same deep cells.
        depth: bool = true,
        /// A gene above this share of all counts is left out of the libraries; 1 leaves none out.
        #[range(0.0..=1.0)]
        dominant: f64 = DOMINANT,
    }
}

/// How a gene goes along with the lost one in wild-type cells: the score of gene j for the loss of gene g is
/// −r, with r the Pearson correlation of x_j and x_g over the training cells, between −1 and 1. What goes up
/// with g falls without it.
///
/// x = log(1 + 10,000 c / L), c a cell's count and L its library without g and without genes above a share of
/// `dominant` of all counts. With `depth`, r is the partial correlation given d = log(1 + L):
///
/// r = (s_jg − s_jd s_gd / s_dd) / √((s_jj − s_jd² / s_dd) (s_gg − s_gd² / s_dd)),
///
/// where s_ab = Σ(a − ā)(b − b̄). A gene that does not vary, or only with d, scores 0.
pub struct Correlation(CorrelationConfig);

impl Component for Correlation {
    const ID: &'static str = "correlation";
    const DOC: &'static str =
        "Scores each gene by its negative correlation with the lost one, given the depth";
    type Config = CorrelationConfig;
    fn new(config: CorrelationConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Correlation {
    type Fitted = Scores;
    const INFO: ModelInfo = ModelInfo {
        source: "partial Pearson correlation of log CP10k given log library over wild-type cells, negated",
        ..ESTIMATOR
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Scores> {
        Scores::check(&training.cells)?;
        let counts = Counts::of(&training.cells, self.0.dominant);
        let base = Moments::of(&counts, cx)?;
        Scores::learn(&training.cells, cx, |target, row| {
            let moments = base.given(&counts, target, cx);
            row.iter_mut().enumerate().for_each(|(gene, score)| {
                *score = -moments.correlation(gene, target, self.0.depth);
            });
        })
    }
}

/// Sums over cells of one gene's log expression x, with the depth d and the target's log expression t.
#[derive(Clone, Copy, Default)]
struct Sums {
    x: f64,
    xx: f64,
    xd: f64,
    xt: f64,
}

/// All sums over the cells.
#[derive(Clone)]
struct Moments {
    n: f64,
    /// Subtracted from all depths, so that their sums of squares stay accurate.
    centre: f64,
    d: f64,
    dd: f64,
    genes: Vec<Sums>,
}

impl Moments {
    /// With no target: libraries without dominant genes only.
    fn of(counts: &Counts<'_>, cx: &Context) -> Result<Self> {
        let n = counts.n_cells() as f64;
        let centre = (0..counts.n_cells()).map(|cell| depth(counts.library(cell))).sum::<f64>() / n;
        let mut all = Self { n, centre, d: 0.0, dd: 0.0, genes: vec![Sums::default(); counts.n_genes()] };
        for cell in 0..counts.n_cells() {
            cx.check()?;
            all.add(counts, cell, counts.library(cell), 0.0, 1.0);
        }
        Ok(all)
    }

    /// The same with libraries without the target: other only in the cells that express it.
    fn given(&self, counts: &Counts<'_>, target: usize, cx: &Context) -> Self {
        let mut given = self.clone();
        for &(cell, count) in counts.of_gene(target) {
            if cx.is_cancelled() {
                break;
            }
            let library = counts.library_without(cell, target, count);
            given.add(counts, cell, counts.library(cell), 0.0, -1.0);
            given.add(counts, cell, library, log_cp10k(count, library), 1.0);
        }
        given
    }

    /// Adds a cell of this library, or takes it away again.
    fn add(&mut self, counts: &Counts<'_>, cell: usize, library: f64, target: f64, times: f64) {
        let d = depth(library) - self.centre;
        self.d += times * d;
        self.dd += times * d * d;
        for (gene, count) in counts.of_cell(cell) {
            let (x, sums) = (log_cp10k(count, library), &mut self.genes[gene]);
            sums.x += times * x;
            sums.xx += times * x * x;
            sums.xd += times * x * d;
            sums.xt += times * x * target;
        }
    }

    fn correlation(&self, gene: usize, target: usize, given_depth: bool) -> f64 {
        let (x, t, n) = (&self.genes[gene], &self.genes[target], self.n);
        let dd = self.dd - self.d * self.d / n;
        let [xd, td] = [x, t].map(|sums| sums.xd - sums.x * self.d / n);
        // What depth explains of Σ(a − ā)(b − b̄).
        let deep = given_depth && dd > ROUNDING * (self.dd + self.n * self.centre * self.centre);
        let explained = |ad: f64, bd: f64| if deep { ad * bd / dd } else { 0.0 };
        let xt = x.xt - x.x * t.x / n - explained(xd, td);
        let left = [(x, xd), (t, td)].map(|(s, sd)| (s.xx - s.x * s.x / n - explained(sd, sd), s.xx));
        if left.iter().any(|(left, squares)| *left <= ROUNDING * squares) {
            return 0.0;
        }
        (xt / (left[0].0 * left[1].0).sqrt()).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_near, holds_for_an_estimator, random_cells, scores};

    fn with(depth: bool) -> CorrelationConfig {
        CorrelationConfig { depth, ..CorrelationConfig::default() }
    }

    #[test]
    fn holds_what_every_estimator_holds() {
        holds_for_an_estimator(&Correlation(with(true)));
        holds_for_an_estimator(&Correlation(with(false)));
    }

    /// What is left of y after a regression on x and 1.
    fn residuals(y: &[f64], x: &[f64]) -> Vec<f64> {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (mx, my) = (mean(x), mean(y));
        let xx: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
        let slope = x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / xx.max(1e-300);
        x.iter().zip(y).map(|(x, y)| y - my - slope * (x - mx)).collect()
    }

    #[test]
    fn agrees_with_explicit_regressions_on_depth() {
        for (depth_on, seed) in [(true, 1), (true, 2), (false, 3)] {
            let owned = random_cells(70, 10, seed);
            let found = scores(&Correlation(with(depth_on)), &owned);
            let view = owned.to_view();
            let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
            let count = |c: usize, j: usize| counts.of_cell(c).find(|x| x.0 == j).map_or(0.0, |x| x.1);
            for (g, j) in (1..10).flat_map(|g| (1..10).map(move |j| (g, j))).filter(|(g, j)| g != j) {
                let library: Vec<f64> = (0..70).map(|c| counts.library_without(c, g, count(c, g))).collect();
                let x =
                    |j: usize| -> Vec<f64> { (0..70).map(|c| log_cp10k(count(c, j), library[c])).collect() };
                let d: Vec<f64> = library.iter().map(|&l| if depth_on { depth(l) } else { 0.0 }).collect();
                let (a, b) = (residuals(&x(g), &d), residuals(&x(j), &d));
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let expected = -dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
                assert_near(f64::from(found[[g, j]]), expected, format!("{g} {j}"));
            }
        }
    }

    #[test]
    fn what_goes_along_falls_and_depth_alone_says_little() {
        let cells = random_cells(400, 10, 4);
        let found = scores(&Correlation(with(true)), &cells);
        assert!(found[[3, 2]] < -0.5, "{found}");
        assert!(found[[5, 6]].abs() < 0.25, "{found}");
    }
}
