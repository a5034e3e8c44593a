//! Predicted beside measured cells, as populations: of models that answer with profiles of cells.
//!
//! A cell is log1p(10⁴ p), gene by gene, where p are shares of its profile without the perturbed genes and those that dominate the
//! library, closed again: what effects are the differences of.

use super::judged::Units;
use super::panel::Panel;
use super::{Bout, CELLS_AT_ONCE, log_share};
use crate::data::{Cells, Knockouts};
use crate::plugin::{Metric, Services, Shape};
use crate::run::{Cancelled, seeded_stream};
use crate::steps::FittedModel;
use crate::steps::evaluate::Judge;
use crate::steps::screen::null_profile;
use anyhow::Result;
use lacuna_abi::MatRef;
use rand::seq::index::sample;
use rayon::prelude::*;

/// Of more cells so many are drawn.
const MOST_CELLS: usize = 500;
/// Where the streams begin, beyond those of random targets.
const STREAMS: u64 = 3 << 32;
/// Only so many splits into halves are compared: each takes all pairs of cells.
pub const SPLITS: usize = 5;

/// The metrics that compare populations.
pub fn of_populations(judges: &[Judge]) -> impl Iterator<Item = &Judge> {
    judges.iter().filter(|judge| judge.info.shape == Shape::Population)
}

impl Bout<'_> {
    /// The score of each perturbation's predicted cells beside the measured ones, by each metric of populations.
    pub fn scores_of_cells(
        &self,
        model: &FittedModel,
        (measured, judges): (&Cells, &[Judge]),
    ) -> Result<Vec<Units>> {
        let mut scores: Vec<Units> = of_populations(judges).map(|_| vec![]).collect();
        if scores.is_empty() {
            return Ok(scores);
        }
        let controls: Vec<usize> = (0..self.cells.len()).collect();
        let asked = some_of(&controls, self.host, 0);
        for i in 0..self.panel.labels.len() {
            let predicted = self.predicted_cells(model, &asked, i)?;
            let truth = logs(measured, self.panel, &some_of(&self.panel.members[i], self.host, i + 1), i);
            for (scores, judge) in scores.iter_mut().zip(of_populations(judges)) {
                scores.push(distance(&judge.metric, (&truth, &predicted), self.panel.genes, self.host)?);
            }
        }
        Ok(scores)
    }

    /// What becomes of some cells in perturbation `i`: cells × genes.
    fn predicted_cells(&self, model: &FittedModel, asked: &[usize], i: usize) -> Result<Vec<f32>> {
        let (genes, targets) = (self.panel.genes, self.panel.targets.genes(i));
        let of_block = |rows: &[usize]| -> Result<Vec<f32>> {
            if self.host.cancelled() {
                return Err(Cancelled.into());
            }
            let mut query = Knockouts::default();
            for &cell in rows {
                let expressed = self.cells.x.row(cell).0;
                let lost: Vec<u32> =
                    targets.iter().filter(|gene| expressed.binary_search(gene).is_ok()).copied().collect();
                query.push(cell as u64, &lost, &vec![0.0; lost.len()]);
            }
            let mut cells = vec![0.0; query.len() * genes];
            model.predict(self.host, self.cells, &query, &mut cells)?;
            cells.chunks_exact_mut(genes.max(1)).for_each(|cell| take_logs(cell, self.panel, i));
            Ok(cells)
        };
        let blocks: Vec<Vec<f32>> = asked.par_chunks(CELLS_AT_ONCE).map(of_block).collect::<Result<_>>()?;
        Ok(blocks.concat())
    }
}

/// How far the one half of a perturbation's cells is from the other.
pub fn between_halves(
    judge: &Judge,
    (cells, panel): (&Cells, &Panel),
    halves: &[Vec<u32>; 2],
    host: &Services,
) -> Result<Units> {
    let one = |i: usize| {
        let [first, second] = halves.each_ref().map(|half| {
            let rows: Vec<usize> = panel.members[i].iter().copied().filter(|&row| half[row] > 0).collect();
            logs(cells, panel, &some_of(&rows, host, i + 1), i)
        });
        distance(&judge.metric, (&first, &second), panel.genes, host)
    };
    (0..panel.labels.len()).map(one).collect()
}

fn distance(
    metric: &Metric,
    (measured, predicted): (&[f32], &[f32]),
    genes: usize,
    host: &Services,
) -> Result<f64> {
    let rows = |values: &[f32]| values.len() / genes.max(1);
    let measured = MatRef::from_rows(measured, rows(measured), genes);
    let predicted = MatRef::from_rows(predicted, rows(predicted), genes);
    metric.score_population(host, (measured, predicted))
}

/// At most so many of some cells as are compared, drawn without repetition, in their order.
fn some_of(rows: &[usize], host: &Services, number: usize) -> Vec<usize> {
    if rows.len() <= MOST_CELLS {
        return rows.to_vec();
    }
    let mut stream = seeded_stream(host.seed(), STREAMS + number as u64);
    let mut chosen = sample(&mut stream, rows.len(), MOST_CELLS).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|at| rows[at]).collect()
}

/// Measured cells of perturbation `i`: cells × genes.
fn logs(cells: &Cells, panel: &Panel, rows: &[usize], i: usize) -> Vec<f32> {
    let mut logs = vec![0.0; rows.len() * panel.genes];
    for (&row, out) in rows.iter().zip(logs.chunks_exact_mut(panel.genes.max(1))) {
        if !cells.x.row(row).0.is_empty() {
            cells.write_profile(row, out);
            take_logs(out, panel, i);
        }
    }
    logs
}

/// A profile becomes what is compared in perturbation `i`.
fn take_logs(profile: &mut [f32], panel: &Panel, i: usize) {
    let without = panel.left_out(panel.targets.genes(i));
    null_profile(profile, (&without, &vec![0.0; without.len()]));
    profile.iter_mut().for_each(|p| *p = log_share(f64::from(*p)) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Csr, Frame};

    #[test]
    fn few_cells_are_all_compared_and_of_many_some_that_are_always_the_same() {
        let host = crate::plugin::Services::silent(0, Default::default());
        let rows: Vec<usize> = (0..2 * MOST_CELLS).map(|i| 3 * i).collect();
        assert_eq!(some_of(&rows[..MOST_CELLS], &host, 1), rows[..MOST_CELLS]);
        let some = some_of(&rows, &host, 1);
        assert!(some.len() == MOST_CELLS && some.is_sorted_by(|a, b| a < b));
        assert!(some.iter().all(|row| rows.contains(row)));
        assert_eq!(some, some_of(&rows, &host, 1));
        assert_ne!(some, some_of(&rows, &host, 2));
    }

    #[test]
    fn cells_are_closed_without_targets_and_what_dominates_before_the_logarithm() {
        let mut targets = Knockouts::default();
        targets.push_population(&[0], &[0.0]);
        let panel = Panel::of_targets(targets, 4, &[3]);
        let mut x = Csr::empty(4);
        x.push_row([(0, 5.0), (1, 1.0), (2, 3.0), (3, 90.0)].into_iter());
        x.push_row(std::iter::once((0, 2.0)));
        x.push_row(std::iter::empty());
        let names = |n: usize| Frame::of_names((0..n).map(|i| format!("n{i}")).collect());
        let cells = Cells::new(x, names(3), names(4));
        let found = logs(&cells, &panel, &[0, 1, 2], 0);
        let expected = [0.0, log_share(0.25) as f32, log_share(0.75) as f32, 0.0];
        assert!(found[..4].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        assert_eq!(found[4..], [0.0; 8]);
    }
}
