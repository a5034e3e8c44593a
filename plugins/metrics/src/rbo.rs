//! `rbo`

use crate::ranking::{RANKING, descending, rank_something};
use crate::sum::profiles;
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `rbo`.
    pub struct RboConfig {
        /// The chance to look at the next place, having looked at one: 0.9 gives the first ten 86 % of the weight.
        #[range(0.0..=0.999)]
        p: f64 = 0.9,
    }
}

/// Rank-biased overlap: Σ (1 − p) p^(d − 1) A_d, A_d what the first d of both rankings have in common, of d. Both rank the same
/// genes, the largest first; A_d stays as it is behind the last.
///
/// Of values that are tied at the border each is in the first d in part; overlaps of parts are divided by the geometric mean of
/// those of each ranking with itself, so that a ranking fully agrees with itself (RBO^b). A constant row has no value.
pub struct Rbo(RboConfig);

impl Component for Rbo {
    const ID: &'static str = "rbo";
    const DOC: &'static str = "Rank-biased overlap of two rankings, the largest first";
    type Config = RboConfig;
    fn new(config: RboConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for Rbo {
    const INFO: MetricInfo = MetricInfo {
        symmetric: true,
        source: "Webber, Moffat & Zobel, ACM TOIS 2010; ties: Corsi & Urbano, SIGIR 2024",
        ..RANKING
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        Ok(if rank_something(before, after) { overlap(before, after, self.0.p) } else { f64::NAN })
    }
}

/// Weights below this are none.
const LEAST: f64 = 1e-17;

fn overlap(a: &[f32], b: &[f32], p: f64) -> f64 {
    let mut heads = [Head::of(a), Head::of(b)];
    let mut common = Common::new(a.len());
    let (mut weight, mut sum, mut last) = (1.0 - p, 0.0, 0.0);
    let mut left = 1.0;
    for depth in 1..=a.len() {
        for (side, head) in heads.iter_mut().enumerate() {
            head.reach(depth, |gene, state| common.put(side, gene, state));
        }
        last = common.share([heads[0].part(depth), heads[1].part(depth)]);
        sum += weight * last;
        left *= p;
        weight *= p;
        if left < LEAST {
            break;
        }
    }
    (sum + left * last).clamp(0.0, 1.0)
}

/// How far a gene is in the first of a ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Behind,
    /// Tied at the border.
    Border,
    Within,
}

/// The first of a ranking.
struct Head {
    /// Genes from the strongest on, tied ones together.
    groups: Vec<Vec<usize>>,
    /// The group at the border, and at which depth it begins and ends.
    at: usize,
    begin: usize,
    end: usize,
}

impl Head {
    fn of(values: &[f32]) -> Self {
        Self { groups: descending(values), at: 0, begin: 0, end: 0 }
    }

    /// Goes on to the next depth, and tells which genes are in another state then.
    fn reach(&mut self, depth: usize, mut tell: impl FnMut(usize, State)) {
        if depth <= self.end {
            return;
        }
        if self.end > 0 {
            self.groups[self.at].iter().for_each(|&gene| tell(gene, State::Within));
            self.at += 1;
        }
        self.begin = self.end;
        self.end += self.groups[self.at].len();
        self.groups[self.at].iter().for_each(|&gene| tell(gene, State::Border));
    }

    /// How much of each gene at the border is in the first so many.
    fn part(&self, depth: usize) -> f64 {
        (depth - self.begin) as f64 / (self.end - self.begin) as f64
    }
}

/// How many genes are in each state of both rankings.
struct Common {
    states: Vec<[State; 2]>,
    counts: [[f64; 3]; 3],
}

impl Common {
    fn new(genes: usize) -> Self {
        Self { states: vec![[State::Behind; 2]; genes], counts: [[0.0; 3]; 3] }
    }

    fn put(&mut self, side: usize, gene: usize, state: State) {
        let [a, b] = self.states[gene];
        self.counts[a as usize][b as usize] -= 1.0;
        self.states[gene][side] = state;
        let [a, b] = self.states[gene];
        self.counts[a as usize][b as usize] += 1.0;
    }

    /// What both have in common, when so much of each gene at the border counts.
    fn share(&self, parts: [f64; 2]) -> f64 {
        let n = |a: State, b: State| self.counts[a as usize][b as usize];
        let (border, within) = (State::Border, State::Within);
        // The same bits whichever ranking is the first.
        let one = parts[0] * n(border, within) + parts[1] * n(within, border);
        let both = n(within, within) + one + parts[0] * parts[1] * n(border, border);
        let own =
            |part: f64, in_state: &dyn Fn(State) -> f64| in_state(within) + part * part * in_state(border);
        let states = [State::Behind, border, within];
        let own_a = own(parts[0], &|state| states.iter().map(|&other| n(state, other)).sum());
        let own_b = own(parts[1], &|state| states.iter().map(|&other| n(other, state)).sum());
        both / (own_a * own_b).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, random_row, score};
    use lacuna_sdk::testing;

    /// The same, each gene's part in the first d from its own place.
    fn plain(a: &[f32], b: &[f32], p: f64) -> f64 {
        let parts = |values: &[f32], d: f64| -> Vec<f64> {
            let above = |v: f32| values.iter().filter(|&&x| x > v).count() as f64;
            let same = |v: f32| values.iter().filter(|&&x| x == v).count() as f64;
            values.iter().map(|&v| ((d - above(v)) / same(v)).clamp(0.0, 1.0)).collect()
        };
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let agreement = |d: usize| {
            let (x, y) = (parts(a, d as f64), parts(b, d as f64));
            dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt()
        };
        let n = a.len();
        let sum: f64 = (1..=n).map(|d| (1.0 - p) * p.powi(d as i32 - 1) * agreement(d)).sum();
        sum + p.powi(n as i32) * agreement(n)
    }

    #[test]
    fn agrees_with_its_reference_and_is_as_declared() {
        let metric = Rbo::new(RboConfig::default()).unwrap();
        agrees_with_scipy(&metric);
        is_as_declared(&metric);
    }

    #[test]
    fn the_overlap_is_that_of_all_heads_of_both_rankings() {
        let mut stream = testing::context(3).stream(0);
        for n in 2..40 {
            let (a, b) = (random_row(&mut stream, n), random_row(&mut stream, n));
            for p in [0.0, 0.5, 0.9, 0.999] {
                let found = score(&Rbo::new(RboConfig { p }).unwrap(), &a, &b);
                let expected = if rank_something(&a, &b) { plain(&a, &b, p) } else { f64::NAN };
                let near = (found - expected).abs() < 1e-12 || found.is_nan() && expected.is_nan();
                assert!(near, "{n}, {p}: {found} {expected}");
            }
        }
    }

    #[test]
    fn the_first_places_weigh_most() {
        let metric = Rbo::new(RboConfig::default()).unwrap();
        // A_1 = 0, then 1: the first place has a tenth of the weight.
        assert!((score(&metric, &[3.0, 2.0, 1.0], &[2.0, 3.0, 1.0]) - 0.9).abs() < 1e-12);
        // A = 0, 1/2, 1.
        let expected = 0.9 * 0.1 / 2.0 + 0.9f64.powi(2) * 0.1 + 0.9f64.powi(3);
        assert!((score(&metric, &[3.0, 2.0, 1.0], &[1.0, 2.0, 3.0]) - expected).abs() < 1e-12);
        assert!(score(&metric, &[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }
}
