//! The lock file: what a pipeline ran with, so that a later run can refuse to be another one.
//!
//! It lies beside the pipeline and holds no time and no absolute path of its own, so that it is the same bytes each
//! time and can be kept under version control. Libraries that it names are trusted; see [`Trust`].

use super::plan::{Plan, Step};
use crate::plugin::{Plugin, Trust};
use crate::run::{hashed_files, platform, write_atomically};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The format that is written and read.
const FORMAT: i64 = 1;

/// What stands above the lock.
const HEADER: &str = "\
# Made by `lacuna lock`. `lacuna run --locked` refuses to run anything else. The libraries under [plugins] are
# trusted: they run in Lacuna's own process. (Commands run in processes of their own.)
";

/// What a pipeline runs with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    format: i64,
    /// Lacuna's version.
    lacuna: String,
    /// The border's version.
    border: String,
    /// Operating system and architecture.
    platform: String,
    /// The plugins that its steps use, by name.
    #[serde(default)]
    pub plugins: BTreeMap<String, LockedPlugin>,
    /// The files that its steps read, as the pipeline names them, with their hashes.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Its steps as they were resolved, by name.
    #[serde(default)]
    pub steps: BTreeMap<String, toml::Table>,
}

/// One plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPlugin {
    version: String,
    /// The border that it was built for.
    abi: String,
    sha256: String,
}

impl Lock {
    /// Where the lock file of a pipeline lies: `cells.lock` beside `cells.toml`.
    pub fn path(pipeline: &Path) -> PathBuf {
        let file = super::file_of(pipeline);
        if file.extension().is_some_and(|ending| ending == "toml") {
            return file.with_extension("lock");
        }
        // Another ending stays, lest a pipeline be its own lock.
        let mut name = file.file_name().unwrap_or_default().to_os_string();
        name.push(".lock");
        file.with_file_name(name)
    }

    /// What this plan would run with.
    ///
    /// # Errors
    /// When an input file cannot be read.
    pub fn of(plan: &Plan) -> Result<Self> {
        let border = [lacuna_abi::ABI_MAJOR, lacuna_abi::ABI_MINOR, lacuna_abi::ABI_PATCH];
        Ok(Self {
            format: FORMAT,
            lacuna: env!("CARGO_PKG_VERSION").into(),
            border: border.map(|number| number.to_string()).join("."),
            platform: platform(),
            plugins: plan.plugins().into_iter().map(|p| (p.manifest.name.clone(), locked(p))).collect(),
            files: files(plan)?,
            steps: plan.steps.iter().map(|step| (step.name.clone(), resolved(plan, step))).collect(),
        })
    }

    /// Reads a lock file; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("cannot read the lock file {}", path.display()))?,
        };
        let lock = parse(&text);
        lock.with_context(|| format!("{} is no lock file that this Lacuna reads", path.display())).map(Some)
    }

    /// Writes the lock file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string_pretty(self).context("cannot write the lock as TOML")?;
        write_atomically(path, format!("{HEADER}\n{text}").as_bytes())
    }

    /// Whether it names a library of this hash.
    pub fn names(&self, sha256: &str) -> bool {
        self.plugins.values().any(|plugin| plugin.sha256 == sha256)
    }

    /// What it says of libraries.
    pub(super) fn trust(&self) -> Trust {
        let locked = self.plugins.values().map(|plugin| plugin.sha256.clone()).collect();
        Trust { locked, any_owner: false }
    }

    /// How what was found differs from what is locked: a line for each difference, none if there is none.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut lines = vec![];
        let versions = [
            ("Lacuna", &self.lacuna, &found.lacuna),
            ("border", &self.border, &found.border),
            ("platform", &self.platform, &found.platform),
        ];
        for (what, locked, found) in versions.into_iter().filter(|(_, locked, found)| locked != found) {
            lines.push(format!("{what}: locked {locked}, found {found}"));
        }
        compare("plugin", &self.plugins, &found.plugins, plugin_differences, &mut lines);
        compare("input file", &self.files, &found.files, file_differences, &mut lines);
        compare("step", &self.steps, &found.steps, step_differences, &mut lines);
        lines
    }
}

