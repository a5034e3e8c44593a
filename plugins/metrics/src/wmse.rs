//! `wmse`

use crate::panel::{OF_CHANGED, Panel, Tested};
use crate::weights::squared_min_max;
use lacuna_sdk::prelude::*;

/// Σ w (δ̂ − δ)², the weights w the squares of the |z| of the rank-sum test brought to 0..1, and then to the sum 1: genes
/// of which it is sure that they change weigh most. No value where no gene stands out.
pub struct Wmse;

impl Component for Wmse {
    const ID: &'static str = "wmse";
    const DOC: &'static str = "Mean squared error of effects, weighted by how sure each gene changes";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Wmse {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, f64::INFINITY),
        direction: Direction::LowerIsBetter,
        identity: Some(0.0),
        chance: None,
        scale_free: false,
        source: "weighted mean squared error of Mejia et al. 2025",
        ..OF_CHANGED
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        panel.score_tested(scores, 0.05, cx, |genes| {
            let Some(weights) = squared_min_max(genes) else { return f64::NAN };
            let weighted = |term: &dyn Fn(usize, &Tested) -> f64| {
                genes.iter().enumerate().map(|(i, g)| term(i, g)).sum::<f64>()
            };
            weighted(&|i, g| weights[i] * (f64::from(g.predicted) - f64::from(g.measured)).powi(2))
        })
    }
}
