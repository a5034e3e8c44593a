//! `mean`

use crate::BASELINE;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::{Genes, close};

/// The mean profile of the training cells, the same for every cell, whatever it expresses; without the
/// knocked-out genes, closed again. Training cells without any expression have no profile and do not count.
pub struct Mean;

impl Component for Mean {
    const ID: &'static str = "mean";
    const DOC: &'static str = "The mean training profile, the same for every cell";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for Mean {
    type Fitted = MeanProfile;
    const INFO: ModelInfo = ModelInfo { source: "Ahlmann-Eltze & Huber, Nature Methods 2025", ..BASELINE };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<MeanProfile> {
        let cells = &training.cells;
        let genes = Genes::of(cells)?;
        let (mut sum, mut n) = (vec![0.0; genes.len()], 0.0);
        for cell in (0..cells.len()).filter(|&cell| !cells.assemblage(cell).is_empty()) {
            cx.check()?;
            n += 1.0;
            let shares = cells.assemblage(cell).iter().zip(cells.shares(cell));
            shares.for_each(|(&gene, share)| sum[gene as usize] += f64::from(share));
        }
        Ok(MeanProfile { genes, mean: sum.into_iter().map(|s: f64| (s / n) as f32).collect() })
    }
}

/// The mean training profile.
pub struct MeanProfile {
    genes: Genes,
    mean: Vec<f32>,
}

impl Fitted for MeanProfile {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.genes.answer(query, answer, cx, |asked, row| {
            row.copy_from_slice(&self.mean);
            asked.silence(row);
            close(row, 0..self.mean.len());
        })
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

    #[test]
    fn holds_what_every_baseline_holds() {
        holds_for_a_baseline(&Mean, false, false);
    }

    #[test]
    fn every_cell_gets_the_mean_profile() {
        let train = cells(&[&[1.0, 0.0, 1.0], &[0.0, 0.0, 0.0], &[0.0, 0.0, 8.0]]);
        let query = cells(&[&[0.0, 1.0, 0.0], &[0.0, 0.0, 0.0]]);
        let rows = predict(&Mean, &train, &query, &knockouts(&[(0, &[]), (1, &[]), (0, &[2])]));
        assert_eq!(rows.unwrap(), [[0.25, 0.0, 0.75], [0.25, 0.0, 0.75], [1.0, 0.0, 0.0]]);
    }
}
