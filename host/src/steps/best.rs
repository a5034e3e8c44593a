//! The best of several models, by validation cells.
//!
//! Models look at validation cells as they please: for the best weights, for a penalty, some learn from them in the end. A
//! score on cells that a model has used is no score; so half of the validation cells is kept from all of them, and chooses.
//! Then the chosen one is fitted again, with all validation cells, as if its step had named it alone. Baselines stand beside
//! the models. They are never chosen, and when one is better the step warns of it.

use super::evaluate::scores::{ScoreRow, Units, of_cells, score_cells};
use super::evaluate::{Judge, every_baseline, judge, mapping};
use super::{Fit, FittedModel, Repeats};
use crate::data::Cells;
use crate::pipeline::{Call, Diagnostic, Input, Keys, PortType, Value};
use crate::plugin::{Answers, Kind, ModelInfo, Shape};
use crate::run::{Outputs, StepCx, json_bytes, seeded_stream, write_atomically};
use anyhow::{Context, Result, ensure};
use rand::seq::index::sample;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::Arc;

/// Models to choose among, and what they learn from.
#[derive(Clone)]
pub struct Best {
    /// The models.
    pub candidates: Vec<Call>,
    baselines: Vec<Call>,
    metric: Call,
    train: Vec<Input>,
    validation: Vec<Input>,
    /// Of the chosen one.
    repeats: Repeats,
}

/// Of fewer validation cells half would tell nothing.
const FEWEST: usize = 10;
/// Which of the candidates was chosen, and all scores.
const CHOICE: &str = "best.json";

/// What is kept of a candidate that was fitted: the winner is fitted again, so that its scores are enough.
#[derive(Serialize, Deserialize)]
struct Tried {
    /// The score of each cell, where there is one.
    scores: Vec<Option<f64>>,
    /// What the step had warned of by then.
    warnings: Vec<String>,
}

