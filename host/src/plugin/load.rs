//! The last gate: the library is opened, its layouts are compared, its manifest is read.
#![allow(unsafe_code)] // The loader; see the reason at each block.

use super::inspect::inspect;
use super::manifest::Manifest;
use lacuna_abi::{AbiHeaderRef, PluginModuleRef, ROOT_SYMBOL};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::path::{Path, PathBuf};

/// A loaded plugin. Never unloaded: vtables, layouts and thread-local destructors live in the library.
pub struct Plugin {
    /// What it says about itself.
    pub manifest: Manifest,
    /// Where it lies.
    pub path: PathBuf,
    /// The file's hash, in hex.
    pub sha256: String,
    pub(super) module: PluginModuleRef,
}

/// SHA-256 of a file's bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Loads a library into this process, after the static check. The error is the end of a sentence about it.
pub fn load(path: &Path) -> Result<Plugin, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("it cannot be read ({e})"))?;
    inspect(path, &bytes).map_err(super::inspect::Refusal::reason)?;
    let module = open(path)?;
    let text = (module.manifest())();
    let manifest = Manifest::parse(text.as_str())?;
    Ok(Plugin { manifest, path: path.to_path_buf(), sha256: sha256(&bytes), module })
}

fn open(path: &Path) -> Result<PluginModuleRef, String> {
    // A bare file name would be searched for in LD_LIBRARY_PATH.
    let path = path.canonicalize().map_err(|e| format!("it cannot be found ({e})"))?;
    // SAFETY: opening runs the library's constructors. The file is a plugin by its handshake, and an unknown
    // one has been opened by a child process before.
    let library =
        unsafe { open_library(&path) }.map_err(|e| format!("it cannot be loaded: {}", chain(&e)))?;
    // SAFETY: the SDK's `plugin!` defines this symbol as a `LibHeader`, whose address is the header reference.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL) }
        .map(|symbol| *symbol)
        .map_err(|e| format!("it has no usable root: {}", chain(&e)))?;
    // SAFETY: as above, and the library is forgotten below, hence never unloaded.
    let module = unsafe { lacuna_abi::open_module(header) };
    std::mem::forget(library);
    #[cfg(lacuna_abi_appended)]
    if let Ok(module) = module {
        tracing::info!("the plugin's appended field is {:?}", module.appended().map(|field| field()));
    }
    module
}

#[cfg(unix)]
unsafe fn open_library(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: as the caller promises. All symbols now, so that a missing one is an error here; none shared.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

#[cfg(not(unix))]
unsafe fn open_library(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: as the caller promises.
    unsafe { libloading::Library::new(path) }
}

/// libloading keeps the dynamic linker's words in the source of its error.
fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}
