//! The genes of the largest values.

/// Of the places, the `n` of the largest values, earlier ones first where values are equal.
pub fn largest(places: &[usize], value: impl Fn(usize) -> f32, n: usize) -> Vec<usize> {
    let mut sorted = places.to_vec();
    sorted.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(a.cmp(&b)));
    sorted.truncate(n);
    sorted
}

/// How much of each value is among the `n` largest: all or nothing, and of equal values at the border the share of them
/// that fits. `None` where all values are the same, or none is asked for.
pub fn shares_in_top(values: &[f32], n: usize) -> Option<Vec<f64>> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    if n == 0 || sorted.first() == sorted.last() {
        return None;
    }
    let border = sorted[n.min(sorted.len()) - 1];
    let above = sorted.iter().filter(|&&value| value > border).count();
    let equal = sorted.iter().filter(|&&value| value == border).count();
    let share = |&value: &f32| match value {
        value if value > border => 1.0,
        value if value == border => ((n - above) as f64 / equal as f64).min(1.0),
        _ => 0.0,
    };
    Some(values.iter().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_at_the_border_share_the_places_that_are_left() {
        assert_eq!(shares_in_top(&[3.0, 1.0, 2.0, 2.0, 0.0], 2), Some(vec![1.0, 0.0, 0.5, 0.5, 0.0]));
        assert_eq!(shares_in_top(&[3.0, 1.0], 5), Some(vec![1.0, 1.0]));
        assert_eq!((shares_in_top(&[1.0, 1.0], 1), shares_in_top(&[], 1)), (None, None));
        assert_eq!(largest(&[0, 2, 3], |i| [5.0, 9.0, 7.0, 7.0][i], 2), [2, 3]);
    }
}
