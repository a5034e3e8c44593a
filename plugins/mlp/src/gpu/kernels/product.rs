//! Products of matrices, row-major, in tiles that a cube holds.

use cubecl::prelude::*;

/// What becomes of a product before it is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// The bias of each column is added.
    Bias,
    /// The bias, and ReLU.
    BiasRelu,
    /// 0 where `mask` is not above 0: back through ReLU.
    Mask,
}

/// out = a · b, of rows × inner and inner × columns; b is columns × inner where it is `transposed`.
///
/// `b` has its numbers from `layer` on, and the bias from `bias` on. A cube of 16 × 16 units makes a tile of 16·`tall` × 16·`wide`
/// numbers, cubes counted along the columns first.
#[cube(launch)]
pub fn product<F: Float>(
    a: &Array<f32>,
    b: &Array<F>,
    mask: &Array<f32>,
    out: &mut Array<f32>,
    rows: u32,
    columns: u32,
    inner: u32,
    layer: u32,
    bias: u32,
    #[comptime] transposed: bool,
    #[comptime] then: Then,
    #[comptime] tall: usize,
    #[comptime] wide: usize,
) {
    let height = comptime!(16 * tall);
    let width = comptime!(16 * wide);
    let mut left = SharedMemory::<f32>::new(comptime!(16 * 16 * tall));
    let mut right = SharedMemory::<f32>::new(comptime!(16 * 16 * wide));
    let rows = rows as usize;
    let columns = columns as usize;
    let inner = inner as usize;
    let layer = layer as usize;
    let across = columns.div_ceil(width);
    let first_row = CUBE_POS / across * height;
    let first_column = CUBE_POS % across * width;
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    let unit = y * 16 + x;
    let mut sums = Array::<f32>::new(comptime!(tall * wide));
    #[unroll]
    for i in 0..comptime!(tall * wide) {
        sums[i] = 0.0;
    }
    let steps = inner.div_ceil(16);
    for step in 0..steps {
        let k = step * 16;
        #[unroll]
        for i in 0..tall {
            // 16 numbers of a row follow each other in memory; in shared memory they stand below each other.
            let row = i * 16 + y;
            let mut value = 0.0f32;
            if first_row + row < rows && k + x < inner {
                value = a[(first_row + row) * inner + k + x];
            }
            left[x * height + row] = value;
        }
        #[unroll]
        for i in 0..wide {
            if comptime!(transposed) {
                let column = i * 16 + y;
                let mut value = 0.0f32;
                if first_column + column < columns && k + x < inner {
                    value = f32::cast_from(b[layer + (first_column + column) * inner + k + x]);
                }
                right[x * width + column] = value;
            } else {
                let place = unit + i * 256;
                let row = place / width;
                let column = place % width;
                let mut value = 0.0f32;
                if k + row < inner && first_column + column < columns {
                    value = f32::cast_from(b[layer + (k + row) * columns + first_column + column]);
                }
                right[row * width + column] = value;
            }
        }
        sync_cube();
        #[unroll]
        for depth in 0..16usize {
            #[unroll]
            for i in 0..tall {
                let value = left[depth * height + i * 16 + y];
                #[unroll]
                for j in 0..wide {
                    sums[i * wide + j] += value * right[depth * width + j * 16 + x];
                }
            }
        }
        sync_cube();
    }
    #[unroll]
    for i in 0..tall {
        #[unroll]
        for j in 0..wide {
            let row = first_row + i * 16 + y;
            let column = first_column + j * 16 + x;
            if row < rows && column < columns {
                let mut value = sums[i * wide + j];
                if comptime!(matches!(then, Then::Bias | Then::BiasRelu)) {
                    value += f32::cast_from(b[bias as usize + column]);
                }
                if comptime!(then == Then::BiasRelu) {
                    value = max(value, 0.0f32);
                }
                if comptime!(then == Then::Mask) {
                    if mask[row * columns + column] <= 0.0 {
                        value = 0.0f32;
                    }
                }
                out[row * columns + column] = value;
            }
        }
    }
}

/// Stores numbers as f16. A unit for each number.
#[cube(launch)]
pub fn halve(numbers: &Array<f32>, halves: &mut Array<half::f16>) {
    if ABSOLUTE_POS < numbers.len() {
        halves[ABSOLUTE_POS] = half::f16::cast_from(numbers[ABSOLUTE_POS]);
    }
}
