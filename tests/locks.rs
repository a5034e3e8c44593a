//! `lacuna lock`, `--locked`, and which libraries are trusted.

use crate::boundary::{bare, faulty, library_name, put};
use crate::support::{fail, lacuna, project, root, succeed, text};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A plugin of a third party, a file and a folder that are read.
const PIPELINE: &str = r#"
format = 1
name = "locked"
seed = 3

[steps.cells]
use = "read"
path = "data/cells.csv"

[steps.folder]
use = "read"
path = "data/tenx"

[steps.world]
use = "faulty/world"

[steps.truth]
use = "screen"
model = "world.truth"
cells = "world"
knockouts = { use = "faulty/picks", with = { how = "panic" } }
impact = "faulty/distance"
"#;

const CELLS: &str = "cell,gene-a,gene-b\none,1,2\ntwo,0,3\n";

/// The pipeline, its data, and the plugin in the folder `plugins` beside it.
fn locked_project() -> TempDir {
    let project = project(PIPELINE);
    let (data, plugins) = (project.path().join("data"), project.path().join("plugins"));
    std::fs::create_dir_all(data.join("tenx")).unwrap();
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(data.join("cells.csv"), CELLS).unwrap();
    for file in std::fs::read_dir(root().join("tests/fixtures/formats/mtx-v3-gz")).unwrap().flatten() {
        std::fs::copy(file.path(), data.join("tenx").join(file.file_name())).unwrap();
    }
    std::fs::copy(faulty(), library(&project)).unwrap();
    project
}

fn library(project: &TempDir) -> PathBuf {
    project.path().join("plugins").join(library_name("faulty"))
}

fn lock_file(project: &TempDir) -> PathBuf {
    project.path().join("pipeline.lock")
}

fn given(project: &TempDir, words: &[&str], more: &[&str]) -> Output {
    bare(words).arg(project.path()).args(more).output().unwrap()
}

fn lock(project: &TempDir) -> String {
    succeed(given(project, &["lock"], &[]))
}

