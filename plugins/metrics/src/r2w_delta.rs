//! `r2w-delta`

use crate::panel::{OF_CHANGED, Panel, Tested};
use crate::weights::squared_min_max;
use lacuna_sdk::prelude::*;

/// 1 − Σ w (δ̂ − δ)² / Σ w (δ − δ̄)² with the weights w of `wmse` and δ̄ the weighted mean of δ: 0 for the best constant
/// prediction. No value where no gene stands out.
pub struct R2wDelta;

impl Component for R2wDelta {
    const ID: &'static str = "r2w-delta";
    const DOC: &'static str = "Weighted coefficient of determination of effects";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for R2wDelta {
    const INFO: MetricInfo = MetricInfo {
        range: (f64::NEG_INFINITY, 1.0),
        identity: Some(1.0),
        chance: None,
        scale_free: false,
        source: "weighted R² of Mejia et al. 2025",
        ..OF_CHANGED
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, 0.05, cx, |genes| {
            let Some(weights) = squared_min_max(genes) else { return f64::NAN };
            let weighted = |term: &dyn Fn(usize, &Tested) -> f64| {
                genes.iter().enumerate().map(|(i, g)| term(i, g)).sum::<f64>()
            };
            {
                let mean = weighted(&|i, g| weights[i] * f64::from(g.measured));
                let error =
                    weighted(&|i, g| weights[i] * (f64::from(g.predicted) - f64::from(g.measured)).powi(2));
                let spread = weighted(&|i, g| weights[i] * (f64::from(g.measured) - mean).powi(2));
                if spread > 0.0 { 1.0 - error / spread } else { f64::NAN }
            }
        })
    }
}
