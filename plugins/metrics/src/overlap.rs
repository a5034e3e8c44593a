//! `overlap`

use crate::panel::{OF_CHANGED, Panel};
use crate::top::{largest, shares_in_top};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `overlap`.
    pub struct OverlapConfig {
        /// A gene changes if its adjusted p value is below this.
        #[range(0.0..=1.0)]
        rate: f64 = 0.05,
        /// With fewer changed genes there is no score.
        #[range(1..=1000000)]
        fewest: usize = 10,
        /// How many genes; left out, as many as change.
        #[range(1..=1000000)]
        top: Option<usize> = None,
    }
}

/// The share that the N genes with the largest predicted effects have in common with the N genes of the largest measured
/// effects among those that measurably change; N is `top`, or, where it is left out or where fewer change, the number
/// of changed genes. Sizes are those of δ, not of log2 fold changes, which gene scores and means of logarithms do not
/// have. Genes of equal predicted size at the border count by the share of them that fits.
///
/// No value with fewer than `fewest` changed genes, and for a constant prediction.
pub struct Overlap(OverlapConfig);

impl Component for Overlap {
    const ID: &'static str = "overlap";
    const DOC: &'static str =
        "What the genes of the largest predicted and of the largest measured effects have in common";
    type Config = OverlapConfig;
    fn new(config: OverlapConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for Overlap {
    const INFO: MetricInfo =
        MetricInfo { range: (0.0, 1.0), chance: None, source: "cell-eval", ..OF_CHANGED };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, self.0.rate, cx, |genes| {
            let changed: Vec<usize> = (0..genes.len()).filter(|&i| genes[i].changed).collect();
            let n = self.0.top.map_or(changed.len(), |top| top.min(changed.len()));
            let shares = shares_in_top(&genes.iter().map(|g| g.predicted.abs()).collect::<Vec<_>>(), n);
            match shares {
                Some(shares) if changed.len() >= self.0.fewest => {
                    let real = largest(&changed, |i| genes[i].measured.abs(), n);
                    real.iter().map(|&i| shares[i]).sum::<f64>() / n as f64
                }
                _ => f64::NAN,
            }
        })
    }
}
