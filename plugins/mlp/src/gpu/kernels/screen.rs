//! The fused screen: impacts of knockouts without a profile in memory. The arithmetic is that of `fused` and `head`.
//!
//! A team takes a group of pairs of one cell, block by block of the cell's genes: it makes what is predicted for a block, by
//! the map or by the last layer, adds up what the measure needs, and goes on. Measures take two or three rounds; where all
//! genes of a cell are one block, they are made once, else once a round.

use super::sheet::{BIAS, Measured, NOT_EXPRESSED, NOTHING_LEFT, REFERENCE, SLOPE, START, SUM};
use super::team::{Teams, team_sums};
use cubecl::prelude::*;

/// The most pairs of a cell that a team takes together, so that a block's genes are read once for all.
pub const TOGETHER: usize = 8;
/// Inputs of the last layer that stand in shared memory.
const DEEP: usize = 64;
/// Stands where a prediction of a lost gene would; predictions are not below 0.
const LOST: f32 = -1.0;

/// How a screen goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Form {
    /// By the last of several layers, not by the map; then a team is a cube.
    pub layers: bool,
    /// Genes of a block that a unit keeps.
    pub held: usize,
    /// Whether no cell has more genes than a block.
    pub whole: bool,
    /// Pairs of a group, at most.
    pub together: usize,
    /// What a team is.
    pub by: Teams,
}

/// What a team works on: pairs from the first to the last, of a cell whose genes stand from `start` to `end`.
#[derive(CubeType, Clone, Copy)]
struct Group {
    first: usize,
    last: usize,
    start: usize,
    end: usize,
}

/// Impacts of all pairs, which have four numbers each, as `sheet::mark` leaves them.
///
/// `weights` is the map, genes × genes, or the last layer, `deep` units × genes; `inputs`, pairs × units, goes into that.
/// `groups` has the first pair of each group, and the end of the last. A team for each group.
#[cube(launch)]
pub fn impacts<F: Float>(
    weights: &Array<F>,
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
    #[comptime] form: Form,
    #[comptime] measured: Measured,
) {
    let together = comptime!(form.together);
    let block = comptime!(form.held * form.by.units);
    let mut shared = SharedMemory::<f32>::new(comptime!(form.by.units * form.together));
    let mut tile = SharedMemory::<f32>::new(comptime!(if form.layers { DEEP * form.together } else { 1 }));
    let team = CUBE_POS * form.by.teams + UNIT_POS_Y as usize;
    let number = min(team, groups.len() - 2);
    let first = groups[number] as usize;
    let cell = pairs[first * 4] as usize;
    let (width, deep) = (width as usize, deep as usize);
    let group = Group {
        first,
        last: groups[number + 1] as usize - 1,
        start: starts[cell] as usize,
        end: starts[cell + 1] as usize,
    };
    let mut blocks = 1usize.runtime();
    if comptime!(!form.whole) {
        blocks = (group.end - group.start).div_ceil(block);
    }
    let mut profile = Array::<f32>::new(comptime!(form.held * form.together));
    let mut after = zeros(together);
    let mut kept = zeros(together);
    let mut gone = zeros(together);
    let mut first_inverse = zeros(together);
    let mut inverse = zeros(together);
    let mut scale = zeros(together);
    let mut difference = zeros(together);

    // Rounds: what is left of both profiles; the sum of the anchored one, if it is anchored; the differences.
    let anchored = comptime!(measured.anchored);
    let rounds = comptime!(if anchored { 3usize } else { 2 }).runtime();
    for round in 0..rounds {
        for b in 0..blocks {
            let from = group.start + b * block + UNIT_POS_X as usize;
            if round == 0 || comptime!(!form.whole) {
                predict(
                    weights,
                    inputs,
                    genes,
                    sheet,
                    pairs,
                    lost,
                    &mut tile,
                    &mut profile,
                    group,
                    from,
                    width,
                    deep,
                    form,
                );
            }
            if round == 0 {
                add_profiles(
                    sheet,
                    genes.len(),
                    &profile,
                    &mut after,
                    &mut kept,
                    &mut gone,
                    from,
                    group.end,
                    form,
                );
            } else if round == 1 && anchored {
                add_anchored(sheet, genes.len(), &profile, &first_inverse, &mut after, from, group.end, form);
            } else {
                add_differences(
                    sheet,
                    genes.len(),
                    &profile,
                    &first_inverse,
                    &inverse,
                    &scale,
                    &mut difference,
                    from,
                    group.end,
                    form,
                    measured,
                );
            }
        }
        if round == 0 {
            team_sums(&mut after, &mut shared, together, form.by);
            team_sums(&mut kept, &mut shared, together, form.by);
            team_sums(&mut gone, &mut shared, together, form.by);
            inverses(&after, &mut first_inverse, together);
            scales(&mut kept, &gone, &mut scale, measured.null, together);
            if anchored {
                // slope · share + start has another sum.
                clear(&mut after, together);
            }
        } else if round == 1 && anchored {
            team_sums(&mut after, &mut shared, together, form.by);
            inverses(&after, &mut inverse, together);
        } else {
            team_sums(&mut difference, &mut shared, together, form.by);
        }
    }
    #[unroll]
    for q in 0..together {
        if UNIT_POS_X == 0 && team + 1 < groups.len() && group.first + q <= group.last {
            impacts[group.first + q] = impact(difference[q], after[q], kept[q], gone[q], width, measured);
        }
    }
}

