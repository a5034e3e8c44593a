//! Pipelines: parse → resolve → plan. All problems are found at once, each with its place; nothing has run.

mod check;
mod diagnostics;
mod graph;
mod keys;
mod lock;
mod params;
mod plan;
mod resolve;
mod tree;

pub use diagnostics::{Diagnostic, Place, Severity, Sources, nearest, render, sorted, to_json};
pub use graph::graph;
pub use keys::{Call, Input, Keys, PortType};
pub use lock::Lock;
pub use params::range_in_words;
pub use plan::{Plan, Step};
pub use resolve::step_seed;
pub use tree::{Node, Table, Value};

use crate::plugin::{Program, Registry, Trust};
use std::path::{Path, PathBuf};

/// What the command line adds to a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--set key.path=value`, in order.
    pub set: Vec<String>,
    /// `--plugin-dir`.
    pub plugin_dirs: Vec<PathBuf>,
    /// Whether libraries of any owner are looked at, as `lacuna lock` does, which makes them trusted.
    pub any_owner: bool,
}

/// A pipeline after all checks: a plan if there are no errors, and all problems.
pub struct Checked {
    /// What can run.
    pub plan: Option<Plan>,
    /// Errors and warnings, by place.
    pub problems: Vec<Diagnostic>,
    /// The texts that they point into.
    pub sources: Sources,
}

/// Reads and checks the pipeline at a path: a TOML file, or a folder with a `pipeline.toml`.
///
/// # Errors
/// When the file cannot be read. What is wrong in it is in the result.
pub fn check_file(path: &Path, options: &Options) -> anyhow::Result<Checked> {
    let file = file_of(path);
    let bytes = std::fs::read(&file)
        .map_err(|e| anyhow::anyhow!("cannot read the pipeline {}: {e}", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow::anyhow!("{}: expected UTF-8 text, but byte {} is none", file.display(), at + 1)
    })?;
    let absolute = std::path::absolute(&file)?;
    let base = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
    let trust = Trust { any_owner: options.any_owner, ..trust_beside(&file) };
    Ok(check_trusting(&file.display().to_string(), text, &base, options, &trust))
}

/// The TOML file of a pipeline, which is named by it or by its folder.
fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("pipeline.toml") } else { path.to_path_buf() }
}

/// What the lock file beside a pipeline says of libraries. A broken one trusts none.
fn trust_beside(pipeline: &Path) -> Trust {
    if let Some(problem) = crate::plugin::anybody_can_change(&Lock::path(pipeline)) {
        tracing::warn!("{problem}; until then no library is trusted for its sake");
        return Trust::default();
    }
    match Lock::read(&Lock::path(pipeline)) {
        Ok(lock) => lock.map(|lock| lock.trust()).unwrap_or_default(),
        Err(error) => {
            tracing::warn!("{error:#}: it is as if it were not there");
            Trust::default()
        }
    }
}

/// The plugins that a pipeline in this folder would find, or those that any pipeline finds.
pub fn plugins_for(folder: Option<&Path>, plugin_dirs: &[PathBuf]) -> Registry {
    let named = folder.map(named_programs).unwrap_or_default();
    let trust = folder.map(|folder| trust_beside(&folder.join("pipeline.toml"))).unwrap_or_default();
    Registry::load(&named, plugin_dirs, folder, &trust)
}

/// What the `pipeline.toml` of a folder names under `[plugins]`. Nothing, where there is none, or a broken one.
fn named_programs(folder: &Path) -> Vec<Program> {
    let Ok(text) = std::fs::read_to_string(folder.join("pipeline.toml")) else { return vec![] };
    let (mut sources, mut problems) = (Sources::default(), vec![]);
    sources.add("pipeline.toml", text);
    let root = tree::parse(&sources, &mut problems);
    let named = resolve::named_plugins(&root, folder, &mut problems);
    named.into_iter().map(|n| n.program).collect()
}

/// Checks a pipeline's text, whose paths are relative to `base`.
pub fn check_text(name: &str, text: String, base: &Path, options: &Options) -> Checked {
    check_trusting(name, text, base, options, &Trust::default())
}

fn check_trusting(name: &str, text: String, base: &Path, options: &Options, trust: &Trust) -> Checked {
    let mut sources = Sources::default();
    sources.add(name, text);
    let mut problems = vec![];
    let mut root = tree::parse(&sources, &mut problems);
    for set in &options.set {
        let source = sources.add("--set", set.as_str());
        tree::apply_override(&mut root, &sources, source, &mut problems);
    }
    if !problems.is_empty() {
        // With a broken syntax every further problem would be a guess.
        return Checked { plan: None, problems: sorted(problems), sources };
    }
    let named = resolve::named_plugins(&root, base, &mut problems);
    let programs: Vec<_> = named.iter().map(|n| n.program.clone()).collect();
    let registry = Registry::load(&programs, &options.plugin_dirs, Some(base), trust);
    let plan = resolve::resolve(&root, sources.clone(), base, registry, &named, &mut problems);
    Checked { plan, problems: sorted(problems), sources }
}
