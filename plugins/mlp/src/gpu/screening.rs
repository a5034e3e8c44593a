//! Screens on a device: cells and knockouts in blocks, impacts back. What is computed is what `fused` computes.

use super::kernels::product::Then;
use super::kernels::screen::{self, Form, TOGETHER};
use super::kernels::sheet::{self, Measured, NOTHING_LEFT, SHEET};
use super::kernels::team::Teams;
use super::kernels::{product, rows};
use super::matrix::{Matrix, multiply};
use super::runner::{Buffer, Runner};
use super::training::map_of;
use crate::device;
use crate::head::{Asked, Formula, Measure};
use crate::network::Network;
use cubecl::prelude::*;
use lacuna_sdk::prelude::*;
use std::ops::Range;

/// The most bytes of a list that grows with the cells or knockouts of a block.
const BLOCK_BYTES: usize = 64 << 20;
/// Pairs of a cell that a screen by the map takes together.
const TOGETHER_BY_MAP: usize = 4;
/// The most numbers of profiles that a unit keeps.
const MOST_KEPT: usize = 64;
/// What no kernel has written; no impact is below 0.
const UNWRITTEN: f32 = -2.0;

/// A network on a device, ready for knockouts.
pub struct Screener<R: Runtime> {
    on: Runner<R>,
    genes: usize,
    network: Net,
    /// The most bytes of a list that grows with the cells or knockouts of a block.
    block_bytes: usize,
}

enum Net {
    /// The two layers as one map; again as f16, if it is screened as such; its bias.
    Map { map: Buffer, halves: Option<Buffer>, bias: Buffer },
    /// Layers with ReLU between them, as they lie: weights, inputs × outputs, and behind them the bias.
    Layers(Vec<Layer>),
}

impl Net {
    /// Of two layers without an activation.
    fn map<R: Runtime>(on: &Runner<R>, layers: &[Layer], first_bias: &[f32], f16: bool) -> Result<Self> {
        let [first, second] = layers else {
            return Err(Error::data("a linear network has two layers"));
        };
        let genes = second.outputs;
        let map = map_of(genes);
        on.check_room("the map of so many genes", &[map, if f16 { map / 2 } else { 0 }])?;
        let (map, bias) = (on.room::<f32>(genes * genes), on.room::<f32>(genes));
        let second_as =
            || Matrix { of: &second.all, layer: 0, bias: genes * second.inputs, transposed: false };
        multiply(on, &first.all, second_as(), (Then::Nothing, None), (genes, genes, first.outputs), &map);
        let between = on.upload(first_bias);
        multiply(on, &between, second_as(), (Then::Bias, None), (1, genes, first.outputs), &bias);
        let halves = f16.then(|| {
            let halves = on.room::<half::f16>(genes * genes);
            let (cubes, units) = Runner::<R>::units(genes * genes);
            product::halve::launch::<R>(on.client(), cubes, units, on.arg(&map), on.arg(&halves));
            halves
        });
        Ok(Self::Map { map, halves, bias })
    }

    /// The most pairs of a group.
    fn together(&self) -> usize {
        match self {
            Self::Map { .. } => TOGETHER_BY_MAP,
            Self::Layers(_) => TOGETHER,
        }
    }
}

struct Layer {
    all: Buffer,
    inputs: usize,
    outputs: usize,
}

/// Cells with their knockouts, on the device.
struct Block {
    cells: usize,
    genes: Buffer,
    starts: Buffer,
    shares: Buffer,
    /// The cells in their order.
    rows: Buffer,
    /// Cell, where its genes begin in `lost`, where they end, how many of them it expresses.
    pairs: Buffer,
    lost: Buffer,
    /// The first pair of each group, and the end of the last.
    groups: Buffer,
    /// Genes of the cell with most.
    widest: usize,
    impacts: Buffer,
}

