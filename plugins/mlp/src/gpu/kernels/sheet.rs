//! The sheet of a block of cells: what a screen needs of each cell whatever it loses; and the marks of lost genes.
//!
//! What belongs to an expressed gene of a cell stands in the sheet: five rows, as long as the list of all cells' genes.

use super::team::{Teams, place_of, team_sum};
use cubecl::prelude::*;

/// Rows of the sheet: the profile that is compared with; the anchored share is `slope · predicted + start`; the sum of the
/// map's rows over the cell's genes; the bias.
pub const REFERENCE: usize = 0;
pub const SLOPE: usize = 1;
pub const START: usize = 2;
pub const SUM: usize = 3;
pub const BIAS: usize = 4;
/// How many they are.
pub const SHEET: usize = 5;

/// What is written where nothing is left of either profile.
pub const NOTHING_LEFT: f32 = -1.0;
/// The gene of a knockout that its cell does not express.
pub const NOT_EXPRESSED: u32 = u32::MAX;

/// What is measured; see `head::Measure`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Measured {
    /// √Σ(a − b)², not Σ|a − b|.
    pub squares: bool,
    /// Divided by Σ(a + b).
    pub relative: bool,
    /// Times 1 − the lost share.
    pub weighed: bool,
    /// Divided by the number of genes.
    pub averaged: bool,
    /// The reference loses the genes too.
    pub null: bool,
    /// Against the observed profile, not the predicted one.
    pub observed: bool,
    /// Anchored at the observed profile.
    pub anchored: bool,
}

/// Writes the sheet of cells `0..cells`, whose genes begin at `starts`. `dense`, cells × genes, has the sums of the map's
/// rows where the network is a map, else what comes out of it. A team for each cell.
#[cube(launch)]
pub fn cells_of_sheet(
    dense: &Array<f32>,
    biases: &Array<f32>,
    genes: &Array<u32>,
    starts: &Array<u32>,
    shares: &Array<f32>,
    sheet: &mut Array<f32>,
    cells: u32,
    width: u32,
    bias: u32,
    pseudo: f32,
    #[comptime] map: bool,
    #[comptime] measured: Measured,
    #[comptime] by: Teams,
) {
    let mut shared = SharedMemory::<f32>::new(by.units);
    let team = CUBE_POS * by.teams + UNIT_POS_Y as usize;
    let cell = min(team, cells as usize - 1);
    let stored = genes.len();
    let start = starts[cell] as usize;
    let end = starts[cell + 1] as usize;
    let mut share = 0.0f32;
    if end > start {
        share = 1.0 / f32::cast_from(end - start);
    }
    let mut sum = 0.0f32;
    let mut i = start + UNIT_POS_X as usize;
    while i < end {
        let gene = genes[i] as usize;
        let mut h = dense[cell * width as usize + gene];
        let b = biases[bias as usize + gene];
        if comptime!(map) {
            sheet[SUM * stored + i] = h;
            h = h * share + b;
        }
        sheet[BIAS * stored + i] = b;
        sum += f32::abs(h);
        i += by.units;
    }
    let sum = team_sum(sum, &mut shared, by.units, by.plane);
    let mut inverse = 0.0f32;
    if sum > 0.0 {
        inverse = 1.0 / sum;
    }
    let mut i = start + UNIT_POS_X as usize;
    while i < end {
        let gene = genes[i] as usize;
        let mut h = dense[cell * width as usize + gene];
        if comptime!(map) {
            h = h * share + biases[bias as usize + gene];
        }
        let predicted = f32::abs(h) * inverse;
        if comptime!(measured.observed) {
            sheet[REFERENCE * stored + i] = shares[i];
        } else {
            sheet[REFERENCE * stored + i] = predicted;
        }
        if comptime!(measured.anchored) {
            let slope = shares[i] / (predicted + pseudo);
            sheet[SLOPE * stored + i] = slope;
            sheet[START * stored + i] = slope * pseudo;
        }
        i += by.units;
    }
}

/// Marks lost genes that the cell does not express, and counts those that it does: `pairs` has cell, where its genes begin in
/// `lost`, where they end, and the number. A unit for each pair.
#[cube(launch)]
pub fn mark(genes: &Array<u32>, starts: &Array<u32>, pairs: &mut Array<u32>, lost: &mut Array<u32>) {
    let at = ABSOLUTE_POS * 4;
    if at < pairs.len() {
        let cell = pairs[at] as usize;
        let start = starts[cell] as usize;
        let end = starts[cell + 1] as usize;
        let mut expressed = 0u32;
        for i in pairs[at + 1]..pairs[at + 2] {
            if place_of(lost[i as usize], genes, start, end) < end {
                expressed += 1;
            } else {
                lost[i as usize] = NOT_EXPRESSED;
            }
        }
        pairs[at + 3] = expressed;
    }
}
