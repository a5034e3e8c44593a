//! What all estimators learn: a score of each gene for the loss of each gene.

use lacuna_sdk::arrow::RecordBatch;
use lacuna_sdk::ndarray::{Array2, ArrayView1, aview1};
use lacuna_sdk::prelude::*;
use lacuna_sdk::{chosen_table, serde_json};

/// With more genes than these, a score for each pair of them takes more than 400 MB.
const MOST_GENES: usize = 10_000;

/// What every estimator declares; each adds where it comes from.
pub const ESTIMATOR: ModelInfo =
    ModelInfo { answers: Answers::GeneScores, scale: Scale::Log1pCp10k, ..ModelInfo::PROFILES };

/// The score of each gene for the loss of each gene: above 0 where it is expected to rise. A loss of several
/// genes scores the sum of theirs; genes that are lost score 0. Scores are about the population: the same in
/// every cell.
#[derive(Debug, PartialEq)]
pub struct Scores {
    genes: Vec<String>,
    /// Lost gene × gene.
    values: Array2<f32>,
    /// The parameter that the fit may choose itself, and the value that it used.
    chosen: Option<(String, serde_json::Value)>,
}

impl Scores {
    /// Refuses cells that nothing can be learned from.
    pub fn check(cells: &Cells<'_>) -> Result<()> {
        let (n, genes) = (cells.len(), cells.n_genes());
        if n < 2 || genes == 0 {
            let message = format!("expected at least 2 training cells and 1 gene, found {n} and {genes}");
            return Err(Error::data(message));
        }
        if genes > MOST_GENES {
            return Err(Error::data(format!(
                "expected at most {MOST_GENES} genes, since a score is kept for each pair of them, found {genes}; \
                 choose genes in a step `prepare`: genes = {{ highly_variable = 2000 }}"
            )));
        }
        Ok(())
    }

    /// Learns from cells: `write` fills the scores for the loss of one gene, shape (genes), on any thread.
    /// What is no finite number scores 0, and so does the lost gene itself.
    pub fn learn(cells: &Cells<'_>, cx: &Context, write: impl Fn(usize, &mut [f64]) + Sync) -> Result<Self> {
        Self::check(cells)?;
        let n = cells.n_genes();
        let mut values = vec![0.0f32; n * n];
        cx.parallel_chunks(&mut values, n, |gene, row| {
            // The loop cannot return an error; what it left out does not matter after Ctrl-C.
            if cx.is_cancelled() {
                return;
            }
            let mut scores = vec![0.0; n];
            write(gene, &mut scores);
            scores[gene] = 0.0;
            let finite = |score: f64| if (score as f32).is_finite() { score as f32 } else { 0.0 };
            row.iter_mut().zip(scores).for_each(|(out, score)| *out = finite(score));
        });
        cx.check()?;
        let values = Array2::from_shape_vec((n, n), values)?;
        Ok(Self { genes: cells.gene_names(), values, chosen: None })
    }

    /// The same of a fit that may choose this parameter itself, with the value that it used.
    pub fn with_chosen(self, parameter: &str, value: &impl Param) -> Self {
        Self { chosen: Some((parameter.into(), value.to_json())), ..self }
    }

    /// The name of a gene.
    pub fn name(&self, gene: u32) -> &str {
        self.genes.get(gene as usize).map_or("", String::as_str)
    }

