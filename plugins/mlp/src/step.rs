//! One step of the training at speed: what `plain` does in plain words, for f32.
//!
//! The gradients of the first and the last layer are never written: they are of the rank of the minibatch, and made row by
//! row where Adam (Kingma & Ba 2015; β = 0.9, 0.999, ε = 1e-8 as in PyTorch) uses them, in the one pass over weights and
//! moments that an update needs anyway.

use crate::batch::{Batch, run_all};
use crate::lanes::{Chunk, Job, Lanes, Path, ZERO, flat, flat_mut, packed};
use crate::matmul::product;
use crate::network::Network;
use crate::weights::{Matrix, Weights};
use lacuna_sdk::prelude::*;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Chunks of a layer between that one task updates.
const CHUNKS: usize = 1 << 13;
/// Tasks of an update of the last layer; each has its own sums of what comes back.
const UPDATES: usize = 16;

/// Weights in training, with Adam's moments.
#[derive(Clone)]
pub struct Trainer {
    /// The weights.
    pub weights: Weights,
    mean: Weights,
    square: Weights,
    updates: i32,
    rate: f64,
    path: Path,
    /// What comes back through the last layer, one part for each task.
    back: Vec<Chunk>,
}

/// What an update multiplies with.
#[derive(Clone, Copy)]
struct Rates {
    rate: f32,
    correction: f32,
}

impl Trainer {
    /// Fresh moments for these weights.
    pub fn new(network: &Network<f32>, rate: f64, path: Path) -> Self {
        let zeros = Weights::of(&Network::zeros(&network.shape()));
        Self {
            weights: Weights::of(network),
            mean: zeros.clone(),
            square: zeros,
            updates: 0,
            rate,
            path,
            back: vec![],
        }
    }

    /// The backward pass of a minibatch that a [`Forward`] has just seen, and Adam's update.
    ///
    /// The gradient is that of the summed dissimilarities, as in `plain::Pass::backward`.
    pub fn update(&mut self, batch: &Batch, cx: &Context) {
        self.updates += 1;
        let rates = self.rates();
        let mut d = self.last_layer(batch, rates, cx);
        for i in (1..self.weights.layers.len() - 1).rev() {
            d = self.layer_between(i, batch, &d, rates, cx);
        }
        self.first_layer(batch, d, rates, cx);
    }

    /// Weights and moments.
    pub fn state(&self) -> [&Weights; 3] {
        [&self.weights, &self.mean, &self.square]
    }

    /// Weights and moments, to be changed.
    pub fn state_mut(&mut self) -> [&mut Weights; 3] {
        [&mut self.weights, &mut self.mean, &mut self.square]
    }

    /// Updates so far.
    pub fn updates(&self) -> i32 {
        self.updates
    }

    /// As after so many updates.
    pub fn set_updates(&mut self, updates: i32) {
        self.updates = updates;
    }

    fn rates(&self) -> Rates {
        Rates {
            rate: (self.rate / (1.0 - f64::from(BETA1).powi(self.updates))) as f32,
            correction: (1.0 - f64::from(BETA2).powi(self.updates)).sqrt() as f32,
        }
    }

    /// Updates the last layer; gives the gradient of its inputs, cells × units.
    fn last_layer(&mut self, batch: &Batch, rates: Rates, cx: &Context) -> Matrix {
        let last = self.weights.layers.len() - 1;
        let gradient = batch.gradient();
        let inputs = &batch.between[last - 1];
        let (w, m, v) =
            (&mut self.weights.layers[last], &mut self.mean.layers[last], &mut self.square.layers[last]);
        let rows = w.rows.div_ceil(UPDATES).max(1);
        let (size, of_task) = (rows * w.width.max(1), inputs.chunks.len().max(1));
        self.back.resize(w.rows.div_ceil(rows) * of_task, ZERO);
        let mut tasks: Vec<LastUpdate<'_>> = w
            .chunks
            .chunks_mut(size)
            .zip(m.chunks.chunks_mut(size))
            .zip(v.chunks.chunks_mut(size))
            .zip(self.back.chunks_mut(of_task))
            .enumerate()
            .map(|(i, (((w, m), v), back))| {
                let gradient = &gradient;
                LastUpdate { first: i * rows, w, m, v, batch, gradient, inputs, back, rates }
            })
            .collect();
        let (path, operations) = (self.path, batch.genes.len() * inputs.width);
        run_all(&mut tasks, operations, cx, |task| path.run(task));
        let mut sums = inputs.clone();
        sums.chunks.fill(ZERO);
        for back in self.back.chunks_exact(of_task) {
            for (sum, x) in sums.chunks.iter_mut().zip(back) {
                sum.0.iter_mut().zip(x.0).for_each(|(s, x)| *s += x);
            }
        }
        self.silence(&mut sums, inputs);
        let of_gene = |j: usize| gradient[batch.by_gene[j]..batch.by_gene[j + 1]].iter().sum::<f32>();
        let genes = batch.by_gene.len() - 1;
        let width = self.weights.biases[last].len();
        self.bias(last, &packed((0..genes).map(of_gene), width), rates);
        sums
    }

