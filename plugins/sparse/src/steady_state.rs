//! `steady-state`

use crate::choose::descend;
use crate::design::{Features, Levels};
use crate::dynamics::{Dynamics, Rates, Response};
use crate::plan::Plan;
use crate::solver::{Line, Regression, Start};
use lacuna_sdk::ndarray::{Array2, Axis, concatenate};
use lacuna_sdk::{prelude::*, tracing};

/// What the penalty is chosen from, the strongest first.
const PENALTIES: [f64; 5] = [0.04, 0.02, 0.01, 0.005, 0.0025];
/// The penalty where there are no validation cells, and under which the response is chosen: best on the reference's
/// synthetic cells.
const PENALTY: f64 = 0.02;
/// What the response is chosen from; the first where there are no validation cells.
const RESPONSES: [Response; 2] = [Response::Saturating, Response::Linear];
/// A fall of the error by this part of it is worth a weaker penalty, whose fit takes about twice as long.
const WORTH: f64 = 0.02;
/// The e of reweighting.
const SOFTNESS: f64 = 0.1;
/// The standard deviation that features are scaled to: that of z where 4 in 5 cells express the gene, so that
/// the penalty means the same for them as for `sparse`.
const SPREAD: f64 = 0.4;

config! {
    /// Parameters of `steady-state`.
    pub struct SteadyStateConfig {
        /// The L1 penalty λ. Left out: of 0.04, 0.02, …, 0.0025, the one after which the error of the validation
        /// cells rises; 0.02 where there are none.
        #[range(above(0.0))]
        penalty: Option<f64> = None,
        /// How far Huber's loss is a square, in standard deviations of the gene: residuals beyond pull no
        /// harder.
        #[range(above(0.0))]
        delta: f64 = 0.25,
        /// How genes act on each other. Left out: by the validation cells; saturating where there are none.
        response: Option<Response> = None,
        /// Rounds of reweighting, after which the features that count are hardly drawn towards 0 any more.
        #[range(0..=10)]
        reweight: usize = 1,
        /// Learn from the validation cells too, once they have chosen.
        refit: bool = true,
        /// Iterations towards the steady state, at most.
        #[range(1..=100_000)]
        iterations: usize = 100,
        /// The steady state is reached when no level changes by more; the mean level is 1.
        #[range(0.0..=1.0)]
        tolerance: f64 = 1e-5,
    }
}

/// Each gene's level x_j = p_j·N in a steady state of all the others: x_j = max(0, a_j + Σ_i v_ij h(x_i) +
/// Σ_i w_ij z_i) where the gene is expressed, 0 where it is not, with h(x) = x / (1 + x) or h(x) = x. The weights are
/// those of a sparse robust regression (see the module `solver`) on the observed levels and the assemblage z; an
/// answer needs z alone: it is the steady state, closed.
pub struct SteadyState(pub SteadyStateConfig);

