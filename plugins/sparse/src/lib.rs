//! Sparse robust regressions: each gene on the assemblage, and on the steady state that it leads to.
//!
//! `plan` is what is learned from, `design` what is regressed on what, `solver` finds the optimum, `choose` the penalty,
//! `dynamics` the steady states, `weights` is what the answers of both models need.

mod choose;
mod design;
mod dynamics;
#[cfg(test)]
mod fixtures;
mod plan;
mod solver;
mod sparse;
mod steady_state;
mod weights;

use lacuna_sdk::prelude::*;
use sparse::Sparse;
use steady_state::SteadyState;

plugin! { name: "sparse", models: [Sparse, SteadyState] }
