//! Predicted against measured effects of perturbations.
//!
//! An effect is δ = log1p(10⁴ · after) − log1p(10⁴ · before), gene by gene, of mean profiles over cells, from which the
//! perturbed genes were taken out before they were closed; a model of gene scores gives δ up to a factor. Models
//! predict in control cells, of which those without the perturbed genes stay as they are.

use super::scores::{ScoreRow, Units, plain_row, score_pair, score_units};
use super::{Evaluate, Judge, by_training, name_of, single, training_cells};
use crate::data::{Cells, Knockouts};
use crate::plugin::{Answers, Services, Shape};
use crate::run::{Cancelled, Chosen, StepCx};
use crate::steps::FittedModel;
use crate::steps::screen::{Effects, null_profile, population_effects};
use anyhow::{Result, ensure};
use lacuna_abi::MatRef;
use rayon::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::HashSet;
use std::sync::Arc;

const CELLS_AT_ONCE: usize = 64;
/// Shares are told in parts of this, as in log1p(CP10k).
const SCALE: f64 = 1e4;

/// The perturbations that were measured, and their effects.
struct Panel {
    labels: Vec<String>,
    /// Their targets, as knockouts of the population.
    targets: Knockouts,
    /// Perturbations × genes.
    effects: Vec<f32>,
    genes: usize,
}

/// A model's effects beside the measured ones: perturbations × genes.
struct Contender {
    name: String,
    baseline: bool,
    /// Whether it learned from perturbed cells that it is compared with.
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
    let asked = match cx.optional_cells("cells")? {
        Some(cells) => cells,
        None => truth.clone(),
    };
    let asked = Arc::new(asked.select_cells(&asked.controls()));
    let groups = by_training(cx.chosen("models"), cx)?;
    let mut rows = vec![];
    for peers in &groups {
        let models = &peers.models;
        let fitted: Vec<Arc<FittedModel>> =
            models.iter().map(|m| cx.run().model(m)).collect::<Result<_>>()?;
        let measured = fitted[0].align(truth.clone(), &cx.services)?;
        let panel = Panel::measure(&measured, min_cells, &cx.services)?;
        let cells = fitted[0].align(asked.clone(), &cx.services)?;
        let mut contenders = vec![];
        for (chosen, model) in models.iter().zip(&fitted) {
            let knows = knows_the_answer(chosen, model, &truth, cx)?;
            let found = contender(name_of(chosen, cx), false, model, &panel, &cells, &cx.services)?;
            contenders.push(Contender { knows, ..found });
        }
        let whose = peers.suffix(&groups, &contenders[0].name);
        for (name, model) in evaluate.fit_baselines(peers.training.as_ref(), cx)? {
            contenders.push(contender(name + &whose, true, &model, &panel, &cells, &cx.services)?);
            let all = models.len() + evaluate.baselines.len();
            cx.services.progress(contenders.len() as u64, all as u64, "models");
        }
        for judge in judges {
            rows.extend(judged(&data, judge, &panel, &contenders, &cx.services)?);
        }
    }
    Ok((rows, json!([])))
}

/// Whether a model learned from the very cells that it is compared with. Then it gets no verdict.
fn knows_the_answer(chosen: &Chosen, model: &FittedModel, truth: &Cells, cx: &StepCx<'_>) -> Result<bool> {
    if !model.fitted.info().needs_labels {
        return Ok(false);
    }
    let Some((train, _)) = training_cells(chosen, cx)? else { return Ok(false) };
    let perturbed = |cells: &Cells| -> HashSet<String> {
        let measured = |&i: &usize| cells.measured.as_ref().is_some_and(|m| !m.is_control(i));
        (0..cells.len()).filter(measured).map(|i| cells.obs.names[i].clone()).collect()
    };
    let known = perturbed(&train).intersection(&perturbed(truth)).count();
    if known > 0 {
        cx.services.warn(format!(
            "{} learned from {known} of the perturbed cells that it is compared with: its score says nothing of \
             perturbations that it has not seen",
            name_of(chosen, cx)
        ));
    }
    Ok(known > 0)
}

