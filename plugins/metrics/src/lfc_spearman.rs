//! `lfc-spearman`

use crate::panel::{OF_CHANGED, Panel, Tested};
use crate::spearman::spearman;
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `lfc-spearman`.
    pub struct LfcSpearmanConfig {
        /// A gene changes if its adjusted p value is below this.
        #[range(0.0..=1.0)]
        rate: f64 = 0.05,
        /// With fewer changed genes there is no score.
        #[range(1..=1000000)]
        fewest: usize = 10,
    }
}

/// The Spearman correlation of predicted and measured effects over the genes that measurably change. Effects are δ, of
/// natural logarithms. No value with fewer than `fewest` changed genes, and for a constant prediction.
pub struct LfcSpearman(LfcSpearmanConfig);

impl Component for LfcSpearman {
    const ID: &'static str = "lfc-spearman";
    const DOC: &'static str = "Spearman correlation of the effects on genes that measurably change";
    type Config = LfcSpearmanConfig;
    fn new(config: LfcSpearmanConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for LfcSpearman {
    const INFO: MetricInfo = MetricInfo { identity: Some(1.0), source: "cell-eval", ..OF_CHANGED };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, self.0.rate, cx, |genes| {
            let changed = || genes.iter().filter(|g| g.changed);
            if changed().count() < self.0.fewest {
                return f64::NAN;
            }
            let of = |part: fn(&Tested) -> f32| changed().map(part).collect::<Vec<_>>();
            spearman(&of(|g| g.measured), &of(|g| g.predicted)).unwrap_or(f64::NAN)
        })
    }
}
