//! `steady-state`

use crate::design::{Features, Levels};
use crate::plan::{Plan, descend};
use crate::solver::{Line, Regression};
use crate::weights::Weights;
use lacuna_sdk::ndarray::{Axis, concatenate};
use lacuna_sdk::rows::{Asked, Genes};
use lacuna_sdk::{prelude::*, tracing};

/// What the penalty is chosen from, the strongest first, until the error rises. Each is fitted to all genes.
const PENALTIES: [f64; 4] = [0.04, 0.02, 0.01, 0.005];
/// The e of reweighting.
const SOFTNESS: f64 = 0.1;
/// The standard deviation that features are scaled to: that of z where 4 in 5 cells express the gene, so that
/// the penalty means the same for them as for `sparse`.
const SPREAD: f64 = 0.4;
/// How far one iteration goes towards what the regression says: undamped, genes that repress each other would
/// swing.
const DAMPING: f64 = 0.6;

config! {
    /// Parameters of `steady-state`.
    pub struct SteadyStateConfig {
        /// The L1 penalty λ. Left out: of 0.04, 0.02, 0.01, 0.005, the one after which the error of the validation
        /// cells rises; 0.02 where there are none.
        #[range(above(0.0))]
        penalty: Option<f64> = None,
        /// How far Huber's loss is a square, in standard deviations of the gene: residuals beyond pull no
        /// harder.
        #[range(above(0.0))]
        delta: f64 = 1.0,
        /// Rounds of reweighting, after which the features that count are hardly drawn towards 0 any more.
        #[range(0..=10)]
        reweight: usize = 1,
        /// Learn from the validation cells too, once they have chosen the penalty.
        refit: bool = true,
        /// Iterations towards the steady state, at most.
        #[range(1..=100_000)]
        iterations: usize = 100,
        /// The steady state is reached when no level changes by more; the mean level is 1.
        #[range(0.0..=1.0)]
        tolerance: f64 = 1e-5,
    }
}

/// Each gene's level x_j = p_j·N in a steady state of all the others: x_j = max(0, a_j + Σ_i v_ij x_i/(1 +
/// x_i) + Σ_i w_ij z_i) where the gene is expressed, 0 where it is not. The weights are those of a sparse
/// robust regression (see the module `solver`) on the observed levels and the assemblage z; an answer needs z
/// alone: it is the steady state, closed.
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
        let choose = |train: &Cells<'_>, validation: &Cells<'_>| self.choose(train, validation, cx);
        let Plan { genes, penalty, sets } = Plan::of(training, self.0.penalty, self.0.refit, choose)?;
        Ok(Dynamics::new(genes, self.solve(&sets, penalty, cx)?))
    }
}

impl SteadyState {
    fn choose(&self, train: &Cells<'_>, validation: &Cells<'_>, cx: &Context) -> Result<f64> {
        let penalty = descend(&PENALTIES, |penalty| {
            absolute_error(&self.solve(&[train], penalty, cx)?, validation, cx)
        })?;
        tracing::info!(penalty, "chosen on {} cells", validation.len());
        Ok(penalty)
    }

    /// The rates of all genes.
    fn solve(&self, sets: &[&Cells<'_>], penalty: f64, cx: &Context) -> Result<Rates> {
        let levels = Levels::of(sets);
        let (responses, z) = (levels.features(|x| response(x.into()) as f32), levels.assemblages());
        let features = concatenate(Axis(0), &[responses.view(), z.view()])?;
        let (features, targets) = (Features::new(features, Some(SPREAD)), levels.targets());
        let SteadyStateConfig { delta, reweight, .. } = self.0;
        let regression =
            Regression { features: &features, targets: &targets, delta, reweight, softness: SOFTNESS };
        let every: Vec<usize> = (0..levels.genes).collect();
        let means: Vec<f32> = targets.iter().map(|target| target.mean as f32).collect();
        let lines = regression.solve(&every, penalty, cx)?;
        Ok(Rates::new(&self.0, means, &lines))
    }
}

/// Σ|q − x| of closed predictions of these cells, in the units of levels.
fn absolute_error(rates: &Rates, cells: &Cells<'_>, cx: &Context) -> Result<f64> {
    let observed = Levels::of(&[cells]);
    let errors = cx.parallel_map(cells.len(), |cell| {
        cx.check()?;
        let state = rates.settle(&rates.start(cells.assemblage(cell)));
        let total: f64 = state.iter().sum();
        let closed = observed.genes as f64 / if total > 0.0 { total } else { 1.0 };
        let error = |&(j, x): &(u32, f32)| (state[j as usize] * closed - f64::from(x)).abs();
        Ok(observed.cells[cell].iter().map(error).sum())
    });
    Ok(errors.into_iter().collect::<Result<Vec<f64>>>()?.iter().sum())
}

/// How a regulator of level x acts: half as much as at most where its level is the mean of all.
fn response(x: f64) -> f64 {
    x / (1.0 + x)
}

/// What the levels of all genes tend to.
struct Rates {
    iterations: usize,
    tolerance: f64,
    /// Mean levels, from which the iteration starts.
    means: Vec<f32>,
    intercepts: Vec<f32>,
    /// Of each gene, its regulators and what their responses are multiplied by.
    responses: Weights,
    /// Expressed genes × genes: what is added where the gene of the row is expressed.
    presences: Weights,
}

/// Where an iteration starts.
struct Start {
    /// The genes that are expressed.
    genes: Vec<usize>,
    levels: Vec<f64>,
    /// What does not change: the intercept and what presence adds.
    constants: Vec<f64>,
}

impl Rates {
    fn new(config: &SteadyStateConfig, means: Vec<f32>, lines: &[Line]) -> Self {
        let genes = lines.len();
        let kind = |line: &Line, range: std::ops::Range<usize>| -> Vec<(u32, f32)> {
            let some = line.weights.iter().filter(|weight| range.contains(&(weight.0 as usize)));
            some.map(|&(i, weight)| (i - range.start as u32, weight as f32)).collect()
        };
        let columns: Vec<_> = lines.iter().map(|line| kind(line, genes..2 * genes)).collect();
        Self {
            iterations: config.iterations,
            tolerance: config.tolerance,
            means,
            intercepts: lines.iter().map(|line| line.intercept as f32).collect(),
            responses: Weights::from_rows(lines.iter().map(|line| kind(line, 0..genes))),
            presences: Weights::from_columns(genes, &columns),
        }
    }

