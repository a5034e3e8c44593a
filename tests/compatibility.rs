//! Releases of other days: a plugin that was built from an earlier state of the border is used today, and one of today by
//! the host of then.

use crate::boundary::{alone, faulty, library_name};
use crate::support::{bin_dir, cargo_sharing, fail, lacuna, project, root, succeed, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where border 1.0 began.
const EARLIER: &str = "f72d5df10886a8e67ac4f439174daef3b9d7bb68";

/// The sources of then, from this repository's history; none, with the reason printed, where there is no history.
fn earlier() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("earlier").join(EARLIER);
    if !folder.join("Cargo.toml").exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let script = "git archive \"$1\" | tar -x -C \"$2\"";
        let mut archive = Command::new("bash");
        archive.args(["-o", "pipefail", "-c", script, "archive", EARLIER]).arg(&folder).current_dir(root());
        let output = archive.output().unwrap();
        if !output.status.success() {
            println!("skipped: no sources of {EARLIER}: {}", text(&output.stderr));
            return None;
        }
    }
    Some(folder)
}

/// The folder of the host and plugins of then. Dependencies are shared with other builds, as far as they are the same;
/// what is of the workspace lies elsewhere, and is not optimised: nothing is computed with it.
fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("earlier-build");
        let mut command = cargo_sharing(&earlier()?, &["build", "--quiet", "--workspace"], &target);
        command.args(["--lib", "--bins", "--example", "faulty"]);
        for package in ["\"*\"", "lacuna", "lacuna-baselines", "lacuna-grn", "lacuna-metrics", "lacuna-mlp"] {
            command.args(["--config", &format!("profile.dev.package.{package}.opt-level=0")]);
        }
        succeed(command.output().unwrap());
        Some(target.join(bin_dir().file_name().unwrap()))
    });
    built.as_deref()
}

#[test]
fn a_plugin_of_then_passes_in_the_host_of_now() {
    let Some(built) = built() else { return };
    for plugin in ["lacuna_metrics", "lacuna_baselines"] {
        let library = built.join(library_name(plugin));
        let said = succeed(lacuna(&["plugin", "check"]).arg(&library).output().unwrap());
        assert!(said.contains("is a plugin that Lacuna can rely on"), "{said}");
    }
}

/// Border 1.1 has a method that these do not have.
#[test]
fn a_model_of_then_does_not_go_on_from_a_fitted_one_and_all_else_of_it_works() {
    let Some(built) = built() else { return };
    let pipeline = "format = 1\n[steps.cells]\nuse = \"read\"\npath = \"cells.csv\"\n\
                    [steps.first]\nuse = \"linear\"\ntrain = \"cells\"\n\
                    [steps.model]\nuse = \"linear\"\ntrain = \"cells\"\nfrom = \"first\"\n\
                    [steps.mapping]\nuse = \"evaluate\"\nmodels = [\"model\"]\ncells = \"cells\"\n";
    let (plugins, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for plugin in ["lacuna_metrics", "lacuna_baselines"].map(library_name) {
        std::fs::copy(built.join(&plugin), plugins.path().join(&plugin)).unwrap();
    }
    let project = project(pipeline);
    let cells = "cell,A,B\nc1,1,2\nc2,2,1\nc3,0,3\nc4,4,0\nc5,1,1\nc6,2,2\n";
    std::fs::write(project.path().join("cells.csv"), cells).unwrap();
    let run = |more: &[&str]| {
        let mut command =
            alone(Path::new(env!("CARGO_BIN_EXE_lacuna")), folder.path(), &["run", "--plugin-dir"]);
        command.arg(plugins.path()).args(more).arg(project.path()).output().unwrap()
    };
    let said = fail(run(&[]), 2);
    assert!(said.contains("`linear` does not go on from a fitted model"), "{said}");
    assert!(said.contains("no model that is loaded does") && said.contains("pipeline.toml:11:"), "{said}");
    std::fs::write(project.path().join("pipeline.toml"), pipeline.replace("from = \"first\"\n", "")).unwrap();
    succeed(run(&[]));
}

#[test]
fn a_plugin_of_now_is_used_by_the_host_of_then() {
    let Some(built) = built() else { return };
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new(built.join("lacuna"));
    command.args(["plugin", "inspect"]).arg(faulty()).env("LACUNA_CACHE", cache.path());
    let said = succeed(command.output().unwrap());
    assert!(said.contains("strategy picks") && said.contains("model copycat"), "{said}");
}
