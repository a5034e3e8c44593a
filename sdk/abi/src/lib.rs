//! The types that cross the border between the Lacuna host and a plugin, and nothing else.
//!
//! Everything here is `repr(C)` and [`StableAbi`]: its layout is checked, in both
//! directions, when a library is loaded. This is the only crate that names `abi_stable`, and with the host's
//! loader the only place of `unsafe`; both sides read and write through the safe functions of these types.
//!
//! **What may change.** Fields of the `repr(C)` structs never change. The traits and the root module grow at
//! the end, after `last_prefix_field`, with a default; so an older plugin loads in a newer host and the
//! reverse. What a call hands over that may grow later (cells, training data, a query, a comparison) is a
//! trait object for that reason. Kinds and codes are newtypes over integers, never enums: an unknown value
//! is data, not undefined behaviour.
//!
//! The border is frozen: it grows at marked places only, and [`ABI_MINOR`] counts that.

// The macro `#[sabi_trait]` of abi_stable 0.11.3 expands to such items on Rust >= 1.79, and to undocumented ones.
#![allow(non_local_definitions, missing_docs, clippy::undocumented_unsafe_blocks)]
#![allow(unsafe_code)] // The border: see the reason at each block.

mod arrow;
mod components;
mod error;
mod handshake;
mod host;
mod module;
mod records;
mod views;

pub use abi_stable::{
    StableAbi,
    erased_types::TD_Opaque,
    library::{AbiHeaderRef, CheckTypeLayout, LibHeader, RootModuleResult},
    std_types::{RArc, RBox, RNone, ROption, RResult, RSlice, RSliceMut, RSome, RStr, RString, RVec},
};
pub use arrow::ArrowPair;
pub use components::*;
pub use error::{ErrorKind, PResult, PluginError};
pub use handshake::*;
pub use host::{HostApi, HostApi_TO, HostRef, Job};
pub use module::{Factory, PluginModule, PluginModuleRef, incompatibility, open_module, root};
pub use records::*;
pub use views::{CsrRef, KnockoutsBuf, KnockoutsRef, MatMut, MatRef};
