//! Cells as they flow between steps: held in memory, or left in their file and read in blocks of rows.

use super::draw::Draw;
use super::survey::Survey;
use super::{Cells, Csr, Frame, Measured};
use anyhow::{Context, Result};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// Bytes of a stored value: the value and its column.
const VALUE: u64 = 8;
/// Threads that read ahead, at most: each holds a block.
const READERS: usize = 3;

/// A matrix of which some rows can be read alone, by several threads at once.
pub trait RowSource: Send + Sync {
    /// These rows.
    fn read(&self, rows: Range<usize>) -> Result<Csr>;
    /// How many values reading these rows takes.
    fn size(&self, rows: Range<usize>) -> u64;
}

/// Cells, wherever their matrix is. Copies share it.
#[derive(Clone)]
pub enum CellSet {
    /// In memory.
    Held(Arc<Cells>),
    /// In a file.
    Stored(Arc<Stored>),
}

/// Cells whose matrix stays in its file; all else is held, some hundred bytes a cell.
pub struct Stored {
    source: Arc<dyn RowSource>,
    /// Bytes that are read at once, about.
    block: u64,
    obs: Frame,
    var: Frame,
    /// Ascending: the rows of the file.
    ids: Vec<u64>,
    library: Vec<f64>,
    measured: Option<Measured>,
    /// What becomes of each row after it was read, in order.
    changes: Vec<Arc<Change>>,
    survey: OnceLock<Survey>,
    /// These cells in memory, as long as somebody holds them.
    loaded: Mutex<Weak<Cells>>,
}

enum Change {
    /// Each gene's new column among so many.
    Genes(Vec<Option<u32>>, usize),
    /// So many counts are drawn of each cell.
    Drawn(Draw),
    /// A last column with what is left of each cell's library.
    Rest,
}

/// The same field or method of whichever it is.
macro_rules! of {
    ($set:expr, $cells:ident => $call:expr) => {
        match $set {
            CellSet::Held($cells) => $call,
            CellSet::Stored($cells) => $call,
        }
    };
}

impl CellSet {
    /// Number of cells.
    pub fn len(&self) -> usize {
        self.obs().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.var().len()
    }

    /// The cells' names and annotations.
    pub fn obs(&self) -> &Frame {
        of!(self, cells => &cells.obs)
    }

    /// The genes' names and annotations.
    pub fn var(&self) -> &Frame {
        of!(self, cells => &cells.var)
    }

    /// See [`Cells::ids`].
    pub fn ids(&self) -> &[u64] {
        of!(self, cells => &cells.ids)
    }

    /// See [`Cells::library`].
    pub fn library(&self) -> &[f64] {
        of!(self, cells => &cells.library)
    }

    /// See [`Cells::measured`].
    pub fn measured(&self) -> Option<&Measured> {
        of!(self, cells => cells.measured.as_ref())
    }

    /// The control cells; all cells where nothing was measured.
    pub fn controls(&self) -> Vec<usize> {
        Measured::controls(self.measured(), self.len())
    }

    /// These cells, which must be ascending.
    pub fn select_cells(&self, rows: &[usize]) -> Self {
        match self {
            Self::Held(cells) => Self::from(cells.select_cells(rows)),
            Self::Stored(stored) => Self::from(Stored {
                obs: stored.obs.select(rows),
                ids: rows.iter().map(|&i| stored.ids[i]).collect(),
                library: rows.iter().map(|&i| stored.library[i]).collect(),
                measured: stored.measured.as_ref().map(|m| m.select(rows)),
                ..stored.again()
            }),
        }
    }

    /// These genes, ascending. Library sizes stay.
    pub fn select_genes(&self, genes: &[usize]) -> Self {
        match self {
            Self::Held(cells) => Self::from(cells.select_genes(genes)),
            Self::Stored(stored) => {
                let mut target = vec![None; stored.var.len()];
                genes.iter().enumerate().for_each(|(new, &old)| target[old] = Some(new as u32));
                Self::from(stored.changed(Change::Genes(target, genes.len()), stored.var.select(genes)))
            }
        }
    }

    /// The genes in other places: `target` is each gene's new column, `var` names the new ones.
    pub fn place_genes(&self, target: Vec<Option<u32>>, var: Frame) -> Self {
        match self {
            Self::Held(cells) => {
                let x = cells.x.place_cols(&target, var.len());
                Self::from(Cells { x, var, ..Cells::clone(cells) })
            }
            Self::Stored(stored) => Self::from(stored.changed(Change::Genes(target, var.len()), var)),
        }
    }

