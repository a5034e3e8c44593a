//! One step of the training at speed: what `plain` does in plain words, for f32.
//!
//! The input is a set, so the first layer is a sum of rows. A layer's gradient is never written: it is of the rank of the
//! minibatch, and made row by row where Adam (Kingma & Ba 2015; β = 0.9, 0.999, ε = 1e-8 as in PyTorch) uses it, in the
//! one pass over weights and moments that an update needs anyway.

use crate::lanes::{
    Chunk, Job, LANES, Lanes, Path, ZERO, chunks, flat, flat_mut, get, pack, packed, sum_of_columns,
};
use crate::network::{Network, product};
use lacuna_sdk::ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use lacuna_sdk::prelude::*;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Rows of a layer that one task updates.
const ROWS: usize = 16;
/// Columns of the first layer, in chunks, that one task sums up: four stay in registers.
const COLUMNS: usize = 8;

/// Cells as the network takes them: sets, and the shares to be predicted.
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

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.genes.len()
    }
}

/// Rows in chunks.
#[derive(Clone)]
struct Matrix {
    chunks: Vec<Chunk>,
    /// Of a row.
    width: usize,
}

impl Matrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        let width = chunks(columns);
        Self { chunks: vec![ZERO; rows * width], width }
    }

    fn of(values: &Array2<f32>) -> Self {
        let width = chunks(values.ncols());
        let rows = values.rows().into_iter().flat_map(|row| packed(row.iter().copied(), width));
        Self { chunks: rows.collect(), width }
    }

    fn row(&self, i: usize) -> &[Chunk] {
        &self.chunks[i * self.width..(i + 1) * self.width]
    }

    fn view(&self) -> ArrayView2<'_, f32> {
        let columns = self.width * LANES;
        let rows = self.chunks.len() / self.width.max(1);
        ArrayView2::from_shape((rows, columns), flat(&self.chunks)).expect("rows of chunks")
    }

    fn view_mut(&mut self) -> ArrayViewMut2<'_, f32> {
        let columns = self.width * LANES;
        let rows = self.chunks.len() / self.width.max(1);
        ArrayViewMut2::from_shape((rows, columns), flat_mut(&mut self.chunks)).expect("rows of chunks")
    }
}

/// Two layers; or Adam's moments.
#[derive(Clone)]
pub struct Weights {
    genes: usize,
    w1: Matrix,
    b1: Vec<Chunk>,
    w2: Matrix,
    b2: Vec<Chunk>,
}

impl Weights {
    /// Of a network.
    pub fn of(network: &Network<f32>) -> Self {
        let genes = network.genes();
        let vector = |b: &[f32]| packed(b.iter().copied(), chunks(genes));
        Self {
            genes,
            w1: Matrix::of(&network.w1),
            b1: vector(network.b1.as_slice().unwrap_or(&[])),
            w2: Matrix::of(&network.w2),
            b2: vector(network.b2.as_slice().unwrap_or(&[])),
        }
    }

    fn zeros(genes: usize) -> Self {
        let (matrix, vector) = (Matrix::zeros(genes, genes), vec![ZERO; chunks(genes)]);
        Self { genes, w1: matrix.clone(), b1: vector.clone(), w2: matrix, b2: vector }
    }

    /// As a network.
    pub fn network(&self) -> Network<f32> {
        let n = self.genes;
        let matrix = |m: &Matrix| m.view().slice(s![.., ..n]).to_owned();
        let vector = |b: &[Chunk]| flat(b)[..n].iter().copied().collect();
        Network { w1: matrix(&self.w1), b1: vector(&self.b1), w2: matrix(&self.w2), b2: vector(&self.b2) }
    }

    /// Copies into memory that is there already.
    pub fn copy_from(&mut self, other: &Self) {
        self.w1.chunks.copy_from_slice(&other.w1.chunks);
        self.b1.copy_from_slice(&other.b1);
        self.w2.chunks.copy_from_slice(&other.w2.chunks);
        self.b2.copy_from_slice(&other.b2);
    }
}