impl Best {
    /// Keys: `models`, `train`, `validation`, `metric`, `baselines`, `ensemble`, `uncertainty`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let train = keys.required_inputs("train", &[PortType::Cells], "the cells to learn from");
        let validation = keys.required_inputs("validation", &[PortType::Cells], "the cells to choose on");
        let (candidates, metric, baselines) = (candidates(keys), metric(keys), baselines(keys));
        let repeats = Repeats::read(keys);
        let (candidates, metric, mut baselines) = (candidates?, metric?, baselines?);
        // A baseline that is named among the models is one of them.
        baselines.retain(|call| !candidates.iter().any(|candidate| candidate.name == call.name));
        let same = |(a, b): (&Input, &Input)| (a.step, &a.port) == (b.step, &b.port);
        if train.len() == validation.len() && train.iter().zip(&validation).all(same) {
            let title = "`validation` must be cells that the models have not learned from";
            let problem = Diagnostic::error(keys.place_of("validation"), title);
            keys.problem(problem.label("the same as `train`").help("`split` deals out cells for each"));
        }
        Some(Self { candidates, baselines, metric, train, validation, repeats })
    }

    /// The same among other candidates.
    pub fn among(&self, candidates: Vec<Call>) -> Self {
        Self { candidates, ..self.clone() }
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        self.train.iter().chain(&self.validation).collect()
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        let describe = |calls: &[Call]| -> Json {
            calls.iter().map(|c| json!({ "name": c.name, "component": c.describe() })).collect()
        };
        json!({
            "models": describe(&self.candidates), "baselines": describe(&self.baselines),
            "metric": self.metric.describe(), "repeats": self.repeats.spec(),
        })
    }

    /// See [`super::Action::calls`].
    pub fn calls(&self) -> Vec<&Call> {
        self.candidates.iter().chain(&self.baselines).chain([&self.metric]).collect()
    }

    /// What is known of its model before it is chosen.
    pub fn info(&self) -> ModelInfo {
        ModelInfo { answers: Answers::Profiles, ..ModelInfo::default() }
    }

    /// Chooses; writes all scores, and the chosen model as its own step would.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        self.repeats.check(&*cx.cells("train")?, Some(&*cx.cells("validation")?))?;
        let rows = self.scores(cx)?;
        let chosen = self.choose(&rows)?;
        self.warn(&rows, &rows[chosen], cx);
        let fit = self.fit(chosen);
        let mut outputs = fit.run(cx).with_context(|| format!("model `{}`", fit.call.name))?;
        let row = &rows[chosen];
        let value = row.value.map_or("no value".into(), |value| format!("{value:.4}"));
        let among = self.candidates.len();
        outputs.summary["headline"] =
            json!(format!("{} of {among} models, {} {value}", row.model, row.metric));
        outputs.summary["chosen"] = json!(row.model);
        outputs.summary["metric"] = json!(row.metric);
        outputs.summary["chosen_on"] = json!(row.of);
        outputs.summary["candidates"] = rows.iter().map(|r| described(r, r.model == row.model)).collect();
        cx.write("best.csv", &csv_of(&rows, chosen)?)?;
        cx.write(CHOICE, &json_bytes(&json!({ "chosen": row.model }))?)?;
        Ok(outputs)
    }

    /// Loads the chosen model.
    pub fn reload(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let bytes = std::fs::read(cx.path(CHOICE)).with_context(|| format!("cannot read {CHOICE}"))?;
        let choice: Json = serde_json::from_slice(&bytes)?;
        let named = |call: &Call| choice["chosen"] == *call.name;
        let chosen = self.candidates.iter().position(named).context("the chosen model is not among them")?;
        self.fit(chosen).reload(cx)
    }

    /// A candidate as a step of its own.
    fn fit(&self, candidate: usize) -> Fit {
        let call = self.candidates[candidate].clone();
        let (train, validation) = (self.train.clone(), self.validation.clone());
        Fit { call, train, validation, from: vec![], repeats: self.repeats.clone() }
    }

    /// The scores of the candidates, and then of the baselines.
    fn scores(&self, cx: &StepCx<'_>) -> Result<Vec<ScoreRow>> {
        let (train, validation) = (cx.cells("train")?, cx.cells("validation")?);
        let (seen, unseen) = halves(&validation, cx.step_seed())?;
        let judge = judge(&self.metric, cx)?;
        let models = self.candidates.iter().map(|call| (call, false));
        let all: Vec<(&Call, bool)> = models.chain(self.baselines.iter().map(|call| (call, true))).collect();
        let mut units = vec![];
        for (i, &(call, baseline)) in all.iter().enumerate() {
            cx.check()?;
            cx.services.progress(i as u64, all.len() as u64, "models");
            let folder = cx.scratch(&format!("model-{i}"))?;
            let cells = (train.clone(), seen.clone(), unseen.as_ref());
            let scores = tried(call, cells, &judge, (&folder, cx));
            let scores = scores.with_context(|| format!("model `{}`", call.name))?;
            units.push(Units { name: call.name.clone(), baseline, scores });
        }
        Ok(score_cells(("validation", "cells"), &judge, &units, cx.step_seed()))
    }

    /// Whether lower scores are better.
    fn lower(&self) -> bool {
        self.metric.component.metric_info().direction == "lower"
    }

    /// The number of the best candidate.
    fn choose(&self, rows: &[ScoreRow]) -> Result<usize> {
        best_of(&rows[..self.candidates.len()], self.lower()).with_context(|| {
            format!("no model has a value by {} on the validation cells that choose", self.metric.name)
        })
    }

    /// Says which baselines are better than the chosen model, or not shown to be worse.
    fn warn(&self, rows: &[ScoreRow], chosen: &ScoreRow, cx: &StepCx<'_>) {
        let lower = self.lower();
        let rivals = || rows.iter().filter(|row| row.baseline && row.value.is_some());
        let better =
            |row: &&ScoreRow| if lower { row.value < chosen.value } else { row.value > chosen.value };
        let names =
            |rows: Vec<&ScoreRow>| rows.iter().map(|row| row.model.as_str()).collect::<Vec<_>>().join(", ");
        let (metric, n) = (&chosen.metric, chosen.of);
        let won: Vec<&ScoreRow> = rivals().filter(better).collect();
        if !won.is_empty() {
            cx.services.warn(format!(
                "A BASELINE WON: {} is better than `{}`, the best of the models, by {metric} on {n} validation cells. \
                 Baselines are not chosen unless `models` names them",
                names(won),
                chosen.model
            ));
        }
        let unbeaten: Vec<&ScoreRow> =
            rivals().filter(|row| !better(row) && !chosen.beats.contains(&row.model)).collect();
        if !unbeaten.is_empty() {
            cx.services.warn(format!(
                "`{}`, the best of the models, is not shown to be better than {} by {metric} on {n} validation cells: \
                 the interval of the difference holds 0, or there are too few cells for one",
                chosen.model,
                names(unbeaten)
            ));
        }
    }
}

