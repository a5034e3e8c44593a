//! `covariance`

use crate::counts::{Counts, DOMINANT};
use crate::eigen::Svd;
use crate::residuals::{centre, depths, pearson, take_out};
use crate::scores::{ESTIMATOR, Scores};
use lacuna_sdk::ndarray::{Array2, ArrayView1, Axis, s};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::seq::SliceRandom;
use lacuna_sdk::tracing;

config! {
    /// Parameters of `covariance`.
    pub struct CovarianceConfig {
        /// The number of principal components. Left out: as many of the first 10 as one half of the cells
        /// predicts the covariances in the other half best with.
        #[range(1..=500)]
        components: Option<usize> = None,
        /// The dispersion of counts: their variance is μ + μ² / theta.
        #[range(above(0.0))]
        theta: f64 = 100.0,
        /// Whether the depth of sequencing is taken out of the residuals.
        depth: bool = true,
        /// A gene above this share of all counts is left out of the libraries; 1 leaves none out.
        #[range(0.0..=1.0)]
        dominant: f64 = DOMINANT,
    }
}

/// At most so many components are kept when their number is not given.
const MOST_COMPONENTS: usize = 10;

/// The covariance of a gene with the lost one in the space of the first k principal components: the score of
/// gene j for the loss of gene g is −Σ_i a_ig a_ij / (n − 1), i = 1..k, which has no unit.
///
/// A = S Vᵀ, shape (k, genes), of the thin singular value decomposition U S Vᵀ of analytic Pearson residuals,
/// shape (cells, genes): (c − μ) / √(μ + μ² / θ), clipped at ±√n, with μ = L Σc / ΣL, c the counts of a gene
/// and L the libraries without genes above a share of `dominant` of all counts. With `depth`, what a regression on log(1 +
/// L) explains of them is taken out. The residuals are shared by all targets, so that the target is in the
/// libraries.
///
/// The number of components, if not given, is the k from 1 to 10 that predicts best: the covariances in the first k
/// components of one half of the cells, drawn at random, are compared with all covariances in the other half, and the sum of
/// squared differences is least, over both ways. That is Σ_i s_i (s_i − 2 t_i), i = 1..k, but for what does not depend
/// on k, with s_i the variance along the axis of component i in its own half and t_i that along the same axis in the other: a
/// component of which the other half has less than half is noise.
pub struct Covariance(CovarianceConfig);

