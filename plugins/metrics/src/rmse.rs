//! `rmse`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// √(Σ(a − b)² / n) over the n genes of the row; over the effects of perturbations its mean is mrrmse. At most 1 between
/// profiles. An empty row has no value.
pub struct Rmse;

impl Component for Rmse {
    const ID: &'static str = "rmse";
    const DOC: &'static str = "Root of the mean squared error per gene, √(Σ(a−b)² / n)";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Rmse {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        vectors: true,
        signed: true,
        formula: Some("rmse"),
        source: "cell-eval; mrrmse in Open Problems",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let squared = sum(before, after, |b, a| (b - a) * (b - a));
        Ok((squared / before.len() as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Rmse);
        is_as_declared(&Rmse);
    }

    #[test]
    fn two_genes_reach_the_upper_end() {
        assert_eq!(score(&Rmse, &[1.0, 0.0], &[0.0, 1.0]), 1.0);
    }
}
