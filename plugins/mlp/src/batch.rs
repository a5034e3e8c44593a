//! Cells that go through the network together, what comes out of it for them, and how that is scored.

use crate::lanes::chunks;
use crate::network::Shape;
use crate::sums::{Columns, DEPTH, NOTHING, ROWS, Tiled};
use crate::weights::Matrix;
use lacuna_sdk::prelude::*;

/// Operations on chunks below which a loop is not worth other threads.
const SMALL: usize = 1 << 17;
/// Cells of which one task gathers outputs or losses.
const BLOCK: usize = 32;

/// |h| of the sum; a cell with one gene has exactly 1, so that what cannot change has no gradient.
fn share(h: f32, sum: f32) -> f32 {
    if sum > 0.0 { h.abs() / sum } else { 0.0 }
}

/// Runs tasks that together take so many operations on chunks: on the host's threads where these are many.
pub fn run_all<T: Send>(tasks: &mut [T], operations: usize, cx: &Context, body: impl Fn(&mut T) + Sync) {
    match operations < SMALL {
        true => tasks.iter_mut().for_each(body),
        false => cx.parallel_chunks(tasks, 1, |_, task| body(&mut task[0])),
    }
}

/// Cells to be drawn from: sets, and the shares to be predicted.
pub struct Sets {
    genes: Vec<Vec<u32>>,
    shares: Vec<Vec<f32>>,
}

impl Sets {
    /// All of these cells.
    pub fn new(cells: &Cells<'_>) -> Self {
        Self {
            genes: (0..cells.len()).map(|i| cells.assemblage(i).to_vec()).collect(),
            shares: (0..cells.len()).map(|i| cells.shares(i).collect()).collect(),
        }
    }
}

/// Cells that go through the network together, and what each layer gives for them.
///
/// What belongs to an expressed gene of a cell stands cell by cell (`genes`, `shares`, `h`), gene by gene (`with`), to which
/// `place` leads, or tile by tile (`tiled`, `outputs`).
pub struct Batch {
    genes: Vec<u32>,
    shares: Vec<f32>,
    /// Where each cell begins in `genes`.
    cells: Vec<usize>,
    /// The genes of each cell, as the first and the last layer read them.
    pub tiled: Tiled,
    /// The cells that express a gene.
    pub with: Vec<u32>,
    /// Where each gene begins in `with`.
    pub by_gene: Vec<usize>,
    place: Vec<u32>,
    /// What comes out of the first layer: some columns of all cells after the other.
    pub first: Vec<Columns>,
    /// What comes out of the first layer and of those between, if there are any; cells × units.
    pub between: Vec<Matrix>,
    /// What goes into the last layer, if that is not what comes out of the first.
    pub last: Vec<Columns>,
    /// What comes out of the last layer, as `tiled` lies.
    pub outputs: Vec<f32>,
    h: Vec<f32>,
}

impl Batch {
    /// These of the cells, for a network of this shape.
    pub fn new(sets: &Sets, rows: &[usize], shape: &Shape) -> Self {
        let units = &shape.widths[1..shape.widths.len() - 1];
        let between = if units.len() > 1 { units } else { &[] };
        let mut batch = Self {
            genes: vec![],
            shares: vec![],
            cells: vec![],
            tiled: Tiled::default(),
            with: vec![],
            by_gene: vec![0; shape.widths[0] + 1],
            place: vec![],
            first: vec![NOTHING; chunks(units[0]).div_ceil(DEPTH) * rows.len()],
            between: between.iter().map(|&n| Matrix::zeros(rows.len(), n)).collect(),
            last: vec![],
            outputs: vec![],
            h: vec![],
        };
        batch.fill(sets, rows);
        batch
    }

    /// These cells instead, as many as before.
    pub fn fill(&mut self, sets: &Sets, rows: &[usize]) {
        for list in [&mut self.genes, &mut self.place] {
            list.clear();
        }
        self.shares.clear();
        self.cells.clear();
        self.cells.push(0);
        for &row in rows {
            self.genes.extend_from_slice(&sets.genes[row]);
            self.shares.extend_from_slice(&sets.shares[row]);
            self.cells.push(self.genes.len());
        }
        let genes = self.by_gene.len() - 1;
        self.tiled.fill(rows.iter().map(|&row| sets.genes[row].as_slice()), genes);
        self.sort_by_gene();
        self.outputs.resize(self.genes.len(), 0.0);
        self.h.resize(self.genes.len(), 0.0);
    }

    fn sort_by_gene(&mut self) {
        self.by_gene.fill(0);
        self.genes.iter().for_each(|&j| self.by_gene[j as usize + 1] += 1);
        (1..self.by_gene.len()).for_each(|j| self.by_gene[j] += self.by_gene[j - 1]);
        let mut next = self.by_gene.clone();
        self.with.resize(self.genes.len(), 0);
        for cell in 0..self.len() {
            for i in self.cells[cell]..self.cells[cell + 1] {
                let next = &mut next[self.genes[i] as usize];
                self.with[*next] = cell as u32;
                self.place.push(*next as u32);
                *next += 1;
            }
        }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.cells.len() - 1
    }

    /// Number of genes that the cells express, together.
    pub fn stored(&self) -> usize {
        self.genes.len()
    }

