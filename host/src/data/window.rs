//! The cells that are looked at, of a set that is gone through from the first to the last.

use super::set::ReadAhead;
use super::{CellSet, Cells, Csr};
use anyhow::{Context, Result};
use std::ops::Range;
use std::sync::Arc;

/// Some cells of a set that follow each other, in memory. A held set is always there as a whole.
pub struct Window<'s> {
    set: &'s CellSet,
    /// What comes next of a stored set.
    ahead: Option<ReadAhead>,
    cells: Arc<Cells>,
    /// The number of the first of them.
    start: usize,
    /// The first that is still needed.
    needed: usize,
}

impl<'s> Window<'s> {
    /// Before the first cell.
    pub fn of(set: &'s CellSet) -> Self {
        let (ahead, cells) = match set {
            CellSet::Held(cells) => (None, cells.clone()),
            CellSet::Stored(stored) => {
                let none = stored.cells(0..0, Csr::empty(set.n_genes()));
                (Some(stored.matrices()), Arc::new(none))
            }
        };
        Self { set, ahead, cells, start: 0, needed: 0 }
    }

    /// Reads on until the cells up to this number are there.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn reach(&mut self, end: usize) -> Result<()> {
        let (CellSet::Stored(stored), Some(ahead)) = (self.set, &mut self.ahead) else { return Ok(()) };
        while self.start + self.cells.len() < end {
            let (rows, next) = ahead.next().context("the set has no more cells")??;
            let first = self.needed.clamp(self.start, rows.start);
            let mut x = match first == rows.start {
                true => Csr::empty(next.n_cols),
                false => {
                    let kept: Vec<usize> = (first - self.start..self.cells.len()).collect();
                    self.cells.x.select_rows(&kept)
                }
            };
            x.append(&next);
            // What was there is dropped before more is made of it.
            drop(next);
            (self.cells, self.start) = (Arc::new(stored.cells(first..rows.end, x)), first);
        }
        Ok(())
    }

    /// The cells before this number are needed no more.
    pub fn release(&mut self, before: usize) {
        self.needed = before;
    }

    /// The cells that are there.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// The number of the first of them.
    pub fn start(&self) -> usize {
        self.start
    }

    /// These of them, by their numbers in the set.
    pub fn select(&self, cells: Range<usize>) -> Cells {
        let rows: Vec<usize> = cells.map(|cell| cell - self.start).collect();
        self.cells.select_cells(&rows)
    }
}
