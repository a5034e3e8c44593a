//! A metric: how far apart two profiles are.
use lacuna_sdk::prelude::*;
config! {
    /// Parameters of `jensen-shannon-bits`.
    pub struct JensenShannonConfig {
        /// The power of the divergence: 0.5 is the distance, 1 the divergence itself.
        #[range(0.1..=1.0)]
        power: f64 = 0.5,
    }
}
/// The Jensen-Shannon distance: 0 for equal profiles, 1 for those that share no gene.
pub struct JensenShannon(JensenShannonConfig);
impl Component for JensenShannon {
    const ID: &str = "jensen-shannon-bits";
    const DOC: &str = "Jensen-Shannon distance between two profiles, in bits (Endres and Schindelin 2003)";
    type Config = JensenShannonConfig;
    fn new(config: JensenShannonConfig) -> Result<Self> {
        Ok(Self(config))
    }
}
impl Metric for JensenShannon {
    const INFO: MetricInfo = MetricInfo { range: (0.0, 1.0), ..MetricInfo::ERROR };
    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let bits = |p: f64, q: f64| if p > 0.0 { p * (2.0 * p / (p + q)).log2() } else { 0.0 };
        let pairs = row.before.iter().zip(row.after).map(|(b, a)| (f64::from(*b), f64::from(*a)));
        let sum: f64 = pairs.map(|(p, q)| bits(p, q) + bits(q, p)).sum();
        Ok((sum / 2.0).clamp(0.0, 1.0).powf(self.0.power))
    }
}
plugin! { name: "my-plugin", metrics: [JensenShannon] }

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing::score;

    #[test]
    fn equal_profiles_score_0_and_disjoint_ones_1() {
        let metric = JensenShannon::new(JensenShannonConfig::default()).unwrap();
        assert_eq!(score(&metric, &[0.25, 0.75], &[0.25, 0.75]), Ok(0.0));
        assert_eq!(score(&metric, &[1.0, 0.0], &[0.0, 1.0]), Ok(1.0));
    }

    #[test]
    fn with_the_power_1_it_is_the_divergence() {
        let score_with =
            |power| score(&JensenShannon(JensenShannonConfig { power }), &[1.0, 0.0], &[0.5, 0.5]);
        // The mean profile is (¾, ¼).
        let divergence = (4.0f64 / 3.0).log2() / 2.0 + (0.5 * (2.0f64 / 3.0).log2() + 0.5) / 2.0;
        assert!((score_with(1.0).unwrap() - divergence).abs() < 1e-12);
        assert!((score_with(0.5).unwrap() - divergence.sqrt()).abs() < 1e-12);
    }
}