    /// 1 / the number of genes that each cell expresses.
    pub fn divisors(&self) -> impl Iterator<Item = f32> {
        self.cells.windows(2).map(|range| 1.0 / (range[1] - range[0]).max(1) as f32)
    }

    /// The same for each gene of each cell.
    pub fn divisors_of_genes(&self) -> Vec<f32> {
        let genes = |(range, divisor): (&[usize], f32)| std::iter::repeat_n(divisor, range[1] - range[0]);
        self.cells.windows(2).zip(self.divisors()).flat_map(genes).collect()
    }

    /// What goes into the last layer: some columns of all cells after the other.
    pub fn last_inputs(&self) -> &[Columns] {
        if self.between.is_empty() { &self.first } else { &self.last }
    }

    /// What goes into a panel of the last layer.
    pub fn inputs_of_panel(&self, panel: usize) -> &[Columns] {
        &self.last_inputs()[panel * self.len()..(panel + 1) * self.len()]
    }

    /// Of what stands cell by cell, what stands tile by tile.
    pub fn by_tiles(&self, numbers: &[f32]) -> Vec<f32> {
        let mut next = self.cells.clone();
        let mut sorted = Vec::with_capacity(numbers.len());
        for tile in 0..self.tiles() {
            for (range, next) in self.tiled.starts(tile).windows(2).zip(&mut next) {
                let n = (range[1] - range[0]) as usize;
                sorted.extend_from_slice(&numbers[*next..*next + n]);
                *next += n;
            }
        }
        sorted
    }

    fn tiles(&self) -> usize {
        (self.by_gene.len() - 1).div_ceil(ROWS)
    }

    /// Of what stands cell by cell, what stands gene by gene.
    pub fn by_genes(&self, numbers: &[f32]) -> Vec<f32> {
        let mut sorted = vec![0.0; numbers.len()];
        self.place.iter().zip(numbers).for_each(|(&at, &x)| sorted[at as usize] = x);
        sorted
    }

    /// Brings what comes out of the last layer from the order of the tiles into that of the cells.
    pub fn order_outputs(&mut self, cx: &Context) {
        let (outputs, tiled, tiles) = (&self.outputs, &self.tiled, self.tiles());
        let mut rest = self.h.as_mut_slice();
        let mut cells = vec![];
        for range in self.cells.windows(2) {
            let (h, others) = std::mem::take(&mut rest).split_at_mut(range[1] - range[0]);
            cells.push((cells.len(), h));
            rest = others;
        }
        let mut blocks: Vec<_> = cells.chunks_mut(BLOCK).collect();
        run_all(&mut blocks, self.genes.len(), cx, |cells| {
            for tile in 0..tiles {
                let starts = tiled.starts(tile);
                for (cell, h) in cells.iter_mut() {
                    let some = &outputs[starts[*cell] as usize..starts[*cell + 1] as usize];
                    let (now, later) = std::mem::take(h).split_at_mut(some.len());
                    now.copy_from_slice(some);
                    *h = later;
                }
            }
        });
    }

    /// What comes out of the last layer for a cell's genes, and their observed shares.
    fn predicted(&self, cell: usize) -> impl Iterator<Item = (f32, f32)> + Clone {
        let range = self.cells[cell]..self.cells[cell + 1];
        self.h[range.clone()].iter().copied().zip(self.shares[range].iter().copied())
    }

    /// Each cell's Bray–Curtis dissimilarity to its observed profile, after a forward pass.
    ///
    /// Over the genes that a cell expresses: q = |h| / Σ|h|; ½ Σ|q − p|, as both sum to 1.
    pub fn losses(&self, cx: &Context) -> Vec<f32> {
        let loss = |cell: usize| {
            let sum: f32 = self.predicted(cell).map(|(h, _)| h.abs()).sum();
            let (mut difference, mut total) = (0.0, 0.0);
            for (h, p) in self.predicted(cell) {
                let q = share(h, sum);
                difference += (q - p).abs();
                total += q + p;
            }
            difference / total
        };
        let mut losses = vec![0.0; self.len()];
        let mut blocks: Vec<(usize, &mut [f32])> = losses.chunks_mut(BLOCK).enumerate().collect();
        run_all(&mut blocks, 2 * self.genes.len(), cx, |(block, losses)| {
            losses.iter_mut().enumerate().for_each(|(i, out)| *out = loss(*block * BLOCK + i));
        });
        losses
    }

    /// The gradient before the head, cell by cell: through the closing and the absolute value; see `plain::Pass::backward`.
    pub fn gradient(&self) -> Vec<f32> {
        let mut gradient = vec![0.0; self.h.len()];
        for cell in 0..self.len() {
            let sum: f32 = self.predicted(cell).map(|(h, _)| h.abs()).sum();
            if sum <= 0.0 {
                continue;
            }
            let slope = |h: f32, p: f32| {
                let q = share(h, sum);
                if q > p {
                    0.5
                } else if q < p {
                    -0.5
                } else {
                    0.0
                }
            };
            let mean: f32 = self.predicted(cell).map(|(h, p)| slope(h, p) * share(h, sum)).sum();
            let stored = self.cells[cell]..self.cells[cell + 1];
            for ((h, p), out) in
                self.predicted(cell).zip(&mut gradient[stored]).filter(|((h, _), _)| *h != 0.0)
            {
                *out = h.signum() * (slope(h, p) - mean) / sum;
            }
        }
        gradient
    }
}
