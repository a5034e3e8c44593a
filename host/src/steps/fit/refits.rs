//! The refits of a model: fitted with it, kept in its folder, and opened one at a time by what asks for them.

use super::source::Source;
use super::variation::{Variation, has_thresholds, replicates};
use super::{FittedModel, Lessons};
use crate::data::Cells;
use crate::pipeline::{Call, Diagnostic, Keys, Value, step_seed};
use crate::plugin::{Fitted, Services};
use crate::run::{StepCx, write_atomically};
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where they lie in the step's folder.
pub const FOLDER: &str = "refits";
/// Most of a kind.
const MOST: u64 = 1000;
/// How many of a kind `uncertainty = true` means.
const USUAL: u64 = 20;

/// What a model's step does beside fitting it once.
#[derive(Debug, Clone)]
pub struct Repeats {
    /// How many fits, which differ by their seed, answer together.
    ensemble: u32,
    /// The refits that say how far the fit is to be trusted.
    uncertainty: Uncertainty,
}

impl Repeats {
    /// Keys: `ensemble`, `uncertainty`.
    pub fn read(keys: &mut Keys<'_>) -> Self {
        let ensemble = keys.count("ensemble", 1).map_or(1, |n| n.min(MOST) as u32);
        Self { ensemble, uncertainty: Uncertainty::read(keys) }
    }

    /// Whether there are refits that say how far the model is to be trusted.
    pub fn tell_uncertainty(&self) -> bool {
        self.uncertainty.halves + self.uncertainty.null > 0
    }

    /// What decides them.
    pub fn spec(&self) -> Json {
        let of = &self.uncertainty;
        json!({ "ensemble": self.ensemble, "halves": of.halves, "null": of.null, "replicate": of.replicate })
    }
}

/// Which refits are asked for.
#[derive(Debug, Clone, Default)]
struct Uncertainty {
    /// On random halves of the cells.
    halves: u32,
    /// On cells some of whose genes tell nothing of others.
    null: u32,
    /// The annotation whose values are halved instead of cells.
    replicate: Option<String>,
}

impl Uncertainty {
    /// `uncertainty` of a model's step.
    fn read(keys: &mut Keys<'_>) -> Self {
        let usual = |replicate| Self { halves: USUAL as u32, null: USUAL as u32, replicate };
        let count = |n: Option<u64>| n.map_or(USUAL, |n| n.min(MOST)) as u32;
        match keys.node("uncertainty").map(|n| &n.value) {
            None | Some(Value::Boolean(false)) => Self::default(),
            Some(Value::Boolean(true)) => usual(None),
            Some(Value::Table(_)) => {
                let read = |k: &mut Keys<'_>| Self {
                    // Both halves of each draw.
                    halves: count(k.count("halves", 0)).next_multiple_of(2),
                    null: count(k.count("null", 0)),
                    replicate: k.text("replicate"),
                };
                keys.inner("uncertainty", read).unwrap_or_default()
            }
            Some(_) => {
                let title =
                    "`uncertainty` is true, false, or { halves = 20, null = 20, replicate = \"donor\" }";
                let at = keys.place_of("uncertainty");
                keys.problem(Diagnostic::error(at, title));
                Self::default()
            }
        }
    }
}

/// The refits of a fitted model, in their files.
#[derive(Clone)]
pub struct Refits {
    call: Call,
    dir: PathBuf,
    repeats: Repeats,
    /// Of the step that fits them.
    seed: u64,
}

impl Refits {
    /// Those of a model's step, which are in this folder when it is finished.
    pub fn new(call: &Call, repeats: &Repeats, (dir, seed): (PathBuf, u64)) -> Self {
        Self { call: call.clone(), dir, repeats: repeats.clone(), seed }
    }

    /// Which genes a null refit has dealt out.
    pub fn dealt(&self, variation: Variation, genes: usize) -> Vec<bool> {
        variation.dealt(genes, self.seed)
    }

    /// Those that are there.
    pub fn variations(&self) -> Vec<Variation> {
        self.all().into_iter().filter(|v| file_of(&self.dir, *v).exists()).collect()
    }

