//! The measured effects of perturbations, of all cells or of cells drawn again.
//!
//! The effect of a perturbation is δ, gene by gene: the mean over its cells of log1p(10⁴ p), minus that over the controls,
//! where p are shares of a cell's profile without the perturbed genes and those that dominate the library, closed again.

use super::super::differential::by_gene;
use super::super::ranks::Ranks;
use super::doubles::Doubles;
use super::log_share;
use crate::data::{Cells, Knockouts};
use crate::plugin::Services;
use crate::run::Cancelled;
use crate::steps::prepare::OTHER_GENES;
use anyhow::{Result, ensure};
use rayon::prelude::*;

/// The perturbations that were measured.
pub struct Panel {
    /// Their names.
    pub labels: Vec<String>,
    /// Their targets, as knockouts of the population.
    pub targets: Knockouts,
    /// Which of them are of two genes that are perturbed alone too.
    pub doubles: Doubles,
    /// The cells of each.
    pub members: Vec<Vec<usize>>,
    /// The control cells.
    pub controls: Vec<usize>,
    /// Number of genes.
    pub genes: usize,
    /// The pseudo-gene of `close = "library"`, which no score looks at.
    other: Option<u32>,
    /// Genes that are too much of the controls' counts: what happens to them would seem to happen to all others.
    dominant: Vec<u32>,
    /// For the rank-sum test of each gene.
    ranks: Vec<Ranks>,
}

/// What cells say of the perturbations: perturbations × genes.
pub struct Evidence {
    /// δ; 0 at the targets.
    pub effects: Vec<f32>,
    /// z of the rank-sum test; NaN where it was not made.
    pub z: Vec<f32>,
    /// The controls' mean of log1p(10⁴ p), shape (genes).
    pub controls: Vec<f32>,
}

/// What cells say, and what they say with either half of the controls: of these the one is not noisy as the other is.
pub struct Sides {
    /// With all controls.
    pub all: Evidence,
    /// With every other control, where that is asked for.
    pub halves: Option<[Evidence; 2]>,
}

impl Panel {
    /// All perturbations of at least so many cells.
    pub fn of(cells: &Cells, (min_cells, dominant): (usize, f64), host: &Services) -> Result<Self> {
        let column = cells.var.index();
        let controls = cells.controls();
        ensure!(!controls.is_empty(), "no cell of `truth` is a control");
        let mut panel = Self {
            labels: vec![],
            targets: Knockouts::default(),
            doubles: Doubles::default(),
            members: vec![],
            controls,
            genes: cells.n_genes(),
            other: column.get(OTHER_GENES).copied(),
            dominant: vec![],
            ranks: vec![],
        };
        let (mut few, mut unknown) = (vec![], vec![]);
        for (perturbation, members) in cells.measured.iter().flat_map(|m| m.cells_by_perturbation()) {
            let label = perturbation.label.as_str();
            match perturbation.columns(&column) {
                None => unknown.push(label),
                Some(_) if members.len() < min_cells => few.push(label),
                Some(targets) => {
                    panel.targets.push_population(&targets, &vec![0.0; targets.len()]);
                    panel.labels.push(label.into());
                    panel.members.push(members);
                }
            }
        }
        let few_cells = format!("fewer than {min_cells} cells");
        for (names, why) in [(&few, few_cells.as_str()), (&unknown, "targets that the model lacks")] {
            if !names.is_empty() {
                host.warn(format!("not scored, for {why}: {}", names.join(", ")));
            }
        }
        ensure!(
            !panel.labels.is_empty(),
            "no perturbation can be scored: of {} in `truth`, {} have {few_cells}, {} targets that the model lacks",
            few.len() + unknown.len(),
            few.len(),
            unknown.len()
        );
        panel.doubles = Doubles::among(&panel.targets);
        panel.dominant = panel.dominating(cells, dominant, host);
        panel.ranks = panel.ranked(cells);
        Ok(panel)
    }

    /// Perturbations of some genes, without any cells.
    #[cfg(test)]
    pub fn of_targets(targets: Knockouts, genes: usize, dominant: &[u32]) -> Self {
        Self {
            labels: (0..targets.len()).map(|i| format!("P{i}")).collect(),
            doubles: Doubles::among(&targets),
            members: vec![vec![]; targets.len()],
            controls: vec![],
            genes,
            other: None,
            dominant: dominant.to_vec(),
            ranks: vec![],
            targets,
        }
    }

