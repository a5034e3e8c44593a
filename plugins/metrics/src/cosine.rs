//! `cosine`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// Σab / √(Σa² Σb²). Over the effects of perturbations its mean is the row-wise cosine. No value where one of the rows is all 0.
pub struct Cosine;

impl Component for Cosine {
    const ID: &'static str = "cosine";
    const DOC: &'static str = "Cosine similarity of two rows; no value where one is all 0";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Cosine {
    const INFO: MetricInfo = MetricInfo {
        formula: Some("cosine"),
        source: "cosine similarity; row-wise in Open Problems",
        ..MetricInfo::AGREEMENT
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let length = |values| sum(values, values, |v, _| v * v);
        let product = sum(before, after, |b, a| b * a);
        Ok((product / (length(before) * length(after)).sqrt()).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Cosine);
        is_as_declared(&Cosine);
    }

    #[test]
    fn rows_without_a_common_gene_have_nothing_in_common_and_an_empty_one_has_no_value() {
        assert_eq!(score(&Cosine, &[1.0, 0.0], &[0.0, 1.0]), 0.0);
        assert!(score(&Cosine, &[0.0, 0.0], &[0.0, 1.0]).is_nan());
    }
}
