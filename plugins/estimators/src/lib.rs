//! Simple estimators of what a knockout changes: how genes go together in wild-type cells, with the depth of
//! sequencing taken out. One component, one file.

mod batches;
mod correlation;
mod counts;
mod covariance;
mod dose;
mod eigen;
#[cfg(test)]
mod fixtures;
mod matched;
mod pc_network;
mod residuals;
mod ridge;
mod scores;
mod solve;

use correlation::Correlation;
use covariance::Covariance;
use dose::Dose;
use lacuna_sdk::prelude::*;
use matched::Matched;
use pc_network::PcNetwork;
use ridge::Ridge;

plugin! { name: "estimators", models: [Correlation, Covariance, Dose, Matched, PcNetwork, Ridge] }
