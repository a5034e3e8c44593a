//! What an author of plugins does: `lacuna plugin new` in an empty folder, build, test, run, and ask why a plugin is used
//! or not. And the tutorial, whose code is that of the templates.
//!
//! `BLESS=1 cargo test` writes the templates' code into the tutorial.

use crate::support::{
    authors_target, bin_dir, build_plugins, cargo_in, fail, lacuna, python_path, root, succeed,
};
use serde_json::Value as Json;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cargo command in an author's folder, without a network.
fn cargo(folder: &Path, command: &str) -> Command {
    let mut command = cargo_in(folder, &[command, "--quiet"], &authors_target());
    command.env("CARGO_NET_OFFLINE", "true");
    command
}

/// Writes, tests and builds a plugin; its library lies where its pipeline looks for it.
fn built(here: &Path, name: &str, kind: &str) -> PathBuf {
    succeed(lacuna(&["plugin", "new", name, "--kind", kind]).current_dir(here).output().unwrap());
    let folder = here.join(name);
    let tested = succeed(cargo(&folder, "test").output().unwrap());
    assert!(tested.contains("test result: ok."), "{tested}");
    succeed(cargo(&folder, "build").output().unwrap());
    let library = format!("{DLL_PREFIX}{}{DLL_SUFFIX}", name.replace('-', "_"));
    let profile = bin_dir().file_name().unwrap().to_owned();
    let target = authors_target().join(profile);
    let place = folder.join("target/release");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(target.join(&library), place.join(&library)).unwrap();
    let checked = succeed(lacuna(&["plugin", "check"]).arg(place.join(&library)).output().unwrap());
    assert!(checked.contains("can rely on") && checked.contains(" 0 failed, 0 advised, "), "{checked}");
    place.join(library)
}

#[test]
fn a_new_plugin_in_python_of_each_kind_is_tested_checked_and_run_in_an_empty_folder() {
    let Some(path) = python_path() else { return };
    for kind in ["metric", "strategy", "model", "simulator"] {
        let here = tempfile::tempdir().unwrap();
        let new = ["plugin", "new", "mine", "--lang", "python", "--kind", kind];
        let said = succeed(lacuna(&new).current_dir(here.path()).output().unwrap());
        assert!(said.contains("lacuna plugin check plugin.py"), "{said}");
        let folder = here.path().join("mine");
        let mut tests = Command::new("python3");
        tests
            .args(["-m", "unittest"])
            .current_dir(&folder)
            .env("PATH", &path)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        succeed(tests.output().unwrap());
        let mut check = lacuna(&["plugin", "check", "plugin.py"]);
        let checked = succeed(check.current_dir(&folder).env("PATH", &path).output().unwrap());
        assert!(checked.contains(" 0 failed, 0 advised, "), "{checked}");
        let mut run = lacuna(&["run", "--quiet", "mine"]);
        let said = succeed(run.current_dir(here.path()).env("PATH", &path).output().unwrap());
        assert!(said.contains("Keystone genes of "), "{kind}: {said}");
    }
}

/// Runs the pipeline that comes with a plugin, as it is; gives what was said and the table of genes.
fn run(here: &Path, name: &str) -> (String, String) {
    let said = succeed(lacuna(&["run", "--quiet", name]).current_dir(here).output().unwrap());
    let screen = here.join(name).join("runs").join(name).join("steps/screen/genes.csv");
    (said, std::fs::read_to_string(screen).unwrap())
}

