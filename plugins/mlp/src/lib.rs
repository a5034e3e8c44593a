//! Learns expression profiles from gene assemblages: the network of DKO (arXiv 2510.03359).
//!
//! `network` is its form; `train` is the optimiser's loop: `forward` through `weights` for a `batch` of cells, and `step` back
//! with Adam's update; `checkpoint` is what a killed training goes on from. `fitted` is what a fitted model
//! answers: by way of the `collapsed` map that makes a knockout a rank-1 update, or through the layers of a `deep` network;
//! `fused` screens with either, and `head` measures. `device` says where: the same is done on graphics processors by `gpu`. All are written once over `lanes`, sixteen numbers at once, with `sums` of rows and products
//! of matrices (`matmul`), and tested against the arithmetic in plain words (`plain`).

use lacuna_sdk::prelude::*;

mod adam;
mod batch;
mod checkpoint;
mod collapsed;
mod deep;
mod device;
mod fitted;
mod forward;
mod fused;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod head;
mod lanes;
mod matmul;
mod network;
#[cfg(test)]
mod plain;
mod step;
mod sums;
mod train;
mod weights;

use adam::Descent;
use device::Device;
use fitted::{FittedMlp, Place};
#[doc(hidden)] // For the benchmarks.
pub use matmul::multiply;
use network::{Network, Shape};

choice! {
    /// What becomes of the learning rate.
    pub enum Schedule {
        /// It stays.
        Constant = "constant",
        /// It falls to 0, by half a cosine over all steps.
        Cosine = "cosine",
    }
}

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
        /// What becomes of the learning rate: `constant`, as in the reference, or `cosine`.
        schedule: Schedule = Schedule::Constant,
        /// Weight decay, decoupled as in AdamW: each update takes this, times the learning rate, of every weight. The
        /// reference has none; 0.3 to 1 suit a cosine schedule, and 0.3 does harm to a constant rate.
        #[range(0.0..=1e6)]
        weight_decay: f64 = 0.0,
        /// Steps between two looks at the validation cells. The reference looks before every update.
        #[range(1..=1_000_000)]
        validate_every: u64 = 1,
        /// Looks at the validation cells without a better one, after which the training stops; without it all steps are made.
        #[range(1..=1_000_000)]
        patience: Option<u64> = None,
        /// Units between the two linear layers; without it as many as there are genes. For tens of thousands of genes: 64.
        #[range(1..=1_000_000)]
        rank: Option<usize> = None,
        /// Units of hidden layers with ReLU instead, such as [512, 512].
        hidden: Vec<usize> = vec![],
        /// Screen by a map stored as f16, of which half as much is read, where no impact changes by more than 1e-6.
        f16: bool = false,
        /// Seconds between two checkpoints, from which a training that is killed goes on. On a device there are none.
        #[range(0.0..=1e9)]
        checkpoint_seconds: f64 = 30.0,
        /// Where the network is trained and screened: `cpu`; `cuda` or `wgpu` (Vulkan, Metal, DX12), if the plugin was built
        /// with them; `auto`, the first of these that finds a graphics processor, else the processor. Results agree within
        /// seed noise, not to the byte.
        device: Device = Device::Cpu,
        /// Which of these devices, from 0 on; `lacuna plugin inspect mlp` shows them.
        #[range(0..=1000)]
        device_index: usize = 0,
    }
}

/// Units that a hidden layer can have.
const MOST_UNITS: usize = 1_000_000;

impl MlpConfig {
    /// The network's, for so many genes.
    fn shape(&self, genes: usize) -> Shape {
        match self.hidden.is_empty() {
            true => Shape::linear(genes, self.rank),
            false => Shape::deep(genes, &self.hidden),
        }
    }

    /// How far its updates go.
    fn descent(&self) -> Descent {
        let cosine = match self.schedule {
            Schedule::Constant => None,
            Schedule::Cosine => Some(self.steps),
        };
        Descent { rate: self.learning_rate, decay: self.weight_decay, cosine }
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
        if config.rank.is_some() && !config.hidden.is_empty() {
            return Err(Error::parameters(
                "`rank` is for the linear network, `hidden` makes another: choose one",
            ));
        }
        if config.f16 && !config.hidden.is_empty() {
            return Err(Error::parameters(
                "`f16` stores the collapsed map: a network with `hidden` layers has none",
            ));
        }
        match config.hidden.iter().find(|units| !(1..=MOST_UNITS).contains(*units)) {
            Some(units) => {
                Err(Error::parameters(format!("`hidden`: expected 1 to {MOST_UNITS} units, found {units}")))
            }
            None => Ok(Self { config }),
        }
    }
}

impl Model for Mlp {
    type Fitted = FittedMlp;
    const INFO: ModelInfo = ModelInfo {
        refines: true,
        fused: &["bray-curtis", "keystoneness", "euclidean", "mae"],
        source: "DKO: He, Klein, Levy, Wang, arXiv 2510.03359",
        ..ModelInfo::PROFILES
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<FittedMlp> {
        self.trained(None, training, cx)
    }

    fn refine(&self, from: FittedMlp, training: &Training<'_>, cx: &Context) -> Result<FittedMlp> {
        let network = from.network_of(&training.cells)?;
        let (found, expected) = (network.shape(), self.config.shape(training.cells.n_genes()));
        if found != expected {
            return Err(Error::parameters(format!(
                "the network to go on from has layers of {:?} units{}, and `rank` and `hidden` ask for {:?}{}: give both \
                 steps the same",
                found.widths,
                found.activation(),
                expected.widths,
                expected.activation()
            )));
        }
        self.trained(Some(network), training, cx)
    }

    fn devices(&self) -> Vec<String> {
        device::in_words()
    }
}

impl Mlp {
    /// Trains a network, from this one on if one is given.
    fn trained(
        &self,
        from: Option<Network<f32>>,
        training: &Training<'_>,
        cx: &Context,
    ) -> Result<FittedMlp> {
        let (network, history) = train::train(&self.config, from, training, cx)?;
        let place = Place { device: self.config.device, index: self.config.device_index };
        let mut fitted = FittedMlp::new(training.cells.gene_names(), network, history).on(place);
        if self.config.f16 {
            fitted.try_f16(&training.cells, cx)?;
        }
        Ok(fitted)
    }
}

plugin! { name: "mlp", models: [Mlp] }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::tests::random_cells;
    use lacuna_sdk::testing;

    fn mlp(rank: Option<usize>, hidden: Vec<usize>) -> Mlp {
        Mlp { config: MlpConfig { steps: 5, rank, hidden, ..MlpConfig::default() } }
    }

    #[test]
    fn a_network_of_another_form_or_of_other_genes_is_not_gone_on_from() {
        let cells = random_cells(6, 4, 1);
        let fitted = || testing::fit(&mlp(Some(3), vec![]), &cells).unwrap();
        let refined = |model: Mlp, cells: &OwnedCells| match testing::refine(&model, fitted(), cells, None) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(refined(mlp(Some(3), vec![]), &cells), "");
        let other = refined(mlp(None, vec![]), &cells);
        assert!(other.contains("[4, 3, 4] units, and `rank` and `hidden` ask for [4, 4, 4]"), "{other}");
        let other = refined(mlp(None, vec![3]), &cells);
        assert!(other.contains("[4, 3, 4] with ReLU"), "{other}");
        let other = refined(mlp(Some(3), vec![]), &random_cells(6, 5, 1));
        assert!(other.contains("4 genes, and the cells 5"), "{other}");
    }
}
