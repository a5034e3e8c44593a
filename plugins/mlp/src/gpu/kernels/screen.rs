//! The fused screen: impacts of knockouts without a profile in memory. The arithmetic is that of `fused` and `head`.
//!
//! What belongs to an expressed gene of a cell stands in the sheet: five rows, as long as the list of all cells' genes.

use super::team::{place_of, team_sum};
use cubecl::prelude::*;

/// Rows of the sheet: the profile that is compared with; the anchored share is `slope · predicted + start`; the sum of the
/// map's rows over the cell's genes; the bias.
pub const REFERENCE: usize = 0;
const SLOPE: usize = 1;
const START: usize = 2;
const SUM: usize = 3;
const BIAS: usize = 4;
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

/// Impacts by the collapsed map, genes × genes. A team for each pair; a unit keeps `held` numbers of the profile, or, where
/// that is 0, makes them again in each pass.
#[cube(launch)]
pub fn impacts_by_map<F: Float>(
    map: &Array<F>,
    genes: &Array<u32>,
    starts: &Array<u32>,
    sheet: &Array<f32>,
    pairs: &Array<u32>,
    lost: &Array<u32>,
    impacts: &mut Array<f32>,
    width: u32,
    #[comptime] held: usize,
    #[comptime] measured: Measured,
    #[comptime] by: Teams,
) {
    let mut shared = SharedMemory::<f32>::new(by.units);
    let units = by.units;
    let stored = genes.len();
    let team = CUBE_POS * by.teams + UNIT_POS_Y as usize;
    let pair = min(team, impacts.len() - 1);
    let cell = pairs[pair * 4] as usize;
    let from = pairs[pair * 4 + 1] as usize;
    let to = pairs[pair * 4 + 2] as usize;
    let start = starts[cell] as usize;
    let end = starts[cell + 1] as usize;
    let left = end - start - pairs[pair * 4 + 3] as usize;
    let mut share = 0.0f32;
    if left > 0 {
        share = 1.0 / f32::cast_from(left);
    }
    let lane = start + UNIT_POS_X as usize;
    let width = width as usize;

    // What is left of both profiles, and what the reference loses.
    let mut profile = Array::<f32>::new(comptime!(if held > 0 { held } else { 1 }));
    let mut after = 0.0f32;
    let mut kept = 0.0f32;
    let mut gone = 0.0f32;
    if comptime!(held > 0) {
        #[unroll]
        for n in 0..held {
            let i = lane + n * units;
            profile[n] = 0.0;
            if i < end {
                let gene = genes[i];
                let reference = sheet[REFERENCE * stored + i];
                if is_lost(gene, lost, from, to) {
                    gone += reference;
                } else {
                    let taken = taken_by(map, gene, lost, from, to, width);
                    let value =
                        f32::abs((sheet[SUM * stored + i] - taken) * share + sheet[BIAS * stored + i]);
                    profile[n] = value;
                    after += value;
                    kept += reference;
                }
            }
        }
    } else {
        let mut i = lane;
        while i < end {
            let gene = genes[i];
            let reference = sheet[REFERENCE * stored + i];
            if is_lost(gene, lost, from, to) {
                gone += reference;
            } else {
                let taken = taken_by(map, gene, lost, from, to, width);
                after += f32::abs((sheet[SUM * stored + i] - taken) * share + sheet[BIAS * stored + i]);
                kept += reference;
            }
            i += units;
        }
    }
    let mut after = team_sum(after, &mut shared, units, by.plane);
    let mut kept = team_sum(kept, &mut shared, units, by.plane);
    let gone = team_sum(gone, &mut shared, units, by.plane);
    let mut first = 0.0f32;
    if after > 0.0 {
        first = 1.0 / after;
    }

    // Anchored: slope · share + start, whose sum is another.
    if comptime!(measured.anchored) {
        let mut anchored = 0.0f32;
        if comptime!(held > 0) {
            #[unroll]
            for n in 0..held {
                let i = lane + n * units;
                if i < end {
                    if !is_lost(genes[i], lost, from, to) {
                        let value =
                            sheet[SLOPE * stored + i] * (profile[n] * first) + sheet[START * stored + i];
                        profile[n] = value;
                        anchored += value;
                    }
                }
            }
        } else {
            let mut i = lane;
            while i < end {
                let gene = genes[i];
                if !is_lost(gene, lost, from, to) {
                    let taken = taken_by(map, gene, lost, from, to, width);
                    let value =
                        f32::abs((sheet[SUM * stored + i] - taken) * share + sheet[BIAS * stored + i]);
                    anchored += sheet[SLOPE * stored + i] * (value * first) + sheet[START * stored + i];
                }
                i += units;
            }
        }
        after = team_sum(anchored, &mut shared, units, by.plane);
    }
    let mut inverse = first;
    if comptime!(measured.anchored) {
        inverse = 0.0f32;
        if after > 0.0 {
            inverse = 1.0 / after;
        }
    }
    let mut scale = 1.0f32;
    if comptime!(measured.null) {
        if kept > 0.0 {
            scale = 1.0 / kept;
        }
    } else {
        kept += gone;
    }

    let mut difference = 0.0f32;
    if comptime!(held > 0) {
        #[unroll]
        for n in 0..held {
            let i = lane + n * units;
            if i < end {
                let mut reference = sheet[REFERENCE * stored + i] * scale;
                if comptime!(measured.null) {
                    if is_lost(genes[i], lost, from, to) {
                        reference = 0.0f32;
                    }
                }
                difference += distance(profile[n] * inverse, reference, measured.squares);
            }
        }
    } else {
        let mut i = lane;
        while i < end {
            let gene = genes[i];
            let mut reference = sheet[REFERENCE * stored + i] * scale;
            let mut value = 0.0f32;
            if is_lost(gene, lost, from, to) {
                if comptime!(measured.null) {
                    reference = 0.0f32;
                }
            } else {
                let taken = taken_by(map, gene, lost, from, to, width);
                value = f32::abs((sheet[SUM * stored + i] - taken) * share + sheet[BIAS * stored + i]);
                if comptime!(measured.anchored) {
                    value = sheet[SLOPE * stored + i] * (value * first) + sheet[START * stored + i];
                }
            }
            difference += distance(value * inverse, reference, measured.squares);
            i += units;
        }
    }
    let difference = team_sum(difference, &mut shared, units, by.plane);
    if UNIT_POS_X == 0 && team < impacts.len() {
        impacts[team] = impact(difference, after, kept, gone, width, measured);
    }
}

