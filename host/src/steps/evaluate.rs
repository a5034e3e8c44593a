//! An evaluation: models against cells they have not seen or measured perturbations, or screens against the truth;
//! baselines beside them.

mod differential;
mod effects;
mod impacts;
pub(super) mod mapping;
mod ranks;
pub(super) mod scores;
mod seen;
mod unlike;

use super::{Fit, FittedModel};
use crate::data::Cells;
use crate::pipeline::{Call, Diagnostic, Input, Keys, PortType, Value};
use crate::plugin::{Answers, Kind, Metric, MetricInfo, ModelInfo, Shape};
use crate::run::{Chosen, Outputs, StepCx, json_bytes};
use anyhow::{Context, Result, bail};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// What is evaluated.
pub struct Evaluate {
    subject: Subject,
    metrics: Vec<Call>,
    baselines: Vec<Call>,
}

enum Subject {
    /// Predicted against observed profiles.
    Mapping { models: Vec<Input>, cells: Vec<Input> },
    /// Predicted against measured effects.
    Effects { models: Vec<Input>, truth: Vec<Input>, cells: Vec<Input>, settings: effects::Settings },
    /// Predicted against true impacts.
    Impacts { screens: Vec<Input>, truth: Vec<Input>, strata: Vec<String> },
}

/// A metric, ready, with what it declares.
pub struct Judge {
    /// Its name in the scores.
    pub name: String,
    /// The metric.
    pub metric: Metric,
    /// Its declaration.
    pub info: MetricInfo,
}

