//! Adam's update, with the gradient made where it is used: it is of the rank of the minibatch, and never written.

use cubecl::prelude::*;

/// Updates weights, rows × columns, and their moments, which all begin at `layer`: the gradient is the sum over the cells of
/// left ⊗ right, of cells × rows and cells × columns.
///
/// `rate`, `root` and `rest` are those of `adam::Rates`. A unit for [`ROWS`] rows of a column.
#[cube(launch)]
pub fn update(
    weights: &mut Array<f32>,
    mean: &mut Array<f32>,
    square: &mut Array<f32>,
    left: &Array<f32>,
    right: &Array<f32>,
    cells: u32,
    rows: u32,
    columns: u32,
    layer: u32,
    rate: f32,
    root: f32,
    rest: f32,
    #[comptime] ones: bool,
) {
    let rows = rows as usize;
    let columns = columns as usize;
    let column = ABSOLUTE_POS % columns;
    let first = ABSOLUTE_POS / columns * comptime!(ROWS);
    if first < rows {
        let mut gradient = Array::<f32>::new(ROWS);
        #[unroll]
        for i in 0..ROWS {
            gradient[i] = 0.0;
        }
        for cell in 0..cells as usize {
            let factor = right[cell * columns + column];
            #[unroll]
            for i in 0..ROWS {
                if comptime!(ones) {
                    gradient[i] += factor;
                } else {
                    if first + i < rows {
                        gradient[i] += left[cell * rows + first + i] * factor;
                    }
                }
            }
        }
        #[unroll]
        for i in 0..ROWS {
            if first + i < rows {
                let at = layer as usize + (first + i) * columns + column;
                let g = gradient[i];
                let m = 0.9f32 * mean[at] + 0.1f32 * g;
                let v = 0.999f32 * square[at] + 0.001f32 * g * g;
                mean[at] = m;
                square[at] = v;
                weights[at] = weights[at] * rest - rate * (m / (f32::sqrt(v) * root + 1e-8f32));
            }
        }
    }
}

/// Rows of a column that a unit updates.
pub const ROWS: usize = 4;
