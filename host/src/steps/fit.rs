//! A model's step: fits it to training cells.

use crate::data::{CellSet, Cells};
use crate::pipeline::{Call, Input, Keys, PortType};
use crate::plugin::{Fitted, Kind, Lesson, Model, Services, Training};
use crate::run::{Outputs, StepCx, write_csv};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

/// A model with its parameters and training cells.
pub struct Fit {
    /// The model.
    pub call: Call,
    /// Training cells.
    pub train: Vec<Input>,
    /// Cells held out to choose the best state.
    pub validation: Vec<Input>,
}

/// A fitted model, or a simulator's truth.
pub struct FittedModel {
    /// The model.
    pub fitted: Fitted,
    /// The genes it was trained on; none for a truth, which finds genes by name itself.
    pub genes: Option<Vec<String>>,
}

const MODEL: &str = "model.safetensors";
const ABOUT: &str = "model.json";

impl Fit {
    /// Keys: `train`, `validation`, `with`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let train = keys.required_inputs("train", &[PortType::Cells], "the cells to learn from");
        let validation = keys.inputs("validation", &[PortType::Cells]);
        let call = keys.own_component(Kind::Model)?;
        Some(Self { call, train, validation })
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        self.train.iter().chain(&self.validation).collect()
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        self.call.describe()
    }

    /// See [`super::Action::calls`].
    pub fn calls(&self) -> Vec<&Call> {
        vec![&self.call]
    }

    fn model(&self, services: &Services) -> Result<Model> {
        self.call.plugin.model(&self.call.component, &self.call.params_json(), services)
    }

    /// Fits; writes the model and what it tells about itself.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let cells = (cx.cells("train")?, cx.optional_cells("validation")?);
        let Learned { fitted, train, validation } = learn(&self.call, cells, &cx.services)?;
        cx.write(MODEL, fitted.save(&cx.services)?.as_slice())?;
        for (name, table) in fitted.tables(&cx.services)? {
            cx.write(&format!("{name}.csv"), &write_csv(&table)?)?;
        }
        let about = json!({ "component": self.call.describe(), "genes": train.var.names });
        cx.write(ABOUT, &crate::run::json_bytes(&about)?)?;
        let held = validation.map(|n| format!(", {n} held out")).unwrap_or_default();
        let summary = json!({
            "headline": format!("fitted to {} cells × {} genes{held}", train.len(), train.n_genes()),
            "model": self.call.full_name(), "cells": train.len(), "genes": train.n_genes(),
            "validation": validation,
        });
        let model = FittedModel { fitted, genes: Some(train.var.names.clone()) };
        Ok(Outputs { model: Some(Arc::new(model)), summary, ..Outputs::default() })
    }

    /// Loads the fitted model.
    pub fn reload(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let read = |name: &str| std::fs::read(cx.path(name)).with_context(|| format!("cannot read {name}"));
        let about: Json = serde_json::from_slice(&read(ABOUT)?)?;
        let genes: Vec<String> = serde_json::from_value(about["genes"].clone())?;
        let fitted = self.model(&cx.services)?.load(&cx.services, &read(MODEL)?)?;
        let model = FittedModel { fitted, genes: Some(genes) };
        Ok(Outputs { model: Some(Arc::new(model)), ..Outputs::default() })
    }

    /// Fits another model, such as a baseline, to the same cells, in memory.
    pub fn fit_other(
        call: &Call,
        train: Arc<Cells>,
        validation: Option<Arc<Cells>>,
        services: &Services,
    ) -> Result<FittedModel> {
        let Learned { fitted, train, .. } = learn(call, (train, validation), services)?;
        Ok(FittedModel { fitted, genes: Some(train.var.names.clone()) })
    }
}

/// A fitted model, the cells that it learned from, and how many were held out.
struct Learned {
    fitted: Fitted,
    train: Arc<Cells>,
    validation: Option<usize>,
}

/// Makes a model and fits it to what it may learn from some cells.
fn learn(call: &Call, (train, held): (Arc<Cells>, Option<Arc<Cells>>), host: &Services) -> Result<Learned> {
    let train = lesson(train, call, "training", host)?;
    let held = held.map(|cells| lesson(cells, call, "validation", host)).transpose()?;
    let training = Training { train: &train, validation: held.as_ref() };
    check_genes(&training)?;
    let model = call.plugin.model(&call.component, &call.params_json(), host)?;
    let fitted = model.fit(host, &training)?;
    Ok(Learned { fitted, validation: held.map(|held| held.cells.len()), train: train.cells })
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

fn check_genes(training: &Training<'_>) -> Result<()> {
    let same = |lesson: &Lesson| lesson.cells.var.names == training.train.cells.var.names;
    ensure!(
        training.validation.is_none_or(same),
        "the validation cells have other genes than the training cells"
    );
    Ok(())
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

impl FittedModel {
    /// The cells with the model's genes, in the model's order. Genes that the cells lack are silent.
    ///
    /// # Errors
    /// When the cells have less than half of the model's genes.
    pub fn align(&self, cells: CellSet, services: &Services) -> Result<CellSet> {
        let Some(genes) = self.genes.as_ref().filter(|genes| **genes != cells.var().names) else {
            return Ok(cells);
        };
        let column: HashMap<&str, u32> =
            genes.iter().enumerate().map(|(j, g)| (g.as_str(), j as u32)).collect();
        let target: Vec<Option<u32>> =
            cells.var().names.iter().map(|g| column.get(g.as_str()).copied()).collect();
        let found = target.iter().flatten().count();
        ensure!(
            2 * found >= genes.len(),
            "the cells have {found} of the {} genes that the model was trained on",
            genes.len()
        );
        if found < genes.len() {
            let missing = genes.len() - found;
            services.warn(format!(
                "{missing} of the model's {} genes are not in the cells: taken as silent",
                genes.len()
            ));
        }
        let mut source = vec![None; genes.len()];
        target.iter().enumerate().for_each(|(j, t)| t.iter().for_each(|&t| source[t as usize] = Some(j)));
        let var = cells.var().rows(genes.clone(), &source);
        Ok(cells.place_genes(target, var))
    }

    /// The same of cells in memory.
    ///
    /// # Errors
    /// As [`align`](Self::align).
    pub fn align_held(&self, cells: Arc<Cells>, services: &Services) -> Result<Arc<Cells>> {
        self.align(CellSet::Held(cells), services)?.load()
    }
}
