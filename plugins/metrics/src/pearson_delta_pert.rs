//! `pearson-delta-pert`

use crate::panel::{OF_PANEL, Panel};
use crate::pearson::pearson;
use lacuna_sdk::prelude::*;

/// The Pearson correlation of predicted and measured effects after the mean over all perturbations of the panel is taken
/// off, of the measured from the measured and of the predicted from the predicted effects: what is common to all
/// perturbations counts for nothing. Systema takes the mean of the measured off both, which asks of predictions to be on
/// the scale of the measured. The targets of all perturbations are left out. No value with fewer than 2 perturbations.
pub struct PearsonDeltaPert;

impl Component for PearsonDeltaPert {
    const ID: &'static str = "pearson-delta-pert";
    const DOC: &'static str =
        "Pearson correlation of what an effect has beyond the mean effect of all perturbations";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for PearsonDeltaPert {
    const INFO: MetricInfo = MetricInfo {
        identity: Some(1.0),
        source: "after Systema (Viñas Torné et al. 2025), which takes the measured mean off both",
        ..OF_PANEL
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        let (kept, n) = (panel.kept_by_all(), panel.len());
        if n < 2 {
            scores.fill(f64::NAN);
            return Ok(());
        }
        let all: Vec<(Vec<f32>, Vec<f32>)> = (0..n).map(|i| panel.effects(i, &kept)).collect();
        let measured = mean(all.iter().map(|(measured, _)| measured), kept.len());
        let predicted = mean(all.iter().map(|(_, predicted)| predicted), kept.len());
        panel.score(scores, cx, |i| {
            let beyond = |effect: &[f32], mean: &[f64]| -> Vec<f32> {
                effect.iter().zip(mean).map(|(x, mean)| (f64::from(*x) - mean) as f32).collect()
            };
            Ok(pearson(
                &beyond(&all[i].0, &measured),
                &without_rounding(beyond(&all[i].1, &predicted), &all[i].1),
            ))
        })
    }
}

fn mean<'a>(effects: impl Iterator<Item = &'a Vec<f32>>, genes: usize) -> Vec<f64> {
    let (mut sum, mut n) = (vec![0.0; genes], 0.0);
    for effect in effects {
        sum.iter_mut().zip(effect).for_each(|(sum, x)| *sum += f64::from(*x));
        n += 1.0;
    }
    sum.into_iter().map(|sum| sum / n).collect()
}

/// Equal predictions for all perturbations leave nothing but what the mean's rounding makes of them.
fn without_rounding(mut beyond: Vec<f32>, effect: &[f32]) -> Vec<f32> {
    let size = effect.iter().fold(0f32, |size, x| size.max(x.abs()));
    beyond.iter_mut().filter(|x| x.abs() <= 1e-6 * size).for_each(|x| *x = 0.0);
    beyond
}
