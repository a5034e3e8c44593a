//! What kind of numbers a matrix holds: counts, shares, normalised, logged or scaled values.

use std::fmt;

use crate::data::Csr;

/// Relative difference up to which sums count as equal: a sum of 30,000 `f32` is not exact.
const SAME_SUM: f64 = 1e-3;
/// log1p of 3 million: above it nothing is a logarithm of counts per anything.
const MAX_LOG: f32 = 15.0;

/// What a matrix holds, judged by its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// No value other than 0.
    Empty,
    /// Whole numbers.
    Counts,
    /// Each cell sums to 1.
    Profile,
    /// Counts divided by each cell's depth, such as CP10k: not logged.
    Normalised,
    /// log(1 + x) of normalised counts.
    Log1p,
    /// Other numbers, none below 0, for example simulated abundances.
    NonNegative,
    /// Numbers below 0, as after centring and scaling.
    Scaled,
    /// Some values are not numbers, or infinite.
    NotFinite,
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty (all 0)",
            Self::Counts => "counts",
            Self::Profile => "profiles (each cell sums to 1)",
            Self::Normalised => "normalised counts, not logged",
            Self::Log1p => "log1p of normalised counts",
            Self::NonNegative => "numbers that are not counts, none below 0",
            Self::Scaled => "scaled values (some below 0)",
            Self::NotFinite => "values that are not finite",
        })
    }
}

/// A summary of the values of a matrix, or of a sample of its cells.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueSummary {
    /// Number of cells looked at.
    pub n_cells: usize,
    /// Number of genes.
    pub n_genes: usize,
    /// Number of values other than 0.
    pub stored: usize,
    /// Least value, the 0s that are not stored among them; NaN is left out. 0 where there is nothing.
    pub min: f32,
    /// Greatest value.
    pub max: f32,
    /// Mean of the finite values other than 0.
    pub mean_nonzero: f64,
    /// Whether all values are whole numbers.
    pub all_integers: bool,
    /// Whether any value is not a number.
    pub has_nan: bool,
    /// Whether any value is infinite.
    pub has_infinite: bool,
    /// Whether any value is below 0.
    pub has_negative: bool,
    /// Median of the cells' sums, over cells that are not empty.
    pub row_sum_median: f64,
    /// Whether all cells that are not empty have nearly the same sum (within 0.1 %).
    pub row_sums_constant: bool,
    /// What follows from all this.
    pub kind: ValueKind,
}

impl ValueSummary {
    /// Looks at all cells.
    pub fn of(x: &Csr) -> Self {
        let mut scan = ValueScan::new(x.n_cols);
        scan.add(x);
        if scan.is_undecided() {
            scan.look_closer(x);
        }
        scan.finish()
    }
}

/// A summary under way: of a matrix that comes in blocks of rows, the same whatever the blocks.
pub struct ValueScan {
    summary: ValueSummary,
    /// Sums of the cells that are not empty.
    sums: Vec<f64>,
    sum: f64,
    finite: usize,
    /// Range of the stored values.
    range: (f32, f32),
    closer: Option<Closer>,
}

/// What tells normalised counts, and their logarithms, from other numbers.
#[derive(Default)]
struct Closer {
    normalised: Votes,
    logged: Votes,
    /// The cells' sums, unlogged.
    unlogged: Vec<f64>,
}

impl ValueScan {
    /// Of so many genes.
    pub fn new(n_genes: usize) -> Self {
        let summary = ValueSummary {
            n_cells: 0,
            n_genes,
            stored: 0,
            min: 0.0,
            max: 0.0,
            mean_nonzero: 0.0,
            all_integers: true,
            has_nan: false,
            has_infinite: false,
            has_negative: false,
            row_sum_median: 0.0,
            row_sums_constant: false,
            kind: ValueKind::Empty,
        };
        let range = (f32::INFINITY, f32::NEG_INFINITY);
        Self { summary, sums: vec![], sum: 0.0, finite: 0, range, closer: None }
    }

    /// Adds the next rows.
    pub fn add(&mut self, x: &Csr) {
        self.sums.extend(filled(x).map(|i| x.row_sum(i)));
        let summary = &mut self.summary;
        summary.n_cells += x.n_rows();
        summary.stored += x.nnz();
        for &v in &x.values {
            self.range = (self.range.0.min(v), self.range.1.max(v));
            summary.has_nan |= v.is_nan();
            summary.has_infinite |= v.is_infinite();
            summary.has_negative |= v < 0.0;
            summary.all_integers &= v.fract() == 0.0;
            if v.is_finite() {
                self.sum += f64::from(v);
                self.finite += 1;
            }
        }
    }

