//! Weights of genes by how sure their measured change is.

use crate::panel::Tested;

/// The squares of the |z| values, brought to 0..1 and then to the sum 1; `None` where all are the same.
pub fn squared_min_max(genes: &[Tested]) -> Option<Vec<f64>> {
    let sizes = || genes.iter().map(|g| g.z.abs());
    let (low, high) = (sizes().fold(f64::INFINITY, f64::min), sizes().fold(0.0, f64::max));
    let weights: Vec<f64> = sizes().map(|z| ((z - low) / (high - low)).powi(2)).collect();
    let sum: f64 = weights.iter().sum();
    (high > low && sum > 0.0).then(|| weights.iter().map(|w| w / sum).collect())
}
