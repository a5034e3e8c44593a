//! The forward pass of the training, of a minibatch and of validation cells together.
//!
//! The input is a set, so the first layer is a sum of rows; the head looks at the genes that a cell expresses, so the last
//! layer is computed for these only. Layers between are products of small matrices.
//!
//! An update is left to the next forward pass: there each tile of the first and of the last layer is updated just before it
//! is used, while the next tile is on its way from memory. So an update costs hardly more than its arithmetic.

use crate::adam::{Gradient, Pending, Rows};
use crate::batch::{Batch, run_all};
use crate::lanes::{Chunk, Job, Lanes, flat};
use crate::matmul::product;
use crate::step::Trainer;
use crate::sums::{Ahead, Columns, DEPTH, NOTHING, ROWS, Tiled, add_rows, of_depth};
use crate::weights::Weights;
use lacuna_sdk::prelude::*;
use std::ops::Range;

/// Tiles of genes of the last layer that one task computes.
const TILES: usize = 4;

impl Trainer {
    /// All layers, after the update that is pending.
    pub fn forward(&mut self, batches: &mut [&mut Batch], cx: &Context) {
        let pending = self.pending.take();
        self.first_layer(pending.as_ref(), batches, cx);
        batches.iter_mut().for_each(|batch| between(&self.weights, batch, cx));
        self.last_layer(pending.as_ref(), batches, cx);
    }

    /// The update that is pending.
    pub fn settle(&mut self, cx: &Context) {
        if self.pending.is_some() {
            self.forward(&mut [], cx);
        }
    }

    /// The sums of the rows of a cell's genes, divided by their number, and the bias.
    fn first_layer(&mut self, pending: Option<&Pending>, batches: &mut [&mut Batch], cx: &Context) {
        let Weights { relu, first, biases, .. } = &mut self.weights;
        let (rows, operations) = (first.rows, operations(&first.chunks, first.rows, batches, pending));
        let panels = Rows::panels([first, &mut self.mean.first, &mut self.square.first]);
        let mut tasks: Vec<First<'_>> = panels
            .into_iter()
            .zip(biases[0].chunks(DEPTH))
            .enumerate()
            .map(|(i, (layer, bias))| {
                let gradient = pending.map(|pending| pending.of_first(i));
                First { layer, rows, gradient, bias, relu: *relu, cells: vec![] }
            })
            .collect();
        let divisors: Vec<Vec<f32>> = batches.iter().map(|batch| batch.divisors().collect()).collect();
        for (batch, divisors) in batches.iter_mut().zip(&divisors) {
            let Batch { first, tiled: sets, .. } = &mut **batch;
            for (task, out) in tasks.iter_mut().zip(first.chunks_mut(divisors.len().max(1))) {
                task.cells.push(Summed { sets, divisors, out });
            }
        }
        let path = self.path;
        run_all(&mut tasks, operations, cx, |task| path.run(task));
    }

    /// The last layer at the genes that each cell expresses.
    fn last_layer(&mut self, pending: Option<&Pending>, batches: &mut [&mut Batch], cx: &Context) {
        let Weights { last, biases, .. } = &mut self.weights;
        let (rows, operations) = (last.rows, operations(&last.chunks, last.rows, batches, pending));
        let (tiles, bias) = (rows.div_ceil(ROWS), &flat(&biases[biases.len() - 1])[..rows]);
        let mut outputs: Vec<Vec<f32>> = batches.iter_mut().map(|b| std::mem::take(&mut b.outputs)).collect();
        let mut tasks: Vec<Last<'_>> = (0..tiles)
            .step_by(TILES)
            .map(|first| Last { tiles: first..tiles.min(first + TILES), panels: vec![], bias, cells: vec![] })
            .collect();
        let panels = Rows::panels([last, &mut self.mean.last, &mut self.square.last]);
        for (i, panel) in panels.into_iter().enumerate() {
            let inputs: Vec<&[Columns]> = batches.iter().map(|batch| batch.inputs_of_panel(i)).collect();
            for (task, layer) in tasks.iter_mut().zip(panel.split(rows, TILES * ROWS)) {
                let gradient = pending.map(|pending| pending.of_last(i));
                task.panels.push(Panel { layer, gradient, inputs: inputs.clone() });
            }
        }
        for (batch, outputs) in batches.iter().zip(&mut outputs) {
            let mut rest = outputs.as_mut_slice();
            for task in &mut tasks {
                let range = batch.tiled.range(task.tiles.clone());
                let (h, others) = std::mem::take(&mut rest).split_at_mut(range.len());
                task.cells.push(Out { sets: &batch.tiled, start: range.start, h });
                rest = others;
            }
        }
        let path = self.path;
        run_all(&mut tasks, operations, cx, |task| path.run(task));
        for (batch, outputs) in batches.iter_mut().zip(outputs) {
            batch.outputs = outputs;
            batch.order_outputs(cx);
        }
    }
}

