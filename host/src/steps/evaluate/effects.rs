//! Predicted against measured effects of perturbations.
//!
//! An effect is δ, gene by gene: the mean over perturbed cells of log1p(10⁴ p), minus that over control cells, where p are
//! shares of a cell's profile without the perturbed genes, closed again. Models of profiles are asked for each control
//! cell, of which those without the perturbed genes stay as they are; from a population's mean profile the logarithm is
//! taken; means of logarithms and gene scores are δ already. The perturbed genes are left out of every score.

use super::scores::{ScoreRow, Units, plain_row, score_pair, score_units};
use super::{Evaluate, Judge, TrainingCells, by_training, differential, name_of, single};
use crate::data::{Cells, Knockouts};
use crate::plugin::{Answers, Services, Shape};
use crate::run::{Cancelled, StepCx};
use crate::steps::FittedModel;
use crate::steps::prepare::OTHER_GENES;
use crate::steps::screen::{Effects, null_profile, population_effects};
use anyhow::{Result, ensure};
use lacuna_abi::MatRef;
use rayon::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Cells that are predicted at once.
const CELLS_AT_ONCE: usize = 64;
/// Blocks of cells, and perturbations, whose sums are held at once.
const BLOCKS_AT_ONCE: usize = 16;
const PERTURBATIONS_AT_ONCE: usize = 16;

/// log1p(10⁴ p).
fn log_share(share: f64) -> f64 {
    (1e4 * share).ln_1p()
}

/// The perturbations that were measured, and their effects.
struct Panel {
    labels: Vec<String>,
    /// Their targets, as knockouts of the population.
    targets: Knockouts,
    /// Perturbations × genes; 0 at the targets.
    effects: Vec<f32>,
    genes: usize,
    /// The pseudo-gene of `close = "library"`, which no score looks at.
    other: Option<u32>,
}

/// A model's effects beside the measured ones: perturbations × genes.
struct Contender {
    name: String,
    baseline: bool,
    /// Whether it learned from what it is compared with. Then it gets no verdict.
    knows: bool,
    effects: Vec<f32>,
}

/// Scores of all models and baselines over the perturbations, and for each of them.
pub fn scores(
    evaluate: &Evaluate,
    judges: &[Judge],
    min_cells: usize,
    cx: &StepCx<'_>,
) -> Result<(Vec<ScoreRow>, Json)> {
    let truth = cx.cells("truth")?;
    ensure!(truth.measured.is_some(), "which perturbation was measured in each cell of `truth` is not known");
    let data = name_of(single(cx, "truth")?, cx);
    differential::write(&truth, min_cells, &cx.services, &cx.path("differential.parquet"))?;
    let asked = match cx.optional_cells("cells")? {
        Some(cells) => cells,
        None => truth.clone(),
    };
    let asked = Arc::new(asked.select_cells(&asked.controls()));
    ensure!(!asked.is_empty(), "there are no control cells to predict in");
    let groups = by_training(cx.chosen("models"), cx)?;
    let mut rows = vec![];
    for peers in &groups {
        let (models, fitted) = (&peers.models, peers.fitted(cx)?);
        let measured = fitted[0].align_held(truth.clone(), &cx.services)?;
        let panel = Panel::measure(&measured, min_cells, &cx.services)?;
        let bout = Bout {
            panel: &panel,
            cells: &*fitted[0].align_held(asked.clone(), &cx.services)?,
            truth: &truth,
            host: &cx.services,
        };
        let mut contenders = vec![];
        for (chosen, model) in models.iter().zip(&fitted) {
            let training = super::training_cells(chosen, cx)?;
            contenders.push(bout.contender(name_of(chosen, cx), false, model, training.as_ref())?);
        }
        let whose = peers.suffix(&groups, &contenders[0].name);
        for (name, model) in evaluate.fit_baselines(peers.training.as_ref(), cx)? {
            contenders.push(bout.contender(name + &whose, true, &model, peers.training.as_ref())?);
            let all = models.len() + evaluate.baselines.len();
            cx.services.progress(contenders.len() as u64, all as u64, "models");
        }
        for judge in judges {
            rows.extend(judged(&data, judge, &panel, &contenders, &cx.services)?);
        }
    }
    Ok((rows, json!([])))
}

