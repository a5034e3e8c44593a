//! Cells that go through the network together, what comes out of it for them, and how that is scored.

use crate::lanes::Chunk;
use crate::network::Shape;
use crate::sums::{self, Set};
use crate::weights::Matrix;
use lacuna_sdk::prelude::*;

/// Operations on chunks below which a loop is not worth other threads.
const SMALL: usize = 1 << 17;

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
/// What belongs to an expressed gene of a cell stands either cell by cell (`genes`, `shares`, `h`) or gene by gene (`with`,
/// gradients); `place` leads from the first order to the second.
pub struct Batch {
    /// The genes of each cell.
    pub genes: Vec<u32>,
    shares: Vec<f32>,
    /// Where each cell begins in `genes`.
    cells: Vec<usize>,
    /// See [`Set`]; one cell after the other.
    segments: Vec<u32>,
    /// The cells that express a gene.
    pub with: Vec<u32>,
    /// Where each gene begins in `with`.
    pub by_gene: Vec<usize>,
    place: Vec<u32>,
    /// What comes out of each layer but the last; cells × units.
    pub between: Vec<Matrix>,
    /// What comes out of the last layer.
    pub h: Vec<f32>,
}

impl Batch {
    /// These of the cells, for a network of this shape.
    pub fn new(sets: &Sets, rows: &[usize], shape: &Shape) -> Self {
        let units = &shape.widths[1..shape.widths.len() - 1];
        let mut batch = Self {
            genes: vec![],
            shares: vec![],
            cells: vec![],
            segments: vec![],
            with: vec![],
            by_gene: vec![0; shape.widths[0] + 1],
            place: vec![],
            between: units.iter().map(|&n| Matrix::zeros(rows.len(), n)).collect(),
            h: vec![],
        };
        batch.fill(sets, rows);
        batch
    }

    /// These cells instead, as many as before.
    pub fn fill(&mut self, sets: &Sets, rows: &[usize]) {
        for list in [&mut self.genes, &mut self.place, &mut self.segments] {
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
        rows.iter().for_each(|&row| sums::segments(&sets.genes[row], genes, &mut self.segments));
        self.sort_by_gene();
        self.h.clear();
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

    /// The genes of a cell.
    pub fn genes_of(&self, cell: usize) -> &[u32] {
        &self.genes[self.cells[cell]..self.cells[cell + 1]]
    }

    /// What goes into the last layer for a cell.
    pub fn inputs(&self, cell: usize) -> &[Chunk] {
        self.between[self.between.len() - 1].row(cell)
    }

    /// The cells, to be summed over.
    pub fn sets(&self) -> impl Iterator<Item = Set<'_>> {
        let segments = self.segments.chunks_exact(sums::count(self.by_gene.len() - 1));
        segments.enumerate().map(|(cell, segments)| Set { genes: self.genes_of(cell), segments })
    }

    /// What comes out of the last layer for a cell's genes, and their observed shares.
    fn outputs(&self, cell: usize) -> impl Iterator<Item = (f32, f32)> + Clone {
        let range = self.cells[cell]..self.cells[cell + 1];
        self.h[range.clone()].iter().copied().zip(self.shares[range].iter().copied())
    }

    /// Each cell's Bray–Curtis dissimilarity to its observed profile, after a forward pass.
    ///
    /// Over the genes that a cell expresses: q = |h| / Σ|h|; ½ Σ|q − p|, as both sum to 1.
    pub fn losses(&self, cx: &Context) -> Vec<f32> {
        let loss = |cell: usize| {
            let sum: f32 = self.outputs(cell).map(|(h, _)| h.abs()).sum();
            let inverse = if sum > 0.0 { 1.0 / sum } else { 0.0 };
            let (mut difference, mut total) = (0.0, 0.0);
            for (h, p) in self.outputs(cell) {
                let q = h.abs() * inverse;
                difference += (q - p).abs();
                total += q + p;
            }
            difference / total
        };
        let mut losses = vec![0.0; self.len()];
        let mut blocks: Vec<(usize, &mut [f32])> = losses.chunks_mut(32).enumerate().collect();
        run_all(&mut blocks, 2 * self.genes.len(), cx, |(block, losses)| {
            losses.iter_mut().enumerate().for_each(|(i, out)| *out = loss(*block * 32 + i));
        });
        losses
    }

    /// The gradient before the head, gene by gene: through the closing and the absolute value; see `plain::Pass::backward`.
    pub fn gradient(&self) -> Vec<f32> {
        let mut gradient = vec![0.0; self.h.len()];
        for cell in 0..self.len() {
            let sum: f32 = self.outputs(cell).map(|(h, _)| h.abs()).sum();
            if sum <= 0.0 {
                continue;
            }
            let inverse = 1.0 / sum;
            let slope = |h: f32, p: f32| {
                let q = h.abs() * inverse;
                if q > p {
                    0.5
                } else if q < p {
                    -0.5
                } else {
                    0.0
                }
            };
            let mean: f32 = self.outputs(cell).map(|(h, p)| slope(h, p) * h.abs() * inverse).sum();
            let places = &self.place[self.cells[cell]..self.cells[cell + 1]];
            for ((h, p), &at) in self.outputs(cell).zip(places).filter(|((h, _), _)| *h != 0.0) {
                gradient[at as usize] = h.signum() * (slope(h, p) - mean) * inverse;
            }
        }
        gradient
    }
}
