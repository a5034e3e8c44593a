//! The steps of a pipeline. One step, one file: its keys, its checks, what it does.

mod best;
mod evaluate;
mod fit;
mod predictions;
mod prepare;
mod read;
mod report;
mod screen;
mod simulate;
mod split;

pub use best::Best;
pub use evaluate::Evaluate;
pub use fit::{Fit, FittedModel, MOST_REFITS, Repeats, Variation};
pub use predictions::Predictions;
pub use prepare::Prepare;
pub use read::Read;
pub use report::{FILE as REPORT_FILE, Report};
pub use screen::{Pairs, Screen, generic_only, null_profile};
pub use simulate::Simulate;
pub use split::Split;

use crate::data::CellSet;
use crate::pipeline::{Call, Input, Keys, PortType, Table};
use crate::plugin::{Component, Kind, Plugin, Services};
use crate::run::{Outputs, StepCx};
use anyhow::Result;
use serde_json::Value as Json;
use std::path::PathBuf;
use std::sync::Arc;

/// The host's own steps. To add one: a file, and a line in each list here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostStep {
    /// Cells from a file.
    Read,
    /// Chosen cells and genes.
    Prepare,
    /// Training, validation and test cells.
    Split,
    /// The best of several models.
    Best,
    /// Predicted effects from a file.
    Predictions,
    /// Impacts of knockouts.
    Screen,
    /// Scores of models.
    Evaluate,
    /// What people read.
    Report,
}

const HOST_STEPS: [(&str, HostStep); 8] = [
    ("read", HostStep::Read),
    ("prepare", HostStep::Prepare),
    ("split", HostStep::Split),
    ("best", HostStep::Best),
    ("predictions", HostStep::Predictions),
    ("screen", HostStep::Screen),
    ("evaluate", HostStep::Evaluate),
    ("report", HostStep::Report),
];

impl HostStep {
    /// The step of this name.
    pub fn named(name: &str) -> Option<Self> {
        HOST_STEPS.iter().find(|(n, _)| *n == name).map(|(_, step)| *step)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        HOST_STEPS.iter().map(|(name, _)| *name)
    }

    /// What the step gives, main port first.
    pub fn ports(self, table: &Table) -> Vec<(&'static str, PortType)> {
        match self {
            Self::Read | Self::Prepare => vec![("cells", PortType::Cells)],
            Self::Split => split::ports(table),
            Self::Best => vec![("model", PortType::Model)],
            Self::Predictions => vec![("predictions", PortType::Predictions)],
            Self::Screen => vec![("impacts", PortType::Impacts), ("effects", PortType::Effects)],
            Self::Evaluate => vec![("scores", PortType::Scores)],
            Self::Report => vec![("report", PortType::Report)],
        }
    }

    /// Reads the step's keys.
    pub fn resolve(self, keys: &mut Keys<'_>) -> Option<Action> {
        match self {
            Self::Read => Read::resolve(keys).map(Action::Read),
            Self::Prepare => Prepare::resolve(keys).map(Action::Prepare),
            Self::Split => Split::resolve(keys).map(Action::Split),
            Self::Best => Best::resolve(keys).map(Action::Best),
            Self::Predictions => Predictions::resolve(keys).map(Action::Predictions),
            Self::Screen => Screen::resolve(keys).map(Box::new).map(Action::Screen),
            Self::Evaluate => Evaluate::resolve(keys).map(Action::Evaluate),
            Self::Report => Report::resolve(keys).map(Action::Report),
        }
    }
}

/// What a resolved step does.
pub enum Action {
    /// See [`HostStep::Read`].
    Read(Read),
    /// See [`HostStep::Prepare`].
    Prepare(Prepare),
    /// See [`HostStep::Split`].
    Split(Split),
    /// A simulator makes cells.
    Simulate(Simulate),
    /// A model is fitted.
    Fit(Fit),
    /// See [`HostStep::Best`].
    Best(Best),
    /// See [`HostStep::Predictions`].
    Predictions(Predictions),
    /// See [`HostStep::Screen`].
    Screen(Box<Screen>),
    /// See [`HostStep::Evaluate`].
    Evaluate(Evaluate),
    /// See [`HostStep::Report`].
    Report(Report),
}

/// Calls the same function of whichever step it is.
macro_rules! each {
    ($action:expr, $step:ident => $call:expr) => {
        match $action {
            Action::Read($step) => $call,
            Action::Prepare($step) => $call,
            Action::Split($step) => $call,
            Action::Simulate($step) => $call,
            Action::Fit($step) => $call,
            Action::Best($step) => $call,
            Action::Predictions($step) => $call,
            Action::Screen($step) => $call,
            Action::Evaluate($step) => $call,
            Action::Report($step) => $call,
        }
    };
}

