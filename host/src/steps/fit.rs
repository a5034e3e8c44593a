//! A model's step: fits it to training cells; and again, where its uncertainty is asked for.

mod chosen;
mod familiar;
mod fitted;
mod refits;
mod replicates;
mod source;
mod variation;

pub use fitted::FittedModel;
pub use refits::{MOST as MOST_REFITS, Refits, Repeats};
pub use variation::Variation;

use crate::data::Cells;
use crate::pipeline::{Call, Diagnostic, Input, Keys, PortType};
use crate::plugin::{Fitted, Kind, Lesson, Model, Services, Training};
use crate::run::{Outputs, StepCx, write_csv};
use anyhow::{Context, Result, bail, ensure};
use arrow_array::RecordBatch;
use familiar::Familiar;
use serde_json::{Value as Json, json};
use source::Source;
use std::sync::Arc;

/// A model with its parameters and training cells.
#[derive(Clone)]
pub struct Fit {
    /// The model.
    pub call: Call,
    /// Training cells.
    pub train: Vec<Input>,
    /// Cells held out to choose the best state.
    pub validation: Vec<Input>,
    /// The fitted model that it goes on from.
    pub from: Vec<Input>,
    /// The further fits of an ensemble, and refits.
    pub repeats: Repeats,
}

/// Values of parameters that a fit chose.
type Chosen = serde_json::Map<String, Json>;

const MODEL: &str = "model.safetensors";
const ABOUT: &str = "model.json";