/// Operations on chunks of a layer with so many rows.
fn operations(layer: &[Chunk], rows: usize, batches: &[&mut Batch], pending: Option<&Pending>) -> usize {
    let stored = batches.iter().map(|batch| batch.stored()).sum::<usize>();
    layer.len() / rows.max(1) * stored + if pending.is_some() { 8 * layer.len() } else { 0 }
}

/// The layers between the first and the last.
fn between(weights: &Weights, batch: &mut Batch, cx: &Context) {
    let units = &mut batch.between;
    let Some(first) = units.first_mut() else { return };
    first.take_columns(&batch.first);
    for i in 1..units.len() {
        let (before, after) = units.split_at_mut(i);
        let out = &mut after[0];
        product(&before[i - 1].view(), &weights.between[i - 1].view(), &mut out.view_mut(), cx);
        for mut row in out.view_mut().rows_mut() {
            for (x, b) in row.iter_mut().zip(flat(&weights.biases[i])) {
                *x += b;
                if weights.relu && *x <= 0.0 {
                    *x = 0.0;
                }
            }
        }
    }
    units[units.len() - 1].give_columns(&mut batch.last);
}

/// The tiles of a panel, one after the other, each after its update.
struct Tiles<'a, const N: usize> {
    w: &'a mut [[Chunk; N]],
    m: &'a mut [[Chunk; N]],
    v: &'a mut [[Chunk; N]],
    gradient: Option<Gradient<'a>>,
    /// The next row.
    row: usize,
}

impl<'a, const N: usize> Tiles<'a, N> {
    fn new(layer: &'a mut Rows<'_>, gradient: Option<Gradient<'a>>) -> Self {
        let [w, m, v] = [&mut *layer.w, &mut *layer.m, &mut *layer.v].map(|list| list.as_chunks_mut().0);
        Self { w, m, v, gradient, row: 0 }
    }

    /// The next tile; and what comes behind it, to be asked for in so many times. `gene` is its first row's gene.
    #[inline(always)]
    fn next<L: Lanes>(&mut self, l: L, gene: usize, times: usize) -> (&[[Chunk; N]], Ahead<'_>) {
        let (first, end) = (self.row, self.w.len().min(self.row + ROWS));
        self.row = end;
        let behind = end..self.w.len().min(end + ROWS);
        let mut lists: [&[Chunk]; 3] = [&[]; 3];
        if let Some(gradient) = self.gradient {
            let tile = first..end;
            let (w, m, v) = (&mut self.w[tile.clone()], &mut self.m[tile.clone()], &mut self.v[tile]);
            gradient.update(l, gene, w, m, v);
            lists[1] = self.m[behind.clone()].as_flattened();
            lists[2] = self.v[behind.clone()].as_flattened();
        }
        lists[0] = self.w[behind].as_flattened();
        (&self.w[first..end], Ahead::new(lists, times))
    }
}

/// What comes out of some columns of the first layer.
struct First<'a> {
    layer: Rows<'a>,
    rows: usize,
    gradient: Option<Gradient<'a>>,
    bias: &'a [Chunk],
    relu: bool,
    cells: Vec<Summed<'a>>,
}

/// The cells of a batch, for which a layer's rows are summed.
struct Summed<'a> {
    sets: &'a Tiled,
    /// 1 / the number of genes of each.
    divisors: &'a [f32],
    out: &'a mut [Columns],
}

impl Job for &mut First<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        of_depth!(self.layer.w.len() / self.rows, self, of_panel, l);
    }
}

impl First<'_> {
    #[inline(always)]
    fn of_panel<L: Lanes, const N: usize>(&mut self, l: L) {
        let times = self.cells.iter().map(|cells| cells.divisors.len()).sum();
        self.cells.iter_mut().for_each(|cells| cells.out.fill(NOTHING));
        let mut tiles = Tiles::<N>::new(&mut self.layer, self.gradient);
        for tile in 0..self.rows.div_ceil(ROWS) {
            let (rows, mut ahead) = tiles.next(l, tile * ROWS, times);
            for cells in &mut self.cells {
                add_rows(l, rows, (cells.sets, tile), cells.out, &mut ahead);
            }
        }
        for cells in &mut self.cells {
            for (&share, out) in cells.divisors.iter().zip(&mut *cells.out) {
                for (out, bias) in out.iter_mut().zip(self.bias).take(N) {
                    let x = l.fma(l.load(out), l.splat(share), l.load(bias));
                    l.store(if self.relu { l.relu(x) } else { x }, out);
                }
            }
        }
    }
}

