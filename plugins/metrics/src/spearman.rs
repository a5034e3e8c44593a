//! `spearman`

use crate::pearson::correlation;
use crate::sum::profiles;
use lacuna_sdk::prelude::*;

/// The correlation of ranks. Ties share the mean of their ranks. A constant row, as any row of one gene, has
/// no value.
pub struct Spearman;

impl Component for Spearman {
    const ID: &'static str = "spearman";
    const DOC: &'static str =
        "Spearman correlation over the genes of a row, ties by mid-rank; no value for a constant row";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

/// Rows that share buffers: enough to save allocations, few enough to occupy all threads.
const BLOCK: usize = 64;

impl Metric for Spearman {
    const INFO: MetricInfo = MetricInfo {
        formula: Some("spearman"),
        source: "DKO: He, Klein, Levy, Wang, arXiv:2510.03359",
        ..MetricInfo::AGREEMENT
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        Buffers::default().spearman(row)
    }

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let n = scores.len();
        let blocks = cx.parallel_map(n.div_ceil(BLOCK), |block| -> Result<Vec<f64>> {
            cx.check()?;
            let mut buffers = Buffers::default();
            let rows = block * BLOCK..n.min((block + 1) * BLOCK);
            rows.map(|i| buffers.spearman(&comparison.row(i)?)).collect()
        });
        for (scores, block) in scores.chunks_mut(BLOCK).zip(blocks) {
            scores.copy_from_slice(&block?);
        }
        Ok(())
    }
}

/// The correlation of the ranks of two lists of one length; NaN when one of the two is constant.
pub fn spearman(a: &[f32], b: &[f32]) -> Result<f64> {
    Buffers::default().of(a, b)
}

/// Memory for ranking, used again for each row.
#[derive(Default)]
struct Buffers<'a> {
    keys: Keys,
    /// The row whose ranks `before` holds.
    ranked: Option<&'a [f32]>,
    before: Vec<f64>,
    after: Vec<f64>,
}

impl<'a> Buffers<'a> {
    fn spearman(&mut self, row: &Row<'a>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        self.of(before, after)
    }

    fn of(&mut self, before: &'a [f32], after: &[f32]) -> Result<f64> {
        if u32::try_from(before.len()).is_err() {
            return Err(Error::data(format!(
                "expected a row of at most 2^32 − 1 genes, found {}",
                before.len()
            )));
        }
        if before.iter().chain(after).any(|v| v.is_nan()) {
            return Ok(f64::NAN);
        }
        // Several predictions are compared with one truth: the row is the same piece of memory.
        if !self.ranked.is_some_and(|ranked| std::ptr::eq(ranked, before)) {
            rank(before, &mut self.keys, &mut self.before);
            self.ranked = Some(before);
        }
        rank(after, &mut self.keys, &mut self.after);
        Ok(correlation(&self.before, &self.after, 0.0, 0.0))
    }
}

/// Twice the mid-rank of each value less the mean: whole numbers around 0, exact in `f64`.
fn rank(values: &[f32], keys: &mut Keys, ranks: &mut Vec<f64>) {
    let word = |i: usize, value: f32| u64::from(ordered_bits(value)) << 32 | i as u64;
    // Most values of a cell are 0: they are ties, and need not be sorted.
    keys.words.resize(values.len(), 0);
    let mut others = 0;
    for (i, &value) in values.iter().enumerate() {
        // Without a branch, which no processor could foretell.
        keys.words[others] = word(i, value);
        others += usize::from(value != 0.0);
    }
    keys.words.truncate(others);
    keys.sort();
    let zeros = values.len() - others;
    let below = keys.words.partition_point(|&key| key < word(0, 0.0));
    let rank = |first: usize, n: usize| (2 * first + n) as f64 - values.len() as f64;
    ranks.clear();
    ranks.resize(values.len(), rank(below, zeros));
    let mut first = 0;
    for ties in keys.words.chunk_by(|a, b| a >> 32 == b >> 32) {
        let before = if first < below { first } else { first + zeros };
        let rank = rank(before, ties.len());
        ties.iter().for_each(|&key| ranks[key as u32 as usize] = rank);
        first += ties.len();
    }
}

/// One word holds value and place, so that a sort moves no pairs and calls no comparison.
#[derive(Default)]
struct Keys {
    words: Vec<u64>,
    moved: Vec<u64>,
}

/// Bits of a value by which words are dealt at once, and how often.
const DIGIT: usize = 11;
const DIGITS: usize = 3;
/// Fewer words than this are sorted faster by comparing them.
const FEW: usize = 4096;

