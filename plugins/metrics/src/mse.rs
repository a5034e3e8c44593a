//! `mse`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// Σ(a − b)² / n over the n genes of the row. At most 1 between profiles, which two genes reach. An empty row has no
/// value.
pub struct Mse;

impl Component for Mse {
    const ID: &'static str = "mse";
    const DOC: &'static str = "Mean squared error per gene, Σ(a−b)² / n";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Mse {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        vectors: true,
        signed: true,
        formula: Some("mse"),
        source: "cell-eval",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let squared = sum(before, after, |b, a| (b - a) * (b - a));
        Ok(squared / before.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_numpy_and_is_as_declared() {
        agrees_with_scipy(&Mse);
        is_as_declared(&Mse);
    }

    #[test]
    fn two_genes_reach_the_upper_end() {
        assert_eq!(score(&Mse, &[1.0, 0.0], &[0.0, 1.0]), 1.0);
    }
}
