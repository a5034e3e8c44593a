//! Deliberately simple predictors that a model has to beat.

use lacuna_sdk::prelude::*;

plugin! { name: "baselines" }