impl Keys {
    /// Sorts words that are in the order of their places.
    fn sort(&mut self) {
        if self.words.len() < FEW {
            return self.words.sort_unstable();
        }
        let digit = |word: u64, d: usize| (word >> (32 + DIGIT * d)) as usize & ((1 << DIGIT) - 1);
        let mut counts = vec![[0usize; 1 << DIGIT]; DIGITS];
        for &word in &self.words {
            counts.iter_mut().enumerate().for_each(|(d, counts)| counts[digit(word, d)] += 1);
        }
        self.moved.resize(self.words.len(), 0);
        // From the lowest digit to the highest, each time keeping the order so far among equals.
        for (d, counts) in counts.iter_mut().enumerate() {
            let mut next = 0;
            counts.iter_mut().for_each(|count| next += std::mem::replace(count, next));
            for &word in &self.words {
                let at = &mut counts[digit(word, d)];
                self.moved[*at] = word;
                *at += 1;
            }
            std::mem::swap(&mut self.words, &mut self.moved);
        }
    }
}

/// Bits that order as the numbers do; −0 equals 0.
fn ordered_bits(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, random_row, score};
    use lacuna_sdk::ndarray::Array2;
    use lacuna_sdk::testing;

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Spearman);
        is_as_declared(&Spearman);
    }

    #[test]
    fn ties_share_the_mean_rank_and_negative_zero_is_zero() {
        let mut ranks = vec![];
        rank(&[3.0, -0.0, 0.0, -7.5, f32::INFINITY], &mut Keys::default(), &mut ranks);
        // Mid-ranks 4, 2.5, 2.5, 1, 5.
        assert_eq!(ranks, [2.0, -1.0, -1.0, -4.0, 4.0]);
    }

    #[test]
    fn long_rows_are_ranked_as_by_counting() {
        let mut stream = testing::context(5).stream(0);
        let (mut keys, mut ranks) = (Keys::default(), vec![]);
        // Longer, then shorter: what a longer row left in the buffers is no part of a shorter one.
        for n in [3 * FEW, 2 * FEW, FEW / 2, 1, 0] {
            let mut values = random_row(&mut stream, n);
            values.iter_mut().enumerate().filter(|(i, _)| i % 3 == 0).for_each(|(i, v)| *v -= i as f32);
            rank(&values, &mut keys, &mut ranks);
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            for (value, rank) in values.iter().zip(&ranks) {
                let below = sorted.partition_point(|v| v < value);
                let up_to = sorted.partition_point(|v| v <= value);
                assert_eq!(*rank, (below + up_to) as f64 - n as f64);
            }
        }
    }

    #[test]
    fn constant_rows_have_no_value() {
        assert!(score(&Spearman, &[0.1; 7], &[0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1]).is_nan());
        assert!(score(&Spearman, &[0.1; 7], &[0.1; 7]).is_nan());
        assert!(score(&Spearman, &[1.0], &[1.0]).is_nan());
        assert!(score(&Spearman, &[], &[]).is_nan());
    }

    #[test]
    fn many_rows_score_as_each_alone() {
        let cx = testing::context(3);
        let mut stream = cx.stream(0);
        let (rows, genes) = (BLOCK * 2 + 7, 31);
        let mut matrix = || {
            let values = (0..rows).flat_map(|_| random_row(&mut stream, genes)).collect();
            Array2::from_shape_vec((rows, genes), values).unwrap()
        };
        let (before, after) = (matrix(), matrix());
        let comparison = testing::comparison(before.view(), after.view());
        let mut scores = vec![0.0; rows];
        Spearman.score(&comparison, &mut scores, &cx).unwrap();
        for (i, score) in scores.iter().enumerate() {
            assert_eq!(score.to_bits(), Spearman.row(&comparison.row(i).unwrap()).unwrap().to_bits());
        }
        assert!(Spearman.score(&comparison, &mut vec![0.0; rows + 1], &cx).is_err());
        // One row before all others.
        let first = before.row(0);
        let comparison = testing::comparison(first.broadcast((rows, genes)).unwrap(), after.view());
        Spearman.score(&comparison, &mut scores, &cx).unwrap();
        for (after, found) in after.rows().into_iter().zip(&scores) {
            let alone = score(&Spearman, first.as_slice().unwrap(), after.as_slice().unwrap());
            assert_eq!(found.to_bits(), alone.to_bits());
        }
    }
}
