//! Products of matrices, by the `gemm` crate: of matrixmultiply, faer and gemm the fastest on this network's shapes
//! (docs/PERFORMANCE.md).

use lacuna_sdk::ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use lacuna_sdk::prelude::*;

/// Below so many multiplications a product is not worth other threads.
const SMALL: usize = 1 << 21;
/// Rows and columns of a tile. The cut does not depend on the number of threads, nor does then any bit.
const TILE: usize = 256;

/// out = a·b, on this thread.
///
/// # Panics
/// When the shapes do not fit.
#[allow(unsafe_code)] // The launch of the kernel.
pub fn multiply(a: &ArrayView2<'_, f32>, b: &ArrayView2<'_, f32>, out: &mut ArrayViewMut2<'_, f32>) {
    let ((m, k), n) = (a.dim(), b.ncols());
    assert!(b.nrows() == k && out.dim() == (m, n), "shapes of a product");
    let [ra, ca] = [a.strides()[0], a.strides()[1]];
    let [rb, cb] = [b.strides()[0], b.strides()[1]];
    let [ro, co] = [out.strides()[0], out.strides()[1]];
    // SAFETY: the three views give pointers, shapes and strides of memory that they borrow, `out` alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            co,
            ro,
            false,
            a.as_ptr(),
            ca,
            ra,
            b.as_ptr(),
            cb,
            rb,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// out = a·b, in tiles on the host's threads.
pub fn product(
    a: &ArrayView2<'_, f32>,
    b: &ArrayView2<'_, f32>,
    out: &mut ArrayViewMut2<'_, f32>,
    cx: &Context,
) {
    if a.len() * b.ncols() < SMALL {
        return multiply(a, b, out);
    }
    let mut tiles: Vec<(usize, usize, ArrayViewMut2<'_, f32>)> = vec![];
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
    use lacuna_sdk::ndarray::Array2;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing::context;

    #[test]
    fn products_equal_plain_ones_whatever_the_strides() {
        let cx = context(1);
        let random = |r, c, n| {
            let mut stream = cx.stream(n);
            Array2::from_shape_simple_fn((r, c), || stream.random_range(-1.0f32..1.0))
        };
        for (m, k, n) in [(70, 301, 520), (3, 5, 1), (0, 4, 3), (4, 0, 3), (1, 1, 1)] {
            let (a, b) = (random(m, k, 1), random(n, k, 2));
            let mut out = Array2::from_elem((m, n), 9.0);
            product(&a.view(), &b.t(), &mut out.view_mut(), &cx);
            let expected = a.dot(&b.t());
            assert!((&out - &expected).iter().all(|d| d.abs() < 1e-4));
            let mut turned = Array2::from_elem((n, m), 9.0);
            multiply(&a.view(), &b.t(), &mut turned.view_mut().reversed_axes());
            assert!((&turned.t() - &expected).iter().all(|d| d.abs() < 1e-4));
        }
    }
}
