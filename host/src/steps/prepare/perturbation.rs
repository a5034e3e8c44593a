//! The key `perturbation`: the annotation that says which perturbation was measured in each cell.

use super::find_genes;
use crate::data::{CellSet, LabelRules, Measured};
use crate::pipeline::{Diagnostic, Keys, Node, Value};
use crate::plugin::Services;
use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// The annotation, and how its values are read.
pub struct Labels {
    column: String,
    rules: LabelRules,
}

impl Labels {
    /// A column's name, or a table with `column`, `control` and `targets`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        match keys.node("perturbation").map(|node: &Node| &node.value)? {
            Value::Text(column) => Some(Self { column: column.clone(), rules: LabelRules::default() }),
            Value::Table(_) => keys.inner("perturbation", Self::of_table).flatten(),
            _ => {
                let at = keys.place_of("perturbation");
                let title = "`perturbation` is an annotation of the cells, or a table with `column`";
                keys.problem(Diagnostic::error(at, title).help("perturbation = \"perturbation\""));
                None
            }
        }
    }

    fn of_table(keys: &mut Keys<'_>) -> Option<Self> {
        let column = keys.required_text("column", "the annotation that names each cell's perturbation");
        let control = keys.node("control").map(|node| one_or_more("control", node, keys)).unwrap_or_default();
        let told = keys.table("targets").map(|table| table.entries.as_slice()).unwrap_or_default();
        let mut targets = BTreeMap::new();
        for (value, node) in told {
            let genes = one_or_more("targets", node, keys);
            if genes.is_empty() {
                let title = format!("`targets` names no gene for `{}`", value.name);
                let help = "a value that means a control stands under `control`";
                keys.problem(Diagnostic::error(node.at.clone(), title).help(help));
            }
            targets.insert(value.name.clone(), genes);
        }
        Some(Self { column: column?, rules: LabelRules { control, targets } })
    }

    /// For the step's key.
    pub fn spec(&self) -> Json {
        json!({ "column": self.column, "control": self.rules.control, "targets": self.rules.targets })
    }

    /// The cells that have a value, with their perturbations.
    ///
    /// # Errors
    /// When there is no such annotation, when no cell is a control, when `targets` names an unknown gene.
    pub fn read(&self, cells: &CellSet, host: &Services) -> Result<CellSet> {
        let column = crate::run::obs_column(cells.obs(), &self.column).context("`perturbation`")?;
        for targets in self.rules.targets.values() {
            find_genes(cells.var(), targets, "perturbation.targets")?;
        }
        let labels = column.texts();
        let rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i].is_some()).collect();
        if rows.len() < cells.len() {
            let missing = cells.len() - rows.len();
            host.warn(format!("{missing} cells have no value of `{}`: left out", self.column));
        }
        let labels: Vec<String> = labels.into_iter().flatten().collect();
        ensure!(!labels.is_empty(), "no cell has a value of `{}`", self.column);
        self.check_rules(&labels, host);
        let measured = Measured::read(&labels, &cells.var().names, &self.rules);
        self.check(&measured, host)?;
        Ok(cells.select_cells(&rows).with_measured(measured))
    }

    /// A value that the pipeline speaks of and no cell has is most likely misspelt.
    fn check_rules(&self, labels: &[String], host: &Services) {
        let spoken_of = self.rules.targets.keys().chain(&self.rules.control);
        let absent: Vec<&str> = spoken_of.filter(|v| !labels.contains(v)).map(String::as_str).collect();
        if !absent.is_empty() {
            host.warn(format!("no cell has `{}` {}", self.column, absent.join(" or ")));
        }
    }

    fn check(&self, measured: &Measured, host: &Services) -> Result<()> {
        let values: Vec<&str> = measured.kinds.iter().map(|p| p.label.as_str()).collect();
        ensure!(
            measured.kinds.iter().any(|p| p.is_control()),
            "no value of `{}` means a control; it is: {}. Say which one does: \
             perturbation = {{ column = \"{}\", control = \"…\" }}",
            self.column,
            first(&values),
            self.column
        );
        let unknown: Vec<&str> =
            measured.kinds.iter().filter(|p| p.targets.is_none()).map(|p| p.label.as_str()).collect();
        if !unknown.is_empty() {
            host.warn(format!(
                "{} of the {} values of `{}` name no genes of these cells: {}. Their cells are neither controls nor \
                 scored; `targets` of `perturbation` can name their genes",
                unknown.len(),
                values.len(),
                self.column,
                first(&unknown)
            ));
        }
        Ok(())
    }
}

/// The first of many names.
fn first(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

/// A text, or a list of texts.
fn one_or_more(key: &str, node: &Node, keys: &mut Keys<'_>) -> Vec<String> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let text = |item: &Node| match &item.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().map(text).collect::<Option<_>>().unwrap_or_else(|| {
        let title = format!("`{key}` of `perturbation` is a text or a list of texts");
        keys.problem(Diagnostic::error(node.at.clone(), title));
        vec![]
    })
}
