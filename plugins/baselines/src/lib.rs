//! Deliberately simple predictors that a model has to beat: of profiles, and of what a loss changes.

mod all_down;
mod all_up;
mod first_component;
#[cfg(test)]
mod fixtures;
mod knn;
mod linear;
mod log_expression;
mod masked_mean;
mod mean;
mod mean_expression;
mod no_change;
mod null;
mod outer;
mod ridge;

use all_down::AllDown;
use all_up::AllUp;
use first_component::FirstComponent;
use knn::Knn;
use lacuna_sdk::prelude::*;
use linear::Linear;
use masked_mean::MaskedMean;
use mean::Mean;
use mean_expression::MeanExpression;
use no_change::NoChange;
use null::Null;

/// What a baseline declares; each adds what it uses.
const BASELINE: ModelInfo = ModelInfo { baseline: true, ..ModelInfo::PROFILES };

plugin! {
    name: "baselines",
    models: [NoChange, Null, Mean, MaskedMean, Knn, Linear, FirstComponent, MeanExpression, AllUp, AllDown]
}
