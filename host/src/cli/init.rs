//! `lacuna init`.

use super::look::distinct;
use super::{WRONG, print, shown};
use anyhow::{Context, Result, bail};
use clap::Args;
use lacuna::data::Frame;
use lacuna::formats::{self, Look, ValueKind};
use lacuna::pipeline::nearest;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

#[derive(Args)]
pub struct InitArgs {
    /// A file of cells, or a 10x folder.
    file: PathBuf,
    /// Only cells of this group, as in --group cell_type=microglia. Can be given several times.
    #[arg(long, value_name = "COLUMN=VALUE")]
    group: Vec<String>,
    /// Where the pipeline goes. Default: the file's name with .toml, here.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a pipeline that is there already.
    #[arg(long)]
    force: bool,
}

pub fn init(args: &InitArgs) -> Result<u8> {
    let look = formats::look(&args.file, &formats::Options::default())?;
    let name = name_of(&args.file);
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    if output.exists() && !args.force {
        eprintln!("error: {} is there already: choose another with --output, or --force", shown(&output));
        return Ok(WRONG);
    }
    let folder = std::path::absolute(&output)?.parent().unwrap_or(Path::new("/")).to_path_buf();
    let data =
        relative(&args.file.canonicalize()?, &folder.canonicalize().context("the folder of the output")?);
    let Some(data) = data.to_str() else {
        bail!("{}: a pipeline cannot name this path, which is not UTF-8: rename it", shown(&args.file));
    };
    let (text, hints) = pipeline(&look, &name, data, &args.group)?;
    std::fs::write(&output, text).with_context(|| format!("cannot write {}", output.display()))?;
    print(&format!("wrote {}\n", shown(&output)))?;
    print(&hints.iter().map(|hint| format!("{hint}\n")).collect::<String>())?;
    print(&format!("run it: lacuna run {}\n", shown(&output)))?;
    Ok(0)
}

fn name_of(file: &Path) -> String {
    let stem = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = stem.split('.').next().unwrap_or_default().to_string();
    let clean: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if clean.is_empty() { "cells".into() } else { clean }
}

/// A path as seen from a folder; both absolute.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (mut to, mut from) = (path.components().peekable(), folder.components().peekable());
    while to.peek().is_some() && to.peek() == from.peek() {
        to.next();
        from.next();
    }
    let up = from.map(|_| Component::ParentDir);
    up.chain(to).collect()
}

/// Words for cells that nobody perturbed, the likeliest first.
const CONTROL: [&str; 12] = [
    "control",
    "ctrl",
    "wt",
    "wild-type",
    "wildtype",
    "wild type",
    "non-targeting",
    "nt",
    "unperturbed",
    "untreated",
    "scramble",
    "mock",
];

/// Annotations that say what was done to a cell.
const TREATMENT: [&str; 5] = ["perturbation", "condition", "genotype", "guide_identity", "treatment"];

/// More genes than this are narrowed down.
const MANY_GENES: usize = 2500;

fn pipeline(look: &Look, name: &str, path: &str, groups: &[String]) -> Result<(String, Vec<String>)> {
    let mut hints = vec![];
    let conditions = conditions(&look.obs, groups, &mut hints)?;
    if groups.is_empty()
        && let Some(types) = look.obs.column("cell_type").map(distinct).filter(|t| t.len() > 1)
    {
        let names: Vec<String> = types.into_keys().collect();
        hints.push(format!(
            "there are {} cell types ({}): one alone is better, --group",
            names.len(),
            names.join(", ")
        ));
    }
    let targets = targets(look);
    let mut text = format!(
        "# Which genes are keystones in these cells? Written by `lacuna init`; every line can be changed.\n\
         format = 1\nname = \"{name}\"\nseed = 1\n\n[steps.cells]\nuse = \"read\"\npath = {}\n{}",
        quoted(path),
        matrix_line(look, &mut hints)?
    );
    text += "\n[steps.chosen]\nuse = \"prepare\"\nfrom = \"cells\"\n";
    if !conditions.is_empty() {
        let list: Vec<String> = conditions
            .iter()
            .map(|(column, values)| format!("{} = {}", key(column), one_of(values)))
            .collect();
        let _ = writeln!(text, "where = {{ {} }}", list.join(", "));
    }
    text += &genes_line(look, &targets);
    text += STEPS;
    if !targets.is_empty() {
        let list: Vec<String> = targets.iter().map(|t| quoted(t)).collect();
        let _ = writeln!(
            text,
            "effects = {{ top = 50, genes = [{}] }}   # whose effects are written",
            list.join(", ")
        );
    }
    text += REPORT;
    Ok((text, hints))
}

const STEPS: &str = r#"
[steps.parts]
use = "split"                      # 64 % train, 16 % validation, 20 % test
from = "chosen"

[steps.model]
use = "mlp"                        # `lacuna plugin inspect mlp` shows its parameters
train = "parts.train"
validation = "parts.validation"
ensemble = 8                       # as many seeds, averaged: two fits to real cells disagree
# uncertainty = true               # intervals and p values, by refits: takes many times as long
with = { steps = 5000, validate_every = 10, patience = 100 }

