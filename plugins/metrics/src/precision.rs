//! `precision`

use crate::panel::{OF_CHANGED, Panel};
use crate::top::shares_in_top;
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `precision`.
    pub struct PrecisionConfig {
        /// A gene changes if its adjusted p value is below this.
        #[range(0.0..=1.0)]
        rate: f64 = 0.05,
        /// With fewer changed genes there is no score.
        #[range(1..=1000000)]
        fewest: usize = 10,
        /// How many genes.
        #[range(1..=1000000)]
        top: usize = 50,
    }
}

/// The share of the `top` genes of the largest predicted effects that measurably change at all. Genes of equal predicted
/// size at the border count by the share of them that fits.
///
/// No value with fewer than `fewest` changed genes, with fewer tested genes than `top`, and for a constant prediction.
pub struct Precision(PrecisionConfig);

impl Component for Precision {
    const ID: &'static str = "precision";
    const DOC: &'static str =
        "The share of the genes of the largest predicted effects that measurably change";
    type Config = PrecisionConfig;
    fn new(config: PrecisionConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for Precision {
    const INFO: MetricInfo =
        MetricInfo { range: (0.0, 1.0), chance: None, source: "cell-eval", ..OF_CHANGED };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, self.0.rate, cx, |genes| {
            let changed = genes.iter().filter(|g| g.changed).count();
            let sizes: Vec<f32> = genes.iter().map(|g| g.predicted.abs()).collect();
            let shares = shares_in_top(&sizes, self.0.top);
            match shares {
                Some(shares) if changed >= self.0.fewest && genes.len() >= self.0.top => {
                    let found = genes.iter().zip(shares).filter(|(g, _)| g.changed);
                    found.map(|(_, share)| share).sum::<f64>() / self.0.top as f64
                }
                _ => f64::NAN,
            }
        })
    }
}