impl Component for SteadyState {
    const ID: &'static str = "steady-state";
    const DOC: &'static str = "Each gene's level in a steady state of the others, by sparse Huber regression";
    type Config = SteadyStateConfig;
    fn new(config: SteadyStateConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for SteadyState {
    type Fitted = Dynamics;
    const INFO: ModelInfo = ModelInfo {
        source: "Huber 1964; lasso, Tibshirani 1996; reweighted, Candes, Wakin & Boyd 2008",
        ..ModelInfo::PROFILES
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Dynamics> {
        let plan = Plan::of(training)?;
        let response = self.response(&plan, cx)?;
        let penalty = self.penalty(&plan, response, cx)?;
        let levels = Levels::of(&plan.sets(self.0.refit));
        let rates = self.regression(&levels, response, |regression| {
            let lines = regression.solve(&every(&levels), penalty, cx)?;
            Ok(self.rates(regression, response, &lines))
        })?;
        let name = response.to_json();
        tracing::info!(penalty, response = %name, "{:.1} weights a gene", rates.len() as f64 / levels.genes as f64);
        Ok(Dynamics { genes: plan.genes, penalty, rates })
    }
}

impl SteadyState {
    fn regression<T>(
        &self,
        levels: &Levels,
        response: Response,
        solve: impl FnOnce(&Regression<'_>) -> Result<T>,
    ) -> Result<T> {
        let features = Features::new(features(levels, response)?, Some(SPREAD));
        let (targets, SteadyStateConfig { delta, reweight, .. }) = (levels.targets(), &self.0);
        let (delta, reweight) = (*delta, *reweight);
        solve(&Regression { features: &features, targets: &targets, delta, reweight, softness: SOFTNESS })
    }

    fn rates(&self, regression: &Regression<'_>, response: Response, lines: &[Line]) -> Rates {
        let means = regression.targets.iter().map(|target| target.mean as f32).collect();
        Rates::new(self.0.iterations, self.0.tolerance, response, means, lines)
    }

    /// The response that is given, or the one with the least error of the validation cells' profiles under a middle penalty.
    fn response(&self, plan: &Plan<'_, '_>, cx: &Context) -> Result<Response> {
        let (None, Some(validation)) = (self.0.response, plan.validation) else {
            return Ok(self.0.response.unwrap_or(RESPONSES[0]));
        };
        let mut best = (RESPONSES[0], f64::INFINITY);
        for response in RESPONSES {
            let error = self.judge(plan.train, validation, response, |judge| judge(PENALTY), cx)?;
            tracing::debug!(error, response = %response.to_json(), "tried");
            if error < best.1 {
                best = (response, error);
            }
        }
        Ok(best.0)
    }

    /// The penalty that is given, or the one after which the error of the validation cells' profiles hardly falls.
    fn penalty(&self, plan: &Plan<'_, '_>, response: Response, cx: &Context) -> Result<f64> {
        let (None, Some(validation)) = (self.0.penalty, plan.validation) else {
            return Ok(self.0.penalty.unwrap_or(PENALTY));
        };
        self.judge(plan.train, validation, response, |judge| descend(&PENALTIES, WORTH, judge), cx)
    }

    /// Lets `ask` ask for the error of the validation cells' profiles under one penalty after the other.
    fn judge(
        &self,
        train: &Cells<'_>,
        validation: &Cells<'_>,
        response: Response,
        ask: impl FnOnce(&mut dyn FnMut(f64) -> Result<f64>) -> Result<f64>,
        cx: &Context,
    ) -> Result<f64> {
        let (train, observed) = (Levels::of(&[train]), Levels::of(&[validation]));
        let genes = every(&train);
        self.regression(&train, response, |regression| {
            let mut starts = vec![Start::default(); genes.len()];
            ask(&mut |penalty| {
                let lines = regression.go_on(&mut starts, &genes, penalty, cx)?;
                self.rates(regression, response, &lines).absolute_error(&observed, cx)
            })
        })
    }
}

fn every(levels: &Levels) -> Vec<usize> {
    (0..levels.genes).collect()
}

/// The responses of all genes, then the assemblage z.
fn features(levels: &Levels, response: Response) -> Result<Array2<f32>> {
    let (responses, z) = (levels.features(|x| response.of(x.into()) as f32), levels.assemblages());
    Ok(concatenate(Axis(0), &[responses.view(), z.view()])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ask, cells, fit, holds_for_a_model, knockouts, regulated_cells};
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::{chosen_table, testing};

    #[test]
    fn holds_what_every_model_holds() {
        // A knockout goes on from the cell's steady state: where there is one only, both ways end there.
        let config =
            SteadyStateConfig { penalty: Some(0.1), tolerance: 1e-9, ..SteadyStateConfig::default() };
        holds_for_a_model(&SteadyState(config), 1e-4);
    }

    #[test]
    fn validation_cells_choose_and_then_count() {
        let (train, held_out) = (regulated_cells(60, 0.3, 1), regulated_cells(30, 0.3, 2));
        let (train_view, held_out) = (train.to_view(), held_out.to_view());
        let with = |refit, penalty| {
            let mut training = testing::training(Cells::from_view(&train_view));
            training.validation = Some(Cells::from_view(&held_out));
            let response = Some(Response::Linear);
            let config = SteadyStateConfig { refit, penalty, response, ..SteadyStateConfig::default() };
            SteadyState(config).fit(&training, &testing::context(1)).unwrap()
        };
        let saved = |refit, penalty| with(refit, penalty).save().unwrap();
        let response = Some(Response::Linear);
        let fixed = SteadyStateConfig { penalty: Some(0.03), response, ..SteadyStateConfig::default() };
        assert!(saved(false, Some(0.03)) == fit(&SteadyState(fixed), &train).unwrap().save().unwrap());
        assert_ne!(saved(true, Some(0.03)), saved(false, Some(0.03)));
        let chosen = PENALTIES.iter().find(|&&penalty| saved(false, Some(penalty)) == saved(false, None));
        let told = [("penalty", chosen.unwrap().to_json()), ("response", Response::Linear.to_json())];
        assert_eq!(with(false, None).tables().unwrap(), [chosen_table(&told).unwrap()]);
    }

    /// Steady states of 30 genes in a ring: each is activated by the next, and repressed by the one after.
    fn ring_of_cells(response: Response, n: usize, seed: u64) -> OwnedCells {
        let [by, rest] = if response == Response::Linear { [0.45, 0.9] } else { [3.0, 1.5] };
        let line = |j: u32| {
            let mut weights = vec![((j + 1) % 30, by), ((j + 2) % 30, -by)];
            weights.sort_by_key(|weight| weight.0);
            Line { intercept: rest, weights }
        };
        let rates = Rates::new(1000, 1e-9, response, vec![1.0; 30], &(0..30).map(line).collect::<Vec<_>>());
        let mut rng = testing::context(seed).stream(0);
        let mut cells = OwnedCells::new((0..30).map(|j| format!("g{j}")).collect());
        for cell in 0..n {
            let assemblage: Vec<u32> = (0..30).filter(|_| rng.random_bool(0.7)).collect();
            let values: Vec<f32> = rates.levels(&assemblage).into_iter().map(|x| x as f32).collect();
            cells.push(format!("c{cell}"), &values);
        }
        cells
    }

    #[test]
    fn the_response_is_that_of_the_cells() {
        for response in RESPONSES {
            let (train, held_out) = (ring_of_cells(response, 200, 1), ring_of_cells(response, 80, 2));
            let (train, held_out) = (train.to_view(), held_out.to_view());
            let mut training = testing::training(Cells::from_view(&train));
            training.validation = Some(Cells::from_view(&held_out));
            let model = SteadyState(SteadyStateConfig::default());
            let plan = Plan::of(&training).unwrap();
            assert_eq!(model.response(&plan, &testing::context(1)), Ok(response));
        }
    }

    #[test]
    fn edges_are_no_panic() {
        for rows in [&[&[1.0f32][..]][..], &[&[1.0, 0.0]], &[&[0.0, 0.0], &[1.0, 2.0]]] {
            let train = cells(rows);
            let fitted = fit(&SteadyState(SteadyStateConfig::default()), &train).unwrap();
            let row = ask(&fitted, &train, &knockouts(&[(rows.len() - 1, &[])])).unwrap().remove(0);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}
