//! Simple models of measured perturbations, and a score of a panel of them: one component, one file.

mod additive;
mod correlation;
mod dose;
mod gene_pairs;
mod genes;
mod log_expression;
mod pds;

use additive::Additive;
use correlation::Correlation;
use dose::Dose;
use lacuna_sdk::prelude::*;
use pds::Pds;

plugin! { name: "perturb-seq", models: [Additive, Correlation, Dose], metrics: [Pds] }