fn why(arguments: &[&str], code: i32) -> Json {
    let output = lacuna(&["plugin", "why", "--json"]).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_new_metric_is_tested_built_and_run_in_an_empty_folder() {
    let here = tempfile::tempdir().unwrap();
    let library = built(here.path(), "new-metric", "metric");
    let (said, genes) = run(here.path(), "new-metric");
    assert!(said.contains("new-metric/jensen-shannon-bits against predicted-null"), "{said}");
    assert!(genes.contains("all,jensen-shannon-bits,") && genes.contains("all,bray-curtis,"), "{genes}");

    // A second one has a component of the same name: a pipeline has to say which.
    let other = built(here.path(), "other-metric", "metric");
    let [one, two] = [&library, &other].map(|library| library.parent().unwrap().to_str().unwrap());
    let said = why(&["jensen-shannon-bits", "--plugin-dir", one, "--plugin-dir", two], 1);
    assert_eq!(said["verdict"], "ambiguous");
    let sentence = said["sentence"].as_str().unwrap();
    assert!(
        sentence.ends_with("write new-metric/jensen-shannon-bits or other-metric/jensen-shannon-bits"),
        "{sentence}"
    );
    assert_eq!(
        why(&["new-metric/jensen-shannon-bits", "--plugin-dir", one, "--plugin-dir", two], 0)["verdict"],
        "used"
    );
}

#[test]
fn a_new_strategy_is_tested_built_and_run_in_an_empty_folder() {
    let here = tempfile::tempdir().unwrap();
    let library = built(here.path(), "new-strategy", "strategy");
    run(here.path(), "new-strategy");
    let shown = succeed(lacuna(&["plugin", "inspect"]).arg(library).output().unwrap());
    assert!(shown.contains("strategy top-genes") && shown.contains("k = 10"), "{shown}");
}

#[test]
fn a_new_model_is_tested_built_and_run_in_an_empty_folder() {
    let here = tempfile::tempdir().unwrap();
    built(here.path(), "new-model", "model");
    let (said, _) = run(here.path(), "new-model");
    assert!(said.contains("by new-model/shrunken-mean"), "{said}");
}

#[test]
fn a_new_simulator_is_tested_built_and_run_in_an_empty_folder() {
    let here = tempfile::tempdir().unwrap();
    built(here.path(), "new-simulator", "simulator");
    let (said, _) = run(here.path(), "new-simulator");
    let truth = said.split("Keystone genes of truth").nth(1).unwrap();
    assert!(truth.contains("by new-simulator/two-state") && truth.contains("1  switch"), "{said}");
}

#[test]
fn a_metric_is_at_most_30_lines() {
    let file = root().join("host/assets/new/rust/metric/lib.rs");
    let text = std::fs::read_to_string(file).unwrap();
    let (library, _tests) = text.split_once("#[cfg(test)]").unwrap();
    assert!(library.trim_end().lines().count() <= 30, "{library}");
}

#[test]
fn nothing_is_overwritten_and_a_wrong_name_or_sdk_is_refused_with_a_suggestion() {
    let here = tempfile::tempdir().unwrap();
    let new = |arguments: &[&str]| {
        let mut command = lacuna(&["plugin", "new", "--kind", "model"]);
        fail(command.args(arguments).current_dir(here.path()).output().unwrap(), 2)
    };
    std::fs::create_dir(here.path().join("there")).unwrap();
    assert!(new(&["there"]).contains("there is there already: choose another with --output"));
    let said = new(&["My_Model"]);
    assert!(said.contains("found `My_Model`; how about `my-model`?"), "{said}");
    let said = new(&["fine", "--sdk", root().to_str().unwrap()]);
    assert!(said.contains("expected a version") && said.contains("did you mean"), "{said}");
    let left: Vec<_> = std::fs::read_dir(here.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_published_sdk_is_a_version_and_goes_where_output_says() {
    let here = tempfile::tempdir().unwrap();
    let mut command = lacuna(&["plugin", "new", "far", "--kind", "metric", "--sdk", "0.1.0", "-o", "a/b"]);
    let said = succeed(command.current_dir(here.path()).output().unwrap());
    assert!(said.contains("wrote a/b: a metric in src/lib.rs, against lacuna-sdk 0.1.0"), "{said}");
    let manifest = std::fs::read_to_string(here.path().join("a/b/Cargo.toml")).unwrap();
    let manifest: Json = toml_of(&manifest);
    assert_eq!(manifest["dependencies"], serde_json::json!({ "lacuna-sdk": "0.1.0" }));
    assert_eq!(manifest["package"]["name"], "far");
    assert!(!here.path().join("a/b/Cargo.lock").exists());
}

fn toml_of(text: &str) -> Json {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

/// The library of a plugin that is shipped.
fn shipped(name: &str) -> PathBuf {
    build_plugins();
    bin_dir().join(format!("{DLL_PREFIX}lacuna_{name}{DLL_SUFFIX}"))
}

#[test]
fn why_says_from_where_a_plugin_is_used_and_in_which_process() {
    let said = why(&["metrics/spearman"], 0);
    let found = &said["found"][0];
    assert_eq!((&said["verdict"], &found["worker"]), (&"used".into(), &false.into()), "{said:#}");
    assert_eq!(found["components"], serde_json::json!(["metric spearman"]));
    assert_eq!(found["origin"], "beside the executable");

    // A copy that comes before it takes its place, in a worker.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.so");
    std::fs::copy(shipped("metrics"), &copy).unwrap();
    let folder = dir.path().to_str().unwrap();
    let said = why(&["metrics", "--plugin-dir", folder], 0);
    assert_eq!(said["found"][0]["path"], copy.to_str().unwrap());
    assert_eq!(
        (&said["found"][0]["origin"], &said["found"][0]["worker"]),
        (&"--plugin-dir".into(), &true.into())
    );
    let reason = said["unused"][0]["says"].as_str().unwrap();
    assert_eq!(reason, format!("it is a copy of {}", copy.display()));
}

#[test]
fn why_says_what_refused_a_library() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    std::fs::write(dir.path().join(format!("{DLL_PREFIX}my_metric{DLL_SUFFIX}")), "text").unwrap();
    let said = why(&["my-metric", "--plugin-dir", folder], 1);
    assert_eq!(
        (&said["verdict"], said["unused"].as_array().unwrap().len()),
        (&"refused".into(), 1),
        "{said:#}"
    );
    assert!(
        said["unused"][0]["says"].as_str().unwrap().starts_with("it is not a shared library"),
        "{said:#}"
    );

    // Of two plugins with one name neither is used. What they hold is then not known.
    let twin = [std::fs::read(shipped("metrics")).unwrap(), vec![0]].concat();
    std::fs::write(dir.path().join("twin.so"), twin).unwrap();
    let said = why(&["metrics", "--plugin-dir", folder], 1);
    let unused = said["unused"].as_array().unwrap();
    assert_eq!(unused.len(), 2, "{said:#}");
    assert!(unused.iter().all(|u| u["says"].as_str().unwrap().contains("it is named `metrics`, and so is")));
    let said = why(&["pearson", "--plugin-dir", folder], 2);
    assert!(
        said["sentence"].as_str().unwrap().contains("What did not load may hold it: 3 of the files below")
    );
}

#[test]
fn why_says_where_it_looked_for_what_is_not_there() {
    let said = lacuna(&["plugin", "why", "metrics/spearmen"]).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    let said = crate::support::text(&said.stdout);
    let sentence =
        "`metrics/spearmen` is not found; did you mean `metrics/spearman`? The plugin has: bray-curtis,";
    assert!(said.starts_with(sentence), "{said}");
    assert!(said.contains("(beside the executable)\n") && said.contains(": plugin metrics 0."), "{said}");
    assert!(said.contains("lacuna/plugins (user folder) (not there)"), "{said}");
    assert!(why(&["read"], 2)["sentence"].as_str().unwrap().contains("is a step of the host"));
}

#[test]
fn why_says_that_a_library_lies_where_nothing_is_searched_or_that_a_pipeline_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("own.so");
    let other = [std::fs::read(shipped("mlp")).unwrap(), vec![0]].concat();
    std::fs::write(&library, other).unwrap();
    let path = library.to_str().unwrap();
    let said = why(&[path], 1);
    assert_eq!(
        (&said["verdict"], &said["found"][0]["plugin"]),
        (&"outside".into(), &"mlp".into()),
        "{said:#}"
    );
    let text = root().join("README.md");
    assert_eq!(why(&[text.to_str().unwrap()], 1)["unused"][0]["origin"], "this file");

    std::fs::write(dir.path().join("pipeline.toml"), format!("plugins.mlp.path = '{path}'")).unwrap();
    let said = why(&["mlp", "--project", dir.path().to_str().unwrap()], 1);
    let origins: Vec<&Json> = said["unused"].as_array().unwrap().iter().map(|u| &u["origin"]).collect();
    assert_eq!(origins, ["named in the pipeline", "beside the executable"], "{said:#}");
}

/// The tutorial with each file that it names, `<!-- metric/lib.rs -->` before a block of code, put in.
fn filled(tutorial: &str) -> String {
    let mut pieces = tutorial.split("<!-- ");
    let mut out = pieces.next().unwrap().to_string();
    for piece in pieces {
        let (name, rest) = piece.split_once(" -->\n").unwrap();
        let (fence, rest) = rest.split_once('\n').unwrap();
        let (_, after) = rest.split_once("\n```\n").unwrap();
        let file = std::fs::read_to_string(root().join("host/assets/new/rust").join(name)).unwrap();
        out += &format!("<!-- {name} -->\n{fence}\n{file}```\n{after}");
    }
    out
}

#[test]
fn the_tutorials_code_is_that_of_the_templates() {
    let path = root().join("docs/writing-plugins.md");
    let tutorial = std::fs::read_to_string(&path).unwrap();
    let expected = filled(&tutorial);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert_eq!(tutorial, expected, "BLESS=1 cargo test writes it anew");
    }
    let named: Vec<&str> =
        expected.split("<!-- ").skip(1).filter_map(|p| p.split_once(" -->")).map(|p| p.0).collect();
    let all =
        ["metric/lib.rs", "metric/pipeline.toml", "strategy/lib.rs", "model/lib.rs", "simulator/lib.rs"];
    assert_eq!(named, all);
    // Every other block of Rust is run as a test of the SDK's documentation.
    assert_eq!(expected.matches("```rust,ignore\n").count(), 4);
}
