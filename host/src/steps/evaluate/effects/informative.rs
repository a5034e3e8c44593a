//! Which perturbations can tell models apart: those that change enough genes, in a way that two halves of their cells
//! agree on. Of the others every score is mostly noise.

use super::super::differential::{Changed, RATE};
use super::panel::{Evidence, Panel};
use crate::statistics::adjusted;
use anyhow::Result;
use std::collections::HashMap;

/// What makes a perturbation informative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// At least so many genes change, at a false discovery rate below 5 %, by the table of tests.
    pub genes: usize,
    /// The Spearman correlation of the effects in two halves of the cells, the mean over splits, is above this.
    pub halves: f64,
}

/// The rule that is stated in the documentation.
pub const RULE: Rule = Rule { genes: 10, halves: 0.2 };

/// What is known of the measured perturbations before any model is asked.
pub struct Measured {
    /// How many genes but the targets and those that dominate the library change, by the table of tests: in shares of the
    /// whole library.
    changed: Vec<usize>,
    /// How many do in shares of the library without the genes that dominate it, as scores have it.
    changed_beside: Vec<usize>,
    /// The mean agreement of halves; NaN where there were none.
    agreement: Vec<f64>,
    /// Whether each is informative.
    pub informative: Vec<bool>,
}

impl Measured {
    /// By the table of tests, the evidence of all cells, and the mean agreement of halves.
    pub fn of(
        rule: &Rule,
        panel: &Panel,
        (tests, names): (&Changed, &[String]),
        whole: &Evidence,
        agreement: Vec<f64>,
    ) -> Self {
        let n = panel.labels.len();
        let column: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
        let of_table = |i: usize| {
            let found = tests.get(&panel.labels[i]).into_iter().flatten();
            found.filter_map(|name| column.get(name.as_str())).filter(|&&j| !panel.is_left_out(i, j)).count()
        };
        let changed: Vec<usize> = (0..n).map(of_table).collect();
        let changed_beside = (0..n).map(|i| changed_of(panel, whole, i)).collect();
        let enough = |(&n, &rho): (&usize, &f64)| n >= rule.genes && rho > rule.halves;
        let informative = changed.iter().zip(&agreement).map(enough).collect();
        Self { changed, changed_beside, agreement, informative }
    }

    /// One line for each perturbation.
    pub fn to_csv(&self, panel: &Panel, presence: &[f64]) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(vec![]);
        let columns =
            ["cells", "presence", "changed_genes", "changed_beside_dominant", "halves", "informative"];
        writer.write_record(["perturbation"].iter().chain(&columns))?;
        for (i, label) in panel.labels.iter().enumerate() {
            let halves = Some(self.agreement[i]).filter(|rho| rho.is_finite());
            writer.write_record([
                label.clone(),
                panel.members[i].len().to_string(),
                panel
                    .targets
                    .genes(i)
                    .iter()
                    .map(|&gene| presence[gene as usize])
                    .fold(1.0, f64::min)
                    .to_string(),
                self.changed[i].to_string(),
                self.changed_beside[i].to_string(),
                halves.map(|rho| rho.to_string()).unwrap_or_default(),
                self.informative[i].to_string(),
            ])?;
        }
        Ok(writer.into_inner()?)
    }
}

/// How many genes but the targets change, of those that are scored.
fn changed_of(panel: &Panel, whole: &Evidence, i: usize) -> usize {
    let z = panel.row(&whole.z, i);
    let tested: Vec<usize> = (0..z.len()).filter(|&gene| !z[gene].is_nan()).collect();
    let two_sided = |&gene: &usize| libm::erfc(f64::from(z[gene]).abs() * std::f64::consts::FRAC_1_SQRT_2);
    let found = adjusted(&tested.iter().map(two_sided).collect::<Vec<_>>());
    let targets = panel.targets.genes(i);
    tested.iter().zip(found).filter(|(gene, p)| *p < RATE && !targets.contains(&(**gene as u32))).count()
}

/// The Spearman correlation of two effects; NaN where one of them is constant.
pub fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 + 1.0) / 2.0;
    let product =
        |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - middle) * (y - middle)).sum::<f64>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

/// Mid-ranks.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for same in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = below as f64 + (same.len() as f64 + 1.0) / 2.0;
        same.iter().for_each(|&i| ranks[i] = rank);
        below += same.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_of_ranks_are_scipys() {
        assert_eq!(ranks(&[3.0, -1.0, 3.0, 0.0]), [3.5, 1.0, 3.5, 2.0]);
        // scipy.stats.spearmanr
        let found = spearman(&[1.0, 2.0, 2.0, 5.0, 3.0], &[2.0, 1.0, 4.0, 4.0, 9.0]);
        assert!((found - 0.605_263_157_895).abs() < 1e-9, "{found}");
        assert!(spearman(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }
}
