//! Write plugins for Lacuna: simulators, models, knockout strategies and metrics.
//!
//! A plugin is a Rust library (`crate-type = ["cdylib"]`) with this one dependency. It declares parameters with
//! [`config!`], implements [`Component`] and one of [`Simulator`], [`Model`], [`Strategy`] or [`Metric`], and
//! lists its components with [`plugin!`]. A whole plugin:
//!
//! ```
//! use lacuna_sdk::prelude::*;
//!
//! config! {
//!     /// Parameters of `huber`.
//!     pub struct HuberConfig {
//!         /// Where the distance turns from squared to linear, as a share of the profile.
//!         #[range(above(0.0))]
//!         delta: f64 = 0.01,
//!     }
//! }
//!
//! /// A distance that outlier genes do not dominate.
//! pub struct Huber(HuberConfig);
//!
//! impl Component for Huber {
//!     const ID: &'static str = "huber";
//!     const DOC: &'static str = "Huber distance between two profiles, robust to outlier genes";
//!     type Config = HuberConfig;
//!     fn new(config: HuberConfig) -> Result<Self> {
//!         Ok(Self(config))
//!     }
//! }
//!
//! impl Metric for Huber {
//!     const INFO: MetricInfo = MetricInfo::ERROR;
//!     fn row(&self, row: &Row) -> Result<f64> {
//!         let d = self.0.delta;
//!         let loss = |e: f64| if e.abs() <= d { e * e / 2.0 } else { d * (e.abs() - d / 2.0) };
//!         Ok(row.before.iter().zip(row.after).map(|(b, a)| loss(f64::from(a - b))).sum())
//!     }
//! }
//!
//! plugin! { name: "robust", metrics: [Huber] }
//! # fn main() {}
//! ```
//!
//! `lacuna plugin new NAME --kind metric` writes such a plugin, with tests and a pipeline; [`testing`] makes the calls
//! that a unit test needs; and [`Simulator`], [`Model`], [`Strategy`] and [`Metric`] have an example each.
//!
//! Panics come back to the host as errors with their place. Log with `tracing`. Loop in parallel with
//! [`Context::parallel`], draw random numbers from [`Context::stream`], and call [`Context::check`] in long
//! loops, so that Ctrl-C works.

/// The tutorial's code runs as tests of this crate; that of whole plugins is built by tests/authors.rs.
#[cfg(doctest)]
#[doc = include_str!("../../docs/writing-plugins.md")]
struct WritingPlugins;

#[macro_use]
mod macros;
mod cells;
mod component;
mod context;
mod error;
mod forward;
mod knockouts;
#[doc(hidden)]
pub mod manifest;
pub mod params;
pub mod rows;
#[doc(hidden)]
pub mod runtime;
mod saved;
pub mod testing;

pub use arrow_array as arrow;
pub use cells::{Cells, OwnedCells, chosen_table, table};
pub use component::*;
pub use context::{Context, Stream, stream};
pub use error::{Error, Result};
pub use knockouts::{Knockout, KnockoutList, Knockouts};
#[doc(hidden)]
pub use lacuna_abi as abi;
pub use ndarray;
pub use params::NoConfig;
pub use rand;
pub use rand_distr;
pub use saved::Saved;
#[doc(hidden)]
pub use serde_json;
pub use tracing;

/// Everything that a plugin usually names.
pub mod prelude {
    pub use crate::params::{File, Param, above};
    pub use crate::{
        AnswerMut, Answers, Cells, Comparison, Component, Context, Direction, Error, Fitted, Knockout,
        KnockoutList, Knockouts, Levels, Metric, MetricInfo, Model, ModelInfo, NoConfig, OwnedCells, Part,
        Proposal, Query, Result, Row, Saved, Scale, Scope, Screen, Shape, Simulation, Simulator, Strategy,
        Stream, Training, choice, config, plugin,
    };
}

/// The candidate nearest to `word`, if any is near.
pub fn suggest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, c)| *distance <= (c.len().max(word.len()) / 3).max(1))
        .map(|(_, c)| c)
}
