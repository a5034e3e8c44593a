//! Sums over two rows, in a fixed order: the same bits on every machine and for any number of threads.

use lacuna_sdk::{Error, Result, Row};

/// Two AVX-512 registers of `f64`, or eight of SSE2's sixteen.
const LANES: usize = 8;

/// The two profiles of a row, if they are equally long.
pub fn profiles<'a>(row: &Row<'a>) -> Result<(&'a [f32], &'a [f32])> {
    let (before, after) = (row.before.len(), row.after.len());
    if before == after {
        return Ok((row.before, row.after));
    }
    Err(Error::data(format!(
        "expected two profiles of one length, found {before} genes before, {after} after"
    )))
}

/// Σ term(aᵢ, bᵢ) over the common length, accumulated in `f64`.
///
/// Element i goes to lane i mod 8 and the lanes are added as a tree, so that the compiler may use any vector
/// width without changing the result. Deliberately without `mul_add`, which is a slow call where the build has
/// no FMA. One sum at a time: of two sums in one loop the compiler (LLVM 22) makes scalar code.
pub fn sum<T: Copy + Into<f64>>(a: &[T], b: &[T], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane].into(), b[lane].into());
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(a.into(), b.into());
    }
    let l = lanes;
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_counted_once_at_any_length() {
        for n in 0..100u16 {
            let values: Vec<f32> = (0..n).map(f32::from).collect();
            let expected = f64::from(n) * (f64::from(n) - 1.0) / 2.0;
            assert_eq!(sum(&values, &values, |a, b| a - 3.0 * b), -2.0 * expected);
        }
    }

    #[test]
    fn profiles_of_different_lengths_are_an_error() {
        let row = lacuna_sdk::testing::row(&[1.0, 0.0], &[1.0]);
        let message = "expected two profiles of one length, found 2 genes before, 1 after";
        assert_eq!(profiles(&row), Err(Error::data(message)));
    }
}
