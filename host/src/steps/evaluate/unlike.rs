//! How many of the cells that are predicted are unlike those that each model was trained on, beside the scores.

use crate::data::{CellSet, Cells};
use crate::number::percent;
use crate::plugin::Services;
use crate::steps::FittedModel;
use anyhow::Result;
use serde::Serialize;
use std::sync::Arc;

/// What is told of one model.
#[derive(Debug, Clone, Serialize)]
pub struct Unlike {
    model: String,
    /// How many cells it predicted.
    cells: usize,
    /// Which share of them is unlike its training cells.
    unlike: f64,
    /// Above which it is warned of.
    limit: f64,
}

impl Unlike {
    /// Of a model that predicts these cells, which have its genes; nothing of a truth, which was not trained.
    pub fn of(name: &str, model: &FittedModel, cells: &Arc<Cells>) -> Result<Option<Self>> {
        let Some(familiar) = &model.familiar else { return Ok(None) };
        let unlike = familiar.unlike(&CellSet::Held(cells.clone()))?;
        Ok(Some(Self { model: name.into(), cells: cells.len(), unlike, limit: familiar.limit() }))
    }
}

/// Warns of the models for which there are many.
pub fn warn(all: &[Unlike], host: &Services) {
    let many = all.iter().filter(|one| one.unlike > one.limit);
    let named: Vec<String> = many.map(|one| format!("{} for `{}`", percent(one.unlike), one.model)).collect();
    if !named.is_empty() {
        host.warn(format!(
            "many of the cells are unlike the training cells, of which 1 % are, by the genes that they express: {}. There \
             these models extrapolate",
            named.join(", ")
        ));
    }
}

/// All of them, as a table.
pub fn write_csv(all: &[Unlike]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    all.iter().try_for_each(|one| writer.serialize(one))?;
    Ok(writer.into_inner()?)
}
