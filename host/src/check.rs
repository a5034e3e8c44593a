//! The conformance suite: what a plugin's library has to do, tried out on the built library, case by case, each in a
//! worker process of its own. So a case that crashes is an outcome, not the end.

mod bench;
mod calls;
mod manifest;
mod metric;
mod model;
mod parameters;
mod simulator;
mod strategy;

pub use bench::test_cells;

use crate::data::Cells;
use crate::plugin::{Component, Isolation, Kind, Limits, Plugin, PluginFailure};
use anyhow::Result;
use bench::Bench;
use lacuna_abi::ErrorKind;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// How the suite is run.
pub struct Settings {
    /// Decides the data and the random streams.
    pub seed: u64,
    /// Cells to try it on; by default [`test_cells`] of the seed.
    pub cells: Cells,
    /// Without workers, for a debugger.
    pub in_process: bool,
    /// Only cases whose `component: case` has this in it.
    pub filter: Option<String>,
    /// Parameters of components that cannot be made without any.
    pub with: BTreeMap<String, Json>,
    /// What a case is allowed.
    pub limits: Limits,
}

/// Whether a plugin may be used without passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It has to pass.
    Required,
    /// It should.
    Advisory,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Passed,
    /// It is not as it has to be.
    Failed(String),
    /// The process died.
    Crashed(String),
    /// It gave no sign of life.
    TimedOut(String),
    /// It does not apply, for this reason.
    Skipped(String),
}

/// A case and what came of it.
pub struct Finding {
    /// The component's id; the plugin's name for what concerns the whole.
    pub component: String,
    /// The case.
    pub case: &'static str,
    /// Whether it has to pass.
    pub weight: Weight,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
}

impl Finding {
    /// Whether the plugin may not be used because of it.
    pub fn is_bad(&self) -> bool {
        self.weight == Weight::Required && !matches!(self.outcome, Outcome::Passed | Outcome::Skipped(_))
    }
}

/// Something to try out. Gives why it does not apply, if it does not; the error says what is wrong.
pub struct Case {
    name: &'static str,
    weight: Weight,
    run: fn(&Bench<'_>) -> Result<Applies>,
}

/// Whether a case applies to a component; if not, why.
pub type Applies = Result<(), String>;

/// It applies, and passed.
const PASSED: Result<Applies> = Ok(Ok(()));

fn skipped(reason: &str) -> Result<Applies> {
    Ok(Err(reason.into()))
}

/// Does it, unless something speaks against it.
fn unless(reason: Option<String>, body: impl FnOnce() -> Result<Applies>) -> Result<Applies> {
    reason.map_or_else(body, |why| skipped(&why))
}

const fn required(name: &'static str, run: fn(&Bench<'_>) -> Result<Applies>) -> Case {
    Case { name, weight: Weight::Required, run }
}

const fn advisory(name: &'static str, run: fn(&Bench<'_>) -> Result<Applies>) -> Case {
    Case { name, weight: Weight::Advisory, run }
}

/// Tries out all components of a plugin; tells each finding as it comes.
pub fn check(plugin: &Arc<Plugin>, settings: &Settings, tell: &mut dyn FnMut(&Finding)) -> Vec<Finding> {
    let mut findings = vec![];
    for component in &plugin.manifest.components {
        let of_kind: &[Case] = match component.kind {
            Kind::Simulator => simulator::CASES,
            Kind::Model => model::CASES,
            Kind::Strategy => strategy::CASES,
            Kind::Metric => metric::CASES,
            Kind::Unknown(_) => &[],
        };
        for case in manifest::CASES.iter().chain(parameters::CASES).chain(of_kind) {
            let label = format!("{}: {}", component.id, case.name);
            if settings.filter.as_ref().is_none_or(|filter| label.contains(filter.as_str())) {
                let finding = try_case(plugin, component, case, settings);
                tell(&finding);
                findings.push(finding);
            }
        }
    }
    findings
}

fn try_case(plugin: &Arc<Plugin>, component: &Component, case: &Case, settings: &Settings) -> Finding {
    let start = Instant::now();
    let isolation = if settings.in_process { Isolation::No } else { Isolation::Yes(settings.limits) };
    let outcome = match plugin.anew(isolation) {
        Err(reason) => Outcome::Failed(reason),
        Ok(plugin) => {
            let bench = Bench::new(plugin, component, settings);
            let done = catch_unwind(AssertUnwindSafe(|| (case.run)(&bench)));
            done.map_or_else(|_| Outcome::Failed("the case itself panicked".into()), outcome_of)
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    Finding { component: component.id.clone(), case: case.name, weight: case.weight, outcome, seconds }
}

fn outcome_of(result: Result<Applies>) -> Outcome {
    let error = match result {
        Ok(Ok(())) => return Outcome::Passed,
        Ok(Err(reason)) => return Outcome::Skipped(reason),
        Err(error) => error,
    };
    let text = format!("{error:#}");
    match failure_in(&error).map(|failure| failure.kind) {
        Some(ErrorKind::CRASHED) => Outcome::Crashed(text),
        Some(ErrorKind::TIMED_OUT) => Outcome::TimedOut(text),
        _ => Outcome::Failed(text),
    }
}

/// The plugin's own error, if it was one.
fn failure_in(error: &anyhow::Error) -> Option<&PluginFailure> {
    error.chain().find_map(|e| e.downcast_ref::<PluginFailure>())
}

/// That an error is a plain one: no panic, no crash.
fn is_plain(error: anyhow::Error) -> Result<()> {
    let kind = failure_in(&error).map(|failure| failure.kind);
    match kind {
        Some(ErrorKind::PANIC | ErrorKind::CRASHED | ErrorKind::TIMED_OUT) => Err(error),
        _ => Ok(()),
    }
}