impl<R: Runtime> device::Screener for Screener<R> {
    fn impacts(&self, asked: Asked<'_>, impacts: &mut [f32], cx: &Context) -> Result<()> {
        let runs = self.runs(asked);
        let mut rest = &runs[..];
        while !rest.is_empty() {
            cx.check()?;
            let (now, later) = rest.split_at(self.runs_of_a_block(asked, rest));
            let range = now[0].1.start..now[now.len() - 1].1.end;
            let block = Block::new(&self.on, asked, now, range.clone(), self.network.together());
            self.launch(asked, &block);
            let read: Vec<f32> = self.on.read(&block.impacts)?;
            for (impact, value) in impacts[range].iter_mut().zip(read) {
                *impact = match value {
                    UNWRITTEN => return Err(Error::failed("the device did not compute all impacts")),
                    NOTHING_LEFT => f32::NAN,
                    value => value,
                };
            }
            rest = later;
        }
        Ok(())
    }
}

impl<R: Runtime> Screener<R> {
    /// Sends the network. A map is multiplied out there, and stored as f16 if that is asked for.
    pub fn new(on: Runner<R>, network: &Network<f32>, f16: bool) -> Result<Self> {
        let genes = network.genes();
        let layers: Vec<Layer> = network.layers.iter().map(|layer| Layer::new(&on, layer)).collect();
        let network = match network.relu {
            true => Net::Layers(layers),
            false => Net::map(&on, &layers, &network.layers[0].b.to_vec(), f16)?,
        };
        Ok(Self { on, genes, network, block_bytes: BLOCK_BYTES })
    }

    /// The same with blocks of so many bytes.
    #[cfg(test)]
    pub fn with_blocks(self, block_bytes: usize) -> Self {
        Self { block_bytes, ..self }
    }

    /// Pairs that are taken at once.
    fn pairs_of_a_block(&self) -> usize {
        let widest = match &self.network {
            Net::Map { .. } => 4,
            Net::Layers(layers) => layers.iter().map(|layer| layer.inputs).skip(1).max().unwrap_or(1).max(4),
        };
        (self.block_bytes / (4 * widest)).max(TOGETHER)
    }

    /// Cells with their rows of the screen, cut where they have more than a block has.
    fn runs(&self, asked: Asked<'_>) -> Vec<(usize, Range<usize>)> {
        let most = self.pairs_of_a_block();
        let cut = |(cell, rows): (usize, Range<usize>)| {
            let end = rows.end;
            rows.step_by(most).map(move |first| (cell, first..end.min(first + most)))
        };
        asked.knockouts.by_cell().flat_map(cut).collect()
    }

    /// How many of these runs are taken at once, one at least: as many as make no list too long.
    fn runs_of_a_block(&self, asked: Asked<'_>, runs: &[(usize, Range<usize>)]) -> usize {
        let (most, pairs, first) = (self.block_bytes / 4, self.pairs_of_a_block(), runs[0].1.start);
        let (mut cells, mut stored, mut lost) = (0, 0, 0);
        let fits = |(cell, rows): &&(usize, Range<usize>)| {
            cells += 1;
            stored += asked.cells.assemblage(*cell).len();
            lost += rows.clone().map(|i| asked.knockouts.get(i).genes.len()).sum::<usize>();
            rows.end - first <= pairs && (cells * self.genes).max(SHEET * stored).max(lost) <= most
        };
        runs.iter().take_while(fits).count().max(1)
    }

    fn launch(&self, asked: Asked<'_>, block: &Block) {
        let on = &self.on;
        let (cubes, units) = Runner::<R>::units(block.impacts.len());
        let [genes, starts, pairs, lost] =
            [&block.genes, &block.starts, &block.pairs, &block.lost].map(|list| on.arg(list));
        sheet::mark::launch::<R>(on.client(), cubes, units, genes, starts, pairs, lost);
        match &self.network {
            Net::Map { map, halves, bias } => {
                let sums = self.sums(block, (map, self.genes, 0), (false, false));
                let sheet = self.sheet(asked, (&sums, bias, 0), true, block);
                let by = on.teams();
                match halves {
                    Some(halves) => self.impacts_by::<half::f16>(asked, (halves, None), &sheet, by, block),
                    None => self.impacts_by::<f32>(asked, (map, None), &sheet, by, block),
                }
            }
            Net::Layers(layers) => self.by_layers(asked, layers, block),
        }
    }

