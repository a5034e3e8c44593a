//! `top-auprc`

use crate::areas::{Ranked, average_precision};
use crate::ranking::{RANKING, part_of, rank_something, strongest};
use crate::sum::profiles;
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `top-auprc`.
    pub struct TopAuprcConfig {
        /// The share of the genes, the strongest in truth, that is to be found.
        #[range(0.0..=1.0)]
        share: f64 = 0.1,
    }
}

/// Average precision of the predicted values for the strongest in truth: a share of all, at least one, and who equals the last
/// of them. By chance that is the share itself.
///
/// No value for a constant row, or where all are among the strongest.
pub struct TopAuprc(TopAuprcConfig);

impl Component for TopAuprc {
    const ID: &'static str = "top-auprc";
    const DOC: &'static str = "Average precision of the predicted values for the strongest in truth";
    type Config = TopAuprcConfig;
    fn new(config: TopAuprcConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for TopAuprc {
    const INFO: MetricInfo = MetricInfo { source: "average precision", ..RANKING };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (truth, predicted) = profiles(row)?;
        let strongest = strongest(truth, part_of(truth.len(), self.0.share));
        let Some(strongest) = strongest.filter(|_| rank_something(truth, predicted)) else {
            return Ok(f64::NAN);
        };
        let ranked =
            |(&score, &positive): (&f32, &bool)| Ranked { score: f64::from(score), positive, weight: 1.0 };
        Ok(average_precision(&predicted.iter().zip(&strongest).map(ranked).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scikit_learn_and_is_as_declared() {
        let metric = TopAuprc::new(TopAuprcConfig::default()).unwrap();
        agrees_with_scipy(&metric);
        is_as_declared(&metric);
    }

    #[test]
    fn precision_is_averaged_over_the_strongest() {
        let metric = TopAuprc::new(TopAuprcConfig { share: 0.4 }).unwrap();
        // The strongest are first and third.
        let found = score(&metric, &[5.0, 4.0, 1.0, 0.0, 2.0], &[0.9, 0.3, 0.8, 0.2, 0.0]);
        assert!((found - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!(score(&metric, &[5.0; 5], &[0.9, 0.8, 0.8, 0.2, 0.0]).is_nan());
    }
}
