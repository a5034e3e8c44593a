//! `mean-expression`

use crate::log_expression::LogExpression;
use crate::outer::{EFFECTS, Outer};
use lacuna_sdk::prelude::*;

/// The mean of log(1 + 10,000 p) over the training cells, the same for every lost gene. It has no direction; but of which
/// genes are found to change it tells more than models do, since changes of well expressed genes are found more easily.
pub struct MeanExpression;

impl Component for MeanExpression {
    const ID: &'static str = "mean-expression";
    const DOC: &'static str = "Scores each gene by its mean expression, whatever is lost";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for MeanExpression {
    type Fitted = Outer;
    const INFO: ModelInfo = ModelInfo {
        source: "differential expression is found more easily for well expressed genes",
        ..EFFECTS
    };

    fn fit(&self, training: &Training<'_>, _cx: &Context) -> Result<Outer> {
        let cells = &training.cells;
        let gained = LogExpression::of(cells).mean().into_iter().map(|x| x as f32).collect();
        Outer::new(cells, vec![1.0; cells.n_genes()], gained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    #[test]
    fn scores_are_means_of_logarithms() {
        let cells = testing::cells(&[&[1.0, 3.0, 0.0], &[0.0, 1.0, 1.0]]);
        let fitted = testing::fit(&MeanExpression, &cells).unwrap();
        let found = testing::predict(&fitted, &cells, &testing::population(&[&[2]])).unwrap();
        let log = |p: f64| (1e4 * p).ln_1p();
        let expected = [log(0.25) / 2.0, (log(0.75) + log(0.5)) / 2.0, 0.0];
        assert!(found.row(0).iter().zip(expected).all(|(x, e)| (f64::from(*x) - e).abs() < 1e-5));
    }
}
