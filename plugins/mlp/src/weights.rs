//! Weights in training: rows in chunks, each layer as its passes go through it.

use crate::batch::run_all;
use crate::lanes::{Chunk, LANES, ZERO, chunks, flat, flat_mut, packed};
use crate::network::{Layer, Network};
use crate::sums::{Columns, DEPTH, NOTHING};
use lacuna_sdk::ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use lacuna_sdk::prelude::*;

/// Chunks that one task copies.
const PIECE: usize = 1 << 14;

/// Rows in chunks. Long rows have an odd number of them: columns of such rows do not meet in the same few cache lines.
#[derive(Clone)]
pub struct Matrix {
    /// One row after the other.
    pub chunks: Vec<Chunk>,
    /// Number of rows.
    pub rows: usize,
    /// Numbers of a row.
    pub columns: usize,
    /// Chunks of a row.
    pub width: usize,
}

impl Matrix {
    /// All zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
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

    /// A row.
    pub fn row(&self, i: usize) -> &[Chunk] {
        &self.chunks[i * self.width..(i + 1) * self.width]
    }

    /// As ndarray has it, rows × columns.
    pub fn view(&self) -> ArrayView2<'_, f32> {
        let all = ArrayView2::from_shape((self.rows, self.width * LANES), flat(&self.chunks));
        all.expect("rows of chunks").slice_move(s![.., ..self.columns])
    }

    /// The same, to be changed.
    pub fn view_mut(&mut self) -> ArrayViewMut2<'_, f32> {
        let all = ArrayViewMut2::from_shape((self.rows, self.width * LANES), flat_mut(&mut self.chunks));
        all.expect("rows of chunks").slice_move(s![.., ..self.columns])
    }

    /// From columns of all rows, some after the other.
    pub fn take_columns(&mut self, from: &[Columns]) {
        for (i, row) in self.chunks.chunks_exact_mut(self.width.max(1)).enumerate() {
            for (row, columns) in row.chunks_mut(DEPTH).zip(from.chunks_exact(self.rows)) {
                row.copy_from_slice(&columns[i][..row.len()]);
            }
        }
    }

    /// Into columns of all rows, some after the other.
    pub fn give_columns(&self, to: &mut Vec<Columns>) {
        to.clear();
        for first in (0..chunks(self.columns)).step_by(DEPTH) {
            for row in self.chunks.chunks_exact(self.width) {
                let mut columns = NOTHING;
                let some = &row[first..self.width.min(first + DEPTH)];
                columns[..some.len()].copy_from_slice(some);
                to.push(columns);
            }
        }
    }

    /// The sums of the columns.
    pub fn sums(&self) -> Vec<Chunk> {
        let mut sums = vec![ZERO; self.width];
        for row in 0..self.rows {
            for (sum, chunk) in sums.iter_mut().zip(self.row(row)) {
                sum.0.iter_mut().zip(chunk.0).for_each(|(s, x)| *s += x);
            }
        }
        sums
    }
}

/// Genes × units in panels of [`DEPTH`] chunks of columns, the last one of those that are left: a tile lies in one piece.
#[derive(Clone)]
pub struct Panels {
    /// One panel after the other, each row by row.
    pub chunks: Vec<Chunk>,
    /// Number of rows.
    pub rows: usize,
    /// Numbers of a row.
    pub columns: usize,
}

