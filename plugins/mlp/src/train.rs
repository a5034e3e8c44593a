//! The reference's training: Adam on minibatches drawn without replacement; before each update a look at the
//! validation cells; the weights with the lowest validation loss are kept, the later of equal ones.

use crate::MlpConfig;
use crate::lanes::Path;
use crate::network::Network;
use crate::step::{Forward, Sets, Trainer, Weights};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::seq::index::sample;
use lacuna_sdk::tracing;

/// Random streams of the step's seed.
const INIT: u64 = 0;
const MINIBATCHES: u64 = 1;

/// Validation cells that are predicted at once, which bounds the memory.
const VALIDATION_BLOCK: usize = 512;

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
    let network = Network::<f32>::random(genes, &mut cx.stream(INIT));
    let mut draws = cx.stream(MINIBATCHES);
    let path = Path::chosen();
    let mut trainer = Trainer::new(&network, size, config.learning_rate, path);
    let sets = Sets::new(cells);
    let mut validation = training.validation.as_ref().map(|cells| Validation::new(cells, path));
    let (mut best, mut best_loss) = (None, 1.0);
    let mut history = vec![];
    for step in 0..config.steps {
        let rows = sample(&mut draws, cells.len(), size).into_vec();
        let losses = trainer.forward(&sets, &rows, cx);
        if step % config.validate_every == 0 || step + 1 == config.steps {
            cx.check()?;
            cx.progress(step, config.steps, "steps");
            if !mean(&losses).is_finite() {
                let rate = config.learning_rate;
                return Err(Error::failed(format!(
                    "the loss is not finite at step {step}: lower `learning_rate` ({rate})"
                )));
            }
            let seen = validation.as_mut().map(|v| v.loss(&trainer.weights, cx));
            history.push(Look { step, training: mean(&losses), validation: seen.unwrap_or(f64::NAN) });
            if let Some(loss) = seen.filter(|loss| *loss <= best_loss) {
                best_loss = loss;
                keep(&mut best, &trainer.weights);
            }
        }
        trainer.update(&sets, &rows, cx);
    }
    Ok((best.unwrap_or(trainer.weights).network(), history))
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
fn keep(best: &mut Option<Weights>, weights: &Weights) {
    match best {
        Some(best) => best.copy_from(weights),
        None => *best = Some(weights.clone()),
    }
}

fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&l| f64::from(l)).sum::<f64>() / losses.len() as f64
}

struct Validation {
    sets: Sets,
    forward: Forward,
}

impl Validation {
    fn new(cells: &Cells<'_>, path: Path) -> Self {
        let forward = Forward::new(cells.len().min(VALIDATION_BLOCK), cells.n_genes(), path);
        Self { sets: Sets::new(cells), forward }
    }

    fn loss(&mut self, weights: &Weights, cx: &Context) -> f64 {
        let cells: Vec<usize> = (0..self.sets.len()).collect();
        let blocks = cells.chunks(VALIDATION_BLOCK);
        let losses = blocks.flat_map(|block| self.forward.run(weights, &self.sets, block, cx));
        losses.map(f64::from).sum::<f64>() / self.sets.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::tests::random_cells;
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
        let weights = Weights::of(&network);
        let again = Validation::new(&Cells::from_view(&view), Path::chosen()).loss(&weights, &context(3));
        assert_eq!(again, best);
    }

    #[test]
    fn the_seed_decides_everything() {
        let config = MlpConfig { steps: 20, ..MlpConfig::default() };
        assert_eq!(fit(&config, 3), fit(&config, 3));
        assert_ne!(fit(&config, 3).0, fit(&config, 4).0);
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

    /// Cells of which each expresses a gene with this probability.
    fn many_cells(cells: usize, genes: usize, presence: f64, seed: u64) -> OwnedCells {
        use lacuna_sdk::rand::RngExt;
        let mut stream = context(seed).stream(7);
        let mut owned = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
        for i in 0..cells {
            let row: Vec<f32> = (0..genes)
                .map(|_| if stream.random_bool(presence) { stream.random_range(0.1..3.0) } else { 0.0 })
                .collect();
            owned.push(format!("c{i}"), &row);
        }
        owned
    }

    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        for (genes, cells, held, presence, steps) in [(100, 320, 80, 0.8, 5000), (2000, 1600, 400, 0.3, 20)] {
            let (train_cells, held) =
                (many_cells(cells, genes, presence, 1), many_cells(held, genes, presence, 2));
            let (train_view, held_view) = (train_cells.to_view(), held.to_view());
            let mut training = testing::training(Cells::from_view(&train_view));
            training.validation = Some(Cells::from_view(&held_view));
            let start = std::time::Instant::now();
            train(&MlpConfig { steps, ..MlpConfig::default() }, &training, &context(1)).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{genes} genes: {seconds:.2} s for {steps} steps, {:.2} ms each, one thread",
                1e3 * seconds / steps as f64
            );
        }
    }
}