impl Fit {
    /// Keys: `train`, `validation`, `from`, `ensemble`, `uncertainty`, `with`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let train = keys.required_inputs("train", &[PortType::Cells], "the cells to learn from");
        let validation = keys.inputs("validation", &[PortType::Cells]);
        let from = keys.inputs("from", &[PortType::Model]);
        let repeats = Repeats::read(keys);
        if !from.is_empty() && repeats.tell_uncertainty() {
            let title = "`uncertainty` takes away what cells tell, and `from` keeps what others have told";
            let problem = Diagnostic::error(keys.place_of("uncertainty"), title);
            keys.problem(problem.help("leave `uncertainty` out; `ensemble` goes with `from`"));
        }
        let call = keys.own_component(Kind::Model)?;
        Some(Self { call, train, validation, from, repeats })
    }

    /// The same of a model with other parameters.
    pub fn with(&self, call: Call) -> Self {
        Self { call, ..self.clone() }
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        self.train.iter().chain(&self.validation).chain(&self.from).collect()
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        json!({ "model": self.call.describe(), "repeats": self.repeats.spec() })
    }

    /// See [`super::Action::calls`].
    pub fn calls(&self) -> Vec<&Call> {
        vec![&self.call]
    }

    fn model(&self, services: &Services) -> Result<Model> {
        self.call.plugin.model(&self.call.component, &self.call.params_json(), services)
    }

    /// Fits; writes the model, what it tells about itself, and its refits.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let cells = (cx.cells("train")?, cx.optional_cells("validation")?);
        let lessons = Lessons::of(&self.call, cells, &cx.services)?;
        let source = Source::of(cx)?;
        source.as_ref().map_or(Ok(()), |source| source.check(&lessons.train.cells))?;
        let (train, validation) = (&lessons.train.cells, lessons.held.as_ref().map(|held| held.cells.len()));
        self.repeats.check(train, lessons.held.as_ref().map(|held| &*held.cells))?;
        // Written last: what a run that was killed among the refits has left.
        let (fitted, chosen) = match cx.path(ABOUT).exists() {
            true => self.go_on(cx)?,
            false => self.fit(&lessons, source.as_ref(), cx)?,
        };
        let refits = self.refits(cx);
        let repeated = refits.fit(&chosen::given(&self.call, &chosen), &lessons, source.as_ref(), cx)?;
        let held = validation.map(|n| format!(", {n} held out")).unwrap_or_default();
        let source = source.as_ref().map(Source::name);
        let on = source.map(|name| format!(", going on from `{name}`")).unwrap_or_default();
        let summary = json!({
            "headline": format!("fitted to {} cells × {} genes{held}{on}{repeated}", train.len(), train.n_genes()),
            "model": self.call.full_name(), "cells": train.len(), "genes": train.n_genes(),
            "validation": validation, "from": source, "repeats": self.repeats.spec(),
        });
        let others = refits.others(&cx.path(refits::FOLDER), &cx.services)?;
        let (genes, familiar) = (Some(train.var.names.clone()), Some(Familiar::of(train)));
        let model = FittedModel { fitted, others, genes, familiar, refits: Some(refits) };
        Ok(Outputs { model: Some(Arc::new(model)), summary, ..Outputs::default() })
    }

    /// Fits the model; writes it, and what it tells about itself. Beside it is what it chose of its parameters.
    fn fit(&self, lessons: &Lessons, source: Option<&Source>, cx: &StepCx<'_>) -> Result<(Fitted, Chosen)> {
        let from = source.map(Source::model).transpose()?;
        let fitted = lessons.learn(&self.call, from.as_deref(), &cx.services)?;
        cx.write(MODEL, fitted.save(&cx.services)?.as_slice())?;
        let mut chosen = Chosen::new();
        for (name, table) in fitted.tables(&cx.services)? {
            cx.write(&format!("{name}.csv"), &write_csv(&table)?)?;
            if name == chosen::TABLE {
                chosen = self.chosen(&table, &cx.services).with_context(|| {
                    format!("table `{name}` that {} tells of its fit", self.call.full_name())
                })?;
            }
        }
        let train = &lessons.train.cells;
        let about = json!({
            "component": self.call.describe(), "genes": train.var.names, "familiar": Familiar::of(train).to_json(),
            "warnings": cx.services.warnings(), "chosen": chosen,
        });
        cx.write(ABOUT, &crate::run::json_bytes(&about)?)?;
        Ok((fitted, chosen))
    }

    /// What the fit chose of its parameters, which the model takes.
    fn chosen(&self, table: &RecordBatch, services: &Services) -> Result<Chosen> {
        let chosen = chosen::read(table, &self.call.component.parameters)?;
        self.with(chosen::given(&self.call, &chosen)).model(services)?;
        Ok(chosen)
    }

    /// The model that a killed run has fitted, and what was warned of then.
    fn go_on(&self, cx: &StepCx<'_>) -> Result<(Fitted, Chosen)> {
        let about: Json = serde_json::from_slice(&read(cx, ABOUT)?)?;
        let warnings = about["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str);
        warnings.for_each(|warning| cx.services.warn(warning));
        Ok((self.load(cx)?, about["chosen"].as_object().cloned().unwrap_or_default()))
    }

    /// The fitted model, from its file.
    fn load(&self, cx: &StepCx<'_>) -> Result<Fitted> {
        self.model(&cx.services)?.load(&cx.services, &read(cx, MODEL)?)
    }

    /// Its refits, which lie in the step's folder once it is finished.
    fn refits(&self, cx: &StepCx<'_>) -> Refits {
        Refits::new(&self.call, &self.repeats, (cx.done(refits::FOLDER), cx.step_seed()))
    }

    /// Loads the fitted model.
    pub fn reload(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let about: Json = serde_json::from_slice(&read(cx, ABOUT)?)?;
        let genes: Vec<String> = serde_json::from_value(about["genes"].clone())?;
        let fitted = self.load(cx)?;
        let (refits, familiar) = (self.refits(cx), Familiar::from_json(&about["familiar"]));
        let others = refits.others(&cx.path(refits::FOLDER), &cx.services)?;
        let model = FittedModel { fitted, others, genes: Some(genes), familiar, refits: Some(refits) };
        Ok(Outputs { model: Some(Arc::new(model)), ..Outputs::default() })
    }

    /// Fits another model, such as a baseline, to the same cells, in memory.
    pub fn fit_other(
        call: &Call,
        train: Arc<Cells>,
        validation: Option<Arc<Cells>>,
        services: &Services,
    ) -> Result<FittedModel> {
        let lessons = Lessons::of(call, (train, validation), services)?;
        let genes = lessons.train.cells.var.names.clone();
        Ok(FittedModel::of(lessons.learn(call, None, services)?, Some(genes)))
    }
}

