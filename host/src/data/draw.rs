//! Cells of equal depth: of each so many counts, drawn without replacement.

use super::Csr;
use crate::run::seeded_stream;
use anyhow::{Result, ensure};
use rand::seq::index::sample;

/// A draw of so many counts of each cell.
pub(super) struct Draw {
    /// Counts that are drawn of a cell.
    pub depth: u64,
    /// What decides, with a cell's id, which.
    pub seed: u64,
    /// The cells, ascending.
    pub ids: Vec<u64>,
    /// All counts of each, also of genes that are not there.
    pub library: Vec<f64>,
}

impl Draw {
    /// These cells' counts.
    pub fn of(&self, x: &Csr, ids: &[u64]) -> Result<Csr> {
        if let Some(value) = x.values.iter().find(|v| v.fract() != 0.0 || **v < 0.0) {
            anyhow::bail!(
                "counts cannot be drawn of {value}: downsampling needs whole numbers, as they were counted"
            );
        }
        let mut out = Csr::empty(x.n_cols);
        for (i, &id) in ids.iter().enumerate() {
            let all = self.ids.binary_search(&id).map_or(0.0, |at| self.library[at]);
            let (genes, counts) = x.row(i);
            let drawn = self.of_cell(counts, all.max(x.row_sum(i)), id)?;
            out.push_row(genes.iter().copied().zip(drawn));
        }
        Ok(out)
    }

    /// How many of each count are drawn, out of so many: what is counted lies in a row, and places in it are drawn.
    fn of_cell(&self, counts: &[f32], all: f64, id: u64) -> Result<Vec<f32>> {
        ensure!(
            all >= self.depth as f64,
            "cell {id} has {all} counts, of which {} cannot be drawn",
            self.depth
        );
        let places = sample(&mut seeded_stream(self.seed, id), all as usize, self.depth as usize);
        let mut places = places.into_vec();
        places.sort_unstable();
        let (mut rest, mut end) = (places.as_slice(), 0);
        let drawn = counts.iter().map(|&count| {
            end += count as usize;
            let (these, others) = rest.split_at(rest.partition_point(|&place| place < end));
            rest = others;
            these.len() as f32
        });
        Ok(drawn.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(depth: u64, seed: u64, library: &[f64]) -> Draw {
        Draw { depth, seed, ids: (0..library.len() as u64).collect(), library: library.to_vec() }
    }

    fn counts(row: &[f32], times: usize) -> Csr {
        let mut x = Csr::empty(row.len());
        (0..times).for_each(|_| x.push_row((0..).zip(row.iter().copied())));
        x
    }

    #[test]
    fn as_many_are_drawn_as_are_wanted_and_none_that_were_not_there() {
        let x = counts(&[5.0, 0.0, 30.0, 1.0, 64.0], 200);
        let library = vec![100.0; 200];
        let ids: Vec<u64> = (0..200).collect();
        let drawn = draw(40, 7, &library).of(&x, &ids).unwrap();
        for i in 0..200 {
            assert_eq!(drawn.row_sum(i), 40.0);
            let (genes, values) = drawn.row(i);
            assert!(genes.iter().zip(values).all(|(&j, &v)| v <= [5.0, 0.0, 30.0, 1.0, 64.0][j as usize]));
        }
        assert_eq!(draw(100, 7, &library).of(&x, &ids).unwrap(), x);
        assert_ne!(draw(40, 8, &library).of(&x, &ids).unwrap(), drawn);
        // A cell's draw is its own, whatever others there are.
        assert_eq!(draw(40, 7, &library).of(&x.select_rows(&[5]), &[5]).unwrap(), drawn.select_rows(&[5]));
    }

    #[test]
    fn means_and_variances_are_those_of_the_hypergeometric_distribution() {
        // 30 of 100 counts, and 50 of other genes than those that are kept.
        let (row, n, all, times) = ([30.0, 20.0], 40.0, 100.0, 20_000);
        let ids: Vec<u64> = (0..times as u64).collect();
        let drawn = draw(40, 3, &vec![all; times]).of(&counts(&row, times), &ids).unwrap();
        for (j, count) in row.iter().map(|&c| f64::from(c)).enumerate() {
            let value = |i: usize| {
                let (genes, values) = drawn.row(i);
                genes.iter().position(|&g| g as usize == j).map_or(0.0, |at| f64::from(values[at]))
            };
            let mean = (0..times).map(value).sum::<f64>() / times as f64;
            let variance = (0..times).map(|i| (value(i) - mean).powi(2)).sum::<f64>() / (times as f64 - 1.0);
            let share = count / all;
            let expected = n * share * (1.0 - share) * (all - n) / (all - 1.0);
            assert!((mean - n * share).abs() < 0.08, "{mean} for {}", n * share);
            assert!((variance / expected - 1.0).abs() < 0.05, "{variance} for {expected}");
        }
    }

    #[test]
    fn what_is_no_count_or_too_little_is_an_error() {
        let error = |row: &[f32], library: f64| {
            draw(5, 1, &[library]).of(&counts(row, 1), &[0]).unwrap_err().to_string()
        };
        assert!(error(&[1.5, 20.0], 21.5).contains("whole numbers"), "{}", error(&[1.5, 20.0], 21.5));
        assert!(error(&[1.0, 3.0], 4.0).contains("has 4 counts"), "{}", error(&[1.0, 3.0], 4.0));
    }
}