/// Whether a gene is among the lost ones.
#[cube]
fn is_lost(gene: u32, lost: &Array<u32>, from: usize, to: usize) -> bool {
    let mut found = false;
    for i in from..to {
        if lost[i] == gene {
            found = true;
        }
    }
    found
}

/// What the lost genes' rows of the map have for a gene.
#[cube]
fn taken_by<F: Float>(
    map: &Array<F>,
    gene: u32,
    lost: &Array<u32>,
    from: usize,
    to: usize,
    width: usize,
) -> f32 {
    let mut taken = 0.0f32;
    for i in from..to {
        if lost[i] != NOT_EXPRESSED {
            taken += f32::cast_from(map[lost[i] as usize * width + gene as usize]);
        }
    }
    taken
}

/// |a − b|, or its square.
#[cube]
fn distance(a: f32, b: f32, #[comptime] squares: bool) -> f32 {
    let difference = a - b;
    if comptime!(squares) { difference * difference } else { f32::abs(difference) }
}

/// Of the sums that a team has made.
#[cube]
fn impact(
    difference: f32,
    after: f32,
    kept: f32,
    gone: f32,
    width: usize,
    #[comptime] measured: Measured,
) -> f32 {
    let mut value = difference;
    if comptime!(measured.squares) {
        value = f32::sqrt(value);
    }
    if comptime!(measured.averaged) {
        value /= f32::cast_from(width);
    }
    if comptime!(measured.weighed) {
        value *= 1.0 - gone;
    }
    if comptime!(measured.relative) {
        // Each profile sums to 1, or to 0 where nothing is left of it.
        let mut sums = 0.0f32;
        if after > 0.0 {
            sums += 1.0;
        }
        if kept > 0.0 {
            sums += 1.0;
        }
        if sums > 0.0 {
            value /= sums;
        } else {
            value = NOTHING_LEFT.runtime();
        }
    }
    value
}

/// What comes out of the first of the hidden layers without the lost genes, pairs × units: `sums` has the sum of the layer's
/// rows for each cell, the bias begins at `bias` of `weights`. A unit for each number.
#[cube(launch)]
pub fn first_without(
    weights: &Array<f32>,
    sums: &Array<f32>,
    starts: &Array<u32>,
    pairs: &Array<u32>,
    lost: &Array<u32>,
    out: &mut Array<f32>,
    units: u32,
    bias: u32,
) {
    let units = units as usize;
    if ABSOLUTE_POS < out.len() {
        let pair = ABSOLUTE_POS / units * 4;
        let unit = ABSOLUTE_POS % units;
        let cell = pairs[pair] as usize;
        let left = starts[cell + 1] - starts[cell] - pairs[pair + 3];
        let mut sum = sums[cell * units + unit];
        for i in pairs[pair + 1]..pairs[pair + 2] {
            let gene = lost[i as usize];
            if gene != NOT_EXPRESSED {
                sum -= weights[gene as usize * units + unit];
            }
        }
        let mut share = 0.0f32;
        if left > 0 {
            share = 1.0 / f32::cast_from(left);
        }
        out[ABSOLUTE_POS] = max(sum * share + weights[bias as usize + unit], 0.0f32);
    }
}