/// The number of the best score, the first of equal ones. Whoever has a score in more cells goes before: to have none where it
/// is hard is no merit.
fn best_of(rows: &[ScoreRow], lower: bool) -> Option<usize> {
    let sign = if lower { 1.0 } else { -1.0 };
    let scored = |(i, row): (usize, &ScoreRow)| Some((i, row.scored, sign * row.value?));
    let before = |a: &(usize, Option<usize>, f64), b: &(usize, Option<usize>, f64)| {
        b.1.cmp(&a.1).then(a.2.total_cmp(&b.2))
    };
    rows.iter().enumerate().filter_map(scored).min_by(before).map(|(i, ..)| i)
}

/// Whether a baseline predicts profiles from assemblages alone, of wild-type cells.
fn is_comparable(call: &Call) -> bool {
    let info = call.component.model_info();
    info.answers == Answers::Profiles && !info.sees_expression && !info.needs_labels
}

/// The models to choose among.
fn candidates(keys: &mut Keys<'_>) -> Option<Vec<Call>> {
    let found = keys.calls("models", Kind::Model, &mut |_| {});
    let wrong = match keys.node("models").map(|node| &node.value) {
        None => Some("the best of several needs `models`: a list, such as [\"mlp\", \"sparse\"]"),
        Some(Value::List(items)) if items.is_empty() => Some("`models` is empty: name two or more"),
        Some(_) => None,
    };
    if let Some(title) = wrong {
        keys.problem(Diagnostic::error(keys.place_of("models"), title));
    }
    found.iter().flatten().for_each(|call| check_model(call, keys));
    found
}

/// What chooses.
fn metric(keys: &mut Keys<'_>) -> Option<Call> {
    let found = match keys.node("metric") {
        Some(_) => keys.call("metric", Kind::Metric, &mut |_| {}),
        None => keys.component("bray-curtis", &keys.place(), &[Kind::Metric], None),
    };
    found.iter().for_each(|call| check_metric(call, keys));
    found
}

/// What stands beside: nothing where what is named is wrong.
fn baselines(keys: &mut Keys<'_>) -> Option<Vec<Call>> {
    let found = keys.calls("baselines", Kind::Model, &mut |_| {});
    if keys.node("baselines").is_none() {
        return Some(every_baseline(keys, false).into_iter().filter(is_comparable).collect());
    }
    found.iter().flatten().for_each(|call| check_model(call, keys));
    found
}

fn check_model(call: &Call, keys: &mut Keys<'_>) {
    let info = call.component.model_info();
    let mut problem = |title: String, help: &str| {
        keys.problem(Diagnostic::error(call.at.clone(), title).help(help));
    };
    if info.answers != Answers::Profiles {
        let title = format!(
            "`{}` answers with {}; models are chosen by the profiles of cells",
            call.name,
            info.answers.in_words()
        );
        problem(title, "evaluate it against measured perturbations: `evaluate` with `models` and `truth`");
    } else if info.sees_expression {
        let title =
            format!("`{}` sees the cell that it is to predict, so its score would mean nothing", call.name);
        problem(title, "leave it out");
    }
}

fn check_metric(call: &Call, keys: &mut Keys<'_>) {
    let (id, info) = (&call.component.id, call.component.metric_info());
    let mut problem = |title: String, help: &str| {
        keys.problem(Diagnostic::error(call.at.clone(), title).help(help));
    };
    if info.shape != Shape::Row {
        problem(format!("`{id}` does not score single cells"), "bray-curtis does, and spearman");
    } else if let Some(part) = call.needs_other_than(&["before", "after"]) {
        problem(
            format!("`{id}` needs {part}, which a choice among models does not have"),
            "bray-curtis does not",
        );
    } else if info.direction != "lower" && info.direction != "higher" {
        problem(format!("`{id}` does not say which way is better"), "bray-curtis does, and spearman");
    }
}

/// Validation cells for the models to use, and as many that none of them sees; the latter are controls.
fn halves(validation: &Cells, seed: u64) -> Result<(Arc<Cells>, Arc<Cells>)> {
    let controls = validation.controls();
    ensure!(
        controls.len() >= FEWEST,
        "expected {FEWEST} validation cells or more to choose on, found {}: give `split` a larger `validation`",
        controls.len()
    );
    let drawn = sample(&mut seeded_stream(seed, 0), controls.len(), controls.len() / 2);
    let mut unseen: Vec<usize> = drawn.into_iter().map(|i| controls[i]).collect();
    unseen.sort_unstable();
    let seen: Vec<usize> = (0..validation.len()).filter(|i| unseen.binary_search(i).is_err()).collect();
    Ok((Arc::new(validation.select_cells(&seen)), Arc::new(validation.select_cells(&unseen))))
}