fn log_shares(profile: &[f64], out: &mut [f32], sign: f64) {
    profile.iter().zip(out).for_each(|(&share, out)| *out += (sign * (SCALE * share).ln_1p()) as f32);
}

impl Panel {
    /// The effects of all perturbations of at least so many cells.
    fn measure(cells: &Cells, min_cells: usize, host: &Services) -> Result<Self> {
        let (column, genes) = (cells.var.index(), cells.n_genes());
        let controls = cells.controls();
        ensure!(!controls.is_empty(), "no cell of `truth` is a control");
        let mut panel = Self { labels: vec![], targets: Knockouts::default(), effects: vec![], genes };
        let (mut few, mut unknown) = (vec![], vec![]);
        let measured = cells.measured.iter().flat_map(|m| m.cells_by_perturbation());
        for (perturbation, members) in measured {
            let label = perturbation.label.as_str();
            let Some(targets) = perturbation.columns(&column) else {
                unknown.push(label);
                continue;
            };
            if members.len() < min_cells {
                few.push(label);
                continue;
            }
            let mut effect = vec![0.0; genes];
            log_shares(&mean_without(cells, &members, &targets), &mut effect, 1.0);
            log_shares(&mean_without(cells, &controls, &targets), &mut effect, -1.0);
            panel.effects.extend(effect);
            panel.targets.push_population(&targets, &vec![0.0; targets.len()]);
            panel.labels.push(label.into());
        }
        for (names, why) in
            [(few, format!("fewer than {min_cells} cells")), (unknown, "targets that the model lacks".into())]
        {
            if !names.is_empty() {
                host.warn(format!("not scored, for {why}: {}", names.join(", ")));
            }
        }
        ensure!(
            !panel.labels.is_empty(),
            "no perturbation can be scored: each has fewer than {min_cells} cells, or targets that the model lacks"
        );
        Ok(panel)
    }

    fn row<'m>(&self, matrix: &'m [f32], i: usize) -> &'m [f32] {
        &matrix[i * self.genes..(i + 1) * self.genes]
    }

    /// The effects of perturbation `i` on all genes but its targets.
    fn others(&self, matrix: &[f32], i: usize) -> Vec<f32> {
        let keep = |j: &usize| !self.targets.genes(i).contains(&(*j as u32));
        (0..self.genes).filter(keep).map(|j| self.row(matrix, i)[j]).collect()
    }
}

/// The mean profile of cells without some genes, closed again.
fn mean_without(cells: &Cells, rows: &[usize], genes: &[u32]) -> Vec<f64> {
    let mut sum = vec![0f64; cells.n_genes()];
    for &cell in rows {
        let (indices, values) = cells.x.row(cell);
        let kept = || indices.iter().zip(values).filter(|(j, _)| !genes.contains(j));
        let total: f64 = kept().map(|(_, &v)| f64::from(v)).sum();
        if total > 0.0 {
            kept().for_each(|(&j, &v)| sum[j as usize] += f64::from(v) / total);
        }
    }
    let n = rows.len() as f64;
    sum.iter_mut().for_each(|s| *s /= n);
    sum
}

fn contender(
    name: String,
    baseline: bool,
    model: &FittedModel,
    panel: &Panel,
    cells: &Cells,
    host: &Services,
) -> Result<Contender> {
    let effects = match model.fitted.info().answers {
        Answers::Profiles => without_rounding(in_cells(model, panel, cells, host)?),
        _ => match population_effects(model, cells, &panel.targets, host)? {
            Effects::Scores(scores) => scores,
            Effects::Means(before, after) => without_rounding(of_means(panel, &before, &after)),
        },
    };
    Ok(Contender { name, baseline, knows: false, effects })
}

/// What a model that predicts no change leaves by rounding would correlate with something.
fn without_rounding(mut effects: Vec<f32>) -> Vec<f32> {
    const ROUNDING: f32 = 1e-5;
    effects.iter_mut().filter(|x| x.abs() < ROUNDING).for_each(|x| *x = 0.0);
    effects
}