/// A number for each pair of a group.
#[cube]
fn zeros(#[comptime] together: usize) -> Array<f32> {
    let mut numbers = Array::<f32>::new(together);
    clear(&mut numbers, together);
    numbers
}

#[cube]
fn clear(numbers: &mut Array<f32>, #[comptime] together: usize) {
    #[unroll]
    for q in 0..together {
        numbers[q] = 0.0;
    }
}

/// What the reference is multiplied with, and what is left of it in the end.
#[cube]
fn scales(
    kept: &mut Array<f32>,
    gone: &Array<f32>,
    scale: &mut Array<f32>,
    #[comptime] null: bool,
    #[comptime] together: usize,
) {
    #[unroll]
    for q in 0..together {
        scale[q] = 1.0;
        if comptime!(null) {
            if kept[q] > 0.0 {
                scale[q] = 1.0 / kept[q];
            }
        } else {
            kept[q] += gone[q];
        }
    }
}

/// 1 / sum, or 0.
#[cube]
fn inverses(sums: &Array<f32>, inverses: &mut Array<f32>, #[comptime] together: usize) {
    #[unroll]
    for q in 0..together {
        inverses[q] = 0.0;
        if sums[q] > 0.0 {
            inverses[q] = 1.0 / sums[q];
        }
    }
}

/// What is predicted, before it is divided by its sum, of a unit's genes, `from` and each `units` further, for the pairs of a
/// group. [`LOST`] where a gene is lost. What stands there for pairs that the group lacks is never written.
#[cube]
fn predict<F: Float>(
    weights: &Array<F>,
    inputs: &Array<f32>,
    genes: &Array<u32>,
    sheet: &Array<f32>,
    pairs: &Array<u32>,
    lost: &Array<u32>,
    tile: &mut SharedMemory<f32>,
    profile: &mut Array<f32>,
    group: Group,
    from: usize,
    width: usize,
    deep: usize,
    #[comptime] form: Form,
) {
    let together = comptime!(form.together);
    clear(profile, comptime!(form.held * form.together));
    if comptime!(form.layers) {
        last_layer(weights, inputs, genes, tile, profile, group, from, width, deep, form);
    }
    #[unroll]
    for q in 0..together {
        if group.first + q <= group.last {
            let pair = (group.first + q) * 4;
            let left = group.end - group.start - pairs[pair + 3] as usize;
            let mut share = 0.0f32;
            if left > 0 {
                share = 1.0 / f32::cast_from(left);
            }
            // A bit for each of the unit's genes; by the map, what the lost genes' rows have stands in the profile.
            let mut lacks = 0u32;
            for l in pairs[pair + 1]..pairs[pair + 2] {
                let other = lost[l as usize];
                #[unroll]
                for n in 0..form.held {
                    let i = from + n * form.by.units;
                    if i < group.end {
                        let gene = genes[i];
                        if gene == other {
                            lacks |= comptime!(1u32 << n as u32).runtime();
                        } else if comptime!(!form.layers) {
                            if other != NOT_EXPRESSED {
                                let taken = weights[other as usize * width + gene as usize];
                                profile[n * together + q] += f32::cast_from(taken);
                            }
                        }
                    }
                }
            }
            #[unroll]
            for n in 0..form.held {
                let i = from + n * form.by.units;
                if i < group.end {
                    let bias = sheet[BIAS * genes.len() + i];
                    let mut value = profile[n * together + q] + bias;
                    if comptime!(!form.layers) {
                        value = (sheet[SUM * genes.len() + i] - profile[n * together + q]) * share + bias;
                    }
                    profile[n * together + q] = f32::abs(value);
                    if lacks & comptime!(1u32 << n as u32) != 0 {
                        profile[n * together + q] = LOST.runtime();
                    }
                }
            }
        }
    }
}

