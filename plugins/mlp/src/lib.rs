//! Learns expression profiles from gene assemblages: the network of DKO (arXiv 2510.03359).
//!
//! `network` holds the weights, `train` is the optimiser's loop and `step` one step of it; `fitted` is what a fitted model
//! answers, by way of the `collapsed` map that makes a knockout a rank-1 update, and `fused` screens with that. Both are
//! written once over `lanes`, sixteen numbers at once, and tested against the arithmetic in plain words (`plain`).

use lacuna_sdk::prelude::*;

mod collapsed;
mod fitted;
mod fused;
mod lanes;
mod network;
#[cfg(test)]
mod plain;
mod step;
mod train;

use fitted::FittedMlp;

config! {
    /// Parameters of `mlp`. The defaults are the reference's.
    pub struct MlpConfig {
        /// Optimiser steps.
        #[effort(1..=100_000_000)]
        steps: u64 = 5000,
        /// Cells in a minibatch, drawn without replacement; all cells if there are fewer.
        #[range(1..=1_000_000)]
        minibatch: usize = 20,
        /// Adam's learning rate.
        #[range(above(0.0))]
        learning_rate: f64 = 0.01,
        /// Steps between two looks at the validation cells. The reference looks before every update.
        #[range(1..=1_000_000)]
        validate_every: u64 = 1,
    }
}

/// The reference model of DKO.
pub struct Mlp {
    config: MlpConfig,
}

impl Component for Mlp {
    const ID: &'static str = "mlp";
    const DOC: &'static str =
        "Two linear layers from the closed assemblage to the profile, masked by the assemblage (DKO)";
    type Config = MlpConfig;

    fn new(config: MlpConfig) -> Result<Self> {
        Ok(Self { config })
    }
}

impl Model for Mlp {
    type Fitted = FittedMlp;
    const INFO: ModelInfo = ModelInfo {
        fused: &["bray-curtis", "keystoneness", "euclidean", "mae"],
        source: "DKO: He, Klein, Levy, Wang, arXiv 2510.03359",
        ..ModelInfo::PROFILES
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<FittedMlp> {
        let (network, history) = train::train(&self.config, training, cx)?;
        Ok(FittedMlp::new(training.cells.gene_names(), network, history))
    }
}

plugin! { name: "mlp", models: [Mlp] }
