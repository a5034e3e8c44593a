//! The fitted model that a model's step goes on from: `from`.

use super::refits::{FOLDER, file_of};
use super::variation::Variation;
use super::{ABOUT, MODEL};
use crate::data::Cells;
use crate::run::StepCx;
use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use std::path::PathBuf;

/// A fitted model of another step, as it lies in that step's folder.
pub struct Source {
    /// The step.
    name: String,
    dir: PathBuf,
    genes: Vec<String>,
}

impl Source {
    /// The model under `from`, if the step goes on from one.
    pub fn of(cx: &StepCx<'_>) -> Result<Option<Self>> {
        let Some(chosen) = cx.chosen("from").first() else { return Ok(None) };
        let (name, dir) = (cx.run().step(chosen).name.clone(), cx.run().instance(chosen)?.dir.clone());
        let about: Json = serde_json::from_slice(&read(&dir.join(ABOUT))?)?;
        let genes = serde_json::from_value(about["genes"].clone())
            .with_context(|| format!("what step `{name}` says of its model names no genes"))?;
        Ok(Some(Self { name, dir, genes }))
    }

    /// Its step.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses cells that do not have its genes in its order.
    pub fn check(&self, cells: &Cells) -> Result<()> {
        let (name, own, found) = (&self.name, &self.genes, &cells.var.names);
        let help = "choose genes in one `prepare`, and cells after it with `genes = { min_cells = 0 }`, which keeps all";
        if own.len() != found.len() {
            bail!(
                "`from`: the training cells have {} genes, and the model of `{name}` knows {}: {help}",
                found.len(),
                own.len()
            );
        }
        match own.iter().zip(found).position(|(own, found)| own != found) {
            None => Ok(()),
            Some(at) => bail!(
                "`from`: gene {} of the training cells is {}, and {} in the model of `{name}`: {help}",
                at + 1,
                found[at],
                own[at]
            ),
        }
    }

    /// The model that the fit goes on from.
    pub fn model(&self) -> Result<Vec<u8>> {
        read(&self.dir.join(MODEL))
    }

    /// The model that a refit goes on from: a member of an ensemble from the same member, if there is one.
    pub fn of_refit(&self, variation: Variation) -> Result<Vec<u8>> {
        let member = file_of(&self.dir.join(FOLDER), variation);
        if member.exists() { read(&member) } else { self.model() }
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
