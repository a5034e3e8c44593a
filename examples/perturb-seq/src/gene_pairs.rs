//! A number for each pair of genes: what the models of single genes keep.

use crate::genes::Genes;
use crate::log_expression::LogExpression;
use lacuna_sdk::ndarray::{Array2, ArrayView1};
use lacuna_sdk::prelude::*;

/// With more genes than these, a number for each pair of them takes more than 36 MB.
pub const MOST_GENES: usize = 3_000;

/// A number for each ordered pair of genes.
#[derive(Debug)]
pub struct GenePairs {
    /// The genes.
    pub genes: Genes,
    /// Genes × genes.
    values: Array2<f32>,
}

impl GenePairs {
    /// Learns from cells: `write` fills the row of one gene, shape (genes), on any thread. An error without cells and
    /// genes, and with more genes than [`MOST_GENES`].
    pub fn learn(
        cells: &Cells<'_>,
        x: &LogExpression,
        cx: &Context,
        write: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Self> {
        check(cells)?;
        let n = x.n_genes();
        let mut values = Array2::zeros((n, n));
        let rows = values.as_slice_mut().unwrap_or_default();
        cx.parallel_chunks(rows, n, |gene, row| {
            // The loop cannot return an error; what it left out does not matter after Ctrl-C.
            if !cx.is_cancelled() {
                write(gene, row);
            }
        });
        cx.check()?;
        Ok(Self { genes: Genes::of(cells), values })
    }

    /// The row of a gene, shape (genes).
    pub fn of_gene(&self, gene: u32) -> ArrayView1<'_, f32> {
        self.values.row(gene as usize)
    }

    /// As part of a saved model.
    pub fn save(&self) -> Saved {
        let n = self.genes.len();
        self.genes.save().tensor("pairs", &[n, n], self.values.as_slice().unwrap_or_default())
    }

    /// From a saved model.
    pub fn load(saved: &Saved) -> Result<Self> {
        let genes = Genes::load(saved)?;
        let shape = (genes.len(), genes.len());
        let values = saved.get_tensor("pairs", &[shape.0, shape.1])?.to_vec();
        Ok(Self { genes, values: Array2::from_shape_vec(shape, values)? })
    }
}

fn check(cells: &Cells<'_>) -> Result<()> {
    let (n, genes) = (cells.len(), cells.n_genes());
    if n < 2 || genes == 0 {
        let message = format!("expected at least 2 training cells and 1 gene, found {n} and {genes}");
        return Err(Error::data(message));
    }
    if genes > MOST_GENES {
        return Err(Error::data(format!(
            "expected at most {MOST_GENES} genes, since a number is kept for each pair of them, found {genes}; choose \
             genes in a step `prepare`: genes = {{ highly_variable = 2000 }}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    fn learn(owned: &OwnedCells) -> Result<GenePairs> {
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let write = |gene: usize, row: &mut [f32]| row[0] = gene as f32;
        GenePairs::learn(&cells, &LogExpression::of(&cells), &testing::context(1), write)
    }

    #[test]
    fn rows_are_learned_saved_and_loaded() {
        let pairs = learn(&testing::cells(&[&[1.0, 0.0], &[1.0, 2.0]])).unwrap();
        assert_eq!(pairs.of_gene(1).to_vec(), [1.0, 0.0]);
        let bytes = pairs.save().to_bytes().unwrap();
        let loaded = GenePairs::load(&Saved::from_bytes(&bytes).unwrap()).unwrap();
        assert_eq!((&loaded.genes, &loaded.values), (&pairs.genes, &pairs.values));
    }

    #[test]
    fn too_few_cells_and_too_many_genes_are_errors() {
        let one = learn(&testing::cells(&[&[1.0, 2.0]])).unwrap_err();
        assert_eq!(one, Error::data("expected at least 2 training cells and 1 gene, found 1 and 2"));
        let wide = vec![1.0; MOST_GENES + 1];
        let Error::Data(message) = learn(&testing::cells(&[&wide, &wide])).unwrap_err() else { panic!() };
        assert!(
            message.starts_with("expected at most 3000 genes") && message.contains("found 3001"),
            "{message}"
        );
    }
}
