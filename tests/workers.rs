//! Workers that do not keep to the protocol: each is an error of its step, and the host lives.

use crate::boundary::faulty;
use crate::support::{fail, lacuna, project, python, python_path, root, succeed, text};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A pipeline of the simulator of a worker in some mode.
fn pipeline(command: &str, mode: &str) -> String {
    let script = root().join("tests/plugins/hostile.py").display().to_string();
    let words = command.replace("SCRIPT", &script).replace("MODE", mode);
    format!(
        "format = 1\nname = \"hostile\"\n[plugins.hostile]\ncommand = {words}\n[steps.world]\nuse = \
         \"hostile/world\"\nisolate = {{ seconds = 3 }}\n[steps.model]\nuse = \"mean\"\ntrain = \"world\"\n"
    )
}

fn run(command: &str, mode: &str) -> Output {
    let project = project(&pipeline(command, mode));
    let mut command = lacuna(&["run", "--quiet"]);
    command.arg(project.path()).env("LACUNA_PROBE_SECONDS", "6").output().unwrap()
}

const DIRECT: &str = r#"["python3", "SCRIPT", "MODE"]"#;

#[test]
fn a_worker_that_answers_wrongly_is_an_error_of_its_step() {
    let cases = [
        ("nothing", "part `cells` is missing"),
        ("damaged", "the exchange with its worker process failed: part `cells`"),
        ("huge", "the exchange with its worker process failed: part `cells`"),
        ("unknown", "hostile/world: a kind of error; that nobody knows"),
        ("garbage", "makes no sense: expected a frame, found"),
        ("sleeps", "no sign of life for 3 s"),
        ("reads-no-more", "no sign of life for 3 s"),
    ];
    for (mode, expected) in cases {
        let output = run(DIRECT, mode);
        let said = text(&output.stderr);
        let code = output.status.code();
        assert!(code == Some(1) || mode == "reads-no-more" && code == Some(2), "{mode}: {code:?} {said}");
        assert!(said.contains(expected), "{mode}: {said}");
        assert!(!said.contains("panicked at host"), "{mode}: {said}");
    }
}

/// More than the host or a worker needs here, and much less than what is announced.
const MEMORY: &str = "4000000000";

/// A command, with its memory limited.
fn limited(words: &[&str]) -> Command {
    let mut command = lacuna(&["__limit", MEMORY, "--"]);
    command.args(words).env("LACUNA_PROBE_SECONDS", "6");
    command
}

#[test]
fn what_a_worker_announces_and_does_not_send_costs_the_host_no_memory() {
    let cases = [
        ("boasts", "a frame ends early: 1000 of 4611686018427387904 bytes"),
        ("boasts-and-waits", "no sign of life for 3 s"),
        ("boasts-of-its-head", "a frame's head has 4294967295 bytes"),
    ];
    for (mode, expected) in cases {
        let project = project(&pipeline(DIRECT, mode));
        let mut command = limited(&[env!("CARGO_BIN_EXE_lacuna"), "run", "--quiet"]);
        let said = fail(command.arg(project.path()).output().unwrap(), 1);
        assert!(said.contains(expected), "{mode}: {said}");
    }
}