impl Evaluate {
    /// Keys: `models` and `cells`, or `models` and `truth` (and `cells`, `min_cells`), or `screens` and `truth` (and
    /// `strata`); `metrics`, `baselines`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let (models, screens) = (keys.node("models").is_some(), keys.node("screens").is_some());
        let subject = match (models, screens) {
            (true, false) if keys.node("truth").is_some() => Subject::Effects {
                models: keys.inputs("models", &[PortType::Model, PortType::Predictions]),
                truth: keys.inputs("truth", &[PortType::Cells]),
                cells: keys.inputs("cells", &[PortType::Cells]),
                settings: effect_settings(keys),
            },
            (true, false) => Subject::Mapping {
                models: keys.inputs("models", &[PortType::Model]),
                cells: keys.required_inputs(
                    "cells",
                    &[PortType::Cells],
                    "cells that the models have not seen",
                ),
            },
            (false, true) => Subject::Impacts {
                screens: keys.inputs("screens", &[PortType::Impacts]),
                truth: keys.required_inputs("truth", &[PortType::Impacts], "a screen of a simulator's truth"),
                strata: keys.texts("strata").unwrap_or_default(),
            },
            _ => {
                let title = "an evaluation has `models` and `cells` or `truth`, or `screens` and `truth`";
                keys.give_up(Diagnostic::error(keys.place(), title));
                return None;
            }
        };
        let mapping = matches!(subject, Subject::Mapping { .. });
        let default: &[&str] = if mapping { &["spearman", "bray-curtis"] } else { &["spearman"] };
        let metrics = match keys.calls("metrics", Kind::Metric, &mut |_| {}) {
            Some(calls) => calls,
            None if keys.node("metrics").is_some() => return None,
            None => default
                .iter()
                .filter_map(|name| keys.component(name, &keys.place(), &[Kind::Metric], None))
                .collect(),
        };
        if metrics.is_empty() && keys.node("metrics").is_some() {
            let at = keys.place_of("metrics");
            keys.problem(Diagnostic::error(at, "`metrics` is empty: name one"));
        }
        metrics.iter().for_each(|call| check_metric(call, &subject, keys));
        let baselines = match keys.calls("baselines", Kind::Model, &mut |_| {}) {
            Some(calls) => calls,
            None if keys.node("baselines").is_some() => return None,
            None => every_baseline(keys, matches!(subject, Subject::Effects { .. })),
        };
        if let Subject::Effects { settings, .. } = &subject {
            check_skill(settings, &baselines, keys);
        }
        if !matches!(subject, Subject::Effects { .. }) {
            for call in baselines.iter().filter(|call| answers_scores(call)) {
                let title =
                    format!("`{}` answers with gene scores; profiles of cells are needed here", call.name);
                keys.problem(
                    Diagnostic::error(call.at.clone(), title).help("it is a baseline of measured effects"),
                );
            }
        }
        // A baseline that sees the cell would only repeat it.
        let sees = |call: &Call| call.component.model_info().sees_expression;
        let baselines = baselines.into_iter().filter(|call| !(mapping && sees(call))).collect();
        Some(Self { subject, metrics, baselines })
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        match &self.subject {
            Subject::Mapping { models, cells } => models.iter().chain(cells).collect(),
            Subject::Effects { models, truth, cells, .. } => {
                models.iter().chain(truth).chain(cells).collect()
            }
            Subject::Impacts { screens, truth, .. } => screens.iter().chain(truth).collect(),
        }
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        let describe = |calls: &[Call]| -> Json {
            calls.iter().map(|c| json!({ "name": c.name, "component": c.describe() })).collect()
        };
        let mut spec = json!({ "metrics": describe(&self.metrics), "baselines": describe(&self.baselines) });
        match &self.subject {
            Subject::Mapping { .. } => spec["strata"] = json!([]),
            Subject::Effects { settings, .. } => {
                spec["min_cells"] = json!(settings.min_cells);
                spec["dominant"] = json!(settings.dominant);
                spec["bootstrap"] = json!(settings.draws);
                spec["splits"] = json!(settings.splits);
                spec["random_targets"] = json!(settings.random_targets);
                spec["replicate"] = json!(settings.replicate);
                spec["informative"] =
                    json!({ "genes": settings.informative.genes, "halves": settings.informative.halves });
                spec["skill_against"] = json!(settings.skill_against);
                spec["perturbed_baselines"] = json!(settings.perturbed_baselines);
            }
            Subject::Impacts { strata, .. } => spec["strata"] = json!(strata),
        }
        spec
    }

    /// Whether it compares predicted with observed profiles of the same cells.
    pub fn is_mapping(&self) -> bool {
        matches!(self.subject, Subject::Mapping { .. })
    }

    /// Its metrics.
    pub fn metrics(&self) -> &[Call] {
        &self.metrics
    }

    /// See [`super::Action::cell_keys`].
    pub fn cell_keys(&self) -> &'static [&'static str] {
        match self.subject {
            Subject::Effects { .. } => &["truth", "cells"],
            _ => &["cells"],
        }
    }

    /// See [`super::Action::calls`].
    pub fn calls(&self) -> Vec<&Call> {
        self.metrics.iter().chain(&self.baselines).collect()
    }

    /// Evaluates; writes all scores.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let judges: Vec<Judge> = self.metrics.iter().map(|call| judge(call, cx)).collect::<Result<_>>()?;
        let mut unlike = vec![];
        let (rows, extra) = match &self.subject {
            Subject::Mapping { .. } => {
                let (rows, told) = mapping::scores(self, &judges, cx)?;
                unlike::warn(&told, &cx.services);
                cx.write("unlike.csv", &unlike::write_csv(&told)?)?;
                unlike = told;
                (rows, json!([]))
            }
            Subject::Effects { settings, .. } => effects::scores(self, &judges, settings, cx)?,
            Subject::Impacts { strata, .. } => impacts::scores(self, &judges, strata, cx)?,
        };
        cx.write("scores.csv", &scores::write_csv(&rows)?)?;
        let kind = match self.subject {
            Subject::Mapping { .. } => "mapping",
            Subject::Effects { .. } => "effects",
            Subject::Impacts { .. } => "impacts",
        };
        let verdicts = match self.subject {
            Subject::Effects { .. } => effects::verdicts(&rows, &cx.services),
            _ => scores::verdicts(&rows),
        };
        let summary = json!({
            "headline": scores::headline(&rows), "kind": kind,
            "scores": rows, "verdicts": verdicts, "points": extra, "unlike": unlike,
        });
        cx.write("evaluation.json", &json_bytes(&summary)?)?;
        Ok(Outputs { summary, ..Outputs::default() })
    }

    /// Fits every baseline to the cells that a fitted model was trained on.
    fn fit_baselines(
        &self,
        training: Option<&TrainingCells>,
        cx: &StepCx<'_>,
    ) -> Result<Vec<(String, FittedModel)>> {
        let Some((train, validation)) = training else { return Ok(vec![]) };
        let fit = |call: &Call| {
            cx.check()?;
            let fitted = Fit::fit_other(call, train.clone(), validation.clone(), &cx.services);
            // A model's step may have the name of a baseline.
            let is_taken = cx.chosen("models").iter().any(|model| name_of(model, cx) == call.name);
            let name = format!("{}{}", call.name, if is_taken { " (baseline)" } else { "" });
            Ok((name, fitted.with_context(|| format!("baseline `{}`", call.name))?))
        };
        let (labelled, rest): (Vec<&Call>, Vec<&Call>) =
            self.baselines.iter().partition(|call| call.component.model_info().needs_labels);
        let has_labels = train.measured.as_ref().is_some_and(|m| !m.cells_by_perturbation().is_empty());
        if !has_labels && !labelled.is_empty() {
            let names: Vec<&str> = labelled.iter().map(|call| call.name.as_str()).collect();
            cx.services
                .warn(format!("baselines that learn from labels have none here: {}", names.join(", ")));
        }
        let able = labelled.into_iter().filter(|_| has_labels).chain(rest);
        able.map(fit).collect()
    }
}

