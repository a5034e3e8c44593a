//! `hellinger`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// √(Σ(√a − √b)² / 2): 0 for equal profiles, 1 for those without a common gene.
pub struct Hellinger;

impl Component for Hellinger {
    const ID: &'static str = "hellinger";
    const DOC: &'static str = "Hellinger distance, √(Σ(√a−√b)² / 2)";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Hellinger {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        formula: Some("hellinger"),
        source: "Hellinger, Journal für die reine und angewandte Mathematik 136 (1909)",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let squares = sum(before, after, |b, a| (b.sqrt() - a.sqrt()) * (b.sqrt() - a.sqrt()));
        // Shares of f32 sum to 1 only nearly.
        Ok((squares / 2.0).clamp(0.0, 1.0).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Hellinger);
        is_as_declared(&Hellinger);
    }

    #[test]
    fn profiles_without_a_common_gene_are_one_apart() {
        assert_eq!(score(&Hellinger, &[1.0, 0.0], &[0.0, 1.0]), 1.0);
    }
}
