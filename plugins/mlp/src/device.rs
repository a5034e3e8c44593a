//! Where a network is trained and screened: on the processor, or on a graphics processor that `gpu` drives.

use crate::MlpConfig;
use crate::head::Asked;
use crate::network::Network;
use crate::train::Look;
use lacuna_sdk::params::Param;
use lacuna_sdk::prelude::*;
use lacuna_sdk::tracing;
use std::sync::Arc;

choice! {
    /// Where a network is trained and screened.
    pub enum Device {
        /// The first graphics processor there is, by CUDA or wgpu; without one the processor.
        Auto = "auto",
        /// The processor.
        Cpu = "cpu",
        /// A graphics processor by CUDA.
        Cuda = "cuda",
        /// A graphics processor by Vulkan, Metal or DX12.
        Wgpu = "wgpu",
    }
}

impl Device {
    /// As pipelines name it.
    pub fn word(self) -> String {
        self.to_json().as_str().unwrap_or_default().into()
    }

    /// What a word names.
    pub fn of(word: &str) -> Result<Self> {
        Self::parse(&word.into()).map_err(Error::data)
    }
}

/// A device that trains and screens in place of the processor.
pub trait Accelerator: Send + Sync {
    /// Trains from these weights on; gives the best ones and what was seen on the way.
    fn train(
        &self,
        config: &MlpConfig,
        network: &Network<f32>,
        training: &Training<'_>,
        cx: &Context,
    ) -> Result<(Network<f32>, Vec<Look>)>;

    /// Takes a network, of which a map is stored as f16 if that is asked for and the device computes with it.
    fn screener(&self, network: &Network<f32>, f16: bool) -> Result<Box<dyn Screener>>;
}

/// A network on a device.
pub trait Screener: Send + Sync {
    /// Writes the impact of each knockout.
    fn impacts(&self, asked: Asked<'_>, impacts: &mut [f32], cx: &Context) -> Result<()>;
}

/// What was found of a runtime.
pub struct Found {
    /// `cuda` or `wgpu`.
    pub runtime: &'static str,
    /// Its devices in words, in the order of their numbers; or why there are none.
    pub devices: std::result::Result<Vec<String>, String>,
}

/// The runtimes of this build, and what is found of each.
pub fn found() -> Vec<Found> {
    vec![
        #[cfg(feature = "cuda")]
        Found { runtime: "cuda", devices: crate::gpu::cuda::devices() },
        #[cfg(feature = "wgpu")]
        Found { runtime: "wgpu", devices: crate::gpu::wgpu::devices() },
    ]
}

/// A line for each device, and for each runtime without one.
pub fn in_words() -> Vec<String> {
    let found = found();
    let mut lines = vec!["cpu: on all threads of the run".to_string()];
    for runtime in ["cuda", "wgpu"] {
        match found.iter().find(|found| found.runtime == runtime).map(|found| &found.devices) {
            None => lines.push(format!("{runtime}: {}", not_built(runtime))),
            Some(Err(why)) => lines.push(format!("{runtime}: none; {why}")),
            Some(Ok(devices)) => {
                lines.extend(devices.iter().enumerate().map(|(i, name)| format!("{runtime} {i}: {name}")));
            }
        }
    }
    lines
}

/// How a runtime comes into a build.
fn not_built(runtime: &str) -> String {
    format!("not in this build; `cargo build --release -p lacuna-mlp --features {runtime}` has it")
}

/// The device that is asked for; the processor is none.
pub fn open(device: Device, index: usize) -> Result<Option<Arc<dyn Accelerator>>> {
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda | Device::Wgpu => runtime(&device.word(), index).map(Some),
        Device::Auto => {
            for Found { runtime: name, devices } in found() {
                let real =
                    devices.is_ok_and(|devices| devices.get(index).is_some_and(|d| !d.contains(SOFTWARE)));
                if !real {
                    continue;
                }
                match runtime(name, index) {
                    Ok(device) => {
                        tracing::info!("on {name} device {index}");
                        return Ok(Some(device));
                    }
                    Err(error) => tracing::warn!("{name} device {index} is not used: {error:?}"),
                }
            }
            tracing::warn!(
                "`device = \"auto\"`: no graphics processor {index} that this build of `mlp` can use: on the processor"
            );
            Ok(None)
        }
    }
}

/// What a device is called that is a program on the processor; `auto` does not choose it.
pub const SOFTWARE: &str = "software";

/// A device of a runtime.
fn runtime(name: &str, index: usize) -> Result<Arc<dyn Accelerator>> {
    let Some(found) = found().into_iter().find(|found| found.runtime == name) else {
        return Err(Error::parameters(format!("`device`: {name} is {}; \"cpu\" always is", not_built(name))));
    };
    let see = "`lacuna plugin inspect mlp` shows what there is";
    let devices = found.devices.map_err(|why| {
        Error::parameters(format!("`device`: no {name} device: {why}; {see}, and \"cpu\" needs none"))
    })?;
    if index >= devices.len() {
        return Err(Error::parameters(format!(
            "`device_index`: expected 0 to {}, found {index}: {see}",
            devices.len() - 1
        )));
    }
    match name {
        #[cfg(feature = "cuda")]
        "cuda" => crate::gpu::cuda::open(index),
        #[cfg(feature = "wgpu")]
        "wgpu" => crate::gpu::wgpu::open(index),
        _ => Err(Error::parameters(format!("`device`: there is no {name}"))),
    }
}
