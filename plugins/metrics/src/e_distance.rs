//! `e-distance`

use crate::populations::{OF_POPULATIONS, Populations, mean_between, mean_within};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `e-distance`.
    pub struct EDistanceConfig {
        /// Squared distances between cells, as in the scPerturb paper and pertpy before 2025. What is left then is twice the
        /// squared distance of the means: nothing of how the cells vary.
        squared: bool = false,
    }
}

/// The energy distance of two populations of cells: 2 E d(X, Y) − E d(X, X') − E d(Y, Y'), d the Euclidean distance, over all
/// pairs, each cell with itself among them. 0 for the same cells; no value without cells.
pub struct EDistance(EDistanceConfig);

impl Component for EDistance {
    const ID: &'static str = "e-distance";
    const DOC: &'static str =
        "Energy distance of predicted and measured cells, by Euclidean distances (not squared)";
    type Config = EDistanceConfig;
    fn new(config: EDistanceConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for EDistance {
    const INFO: MetricInfo =
        MetricInfo { source: "Székely & Rizzo, 2013; pertpy 1.0 (scverse)", ..OF_POPULATIONS };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let cells = Populations::of(Self::ID, comparison, scores.len())?;
        let distance = |squared: f64| if self.0.squared { squared } else { squared.sqrt() };
        scores[0] = f64::NAN;
        if cells.are_there() {
            let within =
                mean_within(cells.measured, cx, distance)? + mean_within(cells.predicted, cx, distance)?;
            let found = 2.0 * mean_between(cells.measured, cells.predicted, cx, distance)? - within;
            // Below 0 by rounding only.
            scores[0] = if found < 0.0 { 0.0 } else { found };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_pertpy, is_declared_population};

    #[test]
    fn agrees_with_pertpy_and_is_as_declared() {
        for (squared, name) in [(false, "e-distance"), (true, "e-distance squared")] {
            let metric = EDistance::new(EDistanceConfig { squared }).unwrap();
            agrees_with_pertpy(&metric, name);
            is_declared_population(&metric);
        }
    }
}
