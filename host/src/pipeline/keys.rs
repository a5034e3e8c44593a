//! A step's keys, read one by one: each wrong or missing key becomes a problem with its place, and what was
//! never asked for is unknown.

use super::diagnostics::{Diagnostic, Place};
use super::params::{self, Params};
use super::resolve::{Head, Ports};
use super::tree::{Node, Table, Value};
use crate::plugin::{Component, Isolation, Kind, Limits, LookupError, Plugin, Registry};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What flows between steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortType {
    /// Cells × genes.
    Cells,
    /// A fitted model, or a truth.
    Model,
    /// A network.
    Network,
    /// Predicted effects.
    Predictions,
    /// The impacts of a screen.
    Impacts,
    /// The effects of a screen.
    Effects,
    /// Scores of an evaluation.
    Scores,
    /// A report.
    Report,
}

impl std::fmt::Display for PortType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cells => "cells",
            Self::Model => "a model",
            Self::Network => "a network",
            Self::Predictions => "predicted effects",
            Self::Impacts => "the impacts of a screen",
            Self::Effects => "the effects of a screen",
            Self::Scores => "scores",
            Self::Report => "a report",
        })
    }
}

/// A reference to another step's output.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// The key it stands under.
    pub key: &'static str,
    /// The other step, by its number in the plan.
    pub step: usize,
    /// Its port.
    pub port: String,
    /// Where the reference stands.
    pub at: Place,
}

/// A component with its parameters, as a pipeline names it.
#[derive(Clone)]
pub struct Call {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// The component.
    pub component: Component,
    /// Its parameters.
    pub params: Params,
    /// Its name in results: `name`, or else its id.
    pub name: String,
    /// Where it is named.
    pub at: Place,
}

impl Call {
    /// `plugin/component`.
    pub fn full_name(&self) -> String {
        self.plugin.full_name(&self.component.id)
    }

    /// A part of a comparison that this metric needs, and that is not among these.
    pub fn needs_other_than(&self, given: &[&str]) -> Option<String> {
        self.component.metric_info().needs.into_iter().find(|part| !given.contains(&part.as_str()))
    }

    /// The parameters as the plugin gets them.
    pub fn params_json(&self) -> String {
        self.params.values.to_string()
    }

    /// For run.json and `graph`: the component and its parameters as written.
    pub fn describe(&self) -> serde_json::Value {
        json!({ "use": self.full_name(), "with": self.params.written })
    }
}

/// What the keys of all steps are read against.
pub struct Scope<'a> {
    /// The plugins.
    pub registry: &'a Registry,
    /// All steps.
    pub heads: &'a [Head],
    /// The pipeline's folder.
    pub base: &'a Path,
}

/// The keys of one step or of a table in it.
pub struct Keys<'a> {
    table: &'a Table,
    at: Place,
    owner: String,
    scope: &'a Scope<'a>,
    problems: &'a mut Vec<Diagnostic>,
    asked: Vec<&'static str>,
    /// Parameters of the step's component, which somebody may have written outside `with`.
    params: Vec<String>,
    /// Set when a problem makes it unclear which keys the step has.
    unclear: bool,
    /// Where the step's plugins run, if it says so.
    isolation: Option<Isolation>,
}

impl<'a> Keys<'a> {
    /// Keys of the table that stands at a place and belongs to `owner`, as in "step `model`".
    pub fn new(
        table: &'a Table,
        at: Place,
        owner: String,
        scope: &'a Scope<'a>,
        problems: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self {
            table,
            at,
            owner,
            scope,
            problems,
            asked: vec![],
            params: vec![],
            unclear: false,
            isolation: None,
        }
    }

    /// Says what is wrong.
    pub fn problem(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Says what is wrong, when it also makes unclear which keys there are.
    pub fn give_up(&mut self, problem: Diagnostic) {
        self.problem(problem);
        self.unclear = true;
    }

    /// The place of the whole table.
    pub fn place(&self) -> Place {
        self.at.clone()
    }

    /// The plugins.
    pub fn registry(&self) -> &'a Registry {
        self.scope.registry
    }

