//! The genes that a model was fitted to, and the rows of its answers.

use lacuna_sdk::ndarray::aview1;
use lacuna_sdk::prelude::*;

/// The genes that a model was fitted to.
#[derive(Debug, Clone, PartialEq)]
pub struct Genes(Vec<String>);

impl Genes {
    /// The genes of some cells.
    pub fn of(cells: &Cells<'_>) -> Self {
        Self(cells.gene_names())
    }

    /// The genes of a saved model.
    pub fn load(saved: &Saved) -> Result<Self> {
        Ok(Self(saved.get_names("genes")?))
    }

    /// A saved model with these genes, and nothing else yet.
    pub fn save(&self) -> Saved {
        Saved::new().names("genes", &self.0)
    }

    /// Number of genes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The name of a gene.
    pub fn name(&self, gene: u32) -> &str {
        &self.0[gene as usize]
    }

    /// The gene of a name.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.0.iter().position(|gene| gene == name).map(|gene| gene as u32)
    }

    /// Lets `write` fill the row of each knockout: its values and their spread, shape (genes) each, which come as 0
    /// and NaN. Samples of a knockout are equal. Refuses cells and knockouts of other genes than those of the fit.
    pub fn answer(
        &self,
        query: &Query<'_>,
        answer: &mut AnswerMut<'_>,
        cx: &Context,
        mut write: impl FnMut(&Knockout<'_>, &mut [f32], &mut [f32]) -> Result<(), String>,
    ) -> Result<()> {
        self.check(&query.cells)?;
        let (mut values, mut spread) = (vec![0.0; self.len()], vec![f32::NAN; self.len()]);
        for (i, knockout) in query.knockouts.iter().enumerate() {
            cx.check()?;
            values.fill(0.0);
            spread.fill(f32::NAN);
            let written = self.knows(&knockout).and_then(|()| write(&knockout, &mut values, &mut spread));
            written.map_err(|e| Error::data(format!("knockout {i}: {e}")))?;
            for row in i * query.samples..(i + 1) * query.samples {
                answer.values.row_mut(row).assign(&aview1(&values));
                answer.spread.iter_mut().for_each(|all| all.row_mut(row).assign(&aview1(&spread)));
            }
        }
        Ok(())
    }

    fn check(&self, cells: &Cells<'_>) -> Result<()> {
        let (expected, found) = (self.len(), cells.n_genes());
        if expected != found {
            return Err(Error::data(format!("expected the {expected} genes of the fit, found {found}")));
        }
        match (0..found).find(|&j| cells.gene_name(j) != self.0[j]) {
            None => Ok(()),
            Some(j) => {
                let (expected, found) = (&self.0[j], cells.gene_name(j));
                Err(Error::data(format!("gene {j}: expected `{expected}`, as in the fit, found `{found}`")))
            }
        }
    }

    fn knows(&self, knockout: &Knockout<'_>) -> Result<(), String> {
        match knockout.genes.iter().find(|&&gene| gene as usize >= self.len()) {
            None => Ok(()),
            Some(gene) => Err(format!("expected a gene below {}, found gene {gene}", self.len())),
        }
    }
}

/// Refuses a knockout whose genes are not removed altogether.
pub fn removed_altogether(knockout: &Knockout<'_>) -> Result<(), String> {
    match knockout.levels.iter().find(|level| **level != 0.0) {
        None => Ok(()),
        Some(level) => Err(format!("expected level 0, found level {level}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::ndarray::{Array2, array};
    use lacuna_sdk::testing;

    /// Asks about two knockouts of cells with these genes, two samples each.
    fn ask(names: &[&str], lost: u32) -> Result<(Array2<f32>, Array2<f32>)> {
        let genes = Genes(["A", "B"].map(String::from).to_vec());
        let mut cells = OwnedCells::new(names.iter().map(|name| name.to_string()).collect());
        cells.push("c0", &vec![1.0; names.len()]);
        let (view, list) = (cells.to_view(), testing::population(&[&[], &[lost]]));
        let mut query = testing::query(Cells::from_view(&view), list.as_knockouts());
        query.samples = 2;
        let (mut values, mut spread) = (Array2::zeros((4, names.len())), Array2::zeros((4, names.len())));
        let mut answer = testing::answer(values.view_mut());
        answer.spread = Some(spread.view_mut());
        genes.answer(&query, &mut answer, &testing::context(1), |knockout, values, spread| {
            values[0] += 5.0;
            spread[1] = knockout.genes.len() as f32;
            Ok(())
        })?;
        Ok((values, spread))
    }

    #[test]
    fn each_row_begins_anew_and_samples_are_equal() {
        let (values, spread) = ask(&["A", "B"], 1).unwrap();
        assert_eq!(values, array![[5.0, 0.0], [5.0, 0.0], [5.0, 0.0], [5.0, 0.0]]);
        assert!(spread.column(0).iter().all(|s| s.is_nan()));
        assert_eq!(spread.column(1), array![0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn other_genes_are_refused() {
        let error = |names: &[&str], lost| ask(names, lost).unwrap_err();
        assert_eq!(error(&["A"], 0), Error::data("expected the 2 genes of the fit, found 1"));
        let renamed = "gene 1: expected `B`, as in the fit, found `C`";
        assert_eq!(error(&["A", "C"], 0), Error::data(renamed));
        assert_eq!(error(&["A", "B"], 2), Error::data("knockout 1: expected a gene below 2, found gene 2"));
    }
}
