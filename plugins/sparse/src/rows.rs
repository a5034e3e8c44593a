//! What both models share: the genes of a fit, the rows of an answer, and closing.

use lacuna_sdk::prelude::*;

/// The genes that a model was fitted to.
#[derive(Debug, PartialEq)]
pub struct Genes(Vec<String>);

/// One row that is asked for: a cell, and the genes that are knocked out in it.
pub struct Asked<'a> {
    pub cell: usize,
    /// What the cell expresses before the knockout, ascending.
    pub assemblage: &'a [u32],
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
        let (expected, found) = (self.len(), cells.n_genes());
        Err(Error::data(format!("expected cells with the {expected} genes of the fit, found {found} genes")))
    }

    /// Lets `write` fill the row of each knockout, which is all 0, after checking it. These models know no
    /// uncertainty: all samples of a row are equal, and its spread is NaN, no value.
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
            row.fill(0.0);
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
            None => Ok(Asked { cell, assemblage: cells.assemblage(cell), lost }),
            Some((&gene, level)) => {
                Err(format!("expected level 0, found level {level} of {}", self.0[gene as usize]))
            }
        }
    }
}

impl Asked<'_> {
    /// The lost genes that the cell expressed, each once.
    pub fn lost_expressed(&self) -> impl Iterator<Item = usize> {
        let lost = self.lost.chunk_by(|a, b| a == b).map(|same| same[0]);
        lost.filter(|gene| self.assemblage.binary_search(gene).is_ok()).map(|gene| gene as usize)
    }

    /// The genes that the cell expresses after the knockout.
    pub fn kept(&self) -> impl Iterator<Item = usize> {
        let mut lost = self.lost.iter().peekable();
        self.assemblage.iter().filter_map(move |gene| {
            while lost.next_if(|lost| *lost < gene).is_some() {}
            (lost.peek() != Some(&gene)).then_some(*gene as usize)
        })
    }

    /// Writes the level of each gene that the cell still expresses, closed; what is below 0 counts as 0.
    /// Where all of them are 0, as for genes that no training cell knows, they get equal shares.
    pub fn write_closed(&self, row: &mut [f32], level: impl Fn(usize) -> f64) {
        let total: f64 = self.kept().map(|gene| level(gene).max(0.0)).sum();
        let even = 1.0 / self.kept().count().max(1) as f64;
        let share = |gene| if total > 0.0 { level(gene).max(0.0) / total } else { even };
        self.kept().for_each(|gene| row[gene] = share(gene) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ask, cells, fit, knockouts};
    use crate::sparse::{Sparse, SparseConfig};

    #[test]
    fn a_question_outside_the_cells_is_an_error_not_a_panic() {
        let one = cells(&[&[1.0, 1.0, 2.0]]);
        let fitted = fit(&Sparse(SparseConfig::default()), &one).unwrap();
        let error = |message: &str| Err(Error::data(message));
        let ask_one = |list: &[(usize, &[u32])]| ask(&fitted, &one, &knockouts(list));
        assert_eq!(
            ask_one(&[(0, &[]), (1, &[])]),
            error("knockout 1: expected a cell below 1, found cell 1")
        );
        assert_eq!(ask_one(&[(0, &[3])]), error("knockout 0: expected a gene below 3, found gene 3"));
        let other = ask(&fitted, &cells(&[&[1.0]]), &knockouts(&[]));
        assert_eq!(other, error("expected cells with the 3 genes of the fit, found 1 genes"));
        let silent = fit(&Sparse(SparseConfig::default()), &cells(&[&[0.0; 3]]));
        let message = "expected training cells that express genes, found none among 1";
        assert_eq!(silent.err(), Some(Error::data(message)));
    }

    #[test]
    fn what_is_kept_is_the_assemblage_without_what_is_lost() {
        let kept =
            |lost: &[u32]| Asked { cell: 0, assemblage: &[1, 3, 4, 7], lost }.kept().collect::<Vec<_>>();
        assert_eq!(kept(&[]), [1, 3, 4, 7]);
        assert_eq!(kept(&[0, 1, 1, 2, 4, 5, 9]), [3, 7]);
        assert_eq!(kept(&[7]), [1, 3, 4]);
    }
}