    fn all(&self) -> Vec<Variation> {
        let seeds = (1..self.repeats.ensemble).map(Variation::Seed);
        let halves = (0..self.repeats.uncertainty.halves).map(Variation::Half);
        let null = (0..self.repeats.uncertainty.null).map(Variation::Null);
        let threshold = self.repeats.tell_uncertainty().then_some(Variation::Threshold);
        seeds.chain(halves).chain(null).chain(threshold).collect()
    }

    /// Whether there are such that say how far the model is to be trusted.
    pub fn tell_uncertainty(&self) -> bool {
        self.repeats.tell_uncertainty()
    }

    /// Fits all that an earlier run did not; says for the headline what there is.
    pub fn fit(&self, lessons: &Lessons, source: Option<&Source>, cx: &StepCx<'_>) -> Result<String> {
        let (train, held) = (&lessons.train.cells, lessons.held.as_ref().map(|held| &*held.cells));
        let dir = cx.path(FOLDER);
        let of_counts = has_thresholds(train);
        let all: Vec<Variation> =
            self.all().into_iter().filter(|v| *v != Variation::Threshold || of_counts).collect();
        if all.is_empty() {
            return Ok(String::new());
        }
        self.warn_of_replicates(train, &cx.services)?;
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (done, &variation) in all.iter().enumerate() {
            cx.check()?;
            cx.services.progress(done as u64, all.len() as u64, "refits");
            let file = file_of(&dir, variation);
            if !file.exists() {
                let fitted = self.refit(variation, (train, held), source, &cx.services);
                let (fitted, host) = fitted.with_context(|| format!("refit {}", variation.name()))?;
                write_atomically(&file, fitted.save(&host)?.as_slice())?;
            }
        }
        let (together, further) =
            (self.repeats.ensemble as usize, all.len() + 1 - self.repeats.ensemble as usize);
        let together = if together > 1 { format!(", {together} fits together") } else { String::new() };
        Ok(together + &if further > 0 { format!(", {further} refits") } else { String::new() })
    }

    fn refit(
        &self,
        variation: Variation,
        (train, held): (&Cells, Option<&Cells>),
        source: Option<&Source>,
        host: &Services,
    ) -> Result<(Fitted, Services)> {
        let name = variation.name();
        let replicate = self.repeats.uncertainty.replicate.as_deref();
        let train = Arc::new(variation.of(train, replicate, (host.seed(), "training"))?);
        let held = held.map(|held| variation.of(held, replicate, (host.seed(), "validation")).map(Arc::new));
        let host = host.of_refit(step_seed(host.seed(), &name), &name);
        let lessons = Lessons::of(&self.call, (train, held.transpose()?), &host)?;
        let from = source.map(|source| source.of_refit(variation)).transpose()?;
        Ok((lessons.learn(&self.call, from.as_deref(), &host)?, host))
    }

    /// One replicate says nothing of others.
    fn warn_of_replicates(&self, train: &Cells, host: &Services) -> Result<()> {
        let Some(name) = self.repeats.uncertainty.replicate.as_deref() else { return Ok(()) };
        let found = replicates(train, name).context("`replicate`")?.len();
        if found < 2 {
            host.warn(format!(
                "the training cells have one `{name}`: cells are halved instead, and intervals cover cells, not animals \
                 or donors"
            ));
        } else if found < 6 {
            host.warn(format!(
                "the training cells have {found} of `{name}`: intervals from so few are rough, and mostly too narrow"
            ));
        }
        Ok(())
    }

    /// The other members of the ensemble, from a folder.
    pub fn others(&self, dir: &Path, host: &Services) -> Result<Vec<Fitted>> {
        (1..self.repeats.ensemble).map(|n| self.load(dir, Variation::Seed(n), host)).collect()
    }

    /// A refit, loaded. It has the genes of the model.
    pub fn open(
        &self,
        variation: Variation,
        genes: Option<Vec<String>>,
        host: &Services,
    ) -> Result<FittedModel> {
        Ok(FittedModel::of(self.load(&self.dir, variation, host)?, genes))
    }

    fn load(&self, dir: &Path, variation: Variation, host: &Services) -> Result<Fitted> {
        let file = file_of(dir, variation);
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        self.call.plugin.model(&self.call.component, &self.call.params_json(), host)?.load(host, &bytes)
    }
}

/// The file of a refit in a folder of them.
pub fn file_of(dir: &Path, variation: Variation) -> PathBuf {
    dir.join(format!("{}.safetensors", variation.name()))
}