[steps.mapping]
use = "evaluate"                   # on cells that the model has not seen, beside simple baselines
models = ["model"]
cells = "parts.test"
metrics = ["spearman", "bray-curtis"]

[steps.screen]
use = "screen"
model = "model"
cells = "chosen"
knockouts = "each-expressed-gene"
impact = { use = "bray-curtis", against = "predicted-null" }   # the excess over a knockout without consequence
"#;

const REPORT: &str = r#"
[steps.report]
use = "report"
from = ["screen", "mapping"]
"#;

/// Which cells are chosen: for each annotation, the values that pass. Who says which treatment is meant, means it.
fn conditions(
    obs: &Frame,
    groups: &[String],
    hints: &mut Vec<String>,
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut conditions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for group in groups {
        let (column, value) = read_group(group, obs)?;
        conditions.entry(column).or_default().push(value);
    }
    if TREATMENT.iter().any(|column| conditions.contains_key(*column)) {
        return Ok(conditions);
    }
    match control(obs) {
        Some((column, value)) => {
            hints.push(format!("chose the cells with {column} = {value}"));
            conditions.insert(column, vec![value]);
        }
        None => hints.push("found no annotation that marks control cells: all cells are used".into()),
    }
    Ok(conditions)
}

/// A value, or a list of values, as TOML writes it.
fn one_of(values: &[String]) -> String {
    match values {
        [one] => quoted(one),
        all => format!("[{}]", all.iter().map(|v| quoted(v)).collect::<Vec<_>>().join(", ")),
    }
}

/// The annotation and value that mark control cells.
fn control(obs: &Frame) -> Option<(String, String)> {
    TREATMENT.iter().find_map(|column| {
        let values = distinct(obs.column(column)?);
        let find = |word: &str| values.keys().find(|v| v.to_lowercase() == word);
        CONTROL.iter().find_map(|word| find(word)).map(|v| (column.to_string(), v.clone()))
    })
}

fn read_group(group: &str, obs: &Frame) -> Result<(String, String)> {
    let Some((column, value)) = group.split_once('=') else {
        bail!("--group {group}: expected COLUMN=VALUE, as in cell_type=microglia");
    };
    let columns: Vec<&str> = obs.columns.iter().map(|c| c.name.as_str()).collect();
    let hint = |word: &str, known: &[&str]| match nearest(word, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; there are: {}", known.join(", ")),
    };
    let Some(found) = obs.column(column) else {
        bail!("--group {group}: the cells have no annotation `{column}`{}", hint(column, &columns));
    };
    let values = distinct(found);
    if !values.contains_key(value) {
        let known: Vec<&str> = values.keys().map(String::as_str).collect();
        bail!("--group {group}: no cell has {column} = {value}{}", hint(value, &known));
    }
    Ok((column.into(), value.into()))
}

/// Genes that were perturbed in other cells of the file.
fn targets(look: &Look) -> Vec<String> {
    let Some(column) = look.obs.column("perturbation") else { return vec![] };
    distinct(column).into_keys().filter(|v| look.var.names.contains(v)).take(20).collect()
}

fn genes_line(look: &Look, targets: &[String]) -> String {
    let always: Vec<String> = targets.iter().map(|t| quoted(t)).collect();
    let always =
        if always.is_empty() { String::new() } else { format!(", always = [{}]", always.join(", ")) };
    if look.var.len() > MANY_GENES {
        format!("genes = {{ min_cells = 0.05, highly_variable = 2000, dominant = 0.2{always} }}\n")
    } else {
        format!("genes = {{ min_cells = 0.05, dominant = 0.2{always} }}\n")
    }
}

/// Where counts are, if they are not in X.
fn matrix_line(look: &Look, hints: &mut Vec<String>) -> Result<String> {
    let kind = |name: &str| {
        let (_, summary) = look.matrices.iter().find(|(info, _)| info.name == name)?;
        summary.as_ref().ok().map(|s| s.kind)
    };
    let x = kind("X");
    if matches!(x, Some(ValueKind::Counts | ValueKind::Profile)) {
        return Ok(String::new());
    }
    let mut names = look.matrices.iter().map(|(info, _)| info.name.as_str());
    match (names.find(|name| kind(name) == Some(ValueKind::Counts)), x) {
        (Some("raw/X"), _) => Ok("raw = true\n".into()),
        (Some(name), _) => Ok(format!("layer = {}\n", quoted(name.trim_start_matches("layers/")))),
        (None, Some(ValueKind::Normalised | ValueKind::NonNegative | ValueKind::Log1p)) => {
            hints.push(
                "X holds neither counts nor profiles, nor does another matrix: taken as abundances".into(),
            );
            Ok("values = \"abundances\"\n".into())
        }
        (None, Some(kind)) => bail!("X is {kind}, and no other matrix of the file holds counts"),
        (None, None) => bail!("the file has no X that can be read, and no other matrix of it holds counts"),
    }
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            c if c.is_control() => out += &format!("\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// A key as TOML writes it.
fn key(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { text.into() } else { quoted(text) }
}
