//! `de-direction`

use crate::panel::{OF_CHANGED, Panel, Tested, median};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `de-direction`.
    pub struct DeDirectionConfig {
        /// A gene changes if its adjusted p value is below this.
        #[range(0.0..=1.0)]
        rate: f64 = 0.05,
        /// With fewer changed genes there is no score.
        #[range(1..=1000000)]
        fewest: usize = 10,
        /// Whether medians are taken off before signs are.
        centre: bool = true,
    }
}

/// The share of the genes that measurably change whose direction is predicted; a prediction of 0 counts by half. Before
/// signs are taken, the median over the tested genes is taken from the measured and from the predicted effects:
/// otherwise a loss that makes room for all other genes lets the constant prediction "all up" win. `centre = false`
/// leaves that out.
///
/// No value with fewer than `fewest` changed genes, and for a constant prediction (of `centre = false`: for one of
/// zeros only).
pub struct DeDirection(DeDirectionConfig);

impl Component for DeDirection {
    const ID: &'static str = "de-direction";
    const DOC: &'static str =
        "The share of the genes that measurably change whose direction is predicted, after median-centring";
    type Config = DeDirectionConfig;
    fn new(config: DeDirectionConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for DeDirection {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        chance: Some(0.5),
        identity: Some(1.0),
        source: "cell-eval; median-centred",
        ..OF_CHANGED
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, self.0.rate, cx, |genes| {
            let middle = |of: fn(&Tested) -> f32| {
                if self.0.centre { median(genes.iter().map(of)) } else { 0.0 }
            };
            let (measured, predicted) = (middle(|g| g.measured), middle(|g| g.predicted));
            let changed: Vec<&Tested> = genes.iter().filter(|g| g.changed).collect();
            let silent = genes.iter().all(|g| f64::from(g.predicted) == predicted);
            if silent || changed.len() < self.0.fewest {
                return f64::NAN;
            }
            let agrees =
                |g: &&Tested| agreement(f64::from(g.measured) - measured, f64::from(g.predicted) - predicted);
            changed.iter().map(agrees).sum::<f64>() / changed.len() as f64
        })
    }
}

/// 1 for two effects of one direction, 0 for opposite ones, ½ where one of them has none.
fn agreement(measured: f64, predicted: f64) -> f64 {
    let product = measured.signum() * predicted.signum();
    match measured == 0.0 || predicted == 0.0 {
        true if measured == predicted => 1.0,
        true => 0.5,
        false => (1.0 + product) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::score_panel;

    #[test]
    fn a_constant_prediction_wins_only_without_centring() {
        // All rise by 1, half of them by more than the others.
        let measured: Vec<f32> = (0..30).map(|i| 1.0 + if i % 2 == 0 { 0.5 } else { -0.4 }).collect();
        let up = vec![1.0; 30];
        let z = vec![9.0; 30];
        let of = |centre, predicted: &[f32]| {
            let metric = DeDirection::new(DeDirectionConfig { centre, ..Default::default() }).unwrap();
            score_panel(&metric, &measured, predicted, &z)
        };
        assert!(of(true, &up).is_nan());
        assert_eq!((of(false, &up), of(true, &measured), of(false, &measured)), (1.0, 1.0, 1.0));
        assert!(of(false, &[0.0; 30]).is_nan());
        let against: Vec<f32> = measured.iter().map(|x| -x).collect();
        assert_eq!((of(true, &against), of(false, &against)), (0.0, 0.0));
    }
}
