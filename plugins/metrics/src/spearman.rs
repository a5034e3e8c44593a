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

/// Memory for ranking, used again for each row.
#[derive(Default)]
struct Buffers {
    keys: Vec<u64>,
    before: Vec<f64>,
    after: Vec<f64>,
}

impl Buffers {
    fn spearman(&mut self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        if u32::try_from(before.len()).is_err() {
            return Err(Error::data(format!(
                "expected a row of at most 2^32 − 1 genes, found {}",
                before.len()
            )));
        }
        if before.iter().chain(after).any(|v| v.is_nan()) {
            return Ok(f64::NAN);
        }
        rank(before, &mut self.keys, &mut self.before);
        rank(after, &mut self.keys, &mut self.after);
        Ok(correlation(&self.before, &self.after, 0.0, 0.0))
    }
}

/// Twice the mid-rank of each value less the mean: whole numbers around 0, exact in `f64`.
fn rank(values: &[f32], keys: &mut Vec<u64>, ranks: &mut Vec<f64>) {
    keys.clear();
    // One word holds value and place, so that the sort moves no pairs and calls no comparison.
    keys.extend(values.iter().enumerate().map(|(i, &v)| u64::from(ordered_bits(v)) << 32 | i as u64));
    keys.sort_unstable();
    ranks.clear();
    ranks.resize(values.len(), 0.0);
    let mut first = 0;
    for ties in keys.chunk_by(|a, b| a >> 32 == b >> 32) {
        let last = first + ties.len() - 1;
        let rank = (first + last) as f64 - (values.len() - 1) as f64;
        ties.iter().for_each(|&key| ranks[key as u32 as usize] = rank);
        first = last + 1;
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
        rank(&[3.0, -0.0, 0.0, -7.5, f32::INFINITY], &mut vec![], &mut ranks);
        // Mid-ranks 4, 2.5, 2.5, 1, 5.
        assert_eq!(ranks, [2.0, -1.0, -1.0, -4.0, 4.0]);
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
    }
}