/// What a worker with little memory answers to a frame that announces a part of this length and ends before it.
fn boasted(words: &[&str]) -> Output {
    let head = r#"{"call":1,"do":"load","parts":[["model",4611686018427387904]]}"#;
    let frame = [b"LCNA", &(head.len() as u32).to_le_bytes()[..], head.as_bytes(), &[0; 1000]].concat();
    let mut command = limited(words);
    command.env("PYTHONPATH", root().join("sdk/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut worker = command.spawn().unwrap();
    worker.stdin.take().unwrap().write_all(&frame).unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while worker.try_wait().unwrap().is_none() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = worker.kill();
    worker.wait_with_output().unwrap()
}

#[test]
fn what_the_host_announces_and_does_not_send_costs_a_worker_no_memory() {
    let library = faulty().display().to_string();
    let said = succeed(boasted(&[env!("CARGO_BIN_EXE_lacuna"), "__worker", &library]));
    assert!(said.contains("manifest"), "{said}");
    let Some(python) = python() else { return };
    let script = root().join("examples/python-plugin/plugin.py").display().to_string();
    let said = succeed(boasted(&[&python.display().to_string(), &script]));
    assert!(said.contains("manifest"), "{said}");
}

#[test]
fn a_worker_behind_a_shell_and_its_children_are_ended_too() {
    for (command, mode, expected) in [
        (r#"["sh", "-c", "python3 SCRIPT MODE; true"]"#, "sleeps", "no sign of life for 3 s"),
        (DIRECT, "grandchild", "no sign of life for 3 s"),
        // Its child holds the output open: only its own end says that it has died.
        (DIRECT, "orphan", "its worker process ended early (exit code 5)"),
    ] {
        let said = fail(run(command, mode), 1);
        assert!(said.contains(expected), "{mode}: {said}");
    }
}

#[test]
fn what_is_no_worker_is_a_problem_of_the_pipeline() {
    let cases = [
        (DIRECT, "text", "what its worker process sends makes no sense: expected a frame, found \"hello, I"),
        (DIRECT, "silent", "it hangs: it said nothing of itself in 6 s"),
        (r#"["no-such-program"]"#, "", "its worker process cannot be started"),
        (r#"["false"]"#, "", "its worker process ended early (exit code 1)"),
        (DIRECT, "other-border", "it speaks border 9.9, this Lacuna 1."),
    ];
    for (command, mode, expected) in cases {
        let said = fail(run(command, mode), 2);
        assert!(said.contains(expected) && said.contains("pipeline.toml:4:"), "{mode}: {said}");
    }
}

#[test]
fn a_script_is_part_of_its_plugin_with_what_lies_beside_it_and_nobody_else_may_change_it() {
    use std::os::unix::fs::PermissionsExt;
    let project = project(
        "format = 1\n[plugins.hostile]\ncommand = [\"python3\", \"hostile.py\", \"nothing\"]\n[steps.world]\nuse = \
         \"hostile/world\"\n",
    );
    let script = project.path().join("hostile.py");
    std::fs::copy(root().join("tests/plugins/hostile.py"), &script).unwrap();
    let hash = || {
        let mut command = lacuna(&["plugin", "list", "--json", "--project"]);
        let listed: serde_json::Value =
            serde_json::from_slice(&command.arg(project.path()).output().unwrap().stdout).unwrap();
        let own = listed["plugins"].as_array().unwrap().iter().find(|p| p["manifest"]["name"] == "hostile");
        own.map(|p| p["sha256"].to_string())
    };
    let first = hash().unwrap();
    std::fs::write(project.path().join("imported.py"), "x = 1\n").unwrap();
    let second = hash().unwrap();
    std::fs::write(project.path().join("notes.txt"), "nothing\n").unwrap();
    assert!(first != second && hash().unwrap() == second);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(hash(), None);
    let said = fail(lacuna(&["run", "--quiet"]).arg(project.path()).output().unwrap(), 2);
    assert!(said.contains("any user can change") && said.contains("chmod o-w"), "{said}");
}

/// A model that keeps notes while it learns.
const NOTING: &str = r#"
import os
import lacuna_plugin as lacuna

class Noting(lacuna.Model):
    "The mean of all cells, of which it keeps notes"

    id = "noting"

    def fit(self, training, cx):
        with open(os.path.join(cx.scratch, "notes.txt"), "w") as notes:
            notes.write(str(len(training.cells)))
        cx.info("noted in " + os.path.realpath(cx.scratch))
        return Fitted()

    def load(self, data):
        return Fitted()

class Fitted(lacuna.Fitted):
    def predict(self, query, out, cx):
        out[:] = 1 / out.shape[1]

    def save(self):
        return b"nothing"

if __name__ == "__main__":
    lacuna.run("noting", [Noting])
"#;

/// A worker works in its plugin's folder, where a run's folder that is given as seen from the user's is not found.
#[test]
fn a_plugin_in_python_writes_into_its_scratch_folder_whatever_folder_the_user_names() {
    let Some(path) = python_path() else { return };
    let project = project(
        "format = 1\n[plugins.noting]\ncommand = [\"python3\", \"noting.py\"]\n[steps.world]\nuse = \"grn\"\nwith = \
         { cells = 20, genes = 10, regulators = 4, absent_genes = 2 }\n[steps.model]\nuse = \"noting\"\ntrain = \
         \"world\"\n",
    );
    std::fs::write(project.path().join("noting.py"), NOTING).unwrap();
    let user = tempfile::tempdir().unwrap();
    let mut run = lacuna(&["run", "-v", "--run-dir", "some/where"]);
    let output = run.arg(project.path()).current_dir(user.path()).env("PATH", path).output().unwrap();
    let said = text(&output.stderr);
    succeed(output);
    let scratch = user.path().canonicalize().unwrap().join("some/where/steps/model.part/.scratch");
    assert!(said.contains(&format!("noted in {}", scratch.display())), "{said}");
}
