//! `no-change`

use crate::BASELINE;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::Genes;

/// The observed profile. A knocked-out gene falls silent and every other share stays as it was, so that the row
/// is not closed: what is missing to 1 is the removed share, and it is all the impact that this baseline sees.
pub struct NoChange;

impl Component for NoChange {
    const ID: &'static str = "no-change";
    const DOC: &'static str =
        "The observed profile; a knockout only silences its genes, no other share changes";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for NoChange {
    type Fitted = Observed;
    const INFO: ModelInfo = ModelInfo { sees_expression: true, source: "after = before", ..BASELINE };

    fn fit(&self, training: &Training<'_>, _cx: &Context) -> Result<Observed> {
        Ok(Observed(Genes::of(&training.cells)?))
    }
}

/// `no-change` has nothing to learn.
pub struct Observed(Genes);

impl Fitted for Observed {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.0.answer(query, answer, cx, |asked, row| {
            asked.cells.write_profile(asked.cell, row);
            asked.silence(row);
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
        holds_for_a_baseline(&NoChange, true, true);
    }

    #[test]
    fn only_the_lost_share_goes() {
        let query = cells(&[&[2.0, 0.0, 1.0, 1.0]]);
        let rows = predict(&NoChange, &query, &query, &knockouts(&[(0, &[]), (0, &[0]), (0, &[1, 2])]));
        assert_eq!(rows.unwrap(), [[0.5, 0.0, 0.25, 0.25], [0.0, 0.0, 0.25, 0.25], [0.5, 0.0, 0.0, 0.25]]);
    }
}
