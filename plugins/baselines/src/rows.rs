//! What all baselines share: the genes that they were fitted to, the rows of an answer, and closing.

use lacuna_sdk::prelude::*;

/// What a baseline declares; each adds what it uses.
pub const BASELINE: ModelInfo = ModelInfo { baseline: true, ..ModelInfo::PROFILES };

/// The genes that a baseline was fitted to.
#[derive(Debug, PartialEq)]
pub struct Genes(Vec<String>);

/// One row that is asked for: a cell, and the genes that are knocked out in it.
pub struct Asked<'a> {
    pub cells: Cells<'a>,
    pub cell: usize,
    /// Ascending; not necessarily expressed.
    pub lost: &'a [u32],
}

impl Genes {
    /// The genes of the training cells, of which at least one must express something.
    pub fn of(cells: &Cells<'_>) -> Result<Self> {
        if (0..cells.len()).all(|cell| cells.assemblage(cell).is_empty()) {
            let message =
                format!("expected training cells that express genes, found none among {}", cells.len());
            return Err(Error::data(message));
        }
        Ok(Self(cells.gene_names()))
    }

    /// Number of genes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A saved model with these genes, and nothing else yet.
    pub fn save(&self) -> Saved {
        Saved::new().names("genes", &self.0)
    }

    /// The genes of a saved model.
    pub fn load(saved: &Saved) -> Result<Self> {
        Ok(Self(saved.get_names("genes")?))
    }

    /// Refuses cells with other genes.
    pub fn check(&self, cells: &Cells<'_>) -> Result<()> {
        if cells.n_genes() == self.len() {
            return Ok(());
        }
        let message = format!(
            "expected cells with the {} genes of the fit, found {} genes",
            self.len(),
            cells.n_genes()
        );
        Err(Error::data(message))
    }

    /// Lets `write` fill the row of each knockout, after checking it. These predictors know no uncertainty:
    /// all samples of a row are equal, and its spread is NaN, no value.
    pub fn answer<'a>(
        &self,
        query: &Query<'a>,
        answer: &mut AnswerMut<'_>,
        cx: &Context,
        mut write: impl FnMut(&Asked<'a>, &mut [f32]),
    ) -> Result<()> {
        self.check(&query.cells)?;
        if let Some(spread) = &mut answer.spread {
            spread.fill(f32::NAN);
        }
        let mut row = vec![0.0; self.len()];
        let mut rows = answer.values.rows_mut().into_iter();
        for (i, knockout) in query.knockouts.iter().enumerate() {
            cx.check()?;
            let asked =
                self.asked(query, &knockout).map_err(|e| Error::data(format!("knockout {i}: {e}")))?;
            write(&asked, &mut row);
            let source = lacuna_sdk::ndarray::aview1(&row);
            rows.by_ref().take(query.samples).for_each(|mut sample| sample.assign(&source));
        }
        Ok(())
    }

    fn asked<'a>(&self, query: &Query<'a>, knockout: &Knockout<'a>) -> Result<Asked<'a>, String> {
        let (cells, lost) = (query.cells, knockout.genes);
        let cell = knockout.cell.ok_or("expected a cell, found the population")?;
        if cell >= cells.len() {
            return Err(format!("expected a cell below {}, found cell {cell}", cells.len()));
        }
        if let Some(gene) = lost.iter().find(|&&gene| gene as usize >= self.len()) {
            return Err(format!("expected a gene below {}, found gene {gene}", self.len()));
        }
        match lost.iter().zip(knockout.levels).find(|(_, level)| **level != 0.0) {
            None => Ok(Asked { cells, cell, lost }),
            Some((&gene, level)) => {
                Err(format!("expected level 0, found level {level} of {}", self.0[gene as usize]))
            }
        }
    }
}