/// The score of each unseen cell by a model that is fitted to the others, or was before a kill.
fn tried(
    call: &Call,
    (train, seen, unseen): (Arc<Cells>, Arc<Cells>, &Cells),
    judge: &Judge,
    (folder, cx): (&Path, &StepCx<'_>),
) -> Result<Vec<f64>> {
    let file = folder.join("scores.json");
    let kept: Option<Tried> = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(Tried { scores, warnings }) = kept.filter(|kept| kept.scores.len() == unseen.len()) {
        warnings.into_iter().for_each(|warning| cx.services.warn(warning));
        return Ok(scores.into_iter().map(|score| score.unwrap_or(f64::NAN)).collect());
    }
    let services = cx.services.clone().with_scratch(folder.to_path_buf());
    let model: FittedModel = Fit::fit_other(call, train, Some(seen), &services)?;
    let contender = mapping::contender(call.name.clone(), false, &model, unseen, &services)?;
    let scores = of_cells(judge, &services, &contender.blocks)?;
    let finite = scores.iter().map(|score| Some(*score).filter(|score| score.is_finite())).collect();
    let kept = Tried { scores: finite, warnings: services.warnings() };
    write_atomically(&file, &serde_json::to_vec(&kept)?)?;
    Ok(scores)
}

fn described(row: &ScoreRow, chosen: bool) -> Json {
    json!({
        "model": row.model, "value": row.value, "lower": row.lower, "upper": row.upper, "scored": row.scored,
        "beats": row.beats, "baseline": row.baseline, "chosen": chosen,
    })
}

/// All scores; beaten baselines are separated by `;`.
fn csv_of(rows: &[ScoreRow], chosen: usize) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    let header = ["model", "metric", "value", "lower", "upper", "scored", "beats", "baseline", "chosen"];
    writer.write_record(header)?;
    let text = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
    for (i, row) in rows.iter().enumerate() {
        writer.write_record([
            row.model.clone(),
            row.metric.clone(),
            text(row.value),
            text(row.lower),
            text(row.upper),
            row.scored.map(|n| n.to_string()).unwrap_or_default(),
            row.beats.join(";"),
            row.baseline.to_string(),
            (i == chosen).to_string(),
        ])?;
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Csr, Frame};

    fn cells(n: usize) -> Cells {
        let mut x = Csr::empty(1);
        (0..n).for_each(|_| x.push_row([(0, 1.0)].into_iter()));
        let names =
            |letter: char, n: usize| Frame::of_names((0..n).map(|i| format!("{letter}{i}")).collect());
        Cells::new(x, names('c', n), names('g', 1))
    }

    fn row(value: Option<f64>, scored: usize) -> ScoreRow {
        ScoreRow { value, scored: Some(scored), of: 9, ..ScoreRow::default() }
    }

    #[test]
    fn the_first_of_the_best_in_most_cells_is_chosen() {
        let rows = [row(None, 0), row(Some(0.3), 9), row(Some(0.1), 8), row(Some(0.2), 9), row(Some(0.2), 9)];
        assert_eq!((best_of(&rows, true), best_of(&rows, false)), (Some(3), Some(1)));
        assert_eq!((best_of(&rows[..1], true), best_of(&[], true)), (None, None));
    }

    #[test]
    fn no_cell_is_seen_that_chooses_and_none_is_lost() {
        for n in [10, 11, 80] {
            let (seen, unseen) = halves(&cells(n), 3).unwrap();
            assert_eq!((seen.len(), unseen.len()), (n.div_ceil(2), n / 2));
            let mut all = [seen.ids.clone(), unseen.ids.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..n as u64).collect::<Vec<_>>());
            assert_eq!(halves(&cells(n), 3).unwrap().1.ids, unseen.ids);
            assert_ne!(halves(&cells(n), 4).unwrap().1.ids, unseen.ids);
        }
        let error = halves(&cells(9), 3).unwrap_err().to_string();
        assert!(error.starts_with("expected 10 validation cells or more to choose on, found 9"), "{error}");
    }
}
