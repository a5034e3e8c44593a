//! Counts of cells, and how deeply each cell was sequenced, measured by genes that are not themselves the
//! library.

use lacuna_sdk::prelude::*;

/// A gene with more than this share of all counts is left out of every library, unless a parameter says otherwise: where
/// HBE1 is 44 % of the counts, a cell with more of it would seem to have less of everything else.
pub const DOMINANT: f64 = 0.2;
/// What varies by less than this share of its squares does not vary but for rounding.
pub const ROUNDING: f64 = 1e-10;

/// log(1 + 10,000 count / library); 0 for a library without counts.
pub fn log_cp10k(count: f64, library: f64) -> f64 {
    if library > 0.0 { (1e4 * count / library).ln_1p() } else { 0.0 }
}

/// Cells, their libraries, and which cells express a gene.
pub struct Counts<'a> {
    cells: Cells<'a>,
    dominant: Vec<bool>,
    library: Vec<f64>,
    /// Cell and count, for each gene.
    by_gene: Vec<Vec<(usize, f64)>>,
}

impl<'a> Counts<'a> {
    /// Of all these cells; genes above a share of `dominant` of all counts are in no library.
    pub fn of(cells: &Cells<'a>, dominant: f64) -> Self {
        let mut by_gene = vec![vec![]; cells.n_genes()];
        for cell in 0..cells.len() {
            for (&gene, &count) in cells.assemblage(cell).iter().zip(cells.values(cell)) {
                by_gene[gene as usize].push((cell, f64::from(count)));
            }
        }
        // Of the genes that were left out by a step `prepare` only the sum is known; they count.
        let whole: Vec<f64> = (0..cells.len()).map(|c| cells.library(c).max(cells.total(c))).collect();
        let all: f64 = whole.iter().sum();
        let sum = |of_gene: &Vec<(usize, f64)>| of_gene.iter().map(|(_, count)| count).sum::<f64>();
        let is_dominant: Vec<bool> = by_gene.iter().map(|of_gene| sum(of_gene) > dominant * all).collect();
        let mut library = whole;
        for (gene, _) in is_dominant.iter().enumerate().filter(|(_, dominant)| **dominant) {
            by_gene[gene].iter().for_each(|&(cell, count)| library[cell] = less(library[cell], count));
        }
        Self { cells: *cells, dominant: is_dominant, library, by_gene }
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.library.len()
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.by_gene.len()
    }

    /// The cells that express a gene, ascending, and their counts of it.
    pub fn of_gene(&self, gene: usize) -> &[(usize, f64)] {
        &self.by_gene[gene]
    }

    /// The genes that a cell expresses, ascending, and its counts of them.
    pub fn of_cell(&self, cell: usize) -> impl Iterator<Item = (usize, f64)> + use<'a> {
        let genes = self.cells.assemblage(cell).iter().map(|&gene| gene as usize);
        genes.zip(self.cells.values(cell).iter().map(|&count| f64::from(count)))
    }

    /// A cell's counts, without those of dominant genes.
    pub fn library(&self, cell: usize) -> f64 {
        self.library[cell]
    }

    /// A cell's counts without those of dominant genes and of a target, of which it has `count`.
    pub fn library_without(&self, cell: usize, target: usize, count: f64) -> f64 {
        if self.dominant[target] { self.library[cell] } else { less(self.library[cell], count) }
    }
}

/// A sum without one of its terms, 0 where nothing but rounding is left.
fn less(sum: f64, term: f64) -> f64 {
    let rest = sum - term;
    if rest > 1e-9 * sum { rest } else { 0.0 }
}

/// How deeply a cell was sequenced: log(1 + library), which a cell without counts has too.
pub fn depth(library: f64) -> f64 {
    library.ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    #[test]
    fn dominant_genes_and_the_target_are_no_part_of_the_library() {
        // g3 has 60 of 92 counts; the last cell expresses nothing but g0.
        let owned = testing::cells(&[
            &[1.0, 9.0, 10.0, 60.0, 0.0],
            &[0.0, 3.0, 4.0, 0.0, 0.0],
            &[5.0, 0.0, 0.0, 0.0, 0.0],
        ]);
        let view = owned.to_view();
        let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
        assert_eq!((counts.n_cells(), counts.n_genes()), (3, 5));
        assert_eq!([0, 1, 2].map(|cell| counts.library(cell)), [20.0, 7.0, 5.0]);
        assert_eq!(counts.library_without(0, 1, 9.0), 11.0);
        assert_eq!(counts.library_without(0, 3, 60.0), 20.0);
        assert_eq!(counts.library_without(2, 0, 5.0), 0.0);
        assert_eq!(counts.of_gene(0), [(0, 1.0), (2, 5.0)]);
        assert_eq!(counts.of_cell(1).collect::<Vec<_>>(), [(1, 3.0), (2, 4.0)]);
        let all = Counts::of(&Cells::from_view(&view), 1.0);
        assert_eq!([0, 1, 2].map(|cell| all.library(cell)), [80.0, 7.0, 5.0]);
        assert_eq!(log_cp10k(3.0, 0.0), 0.0);
        assert!((log_cp10k(3.0, 30_000.0) - 2f64.ln()).abs() < 1e-12);
    }
}
