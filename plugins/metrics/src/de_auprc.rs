//! `de-auprc`

use crate::areas::{Ranked, average_precision};
use crate::panel::{OF_CHANGED, Panel, Tested};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `de-auprc`.
    pub struct DeAuprcConfig {
        /// A gene changes if its adjusted p value is below this.
        #[range(0.0..=1.0)]
        rate: f64 = 0.05,
        /// With fewer changed genes there is no score: one or two positives say nothing.
        #[range(1..=1000000)]
        fewest: usize = 20,
    }
}

/// Average precision of |predicted effect| for the genes that measurably change, at a false discovery rate, against all other
/// tested genes. It asks which genes change, not in which direction; that follows the mean expression of a gene,
/// since well measured genes are found more easily: see `matched-auroc`.
///
/// No value with fewer than `fewest` changed genes, without others, and for a constant prediction.
pub struct DeAuprc(DeAuprcConfig);

impl Component for DeAuprc {
    const ID: &'static str = "de-auprc";
    const DOC: &'static str =
        "Average precision of the size of the predicted effect for genes that measurably change";
    type Config = DeAuprcConfig;
    fn new(config: DeAuprcConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for DeAuprc {
    const INFO: MetricInfo =
        MetricInfo { range: (0.0, 1.0), chance: None, source: "cell-eval", ..OF_CHANGED };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, self.0.rate, cx, |genes| {
            if genes.iter().filter(|g| g.changed).count() < self.0.fewest {
                return f64::NAN;
            }
            let ranked =
                |g: &Tested| Ranked { score: f64::from(g.predicted).abs(), positive: g.changed, weight: 1.0 };
            average_precision(&genes.iter().map(ranked).collect::<Vec<_>>())
        })
    }
}
