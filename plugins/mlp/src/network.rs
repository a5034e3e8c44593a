//! The network: two linear layers, without an activation between them.
//!
//! For a cell with assemblage z of k genes: x = z / k, u = x·W1 + b1, h = u·W2 + b2,
//! q_j = z_j |h_j| / Σ_l z_l |h_l|. Weights are inputs × outputs. [`step`](crate::step) trains it; in tests `plain` does.

use lacuna_sdk::ndarray::linalg::general_mat_mul;
use lacuna_sdk::ndarray::{
    Array1, Array2, ArrayView2, ArrayViewMut2, Axis, LinalgScalar, NdFloat, ScalarOperand, s,
};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;

/// f32 or f64.
pub trait Real: NdFloat + LinalgScalar + ScalarOperand + Send + Sync {
    /// A number.
    fn of(x: f64) -> Self;
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
}

/// The two layers, or their gradients, or Adam's moments.
#[derive(Debug, Clone, PartialEq)]
pub struct Network<T> {
    /// First layer, genes × genes.
    pub w1: Array2<T>,
    /// Its bias.
    pub b1: Array1<T>,
    /// Second layer, genes × genes.
    pub w2: Array2<T>,
    /// Its bias.
    pub b2: Array1<T>,
}

impl<T: Real> Network<T> {
    /// All zeros.
    pub fn zeros(genes: usize) -> Self {
        let (w, b) = (Array2::zeros((genes, genes)), Array1::zeros(genes));
        Self { w1: w.clone(), b1: b.clone(), w2: w, b2: b }
    }

    /// As PyTorch initialises `Linear`: weights and biases uniform within ±1/√inputs.
    pub fn random(genes: usize, stream: &mut Stream) -> Self {
        let bound = 1.0 / (genes as f64).sqrt();
        let mut network = Self::zeros(genes);
        for part in network.parts_mut() {
            part.iter_mut().for_each(|w| *w = T::of(stream.random_range(-bound..bound)));
        }
        network
    }

    /// All parameters, part by part.
    pub fn parts_mut(&mut self) -> [&mut [T]; 4] {
        let Self { w1, b1, w2, b2 } = self;
        let slice = "parameters lie one after the other";
        [
            w1.as_slice_mut().expect(slice),
            b1.as_slice_mut().expect(slice),
            w2.as_slice_mut().expect(slice),
            b2.as_slice_mut().expect(slice),
        ]
    }

    /// Number of genes.
    pub fn genes(&self) -> usize {
        self.b1.len()
    }
}

/// Below so many multiplications a product is not worth other threads.
const SMALL: usize = 1 << 21;
/// Rows and columns of a tile. The cut does not depend on the number of threads, nor does then any bit.
const TILE: usize = 256;

/// out = a·b, in tiles on the host's threads.
pub fn product<T: Real>(
    a: &ArrayView2<'_, T>,
    b: &ArrayView2<'_, T>,
    out: &mut ArrayViewMut2<'_, T>,
    cx: &Context,
) {
    let multiply = |a: &ArrayView2<'_, T>, b: &ArrayView2<'_, T>, out: &mut ArrayViewMut2<'_, T>| {
        general_mat_mul(T::one(), a, b, T::zero(), out);
    };
    if a.len() * b.ncols() < SMALL {
        return multiply(a, b, out);
    }
    let mut tiles: Vec<(usize, usize, ArrayViewMut2<'_, T>)> = vec![];
    for (i, rows) in out.axis_chunks_iter_mut(Axis(0), TILE).enumerate() {
        let mut rest = rows;
        let mut column = 0;
        while rest.ncols() > 0 {
            let width = rest.ncols().min(TILE);
            let (tile, right) = rest.split_at(Axis(1), width);
            tiles.push((i * TILE, column, tile));
            (rest, column) = (right, column + width);
        }
    }
    cx.parallel_chunks(&mut tiles, 1, |_, tile| {
        let (row, column, out) = &mut tile[0];
        let (rows, columns) = out.dim();
        multiply(&a.slice(s![*row..*row + rows, ..]), &b.slice(s![.., *column..*column + columns]), out);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing::context;

    #[test]
    fn tiled_products_equal_plain_ones() {
        let cx = context(1);
        let random = |r, c, n| {
            let mut stream = cx.stream(n);
            Array2::from_shape_simple_fn((r, c), || stream.random_range(-1.0f64..1.0))
        };
        let (a, b) = (random(70, 301, 1), random(301, 520, 2));
        let mut out = Array2::zeros((70, 520));
        product(&a.view(), &b.view(), &mut out.view_mut(), &cx);
        assert!((&out - &a.dot(&b)).iter().all(|d| d.abs() < 1e-12));
    }
}
