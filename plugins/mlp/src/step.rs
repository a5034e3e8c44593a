//! One step of the training at speed: what `plain` does in plain words, for f32.
//!
//! The gradients of the first and the last layer are never written: they are of the rank of the minibatch, and made row by
//! row where Adam (Kingma & Ba 2015; β = 0.9, 0.999, ε = 1e-8 as in PyTorch) uses them, in the one pass over weights and
//! moments that an update needs anyway.

use crate::batch::{Batch, run_all};
use crate::forward::of_depth;
use crate::lanes::{Chunk, Job, Lanes, Path, ZERO, flat, flat_mut, packed};
use crate::matmul::product;
use crate::network::Network;
use crate::sums::{Ahead, Columns, DEPTH, NOTHING, ROWS, Tiled};
use crate::weights::{Matrix, Panels, Weights};
use lacuna_sdk::prelude::*;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Chunks of a layer between that one task updates.
const CHUNKS: usize = 1 << 13;

/// Weights in training, with Adam's moments. [`forward`](Self::forward) is in a file of its own.
#[derive(Clone)]
pub struct Trainer {
    /// The weights.
    pub weights: Weights,
    pub(crate) mean: Weights,
    pub(crate) square: Weights,
    /// What the next forward pass does to the first and the last layer.
    pub(crate) pending: Option<Pending>,
    updates: i32,
    rate: f64,
    pub(crate) path: Path,
}

/// What an update multiplies with.
#[derive(Clone, Copy)]
struct Rates {
    rate: f32,
    correction: f32,
}

/// An update of the first and the last layer: the gradient of a gene's row is the sum of the columns of the minibatch's
/// cells that express it, each times a coefficient.
#[derive(Clone)]
pub struct Pending {
    /// The cells that express a gene.
    with: Vec<u32>,
    /// Where each gene begins in `with`.
    by_gene: Vec<usize>,
    cells: usize,
    first: Outer,
    last: Outer,
    rates: Rates,
}

/// Coefficients, gene by gene as `with`; and some columns of all cells after the other.
#[derive(Clone)]
struct Outer {
    coefficients: Vec<f32>,
    columns: Vec<Columns>,
}

/// The gradient of some columns of a layer.
#[derive(Clone, Copy)]
pub struct Gradient<'a> {
    with: &'a [u32],
    by_gene: &'a [usize],
    coefficients: &'a [f32],
    columns: &'a [Columns],
    rates: Rates,
}

impl Pending {
    /// Of a panel of the first layer.
    pub fn first(&self, panel: usize) -> Gradient<'_> {
        self.gradient(&self.first, panel)
    }

    /// Of a panel of the last layer.
    pub fn last(&self, panel: usize) -> Gradient<'_> {
        self.gradient(&self.last, panel)
    }

    fn gradient<'a>(&'a self, outer: &'a Outer, panel: usize) -> Gradient<'a> {
        Gradient {
            with: &self.with,
            by_gene: &self.by_gene,
            coefficients: &outer.coefficients,
            columns: &outer.columns[panel * self.cells..(panel + 1) * self.cells],
            rates: self.rates,
        }
    }
}

impl Gradient<'_> {
    /// Adam's update of rows from a gene on: weights and moments.
    #[inline(always)]
    pub fn update<L: Lanes, const N: usize>(
        &self,
        l: L,
        gene: usize,
        w: &mut [[Chunk; N]],
        m: &mut [[Chunk; N]],
        v: &mut [[Chunk; N]],
    ) {
        for (gene, (w, (m, v))) in (gene..).zip(w.iter_mut().zip(m.iter_mut().zip(v))) {
            let stored = self.by_gene[gene]..self.by_gene[gene + 1];
            let mut g = [l.splat(0.0); N];
            for (&cell, &coefficient) in self.with[stored.clone()].iter().zip(&self.coefficients[stored]) {
                let columns = &self.columns[cell as usize];
                for i in 0..N {
                    g[i] = l.fma(l.splat(coefficient), l.load(&columns[i]), g[i]);
                }
            }
            for i in 0..N {
                adam(l, (&mut w[i], &mut m[i], &mut v[i]), g[i], self.rates);
            }
        }
    }
}

/// Rows of a panel, with Adam's moments.
pub struct Layer<'a> {
    /// Weights.
    pub w: &'a mut [Chunk],
    /// Means of the gradient.
    pub m: &'a mut [Chunk],
    /// Means of its square.
    pub v: &'a mut [Chunk],
}

