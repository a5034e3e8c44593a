//! The last gate: the library is opened, its layouts are compared, its manifest is read.
#![allow(unsafe_code)] // The loader; see the reason at each block.

use super::inspect::{Refusal, inspect};
use super::library::Library;
use super::manifest::Manifest;
use super::probe::time_limit;
use super::trust::anybody_can_change;
use super::worker::{Limits, Program, Worker, error as worker_error};
use lacuna_abi::{ABI_MAJOR, ABI_MINOR, AbiHeaderRef, ErrorKind, PluginError, PluginModuleRef, ROOT_SYMBOL};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A plugin that can be called.
pub struct Plugin {
    /// What it says about itself.
    pub manifest: Manifest,
    /// Where it lies; the words of a command.
    pub path: PathBuf,
    /// The hash of the file, or of a command and its files, in hex.
    pub sha256: String,
    /// The file that is opened for it: a copy, or the library itself.
    opened: PathBuf,
    pub(super) home: Home,
    /// The same plugin elsewhere.
    variants: Mutex<Vec<Arc<Plugin>>>,
}

/// Where a plugin runs.
pub(super) enum Home {
    /// In this process. Never unloaded: vtables, layouts and thread-local destructors live in the library.
    Here(PluginModuleRef),
    /// In a worker process.
    Apart(Apart),
}

/// A plugin in a worker process, which is started when it is called, and anew when it has died.
pub(super) struct Apart {
    program: Program,
    limits: Limits,
    worker: Mutex<Option<Arc<Worker>>>,
}

/// Whether a step's plugins run in worker processes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Isolation {
    /// In this process.
    No,
    /// In workers, with these limits.
    Yes(Limits),
}

impl Apart {
    /// The worker. One that has died is replaced.
    pub(super) fn worker(&self) -> Result<Arc<Worker>, PluginError> {
        let mut current = self.worker.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(worker) = current.as_ref().filter(|worker| !worker.is_dead()) {
            return Ok(worker.clone());
        }
        let started = Worker::start(&self.program, self.limits, time_limit());
        let (worker, _) = started.map_err(|reason| worker_error(ErrorKind::CRASHED, reason))?;
        *current = Some(worker.clone());
        Ok(worker)
    }
}

impl Plugin {
    fn new(manifest: Manifest, library: Library, home: Home) -> Self {
        let Library { path, opened, sha256 } = library;
        Self { manifest, path, opened, sha256, home, variants: Mutex::default() }
    }

    fn library(&self) -> Library {
        Library { path: self.path.clone(), opened: self.opened.clone(), sha256: self.sha256.clone() }
    }

    /// Its module, if it runs in this process.
    pub(super) fn module(&self) -> Option<PluginModuleRef> {
        match self.home {
            Home::Here(module) => Some(module),
            Home::Apart(_) => None,
        }
    }

    /// Whether it runs in a worker process.
    pub fn is_apart(&self) -> bool {
        self.module().is_none()
    }

    /// Whether it is a command, which runs in a process of its own in any case.
    pub fn is_command(&self) -> bool {
        matches!(self.program(), Program::Command(..))
    }

    /// The same plugin where a step wants it. The error is the end of a sentence about it.
    pub fn placed(self: &Arc<Self>, isolation: Isolation) -> Result<Arc<Self>, String> {
        let fits = |plugin: &Self| match (&plugin.home, isolation) {
            (Home::Here(_), Isolation::No) => true,
            (Home::Apart(apart), Isolation::Yes(limits)) => apart.limits == limits,
            _ => false,
        };
        if fits(self) {
            return Ok(self.clone());
        }
        let mut variants = self.variants.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(variant) = variants.iter().find(|variant| fits(variant)) {
            return Ok(variant.clone());
        }
        let variant = match isolation {
            Isolation::No => Arc::new(self.moved_here()?),
            Isolation::Yes(_) => self.anew(isolation)?,
        };
        variants.push(variant.clone());
        Ok(variant)
    }