    /// ReLU lets nothing back where nothing went through.
    fn silence(&self, gradient: &mut Matrix, units: &Matrix) {
        if self.weights.relu {
            for (d, a) in flat_mut(&mut gradient.chunks).iter_mut().zip(flat(&units.chunks)) {
                if *a <= 0.0 {
                    *d = 0.0;
                }
            }
        }
    }

    /// Updates a layer between by the gradient of its outputs; gives that of its inputs.
    fn layer_between(&mut self, i: usize, batch: &Batch, d: &Matrix, rates: Rates, cx: &Context) -> Matrix {
        let inputs = &batch.between[i - 1];
        let mut gradient = Matrix::zeros(inputs.columns, d.columns);
        product(&inputs.view().t(), &d.view(), &mut gradient.view_mut(), cx);
        let mut back = Matrix::zeros(inputs.rows, inputs.columns);
        product(&d.view(), &self.weights.layers[i].view().t(), &mut back.view_mut(), cx);
        self.silence(&mut back, inputs);
        let (w, m, v) = (&mut self.weights.layers[i], &mut self.mean.layers[i], &mut self.square.layers[i]);
        let size = CHUNKS;
        let mut tasks: Vec<Update<'_>> = w
            .chunks
            .chunks_mut(size)
            .zip(m.chunks.chunks_mut(size))
            .zip(v.chunks.chunks_mut(size))
            .zip(gradient.chunks.chunks(size))
            .map(|(((w, m), v), gradient)| Update { w, m, v, gradient, rates })
            .collect();
        let path = self.path;
        run_all(&mut tasks, gradient.chunks.len(), cx, |task| path.run(task));
        self.bias(i, &d.sums(), rates);
        back
    }

    fn bias(&mut self, i: usize, gradient: &[Chunk], rates: Rates) {
        let (w, m, v) = (&mut self.weights.biases[i], &mut self.mean.biases[i], &mut self.square.biases[i]);
        self.path.run(&mut Update { w, m, v, gradient, rates });
    }

    /// Updates the first layer by the gradient xᵀ·d, where x is 1 / the number of genes that a cell expresses.
    fn first_layer(&mut self, batch: &Batch, mut d: Matrix, rates: Rates, cx: &Context) {
        self.bias(0, &d.sums(), rates);
        for (cell, row) in d.chunks.chunks_exact_mut(d.width.max(1)).enumerate() {
            let share = 1.0 / batch.genes_of(cell).len().max(1) as f32;
            flat_mut(row).iter_mut().for_each(|x| *x *= share);
        }
        let (w, m, v) = (&mut self.weights.layers[0], &mut self.mean.layers[0], &mut self.square.layers[0]);
        let rows = w.rows.div_ceil(UPDATES).max(1);
        let size = rows * w.width.max(1);
        let mut tasks: Vec<FirstUpdate<'_>> = w
            .chunks
            .chunks_mut(size)
            .zip(m.chunks.chunks_mut(size))
            .zip(v.chunks.chunks_mut(size))
            .enumerate()
            .map(|(i, ((w, m), v))| FirstUpdate { first: i * rows, w, m, v, batch, d: &d, rates })
            .collect();
        let (path, operations) = (self.path, batch.genes.len() * d.width);
        run_all(&mut tasks, operations, cx, |task| path.run(task));
    }
}