fn parse(text: &str) -> Result<Lock> {
    let table: toml::Table = text.parse()?;
    match table.get("format") {
        Some(toml::Value::Integer(FORMAT)) => Ok(table.try_into()?),
        Some(other) => bail!("expected `format = {FORMAT}`, found `format = {other}`"),
        None => bail!("expected `format = {FORMAT}`, found no format"),
    }
}

fn locked(plugin: &Plugin) -> LockedPlugin {
    LockedPlugin {
        version: plugin.manifest.version.clone(),
        abi: plugin.manifest.abi.map(|number| number.to_string()).join("."),
        sha256: plugin.sha256.clone(),
    }
}

/// The files that steps read, as the pipeline names them; of a folder its files.
fn files(plan: &Plan) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for path in plan.steps.iter().flat_map(|step| step.action.files()) {
        for (file, hash) in hashed_files(&path)? {
            let shown = file.strip_prefix(&plan.base).unwrap_or(&file);
            all.insert(shown.to_string_lossy().replace('\\', "/"), hash);
        }
    }
    Ok(all)
}

fn resolved(plan: &Plan, step: &Step) -> toml::Table {
    let mut json = plan.resolved(step);
    // Seeds go beyond what TOML can hold as numbers.
    json["seed"] = step.seed.to_string().into();
    match to_toml(&json) {
        Some(toml::Value::Table(table)) => table,
        _ => toml::Table::new(),
    }
}

/// JSON as TOML, which has no null: what is null is left out. A whole number beyond TOML's range becomes a text.
fn to_toml(value: &Json) -> Option<toml::Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(b) => toml::Value::Boolean(*b),
        Json::String(text) => toml::Value::String(text.clone()),
        Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(i), ..) => toml::Value::Integer(i),
            (None, None, Some(x)) => toml::Value::Float(x),
            _ => toml::Value::String(n.to_string()),
        },
        Json::Array(items) => toml::Value::Array(items.iter().filter_map(to_toml).collect()),
        Json::Object(entries) => {
            let entry = |(key, value): (&String, &Json)| Some((key.clone(), to_toml(value)?));
            toml::Value::Table(entries.iter().filter_map(entry).collect())
        }
    })
}

/// Adds a line for each difference between two tables of the same sort of things.
fn compare<T>(
    kind: &str,
    locked: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
    differences: fn(&T, &T) -> Vec<String>,
    lines: &mut Vec<String>,
) {
    for name in locked.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let told = match (locked.get(name), found.get(name)) {
            (Some(locked), Some(found)) => differences(locked, found),
            (Some(_), None) => vec!["locked, but not found".into()],
            (None, _) => vec!["found, but not locked".into()],
        };
        lines.extend(told.into_iter().map(|told| format!("{kind} `{name}`: {told}")));
    }
}

fn plugin_differences(locked: &LockedPlugin, found: &LockedPlugin) -> Vec<String> {
    let fields = [
        ("version", &locked.version, &found.version),
        ("border", &locked.abi, &found.abi),
        ("sha256", &locked.sha256, &found.sha256),
    ];
    let differing = fields.into_iter().filter(|(_, locked, found)| locked != found);
    differing.map(|(what, a, b)| format!("locked {what} {}, found {}", short(a), short(b))).collect()
}

fn file_differences(locked: &String, found: &String) -> Vec<String> {
    let differ = locked != found;
    differ.then(|| format!("locked blake3 {}, found {}", short(locked), short(found))).into_iter().collect()
}