    /// The same plugin once more: in a worker that nobody else calls.
    pub fn anew(self: &Arc<Self>, isolation: Isolation) -> Result<Arc<Self>, String> {
        match isolation {
            Isolation::No => self.placed(isolation),
            Isolation::Yes(limits) => {
                let apart = Apart { program: self.program(), limits, worker: Mutex::default() };
                let home = Home::Apart(apart);
                Ok(Arc::new(Self::new(self.manifest.clone(), self.library(), home)))
            }
        }
    }

    fn program(&self) -> Program {
        match &self.home {
            Home::Apart(apart) => apart.program.clone(),
            Home::Here(_) => Program::Library(self.opened.clone()),
        }
    }

    fn moved_here(&self) -> Result<Self, String> {
        if self.is_command() {
            return Err("a command runs in a process of its own".into());
        }
        let library = self.library();
        library.probe()?;
        library.load()
    }

    /// The memory of its worker, in bytes, if it has one and the system says so.
    pub fn worker_memory(&self) -> Option<u64> {
        let Home::Apart(apart) = &self.home else { return None };
        apart.worker.lock().unwrap_or_else(|e| e.into_inner()).as_ref()?.memory()
    }
}

/// A library that runs in a worker process: it is never opened here.
pub fn load_apart(library: &Library) -> Result<Plugin, String> {
    let program = Program::Library(library.opened.clone());
    start_apart(program, library.clone()).map_err(|reason| library.told(&reason))
}

/// A command that speaks the workers' protocol.
pub fn load_command(words: &[String], folder: &Path) -> Result<Plugin, String> {
    let mut all = words.join("\n").into_bytes();
    for file in scripts(words, folder) {
        if let Some(problem) = anybody_can_change(&file) {
            return Err(problem);
        }
        all.extend(std::fs::read(file).unwrap_or_default());
    }
    let program = Program::Command(words.to_vec(), folder.to_path_buf());
    let plugin = start_apart(program, Library::of(Path::new(&words.join(" ")), &all))?;
    let [major, minor, _] = plugin.manifest.abi;
    if major != ABI_MAJOR {
        return Err(format!(
            "it speaks border {major}.{minor}, this Lacuna {ABI_MAJOR}.{ABI_MINOR}: use the module of this release"
        ));
    }
    Ok(plugin)
}

/// The scripts that a command names, and the Python files beside them, which they may import.
fn scripts(words: &[String], folder: &Path) -> Vec<PathBuf> {
    let named = words.iter().map(|word| folder.join(word)).filter(|path| path.is_file());
    let is_python = |path: &PathBuf| path.extension().is_some_and(|e| e == "py");
    let mut all: Vec<PathBuf> = vec![];
    for script in named {
        let beside = script.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        all.extend(beside.into_iter().flatten().flatten().map(|e| e.path()).filter(is_python));
        all.push(script);
    }
    all.sort();
    all.dedup();
    all
}

fn start_apart(program: Program, library: Library) -> Result<Plugin, String> {
    let limits = Limits::default();
    let (_worker, text) = Worker::start(&program, limits, time_limit())?;
    let manifest = Manifest::parse(&text)?;
    Ok(Plugin::new(manifest, library, Home::Apart(Apart { program, limits, worker: Mutex::default() })))
}

/// SHA-256 of a file's bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl Library {
    /// Loads it into this process. The error is the end of a sentence about it.
    pub fn load(&self) -> Result<Plugin, String> {
        let loaded = load(&self.opened).map_err(|reason| self.told(&reason))?;
        if loaded.sha256 != self.sha256 {
            return Err("it was changed while it was loaded: try again".into());
        }
        Ok(Plugin { path: self.path.clone(), ..loaded })
    }
}

/// Loads a library into this process, after the static check. The error is the end of a sentence about it.
pub fn load(path: &Path) -> Result<Plugin, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("it cannot be read ({e})"))?;
    inspect(path, &bytes).map_err(Refusal::reason)?;
    let module = open(path)?;
    let text = (module.manifest())();
    let manifest = Manifest::parse(text.as_str())?;
    Ok(Plugin::new(manifest, Library::of(path, &bytes), Home::Here(module)))
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
