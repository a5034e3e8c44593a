//! The training loop on a device: everything stays there; the losses of many looks are read back at once.
//!
//! The steps are those of `train`: the same weights to begin with, the same minibatches, the same looks. Sums are made in
//! another order, so that weights differ as those of two seeds do, in the end.

use super::kernels::adam::{self, ROWS};
use super::kernels::product::Then;
use super::kernels::{loss, rows};
use super::matrix::{Matrix, multiply};
use super::runner::{Buffer, Runner};
use crate::MlpConfig;
use crate::adam::Rates;
use crate::network::{Layer, Network, Shape};
use crate::train::{Draws, Look, VALIDATION_BLOCK, looks_in_vain, not_finite};
use cubecl::prelude::*;
use lacuna_sdk::ndarray::{Array1, Array2};
use lacuna_sdk::prelude::*;

/// Looks whose losses are read back at once.
const LOOKS: usize = 256;
/// Steps whose minibatches are sent at once.
const STEPS: u64 = 256;
/// Units of the team that sums up losses.
const TALLY: usize = 128;
/// Numbers of a list of drawn cells.
const DRAWN: usize = 1 << 22;
/// What no kernel has written yet.
const UNWRITTEN: f32 = -1.0;

/// Cells on the device: the genes that they express, and the shares.
pub struct Set {
    /// The genes of all cells, one cell after the other.
    pub genes: Buffer,
    /// Their shares.
    pub shares: Buffer,
    /// Where each cell begins, and the end.
    pub starts: Buffer,
}

/// Where a layer lies among all parameters. The last layer lies outputs × inputs, the others inputs × outputs.
#[derive(Clone, Copy)]
struct Place {
    weights: usize,
    bias: usize,
    inputs: usize,
    outputs: usize,
}

/// Weights in training, with Adam's moments; each all layers after the other.
struct Weights {
    now: Buffer,
    mean: Buffer,
    square: Buffer,
    places: Vec<Place>,
    relu: bool,
}

/// Cells that go through the network together. All lists are cells × genes or units.
struct Pass {
    cells: usize,
    x: Buffer,
    p: Buffer,
    /// What comes out of each layer.
    outputs: Vec<Buffer>,
    losses: Buffer,
    /// The gradient of what comes out of each layer.
    gradients: Vec<Buffer>,
}

/// Trains on a device what `train` trains on the processor.
pub fn train<R: Runtime>(
    on: &Runner<R>,
    config: &MlpConfig,
    network: &Network<f32>,
    training: &Training<'_>,
    cx: &Context,
) -> Result<(Network<f32>, Vec<Look>)> {
    let trained = run(Trainer::new(on, config, network, training, cx)?, training, cx);
    on.clean();
    trained
}

fn run<R: Runtime>(
    mut trainer: Trainer<'_, R>,
    training: &Training<'_>,
    cx: &Context,
) -> Result<(Network<f32>, Vec<Look>)> {
    let (on, config) = (trainer.on, trainer.config);
    let mut step = 0;
    while step < config.steps {
        cx.check()?;
        cx.progress(step, config.steps, "steps");
        trainer.forward_minibatch(step);
        if step.is_multiple_of(config.validate_every) || step + 1 == config.steps {
            trainer.look(step);
            if trainer.seen.len() == LOOKS || config.patience.is_some() {
                trainer.read_looks()?;
            }
            if config.patience.is_some_and(|n| looks_in_vain(&trainer.history, trainer.lowest, n)) {
                break;
            }
        }
        trainer.update(step);
        step += 1;
    }
    trainer.read_looks()?;
    let kept = if training.validation.is_some() { &trainer.best } else { &trainer.weights.now };
    let kept: Vec<f32> = on.read(kept)?;
    // A device may lose what is not a number before it is in a loss.
    match kept.iter().all(|weight| weight.is_finite()) {
        true => Ok((trainer.weights.network(&kept), trainer.history)),
        false => Err(not_finite(step, config)),
    }
}

