//! `all-down`

use crate::outer::{EFFECTS, Outer};
use lacuna_sdk::prelude::*;

/// Every other gene falls by the same, whatever is lost: a score of -1.0. Where the loss of one gene makes room for all
/// others, a constant direction is right more often than not; it has no value where effects are centred or ranked.
pub struct AllDown;

impl Component for AllDown {
    const ID: &'static str = "all-down";
    const DOC: &'static str = "Every other gene falls, whatever is lost";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for AllDown {
    type Fitted = Outer;
    const INFO: ModelInfo = ModelInfo { source: "a constant direction", ..EFFECTS };

    fn fit(&self, training: &Training<'_>, _cx: &Context) -> Result<Outer> {
        let n = training.cells.n_genes();
        Outer::new(&training.cells, vec![-1.0; n], vec![1.0; n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    #[test]
    fn all_others_score_the_same() {
        let cells = testing::cells(&[&[1.0, 2.0, 3.0]]);
        let fitted = testing::fit(&AllDown, &cells).unwrap();
        let found = testing::predict(&fitted, &cells, &testing::population(&[&[1]])).unwrap();
        assert_eq!(found.row(0).to_vec(), [-1.0, 0.0, -1.0]);
    }
}