fn of_means(panel: &Panel, before: &[f32], after: &[f32]) -> Vec<f32> {
    let mut effects = vec![0.0; after.len()];
    for (i, effect) in effects.chunks_exact_mut(panel.genes).enumerate() {
        for (profile, sign) in [(panel.row(after, i), 1.0), (before, -1.0)] {
            let mut profile = profile.to_vec();
            null_profile(&mut profile, (panel.targets.genes(i), panel.targets.levels(i)));
            let shares: Vec<f64> = profile.into_iter().map(f64::from).collect();
            log_shares(&shares, effect, sign);
        }
    }
    effects
}

/// Sums over cells of profiles without the targets: before and after each perturbation, perturbations × genes.
#[derive(Default)]
struct Sums {
    before: Vec<f64>,
    after: Vec<f64>,
}

/// The effects of a model that answers cell by cell, from the mean profiles of all cells.
fn in_cells(model: &FittedModel, panel: &Panel, cells: &Cells, host: &Services) -> Result<Vec<f32>> {
    let starts: Vec<usize> = (0..cells.len()).step_by(CELLS_AT_ONCE).collect();
    let blocks: Vec<Sums> = starts
        .par_iter()
        .map(|&start| of_block(model, panel, cells, start..(start + CELLS_AT_ONCE).min(cells.len()), host))
        .collect::<Result<_>>()?;
    let total = |of: fn(&Sums) -> &Vec<f64>| {
        let mut total = vec![0f64; panel.effects.len()];
        blocks
            .iter()
            .for_each(|b| total.iter_mut().zip(of(b)).for_each(|(t, s)| *t += s / cells.len() as f64));
        total
    };
    let mut effects = vec![0.0; panel.effects.len()];
    log_shares(&total(|s| &s.after), &mut effects, 1.0);
    log_shares(&total(|s| &s.before), &mut effects, -1.0);
    Ok(effects)
}

fn of_block(
    model: &FittedModel,
    panel: &Panel,
    cells: &Cells,
    rows: std::ops::Range<usize>,
    host: &Services,
) -> Result<Sums> {
    let genes = panel.genes;
    let mut base = vec![0.0; rows.len() * genes];
    model.fitted.predict(host, cells, &Knockouts::none_in(rows.clone()), &mut base)?;
    let mut sums = Sums { before: vec![0.0; panel.effects.len()], after: vec![0.0; panel.effects.len()] };
    for i in 0..panel.labels.len() {
        if host.cancelled() {
            return Err(Cancelled.into());
        }
        let mut query = Knockouts::default();
        for cell in rows.clone() {
            let expressed = cells.x.row(cell).0;
            let lost: Vec<u32> =
                panel.targets.genes(i).iter().filter(|g| expressed.contains(g)).copied().collect();
            query.push(cell as u64, &lost, &vec![0.0; lost.len()]);
        }
        let mut after = vec![0.0; base.len()];
        model.fitted.predict(host, cells, &query, &mut after)?;
        let targets = (panel.targets.genes(i), panel.targets.levels(i));
        let own = i * genes..(i + 1) * genes;
        for (profiles, sum) in [(&base, &mut sums.before[own.clone()]), (&after, &mut sums.after[own])] {
            for profile in profiles.chunks_exact(genes) {
                let mut profile = profile.to_vec();
                null_profile(&mut profile, targets);
                sum.iter_mut().zip(profile).for_each(|(s, p)| *s += f64::from(p));
            }
        }
    }
    Ok(sums)
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
    let mut rows = score_units((data, "perturbations"), judge, &units, host.seed());
    for (row, _) in rows.iter_mut().zip(contenders).filter(|(_, c)| c.knows) {
        (row.beats, row.rivals) = (vec![], vec![]);
    }
    for (i, label) in panel.labels.iter().enumerate() {
        rows.extend(
            units.iter().map(|u| plain_row((data, label), judge, (&u.name, u.baseline), u.scores[i])),
        );
    }
    Ok(rows)
}
