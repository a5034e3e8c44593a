//! `bray-curtis`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// Σ|a − b| / Σ(a + b): 0 for equal profiles, 1 for profiles without a common gene. Two empty profiles have
/// no value.
pub struct BrayCurtis;

impl Component for BrayCurtis {
    const ID: &'static str = "bray-curtis";
    const DOC: &'static str = "Bray–Curtis dissimilarity, Σ|a−b| / Σ(a+b)";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for BrayCurtis {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        vectors: true,
        formula: Some("bray-curtis"),
        source: "DKO: He, Klein, Levy, Wang, arXiv:2510.03359",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let difference = sum(before, after, |b, a| (b - a).abs());
        let total = sum(before, after, |b, a| b + a);
        Ok(difference / total) // 0/0 is NaN: no value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&BrayCurtis);
        is_as_declared(&BrayCurtis);
    }

    #[test]
    fn disjoint_profiles_are_one_apart_and_empty_ones_have_no_value() {
        assert_eq!(score(&BrayCurtis, &[1.0, 0.0], &[0.0, 1.0]), 1.0);
        assert_eq!(score(&BrayCurtis, &[0.5, 0.5], &[0.0, 1.0]), 0.5);
        assert!(score(&BrayCurtis, &[0.0, 0.0], &[0.0, 0.0]).is_nan());
    }
}
