//! Simulates single cells with a known gene regulatory network.

use lacuna_sdk::prelude::*;

plugin! { name: "grn" }