impl<'a> Layer<'a> {
    /// The panels of a layer.
    pub fn panels(all: [&'a mut Panels; 3]) -> Vec<Self> {
        let size = all[0].size();
        let [w, m, v] = all.map(|panels| panels.chunks.chunks_mut(size));
        w.zip(m).zip(v).map(|((w, m), v)| Self { w, m, v }).collect()
    }

    /// So many of its rows after the other; it has `all`.
    pub fn rows(self, all: usize, some: usize) -> Vec<Self> {
        let size = (self.w.len() / all.max(1) * some).max(1);
        let [w, m, v] = [self.w, self.m, self.v].map(|list| list.chunks_mut(size));
        w.zip(m).zip(v).map(|((w, m), v)| Self { w, m, v }).collect()
    }
}

impl Trainer {
    /// Fresh moments for these weights.
    pub fn new(network: &Network<f32>, rate: f64, path: Path) -> Self {
        let zeros = Weights::of(&Network::zeros(&network.shape()));
        Self {
            weights: Weights::of(network),
            mean: zeros.clone(),
            square: zeros,
            pending: None,
            updates: 0,
            rate,
            path,
        }
    }

    /// The backward pass of a minibatch that has just gone [`forward`](Self::forward), and Adam's update; that of the first
    /// and the last layer is pending until the next forward pass or [`settle`](Self::settle).
    ///
    /// The gradient is that of the summed dissimilarities, as in `plain::Pass::backward`.
    pub fn update(&mut self, batch: &Batch, cx: &Context) {
        self.updates += 1;
        let rates = self.rates();
        let gradient = batch.gradient();
        let by_genes = batch.by_genes(&gradient);
        let mut d = self.back_through_last(batch, &gradient, cx);
        self.silence(&mut d, batch.last_inputs());
        self.last_bias(batch, &by_genes, rates);
        if let Some(units) = batch.between.last() {
            let mut between = Matrix::zeros(units.rows, units.columns);
            between.take_columns(&d);
            for i in (0..self.weights.between.len()).rev() {
                between = self.layer_between(i, batch, &between, rates, cx);
            }
            between.give_columns(&mut d);
        }
        self.first_bias(&d, batch.len(), rates);
        let last = Outer { coefficients: by_genes, columns: batch.last_inputs().to_vec() };
        let first = Outer { coefficients: batch.by_genes(&batch.divisors_of_genes()), columns: d };
        let (with, by_gene) = (batch.with.clone(), batch.by_gene.clone());
        self.pending = Some(Pending { with, by_gene, cells: batch.len(), first, last, rates });
    }

    /// Weights and moments, when nothing is pending.
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

    /// The gradient of what goes into the last layer: some columns of all cells after the other.
    fn back_through_last(&self, batch: &Batch, gradient: &[f32], cx: &Context) -> Vec<Columns> {
        let (last, gradient) = (&self.weights.last, batch.by_tiles(gradient));
        let mut d = vec![NOTHING; batch.last_inputs().len()];
        let mut tasks: Vec<Back<'_>> = last
            .chunks
            .chunks(last.size())
            .zip(d.chunks_mut(batch.len()))
            .map(|(w, out)| Back { w, rows: last.rows, sets: &batch.tiled, gradient: &gradient, out })
            .collect();
        let path = self.path;
        run_all(&mut tasks, last.chunks.len(), cx, |task| path.run(task));
        d
    }

    /// ReLU lets nothing back where nothing went through.
    fn silence(&self, gradient: &mut [Columns], units: &[Columns]) {
        if self.weights.relu {
            silence(gradient.as_flattened_mut(), units.as_flattened());
        }
    }

    /// Updates a layer between by the gradient of its outputs; gives that of its inputs.
    fn layer_between(&mut self, i: usize, batch: &Batch, d: &Matrix, rates: Rates, cx: &Context) -> Matrix {
        let inputs = &batch.between[i];
        let mut gradient = Matrix::zeros(inputs.columns, d.columns);
        product(&inputs.view().t(), &d.view(), &mut gradient.view_mut(), cx);
        let mut back = Matrix::zeros(inputs.rows, inputs.columns);
        product(&d.view(), &self.weights.between[i].view().t(), &mut back.view_mut(), cx);
        if self.weights.relu {
            silence(&mut back.chunks, &inputs.chunks);
        }
        let (w, m, v) =
            (&mut self.weights.between[i], &mut self.mean.between[i], &mut self.square.between[i]);
        let mut tasks: Vec<Update<'_>> = w
            .chunks
            .chunks_mut(CHUNKS)
            .zip(m.chunks.chunks_mut(CHUNKS))
            .zip(v.chunks.chunks_mut(CHUNKS))
            .zip(gradient.chunks.chunks(CHUNKS))
            .map(|(((w, m), v), gradient)| Update { w, m, v, gradient, rates })
            .collect();
        let path = self.path;
        run_all(&mut tasks, gradient.chunks.len(), cx, |task| path.run(task));
        self.bias(i + 1, &d.sums(), rates);
        back
    }

