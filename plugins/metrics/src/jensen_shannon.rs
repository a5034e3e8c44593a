//! `jensen-shannon`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// √(Σ a ln(a / m) / 2 + Σ b ln(b / m) / 2), m = (a + b) / 2 of the rows closed to sum 1: 0 for equal profiles, √ln 2 for those
/// without a common gene. No value where one of the rows is all 0.
pub struct JensenShannon;

impl Component for JensenShannon {
    const ID: &'static str = "jensen-shannon";
    const DOC: &'static str = "Jensen–Shannon distance, the root of the divergence in natural units";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for JensenShannon {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 0.832_554_611_157_697_8),
        formula: Some("jensen-shannon"),
        source: "Endres & Schindelin, IEEE Transactions on Information Theory 49 (2003)",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        if before.is_empty() {
            return Ok(f64::NAN);
        }
        let total = |values| sum(values, values, |v, _| v);
        let (all_before, all_after) = (total(before), total(after));
        let term =
            |own: f64, other: f64| if own > 0.0 { own * (2.0 * own / (own + other)).ln() } else { own * 0.0 };
        let twice = sum(before, after, |b, a| {
            let (b, a) = (b / all_before, a / all_after);
            term(b, a) + term(a, b)
        });
        Ok((twice / 2.0).clamp(0.0, std::f64::consts::LN_2).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&JensenShannon);
        is_as_declared(&JensenShannon);
    }

    #[test]
    fn profiles_without_a_common_gene_are_the_root_of_ln_2_apart() {
        assert_eq!(score(&JensenShannon, &[1.0, 0.0], &[0.0, 1.0]), f64::sqrt(std::f64::consts::LN_2));
    }
}
