//! Plugins: where they are looked for, how a file is judged before its code runs, and how they are called.
//!
//! A candidate passes three gates. `inspect` parses the file as data. `probe` loads an unknown file in a
//! child process first, since loading a damaged library can kill the process. `load` compares layouts and
//! reads the manifest. What does not pass is kept with its reason, in one sentence.
//!
//! Between the first two gates `trust` asks who could have changed the file, and `library` makes a copy, so that what is
//! opened is what was looked at.
//!
//! A library that is neither shipped beside the executable nor named by the pipeline's lock file, or whose step says
//! `isolate`, runs in a `worker` process, in which `serve` answers; `remote` makes components there look like those here, and `wire` and `shared` carry what
//! goes between.

mod call;
mod cross;
mod discover;
mod inspect;
mod library;
mod load;
mod manifest;
mod probe;
mod registry;
mod remote;
mod segments;
mod serve;
mod services;
mod shared;
mod trust;
mod wire;
mod worker;

/// A text in one line, without control characters, as the end of a sentence.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("; ");
    joined.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub use call::{
    Fitted, Lesson, Metric, Model, Panel, PluginFailure, Simulation, Simulator, Strategy, Training,
};
pub use discover::{Candidate, Origin, SearchPath};
pub use load::{Isolation, Plugin, load};
pub use manifest::is_name;
pub use manifest::{Answers, Component, Kind, Levels, Manifest, MetricInfo, ModelInfo, Scale, Scope, Shape};
pub use probe::{PROBE_COMMAND, probe_in_this_process};
pub use registry::{Failure, LookupError, Registry};
pub use serve::serve;
pub use services::{ProgressSink, Services};
pub use trust::{Trust, anybody_can_change};
pub use worker::{LIMIT_COMMAND, Limits, Program, WORKER_COMMAND, limit_and_become};
