//! `lacuna plugin check`.

use super::{FAILED, WRONG, print, shown};
use anyhow::{Context, Result, bail};
use clap::Args;
use lacuna::check::{Finding, Outcome, Settings, Weight, check, test_cells};
use lacuna::data::Cells;
use lacuna::formats;
use lacuna::plugin::{Limits, Registry};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args)]
pub struct CheckArgs {
    /// A built library, or a Python script.
    path: PathBuf,
    /// Only cases whose `component: case` has this in it.
    #[arg(long)]
    filter: Option<String>,
    /// Show only what did not pass.
    #[arg(long)]
    only_failed: bool,
    /// The seed that an earlier check printed. Default: a number made of the library's hash.
    #[arg(long, value_name = "SEED")]
    reproduce: Option<u64>,
    /// Try it on cells of this file (at most 100, of at most 200 genes) instead of made-up ones.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Parameters of a component that cannot be made without any: --with 'genes = { genes = ["gene-0"] }'.
    #[arg(long, value_name = "COMPONENT = { … }")]
    with: Vec<String>,
    /// How long a call may give no sign of life.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Without worker processes, for a debugger: a crash ends everything.
    #[arg(long)]
    in_process: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub fn check_plugin(args: &CheckArgs) -> Result<u8> {
    let registry = Registry::of_file(&args.path);
    let Some(plugin) = registry.plugins.first() else {
        let reason =
            registry.failures.first().map_or("it holds no plugin", |failure| failure.reason.as_str());
        eprintln!("error: {} is not used: {reason}", shown(&args.path));
        return Ok(FAILED);
    };
    let seed = args.reproduce.unwrap_or_else(|| u64::from_str_radix(&plugin.sha256[..8], 16).unwrap_or(0));
    let settings = Settings {
        seed,
        cells: args.data.as_deref().map_or_else(|| Ok(test_cells(31, 17, seed)), some_of)?,
        in_process: args.in_process,
        filter: args.filter.clone(),
        with: with(&args.with)?,
        limits: Limits { silence: Duration::from_secs(args.seconds), memory: None },
    };
    let ids = plugin.manifest.components.iter().map(|c| &c.id);
    if let Some(unknown) = settings.with.keys().find(|id| !ids.clone().any(|known| known == *id)) {
        eprintln!(
            "error: --with {unknown}: the plugin `{}` has no component of that name",
            plugin.manifest.name
        );
        return Ok(WRONG);
    }
    let shows = |finding: &Finding| {
        !args.only_failed || !matches!(finding.outcome, Outcome::Passed | Outcome::Skipped(_))
    };
    let findings = check(plugin, &settings, &mut |finding| {
        if !args.json && shows(finding) {
            let _ = print(&line(finding));
        }
    });
    if findings.is_empty() {
        bail!("no case has `{}` in its name", args.filter.as_deref().unwrap_or_default());
    }
    let bad = findings.iter().filter(|f| f.is_bad()).count();
    if args.json {
        let all: Json = findings.iter().filter(|f| shows(f)).map(to_json).collect();
        print(&format!("{:#}\n", json!({ "plugin": plugin.manifest.name, "seed": seed, "findings": all })))?;
    } else {
        print(&summary(&plugin.manifest.name, &findings, seed))?;
    }
    Ok(if bad == 0 { 0 } else { FAILED })
}

/// Some cells and genes of a file.
fn some_of(path: &Path) -> Result<Cells> {
    const CELLS: usize = 100;
    const GENES: usize = 200;
    let cells = formats::load(path, &formats::Options::default())?.cells;
    let expressed = |i: &usize| !cells.x.range(*i).is_empty();
    let rows: Vec<usize> = (0..cells.len()).filter(expressed).take(CELLS).collect();
    let chosen = cells.select_cells(&rows);
    let mut count = vec![0; chosen.n_genes()];
    chosen.x.indices.iter().for_each(|&j| count[j as usize] += 1);
    let mut genes: Vec<usize> = (0..chosen.n_genes()).filter(|&j| count[j] > 0).collect();
    genes.sort_by_key(|&j| std::cmp::Reverse(count[j]));
    genes.truncate(GENES);
    genes.sort_unstable();
    if rows.is_empty() {
        bail!("{}: no cell expresses a gene", shown(path));
    }
    Ok(chosen.select_genes(&genes))
}

/// `genes = { genes = ["G1"] }` and the like.
fn with(texts: &[String]) -> Result<BTreeMap<String, Json>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let table: toml::Table = text.parse().with_context(|| format!("--with {text}"))?;
        for (component, parameters) in table {
            if !parameters.is_table() {
                bail!("--with {text}: expected COMPONENT = {{ … }}");
            }
            all.insert(component, serde_json::to_value(parameters)?);
        }
    }
    Ok(all)
}

fn words(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Passed => ("passed", ""),
        Outcome::Failed(why) => ("failed", why),
        Outcome::Crashed(why) => ("crashed", why),
        Outcome::TimedOut(why) => ("timed out", why),
        Outcome::Skipped(why) => ("skipped", why),
    }
}

fn line(finding: &Finding) -> String {
    let mark = match (&finding.outcome, finding.weight) {
        (Outcome::Passed, _) => "✓",
        (Outcome::Skipped(_), _) => "–",
        (_, Weight::Advisory) => "!",
        (_, Weight::Required) => "✗",
    };
    let (word, why) = words(&finding.outcome);
    let end = if why.is_empty() { String::new() } else { format!("\n    {word}: {why}") };
    format!("{mark} {}: {}{end}\n", finding.component, finding.case)
}

fn summary(plugin: &str, findings: &[Finding], seed: u64) -> String {
    let count = |test: fn(&Finding) -> bool| findings.iter().filter(|f| test(f)).count();
    let passed = count(|f| f.outcome == Outcome::Passed);
    let skipped = count(|f| matches!(f.outcome, Outcome::Skipped(_)));
    let bad = count(Finding::is_bad);
    let advice = findings.len() - passed - skipped - bad;
    let verdict = if bad == 0 { "is a plugin that Lacuna can rely on" } else { "does not pass" };
    let again =
        if bad + advice == 0 { String::new() } else { format!("; again: --reproduce {seed} --filter '…'") };
    format!(
        "`{plugin}` {verdict}: {passed} passed, {bad} failed, {advice} advised, {skipped} skipped{again}\n"
    )
}

fn to_json(finding: &Finding) -> Json {
    let (word, why) = words(&finding.outcome);
    let weight = if finding.weight == Weight::Required { "required" } else { "advisory" };
    json!({
        "component": finding.component, "case": finding.case, "weight": weight, "outcome": word, "why": why,
        "seconds": finding.seconds,
    })
}
