//! What a 10x file measures: genes, and sometimes antibodies, guides and the like.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow_array::{ArrayRef, StringArray};

use super::text::Lines;
use crate::data::{Csr, Frame};

const EXPRESSION: &str = "Gene Expression";

/// The features of a 10x matrix, in its order.
#[derive(Debug, Default)]
pub(super) struct Features {
    /// Gene symbols.
    pub names: Vec<String>,
    /// Ensembl ids.
    pub ids: Vec<String>,
    /// "Gene Expression", "Antibody Capture", …; empty in files of Cell Ranger before 3.
    pub kinds: Vec<String>,
    /// Genome of each feature; empty where the file does not state it.
    pub genomes: Vec<String>,
}

impl Features {
    /// Number of features.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The genes among the features, with the columns that scanpy names so: `gene_ids`, `feature_types`, `genome`.
    pub(super) fn keep_expression(self, x: Csr, warnings: &mut Vec<String>) -> (Csr, Frame) {
        let mut frame = Frame::of_names(self.names);
        let columns =
            [("gene_ids", self.ids), ("feature_types", self.kinds.clone()), ("genome", self.genomes)];
        for (name, values) in columns {
            if !values.is_empty() {
                frame.push(name, Arc::new(StringArray::from(values)) as ArrayRef);
            }
        }
        let genes: Vec<usize> = (0..self.kinds.len()).filter(|&i| self.kinds[i] == EXPRESSION).collect();
        if genes.len() == self.kinds.len() {
            return (x, frame);
        }
        if genes.is_empty() {
            warnings.push(format!(
                "no feature is of the kind {EXPRESSION:?}: all are kept ({})",
                count(&self.kinds)
            ));
            return (x, frame);
        }
        let others: Vec<String> = self.kinds.iter().filter(|k| *k != EXPRESSION).cloned().collect();
        let left = count(&others);
        warnings.push(format!(
            "{} features of the kind {EXPRESSION:?} are kept, others left out: {left}",
            genes.len()
        ));
        (x.select_cols(&genes), frame.select(&genes))
    }
}

/// How many there are of each kind, in words.
fn count(kinds: &[String]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    kinds.iter().for_each(|k| *counts.entry(k).or_default() += 1);
    counts.iter().map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Reads features.tsv or genes.tsv: id, symbol and, since Cell Ranger 3, kind.
pub(super) fn read_table(path: &Path) -> Result<Features> {
    let mut lines = Lines::open(path)?;
    let mut out = Features::default();
    while let Some(line) = lines.next_text()? {
        if line.is_empty() {
            continue;
        }
        let fields: Vec<String> = line.split('\t').map(String::from).collect();
        let name = fields.get(1).filter(|name| !name.is_empty()).unwrap_or(&fields[0]);
        out.names.push(name.clone());
        if let Some(kind) = fields.get(2) {
            out.kinds.push(kind.clone());
        }
        out.ids.push(fields[0].clone());
        let complete = out.kinds.is_empty() || out.kinds.len() == out.ids.len();
        ensure!(
            complete,
            lines.place("the third column, the kind of feature, is missing here or in the lines before")
        );
    }
    Ok(out)
}