    /// So many counts of each cell, drawn without replacement, its seed and its id deciding which. Library sizes are `depth`
    /// then; before they are no less.
    ///
    /// # Errors
    /// When a value is no count; of a stored set only when it is read.
    pub fn drawn(&self, depth: u64, seed: u64) -> Result<Self> {
        let draw = Draw { depth, seed, ids: self.ids().to_vec(), library: self.library().to_vec() };
        let library = vec![depth as f64; self.len()];
        Ok(match self {
            Self::Held(cells) => {
                let x = draw.of(&cells.x, &cells.ids)?;
                Self::from(Cells { x, library, ..Cells::clone(cells) })
            }
            Self::Stored(stored) => {
                Self::from(Stored { library, ..stored.changed(Change::Drawn(draw), stored.var.clone()) })
            }
        })
    }

    /// The same cells with other library sizes.
    pub fn with_library(self, library: Vec<f64>) -> Self {
        match self {
            Self::Held(cells) => Self::from(Cells { library, ..Cells::clone(&cells) }),
            Self::Stored(stored) => Self::from(Stored { library, ..stored.again() }),
        }
    }

    /// A further gene, the last of `var`, that holds what the others leave of each cell's library.
    pub fn with_rest(&self, var: Frame) -> Self {
        match self {
            Self::Held(cells) => {
                let x = cells.x.with_rest(&cells.library);
                Self::from(Cells { x, var, ..Cells::clone(cells) })
            }
            Self::Stored(stored) => Self::from(stored.changed(Change::Rest, var)),
        }
    }

    /// The same with these names and annotations of cells and genes.
    pub fn with_frames(self, obs: Frame, var: Frame) -> Self {
        match self {
            Self::Held(cells) => Self::from(Cells { obs, var, ..Arc::unwrap_or_clone(cells) }),
            Self::Stored(stored) => {
                Self::from(Stored { obs, var, survey: stored.survey.clone(), ..stored.again() })
            }
        }
    }

    /// The same with the measured perturbation of each cell.
    pub fn with_measured(self, measured: Measured) -> Self {
        let measured = Some(measured);
        match self {
            Self::Held(cells) => Self::from(Cells { measured, ..Arc::unwrap_or_clone(cells) }),
            Self::Stored(stored) => {
                Self::from(Stored { measured, survey: stored.survey.clone(), ..stored.again() })
            }
        }
    }

    /// Hands over the matrix in blocks of rows, each with the number of its first cell.
    ///
    /// # Errors
    /// When the file can't be read; what `each` reports ends it.
    pub fn each_matrix(&self, each: &mut dyn FnMut(usize, &Csr) -> Result<()>) -> Result<()> {
        match self {
            Self::Held(cells) => each(0, &cells.x),
            Self::Stored(stored) => stored.matrices().try_for_each(|block| {
                let (rows, x) = block?;
                each(rows.start, &x)
            }),
        }
    }

    /// How many genes each cell expresses.
    ///
    /// # Errors
    /// As [`each_matrix`](Self::each_matrix).
    pub fn expressed(&self) -> Result<Vec<u32>> {
        match self {
            Self::Held(cells) => Ok((0..cells.len()).map(|i| cells.x.range(i).len() as u32).collect()),
            Self::Stored(_) => self.survey().map(|survey| survey.expressed),
        }
    }

    /// Number of stored values.
    ///
    /// # Errors
    /// As [`each_matrix`](Self::each_matrix).
    pub fn nnz(&self) -> Result<usize> {
        match self {
            Self::Held(cells) => Ok(cells.x.nnz()),
            Self::Stored(_) => Ok(self.expressed()?.into_iter().map(|n| n as usize).sum()),
        }
    }

    /// What one pass over the matrix tells of it; done once for a stored set.
    ///
    /// # Errors
    /// As [`each_matrix`](Self::each_matrix).
    pub fn survey(&self) -> Result<Survey> {
        if let Self::Stored(stored) = self
            && let Some(survey) = stored.survey.get()
        {
            return Ok(survey.clone());
        }
        let mut surveyor = Survey::begin();
        self.each_matrix(&mut |_, x| {
            surveyor.add(x);
            Ok(())
        })?;
        let survey = surveyor.finish();
        if let Self::Stored(stored) = self {
            return Ok(stored.survey.get_or_init(|| survey).clone());
        }
        Ok(survey)
    }

