//! Units that work on one row together: a plane where the device has planes of 32, else all units of a cube.

use cubecl::prelude::*;

/// How the units of a cube are divided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Teams {
    /// Units that work on one row.
    pub units: usize,
    /// Teams of a cube: 1 but for planes.
    pub teams: usize,
    /// Whether a team is a plane.
    pub plane: bool,
}

impl Teams {
    /// A team that is a cube.
    pub const CUBE: Self = Self { units: 128, teams: 1, plane: false };
    /// Planes.
    pub const PLANES: Self = Self { units: 32, teams: 8, plane: true };
}

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

/// The same for several numbers of each unit; `shared` has room for them all.
#[cube]
pub fn team_sums(
    numbers: &mut Array<f32>,
    shared: &mut SharedMemory<f32>,
    #[comptime] count: usize,
    #[comptime] by: Teams,
) {
    if comptime!(by.plane) {
        #[unroll]
        for q in 0..count {
            numbers[q] = plane_sum(numbers[q]);
        }
    } else {
        let unit = UNIT_POS_X as usize;
        let units = by.units;
        #[unroll]
        for q in 0..count {
            shared[q * units + unit] = numbers[q];
        }
        sync_cube();
        let mut half = comptime!(by.units / 2).runtime();
        while half > 0 {
            if unit < half {
                #[unroll]
                for q in 0..count {
                    let other = shared[q * units + unit + half];
                    shared[q * units + unit] += other;
                }
            }
            sync_cube();
            half /= 2;
        }
        #[unroll]
        for q in 0..count {
            numbers[q] = shared[q * units];
        }
        sync_cube();
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