/// Pairs of a cell that a cube takes together, so that the last layer is read once for all.
pub const TOGETHER: usize = 8;
/// Inputs of the last layer that stand in shared memory.
const DEEP: usize = 64;

/// Impacts by a network with hidden layers: the last layer, the head and the sums in one.
///
/// `inputs`, pairs × units, go into the last layer, units × genes. `groups` has the first pair of each group, and the end of
/// the last: at most [`TOGETHER`] pairs of one cell. A cube of `units` units for each group; a unit keeps `held` genes at a
/// time, and makes them again for each pass where a cell has more.
#[cube(launch)]
pub fn impacts_by_layers(
    layer: &Array<f32>,
    inputs: &Array<f32>,
    genes: &Array<u32>,
    starts: &Array<u32>,
    sheet: &Array<f32>,
    pairs: &Array<u32>,
    lost: &Array<u32>,
    groups: &Array<u32>,
    impacts: &mut Array<f32>,
    width: u32,
    deep: u32,
    #[comptime] held: usize,
    #[comptime] units: usize,
    #[comptime] measured: Measured,
) {
    let mut shared = SharedMemory::<f32>::new(units);
    let mut tile = SharedMemory::<f32>::new(comptime!(DEEP * TOGETHER));
    let group = CUBE_POS;
    if group + 1 < groups.len() {
        let first = groups[group] as usize;
        let last = groups[group + 1] as usize - 1;
        let cell = pairs[first * 4] as usize;
        let start = starts[cell] as usize;
        let end = starts[cell + 1] as usize;
        let stored = genes.len();
        let width = width as usize;
        let deep = deep as usize;
        let block = comptime!(held * units);
        let blocks = (end - start).div_ceil(block);
        let mut profile = Array::<f32>::new(comptime!(held * TOGETHER));
        let mut after = Array::<f32>::new(TOGETHER);
        let mut kept = Array::<f32>::new(TOGETHER);
        let mut gone = Array::<f32>::new(TOGETHER);
        let mut firsts = Array::<f32>::new(TOGETHER);
        let mut difference = Array::<f32>::new(TOGETHER);
        #[unroll]
        for q in 0..TOGETHER {
            after[q] = 0.0;
            kept[q] = 0.0;
            gone[q] = 0.0;
            difference[q] = 0.0;
        }
        for b in 0..blocks {
            let from = start + b * block;
            outputs(
                layer,
                inputs,
                genes,
                sheet,
                &mut tile,
                &mut profile,
                first,
                last,
                from,
                end,
                width,
                deep,
                held,
                units,
            );
            #[unroll]
            for n in 0..held {
                let i = from + n * units + UNIT_POS_X as usize;
                if i < end {
                    let reference = sheet[REFERENCE * stored + i];
                    #[unroll]
                    for q in 0..TOGETHER {
                        let pair = min(first + q, last);
                        if is_lost(genes[i], lost, pairs[pair * 4 + 1] as usize, pairs[pair * 4 + 2] as usize)
                        {
                            gone[q] += reference;
                            profile[n * TOGETHER + q] = 0.0;
                        } else {
                            after[q] += profile[n * TOGETHER + q];
                            kept[q] += reference;
                        }
                    }
                }
            }
        }
        #[unroll]
        for q in 0..TOGETHER {
            after[q] = team_sum(after[q], &mut shared, units, false);
            kept[q] = team_sum(kept[q], &mut shared, units, false);
            gone[q] = team_sum(gone[q], &mut shared, units, false);
            firsts[q] = 0.0;
            if after[q] > 0.0 {
                firsts[q] = 1.0 / after[q];
            }
        }
        if comptime!(measured.anchored) {
            #[unroll]
            for q in 0..TOGETHER {
                after[q] = 0.0;
            }
            for b in 0..blocks {
                let from = start + b * block;
                if blocks > 1 {
                    outputs(
                        layer,
                        inputs,
                        genes,
                        sheet,
                        &mut tile,
                        &mut profile,
                        first,
                        last,
                        from,
                        end,
                        width,
                        deep,
                        held,
                        units,
                    );
                }
                #[unroll]
                for n in 0..held {
                    let i = from + n * units + UNIT_POS_X as usize;
                    if i < end {
                        #[unroll]
                        for q in 0..TOGETHER {
                            let pair = min(first + q, last);
                            if !is_lost(
                                genes[i],
                                lost,
                                pairs[pair * 4 + 1] as usize,
                                pairs[pair * 4 + 2] as usize,
                            ) {
                                let share = profile[n * TOGETHER + q] * firsts[q];
                                after[q] += sheet[SLOPE * stored + i] * share + sheet[START * stored + i];
                            }
                        }
                    }
                }
            }
            #[unroll]
            for q in 0..TOGETHER {
                after[q] = team_sum(after[q], &mut shared, units, false);
            }
        }
        for b in 0..blocks {
            let from = start + b * block;
            if blocks > 1 {
                outputs(
                    layer,
                    inputs,
                    genes,
                    sheet,
                    &mut tile,
                    &mut profile,
                    first,
                    last,
                    from,
                    end,
                    width,
                    deep,
                    held,
                    units,
                );
            }
            #[unroll]
            for n in 0..held {
                let i = from + n * units + UNIT_POS_X as usize;
                if i < end {
                    #[unroll]
                    for q in 0..TOGETHER {
                        let pair = min(first + q, last);
                        let lost_here = is_lost(
                            genes[i],
                            lost,
                            pairs[pair * 4 + 1] as usize,
                            pairs[pair * 4 + 2] as usize,
                        );
                        let mut reference = sheet[REFERENCE * stored + i];
                        if comptime!(measured.null) {
                            if lost_here {
                                reference = 0.0f32;
                            }
                            if kept[q] > 0.0 {
                                reference /= kept[q];
                            }
                        }
                        let mut value = 0.0f32;
                        if !lost_here {
                            value = profile[n * TOGETHER + q] * firsts[q];
                            if comptime!(measured.anchored) {
                                value = sheet[SLOPE * stored + i] * value + sheet[START * stored + i];
                                if after[q] > 0.0 {
                                    value /= after[q];
                                }
                            }
                        }
                        difference[q] += distance(value, reference, measured.squares);
                    }
                }
            }
        }
        #[unroll]
        for q in 0..TOGETHER {
            let sum = team_sum(difference[q], &mut shared, units, false);
            let mut left = kept[q];
            if comptime!(!measured.null) {
                left += gone[q];
            }
            if UNIT_POS_X == 0 && first + q <= last {
                impacts[first + q] = impact(sum, after[q], left, gone[q], width, measured);
            }
        }
    }
}

