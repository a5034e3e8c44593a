//! What a step sees of the run, and what it gives back.

use super::execute::Executor;
use super::family::{Choices, Chosen, Labels};
use crate::data::{CellSet, Cells, Column, Frame};
use crate::formats::Limits;
use crate::pipeline::{Place, Step, nearest};
use crate::plugin::Services;
use crate::steps::FittedModel;
use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A step's values and what it says of them.
#[derive(Default)]
pub struct Outputs {
    /// Cells, by port.
    pub cells: BTreeMap<String, CellSet>,
    /// A model or a truth.
    pub model: Option<Arc<FittedModel>>,
    /// For the console, the report and the record.
    pub summary: Json,
}

impl Outputs {
    /// Cells on one port.
    pub fn of_cells(port: &str, cells: impl Into<CellSet>) -> Self {
        let mut outputs = Self::default();
        outputs.add_cells(port, cells);
        outputs
    }

    /// Adds cells on a port.
    pub fn add_cells(&mut self, port: &str, cells: impl Into<CellSet>) {
        self.cells.insert(port.into(), cells.into());
    }
}

/// What a running step sees.
pub struct StepCx<'a> {
    pub(super) executor: &'a Executor<'a>,
    /// The step.
    pub step: &'a Step,
    /// Which member of its family.
    pub labels: &'a Labels,
    pub(super) choices: &'a Choices,
    pub(super) dir: &'a Path,
    /// The folder when the step is finished.
    pub(super) done: &'a Path,
    /// Logging, progress, cancellation.
    pub services: Services,
}

impl StepCx<'_> {
    /// The members chosen under a key.
    pub fn chosen(&self, key: &str) -> &[Chosen] {
        self.choices.get(key).map_or(&[], Vec::as_slice)
    }

    fn one(&self, key: &str) -> Result<&Chosen> {
        self.chosen(key).first().with_context(|| format!("`{key}` is missing"))
    }

    /// The cells under a key, in memory or in their file: for steps that read them in blocks.
    pub fn cell_set(&self, key: &str) -> Result<CellSet> {
        self.executor.cell_set(self.one(key)?)
    }

    /// How many bytes cells and results may take. Nothing that is written may depend on it.
    pub fn memory(&self) -> u64 {
        self.executor.memory()
    }

    /// What a reader may hold: matrices of up to an eighth of the memory.
    pub fn limits(&self) -> Limits {
        let block = (self.memory() / 128).clamp(1 << 13, 1 << 25);
        Limits { matrix: self.memory() / 8, block }
    }

    /// The cells under a key, in memory.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn cells(&self, key: &str) -> Result<Arc<Cells>> {
        self.executor.cells(self.one(key)?)
    }

    /// The cells of a set that came under a key, in memory.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn hold(&self, cells: &CellSet, key: &str) -> Result<Arc<Cells>> {
        self.executor.hold(cells, key)
    }

    /// The cells under a key, if it is given.
    pub fn optional_cells(&self, key: &str) -> Result<Option<Arc<Cells>>> {
        self.chosen(key).first().map(|chosen| self.executor.cells(chosen)).transpose()
    }

    /// The model under a key.
    pub fn model(&self, key: &str) -> Result<Arc<FittedModel>> {
        self.executor.model(self.one(key)?)
    }

    /// The run, to look at other steps.
    pub fn run(&self) -> &Executor<'_> {
        self.executor
    }

    /// A file in the step's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where a file will be when the step is finished.
    pub fn done(&self, name: &str) -> PathBuf {
        self.done.join(name)
    }

    /// Writes a file of the step whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        super::dir::write_atomically(&self.path(name), bytes)
    }

    /// A folder for what the step keeps until it is finished, and goes on from after a kill.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = std::path::absolute(self.dir.join(super::dir::SCRATCH).join(name))?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// The step's seed.
    pub fn step_seed(&self) -> u64 {
        self.services.seed()
    }

    /// Ends the step when the user asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.services.cancelled() { Err(super::Cancelled.into()) } else { Ok(()) }
    }

    /// A place of the pipeline, for an error: `pipeline.toml:12:9`.
    pub fn place(&self, at: &Place) -> String {
        let sources = &self.executor.plan.sources;
        let (line, column) = sources.line_column(at);
        format!("{}:{line}:{column}", sources.name(at.source))
    }
}

/// Random stream `n` of a seed: ChaCha8, as the SDK's.
pub fn seeded_stream(seed: u64, n: u64) -> ChaCha8Rng {
    let mut stream = ChaCha8Rng::seed_from_u64(seed);
    stream.set_stream(n);
    stream
}

/// An annotation of cells by name; the error suggests the nearest.
pub fn obs_column<'a>(obs: &'a Frame, name: &str) -> Result<&'a Column> {
    if let Some(column) = obs.column(name) {
        return Ok(column);
    }
    let known: Vec<&str> = obs.columns.iter().map(|c| c.name.as_str()).collect();
    match nearest(name, &known) {
        Some(near) => bail!("the cells have no annotation `{name}`; did you mean `{near}`?"),
        None => bail!("the cells have no annotation `{name}`; there are: {}", known.join(", ")),
    }
}