/// An error where the training, or the map that a screen makes of the network, does not fit into the device.
fn check_room<R: Runtime>(
    on: &Runner<R>,
    shape: &Shape,
    minibatch: usize,
    training: &Training<'_>,
) -> Result<()> {
    let parameters: u64 = shape.widths.windows(2).map(|w| (w[0] as u64 + 1) * w[1] as u64).sum();
    // Weights, two moments, and the best weights; cells as they are; what goes through the layers, and back.
    let mut lists = vec![parameters; 4];
    for (cells, at_once, back) in std::iter::once((&training.cells, minibatch, 2))
        .chain(training.validation.as_ref().map(|cells| (cells, cells.len().min(VALIDATION_BLOCK), 1)))
    {
        let stored: usize = (0..cells.len()).map(|i| cells.assemblage(i).len()).sum();
        lists.extend([stored as u64; 2]);
        lists.extend([(at_once * shape.widths[0]) as u64; 2]);
        let through = shape.widths[1..].iter().map(|units| (at_once * units) as u64);
        lists.extend((0..back).flat_map(|_| through.clone()));
    }
    on.check_room("the training", &lists)?;
    match shape.relu {
        true => Ok(()),
        false => on.check_room(
            "the map of so many genes, by which knockouts are screened,",
            &[map_of(shape.widths[0])],
        ),
    }
}

/// Numbers of the map of so many genes.
pub fn map_of(genes: usize) -> u64 {
    (genes as u64).pow(2)
}

struct Trainer<'a, R: Runtime> {
    on: &'a Runner<R>,
    config: &'a MlpConfig,
    weights: Weights,
    best: Buffer,
    cells: Set,
    draws: Draws,
    /// The cells of the next minibatches, one after the other, and the step of the first.
    drawn: (Buffer, u64),
    minibatch: Pass,
    validation: Option<Validation>,
    /// Sums of losses, of the minibatch and of the validation cells, look after look; behind them the lowest so far.
    sums: Buffer,
    /// The steps of these looks.
    seen: Vec<u64>,
    lowest: f64,
    history: Vec<Look>,
}

/// Validation cells, in blocks; a single block is made dense once.
struct Validation {
    cells: Set,
    n: usize,
    rows: Buffer,
    pass: Pass,
}

impl<'a, R: Runtime> Trainer<'a, R> {
    fn new(
        on: &'a Runner<R>,
        config: &'a MlpConfig,
        network: &Network<f32>,
        training: &Training<'_>,
        cx: &Context,
    ) -> Result<Self> {
        let shape = network.shape();
        let draws = Draws::new(config, training.cells.len(), cx);
        check_room(on, &shape, draws.size(), training)?;
        let weights = Weights::new(on, network);
        let minibatch = Pass::new(on, draws.size(), &shape, true);
        let validation = training.validation.as_ref().map(|cells| Validation::new(on, cells, &shape));
        let mut trainer = Self {
            best: on.upload(&weights.parameters(network)),
            cells: Set::new(on, &training.cells),
            drawn: (on.room::<u32>(1), 0),
            sums: on.room::<f32>(1),
            lowest: 1.0,
            seen: vec![],
            history: vec![],
            on,
            config,
            weights,
            draws,
            minibatch,
            validation,
        };
        trainer.clear_sums();
        Ok(trainer)
    }

    fn clear_sums(&mut self) {
        let mut sums = vec![UNWRITTEN; 2 * LOOKS + 1];
        let n = self.validation.as_ref().map_or(0, |v| v.n);
        sums[2 * LOOKS] = (self.lowest * n as f64) as f32;
        self.sums = self.on.upload(&sums);
    }

    fn forward_minibatch(&mut self, step: u64) {
        let most = (DRAWN / self.draws.size()).max(1) as u64;
        if step.is_multiple_of(STEPS.min(most)) {
            let steps = STEPS.min(most).min(self.config.steps - step);
            let drawn: Vec<u32> = (0..steps).flat_map(|_| self.draws.next()).map(|row| row as u32).collect();
            self.drawn = (self.on.upload(&drawn), step);
        }
        let at = (step - self.drawn.1) as usize * self.minibatch.cells;
        let rows = (&self.drawn.0, at, self.minibatch.cells);
        self.minibatch.fill(self.on, &self.cells, rows);
        self.minibatch.forward(self.on, &self.weights, &self.cells, rows);
        self.minibatch.losses(self.on, true);
    }

