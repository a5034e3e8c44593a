//! Runs as such: the same bytes however they come about, and nothing lost when they are disturbed.

use crate::support::{fail, lacuna, project, succeed, text};
use arrow_array::DictionaryArray;
use arrow_array::types::Int8Type;
use lacuna::data::{Cells, Csr, Frame};
use lacuna::formats::h5ad;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Every kind of step, small.
pub const WHOLE: &str = r#"
format = 1
name = "whole"
seed = 5

[steps.world]
use = "grn"
with = { cells = 60, genes = 24, regulators = 12, absent_genes = 4 }

[steps.chosen]
use = "prepare"
from = "world"
genes = { min_cells = 0.5 }

[steps.parts]
use = "split"
from = "chosen"

[steps.model]
use = "mlp"
train = "parts.train"
validation = "parts.validation"
with = { steps = 150 }

[steps.narrow]
use = "mlp"
train = "parts.train"
validation = "parts.validation"
with = { steps = 40, rank = 4, f16 = true, validate_every = 3 }

[steps.deep]
use = "mlp"
train = "parts.train"
validation = "parts.validation"
with = { steps = 40, hidden = [18, 7] }

[steps.choice]
use = "best"
models = ["sparse", { use = "mlp", with = { steps = 60, weight_decay = 0.3, schedule = "cosine", patience = 30 }, name = "decay" }]
train = "parts.train"
validation = "parts.validation"

[steps.tuned]
use = "mlp"
from = "model"
train = "parts.validation"
validation = "parts.train"
ensemble = 2
with = { steps = 60, learning_rate = 0.002, checkpoint_seconds = 0.01 }

[steps.mapping]
use = "evaluate"
models = ["model", "narrow", "deep", "choice", "tuned"]
cells = "parts.test"

[steps.screen]
use = "screen"
model = "model"
cells = "chosen"
knockouts = "each-expressed-gene"
impact = ["bray-curtis", "keystoneness", "spearman"]

[steps.others]
use = "screen"
model = ["narrow", "deep", "choice"]
cells = "chosen"
knockouts = "each-expressed-gene"
impact = ["bray-curtis", "euclidean"]

[steps.truth]
use = "screen"
model = "world.truth"
cells = "chosen"
knockouts = "each-expressed-gene"
impact = ["bray-curtis", "keystoneness", "spearman"]

[steps.pairs]
use = "screen"
model = "model"
cells = "chosen"
knockouts = { use = "pairs", with = { sample = 300 } }
impact = { use = "bray-curtis", against = "observed-null" }
anchor = { e = 0.1 }

[steps.impacts]
use = "evaluate"
screens = ["screen"]
truth = "truth"
strata = ["regulator"]

[steps.report]
use = "report"
from = ["screen", "mapping", "impacts"]
"#;

/// Two parts of impacts: 1.2 million pairs.
pub const TWO_PARTS: &str = r#"
format = 1
name = "two-parts"
seed = 5

[steps.world]
use = "grn"
with = { cells = 700, genes = 70, regulators = 20, absent_genes = 10 }

[steps.model]
use = "masked-mean"
train = "world"

[steps.pairs]
use = "screen"
model = "model"
cells = "world"
knockouts = "pairs"
impact = "bray-curtis"
effects = 0
"#;

/// Trains so long that it can be disturbed.
const LONG: &str = r#"
format = 1
name = "long"

[steps.world]
use = "grn"
with = { cells = 60, genes = 24, regulators = 12, absent_genes = 4 }

[steps.model]
use = "mlp"
train = "world"
with = { steps = 100000000 }

[steps.screen]
use = "screen"
model = "model"
cells = "world"
knockouts = "each-expressed-gene"
impact = "bray-curtis"
"#;

pub fn run_into(project: &Path, dir: &Path, more: &[&str]) {
    succeed(lacuna(&["run", "--quiet"]).arg(project).arg("--run-dir").arg(dir).args(more).output().unwrap());
}

