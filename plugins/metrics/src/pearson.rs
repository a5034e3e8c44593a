//! `pearson`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// The product-moment correlation of two rows. A constant row, as any row of one gene, has no value.
pub struct Pearson;

impl Component for Pearson {
    const ID: &'static str = "pearson";
    const DOC: &'static str = "Pearson correlation over the genes of a row; no value for a constant row";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Pearson {
    const INFO: MetricInfo = MetricInfo {
        formula: Some("pearson"),
        source: "DKO: He, Klein, Levy, Wang, arXiv:2510.03359",
        ..MetricInfo::AGREEMENT
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        Ok(pearson(before, after))
    }
}

/// The product-moment correlation of two lists of one length; NaN when one of the two is constant.
pub fn pearson(a: &[f32], b: &[f32]) -> f64 {
    // A rounded mean would give a constant row a variance just above 0, and a meaningless correlation.
    if is_constant(a) || is_constant(b) {
        return f64::NAN;
    }
    let mean = |values| sum(values, values, |v, _| v) / a.len() as f64;
    correlation(a, b, mean(a), mean(b))
}

/// Whether all values are the same; true for none and for one.
pub fn is_constant<T: PartialEq>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// Σ(a − ā)(b − b̄) / √(Σ(a − ā)² Σ(b − b̄)²); NaN when one of the two is constant.
pub fn correlation<T: Copy + Into<f64>>(a: &[T], b: &[T], mean_a: f64, mean_b: f64) -> f64 {
    let squares = |values, mean| sum(values, values, |v, _| (v - mean) * (v - mean));
    let (aa, bb) = (squares(a, mean_a), squares(b, mean_b));
    let ab = sum(a, b, |a, b| (a - mean_a) * (b - mean_b));
    (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Pearson);
        is_as_declared(&Pearson);
    }

    #[test]
    fn constant_rows_have_no_value() {
        assert!(score(&Pearson, &[0.1; 7], &[0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1]).is_nan());
        assert!(score(&Pearson, &[0.1; 7], &[0.1; 7]).is_nan());
        assert!(score(&Pearson, &[1.0], &[1.0]).is_nan());
        assert!(score(&Pearson, &[], &[]).is_nan());
    }

    #[test]
    fn two_genes_agree_or_disagree_fully() {
        assert_eq!(score(&Pearson, &[0.2, 0.8], &[0.4, 0.6]), 1.0);
        assert_eq!(score(&Pearson, &[0.2, 0.8], &[0.6, 0.4]), -1.0);
    }
}
