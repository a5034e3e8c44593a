//! A report: one HTML file that needs nothing else. What was run, what came out, and how far to trust it.

mod charts;
mod page;

use crate::pipeline::{Call, Diagnostic, Input, Keys, PortType};
use crate::run::{Chosen, Outputs, StepCx, label_suffix};
use crate::steps::Action;
use anyhow::Result;
use serde_json::{Value as Json, json};
use std::path::Path;

/// What is reported.
pub struct Report {
    from: Vec<Input>,
}

/// The file in the step's folder; the run puts a copy beside run.json.
pub const FILE: &str = "report.html";

impl Report {
    /// Keys: `from`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let types = [PortType::Impacts, PortType::Scores];
        let from = keys.required_inputs("from", &types, "a list of screens and evaluations");
        if keys.node("title").is_some() {
            let at = keys.place_of("title");
            keys.problem(Diagnostic::error(at, "a report is titled by the pipeline's `name`"));
        }
        Some(Self { from })
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        self.from.iter().collect()
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        json!({})
    }

    /// None.
    pub fn calls(&self) -> Vec<&Call> {
        vec![]
    }

    /// Writes the page.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let mut screens = vec![];
        let mut evaluations = vec![];
        for chosen in cx.chosen("from") {
            let instance = cx.run().instance(chosen)?;
            let named = (title(chosen, cx), instance.record.summary.clone());
            match cx.run().step(chosen).action {
                Action::Screen(_) => screens.push(named),
                _ => evaluations.push(named),
            }
        }
        let content = page::Content {
            name: &cx.run().plan.name,
            seed: cx.run().plan.seed,
            screens,
            evaluations,
            choices: choices(cx),
            trainings: trainings(cx)?,
            steps: cx.run().steps_behind(cx.step),
            plugins: cx.run().plugins(),
        };
        cx.write(FILE, page::render(&content).as_bytes())?;
        let summary = json!({ "headline": FILE });
        Ok(Outputs { summary, ..Outputs::default() })
    }
}

fn title(chosen: &Chosen, cx: &StepCx<'_>) -> String {
    format!("{}{}", cx.run().step(chosen).name, label_suffix(&chosen.labels))
}

/// What was chosen among, for each model behind the report that was chosen: name and summary.
fn choices(cx: &StepCx<'_>) -> Vec<(String, Json)> {
    let models = cx.run().models_behind(cx.step).into_iter();
    let chosen = models.filter(|(_, _, summary)| summary["candidates"].is_array());
    chosen.map(|(name, _, summary)| (name, summary)).collect()
}

/// The training curves of all models behind the report: name, and points of (step, training loss, validation loss).
fn trainings(cx: &StepCx<'_>) -> Result<Vec<(String, Json)>> {
    let mut found = vec![];
    for (name, dir, _) in cx.run().models_behind(cx.step) {
        let path = dir.join("training.csv");
        if path.exists() {
            found.push((name, curve(&path)?));
        }
    }
    Ok(found)
}

/// Points of a training curve, thinned so that a long training draws as fast as a short one.
fn curve(path: &Path) -> Result<Json> {
    const POINTS: usize = 400;
    let mut reader = csv::Reader::from_path(path)?;
    let header: Vec<String> = reader.headers()?.iter().map(String::from).collect();
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    let every = rows.len().div_ceil(POINTS).max(1);
    let kept = rows.iter().enumerate().filter(|(i, _)| i % every == 0 || *i + 1 == rows.len());
    let number = |text: &str| text.parse::<f64>().ok().filter(|x| x.is_finite());
    let mut points = vec![];
    for (_, row) in kept {
        for (name, text) in header.iter().zip(row).skip(1) {
            points.push(json!({ "step": number(&row[0]), "of": name, "value": number(text) }));
        }
    }
    Ok(points.into())
}