    /// Whether what was seen of all rows leaves open what they are: then they have to be looked at closer.
    pub fn is_undecided(&self) -> bool {
        let summary = &self.summary;
        let odd = summary.has_nan || summary.has_infinite || summary.has_negative;
        !(odd || summary.stored == 0 || summary.all_integers)
    }

    /// Looks at the next rows once more.
    pub fn look_closer(&mut self, x: &Csr) {
        let unlog = |v: f32| f64::from(v).exp_m1();
        let closer = self.closer.get_or_insert_default();
        closer.normalised.add(x, f64::from);
        closer.logged.add(x, unlog);
        closer.unlogged.extend(filled(x).map(|i| x.row(i).1.iter().map(|&v| unlog(v)).sum::<f64>()));
    }

    /// All rows were added.
    pub fn finish(self) -> ValueSummary {
        let Self { mut summary, sums, sum, finite, range: (low, high), closer } = self;
        let full = summary.stored == summary.n_cells * summary.n_genes;
        // What is not stored is 0; so is the range where there is no number at all.
        (summary.min, summary.max) = match full && low <= high {
            true => (low, high),
            false => (low.min(0.0), high.max(0.0)),
        };
        summary.mean_nonzero = if finite > 0 { sum / finite as f64 } else { 0.0 };
        summary.row_sum_median = median(sums.clone());
        summary.row_sums_constant = nearly_constant(&sums);
        summary.kind = summary.classify(&sums, &closer.unwrap_or_default());
        summary
    }
}

impl ValueSummary {
    fn classify(&self, sums: &[f64], closer: &Closer) -> ValueKind {
        if self.has_nan || self.has_infinite {
            ValueKind::NotFinite
        } else if self.stored == 0 {
            ValueKind::Empty
        } else if self.has_negative {
            ValueKind::Scaled
        } else if self.all_integers {
            ValueKind::Counts
        } else if self.row_sums_constant && (self.row_sum_median - 1.0).abs() < SAME_SUM {
            ValueKind::Profile
        } else if self.row_sums_constant || closer.normalised.are_for() {
            ValueKind::Normalised
        } else if self.max < MAX_LOG && closer.is_logged(sums) {
            ValueKind::Log1p
        } else {
            ValueKind::NonNegative
        }
    }
}

impl Closer {
    /// Unlogged, each value is a whole multiple of the cell's one-count value; or, where counts were corrected
    /// before, the cells' sums come closer to each other than they are.
    fn is_logged(&self, sums: &[f64]) -> bool {
        self.logged.are_for() || (self.unlogged.len() > 1 && spread(&self.unlogged) < spread(sums))
    }
}

/// How many cells say that all their values are whole multiples of one, as counts over a size factor are: of the
/// least value, or of a half, third or quarter of it where the cell has no count of 1. Cells whose values are all
/// alike say nothing.
#[derive(Default)]
struct Votes {
    yes: usize,
    no: usize,
}

impl Votes {
    fn add(&mut self, x: &Csr, unlog: impl Fn(f32) -> f64) {
        for i in filled(x) {
            let values: Vec<f64> = x.row(i).1.iter().map(|&v| unlog(v)).collect();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let ratios = values.iter().map(|v| v / least).filter(|&r| r > 1.0 + SAME_SUM && r < 100.0);
            let ratios: Vec<f64> = ratios.collect();
            let whole = |r: f64| (r - r.round()).abs() <= 1e-4 * r;
            match ratios.is_empty() {
                true => {}
                false if [1.0, 2.0, 3.0, 4.0].iter().any(|k| ratios.iter().all(|r| whole(k * r))) => {
                    self.yes += 1;
                }
                false => self.no += 1,
            }
        }
    }

    fn are_for(&self) -> bool {
        self.yes > self.no
    }
}

fn filled(x: &Csr) -> impl Iterator<Item = usize> + '_ {
    (0..x.n_rows()).filter(|&i| !x.range(i).is_empty())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.len(), values.len() % 2) {
        (0, _) => 0.0,
        (_, 1) => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

fn nearly_constant(sums: &[f64]) -> bool {
    let (low, high) = sums.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &s| (l.min(s), h.max(s)));
    sums.len() > 1 && high - low <= SAME_SUM * low.abs()
}

