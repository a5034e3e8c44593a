//! Simple estimators of what a knockout changes: how genes go together in wild-type cells, with the depth of sequencing
//! taken out. One component, one file.

mod correlation;
mod counts;
mod covariance;
mod eigen;
#[cfg(test)]
mod fixtures;
mod residuals;
mod ridge;
mod scores;

use correlation::Correlation;
use covariance::Covariance;
use lacuna_sdk::prelude::*;
use ridge::Ridge;

plugin! { name: "estimators", models: [Correlation, Covariance, Ridge] }