    /// The scores for the loss of a gene, shape (genes).
    pub fn of_gene(&self, gene: u32) -> ArrayView1<'_, f32> {
        self.values.row(gene as usize)
    }

    /// As part of a saved model.
    pub fn saved(&self) -> Saved {
        let (n, values) = (self.genes.len(), self.values.as_slice().unwrap_or(&[]));
        let saved = Saved::new().names("genes", &self.genes).tensor("scores", &[n, n], values);
        saved.text("chosen", serde_json::json!(self.chosen).to_string())
    }

    /// From a saved model.
    pub fn from_saved(saved: &Saved) -> Result<Self> {
        let genes = saved.get_names("genes")?;
        let n = genes.len();
        let values = saved.get_tensor("scores", &[n, n])?.to_vec();
        let chosen = serde_json::from_str(saved.get_text("chosen")?)?;
        Ok(Self { genes, values: Array2::from_shape_vec((n, n), values)?, chosen })
    }

    fn write(&self, knockout: &Knockout<'_>, row: &mut [f32]) -> Result<(), String> {
        let n = self.genes.len();
        row.fill(0.0);
        for (&gene, &level) in knockout.genes.iter().zip(knockout.levels) {
            if gene as usize >= n {
                return Err(format!("expected a gene below {n}, found gene {gene}"));
            }
            if level != 0.0 {
                let name = &self.genes[gene as usize];
                return Err(format!("expected level 0, found level {level} of {name}"));
            }
            row.iter_mut().zip(self.of_gene(gene)).for_each(|(sum, score)| *sum += score);
        }
        knockout.genes.iter().for_each(|&gene| row[gene as usize] = 0.0);
        Ok(())
    }

    fn check_genes(&self, cells: &Cells<'_>) -> Result<()> {
        let (expected, found) = (self.genes.len(), cells.n_genes());
        if expected != found {
            return Err(Error::data(format!("expected the {expected} genes of the fit, found {found}")));
        }
        match (0..found).find(|&j| cells.gene_name(j) != self.genes[j]) {
            None => Ok(()),
            Some(j) => {
                let (expected, found) = (&self.genes[j], cells.gene_name(j));
                Err(Error::data(format!("gene {j}: expected `{expected}`, as in the fit, found `{found}`")))
            }
        }
    }
}

impl Fitted for Scores {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.check_genes(&query.cells)?;
        // No estimator knows its own error: there is no spread, and samples are equal.
        answer.spread.iter_mut().for_each(|spread| spread.fill(f32::NAN));
        let mut row = vec![0.0; self.genes.len()];
        let mut rows = answer.values.rows_mut().into_iter();
        for (i, knockout) in query.knockouts.iter().enumerate() {
            cx.check()?;
            self.write(&knockout, &mut row).map_err(|e| Error::data(format!("knockout {i}: {e}")))?;
            rows.by_ref().take(query.samples).for_each(|mut sample| sample.assign(&aview1(&row)));
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>> {
        self.saved().to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Self::from_saved(&Saved::from_bytes(bytes)?)
    }

    fn tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        let chosen = self.chosen.iter().map(|(name, value)| chosen_table(&[(name, value.clone())]));
        chosen.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    fn learn(owned: &OwnedCells) -> Result<Scores> {
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        Scores::learn(&cells, &testing::context(1), |gene, row| {
            row.iter_mut().enumerate().for_each(|(j, score)| *score = (10 * gene + j) as f64);
            row[2] = f64::NAN;
        })
    }

    fn three() -> OwnedCells {
        testing::cells(&[&[1.0, 0.0, 2.0], &[1.0, 2.0, 0.0]])
    }

    fn ask(lost: &[&[u32]]) -> Result<Array2<f32>> {
        testing::predict(&learn(&three()).unwrap(), &three(), &testing::population(lost))
    }

    #[test]
    fn losses_add_up_and_the_lost_score_nothing() {
        let found = ask(&[&[], &[0], &[1], &[0, 1]]).unwrap();
        let expected = [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [10.0, 0.0, 0.0], [0.0, 0.0, 0.0]];
        assert_eq!(found.rows().into_iter().map(|row| row.to_vec()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_saved_model_is_the_same_and_a_cut_one_is_refused() {
        let scores = learn(&three()).unwrap();
        let bytes = scores.save().unwrap();
        assert_eq!(Scores::load(&bytes).unwrap(), scores);
        assert!((0..bytes.len()).step_by(7).all(|n| Scores::load(&bytes[..n]).is_err()));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(ask(&[&[0], &[3]]), Err(Error::data("knockout 1: expected a gene below 3, found gene 3")));
        let one = learn(&testing::cells(&[&[1.0, 2.0]])).unwrap_err();
        assert_eq!(one, Error::data("expected at least 2 training cells and 1 gene, found 1 and 2"));
        let (fitted, two) = (learn(&three()).unwrap(), testing::cells(&[&[1.0, 1.0]]));
        let other = testing::predict(&fitted, &two, &testing::population(&[&[0]])).unwrap_err();
        assert_eq!(other, Error::data("expected the 3 genes of the fit, found 2"));
        let mut list = KnockoutList::new();
        list.push_levels(0, &[(1, 0.5)]);
        let level = testing::predict(&fitted, &three(), &list).unwrap_err();
        assert_eq!(level, Error::data("knockout 0: expected level 0, found level 0.5 of g1"));
    }
}
