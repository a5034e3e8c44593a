//! Plugins that panic, fail or answer wrongly while a pipeline runs.

use super::{assert_sentence, bare, faulty_folder};
use crate::support::{fail, project, succeed, text};
use serde_json::Value as Json;
use std::process::Output;
use tempfile::TempDir;

/// All four kinds of components; `@…` stands where each one's parameters go.
const PIPELINE: &str = r#"
format = 1
name = "faulty"

[steps.world]
use = "faulty/world"
with = { @world }

[steps.model]
use = "faulty/copycat"
train = "world"
with = { @copycat }

[steps.screen]
use = "screen"
model = "model"
cells = "world"
knockouts = { use = "faulty/picks", with = { @picks } }
impact = { use = "faulty/distance", with = { @distance } }

[steps.truth]
use = "screen"
model = "world.truth"
cells = "world"
knockouts = "faulty/picks"
impact = "faulty/distance"
"#;

/// The pipeline with parameters for some of the components.
fn with(parameters: &[(&str, &str)]) -> TempDir {
    let mut pipeline = PIPELINE.to_string();
    for component in ["world", "copycat", "picks", "distance"] {
        let given = parameters.iter().find(|(name, _)| *name == component);
        pipeline = pipeline.replace(&format!("@{component}"), given.map_or("", |(_, with)| with));
    }
    project(&pipeline)
}

/// The pipeline in which one component fails somewhere, somehow.
fn failing(component: &str, fault: &str, how: &str) -> TempDir {
    with(&[(component, &format!("fault = \"{fault}\", how = \"{how}\""))])
}

fn run(project: &TempDir, more: &[&str]) -> Output {
    let mut command = bare(&["run", "--plugin-dir"]);
    command.arg(faulty_folder()).arg(project.path()).args(more).output().unwrap()
}

/// Arguments by which all steps run their plugins in the host, and those by which they run them as is usual for a
/// library that is not shipped with it: in a worker.
const HOMES: [&[&str]; 2] = [
    &[
        "--set",
        "steps.world.isolate=false",
        "--set",
        "steps.model.isolate=false",
        "--set",
        "steps.screen.isolate=false",
        "--set",
        "steps.truth.isolate=false",
    ],
    &[],
];

/// Where a text stands in the plugin's source, as a panic says it.
fn place_of(words: &str) -> String {
    let source = include_str!("../plugins/faulty.rs");
    let lines: Vec<usize> =
        (1..).zip(source.lines()).filter(|(_, l)| l.contains(words)).map(|(n, _)| n).collect();
    assert_eq!(lines.len(), 1, "{words}");
    format!("tests/plugins/faulty.rs:{}:", lines[0])
}

