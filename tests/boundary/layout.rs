//! The border grows at its end: a later host and an earlier plugin work together, and the reverse. "Later" is this
//! workspace built with `--cfg lacuna_abi_appended`: one more field in the root module, one more method of a model
//! and of the host.

use super::{alone, faulty, library_name, list, scratch};
use crate::support::{bin_dir, project, succeed, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A cargo command with a cfg for the crates of this workspace.
fn cargo_with(cfg: &str, arguments: &[&str]) -> Command {
    super::cargo_with((cfg, &format!("--cfg {cfg}")), arguments)
}

fn build(cfg: &str, arguments: &[&str]) -> PathBuf {
    succeed(cargo_with(cfg, &[&["build"], arguments].concat()).output().unwrap());
    scratch(cfg).join(bin_dir().file_name().unwrap())
}

/// The faulty plugin, built with a cfg, alone in a folder.
fn plugin(cfg: &str) -> PathBuf {
    let built = build(cfg, &["--example", "faulty"]);
    let folder = scratch(&format!("{cfg}-plugin"));
    super::put(&built.join("examples").join(library_name("faulty")), &folder.join(library_name("faulty")));
    folder
}

const LATER: &str = "lacuna_abi_appended";

fn later_plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| plugin(LATER))
}

const PIPELINE: &str = r#"
format = 1
name = "layout"
[steps.world]
use = "faulty/world"
isolate = false
[steps.model]
use = "faulty/copycat"
isolate = false
train = "world"
[steps.screen]
use = "screen"
isolate = false
model = "model"
cells = "world"
knockouts = "faulty/picks"
impact = "faulty/distance"
"#;

/// Runs every kind of component; what the host and the plugin say of what was appended.
fn run(host: &Path, plugins: &Path) -> String {
    let (project, folder) = (project(PIPELINE), tempfile::tempdir().unwrap());
    let mut command = alone(host, folder.path(), &["run", "-v", "--plugin-dir"]);
    let output = command.arg(plugins).arg(project.path()).output().unwrap();
    let said = text(&output.stderr);
    succeed(output);
    assert!(said.contains("✓ screen"), "{said}");
    said
}

#[test]
fn an_earlier_host_runs_a_later_plugin_and_the_reverse() {
    let earlier_host = Path::new(env!("CARGO_BIN_EXE_lacuna"));
    let earlier_plugin = faulty().parent().unwrap();
    // A method that the other side does not have answers with its default, 1; a real one with 2.
    let said = run(earlier_host, later_plugin());
    assert!(said.contains("the host's appended method answers 1"), "{said}");
    assert!(!said.contains("appended field"), "{said}");

    let later_host = build(LATER, &["--bin", "lacuna", "--example", "faulty"]).join("lacuna");
    let said = run(&later_host, earlier_plugin);
    assert!(said.contains("the plugin's appended field is None"), "{said}");
    assert!(said.contains("the model's appended method answers 1"), "{said}");
    assert!(!said.contains("the host's"), "{said}");

    let said = run(&later_host, later_plugin());
    assert!(said.contains("the host's appended method answers 2"), "{said}");
    assert!(said.contains("the plugin's appended field is Some(1)"), "{said}");
    assert!(said.contains("the model's appended method answers 2"), "{said}");
}

#[test]
fn a_type_that_changed_within_is_refused_by_name() {
    let listing = list(&plugin("lacuna_abi_mutant"));
    assert!(listing.plugins().is_empty(), "{:#}", listing.0);
    let reason = listing.reason(&library_name("faulty"));
    assert!(reason.starts_with("the layout of MatRef differs: "), "{reason}");
}

#[test]
fn the_layout_that_was_written_down_tells_an_addition_from_a_break() {
    let said = |cfg: &str| {
        let mut cargo = cargo_with(cfg, &["test", "--test", "layout"]);
        let output = cargo.env_remove("BLESS").output().unwrap();
        assert!(!output.status.success());
        text(&output.stdout)
    };
    let later = said(LATER);
    assert!(later.contains("ADDED, which is allowed") && !later.contains("BREAKING"), "{later}");
    assert!(later.contains("lacuna-abi::PluginModule: `appended: fn() -> u64` is new\n"), "{later}");
    let mutant = said("lacuna_abi_mutant");
    assert!(mutant.contains("BREAKING") && !mutant.contains("ADDED"), "{mutant}");
    assert!(
        mutant.contains("lacuna-abi::MatRef<'a>: `padding: u64` is new, where nothing may be"),
        "{mutant}"
    );
}
