//! The Lacuna host: loads plugins, composes them into pipelines, runs them, writes results.

pub mod data;