/// What all contenders are compared with, and in which cells.
struct Bout<'a> {
    panel: &'a Panel,
    /// Control cells.
    cells: &'a Cells,
    truth: &'a Cells,
    host: &'a Services,
}

impl Bout<'_> {
    fn contender(
        &self,
        name: String,
        baseline: bool,
        model: &FittedModel,
        training: Option<&TrainingCells>,
    ) -> Result<Contender> {
        let knows = match training {
            Some(training) => self.knows_the_answer(&name, model, training),
            None => false,
        };
        let mut effects = match model.fitted.info().answers {
            Answers::Profiles => self.in_cells(model)?,
            _ => match population_effects(model, self.cells, &self.panel.targets, self.host)? {
                Effects::Scores(scores) => scores,
                Effects::Means(before, after) => without_rounding(self.of_means(&before, &after)),
                Effects::Logs(before, after) => difference(&before, &after),
            },
        };
        self.panel.silence(&mut effects);
        Ok(Contender { name, baseline, knows, effects })
    }

    /// Whether a model learned from the very cells that it is compared with, or from others with these perturbations.
    fn knows_the_answer(&self, name: &str, model: &FittedModel, training: &TrainingCells) -> bool {
        let labels = model.fitted.info().needs_labels;
        let parts = || std::iter::once(&training.0).chain(&training.1);
        // A model that does not learn from labels was given the controls only, where these are known.
        let seen =
            |cells: &Cells, i: usize| labels || cells.measured.as_ref().is_none_or(|m| m.is_control(i));
        let key = |cells: &Cells, i: usize| (cells.obs.names[i].clone(), cells.library[i].to_bits());
        let learned: HashSet<_> = parts()
            .flat_map(|cells| (0..cells.len()).filter(|&i| seen(cells, i)).map(|i| key(cells, i)))
            .collect();
        let perturbed = self.truth.measured.iter().flat_map(|m| m.cells_by_perturbation());
        let cells =
            perturbed.flat_map(|(_, rows)| rows).filter(|&i| learned.contains(&key(self.truth, i))).count();
        let perturbations: BTreeSet<&str> = parts()
            .filter_map(|cells| cells.measured.as_ref().filter(|_| labels))
            .flat_map(|m| m.cells_by_perturbation())
            .map(|(p, _)| p.label.as_str())
            .collect();
        let shared = self.panel.labels.iter().filter(|l| perturbations.contains(l.as_str())).count();
        let from = match (cells, shared) {
            (0, 0) => return false,
            (0, n) => format!("cells with {n} of the perturbations"),
            (n, _) => format!("{n} of the perturbed cells"),
        };
        self.host.warn(format!(
            "{name} learned from {from} that it is compared with: its score says nothing of perturbations that it has \
             not seen, and it gets no verdict"
        ));
        true
    }

    fn of_means(&self, before: &[f32], after: &[f32]) -> Vec<f32> {
        let mut effects = vec![0.0; after.len()];
        for (i, effect) in effects.chunks_exact_mut(self.panel.genes).enumerate() {
            let targets = (self.panel.targets.genes(i), self.panel.targets.levels(i));
            let (mut before, mut after) = (before.to_vec(), self.panel.row(after, i).to_vec());
            null_profile(&mut before, targets);
            null_profile(&mut after, targets);
            for ((effect, a), b) in effect.iter_mut().zip(after).zip(before) {
                *effect = (log_share(f64::from(a)) - log_share(f64::from(b))) as f32;
            }
        }
        effects
    }

    /// The effects of a model that answers cell by cell. Sums are made in an order that is always the same, and only
    /// some are held at once.
    fn in_cells(&self, model: &FittedModel) -> Result<Vec<f32>> {
        let (genes, n) = (self.panel.genes, self.panel.labels.len());
        let starts: Vec<usize> = (0..self.cells.len()).step_by(CELLS_AT_ONCE).collect();
        let mut effects = vec![];
        for first in (0..n).step_by(PERTURBATIONS_AT_ONCE) {
            let some = first..(first + PERTURBATIONS_AT_ONCE).min(n);
            let mut total = vec![0f64; some.len() * genes];
            for starts in starts.chunks(BLOCKS_AT_ONCE) {
                let sums: Vec<Vec<f64>> = starts
                    .par_iter()
                    .map(|&start| self.of_block(model, start, some.clone()))
                    .collect::<Result<_>>()?;
                sums.iter().for_each(|sum| total.iter_mut().zip(sum).for_each(|(t, s)| *t += s));
            }
            effects.extend(total.into_iter().map(|t| (t / self.cells.len() as f64) as f32));
        }
        Ok(without_rounding(effects))
    }

    /// The sum of a block's cells of what each of some perturbations changes in them.
    fn of_block(&self, model: &FittedModel, start: usize, some: std::ops::Range<usize>) -> Result<Vec<f64>> {
        if self.host.cancelled() {
            return Err(Cancelled.into());
        }
        let genes = self.panel.genes;
        let rows = start..(start + CELLS_AT_ONCE).min(self.cells.len());
        let mut sums = vec![0f64; some.len() * genes];
        let mut base = vec![0.0; rows.len() * genes];
        model.predict(self.host, self.cells, &Knockouts::none_in(rows.clone()), &mut base)?;
        for (i, sum) in some.zip(sums.chunks_exact_mut(genes)) {
            let targets = (self.panel.targets.genes(i), self.panel.targets.levels(i));
            let mut query = Knockouts::default();
            for cell in rows.clone() {
                let expressed = self.cells.x.row(cell).0;
                let lost: Vec<u32> =
                    targets.0.iter().filter(|g| expressed.binary_search(g).is_ok()).copied().collect();
                if !lost.is_empty() {
                    query.push(cell as u64, &lost, &vec![0.0; lost.len()]);
                }
            }
            let mut after = vec![0.0; query.len() * genes];
            model.predict(self.host, self.cells, &query, &mut after)?;
            for (&cell, after) in query.cell.iter().zip(after.chunks_exact_mut(genes)) {
                let at = (cell as usize - rows.start) * genes;
                let mut before = base[at..at + genes].to_vec();
                null_profile(&mut before, targets);
                null_profile(after, targets);
                for ((sum, &a), &b) in sum.iter_mut().zip(&*after).zip(&before) {
                    *sum += log_share(f64::from(a)) - log_share(f64::from(b));
                }
            }
        }
        Ok(sums)
    }
}

