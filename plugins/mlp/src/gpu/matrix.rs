//! Products of dense matrices on a device.

use super::kernels::product::{self, Then};
use super::runner::{Buffer, Runner};
use cubecl::prelude::*;

/// The right side of a product: where it begins, where its bias does, and whether it lies columns × inner.
pub struct Matrix<'a> {
    /// The list that holds it.
    pub of: &'a Buffer,
    /// Where it begins.
    pub layer: usize,
    /// Where its bias begins.
    pub bias: usize,
    /// Whether it lies columns × inner.
    pub transposed: bool,
}

/// out = a · b, of rows × inner and inner × columns.
pub fn multiply<R: Runtime>(
    on: &Runner<R>,
    a: &Buffer,
    b: Matrix<'_>,
    (then, mask): (Then, Option<&Buffer>),
    (rows, columns, inner): (usize, usize, usize),
    out: &Buffer,
) {
    // Few rows, as those of a minibatch, are not worth tall tiles.
    let tall = if rows <= 32 { 2 } else { 4 };
    let wide = if rows <= 32 { 2 } else { 4 };
    let cubes = rows.div_ceil(16 * tall) * columns.div_ceil(16 * wide);
    product::product::launch::<f32, R>(
        on.client(),
        Runner::<R>::cubes(cubes),
        CubeDim::new_2d(16, 16),
        on.arg(a),
        on.arg(b.of),
        mask.map_or_else(|| on.nothing(), |mask| on.arg(mask)),
        on.arg(out),
        rows as u32,
        columns as u32,
        inner as u32,
        b.layer as u32,
        b.bias as u32,
        b.transposed,
        then,
        tall,
        wide,
    );
}