    /// The mean levels of these genes.
    fn start(&self, assemblage: &[u32]) -> Start {
        let genes: Vec<usize> = assemblage.iter().map(|&gene| gene as usize).collect();
        let mut levels = vec![0.0; self.means.len()];
        let mut constants: Vec<f64> = self.intercepts.iter().map(|&a| a.into()).collect();
        for &gene in &genes {
            levels[gene] = self.means[gene].into();
            self.add(&mut constants, gene, 1.0);
        }
        Start { genes, levels, constants }
    }

    fn add(&self, constants: &mut [f64], gene: usize, times: f64) {
        self.presences.row(gene).iter().for_each(|&(j, w)| constants[j as usize] += times * f64::from(w));
    }

    /// The steady state, or what the iterations came to.
    fn settle(&self, start: &Start) -> Vec<f64> {
        let mut levels = start.levels.clone();
        let mut responses: Vec<f64> = levels.iter().map(|&x| response(x)).collect();
        for _ in 0..self.iterations {
            let mut largest = 0.0f64;
            for &gene in &start.genes {
                let regulators = self.responses.row(gene).iter();
                let sum: f64 = regulators.map(|&(i, w)| f64::from(w) * responses[i as usize]).sum();
                let change = DAMPING * ((start.constants[gene] + sum).max(0.0) - levels[gene]);
                levels[gene] += change;
                largest = largest.max(change.abs());
            }
            // All genes move at once: no level depends on the order of genes.
            start.genes.iter().for_each(|&gene| responses[gene] = response(levels[gene]));
            if largest <= self.tolerance {
                break;
            }
        }
        levels
    }
}

/// The fitted model.
pub struct Dynamics {
    genes: Genes,
    rates: Rates,
}

/// The steady state of a cell before any knockout.
struct Base {
    cell: usize,
    constants: Vec<f64>,
    levels: Vec<f64>,
}

impl Dynamics {
    fn new(genes: Genes, rates: Rates) -> Self {
        let weights = rates.responses.len() + rates.presences.len();
        tracing::info!("{:.1} weights a gene", weights as f64 / genes.len() as f64);
        Self { genes, rates }
    }

    fn base(&self, asked: &Asked<'_>) -> Base {
        let start = self.rates.start(asked.assemblage());
        let levels = self.rates.settle(&start);
        Base { cell: asked.cell, constants: start.constants, levels }
    }