/// Adam's update of one chunk.
#[inline(always)]
fn adam<L: Lanes>(l: L, (w, m, v): (&mut Chunk, &mut Chunk, &mut Chunk), g: L::V, rates: Rates) {
    let mean = l.fma(l.splat(BETA1), l.load(m), l.mul(l.splat(1.0 - BETA1), g));
    let square = l.fma(l.splat(BETA2), l.load(v), l.mul(l.mul(l.splat(1.0 - BETA2), g), g));
    let root = l.fma(l.sqrt(square), l.splat(1.0 / rates.correction), l.splat(EPSILON));
    l.store(mean, m);
    l.store(square, v);
    l.store(l.fma(l.div(mean, root), l.splat(-rates.rate), l.load(w)), w);
}

/// An update by a gradient that is written.
struct Update<'a> {
    w: &'a mut [Chunk],
    m: &'a mut [Chunk],
    v: &'a mut [Chunk],
    gradient: &'a [Chunk],
    rates: Rates,
}

impl Job for &mut Update<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let moments = self.m.iter_mut().zip(&mut *self.v);
        for ((w, (m, v)), g) in self.w.iter_mut().zip(moments).zip(self.gradient) {
            adam(l, (w, m, v), l.load(g), self.rates);
        }
    }
}

/// Some genes of the last layer: what comes back through them, and their update.
struct LastUpdate<'a> {
    first: usize,
    w: &'a mut [Chunk],
    m: &'a mut [Chunk],
    v: &'a mut [Chunk],
    batch: &'a Batch,
    /// Before the head, gene by gene.
    gradient: &'a [f32],
    inputs: &'a Matrix,
    /// Cells × units.
    back: &'a mut [Chunk],
    rates: Rates,
}

impl Job for &mut LastUpdate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.inputs.width;
        self.back.fill(ZERO);
        let rows = self.w.len() / width.max(1);
        for row in 0..rows {
            let gene = self.first + row;
            let stored = self.batch.by_gene[gene]..self.batch.by_gene[gene + 1];
            let with = &self.batch.with[stored.clone()];
            let gradient = &self.gradient[stored];
            for column in 0..width {
                let at = row * width + column;
                let w = l.load(&self.w[at]);
                let mut g = l.splat(0.0);
                for (&cell, &d) in with.iter().zip(gradient) {
                    let place = cell as usize * width + column;
                    let d = l.splat(d);
                    g = l.fma(d, l.load(&self.inputs.chunks[place]), g);
                    let back = &mut self.back[place];
                    l.store(l.fma(d, w, l.load(back)), back);
                }
                adam(l, (&mut self.w[at], &mut self.m[at], &mut self.v[at]), g, self.rates);
            }
        }
    }
}

/// Some genes of the first layer.
struct FirstUpdate<'a> {
    first: usize,
    w: &'a mut [Chunk],
    m: &'a mut [Chunk],
    v: &'a mut [Chunk],
    batch: &'a Batch,
    /// What comes back, divided by each cell's number of genes; cells × units.
    d: &'a Matrix,
    rates: Rates,
}

