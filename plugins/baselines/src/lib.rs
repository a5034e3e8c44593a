//! Deliberately simple predictors that a model has to beat.

#[cfg(test)]
mod fixtures;
mod knn;
mod linear;
mod masked_mean;
mod mean;
mod no_change;
mod null;
mod ridge;

use knn::Knn;
use lacuna_sdk::prelude::*;
use linear::Linear;
use masked_mean::MaskedMean;
use mean::Mean;
use no_change::NoChange;
use null::Null;

/// What a baseline declares; each adds what it uses.
const BASELINE: ModelInfo = ModelInfo { baseline: true, ..ModelInfo::PROFILES };

plugin! { name: "baselines", models: [NoChange, Null, Mean, MaskedMean, Knn, Linear] }