    /// Bytes that the cells' matrix takes in memory.
    ///
    /// # Errors
    /// As [`each_matrix`](Self::each_matrix).
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.nnz()? as u64 * VALUE)
    }

    /// The cells in memory. Whether they fit is for the caller to ask.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn load(&self) -> Result<Arc<Cells>> {
        let stored = match self {
            Self::Held(cells) => return Ok(cells.clone()),
            Self::Stored(stored) => stored,
        };
        let mut loaded = stored.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cells) = loaded.upgrade() {
            return Ok(cells);
        }
        let mut x = Csr::empty(stored.var.len());
        self.each_matrix(&mut |_, block| {
            x.append(block);
            Ok(())
        })?;
        let cells = Arc::new(Cells {
            x,
            obs: stored.obs.clone(),
            var: stored.var.clone(),
            ids: stored.ids.clone(),
            library: stored.library.clone(),
            measured: stored.measured.clone(),
        });
        *loaded = Arc::downgrade(&cells);
        Ok(cells)
    }
}

impl From<Cells> for CellSet {
    fn from(cells: Cells) -> Self {
        Self::Held(Arc::new(cells))
    }
}

impl From<Stored> for CellSet {
    fn from(stored: Stored) -> Self {
        Self::Stored(Arc::new(stored))
    }
}

impl Stored {
    /// All rows of a matrix as cells, read in blocks of about so many bytes; their library sizes are yet unknown.
    pub fn new(source: Arc<dyn RowSource>, obs: Frame, var: Frame, block: u64) -> Self {
        Self {
            ids: (0..obs.len() as u64).collect(),
            library: vec![0.0; obs.len()],
            source,
            block,
            obs,
            var,
            measured: None,
            changes: vec![],
            survey: OnceLock::new(),
            loaded: Mutex::default(),
        }
    }

    /// The same with library sizes, and what is known of the matrix.
    pub fn surveyed(&self, library: Vec<f64>, survey: Survey) -> Self {
        Self { library, survey: OnceLock::from(survey), ..self.again() }
    }

    /// The same cells, of which nothing is known yet.
    fn again(&self) -> Self {
        Self {
            source: self.source.clone(),
            block: self.block,
            obs: self.obs.clone(),
            var: self.var.clone(),
            ids: self.ids.clone(),
            library: self.library.clone(),
            measured: self.measured.clone(),
            changes: self.changes.clone(),
            survey: OnceLock::new(),
            loaded: Mutex::default(),
        }
    }

    fn changed(&self, change: Change, var: Frame) -> Self {
        let mut changed = Self { var, ..self.again() };
        changed.changes.push(Arc::new(change));
        changed
    }

    /// Cells that are read at once: neighbours in the file, of bounded size there.
    fn ranges(&self) -> Vec<Range<usize>> {
        let (mut ranges, mut start) = (vec![], 0);
        while start < self.ids.len() {
            let mut end = start + 1;
            while end < self.ids.len() && self.size(start..end + 1) * VALUE <= self.block {
                end += 1;
            }
            ranges.push(start..end);
            start = end;
        }
        ranges
    }

    fn span(&self, rows: Range<usize>) -> Range<usize> {
        self.ids[rows.start] as usize..self.ids[rows.end - 1] as usize + 1
    }

    fn size(&self, rows: Range<usize>) -> u64 {
        self.source.size(self.span(rows))
    }

    fn matrix(&self, rows: Range<usize>) -> Result<Csr> {
        let span = self.span(rows.clone());
        let mut x = self.source.read(span.clone())?;
        if span.len() > rows.len() {
            let chosen: Vec<usize> =
                self.ids[rows.clone()].iter().map(|&id| id as usize - span.start).collect();
            x = x.select_rows(&chosen);
        }
        for change in &self.changes {
            x = match change.as_ref() {
                Change::Genes(target, n) => x.place_cols(target, *n),
                Change::Drawn(draw) => draw.of(&x, &self.ids[rows.clone()])?,
                Change::Rest => x.with_rest(&self.library[rows.clone()]),
            };
        }
        Ok(x)
    }

    /// These cells, whose matrix was read.
    pub(super) fn cells(&self, rows: Range<usize>, x: Csr) -> Cells {
        let chosen: Vec<usize> = rows.clone().collect();
        Cells {
            x,
            obs: self.obs.select(&chosen),
            var: self.var.clone(),
            ids: self.ids[rows.clone()].to_vec(),
            library: self.library[rows].to_vec(),
            measured: self.measured.as_ref().map(|m| m.select(&chosen)),
        }
    }

