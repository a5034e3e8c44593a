//! `mmd`

use crate::populations::{OF_POPULATIONS, Populations, mean_between, mean_within, median_squared};
use lacuna_sdk::prelude::*;

/// The squared maximum mean discrepancy of two populations of cells: E k(X, X') + E k(Y, Y') − 2 E k(X, Y) over all pairs, each
/// cell with itself among them; k(x, y) = exp(−‖x − y‖² / 2m²), m² the median squared distance of two measured cells, so that
/// all predictions are judged by the same kernel.
///
/// No value without cells, of fewer than two measured ones, or where most of these are the same.
pub struct Mmd;

impl Component for Mmd {
    const ID: &'static str = "mmd";
    const DOC: &'static str = "Squared maximum mean discrepancy of predicted and measured cells, by a Gaussian kernel as wide as measured cells are apart";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Mmd {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 2.0),
        symmetric: false,
        source: "Gretton et al., JMLR 2012",
        ..OF_POPULATIONS
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let cells = Populations::of(Self::ID, comparison, scores.len())?;
        let width = median_squared(cells.measured, cx)?;
        let kernel = |squared: f64| (-squared / (2.0 * width)).exp();
        scores[0] = f64::NAN;
        if cells.are_there() && width > 0.0 {
            let within = mean_within(cells.measured, cx, kernel)? + mean_within(cells.predicted, cx, kernel)?;
            let found = within - 2.0 * mean_between(cells.measured, cells.predicted, cx, kernel)?;
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
        agrees_with_pertpy(&Mmd, "mmd");
        is_declared_population(&Mmd);
    }
}