    /// Sums up the losses of the minibatch and of the validation cells; keeps the weights if these are the best.
    fn look(&mut self, step: u64) {
        let place = 2 * self.seen.len();
        self.seen.push(step);
        self.tally(&self.minibatch, self.minibatch.cells, place, false);
        let Some(validation) = &self.validation else { return };
        for at in (0..validation.n).step_by(VALIDATION_BLOCK) {
            let cells = VALIDATION_BLOCK.min(validation.n - at);
            let rows = (&validation.rows, at, cells);
            if validation.n > VALIDATION_BLOCK {
                validation.pass.fill(self.on, &validation.cells, rows);
            }
            validation.pass.forward(self.on, &self.weights, &validation.cells, rows);
            validation.pass.losses_of(self.on, cells, false);
            self.tally(&validation.pass, cells, place + 1, at > 0);
        }
        let (on, place) = (self.on, place as u32 + 1);
        let (cubes, units) = Runner::<R>::units(self.best.len());
        let (now, best, sums) = (on.arg(&self.weights.now), on.arg(&self.best), on.arg(&self.sums));
        loss::keep::launch::<R>(on.client(), cubes, units, now, best, sums, place);
        let (cubes, units) = (Runner::<R>::cubes(1), CubeDim::new_1d(1));
        loss::lower::launch::<R>(on.client(), cubes, units, on.arg(&self.sums), place);
    }

    fn tally(&self, pass: &Pass, cells: usize, place: usize, added: bool) {
        let (losses, sums) = (self.on.arg(&pass.losses), self.on.arg(&self.sums));
        let (cubes, units) = (Runner::<R>::cubes(1), CubeDim::new_1d(TALLY as u32));
        let client = self.on.client();
        loss::tally::launch::<R>(
            client,
            cubes,
            units,
            losses,
            sums,
            cells as u32,
            place as u32,
            added,
            TALLY,
        );
    }

    /// What the looks since the last time saw.
    fn read_looks(&mut self) -> Result<()> {
        if self.seen.is_empty() {
            return Ok(());
        }
        let sums: Vec<f32> = self.on.read(&self.sums)?;
        let validation = self.validation.as_ref().map_or(f64::NAN, |v| v.n as f64);
        for (step, sums) in self.seen.drain(..).zip(sums.chunks_exact(2)) {
            if sums[0] < 0.0 || (self.validation.is_some() && sums[1] < 0.0) {
                return Err(Error::failed(format!("the device did not compute the losses of step {step}")));
            }
            let training = f64::from(sums[0]) / self.minibatch.cells as f64;
            if !training.is_finite() {
                return Err(not_finite(step, self.config));
            }
            let look = Look { step, training, validation: f64::from(sums[1]) / validation };
            if look.validation <= self.lowest {
                self.lowest = look.validation;
            }
            self.history.push(look);
        }
        self.clear_sums();
        Ok(())
    }

    fn update(&mut self, step: u64) {
        let rates = Rates::new(&self.config.descent(), i32::try_from(step + 1).unwrap_or(i32::MAX));
        self.minibatch.backward(self.on, &self.weights);
        self.minibatch.update(self.on, &self.weights, rates);
    }
}

impl Validation {
    fn new<R: Runtime>(on: &Runner<R>, cells: &Cells<'_>, shape: &Shape) -> Self {
        let n = cells.len();
        let rows = on.upload(&(0..n as u32).collect::<Vec<u32>>());
        let pass = Pass::new(on, n.min(VALIDATION_BLOCK), shape, false);
        let cells = Set::new(on, cells);
        pass.fill(on, &cells, (&rows, 0, pass.cells));
        Self { cells, n, rows, pass }
    }
}