/// Buffers for the forward pass of so many cells.
pub struct Forward {
    /// The sums of the first layer, some columns after the other: columns × cells × chunks.
    tiles: Vec<Chunk>,
    /// Cells × genes.
    u: Matrix,
    /// Before the head; cells × genes.
    h: Matrix,
    path: Path,
}

impl Forward {
    /// Buffers.
    pub fn new(cells: usize, genes: usize, path: Path) -> Self {
        let (u, h) = (Matrix::zeros(cells, genes), Matrix::zeros(cells, genes));
        let tiles = vec![ZERO; chunks(genes).div_ceil(COLUMNS) * COLUMNS * cells];
        Self { tiles, u, h, path }
    }

    /// Both layers for some cells; gives each cell's Bray–Curtis dissimilarity to its observed profile.
    pub fn run(&mut self, weights: &Weights, sets: &Sets, cells: &[usize], cx: &Context) -> Vec<f32> {
        self.first_layer(weights, sets, cells, cx);
        let (n, width) = (cells.len(), weights.w2.width);
        let u = self.u.view();
        let mut h = self.h.view_mut();
        let genes = weights.genes;
        product(&u.slice(s![..n, ..genes]), &weights.w2.view(), &mut h.slice_mut(s![..n, ..]), cx);
        debug_assert_eq!(h.ncols(), width * LANES);
        for mut row in h.slice_mut(s![..n, ..]).rows_mut() {
            row.iter_mut().zip(flat(&weights.b2)).for_each(|(h, b)| *h += b);
        }
        cells.iter().enumerate().map(|(at, &cell)| self.loss(at, sets, cell)).collect()
    }

    /// u = Σ rows of W1 / k + b1.
    fn first_layer(&mut self, weights: &Weights, sets: &Sets, cells: &[usize], cx: &Context) {
        let (n, path) = (cells.len(), self.path);
        let size = COLUMNS * n;
        cx.parallel_chunks(
            &mut self.tiles[..chunks(weights.genes).div_ceil(COLUMNS) * size],
            size,
            |tile, out| {
                path.run(Sum { weights, sets, cells, first: tile * COLUMNS, out });
            },
        );
        let width = self.u.width;
        for (tile, sums) in self.tiles.chunks_exact(size).take(width.div_ceil(COLUMNS)).enumerate() {
            let first = tile * COLUMNS;
            let columns = COLUMNS.min(width - first);
            for (cell, sums) in sums.chunks_exact(COLUMNS).enumerate() {
                let start = cell * width + first;
                self.u.chunks[start..start + columns].copy_from_slice(&sums[..columns]);
            }
        }
    }

    /// Over the genes that a cell expresses: q = |h| / Σ|h|; ½ Σ|q − p|, as both sum to 1.
    fn loss(&self, at: usize, sets: &Sets, cell: usize) -> f32 {
        let h = flat(self.h.row(at));
        let sum: f32 = sets.genes[cell].iter().map(|&j| h[j as usize].abs()).sum();
        let inverse = if sum > 0.0 { 1.0 / sum } else { 0.0 };
        let pairs = sets.genes[cell].iter().zip(&sets.shares[cell]);
        let (mut difference, mut total) = (0.0, 0.0);
        for (&j, &p) in pairs {
            let q = h[j as usize].abs() * inverse;
            difference += (q - p).abs();
            total += q + p;
        }
        difference / total
    }
}

/// The sums of the first layer's rows over some columns.
struct Sum<'a> {
    weights: &'a Weights,
    sets: &'a Sets,
    cells: &'a [usize],
    /// The first column, in chunks.
    first: usize,
    out: &'a mut [Chunk],
}

