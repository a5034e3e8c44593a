//! `mae`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// Σ|a − b| / n over the n genes of the row. At most 1 between profiles, which two genes reach. An empty row has no
/// value.
pub struct Mae;

impl Component for Mae {
    const ID: &'static str = "mae";
    const DOC: &'static str = "Mean absolute error per gene, Σ|a−b| / n";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Mae {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        vectors: true,
        signed: true,
        formula: Some("mae"),
        source: "cell-eval",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let absolute = sum(before, after, |b, a| (b - a).abs());
        Ok(absolute / before.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_numpy_and_is_as_declared() {
        agrees_with_scipy(&Mae);
        is_as_declared(&Mae);
    }

    #[test]
    fn two_genes_reach_the_upper_end() {
        assert_eq!(score(&Mae, &[1.0, 0.0], &[0.0, 1.0]), 1.0);
    }
}
