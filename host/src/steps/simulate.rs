//! A simulator's step: makes cells, their network and their truth.

use super::FittedModel;
use crate::formats::h5ad;
use crate::pipeline::{Call, Input, Keys};
use crate::plugin::{Kind, Simulator};
use crate::run::{Outputs, StepCx, write_csv};
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// A simulator with its parameters.
pub struct Simulate {
    /// The simulator.
    pub call: Call,
}

const CELLS: &str = "cells.h5ad";
const TRUTH: &str = "truth.bin";
const NETWORK: &str = "network.csv";

impl Simulate {
    /// Keys: `with`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        Some(Self { call: keys.own_component(Kind::Simulator)? })
    }

    /// None.
    pub fn inputs(&self) -> Vec<&Input> {
        vec![]
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        self.call.describe()
    }

    /// See [`super::Action::calls`].
    pub fn calls(&self) -> Vec<&Call> {
        vec![&self.call]
    }

    fn simulator(&self, cx: &StepCx<'_>) -> Result<Simulator> {
        self.call.plugin.simulator(&self.call.component, &self.call.params_json(), &cx.services)
    }

    /// Simulates; writes cells, network and truth.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let made = self.simulator(cx)?.simulate(&cx.services)?;
        h5ad::write(&cx.path(CELLS), &made.cells, &[])?;
        cx.write(TRUTH, made.truth.save(&cx.services)?.as_slice())?;
        if let Some(network) = &made.network {
            cx.write(NETWORK, &write_csv(network)?)?;
        }
        let edges = made.network.as_ref().map(|n| n.num_rows());
        let network = edges.map(|n| format!(", {n} edges")).unwrap_or_default();
        let summary = json!({
            "headline": format!("{} cells × {} genes{network}", made.cells.len(), made.cells.n_genes()),
            "cells": made.cells.len(), "genes": made.cells.n_genes(),
            "edges": edges,
            "silent": silent_share(&made.cells),
        });
        let truth = FittedModel::of(made.truth, None);
        Ok(Outputs { summary, model: Some(Arc::new(truth)), ..Outputs::of_cells("cells", made.cells) })
    }

    /// Loads cells and truth.
    pub fn reload(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let cells = h5ad::H5ad::open(&cx.path(CELLS))?.cells("X")?;
        let bytes = std::fs::read(cx.path(TRUTH)).with_context(|| format!("cannot read {TRUTH}"))?;
        let fitted = self.simulator(cx)?.load_truth(&cx.services, &bytes)?;
        let truth = FittedModel::of(fitted, None);
        Ok(Outputs { model: Some(Arc::new(truth)), ..Outputs::of_cells("cells", cells) })
    }
}

fn silent_share(cells: &crate::data::Cells) -> f64 {
    let all = cells.len() * cells.n_genes();
    if all == 0 { 0.0 } else { 1.0 - cells.x.nnz() as f64 / all as f64 }
}