impl Job for Sum<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { weights, sets, cells, first, out } = self;
        let mut columns = vec![[ZERO; 4]; weights.genes];
        for four in (0..COLUMNS).step_by(4) {
            let start = first + four;
            pack(&weights.w1.chunks, weights.w1.width, start, &mut columns);
            let mut bias = [ZERO; 4];
            bias.iter_mut().zip(weights.b1.iter().skip(start)).for_each(|(out, b)| *out = *b);
            for (at, &cell) in cells.iter().enumerate() {
                let genes = &sets.genes[cell];
                let share = l.splat(1.0 / genes.len().max(1) as f32);
                let sums = sum_of_columns(l, &columns, genes);
                let out = &mut out[at * COLUMNS + four..at * COLUMNS + four + 4];
                for i in 0..4 {
                    l.store(l.fma(sums[i], share, l.load(&bias[i])), &mut out[i]);
                }
            }
        }
    }
}

/// Weights in training, with Adam's moments and all buffers of a minibatch.
pub struct Trainer {
    /// The weights.
    pub weights: Weights,
    mean: Weights,
    square: Weights,
    updates: i32,
    rate: f64,
    forward: Forward,
    /// Gradient before the head, minibatch × genes; 0 where a gene is silent.
    dh: Matrix,
    /// Gradient between the layers: genes × minibatch, and minibatch × genes divided by each cell's number of genes.
    du: Vec<f32>,
    shared: Matrix,
    /// Which cells of the minibatch express each gene.
    with: Vec<Vec<u32>>,
}

/// What an update multiplies with.
#[derive(Clone, Copy)]
struct Rates {
    rate: f32,
    correction: f32,
}

impl Trainer {
    /// Fresh moments for these weights.
    pub fn new(network: &Network<f32>, minibatch: usize, rate: f64, path: Path) -> Self {
        let genes = network.genes();
        Self {
            weights: Weights::of(network),
            mean: Weights::zeros(genes),
            square: Weights::zeros(genes),
            updates: 0,
            rate,
            forward: Forward::new(minibatch, genes, path),
            dh: Matrix::zeros(minibatch, genes),
            du: vec![0.0; genes * minibatch],
            shared: Matrix::zeros(minibatch, genes),
            with: vec![vec![]; genes],
        }
    }

    /// The forward pass of a minibatch: each cell's loss.
    pub fn forward(&mut self, sets: &Sets, cells: &[usize], cx: &Context) -> Vec<f32> {
        self.forward.run(&self.weights, sets, cells, cx)
    }

    /// The backward pass of the minibatch that [`forward`](Self::forward) has just seen, and Adam's update.
    ///
    /// The gradient is that of the summed dissimilarities, as in `plain::Pass::backward`.
    pub fn update(&mut self, sets: &Sets, cells: &[usize], cx: &Context) {
        self.updates += 1;
        let rates = self.rates();
        self.head(sets, cells);
        self.second_layer(cells.len(), rates, cx);
        self.between(sets, cells);
        self.first_layer(rates, cx);
    }

    fn rates(&self) -> Rates {
        Rates {
            rate: (self.rate / (1.0 - f64::from(BETA1).powi(self.updates))) as f32,
            correction: (1.0 - f64::from(BETA2).powi(self.updates)).sqrt() as f32,
        }
    }

    /// dh: through the closing and the absolute value; see `plain::Pass::backward`.
    fn head(&mut self, sets: &Sets, cells: &[usize]) {
        let width = self.dh.width;
        for (at, &cell) in cells.iter().enumerate() {
            let h = flat(self.forward.h.row(at));
            let dh = flat_mut(&mut self.dh.chunks[at * width..(at + 1) * width]);
            dh.fill(0.0);
            let genes = &sets.genes[cell];
            let sum: f32 = genes.iter().map(|&j| h[j as usize].abs()).sum();
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
            let pairs = || genes.iter().zip(&sets.shares[cell]).map(|(&j, &p)| (j as usize, p));
            let mean: f32 = pairs().map(|(j, p)| slope(h[j], p) * h[j].abs() * inverse).sum();
            for (j, p) in pairs().filter(|(j, _)| h[*j] != 0.0) {
                dh[j] = h[j].signum() * (slope(h[j], p) - mean) * inverse;
            }
        }
    }

