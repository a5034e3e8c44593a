//! A component's parameters against its JSON schema: checked, completed with defaults, files resolved.

use super::diagnostics::{Diagnostic, Place};
use super::tree::{Node, Table, Value};
use serde_json::{Map, Value as Json, json};
use std::path::{Path, PathBuf};

/// Parameters that passed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params {
    /// What the plugin gets: defaults filled in, files as absolute paths.
    pub values: Json,
    /// The same with files as written, for records.
    pub written: Json,
    /// The files among them.
    pub files: Vec<PathBuf>,
}

/// Checks a table (or nothing) against the schema of a component's parameters.
pub fn check(
    schema: &Json,
    table: Option<&Table>,
    component: &str,
    base: &Path,
    problems: &mut Vec<Diagnostic>,
) -> Params {
    let mut checker = Checker { component, base, problems, files: vec![] };
    let empty = Table::default();
    let (values, written) = checker.object(schema, table.unwrap_or(&empty), "");
    Params { values, written, files: checker.files }
}

struct Checker<'a> {
    component: &'a str,
    base: &'a Path,
    problems: &'a mut Vec<Diagnostic>,
    files: Vec<PathBuf>,
}

/// What the plugin gets, and what was written.
type Pair = (Json, Json);

impl Checker<'_> {
    fn object(&mut self, schema: &Json, table: &Table, prefix: &str) -> Pair {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let (mut values, mut written) = (Map::new(), Map::new());
        for (name, property) in properties {
            let path = format!("{prefix}{name}");
            let pair = match table.get(name) {
                Some(node) => self.value(property, node, &path),
                None => property.get("default").map(|d| (d.clone(), d.clone())),
            };
            if let Some((value, text)) = pair {
                values.insert(name.clone(), value);
                written.insert(name.clone(), text);
            }
        }
        for (key, _) in table.entries.iter().filter(|(k, _)| !properties.contains_key(&k.name)) {
            let title = format!("`{}` has no parameter `{prefix}{}`", self.component, key.name);
            let known = properties.keys().map(String::as_str);
            self.problems.push(Diagnostic::error(key.at.clone(), title).suggest(&key.name, known));
        }
        (Json::Object(values), Json::Object(written))
    }

    fn value(&mut self, schema: &Json, node: &Node, path: &str) -> Option<Pair> {
        let same = |value: Json| Some((value.clone(), value));
        match (schema["type"].as_str().unwrap_or(""), &node.value) {
            ("boolean", Value::Boolean(b)) => same(json!(b)),
            ("integer", Value::Integer(i)) => {
                self.in_range(schema, *i as f64, node, path)?;
                same(json!(i))
            }
            ("number", Value::Integer(i)) => {
                self.in_range(schema, *i as f64, node, path)?;
                same(json!(*i as f64))
            }
            ("number", Value::Float(x)) => {
                self.in_range(schema, *x, node, path)?;
                same(json!(x))
            }
            ("string", Value::Text(text)) if schema["format"] == "path" => self.file(text, &node.at),
            ("string", Value::Text(text)) => {
                self.one_of(schema, text, node, path)?;
                same(json!(text))
            }
            ("array", Value::List(items)) => {
                let item = |(i, n): (usize, &Node)| self.value(&schema["items"], n, &format!("{path}[{i}]"));
                let pairs: Option<Vec<Pair>> = items.iter().enumerate().map(item).collect();
                let (values, written): (Vec<Json>, Vec<Json>) = pairs?.into_iter().unzip();
                Some((values.into(), written.into()))
            }
            ("object", Value::Table(table)) => Some(self.object(schema, table, &format!("{path}."))),
            (expected, found) => {
                let title = format!("`{path}` of `{}` is {}", self.component, in_words(schema, expected));
                let problem =
                    Diagnostic::error(node.at.clone(), title).label(format!("this is {}", found.kind()));
                self.problems.push(problem);
                None
            }
        }
    }

    fn in_range(&mut self, schema: &Json, x: f64, node: &Node, path: &str) -> Option<()> {
        let limit = |name: &str| schema[name].as_f64();
        let fits = x.is_finite()
            && limit("minimum").is_none_or(|min| x >= min)
            && limit("exclusiveMinimum").is_none_or(|min| x > min)
            && limit("maximum").is_none_or(|max| x <= max)
            && limit("exclusiveMaximum").is_none_or(|max| x < max);
        if fits {
            return Some(());
        }
        let title = format!("`{path}` of `{}` is {}", self.component, range_in_words(schema));
        let label = if x.is_finite() { "out of range" } else { "not finite" };
        self.problems.push(Diagnostic::error(node.at.clone(), title).label(label));
        None
    }

    fn one_of(&mut self, schema: &Json, text: &str, node: &Node, path: &str) -> Option<()> {
        let Some(words) = schema["enum"].as_array() else { return Some(()) };
        let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
        if words.contains(&text) {
            return Some(());
        }
        let title = format!("`{path}` of `{}` is one of: {}", self.component, words.join(", "));
        self.problems.push(Diagnostic::error(node.at.clone(), title).suggest(text, words));
        None
    }

    fn file(&mut self, text: &str, at: &Place) -> Option<Pair> {
        let path = self.base.join(text);
        if !path.is_file() {
            let title = format!("there is no file {}", path.display());
            self.problems
                .push(Diagnostic::error(at.clone(), title).help("paths are relative to the pipeline"));
            return None;
        }
        let Some(absolute) = path.to_str() else {
            let title = format!("the path {} is not UTF-8, so no plugin can be told of it", path.display());
            self.problems.push(Diagnostic::error(at.clone(), title));
            return None;
        };
        let pair = (json!(absolute), json!(text));
        self.files.push(path);
        Some(pair)
    }
}

fn in_words(schema: &Json, kind: &str) -> String {
    match kind {
        "boolean" => "true or false".into(),
        "integer" => "a whole number".into(),
        "number" => "a number".into(),
        "string" if schema["format"] == "path" => "the path of a file".into(),
        "string" if schema["enum"].is_array() => "one of several words".into(),
        "string" => "a text".into(),
        "array" => {
            let items = in_words(&schema["items"], schema["items"]["type"].as_str().unwrap_or(""));
            format!("a list, each entry {items}")
        }
        "object" => "a table".into(),
        other => format!("of type {other}"),
    }
}

/// The range of a number in words.
pub fn range_in_words(schema: &Json) -> String {
    let limit = |name: &str, words: &str| schema[name].as_f64().map(|x| format!("{words} {x}"));
    let low = limit("minimum", "at least").or_else(|| limit("exclusiveMinimum", "more than"));
    let high = limit("maximum", "at most").or_else(|| limit("exclusiveMaximum", "less than"));
    match (low, high) {
        (Some(low), Some(high)) => format!("{low} and {high}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "a number".into(),
    }
}
