//! A sparse matrix of weights, by rows.

use lacuna_sdk::prelude::*;

/// Rows of (column, weight), columns ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    ends: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl Weights {
    /// From its rows.
    pub fn from_rows(rows: impl Iterator<Item = Vec<(u32, f32)>>) -> Self {
        let mut weights = Self { ends: vec![], entries: vec![] };
        for row in rows {
            weights.entries.extend(row);
            weights.ends.push(weights.entries.len());
        }
        weights
    }

    /// The matrix whose columns are these, with so many rows.
    pub fn from_columns(rows: usize, columns: &[Vec<(u32, f32)>]) -> Self {
        let mut by_row = vec![vec![]; rows];
        for (j, column) in columns.iter().enumerate() {
            column.iter().for_each(|&(i, weight)| by_row[i as usize].push((j as u32, weight)));
        }
        Self::from_rows(by_row.into_iter())
    }

    /// Its columns, rows ascending; it is square.
    pub fn columns(&self) -> Vec<Vec<(u32, f32)>> {
        let mut columns = vec![vec![]; self.ends.len()];
        for i in 0..self.ends.len() {
            self.row(i).iter().for_each(|&(j, weight)| columns[j as usize].push((i as u32, weight)));
        }
        columns
    }

    pub fn row(&self, i: usize) -> &[(u32, f32)] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.entries[start..self.ends[i]]
    }

    /// Adds a row so many times, and says of which columns.
    pub fn add(&self, i: usize, times: f64, to: &mut [f64], mut changed: impl FnMut(usize)) {
        for &(j, weight) in self.row(i) {
            to[j as usize] += times * f64::from(weight);
            changed(j as usize);
        }
    }

    /// Weights that are not 0.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn save(&self, name: &str, saved: Saved) -> Saved {
        // Tensors hold f32, exact for whole numbers up to 2^24, which no gene's column reaches.
        let lengths: Vec<f32> = (0..self.ends.len()).map(|i| self.row(i).len() as f32).collect();
        let columns: Vec<f32> = self.entries.iter().map(|e| e.0 as f32).collect();
        let values: Vec<f32> = self.entries.iter().map(|e| e.1).collect();
        let saved = saved.text(&format!("{name}-len"), self.len().to_string());
        let saved = saved.tensor(&format!("{name}-lengths"), &[lengths.len()], &lengths);
        let saved = saved.tensor(&format!("{name}-columns"), &[columns.len()], &columns);
        saved.tensor(name, &[values.len()], &values)
    }

    /// A square matrix of this size.
    pub fn load(name: &str, saved: &Saved, size: usize) -> Result<Self> {
        let len: usize = saved.get_text(&format!("{name}-len"))?.parse()?;
        let lengths = saved.get_tensor(&format!("{name}-lengths"), &[size])?;
        let columns = saved.get_tensor(&format!("{name}-columns"), &[len])?;
        let values = saved.get_tensor(name, &[len])?;
        let mut end = 0usize;
        let ends: Vec<usize> = lengths
            .iter()
            .map(|&length| {
                end = end.saturating_add(length as usize);
                end
            })
            .collect();
        let entries: Vec<(u32, f32)> =
            columns.iter().map(|&j| j as u32).zip(values.iter().copied()).collect();
        if end != len || entries.iter().any(|e| e.0 as usize >= size) {
            return Err(Error::data(format!("`{name}` of the saved model is damaged")));
        }
        Ok(Self { ends, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows_and_both_survive_saving() {
        let weights = Weights::from_columns(3, &[vec![(1, 0.5), (2, -1.0)], vec![], vec![(2, 2.0)]]);
        assert_eq!((weights.row(0), weights.row(1)), (&[][..], &[(0, 0.5)][..]));
        assert_eq!(weights.row(2), [(0, -1.0), (2, 2.0)]);
        let saved = weights.save("w", Saved::new());
        assert_eq!(Weights::load("w", &saved, 3).unwrap(), weights);
        assert!(Weights::load("w", &saved, 4).is_err());
        let wrong = saved.tensor("v-lengths", &[1], &[2.0]).text("v-len", "2");
        let wrong = wrong.tensor("v-columns", &[2], &[0.0, 1.0]).tensor("v", &[2], &[1.0, 1.0]);
        assert!(Weights::load("v", &wrong, 1).is_err());
    }
}
