//! Predicted against measured effects of perturbations.
//!
//! An effect is δ, see [`panel`]. Models of profiles are asked for each control cell, of which those without the perturbed
//! genes stay as they are; from a population's mean profile the logarithm is taken; means of logarithms and gene scores
//! are δ already. The perturbed genes are left out of every score.

mod arms;
mod doubles;
mod informative;
mod judged;
mod panel;
mod populations;
mod random_targets;
mod verdicts;

use super::scores::{ScoreRow, write_gains};
use super::seen::{Rows, seen};
use super::{Evaluate, Judge, Peers, TrainingCells, by_training, differential, name_of, single};
use crate::data::{Cells, Knockouts, LabelRules, Measured};
use crate::plugin::{Answers, Services};
use crate::run::{Cancelled, Chosen, StepCx};
use crate::steps::predictions::Predicted;
use crate::steps::screen::{Effects, null_profile, population_effects};
use crate::steps::{Action, FittedModel};
use anyhow::{Result, bail, ensure};
use arms::Arms;
use doubles::FromMeasured;
pub use informative::{RULE, Rule};
use judged::{Court, Drawn, Units, questions};
use panel::{Evidence, Panel, Sides};
use random_targets::RandomTargets;
use rayon::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::sync::Arc;
pub use verdicts::verdicts;

/// Cells that are predicted at once.
const CELLS_AT_ONCE: usize = 64;
/// Blocks of cells, and perturbations, whose sums are held at once.
const BLOCKS_AT_ONCE: usize = 16;
const PERTURBATIONS_AT_ONCE: usize = 16;

/// log1p(10⁴ p).
fn log_share(share: f64) -> f64 {
    (1e4 * share).ln_1p()
}

/// How measured effects are taken.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Perturbations measured in fewer cells are not scored.
    pub min_cells: usize,
    /// Genes above this share of the controls' counts are left out of shares and scores.
    pub dominant: f64,
    /// How often the measured cells are drawn again.
    pub draws: usize,
    /// How often they are split into halves.
    pub splits: usize,
    /// How many random targets stand in for each target.
    pub random_targets: usize,
    /// The annotation whose values are the replicates.
    pub replicate: Option<String>,
    /// Which perturbations are informative.
    pub informative: Rule,
    /// The baseline that a skill is counted from; the best, if not given.
    pub skill_against: Option<String>,
    /// Whether baselines that are made of measured effects stand beside.
    pub perturbed_baselines: bool,
}

/// A model's effects beside the measured ones: perturbations × genes.
struct Contender {
    name: String,
    baseline: bool,
    /// Whether it learned from what it is compared with. Then it gets no verdict.
    knows: bool,
    /// Whether its effects are scores on a scale of their own.
    scores: bool,
    effects: Vec<f32>,
    /// What it predicts for the stand-ins of the targets; nothing for a baseline.
    random: Vec<f32>,
    /// How it is made of measured effects, if it is.
    from_measured: Option<FromMeasured>,
    /// Its effects then, by either half of the controls.
    by_halves: Option<[Vec<f32>; 2]>,
    /// The scores of its cells by each metric of populations; nothing where it predicts no cells.
    cells: Vec<Units>,
}

impl Contender {
    /// Whether models are compared with it.
    fn is_rival(&self) -> bool {
        self.baseline && !self.knows
    }
}

