//! Strategies that say which genes are knocked out in which cells.

mod each_expressed_gene;
#[cfg(test)]
mod fixtures;
mod genes;
mod names;
mod pairs;
mod sample;

use each_expressed_gene::EachExpressedGene;
use genes::Genes;
use lacuna_sdk::prelude::*;
use pairs::Pairs;

plugin! { name: "knockouts", strategies: [EachExpressedGene, Genes, Pairs] }
