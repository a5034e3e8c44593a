//! `centroid-accuracy`

use crate::nearest::share_behind;
use crate::panel::{OF_PANEL, Panel};
use crate::sum::sum;
use lacuna_sdk::prelude::*;

/// Systema's centroid accuracy: the share of the other perturbations whose measured effect is farther from a predicted
/// one, in Euclidean distance, than that of its own; ties count by half. The sizes of effects count; `pds` asks for their
/// directions only. The genes that any perturbation of the panel removes are left out. No score for a single
/// perturbation.
pub struct CentroidAccuracy;

impl Component for CentroidAccuracy {
    const ID: &'static str = "centroid-accuracy";
    const DOC: &'static str = "The share of other perturbations whose measured effect is farther from the predicted one than the own";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for CentroidAccuracy {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        chance: Some(0.5),
        scale_free: false,
        source: "Systema: Viñas Torné et al. 2025",
        ..OF_PANEL
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        let kept = panel.kept_by_all();
        let effects: Vec<(Vec<f32>, Vec<f32>)> = (0..panel.len()).map(|i| panel.effects(i, &kept)).collect();
        panel.score(scores, cx, |i| {
            // Negative, since the nearest comes first.
            let nearness = |(truth, _): &(Vec<f32>, Vec<f32>)| {
                let squares = sum(truth, &effects[i].1, |a, b| (a - b) * (a - b));
                (!squares.is_nan()).then_some(-squares)
            };
            Ok(share_behind(i, &effects.iter().map(nearness).collect::<Vec<_>>()))
        })
    }
}