/// What comes out of the last layer, as its absolute value, for a block of a cell's genes and the pairs of a group; a pair
/// that the group lacks is the last one again.
#[cube]
fn outputs(
    layer: &Array<f32>,
    inputs: &Array<f32>,
    genes: &Array<u32>,
    sheet: &Array<f32>,
    tile: &mut SharedMemory<f32>,
    profile: &mut Array<f32>,
    first: usize,
    last: usize,
    from: usize,
    end: usize,
    width: usize,
    deep: usize,
    #[comptime] held: usize,
    #[comptime] units: usize,
) {
    let stored = genes.len();
    let lane = UNIT_POS_X as usize;
    #[unroll]
    for n in 0..comptime!(held * TOGETHER) {
        profile[n] = 0.0;
    }
    let tiles = deep.div_ceil(DEEP);
    for t in 0..tiles {
        sync_cube();
        let mut place = lane;
        while place < DEEP * TOGETHER {
            let unit = t * DEEP + place % DEEP;
            let pair = min(first + place / DEEP, last);
            let mut value = 0.0f32;
            if unit < deep {
                value = inputs[pair * deep + unit];
            }
            tile[place % DEEP * TOGETHER + place / DEEP] = value;
            place += units;
        }
        sync_cube();
        let depth = min(DEEP.runtime(), deep - t * DEEP);
        #[unroll]
        for n in 0..held {
            let i = from + n * units + lane;
            if i < end {
                let gene = genes[i] as usize;
                for unit in 0..depth {
                    let weight = layer[(t * DEEP + unit) * width + gene];
                    #[unroll]
                    for q in 0..TOGETHER {
                        profile[n * TOGETHER + q] += weight * tile[unit * TOGETHER + q];
                    }
                }
            }
        }
    }
    #[unroll]
    for n in 0..held {
        let i = from + n * units + lane;
        if i < end {
            let bias = sheet[BIAS * stored + i];
            #[unroll]
            for q in 0..TOGETHER {
                profile[n * TOGETHER + q] = f32::abs(profile[n * TOGETHER + q] + bias);
            }
        }
    }
}
