//! Devices by CUDA. Asking for one where there is none would panic: they are probed first.

use super::runner::Runner;
use crate::device::Accelerator;
use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime, install};
use cudarc::driver::{result, sys};
use lacuna_sdk::prelude::*;
use std::sync::Arc;

/// The devices with their memory, or why there are none.
#[allow(unsafe_code)]
pub fn devices() -> std::result::Result<Vec<String>, String> {
    // SAFETY: it opens the driver's library, if there is one, and looks symbols up.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no NVIDIA driver (libcuda)".into());
    }
    let failed = |what: &'static str| move |e: result::DriverError| format!("{what}: {e:?}");
    result::init().map_err(failed("the driver does not start"))?;
    let n = result::device::get_count().map_err(failed("the driver does not count devices"))?;
    if n == 0 {
        return Err("the driver knows no device".into());
    }
    // SAFETY: as above.
    let compiler = unsafe { cudarc::nvrtc::sys::is_culib_present() };
    if !compiler || install::cuda_path().is_none_or(|path| !path.join("include").is_dir()) {
        return Err("kernels are compiled by the CUDA toolkit, of which the library libnvrtc (LD_LIBRARY_PATH) or the folder \
                    `include` (in CUDA_PATH) is not found"
            .into());
    }
    (0..n).map(|index| name_of(index).map_err(failed("the driver does not name a device"))).collect()
}

fn name_of(index: i32) -> std::result::Result<String, result::DriverError> {
    let name = result::device::get_name(result::device::get(index)?)?;
    Ok(format!("{name}, {} MB", memory_of(index)? >> 20))
}

#[allow(unsafe_code)]
fn memory_of(index: i32) -> std::result::Result<u64, result::DriverError> {
    let device = result::device::get(index)?;
    // SAFETY: the device has just been given by the driver.
    unsafe { result::device::total_mem(device) }.map(|bytes| bytes as u64)
}

/// A device that was found.
pub fn runner(index: usize) -> Result<Runner<CudaRuntime>> {
    let memory = i32::try_from(index).ok().and_then(|index| memory_of(index).ok());
    Runner::tried(|| Runner::new(CudaRuntime::client(&CudaDevice::new(index)), memory))
}

/// The same as what trains and screens.
pub fn open(index: usize) -> Result<Arc<dyn Accelerator>> {
    Ok(Arc::new(runner(index)?))
}
