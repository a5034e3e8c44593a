//! `kendall`

use crate::sum::profiles;
use lacuna_sdk::prelude::*;

/// Kendall's τ-b: pairs of genes in the same order by both rows less those in opposite order, divided by the geometric mean
/// of the pairs that are not tied in each. A constant row, as any row of one gene, has no value.
pub struct Kendall;

impl Component for Kendall {
    const ID: &'static str = "kendall";
    const DOC: &'static str = "Kendall's tau-b over the genes of a row; no value for a constant row";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Kendall {
    const INFO: MetricInfo = MetricInfo {
        formula: Some("kendall-tau-b"),
        source: "Kendall, Biometrika 1945; Knight, JASA 1966",
        ..MetricInfo::AGREEMENT
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        Ok(tau_b(before, after))
    }
}

/// In n log n steps (Knight): sorted by the one row, each step of a merge sort by the other puts a pair in order.
fn tau_b(a: &[f32], b: &[f32]) -> f64 {
    if a.iter().chain(b).any(|v| v.is_nan()) {
        return f64::NAN;
    }
    // −0 is 0.
    let mut pairs: Vec<(f32, f32)> = a.iter().zip(b).map(|(a, b)| (a + 0.0, b + 0.0)).collect();
    pairs.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.total_cmp(&y.1)));
    let tied_a = ties(&pairs, |x, y| x.0 == y.0);
    let tied_both = ties(&pairs, |x, y| x == y);
    let mut values: Vec<f32> = pairs.into_iter().map(|(_, b)| b).collect();
    let against = sort_and_count(&mut values);
    let tied_b = ties(&values, |x, y| x == y);
    let all = pairs_of(values.len());
    let balance = all - tied_a - tied_b + tied_both - 2 * against;
    if all == tied_a || all == tied_b {
        return f64::NAN;
    }
    let untied = (all - tied_a) as f64 * (all - tied_b) as f64;
    (balance as f64 / untied.sqrt()).clamp(-1.0, 1.0)
}

/// How many pairs there are of so many.
fn pairs_of(n: usize) -> i128 {
    let n = n as i128;
    n * (n - 1) / 2
}

/// How many pairs of sorted values are the same.
fn ties<T>(sorted: &[T], same: impl Fn(&T, &T) -> bool) -> i128 {
    sorted.chunk_by(same).map(|group| pairs_of(group.len())).sum()
}

/// Sorts, and counts the pairs of which the first was the larger.
fn sort_and_count(values: &mut Vec<f32>) -> i128 {
    let (mut merged, mut count, mut width) = (Vec::with_capacity(values.len()), 0, 1);
    while width < values.len() {
        merged.clear();
        for run in values.chunks(2 * width) {
            let (mut left, mut right) = run.split_at(width.min(run.len()));
            while let (Some(&l), Some(&r)) = (left.first(), right.first()) {
                if l <= r {
                    merged.push(l);
                    left = &left[1..];
                } else {
                    merged.push(r);
                    right = &right[1..];
                    count += left.len() as i128;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(values, &mut merged);
        width *= 2;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, score};

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Kendall);
        is_as_declared(&Kendall);
    }

    #[test]
    fn steps_of_the_merge_sort_are_pairs_in_opposite_order() {
        let mut values = vec![3.0, 1.0, 2.0, 2.0, 0.0, 5.0, 4.0];
        let mut expected = 0;
        for i in 0..values.len() {
            expected += values[i + 1..].iter().filter(|&&later| later < values[i]).count() as i128;
        }
        assert_eq!(sort_and_count(&mut values), expected);
        assert_eq!(values, [0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((sort_and_count(&mut vec![]), sort_and_count(&mut vec![1.0])), (0, 0));
    }

    #[test]
    fn constant_rows_have_no_value_and_negative_zero_is_zero() {
        assert!(score(&Kendall, &[0.1; 3], &[0.1, 0.2, 0.3]).is_nan());
        assert!(score(&Kendall, &[1.0], &[1.0]).is_nan() && score(&Kendall, &[], &[]).is_nan());
        assert_eq!(score(&Kendall, &[-0.0, 0.0, 1.0], &[0.0, -0.0, 2.0]), 1.0);
    }
}
