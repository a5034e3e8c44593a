//! Dissimilarities and correlations of profiles.

use lacuna_sdk::prelude::*;

plugin! { name: "metrics" }