    fn by_layers(&self, asked: Asked<'_>, layers: &[Layer], block: &Block) {
        let on = &self.on;
        let pairs = block.impacts.len();
        let ([first, ..], [.., last]) = (layers, layers) else { return };
        // The cells as they are.
        let whole = self.through(layers, block.cells, self.first_of_cells(first, block));
        let outputs = on.room::<f32>(block.cells * self.genes);
        let of = (block.cells, self.genes, last.inputs);
        multiply(on, &whole, last.matrix(), (Then::Bias, None), of, &outputs);
        let sheet = self.sheet(asked, (&outputs, &last.all, last.inputs * last.outputs), false, block);
        // Their knockouts.
        let sums = self.sums(block, (&first.all, first.outputs, 0), (false, false));
        let without = on.room::<f32>(pairs * first.outputs);
        let (cubes, units) = Runner::<R>::units(without.len());
        screen::first_without::launch::<R>(
            on.client(),
            cubes,
            units,
            on.arg(&first.all),
            on.arg(&sums),
            on.arg(&block.starts),
            on.arg(&block.pairs),
            on.arg(&block.lost),
            on.arg(&without),
            first.outputs as u32,
            (first.inputs * first.outputs) as u32,
        );
        let inputs = self.through(layers, pairs, without);
        let of = (&last.all, Some((&inputs, last.inputs)));
        self.impacts_by::<f32>(asked, of, &sheet, Teams::CUBE, block);
    }

    /// By the map, or by the last layer and what goes into it, with its number of units.
    fn impacts_by<F: Float + CubeElement>(
        &self,
        asked: Asked<'_>,
        (weights, inputs): (&Buffer, Option<(&Buffer, usize)>),
        sheet: &Buffer,
        by: Teams,
        block: &Block,
    ) {
        let on = &self.on;
        let together = self.network.together();
        let needed = block.widest.div_ceil(by.units).max(1).next_power_of_two();
        let held = needed.min(MOST_KEPT / together);
        let (cubes, units) = Runner::<R>::rows(block.groups.len() - 1, by);
        screen::impacts::launch::<F, R>(
            on.client(),
            cubes,
            units,
            on.arg(weights),
            inputs.map_or_else(|| on.nothing(), |(inputs, _)| on.arg(inputs)),
            on.arg(&block.genes),
            on.arg(&block.starts),
            on.arg(sheet),
            on.arg(&block.pairs),
            on.arg(&block.lost),
            on.arg(&block.groups),
            on.arg(&block.impacts),
            self.genes as u32,
            inputs.map_or(0, |(_, units)| units) as u32,
            Form { layers: inputs.is_some(), held, whole: held == needed, together, by },
            measured(asked.measure),
        );
    }

    /// What comes out of the first layer for cells as they are.
    fn first_of_cells(&self, first: &Layer, block: &Block) -> Buffer {
        let layer = (&first.all, first.outputs, first.inputs * first.outputs);
        self.sums(block, layer, (true, true))
    }

    /// Through the layers between the first and the last.
    fn through(&self, layers: &[Layer], rows: usize, first: Buffer) -> Buffer {
        let on = &self.on;
        let between = &layers[1..layers.len() - 1];
        between.iter().fold(first, |inputs, layer| {
            let outputs = on.room::<f32>(rows * layer.outputs);
            let of = (rows, layer.outputs, layer.inputs);
            multiply(on, &inputs, layer.matrix(), (Then::BiasRelu, None), of, &outputs);
            outputs
        })
    }

