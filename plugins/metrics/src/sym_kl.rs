//! `sym-kl`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `sym-kl`.
    pub struct SymKlConfig {
        /// What is added to each share before its logarithm is taken.
        #[range(1e-12..=1.0)]
        pseudo: f64 = 1e-6,
    }
}

/// Σ (aᵢ − bᵢ) ln(aᵢ / bᵢ) / 2 of the rows with a pseudo-share added to each gene, closed again: the mean of the divergences in both
/// directions. An empty row has no value.
pub struct SymKl(SymKlConfig);

impl Component for SymKl {
    const ID: &'static str = "sym-kl";
    const DOC: &'static str =
        "Symmetric Kullback–Leibler divergence, the mean of both directions, in natural units";
    type Config = SymKlConfig;
    fn new(config: SymKlConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for SymKl {
    const INFO: MetricInfo = MetricInfo {
        source: "Kullback & Leibler, Annals of Mathematical Statistics 22 (1951)",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let pseudo = self.0.pseudo;
        if before.is_empty() {
            return Ok(f64::NAN);
        }
        let total = |values| sum(values, values, |v, _| v) + pseudo * before.len() as f64;
        let (all_before, all_after) = (total(before), total(after));
        let twice = sum(before, after, |b, a| {
            let (b, a) = ((b + pseudo) / all_before, (a + pseudo) / all_after);
            (a - b) * (a.ln() - b.ln())
        });
        Ok(twice / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    fn default() -> SymKl {
        SymKl(SymKlConfig::default())
    }

    #[test]
    fn agrees_with_numpy_and_is_as_declared() {
        agrees_with_scipy(&default());
        is_as_declared(&default());
    }

    #[test]
    fn it_is_the_mean_of_both_divergences() {
        let (b, a) = ([0.25f64, 0.75], [0.5f64, 0.5]);
        let to = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * (x / y).ln()).sum::<f64>();
        let found = score(&default(), &[0.25, 0.75], &[0.5, 0.5]);
        assert!((found - (to(&a, &b) + to(&b, &a)) / 2.0).abs() < 1e-5, "{found}");
    }
}