/// A version, or the beginning of a hash, enough to tell it from others.
fn short(text: &str) -> String {
    const SHOWN: usize = 16;
    if text.chars().count() <= SHOWN {
        return text.into();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

fn step_differences(locked: &toml::Table, found: &toml::Table) -> Vec<String> {
    let (locked, found) = (leaves(locked), leaves(found));
    let keys: BTreeSet<&String> = locked.keys().chain(found.keys()).collect();
    let difference = |key: &String| {
        let (a, b) = (locked.get(key), found.get(key));
        let (a, b) = (a.map_or("nothing", String::as_str), b.map_or("nothing", String::as_str));
        (a != b).then(|| format!("`{key}` locked {}, found {}", cut(a, b), cut(b, a)))
    };
    keys.into_iter().filter_map(difference).collect()
}

/// All values of a step by their paths, as a pipeline writes them: `with.steps`, `impact[0].against`.
fn leaves(step: &toml::Table) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (key, value) in step {
        match value {
            toml::Value::Table(keys) if key == "keys" || key == "inputs" => {
                keys.iter().for_each(|(key, value)| add_leaves(key, value, &mut all));
            }
            value => add_leaves(key, value, &mut all),
        }
    }
    all
}

fn add_leaves(path: &str, value: &toml::Value, all: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(key, value)| add_leaves(&format!("{path}.{key}"), value, all));
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(i, item)| add_leaves(&format!("{path}[{i}]"), item, all));
        }
        value => drop(all.insert(path.into(), value.to_string())),
    }
}

/// A value; of a long one the part where it begins to differ from the other.
fn cut(value: &str, other: &str) -> String {
    const LONGEST: usize = 60;
    const BEFORE: usize = 20;
    if value.chars().count() <= LONGEST {
        return value.into();
    }
    let same = value.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let start = same.saturating_sub(BEFORE);
    let part: String = value.chars().skip(start).take(LONGEST).collect();
    let (left, right) = (if start > 0 { "…" } else { "" }, value.chars().count() > start + LONGEST);
    format!("{left}{part}{}", if right { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(spec: Json) -> toml::Table {
        let Some(toml::Value::Table(table)) = to_toml(&spec) else { panic!("no table") };
        table
    }

    #[test]
    fn a_lock_lies_beside_its_pipeline() {
        let of = |path: &str| Lock::path(Path::new(path)).display().to_string();
        assert_eq!(of("a/cells.toml"), "a/cells.lock");
        assert_eq!(of("a/cells.lock"), "a/cells.lock.lock");
        assert_eq!(of("a/cells"), "a/cells.lock");
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipeline.lock");
        assert_eq!(Lock::read(&path).unwrap(), None);
        let spec =
            json!({ "seed": u64::MAX, "by": null, "keys": { "with": { "x": 0.1, "n": 3, "g": ["a"] } } });
        let lock = Lock {
            format: FORMAT,
            lacuna: "0.1.0".into(),
            border: "0.1.0".into(),
            platform: platform(),
            plugins: BTreeMap::new(),
            files: BTreeMap::from([("a b.csv".into(), "0123".into())]),
            steps: BTreeMap::from([("model".into(), step(spec))]),
        };
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), Some(lock.clone()));
        assert_eq!(lock.differences(&lock), [""; 0]);
        std::fs::write(&path, "format = 2").unwrap();
        let error = format!("{:#}", Lock::read(&path).unwrap_err());
        assert!(error.ends_with("expected `format = 1`, found `format = 2`"), "{error}");
    }

    #[test]
    fn each_value_that_differs_is_told_with_its_path() {
        let locked =
            json!({ "use": "x", "keys": { "use": "x", "with": { "n": 1 }, "impact": [{ "against": "a" }] } });
        let found = json!({ "use": "y", "keys": { "use": "y", "with": {}, "impact": [{ "against": "b" }] } });
        let expected = [
            "`impact[0].against` locked \"a\", found \"b\"",
            "`use` locked \"x\", found \"y\"",
            "`with.n` locked 1, found nothing",
        ];
        assert_eq!(step_differences(&step(locked), &step(found)), expected);
    }

    #[test]
    fn of_long_values_the_part_that_differs_is_shown() {
        let long = |end: &str| format!("{}{end}{}", "a".repeat(100), "z".repeat(100));
        assert_eq!(cut(&long("1"), &long("2")), format!("…{}1{}…", "a".repeat(20), "z".repeat(39)));
        assert_eq!(cut("short", &long("2")), "short");
    }
}
