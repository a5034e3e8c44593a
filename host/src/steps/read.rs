//! Cells from a file: a table, an h5ad, a 10x folder or a 10x HDF5 file, told apart by content.

use crate::data::Cells;
use crate::formats::{self, Loaded, Orientation, ValueKind};
use crate::pipeline::{Call, Diagnostic, Input, Keys};
use crate::run::{Outputs, StepCx, json_bytes};
use anyhow::{Result, bail, ensure};
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// A file, and what the pipeline says of it.
pub struct Read {
    path: PathBuf,
    shown: String,
    matrix: Option<String>,
    gene_names: Option<(PathBuf, String)>,
    orientation: Option<Orientation>,
    /// The values are abundances, whatever they look like; default: those of a table of numbers only are.
    abundances: Option<bool>,
}

const ORIENTATIONS: [(&str, Orientation); 2] =
    [("cells-by-genes", Orientation::CellsByGenes), ("genes-by-cells", Orientation::GenesByCells)];

impl Read {
    /// Keys: `path`, `layer`, `raw`, `values`, `gene_names`, `orientation`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let path = keys.required_path("path", "the file or folder of cells");
        let layer = keys.text("layer");
        let raw = keys.boolean("raw") == Some(true);
        if raw && layer.is_some() {
            let at = keys.place_of("raw");
            keys.problem(Diagnostic::error(at, "`raw` and `layer` name two matrices: choose one"));
        }
        let matrix = if raw { Some("raw/X".into()) } else { layer.map(|name| format!("layers/{name}")) };
        let abundances = keys.word("values", &["counts", "abundances"]).map(|word| word == "abundances");
        let gene_names = keys.path("gene_names");
        let words = ORIENTATIONS.map(|(word, _)| word);
        let word = keys.word("orientation", &words);
        let orientation = ORIENTATIONS.into_iter().find(|(w, _)| Some(*w) == word).map(|(_, o)| o);
        let (path, shown) = path?;
        Some(Self { path, shown, matrix, gene_names, orientation, abundances })
    }

    /// None.
    pub fn inputs(&self) -> Vec<&Input> {
        vec![]
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        json!({
            "path": self.shown, "matrix": self.matrix.as_deref().unwrap_or("X"),
            "values": self.abundances.map(|yes| if yes { "abundances" } else { "counts" }),
            "gene_names": self.gene_names.as_ref().map(|g| &g.1),
            "orientation": ORIENTATIONS.iter().find(|(_, o)| Some(*o) == self.orientation).map(|(word, _)| word),
        })
    }

    /// None.
    pub fn calls(&self) -> Vec<&Call> {
        vec![]
    }

    /// The file, and the list of gene names if there is one.
    pub fn files(&self) -> Vec<PathBuf> {
        std::iter::once(&self.path).chain(self.gene_names.as_ref().map(|g| &g.0)).cloned().collect()
    }

    /// Reads and checks; writes what was found, in numbers.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let options = formats::Options {
            matrix: self.matrix.clone(),
            gene_names: self.gene_names.as_ref().map(|g| g.0.clone()),
            orientation: self.orientation,
        };
        let mut loaded = formats::load(&self.path, &options)?;
        let file = &self.shown;
        loaded.warnings.iter().for_each(|warning| cx.services.warn(warning.clone()));
        ensure!(!loaded.cells.is_empty(), "{file} has no cells");
        ensure!(loaded.cells.n_genes() > 0, "{file} has no genes");
        self.check_values(&loaded)?;
        make_names_unique(&mut loaded.cells, cx);
        let cells = loaded.cells;
        let silent = (0..cells.len()).filter(|&i| cells.x.range(i).is_empty()).count();
        if silent > 0 {
            cx.services.warn(format!("{silent} of {} cells express no gene", cells.len()));
        }
        let summary = json!({
            "headline": format!("{} cells × {} genes, {}", cells.len(), cells.n_genes(), loaded.values.kind),
            "cells": cells.len(), "genes": cells.n_genes(), "values": loaded.values.kind.to_string(),
            "cells_without_genes": silent,
        });
        cx.write("read.json", &json_bytes(&summary)?)?;
        Ok(Outputs { summary, ..Outputs::of_cells("cells", cells) })
    }

    /// Counts and profiles pass; anything else is an error that says where counts are.
    fn check_values(&self, loaded: &Loaded) -> Result<()> {
        let values = &loaded.values;
        if let Some((i, j, value)) = first_bad(&loaded.cells) {
            let (cell, gene) = (&loaded.cells.obs.names[i], &loaded.cells.var.names[j]);
            let counts = self.where_counts_are();
            bail!(
                "{}: expected counts of 0 or more, found {value} for gene {gene} in cell {cell}{counts}",
                self.shown
            );
        }
        match values.kind {
            ValueKind::Counts | ValueKind::Profile => Ok(()),
            // The tables of the reference hold simulated abundances.
            _ if self.abundances.unwrap_or(!loaded.named) => Ok(()),
            kind => bail!(
                "{}: the values of {} are {kind}, neither counts nor profiles{} If they are abundances all the \
                 same, write `values = \"abundances\"`.",
                self.shown,
                self.matrix.as_deref().unwrap_or("X"),
                self.where_counts_are()
            ),
        }
    }

    /// The other matrices of the file that hold counts, in words.
    fn where_counts_are(&self) -> String {
        let found: Vec<String> =
            formats::look(&self.path, &formats::Options::default()).map_or(vec![], |look| {
                let counts = look
                    .matrices
                    .into_iter()
                    .filter(|(_, s)| s.as_ref().is_ok_and(|s| s.kind == ValueKind::Counts));
                counts.map(|(info, _)| info.name).collect()
            });
        let key = |name: &String| match name.strip_prefix("layers/") {
            Some(layer) => format!("`layer = \"{layer}\"`"),
            None if name == "raw/X" => "`raw = true`".into(),
            None => format!("`{name}`"),
        };
        match found.iter().filter(|n| *n != "X").map(key).collect::<Vec<_>>().join(" or ") {
            hint if hint.is_empty() => ", and no other matrix of the file holds counts.".into(),
            hint => format!("; counts are in the file: write {hint}."),
        }
    }
}

fn first_bad(cells: &Cells) -> Option<(usize, usize, f32)> {
    let at = cells.x.values.iter().position(|v| !v.is_finite() || *v < 0.0)?;
    let cell = cells.x.offsets.partition_point(|&o| o as usize <= at) - 1;
    Some((cell, cells.x.indices[at] as usize, cells.x.values[at]))
}

fn make_names_unique(cells: &mut Cells, cx: &StepCx<'_>) {
    for (frame, what) in [(&mut cells.var, "gene"), (&mut cells.obs, "cell")] {
        let changed = frame.make_names_unique();
        if changed > 0 {
            let s = if changed == 1 { "" } else { "s" };
            cx.services.warn(format!("{changed} repeated {what} name{s} made unique, as in `A-1`"));
        }
    }
}
