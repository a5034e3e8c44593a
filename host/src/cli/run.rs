//! `lacuna run`.

use super::{CANCELLED, FAILED, PipelineArgs, WRONG, lock, print, shown};
use anyhow::{Context, Result};
use clap::Args;
use lacuna::number;
use lacuna::pipeline::{Plan, render, sorted};
use lacuna::run::{Console, NotBegun, RunOptions, RunSummary, available_threads, execute, is_cancelled};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Where results go. Default: runs/NAME beside the pipeline.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Threads to work with. Default: what the cgroup and the batch scheduler allow. Results do not depend on it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Memory for cells and results, such as 4GB. Default: `memory` of the pipeline, or 60 % of what is free. Results
    /// do not depend on it.
    #[arg(long, value_parser = lacuna::memory::parse)]
    memory: Option<u64>,
    /// Show no progress, only results and problems.
    #[arg(short, long)]
    quiet: bool,
    /// Run only what the lock file says, as `lacuna lock` wrote it, and say what differs.
    #[arg(long)]
    locked: bool,
}

pub fn run(args: &RunArgs) -> Result<u8> {
    let threads = args.threads.map_or_else(available_threads, usize::from);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads")?;
    let checked = args.pipeline.check()?;
    if !checked.problems.is_empty() {
        let colours = std::io::stderr().is_terminal();
        eprint!("{}", render(&sorted(checked.problems), &checked.sources, colours));
    }
    let Some(plan) = checked.plan else { return Ok(WRONG) };
    let differences = if args.locked { lock::differences(&args.pipeline, &plan)? } else { vec![] };
    if !differences.is_empty() {
        eprint!("{}", lock::refusal(&args.pipeline, &differences));
        return Ok(WRONG);
    }
    let options = RunOptions {
        dir: args.run_dir.clone().unwrap_or_else(|| plan.base.join("runs").join(&plan.name)),
        memory: args.memory.or(plan.memory).unwrap_or_else(lacuna::memory::default),
        cancelled: on_ctrl_c()?,
        console: if args.quiet { Console::Quiet } else { Console::Shown },
    };
    match execute(&plan, &options) {
        Ok(summary) => {
            print(&results(&plan, &summary))?;
            Ok(0)
        }
        Err(error) if is_cancelled(&error) => {
            eprintln!("cancelled: finished steps are kept; the same command goes on from there");
            Ok(CANCELLED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            if !error.is::<NotBegun>() {
                eprintln!("finished steps are kept in {}", shown(&options.dir));
            }
            Ok(FAILED)
        }
    }
}

/// The first Ctrl-C asks to stop; the second does not ask.
pub(super) fn on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = cancelled.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(CANCELLED));
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(cancelled)
}

/// How many genes are printed, beside those asked for.
const SHOWN: usize = 10;

/// What the run found, for people: keystone genes, verdicts, and where to look further.
fn results(plan: &Plan, summary: &RunSummary) -> String {
    let mut out = String::new();
    for step in &summary.steps {
        let text = |key: &str| step.summary[key].as_str().unwrap_or_default().to_string();
        let list = |key: &str| step.summary[key].as_array().cloned().unwrap_or_default();
        let keystones = list("keystones");
        if !keystones.is_empty() {
            let first = &step.summary["shown"];
            let name = format!("{}{}", step.step, lacuna::run::label_suffix(&step.labels));
            let against = first["against"].as_str().map(|a| format!(" against {a}")).unwrap_or_default();
            let how = format!("{}{against}", text_of(&first["metric"]));
            let impact =
                if step.summary["population"] == true { "impact on the population" } else { "mean impact" };
            out += &format!("\nKeystone genes of {name} ({impact}, {how}, by {}):\n", text("model"));
            let asked = keystones.iter().skip(SHOWN).filter(|g| g["asked"] == true);
            for g in keystones.iter().take(SHOWN).chain(asked) {
                let presence = number::percent(g["presence"].as_f64().unwrap_or(0.0));
                let impact = number::shown(g["impact"].as_f64().unwrap_or(f64::NAN));
                let rank = g["rank"].as_u64().unwrap_or(0);
                out +=
                    &format!("{rank:>4}  {:<14} {impact:<9}  in {presence} of cells\n", text_of(&g["gene"]));
            }
        }
        let verdicts = list("verdicts");
        if !verdicts.is_empty() {
            out += &format!("\n{}:\n", step.step);
            for v in &verdicts {
                let mark = if v["beats_all"] == true { "✓" } else { "✗" };
                out += &format!("  {mark} {}\n", text_of(&v["text"]).replace('`', ""));
            }
        }
    }
    let report = plan.steps.iter().find(|s| s.action.used() == "report");
    let report =
        report.map(|s| format!("\nReport:  {}", shown(&summary.dir.join(format!("{}.html", s.name)))));
    out += &report.unwrap_or_default();
    out + &format!("\nResults: {}\n", shown(&summary.dir))
}

fn text_of(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}
