//! A plugin's root module: its manifest and one factory for each kind of component.

use crate::{HostRef, MetricBox, ModelBox, PResult, SimulatorBox, StrategyBox};
use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::check_layout_compatibility,
    declare_root_module_statics,
    library::{AbiHeaderRef, RootModule, RootModuleResult},
    prefix_type::{PrefixRefTrait, PrefixTypeTrait},
    sabi_types::VersionStrings,
    std_types::{ROk, RStr, RString},
};

/// Makes a component from its id, its parameters as a JSON object, and the host.
pub type Factory<T> = extern "C" fn(RStr<'_>, RStr<'_>, HostRef) -> PResult<T>;

/// What a plugin exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    /// The manifest as JSON: the plugin, its components, their parameters and capabilities.
    pub manifest: extern "C" fn() -> RString,
    /// Makes a simulator.
    pub simulator: extern "C" fn(RStr<'_>, RStr<'_>, HostRef) -> PResult<SimulatorBox>,
    /// Makes a model.
    pub model: extern "C" fn(RStr<'_>, RStr<'_>, HostRef) -> PResult<ModelBox>,
    /// Makes a strategy.
    pub strategy: extern "C" fn(RStr<'_>, RStr<'_>, HostRef) -> PResult<StrategyBox>,
    /// Makes a metric.
    #[sabi(last_prefix_field)]
    pub metric: extern "C" fn(RStr<'_>, RStr<'_>, HostRef) -> PResult<MetricBox>,
    /// Only in the tests' "later version".
    #[cfg(lacuna_abi_appended)]
    pub appended: extern "C" fn() -> u64,
}

impl RootModule for PluginModuleRef {
    declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "lacuna_plugin";
    const NAME: &'static str = "lacuna_plugin";
    // abi_stable's own version check is not used (see `open_module`): the layouts decide.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}

/// The root module as a plugin's exported header hands it over.
pub fn root(
    manifest: extern "C" fn() -> RString,
    simulator: Factory<SimulatorBox>,
    model: Factory<ModelBox>,
    strategy: Factory<StrategyBox>,
    metric: Factory<MetricBox>,
) -> RootModuleResult {
    let module = PluginModule {
        manifest,
        simulator,
        model,
        strategy,
        metric,
        #[cfg(lacuna_abi_appended)]
        appended,
    };
    // SAFETY: the erased module is cast back to this type only after its layout has been checked.
    ROk(unsafe { module.leak_into_prefix().to_prefix_ref().cast() })
}

#[cfg(lacuna_abi_appended)]
extern "C" fn appended() -> u64 {
    1
}

/// Opens the root module behind the address of a plugin's [`ROOT_SYMBOL`](crate::ROOT_SYMBOL).
///
/// Layouts are compared in both directions: a plugin may know fewer or more fields than the host, as long as
/// one of the two is an extension of the other. (abi_stable's own check refuses every older plugin.)
///
/// # Safety
/// `header` must be the value of the symbol, which the SDK's `plugin!` has defined, and the library must never
/// be unloaded.
pub unsafe fn open_module(header: AbiHeaderRef) -> Result<PluginModuleRef, String> {
    let other = "it was built with another abi_stable: rebuild it with the lacuna-sdk of this release";
    let header = header.upgrade().map_err(|_| other)?;
    let theirs = header.layout().ok_or("it carries no type layout")?;
    if let Some(reason) = incompatibility(theirs) {
        return Err(reason);
    }
    // SAFETY: just checked: one of the two layouts is an append-only extension of the other.
    unsafe { header.unchecked_layout::<PluginModuleRef>() }.map_err(|e| format!("its start-up failed: {e}"))
}

/// Why a root module of this layout does not fit this build, in one sentence; `None` when it fits.
pub fn incompatibility(theirs: &'static abi_stable::type_layout::TypeLayout) -> Option<String> {
    let mine = PluginModuleRef::LAYOUT;
    let newer = check_layout_compatibility(mine, theirs).err()?;
    check_layout_compatibility(theirs, mine).err()?;
    Some(first_cause(&newer.to_string()))
}

/// abi_stable reports some 1,000 lines; this keeps the type and the reason.
fn first_cause(report: &str) -> String {
    let lines: Vec<&str> = report.lines().collect();
    let Some(at) = lines.iter().position(|l| l.starts_with("Error:")) else {
        return report.chars().take(200).collect();
    };
    let name =
        lines[..at].iter().rev().find_map(|l| l.trim().strip_prefix("type:")).unwrap_or("a type").trim();
    let name = name.split('<').next().unwrap_or(name);
    let mut said = lines[at + 1..].iter().map(|l| l.trim()).filter(|l| !l.is_empty());
    let mut reason = said.next().unwrap_or("differs").to_string();
    if reason.ends_with(':') {
        // A heading, as in "Expected: … Found: …".
        said.take(3).for_each(|line| reason += &format!(" {line}"));
    }
    format!("the layout of {name} differs: {reason}")
}
