//! `lacuna plugin list` and `inspect`, and where plugins are looked for, as a user sees it.

use super::{alone, bare, faulty, faulty_folder, library_name, list, list_by, put};
use crate::support::{fail, lacuna, project, succeed, text};
use serde_json::Value as Json;
use std::path::Path;

/// Uses the faulty plugin.
const USES_IT: &str = r#"
format = 1
[steps.world]
use = "faulty/world"
[steps.truth]
use = "screen"
model = "world.truth"
cells = "world"
knockouts = "faulty/picks"
impact = "faulty/distance"
"#;

/// A pipeline that names the faulty plugin's library, by whatever name and path.
fn naming(name: &str, path: &Path) -> tempfile::TempDir {
    let named = format!("[plugins.{name}]\npath = '{}'\n", path.display());
    project(&USES_IT.replace("[steps.world]", &format!("{named}[steps.world]")))
}

fn validate(project: &Path) -> std::process::Output {
    bare(&["validate"]).arg(project).output().unwrap()
}

#[test]
fn list_says_what_loaded_what_did_not_and_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    put(faulty(), &dir.path().join(library_name("faulty")));
    std::fs::write(dir.path().join(library_name("text")), "text").unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let mut command = bare(&["plugin", "list", "--plugin-dir", "nowhere/at-all", "--plugin-dir"]);
    let output = command.arg(&file).arg("--plugin-dir").arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    let line = |words: &str| {
        let found: Vec<&str> = said.lines().filter(|l| l.contains(words)).collect();
        assert_eq!(found.len(), 1, "{words}\n{said}");
        found[0].to_string()
    };
    assert!(line("  simulator  ").contains("world"), "{said}");
    assert!(line("  strategy  ").contains("picks"), "{said}");
    let refused = dir.path().join(library_name("text"));
    let reason = line("it is not a shared library");
    assert!(reason.starts_with(&format!("  {} (--plugin-dir): it is", refused.display())), "{said}");
    assert_eq!(line("nowhere/at-all"), "  nowhere/at-all (--plugin-dir) (not there)");
    assert_eq!(line("a-file"), format!("  {} (--plugin-dir) (not a folder)", file.display()));
    assert!(line("lacuna/plugins").ends_with("(user folder) (not there)"), "{said}");
}

#[test]
fn inspect_shows_plugins_components_and_files() {
    let shown = |name: &str| succeed(lacuna(&["plugin", "inspect", name]).output().unwrap());
    let mlp = shown("mlp");
    assert!(mlp.contains("border 1.") && mlp.contains("parameters") && mlp.contains("steps = "), "{mlp}");
    let spearman = shown("metrics/spearman");
    assert!(spearman.contains("metric spearman") && !spearman.contains("metric mae"), "{spearman}");
    let by_path = shown(faulty().to_str().unwrap());
    assert!(by_path.contains("strategy picks") && by_path.contains("one of:"), "{by_path}");
    let json = succeed(lacuna(&["plugin", "inspect", "metrics/mae", "--json"]).output().unwrap());
    let json: Json = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["manifest"]["components"][0]["id"], "mae");
}

#[test]
fn inspect_says_what_is_wrong_with_a_file_or_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.so");
    std::fs::write(&file, "text").unwrap();
    let said = fail(bare(&["plugin", "inspect"]).arg(&file).output().unwrap(), 1);
    assert!(said.starts_with(&format!("error: {} is not used: it is not", file.display())), "{said}");
    let said = fail(lacuna(&["plugin", "inspect", "spearmen"]).output().unwrap(), 2);
    let expected =
        "error: there is no plugin, component or library file `spearmen`; did you mean `spearman`?";
    assert_eq!(said.trim_end(), expected);
    let said = fail(lacuna(&["plugin", "inspect", "metrics/spearmen"]).output().unwrap(), 2);
    assert!(said.trim_end().ends_with("did you mean `metrics/spearman`?"), "{said}");
}

#[test]
fn a_library_file_is_inspected_even_where_another_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let twin = dir.path().join("twin.so");
    std::fs::write(&twin, [std::fs::read(faulty()).unwrap(), vec![0]].concat()).unwrap();
    let mut command = bare(&["plugin", "inspect"]);
    let shown = succeed(command.arg(&twin).arg("--plugin-dir").arg(faulty_folder()).output().unwrap());
    assert!(shown.contains(twin.to_str().unwrap()) && shown.contains("strategy picks"), "{shown}");
}

#[test]
fn the_current_folder_is_not_searched() {
    let listing = list_by(bare(&["plugin", "list"]).current_dir(faulty_folder()));
    assert_eq!((listing.plugins().len(), listing.failures().len()), (0, 0));
    let pipeline = project(USES_IT);
    let output = bare(&["validate"]).arg(pipeline.path()).current_dir(faulty_folder()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn plugins_beside_the_pipeline_and_in_the_users_folder_are_found() {
    let beside = project(USES_IT);
    std::fs::create_dir(beside.path().join("plugins")).unwrap();
    put(faulty(), &beside.path().join("plugins").join(library_name("faulty")));
    succeed(validate(beside.path()));
    let listing = list_by(bare(&["plugin", "list", "--project"]).arg(beside.path()));
    assert_eq!(listing.plugins(), ["faulty"]);

    let (user, pipeline) = (tempfile::tempdir().unwrap(), project(USES_IT));
    let folder = user.path().join("lacuna/plugins");
    std::fs::create_dir_all(&folder).unwrap();
    put(faulty(), &folder.join(library_name("faulty")));
    let mut command = bare(&["validate"]);
    succeed(command.arg(pipeline.path()).env("XDG_DATA_HOME", user.path()).output().unwrap());
}

#[test]
fn a_library_named_in_the_pipeline_is_used() {
    succeed(validate(naming("faulty", faulty()).path()));
    // Relative to the pipeline, wherever the command is given.
    let pipeline = naming("faulty", Path::new("lib/own.so"));
    std::fs::create_dir(pipeline.path().join("lib")).unwrap();
    put(faulty(), &pipeline.path().join("lib/own.so"));
    succeed(validate(pipeline.path()));
}

#[test]
fn a_library_named_wrongly_in_the_pipeline_is_a_problem_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (naming("fault", faulty()), "this is the plugin `faulty`, not `fault`"),
        (
            naming("faulty", Path::new("nosuch.so")),
            "plugin `faulty` did not load: it cannot be read (No such",
        ),
        (naming("faulty", folder.path()), "plugin `faulty` did not load: it cannot be read (Is a directory"),
    ];
    for (pipeline, expected) in cases {
        let output = validate(pipeline.path());
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.contains("pipeline.toml:4:8"), "{said}");
    }
}