impl Action {
    /// Reads the keys of a step that runs a component.
    pub fn of_component(kind: Kind, keys: &mut Keys<'_>) -> Option<Self> {
        match kind {
            Kind::Simulator => Simulate::resolve(keys).map(Self::Simulate),
            _ => Fit::resolve(keys).map(Self::Fit),
        }
    }

    /// References to other steps.
    pub fn inputs(&self) -> Vec<&Input> {
        each!(self, step => step.inputs())
    }

    /// The keys under which cells stand, so that `by` can cut them; the first decides the groups.
    pub fn cell_keys(&self) -> &'static [&'static str] {
        match self {
            Self::Prepare(_) | Self::Split(_) => &["from"],
            Self::Fit(_) | Self::Best(_) => &["train", "validation"],
            Self::Screen(_) => &["cells"],
            Self::Evaluate(evaluate) => evaluate.cell_keys(),
            Self::Read(_) | Self::Simulate(_) | Self::Predictions(_) | Self::Report(_) => &[],
        }
    }

    /// The keys under which lists stand: such a step takes all members at once.
    pub fn list_keys(&self) -> &'static [&'static str] {
        match self {
            Self::Evaluate(_) => &["models", "screens"],
            Self::Report(_) => &["from"],
            _ => &[],
        }
    }

    /// What decides the output beside inputs, files and seed: keys and parameters.
    pub fn spec(&self) -> Json {
        each!(self, step => step.spec())
    }

    /// The components it runs.
    pub fn calls(&self) -> Vec<&Call> {
        each!(self, step => step.calls())
    }

    /// The files that it reads.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = match self {
            Self::Read(read) => read.files(),
            Self::Prepare(prepare) => prepare.files(),
            Self::Predictions(predictions) => predictions.files(),
            _ => vec![],
        };
        files.extend(self.calls().into_iter().flat_map(|call| call.params.files.clone()));
        files
    }

    /// What it runs, as in `use`.
    pub fn used(&self) -> String {
        match self {
            Self::Read(_) => "read".into(),
            Self::Prepare(_) => "prepare".into(),
            Self::Split(_) => "split".into(),
            Self::Simulate(simulate) => simulate.call.full_name(),
            Self::Fit(fit) => fit.call.full_name(),
            Self::Best(_) => "best".into(),
            Self::Predictions(_) => "predictions".into(),
            Self::Screen(_) => "screen".into(),
            Self::Evaluate(_) => "evaluate".into(),
            Self::Report(_) => "report".into(),
        }
    }

    /// Runs the step: writes its files to the context's folder, gives its values.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        each!(self, step => step.run(cx))
    }

    /// The values of a step that ran before, from its folder, or by running it again where that is cheaper.
    pub fn reload(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        match self {
            Self::Simulate(simulate) => simulate.reload(cx),
            Self::Fit(fit) => fit.reload(cx),
            Self::Best(best) => best.reload(cx),
            Self::Read(read) => read.run(cx),
            Self::Prepare(prepare) => prepare.run(cx),
            Self::Split(split) => split.run(cx),
            Self::Predictions(_) | Self::Screen(_) | Self::Evaluate(_) | Self::Report(_) => {
                Ok(Outputs::default())
            }
        }
    }
}

/// Cells that are known to be perturbed are easily taken for wild-type ones.
fn warn_of_perturbed(cells: &CellSet, done: &str, host: &Services) {
    let perturbed = cells.len() - cells.controls().len();
    if perturbed > 0 {
        host.warn(format!(
            "{perturbed} of the {} cells are perturbed, and are {done} as they are: choose the controls in `prepare`",
            cells.len()
        ));
    }
}

/// Makes a component once, to learn whether its parameters fit together.
pub fn try_component(call: &Call) -> Result<()> {
    make_and_drop(&call.plugin, &call.component, &call.params_json(), &Services::silent(0, Arc::default()))
}

/// Makes a component and drops it.
pub fn make_and_drop(plugin: &Plugin, component: &Component, params: &str, host: &Services) -> Result<()> {
    match component.kind {
        Kind::Simulator => plugin.simulator(component, params, host).map(drop),
        Kind::Model => plugin.model(component, params, host).map(drop),
        Kind::Strategy => plugin.strategy(component, params, host).map(drop),
        Kind::Metric => plugin.metric(component, params, host).map(drop),
        Kind::Unknown(_) => Ok(()),
    }
}
