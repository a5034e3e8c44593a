//! `lfc-nmae`

use crate::panel::{OF_CHANGED, Panel, Tested};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `lfc-nmae`.
    pub struct LfcNmaeConfig {
        /// A gene changes if its adjusted p value is below this.
        #[range(0.0..=1.0)]
        rate: f64 = 0.05,
        /// With fewer changed genes there is no score.
        #[range(1..=1000000)]
        fewest: usize = 10,
    }
}

/// Σ|δ̂ − δ| / Σ|δ| over the genes that measurably change: 1 for a prediction of no change. Effects are δ, of natural
/// logarithms. No value with fewer than `fewest` changed genes.
pub struct LfcNmae(LfcNmaeConfig);

impl Component for LfcNmae {
    const ID: &'static str = "lfc-nmae";
    const DOC: &'static str =
        "Normalised absolute error of the effects on genes that measurably change, Σ|δ̂−δ| / Σ|δ|";
    type Config = LfcNmaeConfig;
    fn new(config: LfcNmaeConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for LfcNmae {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, f64::INFINITY),
        direction: Direction::LowerIsBetter,
        identity: Some(0.0),
        chance: None,
        scale_free: false,
        source: "cell-eval",
        ..OF_CHANGED
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, self.0.rate, cx, |genes| {
            let changed = || genes.iter().filter(|g| g.changed);
            if changed().count() < self.0.fewest {
                return f64::NAN;
            }
            let error = |g: &Tested| (f64::from(g.predicted) - f64::from(g.measured)).abs();
            let size: f64 = changed().map(|g| f64::from(g.measured).abs()).sum();
            if size > 0.0 { changed().map(error).sum::<f64>() / size } else { f64::NAN }
        })
    }
}
