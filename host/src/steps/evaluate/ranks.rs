//! The Wilcoxon rank-sum test of one gene between the controls and each of several other groups of cells, in which cells
//! may count several times, or not at all: sorted once, so that a bootstrap goes through the values once a draw.

/// The values of a gene in cells that express it; all other cells are at 0, below all of them.
pub struct Ranks {
    /// A control cell, and the number of its value among the controls' different values; ascending.
    controls: Vec<(u32, u32)>,
    /// How many different values the controls have.
    values: usize,
    groups: Vec<Group>,
}

/// The values of one other group of cells.
struct Group {
    /// Its cells, equal values together.
    cells: Vec<u32>,
    /// Where each different value's cells end, how many of the controls' values are lower, and whether the next of them
    /// is the same.
    values: Vec<(u32, u32, bool)>,
}

impl Ranks {
    /// Cells above 0 and their values, of the controls and of each group.
    pub fn new(mut controls: Vec<(u32, f64)>, groups: Vec<Vec<(u32, f64)>>) -> Self {
        let ascending = |a: &(u32, f64), b: &(u32, f64)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
        controls.sort_unstable_by(ascending);
        let mut different: Vec<f64> = vec![];
        let mut numbered = Vec::with_capacity(controls.len());
        for (cell, value) in controls {
            if different.last() != Some(&value) {
                different.push(value);
            }
            numbered.push((cell, different.len() as u32 - 1));
        }
        let group = |mut cells: Vec<(u32, f64)>| {
            cells.sort_unstable_by(ascending);
            let mut values = vec![];
            for same in cells.chunk_by(|a, b| a.1 == b.1) {
                let lower = different.partition_point(|&value| value < same[0].1);
                let end = values.last().map_or(0, |v: &(u32, u32, bool)| v.0) + same.len() as u32;
                values.push((end, lower as u32, different.get(lower) == Some(&same[0].1)));
            }
            Group { cells: cells.into_iter().map(|(cell, _)| cell).collect(), values }
        };
        let groups = groups.into_iter().map(group).collect();
        Self { controls: numbered, values: different.len(), groups }
    }

    /// z of the rank sum of each group against the controls, above 0 where the group is higher, when each cell counts as
    /// often as `weights` says; `sizes`: how many cells that makes of the controls and of each group. 0 where all values
    /// are the same.
    pub fn z(&self, weights: &[u32], (controls, sizes): (f64, &[f64])) -> Vec<f64> {
        // How many controls have each value, and a lower one.
        let mut same = vec![0f64; self.values + 1];
        self.controls.iter().for_each(|&(cell, value)| same[value as usize] += count(weights, cell));
        let zeros = controls - same.iter().sum::<f64>();
        let mut lower = Vec::with_capacity(same.len());
        let (mut below, mut ties) = (zeros, 0.0);
        for &n in &same {
            lower.push(below);
            below += n;
            ties += cubed(n);
        }
        let one =
            |(group, &size): (&Group, &f64)| group.z(weights, (&same, &lower, zeros, ties), (controls, size));
        self.groups.iter().zip(sizes).map(one).collect()
    }
}

impl Group {
    fn z(
        &self,
        weights: &[u32],
        (same, lower, zeros, ties): (&[f64], &[f64], f64, f64),
        (n, m): (f64, f64),
    ) -> f64 {
        let (mut won, mut ties, mut above, mut start) = (0.0, ties, 0.0, 0);
        for &(end, value, shared) in &self.values {
            let own: f64 = self.cells[start..end as usize].iter().map(|&cell| count(weights, cell)).sum();
            let equal = if shared { same[value as usize] } else { 0.0 };
            won += own * (lower[value as usize] + equal / 2.0);
            ties += cubed(own + equal) - cubed(equal);
            above += own;
            start = end as usize;
        }
        won += (m - above) * zeros / 2.0;
        ties += cubed(zeros + m - above);
        let all = n + m;
        let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
        if variance > 0.0 { (won - n * m / 2.0) / variance.sqrt() } else { 0.0 }
    }
}

fn count(weights: &[u32], cell: u32) -> f64 {
    f64::from(weights[cell as usize])
}

/// By how much so many equal values lower the variance.
fn cubed(n: f64) -> f64 {
    n * n * n - n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same in plain words: all values ranked, ties by the middle of their ranks.
    fn plain(first: &[f64], second: &[f64]) -> f64 {
        let all: Vec<f64> = first.iter().chain(second).copied().collect();
        let rank = |x: f64| {
            let below = all.iter().filter(|&&y| y < x).count() as f64;
            let same = all.iter().filter(|&&y| y == x).count() as f64;
            (below + (same + 1.0) / 2.0, same)
        };
        let (n, m, total) = (first.len() as f64, second.len() as f64, all.len() as f64);
        let sum: f64 = second.iter().map(|&x| rank(x).0).sum();
        let ties: f64 = all.iter().map(|&x| rank(x).1.powi(2) - 1.0).sum();
        let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
        if variance > 0.0 { (sum - m * (total + 1.0) / 2.0) / variance.sqrt() } else { 0.0 }
    }

    /// A value and a weight for each cell.
    fn cells() -> impl Strategy<Value = Vec<(u8, u32)>> {
        prop::collection::vec((0u8..6, 0u32..4), 1..30)
    }

    proptest! {
        #[test]
        fn z_is_that_of_all_values_ranked_each_cell_as_often_as_it_counts(
            control in cells(), one in cells(), other in cells()
        ) {
            let groups = [&control, &one, &other];
            let (mut weights, mut listed) = (vec![], vec![]);
            for group in groups {
                let start = weights.len() as u32;
                weights.extend(group.iter().map(|(_, weight)| *weight));
                let above = group.iter().zip(start..).filter(|((value, _), _)| *value > 0);
                listed.push(above.map(|((value, _), cell)| (cell, f64::from(*value))).collect::<Vec<_>>());
            }
            let repeated = groups.map(|group| {
                let one = |(value, weight): &(u8, u32)| vec![f64::from(*value); *weight as usize];
                group.iter().flat_map(one).collect::<Vec<_>>()
            });
            let sizes = repeated.each_ref().map(|values| values.len() as f64);
            let ranks = Ranks::new(listed[0].clone(), listed[1..].to_vec());
            let found = ranks.z(&weights, (sizes[0], &sizes[1..]));
            for (found, values) in found.iter().zip(&repeated[1..]) {
                prop_assert!((found - plain(&repeated[0], values)).abs() < 1e-9, "{found}");
            }
        }
    }

    #[test]
    fn a_gene_that_is_the_same_everywhere_says_nothing() {
        let z = |controls: Vec<(u32, f64)>, group: Vec<(u32, f64)>| {
            Ranks::new(controls, vec![group]).z(&[1; 12], (5.0, &[7.0]))[0]
        };
        let at = |cells: std::ops::Range<u32>| cells.map(|cell| (cell, 0.1)).collect::<Vec<_>>();
        assert_eq!((z(vec![], vec![]), z(at(0..5), at(5..12))), (0.0, 0.0));
        assert!(z(vec![], at(5..12)) > 3.0);
    }
}
