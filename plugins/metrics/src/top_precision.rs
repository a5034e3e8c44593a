//! `top-precision`

use crate::ranking::{RANKING, part_of, rank_something, strongest};
use crate::sum::profiles;
use crate::top::shares_in_top;
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `top-precision`.
    pub struct TopPrecisionConfig {
        /// The share of the genes, the strongest in truth, that is to be found.
        #[range(0.0..=1.0)]
        share: f64 = 0.1,
    }
}

/// Precision at k: of the k strongest predicted, the share that is among the k strongest in truth; k is a share of all, at
/// least one. By chance that is the share itself.
///
/// Who equals the last of the strongest in truth is among them; of equal predictions at the border each counts in part. No value
/// for a constant row, or where all are among the strongest.
pub struct TopPrecision(TopPrecisionConfig);

impl Component for TopPrecision {
    const ID: &'static str = "top-precision";
    const DOC: &'static str = "The share of the strongest predicted that is among the strongest in truth";
    type Config = TopPrecisionConfig;
    fn new(config: TopPrecisionConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for TopPrecision {
    const INFO: MetricInfo = MetricInfo { source: "precision at k", ..RANKING };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (truth, predicted) = profiles(row)?;
        if !rank_something(truth, predicted) {
            return Ok(f64::NAN);
        }
        let n = part_of(truth.len(), self.0.share);
        let (Some(strongest), Some(shares)) = (strongest(truth, n), shares_in_top(predicted, n)) else {
            return Ok(f64::NAN);
        };
        let found = strongest.iter().zip(shares).filter(|(strong, _)| **strong);
        Ok((found.map(|(_, share)| share).sum::<f64>() / n as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_its_reference_and_is_as_declared() {
        let metric = TopPrecision::new(TopPrecisionConfig::default()).unwrap();
        agrees_with_scipy(&metric);
        is_as_declared(&metric);
    }

    #[test]
    fn half_of_the_strongest_are_found() {
        let metric = TopPrecision::new(TopPrecisionConfig { share: 0.4 }).unwrap();
        assert_eq!(score(&metric, &[5.0, 4.0, 1.0, 0.0, 2.0], &[0.9, 0.1, 0.8, 0.2, 0.0]), 0.5);
        assert_eq!(score(&metric, &[5.0, 4.0, 1.0, 0.0, 2.0], &[0.9, 0.8, 0.8, 0.2, 0.0]), 0.75);
        assert!(score(&metric, &[5.0, 4.0, 4.0, 4.0, 4.0], &[0.9, 0.8, 0.8, 0.2, 0.0]).is_nan());
    }
}