impl Panels {
    /// All zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { chunks: vec![ZERO; rows * chunks(columns)], rows, columns }
    }

    /// Of rows × columns.
    pub fn of(values: &ArrayView2<'_, f32>) -> Self {
        let mut new = Self::zeros(values.nrows(), values.ncols());
        for (i, row) in values.rows().into_iter().enumerate() {
            row.into_iter().enumerate().for_each(|(j, &x)| *new.number_mut(i, j) = x);
        }
        new
    }

    /// Rows × columns.
    pub fn array(&self) -> Array2<f32> {
        Array2::from_shape_fn((self.rows, self.columns), |(i, j)| self.chunks[self.at(i, j)].0[j % LANES])
    }

    /// Which chunk a number is in.
    fn at(&self, row: usize, column: usize) -> usize {
        let (panel, chunk) = (column / LANES / DEPTH, column / LANES % DEPTH);
        let depth = DEPTH.min(chunks(self.columns) - panel * DEPTH);
        panel * DEPTH * self.rows + row * depth + chunk
    }

    fn number_mut(&mut self, row: usize, column: usize) -> &mut f32 {
        let at = self.at(row, column);
        &mut self.chunks[at].0[column % LANES]
    }

    /// Number of chunks in a panel; in the last one there may be fewer.
    pub fn size(&self) -> usize {
        (self.rows * DEPTH).max(1)
    }
}

/// All layers; or Adam's moments.
#[derive(Clone)]
pub struct Weights {
    /// Whether each layer but the last is followed by ReLU.
    pub relu: bool,
    /// The first layer, genes × units.
    pub first: Panels,
    /// The layers between, inputs × outputs.
    pub between: Vec<Matrix>,
    /// The last layer, genes × units.
    pub last: Panels,
    /// Of each layer, as wide as what comes out of it.
    pub biases: Vec<Vec<Chunk>>,
}

impl Weights {
    /// Of a network.
    pub fn of(network: &Network<f32>) -> Self {
        let layers = &network.layers;
        let last = layers.len() - 1;
        let bias =
            |layer: &Layer<f32>| packed(layer.b.iter().copied(), Matrix::zeros(0, layer.b.len()).width);
        Self {
            relu: network.relu,
            first: Panels::of(&layers[0].w.view()),
            between: layers[1..last].iter().map(|layer| Matrix::of(&layer.w.view())).collect(),
            last: Panels::of(&layers[last].w.t()),
            biases: layers.iter().map(bias).collect(),
        }
    }

    /// As a network.
    pub fn network(&self) -> Network<f32> {
        let first = std::iter::once(self.first.array());
        let between = self.between.iter().map(|w| w.view().as_standard_layout().into_owned());
        let last = std::iter::once(self.last.array().t().as_standard_layout().into_owned());
        let layer = |(w, b): (Array2<f32>, &Vec<Chunk>)| Layer {
            b: flat(b)[..w.ncols()].iter().copied().collect(),
            w,
        };
        let layers = first.chain(between).chain(last).zip(&self.biases).map(layer);
        Network { layers: layers.collect(), relu: self.relu }
    }

    /// Copies into memory that is there already.
    pub fn copy_from(&mut self, other: &Self, cx: &Context) {
        let mut pieces: Vec<(&mut [Chunk], &[Chunk])> = vec![];
        for (to, from) in self.lists_mut().zip(other.lists()) {
            pieces.extend(to.chunks_mut(PIECE).zip(from.chunks(PIECE)));
        }
        let operations = other.lists().map(<[Chunk]>::len).sum();
        run_all(&mut pieces, operations, cx, |(to, from)| to.copy_from_slice(from));
    }

    fn matrices(&self) -> impl Iterator<Item = &[Chunk]> {
        let between = self.between.iter().map(|w| w.chunks.as_slice());
        std::iter::once(&*self.first.chunks).chain(between).chain([&*self.last.chunks])
    }

    /// All parameters.
    pub fn lists(&self) -> impl Iterator<Item = &[Chunk]> {
        self.matrices().chain(self.biases.iter().map(Vec::as_slice))
    }

    /// All parameters, to be changed.
    pub fn lists_mut(&mut self) -> impl Iterator<Item = &mut [Chunk]> {
        let between = self.between.iter_mut().map(|w| w.chunks.as_mut_slice());
        let matrices =
            std::iter::once(&mut *self.first.chunks).chain(between).chain([&mut *self.last.chunks]);
        matrices.chain(self.biases.iter_mut().map(Vec::as_mut_slice))
    }
}
