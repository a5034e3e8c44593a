//! `covariance`

use crate::counts::Counts;
use crate::eigen::{Svd, eigen};
use crate::residuals::{centre, depths, pearson, take_out};
use crate::scores::{ESTIMATOR, Scores};
use lacuna_sdk::ndarray::{Array2, Axis, s};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::seq::SliceRandom;
use lacuna_sdk::tracing;

config! {
    /// Parameters of `covariance`.
    pub struct CovarianceConfig {
        /// The number of principal components. Left out: as many of the first 10 as two halves of the cells
        /// agree on.
        #[range(1..=500)]
        components: Option<usize> = None,
        /// The dispersion of counts: their variance is μ + μ² / theta.
        #[range(above(0.0))]
        theta: f64 = 100.0,
        /// Whether the depth of sequencing is taken out of the residuals.
        depth: bool = true,
    }
}

/// At most so many components are kept when their number is not given.
const MOST_COMPONENTS: usize = 10;
/// Two halves of the cells agree on k components if no direction in the space of the one has less of its
/// squared length in that of the other.
const AGREEMENT: f64 = 0.5;

/// The covariance of a gene with the lost one in the space of the first k principal components: the score of
/// gene j for the loss of gene g is −Σ_i a_ig a_ij / (n − 1), i = 1..k, which has no unit.
///
/// A = S Vᵀ, shape (k, genes), of the thin singular value decomposition U S Vᵀ of analytic Pearson residuals,
/// shape (cells, genes): (c − μ) / √(μ + μ² / θ), clipped at ±√n, with μ = L Σc / ΣL, c the counts of a gene
/// and L the libraries without genes above a fifth of all counts. With `depth`, what a regression on log(1 +
/// L) explains of them is taken out. The residuals are shared by all targets, so that the target is in the
/// libraries.
///
/// The number of components, if not given, is the largest k up to 10 of which the cells' two halves, drawn at
/// random, agree: with the first k principal axes V and W of the halves, no eigenvalue of V Wᵀ W Vᵀ is below
/// ½; 1 if there is none.
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
        let counts = Counts::of(&training.cells);
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
        Scores::learn(&training.cells, cx, |target, row| {
            let covariances = axes.column(target).dot(&axes);
            row.iter_mut().zip(&covariances).for_each(|(score, c)| *score = -c / (n - 1.0));
        })
    }
}

/// How many principal components two random halves of the cells agree on.
fn stable_components(residuals: &Array2<f64>, cx: &Context) -> Result<usize> {
    let mut cells: Vec<usize> = (0..residuals.nrows()).collect();
    cells.shuffle(&mut cx.stream(0));
    let (one, other) = cells.split_at(cells.len() / 2);
    let shared = principal_axes(residuals, one, cx)?.dot(&principal_axes(residuals, other, cx)?.t());
    let mut stable = 1;
    for k in 2..=shared.nrows().min(shared.ncols()) {
        let cosines = shared.slice(s![..k, ..k]);
        let (squares, _) = eigen(&cosines.dot(&cosines.t()), cx)?;
        if squares.last().is_some_and(|&least| least >= AGREEMENT) {
            stable = k;
        }
    }
    tracing::info!("two halves of the cells agree on {stable} of {MOST_COMPONENTS} principal components");
    Ok(stable)
}

/// The first principal axes of some cells as rows of length 1.
fn principal_axes(residuals: &Array2<f64>, cells: &[usize], cx: &Context) -> Result<Array2<f64>> {
    let mut part = residuals.select(Axis(0), cells);
    centre(&mut part);
    let svd = Svd::of(part.view(), cx)?;
    let kept = svd.squares.len().min(MOST_COMPONENTS);
    let lengths = svd.squares.slice(s![..kept]).mapv(f64::sqrt).insert_axis(Axis(1));
    Ok(&svd.right.slice(s![..kept, ..]) / &lengths)
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
            let counts = Counts::of(&Cells::from_view(&view));
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
        let counts = Counts::of(&Cells::from_view(&view));
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
    fn halves_agree_on_what_is_there_and_on_no_more() {
        let mut stream = testing::context(9).stream(0);
        let mut noise = |n, m| Array2::from_shape_fn((n, m), |_| stream.random_range(-1.0..1.0));
        let mut structured = noise(300, 3).dot(&noise(3, 60)) * 3.0 + noise(300, 60) * 0.5;
        centre(&mut structured);
        assert_eq!(stable_components(&structured, &testing::context(1)).unwrap(), 3);
        assert_eq!(stable_components(&noise(300, 60), &testing::context(1)).unwrap(), 1);
    }
}
