//! `lacuna lock`, and what `--locked` refuses.

use super::{PipelineArgs, WRONG, print, shown};
use anyhow::{Context, Result};
use lacuna::pipeline::{Lock, Plan, render};
use std::fmt::Write;
use std::io::IsTerminal;

pub fn lock(args: &PipelineArgs) -> Result<u8> {
    let checked = args.check_of_any_owner()?;
    if !checked.problems.is_empty() {
        eprint!("{}", render(&checked.problems, &checked.sources, std::io::stderr().is_terminal()));
    }
    let Some(plan) = checked.plan else { return Ok(WRONG) };
    let lock = Lock::of(&plan)?;
    let path = Lock::path(&args.pipeline);
    lock.write(&path)?;
    print(&written(&lock, &plan, &shown(&path)))?;
    Ok(0)
}

/// What was written, and whom that trusts.
fn written(lock: &Lock, plan: &Plan, path: &str) -> String {
    let counted = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let all = [
        counted(lock.plugins.len(), "plugin"),
        counted(lock.files.len(), "input file"),
        counted(lock.steps.len(), "step"),
    ];
    let mut out = format!("wrote {path}: {}\n", all.join(", "));
    // A command stays a process of its own.
    let was_apart = plan.registry.plugins.iter().filter(|p| p.is_apart() && p.path.is_file());
    for plugin in was_apart.filter(|p| lock.names(&p.sha256)) {
        let (name, library) = (&plugin.manifest.name, shown(&plugin.path));
        let _ =
            writeln!(out, "plugin `{name}` ({library}) is trusted from now on: it runs in Lacuna's process");
    }
    out
}

/// How what would run differs from what is locked: a line for each difference.
pub fn differences(args: &PipelineArgs, plan: &Plan) -> Result<Vec<String>> {
    let path = Lock::path(&args.pipeline);
    let lock = Lock::read(&path)?.with_context(|| {
        let pipeline = args.pipeline.display();
        format!("there is no lock file {}: `lacuna lock {pipeline}` makes it", shown(&path))
    })?;
    Ok(lock.differences(&Lock::of(plan)?))
}

/// Says what differs, and what to do.
pub fn refusal(args: &PipelineArgs, differences: &[String]) -> String {
    let (path, pipeline) = (shown(&Lock::path(&args.pipeline)), args.pipeline.display());
    let lines: String = differences.iter().map(|line| format!("  {line}\n")).collect();
    format!(
        "error: what would run is not what {path} locks:\n{lines}`lacuna lock {pipeline}` locks it as it is now\n"
    )
}
