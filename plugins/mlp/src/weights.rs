//! Weights in training: rows in chunks, each layer as its passes go through it.

use crate::lanes::{Chunk, LANES, ZERO, chunks, flat, flat_mut, packed};
use crate::network::{Layer, Network};
use lacuna_sdk::ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

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

/// All layers; or Adam's moments. The last layer lies outputs × inputs, all others inputs × outputs.
#[derive(Clone)]
pub struct Weights {
    /// Whether each layer but the last is followed by ReLU.
    pub relu: bool,
    /// From the first to the last.
    pub layers: Vec<Matrix>,
    /// As wide as what comes out of the layers.
    pub biases: Vec<Vec<Chunk>>,
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

    /// The last layer.
    pub fn last(&self) -> &Matrix {
        &self.layers[self.layers.len() - 1]
    }
}