impl Job for &mut FirstUpdate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.d.width;
        for row in 0..self.w.len() / width.max(1) {
            let gene = self.first + row;
            let with = &self.batch.with[self.batch.by_gene[gene]..self.batch.by_gene[gene + 1]];
            for column in 0..width {
                let mut g = l.splat(0.0);
                for &cell in with {
                    g = l.add(g, l.load(&self.d.chunks[cell as usize * width + column]));
                }
                let at = row * width + column;
                adam(l, (&mut self.w[at], &mut self.m[at], &mut self.v[at]), g, self.rates);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Sets;
    use crate::forward::Forward;
    use crate::network::Layer;
    use crate::plain::tests::{random_cells, shapes};
    use crate::plain::{self, Pass};
    use lacuna_sdk::testing::context;

    /// Adam in plain words, f64.
    fn plain(network: &mut Network<f64>, gradients: &[Network<f64>], rate: f64) {
        let mut moments: Vec<Vec<(f64, f64)>> =
            network.parts_mut().iter().map(|part| vec![(0.0, 0.0); part.len()]).collect();
        for (t, gradient) in (1..).zip(gradients) {
            let mut gradient = gradient.clone();
            for ((part, g), moments) in
                network.parts_mut().into_iter().zip(gradient.parts_mut()).zip(&mut moments)
            {
                for ((w, g), (m, v)) in part.iter_mut().zip(g).zip(moments) {
                    (*m, *v) = (0.9 * *m + 0.1 * *g, 0.999 * *v + 0.001 * *g * *g);
                    let (mean, square) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
                    *w -= rate * mean / (square.sqrt() + 1e-8);
                }
            }
        }
    }

    fn in_f64(network: &Network<f32>) -> Network<f64> {
        let wide = |x: &f32| f64::from(*x);
        let layer = |l: &Layer<f32>| Layer { w: l.w.map(wide), b: l.b.map(wide) };
        Network { layers: network.layers.iter().map(layer).collect(), relu: network.relu }
    }

    #[test]
    fn a_step_on_every_path_equals_the_plain_network_and_all_give_the_same_bits() {
        for (genes, n, seed) in [(3, 1, 1), (8, 5, 2), (33, 7, 3), (130, 20, 4), (300, 9, 5)] {
            for shape in shapes(genes) {
                let cx = context(seed);
                let owned = random_cells(n, genes, seed);
                let view = owned.to_view();
                let cells = Cells::from_view(&view);
                let (sets, rows) = (Sets::new(&cells), (0..n).collect::<Vec<_>>());
                let network = Network::<f32>::random(&shape, &mut cx.stream(0));
                let rate = 0.01;
                let run = |path: Path| {
                    let mut trainer = Trainer::new(&network, rate, path);
                    let mut batch = Batch::new(&sets, &rows, &shape);
                    Forward::new(path).run(&trainer.weights, &mut [&mut batch], &cx);
                    let losses = batch.losses(&cx);
                    trainer.update(&batch, &cx);
                    (losses, trainer.weights.network())
                };
                let (losses, mut found) = run(Path::Portable);
                let batch = plain::Batch::<f64>::of(&cells, &rows);
                let (mut pass, mut gradient) = (Pass::new(n, genes), Network::zeros(&shape));
                let mut expected = in_f64(&network);
                let plain_losses = pass.forward(&expected, &batch);
                for (a, b) in losses.iter().zip(&plain_losses) {
                    assert!((f64::from(*a) - b).abs() < 1e-5, "{shape:?}: {a} and {b}");
                }
                pass.backward(&expected.clone(), &batch, &mut gradient);
                plain(&mut expected, std::slice::from_ref(&gradient), rate);
                let parts = found.parts_mut().into_iter().zip(expected.parts_mut());
                for ((found, expected), gradient) in parts.zip(gradient.parts_mut()) {
                    // The first update is the rate times the gradient's sign: where that is hardly above 0, rounding
                    // decides.
                    for ((a, b), g) in found.iter().zip(expected).zip(gradient) {
                        assert!(
                            (f64::from(*a) - *b).abs() < 1e-5 || g.abs() < 1e-6,
                            "{shape:?}: {a} and {b}, gradient {g}"
                        );
                    }
                }
                for path in Path::available() {
                    assert_eq!(run(path), (losses.clone(), found.clone()), "{path:?}");
                }
            }
        }
    }

    #[test]
    fn many_steps_follow_the_plain_network() {
        for shape in shapes(20) {
            let (n, steps) = (6, 30);
            let cx = context(9);
            let owned = random_cells(n, 20, 9);
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            let (sets, rows) = (Sets::new(&cells), (0..n).collect::<Vec<_>>());
            let network = Network::<f32>::random(&shape, &mut cx.stream(0));
            let (mut trainer, mut forward) =
                (Trainer::new(&network, 0.01, Path::chosen()), Forward::new(Path::chosen()));
            let mut both = [Batch::new(&sets, &rows[..2], &shape), Batch::new(&sets, &rows, &shape)];
            let batch = plain::Batch::<f64>::of(&cells, &rows);
            let (mut pass, mut gradients) = (Pass::new(n, 20), vec![]);
            let start = in_f64(&network);
            for _ in 0..steps {
                let mut now = start.clone();
                plain(&mut now, &gradients, 0.01);
                let [some, all] = &mut both;
                forward.run(&trainer.weights, &mut [some, all], &cx);
                let expected = pass.forward(&now, &batch);
                let losses = all.losses(&cx);
                for (a, b) in losses.iter().zip(&expected) {
                    assert!((f64::from(*a) - b).abs() < 2e-3, "{shape:?}: {a} and {b}");
                }
                assert_eq!(some.losses(&cx), losses[..2], "cells do not depend on each other");
                let mut gradient = Network::zeros(&shape);
                pass.backward(&now, &batch, &mut gradient);
                gradients.push(gradient);
                trainer.update(all, &cx);
            }
        }
    }
}