/// What comes out of the last layer, without its bias; of a pair that the group lacks as of the last one.
#[cube]
fn last_layer<F: Float>(
    layer: &Array<F>,
    inputs: &Array<f32>,
    genes: &Array<u32>,
    tile: &mut SharedMemory<f32>,
    profile: &mut Array<f32>,
    group: Group,
    from: usize,
    width: usize,
    deep: usize,
    #[comptime] form: Form,
) {
    let together = comptime!(form.together);
    let tiles = deep.div_ceil(DEEP);
    for t in 0..tiles {
        sync_cube();
        let mut place = UNIT_POS_X as usize;
        while place < comptime!(DEEP * form.together) {
            let unit = t * DEEP + place % DEEP;
            let pair = min(group.first + place / DEEP, group.last);
            let mut value = 0.0f32;
            if unit < deep {
                value = inputs[pair * deep + unit];
            }
            tile[place % DEEP * together + place / DEEP] = value;
            place += form.by.units;
        }
        sync_cube();
        let depth = min(DEEP.runtime(), deep - t * DEEP);
        #[unroll]
        for n in 0..form.held {
            let i = from + n * form.by.units;
            if i < group.end {
                let gene = genes[i] as usize;
                for unit in 0..depth {
                    let weight = f32::cast_from(layer[(t * DEEP + unit) * width + gene]);
                    #[unroll]
                    for q in 0..together {
                        profile[n * together + q] += weight * tile[unit * together + q];
                    }
                }
            }
        }
    }
}

/// What is left of both profiles, and what the reference loses.
#[cube]
fn add_profiles(
    sheet: &Array<f32>,
    stored: usize,
    profile: &Array<f32>,
    after: &mut Array<f32>,
    kept: &mut Array<f32>,
    gone: &mut Array<f32>,
    from: usize,
    end: usize,
    #[comptime] form: Form,
) {
    #[unroll]
    for n in 0..form.held {
        let i = from + n * form.by.units;
        if i < end {
            let reference = sheet[REFERENCE * stored + i];
            #[unroll]
            for q in 0..form.together {
                let value = profile[n * form.together + q];
                if is_lost(value) {
                    gone[q] += reference;
                } else {
                    after[q] += value;
                    kept[q] += reference;
                }
            }
        }
    }
}

#[cube]
fn is_lost(predicted: f32) -> bool {
    predicted == LOST
}

/// The sum of the anchored profile.
#[cube]
fn add_anchored(
    sheet: &Array<f32>,
    stored: usize,
    profile: &Array<f32>,
    first_inverse: &Array<f32>,
    after: &mut Array<f32>,
    from: usize,
    end: usize,
    #[comptime] form: Form,
) {
    #[unroll]
    for n in 0..form.held {
        let i = from + n * form.by.units;
        if i < end {
            let slope = sheet[SLOPE * stored + i];
            let start = sheet[START * stored + i];
            #[unroll]
            for q in 0..form.together {
                let value = profile[n * form.together + q];
                if !is_lost(value) {
                    after[q] += slope * (value * first_inverse[q]) + start;
                }
            }
        }
    }
}

/// Differences of the closed profiles.
#[cube]
fn add_differences(
    sheet: &Array<f32>,
    stored: usize,
    profile: &Array<f32>,
    first_inverse: &Array<f32>,
    inverse: &Array<f32>,
    scale: &Array<f32>,
    difference: &mut Array<f32>,
    from: usize,
    end: usize,
    #[comptime] form: Form,
    #[comptime] measured: Measured,
) {
    #[unroll]
    for n in 0..form.held {
        let i = from + n * form.by.units;
        if i < end {
            #[unroll]
            for q in 0..form.together {
                let mut value = profile[n * form.together + q];
                let mut reference = sheet[REFERENCE * stored + i] * scale[q];
                if is_lost(value) {
                    value = 0.0f32;
                    if comptime!(measured.null) {
                        reference = 0.0f32;
                    }
                } else {
                    value *= first_inverse[q];
                    if comptime!(measured.anchored) {
                        let anchored = sheet[SLOPE * stored + i] * value + sheet[START * stored + i];
                        value = anchored * inverse[q];
                    }
                }
                difference[q] += distance(value, reference, measured.squares);
            }
        }
    }
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