    /// From the cell's own steady state on, as a knockout would: few genes are far from where they end.
    fn knocked_out(&self, base: &Base, asked: &Asked<'_>) -> Vec<f64> {
        let (genes, levels) = (asked.kept().collect(), base.levels.clone());
        let mut start = Start { genes, levels, constants: base.constants.clone() };
        for gene in asked.lost_expressed().map(|gene| gene as usize) {
            start.levels[gene] = 0.0;
            self.rates.add(&mut start.constants, gene, -1.0);
        }
        self.rates.settle(&start)
    }
}

impl Fitted for Dynamics {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let mut of_cell: Option<Base> = None;
        self.genes.answer(query, answer, cx, |asked, row| {
            let known = of_cell.take().filter(|base| base.cell == asked.cell);
            let base = of_cell.insert(known.unwrap_or_else(|| self.base(asked)));
            let changed = asked.lost_expressed().next().map(|_| self.knocked_out(base, asked));
            let levels = changed.as_ref().unwrap_or(&base.levels);
            asked.write_masked(row, |gene| levels[gene]);
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        let (n, rates) = (self.genes.len(), &self.rates);
        let saved = self.genes.save().text("iterations", rates.iterations.to_string());
        let saved = saved.text("tolerance", rates.tolerance.to_string());
        let saved = saved.tensor("means", &[n], &rates.means).tensor("intercepts", &[n], &rates.intercepts);
        let saved = rates.responses.save("responses", saved);
        rates.presences.save("presences", saved).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let n = genes.len();
        let rates = Rates {
            iterations: saved.get_text("iterations")?.parse()?,
            tolerance: saved.get_text("tolerance")?.parse()?,
            means: saved.get_tensor("means", &[n])?.to_vec(),
            intercepts: saved.get_tensor("intercepts", &[n])?.to_vec(),
            responses: Weights::load("responses", &saved, n)?,
            presences: Weights::load("presences", &saved, n)?,
        };
        Ok(Self { genes, rates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ask, cells, fit, holds_for_a_model, knockouts, regulated_cells};
    use lacuna_sdk::testing;

    #[test]
    fn holds_what_every_model_holds() {
        // A knockout goes on from the cell's steady state: where there is one only, both ways end there.
        let config =
            SteadyStateConfig { penalty: Some(0.1), tolerance: 1e-9, ..SteadyStateConfig::default() };
        holds_for_a_model(&SteadyState(config), 1e-4);
    }

    /// Two genes that activate and repress each other, with given weights.
    fn pair() -> Rates {
        let line = |intercept, i, weight| Line { intercept, weights: vec![(i, weight)] };
        let config = SteadyStateConfig { tolerance: 1e-12, ..SteadyStateConfig::default() };
        Rates::new(&config, vec![1.0, 1.0], &[line(2.0, 1, -2.0), line(1.0, 2, 1.0)])
    }

    #[test]
    fn a_steady_state_by_hand() {
        // x1 = 1 + z0 = 2, x0 = 2 − 2 · 2/3 = 2/3. Without gene 0, x1 = 1; without gene 1, x0 = 2.
        let both = cells(&[&[1.0, 1.0]]);
        let view = both.to_view();
        let model = Dynamics { genes: Genes::of(&Cells::from_view(&view)).unwrap(), rates: pair() };
        let list = knockouts(&[(0, &[]), (0, &[0]), (0, &[1]), (0, &[0, 1])]);
        let rows = ask(&model, &both, &list).unwrap();
        assert!((rows[0][0] - 0.25).abs() < 1e-6 && (rows[0][1] - 0.75).abs() < 1e-6, "{rows:?}");
        assert_eq!(rows[1..], [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]);
        let state = model.rates.settle(&model.rates.start(&[0, 1]));
        assert!((state[0] - 2.0 / 3.0).abs() < 1e-9 && (state[1] - 2.0).abs() < 1e-9);
        let alone = model.rates.settle(&model.rates.start(&[0]));
        assert!((alone[0] - 2.0).abs() < 1e-9 && alone[1] == 0.0);
    }

    #[test]
    fn what_swings_ends_after_the_stated_iterations() {
        let line = |i| Line { intercept: 50.0, weights: vec![(i, -1000.0)] };
        let rates = Rates::new(&SteadyStateConfig::default(), vec![1.0, 1.0], &[line(1), line(0)]);
        assert!(rates.settle(&rates.start(&[0, 1])).iter().all(|x| x.is_finite() && *x >= 0.0));
    }

    #[test]
    fn validation_cells_choose_and_then_count() {
        let (train, held_out) = (regulated_cells(60, 0.3, 1), regulated_cells(30, 0.3, 2));
        let (train_view, held_out) = (train.to_view(), held_out.to_view());
        let with = |refit, penalty| {
            let mut training = testing::training(Cells::from_view(&train_view));
            training.validation = Some(Cells::from_view(&held_out));
            let config = SteadyStateConfig { refit, penalty, ..SteadyStateConfig::default() };
            SteadyState(config).fit(&training, &testing::context(1)).unwrap().save().unwrap()
        };
        let fixed = SteadyStateConfig { penalty: Some(0.03), ..SteadyStateConfig::default() };
        assert_eq!(with(false, Some(0.03)), fit(&SteadyState(fixed), &train).unwrap().save().unwrap());
        assert_ne!(with(true, Some(0.03)), with(false, Some(0.03)));
        assert!(PENALTIES.iter().any(|&penalty| with(false, Some(penalty)) == with(false, None)));
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
