//! `aitchison`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `aitchison`.
    pub struct AitchisonConfig {
        /// What is added to each share before its logarithm is taken.
        #[range(1e-12..=1.0)]
        pseudo: f64 = 1e-6,
    }
}

/// √Σ(cᵢ − c̄)², cᵢ = ln((aᵢ + π) / (bᵢ + π)), π the pseudo-share: the Euclidean distance of centred log ratios. What is common to all
/// genes, as the sum that they are closed to, counts for nothing. An empty row has no value.
pub struct Aitchison(AitchisonConfig);

impl Component for Aitchison {
    const ID: &'static str = "aitchison";
    const DOC: &'static str = "Aitchison distance, the Euclidean distance of centred log ratios";
    type Config = AitchisonConfig;
    fn new(config: AitchisonConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for Aitchison {
    const INFO: MetricInfo = MetricInfo {
        source: "Aitchison, The Statistical Analysis of Compositional Data (1986)",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let pseudo = self.0.pseudo;
        if before.is_empty() {
            return Ok(f64::NAN);
        }
        let ratio = |b: f64, a: f64| (a + pseudo).ln() - (b + pseudo).ln();
        let mean = sum(before, after, ratio) / before.len() as f64;
        Ok(sum(before, after, |b, a| (ratio(b, a) - mean) * (ratio(b, a) - mean)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    fn default() -> Aitchison {
        Aitchison(AitchisonConfig::default())
    }

    #[test]
    fn agrees_with_numpy_and_is_as_declared() {
        agrees_with_scipy(&default());
        is_as_declared(&default());
    }

    #[test]
    fn a_factor_common_to_all_genes_is_no_distance() {
        let found = score(&default(), &[0.5, 0.25, 0.25], &[0.25, 0.125, 0.125]);
        assert!(found < 1e-5, "{found}");
    }
}