    /// Gives du, and updates the second layer by the gradient uᵀ·dh.
    fn second_layer(&mut self, batch: usize, rates: Rates, cx: &Context) {
        let width = self.weights.w2.width;
        let (path, dh, u) = (self.forward.path, &self.dh, &self.forward.u);
        let mut tasks: Vec<Second<'_>> = self
            .weights
            .w2
            .chunks
            .chunks_mut(ROWS * width)
            .zip(self.mean.w2.chunks.chunks_mut(ROWS * width))
            .zip(self.square.w2.chunks.chunks_mut(ROWS * width))
            .zip(self.du.chunks_mut(ROWS * batch))
            .enumerate()
            .map(|(i, (((w, m), v), du))| Second { first: i * ROWS, batch, w, m, v, du, dh, u, rates })
            .collect();
        cx.parallel_chunks(&mut tasks, 1, |_, task| path.run(&mut task[0]));
        let sums = columns(&self.dh, batch);
        let (w, m, v) = (&mut self.weights.b2, &mut self.mean.b2, &mut self.square.b2);
        path.run(Update { w, m, v, gradient: &sums, rates });
    }

    /// du as the first layer needs it, and who expresses what.
    fn between(&mut self, sets: &Sets, cells: &[usize]) {
        let width = self.shared.width;
        self.with.iter_mut().for_each(Vec::clear);
        for (at, &cell) in cells.iter().enumerate() {
            sets.genes[cell].iter().for_each(|&j| self.with[j as usize].push(at as u32));
            let row = flat_mut(&mut self.shared.chunks[at * width..(at + 1) * width]);
            row.iter_mut().zip(self.du.chunks_exact(cells.len())).for_each(|(out, du)| *out = du[at]);
        }
        let sums = columns(&self.shared, cells.len());
        let rates = self.rates();
        let (w, m, v) = (&mut self.weights.b1, &mut self.mean.b1, &mut self.square.b1);
        self.forward.path.run(Update { w, m, v, gradient: &sums, rates });
        for (at, &cell) in cells.iter().enumerate() {
            let share = 1.0 / sets.genes[cell].len().max(1) as f32;
            let row = flat_mut(&mut self.shared.chunks[at * width..(at + 1) * width]);
            row.iter_mut().for_each(|x| *x *= share);
        }
    }

    /// Updates the first layer by the gradient xᵀ·du.
    fn first_layer(&mut self, rates: Rates, cx: &Context) {
        let width = self.weights.w1.width;
        let (path, shared, with) = (self.forward.path, &self.shared, &self.with);
        let mut tasks: Vec<First<'_>> = self
            .weights
            .w1
            .chunks
            .chunks_mut(ROWS * width)
            .zip(self.mean.w1.chunks.chunks_mut(ROWS * width))
            .zip(self.square.w1.chunks.chunks_mut(ROWS * width))
            .zip(with.chunks(ROWS))
            .map(|(((w, m), v), with)| First { w, m, v, with, shared, rates })
            .collect();
        cx.parallel_chunks(&mut tasks, 1, |_, task| path.run(&mut task[0]));
    }
}

/// The sums of the first rows of a matrix.
fn columns(matrix: &Matrix, rows: usize) -> Vec<Chunk> {
    let mut sums = vec![ZERO; matrix.width];
    for row in 0..rows {
        for (sum, chunk) in sums.iter_mut().zip(matrix.row(row)) {
            sum.0.iter_mut().zip(chunk.0).for_each(|(s, x)| *s += x);
        }
    }
    sums
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

/// An update of a bias.
struct Update<'a> {
    w: &'a mut [Chunk],
    m: &'a mut [Chunk],
    v: &'a mut [Chunk],
    gradient: &'a [Chunk],
    rates: Rates,
}

impl Job for Update<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (((w, m), v), g) in self.w.iter_mut().zip(self.m).zip(self.v).zip(self.gradient) {
            adam(l, (w, m, v), l.load(g), self.rates);
        }
    }
}

