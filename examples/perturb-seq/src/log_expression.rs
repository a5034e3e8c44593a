//! log(1 + 10,000 p) of some cells, where p are a cell's shares of the genes at hand.

use lacuna_sdk::prelude::*;

/// log(1 + 10,000 p).
pub fn log_of_share(p: f64) -> f64 {
    (1e4 * p).ln_1p()
}

/// The genes that a cell expresses, and log(1 + 10,000 p) of each. A silent gene has 0.
pub fn log_expression<'a>(cells: &Cells<'a>, cell: usize) -> impl Iterator<Item = (usize, f64)> + use<'a> {
    let total = cells.total(cell);
    let genes = cells.assemblage(cell).iter().map(|&gene| gene as usize);
    genes.zip(cells.values(cell)).map(move |(gene, &value)| (gene, log_of_share(f64::from(value) / total)))
}

/// log(1 + 10,000 p) of some cells, by cell and by gene. Silent genes are left out.
pub struct LogExpression {
    /// Gene and value, for each cell.
    by_cell: Vec<Vec<(usize, f64)>>,
    /// Cell and value, for each gene.
    by_gene: Vec<Vec<(usize, f64)>>,
}

impl LogExpression {
    /// Of all these cells.
    pub fn of(cells: &Cells<'_>) -> Self {
        let by_cell: Vec<Vec<_>> =
            (0..cells.len()).map(|cell| log_expression(cells, cell).collect()).collect();
        let mut by_gene = vec![vec![]; cells.n_genes()];
        for (cell, row) in by_cell.iter().enumerate() {
            row.iter().for_each(|&(gene, x): &(usize, f64)| by_gene[gene].push((cell, x)));
        }
        Self { by_cell, by_gene }
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.by_cell.len()
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.by_gene.len()
    }

    /// The genes that a cell expresses, ascending, and its value of each.
    pub fn of_cell(&self, cell: usize) -> &[(usize, f64)] {
        &self.by_cell[cell]
    }

    /// The cells that express a gene, ascending, and the gene's value in each.
    pub fn of_gene(&self, gene: usize) -> &[(usize, f64)] {
        &self.by_gene[gene]
    }

    /// Σ w x_j over cells of the weight w, for each gene j. Shape (genes).
    pub fn weighted_sums(&self, weights: impl Iterator<Item = (usize, f64)>) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_genes()];
        for (cell, weight) in weights {
            self.by_cell[cell].iter().for_each(|&(gene, x)| sums[gene] += weight * x);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    #[test]
    fn shares_are_of_the_genes_at_hand_and_both_orders_agree() {
        let owned = testing::cells(&[&[1.0, 0.0, 3.0], &[0.0, 0.0, 0.0], &[0.0, 0.0, 2.0]]);
        let view = owned.to_view();
        let x = LogExpression::of(&Cells::from_view(&view));
        assert_eq!((x.n_cells(), x.n_genes()), (3, 3));
        let [quarter, most, all] = [2501.0f64, 7501.0, 10_001.0].map(f64::ln);
        assert!((log_of_share(0.25) - quarter).abs() < 1e-12);
        let near = |found: &[(usize, f64)], expected: &[(usize, f64)]| {
            let same = |(a, b): (&(usize, f64), &(usize, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12;
            assert!(found.len() == expected.len() && found.iter().zip(expected).all(same), "{found:?}");
        };
        near(x.of_gene(0), &[(0, quarter)]);
        near(x.of_gene(1), &[]);
        near(x.of_gene(2), &[(0, most), (2, all)]);
        let sums = x.weighted_sums([(0, 2.0), (1, 5.0), (2, -1.0)].into_iter());
        near(
            &sums.into_iter().enumerate().collect::<Vec<_>>(),
            &[(0, 2.0 * quarter), (1, 0.0), (2, 2.0 * most - all)],
        );
    }
}
