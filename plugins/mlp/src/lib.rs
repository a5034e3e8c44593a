//! Learns expression profiles from gene assemblages: the DKO network.

use lacuna_sdk::prelude::*;

plugin! { name: "mlp" }
