//! The few pieces of statistics that several steps need.

/// Benjamini and Hochberg's adjusted p values: the smallest false discovery rate at which each is found.
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let mut least = 1f64;
    let mut adjusted = vec![0.0; p.len()];
    for (larger, i) in order.into_iter().enumerate() {
        least = least.min(p[i] * p.len() as f64 / (p.len() - larger) as f64);
        adjusted[i] = least;
    }
    adjusted
}

/// The normal distribution's 97.5 % quantile.
pub const Z: f64 = 1.959_963_984_540_054;

/// The 97.5 % quantile of Student's t distribution, by its expansion about the normal one (Abramowitz & Stegun
/// 26.7.5); within 0.3 % from 4 degrees of freedom on.
pub fn student_quantile(freedom: f64) -> f64 {
    let z = Z;
    let terms = [
        z,
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z)
            / 92160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| sum / freedom + term)
}
