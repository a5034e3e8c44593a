//! `ridge`

use crate::counts::{Counts, DOMINANT, log_cp10k};
use crate::eigen::Svd;
use crate::residuals::{depths, take_out};
use crate::scores::{ESTIMATOR, Scores};
use lacuna_sdk::ndarray::{Array1, Array2, Axis, Zip};
use lacuna_sdk::prelude::*;
use lacuna_sdk::tracing;

choice! {
    /// What genes are predicted from.
    pub enum On {
        /// The log expression of all other genes.
        Expression = "expression",
        /// Which other genes the cell expresses: its assemblage.
        Presence = "presence",
    }
}

config! {
    /// Parameters of `ridge`.
    pub struct RidgeConfig {
        /// What genes are predicted from.
        on: On = On::Expression,
        /// λ, in parts of the mean variance of a principal component. Left out: chosen on the validation
        /// cells, or without any by generalised cross-validation.
        #[range(above(0.0))]
        penalty: Option<f64> = None,
        /// Whether the depth of sequencing is a predictor too, without a penalty.
        depth: bool = true,
        /// A gene above this share of all counts is left out of the libraries; 1 leaves none out.
        #[range(0.0..=1.0)]
        dominant: f64 = DOMINANT,
    }
}

/// The penalties that are tried, in parts of the mean variance of a principal component: 10^(i/2).
const PENALTIES: std::ops::RangeInclusive<i32> = -6..=6;

/// Ridge regression of each gene's log expression on all other genes: the score of gene j for the loss of
/// gene g is −w_gj m_g, the prediction with x_g = 0 less that with x_g as it is, on average over the training
/// cells, in units of log(1 + 10,000 c / L); m_g is the mean of x_g.
///
/// Y, shape (n, genes), is log(1 + 10,000 c / L), c counts and L libraries without genes above a share of `dominant` of all
/// counts; X is the same, or with `on = "presence"` 1 where c > 0 and 0 elsewhere. Of both are taken out
/// their means and, with `depth`, what a regression on log(1 + L) explains: so the depth is a predictor
/// without a penalty. All targets share X and L, so that the target is in the libraries. Then w_j = (X₋ⱼᵀ X₋ⱼ
/// + λ)⁻¹ X₋ⱼᵀ y_j, without gene j among the predictors.
///
/// With X = U S Vᵀ, A = S Vᵀ, T = Uᵀ Y and Q = (S² + λ)⁻¹ that is, for all j from one decomposition,
///
/// w_gj = a_gᵀ Q t_j + a_gᵀ Q a_j c_j, where c_j = a_jᵀ Q t_j / (1 − a_jᵀ Q a_j).
///
/// λ is the one of 13 from 10⁻³ to 10³ times the mean of S² with the least sum over genes of squared errors
/// on the validation cells (of which their own means and depth are taken out), or of ‖y_j − X₋ⱼ w_j‖² / (n −
/// degrees of freedom)².
pub struct Ridge(RidgeConfig);

