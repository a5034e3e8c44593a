//! Sampling without repetition from a range too long to hold.

use lacuna_sdk::Stream;
use lacuna_sdk::rand::RngExt;
use std::collections::HashSet;

/// `amount` different numbers below `total`, ascending; every such set is equally likely.
///
/// Memory and time follow the amount, not the total.
pub fn sorted_sample(total: u64, amount: u64, stream: &mut Stream) -> Vec<u64> {
    if amount >= total {
        return (0..total).collect();
    }
    if amount > total / 2 {
        let left_out = sorted_sample(total, total - amount, stream);
        let mut left_out = left_out.into_iter().peekable();
        return (0..total).filter(|n| left_out.next_if_eq(n).is_none()).collect();
    }
    let mut sample: Vec<u64> = floyd(total, amount, stream).into_iter().collect();
    sample.sort_unstable();
    sample
}

/// Floyd's algorithm: Bentley & Floyd, Communications of the ACM 30, 754 (1987).
fn floyd(total: u64, amount: u64, stream: &mut Stream) -> HashSet<u64> {
    let mut chosen = HashSet::new();
    for last in total - amount..total {
        if !chosen.insert(stream.random_range(0..=last)) {
            chosen.insert(last);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    /// χ² of how often each of `total` numbers was drawn. Draws without repetition vary less than independent
    /// ones, by (total − amount) / (total − 1), so that the quotient has total − 1 degrees of freedom.
    fn chi_square(total: u64, amount: u64) -> f64 {
        let cx = testing::context(2510);
        let (rounds, mut counts) = (4000, vec![0.0; total as usize]);
        for round in 0..rounds {
            let sample = sorted_sample(total, amount, &mut cx.stream(round));
            assert_eq!(sample.len() as u64, amount);
            assert!(sample.is_sorted_by(|a, b| a < b) && sample.iter().all(|&n| n < total));
            sample.iter().for_each(|&n| counts[n as usize] += 1.0);
        }
        let expected = rounds as f64 * amount as f64 / total as f64;
        let sum: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
        sum * (total - 1) as f64 / (total - amount) as f64
    }

    #[test]
    fn every_number_is_equally_likely() {
        // The 0.01 % and 99.99 % points of χ² with 30 degrees of freedom.
        for amount in [1, 7, 15, 16, 25, 30] {
            let found = chi_square(31, amount);
            assert!((9.0..67.7).contains(&found), "{amount}: {found}");
        }
    }

    #[test]
    fn every_pair_of_numbers_is_equally_likely() {
        let cx = testing::context(9);
        let mut counts = std::collections::BTreeMap::new();
        (0..6000).for_each(|i| *counts.entry(sorted_sample(5, 2, &mut cx.stream(i))).or_insert(0) += 1);
        let chi_square: f64 = counts.values().map(|&c| f64::from(c - 600).powi(2) / 600.0).sum();
        // Ten pairs; the 99.99 % point of χ² with 9 degrees of freedom.
        assert!(counts.len() == 10 && chi_square < 33.7, "{chi_square}");
    }

    #[test]
    fn a_long_range_is_no_burden_and_a_short_one_is_taken_whole() {
        let mut stream = testing::context(1).stream(0);
        let sample = sorted_sample(u64::MAX, 1000, &mut stream);
        assert_eq!(sample.len(), 1000);
        let mean = sample.iter().map(|&n| n as f64).sum::<f64>() / 1000.0;
        assert!((mean / u64::MAX as f64 - 0.5).abs() < 0.05);
        assert_eq!(sorted_sample(3, 5, &mut stream), [0, 1, 2]);
        assert!(sorted_sample(0, 5, &mut stream).is_empty());
    }
}