/// A metric has to fit what is compared.
fn check_metric(call: &Call, subject: &Subject, keys: &mut Keys<'_>) {
    let (id, info) = (&call.component.id, call.component.metric_info());
    let mut problem = |title: String, help: &str| {
        let problem = Diagnostic::error(call.at.clone(), title);
        keys.problem(if help.is_empty() { problem } else { problem.help(help) });
    };
    let panel = info.shape == Shape::Panel;
    let (given, compared) = match subject {
        Subject::Mapping { .. } => (&["before", "after"][..], None),
        Subject::Effects { .. } if panel => {
            (&["before", "after", "panel", "observed", "controls"][..], Some("effects"))
        }
        Subject::Effects { .. } => (&["before", "after"][..], Some("effects")),
        Subject::Impacts { .. } => (&["before", "after"][..], Some("impacts")),
    };
    if panel && !matches!(subject, Subject::Effects { .. }) {
        let help = "give `models` and, as `truth`, cells with measured perturbations";
        problem(format!("`{id}` scores panels of measured perturbations"), help);
        return;
    }
    let effects = matches!(subject, Subject::Effects { .. });
    if info.shape == Shape::Population && !effects {
        let help = "give `models` and, as `truth`, cells with measured perturbations";
        problem(format!("`{id}` compares predicted cells with those of measured perturbations"), help);
        return;
    }
    let single = info.shape == Shape::Row;
    if let Some(compared) = compared.filter(|_| single && !(info.vectors && (info.signed || !effects))) {
        let help = match effects {
            true => "a correlation fits, or mae, mse, or a metric of panels",
            false => "a correlation fits, or mae, mse, bray-curtis",
        };
        problem(format!("`{id}` compares profiles, not {compared}"), help);
    }
    if let Some(part) = call.needs_other_than(given) {
        problem(format!("`{id}` needs {part}, which an evaluation does not have"), "");
    }
}

/// Perturbations measured in fewer cells are not scored unless the pipeline says so.
const FEWEST_CELLS: usize = 10;

/// The share of the controls' counts above which a gene is left out.
const DOMINANT: f64 = 0.2;
const LEAST_DOMINANT: f64 = 0.01;

/// How often measured cells are drawn again, and split into halves, and how many random targets stand in for each.
const DRAWS: usize = 200;
const SPLITS: usize = 20;
const RANDOM_TARGETS: usize = 20;

fn effect_settings(keys: &mut Keys<'_>) -> effects::Settings {
    let mut count = |key, low, default| keys.count(key, low).map_or(default, |n| n as usize);
    let (min_cells, draws) = (count("min_cells", 1, FEWEST_CELLS), count("bootstrap", 0, DRAWS));
    let (splits, random_targets) = (count("splits", 0, SPLITS), count("random_targets", 0, RANDOM_TARGETS));
    let (replicate, skill_against) = (keys.text("replicate"), keys.text("skill_against"));
    let rule = effects::RULE;
    let informative = keys.inner("informative", |keys| effects::Rule {
        genes: keys.count("genes", 0).map_or(rule.genes, |n| n as usize),
        halves: keys.number("halves", -1.0, 1.0).unwrap_or(rule.halves),
    });
    let informative = informative.unwrap_or(rule);
    let dominant = keys.number("dominant", LEAST_DOMINANT, 1.0).unwrap_or(DOMINANT);
    // Who wants no baselines wants none of these.
    let none =
        keys.node("baselines").is_some_and(|node| matches!(&node.value, Value::List(l) if l.is_empty()));
    let perturbed_baselines = keys.boolean("perturbed_baselines").unwrap_or(!none);
    effects::Settings {
        min_cells,
        dominant,
        draws,
        splits,
        random_targets,
        replicate,
        informative,
        skill_against,
        perturbed_baselines,
    }
}

/// A skill is counted from one of the baselines.
fn check_skill(settings: &effects::Settings, baselines: &[Call], keys: &mut Keys<'_>) {
    let Some(name) = &settings.skill_against else { return };
    if !baselines.iter().any(|call| call.name == *name) {
        let problem =
            Diagnostic::error(keys.place_of("skill_against"), format!("there is no baseline `{name}`"));
        keys.problem(problem.suggest(name, baselines.iter().map(|call| call.name.as_str())));
    }
}

/// Models that share one set of baselines.
struct Peers<'c> {
    models: Vec<&'c Chosen>,
    training: Option<TrainingCells>,
}

impl Peers<'_> {
    fn fitted(&self, cx: &StepCx<'_>) -> Result<Vec<Arc<FittedModel>>> {
        self.models.iter().map(|chosen| cx.run().model(chosen)).collect()
    }

    /// What its baselines' names end with, where there are several sets.
    fn suffix(&self, all: &[Peers<'_>], first: &str) -> String {
        let sets = all.iter().filter(|peers| peers.training.is_some()).count();
        if sets > 1 { format!(" of {first}") } else { String::new() }
    }
}

