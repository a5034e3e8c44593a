//! The binary, the plugins, folders, and Python.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The folder of the binary and, once built, of the plugins.
pub fn bin_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_lacuna")).parent().unwrap().to_path_buf()
}

/// A cargo command in this workspace, for this profile and target folder.
pub fn cargo(arguments: &[&str]) -> Command {
    cargo_in(&root(), arguments, bin_dir().parent().unwrap())
}

/// A cargo command in some workspace, for this profile.
pub fn cargo_in(workspace: &Path, arguments: &[&str], target: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace).args(arguments).arg("--target-dir").arg(target);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command
}

/// A cargo command in some workspace that shares dependencies with the tests' own build, as far as they are the same; what
/// it makes lies in the target folder.
pub fn cargo_sharing(workspace: &Path, arguments: &[&str], target: &Path) -> Command {
    let mut command = cargo_in(workspace, arguments, target);
    let shared = bin_dir().parent().unwrap().display().to_string();
    command.args(["--config", &format!("build.build-dir='{shared}'")]);
    command
}

/// The target folder of all plugins that are built in workspaces of their own, where the SDK is built once.
pub fn authors_target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("authors")
}

/// Builds what `cargo test` does not: libraries of type cdylib. The whole workspace and an example, which has what tests
/// have: so dependencies have the features of the test build, and are not built again.
pub fn build_plugins() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let build = ["build", "--quiet", "--workspace", "--lib", "--example", "faulty"];
        succeed(cargo(&build).output().unwrap());
    });
}

/// The binary, with the plugins built and a cache of the tests' own.
pub fn lacuna(arguments: &[&str]) -> Command {
    build_plugins();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    command.args(arguments).stdin(Stdio::null());
    command.env("LACUNA_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command.env("XDG_DATA_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-user-plugins"));
    command
}

/// Standard output of a run that has to succeed.
pub fn succeed(output: Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out
}

/// Standard error of a run that has to end with this code.
pub fn fail(output: Output, code: i32) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    err
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder that goes away, with a pipeline in it.
pub fn project(pipeline: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pipeline.toml"), pipeline).unwrap();
    dir
}

/// A file of the real data, which lie beside the project; `None`, with the reason printed, where they do not.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data").join(name);
    if !path.exists() {
        println!("skipped: {name} is not in ../shared/data beside the project");
        return None;
    }
    Some(path.canonicalize().unwrap())
}

/// Python with what tests/python/requirements.txt lists: that of LACUNA_PYTHON, or a venv that is made once.
///
/// Without Python or a package registry the tests that need it are skipped with the reason; in CI that fails.
pub fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| match std::env::var_os("LACUNA_PYTHON").map_or_else(make_venv, |p| Ok(p.into())) {
            Ok(python) => Some(python),
            Err(reason) if std::env::var_os("CI").is_none() => {
                println!("skipped: no Python for tests: {reason}");
                None
            }
            Err(reason) => panic!("no Python for tests: {reason}"),
        })
        .clone()
}

/// A search path on which that Python is found first.
pub fn python_path() -> Option<std::ffi::OsString> {
    let own = python()?.parent()?.to_path_buf();
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&others))).ok()
}

fn make_venv() -> Result<PathBuf, String> {
    let requirements = root().join("tests/python/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).map_err(|e| e.to_string())?;
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
    let (python, mark) = (venv.join("bin/python"), venv.join("installed.txt"));
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let step = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(text(&output.stderr)),
        Err(e) => Err(e.to_string()),
    };
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    step(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements),
    )?;
    std::fs::write(mark, wanted).map_err(|e| e.to_string())?;
    Ok(python)
}

/// Runs a script of tests/python; `None` where there is no Python.
pub fn run_python(script: &str, arguments: &[&Path]) -> Option<String> {
    let scripts = root().join("tests/python");
    let mut command = Command::new(python()?);
    command.arg(scripts.join("run.py")).arg(scripts.join(script)).args(arguments);
    Some(succeed(command.output().unwrap()))
}
