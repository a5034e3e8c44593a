//! Matrices in HDF5, a window at a time, as rows of `f32`: compressed rows, compressed columns, dense.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::Encoding;
use super::hdf5::{Data, Hdf5};
use crate::data::Csr;

/// Numbers of cells and genes that the file's names ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axes {
    /// Number of cells.
    pub rows: usize,
    /// Number of genes.
    pub cols: usize,
}

/// An open matrix: where its rows or columns begin is known, values are read on demand.
pub(super) struct Matrix {
    axes: Axes,
    stored: Stored,
}

enum Stored {
    ByRows(Parts),
    ByColumns(Parts),
    Dense(Data),
}

/// The three arrays of a compressed matrix.
struct Parts {
    data: Data,
    indices: Data,
    /// Where each compressed row, or column, begins; one more than there are.
    offsets: Vec<u64>,
}

impl Matrix {
    /// Opens a matrix of known size.
    pub(super) fn open(file: &Hdf5, path: &str, encoding: Encoding, axes: Axes) -> Result<Self> {
        let stored = match encoding {
            Encoding::Csr => Stored::ByRows(Parts::open(file, path, axes.rows)?),
            Encoding::Csc => Stored::ByColumns(Parts::open(file, path, axes.cols)?),
            Encoding::Dense => Stored::Dense(file.data(path)?),
        };
        Ok(Self { axes, stored })
    }

    /// Some rows, which must be there: only these are read where the matrix is stored by rows or dense.
    pub(super) fn rows(&self, blocks: &[Range<usize>]) -> Result<Csr> {
        match &self.stored {
            Stored::ByRows(parts) => by_rows(parts, blocks, self.axes.cols),
            Stored::ByColumns(parts) => {
                by_columns(parts, &Chosen::new(blocks, self.axes.rows), self.axes.cols)
            }
            Stored::Dense(data) => dense(data, blocks, self.axes.cols),
        }
    }
}

impl Matrix {
    /// How many values are read for some rows.
    pub(super) fn size(&self, rows: Range<usize>) -> u64 {
        match &self.stored {
            Stored::ByRows(parts) => parts.offsets[rows.end] - parts.offsets[rows.start],
            Stored::ByColumns(parts) => parts.offsets.last().copied().unwrap_or(0),
            Stored::Dense(_) => rows.len() as u64 * self.axes.cols as u64,
        }
    }
}

impl Parts {
    /// `major` is the number of compressed rows, or columns.
    fn open(file: &Hdf5, path: &str, major: usize) -> Result<Self> {
        let part = |name: &str| file.data(&format!("{path}/{name}"));
        let (data, indices, indptr) = (part("data")?, part("indices")?, part("indptr")?);
        let (n, stored, indexed) = (indptr.len()?, data.len()?, indices.len()?);
        ensure!(n == major as u64 + 1, "{path}/indptr has {n} entries, {} were expected", major + 1);
        ensure!(stored == indexed, "{path} has {stored} values and {indexed} indices");
        let offsets = read_offsets(&indptr, stored).with_context(|| format!("{path}/indptr"))?;
        Ok(Self { data, indices, offsets })
    }

    /// Indices of some stored values, each below `limit`.
    fn indices(&self, window: Range<u64>, limit: usize) -> Result<Vec<u32>> {
        let start = window.start;
        let check = |(k, i): (usize, i64)| {
            let valid = u32::try_from(i).ok().filter(|&i| (i as usize) < limit);
            valid.with_context(|| {
                format!("indices: entry {} is {i}, but must be below {limit}", start + k as u64)
            })
        };
        self.indices.integers(window)?.into_iter().enumerate().map(check).collect()
    }
}

/// Offsets that rise from 0 to the number of stored values: what they did not span would be lost in silence.
fn read_offsets(indptr: &Data, stored: u64) -> Result<Vec<u64>> {
    let mut offsets = vec![];
    let mut least = 0;
    for window in indptr.windows(0..indptr.len()?) {
        for at in indptr.integers(window)? {
            least = u64::try_from(at).ok().filter(|at| (least..=stored).contains(at)).with_context(|| {
                format!("entry {} is {at}, but must be {least} to {stored}", offsets.len())
            })?;
            offsets.push(least);
        }
    }
    let spans = offsets.first() == Some(&0) && offsets.last() == Some(&stored);
    ensure!(spans, "it does not span the {stored} values");
    Ok(offsets)
}