impl<'a> Asked<'a> {
    /// The genes that the cell expresses before the knockout, ascending.
    pub fn assemblage(&self) -> &'a [u32] {
        self.cells.assemblage(self.cell)
    }

    /// Whether the cell expresses the gene before the knockout.
    pub fn expresses(&self, gene: u32) -> bool {
        self.assemblage().binary_search(&gene).is_ok()
    }

    /// The lost genes that the cell expressed, each once.
    pub fn lost_expressed(&self) -> impl Iterator<Item = u32> {
        let lost = self.lost.chunk_by(|a, b| a == b).map(|same| same[0]);
        lost.filter(|&gene| self.expresses(gene))
    }

    /// Silences the lost genes.
    pub fn silence(&self, row: &mut [f32]) {
        self.lost.iter().for_each(|&gene| row[gene as usize] = 0.0);
    }

    /// Writes `share` of each gene that the cell still expresses, closed; what is below 0 counts as 0. Where all
    /// of them are 0, no training cell knows these genes: they get equal shares.
    pub fn write_masked(&self, row: &mut [f32], share: impl Fn(usize) -> f64) {
        row.fill(0.0);
        let genes = || self.assemblage().iter().map(|&gene| gene as usize);
        genes().for_each(|gene| row[gene] = share(gene).max(0.0) as f32);
        self.silence(row);
        if close(row, genes()) {
            return;
        }
        genes().for_each(|gene| row[gene] = 1.0);
        self.silence(row);
        close(row, genes());
    }
}

/// Divides the values of these genes by their sum; false, and nothing done, if that is 0.
pub fn close(row: &mut [f32], genes: impl Iterator<Item = usize> + Clone) -> bool {
    let total: f64 = genes.clone().map(|gene| f64::from(row[gene])).sum();
    if total > 0.0 {
        genes.for_each(|gene| row[gene] = (f64::from(row[gene]) / total) as f32);
    }
    total > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cells, knockouts, predict};
    use crate::masked_mean::MaskedMean;
    use lacuna_sdk::testing;

    /// Answers as `masked-mean`, which needs nothing but this module.
    fn ask(knocked: &[(usize, &[u32])]) -> Result<Vec<Vec<f32>>> {
        predict(&MaskedMean, &cells(&[&[1.0, 1.0, 2.0]]), &cells(&[&[1.0, 1.0, 1.0]]), &knockouts(knocked))
    }

    #[test]
    fn a_question_outside_the_cells_is_an_error_not_a_panic() {
        let error = |message: &str| Err(Error::data(message));
        assert_eq!(ask(&[(0, &[]), (1, &[])]), error("knockout 1: expected a cell below 1, found cell 1"));
        assert_eq!(ask(&[(0, &[3])]), error("knockout 0: expected a gene below 3, found gene 3"));
    }

    #[test]
    fn cells_with_other_genes_and_cells_without_expression_are_errors() {
        let two = predict(&MaskedMean, &cells(&[&[1.0, 1.0]]), &cells(&[&[1.0; 3]]), &knockouts(&[]));
        assert_eq!(two, Err(Error::data("expected cells with the 2 genes of the fit, found 3 genes")));
        let silent = predict(&MaskedMean, &cells(&[&[0.0; 3]]), &cells(&[&[1.0; 3]]), &knockouts(&[]));
        let message = "expected training cells that express genes, found none among 1";
        assert_eq!(silent, Err(Error::data(message)));
    }

    #[test]
    fn samples_are_equal_and_the_spread_has_no_value() {
        let (train, query, list) =
            (cells(&[&[1.0, 3.0]]), cells(&[&[1.0, 1.0]]), knockouts(&[(0, &[]), (0, &[1])]));
        let (train, view) = (train.to_view(), query.to_view());
        let cx = testing::context(1);
        let fitted = MaskedMean.fit(&testing::training(Cells::from_view(&train)), &cx).unwrap();
        let mut query = testing::query(Cells::from_view(&view), list.as_knockouts());
        query.samples = 2;
        let mut values = lacuna_sdk::ndarray::Array2::zeros((4, 2));
        let mut spread = values.clone();
        let mut answer = testing::answer(values.view_mut());
        answer.spread = Some(spread.view_mut());
        fitted.predict(&query, &mut answer, &cx).unwrap();
        assert_eq!(values.into_raw_vec_and_offset().0, [0.25, 0.75, 0.25, 0.75, 1.0, 0.0, 1.0, 0.0]);
        assert!(spread.iter().all(|s| s.is_nan()));
    }
}