    /// For each cell the sum of a layer's rows over its genes; closed and with ReLU if that is asked for.
    fn sums(
        &self,
        block: &Block,
        (layer, outputs, bias): (&Buffer, usize, usize),
        (closed, relu): (bool, bool),
    ) -> Buffer {
        let on = &self.on;
        let sums = on.room::<f32>(block.cells * outputs);
        let (cubes, units) = Runner::<R>::units(sums.len());
        rows::sum_rows::launch::<f32, R>(
            on.client(),
            cubes,
            units,
            on.arg(layer),
            on.arg(&block.genes),
            on.arg(&block.starts),
            on.arg(&block.rows),
            on.arg(&sums),
            0,
            block.cells as u32,
            outputs as u32,
            0,
            bias as u32,
            closed,
            relu,
        );
        sums
    }

    fn sheet(
        &self,
        asked: Asked<'_>,
        (dense, biases, bias): (&Buffer, &Buffer, usize),
        map: bool,
        block: &Block,
    ) -> Buffer {
        let on = &self.on;
        let sheet = on.room::<f32>(SHEET * block.genes.len());
        let by = on.teams();
        let (cubes, units) = Runner::<R>::rows(block.cells, by);
        sheet::cells_of_sheet::launch::<R>(
            on.client(),
            cubes,
            units,
            on.arg(dense),
            on.arg(biases),
            on.arg(&block.genes),
            on.arg(&block.starts),
            on.arg(&block.shares),
            on.arg(&sheet),
            block.cells as u32,
            self.genes as u32,
            bias as u32,
            asked.measure.anchor.unwrap_or(0.0),
            map,
            measured(asked.measure),
            by,
        );
        sheet
    }
}

impl Layer {
    fn new<R: Runtime>(on: &Runner<R>, layer: &crate::network::Layer<f32>) -> Self {
        let all: Vec<f32> = layer.w.iter().chain(&layer.b).copied().collect();
        Self { all: on.upload(&all), inputs: layer.w.nrows(), outputs: layer.w.ncols() }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix { of: &self.all, layer: 0, bias: self.inputs * self.outputs, transposed: false }
    }
}

impl Block {
    fn new<R: Runtime>(
        on: &Runner<R>,
        asked: Asked<'_>,
        runs: &[(usize, Range<usize>)],
        range: Range<usize>,
        together: usize,
    ) -> Self {
        let Asked { cells, knockouts, .. } = asked;
        let (mut genes, mut shares, mut starts) = (vec![], vec![], vec![0u32]);
        let (mut pairs, mut lost, mut groups) = (vec![], vec![], vec![]);
        let mut widest = 0;
        for (number, (cell, rows)) in runs.iter().enumerate() {
            let assemblage = cells.assemblage(*cell);
            widest = widest.max(assemblage.len());
            genes.extend_from_slice(assemblage);
            shares.extend(cells.shares(*cell));
            starts.push(genes.len() as u32);
            groups.extend(rows.clone().step_by(together).map(|first| (first - range.start) as u32));
            for i in rows.clone() {
                let from = lost.len() as u32;
                lost.extend_from_slice(knockouts.get(i).genes);
                pairs.extend([number as u32, from, lost.len() as u32, 0]);
            }
        }
        groups.push(range.len() as u32);
        Self {
            cells: runs.len(),
            genes: on.upload(&genes),
            starts: on.upload(&starts),
            shares: on.upload(&shares),
            rows: on.upload(&(0..runs.len() as u32).collect::<Vec<u32>>()),
            pairs: on.upload(&pairs),
            lost: on.upload(&lost),
            groups: on.upload(&groups),
            widest,
            impacts: on.upload(&vec![UNWRITTEN; range.len()]),
        }
    }
}

/// What is measured, for kernels.
fn measured(measure: Measure) -> Measured {
    let Measure { formula, observed, null, anchor, .. } = measure;
    Measured {
        squares: formula == Formula::Euclidean,
        relative: matches!(formula, Formula::BrayCurtis | Formula::Keystoneness),
        weighed: formula == Formula::Keystoneness,
        averaged: formula == Formula::Mae,
        null,
        observed,
        anchored: anchor.is_some(),
    }
}