impl Component for Ridge {
    const ID: &'static str = "ridge";
    const DOC: &'static str =
        "Ridge regression of each gene's log expression on all others, with the lost one set to 0";
    type Config = RidgeConfig;
    fn new(config: RidgeConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Ridge {
    type Fitted = Scores;
    const INFO: ModelInfo = ModelInfo {
        source: "ridge regression (Hoerl and Kennard 1970); penalty by validation cells or GCV (Golub, Heath and \
                 Wahba 1979)",
        ..ESTIMATOR
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Scores> {
        Scores::check(&training.cells)?;
        let data = Data::of(&training.cells, &self.0);
        let regression = Regression::new(&data, cx)?;
        let penalty = self.penalty(training, &regression, cx)?;
        let solved = regression.solve(penalty * regression.scale());
        let learned = Scores::learn(&training.cells, cx, |target, row| {
            let weights = regression.weights(&solved, target);
            let mean = data.means[target];
            row.iter_mut().zip(weights).for_each(|(score, weight)| *score = -weight * mean);
        })?;
        Ok(learned.with_chosen("penalty", &penalty))
    }
}

impl Ridge {
    /// λ, in parts of the mean variance of a principal component.
    fn penalty(&self, training: &Training<'_>, regression: &Regression, cx: &Context) -> Result<f64> {
        if let Some(penalty) = self.0.penalty {
            return Ok(penalty);
        }
        let same_genes = |cells: &&Cells<'_>| cells.n_genes() == training.cells.n_genes() && cells.len() > 1;
        let validation =
            training.validation.as_ref().filter(same_genes).map(|cells| Data::of(cells, &self.0));
        let mut best = (f64::INFINITY, 1.0);
        for exponent in PENALTIES {
            cx.check()?;
            let penalty = 10f64.powf(f64::from(exponent) / 2.0);
            let solved = regression.solve(penalty * regression.scale());
            let error = match &validation {
                Some(data) => regression.error_on(data, &solved),
                None => regression.cross_validation(&solved),
            };
            if error < best.0 {
                best = (error, penalty);
            }
        }
        tracing::info!("penalty = {:.3e}, in parts of the mean variance of a principal component", best.1);
        Ok(best.1)
    }
}

/// X and Y.
struct Data {
    /// X, shape (n, genes).
    predictors: Array2<f64>,
    /// Y, shape (n, genes); `None` if it is X.
    responses: Option<Array2<f64>>,
    /// The mean of each predictor, before anything is taken out.
    means: Vec<f64>,
    /// How many numbers of each column were taken out.
    taken: f64,
}

impl Data {
    fn of(cells: &Cells<'_>, config: &RidgeConfig) -> Self {
        let counts = Counts::of(cells, config.dominant);
        let depths = depths(&counts);
        let covariate = config.depth.then_some(&depths[..]);
        let fill = |value: &dyn Fn(f64, f64) -> f64| {
            let mut matrix = Array2::zeros((counts.n_cells(), counts.n_genes()));
            for (cell, mut row) in matrix.rows_mut().into_iter().enumerate() {
                let library = counts.library(cell);
                counts.of_cell(cell).for_each(|(gene, count)| row[gene] = value(count, library));
            }
            matrix
        };
        let without_covariate = |mut matrix: Array2<f64>| {
            take_out(&mut matrix, covariate);
            matrix
        };
        let mean = |matrix: &Array2<f64>| matrix.mean_axis(Axis(0)).map(|m| m.to_vec()).unwrap_or_default();
        let taken = 1.0 + f64::from(u8::from(config.depth));
        let expression = fill(&log_cp10k);
        if config.on == On::Expression {
            let means = mean(&expression);
            return Self { predictors: without_covariate(expression), responses: None, means, taken };
        }
        let presence = fill(&|_, _| 1.0);
        let means = mean(&presence);
        let responses = Some(without_covariate(expression));
        Self { predictors: without_covariate(presence), responses, means, taken }
    }

    fn responses(&self) -> &Array2<f64> {
        self.responses.as_ref().unwrap_or(&self.predictors)
    }
}

/// What all penalties share.
struct Regression {
    n: f64,
    taken: f64,
    /// S².
    squares: Array1<f64>,
    /// A = S Vᵀ, shape (components, genes).
    predictors: Array2<f64>,
    /// T = Uᵀ Y, shape (components, genes); `None` if it is A.
    responses: Option<Array2<f64>>,
    /// ‖y‖² of each response.
    sizes: Vec<f64>,
}

/// What belongs to one penalty.
struct Solved {
    lambda: f64,
    /// Q, of each component.
    shrunk: Array1<f64>,
    /// 1 − a_jᵀ Q a_j, for each gene.
    left: Array1<f64>,
    /// c_j, for each gene.
    own: Array1<f64>,
}

impl Regression {
    fn new(data: &Data, cx: &Context) -> Result<Self> {
        let svd = Svd::of(data.predictors.view(), cx)?;
        let sizes = data.responses().axis_iter(Axis(1)).map(|y| y.dot(&y)).collect();
        let responses = data.responses.as_ref().map(|responses| svd.left.t().dot(responses));
        let n = data.predictors.nrows() as f64;
        Ok(Self { n, taken: data.taken, squares: svd.squares, predictors: svd.right, responses, sizes })
    }

    fn responses(&self) -> &Array2<f64> {
        self.responses.as_ref().unwrap_or(&self.predictors)
    }

    /// The mean of S²; 1 if there are no components.
    fn scale(&self) -> f64 {
        self.squares.mean().unwrap_or(1.0)
    }

    fn solve(&self, lambda: f64) -> Solved {
        let shrunk = self.squares.mapv(|square| 1.0 / (square + lambda));
        let left = 1.0 - column_sums(&self.predictors, &self.predictors, &shrunk);
        let mut own = column_sums(&self.predictors, self.responses(), &shrunk) / &left;
        own.mapv_inplace(|c| if c.is_finite() { c } else { 0.0 });
        Solved { lambda, shrunk, left, own }
    }

    /// w_gj of the target g for all j. That of the target itself is 0 but for rounding.
    fn weights(&self, solved: &Solved, target: usize) -> Array1<f64> {
        let factors = &self.predictors.column(target) * &solved.shrunk;
        let by_predictors = combine(&factors, &self.predictors);
        let of_own = &by_predictors * &solved.own;
        of_own + self.responses.as_ref().map_or(by_predictors, |responses| combine(&factors, responses))
    }

    /// The sum over genes of ‖y_j − X₋ⱼ w_j‖² / (n − degrees of freedom)².
    fn cross_validation(&self, solved: &Solved) -> f64 {
        let Solved { lambda, shrunk, left, own } = solved;
        let twice = shrunk * shrunk;
        let (a, t) = (&self.predictors, self.responses());
        let [aa, at, tt] = [(a, a), (a, t), (t, t)].map(|(x, y)| column_sums(x, y, &twice));
        let inside = column_sums(t, t, &Array1::ones(shrunk.len()));
        let trace = shrunk.sum() + (self.n - shrunk.len() as f64) / lambda;
        let error_of = |j: usize| {
            let outside = (self.sizes[j] - inside[j]).max(0.0) / (lambda * lambda);
            let residual = tt[j] + outside + 2.0 * own[j] * at[j] + own[j] * own[j] * aa[j];
            let free = lambda * (trace + aa[j] / left[j]) - self.taken;
            if residual > 0.0 { lambda * lambda * residual / (free * free) } else { 0.0 }
        };
        (0..self.sizes.len()).map(error_of).sum()
    }

    /// The sum of squared errors on other cells.
    fn error_on(&self, data: &Data, solved: &Solved) -> f64 {
        let projected = data.predictors.dot(&self.predictors.t()) * &solved.shrunk;
        let by_genes = projected.dot(&self.predictors);
        let mut errors = projected.dot(self.responses()) - data.responses();
        Zip::from(&mut errors)
            .and(&data.predictors)
            .and(&by_genes)
            .and_broadcast(&solved.own)
            .for_each(|error, x, by_genes, own| *error -= (x - by_genes) * own);
        errors.iter().map(|error| error * error).sum()
    }
}

/// Σ_i x_ij y_ij q_i for each column j.
fn column_sums(x: &Array2<f64>, y: &Array2<f64>, q: &Array1<f64>) -> Array1<f64> {
    let mut sums = Array1::zeros(x.ncols());
    for ((x, y), &q) in x.rows().into_iter().zip(y.rows()).zip(q) {
        Zip::from(&mut sums).and(x).and(y).for_each(|sum, x, y| *sum += q * x * y);
    }
    sums
}

/// Σ_i f_i x_ij for each column j, along memory.
fn combine(factors: &Array1<f64>, x: &Array2<f64>) -> Array1<f64> {
    let mut sums = Array1::zeros(x.ncols());
    factors.iter().zip(x.rows()).for_each(|(&factor, row)| sums.scaled_add(factor, &row));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_near, holds_for_an_estimator, random_cells, scores};
    use lacuna_sdk::{chosen_table, testing};

    fn config(on: On, penalty: Option<f64>, depth: bool) -> RidgeConfig {
        RidgeConfig { on, penalty, depth, ..RidgeConfig::default() }
    }

    #[test]
    fn holds_what_every_estimator_holds() {
        for (on, depth) in [(On::Expression, true), (On::Expression, false), (On::Presence, true)] {
            holds_for_an_estimator(&Ridge(config(on, None, depth)));
        }
        holds_for_an_estimator(&Ridge(config(On::Presence, Some(1e-9), true)));
    }

    /// A⁻¹ by Gauss and Jordan.
    fn inverse(mut a: Array2<f64>) -> Array2<f64> {
        let n = a.nrows();
        let mut inverse = Array2::eye(n);
        for i in 0..n {
            let pivot = a[[i, i]];
            a.row_mut(i).mapv_inplace(|x| x / pivot);
            inverse.row_mut(i).mapv_inplace(|x| x / pivot);
            for row in (0..n).filter(|&row| row != i) {
                let factor = a[[row, i]];
                (0..n).for_each(|k| {
                    a[[row, k]] -= factor * a[[i, k]];
                    inverse[[row, k]] -= factor * inverse[[i, k]];
                });
            }
        }
        inverse
    }

    /// The predictors without gene j, and (X₋ⱼᵀ X₋ⱼ + λ)⁻¹ X₋ⱼᵀ.
    fn explicit(data: &Data, gene: usize, lambda: f64) -> (Array2<f64>, Array2<f64>) {
        let others: Vec<usize> = (0..data.predictors.ncols()).filter(|&other| other != gene).collect();
        let x = data.predictors.select(Axis(1), &others);
        let solver = inverse(x.t().dot(&x) + Array2::<f64>::eye(others.len()) * lambda).dot(&x.t());
        (x, solver)
    }

    /// Cells fewer and more than genes, on either kind of predictor.
    fn each_case(body: impl Fn(&OwnedCells, &RidgeConfig)) {
        for (n, genes, seed) in [(60, 9, 1), (8, 12, 2), (20, 15, 3)] {
            for on in [On::Expression, On::Presence] {
                for (penalty, depth) in [(0.05, true), (2.0, false)] {
                    body(&random_cells(n, genes, seed), &config(on, Some(penalty), depth));
                }
            }
        }
    }

    fn data(owned: &OwnedCells, config: &RidgeConfig) -> (Data, Regression) {
        let view = owned.to_view();
        let data = Data::of(&Cells::from_view(&view), config);
        let regression = Regression::new(&data, &testing::context(1)).unwrap();
        (data, regression)
    }

    #[test]
    fn agrees_with_a_regression_for_each_gene_by_an_explicit_inverse() {
        each_case(|owned, config| {
            let found = scores(&Ridge(config.clone()), owned);
            let (data, regression) = data(owned, config);
            let lambda = config.penalty.unwrap() * regression.scale();
            for j in 0..data.means.len() {
                let (_, solver) = explicit(&data, j, lambda);
                let weights = solver.dot(&data.responses().column(j));
                let others = (0..data.means.len()).filter(|&other| other != j);
                for (g, weight) in others.zip(&weights) {
                    assert_near(f64::from(found[[g, j]]), -weight * data.means[g], format!("{g} {j}"));
                }
            }
        });
    }

    #[test]
    fn cross_validation_is_that_of_explicit_hat_matrices() {
        each_case(|owned, config| {
            let (data, regression) = data(owned, config);
            let lambda = config.penalty.unwrap() * regression.scale();
            let n = data.predictors.nrows() as f64;
            let of_gene = |j: usize| {
                let (x, solver) = explicit(&data, j, lambda);
                let hat = x.dot(&solver);
                let y = data.responses().column(j);
                let residuals = &y - &hat.dot(&y);
                residuals.dot(&residuals) / (n - hat.diag().sum() - data.taken).powi(2)
            };
            let expected: f64 = (0..data.means.len()).map(of_gene).sum();
            assert_near(regression.cross_validation(&regression.solve(lambda)), expected, "GCV");
        });
    }

    #[test]
    fn the_error_on_other_cells_is_that_of_explicit_predictions() {
        each_case(|owned, config| {
            let (data, regression) = data(owned, config);
            let view = random_cells(13, data.means.len(), 99);
            let view = view.to_view();
            let other = Data::of(&Cells::from_view(&view), config);
            let lambda = config.penalty.unwrap() * regression.scale();
            let mut expected = 0.0;
            for j in 0..data.means.len() {
                let weights = explicit(&data, j, lambda).1.dot(&data.responses().column(j));
                let others: Vec<usize> = (0..data.means.len()).filter(|&other| other != j).collect();
                let predicted = other.predictors.select(Axis(1), &others).dot(&weights);
                let errors = &other.responses().column(j) - &predicted;
                expected += errors.dot(&errors);
            }
            assert_near(regression.error_on(&other, &regression.solve(lambda)), expected, "error");
        });
    }

    #[test]
    fn what_it_chose_is_told_and_given_makes_the_same_fit() {
        let owned = random_cells(60, 9, 1);
        let fitted = testing::fit(&Ridge(RidgeConfig::default()), &owned).unwrap();
        let again = Scores::load(&fitted.save().unwrap()).unwrap();
        for fitted in [&fitted, &again] {
            let chosen = PENALTIES.map(|i| 10f64.powf(f64::from(i) / 2.0)).find(|&penalty| {
                fitted.tables() == Ok(vec![chosen_table(&[("penalty", penalty.to_json())]).unwrap()])
            });
            let given = testing::fit(&Ridge(config(On::Expression, chosen, true)), &owned).unwrap();
            assert!(chosen.is_some() && given == *fitted, "{chosen:?}");
        }
    }

    #[test]
    fn noise_is_given_a_large_penalty_and_the_follower_falls() {
        let owned = random_cells(300, 10, 4);
        let found = scores(&Ridge(config(On::Expression, None, true)), &owned);
        let falls = found[[3, 2]];
        assert!((0..10).all(|j| j == 2 || found[[3, j]].abs() < falls.abs() / 2.0), "{found}");
        assert!(falls < -0.3, "{found}");
    }
}
