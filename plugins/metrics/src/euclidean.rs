//! `euclidean`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

/// √Σ(a − b)². At most √2 between two profiles; rows that hold several profiles go further.
pub struct Euclidean;

impl Component for Euclidean {
    const ID: &'static str = "euclidean";
    const DOC: &'static str = "Euclidean distance, √Σ(a−b)²";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Euclidean {
    const INFO: MetricInfo = MetricInfo {
        signed: true,
        formula: Some("euclidean"),
        source: "Euclidean norm",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let squares = sum(before, after, |b, a| (b - a) * (b - a));
        Ok(squares.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Euclidean);
        is_as_declared(&Euclidean);
    }

    #[test]
    fn disjoint_profiles_are_the_root_of_two_apart() {
        assert_eq!(score(&Euclidean, &[1.0, 0.0], &[0.0, 1.0]), f64::sqrt(2.0));
    }
}
