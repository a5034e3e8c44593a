//! Releases of other days: a plugin that was built from an earlier state of the border is used today, and one of today by
//! the host of then.

use crate::boundary::{faulty, library_name};
use crate::support::{bin_dir, cargo_in, lacuna, root, succeed, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where border 1.0 began.
const EARLIER: &str = "f72d5df10886a8e67ac4f439174daef3b9d7bb68";

/// The sources of then, from this repository's history; none, with the reason printed, where there is no history.
fn earlier() -> Option<&'static Path> {
    static SOURCES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = SOURCES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("earlier").join(EARLIER);
        if !folder.join("Cargo.toml").exists() {
            std::fs::create_dir_all(&folder).unwrap();
            let script = "git archive \"$1\" | tar -x -C \"$2\"";
            let mut archive = Command::new("bash");
            archive
                .args(["-o", "pipefail", "-c", script, "archive", EARLIER])
                .arg(&folder)
                .current_dir(root());
            let output = archive.output().unwrap();
            if !output.status.success() {
                println!("skipped: no sources of {EARLIER}: {}", text(&output.stderr));
                return None;
            }
        }
        Some(folder)
    });
    found.as_deref()
}

/// Builds there. Dependencies are shared with other builds; what is of the workspace lies elsewhere, and is another.
fn build(folder: &Path, arguments: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("earlier-build");
    let shared = bin_dir().parent().unwrap().display().to_string();
    let mut command = cargo_in(folder, &["build", "--quiet"], &target);
    command.args(["--config", &format!("build.build-dir='{shared}'")]).args(arguments);
    succeed(command.output().unwrap());
    target.join(bin_dir().file_name().unwrap())
}

#[test]
fn a_plugin_of_then_passes_in_the_host_of_now() {
    let Some(sources) = earlier() else { return };
    let built = build(sources, &["-p", "lacuna-metrics", "-p", "lacuna-baselines"]);
    for plugin in ["lacuna_metrics", "lacuna_baselines"] {
        let library = built.join(library_name(plugin));
        let said = succeed(lacuna(&["plugin", "check"]).arg(&library).output().unwrap());
        assert!(said.contains("is a plugin that Lacuna can rely on"), "{said}");
    }
}

#[test]
fn a_plugin_of_now_is_used_by_the_host_of_then() {
    let Some(sources) = earlier() else { return };
    let host = build(sources, &["-p", "lacuna", "--bin", "lacuna"]).join("lacuna");
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new(host);
    command.args(["plugin", "inspect"]).arg(faulty()).env("LACUNA_CACHE", cache.path());
    let said = succeed(command.output().unwrap());
    assert!(said.contains("strategy picks") && said.contains("model copycat"), "{said}");
}
