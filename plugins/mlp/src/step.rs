//! One step of the training at speed: what `plain` does in plain words, for f32.
//!
//! The input is a set, so the first layer is a sum of rows; the head looks at the genes that a cell expresses, so the last
//! layer is computed for these only, gene by gene. The gradients of both are never written: they are of the rank of the
//! minibatch, and made row by row where Adam (Kingma & Ba 2015; β = 0.9, 0.999, ε = 1e-8 as in PyTorch) uses them, in the
//! one pass over weights and moments that an update needs anyway. Layers between are products of small matrices.

use crate::lanes::{Chunk, Job, LANES, Lanes, Path, ZERO, chunks, flat, flat_mut, packed};
use crate::matmul::product;
use crate::network::{Layer, Network, Shape};
use crate::sums::{self, COLUMNS, Set, sums_of_rows};
use lacuna_sdk::ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use lacuna_sdk::prelude::*;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Genes of the last layer that one task computes.
const GENES: usize = 256;
/// Columns of the last layer, in chunks, that are multiplied for all cells before the next: a cell's stay in registers.
const DEPTH: usize = 16;
/// Genes of the last layer whose rows, of these columns, stay in the nearest cache while all cells go by.
const TILE: usize = 24;
/// Tasks of an update of the last layer; each has its own sums of what comes back.
const UPDATES: usize = 16;

/// Operations on chunks below which a loop is not worth other threads.
const SMALL: usize = 1 << 17;

/// Runs tasks that together take so many operations on chunks: on the host's threads where these are many.
fn run_all<T: Send>(tasks: &mut [T], operations: usize, cx: &Context, body: impl Fn(&mut T) + Sync) {
    match operations < SMALL {
        true => tasks.iter_mut().for_each(body),
        false => cx.parallel_chunks(tasks, 1, |_, task| body(&mut task[0])),
    }
}

/// Cells to be drawn from: sets, and the shares to be predicted.
pub struct Sets {
    genes: Vec<Vec<u32>>,
    shares: Vec<Vec<f32>>,
}

impl Sets {
    /// All of these cells.
    pub fn new(cells: &Cells<'_>) -> Self {
        Self {
            genes: (0..cells.len()).map(|i| cells.assemblage(i).to_vec()).collect(),
            shares: (0..cells.len()).map(|i| cells.shares(i).collect()).collect(),
        }
    }
}

/// Cells that go through the network together, and what each layer gives for them.
///
/// What belongs to an expressed gene of a cell stands either cell by cell (`genes`, `shares`, `h`) or gene by gene (`with`,
/// gradients); `place` leads from the first order to the second.
pub struct Batch {
    genes: Vec<u32>,
    shares: Vec<f32>,
    /// Where each cell begins in `genes`.
    cells: Vec<usize>,
    /// See [`Set`]; one cell after the other.
    segments: Vec<u32>,
    /// The cells that express a gene.
    with: Vec<u32>,
    /// Where each gene begins in `with`.
    by_gene: Vec<usize>,
    place: Vec<u32>,
    /// What comes out of each layer but the last; cells × units.
    between: Vec<Matrix>,
    /// What comes out of the last layer.
    h: Vec<f32>,
}

impl Batch {
    /// These of the cells, for a network of this shape.
    pub fn new(sets: &Sets, rows: &[usize], shape: &Shape) -> Self {
        let units = &shape.widths[1..shape.widths.len() - 1];
        let mut batch = Self {
            genes: vec![],
            shares: vec![],
            cells: vec![],
            segments: vec![],
            with: vec![],
            by_gene: vec![0; shape.widths[0] + 1],
            place: vec![],
            between: units.iter().map(|&n| Matrix::zeros(rows.len(), n)).collect(),
            h: vec![],
        };
        batch.fill(sets, rows);
        batch
    }