/// Some rows of the second layer: what comes back through them, and their update.
struct Second<'a> {
    first: usize,
    batch: usize,
    w: &'a mut [Chunk],
    m: &'a mut [Chunk],
    v: &'a mut [Chunk],
    /// Rows × minibatch.
    du: &'a mut [f32],
    dh: &'a Matrix,
    u: &'a Matrix,
    rates: Rates,
}

impl Job for &mut Second<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let rows = self.w.len() / self.dh.width.max(1);
        // Pairs of rows share what they read of the minibatch; a last one alone is its own pair.
        let mut us: Vec<[f32; 2]> = Vec::with_capacity(self.batch);
        for first in (0..rows).step_by(2) {
            let second = (first + 1).min(rows - 1);
            self.back(l, first, second);
            us.clear();
            let place = |row| self.first + row;
            for cell in 0..self.batch {
                let u = self.u.row(cell);
                us.push([get(u, place(first)), get(u, place(second))]);
            }
            self.update(l, first, second, &us);
        }
    }
}

impl Second<'_> {
    /// What comes back through two rows: their products with each cell's gradient, two cells at once.
    #[inline(always)]
    fn back<L: Lanes>(&mut self, l: L, first: usize, second: usize) {
        let (width, batch, dh) = (self.dh.width, self.batch, &self.dh.chunks);
        let rows = [first, second].map(|row| &self.w[row * width..(row + 1) * width]);
        for cell in (0..batch).step_by(2) {
            let other = (cell + 1).min(batch - 1);
            let [x, y] = [cell, other].map(|cell| &dh[cell * width..(cell + 1) * width]);
            let [mut ax, mut ay, mut bx, mut by] = [l.splat(0.0); 4];
            for (((a, b), x), y) in rows[0].iter().zip(rows[1]).zip(x).zip(y) {
                let (a, b, x, y) = (l.load(a), l.load(b), l.load(x), l.load(y));
                ax = l.fma(a, x, ax);
                ay = l.fma(a, y, ay);
                bx = l.fma(b, x, bx);
                by = l.fma(b, y, by);
            }
            self.du[first * batch + cell] = l.sum(ax);
            self.du[first * batch + other] = l.sum(ay);
            self.du[second * batch + cell] = l.sum(bx);
            self.du[second * batch + other] = l.sum(by);
        }
    }

    /// Adam's update of two rows by the gradients Σ u · dh over the minibatch.
    #[inline(always)]
    fn update<L: Lanes>(&mut self, l: L, first: usize, second: usize, us: &[[f32; 2]]) {
        let (width, dh) = (self.dh.width, &self.dh.chunks);
        for column in 0..width {
            let (mut g, mut h) = (l.splat(0.0), l.splat(0.0));
            for (cell, [u, v]) in us.iter().enumerate() {
                let d = l.load(&dh[cell * width + column]);
                g = l.fma(l.splat(*u), d, g);
                h = l.fma(l.splat(*v), d, h);
            }
            let at = first * width + column;
            adam(l, (&mut self.w[at], &mut self.m[at], &mut self.v[at]), g, self.rates);
            if second > first {
                let at = second * width + column;
                adam(l, (&mut self.w[at], &mut self.m[at], &mut self.v[at]), h, self.rates);
            }
        }
    }
}

/// Some rows of the first layer.
struct First<'a> {
    w: &'a mut [Chunk],
    m: &'a mut [Chunk],
    v: &'a mut [Chunk],
    /// The cells of the minibatch that express each row's gene.
    with: &'a [Vec<u32>],
    shared: &'a Matrix,
    rates: Rates,
}

