//! The reference's training: Adam on minibatches drawn without replacement; before each update a look at the
//! validation cells; the weights with the lowest validation loss are kept, the later of equal ones.

use crate::MlpConfig;
use crate::network::{Batch, Network, Pass};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::seq::index::sample;
use lacuna_sdk::tracing;

/// Random streams of the step's seed.
const INIT: u64 = 0;
const MINIBATCHES: u64 = 1;

/// Validation cells that are predicted at once, which bounds the memory.
const VALIDATION_BLOCK: usize = 256;

/// One look at the losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Updates before it.
    pub step: u64,
    /// Mean dissimilarity of the minibatch.
    pub training: f64,
    /// Mean dissimilarity of the validation cells; NaN without any.
    pub validation: f64,
}

/// Fits a network. Gives the best weights and what was seen on the way.
pub fn train(config: &MlpConfig, training: &Training<'_>, cx: &Context) -> Result<(Network<f32>, Vec<Look>)> {
    let cells = &training.cells;
    let genes = cells.n_genes();
    check(cells, "training")?;
    if let Some(validation) = &training.validation {
        check(validation, "validation")?;
    } else {
        tracing::warn!("there are no validation cells: the last weights are kept, not the best");
    }
    let size = config.minibatch.min(cells.len());
    let mut network = Network::<f32>::random(genes, &mut cx.stream(INIT));
    let mut draws = cx.stream(MINIBATCHES);
    let mut adam = Adam::new(genes, config.learning_rate);
    let (mut batch, mut pass) = (Batch::of(cells, &vec![0; size]), Pass::new(size, genes));
    let mut gradient = Network::zeros(genes);
    let mut validation = training.validation.as_ref().map(Validation::new);
    let (mut best, mut best_loss) = (None, 1.0);
    let mut history = vec![];
    for step in 0..config.steps {
        let rows = sample(&mut draws, cells.len(), size).into_vec();
        batch.fill(cells, &rows);
        let losses = pass.forward(&network, &batch, cx);
        if step % config.validate_every == 0 || step + 1 == config.steps {
            cx.check()?;
            cx.progress(step, config.steps, "steps");
            if !mean(&losses).is_finite() {
                let rate = config.learning_rate;
                return Err(Error::failed(format!(
                    "the loss is not finite at step {step}: lower `learning_rate` ({rate})"
                )));
            }
            let seen = validation.as_mut().map(|v| v.loss(&network, cx));
            history.push(Look { step, training: mean(&losses), validation: seen.unwrap_or(f64::NAN) });
            if let Some(loss) = seen.filter(|loss| *loss <= best_loss) {
                best_loss = loss;
                keep(&mut best, &network);
            }
        }
        pass.backward(&network, &batch, &mut gradient, cx);
        adam.update(&mut network, &mut gradient, cx);
    }
    Ok((best.unwrap_or(network), history))
}

fn check(cells: &Cells<'_>, what: &str) -> Result<()> {
    if cells.is_empty() || cells.n_genes() == 0 {
        return Err(Error::data(format!(
            "expected {what} cells, found {} of {} genes",
            cells.len(),
            cells.n_genes()
        )));
    }
    match (0..cells.len()).find(|&i| cells.assemblage(i).is_empty()) {
        Some(i) => Err(Error::data(format!("{what} cell {} expresses no gene", cells.cell_name(i)))),
        None => Ok(()),
    }
}

/// Copies into the memory of the last best weights.
fn keep(best: &mut Option<Network<f32>>, network: &Network<f32>) {
    match best {
        Some(best) => {
            best.w1.assign(&network.w1);
            best.b1.assign(&network.b1);
            best.w2.assign(&network.w2);
            best.b2.assign(&network.b2);
        }
        None => *best = Some(network.clone()),
    }
}

fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&l| f64::from(l)).sum::<f64>() / losses.len() as f64
}

struct Validation {
    blocks: Vec<(Batch<f32>, Pass<f32>)>,
    cells: usize,
}

impl Validation {
    fn new(cells: &Cells<'_>) -> Self {
        let rows: Vec<usize> = (0..cells.len()).collect();
        let block = |rows: &[usize]| (Batch::of(cells, rows), Pass::new(rows.len(), cells.n_genes()));
        Self { blocks: rows.chunks(VALIDATION_BLOCK).map(block).collect(), cells: rows.len() }
    }

