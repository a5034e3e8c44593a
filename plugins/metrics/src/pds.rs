//! `pds`

use crate::nearest::share_behind;
use crate::panel::{OF_PANEL, Panel};
use lacuna_sdk::prelude::*;

/// The perturbation discrimination score of cell-eval: whether a predicted effect is nearer to the measured effect of its
/// own perturbation than to those of the others. 1 − rank / (n − 1), the rank of the own truth among the n truths by
/// their cosine with the prediction: 0 for the nearest, n − 1 for the farthest, ties by mid-rank.
///
/// The genes that any perturbation of the panel removes are left out of every effect: that they are gone is no
/// prediction. An effect of which nothing but zeros is left has no direction: its own perturbation has no score, and as
/// a truth it is not among the n. Neither is there a score where n is below 2.
pub struct Pds;

impl Component for Pds {
    const ID: &'static str = "pds";
    const DOC: &'static str = "Perturbation discrimination: the rank, by cosine, of the own measured effect among those of all perturbations";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Pds {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        chance: Some(0.5),
        source: "perturbation discrimination score, cell-eval (Arc Institute)",
        ..OF_PANEL
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        let kept = panel.kept_by_all();
        let (truths, predictions): (Vec<_>, Vec<_>) = (0..panel.len())
            .map(|i| {
                let (measured, predicted) = panel.effects(i, &kept);
                (direction(&measured), direction(&predicted))
            })
            .unzip();
        panel.score(scores, cx, |i| {
            let Some(prediction) = &predictions[i] else { return Ok(f64::NAN) };
            let cosine = |truth: &Option<Vec<f64>>| truth.as_ref().map(|truth| dot(prediction, truth));
            Ok(share_behind(i, &truths.iter().map(cosine).collect::<Vec<_>>()))
        })
    }
}

/// An effect of length 1; `None` where it has no direction.
fn direction(effect: &[f32]) -> Option<Vec<f64>> {
    let effect: Vec<f64> = effect.iter().map(|&x| f64::from(x)).collect();
    let length = dot(&effect, &effect).sqrt();
    (length > 0.0 && length.is_finite()).then(|| effect.iter().map(|x| x / length).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
