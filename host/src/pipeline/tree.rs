//! The TOML text as a tree in which every key and value knows its place.

use super::diagnostics::{Diagnostic, Place, Sources};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub at: Place,
}

/// A value of TOML.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// true or false.
    Boolean(bool),
    /// A date or time, which no parameter takes.
    Date(String),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// Entries in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Keys and values.
    pub entries: Vec<(Key, Node)>,
}

/// A key and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub at: Place,
}

impl Table {
    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|(k, _)| k.name == name).map(|(_, v)| v)
    }
}

impl Value {
    /// What kind of value it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses the pipeline's text, the first of the sources. All syntax errors become diagnostics.
pub fn parse(sources: &Sources, problems: &mut Vec<Diagnostic>) -> Table {
    parse_source(sources, 0, problems)
}

fn parse_source(sources: &Sources, source: usize, problems: &mut Vec<Diagnostic>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(sources.text(source));
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        problems.push(Diagnostic::error(Place { source, range }, error.message().to_string()));
    }
    convert_table(table.get_ref(), source, problems)
}

fn convert_table(table: &DeTable<'_>, source: usize, problems: &mut Vec<Diagnostic>) -> Table {
    let mut entries: Vec<(Key, Node)> = table
        .iter()
        .map(|(key, value)| {
            let at = Place { source, range: key.span() };
            (Key { name: key.get_ref().to_string(), at }, convert(value, source, problems))
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.at.range.start);
    Table { entries }
}

fn convert(node: &Spanned<DeValue<'_>>, source: usize, problems: &mut Vec<Diagnostic>) -> Node {
    let at = Place { source, range: node.span() };
    let value = match node.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => Value::Integer(i),
            Err(_) => {
                problems.push(Diagnostic::error(at.clone(), "this whole number is too large"));
                Value::Integer(0)
            }
        },
        DeValue::Float(f) => Value::Float(f.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Array(items) => Value::List(items.iter().map(|n| convert(n, source, problems)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table, source, problems)),
    };
    Node { value, at }
}

/// Applies `--set steps.model.with.steps=100`, of the source with this number, to the tree.
///
/// What stands right of `=` is a TOML value, or a text if it is none.
pub fn apply_override(root: &mut Table, sources: &Sources, source: usize, problems: &mut Vec<Diagnostic>) {
    let text = sources.text(source);
    let Some((path, right)) = text.split_once('=') else {
        let place = Place { source, range: 0..text.len() };
        problems
            .push(Diagnostic::error(place, "expected `key.path=value`, as in `steps.model.with.steps=100`"));
        return;
    };
    let start = path.len() + 1;
    let value = match DeValue::parse(right) {
        Ok(value) => shifted(convert(&value, source, problems), start),
        Err(_) => {
            let range = start..text.len();
            Node { value: Value::Text(right.trim().to_string()), at: Place { source, range } }
        }
    };
    let mut at = 0;
    let keys: Vec<Key> = path
        .split('.')
        .map(|part| {
            let range = at..at + part.len();
            at = range.end + 1;
            Key { name: part.trim().to_string(), at: Place { source, range } }
        })
        .collect();
    insert(root, &keys, value, problems);
}

fn shifted(mut node: Node, by: usize) -> Node {
    let shift = |place: &mut Place| place.range = place.range.start + by..place.range.end + by;
    shift(&mut node.at);
    node.value = match node.value {
        Value::List(items) => Value::List(items.into_iter().map(|n| shifted(n, by)).collect()),
        Value::Table(table) => {
            let entry = |(mut key, node): (Key, Node)| {
                shift(&mut key.at);
                (key, shifted(node, by))
            };
            Value::Table(Table { entries: table.entries.into_iter().map(entry).collect() })
        }
        other => other,
    };
    node
}

fn insert(table: &mut Table, keys: &[Key], value: Node, problems: &mut Vec<Diagnostic>) {
    let [key, rest @ ..] = keys else { return };
    let found = table.entries.iter().position(|(k, _)| k.name == key.name);
    if rest.is_empty() {
        match found {
            Some(i) => table.entries[i].1 = value,
            None => table.entries.push((key.clone(), value)),
        }
        return;
    }
    let i = found.unwrap_or_else(|| {
        let node = Node { value: Value::Table(Table::default()), at: key.at.clone() };
        table.entries.push((key.clone(), node));
        table.entries.len() - 1
    });
    // `knockouts = "pairs"` and `--set steps.x.knockouts.with.sample=5`: the name is short for a table.
    let node = &mut table.entries[i].1;
    if let Value::Text(name) = &node.value {
        let used = Node { value: Value::Text(name.clone()), at: node.at.clone() };
        let key = Key { name: "use".into(), at: node.at.clone() };
        node.value = Value::Table(Table { entries: vec![(key, used)] });
    }
    match &mut node.value {
        Value::Table(inner) => insert(inner, rest, value, problems),
        other => {
            let message =
                format!("`{}` is {}, not a table: nothing can be set in it", key.name, other.kind());
            problems.push(Diagnostic::error(key.at.clone(), message));
        }
    }
}
