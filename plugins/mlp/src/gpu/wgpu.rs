//! Devices by Vulkan, Metal or DX12. Asking for one where there is none would panic: they are listed first.

use super::runner::Runner;
use crate::device::{Accelerator, SOFTWARE};
use ::wgpu::{AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor};
use cubecl::Runtime;
use cubecl::future::block_on;
use cubecl::wgpu::{AutoGraphicsApi, GraphicsApi, WgpuDevice, WgpuRuntime};
use lacuna_sdk::prelude::*;
use std::sync::Arc;

/// The devices: discrete ones first, software last.
fn all() -> Vec<(WgpuDevice, AdapterInfo)> {
    let backends = Backends::from(AutoGraphicsApi::backend());
    let instance =
        Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
    let adapters = block_on(instance.enumerate_adapters(backends));
    let all: Vec<AdapterInfo> = adapters.iter().map(|adapter| adapter.get_info()).collect();
    // CubeCL counts the devices of a type.
    let of_type = |wanted: DeviceType| {
        let some = all.iter().filter(move |info| info.device_type == wanted).enumerate();
        some.filter_map(move |(i, info)| device(wanted, i).map(|device| (device, info.clone())))
    };
    [DeviceType::DiscreteGpu, DeviceType::IntegratedGpu, DeviceType::VirtualGpu, DeviceType::Cpu]
        .into_iter()
        .flat_map(of_type)
        .collect()
}

/// The device of a type and number, as CubeCL names it. Of software it knows the first.
fn device(of: DeviceType, i: usize) -> Option<WgpuDevice> {
    match of {
        DeviceType::DiscreteGpu => Some(WgpuDevice::DiscreteGpu(i)),
        DeviceType::IntegratedGpu => Some(WgpuDevice::IntegratedGpu(i)),
        DeviceType::VirtualGpu => Some(WgpuDevice::VirtualGpu(i)),
        DeviceType::Cpu => (i == 0).then_some(WgpuDevice::Cpu),
        DeviceType::Other => None,
    }
}

/// The devices in words, or why there are none.
pub fn devices() -> std::result::Result<Vec<String>, String> {
    let words = |(device, info): &(WgpuDevice, AdapterInfo)| {
        let kind = match device {
            WgpuDevice::DiscreteGpu(_) => "discrete",
            WgpuDevice::IntegratedGpu(_) => "integrated",
            WgpuDevice::VirtualGpu(_) => "virtual",
            _ => SOFTWARE,
        };
        format!("{} ({kind}, {:?})", info.name, info.backend)
    };
    match all() {
        none if none.is_empty() => Err(format!("there is no driver for {:?}", AutoGraphicsApi::backend())),
        all => Ok(all.iter().map(words).collect()),
    }
}

/// A device that was found.
pub fn runner(index: usize) -> Result<Runner<WgpuRuntime>> {
    match all().get(index) {
        Some((device, _)) => Runner::tried(|| Runner::new(WgpuRuntime::client(device), None)),
        None => Err(Error::failed("the device is not there any more")),
    }
}

/// The same as what trains and screens.
pub fn open(index: usize) -> Result<Arc<dyn Accelerator>> {
    Ok(Arc::new(runner(index)?))
}
