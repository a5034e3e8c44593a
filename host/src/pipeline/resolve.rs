//! From the tree to a plan: every `use` to a step, every input to an output, every parameter to its schema.

use super::diagnostics::{Diagnostic, Place, Severity, Sources};
use super::keys::{Keys, PortType, Scope, lookup_problem};
use super::plan::{Plan, Step};
use super::tree::{Node, Table, Value};
use crate::plugin::{Component, Kind, Plugin, Program, Registry};
use crate::steps::{Action, HostStep};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first look at a step: what it is, and what it gives.
pub struct Head {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub at: Place,
    /// What it runs.
    pub used: Option<Used>,
    /// What it gives.
    pub ports: Ports,
}

/// What a step runs.
#[derive(Clone)]
pub enum Used {
    /// A step of the host.
    Host(HostStep),
    /// A simulator or model.
    Component(Box<(Arc<Plugin>, Component)>),
}

/// What a step gives, main port first.
pub enum Ports {
    /// Names and types.
    Known(Vec<(&'static str, PortType)>),
    /// Unknown, since its `use` is wrong.
    Unknown,
}

const TOP_KEYS: [&str; 6] = ["format", "name", "seed", "memory", "plugins", "steps"];

/// A plugin under `[plugins]`.
pub struct Named {
    name: String,
    /// Its library or command.
    pub program: Program,
    at: Place,
}

/// The plugins named under `[plugins]`.
pub fn named_plugins(root: &Table, base: &Path, problems: &mut Vec<Diagnostic>) -> Vec<Named> {
    let Some(node) = root.get("plugins") else { return vec![] };
    let Value::Table(table) = &node.value else {
        problems.push(Diagnostic::error(node.at.clone(), "`plugins` is a table, as in `[plugins.NAME]`"));
        return vec![];
    };
    let mut named = vec![];
    for (key, node) in &table.entries {
        let empty = Table::default();
        let entry = if let Value::Table(entry) = &node.value { entry } else { &empty };
        match program(entry, base) {
            Some((program, at)) => named.push(Named { name: key.name.clone(), program, at }),
            None => {
                let title =
                    format!("plugin `{}` needs `path`, its library, or `command`, a list of words", key.name);
                problems.push(Diagnostic::error(key.at.clone(), title));
            }
        }
        for (other, _) in entry.entries.iter().filter(|(k, _)| !PLUGIN_KEYS.contains(&k.name.as_str())) {
            let problem =
                Diagnostic::error(other.at.clone(), format!("a plugin has no key `{}`", other.name));
            problems.push(problem.suggest(&other.name, PLUGIN_KEYS));
        }
    }
    named
}

const PLUGIN_KEYS: [&str; 2] = ["path", "command"];

/// The library or the command of a plugin, and the place where it is named.
fn program(entry: &Table, base: &Path) -> Option<(Program, Place)> {
    match (entry.get("path").map(|n| (&n.value, &n.at)), entry.get("command").map(|n| (&n.value, &n.at))) {
        (Some((Value::Text(text), at)), None) => Some((Program::Library(base.join(text)), at.clone())),
        (None, Some((Value::List(items), at))) if !items.is_empty() => {
            let word =
                |item: &Node| if let Value::Text(text) = &item.value { Some(text.clone()) } else { None };
            let words: Option<Vec<String>> = items.iter().map(word).collect();
            Some((Program::Command(words?, base.to_path_buf()), at.clone()))
        }
        _ => None,
    }
}

/// Checks that each named plugin loaded, under its name.
fn check_named(named: &[Named], registry: &Registry, problems: &mut Vec<Diagnostic>) {
    for Named { name, program, at } in named {
        let path = &match program {
            Program::Library(path) => path.clone(),
            Program::Command(words, _) => PathBuf::from(words.join(" ")),
        };
        if let Some(failure) = registry.failures.iter().find(|f| f.path == *path) {
            let title = format!("plugin `{name}` did not load: {}", failure.reason);
            let problem = Diagnostic::error(at.clone(), title);
            let script = path.extension().is_some_and(|ending| ending == "py");
            let help = "a script is named by `command = [\"python3\", \"plugin.py\"]`";
            problems.push(if script { problem.help(help) } else { problem });
            continue;
        }
        let same =
            |p: &&Arc<Plugin>| p.path == *path || p.path.canonicalize().ok() == path.canonicalize().ok();
        if let Some(plugin) = registry.plugins.iter().find(same)
            && plugin.manifest.name != *name
        {
            let title = format!("this is the plugin `{}`, not `{name}`", plugin.manifest.name);
            problems.push(Diagnostic::error(at.clone(), title));
        }
    }
}

/// Resolves the tree. `None` when there are errors; warnings alone do not stop it.
pub fn resolve(
    root: &Table,
    sources: Sources,
    base: &Path,
    registry: Registry,
    named: &[Named],
    problems: &mut Vec<Diagnostic>,
) -> Option<Plan> {
    check_top(root, problems);
    check_named(named, &registry, problems);
    let name = pipeline_name(root, base, &sources, problems);
    let seed = seed(root.get("seed"), "the pipeline", problems).unwrap_or(0);
    let memory = memory(root.get("memory"), problems);
    let tables = step_tables(root, problems);
    let heads: Vec<Head> =
        tables.iter().map(|(name, at, table)| head(name, at, table, &registry, problems)).collect();
    let mut steps = vec![];
    {
        let scope = Scope { registry: &registry, heads: &heads, base };
        for (head, (_, _, table)) in heads.iter().zip(&tables) {
            steps.push(step(head, table, seed, &scope, problems));
        }
    }
    let steps: Option<Vec<Step>> = steps.into_iter().collect();
    let plan = Plan { memory, ..Plan::new(name, seed, base.to_path_buf(), sources, registry, steps?) };
    let is_error = |p: &Diagnostic| p.severity == Severity::Error;
    let mut of_the_whole = vec![];
    super::check::check(&plan, &mut of_the_whole);
    if problems.iter().any(is_error) {
        // A reference that is wrong uses nothing, so a warning that nothing uses a step may be wrong too.
        of_the_whole.retain(is_error);
    }
    problems.append(&mut of_the_whole);
    (!problems.iter().any(is_error)).then_some(plan)
}

fn check_top(root: &Table, problems: &mut Vec<Diagnostic>) {
    for (key, _) in root.entries.iter().filter(|(k, _)| !TOP_KEYS.contains(&k.name.as_str())) {
        let problem = Diagnostic::error(key.at.clone(), format!("a pipeline has no key `{}`", key.name));
        problems.push(problem.suggest(&key.name, TOP_KEYS));
    }
    let start = Place { source: 0, range: 0..0 };
    match root.get("format") {
        None => {
            let problem = Diagnostic::error(start, "the pipeline does not say its format");
            problems.push(problem.help("begin it with `format = 1`"));
        }
        Some(Node { value: Value::Integer(1), .. }) => {}
        Some(node) => {
            let problem = Diagnostic::error(node.at.clone(), "this Lacuna reads pipelines of format 1");
            problems.push(problem.label("unknown format"));
        }
    }
}

fn pipeline_name(root: &Table, base: &Path, sources: &Sources, problems: &mut Vec<Diagnostic>) -> String {
    match root.get("name") {
        Some(Node { value: Value::Text(name), .. }) if crate::plugin::is_name(name) => name.clone(),
        Some(node) => {
            let problem = Diagnostic::error(node.at.clone(), "`name` is a text of a-z, 0-9 and - only");
            problems.push(problem.label("not a name"));
            String::new()
        }
        None => default_name(base, Path::new(sources.name(0))),
    }
}

/// The file's name without its ending; a `pipeline.toml` is named after its folder.
fn default_name(base: &Path, file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    let text = if stem == "pipeline" { base.file_name().unwrap_or(stem) } else { stem };
    let clean: String = text
        .to_string_lossy()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    if clean.is_empty() { "pipeline".into() } else { clean }
}

fn seed(node: Option<&Node>, owner: &str, problems: &mut Vec<Diagnostic>) -> Option<u64> {
    match node? {
        Node { value: Value::Integer(i), .. } if *i >= 0 => u64::try_from(*i).ok(),
        node => {
            let title = format!("`seed` of {owner} is a whole number, 0 or more");
            problems.push(Diagnostic::error(node.at.clone(), title));
            None
        }
    }
}

/// How much memory a run may take, if the pipeline says so.
fn memory(node: Option<&Node>, problems: &mut Vec<Diagnostic>) -> Option<u64> {
    let node = node?;
    let found = match &node.value {
        Value::Text(text) => crate::memory::parse(text),
        Value::Integer(bytes) => crate::memory::parse(&bytes.to_string()),
        other => Err(format!("expected an amount of memory such as \"4 GB\", found {}", other.kind())),
    };
    let problem = |reason: String| Diagnostic::error(node.at.clone(), format!("`memory`: {reason}"));
    found.map_err(|reason| problems.push(problem(reason))).ok()
}

fn step_tables<'t>(root: &'t Table, problems: &mut Vec<Diagnostic>) -> Vec<(String, Place, &'t Table)> {
    let start = Place { source: 0, range: 0..0 };
    let steps = match root.get("steps").map(|n| (&n.value, &n.at)) {
        Some((Value::Table(steps), _)) if !steps.entries.is_empty() => steps,
        Some((_, at)) => {
            problems.push(Diagnostic::error(at.clone(), "`steps` is a table of steps, as in `[steps.NAME]`"));
            return vec![];
        }
        None => {
            let problem = Diagnostic::error(start, "the pipeline has no steps");
            problems.push(problem.help("add one: `[steps.cells]` with `use = \"read\"` and a `path`"));
            return vec![];
        }
    };
    let mut tables = vec![];
    for (key, node) in &steps.entries {
        if !crate::plugin::is_name(&key.name) {
            let title = format!("`{}` is no name for a step: a-z, 0-9 and - only", key.name);
            problems.push(Diagnostic::error(key.at.clone(), title));
        }
        match &node.value {
            Value::Table(table) => tables.push((key.name.clone(), key.at.clone(), table)),
            other => {
                let title = format!("step `{}` is a table, not {}", key.name, other.kind());
                problems.push(Diagnostic::error(node.at.clone(), title));
            }
        }
    }
    tables
}

fn head(name: &str, at: &Place, table: &Table, registry: &Registry, problems: &mut Vec<Diagnostic>) -> Head {
    let used = used(name, at, table, registry, problems);
    let ports = match &used {
        Some(Used::Host(step)) => Ports::Known(step.ports(table)),
        Some(Used::Component(found)) if found.1.kind == Kind::Simulator => Ports::Known(vec![
            ("cells", PortType::Cells),
            ("truth", PortType::Model),
            ("network", PortType::Network),
        ]),
        Some(Used::Component(_)) => Ports::Known(vec![("model", PortType::Model)]),
        None => Ports::Unknown,
    };
    Head { name: name.into(), at: at.clone(), used, ports }
}

fn used(
    name: &str,
    at: &Place,
    table: &Table,
    registry: &Registry,
    problems: &mut Vec<Diagnostic>,
) -> Option<Used> {
    let Some(node) = table.get("use") else {
        let problem = Diagnostic::error(at.clone(), format!("step `{name}` needs `use`: what it runs"));
        problems.push(problem.help("a step of the host (such as `read`), a simulator or a model"));
        return None;
    };
    let Value::Text(text) = &node.value else {
        let problem = Diagnostic::error(node.at.clone(), format!("`use` of step `{name}` is a text"));
        problems.push(problem.label(format!("this is {}", node.value.kind())));
        return None;
    };
    if let Some(step) = HostStep::named(text) {
        return Some(Used::Host(step));
    }
    let kinds = [Kind::Simulator, Kind::Model];
    match registry.find(text, &kinds) {
        Ok(found) => Some(Used::Component(Box::new(found))),
        Err(error) => {
            let mut problem = lookup_problem(text, &node.at, &kinds, error, registry);
            let known: Vec<String> =
                HostStep::names().map(String::from).chain(registry.names(&kinds)).collect();
            if problem.title.starts_with("no plugin has") {
                problem.title = problem
                    .title
                    .replace("no plugin has a simulator or model", "there is no step, simulator or model");
                problem.help = None;
                problem = problem.suggest(text, known.iter().map(String::as_str));
            }
            problems.push(problem);
            None
        }
    }
}

fn step(
    head: &Head,
    table: &Table,
    pipeline_seed: u64,
    scope: &Scope<'_>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Step> {
    let own_seed = seed(table.get("seed"), &format!("step `{}`", head.name), problems);
    let used = head.used.clone()?;
    let mut keys = Keys::new(table, head.at.clone(), format!("step `{}`", head.name), scope, problems);
    for reserved in ["use", "seed"] {
        keys.node(reserved);
    }
    keys.read_isolation();
    let by = keys.text("by");
    let action = match &used {
        Used::Host(step) => step.resolve(&mut keys),
        Used::Component(found) => Action::of_component(found.1.kind.clone(), &mut keys),
    };
    keys.finish();
    let Ports::Known(ports) = &head.ports else { return None };
    Some(Step {
        name: head.name.clone(),
        ports: ports.clone(),
        at: head.at.clone(),
        seed: own_seed.unwrap_or_else(|| step_seed(pipeline_seed, &head.name)),
        by,
        action: action?,
    })
}

/// First 8 bytes, little endian, of BLAKE3(pipeline seed, little endian ‖ step name).
pub fn step_seed(pipeline_seed: u64, step: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pipeline_seed.to_le_bytes());
    hasher.update(step.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
