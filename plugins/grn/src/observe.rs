//! How a cell's concentrations are measured: noise, counts, technical dropout.

use crate::network::failed;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::rand_distr::{Gamma, Poisson, StandardNormal};
use lacuna_sdk::{Result, Stream};

/// How cells are measured. All 0 reports the concentrations themselves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Observation {
    /// Standard deviation of the logarithm of multiplicative noise.
    pub noise: f64,
    /// Mean total count of a cell; 0 for no counting.
    pub library_size: f64,
    /// φ of the counts' variance μ + φ μ²; 0 is Poisson.
    pub dispersion: f64,
    /// The probability that a value is lost.
    pub technical_dropout: f64,
}

impl Observation {
    /// Replaces concentrations by what is measured. A silent gene stays silent.
    pub fn measure(&self, values: &mut [f32], rng: &mut Stream) -> Result<()> {
        if self.noise > 0.0 {
            values.iter_mut().filter(|v| **v > 0.0).for_each(|v| *v *= self.draw_noise(rng));
        }
        if self.library_size > 0.0 {
            self.count(values, rng)?;
        }
        if self.technical_dropout > 0.0 {
            let lost = |_: &&mut f32| rng.random::<f64>() < self.technical_dropout;
            values.iter_mut().filter(|v| **v > 0.0).filter(lost).for_each(|v| *v = 0.0);
        }
        Ok(())
    }

    /// exp(σ z − σ²/2), whose mean is 1.
    fn draw_noise(&self, rng: &mut Stream) -> f32 {
        let z: f64 = rng.sample(StandardNormal);
        (self.noise * z - self.noise * self.noise / 2.0).exp() as f32
    }

    fn count(&self, values: &mut [f32], rng: &mut Stream) -> Result<()> {
        let total: f64 = values.iter().map(|&v| f64::from(v)).sum();
        for value in values.iter_mut().filter(|v| **v > 0.0) {
            *value = self.draw_count(self.library_size * f64::from(*value) / total, rng)? as f32;
        }
        Ok(())
    }

    /// A Poisson count; with a dispersion its mean is itself drawn, from a gamma distribution of shape 1/φ,
    /// which makes it negative binomial.
    fn draw_count(&self, mean: f64, rng: &mut Stream) -> Result<f64> {
        let mut mean = mean;
        if self.dispersion > 0.0 {
            mean *= rng.sample(Gamma::new(1.0 / self.dispersion, self.dispersion).map_err(failed)?);
        }
        Ok(if mean > 0.0 { rng.sample(Poisson::new(mean).map_err(failed)?) } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing::context;

    fn measured(observation: Observation, value: f32) -> Vec<f64> {
        let mut rng = context(1).stream(0);
        let mut values = vec![value; 20_000];
        values[0] = 0.0;
        observation.measure(&mut values, &mut rng).unwrap();
        assert_eq!(values[0], 0.0);
        values[1..].iter().map(|&v| f64::from(v)).collect()
    }

    fn mean_and_variance(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    fn near(found: f64, expected: f64, share: f64) {
        assert!((found / expected - 1.0).abs() < share, "expected {expected}, found {found}");
    }

    #[test]
    fn without_noise_the_concentrations_are_reported() {
        assert!(measured(Observation::default(), 1.25).iter().all(|&v| v == 1.25));
    }

    #[test]
    fn noise_keeps_the_mean() {
        let values = measured(Observation { noise: 0.5, ..Observation::default() }, 2.0);
        near(mean_and_variance(&values).0, 2.0, 0.02);
        let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
        near(mean_and_variance(&logs).1, 0.25, 0.04);
    }

    #[test]
    fn counts_have_the_library_size_and_the_variance_asked_for() {
        let poisson = Observation { library_size: 4.0 * 19_999.0, ..Observation::default() };
        let counts = measured(poisson, 0.3);
        let (mean, variance) = mean_and_variance(&counts);
        assert!(counts.iter().all(|v| v.fract() == 0.0));
        near(mean, 4.0, 0.02);
        near(variance, 4.0, 0.05);
        let (mean, variance) = mean_and_variance(&measured(Observation { dispersion: 0.5, ..poisson }, 0.3));
        near(mean, 4.0, 0.03);
        near(variance, 4.0 + 0.5 * 16.0, 0.06);
    }

    #[test]
    fn technical_dropout_loses_its_share() {
        let values = measured(Observation { technical_dropout: 0.25, ..Observation::default() }, 1.0);
        near(mean_and_variance(&values).0, 0.75, 0.02);
    }
}
