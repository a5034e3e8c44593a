//! The refits of a model: fitted with it, kept in its folder, and opened one at a time by what asks for them.

use super::replicates::Replicates;
use super::source::Source;
use super::variation::{Variation, has_thresholds};
use super::{FittedModel, Lessons, MODEL};
use crate::data::Cells;
use crate::pipeline::{Call, Diagnostic, Keys, Value, step_seed};
use crate::plugin::{Fitted, Services};
use crate::run::{StepCx, write_atomically};
use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where they lie in the step's folder.
pub const FOLDER: &str = "refits";
/// Most of a kind.
pub const MOST: u64 = 1000;
/// Half of fewer training cells is one cell, of which nothing can be learned; of fewer validation cells none.
const FEWEST: (usize, usize) = (4, 2);
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
        let ensemble = keys.count_to("ensemble", 1, MOST).map_or(1, |n| n as u32);
        Self { ensemble, uncertainty: Uncertainty::read(keys) }
    }

    /// Whether there are refits that say how far the model is to be trusted.
    pub fn tell_uncertainty(&self) -> bool {
        self.uncertainty.halves + self.uncertainty.null > 0
    }

    /// Refuses cells that cannot be varied as is asked, before anything is fitted to them.
    pub fn check(&self, train: &Cells, held: Option<&Cells>) -> Result<()> {
        if self.uncertainty.halves == 0 {
            return Ok(());
        }
        let enough = |cells: &Cells, fewest: usize, what: &str| {
            let found = cells.len();
            ensure!(
                found >= fewest,
                "`uncertainty` fits to halves of the cells: expected {fewest} {what} cells or more, found {found}; \
                 `halves = 0` leaves these fits out"
            );
            Ok(())
        };
        enough(train, FEWEST.0, "training")?;
        held.map_or(Ok(()), |held| enough(held, FEWEST.1, "validation"))?;
        self.replicates(train, held).map(drop)
    }

    /// The replicates that are halved, if there is an annotation that names them.
    fn replicates(&self, train: &Cells, held: Option<&Cells>) -> Result<Option<Replicates>> {
        let annotation = self.uncertainty.replicate.as_deref();
        annotation.map(|annotation| Replicates::of(annotation, train, held)).transpose()
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
        let count = |n: Option<u64>| n.unwrap_or(USUAL) as u32;
        match keys.node("uncertainty").map(|n| &n.value) {
            None | Some(Value::Boolean(false)) => Self::default(),
            Some(Value::Boolean(true)) => usual(None),
            Some(Value::Table(_)) => {
                let read = |k: &mut Keys<'_>| Self {
                    // Both halves of each draw.
                    halves: count(k.count_to("halves", 0, MOST)).next_multiple_of(2),
                    null: count(k.count_to("null", 0, MOST)),
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

    /// Fits all that an earlier run did not, with what the model chose; says for the headline what there is.
    pub fn fit(
        &self,
        given: &Call,
        lessons: &Lessons,
        source: Option<&Source>,
        cx: &StepCx<'_>,
    ) -> Result<String> {
        let (train, held) = (&lessons.train.cells, lessons.held.as_ref().map(|held| &*held.cells));
        let dir = cx.path(FOLDER);
        let of_counts = has_thresholds(train);
        let mut all = self.all();
        all.retain(|v| *v != Variation::Threshold || of_counts);
        if all.is_empty() {
            return Ok(String::new());
        }
        let replicates = self.repeats.replicates(train, held)?;
        self.warn_of_replicates(replicates.as_ref(), &cx.services);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let varied = Varied { call: &self.call, given, train, held, replicates: replicates.as_ref(), source };
        for (done, &variation) in all.iter().enumerate() {
            cx.check()?;
            cx.services.progress(done as u64, all.len() as u64, "refits");
            let file = file_of(&dir, variation);
            if !file.exists() && self.has(&dir, variation) {
                let fitted = varied.fit(variation, &cx.services);
                let (fitted, host) = fitted.with_context(|| format!("refit {}", variation.name()))?;
                write_atomically(&file, fitted.save(&host)?.as_slice())?;
            }
        }
        let members = self.members(&dir);
        if members < self.repeats.ensemble {
            cx.services.warn(format!(
                "the second fit of {} is the same as the first: its fits do not depend on the seed, `ensemble` says \
                 nothing, and no further one is made",
                given.full_name()
            ));
        }
        let further = all.iter().filter(|v| !matches!(v, Variation::Seed(_))).count();
        let together = if members > 1 { format!(", {members} fits together") } else { String::new() };
        Ok(together + &if further > 0 { format!(", {further} refits") } else { String::new() })
    }

    /// How many fits answer together: one where the second is the same as the first.
    fn members(&self, dir: &Path) -> u32 {
        let fit = |file: PathBuf| std::fs::read(file).ok();
        let first = dir.parent().and_then(|step| fit(step.join(MODEL)));
        let second = Some(Variation::Seed(1)).filter(|_| self.repeats.ensemble > 1);
        let second = second.and_then(|second| fit(file_of(dir, second)));
        if second.is_some() && first == second { 1 } else { self.repeats.ensemble }
    }

    /// Whether a refit is made.
    fn has(&self, dir: &Path, variation: Variation) -> bool {
        !matches!(variation, Variation::Seed(2..)) || self.members(dir) > 1
    }

    /// One replicate says nothing of others.
    fn warn_of_replicates(&self, replicates: Option<&Replicates>, host: &Services) {
        let (Some(replicates), Some(name)) = (replicates, &self.repeats.uncertainty.replicate) else {
            return;
        };
        let found = replicates.of_training();
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
    }

    /// The other members of the ensemble, from a folder.
    pub fn others(&self, dir: &Path, host: &Services) -> Result<Vec<Fitted>> {
        (1..self.members(dir)).map(|n| self.load(dir, Variation::Seed(n), host)).collect()
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

/// What refits vary.
struct Varied<'a> {
    /// The model.
    call: &'a Call,
    /// The same with the parameters that its first fit chose.
    given: &'a Call,
    train: &'a Cells,
    held: Option<&'a Cells>,
    replicates: Option<&'a Replicates>,
    source: Option<&'a Source>,
}

impl Varied<'_> {
    fn fit(&self, variation: Variation, host: &Services) -> Result<(Fitted, Services)> {
        let (name, seed) = (variation.name(), host.seed());
        let varied = |cells: &Cells, part| variation.of(cells, self.replicates, (seed, part)).map(Arc::new);
        let train = varied(self.train, "training")?;
        let held = self.held.map(|held| varied(held, "validation")).transpose()?;
        let host = host.of_refit(step_seed(seed, &name), &name);
        // What genes say that tell nothing of others is noise, of which a null fit has more: it chooses for itself.
        let call = if matches!(variation, Variation::Null(_)) { self.call } else { self.given };
        let lessons = Lessons::of(call, (train, held), &host)?;
        let from = self.source.map(|source| source.of_refit(variation)).transpose()?;
        Ok((lessons.learn(call, from.as_deref(), &host)?, host))
    }
}

/// The file of a refit in a folder of them.
pub fn file_of(dir: &Path, variation: Variation) -> PathBuf {
    dir.join(format!("{}.safetensors", variation.name()))
}
