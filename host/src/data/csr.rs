//! Compressed sparse rows on our own buffers.

use anyhow::{Result, ensure};

/// Rows × columns of `f32`; only values other than 0 are stored, columns ascending within a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    /// Stored values.
    pub values: Vec<f32>,
    /// Column of each stored value.
    pub indices: Vec<u32>,
    /// Where each row begins; one more than there are rows.
    pub offsets: Vec<u64>,
    /// Number of columns.
    pub n_cols: usize,
}

impl Csr {
    /// No rows.
    pub fn empty(n_cols: usize) -> Self {
        Self { values: vec![], indices: vec![], offsets: vec![0], n_cols }
    }

    /// From parts in any column order; sorts each row, drops zeros and adds up repeated columns.
    ///
    /// # Errors
    /// When the parts do not make a matrix: offsets that fall or do not fit, columns out of range.
    pub fn from_parts(values: Vec<f32>, indices: Vec<u32>, offsets: Vec<u64>, n_cols: usize) -> Result<Self> {
        ensure!(
            values.len() == indices.len(),
            "the matrix has {} values and {} column indices",
            values.len(),
            indices.len()
        );
        ensure!(
            offsets.first() == Some(&0) && offsets.last() == Some(&(values.len() as u64)),
            "the matrix's row offsets do not span its {} values",
            values.len()
        );
        ensure!(offsets.is_sorted(), "the matrix's row offsets fall");
        if let Some(bad) = indices.iter().find(|&&j| j as usize >= n_cols) {
            anyhow::bail!("the matrix has a column index {bad}, but {n_cols} columns");
        }
        let matrix = Self { values, indices, offsets, n_cols };
        Ok(if matrix.is_canonical() { matrix } else { matrix.canonical() })
    }

    fn is_canonical(&self) -> bool {
        let ascending = |i: usize| self.row(i).0.windows(2).all(|w| w[0] < w[1]);
        (0..self.n_rows()).all(ascending) && self.values.iter().all(|&v| v != 0.0)
    }

    fn canonical(&self) -> Self {
        let mut out = Self::empty(self.n_cols);
        let mut row: Vec<(u32, f32)> = vec![];
        for i in 0..self.n_rows() {
            let (indices, values) = self.row(i);
            row.clear();
            row.extend(indices.iter().copied().zip(values.iter().copied()));
            row.sort_by_key(|&(j, _)| j);
            row.dedup_by(|next, first| {
                let same = next.0 == first.0;
                if same {
                    first.1 += next.1;
                }
                same
            });
            out.push_row(row.iter().copied());
        }
        out
    }

    /// Adds a row from ascending (column, value) pairs; zeros are left out.
    pub fn push_row(&mut self, row: impl Iterator<Item = (u32, f32)>) {
        for (j, v) in row.filter(|&(_, v)| v != 0.0) {
            self.indices.push(j);
            self.values.push(v);
        }
        self.offsets.push(self.values.len() as u64);
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of stored values.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// The stored range of a row.
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// Columns and values of a row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.range(row);
        (&self.indices[range.clone()], &self.values[range])
    }

    /// Sum of a row.
    pub fn row_sum(&self, row: usize) -> f64 {
        self.row(row).1.iter().map(|&v| f64::from(v)).sum()
    }

    /// These rows, in this order.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let mut out = Self::empty(self.n_cols);
        for &i in rows {
            let (indices, values) = self.row(i);
            out.indices.extend_from_slice(indices);
            out.values.extend_from_slice(values);
            out.offsets.push(out.values.len() as u64);
        }
        out
    }

    /// These columns, which must be ascending.
    pub fn select_cols(&self, cols: &[usize]) -> Self {
        let mut target = vec![None; self.n_cols];
        cols.iter().enumerate().for_each(|(new, &old)| target[old] = Some(new as u32));
        self.place_cols(&target, cols.len())
    }

    /// The columns in other places: `target` is the new place of each among `n_cols`, if it has one.
    pub fn place_cols(&self, target: &[Option<u32>], n_cols: usize) -> Self {
        let in_order = target.iter().flatten().is_sorted();
        let (mut out, mut row) = (Self::empty(n_cols), vec![]);
        for i in 0..self.n_rows() {
            let (indices, values) = self.row(i);
            row.clear();
            row.extend(indices.iter().zip(values).filter_map(|(&j, &v)| Some((target[j as usize]?, v))));
            if !in_order {
                row.sort_unstable_by_key(|(j, _)| *j);
            }
            out.push_row(row.iter().copied());
        }
        out
    }

    /// One more column: what the values of each row leave of its total.
    pub fn with_rest(&self, totals: &[f64]) -> Self {
        let mut out = Self::empty(self.n_cols + 1);
        for (i, total) in totals.iter().enumerate() {
            let (indices, values) = self.row(i);
            let rest = (total - self.row_sum(i)).max(0.0) as f32;
            let row = indices.iter().copied().zip(values.iter().copied());
            out.push_row(row.chain([(self.n_cols as u32, rest)]));
        }
        out
    }

    /// Adds the rows of another matrix of as many columns.
    pub fn append(&mut self, other: &Self) {
        let before = self.nnz() as u64;
        self.values.extend_from_slice(&other.values);
        self.indices.extend_from_slice(&other.indices);
        self.offsets.extend(other.offsets[1..].iter().map(|at| at + before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_become_canonical() {
        let x = Csr::from_parts(vec![1., 2., 0., 3.], vec![2, 0, 1, 2], vec![0, 3, 4], 3).unwrap();
        assert_eq!(x.row(0), (&[0u32, 2][..], &[2f32, 1.][..]));
        assert_eq!(x.row(1), (&[2u32][..], &[3f32][..]));
    }

    #[test]
    fn parts_that_make_no_matrix_are_refused() {
        for (values, indices, offsets) in [
            (vec![1.], vec![3], vec![0, 1]),
            (vec![1.], vec![0, 1], vec![0, 1]),
            (vec![1.], vec![0], vec![0, 2]),
            (vec![1., 1.], vec![0, 1], vec![0, 2, 1, 2]),
        ] {
            assert!(Csr::from_parts(values, indices, offsets, 3).is_err());
        }
    }

    #[test]
    fn rows_and_columns_are_selected() {
        let x = Csr::from_parts(vec![1., 2., 3., 4.], vec![0, 2, 1, 2], vec![0, 2, 4], 3).unwrap();
        let y = x.select_cols(&[1, 2]).select_rows(&[1, 0]);
        assert_eq!(y.row(0), (&[0u32, 1][..], &[3f32, 4.][..]));
        assert_eq!(y.row(1), (&[1u32][..], &[2f32][..]));
    }
}