fn change(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

/// The lines that say what differs.
fn differences(said: &str) -> Vec<&str> {
    let (_, rest) = said.split_once(" is not what ").unwrap_or_else(|| panic!("{said}"));
    rest.lines().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

/// What `run --locked` says differs; it runs nothing.
fn refused(project: &TempDir, more: &[&str]) -> String {
    let said = fail(given(project, &["run", "--locked"], more), 2);
    assert!(!project.path().join("runs").exists(), "{said}");
    assert!(said.contains("`lacuna lock ") && said.ends_with("locks it as it is now\n"), "{said}");
    said
}

#[test]
fn what_was_locked_runs_and_is_the_same_bytes_each_time() {
    let project = locked_project();
    let said = lock(&project);
    assert!(said.contains("pipeline.lock: 1 plugin, 4 input files, 4 steps\n"), "{said}");
    assert!(said.contains("plugin `faulty` (") && said.contains("is trusted from now on"), "{said}");
    let first = std::fs::read(lock_file(&project)).unwrap();
    // It is trusted by now, which is not said again.
    assert!(!lock(&project).contains("trusted"));
    assert!(std::fs::read(lock_file(&project)).unwrap() == first);
    assert!(!text(&first).contains(project.path().to_str().unwrap()), "{}", text(&first));
    let read: toml::Table = text(&first).parse().unwrap();
    let files: Vec<&String> = read["files"].as_table().unwrap().keys().collect();
    let tenx = ["barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz"].map(|f| format!("data/tenx/{f}"));
    assert_eq!(files[0], "data/cells.csv");
    assert!(files[1..].iter().copied().eq(&tenx), "{files:?}");
    assert!(succeed(given(&project, &["validate", "--locked"], &[])).contains("ok, 4 steps"));
    succeed(given(&project, &["run", "--locked"], &[]));

    // The lock says what run.json says.
    let run = std::fs::read(project.path().join("runs/locked/run.json")).unwrap();
    let run: Json = serde_json::from_slice(&run).unwrap();
    assert_eq!(read["plugins"]["faulty"]["sha256"].as_str(), run["plugins"][0]["sha256"].as_str());
    for step in ["cells", "folder", "world", "truth"] {
        let resolved = &run["pipeline"][step];
        assert_eq!(read["steps"][step]["use"].as_str(), resolved["use"].as_str());
        assert_eq!(read["steps"][step]["seed"].as_str().unwrap(), resolved["seed"].to_string());
    }
}

#[test]
fn every_difference_of_a_pipeline_is_told() {
    let project = locked_project();
    lock(&project);
    let set = ["--set", "steps.truth.knockouts.with.how=\"abort\"", "--set", "steps.world.seed=5"];
    let said = refused(&project, &set);
    let lines = differences(&said);
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!(lines[0], "step `truth`: `knockouts.with.how` locked \"panic\", found \"abort\"");
    assert!(lines[1].starts_with("step `world`: `seed` locked \"") && lines[1].ends_with("found \"5\""));
    // What is locked with options is what runs with them.
    succeed(given(&project, &["lock"], &set));
    succeed(given(&project, &["validate", "--locked"], &set));
    assert_eq!(differences(&refused(&project, &[])).len(), 2);

    lock(&project);
    let pipeline = project.path().join("pipeline.toml");
    change(&pipeline, "[steps.cells]", "[steps.table]");
    change(&pipeline, "seed = 3", "seed = 4");
    let said = refused(&project, &[]);
    let lines = differences(&said);
    let seeds = lines.iter().filter(|l| l.contains("`seed` locked")).count();
    assert_eq!((lines.len(), seeds), (5, 3), "{said}");
    assert!(lines.contains(&"step `cells`: locked, but not found"), "{said}");
    assert!(lines.contains(&"step `table`: found, but not locked"), "{said}");
}

#[test]
fn every_difference_of_files_is_told() {
    let project = locked_project();
    lock(&project);
    std::fs::write(project.path().join("data/cells.csv"), CELLS.replace('2', "4")).unwrap();
    std::fs::write(project.path().join("data/tenx/more.txt"), "more").unwrap();
    let said = refused(&project, &[]);
    let lines = differences(&said);
    assert!(lines[0].starts_with("input file `data/cells.csv`: locked blake3 "), "{said}");
    assert_eq!(lines[1..], ["input file `data/tenx/more.txt`: found, but not locked"], "{said}");
    lock(&project);
    std::fs::remove_file(project.path().join("data/tenx/more.txt")).unwrap();
    assert_eq!(
        differences(&refused(&project, &[])),
        ["input file `data/tenx/more.txt`: locked, but not found"]
    );
}

#[test]
fn every_difference_of_plugins_and_of_lacuna_is_told() {
    let project = locked_project();
    lock(&project);
    // The same plugin in other bytes.
    std::fs::write(library(&project), [std::fs::read(faulty()).unwrap(), vec![0]].concat()).unwrap();
    let said = refused(&project, &[]);
    let lines = differences(&said);
    assert!(lines.len() == 1 && lines[0].starts_with("plugin `faulty`: locked sha256 "), "{said}");
    assert!(lines[0].contains("…, found "), "{said}");

    lock(&project);
    let file = lock_file(&project);
    change(&file, &format!("lacuna = \"{}\"", env!("CARGO_PKG_VERSION")), "lacuna = \"0.0.9\"");
    change(&file, "border = \"", "border = \"9.");
    change(&file, "platform = \"", "platform = \"far ");
    change(&file, "\nversion = \"", "\nversion = \"9.");
    change(&file, "\nabi = \"", "\nabi = \"9.");
    change(
        &file,
        "[plugins.faulty]",
        "[plugins.gone]\nversion = \"1\"\nabi = \"1\"\nsha256 = \"1\"\n\n[plugins.faulty]",
    );
    let output = given(&project, &["validate", "--locked"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stdout);
    let begins = [
        "Lacuna: locked 0.0.9, found 0.",
        "border: locked 9.1.",
        "platform: locked far ",
        "plugin `faulty`: locked version 9.0.",
        "plugin `faulty`: locked border 9.1.",
        "plugin `gone`: locked, but not found",
    ];
    let lines = differences(&said);
    assert_eq!(lines.len(), begins.len(), "{said}");
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line} {begin}");
    }
    let json: Json =
        serde_json::from_slice(&given(&project, &["validate", "--locked", "--json"], &[]).stdout).unwrap();
    let told: Vec<&str> = json.as_array().unwrap().iter().filter_map(|p| p["message"].as_str()).collect();
    assert!(lines.iter().all(|line| told.contains(line)), "{json:#}");
}

#[test]
fn plugins_that_are_used_no_more_or_now_are_told() {
    let project = locked_project();
    let command = |words: &[&str]| lacuna(words).arg(project.path()).output().unwrap();
    succeed(command(&["lock"]));
    change(&project.path().join("pipeline.toml"), "\"faulty/distance\"", "\"spearman\"");
    let said = fail(command(&["run", "--locked"]), 2);
    assert!(said.contains("  plugin `metrics`: found, but not locked\n"), "{said}");
    succeed(command(&["lock"]));
    change(&project.path().join("pipeline.toml"), "\"spearman\"", "\"faulty/distance\"");
    let said = fail(command(&["run", "--locked"]), 2);
    assert!(said.contains("  plugin `metrics`: locked, but not found\n"), "{said}");
}

#[test]
fn without_a_lock_file_or_with_a_broken_one_nothing_locked_runs() {
    let project = locked_project();
    let said = fail(given(&project, &["run", "--locked"], &[]), 2);
    let file = lock_file(&project);
    let (file, folder) = (file.display(), project.path().display());
    assert!(
        said.contains(&format!("error: there is no lock file {file}: `lacuna lock {folder}` makes it\n"))
    );
    for (broken, words) in [("format = 2", "found `format = 2`"), ("no toml", "is no lock file")] {
        std::fs::write(lock_file(&project), broken).unwrap();
        let said = fail(given(&project, &["run", "--locked"], &[]), 2);
        assert!(said.contains("error: ") && said.contains(words), "{said}");
        assert!(!project.path().join("runs").exists());
        // Who does not ask for it runs without, and is told.
        let said = text(&given(&project, &["validate"], &[]).stderr);
        assert!(said.contains("it is as if it were not there"), "{said}");
    }
}

/// Whether a command loads the plugin in its own process rather than in others alone.
fn loads_it_here(command: &mut Command) -> bool {
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = command.env("FAULTY_LOG", log.path()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let process = child.id().to_string();
    succeed(child.wait_with_output().unwrap());
    let processes = std::fs::read_to_string(log.path()).unwrap();
    assert!(!processes.is_empty());
    processes.lines().any(|line| line == process)
}

#[test]
fn a_library_that_the_lock_file_names_runs_in_lacunas_process() {
    let project = locked_project();
    let here = || loads_it_here(bare(&["validate"]).arg(project.path()));
    assert!(!here());
    lock(&project);
    assert!(here());
    let apart = ["--set", "steps.world.isolate=true", "--set", "steps.truth.isolate=true"];
    succeed(given(&project, &["run", "--locked"], &apart));
    // In other bytes it is a library like any other again.
    std::fs::write(library(&project), [std::fs::read(faulty()).unwrap(), vec![0]].concat()).unwrap();
    assert!(!here());
}

#[test]
fn what_is_opened_is_a_copy_and_the_file_itself_where_none_can_be_made() {
    let (project, cache) = (locked_project(), tempfile::tempdir().unwrap());
    lock(&project);
    let run = |cache: &Path| bare(&["validate"]).arg(project.path()).env("LACUNA_CACHE", cache).output();
    succeed(run(cache.path()).unwrap());
    let copies = || -> Vec<PathBuf> {
        std::fs::read_dir(cache.path().join("plugins")).unwrap().map(|e| e.unwrap().path()).collect()
    };
    assert_eq!(copies().len(), 1);
    assert!(std::fs::read(&copies()[0]).unwrap() == std::fs::read(faulty()).unwrap());
    std::fs::write(&copies()[0], "somebody else's").unwrap();
    succeed(run(cache.path()).unwrap());
    assert!(std::fs::read(&copies()[0]).unwrap() == std::fs::read(faulty()).unwrap());
    succeed(run(Path::new("/dev/null/no-cache")).unwrap());
}

#[cfg(unix)]
mod owners {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// What is said of the library that does not load.
    fn not_loaded(project: &TempDir) -> String {
        let output = given(project, &["validate"], &[]);
        assert_eq!(output.status.code(), Some(2));
        text(&output.stdout)
    }

    #[test]
    fn a_library_that_anybody_can_change_is_refused_even_if_it_is_locked() {
        let project = locked_project();
        let (file, folder) = (library(&project), project.path().join("plugins"));
        for locked in [false, true] {
            if locked {
                lock(&project);
            }
            set_mode(&file, 0o646);
            let said = not_loaded(&project);
            let path = file.display();
            let reason =
                format!("{path} did not load: any user can change it: `chmod o-w '{path}'` mends that");
            assert!(said.contains(&reason), "{said}");
            set_mode(&file, 0o755);
            set_mode(&folder, 0o777);
            let said = not_loaded(&project);
            let path = folder.display();
            assert!(said.contains(&format!("any user can change its folder {path}: `chmod o-w '{path}'`")));
            // In a folder such as /tmp only a file's owner can replace it.
            set_mode(&folder, 0o1777);
            succeed(given(&project, &["validate"], &[]));
            set_mode(&folder, 0o755);
            succeed(given(&project, &["validate"], &[]));
        }
    }

    #[test]
    fn where_a_link_leads_is_looked_at_too() {
        let project = locked_project();
        let elsewhere = project.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::rename(library(&project), elsewhere.join("own.so")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("own.so"), library(&project)).unwrap();
        succeed(given(&project, &["validate"], &[]));
        set_mode(&elsewhere, 0o777);
        assert!(not_loaded(&project).contains("any user can change its folder"));
    }

    #[test]
    fn a_library_of_another_user_is_trusted_by_its_hash_alone() {
        const SOMEBODY: u32 = 54321;
        let project = locked_project();
        if project.path().metadata().unwrap().uid() != 0 {
            println!("skipped: only root can give files away");
            return;
        }
        let (file, folder) = (library(&project), project.path().join("plugins"));
        chown(&file, Some(SOMEBODY), None).unwrap();
        let said = not_loaded(&project);
        assert!(
            said.contains("it belongs to user 54321, neither to you nor to root: `lacuna lock"),
            "{said}"
        );
        chown(&folder, Some(SOMEBODY), None).unwrap();
        lock(&project);
        succeed(given(&project, &["run", "--locked"], &[]));
        std::fs::write(&file, [std::fs::read(faulty()).unwrap(), vec![0]].concat()).unwrap();
        assert!(not_loaded(&project).contains("it belongs to user 54321"));
        chown(&file, Some(0), None).unwrap();
        let said = not_loaded(&project);
        assert!(said.contains(&format!("its folder {} belongs to user 54321", folder.display())), "{said}");
    }

    #[test]
    fn what_whoever_installed_lacuna_put_beside_it_is_trusted_unless_anybody_can_change_it() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("lacuna");
        std::fs::copy(env!("CARGO_BIN_EXE_lacuna"), &binary).unwrap();
        let library = dir.path().join(library_name("faulty"));
        put(faulty(), &library);
        if dir.path().metadata().unwrap().uid() == 0 {
            // Not the library, which is a link to that of other tests.
            std::fs::remove_file(&library).unwrap();
            std::fs::copy(faulty(), &library).unwrap();
            for path in [dir.path(), &binary, &library] {
                chown(path, Some(54321), None).unwrap();
            }
        }
        let list = || {
            let mut command = Command::new(&binary);
            command.args(["plugin", "list"]).env("XDG_DATA_HOME", dir.path());
            command.env("LACUNA_CACHE", dir.path().join("cache")).output()
        };
        assert!(succeed(list().unwrap()).contains("faulty 0."));
        set_mode(dir.path(), 0o777);
        assert!(text(&list().unwrap().stdout).contains("any user can change its folder"));
    }
}
