//! What metrics of rankings share: the strongest first, `before` the truth.

use crate::pearson::is_constant;
use lacuna_sdk::prelude::*;

/// What a metric of rankings declares; each adds its own. They look at the largest values: of impacts, not of signed numbers.
pub const RANKING: MetricInfo =
    MetricInfo { range: (0.0, 1.0), signed: false, symmetric: false, chance: None, ..MetricInfo::AGREEMENT };

/// Whether two rows rank something: neither is constant, and all are numbers.
pub fn rank_something(truth: &[f32], predicted: &[f32]) -> bool {
    !is_constant(truth) && !is_constant(predicted) && !truth.iter().chain(predicted).any(|v| v.is_nan())
}

/// How many are a share of so many, but at least one.
pub fn part_of(n: usize, share: f64) -> usize {
    ((share * n as f64).round() as usize).max(1)
}

/// Which values are the `n` largest, and those that equal the least of them; `None` where that is all.
pub fn strongest(values: &[f32], n: usize) -> Option<Vec<bool>> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let border = *sorted.get(n.checked_sub(1)?)?;
    let found: Vec<bool> = values.iter().map(|&value| value >= border).collect();
    found.contains(&false).then_some(found)
}

/// Places from the largest value on, equal values together.
pub fn descending(values: &[f32]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| (values[b] + 0.0).total_cmp(&(values[a] + 0.0)).then(a.cmp(&b)));
    order.chunk_by(|&a, &b| values[a] == values[b]).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_are_so_many_and_their_equals_but_not_all() {
        assert_eq!(strongest(&[3.0, 1.0, 2.0, 2.0], 2), Some(vec![true, false, true, true]));
        assert_eq!(strongest(&[3.0, 1.0, 1.0], 2), None);
        assert_eq!((strongest(&[], 1), strongest(&[1.0, 2.0], 0), strongest(&[1.0], 2)), (None, None, None));
        assert_eq!((part_of(30, 0.1), part_of(2, 0.1), part_of(19, 0.5)), (3, 1, 10));
    }

    #[test]
    fn equal_values_share_a_place() {
        assert_eq!(descending(&[-0.0, 2.0, 0.0, 7.0]), [vec![3], vec![1], vec![0, 2]]);
        assert!(descending(&[]).is_empty());
    }
}
