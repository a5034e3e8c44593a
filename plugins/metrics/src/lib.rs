//! Dissimilarities and correlations of profiles.

mod bray_curtis;
mod euclidean;
#[cfg(test)]
mod fixtures;
mod keystoneness;
mod mae;
mod mse;
mod pearson;
mod spearman;
mod sum;

use bray_curtis::BrayCurtis;
use euclidean::Euclidean;
use keystoneness::Keystoneness;
use lacuna_sdk::prelude::*;
use mae::Mae;
use mse::Mse;
use pearson::Pearson;
use spearman::Spearman;

plugin! { name: "metrics", metrics: [BrayCurtis, Keystoneness, Euclidean, Mae, Mse, Spearman, Pearson] }