/// The one sentence of a run that failed in a step, and how it is marked which earlier steps were kept: nothing
/// else is said.
fn failed_in(step: &str, output: Output, kept: &[&str]) -> String {
    let said = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    let lines: Vec<String> = fail(output, 1).lines().map(String::from).collect();
    let Some((last, rest)) = lines.split_last() else { panic!("nothing is said") };
    let Some((error, earlier)) = rest.split_last() else { panic!("one line only: {said}") };
    assert!(last.starts_with("finished steps are kept in "), "{said}");
    let start: Vec<String> =
        earlier.iter().map(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(start, kept, "{said}");
    assert!(error.starts_with(&format!("error: step `{step}` (")), "{said}");
    assert_sentence(error);
    let (_, sentence) = error.split_once("): ").unwrap();
    sentence.to_string()
}

const MARKS: [(&str, &str); 2] = [("✓ world", "= world"), ("✓ model", "= model")];

#[test]
fn without_a_fault_the_pipeline_runs() {
    let project = with(&[]);
    succeed(run(&project, &[]));
    let said = text(&run(&project, &[]).stderr);
    assert_eq!(said.lines().filter(|l| l.starts_with("= ")).count(), 4, "{said}");
}

/// Which component fails where; the step that this ends, its component as the error names it, and how many steps are
/// finished by then.
const ENTRIES: [(&str, &str, &str, &str, usize); 10] = [
    ("world", "simulate", "world", "faulty/world", 0),
    ("world", "save", "world", "faulty/world", 0),
    ("copycat", "fit", "model", "faulty/copycat", 1),
    ("copycat", "save", "model", "faulty/copycat", 1),
    ("copycat", "tables", "model", "faulty/copycat", 1),
    ("copycat", "predict", "screen", "faulty/copycat", 2),
    ("copycat", "screen", "screen", "faulty/copycat", 2),
    ("picks", "propose", "screen", "faulty/picks", 2),
    ("distance", "score", "screen", "faulty/distance", 2),
    ("world", "predict", "truth", "faulty/world", 3),
];

#[test]
fn a_panic_in_any_entry_ends_the_step_in_one_sentence_and_keeps_the_earlier_steps() {
    let place = place_of("panic!(\"a panic in {here:?}\")");
    let cases = ENTRIES.iter().flat_map(|entry| HOMES.map(|home| (*entry, home)));
    for ((component, fault, step, named, finished), home) in cases {
        let project = failing(component, fault, "panic");
        let first = ["✓ world", "✓ model", "✓ screen"];
        let again = ["= world", "= model", "= screen"];
        for kept in [&first[..finished], &again[..finished]] {
            let sentence = failed_in(step, run(&project, home), kept);
            let start = format!("plugin {named} panicked at ");
            assert!(sentence.starts_with(&start) && sentence.contains(&place), "{fault}: {sentence}");
            let mut word = fault.to_string();
            word[..1].make_ascii_uppercase();
            assert!(sentence.ends_with(&format!(": a panic in {word}")), "{fault}: {sentence}");
        }
    }
}

#[test]
fn a_panic_while_a_component_is_made_is_found_before_anything_runs() {
    for (component, step_line) in [("world", 7), ("copycat", 12), ("picks", 18), ("distance", 19)] {
        let project = failing(component, "new", "panic");
        let said = fail(run(&project, &[]), 2);
        let place = place_of("panic!(\"a panic in {here:?}\")");
        let sentence = format!("error: plugin faulty/{component} panicked at ");
        let found: Vec<&str> = said.lines().filter(|l| l.starts_with(&sentence)).collect();
        assert!(found.len() == 1 && found[0].contains(&place), "{said}");
        assert!(said.contains(&format!("pipeline.toml:{step_line}:")), "{said}");
        assert!(!said.contains("thread '") && !project.path().join("runs").exists(), "{said}");
    }
}

#[test]
fn a_panic_while_a_model_is_loaded_again_is_named() {
    for (component, step, kept) in [("copycat", "screen", 2), ("world", "truth", 3)] {
        let project = failing(component, "load", "panic");
        succeed(run(&project, &[]));
        // The strategy is another, so that the finished model is asked again.
        let talks = format!("steps.{step}.knockouts={{ use = \"faulty/picks\", with = {{ talks = true }} }}");
        let marks = ["= world", "= model", "= screen"];
        let sentence = failed_in(step, run(&project, &["--set", &talks]), &marks[..kept]);
        assert!(sentence.contains(&format!("plugin faulty/{component} panicked at")), "{sentence}");
        assert!(sentence.ends_with(": a panic in Load"), "{sentence}");
    }
}

#[test]
fn whatever_is_thrown_becomes_one_sentence() {
    let bomb = place_of("How::Bomb => panic_any(Bomb)");
    let cases = [
        ("lines", "assertion `left == right` failed: a message; of two lines; left: 1; right: 2", "panicked"),
        ("payload", ": a panic without a message", "panicked"),
        ("bomb", ": a panic without a message", &bomb),
        ("pool", ": a panic on the pool", "panicked"),
        ("pool-bombs", ": a panic without a message", &place_of("How::PoolBombs => on_the_pool")),
        ("error", "faulty/copycat: an error of the author's", ""),
        ("cancelled", "faulty/copycat: it stopped as if cancelled, which nobody asked for", ""),
    ];
    for (how, end, part) in cases {
        for (fault, step, finished) in
            [("fit", "model", 1), ("predict", "screen", 2), ("screen", "screen", 2)]
        {
            let kept: Vec<&str> = MARKS[..finished].iter().map(|(first, _)| *first).collect();
            let sentence = failed_in(step, run(&failing("copycat", fault, how), &[]), &kept);
            assert!(sentence.ends_with(end) && sentence.contains(part), "{how} in {fault}: {sentence}");
        }
    }
}

#[test]
fn a_panic_in_a_drop_is_a_warning() {
    let components = [("world", "world"), ("copycat", "model"), ("picks", "screen"), ("distance", "screen")];
    for ((component, step), home) in components.iter().flat_map(|c| HOMES.map(|home| (*c, home))) {
        let project = failing(component, "drop", "panic");
        let output = run(&project, home);
        let said = text(&output.stderr);
        succeed(output);
        let place = place_of("panic!(\"a panic in a drop\")");
        let warnings = warnings_of(&project, step);
        let warning = warnings.iter().find(|w| w.ends_with(": a panic in a drop"));
        let warning = warning.unwrap_or_else(|| panic!("{component}: {warnings:?}\n{said}"));
        assert!(warning.starts_with("faulty::") && warning.contains(&place), "{component}: {warning}");
        assert!(said.contains(warning.as_str()), "{component}: {said}");
        // The fitted model and the truth live as long as the run, and are heard of too.
        let fitted = said.contains("faulty::Answers4 panicked while it was dropped, at ");
        assert_eq!(fitted, ["world", "copycat"].contains(&component), "{component}: {said}");
    }
}

/// The warnings of a step in run.json.
fn warnings_of(project: &TempDir, step: &str) -> Vec<String> {
    let run = std::fs::read(project.path().join("runs/faulty/run.json")).unwrap();
    let run: Json = serde_json::from_slice(&run).unwrap();
    let found = run["steps"].as_array().unwrap().iter().find(|s| s["step"] == step).unwrap();
    serde_json::from_value(found["record"]["warnings"].clone()).unwrap()
}

#[test]
fn wrong_data_are_refused_with_their_place() {
    let one = |sentence: &str| sentence.to_string();
    let cells = |end: &str| format!("faulty/world: it made no valid cells: {end}");
    let answer = |found: &str| {
        let place = "faulty/copycat: the answer for cell cell-0 as it is";
        format!("{place}: expected values of 0 or more, found {found} for gene gene-2")
    };
    let picks = |end: &str| format!("faulty/picks proposed no valid knockouts: {end}");
    let cases = [
        (
            "world",
            "not-a-number",
            cells("expected values of 0 or more, found NaN for gene gene-2 in cell cell-0"),
        ),
        (
            "world",
            "infinite",
            cells("expected values of 0 or more, found inf for gene gene-2 in cell cell-0"),
        ),
        ("world", "repeated", cells("two genes are named `gene`")),
        ("world", "nameless", cells("cell number 1 has no name")),
        ("world", "length", cells("column group has 3 entries for 4 rows")),
        ("copycat", "not-a-number", answer("NaN")),
        ("copycat", "infinite", answer("inf")),
        ("copycat", "negative", answer("-1")),
        (
            "copycat",
            "unwritten",
            one("faulty/copycat: the answer for cell cell-0 without gene-1: \
             expected values of 0 or more, found NaN for gene gene-0"),
        ),
        ("copycat", "nameless", one("faulty/copycat: `../loss` is no name for a table")),
        ("copycat", "repeated", one("faulty/copycat: it has two tables named `loss`")),
        ("picks", "not-a-number", picks("expected levels of 0 or more, found NaN in cell cell-0")),
        ("picks", "negative", picks("expected levels of 0 or more, found -1 in cell cell-0")),
        (
            "picks",
            "repeated",
            picks("the genes of a knockout in cell cell-0 are repeated or not in var order"),
        ),
        ("picks", "nameless", picks("a knockout in cell cell-0 has no gene")),
        ("picks", "no-such-cell", picks("there is no cell number 101 among the 4 cells")),
        ("picks", "no-such-gene", picks("there is no gene number 102 of 5")),
        ("picks", "not-expressed", picks("cell cell-0 does not express gene-0")),
        (
            "distance",
            "infinite",
            one("faulty/distance: expected a finite score or none, found inf for row 1"),
        ),
    ];
    for ((component, how, expected), home) in cases.iter().flat_map(|case| HOMES.map(|home| (case, home))) {
        let (step, finished) = match *component {
            "world" => ("world", 0),
            "copycat" if ["nameless", "repeated"].contains(how) => ("model", 1),
            _ => ("screen", 2),
        };
        let kept: Vec<&str> = MARKS[..finished].iter().map(|(first, _)| *first).collect();
        let sentence = failed_in(step, run(&failing(component, "data", how), home), &kept);
        assert_eq!(&sentence, expected, "{component} {how}");
    }
}

#[test]
fn what_plugins_log_reaches_the_user_and_the_results() {
    let talks = "talks = true";
    for home in HOMES {
        what_was_logged(
            &with(&[("world", talks), ("copycat", talks), ("picks", talks), ("distance", talks)]),
            home,
        );
    }
    // Without -v there are the warnings, and no news.
    let said = text(&run(&with(&[("world", talks)]), &[]).stderr);
    assert!(said.contains("a warning on the pool") && !said.contains("news"), "{said}");
}

fn what_was_logged(project: &TempDir, home: &[&str]) {
    let output = run(project, &[home, &["-v"]].concat());
    let said = text(&output.stderr);
    succeed(output);
    let warnings = ["a warning on the caller's thread (cells = 4)", "a warning on the pool"];
    for step in ["world", "model", "screen"] {
        assert_eq!(warnings_of(project, step), warnings, "{step}");
        for news in ["news from the caller's thread", "news from the pool"] {
            let line =
                |l: &&str| l.contains("INFO") && l.contains(news) && l.contains(&format!("\"{step}\""));
            assert!(said.lines().any(|l| line(&l)), "{step}: {news}\n{said}");
        }
    }
    assert_eq!(warnings_of(project, "truth"), [""; 0]);
}

/// How a plugin's process is ended from within, and what is said of it.
const ENDS: [(&str, &str, &str); 6] = [
    ("abort", "", "its worker process crashed (SIGABRT)"),
    ("segfault", "", "its worker process crashed (SIGSEGV)"),
    ("overflow", "", "its worker process overflowed its stack"),
    ("exit", "", "its worker process ended early (exit code 3)"),
    ("memory", "memory_gb = 2", "its worker process ran out of memory (limit: 2 GB)"),
    ("loop", "seconds = 2", "no sign of life for 2 s, so its worker process was ended"),
];

#[test]
fn a_plugin_that_ends_its_process_ends_its_step_alone_and_finished_steps_are_used_again() {
    for (how, limits, expected) in ENDS {
        let project = failing("copycat", "predict", how);
        let isolate = format!("steps.model.isolate={{ {limits} }}");
        for kept in [["✓ world", "✓ model"], ["= world", "= model"]] {
            let sentence = failed_in("screen", run(&project, &["--set", &isolate]), &kept);
            let start = format!("faulty/copycat: {expected}");
            assert!(sentence.starts_with(&start), "{how}: {sentence}");
        }
        // The same run with a plugin that behaves goes on from there.
        let mended = ["--set", "steps.model.with.fault=\"nowhere\"", "--set", &isolate];
        let said = text(&run(&project, &mended).stderr);
        assert!(said.contains("= world") && said.contains("✓ screen"), "{said}");
    }
}

#[test]
fn a_plugin_that_ends_its_process_anywhere_ends_its_step_alone() {
    for (component, fault, step, named, finished) in ENTRIES {
        let project = failing(component, fault, "abort");
        let kept = ["✓ world", "✓ model", "✓ screen"];
        let sentence = failed_in(step, run(&project, &[]), &kept[..finished]);
        assert_eq!(sentence, format!("{named}: its worker process crashed (SIGABRT)"), "{fault}");
    }
}

#[test]
fn isolated_and_in_process_runs_give_the_same_bytes() {
    let bytes = |home: &[&str]| {
        let project = with(&[]);
        succeed(run(&project, home));
        let steps = project.path().join("runs/faulty/steps");
        let files = [
            "world/cells.h5ad",
            "model/loss.csv",
            "screen/impacts/part-000000.parquet",
            "screen/screen.h5ad",
        ];
        files.map(|file| std::fs::read(steps.join(file)).unwrap())
    };
    assert!(bytes(HOMES[0]) == bytes(HOMES[1]));
}

#[test]
fn ctrl_c_stops_a_worker_that_does_not_listen() {
    let project = failing("copycat", "fit", "loop");
    let mut command = bare(&["run", "--plugin-dir"]);
    let mut child =
        command.arg(faulty_folder()).arg(project.path()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = project.path().join("runs/faulty/steps/model.part");
    while !begun.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let process = child.id().to_string();
    succeed(std::process::Command::new("kill").args(["-INT", &process]).output().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
