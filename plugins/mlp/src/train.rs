//! The reference's training: Adam on minibatches drawn without replacement; before each update a look at the
//! validation cells; the weights with the lowest validation loss are kept, the later of equal ones.

use crate::MlpConfig;
use crate::batch::{Batch, Sets};
use crate::checkpoint::{Checkpoints, State};
use crate::device;
use crate::lanes::Path;
use crate::network::{Network, Shape};
use crate::step::Trainer;
use crate::weights::Weights;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::seq::index::sample;
use lacuna_sdk::tracing;

/// Random streams of the step's seed.
const INIT: u64 = 0;
const MINIBATCHES: u64 = 1;

/// Validation cells that are predicted at once, which bounds the memory.
pub const VALIDATION_BLOCK: usize = 512;

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

/// Fits a network, from this one on if one is given, of the shape that `config` asks for. Gives the best weights and what
/// was seen on the way.
pub fn train(
    config: &MlpConfig,
    from: Option<Network<f32>>,
    training: &Training<'_>,
    cx: &Context,
) -> Result<(Network<f32>, Vec<Look>)> {
    let cells = &training.cells;
    let genes = cells.n_genes();
    check(cells, "training")?;
    if let Some(validation) = &training.validation {
        check(validation, "validation")?;
    } else {
        if config.patience.is_some() {
            return Err(Error::parameters("`patience` counts looks at validation cells, and there are none"));
        }
        tracing::warn!("there are no validation cells: the last weights are kept, not the best");
    }
    let shape = config.shape(genes);
    check_size(&shape)?;
    if let Some(device) = device::open(config.device, config.device_index)? {
        let network = from.unwrap_or_else(|| Network::random(&shape, &mut cx.stream(INIT)));
        return device.train(config, &network, training, cx);
    }
    let mut draws = Draws::new(config, cells.len(), cx);
    let mut checkpoints = Checkpoints::new(config, config.checkpoint_seconds, (from.as_ref(), training), cx);
    let network = from.unwrap_or_else(|| Network::random(&shape, &mut cx.stream(INIT)));
    let trainer = Trainer::new(&network, config.descent(), Path::chosen());
    drop(network);
    let mut state = State { step: 0, trainer, best: None, best_loss: 1.0, history: vec![] };
    checkpoints.resume(&mut state);
    (0..state.step).for_each(|_| drop(draws.next()));
    let sets = Sets::new(cells);
    let mut batch = Batch::new(&sets, &draws.clone().next(), &shape);
    let mut validation = training.validation.as_ref().map(|cells| Validation::new(cells, &shape));
    while state.step < config.steps {
        batch.fill(&sets, &draws.next());
        cx.check()?;
        cx.progress(state.step, config.steps, "steps");
        if state.step.is_multiple_of(config.validate_every) || state.step + 1 == config.steps {
            state.look(config, &mut batch, validation.as_mut(), cx)?;
            if config.patience.is_some_and(|n| looks_in_vain(&state.history, state.best_loss, n)) {
                break;
            }
        } else {
            state.trainer.forward(&mut [&mut batch], cx);
        }
        state.trainer.update(&batch, cx);
        state.step += 1;
        checkpoints.keep(&mut state, cx);
    }
    state.trainer.settle(cx);
    Ok((state.best.unwrap_or(state.trainer.weights).network(), state.history))
}

impl State {
    /// The forward pass of the minibatch and of the validation cells.
    fn look(
        &mut self,
        config: &MlpConfig,
        batch: &mut Batch,
        validation: Option<&mut Validation>,
        cx: &Context,
    ) -> Result<()> {
        let seen = match validation {
            Some(validation) => Some(validation.loss(batch, &mut self.trainer, cx)?),
            None => {
                self.trainer.forward(&mut [&mut *batch], cx);
                None
            }
        };
        let (step, loss) = (self.step, mean(&batch.losses(cx)));
        if !loss.is_finite() {
            return Err(not_finite(step, config));
        }
        self.history.push(Look { step, training: loss, validation: seen.unwrap_or(f64::NAN) });
        if let Some(loss) = seen.filter(|loss| *loss <= self.best_loss) {
            self.best_loss = loss;
            keep(&mut self.best, &self.trainer.weights, cx);
        }
        Ok(())
    }
}

