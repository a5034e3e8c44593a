//! `lacuna plan`.

use super::{CANCELLED, FAILED, PipelineArgs, WRONG, print, run::on_ctrl_c};
use anyhow::{Context, Result};
use clap::Args;
use lacuna::pipeline::{Plan, render, sorted};
use lacuna::run::{
    Basis, Console, Forecast, RunOptions, StepForecast, available_threads, forecast, is_cancelled,
    label_suffix,
};
use serde_json::{Value as Json, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Where results would go; what lies there already is not run again. Default: runs/NAME beside the pipeline.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Threads to work with, as in `lacuna run`.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Memory for cells and results, as in `lacuna run`.
    #[arg(long, value_parser = lacuna::memory::parse)]
    memory: Option<u64>,
    /// Print the figures as JSON: seconds and bytes.
    #[arg(long)]
    json: bool,
    /// Show no progress, only figures and problems.
    #[arg(short, long)]
    quiet: bool,
}

pub fn plan(args: &PlanArgs) -> Result<u8> {
    let threads = args.threads.map_or_else(available_threads, usize::from);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads")?;
    let checked = args.pipeline.check()?;
    if !checked.problems.is_empty() {
        let colours = std::io::stderr().is_terminal();
        eprint!("{}", render(&sorted(checked.problems), &checked.sources, colours));
    }
    let Some(plan) = checked.plan else { return Ok(WRONG) };
    let options = RunOptions {
        dir: args.run_dir.clone().unwrap_or_else(|| plan.base.join("runs").join(&plan.name)),
        cancelled: on_ctrl_c()?,
        memory: args.memory.or(plan.memory).unwrap_or_else(lacuna::memory::default),
        console: if args.quiet { Console::Quiet } else { Console::Shown },
    };
    match forecast(&plan, &options) {
        Ok(told) => {
            let text =
                if args.json { format!("{:#}\n", as_json(&plan, &told, &options.dir)) } else { table(&told) };
            print(&text)?;
            Ok(0)
        }
        Err(error) if is_cancelled(&error) => {
            eprintln!("cancelled");
            Ok(CANCELLED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(FAILED)
        }
    }
}

/// Sums, and whether they are all that is needed.
struct Total {
    seconds: f64,
    memory: Option<u64>,
    disk: u64,
    pairs: u64,
    whole: bool,
}

impl Total {
    fn of(told: &Forecast) -> Self {
        // What is kept is not made again.
        let made = || told.steps.iter().filter(|step| step.basis != Basis::Kept);
        let needs = || made().map(|step| step.needs);
        Self {
            seconds: needs().filter_map(|n| n.seconds).sum(),
            memory: needs().filter_map(|n| n.memory).max(),
            disk: needs().filter_map(|n| n.disk).sum::<u64>() + told.beside,
            pairs: made().filter_map(|step| step.pairs).sum(),
            whole: needs().all(|n| n.seconds.is_some() && n.disk.is_some()),
        }
    }
}

fn as_json(plan: &Plan, told: &Forecast, dir: &Path) -> Json {
    let total = Total::of(told);
    json!({
        "format": 1,
        "name": plan.name,
        "run_dir": dir,
        "threads": rayon::current_num_threads(),
        "steps": told.steps.iter().map(step_json).collect::<Json>(),
        "total": {
            "seconds": total.seconds, "memory_bytes": total.memory, "disk_bytes": total.disk, "pairs": total.pairs,
            "at_least": !total.whole,
        },
        "trials": { "seconds": told.seconds },
    })
}

fn step_json(step: &StepForecast) -> Json {
    let basis = match &step.basis {
        Basis::Kept => json!({ "from": "kept" }),
        Basis::Whole => json!({ "from": "whole" }),
        Basis::Part(tried, whole, of) => json!({ "from": "part", "tried": tried, "whole": whole, "of": of }),
        Basis::Begun(share) => json!({ "from": "progress", "share": share }),
        Basis::Unknown(why) => json!({ "from": "unknown", "why": why }),
    };
    json!({
        "step": step.step, "use": step.used, "labels": step.labels, "reused": step.basis == Basis::Kept,
        "seconds": step.needs.seconds, "memory_bytes": step.needs.memory, "disk_bytes": step.needs.disk,
        "pairs": step.pairs, "basis": basis, "note": step.note,
    })
}

const HEADER: [&str; 6] = ["step", "pairs", "time", "memory", "disk", "from"];
/// What cannot be told.
const NONE: &str = "?";

fn table(told: &Forecast) -> String {
    let total = Total::of(told);
    let mut rows: Vec<[String; 6]> = vec![HEADER.map(String::from)];
    rows.extend(told.steps.iter().map(row));
    let beside = ["beside them", "", "", "", &bytes(told.beside), "run.json, reports"].map(String::from);
    rows.push(beside);
    let least = if total.whole { "" } else { "at least, without what is unknown" };
    rows.push([
        "total".into(),
        if total.pairs > 0 { grouped(total.pairs) } else { String::new() },
        time(total.seconds),
        total.memory.map_or(String::new(), bytes),
        bytes(total.disk),
        least.into(),
    ]);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let line = |[step, numbers @ .., from]: &[String; 6]| {
        let numbers = numbers.iter().zip(&widths[1..]).map(|(text, &width)| format!("  {text:>width$}"));
        let line = format!("{step:<0$}{1}  {from}", widths[0], numbers.collect::<String>());
        format!("{}\n", line.trim_end())
    };
    let notes = told.steps.iter().filter_map(|step| {
        let name = format!("{}{}", step.step, label_suffix(&step.labels));
        Some(format!("{name}: {}\n", step.note.as_ref()?))
    });
    let threads = rayon::current_num_threads();
    let s = if threads == 1 { "" } else { "s" };
    format!(
        "{}{}Tried out in {:.1} s with {threads} thread{s}; ~ is extrapolated. Nothing was written to the run's folder.\n",
        rows.iter().map(line).collect::<String>(),
        notes.collect::<String>(),
        told.seconds
    )
}

fn row(step: &StepForecast) -> [String; 6] {
    let (about, from) = match &step.basis {
        Basis::Kept => ("", "unchanged since an earlier run".to_string()),
        Basis::Whole => ("", "all of it".into()),
        Basis::Part(tried, whole, of) => ("~", format!("{} of {} {of}", grouped(*tried), grouped(*whole))),
        Basis::Begun(share) => ("~", format!("its own progress, {:.1} %", 100.0 * share)),
        Basis::Unknown(why) => ("", why.clone()),
    };
    let figure = |text: Option<String>| text.map_or(NONE.into(), |text| format!("{about}{text}"));
    let (needs, kept) = (step.needs, step.basis == Basis::Kept);
    let cost = |text: Option<String>| if kept { String::new() } else { figure(text) };
    [
        format!("{}{}", step.step, label_suffix(&step.labels)),
        step.pairs.map(grouped).unwrap_or_default(),
        cost(needs.seconds.map(time)),
        cost(needs.memory.map(bytes)),
        cost(needs.disk.map(bytes)),
        from,
    ]
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e6 => format!("{:.0} kB", (b / 1e3).ceil()),
        b if b < 1e7 => format!("{:.1} MB", b / 1e6),
        b if b < 1e9 => format!("{:.0} MB", b / 1e6),
        b if b < 1e12 => format!("{:.1} GB", b / 1e9),
        b => format!("{:.1} TB", b / 1e12),
    }
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [0, 999, 1000, 266_916, 1_234_567].map(grouped),
            ["0", "999", "1,000", "266,916", "1,234,567"]
        );
        assert_eq!(
            [0.04, 85.2, 1000.0, 86_400.0, 1e6].map(time),
            ["0.0 s", "85 s", "17 min", "24.0 h", "11.6 days"]
        );
        assert_eq!([1, 252_300_000, 4_200_000_000].map(bytes), ["1 kB", "252 MB", "4.2 GB"]);
    }
}
