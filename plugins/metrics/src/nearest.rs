//! Whether the own of several truths is the nearest.

/// The share of the others that are farther than number `own`, by how near each is; ties count by half, those without a
/// value not at all. NaN without others, or where the own has none.
pub fn share_behind(own: usize, nearness: &[Option<f64>]) -> f64 {
    let Some(mine) = nearness[own] else { return f64::NAN };
    let others = || nearness.iter().enumerate().filter(|(i, _)| *i != own).filter_map(|(_, x)| *x);
    let behind = |x: f64| match x {
        x if x < mine => 1.0,
        x if x == mine => 0.5,
        _ => 0.0,
    };
    others().map(behind).sum::<f64>() / others().count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_and_who_has_no_value_is_not_counted() {
        let nearness = [Some(2.0), Some(3.0), None, Some(2.0), Some(-1.0)];
        assert_eq!(share_behind(0, &nearness), 0.5);
        assert_eq!((share_behind(1, &nearness), share_behind(4, &nearness)), (1.0, 0.0));
        assert!(share_behind(2, &nearness).is_nan() && share_behind(0, &[Some(1.0)]).is_nan());
    }
}