    /// These cells instead, as many as before.
    pub fn fill(&mut self, sets: &Sets, rows: &[usize]) {
        for list in [&mut self.genes, &mut self.place, &mut self.segments] {
            list.clear();
        }
        self.shares.clear();
        self.cells.clear();
        self.cells.push(0);
        for &row in rows {
            self.genes.extend_from_slice(&sets.genes[row]);
            self.shares.extend_from_slice(&sets.shares[row]);
            self.cells.push(self.genes.len());
        }
        let genes = self.by_gene.len() - 1;
        rows.iter().for_each(|&row| sums::segments(&sets.genes[row], genes, &mut self.segments));
        self.sort_by_gene();
        self.h.clear();
        self.h.resize(self.genes.len(), 0.0);
    }

    fn sort_by_gene(&mut self) {
        self.by_gene.fill(0);
        self.genes.iter().for_each(|&j| self.by_gene[j as usize + 1] += 1);
        (1..self.by_gene.len()).for_each(|j| self.by_gene[j] += self.by_gene[j - 1]);
        let mut next = self.by_gene.clone();
        self.with.resize(self.genes.len(), 0);
        for cell in 0..self.len() {
            for i in self.cells[cell]..self.cells[cell + 1] {
                let next = &mut next[self.genes[i] as usize];
                self.with[*next] = cell as u32;
                self.place.push(*next as u32);
                *next += 1;
            }
        }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.cells.len() - 1
    }

    fn genes_of(&self, cell: usize) -> &[u32] {
        &self.genes[self.cells[cell]..self.cells[cell + 1]]
    }

    /// What goes into the last layer for a cell.
    fn inputs(&self, cell: usize) -> &[Chunk] {
        self.between[self.between.len() - 1].row(cell)
    }

    fn sets(&self) -> impl Iterator<Item = Set<'_>> {
        let segments = self.segments.chunks_exact(sums::count(self.by_gene.len() - 1));
        segments.enumerate().map(|(cell, segments)| Set { genes: self.genes_of(cell), segments })
    }

    /// What comes out of the last layer for a cell's genes, and their observed shares.
    fn outputs(&self, cell: usize) -> impl Iterator<Item = (f32, f32)> + Clone {
        let range = self.cells[cell]..self.cells[cell + 1];
        self.h[range.clone()].iter().copied().zip(self.shares[range].iter().copied())
    }

    /// Each cell's Bray–Curtis dissimilarity to its observed profile, after a forward pass.
    ///
    /// Over the genes that a cell expresses: q = |h| / Σ|h|; ½ Σ|q − p|, as both sum to 1.
    pub fn losses(&self, cx: &Context) -> Vec<f32> {
        let loss = |cell: usize| {
            let sum: f32 = self.outputs(cell).map(|(h, _)| h.abs()).sum();
            let inverse = if sum > 0.0 { 1.0 / sum } else { 0.0 };
            let (mut difference, mut total) = (0.0, 0.0);
            for (h, p) in self.outputs(cell) {
                let q = h.abs() * inverse;
                difference += (q - p).abs();
                total += q + p;
            }
            difference / total
        };
        let mut losses = vec![0.0; self.len()];
        let mut blocks: Vec<(usize, &mut [f32])> = losses.chunks_mut(32).enumerate().collect();
        run_all(&mut blocks, 2 * self.genes.len(), cx, |(block, losses)| {
            losses.iter_mut().enumerate().for_each(|(i, out)| *out = loss(*block * 32 + i));
        });
        losses
    }

    /// The gradient before the head, gene by gene: through the closing and the absolute value; see `plain::Pass::backward`.
    fn gradient(&self) -> Vec<f32> {
        let mut gradient = vec![0.0; self.h.len()];
        for cell in 0..self.len() {
            let sum: f32 = self.outputs(cell).map(|(h, _)| h.abs()).sum();
            if sum <= 0.0 {
                continue;
            }
            let inverse = 1.0 / sum;
            let slope = |h: f32, p: f32| {
                let q = h.abs() * inverse;
                if q > p {
                    0.5
                } else if q < p {
                    -0.5
                } else {
                    0.0
                }
            };
            let mean: f32 = self.outputs(cell).map(|(h, p)| slope(h, p) * h.abs() * inverse).sum();
            let places = &self.place[self.cells[cell]..self.cells[cell + 1]];
            for ((h, p), &at) in self.outputs(cell).zip(places).filter(|((h, _), _)| *h != 0.0) {
                gradient[at as usize] = h.signum() * (slope(h, p) - mean) * inverse;
            }
        }
        gradient
    }
}

