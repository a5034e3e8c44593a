//! The border to plugins: whatever is wrong with a library, or goes wrong in one, ends in one clear sentence, and
//! the host lives.

mod discovery;
mod faults;
#[cfg(target_os = "linux")]
mod files;
mod layout;

use crate::support::{bin_dir, build_plugins, cargo_sharing, root, text};
use serde_json::Value as Json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A folder of these tests, kept between runs.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boundary").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Puts a file at a place, without a copy where that can be.
pub fn put(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(to);
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).unwrap();
    }
}

/// A cargo command that compiles the crates of this workspace with more flags, into the scratch folder of this name.
/// Dependencies are shared with the other builds: their folder is the same, and so are their features, of all the
/// workspace; what is made of this workspace has other hashes, because of the wrapper. Only a border is asked of what is
/// built: the host, whose optimisation takes longest, is not optimised.
fn cargo_with((name, flags): (&str, &str), arguments: &[&str]) -> Command {
    let wrapper = scratch("wrappers").join(format!("{name}.sh"));
    if !wrapper.exists() {
        std::fs::write(&wrapper, format!("#!/bin/sh\nexec \"$@\" {flags}\n")).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut cargo = cargo_sharing(&root(), arguments, &scratch(name));
    cargo.args(["--workspace", "--quiet", "--config", "profile.dev.package.lacuna.opt-level=0"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    cargo
}

/// The file name of a library.
pub fn library_name(stem: &str) -> String {
    format!("{}{stem}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// The plugin of tests/plugins/faulty.rs, alone in its folder.
pub fn faulty() -> &'static Path {
    static FAULTY: OnceLock<PathBuf> = OnceLock::new();
    FAULTY.get_or_init(|| {
        build_plugins();
        let plugin = scratch("plugins").join(library_name("faulty"));
        put(&bin_dir().join("examples").join(library_name("faulty")), &plugin);
        plugin
    })
}

/// The folder of [`faulty`].
fn faulty_folder() -> &'static Path {
    faulty().parent().unwrap()
}

/// A binary in another folder, where no plugins lie beside it, with a cache of the tests' own.
pub fn alone(binary: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let host = folder.join(binary.file_name().unwrap());
    if !host.exists() {
        put(binary, &host);
    }
    let mut command = Command::new(host);
    command.args(arguments).stdin(Stdio::null());
    command.env("LACUNA_CACHE", scratch("cache")).env("XDG_DATA_HOME", scratch("nothing"));
    command.env("RUST_BACKTRACE", "1");
    command
}

/// The binary without plugins beside it.
pub fn bare(arguments: &[&str]) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let binary = Path::new(env!("CARGO_BIN_EXE_lacuna"));
    let folder = FOLDER.get_or_init(|| {
        let folder = scratch("host");
        put(binary, &folder.join(binary.file_name().unwrap()));
        folder
    });
    alone(binary, folder, arguments)
}

/// What `lacuna plugin list --json` says.
struct Listing(Json);

/// Lists the plugins of a folder; every library is new to the host.
fn list(folder: &Path) -> Listing {
    let cache = tempfile::tempdir().unwrap();
    list_by(bare(&["plugin", "list"]).arg("--plugin-dir").arg(folder).env("LACUNA_CACHE", cache.path()))
}

fn list_by(command: &mut Command) -> Listing {
    listing(command.arg("--json").output().unwrap())
}

fn listing(output: Output) -> Listing {
    let said = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    let code = output.status.code().unwrap_or_else(|| panic!("the host died: {}\n{said}", output.status));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let failed = !json["failures"].as_array().unwrap().is_empty();
    assert_eq!(code, i32::from(failed), "{said}");
    assert!(output.stderr.is_empty(), "{said}");
    Listing(json)
}

impl Listing {
    fn plugins(&self) -> Vec<&str> {
        let plugins = self.0["plugins"].as_array().unwrap();
        plugins.iter().map(|p| p["manifest"]["name"].as_str().unwrap()).collect()
    }

    fn failures(&self) -> &[Json] {
        self.0["failures"].as_array().unwrap()
    }

    /// The one reason why a file is not used.
    fn reason(&self, file: &str) -> &str {
        let named = |f: &&Json| Path::new(f["path"].as_str().unwrap()).file_name().unwrap() == file;
        let found: Vec<&Json> = self.failures().iter().filter(named).collect();
        assert_eq!(found.len(), 1, "{file}: {:#}", self.0);
        let reason = found[0]["reason"].as_str().unwrap();
        assert_sentence(reason);
        reason
    }
}

/// One line, not empty, and short enough to be read.
fn assert_sentence(reason: &str) {
    assert!(!reason.is_empty() && reason.len() < 400, "{reason}");
    assert!(!reason.contains(char::is_control), "{reason:?}");
}
