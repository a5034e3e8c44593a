//! Workers that do not keep to the protocol: each is an error of its step, and the host lives.

use crate::support::{fail, lacuna, project, root, text};
use std::process::Output;

/// Runs the simulator of a worker in some mode.
fn run(command: &str, mode: &str) -> Output {
    let script = root().join("tests/plugins/hostile.py").display().to_string();
    let words = command.replace("SCRIPT", &script).replace("MODE", mode);
    let pipeline = format!(
        "format = 1\nname = \"hostile\"\n[plugins.hostile]\ncommand = {words}\n[steps.world]\nuse = \
         \"hostile/world\"\nisolate = {{ seconds = 3 }}\n[steps.model]\nuse = \"mean\"\ntrain = \"world\"\n"
    );
    let project = project(&pipeline);
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
        (DIRECT, "other-border", "it speaks border 9.9, this Lacuna 0."),
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
