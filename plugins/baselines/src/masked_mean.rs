//! `masked-mean`

use crate::BASELINE;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::Genes;

/// The mean share of each gene over the training cells that express it, restricted to the genes that the cell
/// still expresses, closed: the fair no-skill predictor for a model that masks by the assemblage.
///
/// Over the cells that express the gene, as in the reference prototype: a mean over all cells would mix how much
/// of a gene there is with how often there is any, and the assemblage already says whether there is. Genes that
/// no training cell expresses get no share, or equal shares if the cell expresses no other.
pub struct MaskedMean;

impl Component for MaskedMean {
    const ID: &'static str = "masked-mean";
    const DOC: &'static str =
        "The mean training profile (over the cells that express a gene), restricted to the cell's assemblage";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for MaskedMean {
    type Fitted = MeanShares;
    const INFO: ModelInfo = ModelInfo {
        source: "no-skill predictor for the head of DKO, arXiv:2510.03359",
        fused: &["bray-curtis", "euclidean", "mae"],
        ..BASELINE
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<MeanShares> {
        let genes = Genes::of(&training.cells)?;
        Ok(MeanShares { genes, mean: mean_where_expressed(&training.cells, cx)? })
    }
}

/// The mean share of each gene over the cells that express it, shape (genes); 0 where none does.
pub fn mean_where_expressed(cells: &Cells<'_>, cx: &Context) -> Result<Vec<f32>> {
    let mut sums = vec![(0.0, 0.0); cells.n_genes()];
    for cell in 0..cells.len() {
        cx.check()?;
        for (&gene, share) in cells.assemblage(cell).iter().zip(cells.shares(cell)) {
            let (sum, n) = &mut sums[gene as usize];
            *sum += f64::from(share);
            *n += 1.0;
        }
    }
    Ok(sums.into_iter().map(|(sum, n): (f64, f64)| (sum / n.max(1.0)) as f32).collect())
}

/// The mean shares of the genes where they are expressed.
pub struct MeanShares {
    genes: Genes,
    mean: Vec<f32>,
}

impl Fitted for MeanShares {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.genes.answer(query, answer, cx, |asked, row| {
            asked.write_masked(row, |gene| self.mean[gene].into());
        })
    }

    /// Against the null prediction the impact is 0 by construction: closing again is all that this model does. Said
    /// here, since rounding would leave a noise that a rank correlation takes for an answer.
    fn screen(&self, screen: &Screen<'_>, impacts: &mut [f32], cx: &Context) -> Result<bool> {
        self.genes.check(&screen.cells)?;
        if screen.against != "predicted-null" || screen.anchor.is_some() {
            return Ok(false);
        }
        for knockout in screen.knockouts.iter() {
            cx.check()?;
            let left = |gene: &u32| !knockout.genes.contains(gene) && self.mean[*gene as usize] > 0.0;
            let cell = knockout.cell.filter(|&cell| cell < screen.cells.len());
            if !cell.is_some_and(|cell| screen.cells.assemblage(cell).iter().any(left)) {
                return Ok(false);
            }
        }
        impacts.fill(0.0);
        Ok(true)
    }

    fn save(&self) -> Result<Vec<u8>> {
        self.genes.save().tensor("mean", &[self.genes.len()], &self.mean).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let mean = saved.get_tensor("mean", &[genes.len()])?.to_vec();
        Ok(Self { genes, mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cells, holds_for_a_baseline, knockouts, predict};
    use lacuna_sdk::testing;

    #[test]
    fn holds_what_every_baseline_holds() {
        holds_for_a_baseline(&MaskedMean, true, false);
    }

    #[test]
    fn means_are_over_the_cells_that_express_the_gene() {
        // Shares .5 0 .5 0 and .25 .75 0 0: means .375, .75, .5 and nothing for the last gene.
        let train = cells(&[&[1.0, 0.0, 1.0, 0.0], &[1.0, 3.0, 0.0, 0.0]]);
        let query = cells(&[&[9.0, 0.0, 1.0, 1.0], &[0.0, 0.0, 0.0, 5.0], &[0.0; 4]]);
        let list = knockouts(&[(0, &[]), (0, &[0]), (0, &[1]), (0, &[0, 2]), (1, &[]), (1, &[3]), (2, &[])]);
        let (whole, third) = (0.375f32 / 0.875, 0.5f32 / 0.875);
        let expected = [
            [whole, 0.0, third, 0.0],
            [0.0, 0.0, 1.0, 0.0],
            [whole, 0.0, third, 0.0],
            [0.0, 0.0, 0.0, 1.0], // nothing known: equal shares
            [0.0, 0.0, 0.0, 1.0],
            [0.0; 4],
            [0.0; 4],
        ];
        let rows = predict(&MaskedMean, &train, &query, &list).unwrap();
        for (row, expected) in rows.iter().flatten().zip(expected.iter().flatten()) {
            assert!((row - expected).abs() < 1e-7, "{rows:?}");
        }
    }

    /// Answers of a model that needs nothing but what `rows` of the SDK gives.
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
