//! Units that work on one row together: a plane where the device has planes of 32, else all units of a cube.

use cubecl::prelude::*;

/// The sum of a number of each unit of a team; each unit gets it. All units of the cube have to come here.
///
/// `shared` has room for a number of each unit of the cube, and is not used by planes. Additions are made in a fixed order.
#[cube]
pub fn team_sum(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] units: usize,
    #[comptime] plane: bool,
) -> f32 {
    if comptime!(plane) {
        plane_sum(value)
    } else {
        let unit = UNIT_POS_X as usize;
        shared[unit] = value;
        sync_cube();
        let mut half = comptime!(units / 2).runtime();
        while half > 0 {
            if unit < half {
                let other = shared[unit + half];
                shared[unit] += other;
            }
            sync_cube();
            half /= 2;
        }
        let sum = shared[0];
        sync_cube();
        sum
    }
}

/// Where a gene stands among ascending ones, from `start` to `end`; `end` where it does not.
#[cube]
pub fn place_of(gene: u32, genes: &Array<u32>, start: usize, end: usize) -> usize {
    let mut low = start;
    let mut high = end;
    while low < high {
        let middle = (low + high) / 2;
        if genes[middle] < gene {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut found = end;
    if low < end {
        if genes[low] == gene {
            found = low;
        }
    }
    found
}