    /// The matrix in blocks, in order, read ahead by threads that take turns.
    pub(super) fn matrices(self: &Arc<Self>) -> ReadAhead {
        let ranges = Arc::new(self.ranges());
        let readers = rayon::current_num_threads().clamp(1, READERS).min(ranges.len());
        let start = |reader: usize| {
            let (sender, receiver) = sync_channel(0);
            let (stored, ranges) = (self.clone(), ranges.clone());
            std::thread::spawn(move || stored.send(ranges.iter().skip(reader).step_by(readers), &sender));
            receiver
        };
        ReadAhead { receivers: (0..readers).map(start).collect(), next: 0, blocks: ranges.len() }
    }

    /// Reads these blocks until nobody wants them.
    fn send<'r>(&self, ranges: impl Iterator<Item = &'r Range<usize>>, sender: &SyncSender<Block>) {
        for rows in ranges {
            let block = self.matrix(rows.clone()).map(|x| (rows.clone(), x));
            if sender.send(block).is_err() {
                return;
            }
        }
    }
}

/// Some rows.
type Block = Result<(Range<usize>, Csr)>;

/// Blocks of a matrix that are read by other threads.
pub(super) struct ReadAhead {
    receivers: Vec<Receiver<Block>>,
    next: usize,
    blocks: usize,
}

impl Iterator for ReadAhead {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        if self.next == self.blocks {
            return None;
        }
        let receiver = &self.receivers[self.next % self.receivers.len()];
        self.next += 1;
        Some(receiver.recv().context("reading the file ended before its time").flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct InMemory(Csr);

    impl RowSource for InMemory {
        fn read(&self, rows: Range<usize>) -> Result<Csr> {
            Ok(self.0.select_rows(&rows.collect::<Vec<_>>()))
        }
        fn size(&self, rows: Range<usize>) -> u64 {
            self.0.offsets[rows.end] - self.0.offsets[rows.start]
        }
    }

    fn names(letter: char, n: usize) -> Frame {
        Frame::of_names((0..n).map(|i| format!("{letter}{i}")).collect())
    }

    /// 50 cells × 9 genes, held, and stored in blocks of some cells.
    fn both() -> [CellSet; 2] {
        let mut x = Csr::empty(9);
        for i in 0..50u32 {
            x.push_row((0..9).map(|j| (j, if (i + j) % 3 == 0 { (i + j) as f32 } else { 0.0 })));
        }
        let held = Cells::new(x.clone(), names('c', 50), names('g', 9));
        let stored = Stored::new(Arc::new(InMemory(x)), names('c', 50), names('g', 9), 100);
        assert!(stored.ranges().len() > 10);
        let survey = CellSet::from(held.clone()).survey().unwrap();
        [CellSet::from(stored.surveyed(held.library.clone(), survey)), CellSet::from(held)]
    }

    #[test]
    fn what_is_stored_is_what_is_held() {
        let change = |set: &CellSet| {
            let deep: Vec<usize> = (0..50).filter(|&i| set.library()[i] >= 20.0).collect();
            let set = set.select_cells(&deep).drawn(15, 3).unwrap();
            let rows: Vec<usize> = (0..set.len()).filter(|i| i % 4 != 1).collect();
            let set = set.select_cells(&rows).select_genes(&[1, 4, 5]).with_rest(names('h', 4));
            set.place_genes(vec![Some(2), None, Some(0), Some(4)], names('k', 5))
        };
        let [stored, held] = both().map(|set| change(&set));
        let (a, b) = (stored.load().unwrap(), held.load().unwrap());
        assert_eq!((&a.x, &a.ids, &a.library, &a.obs.names), (&b.x, &b.ids, &b.library, &b.obs.names));
        assert_eq!(stored.survey().unwrap(), held.survey().unwrap());
        assert_eq!(stored.expressed().unwrap(), held.expressed().unwrap());
        assert_eq!(a.var.names, ["k0", "k1", "k2", "k3", "k4"]);
        assert!(Arc::ptr_eq(&a, &stored.load().unwrap()));
    }

    #[test]
    fn nobody_has_to_read_to_the_end() {
        let [stored, _] = both();
        let stopped = stored.each_matrix(&mut |start, _| {
            anyhow::ensure!(start < 20, "enough");
            Ok(())
        });
        assert_eq!(stopped.unwrap_err().to_string(), "enough");
    }
}
