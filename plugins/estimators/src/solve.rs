//! Small systems of linear equations.

use lacuna_sdk::ndarray::{Array1, Array2};

/// Solves A x = b for a positive definite A, by elimination.
pub fn solve(mut a: Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
    let n = b.len();
    for i in 0..n {
        for row in i + 1..n {
            let factor = a[[row, i]] / a[[i, i]];
            (i..n).for_each(|k| a[[row, k]] -= factor * a[[i, k]]);
            b[row] -= factor * b[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| a[[i, k]] * b[k]).sum();
        b[i] = (b[i] - known) / a[[i, i]];
    }
    b
}

/// A⁻¹ of a positive definite A.
pub fn inverse(a: &Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    let mut inverse = Array2::zeros((n, n));
    for (unit, mut column) in Array2::<f64>::eye(n).rows().into_iter().zip(inverse.columns_mut()) {
        column.assign(&solve(a.clone(), unit.to_owned()));
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    #[test]
    fn the_inverse_undoes_the_matrix() {
        let mut stream = testing::context(1).stream(0);
        for n in 1..6 {
            let x = Array2::from_shape_fn((n + 3, n), |_| stream.random_range(-1.0..1.0));
            let a = x.t().dot(&x);
            let found = inverse(&a).dot(&a) - Array2::<f64>::eye(n);
            assert!(found.iter().all(|error| error.abs() < 1e-9), "{found}");
        }
    }
}
