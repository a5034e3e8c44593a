//! Running a plan: in order, each step once for each member of its inputs' families, nothing twice.

mod context;
mod dir;
mod execute;
mod family;
mod forecast;
mod progress;
mod tables;
mod threads;

pub use context::{Outputs, StepCx, obs_column, seeded_stream};
pub use dir::{RunDir, hashed_files, json_bytes, write_atomically};
pub use execute::{RunOptions, RunSummary, StepSummary, execute};
pub use family::{Chosen, Labels, suffix as label_suffix};
pub use forecast::{Basis, Forecast, Needs, StepForecast, forecast};
pub use progress::{BesideBars, Console};
pub use tables::write_csv;
pub use threads::available_threads;

/// The operating system and the architecture that this was built for.
pub fn platform() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

/// The error when the user asked to stop.
#[derive(Debug, Clone, Copy)]
pub struct Cancelled;

impl std::error::Error for Cancelled {}

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cancelled")
    }
}

/// The context of an error of a run that did not begin: its folder cannot be made, or another run is in it.
#[derive(Debug, Clone, Copy)]
pub struct NotBegun;

impl std::fmt::Display for NotBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the run cannot begin")
    }
}

/// Whether an error means that the user asked to stop.
pub fn is_cancelled(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        let by_plugin = e.downcast_ref::<crate::plugin::PluginFailure>();
        e.is::<Cancelled>() || by_plugin.is_some_and(|f| f.kind == lacuna_abi::ErrorKind::CANCELLED)
    })
}
