//! `r2`

use crate::pearson::is_constant;
use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// 1 − Σ(a − b)² / Σ(b − b̄)², b the truth (before), a what is predicted (after): below 0 where the truth's mean would be nearer.
/// A constant truth, as any row of one gene, has no value.
pub struct R2;

impl Component for R2 {
    const ID: &'static str = "r2";
    const DOC: &'static str =
        "Coefficient of determination, 1 − Σ(a−b)² / Σ(b−b̄)²; no value where the truth is constant";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for R2 {
    const INFO: MetricInfo = MetricInfo {
        range: (f64::NEG_INFINITY, 1.0),
        scale_free: false,
        symmetric: false,
        chance: None,
        formula: Some("r2"),
        source: "cell-eval; scikit-learn's r2_score",
        ..MetricInfo::AGREEMENT
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        if is_constant(before) {
            return Ok(f64::NAN);
        }
        let mean = sum(before, before, |b, _| b) / before.len() as f64;
        let spread = sum(before, before, |b, _| (b - mean) * (b - mean));
        Ok(1.0 - sum(before, after, |b, a| (b - a) * (b - a)) / spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&R2);
        is_as_declared(&R2);
    }

    #[test]
    fn the_mean_of_the_truth_explains_nothing() {
        assert_eq!(score(&R2, &[0.25, 0.75], &[0.5, 0.5]), 0.0);
    }
}
