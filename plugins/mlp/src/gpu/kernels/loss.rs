//! The head of the network in training: |h| of the expressed genes, closed; its Bray–Curtis dissimilarity to the observed
//! profile, and the gradient.

use super::team::team_sum;
use cubecl::prelude::*;

/// Writes each cell's dissimilarity; with `gradient` also that of the sum of all with respect to h. See `plain`.
///
/// `h`, `x`, `p` and `d` are cells × genes; x is above 0 where a gene is expressed. A team for each cell.
#[cube(launch)]
pub fn losses(
    h: &Array<f32>,
    x: &Array<f32>,
    p: &Array<f32>,
    d: &mut Array<f32>,
    losses: &mut Array<f32>,
    cells: u32,
    width: u32,
    #[comptime] gradient: bool,
    #[comptime] units: usize,
    #[comptime] teams: usize,
    #[comptime] plane: bool,
) {
    let mut shared = SharedMemory::<f32>::new(units);
    let team = CUBE_POS * teams + UNIT_POS_Y as usize;
    // Surplus teams do what the last one does, and write nothing.
    let cell = min(team, cells as usize - 1);
    let width = width as usize;
    let lane = UNIT_POS_X as usize;
    let start = cell * width;
    let mut sum = 0.0f32;
    let mut j = lane;
    while j < width {
        if x[start + j] > 0.0 {
            sum += f32::abs(h[start + j]);
        }
        j += units;
    }
    let sum = team_sum(sum, &mut shared, units, plane);
    let mut inverse = 0.0f32;
    if sum > 0.0 {
        inverse = 1.0 / sum;
    }
    let mut difference = 0.0f32;
    let mut total = 0.0f32;
    let mut mean = 0.0f32;
    let mut j = lane;
    while j < width {
        if x[start + j] > 0.0 {
            let q = share(h[start + j], sum);
            let observed = p[start + j];
            difference += f32::abs(q - observed);
            total += q + observed;
            mean += slope(q, observed) * q;
        }
        j += units;
    }
    let difference = team_sum(difference, &mut shared, units, plane);
    let total = team_sum(total, &mut shared, units, plane);
    if lane == 0 && team < cells as usize {
        losses[cell] = difference / total;
    }
    if comptime!(gradient) {
        let mean = team_sum(mean, &mut shared, units, plane);
        if team < cells as usize {
            let mut j = lane;
            while j < width {
                let before = h[start + j];
                let mut value = 0.0f32;
                if x[start + j] > 0.0 && before != 0.0 {
                    value = (slope(share(before, sum), p[start + j]) - mean) * inverse;
                    if before < 0.0 {
                        value = -value;
                    }
                }
                d[start + j] = value;
                j += units;
            }
        }
    }
}

/// |h| of the sum; a cell with one gene has exactly 1, so that what cannot change has no gradient.
#[cube]
fn share(h: f32, sum: f32) -> f32 {
    let mut q = 0.0f32;
    if sum > 0.0 {
        q = f32::abs(h) / sum;
        // A quotient of equal numbers need not be 1 on every device.
        if f32::abs(h) >= sum {
            q = 1.0f32;
        }
    }
    q
}

/// ½ sign(q − p).
#[cube]
fn slope(q: f32, p: f32) -> f32 {
    let mut slope = 0.0f32;
    if q > p {
        slope = 0.5f32;
    }
    if q < p {
        slope = -0.5f32;
    }
    slope
}

/// The sum of `losses` becomes the number at a place of `sums`, or is added to it. One team.
#[cube(launch)]
pub fn tally(
    losses: &Array<f32>,
    sums: &mut Array<f32>,
    cells: u32,
    place: u32,
    #[comptime] added: bool,
    #[comptime] units: usize,
) {
    let mut shared = SharedMemory::<f32>::new(units);
    let mut sum = 0.0f32;
    let mut i = UNIT_POS_X as usize;
    while i < cells as usize {
        sum += losses[i];
        i += units;
    }
    let sum = team_sum(sum, &mut shared, units, false);
    if UNIT_POS_X == 0 {
        if comptime!(added) {
            sums[place as usize] += sum;
        } else {
            sums[place as usize] = sum;
        }
    }
}

/// Copies the weights where the sum at `place` is not above the lowest so far, which is the last of `sums`; see [`lower`].
#[cube(launch)]
pub fn keep(weights: &Array<f32>, best: &mut Array<f32>, sums: &Array<f32>, place: u32) {
    if ABSOLUTE_POS < weights.len() {
        if sums[place as usize] <= sums[sums.len() - 1] {
            best[ABSOLUTE_POS] = weights[ABSOLUTE_POS];
        }
    }
}

/// The last of `sums` becomes the sum at `place` if that is lower. One unit.
#[cube(launch)]
pub fn lower(sums: &mut Array<f32>, place: u32) {
    if ABSOLUTE_POS == 0 {
        let last = sums.len() - 1;
        let seen = sums[place as usize];
        if seen < sums[last] {
            sums[last] = seen;
        }
    }
}