impl Component for Covariance {
    const ID: &'static str = "covariance";
    const DOC: &'static str =
        "Scores each gene by its negative covariance with the lost one in a few principal components";
    type Config = CovarianceConfig;
    fn new(config: CovarianceConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Covariance {
    type Fitted = Scores;
    const INFO: ModelInfo = ModelInfo {
        source: "covariance in principal components of analytic Pearson residuals (Lause, Berens and Kobak 2021)",
        ..ESTIMATOR
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Scores> {
        Scores::check(&training.cells)?;
        let counts = Counts::of(&training.cells, self.0.dominant);
        let mut residuals = pearson(&counts, self.0.theta, cx)?;
        let depths = depths(&counts);
        take_out(&mut residuals, self.0.depth.then_some(&depths));
        let components = match self.0.components {
            Some(components) => components,
            None => stable_components(&residuals, cx)?,
        };
        let svd = Svd::of(residuals.view(), cx)?;
        let kept = components.min(svd.squares.len());
        let (axes, n) = (svd.right.slice(s![..kept, ..]), counts.n_cells() as f64);
        let learned = Scores::learn(&training.cells, cx, |target, row| {
            let covariances = axes.column(target).dot(&axes);
            row.iter_mut().zip(&covariances).for_each(|(score, c)| *score = -c / (n - 1.0));
        })?;
        Ok(learned.with_chosen("components", &components))
    }
}

/// How many principal components of half of the cells are worth keeping by the other half.
fn stable_components(residuals: &Array2<f64>, cx: &Context) -> Result<usize> {
    let mut cells: Vec<usize> = (0..residuals.nrows()).collect();
    cells.shuffle(&mut cx.stream(0));
    let (one, other) = cells.split_at(cells.len() / 2);
    let halves = [one, other].map(|cells| {
        let mut half = residuals.select(Axis(0), cells);
        centre(&mut half);
        half
    });
    let mut losses = [0.0; MOST_COMPONENTS];
    for (own, other) in [(0, 1), (1, 0)] {
        let ways = loss_of_each(&halves[own], &halves[other], cx)?;
        losses.iter_mut().zip(ways).for_each(|(sum, loss)| *sum += loss);
    }
    let (mut sum, mut best) = (0.0, (f64::INFINITY, 1));
    for (i, loss) in losses.into_iter().enumerate() {
        sum += loss;
        if sum < best.0 {
            best = (sum, i + 1);
        }
    }
    tracing::info!(
        "by two halves of the cells, {} of {MOST_COMPONENTS} principal components are stable",
        best.1
    );
    Ok(best.1)
}

/// s_i (s_i − 2 t_i) of the first components of one half; of the other half is t.
fn loss_of_each(own: &Array2<f64>, other: &Array2<f64>, cx: &Context) -> Result<Vec<f64>> {
    let svd = Svd::of(own.view(), cx)?;
    let kept = svd.squares.len().min(MOST_COMPONENTS);
    let freedom = |half: &Array2<f64>| (half.nrows() as f64 - 1.0).max(1.0);
    let along = other.dot(&svd.right.slice(s![..kept, ..]).t());
    let loss = |(along, &square): (ArrayView1<'_, f64>, &f64)| {
        let (s, t) = (square / freedom(own), along.dot(&along) / square / freedom(other));
        s * (s - 2.0 * t)
    };
    Ok(along.axis_iter(Axis(1)).zip(&svd.squares).map(loss).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_near, holds_for_an_estimator, random_cells, scores};
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    fn model(components: Option<usize>, depth: bool) -> Covariance {
        Covariance(CovarianceConfig { components, depth, ..CovarianceConfig::default() })
    }

    #[test]
    fn holds_what_every_estimator_holds() {
        holds_for_an_estimator(&model(None, true));
        holds_for_an_estimator(&model(Some(3), false));
        holds_for_an_estimator(&model(Some(500), true));
    }

    #[test]
    fn all_components_give_the_plain_covariance() {
        for seed in 1..4 {
            let owned = random_cells(60, 10, seed);
            let found = scores(&model(Some(500), false), &owned);
            let view = owned.to_view();
            let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
            let mut x = pearson(&counts, 100.0, &testing::context(1)).unwrap();
            centre(&mut x);
            for (g, j) in (0..10usize).flat_map(|g| (0..10).map(move |j| (g, j))).filter(|(g, j)| g != j) {
                let expected = -x.column(g).dot(&x.column(j)) / 59.0;
                assert_near(f64::from(found[[g, j]]), expected, format!("{g} {j}"));
            }
        }
    }

    #[test]
    fn one_component_is_the_best_approximation_of_rank_1() {
        // By power iteration, which shares no code with the decomposition.
        let owned = random_cells(80, 9, 5);
        let found = scores(&model(Some(1), true), &owned);
        let view = owned.to_view();
        let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
        let mut x = pearson(&counts, 100.0, &testing::context(1)).unwrap();
        take_out(&mut x, Some(&depths(&counts)));
        let covariance = x.t().dot(&x) / 79.0;
        let mut axis = lacuna_sdk::ndarray::Array1::ones(9);
        for _ in 0..5000 {
            axis = covariance.dot(&axis);
            axis /= axis.dot(&axis).sqrt();
        }
        let value = axis.dot(&covariance.dot(&axis));
        for (g, j) in (0..9).flat_map(|g| (0..9).map(move |j| (g, j))).filter(|(g, j)| g != j) {
            assert_near(f64::from(found[[g, j]]), -value * axis[g] * axis[j], format!("{g} {j}"));
        }
    }

    #[test]
    fn the_number_that_was_chosen_is_told() {
        let owned = random_cells(60, 9, 1);
        let fitted = testing::fit(&model(None, true), &owned).unwrap();
        let given = (1..=MOST_COMPONENTS).map(|k| testing::fit(&model(Some(k), true), &owned).unwrap());
        let same: Vec<Scores> = given.filter(|given| given.tables() == fitted.tables()).collect();
        assert_eq!(same, [fitted]);
    }

    #[test]
    fn as_many_components_as_are_there_are_kept() {
        let mut stream = testing::context(9).stream(0);
        let mut noise = |n, m| Array2::from_shape_fn((n, m), |_| stream.random_range(-1.0..1.0));
        let mut structured = noise(300, 3).dot(&noise(3, 60)) * 3.0 + noise(300, 60) * 0.5;
        centre(&mut structured);
        assert_eq!(stable_components(&structured, &testing::context(1)).unwrap(), 3);
        assert_eq!(stable_components(&noise(60, 300), &testing::context(1)).unwrap(), 1);
    }

    #[test]
    fn the_loss_is_the_squared_difference_of_covariances() {
        let mut stream = testing::context(3).stream(0);
        let mut half = |n| {
            let mut half = Array2::from_shape_fn((n, 8), |_| stream.random_range(-1.0..1.0));
            centre(&mut half);
            half
        };
        let (own, other) = (half(20), half(21));
        let losses = loss_of_each(&own, &other, &testing::context(1)).unwrap();
        let svd = Svd::of(own.view(), &testing::context(1)).unwrap();
        let expected = other.t().dot(&other) / 20.0;
        let of = |k: usize| {
            let axes = svd.right.slice(s![..k, ..]);
            let difference = axes.t().dot(&axes) / 19.0 - &expected;
            difference.iter().map(|x| x * x).sum::<f64>()
        };
        assert_eq!(losses.len(), 8);
        for (k, &loss) in losses.iter().enumerate() {
            assert_near(loss, of(k + 1) - of(k), k);
        }
    }
}
