//! Cells as sets of genes: dense rows of them, and sums of a layer's rows over them.

use super::team::place_of;
use cubecl::prelude::*;

/// Writes x and p, cells × genes: the closed assemblage z / k and the observed profile, 0 where a gene is not expressed.
/// The cells are `rows[at..]`; a unit for each number.
#[cube(launch)]
pub fn densify(
    genes: &Array<u32>,
    shares: &Array<f32>,
    starts: &Array<u32>,
    rows: &Array<u32>,
    x: &mut Array<f32>,
    p: &mut Array<f32>,
    at: u32,
    cells: u32,
    width: u32,
) {
    let width = width as usize;
    if ABSOLUTE_POS < cells as usize * width {
        let row = rows[at as usize + ABSOLUTE_POS / width] as usize;
        let start = starts[row] as usize;
        let end = starts[row + 1] as usize;
        let place = place_of((ABSOLUTE_POS % width) as u32, genes, start, end);
        let mut closed = 0.0f32;
        let mut share = 0.0f32;
        if place < end {
            closed = 1.0 / f32::cast_from(end - start);
            share = shares[place];
        }
        x[ABSOLUTE_POS] = closed;
        p[ABSOLUTE_POS] = share;
    }
}

/// For each cell of `rows[at..]` the sum of the rows of `w`, genes × units, over the genes that it expresses. `closed`
/// divides it by their number and adds the bias; then comes ReLU, if there is one.
///
/// `weights` has the layer from `layer` on, and its bias from `bias` on. A unit for each number of `out`, cells × units.
#[cube(launch)]
pub fn sum_rows<F: Float>(
    weights: &Array<F>,
    genes: &Array<u32>,
    starts: &Array<u32>,
    rows: &Array<u32>,
    out: &mut Array<f32>,
    at: u32,
    cells: u32,
    units: u32,
    layer: u32,
    bias: u32,
    #[comptime] closed: bool,
    #[comptime] relu: bool,
) {
    let units = units as usize;
    if ABSOLUTE_POS < cells as usize * units {
        let row = rows[at as usize + ABSOLUTE_POS / units] as usize;
        let unit = ABSOLUTE_POS % units;
        let start = starts[row] as usize;
        let end = starts[row + 1] as usize;
        let first = layer as usize + unit;
        // Four sums: additions do not wait for each other.
        let mut sums = Array::<f32>::new(4usize);
        #[unroll]
        for lane in 0..4usize {
            sums[lane] = 0.0;
        }
        let mut i = start;
        while i + 4 <= end {
            #[unroll]
            for lane in 0..4usize {
                sums[lane] += f32::cast_from(weights[first + genes[i + lane] as usize * units]);
            }
            i += 4;
        }
        while i < end {
            sums[0] += f32::cast_from(weights[first + genes[i] as usize * units]);
            i += 1;
        }
        let mut sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        if comptime!(closed) {
            let mut share = 0.0f32;
            if end > start {
                share = 1.0 / f32::cast_from(end - start);
            }
            sum = sum * share + f32::cast_from(weights[bias as usize + unit]);
        }
        if comptime!(relu) {
            sum = max(sum, 0.0f32);
        }
        out[ABSOLUTE_POS] = sum;
    }
}
