//! `lacuna validate` and `lacuna graph`.

use super::{PipelineArgs, WRONG, lock, print};
use anyhow::Result;
use clap::Args;
use lacuna::pipeline::{Diagnostic, Place, render, to_json};
use std::io::IsTerminal;

#[derive(Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Print the problems as JSON.
    #[arg(long)]
    json: bool,
    /// Accept only what the lock file says, as `lacuna lock` wrote it, and say what differs.
    #[arg(long)]
    locked: bool,
}

#[derive(Args)]
pub struct GraphArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Print the graph in the DOT language.
    #[arg(long)]
    dot: bool,
}

pub fn validate(args: &ValidateArgs) -> Result<u8> {
    let mut checked = args.pipeline.check()?;
    let differences = match checked.plan.as_ref().filter(|_| args.locked) {
        Some(plan) => lock::differences(&args.pipeline, plan)?,
        None => vec![],
    };
    if args.json {
        checked.problems.extend(differences.iter().map(|line| as_problem(line)));
        print(&format!("{:#}\n", to_json(&checked.problems, &checked.sources)))?;
    } else if !differences.is_empty() {
        print(&render(&checked.problems, &checked.sources, std::io::stdout().is_terminal()))?;
        print(&lock::refusal(&args.pipeline, &differences))?;
    } else {
        print(&render(&checked.problems, &checked.sources, std::io::stdout().is_terminal()))?;
        if let Some(plan) = &checked.plan {
            print(&format!("{}: ok, {} steps\n", plan.name, plan.steps.len()))?;
        }
    }
    Ok(if checked.plan.is_some() && differences.is_empty() { 0 } else { WRONG })
}

/// A difference from the lock file, which is one of the pipeline as a whole.
fn as_problem(difference: &str) -> Diagnostic {
    Diagnostic::error(Place { source: 0, range: 0..0 }, difference)
}

pub fn graph(args: &GraphArgs) -> Result<u8> {
    let checked = args.pipeline.check()?;
    let Some(plan) = &checked.plan else {
        eprint!("{}", render(&checked.problems, &checked.sources, std::io::stderr().is_terminal()));
        return Ok(WRONG);
    };
    print(&lacuna::pipeline::graph(plan, args.dot))?;
    Ok(0)
}