    fn bias(&mut self, i: usize, gradient: &[Chunk], rates: Rates) {
        let (w, m, v) = (&mut self.weights.biases[i], &mut self.mean.biases[i], &mut self.square.biases[i]);
        self.path.run(&mut Update { w, m, v, gradient, rates });
    }

    fn last_bias(&mut self, batch: &Batch, by_genes: &[f32], rates: Rates) {
        let of_gene = |range: &[usize]| by_genes[range[0]..range[1]].iter().sum::<f32>();
        let last = self.weights.biases.len() - 1;
        let gradient = packed(batch.by_gene.windows(2).map(of_gene), self.weights.biases[last].len());
        self.bias(last, &gradient, rates);
    }

    fn first_bias(&mut self, d: &[Columns], cells: usize, rates: Rates) {
        let mut sums = vec![ZERO; d.len() / cells * DEPTH];
        for (sums, columns) in sums.chunks_exact_mut(DEPTH).zip(d.chunks_exact(cells)) {
            for columns in columns {
                flat_mut(sums).iter_mut().zip(flat(columns)).for_each(|(sum, x)| *sum += x);
            }
        }
        self.bias(0, &sums, rates);
    }
}

fn silence(gradient: &mut [Chunk], units: &[Chunk]) {
    for (d, a) in flat_mut(gradient).iter_mut().zip(flat(units)) {
        if *a <= 0.0 {
            *d = 0.0;
        }
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

/// What comes back through some columns of the last layer.
struct Back<'a> {
    w: &'a [Chunk],
    rows: usize,
    sets: &'a Tiled,
    /// Before the head, as the sets lie.
    gradient: &'a [f32],
    out: &'a mut [Columns],
}

impl Job for &mut Back<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        of_depth!(self.w.len() / self.rows, self, of_panel, l);
    }
}

impl Back<'_> {
    #[inline(always)]
    fn of_panel<L: Lanes, const N: usize>(&mut self, l: L) {
        let mut rest = self.w.as_chunks::<N>().0;
        for tile in 0..self.rows.div_ceil(ROWS) {
            let (rows, others) = rest.split_at(rest.len().min(ROWS));
            rest = others;
            let behind = rest[..rest.len().min(ROWS)].as_flattened();
            let mut ahead = Ahead::new([behind, &[], &[]], self.out.len());
            for (range, out) in self.sets.starts(tile).windows(2).zip(&mut *self.out) {
                ahead.fetch(l);
                let range = range[0] as usize..range[1] as usize;
                let mut sums = [l.splat(0.0); N];
                for i in 0..N {
                    sums[i] = l.load(&out[i]);
                }
                for (&place, &d) in self.sets.places()[range.clone()].iter().zip(&self.gradient[range]) {
                    let row = &rows[place as usize];
                    for i in 0..N {
                        sums[i] = l.fma(l.splat(d), l.load(&row[i]), sums[i]);
                    }
                }
                for i in 0..N {
                    l.store(sums[i], &mut out[i]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Sets;
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
                    trainer.forward(&mut [&mut batch], &cx);
                    let losses = batch.losses(&cx);
                    trainer.update(&batch, &cx);
                    trainer.settle(&cx);
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
            let mut trainer = Trainer::new(&network, 0.01, Path::chosen());
            let mut both = [Batch::new(&sets, &rows[..2], &shape), Batch::new(&sets, &rows, &shape)];
            let batch = plain::Batch::<f64>::of(&cells, &rows);
            let (mut pass, mut gradients) = (Pass::new(n, 20), vec![]);
            let start = in_f64(&network);
            for _ in 0..steps {
                let mut now = start.clone();
                plain(&mut now, &gradients, 0.01);
                let [some, all] = &mut both;
                // Whether an update is pending or done changes nothing.
                let mut settled = trainer.clone();
                settled.settle(&cx);
                settled.forward(&mut [some, all], &cx);
                let again = all.losses(&cx);
                trainer.forward(&mut [some, all], &cx);
                assert_eq!(trainer.weights.network(), settled.weights.network());
                let expected = pass.forward(&now, &batch);
                let losses = all.losses(&cx);
                assert_eq!(losses, again);
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
