//! The forward pass of the training, of a minibatch and of validation cells together.
//!
//! The input is a set, so the first layer is a sum of rows; the head looks at the genes that a cell expresses, so the last
//! layer is computed for these only. Layers between are products of small matrices.

use crate::batch::{Batch, run_all};
use crate::lanes::{Chunk, Job, Lanes, Path, ZERO, chunks, flat};
use crate::matmul::product;
use crate::sums::{COLUMNS, Set, sums_of_rows};
use crate::weights::{Matrix, Weights};
use lacuna_sdk::prelude::*;

/// Genes of the last layer that one task computes.
const GENES: usize = 256;
/// Columns of the last layer, in chunks, that are multiplied for all cells before the next: a cell's stay in registers.
const DEPTH: usize = 16;
/// Genes of the last layer whose rows, of these columns, stay in the nearest cache while all cells go by.
const TILE: usize = 24;

/// The forward pass of batches, together: each weight is read once for all of them.
pub struct Forward {
    /// The sums of the first layer, some columns after the other, of all cells.
    tiles: Vec<[Chunk; COLUMNS]>,
    path: Path,
}

impl Forward {
    /// On a path through the processor.
    pub fn new(path: Path) -> Self {
        Self { tiles: vec![], path }
    }

    /// All layers.
    pub fn run(&mut self, weights: &Weights, batches: &mut [&mut Batch], cx: &Context) {
        self.first_layer(weights, batches, cx);
        for batch in &mut *batches {
            between(weights, &mut batch.between, cx);
        }
        self.last_layer(weights, batches, cx);
    }

    /// The sums of the rows of a cell's genes, divided by their number, and the bias.
    fn first_layer(&mut self, weights: &Weights, batches: &mut [&mut Batch], cx: &Context) {
        let sets: Vec<Set<'_>> = batches.iter().flat_map(|batch| batch.sets()).collect();
        let (width, size) = (weights.layers[0].width, sets.len().max(1));
        self.tiles.resize(width.div_ceil(COLUMNS) * size, [ZERO; COLUMNS]);
        let path = self.path;
        let operations = width * sets.iter().map(|set| set.genes.len()).sum::<usize>();
        let mut tiles: Vec<(usize, &mut [[Chunk; COLUMNS]])> =
            self.tiles.chunks_mut(size).enumerate().collect();
        run_all(&mut tiles, operations, cx, |(tile, out)| {
            path.run(Sum { weights, sets: &sets, first: *tile * COLUMNS, out });
        });
        for (tile, sums) in self.tiles.chunks_exact(size).enumerate() {
            let first = tile * COLUMNS;
            let columns = COLUMNS.min(width - first);
            let mut sums = sums.iter();
            for batch in &mut *batches {
                for row in batch.between[0].chunks.chunks_exact_mut(width) {
                    let Some(sums) = sums.next() else { break };
                    row[first..first + columns].copy_from_slice(&sums[..columns]);
                }
            }
        }
    }

    /// The last layer at the genes that each cell expresses.
    fn last_layer(&self, weights: &Weights, batches: &mut [&mut Batch], cx: &Context) {
        let genes = weights.last().rows;
        let operations = batches.iter().map(|batch| batch.genes.len()).sum::<usize>() * weights.last().width;
        let mut outputs: Vec<Vec<f32>> = batches.iter_mut().map(|b| std::mem::take(&mut b.h)).collect();
        let mut tasks: Vec<Last<'_>> = (0..genes)
            .step_by(GENES)
            .map(|first| Last { weights, first, end: (first + GENES).min(genes), parts: vec![] })
            .collect();
        for (batch, outputs) in batches.iter().zip(&mut outputs) {
            let mut rest = outputs.as_mut_slice();
            for (cell, inputs) in (0..batch.len()).map(|cell| (cell, batch.inputs(cell))) {
                let mut genes = batch.genes_of(cell);
                for task in &mut tasks {
                    let n = genes.partition_point(|&j| (j as usize) < task.end);
                    let (some, more) = genes.split_at(n);
                    let (h, others) = std::mem::take(&mut rest).split_at_mut(n);
                    task.parts.push(Part { genes: some, inputs, h, done: 0 });
                    (genes, rest) = (more, others);
                }
            }
        }
        run_all(&mut tasks, operations, cx, |task| self.path.run(task));
        batches.iter_mut().zip(outputs).for_each(|(batch, h)| batch.h = h);
    }
}

