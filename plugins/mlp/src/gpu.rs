//! Training and screens on a graphics processor, by CubeCL: `kernels` is what runs there, `runner` a device with its
//! buffers, `training` and `screening` launch. All is generic over the runtime; `cuda` and `wgpu` find devices.

#[cfg(feature = "cuda")]
pub mod cuda;
mod kernels;
mod matrix;
mod runner;
mod screening;
#[cfg(all(test, feature = "cuda", feature = "wgpu"))]
mod source;
#[cfg(test)]
mod tests;
mod training;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use crate::MlpConfig;
use crate::device::{Accelerator, Screener};
use crate::network::Network;
use crate::train::Look;
use cubecl::Runtime;
use lacuna_sdk::prelude::*;
use runner::Runner;

impl<R: Runtime> Accelerator for Runner<R> {
    fn train(
        &self,
        config: &MlpConfig,
        network: &Network<f32>,
        training: &Training<'_>,
        cx: &Context,
    ) -> Result<(Network<f32>, Vec<Look>)> {
        training::train(self, config, network, training, cx)
    }

    fn screener(&self, network: &Network<f32>, f16: bool) -> Result<Box<dyn Screener>> {
        Ok(Box::new(screening::Screener::new(self.clone(), network, f16 && self.knows_f16())?))
    }
}