impl Set {
    /// All of these cells.
    pub fn new<R: Runtime>(on: &Runner<R>, cells: &Cells<'_>) -> Self {
        let (mut genes, mut shares, mut starts) = (vec![], vec![], vec![0u32]);
        for i in 0..cells.len() {
            genes.extend_from_slice(cells.assemblage(i));
            shares.extend(cells.shares(i));
            starts.push(genes.len() as u32);
        }
        Self { genes: on.upload(&genes), shares: on.upload(&shares), starts: on.upload(&starts) }
    }
}

/// A list of rows of a set, where they begin in it, and how many they are.
type Rows<'a> = (&'a Buffer, usize, usize);

impl Pass {
    fn new<R: Runtime>(on: &Runner<R>, cells: usize, shape: &Shape, learns: bool) -> Self {
        let genes = shape.widths[0];
        let room = |units: &usize| on.room::<f32>(cells * units);
        let outputs: Vec<Buffer> = shape.widths[1..].iter().map(room).collect();
        let gradients = match learns {
            true => shape.widths[1..].iter().map(room).collect(),
            false => vec![],
        };
        let [x, p] = [(); 2].map(|()| on.room::<f32>(cells * genes));
        Self { cells, x, p, outputs, losses: on.room::<f32>(cells), gradients }
    }

    /// Takes these cells.
    fn fill<R: Runtime>(&self, on: &Runner<R>, set: &Set, (list, at, cells): Rows<'_>) {
        let width = self.x.len() / self.cells;
        let (cubes, units) = Runner::<R>::units(cells * width);
        rows::densify::launch::<R>(
            on.client(),
            cubes,
            units,
            on.arg(&set.genes),
            on.arg(&set.shares),
            on.arg(&set.starts),
            on.arg(list),
            on.arg(&self.x),
            on.arg(&self.p),
            at as u32,
            cells as u32,
            width as u32,
        );
    }

    /// All layers.
    fn forward<R: Runtime>(&self, on: &Runner<R>, weights: &Weights, set: &Set, (list, at, cells): Rows<'_>) {
        let Place { weights: layer, bias, outputs, .. } = weights.places[0];
        let (cubes, units) = Runner::<R>::units(cells * outputs);
        rows::sum_rows::launch::<f32, R>(
            on.client(),
            cubes,
            units,
            on.arg(&weights.now),
            on.arg(&set.genes),
            on.arg(&set.starts),
            on.arg(list),
            on.arg(&self.outputs[0]),
            at as u32,
            cells as u32,
            outputs as u32,
            layer as u32,
            bias as u32,
            true,
            weights.relu,
        );
        let last = weights.places.len() - 1;
        for (i, place) in weights.places.iter().enumerate().skip(1) {
            let then = if weights.relu && i < last { Then::BiasRelu } else { Then::Bias };
            let matrix =
                Matrix { of: &weights.now, layer: place.weights, bias: place.bias, transposed: i == last };
            let of = (cells, place.outputs, place.inputs);
            multiply(on, &self.outputs[i - 1], matrix, (then, None), of, &self.outputs[i]);
        }
    }

    fn losses<R: Runtime>(&self, on: &Runner<R>, gradient: bool) {
        self.losses_of(on, self.cells, gradient);
    }

    /// The losses of the first cells, and the gradient of what comes out of the last layer, if that is asked for.
    fn losses_of<R: Runtime>(&self, on: &Runner<R>, cells: usize, gradient: bool) {
        let by = on.teams();
        let (cubes, units) = Runner::<R>::rows(cells, by);
        let d = match self.gradients.last() {
            Some(d) if gradient => on.arg(d),
            _ => on.nothing(),
        };
        loss::losses::launch::<R>(
            on.client(),
            cubes,
            units,
            on.arg(&self.outputs[self.outputs.len() - 1]),
            on.arg(&self.x),
            on.arg(&self.p),
            d,
            on.arg(&self.losses),
            cells as u32,
            (self.x.len() / self.cells) as u32,
            gradient,
            by.units,
            by.teams,
            by.plane,
        );
    }