    /// The genes that are more than this share of the controls' counts; says which.
    fn dominating(&self, cells: &Cells, share: f64, host: &Services) -> Vec<u32> {
        let mut counts = vec![0f64; self.genes];
        for &cell in &self.controls {
            let (genes, values) = cells.x.row(cell);
            genes.iter().zip(values).for_each(|(&gene, &value)| counts[gene as usize] += f64::from(value));
        }
        let all: f64 = counts.iter().sum();
        let found =
            (0..self.genes as u32).filter(|&g| counts[g as usize] > share * all && self.other != Some(g));
        let found: Vec<u32> = found.collect();
        for &gene in &found {
            let (name, percent) = (&cells.var.names[gene as usize], 100.0 * counts[gene as usize] / all);
            host.warn(format!(
                "{name} is {percent:.0} % of the controls' counts: it is left out of the shares and of the scores \
                 (`dominant`)"
            ));
        }
        found
    }

    /// The genes that a profile is closed without where some are perturbed.
    pub fn left_out(&self, targets: &[u32]) -> Vec<u32> {
        targets.iter().chain(&self.dominant).copied().collect()
    }

    /// Each gene's values in the library of its cell without the genes that dominate it, sorted once for all draws.
    fn ranked(&self, cells: &Cells) -> Vec<Ranks> {
        const NONE: u32 = u32::MAX;
        let mut arm = vec![NONE; cells.len()];
        self.controls.iter().for_each(|&cell| arm[cell] = 0);
        for (members, i) in self.members.iter().zip(1..) {
            members.iter().for_each(|&cell| arm[cell] = i);
        }
        let of_gene = |values: &Vec<_>| {
            let mut arms = vec![vec![]; self.labels.len() + 1];
            for value in values.iter() {
                let value: &super::super::differential::Value = value;
                if let Some(list) = arms.get_mut(arm[value.cell as usize] as usize) {
                    list.push((value.cell, value.rank_by));
                }
            }
            let groups = arms.split_off(1);
            Ranks::new(arms.remove(0), groups)
        };
        by_gene(cells, &self.library(cells)).par_iter().map(of_gene).collect()
    }

    /// Each cell's library without the genes that dominate it.
    fn library(&self, cells: &Cells) -> Vec<f64> {
        let of_cell = |cell: usize| {
            let (genes, values) = cells.x.row(cell);
            let dominant = genes.iter().zip(values).filter(|(gene, _)| self.dominant.contains(gene));
            cells.library[cell] - dominant.map(|(_, &value)| f64::from(value)).sum::<f64>()
        };
        (0..cells.len()).map(of_cell).collect()
    }

    /// What the cells say when each counts as often as some weights say, for each of these; `tested`: whether genes are
    /// tested too.
    pub fn evidence(
        &self,
        cells: &Cells,
        (weights, tested): (&[Vec<u32>], bool),
        host: &Services,
    ) -> Result<Vec<Evidence>> {
        let (n, draws) = (self.labels.len(), weights.len());
        let size = |rows: &[usize]| -> Vec<f64> {
            weights.iter().map(|w| rows.iter().map(|&row| f64::from(w[row])).sum()).collect()
        };
        let controls = size(&self.controls);
        let sizes: Vec<Vec<f64>> = self.members.iter().map(|members| size(members)).collect();
        let whole = sum_of_logs(cells, &self.controls, &self.dominant, weights);
        let effects: Vec<Vec<f64>> = (0..n)
            .into_par_iter()
            .map(|i| {
                if host.cancelled() {
                    return Err(Cancelled.into());
                }
                let targets = self.targets.genes(i);
                let without = self.left_out(targets);
                let mut effect = sum_of_logs(cells, &self.members[i], &without, weights);
                // Only cells with the targets are others without them.
                let with = |&c: &usize| targets.iter().any(|t| cells.x.row(c).0.binary_search(t).is_ok());
                let changed: Vec<usize> = self.controls.iter().copied().filter(with).collect();
                let less = sum_of_logs(cells, &changed, &self.dominant, weights);
                let more = sum_of_logs(cells, &changed, &without, weights);
                for (at, after) in effect.iter_mut().enumerate() {
                    let draw = at % draws;
                    let before = (whole[at] - less[at] + more[at]) / controls[draw];
                    *after = *after / sizes[i][draw] - before;
                }
                Ok(effect)
            })
            .collect::<Result<_>>()?;
        let one = |draw: usize| {
            let every = |list: &[f64]| -> Vec<f32> {
                list.iter().skip(draw).step_by(draws).map(|&x| x as f32).collect()
            };
            let sizes: Vec<f64> = sizes.iter().map(|s| s[draw]).collect();
            let mut effects: Vec<f32> = effects.iter().flat_map(|effect| every(effect)).collect();
            self.silence(&mut effects);
            let mean: Vec<f64> = whole.iter().skip(draw).step_by(draws).map(|x| x / controls[draw]).collect();
            Evidence {
                effects,
                z: if tested {
                    self.z(&weights[draw], (controls[draw], &sizes))
                } else {
                    vec![f32::NAN; n * self.genes]
                },
                controls: mean.into_iter().map(|x| x as f32).collect(),
            }
        };
        Ok((0..draws).map(one).collect())
    }

