//! Matrices in HDF5, a window at a time, as rows of `f32`: compressed rows, compressed columns, dense.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

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

/// The three arrays of a compressed matrix.
struct Parts {
    data: Data,
    indices: Data,
    indptr: Data,
    major: usize,
}

impl Parts {
    /// `major` is the number of compressed rows, or columns.
    fn open(file: &Hdf5, path: &str, major: usize) -> Result<Self> {
        let part = |name: &str| file.data(&format!("{path}/{name}"));
        let parts = Self { data: part("data")?, indices: part("indices")?, indptr: part("indptr")?, major };
        let (n, data, indices) = (parts.indptr.len()?, parts.data.len()?, parts.indices.len()?);
        ensure!(n == major as u64 + 1, "{path}/indptr has {n} entries, {} were expected", major + 1);
        ensure!(data == indices, "{path} has {data} values and {indices} indices");
        Ok(parts)
    }

    /// Where some compressed rows begin, and the last of them ends.
    fn offsets(&self, major: Range<usize>) -> Result<Vec<u64>> {
        let stored = self.data.len()?;
        let mut offsets: Vec<u64> = vec![];
        for window in self.indptr.windows(major.start as u64..major.end as u64 + 1) {
            for at in self.indptr.integers(window)? {
                let least = offsets.last().copied().unwrap_or(0);
                let at = u64::try_from(at).ok().filter(|at| (least..=stored).contains(at));
                let row = major.start + offsets.len();
                offsets.push(at.with_context(|| {
                    format!("indptr: entry {row} is not between the one before it, {least}, and the {stored} values")
                })?);
            }
        }
        // What lies before the first or behind the last would be lost in silence.
        let first = major.start > 0 || offsets.first().is_none_or(|&at| at == 0);
        let last = major.end < self.major || offsets.last().is_none_or(|&at| at == stored);
        ensure!(first && last, "indptr does not span the {stored} values");
        Ok(offsets)
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

/// Rows of a matrix stored by rows; only these are read.
pub(super) fn by_rows(file: &Hdf5, path: &str, blocks: &[Range<usize>], axes: Axes) -> Result<Csr> {
    let parts = Parts::open(file, path, axes.rows)?;
    let mut out = Csr::empty(axes.cols);
    for block in blocks {
        parts.append(block.clone(), &mut out)?;
    }
    Csr::from_parts(out.values, out.indices, out.offsets, out.n_cols)
}

impl Parts {
    /// Adds rows of a matrix stored by rows, as they are.
    fn append(&self, rows: Range<usize>, out: &mut Csr) -> Result<()> {
        let offsets = self.offsets(rows)?;
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return Ok(()) };
        let before = out.values.len() as u64;
        reserve(&mut out.values, last - first)?;
        reserve(&mut out.indices, last - first)?;
        for window in self.data.windows(first..last) {
            out.values.extend(self.data.floats(window)?);
        }
        for window in self.indices.windows(first..last) {
            out.indices.extend(self.indices(window, out.n_cols)?);
        }
        out.offsets.extend(offsets[1..].iter().map(|at| at - first + before));
        Ok(())
    }
}

/// Rows of a matrix stored by columns: streamed twice, once to count and once to place, so that only the rows asked
/// for are ever held.
pub(super) fn by_columns(file: &Hdf5, path: &str, blocks: &[Range<usize>], axes: Axes) -> Result<Csr> {
    let parts = Parts::open(file, path, axes.cols)?;
    let columns = parts.offsets(0..axes.cols)?;
    let rows = Chosen::new(blocks, axes.rows);
    let offsets = parts.count(&rows)?;
    let total = offsets.last().copied().unwrap_or(0);
    let mut out = Csr { values: vec![], indices: vec![], offsets, n_cols: axes.cols };
    reserve(&mut out.values, total)?;
    reserve(&mut out.indices, total)?;
    out.values.resize(total as usize, 0.0);
    out.indices.resize(total as usize, 0);
    parts.place(&rows, &columns, &mut out)?;
    Csr::from_parts(out.values, out.indices, out.offsets, out.n_cols)
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

impl Parts {
    /// Where each chosen row of a matrix stored by columns will begin.
    fn count(&self, rows: &Chosen) -> Result<Vec<u64>> {
        let mut offsets = vec![0u64; rows.count + 1];
        for window in self.indices.windows(0..self.indices.len()?) {
            let found = self.indices(window, rows.places.len())?;
            found.into_iter().filter_map(|row| rows.place(row)).for_each(|place| offsets[place + 1] += 1);
        }
        (1..offsets.len()).for_each(|i| offsets[i] += offsets[i - 1]);
        Ok(offsets)
    }

    /// Puts each value of a chosen row where it belongs. Columns come in order, so rows are filled in order.
    fn place(&self, rows: &Chosen, columns: &[u64], out: &mut Csr) -> Result<()> {
        let (mut next, mut column) = (out.offsets.clone(), 0);
        for window in self.data.windows(0..self.data.len()?) {
            let found = self.indices(window.clone(), rows.places.len())?;
            for ((k, row), value) in window.clone().zip(found).zip(self.data.floats(window)?) {
                while columns[column + 1] <= k {
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
}

/// Rows of a dense matrix; only these are read.
pub(super) fn dense(file: &Hdf5, path: &str, blocks: &[Range<usize>], cols: usize) -> Result<Csr> {
    let data = file.data(path)?;
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
