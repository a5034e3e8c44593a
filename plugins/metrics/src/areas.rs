//! Areas under curves of scores that should be higher for positives.

/// A score, whether it is one of a positive, and how much it counts.
#[derive(Debug, Clone, Copy)]
pub struct Ranked {
    /// The higher, the more positive.
    pub score: f64,
    /// Whether it is a positive.
    pub positive: bool,
    /// Its weight.
    pub weight: f64,
}

/// Sorts from the highest score on, and gives for each group of equal scores the weights of positives and negatives.
fn groups(ranked: &[Ranked]) -> Vec<(f64, f64)> {
    let mut sorted = ranked.to_vec();
    sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
    let weights = |same: &[Ranked], positive: bool| {
        same.iter().filter(|r| r.positive == positive).fold(0.0, |sum, r| sum + r.weight)
    };
    sorted.chunk_by(|a, b| a.score == b.score).map(|s| (weights(s, true), weights(s, false))).collect()
}

/// The weighted share of pairs of a positive and a negative in which the positive has the higher score, a tie by half;
/// NaN without positives or negatives, or where all scores are the same.
pub fn auroc(ranked: &[Ranked]) -> f64 {
    let groups = groups(ranked);
    if groups.len() < 2 {
        return f64::NAN;
    }
    let (mut higher, mut won, mut negatives) = (0.0, 0.0, 0.0);
    for (positive, negative) in groups {
        won += negative * (higher + positive / 2.0);
        higher += positive;
        negatives += negative;
    }
    won / (higher * negatives)
}

/// Average precision: Σ (R_k − R_{k−1}) P_k over the different scores, from the highest on; NaN without positives or
/// negatives, or where all scores are the same.
pub fn average_precision(ranked: &[Ranked]) -> f64 {
    let groups = groups(ranked);
    let all: f64 = groups.iter().map(|g| g.0).sum();
    if groups.len() < 2 || groups.iter().all(|g| g.1 == 0.0) {
        return f64::NAN;
    }
    let (mut positives, mut total, mut sum) = (0.0, 0.0, 0.0);
    for (positive, negative) in groups {
        positives += positive;
        total += positive + negative;
        sum += positive * positives / total;
    }
    sum / all
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    fn random(n: usize, seed: u64) -> Vec<Ranked> {
        let mut stream = testing::context(seed).stream(0);
        let one = |_| Ranked {
            score: f64::from(stream.random_range(0..6u8)),
            positive: stream.random_bool(0.4),
            weight: f64::from(stream.random_range(1..4u8)),
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        for seed in 0..50 {
            let ranked = random(2 + seed as usize, seed);
            let (mut won, mut all) = (0.0, 0.0);
            for a in ranked.iter().filter(|r| r.positive) {
                for b in ranked.iter().filter(|r| !r.positive) {
                    let half = f64::from(u8::from(a.score > b.score) + u8::from(a.score >= b.score)) / 2.0;
                    won += a.weight * b.weight * half;
                    all += a.weight * b.weight;
                }
            }
            let found = auroc(&ranked);
            let constant = ranked.iter().all(|r| r.score == ranked[0].score);
            match all > 0.0 && !constant {
                true => assert!((found - won / all).abs() < 1e-12, "{found} {}", won / all),
                false => assert!(found.is_nan()),
            }
        }
    }

    #[test]
    fn precision_is_averaged_over_the_positives_at_each_different_score() {
        for seed in 50..100 {
            let ranked = random(2 + seed as usize, seed);
            let positives: Vec<&Ranked> = ranked.iter().filter(|r| r.positive).collect();
            let weight = |of: &mut dyn Iterator<Item = &Ranked>| of.map(|r| r.weight).sum::<f64>();
            let precision = |at: f64| {
                weight(&mut ranked.iter().filter(|r| r.positive && r.score >= at))
                    / weight(&mut ranked.iter().filter(|r| r.score >= at))
            };
            let expected = positives.iter().map(|r| r.weight * precision(r.score)).sum::<f64>()
                / weight(&mut positives.iter().copied());
            assert!((average_precision(&ranked) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn one_kind_alone_and_equal_scores_have_no_area() {
        let one = |score, positive| Ranked { score, positive, weight: 1.0 };
        for ranked in [vec![], vec![one(1.0, true), one(2.0, true)], vec![one(1.0, true), one(1.0, false)]] {
            assert!(auroc(&ranked).is_nan() && average_precision(&ranked).is_nan());
        }
        assert!(auroc(&[one(1.0, false), one(2.0, false)]).is_nan());
        assert!(average_precision(&[one(1.0, false), one(2.0, false)]).is_nan());
    }
}