    /// The same, and with either half of the controls if these are `halved`; tests are those with all controls.
    pub fn sides(
        &self,
        cells: &Cells,
        (weights, tested, halved): (&[Vec<u32>], bool, bool),
        host: &Services,
    ) -> Result<Vec<Sides>> {
        let all = self.evidence(cells, (weights, tested), host)?;
        let mut halves = vec![].into_iter();
        if halved {
            let of_halves: Vec<Vec<u32>> = weights.iter().flat_map(|w| self.control_halves(w)).collect();
            halves = self.evidence(cells, (&of_halves, false), host)?.into_iter();
        }
        let sides = all.into_iter().map(|all| {
            let mut half =
                || Some(Evidence { z: all.z.clone(), controls: all.controls.clone(), ..halves.next()? });
            let halves = half().zip(half()).map(|(one, other)| [one, other]);
            Sides { all, halves }
        });
        Ok(sides.collect())
    }

    /// Weights without every other control, and without the others.
    fn control_halves(&self, weights: &[u32]) -> [Vec<u32>; 2] {
        let mut halves = [weights.to_vec(), weights.to_vec()];
        self.controls.iter().enumerate().for_each(|(k, &row)| halves[(k + 1) % 2][row] = 0);
        halves
    }

    fn z(&self, weights: &[u32], sizes: (f64, &[f64])) -> Vec<f32> {
        let mut z = vec![f32::NAN; self.labels.len() * self.genes];
        let is_tested =
            |gene: usize| self.other != Some(gene as u32) && !self.dominant.contains(&(gene as u32));
        for (gene, ranks) in self.ranks.iter().enumerate().filter(|(gene, _)| is_tested(*gene)) {
            for (i, found) in ranks.z(weights, sizes).into_iter().enumerate() {
                z[i * self.genes + gene] = found as f32;
            }
        }
        z
    }

    /// Row `i` of perturbations × genes.
    pub fn row<'m>(&self, matrix: &'m [f32], i: usize) -> &'m [f32] {
        &matrix[i * self.genes..(i + 1) * self.genes]
    }

    /// Whether a gene says nothing of perturbation `i`: its targets, what is left out of all, and what is no gene.
    pub fn is_left_out(&self, i: usize, gene: usize) -> bool {
        let gene = gene as u32;
        self.targets.genes(i).contains(&gene) || self.other == Some(gene) || self.dominant.contains(&gene)
    }

    /// Makes what is left out 0.
    pub fn silence(&self, effects: &mut [f32]) {
        for (i, row) in effects.chunks_exact_mut(self.genes.max(1)).enumerate() {
            row.iter_mut().enumerate().filter(|(j, _)| self.is_left_out(i, *j)).for_each(|(_, x)| *x = 0.0);
        }
    }

    /// The effects of perturbation `i` on all that is not left out.
    pub fn others(&self, matrix: &[f32], i: usize) -> Vec<f32> {
        (0..self.genes).filter(|&j| !self.is_left_out(i, j)).map(|j| self.row(matrix, i)[j]).collect()
    }

    /// Says which targets nearly all or nearly no controls express: what a model says of their loss is extrapolated.
    pub fn warn_of_presence(&self, presence: &[f64], host: &Services) {
        const RARE: f64 = 0.02;
        let mut extreme = vec![];
        for (i, label) in self.labels.iter().enumerate() {
            let rare = |p: &f64| !(RARE..=1.0 - RARE).contains(p);
            let found = self.targets.genes(i).iter().map(|&gene| presence[gene as usize]).find(rare);
            extreme.extend(found.map(|p| format!("{label} ({:.1} %)", 100.0 * p)));
        }
        if !extreme.is_empty() {
            host.warn(format!(
                "nearly all or nearly no controls express these targets, so that what is said of their loss is \
                 extrapolated: {}",
                extreme.join(", ")
            ));
        }
    }

    /// The share of the controls that express each gene; NaN for what is no gene.
    pub fn presence(&self, cells: &Cells) -> Vec<f64> {
        let mut count = vec![0.0; self.genes];
        for &cell in &self.controls {
            cells.x.row(cell).0.iter().for_each(|&gene| count[gene as usize] += 1.0);
        }
        count.iter_mut().for_each(|n| *n /= self.controls.len() as f64);
        self.other.iter().for_each(|&other| count[other as usize] = f64::NAN);
        count
    }
}