/// Scores of all models and baselines over the perturbations, and for each of them.
pub fn scores(
    evaluate: &Evaluate,
    judges: &[Judge],
    settings: &Settings,
    cx: &StepCx<'_>,
) -> Result<(Vec<ScoreRow>, Json)> {
    let truth = cx.cells("truth")?;
    ensure!(truth.measured.is_some(), "which perturbation was measured in each cell of `truth` is not known");
    let data = name_of(single(cx, "truth")?, cx);
    let tests =
        differential::write(&truth, settings.min_cells, &cx.services, &cx.path("differential.parquet"))?;
    let asked = match cx.optional_cells("cells")? {
        Some(cells) => cells,
        None => truth.clone(),
    };
    let asked = Arc::new(asked.select_cells(&asked.controls()));
    ensure!(!asked.is_empty(), "there are no control cells to predict in");
    let (told, models): (Vec<&Chosen>, Vec<&Chosen>) = cx
        .chosen("models")
        .iter()
        .partition(|chosen| matches!(cx.run().step(chosen).action, Action::Predictions(_)));
    let mut groups = by_training(models, cx)?;
    // What was trained nowhere stands beside the baselines of the others.
    if let Some(at) = groups.iter().position(|peers| peers.training.is_none()).filter(|_| groups.len() > 1) {
        let untrained = groups.remove(at);
        groups[0].models.extend(untrained.models);
    }
    if groups.is_empty() {
        groups.push(Peers { models: vec![], training: Some((asked.clone(), None)) });
    }
    let mut rows = vec![];
    for (at, peers) in groups.iter().enumerate() {
        let (models, fitted) = (&peers.models, peers.fitted(cx)?);
        let aligned = |cells: &Arc<Cells>| match fitted.first() {
            Some(model) => model.align_held(cells.clone(), &cx.services),
            None => Ok(cells.clone()),
        };
        let measured = aligned(&truth)?;
        let panel = Panel::of(&measured, (settings.min_cells, settings.dominant), &cx.services)?;
        let bout = Bout { panel: &panel, cells: &*aligned(&asked)?, truth: &truth, host: &cx.services };
        let presence = panel.presence(&measured);
        let random = RandomTargets::of(&panel, &presence, settings.random_targets, &cx.services);
        let judged = (&*measured, judges);
        let mut contenders = vec![];
        for (chosen, model) in models.iter().zip(&fitted) {
            let training = super::training_cells(chosen, cx)?;
            let mut contender =
                bout.contender((name_of(chosen, cx), false), model, training.as_ref(), judged)?;
            contender.random = random.effects(&bout, model)?;
            contenders.push(contender);
            let all = models.len() + evaluate.baselines.len();
            cx.services.progress(contenders.len() as u64, all as u64, "models");
        }
        for chosen in told.iter().filter(|_| at == 0) {
            let predicted = Predicted::open(&cx.run().instance(chosen)?.dir)?;
            contenders.push(bout.told(name_of(chosen, cx), &predicted)?);
        }
        let whose = peers.suffix(&groups, &contenders[0].name);
        for (name, model) in evaluate.fit_baselines(peers.training.as_ref(), cx)? {
            let training = peers.training.as_ref();
            contenders.push(bout.contender((name + &whose, true), &model, training, judged)?);
            let all = models.len() + evaluate.baselines.len();
            cx.services.progress(contenders.len() as u64, all as u64, "models");
        }
        let halved = settings.perturbed_baselines && panel.controls.len() > 1;
        let weights = [vec![1; measured.len()]];
        let whole = panel.sides(&measured, (&weights, true, halved), &cx.services)?.remove(0);
        contenders.extend(from_measured(&panel, &whole, &whose));
        let annotation = (settings.replicate.as_deref(), &cx.services);
        let arms = Arms::new(&measured, &panel.controls, (&panel.labels, &panel.members), annotation)?;
        let questions = questions(judges, &panel);
        let court = Court {
            panel: &panel,
            cells: &measured,
            questions: &questions,
            contenders: &contenders,
            random: &random,
            whose: &whose,
            host: &cx.services,
        };
        let drawn = Drawn::of(&court, &arms, &tests, (settings, &whole))?;
        if at == 0 {
            cx.write("perturbations.csv", &drawn.measured.to_csv(&panel, &presence)?)?;
            panel.warn_of_presence(&presence, &cx.services);
        }
        rows.extend(court.rows(&data, &arms, &drawn, (settings, cx.chosen("models").len())));
    }
    cx.write("gains.csv", &write_gains(&rows)?)?;
    Ok((rows, json!([])))
}