/// The layers between the first and the last.
fn between(weights: &Weights, units: &mut [Matrix], cx: &Context) {
    for i in 1..units.len() {
        let (before, after) = units.split_at_mut(i);
        let out = &mut after[0];
        product(&before[i - 1].view(), &weights.layers[i].view(), &mut out.view_mut(), cx);
        for mut row in out.view_mut().rows_mut() {
            for (x, b) in row.iter_mut().zip(flat(&weights.biases[i])) {
                *x += b;
                if weights.relu && *x <= 0.0 {
                    *x = 0.0;
                }
            }
        }
    }
}

/// What comes out of some columns of the first layer.
struct Sum<'a> {
    weights: &'a Weights,
    sets: &'a [Set<'a>],
    /// The first column, in chunks.
    first: usize,
    out: &'a mut [[Chunk; COLUMNS]],
}

impl Job for Sum<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { weights, sets, first, out } = self;
        let rows = &weights.layers[0];
        sums_of_rows(l, &rows.chunks, rows.width, first, sets, out);
        let bias = &weights.biases[0][first..(first + COLUMNS).min(rows.width)];
        for (set, out) in sets.iter().zip(out) {
            let share = l.splat(1.0 / set.genes.len().max(1) as f32);
            for (out, bias) in out.iter_mut().zip(bias) {
                let x = l.fma(l.load(out), share, l.load(bias));
                l.store(if weights.relu { l.relu(x) } else { x }, out);
            }
        }
    }
}

/// Some genes of the last layer, in the cells that express them.
struct Last<'a> {
    weights: &'a Weights,
    first: usize,
    end: usize,
    parts: Vec<Part<'a>>,
}

/// One cell of them.
struct Part<'a> {
    /// Those of the genes that it expresses.
    genes: &'a [u32],
    /// What goes into the last layer.
    inputs: &'a [Chunk],
    /// What comes out of it for the genes.
    h: &'a mut [f32],
    /// How many of the genes are done, of the columns at hand.
    done: usize,
}

impl Job for &mut Last<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let rows = self.weights.last();
        let bias = flat(&self.weights.biases[self.weights.biases.len() - 1]);
        for part in &mut self.parts {
            part.h.iter_mut().zip(part.genes).for_each(|(h, &j)| *h = bias[j as usize]);
        }
        let width = chunks(rows.columns);
        for depth in (0..width).step_by(DEPTH) {
            self.parts.iter_mut().for_each(|part| part.done = 0);
            for first in (self.first..self.end).step_by(TILE) {
                let end = (first + TILE).min(self.end) as u32;
                macro_rules! of_columns {
                    ($($n:literal)*) => {
                        match (width - depth).min(DEPTH) {
                            // A loop, not a closure, which would be compiled for any processor.
                            $($n => for part in &mut self.parts {
                                part.add_products::<L, $n>(l, rows, depth, end);
                            },)*
                            n => unreachable!("{n} columns"),
                        }
                    };
                }
                of_columns!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
            }
        }
    }
}

impl Part<'_> {
    /// Adds the products of N columns of the inputs with those of the next genes' rows, up to a gene.
    #[inline(always)]
    fn add_products<L: Lanes, const N: usize>(&mut self, l: L, rows: &Matrix, first: usize, end: u32) {
        let genes = &self.genes[self.done..];
        if genes.first().is_none_or(|&gene| gene >= end) {
            return;
        }
        let mut inputs = [l.splat(0.0); N];
        for (x, chunk) in inputs.iter_mut().zip(&self.inputs[first..first + N]) {
            *x = l.load(chunk);
        }
        for (&gene, h) in genes.iter().zip(&mut self.h[self.done..]) {
            if gene >= end {
                break;
            }
            let row = &rows.row(gene as usize)[first..first + N];
            let mut sums = [l.splat(0.0); 4];
            for i in 0..N {
                sums[i % 4] = l.fma(inputs[i], l.load(&row[i]), sums[i % 4]);
            }
            *h += l.sum(l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3])));
            self.done += 1;
        }
    }
}
