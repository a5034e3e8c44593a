//! Perturbations of two genes beside those of each of the two alone, and the baselines that are made of measured effects.
//!
//! Where both singles a and b of a double ab are measured too, what they do together beyond what each does alone is their
//! interaction, gene by gene: I = δ_ab − δ_a − δ_b.

use super::panel::Panel;
use crate::data::Knockouts;

/// What the names of baselines end with that know measured effects.
const MARK: &str = " (sees perturbed cells)";
/// Interactions below this part of the largest effect that they are made of are rounding.
const ROUNDING: f32 = 5e-6;

/// A baseline that is made of the measured effects of other perturbations. Models that learned from controls have seen
/// none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromMeasured {
    /// Of a double the sum of what its singles do.
    Additive,
    /// The mean effect of all other perturbations.
    MeanEffect,
}

impl FromMeasured {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Additive, Self::MeanEffect];

    /// Its name in the scores, which says what it knows.
    pub fn name(self) -> String {
        let name = match self {
            Self::Additive => "additive",
            Self::MeanEffect => "mean-effect",
        };
        format!("{name}{MARK}")
    }

    /// What it predicts from the measured effects, perturbations × genes; nothing where it says nothing of any.
    pub fn effects(self, panel: &Panel, measured: &[f32]) -> Option<Vec<f32>> {
        match self {
            Self::Additive if panel.doubles.members().is_empty() => None,
            Self::Additive => Some(additive(panel, measured)),
            Self::MeanEffect if panel.labels.len() < 2 => None,
            Self::MeanEffect => Some(mean_of_others(panel, measured)),
        }
    }
}

/// The measured effects of singles, and of a double with both singles the sum of theirs; 0 of others.
fn additive(panel: &Panel, measured: &[f32]) -> Vec<f32> {
    let mut effects = Vec::with_capacity(measured.len());
    for i in 0..panel.labels.len() {
        match panel.doubles.singles(i) {
            Some([a, b]) => {
                let sums = panel.row(measured, a).iter().zip(panel.row(measured, b)).map(|(a, b)| a + b);
                effects.extend(sums);
            }
            None if panel.targets.genes(i).len() == 1 => effects.extend(panel.row(measured, i)),
            None => effects.extend(std::iter::repeat_n(0.0, panel.genes)),
        }
    }
    panel.silence(&mut effects);
    effects
}

/// For each perturbation and gene the mean effect of the other perturbations that do not hit the gene; 0 where all do.
fn mean_of_others(panel: &Panel, measured: &[f32]) -> Vec<f32> {
    let mut effects = vec![0.0; measured.len()];
    for gene in 0..panel.genes {
        let tells = |i: &usize| !panel.is_left_out(*i, gene);
        let known: Vec<(usize, f64)> = (0..panel.labels.len())
            .filter(tells)
            .map(|i| (i, f64::from(panel.row(measured, i)[gene])))
            .collect();
        let sum: f64 = known.iter().map(|(_, effect)| effect).sum();
        let others = known.len().saturating_sub(1) as f64;
        for (i, effect) in known.iter().filter(|_| others > 0.0) {
            effects[i * panel.genes + gene] = ((sum - effect) / others) as f32;
        }
    }
    effects
}

/// The perturbations of two genes each of which is measured alone too.
#[derive(Debug, Default)]
pub struct Doubles {
    /// The singles of each perturbation that is one.
    singles: Vec<Option<[usize; 2]>>,
}

impl Doubles {
    /// Those among perturbations that hit these genes.
    pub fn among(targets: &Knockouts) -> Self {
        let single = |gene: u32| (0..targets.len()).find(|&i| targets.genes(i) == [gene]);
        let singles_of = |i: usize| match *targets.genes(i) {
            [a, b] => Some([single(a)?, single(b)?]),
            _ => None,
        };
        Self { singles: (0..targets.len()).map(singles_of).collect() }
    }

    /// The singles of perturbation `i`, if it is such a double.
    pub fn singles(&self, i: usize) -> Option<[usize; 2]> {
        self.singles[i]
    }

    /// Which perturbations are such doubles.
    pub fn members(&self) -> Vec<usize> {
        (0..self.singles.len()).filter(|&i| self.singles[i].is_some()).collect()
    }
}