    /// A key's value, if it is there.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// The place of a key's value, or of the whole table.
    pub fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or_else(|| self.at.clone(), |n| n.at.clone())
    }

    fn missing(&mut self, key: &'static str, what: &str) {
        if self.table.get(key).is_none() {
            let title = format!("{} needs `{key}`: {what}", self.owner);
            self.problems.push(Diagnostic::error(self.at.clone(), title));
        }
    }

    fn wrong(&mut self, key: &str, node: &Node, expected: &str) {
        let title = format!("`{key}` of {} is {expected}", self.owner);
        self.problems
            .push(Diagnostic::error(node.at.clone(), title).label(format!("this is {}", node.value.kind())));
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.wrong(key, node, "a text");
                None
            }
        }
    }

    /// As [`text`](Self::text), and a problem when it is missing.
    pub fn required_text(&mut self, key: &'static str, what: &str) -> Option<String> {
        self.missing(key, what);
        self.text(key)
    }

    /// One of several words.
    pub fn word(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(key)?;
        let found = words.iter().find(|w| **w == text);
        if found.is_none() {
            let title = format!("`{key}` of {} is one of: {}", self.owner, words.join(", "));
            let at = self.place_of(key);
            self.problems.push(Diagnostic::error(at, title).suggest(&text, words.iter().copied()));
        }
        found.copied()
    }

    /// A number in a range, both ends allowed.
    pub fn number(&mut self, key: &'static str, low: f64, high: f64) -> Option<f64> {
        let node = self.node(key)?;
        let x = match node.value {
            Value::Integer(i) => i as f64,
            Value::Float(x) => x,
            _ => {
                self.wrong(key, node, "a number");
                return None;
            }
        };
        if (low..=high).contains(&x) {
            return Some(x);
        }
        let range =
            if high.is_finite() { format!("from {low} to {high}") } else { format!("at least {low}") };
        let title = format!("`{key}` of {} is a number {range}", self.owner);
        self.problems.push(Diagnostic::error(node.at.clone(), title).label("out of range"));
        None
    }

    /// A whole number, `low` or more.
    pub fn count(&mut self, key: &'static str, low: i64) -> Option<u64> {
        let node = self.node(key)?;
        match node.value {
            Value::Integer(i) if i >= low => u64::try_from(i).ok(),
            Value::Integer(_) => {
                let title = format!("`{key}` of {} is a whole number, {low} or more", self.owner);
                self.problems.push(Diagnostic::error(node.at.clone(), title).label("out of range"));
                None
            }
            _ => {
                self.wrong(key, node, "a whole number");
                None
            }
        }
    }

    /// A whole number from `low` to `most`.
    pub fn count_to(&mut self, key: &'static str, low: i64, most: u64) -> Option<u64> {
        let found = self.count(key, low)?;
        if found <= most {
            return Some(found);
        }
        let title = format!("`{key}` of {} is a whole number from {low} to {most}", self.owner);
        self.problems.push(Diagnostic::error(self.place_of(key), title).label("out of range"));
        None
    }

    /// true or false.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match node.value {
            Value::Boolean(b) => Some(b),
            _ => {
                self.wrong(key, node, "true or false");
                None
            }
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            self.wrong(key, node, "a list of texts");
            return None;
        };
        let text = |item: &Node| match &item.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.wrong(key, item, "a list of texts");
                None
            }
        };
        items.iter().map(text).collect()
    }

    /// A table.
    pub fn table(&mut self, key: &'static str) -> Option<&'a Table> {
        let node = self.node(key)?;
        match &node.value {
            Value::Table(table) => Some(table),
            _ => {
                self.wrong(key, node, "a table");
                None
            }
        }
    }

    /// The keys of a table under a key, read and finished by `read`.
    pub fn inner<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Keys<'_>) -> T) -> Option<T> {
        let table = self.table(key)?;
        let owner = format!("`{key}` of {}", self.owner);
        let mut inner = Keys::new(table, self.place_of(key), owner, self.scope, self.problems);
        let result = read(&mut inner);
        inner.finish();
        Some(result)
    }

    /// A file or folder that exists; relative to the pipeline. The path, and as it was written.
    pub fn path(&mut self, key: &'static str) -> Option<(PathBuf, String)> {
        let text = self.text(key)?;
        let path = self.scope.base.join(&text);
        if path.exists() {
            return Some((path, text));
        }
        let title = format!("there is no file or folder {}", path.display());
        let problem = Diagnostic::error(self.place_of(key), title).label("not found");
        self.problems.push(problem.help("paths are relative to the pipeline"));
        None
    }

    /// As [`path`](Self::path), and a problem when it is missing.
    pub fn required_path(&mut self, key: &'static str, what: &str) -> Option<(PathBuf, String)> {
        self.missing(key, what);
        self.path(key)
    }

    /// References to other steps under a key: one, or a list of alternatives.
    pub fn inputs(&mut self, key: &'static str, types: &[PortType]) -> Vec<Input> {
        let Some(node) = self.node(key) else { return vec![] };
        match &node.value {
            Value::Text(text) => self.reference(key, text, node, types).into_iter().collect(),
            Value::List(items) if items.is_empty() => {
                let title = format!("`{key}` of {} is empty", self.owner);
                self.problems.push(Diagnostic::error(node.at.clone(), title));
                vec![]
            }
            Value::List(items) => {
                let one = |item: &Node| match &item.value {
                    Value::Text(text) => self.reference(key, text, item, types),
                    _ => {
                        self.wrong(key, item, "a step or `step.port`");
                        None
                    }
                };
                items.iter().filter_map(one).collect()
            }
            _ => {
                self.wrong(key, node, "a step or `step.port`");
                vec![]
            }
        }
    }

    /// As [`inputs`](Self::inputs), and a problem when there is none.
    pub fn required_inputs(&mut self, key: &'static str, types: &[PortType], what: &str) -> Vec<Input> {
        self.missing(key, what);
        self.inputs(key, types)
    }

    fn reference(&mut self, key: &'static str, text: &str, node: &Node, types: &[PortType]) -> Option<Input> {
        let (name, port) = text.split_once('.').map_or((text, None), |(name, port)| (name, Some(port)));
        let heads = self.scope.heads;
        let Some(step) = heads.iter().position(|h| h.name == name) else {
            let problem = Diagnostic::error(node.at.clone(), format!("there is no step `{name}`"));
            self.problems.push(problem.suggest(name, heads.iter().map(|h| h.name.as_str())));
            return None;
        };
        // A step whose `use` is wrong has no known ports: its own problem says enough.
        let Ports::Known(ports) = &heads[step].ports else { return None };
        let found = match port {
            None => ports.first(),
            Some(port) => ports.iter().find(|(p, _)| *p == port),
        };
        let Some((port, found_type)) = found else {
            let title = format!("step `{name}` has no port `{}`", port.unwrap_or_default());
            let problem = Diagnostic::error(node.at.clone(), title);
            self.problems.push(problem.suggest(port.unwrap_or_default(), ports.iter().map(|(p, _)| *p)));
            return None;
        };
        if !types.contains(found_type) {
            let expected: Vec<String> = types.iter().map(ToString::to_string).collect();
            let title = format!("`{key}` of {} takes {}", self.owner, expected.join(" or "));
            let mut problem =
                Diagnostic::error(node.at.clone(), title).label(format!("this is {found_type}"));
            if let Some((fits, _)) = ports.iter().find(|(_, t)| types.contains(t)) {
                problem = problem.help(format!("`{name}.{fits}` is {}", expected.join(" or ")));
            }
            self.problems.push(problem);
            return None;
        }
        Some(Input { key, step, port: (*port).to_string(), at: node.at.clone() })
    }

    /// A component: its name, or a table with `use`, `with` and `name`. Other keys of the table go to `more`.
    pub fn call(
        &mut self,
        key: &'static str,
        kind: Kind,
        more: &mut dyn FnMut(&mut Keys<'_>),
    ) -> Option<Call> {
        let node = self.node(key)?;
        self.call_at(key, node, kind, more)
    }

    /// A list of components, or one.
    pub fn calls(
        &mut self,
        key: &'static str,
        kind: Kind,
        more: &mut dyn FnMut(&mut Keys<'_>),
    ) -> Option<Vec<Call>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            return self.call_at(key, node, kind, more).map(|call| vec![call]);
        };
        let calls: Vec<Call> =
            items.iter().filter_map(|item| self.call_at(key, item, kind.clone(), more)).collect();
        for (i, call) in calls.iter().enumerate() {
            if calls[..i].iter().any(|c| c.name == call.name) {
                let problem =
                    Diagnostic::error(call.at.clone(), format!("two entries are named `{}`", call.name));
                self.problems.push(problem.help("give one a `name`"));
            }
        }
        Some(calls)
    }

    fn call_at(
        &mut self,
        key: &'static str,
        node: &'a Node,
        kind: Kind,
        more: &mut dyn FnMut(&mut Keys<'_>),
    ) -> Option<Call> {
        let no_table = Table::default();
        let table = match &node.value {
            Value::Text(name) => {
                // The defaults of the further keys are the same as in an empty table.
                more(&mut Keys::new(&no_table, node.at.clone(), String::new(), self.scope, &mut vec![]));
                return self.component(name, &node.at, &[kind], None);
            }
            Value::Table(table) => table,
            _ => {
                self.wrong(key, node, &format!("the name of a {kind}, or a table with `use`"));
                return None;
            }
        };
        let owner = format!("`{key}` of {}", self.owner);
        let mut inner = Keys::new(table, node.at.clone(), owner, self.scope, self.problems);
        inner.missing("use", &format!("the name of a {kind}"));
        let used = inner.text("use");
        inner.table("with");
        let name = inner.text("name");
        let at = inner.place_of("use");
        more(&mut inner);
        inner.finish();
        let with = match table.get("with").map(|n| &n.value) {
            Some(Value::Table(with)) => Some(with),
            _ => None,
        };
        let mut call = self.component(&used?, &at, &[kind], with)?;
        call.name = name.unwrap_or(call.name);
        Some(call)
    }

    /// Finds a component, checks its parameters, and makes it once, for what only the plugin can check.
    pub fn component(
        &mut self,
        name: &str,
        at: &Place,
        kinds: &[Kind],
        with: Option<&Table>,
    ) -> Option<Call> {
        let (plugin, component) = match self.scope.registry.find(name, kinds) {
            Ok(found) => found,
            Err(error) => {
                let problem = lookup_problem(name, at, kinds, error, self.scope.registry);
                self.problems.push(problem);
                return None;
            }
        };
        let plugin = match self.isolation.map_or(Ok(plugin.clone()), |isolation| plugin.placed(isolation)) {
            Ok(plugin) => plugin,
            Err(reason) => {
                let title = format!("plugin `{}` cannot run in this process: {reason}", plugin.manifest.name);
                self.problems.push(Diagnostic::error(at.clone(), title));
                return None;
            }
        };
        let before = self.problems.len();
        let params =
            params::check(&component.parameters, with, &component.id, self.scope.base, self.problems);
        let call = Call { plugin, name: component.id.clone(), component, params, at: at.clone() };
        if self.problems.len() == before
            && let Err(error) = crate::steps::try_component(&call)
        {
            let at = with.and_then(|t| t.entries.first()).map_or(at.clone(), |(key, _)| key.at.clone());
            self.problems.push(Diagnostic::error(at, error.to_string()));
        }
        Some(call)
    }

    /// Reads `isolate`: where the plugins that the step names run.
    pub fn read_isolation(&mut self) {
        const MOST: f64 = 1e6;
        self.isolation = match self.node("isolate").map(|n| &n.value) {
            None => None,
            Some(Value::Boolean(true)) => Some(Isolation::Yes(Limits::default())),
            Some(Value::Boolean(false)) => Some(Isolation::No),
            Some(Value::Table(_)) => self.inner("isolate", |k| {
                let silence = k.number("seconds", 0.001, 1e9).map(Duration::from_secs_f64);
                let memory = k.number("memory_gb", 0.01, MOST).map(|gb| (gb * 1e9) as u64);
                Isolation::Yes(Limits { silence: silence.unwrap_or(Limits::default().silence), memory })
            }),
            Some(_) => {
                let title = "`isolate` is true, false, or a table such as { seconds = 60, memory_gb = 4 }";
                let at = self.place_of("isolate");
                self.problem(Diagnostic::error(at, title));
                None
            }
        };
    }

    /// The component that a step runs, with the parameters under `with`.
    pub fn own_component(&mut self, kind: Kind) -> Option<Call> {
        let name = self.text("use")?;
        let at = self.place_of("use");
        let with = self.table("with");
        let call = self.component(&name, &at, &[kind], with)?;
        let properties = call.component.parameters["properties"].as_object();
        self.params = properties.map(|p| p.keys().cloned().collect()).unwrap_or_default();
        Some(call)
    }

    /// Ends the reading: every key that was not asked for is a problem.
    pub fn finish(mut self) {
        self.asked.sort_unstable();
        self.asked.dedup();
        for (key, _) in self.table.entries.iter().filter(|_| !self.unclear) {
            if self.asked.contains(&key.name.as_str()) {
                continue;
            }
            let title = format!("{} has no key `{}`", self.owner, key.name);
            let problem = Diagnostic::error(key.at.clone(), title);
            self.problems.push(if self.params.contains(&key.name) {
                problem.help(format!("parameters stand under `with`: with = {{ {} = … }}", key.name))
            } else {
                problem.suggest(&key.name, self.asked.iter().copied())
            });
        }
    }
}

/// The problem when a component is not found.
pub fn lookup_problem(
    name: &str,
    at: &Place,
    kinds: &[Kind],
    error: LookupError,
    registry: &Registry,
) -> Diagnostic {
    let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    let kinds = kinds.join(" or ");
    match error {
        LookupError::Ambiguous(names) => {
            let title = format!("several plugins have a {kinds} `{name}`");
            Diagnostic::error(at.clone(), title).help(format!("write one of: {}", names.join(", ")))
        }
        LookupError::OtherKind(kind) => {
            Diagnostic::error(at.clone(), format!("`{name}` is a {kind}; a {kinds} is expected here"))
        }
        LookupError::Unknown(names) => {
            let failed = registry.failure_behind(name).map(|f| format!(" ({f})")).unwrap_or_default();
            let title = format!("no plugin has a {kinds} `{name}`{failed}");
            Diagnostic::error(at.clone(), title).suggest(name, names.iter().map(String::as_str))
        }
    }
}