fn by_rows(parts: &Parts, blocks: &[Range<usize>], cols: usize) -> Result<Csr> {
    let mut out = Csr::empty(cols);
    for block in blocks {
        let offsets = &parts.offsets[block.start..=block.end];
        let (first, last) = (offsets[0], offsets[block.len()]);
        let before = out.values.len() as u64;
        reserve(&mut out.values, last - first)?;
        reserve(&mut out.indices, last - first)?;
        for window in parts.data.windows(first..last) {
            out.values.extend(parts.data.floats(window)?);
        }
        for window in parts.indices.windows(first..last) {
            out.indices.extend(parts.indices(window, cols)?);
        }
        out.offsets.extend(offsets[1..].iter().map(|at| at - first + before));
    }
    Csr::from_parts(out.values, out.indices, out.offsets, cols)
}

/// Some rows of a matrix.
struct Chosen {
    /// Place of each row of the matrix among the chosen ones; `NOT` where it is not chosen.
    places: Vec<u32>,
    count: usize,
}

impl Chosen {
    const NOT: u32 = u32::MAX;

    fn new(blocks: &[Range<usize>], rows: usize) -> Self {
        let mut places = vec![Self::NOT; rows];
        (0..).zip(blocks.iter().cloned().flatten()).for_each(|(place, row)| places[row] = place);
        Self { places, count: blocks.iter().map(ExactSizeIterator::len).sum() }
    }

    fn place(&self, row: u32) -> Option<usize> {
        let place = self.places[row as usize];
        (place != Self::NOT).then_some(place as usize)
    }
}

/// Streams a matrix stored by columns twice, once to count and once to place, so that only the rows asked for are
/// ever held.
fn by_columns(parts: &Parts, rows: &Chosen, cols: usize) -> Result<Csr> {
    let offsets = count(parts, rows)?;
    let total = offsets.last().copied().unwrap_or(0);
    let mut out = Csr { values: vec![], indices: vec![], offsets, n_cols: cols };
    reserve(&mut out.values, total)?;
    reserve(&mut out.indices, total)?;
    out.values.resize(total as usize, 0.0);
    out.indices.resize(total as usize, 0);
    place(parts, rows, &mut out)?;
    Csr::from_parts(out.values, out.indices, out.offsets, cols)
}

/// Where each chosen row will begin.
fn count(parts: &Parts, rows: &Chosen) -> Result<Vec<u64>> {
    let mut offsets = vec![0u64; rows.count + 1];
    for window in parts.indices.windows(0..parts.indices.len()?) {
        let found = parts.indices(window, rows.places.len())?;
        found.into_iter().filter_map(|row| rows.place(row)).for_each(|place| offsets[place + 1] += 1);
    }
    (1..offsets.len()).for_each(|i| offsets[i] += offsets[i - 1]);
    Ok(offsets)
}

/// Puts each value of a chosen row where it belongs. Columns come in order, so rows are filled in order.
fn place(parts: &Parts, rows: &Chosen, out: &mut Csr) -> Result<()> {
    let (mut next, mut column) = (out.offsets.clone(), 0);
    for window in parts.data.windows(0..parts.data.len()?) {
        let found = parts.indices(window.clone(), rows.places.len())?;
        for ((k, row), value) in window.clone().zip(found).zip(parts.data.floats(window)?) {
            while parts.offsets[column + 1] <= k {
                column += 1;
            }
            if let Some(place) = rows.place(row) {
                let at = next[place] as usize;
                (out.values[at], out.indices[at]) = (value, column as u32);
                next[place] += 1;
            }
        }
    }
    Ok(())
}

fn dense(data: &Data, blocks: &[Range<usize>], cols: usize) -> Result<Csr> {
    let mut out = Csr::empty(cols);
    for block in blocks {
        if cols == 0 {
            out.offsets.resize(out.offsets.len() + block.len(), 0);
            continue;
        }
        for window in data.windows(block.start as u64..block.end as u64) {
            for row in data.floats(window)?.chunks_exact(cols) {
                out.push_row((0..).zip(row.iter().copied()));
            }
        }
    }
    Ok(out)
}

/// Fails, rather than aborts, when the memory can't be had.
fn reserve<T>(buffer: &mut Vec<T>, count: u64) -> Result<()> {
    let enough = usize::try_from(count).is_ok_and(|n| buffer.try_reserve_exact(n).is_ok());
    ensure!(enough, "there is no memory for its {count} values");
    Ok(())
}