/// The sum over cells of the logarithms of their shares, some genes left out and the rest closed again, each cell as
/// often as some weights say: genes × weights.
fn sum_of_logs(cells: &Cells, rows: &[usize], without: &[u32], weights: &[Vec<u32>]) -> Vec<f64> {
    let draws = weights.len();
    let mut sum = vec![0f64; cells.n_genes() * draws];
    let mut of_cell = vec![0.0; draws];
    for &cell in rows {
        of_cell.iter_mut().zip(weights).for_each(|(count, w)| *count = f64::from(w[cell]));
        let (indices, values) = cells.x.row(cell);
        let kept = || indices.iter().zip(values).filter(|(j, _)| !without.contains(j));
        let total: f64 = kept().map(|(_, &v)| f64::from(v)).sum();
        if total <= 0.0 {
            continue;
        }
        for (&j, &v) in kept() {
            let log = log_share(f64::from(v) / total);
            let sums = &mut sum[j as usize * draws..(j as usize + 1) * draws];
            sums.iter_mut().zip(&of_cell).for_each(|(sum, count)| *sum += count * log);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Csr, Frame, LabelRules, Measured};

    /// Four controls and two cells without A, of three genes.
    fn cells() -> Cells {
        let mut x = Csr::empty(3);
        for values in [
            [2.0, 1.0, 1.0],
            [1.0, 3.0, 2.0],
            [4.0, 1.0, 5.0],
            [1.0, 1.0, 6.0],
            [0.0, 2.0, 1.0],
            [0.0, 1.0, 4.0],
        ] {
            x.push_row(values.into_iter().enumerate().filter(|(_, v)| *v > 0.0).map(|(j, v)| (j as u32, v)));
        }
        let genes = ["A", "B", "C"].map(String::from);
        let mut cells = Cells::new(
            x,
            Frame::of_names((0..6).map(|i| format!("c{i}")).collect()),
            Frame::of_names(genes.to_vec()),
        );
        let labels = ["ctrl", "ctrl", "ctrl", "ctrl", "A", "A"].map(String::from);
        cells.measured = Some(Measured::read(&labels, &genes, &LabelRules::default()));
        cells
    }

    #[test]
    fn either_half_of_the_controls_is_measured_with_all_perturbed_cells() {
        let (cells, host) = (cells(), crate::plugin::Services::silent(0, Default::default()));
        let panel = Panel::of(&cells, (1, 1.0), &host).unwrap();
        let weights = [vec![1, 1, 1, 1, 1, 1], vec![2, 1, 0, 3, 1, 1]];
        let sides = panel.sides(&cells, (&weights, true, true), &host).unwrap();
        let log = |cell: usize, gene: u32| {
            let (genes, values) = cells.x.row(cell);
            let of =
                |wanted: u32| genes.iter().position(|g| *g == wanted).map_or(0.0, |at| f64::from(values[at]));
            log_share(of(gene) / (of(1) + of(2)))
        };
        for (sides, weights) in sides.iter().zip(&weights) {
            let [even, odd] = sides.halves.as_ref().unwrap();
            for (evidence, controls) in [(&sides.all, &[0, 1, 2, 3][..]), (even, &[0, 2]), (odd, &[1, 3])] {
                for gene in [1, 2] {
                    let mean = |rows: &[usize]| {
                        let count = |row: usize| f64::from(weights[row]);
                        let sum: f64 = rows.iter().map(|&row| count(row) * log(row, gene)).sum();
                        sum / rows.iter().map(|&row| count(row)).sum::<f64>()
                    };
                    let found = f64::from(evidence.effects[gene as usize]);
                    assert!((found - (mean(&[4, 5]) - mean(controls))).abs() < 1e-5, "{found}");
                }
                assert_eq!(evidence.effects[0], 0.0);
                assert!(evidence.z.iter().zip(&sides.all.z).all(|(a, b)| a == b));
            }
        }
        let plain = panel.sides(&cells, (&weights, false, false), &host).unwrap();
        assert!(plain.iter().all(|sides| sides.halves.is_none()));
    }
}
