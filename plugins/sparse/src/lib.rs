//! Sparse robust regressions: each gene on the assemblage, and on the steady state that it leads to.
//!
//! `design` is what is regressed on what, `solver` finds the optimum, `weights` and `rows` are what the
//! answers of both models need.

mod design;
#[cfg(test)]
mod fixtures;
mod rows;
mod solver;
mod sparse;
mod steady_state;
mod weights;

use lacuna_sdk::prelude::*;
use sparse::Sparse;
use steady_state::SteadyState;

plugin! { name: "sparse", models: [Sparse, SteadyState] }