/// All files below a folder; of run.json without what may differ.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            let mut bytes = std::fs::read(&path).unwrap();
            if name == "run.json" {
                let mut run: Json = serde_json::from_slice(&bytes).unwrap();
                let run = run.as_object_mut().unwrap();
                assert!(run.remove("timings").is_some() && run.remove("memory").is_some());
                bytes = serde_json::to_vec(run).unwrap();
            }
            found.insert(name, bytes);
        }
    }
    found
}

pub fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (contents(one), contents(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{name} differs");
    }
    assert!(one.len() > 5, "{:?}", one.keys());
}

/// The lines `✓ name` or `= name` of a run: whether each step was reused.
fn reused(stderr: &str) -> BTreeMap<String, bool> {
    let mark = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["✓", name, ..] => Some((name.to_string(), false)),
        ["=", name, ..] => Some((name.to_string(), true)),
        _ => None,
    };
    stderr.lines().filter_map(mark).collect()
}

#[test]
fn one_and_two_threads_give_the_same_bytes() {
    let (project, one, two) = (project(WHOLE), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_into(project.path(), one.path(), &["--threads", "1"]);
    run_into(project.path(), two.path(), &["--threads", "2"]);
    assert_same(one.path(), two.path());
}

#[test]
fn every_code_path_gives_the_same_bytes() {
    let (project, best) = (project(WHOLE), tempfile::tempdir().unwrap());
    run_into(project.path(), best.path(), &[]);
    for path in ["portable", "avx2", "avx512"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = lacuna(&["run", "--quiet"]);
        command.arg(project.path()).arg("--run-dir").arg(dir.path()).env("LACUNA_SIMD", path);
        succeed(command.output().unwrap());
        assert_same(best.path(), dir.path());
    }
}

#[test]
fn another_seed_gives_other_results() {
    let (project, one, two) = (project(WHOLE), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_into(project.path(), one.path(), &[]);
    run_into(project.path(), two.path(), &["--seed", "6"]);
    let genes = |dir: &Path| std::fs::read(dir.join("steps/screen/genes.csv")).unwrap();
    assert_ne!(genes(one.path()), genes(two.path()));
}

#[test]
fn killed_at_any_moment_and_run_again_gives_the_bytes_of_an_undisturbed_run() {
    for pipeline in [WHOLE, TWO_PARTS] {
        let (project, calm, killed) =
            (project(pipeline), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run_into(project.path(), calm.path(), &[]);
        let mut moment = 20;
        loop {
            let mut child = lacuna(&["run", "--quiet"])
                .arg(project.path())
                .arg("--run-dir")
                .arg(killed.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(moment));
            if child.try_wait().unwrap().is_some_and(|status| status.success()) {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            // Ever later, so that each stage is met and the run ends at last.
            moment += 60 + moment / 4;
        }
        assert_same(calm.path(), killed.path());
    }
}

#[test]
fn a_killed_screen_keeps_its_finished_parts() {
    let (project, dir) = (project(TWO_PARTS), tempfile::tempdir().unwrap());
    let parts = dir.path().join("steps/pairs.part/impacts");
    let first = parts.join("part-000000.parquet");
    let mut child =
        lacuna(&["run", "--quiet"]).arg(project.path()).arg("--run-dir").arg(dir.path()).spawn().unwrap();
    wait_for("the first part", || first.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    if !first.exists() {
        return; // It was faster than the kill.
    }
    let written = std::fs::metadata(&first).unwrap().modified().unwrap();
    run_into(project.path(), dir.path(), &[]);
    let finished = dir.path().join("steps/pairs/impacts/part-000000.parquet");
    assert_eq!(std::fs::metadata(finished).unwrap().modified().unwrap(), written);
}

#[test]
fn a_killed_training_goes_on_to_the_same_bytes() {
    for isolate in ["", "isolate = true"] {
        let pipeline = LONG.replace(
            "with = { steps = 100000000 }",
            &format!("with = {{ steps = 20000, checkpoint_seconds = 0.01 }}\n{isolate}"),
        );
        let (project, calm, killed) =
            (project(&pipeline), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run_into(project.path(), calm.path(), &[]);
        let scratch = killed.path().join("steps/model.part/.scratch");
        let kept = || {
            let files = std::fs::read_dir(&scratch).into_iter().flatten().flatten();
            files.map(|f| f.path()).any(|path| path.extension().is_some_and(|e| e == "training"))
        };
        let mut child = lacuna(&["run", "--quiet"])
            .arg(project.path())
            .arg("--run-dir")
            .arg(killed.path())
            .spawn()
            .unwrap();
        wait_for("a checkpoint", kept);
        child.kill().unwrap();
        child.wait().unwrap();
        let output =
            lacuna(&["run", "-v"]).arg(project.path()).arg("--run-dir").arg(killed.path()).output().unwrap();
        let said = succeed(output.clone()) + &text(&output.stderr);
        assert!(said.contains("goes on where it was interrupted"), "{said}");
        assert_same(calm.path(), killed.path());
    }
}

#[test]
fn unchanged_steps_are_not_run_again() {
    let (project, dir) = (project(WHOLE), tempfile::tempdir().unwrap());
    let run = |more: &[&str]| {
        let output = lacuna(&["run"])
            .arg(project.path())
            .arg("--run-dir")
            .arg(dir.path())
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        reused(&text(&output.stderr))
    };
    assert!(run(&[]).values().all(|r| !r));
    assert!(run(&["--threads", "1"]).values().all(|r| *r));
    // Another impact of one screen: that screen, its evaluation and the report, nothing else.
    let changed = run(&["--set", "steps.screen.effects=3"]);
    let anew: Vec<&str> = changed.iter().filter(|(_, r)| !**r).map(|(name, _)| name.as_str()).collect();
    assert_eq!(anew, ["impacts", "report", "screen"]);
    // Another seed of the split changes the model and what follows from it, not the world.
    let changed = run(&["--set", "steps.parts.seed=3"]);
    assert!(
        changed["world"] && changed["truth"] && !changed["parts"] && !changed["model"] && !changed["mapping"]
    );
}

#[test]
fn a_second_run_in_the_same_folder_is_told_so() {
    let (project, dir) = (project(LONG), tempfile::tempdir().unwrap());
    let mut first = spawn_until(&mut run_of(project.path(), dir.path()), "✓ world");
    let said = fail(run_of(project.path(), dir.path()).output().unwrap(), 1);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(said.contains("another run is at work in"), "{said}");
    assert!(said.contains("--run-dir"), "{said}");
}

#[test]
fn ctrl_c_ends_a_run_with_130_and_keeps_finished_steps() {
    let (project, dir) = (project(LONG), tempfile::tempdir().unwrap());
    let child = spawn_until(&mut run_of(project.path(), dir.path()), "✓ world");
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let output =
        run_of(project.path(), dir.path()).args(["--set", "steps.model.with.steps=5"]).output().unwrap();
    assert!(output.status.success());
    assert!(reused(&text(&output.stderr))["world"]);
}

/// A limit on the size of a file stands in for a full disk: writes fail in the same way.
#[test]
fn a_full_disk_is_a_clear_error_and_finished_steps_are_kept() {
    let (project, dir) = (project(TWO_PARTS), tempfile::tempdir().unwrap());
    let command = run_of(project.path(), dir.path());
    let line: Vec<&str> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|a| a.to_str().unwrap())
        .collect();
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 380; exec \"$@\"", "limited"]).args(line);
    limited.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let said = fail(limited.output().unwrap(), 1);
    assert!(said.contains("step `pairs`") && said.contains("cannot write"), "{said}");
    assert!(said.contains("finished steps are kept"), "{said}");
    let output = run_of(project.path(), dir.path()).output().unwrap();
    assert!(output.status.success());
    let reused = reused(&text(&output.stderr));
    assert!(reused["world"] && reused["model"] && !reused["pairs"], "{reused:?}");
}

#[test]
fn the_fused_screen_and_the_generic_one_agree() {
    let (project, fused, generic) =
        (project(WHOLE), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_into(project.path(), fused.path(), &[]);
    let mut command = lacuna(&["run", "--quiet"]);
    command.arg(project.path()).arg("--run-dir").arg(generic.path()).env("LACUNA_GENERIC_SCREEN", "1");
    succeed(command.output().unwrap());
    let read = |dir: &Path, screen: &str| {
        let mut reader = csv::Reader::from_path(dir.join("steps").join(screen).join("genes.csv")).unwrap();
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        // Group, metric, gene and the mean impact; ranks may swap where impacts are equal.
        let mut rows: Vec<_> = records
            .iter()
            .map(|r| ((r[0].to_string(), r[1].to_string(), r[2].to_string()), r[7].parse::<f64>().unwrap()))
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    };
    for screen in ["screen", "others/model=narrow", "others/model=deep"] {
        let (fused, generic) = (read(fused.path(), screen), read(generic.path(), screen));
        assert!(fused.len() > 30);
        for (a, b) in fused.iter().zip(&generic) {
            assert_eq!(a.0, b.0);
            assert!((a.1 - b.1).abs() < 1e-6, "{screen}: {a:?} {b:?}");
        }
    }
}

#[test]
fn by_runs_a_step_for_each_group_and_what_follows_too() {
    let project = project(
        r#"
format = 1
name = "types"
[steps.cells]
use = "read"
path = "cells.h5ad"
[steps.model]
use = "masked-mean"
by = "cell_type"
train = "cells"
[steps.screen]
use = "screen"
by = "cell_type"
model = "model"
cells = "cells"
knockouts = "each-expressed-gene"
impact = { use = "bray-curtis", against = "predicted" }
[steps.mapping]
use = "evaluate"
by = "cell_type"
models = ["model"]
cells = "cells"
[steps.report]
use = "report"
from = ["screen", "mapping"]
"#,
    );
    let values = (0..40).map(|i| (i % 7 + 1) as f32).collect();
    let x = Csr::from_parts(values, (0..40).map(|i| i % 4).collect(), (0..=10).map(|i| i * 4).collect(), 4)
        .unwrap();
    let names = |what: &str, n: usize| (0..n).map(|i| format!("{what}{i}")).collect();
    let mut obs = Frame::of_names(names("c", 10));
    let types: DictionaryArray<Int8Type> =
        (0..10).map(|i| Some(if i < 6 { "B cell" } else { "T/NK" })).collect();
    obs.push("cell_type", Arc::new(types));
    let cells = Cells::new(x, obs, Frame::of_names(names("g", 4)));
    h5ad::write(&project.path().join("cells.h5ad"), &cells, &[]).unwrap();
    let output = lacuna(&["run"]).arg(project.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let steps = project.path().join("runs/types/steps");
    for (folder, cells) in [("cell_type=B cell", 6), ("cell_type=T%2FNK", 4)] {
        let screen = std::fs::read(steps.join("screen").join(folder).join("screen.json")).unwrap();
        let screen: Json = serde_json::from_slice(&screen).unwrap();
        assert_eq!((&screen["cells"], &screen["knockouts"]), (&cells.into(), &(4 * cells).into()));
        assert!(steps.join("model").join(folder).join("model.safetensors").exists());
    }
    let report = std::fs::read_to_string(project.path().join("runs/types/report.html")).unwrap();
    assert!(report.contains("screen [B cell]") && report.contains("screen [T/NK]"));
    // A model of one type meets the cells of its type alone.
    let scores = std::fs::read_to_string(steps.join("mapping/cell_type=B cell/scores.csv")).unwrap();
    assert!(scores.contains("model [B cell]") && !scores.contains("T/NK"), "{scores}");
}

pub fn run_of(project: &Path, dir: &Path) -> Command {
    let mut command = lacuna(&["run"]);
    command.arg(project).arg("--run-dir").arg(dir);
    command
}

/// Starts a run and returns when it has printed a line.
pub fn spawn_until(command: &mut Command, line: &str) -> Child {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = vec![];
    while let Some(Ok(text)) = lines.next() {
        if text.starts_with(line) {
            // The rest is read away, so that the child never waits for its reader.
            std::thread::spawn(move || lines.for_each(drop));
            return child;
        }
        said.push(text);
    }
    let ended = child.wait().unwrap();
    panic!("the run ended ({ended}) without `{line}`: {said:?}");
}

pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited for {what} in vain");
}
