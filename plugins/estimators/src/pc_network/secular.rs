//! Principal component regressions of each column on all others, from one decomposition.

use lacuna_sdk::ndarray::{Array2, ArrayView1};
use lacuna_sdk::prelude::*;

/// Sums that are made side by side, so that a processor can.
const LANES: usize = 8;
/// A component whose square is below this share of the first is not there.
const NOTHING: f64 = 1e-12;

/// w of each column, shape (columns, components of X): its regression on the first `components` principal
/// components of all other columns has the coefficients Σ_c z_gc w_c, for column g.
///
/// X = U D^½ Vᵀ, and z, shape (columns, components of X), is V D^½. Without column j the squares of the
/// principal components are the eigenvalues μ of D − z_j z_jᵀ, with eigenvectors v = (D − μ)⁻¹ z_j, where
///
/// f(μ) = 1 − Σ_c z_jc² / (d_c − μ) = 0, one between each two neighbours of D, and w = Σ_μ v / (μ ‖v‖²).
pub fn weights(z: &Array2<f64>, d: &[f64], components: usize, cx: &Context) -> Result<Array2<f64>> {
    let (columns, n) = z.dim();
    let intervals: Vec<Interval> = (0..components.min(n)).map(|i| Interval::new(d, i)).collect();
    let mut weights = vec![0.0; columns * n];
    cx.parallel_chunks(&mut weights, n.max(1), |column, out| {
        let z = z.row(column);
        if !cx.is_cancelled() && z.iter().any(|&z| z != 0.0) {
            let z = without_zeros(z, d[0]);
            intervals.iter().for_each(|interval| interval.add(&z, d, out));
        }
    });
    cx.check()?;
    Ok(Array2::from_shape_vec((columns, n), weights)?)
}

/// A direction of which a column has nothing stays what it is: by the general formula too, if the column has
/// next to nothing of it.
fn without_zeros(z: ArrayView1<'_, f64>, first: f64) -> Vec<f64> {
    let tiny = first.sqrt() * 1e-60;
    z.iter().map(|&z| if z.abs() < tiny { tiny.copysign(z) } else { z }).collect()
}

/// Two neighbours of D, with a root of f between them.
struct Interval {
    upper: f64,
    lower: f64,
    /// D less the upper and less the lower end: a root is sought as a distance from the nearer one, so that it
    /// keeps its digits.
    from_upper: Vec<f64>,
    from_lower: Vec<f64>,
}

impl Interval {
    fn new(d: &[f64], i: usize) -> Self {
        let (upper, lower) = (d[i], d.get(i + 1).copied().unwrap_or(0.0));
        let from = |end: f64| d.iter().map(|d| d - end).collect();
        Self { upper, lower, from_upper: from(upper), from_lower: from(lower) }
    }

    /// Adds the component that lies here to w.
    fn add(&self, z: &[f64], d: &[f64], w: &mut [f64]) {
        let gap = self.upper - self.lower;
        let squares: Vec<f64> = z.iter().map(|z| z * z).collect();
        // f falls from the lower end to the upper.
        let above = f(&squares, d, self.lower + gap / 2.0) >= 0.0;
        let (end, from_end, sign) =
            if above { (self.upper, &self.from_upper, -1.0) } else { (self.lower, &self.from_lower, 1.0) };
        let farther = |distance: f64| (f(&squares, from_end, sign * distance) < 0.0) == above;
        let step = sign * bisect(gap, farther);
        let square = end + step;
        // Equal neighbours have a vector that is orthogonal to z.
        if gap > 0.0 && square > NOTHING * d[0] {
            let vector = |c: usize| z[c] / (from_end[c] - step);
            let length: f64 = (0..z.len()).map(|c| vector(c) * vector(c)).sum();
            w.iter_mut().enumerate().for_each(|(c, w)| *w += vector(c) / (square * length));
        }
    }
}

/// The distance up to half a gap at which `farther` ends to hold, to the last digits.
fn bisect(gap: f64, farther: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (gap * 1e-250, gap / 2.0);
    while high - low > 2.0 * f64::EPSILON * high {
        // By the exponents first.
        let middle = if high > 4.0 * low { low.sqrt() * high.sqrt() } else { low + (high - low) / 2.0 };
        if middle <= low || middle >= high {
            break;
        }
        if farther(middle) { low = middle } else { high = middle }
    }
    high
}

/// 1 − Σ_c squares_c / (poles_c − at).
fn f(squares: &[f64], poles: &[f64], at: f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (squares, poles) = (squares.chunks_exact(LANES), poles.chunks_exact(LANES));
    let rest: f64 = squares.remainder().iter().zip(poles.remainder()).map(|(z, d)| z / (d - at)).sum();
    for (z, d) in squares.zip(poles) {
        for lane in 0..LANES {
            sums[lane] += z[lane] / (d[lane] - at);
        }
    }
    1.0 - rest - sums.iter().sum::<f64>()
}
