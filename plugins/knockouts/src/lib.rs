//! Strategies that say which genes are knocked out in which cells.

use lacuna_sdk::prelude::*;

plugin! { name: "knockouts" }