/// Whether the last looks, so many, all saw a higher loss than the lowest.
pub fn looks_in_vain(history: &[Look], lowest: f64, looks: u64) -> bool {
    let looks = looks as usize;
    history.len() > looks && history.iter().rev().take(looks).all(|look| look.validation > lowest)
}

/// What is said of a training whose loss is lost.
pub fn not_finite(step: u64, config: &MlpConfig) -> Error {
    let rate = config.learning_rate;
    Error::failed(format!("the loss is not finite at step {step}: lower `learning_rate` ({rate})"))
}

/// The minibatches, one after the other: drawn without replacement.
#[derive(Clone)]
pub struct Draws {
    stream: Stream,
    cells: usize,
    size: usize,
}

impl Draws {
    /// Of so many cells.
    pub fn new(config: &MlpConfig, cells: usize, cx: &Context) -> Self {
        Self { stream: cx.stream(MINIBATCHES), cells, size: config.minibatch.min(cells) }
    }

    /// Cells of a minibatch.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The next minibatch.
    pub fn next(&mut self) -> Vec<usize> {
        sample(&mut self.stream, self.cells, self.size).into_vec()
    }
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

/// Parameters that a network can have: with moments and the best weights they take 16 bytes each.
const MOST_PARAMETERS: f64 = 4e9;

fn check_size(shape: &Shape) -> Result<()> {
    let parameters: f64 = shape.widths.windows(2).map(|w| (w[0] as f64 + 1.0) * w[1] as f64).sum();
    if parameters <= MOST_PARAMETERS {
        return Ok(());
    }
    Err(Error::parameters(format!(
        "layers of {:?} units have {parameters:.1e} parameters, more than {MOST_PARAMETERS:.0e}: take fewer genes, or a \
         `rank` such as 64",
        shape.widths
    )))
}

/// Copies into the memory of the last best weights.
fn keep(best: &mut Option<Weights>, weights: &Weights, cx: &Context) {
    match best {
        Some(best) => best.copy_from(weights, cx),
        None => *best = Some(weights.clone()),
    }
}

fn mean(losses: &[f32]) -> f64 {
    losses.iter().map(|&l| f64::from(l)).sum::<f64>() / losses.len() as f64
}

/// The validation cells, in blocks.
struct Validation {
    blocks: Vec<Batch>,
}

impl Validation {
    fn new(cells: &Cells<'_>, shape: &Shape) -> Self {
        let (sets, cells) = (Sets::new(cells), (0..cells.len()).collect::<Vec<usize>>());
        Self { blocks: cells.chunks(VALIDATION_BLOCK).map(|rows| Batch::new(&sets, rows, shape)).collect() }
    }

