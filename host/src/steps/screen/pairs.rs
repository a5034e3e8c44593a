//! The pairs of a screen, a cell and what is removed from it, counted and cut before anything is screened.

use super::{Screen, by_blocks, without_other_genes};
use crate::data::{CellSet, Cells, Knockouts, Window};
use crate::plugin::{Answers, Services};
use crate::run::Cancelled;
use anyhow::Result;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Cells that a strategy is asked about at once.
const CELLS_AT_ONCE: usize = 64;

/// What a strategy proposes.
pub struct Pairs {
    /// How many rows the screen will have.
    pub count: u64,
    /// How long a strategy that looks at all cells at once took, which parts of the screen do not ask again.
    pub seconds: f64,
    /// Why this is not the exact number, if it is not.
    pub note: Option<&'static str>,
    /// The knockouts, where the strategy looks at all cells at once.
    known: Option<Knockouts>,
}

impl Screen {
    /// Counts the pairs in cells, which have the model's genes. A strategy that looks at each cell alone is asked about
    /// blocks of cells, and for no longer than `patience`.
    pub fn pairs(
        &self,
        answers: Answers,
        cells: &CellSet,
        host: &Services,
        patience: Duration,
    ) -> Result<Pairs> {
        let (strategy, start) = (self.strategy(host)?, Instant::now());
        let ask = |cells: &Cells| -> Result<Knockouts> {
            let found = strategy.propose(host, cells, 0, &Knockouts::default(), &[])?;
            Ok(without_other_genes(found, cells))
        };
        let whole = answers != Answers::Profiles;
        if !by_blocks(&self.knockouts) {
            let known = ask(&*cells.load()?)?.sorted();
            let count = if whole { known.of_population().len() } else { known.len() } as u64;
            let adaptive = self.knockouts.component.adaptive();
            let note = adaptive.then_some("pairs of the first round alone: more follow from their impacts");
            return Ok(Pairs { count, seconds: start.elapsed().as_secs_f64(), note, known: Some(known) });
        }
        // Of a population each knockout is one row, in however many cells it is proposed.
        let (mut count, mut different, mut window) = (0, HashSet::new(), Window::of(cells));
        for block in (0..cells.len()).step_by(CELLS_AT_ONCE) {
            if host.cancelled() {
                return Err(Cancelled.into());
            }
            let end = (block + CELLS_AT_ONCE).min(cells.len());
            window.reach(end)?;
            let found = ask(&window.select(block..end))?;
            window.release(end);
            count += found.len() as u64;
            if whole {
                different.extend((0..found.len()).map(|i| genes_and_levels(&found, i)));
            } else if start.elapsed() > patience {
                let count = (count as f64 * cells.len() as f64 / end as f64) as u64;
                return Ok(Pairs::counted(count, Some("pairs counted in a part of the cells")));
            }
        }
        Ok(Pairs::counted(if whole { different.len() as u64 } else { count }, None))
    }

    /// The same screen, of some of the cells (`rows`, ascending), in which a strategy that looks at all cells at once
    /// would not propose what it does for these among all.
    pub fn of_some(&self, pairs: &Pairs, rows: &[usize]) -> Self {
        let known = pairs.known.as_ref().map(|all| of_cells(all, rows));
        Self { known, ..self.clone() }
    }

    /// Bytes of the knockouts that are held beside those of a run: all of them, and this screen's.
    pub fn held(&self, pairs: &Pairs) -> u64 {
        pairs.known.iter().chain(&self.known).map(Knockouts::bytes).sum()
    }

    /// Whether a file is written for so many pairs and stored values: not all are of large screens.
    pub fn writes(&self, file: &str, pairs: u64, stored: usize) -> bool {
        let most = super::MOST_STORED as u64;
        match file {
            "screen.h5ad" => self.h5ad && pairs.max(stored as u64) <= most,
            file if file.starts_with(super::IMPACTS) => self.table.unwrap_or(pairs <= most),
            _ => true,
        }
    }
}

impl Pairs {
    /// Of a strategy that looks at each cell alone.
    fn counted(count: u64, note: Option<&'static str>) -> Self {
        Self { count, seconds: 0.0, note, known: None }
    }
}

fn genes_and_levels(knockouts: &Knockouts, i: usize) -> (Vec<u32>, Vec<u32>) {
    let levels = knockouts.levels(i).iter().map(|level| level.to_bits()).collect();
    (knockouts.genes(i).to_vec(), levels)
}

/// The knockouts in some of the cells, which are numbered anew.
fn of_cells(all: &Knockouts, rows: &[usize]) -> Knockouts {
    let mut some = Knockouts::default();
    for (cell, run) in all.by_cell() {
        if let Ok(place) = rows.binary_search(&cell) {
            run.for_each(|i| some.push(place as u64, all.genes(i), all.levels(i)));
        }
    }
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knockouts_of_some_cells_are_numbered_by_those_cells() {
        let mut all = Knockouts::default();
        [(0, 1), (2, 3), (2, 4), (5, 6)].iter().for_each(|&(cell, gene)| all.push(cell, &[gene], &[0.0]));
        let some = of_cells(&all, &[2, 3, 5]);
        assert_eq!((some.cell.as_slice(), some.genes.as_slice()), (&[0, 0, 2][..], &[3, 4, 6][..]));
    }
}
