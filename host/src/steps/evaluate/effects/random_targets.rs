//! What a model predicts for other targets: random ones that as many cells express. A model that scores no higher for a
//! perturbation's own targets than for these knows nothing of the perturbation.

use super::Bout;
use super::panel::Panel;
use crate::data::Knockouts;
use crate::plugin::Services;
use crate::run::seeded_stream;
use crate::steps::FittedModel;
use anyhow::Result;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// Where the streams begin, beyond those of draws and splits.
const STREAMS: u64 = 2 << 32;
/// Stand-ins are drawn from so many times as many genes, those nearest in presence.
const POOL: usize = 2;

/// The stand-ins of each perturbation's targets.
pub struct RandomTargets {
    /// Each different loss that is to be predicted.
    losses: Knockouts,
    /// Draws × perturbations: which loss stands in.
    draws: Vec<Vec<usize>>,
}

impl RandomTargets {
    /// For each perturbation `n` random losses of as many genes, each from the genes that are nearest to the target's
    /// presence; fewer where there are not enough genes.
    pub fn of(panel: &Panel, presence: &[f64], n: usize, host: &Services) -> Self {
        let pools: Vec<Vec<Vec<u32>>> = (0..panel.labels.len())
            .map(|i| {
                let mut stream = seeded_stream(host.seed(), STREAMS + i as u64);
                let targets = panel.targets.genes(i);
                let mut shuffled = |&target: &u32| {
                    let mut pool = nearest(presence, targets, target, POOL * n);
                    pool.shuffle(&mut stream);
                    pool
                };
                targets.iter().map(&mut shuffled).collect()
            })
            .collect();
        let draws = pools.iter().flatten().map(Vec::len).min().unwrap_or(0).min(n);
        let mut numbered: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
        let mut losses = Knockouts::default();
        let mut loss = |pools: &[Vec<u32>], draw: usize| {
            let mut genes: Vec<u32> = vec![];
            for pool in pools {
                let free =
                    (0..pool.len()).map(|k| pool[(draw + k) % pool.len()]).find(|g| !genes.contains(g));
                genes.extend(free);
            }
            genes.sort_unstable();
            *numbered.entry(genes).or_insert_with_key(|genes| {
                losses.push_population(genes, &vec![0.0; genes.len()]);
                losses.len() - 1
            })
        };
        let draws = (0..draws).map(|draw| pools.iter().map(|pools| loss(pools, draw)).collect()).collect();
        Self { losses, draws }
    }

    /// How many draws there are.
    pub fn len(&self) -> usize {
        self.draws.len()
    }

    /// What a model predicts for all losses, losses × genes.
    pub fn effects(&self, bout: &Bout<'_>, model: &FittedModel) -> Result<Vec<f32>> {
        if self.draws.is_empty() { Ok(vec![]) } else { bout.effects(model, &self.losses) }
    }

    /// The effects of a draw's losses in the place of the perturbations': perturbations × genes. The lost genes
    /// themselves get the median of the others, which says nothing of them.
    pub fn in_place(&self, panel: &Panel, effects: &[f32], draw: usize) -> Vec<f32> {
        let mut matrix = vec![];
        for &loss in &self.draws[draw] {
            let mut row = panel.row(effects, loss).to_vec();
            let lost = self.losses.genes(loss);
            let mut others: Vec<f32> = row.clone();
            others.sort_by(f32::total_cmp);
            let middle = others[others.len() / 2];
            lost.iter().for_each(|&gene| row[gene as usize] = middle);
            matrix.extend(row);
        }
        panel.silence(&mut matrix);
        matrix
    }
}

/// The `n` genes whose presence is nearest to the target's, of those that are expressed and not its perturbation's.
fn nearest(presence: &[f64], targets: &[u32], target: u32, n: usize) -> Vec<u32> {
    let own = presence[target as usize];
    let other = |&gene: &u32| presence[gene as usize] > 0.0 && !targets.contains(&gene);
    let mut genes: Vec<u32> = (0..presence.len() as u32).filter(other).collect();
    let apart = |gene: u32| (presence[gene as usize] - own).abs();
    genes.sort_by(|&a, &b| apart(a).total_cmp(&apart(b)).then(a.cmp(&b)));
    genes.truncate(n);
    genes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_as_present_as_the_target_and_no_targets() {
        let presence = [0.5, 0.9, 0.52, 0.0, f64::NAN, 0.45, 0.1];
        assert_eq!(nearest(&presence, &[0], 0, 2), [2, 5]);
        assert_eq!(nearest(&presence, &[0, 2], 0, 9), [5, 1, 6]);
    }
}