/// The baselines that are made of measured effects and say something here.
fn from_measured<'a>(
    panel: &'a Panel,
    whole: &'a Sides,
    whose: &'a str,
) -> impl Iterator<Item = Contender> + 'a {
    FromMeasured::ALL.into_iter().filter_map(move |baseline| {
        let [one, other] = whole.halves.as_ref()?;
        let effects = |half: &Evidence| baseline.effects(panel, &half.effects);
        Some(Contender {
            name: baseline.name() + whose,
            baseline: true,
            knows: false,
            scores: false,
            effects: vec![],
            random: vec![],
            from_measured: Some(baseline),
            by_halves: Some([effects(one)?, effects(other)?]),
            cells: vec![],
        })
    })
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
        (name, baseline): (String, bool),
        model: &FittedModel,
        training: Option<&TrainingCells>,
        judged: (&Cells, &[Judge]),
    ) -> Result<Contender> {
        let knows = match training {
            Some(training) => self.knows_the_answer(&name, model, training),
            None => false,
        };
        let mut effects = self.effects(model, &self.panel.targets)?;
        self.panel.silence(&mut effects);
        let answers = model.fitted.info().answers;
        let cells = if answers == Answers::Profiles { self.scores_of_cells(model, judged)? } else { vec![] };
        let scores = answers == Answers::GeneScores;
        Ok(Contender {
            name,
            baseline,
            knows,
            scores,
            effects,
            random: vec![],
            from_measured: None,
            by_halves: None,
            cells,
        })
    }

    /// What a model predicts for the loss of some targets each: targets × genes.
    fn effects(&self, model: &FittedModel, targets: &Knockouts) -> Result<Vec<f32>> {
        Ok(match model.fitted.info().answers {
            Answers::Profiles => self.in_cells(model, targets)?,
            _ => match population_effects(model, self.cells, targets, self.host)? {
                Effects::Scores(scores) => scores,
                Effects::Means(before, after) => {
                    without_rounding(of_means(self.panel, targets, &before, &after))
                }
                Effects::Logs(before, after) => difference(&before, &after),
            },
        })
    }

    /// What somebody else predicted, by labels in the styles of scPerturb and GEARS.
    fn told(&self, name: String, predicted: &Predicted) -> Result<Contender> {
        let names = &self.cells.var.names;
        let labels = predicted.labels();
        let read = Measured::read(&labels, names, &LabelRules::default());
        let (mut effects, mut missing, mut partly) = (vec![], vec![], vec![]);
        for label in &self.panel.labels {
            let own: Vec<&String> =
                (0..labels.len()).filter(|&i| read.of_cell(i).label == *label).map(|i| &labels[i]).collect();
            if let [one, other, ..] = own.as_slice() {
                bail!("{name} predicts {label} twice: as `{one}` and as `{other}`");
            }
            let (row, known) = predicted.of(own.first().map_or(label, |own| own), names);
            match known {
                0 => missing.push(label.as_str()),
                n if n < names.len() => partly.push(format!("{n} in {label}")),
                _ => {}
            }
            effects.extend(row);
        }
        if !missing.is_empty() {
            self.host.warn(format!("{name} predicts nothing of {}: no score there", missing.join(", ")));
        }
        if !partly.is_empty() {
            let (all, few) = (names.len(), partly.join(", "));
            self.host
                .warn(format!("{name} has not effects on all {all} genes, 0 is taken for the others: {few}"));
        }
        self.panel.silence(&mut effects);
        Ok(Contender {
            name,
            baseline: false,
            knows: false,
            scores: true,
            effects,
            random: vec![],
            from_measured: None,
            by_halves: None,
            cells: vec![],
        })
    }

    /// Whether a model learned from the very cells that it is compared with, or from others with these perturbations.
    fn knows_the_answer(&self, name: &str, model: &FittedModel, training: &TrainingCells) -> bool {
        let labels = model.fitted.info().needs_labels;
        let parts = || std::iter::once(&training.0).chain(&training.1);
        // A model that does not learn from labels was given the controls only, where these are known.
        let given =
            |cells: &Cells, i: &usize| labels || cells.measured.as_ref().is_none_or(|m| m.is_control(*i));
        let rows = |cells: &Cells| (0..cells.len()).filter(|i| given(cells, i)).collect();
        let learned: Vec<Rows<'_>> = parts().map(|cells| (&**cells, rows(cells))).collect();
        let perturbed = self.truth.measured.iter().flat_map(|m| m.cells_by_perturbation());
        let cells = seen(&learned, &(self.truth, perturbed.flat_map(|(_, rows)| rows).collect()));
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

    /// The effects of a model that answers cell by cell. Sums are made in an order that is always the same, and only
    /// some are held at once.
    fn in_cells(&self, model: &FittedModel, targets: &Knockouts) -> Result<Vec<f32>> {
        let (genes, n) = (self.panel.genes, targets.len());
        let starts: Vec<usize> = (0..self.cells.len()).step_by(CELLS_AT_ONCE).collect();
        let mut effects = vec![];
        for first in (0..n).step_by(PERTURBATIONS_AT_ONCE) {
            let some = first..(first + PERTURBATIONS_AT_ONCE).min(n);
            let mut total = vec![0f64; some.len() * genes];
            for starts in starts.chunks(BLOCKS_AT_ONCE) {
                let sums: Vec<Vec<f64>> = starts
                    .par_iter()
                    .map(|&start| self.of_block(model, start, (targets, some.clone())))
                    .collect::<Result<_>>()?;
                sums.iter().for_each(|sum| total.iter_mut().zip(sum).for_each(|(t, s)| *t += s));
            }
            effects.extend(total.into_iter().map(|t| (t / self.cells.len() as f64) as f32));
        }
        Ok(without_rounding(effects))
    }

    /// The sum of a block's cells of what each of some perturbations changes in them.
    fn of_block(
        &self,
        model: &FittedModel,
        start: usize,
        (perturbed, some): (&Knockouts, std::ops::Range<usize>),
    ) -> Result<Vec<f64>> {
        if self.host.cancelled() {
            return Err(Cancelled.into());
        }
        let genes = self.panel.genes;
        let rows = start..(start + CELLS_AT_ONCE).min(self.cells.len());
        let mut sums = vec![0f64; some.len() * genes];
        let mut base = vec![0.0; rows.len() * genes];
        model.predict(self.host, self.cells, &Knockouts::none_in(rows.clone()), &mut base)?;
        for (i, sum) in some.zip(sums.chunks_exact_mut(genes)) {
            let without = self.panel.left_out(perturbed.genes(i));
            let zeros = vec![0.0; without.len()];
            let mut query = Knockouts::default();
            for cell in rows.clone() {
                let expressed = self.cells.x.row(cell).0;
                let lost: Vec<u32> = perturbed
                    .genes(i)
                    .iter()
                    .filter(|g| expressed.binary_search(g).is_ok())
                    .copied()
                    .collect();
                if !lost.is_empty() {
                    query.push(cell as u64, &lost, &vec![0.0; lost.len()]);
                }
            }
            let mut after = vec![0.0; query.len() * genes];
            model.predict(self.host, self.cells, &query, &mut after)?;
            for (&cell, after) in query.cell.iter().zip(after.chunks_exact_mut(genes)) {
                let at = (cell as usize - rows.start) * genes;
                let mut before = base[at..at + genes].to_vec();
                null_profile(&mut before, (&without, &zeros));
                null_profile(after, (&without, &zeros));
                for ((sum, &a), &b) in sum.iter_mut().zip(&*after).zip(&before) {
                    *sum += log_share(f64::from(a)) - log_share(f64::from(b));
                }
            }
        }
        Ok(sums)
    }
}

fn of_means(panel: &Panel, targets: &Knockouts, before: &[f32], after: &[f32]) -> Vec<f32> {
    let mut effects = vec![0.0; after.len()];
    let rows = effects.chunks_exact_mut(before.len().max(1)).zip(after.chunks_exact(before.len().max(1)));
    for (i, (effect, after)) in rows.enumerate() {
        let without = panel.left_out(targets.genes(i));
        let zeros = vec![0.0; without.len()];
        let (mut before, mut after) = (before.to_vec(), after.to_vec());
        null_profile(&mut before, (&without, &zeros));
        null_profile(&mut after, (&without, &zeros));
        for ((effect, a), b) in effect.iter_mut().zip(after).zip(before) {
            *effect = (log_share(f64::from(a)) - log_share(f64::from(b))) as f32;
        }
    }
    effects
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