fn read(cx: &StepCx<'_>, name: &str) -> Result<Vec<u8>> {
    std::fs::read(cx.path(name)).with_context(|| format!("cannot read {name}"))
}

/// Training cells, and cells held out.
type Split = (Arc<Cells>, Option<Arc<Cells>>);

/// What a model learns from: training cells, and cells held out.
pub struct Lessons {
    train: Lesson,
    held: Option<Lesson>,
}

impl Lessons {
    /// What a model may learn from some cells.
    fn of(call: &Call, (train, held): Split, host: &Services) -> Result<Self> {
        let train = lesson(train, call, "training", host)?;
        let held = held.map(|cells| lesson(cells, call, "validation", host)).transpose()?;
        let same = |held: &Lesson| held.cells.var.names == train.cells.var.names;
        ensure!(
            held.as_ref().is_none_or(same),
            "the validation cells have other genes than the training cells"
        );
        Ok(Self { train, held })
    }

    /// Makes a model and fits it, going on from a fitted one if there is one.
    fn learn(&self, call: &Call, from: Option<&[u8]>, host: &Services) -> Result<Fitted> {
        let training = Training { train: &self.train, validation: self.held.as_ref() };
        let model = call.plugin.model(&call.component, &call.params_json(), host)?;
        match from {
            Some(bytes) => model.refine(host, &training, bytes),
            None => model.fit(host, &training),
        }
    }
}

/// What a model may learn from these cells: one that learns from labels all of them, with the perturbation of each;
/// any other the controls, since it would take perturbed cells for wild-type ones.
fn lesson(cells: Arc<Cells>, call: &Call, what: &str, host: &Services) -> Result<Lesson> {
    let needs_labels = call.component.model_info().needs_labels;
    let lesson = match &cells.measured {
        None if needs_labels => bail!(
            "{} learns from measured perturbations, and those of the {what} cells are not known: name their \
             annotation in `prepare` (`perturbation = \"…\"`)",
            call.full_name()
        ),
        None => Lesson::of(cells),
        Some(measured) if needs_labels => {
            let (rows, knockouts) = cells.labelled(measured);
            let left = cells.len() - rows.len();
            if left > 0 {
                host.warn(format!("{left} {what} cells have a perturbation of unknown genes: left out"));
            }
            Lesson { cells: Arc::new(cells.select_cells(&rows)), perturbations: Some(knockouts) }
        }
        Some(_) => {
            let controls = cells.controls();
            ensure!(!controls.is_empty(), "no {what} cell is a control");
            Lesson::of(if controls.len() == cells.len() {
                cells
            } else {
                Arc::new(cells.select_cells(&controls))
            })
        }
    };
    check_training(&lesson.cells, what)?;
    Ok(lesson)
}

fn check_training(cells: &Cells, what: &str) -> Result<()> {
    ensure!(!cells.is_empty(), "there are no {what} cells");
    ensure!(cells.n_genes() > 0, "the {what} cells have no genes");
    let silent = (0..cells.len()).find(|&i| cells.x.range(i).is_empty());
    if let Some(cell) = silent {
        let name = &cells.obs.names[cell];
        anyhow::bail!(
            "cell {name} of the {what} cells expresses no gene: leave such cells out in `prepare` \
             (`cells = {{ min_genes = 1 }}`)"
        );
    }
    Ok(())
}