/// Some genes of the last layer, in the cells that express them.
struct Last<'a> {
    tiles: Range<usize>,
    panels: Vec<Panel<'a>>,
    /// Of all genes.
    bias: &'a [f32],
    cells: Vec<Out<'a>>,
}

/// Some columns of these genes' rows.
struct Panel<'a> {
    layer: Rows<'a>,
    gradient: Option<Gradient<'a>>,
    /// What goes into them, for the cells of each batch.
    inputs: Vec<&'a [Columns]>,
}

/// What comes out of the genes for the cells of a batch.
struct Out<'a> {
    sets: &'a Tiled,
    /// Where the task's genes begin in the list of all.
    start: usize,
    h: &'a mut [f32],
}

impl Job for &mut Last<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for cells in &mut self.cells {
            for tile in self.tiles.clone() {
                cells.begin(tile, self.bias);
            }
        }
        let rows = self.bias.len().min(self.tiles.end * ROWS) - self.tiles.start * ROWS;
        for panel in &mut self.panels {
            let mut task = OfPanel { panel, tiles: self.tiles.clone(), cells: &mut self.cells };
            of_depth!(task.panel.layer.w.len() / rows, task, run, l);
        }
    }
}

/// A panel of a task.
struct OfPanel<'t, 'a> {
    panel: &'t mut Panel<'a>,
    tiles: Range<usize>,
    cells: &'t mut [Out<'a>],
}

impl OfPanel<'_, '_> {
    #[inline(always)]
    fn run<L: Lanes, const N: usize>(&mut self, l: L) {
        let times = self.panel.inputs.iter().map(|cells| cells.len()).sum();
        let mut tiles = Tiles::<N>::new(&mut self.panel.layer, self.panel.gradient);
        for tile in self.tiles.clone() {
            let (rows, mut ahead) = tiles.next(l, tile * ROWS, times);
            for (cells, inputs) in self.cells.iter_mut().zip(&self.panel.inputs) {
                cells.add_products(l, rows, tile, inputs, &mut ahead);
            }
        }
    }
}

impl Out<'_> {
    /// The bias of a tile's genes.
    fn begin(&mut self, tile: usize, bias: &[f32]) {
        let range = self.sets.range(tile..tile + 1);
        for (h, &place) in self.h[range.start - self.start..].iter_mut().zip(&self.sets.places()[range]) {
            *h = bias[tile * ROWS + place as usize];
        }
    }

    /// Adds the products of N columns of the inputs with those of the rows of a tile's genes.
    #[inline(always)]
    fn add_products<L: Lanes, const N: usize>(
        &mut self,
        l: L,
        rows: &[[Chunk; N]],
        tile: usize,
        inputs: &[Columns],
        ahead: &mut Ahead<'_>,
    ) {
        for (range, cell) in self.sets.starts(tile).windows(2).zip(inputs) {
            ahead.fetch(l);
            let range = range[0] as usize..range[1] as usize;
            let h = &mut self.h[range.start - self.start..range.end - self.start];
            let mut inputs = [l.splat(0.0); N];
            for (input, chunk) in inputs.iter_mut().zip(cell) {
                *input = l.load(chunk);
            }
            let (four_places, places) = self.sets.places()[range].as_chunks::<4>();
            let (four, h) = h.as_chunks_mut::<4>();
            for (h, &places) in four.iter_mut().zip(four_places) {
                let sums = l.sums(dots(l, &inputs, rows, places));
                for (h, sum) in h.iter_mut().zip(sums) {
                    *h += sum;
                }
            }
            for (h, &place) in h.iter_mut().zip(places) {
                let [dot] = dots(l, &inputs, rows, [place]);
                *h += l.sum(dot);
            }
        }
    }
}

/// The products of inputs with G of the rows, summed up over N columns; their lanes are left to be summed.
#[inline(always)]
fn dots<L: Lanes, const G: usize, const N: usize>(
    l: L,
    inputs: &[L::V; N],
    rows: &[[Chunk; N]],
    places: [u8; G],
) -> [L::V; G] {
    let mut sums = [l.splat(0.0); G];
    let mut of: [&[Chunk; N]; G] = [&rows[0]; G];
    for g in 0..G {
        of[g] = &rows[places[g] as usize];
    }
    for i in 0..N {
        for g in 0..G {
            sums[g] = l.fma(inputs[i], l.load(&of[g][i]), sums[g]);
        }
    }
    sums
}