fn difference(before: &[f32], after: &[f32]) -> Vec<f32> {
    after.iter().zip(before.iter().cycle()).map(|(a, b)| a - b).collect()
}

/// What a model that predicts no change leaves by rounding would correlate with something.
fn without_rounding(mut effects: Vec<f32>) -> Vec<f32> {
    const ROUNDING: f32 = 1e-6;
    effects.iter_mut().filter(|x| x.abs() < ROUNDING).for_each(|x| *x = 0.0);
    effects
}

impl Panel {
    /// The effects of all perturbations of at least so many cells.
    fn measure(cells: &Cells, min_cells: usize, host: &Services) -> Result<Self> {
        let column = cells.var.index();
        let controls = cells.controls();
        ensure!(!controls.is_empty(), "no cell of `truth` is a control");
        let mut panel = Self {
            labels: vec![],
            targets: Knockouts::default(),
            effects: vec![],
            genes: cells.n_genes(),
            other: column.get(OTHER_GENES).copied(),
        };
        let (mut few, mut unknown, mut scored) = (vec![], vec![], vec![]);
        for (perturbation, members) in cells.measured.iter().flat_map(|m| m.cells_by_perturbation()) {
            let label = perturbation.label.as_str();
            match perturbation.columns(&column) {
                None => unknown.push(label),
                Some(_) if members.len() < min_cells => few.push(label),
                Some(targets) => {
                    panel.targets.push_population(&targets, &vec![0.0; targets.len()]);
                    panel.labels.push(label.into());
                    scored.push(members);
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
        let whole = sum_of_logs(cells, &controls, &[]);
        let effects: Vec<Vec<f32>> = scored
            .par_iter()
            .enumerate()
            .map(|(i, members)| {
                if host.cancelled() {
                    return Err(Cancelled.into());
                }
                let targets = panel.targets.genes(i);
                let after = sum_of_logs(cells, members, targets);
                // Only cells with the targets are others without them.
                let with = |&c: &usize| targets.iter().any(|t| cells.x.row(c).0.binary_search(t).is_ok());
                let changed: Vec<usize> = controls.iter().copied().filter(with).collect();
                let less = sum_of_logs(cells, &changed, &[]);
                let more = sum_of_logs(cells, &changed, targets);
                let (n, m) = (members.len() as f64, controls.len() as f64);
                let effect = |j: usize| (after[j] / n - (whole[j] - less[j] + more[j]) / m) as f32;
                Ok((0..panel.genes).map(effect).collect())
            })
            .collect::<Result<_>>()?;
        let mut effects = effects.concat();
        panel.silence(&mut effects);
        Ok(Self { effects, ..panel })
    }

    fn row<'m>(&self, matrix: &'m [f32], i: usize) -> &'m [f32] {
        &matrix[i * self.genes..(i + 1) * self.genes]
    }

    /// Whether a gene says nothing of perturbation `i`: its targets, and what is no gene.
    fn is_left_out(&self, i: usize, gene: usize) -> bool {
        let gene = gene as u32;
        self.targets.genes(i).contains(&gene) || self.other == Some(gene)
    }

    /// Makes what is left out 0.
    fn silence(&self, effects: &mut [f32]) {
        for (i, row) in effects.chunks_exact_mut(self.genes.max(1)).enumerate() {
            row.iter_mut().enumerate().filter(|(j, _)| self.is_left_out(i, *j)).for_each(|(_, x)| *x = 0.0);
        }
    }

    /// The effects of perturbation `i` on all that is not left out.
    fn others(&self, matrix: &[f32], i: usize) -> Vec<f32> {
        (0..self.genes).filter(|&j| !self.is_left_out(i, j)).map(|j| self.row(matrix, i)[j]).collect()
    }
}

/// The sum over cells of the logarithms of their shares, some genes left out and the rest closed again.
fn sum_of_logs(cells: &Cells, rows: &[usize], without: &[u32]) -> Vec<f64> {
    let mut sum = vec![0f64; cells.n_genes()];
    for &cell in rows {
        let (indices, values) = cells.x.row(cell);
        let kept = || indices.iter().zip(values).filter(|(j, _)| !without.contains(j));
        let total: f64 = kept().map(|(_, &v)| f64::from(v)).sum();
        if total > 0.0 {
            kept().for_each(|(&j, &v)| sum[j as usize] += log_share(f64::from(v) / total));
        }
    }
    sum
}

/// One row for each contender over all perturbations, then one for each perturbation.
fn judged(
    data: &str,
    judge: &Judge,
    panel: &Panel,
    contenders: &[Contender],
    host: &Services,
) -> Result<Vec<ScoreRow>> {
    let units = |c: &Contender| -> Result<Units> {
        let scores = match judge.info.shape {
            Shape::Panel => {
                let matrix = |values| MatRef::from_rows(values, panel.labels.len(), panel.genes);
                judge.metric.score_panel(
                    host,
                    (matrix(&panel.effects), matrix(&c.effects)),
                    &panel.targets,
                )?
            }
            _ => (0..panel.labels.len())
                .map(|i| {
                    score_pair(judge, host, &panel.others(&panel.effects, i), &panel.others(&c.effects, i))
                })
                .collect::<Result<_>>()?,
        };
        Ok(Units { name: c.name.clone(), baseline: c.baseline, scores })
    };
    let units: Vec<Units> = contenders.iter().map(units).collect::<Result<_>>()?;
    let mut rows = score_units((data, "perturbations"), judge, &units);
    // Who knows the answer is nobody's rival.
    let knows = |name: &String| contenders.iter().any(|c| c.knows && c.name == *name);
    for (row, contender) in rows.iter_mut().zip(contenders) {
        row.beats.retain(|rival| !contender.knows && !knows(rival));
        row.rivals.retain(|rival| !contender.knows && !knows(rival));
    }
    for (i, label) in panel.labels.iter().enumerate() {
        rows.extend(
            units.iter().map(|u| plain_row((data, label), judge, (&u.name, u.baseline), u.scores[i])),
        );
    }
    Ok(rows)
}
