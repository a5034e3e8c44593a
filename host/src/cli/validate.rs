//! `lacuna validate` and `lacuna graph`.

use super::{PipelineArgs, WRONG, print};
use anyhow::Result;
use clap::Args;
use lacuna::pipeline::{render, to_json};
use std::io::IsTerminal;

#[derive(Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Print the problems as JSON.
    #[arg(long)]
    json: bool,
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
    let checked = args.pipeline.check()?;
    if args.json {
        print(&format!("{:#}\n", to_json(&checked.problems, &checked.sources)))?;
    } else {
        print(&render(&checked.problems, &checked.sources, std::io::stdout().is_terminal()))?;
        if let Some(plan) = &checked.plan {
            print(&format!("{}: ok, {} steps\n", plan.name, plan.steps.len()))?;
        }
    }
    Ok(if checked.plan.is_some() { 0 } else { WRONG })
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