    fn loss(&mut self, network: &Network<f32>, cx: &Context) -> f64 {
        let mut sum = 0.0;
        for (batch, pass) in &mut self.blocks {
            sum += pass.forward(network, batch, cx).iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        sum / self.cells as f64
    }
}

/// Adam (Kingma & Ba 2015) with PyTorch's defaults β = (0.9, 0.999), ε = 1e-8.
struct Adam {
    rate: f64,
    updates: i32,
    mean: Network<f32>,
    square: Network<f32>,
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Parameters that one task updates.
const CHUNK: usize = 1 << 14;

impl Adam {
    fn new(genes: usize, rate: f64) -> Self {
        Self { rate, updates: 0, mean: Network::zeros(genes), square: Network::zeros(genes) }
    }

    fn update(&mut self, network: &mut Network<f32>, gradient: &mut Network<f32>, cx: &Context) {
        self.updates += 1;
        let rate = (self.rate / (1.0 - f64::from(BETA1).powi(self.updates))) as f32;
        let correction = (1.0 - f64::from(BETA2).powi(self.updates)).sqrt() as f32;
        let parts = network.parts_mut().into_iter().zip(gradient.parts_mut());
        for ((w, g), (m, v)) in parts.zip(self.mean.parts_mut().into_iter().zip(self.square.parts_mut())) {
            let mut tasks: Vec<Task<'_>> = w
                .chunks_mut(CHUNK)
                .zip(g.chunks(CHUNK))
                .zip(m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK)))
                .map(|((w, g), (m, v))| Task { w, g, m, v })
                .collect();
            if tasks.len() < 4 {
                tasks.iter_mut().for_each(|t| t.run(rate, correction));
            } else {
                cx.parallel_chunks(&mut tasks, 1, |_, t| t[0].run(rate, correction));
            }
        }
    }
}

struct Task<'a> {
    w: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Task<'_> {
    fn run(&mut self, rate: f32, correction: f32) {
        for (((w, &g), m), v) in self.w.iter_mut().zip(self.g).zip(self.m.iter_mut()).zip(self.v.iter_mut()) {
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            *w -= rate * *m / (v.sqrt() / correction + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tests::random_cells;
    use lacuna_sdk::testing::{self, context};

    fn fit(config: &MlpConfig, seed: u64) -> (Network<f32>, Vec<Look>) {
        let (train_cells, held) = (random_cells(30, 8, 1), random_cells(10, 8, 2));
        let (train_view, held_view) = (train_cells.to_view(), held.to_view());
        let mut training = testing::training(Cells::from_view(&train_view));
        training.validation = Some(Cells::from_view(&held_view));
        train(config, &training, &context(seed)).unwrap()
    }

    #[test]
    fn training_lowers_the_loss_and_the_best_weights_are_kept() {
        let config = MlpConfig { steps: 300, ..MlpConfig::default() };
        let (network, history) = fit(&config, 3);
        assert_eq!(history.len(), 300);
        let best = history.iter().map(|l| l.validation).fold(1.0, f64::min);
        assert!(best < history[0].validation - 0.02, "{best} of {}", history[0].validation);
        let held = random_cells(10, 8, 2);
        let view = held.to_view();
        let again = Validation::new(&Cells::from_view(&view)).loss(&network, &context(3));
        assert_eq!(again, best);
    }

    #[test]
    fn the_seed_decides_everything() {
        let config = MlpConfig { steps: 20, ..MlpConfig::default() };
        assert_eq!(fit(&config, 3), fit(&config, 3));
        assert_ne!(fit(&config, 3).0, fit(&config, 4).0);
    }

    #[test]
    fn adams_first_step_moves_each_weight_by_the_rate_against_its_gradient() {
        let cx = context(1);
        let mut network = Network::<f32>::zeros(3);
        let mut gradient = Network::random(3, &mut cx.stream(0));
        Adam::new(3, 0.01).update(&mut network, &mut gradient, &cx);
        for (w, g) in network.w1.iter().zip(&gradient.w1) {
            assert!((w + 0.01 * g.signum()).abs() < 1e-5, "{w} {g}");
        }
    }

    #[test]
    fn a_cell_without_genes_is_an_error() {
        let mut cells = random_cells(3, 4, 1);
        cells.push("empty", &[0.0; 4]);
        let view = cells.to_view();
        let training = testing::training(Cells::from_view(&view));
        let error = train(&MlpConfig::default(), &training, &context(1)).unwrap_err();
        assert_eq!(error, Error::data("training cell empty expresses no gene"));
    }
}
