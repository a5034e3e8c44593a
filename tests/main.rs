//! End-to-end tests: they drive the built binary and the built plugins, as a user does.

#![allow(clippy::unwrap_used)] // A test that meets nothing is to fail.

mod support;

mod accuracy;
mod authors;
mod boundary;
mod choice;
mod compatibility;
mod conformance;
mod devices;
mod diagnostics;
mod evaluation;
mod examples;
mod host_steps;
mod inputs;
mod locks;
mod out_of_core;
mod outputs;
mod perturbations;
mod plan;
mod real_data;
mod runs;
mod structure;
mod transfer;
mod uncertainty;
mod workers;