    /// The gradients of what comes out of each layer, from that of the last on.
    fn backward<R: Runtime>(&self, on: &Runner<R>, weights: &Weights) {
        let last = weights.places.len() - 1;
        for (i, place) in weights.places.iter().enumerate().skip(1).rev() {
            // The last layer lies the other way round.
            let matrix = Matrix { of: &weights.now, layer: place.weights, bias: 0, transposed: i != last };
            let then = match weights.relu {
                true => (Then::Mask, Some(&self.outputs[i - 1])),
                false => (Then::Nothing, None),
            };
            let of = (self.cells, place.inputs, place.outputs);
            multiply(on, &self.gradients[i], matrix, then, of, &self.gradients[i - 1]);
        }
    }

    /// Adam's update of all layers.
    fn update<R: Runtime>(&self, on: &Runner<R>, weights: &Weights, rates: Rates) {
        let last = weights.places.len() - 1;
        for (i, place) in weights.places.iter().enumerate() {
            let (inputs, gradient) =
                (if i == 0 { &self.x } else { &self.outputs[i - 1] }, &self.gradients[i]);
            // Rows of the layer as it lies, and its columns.
            let (left, right) = if i == last { (gradient, inputs) } else { (inputs, gradient) };
            let size = if i == last { (place.outputs, place.inputs) } else { (place.inputs, place.outputs) };
            let cells = self.cells;
            weights.update(on, (Some(left), right, cells), size, place.weights, rates);
            weights.update(on, (None, gradient, cells), (1, place.outputs), place.bias, rates);
        }
    }
}

impl Weights {
    fn new<R: Runtime>(on: &Runner<R>, network: &Network<f32>) -> Self {
        let (mut places, mut end) = (vec![], 0);
        for layer in &network.layers {
            let (inputs, outputs) = layer.w.dim();
            let bias = end + inputs * outputs;
            places.push(Place { weights: end, bias, inputs, outputs });
            end = bias + outputs;
        }
        let zeros = vec![0.0f32; end];
        let [mean, square] = [(); 2].map(|()| on.upload(&zeros));
        let mut weights = Self { now: mean.clone(), mean, square, places, relu: network.relu };
        weights.now = on.upload(&weights.parameters(network));
        weights
    }

    /// All layers after the other.
    fn parameters(&self, network: &Network<f32>) -> Vec<f32> {
        let last = self.places.len() - 1;
        let mut all = vec![];
        for (i, Layer { w, b }) in network.layers.iter().enumerate() {
            match i == last {
                true => all.extend(w.t().iter()),
                false => all.extend(w.iter()),
            }
            all.extend(b);
        }
        all
    }

    /// The network with these parameters.
    fn network(&self, all: &[f32]) -> Network<f32> {
        let last = self.places.len() - 1;
        let layer = |(i, place): (usize, &Place)| {
            let size = if i == last { (place.outputs, place.inputs) } else { (place.inputs, place.outputs) };
            let w = Array2::from_shape_fn(size, |(r, c)| all[place.weights + r * size.1 + c]);
            let w = if i == last { w.t().as_standard_layout().into_owned() } else { w };
            Layer { w, b: Array1::from(all[place.bias..place.bias + place.outputs].to_vec()) }
        };
        Network { layers: self.places.iter().enumerate().map(layer).collect(), relu: self.relu }
    }

    /// Adam's update of what begins at `layer`: the gradient is the sum over the cells of left ⊗ right.
    fn update<R: Runtime>(
        &self,
        on: &Runner<R>,
        (left, right, cells): (Option<&Buffer>, &Buffer, usize),
        (rows, columns): (usize, usize),
        layer: usize,
        rates: Rates,
    ) {
        let (cubes, units) = Runner::<R>::units(rows.div_ceil(ROWS) * columns);
        adam::update::launch::<R>(
            on.client(),
            cubes,
            units,
            on.arg(&self.now),
            on.arg(&self.mean),
            on.arg(&self.square),
            left.map_or_else(|| on.nothing(), |left| on.arg(left)),
            on.arg(right),
            cells as u32,
            rows as u32,
            columns as u32,
            layer as u32,
            rates.rate,
            1.0 / rates.correction,
            rates.left,
            left.is_none(),
        );
    }
}