/// The models in groups that learned from the same cells; perturbed cells, which no baseline sees, do not count.
fn by_training<'c>(models: impl IntoIterator<Item = &'c Chosen>, cx: &StepCx<'_>) -> Result<Vec<Peers<'c>>> {
    let mut groups: Vec<Peers<'_>> = vec![];
    for model in models {
        let training = training_cells(model, cx)?;
        let same = |peers: &&mut Peers<'_>| match (&peers.training, &training) {
            (None, None) => true,
            (Some((one, held)), Some((other, held_too))) => {
                same_controls(one, other)
                    && match (held, held_too) {
                        (Some(held), Some(held_too)) => same_controls(held, held_too),
                        (held, held_too) => held.is_none() && held_too.is_none(),
                    }
            }
            _ => false,
        };
        match groups.iter_mut().find(same) {
            Some(peers) => {
                peers.models.push(model);
                // A baseline that learns from labels gets those of whoever has most.
                if perturbed(&training) > perturbed(&peers.training) {
                    peers.training = training;
                }
            }
            None => groups.push(Peers { models: vec![model], training }),
        }
    }
    Ok(groups)
}

fn perturbed(training: &Option<TrainingCells>) -> usize {
    training.as_ref().map_or(0, |(train, _)| train.len() - train.controls().len())
}

fn same_controls(one: &Arc<Cells>, other: &Arc<Cells>) -> bool {
    let row = |cells: &'_ Cells, i: usize| (cells.obs.names[i].clone(), cells.library[i].to_bits());
    let same_rows = || {
        let (a, b) = (one.controls(), other.controls());
        let same =
            |(&i, &j): (&usize, &usize)| row(one, i) == row(other, j) && one.x.row(i) == other.x.row(j);
        a.len() == b.len() && a.iter().zip(&b).all(same)
    };
    Arc::ptr_eq(one, other) || one.var.names == other.var.names && same_rows()
}

fn answers_scores(call: &Call) -> bool {
    call.component.model_info().answers == Answers::GeneScores
}

/// The loaded baselines that answer with what is compared: gene scores are effects, and neither profiles nor impacts.
pub(super) fn every_baseline(keys: &mut Keys<'_>, effects: bool) -> Vec<Call> {
    let is_baseline = |c: &crate::plugin::Component| {
        let fits = |info: ModelInfo| info.baseline && (effects || info.answers != Answers::GeneScores);
        c.kind == Kind::Model && fits(c.model_info())
    };
    let found = keys.registry().components().filter(|(_, c)| is_baseline(c));
    let names: Vec<String> = found.map(|(p, c)| p.full_name(&c.id)).collect();
    names.iter().filter_map(|name| keys.component(name, &keys.place(), &[Kind::Model], None)).collect()
}

/// A metric, ready.
pub(super) fn judge(call: &Call, cx: &StepCx<'_>) -> Result<Judge> {
    let metric = call.plugin.metric(&call.component, &call.params_json(), &cx.services)?;
    Ok(Judge { name: call.name.clone(), metric, info: call.component.metric_info() })
}

/// Training cells, and validation cells if there are any.
type TrainingCells = (Arc<Cells>, Option<Arc<Cells>>);

/// The cells that a model was fitted to; none for a truth.
fn training_cells(model: &Chosen, cx: &StepCx<'_>) -> Result<Option<TrainingCells>> {
    let instance = cx.run().instance(model)?;
    let chosen = |key: &str| instance.choices.get(key).and_then(|c| c.first());
    let Some(train) = chosen("train") else { return Ok(None) };
    let validation = chosen("validation").map(|c| cx.run().cells(c)).transpose()?;
    Ok(Some((cx.run().cells(train)?, validation)))
}

/// The name of a member in the scores: its step, its port if that says more, and its labels.
fn name_of(chosen: &Chosen, cx: &StepCx<'_>) -> String {
    let step = cx.run().step(chosen);
    let port = ["model", "cells", "impacts", "predictions"].contains(&chosen.input.port.as_str());
    let base = if port { step.name.clone() } else { format!("{}.{}", step.name, chosen.input.port) };
    let mut labels: Vec<&str> = chosen.labels.values().map(String::as_str).collect();
    labels.extend(chosen.group.iter().map(|(_, value)| value.as_str()));
    if labels.is_empty() { base } else { format!("{base} [{}]", labels.join(", ")) }
}

/// The only chosen member under a key.
fn single<'a>(cx: &'a StepCx<'_>, key: &str) -> Result<&'a Chosen> {
    match cx.chosen(key) {
        [one] => Ok(one),
        [] => bail!("nothing fits under `{key}`"),
        many => bail!("`{key}` has {} members here, where one is expected", many.len()),
    }
}
