//! The Lacuna host: loads plugins, composes them into pipelines, runs them, writes results.

pub mod check;
pub mod data;
pub mod formats;
pub mod memory;
pub mod number;
pub mod pipeline;
pub mod plugin;
pub mod run;
pub mod statistics;
pub mod steps;