/// Standard deviation over mean.
fn spread(sums: &[f64]) -> f64 {
    let n = sums.len() as f64;
    let mean = sums.iter().sum::<f64>() / n;
    (sums.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt() / mean
}

/// Rows that stand for a matrix: up to `limit` of `n`, in blocks spread evenly, since neighbours are cheap to read.
pub fn sample_rows(n: usize, limit: usize) -> Vec<std::ops::Range<usize>> {
    const BLOCKS: usize = 20;
    let blocks = if n <= limit || limit < BLOCKS { 1 } else { BLOCKS };
    let size = n.min(limit / blocks);
    (0..blocks).map(|b| b * (n - size) / (BLOCKS - 1)).map(|start| start..start + size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Vec<Vec<f32>> {
        let value =
            |i: usize, j: usize| if (i + j).is_multiple_of(3) { 0.0 } else { ((i * 7 + j * 5) % 6) as f32 };
        (0..40).map(|i| (0..30).map(|j| value(i, j)).collect()).collect()
    }

    fn matrix(rows: &[Vec<f32>]) -> Csr {
        let mut out = Csr::empty(rows[0].len());
        rows.iter().for_each(|row| out.push_row((0..).zip(row.iter().copied())));
        out
    }

    fn kind(change: impl Fn(f32, f32) -> f32) -> ValueKind {
        let mut rows = counts();
        for row in &mut rows {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|v| *v = change(*v, sum));
        }
        ValueSummary::of(&matrix(&rows)).kind
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(kind(|v, _| v), ValueKind::Counts);
        assert_eq!(kind(|v, s| v / s), ValueKind::Profile);
        assert_eq!(kind(|v, s| v / s * 1e4), ValueKind::Normalised);
        assert_eq!(kind(|v, s| (v / s * 1e4).ln_1p()), ValueKind::Log1p);
        assert_eq!(kind(|v, s| (v / s * 1e4).ln_1p() - 1.0), ValueKind::Scaled);
        assert_eq!(kind(|v, _| v / 0.0), ValueKind::NotFinite);
        assert_eq!(kind(|v, _| v * 0.0), ValueKind::Empty);
    }

    #[test]
    fn genes_left_out_after_normalising_change_nothing() {
        let mut rows = counts();
        for row in &mut rows {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|v| *v = (*v / sum * 1e4).ln_1p());
            row.truncate(11);
        }
        assert_eq!(ValueSummary::of(&matrix(&rows)).kind, ValueKind::Log1p);
        rows.iter_mut().flatten().for_each(|v| *v = v.exp_m1());
        assert_eq!(ValueSummary::of(&matrix(&rows)).kind, ValueKind::Normalised);
    }

    #[test]
    fn abundances_of_a_simulator_are_not_taken_for_logs() {
        let value = |i: usize, j: usize| 5.0 * ((i * 31 + j * 17) as f32).sin().powi(2);
        let rows: Vec<Vec<f32>> = (0..50).map(|i| (0..40).map(|j| value(i, j)).collect()).collect();
        assert_eq!(ValueSummary::of(&matrix(&rows)).kind, ValueKind::NonNegative);
    }

    #[test]
    fn the_summary_counts_what_is_not_stored_as_0() {
        let summary = ValueSummary::of(&matrix(&[vec![2.0, 0.0], vec![4.0, 3.5], vec![0.0, 0.0]]));
        assert_eq!((summary.min, summary.max, summary.stored), (0.0, 4.0, 3));
        assert_eq!((summary.row_sum_median, summary.all_integers), (4.75, false));
        let full = ValueSummary::of(&matrix(&[vec![2.0, -1.0]]));
        assert_eq!((full.min, full.max), (-1.0, 2.0));
    }

    #[test]
    fn a_sample_is_spread_from_the_first_cell_to_the_last() {
        assert!(sample_rows(30, 2000).into_iter().flatten().eq(0..30));
        let blocks = sample_rows(1_000_003, 2000);
        assert_eq!(blocks.len(), 20);
        assert_eq!((blocks[0].clone(), blocks[19].clone()), (0..100, 999_903..1_000_003));
        assert!(blocks.windows(2).all(|w| w[0].end <= w[1].start));
    }
}