/// Rows in chunks. Long rows have an odd number of them: columns of such rows do not meet in the same few cache lines.
#[derive(Clone)]
struct Matrix {
    chunks: Vec<Chunk>,
    rows: usize,
    columns: usize,
    /// Of a row.
    width: usize,
}

impl Matrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        let width = match chunks(columns) {
            long @ 16.. => long | 1,
            short => short,
        };
        Self { chunks: vec![ZERO; rows * width], rows, columns, width }
    }

    fn of(values: &ArrayView2<'_, f32>) -> Self {
        let mut matrix = Self::zeros(values.nrows(), values.ncols());
        matrix.view_mut().assign(values);
        matrix
    }

    fn row(&self, i: usize) -> &[Chunk] {
        &self.chunks[i * self.width..(i + 1) * self.width]
    }

    fn view(&self) -> ArrayView2<'_, f32> {
        let all = ArrayView2::from_shape((self.rows, self.width * LANES), flat(&self.chunks));
        all.expect("rows of chunks").slice_move(s![.., ..self.columns])
    }

    fn view_mut(&mut self) -> ArrayViewMut2<'_, f32> {
        let all = ArrayViewMut2::from_shape((self.rows, self.width * LANES), flat_mut(&mut self.chunks));
        all.expect("rows of chunks").slice_move(s![.., ..self.columns])
    }

    /// The sums of the columns.
    fn sums(&self) -> Vec<Chunk> {
        let mut sums = vec![ZERO; self.width];
        for row in 0..self.rows {
            for (sum, chunk) in sums.iter_mut().zip(self.row(row)) {
                sum.0.iter_mut().zip(chunk.0).for_each(|(s, x)| *s += x);
            }
        }
        sums
    }
}

/// All layers; or Adam's moments. The last layer lies outputs × inputs, all others inputs × outputs.
#[derive(Clone)]
pub struct Weights {
    relu: bool,
    layers: Vec<Matrix>,
    biases: Vec<Vec<Chunk>>,
}

impl Weights {
    /// Of a network.
    pub fn of(network: &Network<f32>) -> Self {
        let last = network.layers.len() - 1;
        let matrix = |(i, layer): (usize, &Layer<f32>)| match i == last {
            true => Matrix::of(&layer.w.t()),
            false => Matrix::of(&layer.w.view()),
        };
        let bias =
            |layer: &Layer<f32>| packed(layer.b.iter().copied(), Matrix::zeros(0, layer.b.len()).width);
        Self {
            relu: network.relu,
            layers: network.layers.iter().enumerate().map(matrix).collect(),
            biases: network.layers.iter().map(bias).collect(),
        }
    }

    /// As a network.
    pub fn network(&self) -> Network<f32> {
        let last = self.layers.len() - 1;
        let layer = |(i, (w, b)): (usize, (&Matrix, &Vec<Chunk>))| {
            let w: Array2<f32> = match i == last {
                true => w.view().t().as_standard_layout().into_owned(),
                false => w.view().as_standard_layout().into_owned(),
            };
            Layer { b: flat(b)[..w.ncols()].iter().copied().collect(), w }
        };
        let layers = self.layers.iter().zip(&self.biases).enumerate().map(layer);
        Network { layers: layers.collect(), relu: self.relu }
    }

    /// Copies into memory that is there already.
    pub fn copy_from(&mut self, other: &Self) {
        self.layers.iter_mut().zip(&other.layers).for_each(|(a, b)| a.chunks.copy_from_slice(&b.chunks));
        self.biases.iter_mut().zip(&other.biases).for_each(|(a, b)| a.copy_from_slice(b));
    }

    /// All parameters.
    pub fn lists(&self) -> impl Iterator<Item = &[Chunk]> {
        let layers = self.layers.iter().map(|layer| layer.chunks.as_slice());
        layers.chain(self.biases.iter().map(Vec::as_slice))
    }