/// The interaction of double `i`, on all genes that are not left out of it; nothing of another perturbation.
pub fn interaction(panel: &Panel, effects: &[f32], i: usize) -> Option<Vec<f32>> {
    let [a, b] = panel.doubles.singles(i)?;
    let rows = [i, a, b].map(|k| panel.row(effects, k));
    let genes = || (0..panel.genes).filter(|&gene| !panel.is_left_out(i, gene));
    let largest = genes().flat_map(|gene| rows.map(|row| row[gene].abs())).fold(0.0, f32::max);
    let one = |gene: usize| {
        let [both, first, second] = rows.map(|row| f64::from(row[gene]));
        let found = (both - first - second) as f32;
        if found.abs() < ROUNDING * largest { 0.0 } else { found }
    };
    Some(genes().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Perturbations of A, B, A and B, C, and A and C on five genes, of which E dominates.
    fn panel() -> Panel {
        let mut targets = Knockouts::default();
        for genes in [&[0u32][..], &[1], &[0, 1], &[2], &[0, 3]] {
            targets.push_population(genes, &vec![0.0; genes.len()]);
        }
        Panel::of_targets(targets, 5, &[4])
    }

    const MEASURED: [f32; 25] = [
        0.0, 1.0, 2.0, 3.0, 0.0, // A
        -1.0, 0.0, 0.5, 0.25, 0.0, // B
        0.0, 0.0, 2.0, 4.0, 0.0, // A+B
        8.0, -2.0, 0.0, 1.0, 0.0, // C
        0.0, 1.5, 6.0, 0.0, 0.0, // A+D: D is not measured alone
    ];

    #[test]
    fn doubles_are_those_of_two_genes_that_are_measured_alone_too() {
        let panel = panel();
        assert_eq!(panel.doubles.members(), [2]);
        assert_eq!((panel.doubles.singles(2), panel.doubles.singles(4)), (Some([0, 1]), None));
    }

    #[test]
    fn additive_is_the_sum_of_the_singles_and_the_interaction_what_is_beyond_it() {
        let panel = panel();
        let found = FromMeasured::Additive.effects(&panel, &MEASURED).unwrap();
        assert_eq!(panel.row(&found, 2), [0.0, 0.0, 2.5, 3.25, 0.0]);
        assert_eq!((panel.row(&found, 1), panel.row(&found, 4)), (panel.row(&MEASURED, 1), &[0.0; 5][..]));
        // On C and D: A, B and what dominates are left out.
        assert_eq!(interaction(&panel, &MEASURED, 2), Some(vec![-0.5, 0.75]));
        assert_eq!(interaction(&panel, &found, 2), Some(vec![0.0, 0.0]));
        assert_eq!(interaction(&panel, &MEASURED, 4), None);
    }

    #[test]
    fn rounding_is_no_interaction() {
        let mut effects = vec![0.0f32; 25];
        for (at, (a, b)) in [(2, (0.1, 0.2)), (3, (1e3, 2.5e-2))] {
            (effects[at], effects[5 + at], effects[10 + at]) = (a, b, a + b);
        }
        assert_eq!(interaction(&panel(), &effects, 2), Some(vec![0.0, 0.0]));
    }

    #[test]
    fn the_mean_effect_is_that_of_all_others_that_do_not_hit_the_gene() {
        let panel = panel();
        let found = FromMeasured::MeanEffect.effects(&panel, &MEASURED).unwrap();
        for i in 0..5 {
            for gene in 0..5 {
                let others = (0..5).filter(|&k| k != i && !panel.is_left_out(k, gene));
                let values: Vec<f32> = others.map(|k| panel.row(&MEASURED, k)[gene]).collect();
                let expected = match panel.is_left_out(i, gene) || values.is_empty() {
                    true => 0.0,
                    false => values.iter().sum::<f32>() / values.len() as f32,
                };
                let value = panel.row(&found, i)[gene];
                assert!((value - expected).abs() < 1e-6, "{i}, {gene}: {value} {expected}");
            }
        }
    }

    #[test]
    fn without_doubles_or_others_there_is_no_such_baseline() {
        let mut targets = Knockouts::default();
        targets.push_population(&[0], &[0.0]);
        let panel = Panel::of_targets(targets, 2, &[]);
        assert!(FromMeasured::ALL.iter().all(|b| b.effects(&panel, &[0.0, 1.0]).is_none()));
        assert!(FromMeasured::ALL.iter().all(|b| b.name().ends_with(MARK)));
    }
}
