//! Cells from a file: a table, an h5ad, a 10x folder or a 10x HDF5 file, told apart by content.

use crate::data::{CellSet, Csr, Survey};
use crate::formats::{self, Opened, Orientation, ValueKind, ValueScan, ValueSummary};
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
        let opened = formats::open(&self.path, &options, cx.limits())?;
        let file = &self.shown;
        if let CellSet::Stored(_) = opened.cells {
            tracing::info!(
                "{file} is read in blocks of rows: held, it would take more than an eighth of `memory`"
            );
        }
        opened.warnings.iter().for_each(|warning| cx.services.warn(warning.clone()));
        ensure!(!opened.cells.is_empty(), "{file} has no cells");
        ensure!(opened.cells.n_genes() > 0, "{file} has no genes");
        let (cells, values) = self.scan(&opened, cx)?;
        let cells = make_names_unique(cells, cx);
        let silent = cells.expressed()?.iter().filter(|&&genes| genes == 0).count();
        if silent > 0 {
            cx.services.warn(format!("{silent} of {} cells express no gene", cells.len()));
        }
        let summary = json!({
            "headline": format!("{} cells × {} genes, {}", cells.len(), cells.n_genes(), values.kind),
            "cells": cells.len(), "genes": cells.n_genes(), "values": values.kind.to_string(),
            "cells_without_genes": silent,
        });
        cx.write("read.json", &json_bytes(&summary)?)?;
        Ok(Outputs { summary, ..Outputs::of_cells("cells", cells) })
    }

    /// Looks at all values, in one pass where they are counts: what they are, and what they add up to.
    fn scan(&self, opened: &Opened, cx: &StepCx<'_>) -> Result<(CellSet, ValueSummary)> {
        let cells = &opened.cells;
        let (mut scan, mut survey, mut library) = (ValueScan::new(cells.n_genes()), Survey::begin(), vec![]);
        cells.each_matrix(&mut |start, x| {
            cx.check()?;
            self.check_numbers(cells, start, x)?;
            scan.add(x);
            library.extend((0..x.n_rows()).map(|i| x.row_sum(i)));
            if let CellSet::Stored(_) = cells {
                survey.add(x);
                cx.services.progress(library.len() as u64, cells.len() as u64, "cells");
            }
            Ok(())
        })?;
        if scan.is_undecided() {
            cells.each_matrix(&mut |_, x| {
                scan.look_closer(x);
                cx.check()
            })?;
        }
        let values = scan.finish();
        self.check_kind(values.kind, opened.named)?;
        Ok(match cells {
            CellSet::Held(_) => (cells.clone(), values),
            CellSet::Stored(stored) => (stored.surveyed(library, survey.finish()).into(), values),
        })
    }

    /// Values below 0, and such that are no numbers, are an error that says where counts are.
    fn check_numbers(&self, cells: &CellSet, start: usize, x: &Csr) -> Result<()> {
        let Some((i, j, value)) = first_bad(x) else { return Ok(()) };
        let (cell, gene) = (&cells.obs().names[start + i], &cells.var().names[j]);
        let counts = self.where_counts_are();
        bail!(
            "{}: expected counts of 0 or more, found {value} for gene {gene} in cell {cell}{counts}",
            self.shown
        )
    }

    /// Counts and profiles pass; anything else is an error that says where counts are.
    fn check_kind(&self, kind: ValueKind, named: bool) -> Result<()> {
        match kind {
            ValueKind::Counts | ValueKind::Profile => Ok(()),
            // The tables of the reference hold simulated abundances.
            _ if self.abundances.unwrap_or(!named) => Ok(()),
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

fn first_bad(x: &Csr) -> Option<(usize, usize, f32)> {
    let at = x.values.iter().position(|v| !v.is_finite() || *v < 0.0)?;
    let cell = x.offsets.partition_point(|&o| o as usize <= at) - 1;
    Some((cell, x.indices[at] as usize, x.values[at]))
}

fn make_names_unique(cells: CellSet, cx: &StepCx<'_>) -> CellSet {
    let (mut obs, mut var) = (cells.obs().clone(), cells.var().clone());
    let mut changed = 0;
    for (frame, what) in [(&mut var, "gene"), (&mut obs, "cell")] {
        let repeated = frame.make_names_unique();
        if repeated > 0 {
            let s = if repeated == 1 { "" } else { "s" };
            cx.services.warn(format!("{repeated} repeated {what} name{s} made unique, as in `A-1`"));
        }
        changed += repeated;
    }
    if changed > 0 { cells.with_frames(obs, var) } else { cells }
}