#[test]
fn beside_the_executable_only_what_is_meant_to_be_a_plugin_is_spoken_of() {
    let dir = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_lacuna"));
    let plugin = std::fs::read(faulty()).unwrap();
    put(faulty(), &dir.path().join(library_name("faulty")));
    std::fs::write(dir.path().join(library_name("other")), "another program's data").unwrap();
    std::fs::write(dir.path().join(library_name("lacuna_empty")), "").unwrap();
    std::fs::write(dir.path().join(library_name("cut")), &plugin[..plugin.len() / 2]).unwrap();
    let listing = list_by(&mut alone(binary, dir.path(), &["plugin", "list"]));
    assert_eq!(listing.plugins(), ["faulty"]);
    assert_eq!(listing.failures().len(), 2, "{:#}", listing.0);
    assert_eq!(listing.reason(&library_name("lacuna_empty")), "it is empty");
    assert!(listing.reason(&library_name("cut")).starts_with("it is cut off or damaged"));
}

#[test]
fn of_two_libraries_with_one_name_neither_is_used_and_both_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.so"), dir.path().join("b.so"));
    put(faulty(), &a);
    std::fs::write(&b, [std::fs::read(faulty()).unwrap(), vec![0]].concat()).unwrap();
    let listing = list(dir.path());
    assert_eq!((listing.plugins().len(), listing.failures().len()), (0, 2), "{:#}", listing.0);
    for (one, other) in [("a.so", &b), ("b.so", &a)] {
        let reason = listing.reason(one);
        assert_eq!(reason, format!("it is named `faulty`, and so is {}: remove one", other.display()));
    }
    assert!(listing.failures().iter().all(|f| f["origin"] == "--plugin-dir"), "{:#}", listing.0);

    let pipeline = project(USES_IT);
    let mut command = bare(&["run", "--plugin-dir"]);
    let said = fail(command.arg(dir.path()).arg(pipeline.path()).output().unwrap(), 2);
    assert!(said.contains("`faulty/world`") && said.contains("it is named `faulty`, and so is"), "{said}");
    assert!(!pipeline.path().join("runs").exists());
}

#[test]
fn a_copy_of_a_plugin_is_no_second_plugin() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.so", "b.so"] {
        std::fs::copy(faulty(), dir.path().join(name)).unwrap();
    }
    let listing = list(dir.path());
    assert_eq!((listing.plugins(), listing.failures().len()), (vec!["faulty"], 0), "{:#}", listing.0);
}

/// The processes that loaded the plugin, the host among them.
fn loaded_by(cache: &Path, folder: &Path) -> usize {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = bare(&["plugin", "list", "--plugin-dir"]);
    command.arg(folder).env("LACUNA_CACHE", cache).env("FAULTY_LOG", log.path());
    assert_eq!(list_by(&mut command).plugins(), ["faulty"]);
    let text = std::fs::read_to_string(log.path()).unwrap();
    text.lines().collect::<std::collections::HashSet<_>>().len()
}

#[test]
fn a_library_is_tried_out_once_and_again_when_it_has_changed() {
    let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plugin = dir.path().join("plugin.so");
    std::fs::copy(faulty(), &plugin).unwrap();
    // Three children, and the host.
    assert_eq!(loaded_by(cache.path(), dir.path()), 4);
    assert_eq!(loaded_by(cache.path(), dir.path()), 1);
    std::fs::write(&plugin, [std::fs::read(faulty()).unwrap(), vec![0]].concat()).unwrap();
    assert_eq!(loaded_by(cache.path(), dir.path()), 4);
    assert_eq!(loaded_by(cache.path(), dir.path()), 1);
}

#[test]
fn a_refusal_is_not_remembered() {
    let cache = tempfile::tempdir().unwrap();
    let list = |broken: bool| {
        let mut command = bare(&["plugin", "list", "--plugin-dir"]);
        command.arg(faulty_folder()).env("LACUNA_CACHE", cache.path());
        list_by(command.envs(broken.then_some(("FAULTY_MANIFEST", "1"))))
    };
    let refused = list(true);
    let reason = refused.reason(&library_name("faulty"));
    assert!(reason.starts_with("it panicked while it described itself: panic in a default; of two lines"));
    assert!(reason.contains("faulty.rs:"), "{reason}");
    assert!(!cache.path().join("loaded").exists());
    assert_eq!(list(false).plugins(), ["faulty"]);
    // What passed once and fails now is refused all the same, by the host itself.
    assert_eq!(list(true).reason(&library_name("faulty")), reason);
}
