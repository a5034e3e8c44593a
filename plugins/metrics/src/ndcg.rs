//! `ndcg`

use crate::ranking::{RANKING, descending, rank_something};
use crate::sum::profiles;
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `ndcg`.
    pub struct NdcgConfig {
        /// How many of the first in the predicted ranking count.
        #[range(1..=1000000)]
        top: usize = 50,
    }
}

/// Normalised discounted cumulative gain: Σ truth / log2(1 + rank) over the `top` of the predicted ranking, divided by the
/// same sum in the true order. Equal predictions share the mean of their truths.
///
/// No value for a constant row, or where a true value is below 0.
pub struct Ndcg(NdcgConfig);

impl Component for Ndcg {
    const ID: &'static str = "ndcg";
    const DOC: &'static str =
        "Discounted cumulative gain of the top of the predicted ranking, 1 in the true order";
    type Config = NdcgConfig;
    fn new(config: NdcgConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for Ndcg {
    const INFO: MetricInfo = MetricInfo { source: "Järvelin & Kekäläinen, ACM TOIS 2002", ..RANKING };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (truth, predicted) = profiles(row)?;
        if !rank_something(truth, predicted) || truth.iter().any(|&v| v < 0.0) {
            return Ok(f64::NAN);
        }
        let (found, best) = (gain(truth, predicted, self.0.top), gain(truth, truth, self.0.top));
        Ok((found / best).min(1.0))
    }
}

/// The gain of a ranking's top.
fn gain(truth: &[f32], ranked_by: &[f32], top: usize) -> f64 {
    let (mut rank, mut sum) = (0, 0.0);
    for group in descending(ranked_by) {
        let places = rank..(rank + group.len()).min(top);
        let discount: f64 = places.map(|place| 1.0 / (place as f64 + 2.0).log2()).sum();
        let mean = group.iter().map(|&i| f64::from(truth[i])).sum::<f64>() / group.len() as f64;
        sum += mean * discount;
        rank += group.len();
        if rank >= top {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scikit_learn_and_is_as_declared() {
        let metric = Ndcg::new(NdcgConfig::default()).unwrap();
        agrees_with_scipy(&metric);
        is_as_declared(&metric);
    }

    #[test]
    fn only_the_top_counts_and_equal_predictions_share_their_truths() {
        let truth = [4.0, 1.0, 2.0, 0.0];
        let ndcg = |top, predicted: &[f32]| score(&Ndcg::new(NdcgConfig { top }).unwrap(), &truth, predicted);
        assert_eq!(ndcg(1, &[0.5, 0.9, 0.1, 0.1]), 0.25);
        assert_eq!(ndcg(1, &[0.9, 0.9, 0.1, 0.1]), 0.625);
        let second = 1.0 / 3f64.log2();
        assert!((ndcg(2, &[0.8, 0.9, 0.1, 0.1]) - (1.0 + 4.0 * second) / (4.0 + 2.0 * second)).abs() < 1e-12);
    }

    #[test]
    fn numbers_below_zero_and_constant_rows_have_no_value() {
        let metric = Ndcg::new(NdcgConfig::default()).unwrap();
        assert!(score(&metric, &[1.0, -0.5], &[1.0, 2.0]).is_nan());
        assert!(score(&metric, &[1.0, 2.0], &[2.0, 2.0]).is_nan() && score(&metric, &[], &[]).is_nan());
    }
}