    /// All parameters, to be changed.
    pub fn lists_mut(&mut self) -> impl Iterator<Item = &mut [Chunk]> {
        let layers = self.layers.iter_mut().map(|layer| layer.chunks.as_mut_slice());
        layers.chain(self.biases.iter_mut().map(Vec::as_mut_slice))
    }

    fn last(&self) -> &Matrix {
        &self.layers[self.layers.len() - 1]
    }
}

/// The forward pass of batches, together: each weight is read once for all of them.
pub struct Forward {
    /// The sums of the first layer, some columns after the other, of all cells.
    tiles: Vec<[Chunk; COLUMNS]>,
    path: Path,
}

impl Forward {
    /// On a path through the processor.
    pub fn new(path: Path) -> Self {
        Self { tiles: vec![], path }
    }

    /// All layers.
    pub fn run(&mut self, weights: &Weights, batches: &mut [&mut Batch], cx: &Context) {
        self.first_layer(weights, batches, cx);
        for batch in &mut *batches {
            between(weights, &mut batch.between, cx);
        }
        self.last_layer(weights, batches, cx);
    }

    /// The sums of the rows of a cell's genes, divided by their number, and the bias.
    fn first_layer(&mut self, weights: &Weights, batches: &mut [&mut Batch], cx: &Context) {
        let sets: Vec<Set<'_>> = batches.iter().flat_map(|batch| batch.sets()).collect();
        let (width, size) = (weights.layers[0].width, sets.len().max(1));
        self.tiles.resize(width.div_ceil(COLUMNS) * size, [ZERO; COLUMNS]);
        let path = self.path;
        let operations = width * sets.iter().map(|set| set.genes.len()).sum::<usize>();
        let mut tiles: Vec<(usize, &mut [[Chunk; COLUMNS]])> =
            self.tiles.chunks_mut(size).enumerate().collect();
        run_all(&mut tiles, operations, cx, |(tile, out)| {
            path.run(Sum { weights, sets: &sets, first: *tile * COLUMNS, out });
        });
        for (tile, sums) in self.tiles.chunks_exact(size).enumerate() {
            let first = tile * COLUMNS;
            let columns = COLUMNS.min(width - first);
            let mut sums = sums.iter();
            for batch in &mut *batches {
                for row in batch.between[0].chunks.chunks_exact_mut(width) {
                    let Some(sums) = sums.next() else { break };
                    row[first..first + columns].copy_from_slice(&sums[..columns]);
                }
            }
        }
    }

    /// The last layer at the genes that each cell expresses.
    fn last_layer(&self, weights: &Weights, batches: &mut [&mut Batch], cx: &Context) {
        let genes = weights.last().rows;
        let operations = batches.iter().map(|batch| batch.genes.len()).sum::<usize>() * weights.last().width;
        let mut outputs: Vec<Vec<f32>> = batches.iter_mut().map(|b| std::mem::take(&mut b.h)).collect();
        let mut tasks: Vec<Last<'_>> = (0..genes)
            .step_by(GENES)
            .map(|first| Last { weights, first, end: (first + GENES).min(genes), parts: vec![] })
            .collect();
        for (batch, outputs) in batches.iter().zip(&mut outputs) {
            let mut rest = outputs.as_mut_slice();
            for (cell, inputs) in (0..batch.len()).map(|cell| (cell, batch.inputs(cell))) {
                let mut genes = batch.genes_of(cell);
                for task in &mut tasks {
                    let n = genes.partition_point(|&j| (j as usize) < task.end);
                    let (some, more) = genes.split_at(n);
                    let (h, others) = std::mem::take(&mut rest).split_at_mut(n);
                    task.parts.push(Part { genes: some, inputs, h, done: 0 });
                    (genes, rest) = (more, others);
                }
            }
        }
        run_all(&mut tasks, operations, cx, |task| self.path.run(task));
        batches.iter_mut().zip(outputs).for_each(|(batch, h)| batch.h = h);
    }
}