    /// The mean loss; a minibatch goes through the network with the first cells.
    fn loss(&mut self, minibatch: &mut Batch, trainer: &mut Trainer, cx: &Context) -> Result<f64> {
        let mut minibatch = Some(minibatch);
        let (mut sum, mut cells) = (0.0, 0);
        for block in &mut self.blocks {
            cx.check()?;
            match minibatch.take() {
                Some(minibatch) => trainer.forward(&mut [minibatch, block], cx),
                None => trainer.forward(&mut [block], cx),
            }
            sum += block.losses(cx).into_iter().map(f64::from).sum::<f64>();
            cells += block.len();
        }
        Ok(sum / cells as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schedule;
    use crate::plain::tests::random_cells;
    use lacuna_sdk::testing::{self, Setting, context};

    fn fit(config: &MlpConfig, seed: u64) -> (Network<f32>, Vec<Look>) {
        let (train_cells, held) = (random_cells(30, 8, 1), random_cells(10, 8, 2));
        let (train_view, held_view) = (train_cells.to_view(), held.to_view());
        let mut training = testing::training(Cells::from_view(&train_view));
        training.validation = Some(Cells::from_view(&held_view));
        train(config, None, &training, &context(seed)).unwrap()
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
        let shape = network.shape();
        let cells = Cells::from_view(&view);
        let mut one = Batch::new(&Sets::new(&cells), &[0], &shape);
        let mut trainer = Trainer::new(&network, config.descent(), Path::chosen());
        let again = Validation::new(&cells, &shape).loss(&mut one, &mut trainer, &context(3)).unwrap();
        assert_eq!(again, best);
    }

    #[test]
    fn a_training_without_progress_stops_after_so_many_looks_and_keeps_the_same_weights() {
        for validate_every in [1, 3] {
            let config = MlpConfig { steps: 400, validate_every, ..MlpConfig::default() };
            let (_, all) = fit(&config, 3);
            // Where so many looks in a row were in vain, by the curve of the whole training.
            let patience = 10;
            let (mut lowest, mut waited, mut stop) = (1.0, 0, all.len());
            for (i, look) in all.iter().enumerate() {
                (lowest, waited) = match look.validation <= lowest {
                    true => (look.validation, 0),
                    false => (lowest, waited + 1),
                };
                if waited == patience {
                    stop = i + 1;
                    break;
                }
            }
            assert!(stop < all.len(), "never stops");
            let (network, history) = fit(&MlpConfig { patience: Some(patience), ..config.clone() }, 3);
            assert_eq!(history, all[..stop]);
            let until = MlpConfig { steps: all[stop - 1].step + 1, ..config };
            assert_eq!(fit(&until, 3), (network, history));
        }
    }

    #[test]
    fn patience_without_validation_cells_is_an_error() {
        let cells = random_cells(6, 4, 1);
        let view = cells.to_view();
        let training = testing::training(Cells::from_view(&view));
        let config = MlpConfig { patience: Some(3), ..MlpConfig::default() };
        let error = train(&config, None, &training, &context(1)).unwrap_err();
        assert!(format!("{error:?}").contains("there are none"), "{error:?}");
    }

    /// The loss of these validation cells by a network.
    fn loss(network: &Network<f32>, held: &OwnedCells) -> f64 {
        let view = held.to_view();
        let (cells, shape) = (Cells::from_view(&view), network.shape());
        let mut one = Batch::new(&Sets::new(&cells), &[0], &shape);
        let mut trainer = Trainer::new(network, MlpConfig::default().descent(), Path::chosen());
        Validation::new(&cells, &shape).loss(&mut one, &mut trainer, &context(3)).unwrap()
    }

    #[test]
    fn a_training_that_goes_on_begins_at_the_network_and_is_never_worse_on_the_validation_cells() {
        let held = dependent_cells(30, 2);
        for (rank, hidden) in [(None, vec![]), (Some(3), vec![]), (None, vec![5, 4])] {
            let source = MlpConfig { steps: 60, rank, hidden, ..MlpConfig::default() };
            let (network, _) = fit(&source, 3);
            let on = |config: &MlpConfig| {
                let (few, view) = (dependent_cells(40, 5), held.to_view());
                let few = few.to_view();
                let mut training = testing::training(Cells::from_view(&few));
                training.validation = Some(Cells::from_view(&view));
                train(config, Some(network.clone()), &training, &context(4)).unwrap()
            };
            // One step is a look at the network itself, and an update that nobody looks at.
            let (same, history) = on(&MlpConfig { steps: 1, ..source.clone() });
            assert_eq!((&same, history.len()), (&network, 1));
            assert_eq!(history[0].validation, loss(&network, &held));
            let wild = MlpConfig { steps: 50, learning_rate: 3.0, ..source.clone() };
            assert!(loss(&on(&wild).0, &held) <= loss(&network, &held));
            let (better, _) = on(&MlpConfig { steps: 200, learning_rate: 0.002, ..source });
            assert!(better != network && loss(&better, &held) < loss(&network, &held));
        }
    }

    #[test]
    fn with_enough_cells_it_comes_to_what_a_training_from_scratch_does() {
        let (far, _) = fit(&MlpConfig { steps: 300, ..MlpConfig::default() }, 9);
        let (cells, held) = (dependent_cells(300, 1), dependent_cells(60, 2));
        let (view, held_view) = (cells.to_view(), held.to_view());
        let mut training = testing::training(Cells::from_view(&view));
        training.validation = Some(Cells::from_view(&held_view));
        let config = MlpConfig { steps: 1500, ..MlpConfig::default() };
        let trained = |from| train(&config, from, &training, &context(1)).unwrap().0;
        let (scratch, on) = (loss(&trained(None), &held), loss(&trained(Some(far.clone())), &held));
        let before = loss(&far, &held);
        assert!(scratch < 0.5 * before && on < scratch + 0.1 * (before - scratch), "{before} {scratch} {on}");
    }

    /// Cells of 8 genes, each of which is five times as high beside the gene after it.
    fn dependent_cells(n: usize, seed: u64) -> OwnedCells {
        let mut cells = OwnedCells::new((0..8).map(|j| format!("g{j}")).collect());
        let random = random_cells(n, 8, seed);
        let view = random.to_view();
        let random = Cells::from_view(&view);
        for i in 0..n {
            let has = |j: usize| random.assemblage(i).contains(&(j as u32));
            let level = |j: usize| f32::from(u8::from(has(j))) * if has((j + 1) % 8) { 5.0 } else { 1.0 };
            cells.push(format!("c{i}"), &(0..8).map(level).collect::<Vec<f32>>());
        }
        cells
    }

    #[test]
    fn the_seed_decides_everything() {
        let config = MlpConfig { steps: 20, ..MlpConfig::default() };
        assert_eq!(fit(&config, 3), fit(&config, 3));
        assert_ne!(fit(&config, 3).0, fit(&config, 4).0);
    }

    #[test]
    fn a_training_that_is_interrupted_goes_on_to_the_same_weights() {
        let folder = tempfile::tempdir().unwrap();
        let (train_cells, held) = (random_cells(30, 8, 1), random_cells(10, 8, 2));
        let (train_view, held_view) = (train_cells.to_view(), held.to_view());
        let mut training = testing::training(Cells::from_view(&train_view));
        training.validation = Some(Cells::from_view(&held_view));
        let forms = [(None, vec![]), (Some(3), vec![]), (None, vec![5, 4])];
        for (weight_decay, schedule) in [(0.0, Schedule::Constant), (0.3, Schedule::Cosine)] {
            for (rank, hidden) in forms.clone() {
                let config = MlpConfig {
                    steps: 40,
                    rank,
                    hidden,
                    weight_decay,
                    schedule,
                    patience: Some(39),
                    checkpoint_seconds: 0.0,
                    ..MlpConfig::default()
                };
                let undisturbed = train(&config, None, &training, &context(3)).unwrap();
                let scratch =
                    || Setting { seed: 3, scratch: Some(folder.path().into()), ..Setting::default() };
                let stopped =
                    train(&config, None, &training, &Setting { cancel_at: Some(24), ..scratch() }.context());
                assert_eq!(stopped.unwrap_err(), Error::Cancelled);
                let mut checkpoints = Checkpoints::new(&config, 0.0, (None, &training), &scratch().context());
                let shape = config.shape(8);
                let other = Network::<f32>::random(&shape, &mut context(4).stream(0));
                let trainer = Trainer::new(&other, config.descent(), Path::chosen());
                let mut state = State { step: 0, trainer, best: None, best_loss: 1.0, history: vec![] };
                checkpoints.resume(&mut state);
                assert_eq!((state.step, state.history.len()), (24, 24));
                assert_eq!(train(&config, None, &training, &scratch().context()).unwrap(), undisturbed);
                let from = || Some(Network::<f32>::random(&config.shape(8), &mut context(4).stream(0)));
                assert_eq!(
                    train(&config, from(), &training, &scratch().context()).unwrap(),
                    train(&config, from(), &training, &context(3)).unwrap()
                );
                // Another training does not go on from it, and what is damaged is left alone.
                let other = MlpConfig { learning_rate: 0.02, ..config.clone() };
                assert_eq!(
                    train(&other, None, &training, &scratch().context()).unwrap(),
                    train(&other, None, &training, &context(3)).unwrap()
                );
                checkpoints.keep(&mut state, &context(3));
                for file in std::fs::read_dir(folder.path()).unwrap() {
                    let path = file.unwrap().path();
                    let bytes = std::fs::read(&path).unwrap();
                    let mut flipped = bytes.clone();
                    flipped[bytes.len() / 2] ^= 4;
                    std::fs::write(&path, flipped).unwrap();
                    assert_eq!(train(&config, None, &training, &scratch().context()).unwrap(), undisturbed);
                    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
                }
                assert_eq!(train(&config, None, &training, &scratch().context()).unwrap(), undisturbed);
            }
        }
    }

    #[test]
    fn a_cell_without_genes_is_an_error() {
        let mut cells = random_cells(3, 4, 1);
        cells.push("empty", &[0.0; 4]);
        let view = cells.to_view();
        let training = testing::training(Cells::from_view(&view));
        let error = train(&MlpConfig::default(), None, &training, &context(1)).unwrap_err();
        assert_eq!(error, Error::data("training cell empty expresses no gene"));
    }
}
