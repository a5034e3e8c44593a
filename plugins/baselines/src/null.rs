//! `null`

use crate::BASELINE;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::{Genes, close};

/// The null profile: the observed profile without the knocked-out genes, closed again; what a knockout without
/// consequence would leave.
pub struct Null;

impl Component for Null {
    const ID: &'static str = "null";
    const DOC: &'static str = "The observed profile without the knocked-out genes, closed again";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for Null {
    type Fitted = ClosedAgain;
    const INFO: ModelInfo =
        ModelInfo { sees_expression: true, source: "the null profile p∖g of DKI and DKO", ..BASELINE };

    fn fit(&self, training: &Training<'_>, _cx: &Context) -> Result<ClosedAgain> {
        Ok(ClosedAgain(Genes::of(&training.cells)?))
    }
}

/// `null` has nothing to learn.
pub struct ClosedAgain(Genes);

impl Fitted for ClosedAgain {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.0.answer(query, answer, cx, |asked, row| {
            asked.cells.write_profile(asked.cell, row);
            asked.silence(row);
            close(row, asked.assemblage().iter().map(|&gene| gene as usize));
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        self.0.save().to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self(Genes::load(&Saved::from_bytes(bytes)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{cells, holds_for_a_baseline, knockouts, predict};

    #[test]
    fn holds_what_every_baseline_holds() {
        holds_for_a_baseline(&Null, true, false);
    }

    #[test]
    fn the_others_share_what_is_lost_and_an_only_gene_leaves_nothing() {
        let query = cells(&[&[2.0, 0.0, 1.0, 1.0], &[0.0, 3.0, 0.0, 0.0]]);
        let rows = predict(&Null, &query, &query, &knockouts(&[(0, &[]), (0, &[0]), (1, &[1])]));
        assert_eq!(rows.unwrap(), [[0.5, 0.0, 0.25, 0.25], [0.0, 0.0, 0.5, 0.5], [0.0; 4]]);
    }
}
