//! The macro that exports a plugin.

/// Exports a plugin: its name and its components, by kind.
///
/// ```text
/// plugin! { name: "grn", simulators: [Grn] }
/// plugin! { name: "metrics", metrics: [BrayCurtis, Spearman] }
/// ```
///
/// The lists stand in this order, each may be left out: `simulators`, `models`, `strategies`, `metrics`.
#[macro_export]
macro_rules! plugin {
    (
        name: $name:literal
        $(, simulators: [$($simulator:ty),* $(,)?])?
        $(, models: [$($model:ty),* $(,)?])?
        $(, strategies: [$($strategy:ty),* $(,)?])?
        $(, metrics: [$($metric:ty),* $(,)?])?
        $(,)?
    ) => {
        /// Says that this file is a Lacuna plugin, and for which border version.
        #[unsafe(no_mangle)]
        pub static LACUNA_PLUGIN_MAGIC: $crate::abi::PluginMagic = $crate::abi::PluginMagic::new(
            $crate::runtime::SDK_VERSION,
            (if cfg!(panic = "unwind") { $crate::abi::FLAG_UNWIND } else { 0 })
                | (if cfg!(debug_assertions) { $crate::abi::FLAG_DEBUG } else { 0 }),
        );

        #[doc(hidden)]
        mod __lacuna_plugin {
            #[allow(unused_imports)]
            use super::*;
            use $crate::abi::{self, HostRef, PResult, RStr, RString};
            use $crate::{manifest as about, runtime};

            extern "C" fn manifest() -> RString {
                runtime::manifest(|| {
                    about::manifest($name, env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"), vec![
                        $($(about::simulator::<$simulator>(),)*)?
                        $($(about::model::<$model>(),)*)?
                        $($(about::strategy::<$strategy>(),)*)?
                        $($(about::metric::<$metric>(),)*)?
                    ])
                })
            }

            $crate::plugin!(@factory simulator, SimulatorBox, [$($($simulator),*)?]);
            $crate::plugin!(@factory model, ModelBox, [$($($model),*)?]);
            $crate::plugin!(@factory strategy, StrategyBox, [$($($strategy),*)?]);
            $crate::plugin!(@factory metric, MetricBox, [$($($metric),*)?]);

            extern "C" fn root() -> abi::RootModuleResult {
                abi::root(manifest, simulator, model, strategy, metric)
            }

            // Not `#[export_root_module]`: that needs abi_stable as a dependency of every plugin.
            /// The root module and its layout.
            #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
            #[unsafe(no_mangle)]
            // SAFETY: `root` makes the module whose type is named.
            pub static LACUNA_PLUGIN_ROOT: abi::LibHeader = unsafe {
                abi::LibHeader::from_constructor::<abi::PluginModuleRef>(root, abi::CheckTypeLayout::Yes)
            };
        }
    };
    (@factory $kind:ident, $box:ident, [$($component:ty),*]) => {
        #[allow(unused_variables)]
        extern "C" fn $kind(id: RStr<'_>, params: RStr<'_>, host: HostRef) -> PResult<abi::$box> {
            $(if id.as_str() == <$component as $crate::Component>::ID {
                return runtime::$kind::<$component>(params.as_str(), &host);
            })*
            runtime::unknown(stringify!($kind), id.as_str())
        }
    };
}