/// The layers between the first and the last.
fn between(weights: &Weights, units: &mut [Matrix], cx: &Context) {
    for i in 1..units.len() {
        let (before, after) = units.split_at_mut(i);
        let out = &mut after[0];
        product(&before[i - 1].view(), &weights.layers[i].view(), &mut out.view_mut(), cx);
        for mut row in out.view_mut().rows_mut() {
            for (x, b) in row.iter_mut().zip(flat(&weights.biases[i])) {
                *x += b;
                if weights.relu && *x <= 0.0 {
                    *x = 0.0;
                }
            }
        }
    }
}

/// What comes out of some columns of the first layer.
struct Sum<'a> {
    weights: &'a Weights,
    sets: &'a [Set<'a>],
    /// The first column, in chunks.
    first: usize,
    out: &'a mut [[Chunk; COLUMNS]],
}

impl Job for Sum<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { weights, sets, first, out } = self;
        let rows = &weights.layers[0];
        sums_of_rows(l, &rows.chunks, rows.width, first, sets, out);
        let bias = &weights.biases[0][first..(first + COLUMNS).min(rows.width)];
        for (set, out) in sets.iter().zip(out) {
            let share = l.splat(1.0 / set.genes.len().max(1) as f32);
            for (out, bias) in out.iter_mut().zip(bias) {
                let x = l.fma(l.load(out), share, l.load(bias));
                l.store(if weights.relu { l.relu(x) } else { x }, out);
            }
        }
    }
}

/// Some genes of the last layer, in the cells that express them.
struct Last<'a> {
    weights: &'a Weights,
    first: usize,
    end: usize,
    parts: Vec<Part<'a>>,
}

/// One cell of them.
struct Part<'a> {
    /// Those of the genes that it expresses.
    genes: &'a [u32],
    /// What goes into the last layer.
    inputs: &'a [Chunk],
    /// What comes out of it for the genes.
    h: &'a mut [f32],
    /// How many of the genes are done, of the columns at hand.
    done: usize,
}

impl Job for &mut Last<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let rows = self.weights.last();
        let bias = flat(&self.weights.biases[self.weights.biases.len() - 1]);
        for part in &mut self.parts {
            part.h.iter_mut().zip(part.genes).for_each(|(h, &j)| *h = bias[j as usize]);
        }
        let width = chunks(rows.columns);
        for depth in (0..width).step_by(DEPTH) {
            self.parts.iter_mut().for_each(|part| part.done = 0);
            for first in (self.first..self.end).step_by(TILE) {
                let end = (first + TILE).min(self.end) as u32;
                macro_rules! of_columns {
                    ($($n:literal)*) => {
                        match (width - depth).min(DEPTH) {
                            // A loop, not a closure, which would be compiled for any processor.
                            $($n => for part in &mut self.parts {
                                part.add_products::<L, $n>(l, rows, depth, end);
                            },)*
                            n => unreachable!("{n} columns"),
                        }
                    };
                }
                of_columns!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
            }
        }
    }
}

impl Part<'_> {
    /// Adds the products of N columns of the inputs with those of the next genes' rows, up to a gene.
    #[inline(always)]
    fn add_products<L: Lanes, const N: usize>(&mut self, l: L, rows: &Matrix, first: usize, end: u32) {
        let genes = &self.genes[self.done..];
        if genes.first().is_none_or(|&gene| gene >= end) {
            return;
        }
        let mut inputs = [l.splat(0.0); N];
        for (x, chunk) in inputs.iter_mut().zip(&self.inputs[first..first + N]) {
            *x = l.load(chunk);
        }
        for (&gene, h) in genes.iter().zip(&mut self.h[self.done..]) {
            if gene >= end {
                break;
            }
            let row = &rows.row(gene as usize)[first..first + N];
            let mut sums = [l.splat(0.0); 4];
            for i in 0..N {
                sums[i % 4] = l.fma(inputs[i], l.load(&row[i]), sums[i % 4]);
            }
            *h += l.sum(l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3])));
            self.done += 1;
        }
    }
}

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
        let size = GENES * w.width.max(1);
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
