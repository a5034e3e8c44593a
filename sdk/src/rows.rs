//! For models that answer with a profile for each knockout in a cell, one after the other, and know no uncertainty: the
//! genes of the fit, the rows of an answer, and closing.

use crate::prelude::*;

/// The genes that a model was fitted to.
#[derive(Debug, PartialEq)]
pub struct Genes(Vec<String>);

/// One row that is asked for: a cell, and the genes that are knocked out in it.
pub struct Asked<'a> {
    /// The cells that are asked about.
    pub cells: Cells<'a>,
    /// Which of them.
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
    #[allow(clippy::len_without_is_empty)] // There is one at least.
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

    /// Lets `write` fill the row of each knockout, after checking it; what it does not write is as the row before left it.
    /// All samples of a row are equal, and its spread is NaN, no value.
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
            let source = crate::ndarray::aview1(&row);
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

    /// The genes that the cell expresses after the knockout, ascending.
    pub fn kept(&self) -> impl Iterator<Item = usize> {
        let mut lost = self.lost.iter().peekable();
        self.assemblage().iter().filter_map(move |gene| {
            while lost.next_if(|lost| *lost < gene).is_some() {}
            (lost.peek() != Some(&gene)).then_some(*gene as usize)
        })
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
    use crate::testing;

    #[test]
    fn what_is_kept_is_the_assemblage_without_what_is_lost() {
        let owned = testing::cells(&[&[0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]]);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let kept = |lost: &[u32]| Asked { cells, cell: 0, lost }.kept().collect::<Vec<_>>();
        assert_eq!(kept(&[]), [1, 3, 4, 7]);
        assert_eq!(kept(&[0, 1, 1, 2, 4, 5, 9]), [3, 7]);
        assert_eq!(kept(&[7]), [1, 3, 4]);
    }
}