impl Job for &mut First<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.shared.width;
        for (row, with) in self.with.iter().enumerate() {
            for column in 0..width {
                let mut g = l.splat(0.0);
                for &cell in with {
                    g = l.add(g, l.load(&self.shared.chunks[cell as usize * width + column]));
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
    use crate::plain::tests::random_cells;
    use crate::plain::{Batch, Pass};
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
        let Network { w1, b1, w2, b2 } = network;
        let wide = |x: &f32| f64::from(*x);
        Network { w1: w1.map(wide), b1: b1.map(wide), w2: w2.map(wide), b2: b2.map(wide) }
    }

    #[test]
    fn a_step_on_every_path_equals_the_plain_network_and_all_give_the_same_bits() {
        for (genes, n, seed) in [(3, 1, 1), (8, 5, 2), (33, 7, 3), (70, 20, 4)] {
            let cx = context(seed);
            let owned = random_cells(n, genes, seed);
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            let (sets, rows) = (Sets::new(&cells), (0..n).collect::<Vec<_>>());
            let network = Network::<f32>::random(genes, &mut cx.stream(0));
            let rate = 0.01;
            let run = |path: Path| {
                let mut trainer = Trainer::new(&network, n, rate, path);
                let losses = trainer.forward(&sets, &rows, &cx);
                trainer.update(&sets, &rows, &cx);
                (losses, trainer.weights.network())
            };
            let (losses, found) = run(Path::Portable);
            let batch = Batch::<f64>::of(&cells, &rows);
            let (mut pass, mut gradient) = (Pass::new(n, genes), Network::zeros(genes));
            let mut expected = in_f64(&network);
            let plain_losses = pass.forward(&expected, &batch, &cx);
            for (a, b) in losses.iter().zip(&plain_losses) {
                assert!((f64::from(*a) - b).abs() < 1e-5, "{a} and {b}");
            }
            pass.backward(&expected.clone(), &batch, &mut gradient, &cx);
            plain(&mut expected, std::slice::from_ref(&gradient), rate);
            for ((a, b), g) in found.w2.iter().zip(&expected.w2).zip(&gradient.w2) {
                // The first update is the rate times the gradient's sign: where that is hardly above 0, rounding decides.
                assert!((f64::from(*a) - b).abs() < 1e-5 || g.abs() < 1e-7, "{a} and {b}, gradient {g}");
            }
            for ((a, b), g) in found.w1.iter().zip(&expected.w1).zip(&gradient.w1) {
                assert!((f64::from(*a) - b).abs() < 1e-5 || g.abs() < 1e-7, "{a} and {b}, gradient {g}");
            }
            for ((a, b), g) in found
                .b1
                .iter()
                .chain(&found.b2)
                .zip(expected.b1.iter().chain(&expected.b2))
                .zip(gradient.b1.iter().chain(&gradient.b2))
            {
                assert!((f64::from(*a) - b).abs() < 1e-5 || g.abs() < 1e-7, "{a} and {b}, gradient {g}");
            }
            for path in Path::available() {
                assert_eq!(run(path), (losses.clone(), found.clone()), "{path:?}");
            }
        }
    }

    #[test]
    fn many_steps_follow_the_plain_network() {
        let (genes, n, steps) = (20, 6, 30);
        let cx = context(9);
        let owned = random_cells(n, genes, 9);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let (sets, rows) = (Sets::new(&cells), (0..n).collect::<Vec<_>>());
        let network = Network::<f32>::random(genes, &mut cx.stream(0));
        let mut trainer = Trainer::new(&network, n, 0.01, Path::chosen());
        let batch = Batch::<f64>::of(&cells, &rows);
        let (mut pass, mut gradients) = (Pass::new(n, genes), vec![]);
        let start = in_f64(&network);
        for _ in 0..steps {
            let mut now = start.clone();
            plain(&mut now, &gradients, 0.01);
            let losses = trainer.forward(&sets, &rows, &cx);
            let expected = pass.forward(&now, &batch, &cx);
            for (a, b) in losses.iter().zip(&expected) {
                assert!((f64::from(*a) - b).abs() < 2e-3, "{a} and {b}");
            }
            let mut gradient = Network::zeros(genes);
            pass.backward(&now, &batch, &mut gradient, &cx);
            gradients.push(gradient);
            trainer.update(&sets, &rows, &cx);
        }
    }
}
