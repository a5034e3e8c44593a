//! Chosen cells and genes: which cells (`where`, `not`), which genes (`genes`), and what shares are parts of.

mod perturbation;

use crate::data::{CellSet, Column, Frame};
use crate::pipeline::{Call, Diagnostic, Input, Keys, Node, Place, PortType, Value, nearest};
use crate::plugin::Services;
use crate::run::{Outputs, StepCx, seeded_stream};
use anyhow::{Context, Result, bail, ensure};
use perturbation::Labels;
use rand::seq::index::sample;
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// What is kept.
pub struct Prepare {
    from: Vec<Input>,
    keep: Vec<Condition>,
    drop: Vec<Condition>,
    genes: GeneChoice,
    min_genes: u64,
    /// How many cells are drawn, where there are more.
    at_most: Option<u64>,
    /// How many counts are drawn of each cell.
    downsample: Option<u64>,
    close_by_library: bool,
    perturbation: Option<Labels>,
}

/// A condition on one annotation of the cells.
struct Condition {
    column: String,
    test: Test,
    at: Place,
}

/// What an annotation has to be.
enum Test {
    /// One of these texts.
    OneOf(Vec<String>),
    /// A number between these, both allowed.
    Range(f64, f64),
}

#[derive(Default)]
struct GeneChoice {
    /// Cells that express the gene: a share below 1, else a number. 0 keeps genes that no cell expresses.
    min_cells: Option<f64>,
    /// How many genes in all, by the `seurat` flavour.
    highly_variable: Option<u64>,
    /// Genes above this share of all counts are left out.
    dominant: Option<f64>,
    /// Kept whatever the other rules say.
    always: Vec<String>,
    /// Only these.
    only: Option<Vec<String>>,
    file: Option<(PathBuf, String)>,
}

/// The pseudo-gene that holds what the chosen genes leave of each cell's library. Never knocked out.
pub const OTHER_GENES: &str = "(other genes)";

impl Prepare {
    /// Keys: `from`, `where`, `not`, `genes`, `cells`, `downsample`, `close`, `perturbation`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let from = keys.required_inputs("from", &[PortType::Cells], "the cells to choose from");
        let keep = conditions("where", keys);
        let drop = conditions("not", keys);
        let genes = keys.inner("genes", GeneChoice::resolve).unwrap_or_default();
        let (min_genes, at_most) =
            keys.inner("cells", |k| (k.count("min_genes", 0), k.count("at_most", 1))).unwrap_or_default();
        let min_genes = min_genes.unwrap_or(1);
        let downsample = keys.count("downsample", 1);
        let close_by_library = keys.word("close", &["genes", "library"]) == Some("library");
        let perturbation = Labels::resolve(keys);
        Some(Self { from, keep, drop, genes, min_genes, at_most, downsample, close_by_library, perturbation })
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        self.from.iter().collect()
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        let genes = &self.genes;
        json!({
            "where": self.keep.iter().map(Condition::spec).collect::<Json>(),
            "not": self.drop.iter().map(Condition::spec).collect::<Json>(),
            "genes": {
                "min_cells": genes.min_cells, "highly_variable": genes.highly_variable, "dominant": genes.dominant,
                "always": genes.always, "only": genes.only, "file": genes.file.as_ref().map(|f| &f.1),
            },
            "cells": { "min_genes": self.min_genes, "at_most": self.at_most },
            "downsample": self.downsample,
            "close": if self.close_by_library { "library" } else { "genes" },
            "perturbation": self.perturbation.as_ref().map(Labels::spec),
        })
    }

    /// Whether it says which perturbation was measured in each cell.
    pub fn reads_perturbations(&self) -> bool {
        self.perturbation.is_some()
    }

    /// None.
    pub fn calls(&self) -> Vec<&Call> {
        vec![]
    }

    /// The list of genes, if it is a file.
    pub fn files(&self) -> Vec<PathBuf> {
        self.genes.file.iter().map(|f| f.0.clone()).collect()
    }

    /// Chooses; writes what was chosen, in numbers.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let all = cx.cell_set("from")?;
        let before = all.len();
        let all = match &self.perturbation {
            Some(labels) => labels.read(&all, &cx.services)?,
            None => all,
        };
        let (rows, shallow) = self.deep_enough(self.choose_cells(&all, cx)?, &all, cx)?;
        let mut cells = all.select_cells(&self.drawn(rows, cx));
        if let Some(depth) = self.downsample {
            cells = cells.drawn(depth, cx.step_seed())?;
        }
        // Wild-type cells decide which genes are looked at, where others are known.
        let controls = cells.controls();
        let (genes, dominant) = match controls.len() == cells.len() || controls.is_empty() {
            true => self.genes.choose(&cells, &cx.services)?,
            false => self.genes.choose(&cells.select_cells(&controls), &cx.services)?,
        };
        let mut chosen = cells.select_genes(&genes);
        if !dominant.is_empty() {
            chosen = chosen.with_library(library_without(&dominant, &cells)?);
        }
        let expressed = chosen.expressed()?;
        let enough: Vec<usize> =
            (0..chosen.len()).filter(|&i| u64::from(expressed[i]) >= self.min_genes).collect();
        let dropped = chosen.len() - enough.len();
        if dropped > 0 {
            let least = self.min_genes;
            cx.services
                .warn(format!("{dropped} cells express fewer than {least} of the chosen genes: left out"));
            chosen = chosen.select_cells(&enough);
        }
        ensure!(!chosen.is_empty(), "no cell is left");
        if self.close_by_library {
            chosen = chosen.with_rest(with_other_genes(chosen.var()));
        }
        let perturbed = chosen.measured().map(|m| {
            let (perturbations, controls) = (m.cells_by_perturbation().len(), chosen.controls().len());
            format!(", {perturbations} perturbations and {controls} controls")
        });
        let headline = format!(
            "{} of {} cells × {} of {} genes{}",
            chosen.len(),
            before,
            chosen.n_genes(),
            all.n_genes(),
            perturbed.unwrap_or_default()
        );
        let summary = json!({
            "headline": headline, "cells": chosen.len(), "cells_before": before, "cells_with_too_few_genes": dropped,
            "cells_too_shallow": shallow, "genes": chosen.n_genes(), "genes_before": all.n_genes(),
            "median_genes_expressed": median(chosen.expressed()?),
            "perturbations": chosen.measured().map(|m| m.cells_by_perturbation().len()),
            "controls": chosen.measured().map(|_| chosen.controls().len()),
        });
        cx.write("prepare.json", &crate::run::json_bytes(&summary)?)?;
        Ok(Outputs { summary, ..Outputs::of_cells("cells", chosen) })
    }

    fn choose_cells(&self, cells: &CellSet, cx: &StepCx<'_>) -> Result<Vec<usize>> {
        let mut kept = vec![true; cells.len()];
        for (conditions, wanted) in [(&self.keep, true), (&self.drop, false)] {
            for condition in conditions {
                let holds = condition.holds(cells).with_context(|| cx.place(&condition.at))?;
                for (kept, holds) in kept.iter_mut().zip(holds) {
                    *kept &= holds == wanted;
                }
            }
        }
        let rows: Vec<usize> = (0..cells.len()).filter(|&i| kept[i]).collect();
        ensure!(!rows.is_empty(), "no cell fits: {}", self.why_none(cells)?);
        Ok(rows)
    }

    /// The rows of cells with as many counts as are drawn of each, and of how many others if any are drawn.
    fn deep_enough(
        &self,
        rows: Vec<usize>,
        cells: &CellSet,
        cx: &StepCx<'_>,
    ) -> Result<(Vec<usize>, Option<usize>)> {
        let Some(depth) = self.downsample else { return Ok((rows, None)) };
        let library = cells.library();
        let (deep, shallow): (Vec<usize>, Vec<usize>) =
            rows.into_iter().partition(|&i| library[i] >= depth as f64);
        let deepest = shallow.iter().map(|&i| library[i]).fold(0.0, f64::max);
        ensure!(!deep.is_empty(), "no cell has {depth} counts (`downsample`): the deepest has {deepest}");
        if !shallow.is_empty() {
            let (left, all) = (shallow.len(), shallow.len() + deep.len());
            cx.services.warn(format!("{left} of {all} cells have fewer than {depth} counts: left out"));
        }
        Ok((deep, Some(shallow.len())))
    }

    /// Of more cells than are wanted, so many, in their order.
    fn drawn(&self, rows: Vec<usize>, cx: &StepCx<'_>) -> Vec<usize> {
        let Some(most) = self.at_most.map(|n| n as usize).filter(|n| *n < rows.len()) else { return rows };
        let mut drawn = sample(&mut seeded_stream(cx.step_seed(), 0), rows.len(), most).into_vec();
        drawn.sort_unstable();
        drawn.into_iter().map(|i| rows[i]).collect()
    }

    /// Which condition holds for no cell, and what there is instead.
    fn why_none(&self, cells: &CellSet) -> Result<String> {
        for condition in &self.keep {
            if !condition.holds(cells)?.contains(&true) {
                return Ok(condition.why_none(cells));
            }
        }
        if !self.drop.is_empty() {
            return Ok("what `where` chooses, `not` leaves out".into());
        }
        Ok("each condition holds for some cells, but not all of them together".into())
    }
}

fn conditions(key: &'static str, keys: &mut Keys<'_>) -> Vec<Condition> {
    let Some(table) = keys.table(key) else { return vec![] };
    let mut found = vec![];
    for (column, node) in &table.entries {
        match Test::read(node) {
            Ok(test) => found.push(Condition { column: column.name.clone(), test, at: node.at.clone() }),
            Err(title) => {
                let title = format!("`{key}.{}` {title}", column.name);
                keys.problem(Diagnostic::error(node.at.clone(), title));
            }
        }
    }
    found
}

impl Test {
    fn read(node: &Node) -> Result<Self, String> {
        let expected = "is a value, a list of values, or a range such as { min = 500 }";
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                let texts: Option<Vec<String>> = items.iter().map(|n| scalar(&n.value)).collect();
                texts.map(Self::OneOf).ok_or_else(|| expected.into())
            }
            Value::Table(table) => {
                let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
                for (key, node) in &table.entries {
                    let number = scalar(&node.value).and_then(|t| t.parse::<f64>().ok());
                    match (key.name.as_str(), number) {
                        ("min", Some(x)) => low = x,
                        ("max", Some(x)) => high = x,
                        _ => return Err("is a range with `min`, `max` or both, each a number".into()),
                    }
                }
                if low <= high {
                    Ok(Self::Range(low, high))
                } else {
                    Err("has a `min` above its `max`".into())
                }
            }
            value => scalar(value).map(|text| Self::OneOf(vec![text])).ok_or_else(|| expected.into()),
        }
    }
}

/// A value as an annotation's text would be.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(i) => Some(i.to_string()),
        Value::Float(x) => Some(x.to_string()),
        Value::Boolean(b) => Some(b.to_string()),
        _ => None,
    }
}

/// Annotations that every data set has, counted where the file has none of that name.
fn counted(cells: &CellSet, name: &str) -> Result<Option<Column>> {
    let values: Vec<f64> = match name {
        "n_genes" => cells.expressed()?.into_iter().map(f64::from).collect(),
        "total_counts" => cells.library().to_vec(),
        _ => return Ok(None),
    };
    Ok(Some(Column {
        name: name.into(),
        values: std::sync::Arc::new(arrow_array::Float64Array::from(values)),
        ordered: false,
    }))
}

impl Condition {
    fn spec(&self) -> Json {
        let test = match &self.test {
            Test::OneOf(texts) => json!(texts),
            Test::Range(low, high) => json!({ "min": low, "max": high }),
        };
        json!({ "column": self.column, "is": test })
    }

    fn column(&self, cells: &CellSet) -> Result<Column> {
        if let Some(column) = cells.obs().column(&self.column) {
            return Ok(column.clone());
        }
        if let Some(column) = counted(cells, &self.column)? {
            return Ok(column);
        }
        let known: Vec<&str> = cells.obs().columns.iter().map(|c| c.name.as_str()).collect();
        let hint = match nearest(&self.column, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}, and n_genes, total_counts are counted", known.join(", ")),
        };
        bail!("the cells have no annotation `{}`; {hint}", self.column)
    }

    fn holds(&self, cells: &CellSet) -> Result<Vec<bool>> {
        let column = self.column(cells)?;
        match &self.test {
            Test::OneOf(texts) => Ok(column
                .texts()
                .into_iter()
                .map(|t| t.is_some_and(|t| texts.iter().any(|x| same_value(x, &t))))
                .collect()),
            Test::Range(low, high) => {
                let numbers = column.numbers();
                let Some(numbers) = numbers else {
                    bail!("the annotation `{}` has no numbers, so no range of them", self.column);
                };
                Ok(numbers.into_iter().map(|x| x.is_some_and(|x| (*low..=*high).contains(&x))).collect())
            }
        }
    }

    fn why_none(&self, cells: &CellSet) -> String {
        let mut values: Vec<String> =
            self.column(cells).map(|c| c.texts().into_iter().flatten().collect()).unwrap_or_default();
        values.sort();
        values.dedup();
        let what = match &self.test {
            Test::OneOf(texts) => texts.join(" or "),
            Test::Range(low, high) => format!("between {low} and {high}"),
        };
        let shown = values.len().min(12);
        let more = if values.len() > shown { ", …" } else { "" };
        format!("`{}` is nowhere {what}; it is: {}{more}", self.column, values[..shown].join(", "))
    }
}

/// Texts are compared as such, numbers as numbers: `1` in a pipeline is `1.0` in a file.
fn same_value(wanted: &str, found: &str) -> bool {
    wanted == found || matches!((wanted.parse::<f64>(), found.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
}

impl GeneChoice {
    fn resolve(keys: &mut Keys<'_>) -> Self {
        Self {
            min_cells: keys.number("min_cells", 0.0, f64::INFINITY),
            highly_variable: keys.count("highly_variable", 1),
            dominant: keys.number("dominant", 0.01, 1.0),
            always: keys.texts("always").unwrap_or_default(),
            only: keys.texts("only"),
            file: keys.path("file"),
        }
    }

    /// The columns that are kept, ascending; and those that are left out since they are too much of all counts.
    fn choose(&self, cells: &CellSet, host: &Services) -> Result<(Vec<usize>, Vec<usize>)> {
        let sums = GeneSums::of(cells, self.highly_variable.is_some())?;
        let mut always = find_genes(cells.var(), &self.always, "genes.always")?;
        let mut dominant = sums.above(self.dominant.unwrap_or(1.0));
        dominant.retain(|(gene, _)| !always.contains(gene));
        warn_of_dominant(&dominant, cells.var(), host);
        let dominant: Vec<usize> = dominant.into_iter().map(|(gene, _)| gene).collect();
        always.extend(measured_targets(cells).into_iter().filter(|j| !dominant.contains(j)));
        let mut pool: Vec<usize> = match self.only_names()? {
            Some(only) => find_genes(cells.var(), &only, "genes.only")?,
            None => (0..cells.n_genes()).collect(),
        };
        // What an earlier `close = "library"` added is no gene; it is added anew where it is asked for.
        pool.retain(|j| cells.var().names[*j] != OTHER_GENES && !dominant.contains(j));
        let needed = match self.min_cells {
            // A silent gene is no variable one.
            Some(0.0) if self.highly_variable.is_none() => 0.0,
            Some(share) if share < 1.0 => (share * cells.len() as f64).max(1.0),
            number => number.unwrap_or(1.0),
        };
        pool.retain(|&j| sums.expressing[j] as f64 >= needed && !always.contains(&j));
        if let Some(wanted) = self.highly_variable {
            let room = (wanted as usize).saturating_sub(always.len());
            pool = most_variable(&sums.moments(cells.len()), &pool, room);
        }
        pool.extend(always);
        pool.sort_unstable();
        pool.dedup();
        ensure!(!pool.is_empty(), "no gene is left");
        Ok((pool, dominant))
    }

    fn only_names(&self) -> Result<Option<Vec<String>>> {
        let Some((path, shown)) = &self.file else { return Ok(self.only.clone()) };
        let text = std::fs::read_to_string(path).map_err(|e| anyhow::anyhow!("{shown}: {e}"))?;
        let first = |line: &str| line.split([',', '\t']).next().unwrap_or("").trim().to_string();
        let names = text.lines().map(first).filter(|name| !name.is_empty() && !name.starts_with('#'));
        Ok(Some(self.only.iter().flatten().cloned().chain(names).collect()))
    }
}

/// Each cell's library without these genes.
fn library_without(genes: &[usize], cells: &CellSet) -> Result<Vec<f64>> {
    let mut library = cells.library().to_vec();
    cells.each_matrix(&mut |start, x| {
        for i in 0..x.n_rows() {
            let (found, values) = x.row(i);
            let of_these = found.iter().zip(values).filter(|(j, _)| genes.contains(&(**j as usize)));
            library[start + i] -= of_these.map(|(_, &value)| f64::from(value)).sum::<f64>();
        }
        Ok(())
    })?;
    Ok(library)
}

/// Says which genes are left out for what share of all counts they are.
fn warn_of_dominant(dominant: &[(usize, f64)], var: &Frame, host: &Services) {
    for &(gene, share) in dominant {
        let (name, percent) = (&var.names[gene], 100.0 * share);
        host.warn(format!("{name} is {percent:.0} % of all counts: left out (`dominant`)"));
    }
}

/// The columns of these genes; the error names the first that is unknown.
pub fn find_genes(var: &Frame, names: &[String], whose: &str) -> Result<Vec<usize>> {
    let index: std::collections::HashMap<&str, usize> =
        var.names.iter().enumerate().map(|(j, name)| (name.as_str(), j)).collect();
    let find = |name: &String| {
        index.get(name.as_str()).copied().ok_or_else(|| {
            let known: Vec<&str> = var.names.iter().map(String::as_str).collect();
            let hint = nearest(name, &known).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            anyhow::anyhow!("`{whose}`: no gene `{name}` among the {} genes{hint}", var.len())
        })
    };
    names.iter().map(find).collect()
}

/// The targets of the cells' measured perturbations: without them nothing could be said of these.
fn measured_targets(cells: &CellSet) -> Vec<usize> {
    let column = cells.var().index();
    let targets =
        cells.measured().into_iter().flat_map(|m| &m.kinds).flat_map(|p| p.targets.iter().flatten());
    targets.filter_map(|name| column.get(name.as_str()).map(|&j| j as usize)).collect()
}

fn median(mut counts: Vec<u32>) -> u32 {
    counts.sort_unstable();
    counts.get(counts.len() / 2).copied().unwrap_or(0)
}

/// What is added up of each gene, cell by cell.
struct GeneSums {
    /// Cells that express it.
    expressing: Vec<usize>,
    /// Counts of all cells.
    counts: Vec<f64>,
    /// Counts per 10,000 of each cell's library, and their squares; zeros where they are not wanted.
    cp10k: Vec<f64>,
    squares: Vec<f64>,
}

impl GeneSums {
    fn of(cells: &CellSet, with_moments: bool) -> Result<Self> {
        let genes = cells.n_genes();
        let zeros = vec![0.0; genes];
        let mut sums =
            Self { expressing: vec![0; genes], counts: zeros.clone(), cp10k: zeros.clone(), squares: zeros };
        cells.each_matrix(&mut |start, x| {
            for (&j, value) in x.indices.iter().zip(&x.values) {
                sums.expressing[j as usize] += 1;
                sums.counts[j as usize] += f64::from(*value);
            }
            if with_moments {
                (0..x.n_rows()).for_each(|i| sums.add_cp10k(x.row(i), cells.library()[start + i]));
            }
            Ok(())
        })?;
        Ok(sums)
    }

    /// The genes above this share of the counts of all genes here, and what share they are.
    fn above(&self, share: f64) -> Vec<(usize, f64)> {
        let all: f64 = self.counts.iter().sum();
        let shares = self.counts.iter().map(|count| count / all).enumerate();
        shares.filter(|(_, found)| *found > share).collect()
    }

    fn add_cp10k(&mut self, (genes, values): (&[u32], &[f32]), library: f64) {
        let factor = if library > 0.0 { 1e4 / library } else { 0.0 };
        for (&j, &v) in genes.iter().zip(values) {
            let x = f64::from(v) * factor;
            self.cp10k[j as usize] += x;
            self.squares[j as usize] += x * x;
        }
    }

    /// Mean and variance (n − 1) of the counts per 10,000 over so many cells.
    fn moments(&self, cells: usize) -> Vec<(f64, f64)> {
        let n = cells as f64;
        let of_gene = |(sum, squares): (&f64, &f64)| {
            let mean = sum / n;
            (mean, (squares / n - mean * mean).max(0.0) * n / (n - 1.0).max(1.0))
        };
        self.cp10k.iter().zip(&self.squares).map(of_gene).collect()
    }
}

/// The genes of `pool` with the highest normalised dispersion, as scanpy's
/// `highly_variable_genes(flavor = "seurat")` ranks them on log1p(CP10k) data (Satija et al. 2015).
///
/// Mean and variance of CP10k over the cells; log of variance / mean; its z-score within 20 equally wide bins
/// of log1p(mean). A bin with one gene scores 1. Ties go to the earlier gene.
fn most_variable(moments: &[(f64, f64)], pool: &[usize], wanted: usize) -> Vec<usize> {
    let score = normalised_dispersion(moments, pool);
    let mut order: Vec<usize> = (0..pool.len()).collect();
    order.sort_by(|&a, &b| score[b].total_cmp(&score[a]).then(a.cmp(&b)));
    order.truncate(wanted);
    order.into_iter().map(|i| pool[i]).collect()
}

fn normalised_dispersion(moments: &[(f64, f64)], pool: &[usize]) -> Vec<f64> {
    let of_pool = || pool.iter().map(|&j| moments[j]);
    let log_mean: Vec<f64> = of_pool().map(|(mean, _)| mean.ln_1p()).collect();
    let log_dispersion: Vec<f64> =
        of_pool().map(|(mean, variance)| (variance / mean.max(1e-12)).ln()).collect();
    let bin = equal_bins(&log_mean, 20);
    let mut score = vec![f64::NEG_INFINITY; pool.len()];
    for b in 0..20 {
        let members: Vec<usize> =
            (0..pool.len()).filter(|&i| bin[i] == b && log_dispersion[i].is_finite()).collect();
        let n = members.len() as f64;
        let average = members.iter().map(|&i| log_dispersion[i]).sum::<f64>() / n;
        let squares: f64 = members.iter().map(|&i| (log_dispersion[i] - average).powi(2)).sum();
        let sd = (squares / (n - 1.0)).sqrt();
        for &i in &members {
            score[i] = if members.len() == 1 { 1.0 } else { (log_dispersion[i] - average) / sd };
        }
    }
    score.iter_mut().filter(|s| s.is_nan()).for_each(|s| *s = f64::NEG_INFINITY);
    score
}

/// The bin of each value, as pandas' `cut` does: intervals closed on the right, the first a little wider.
fn equal_bins(values: &[f64], bins: usize) -> Vec<usize> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = (high - low) / bins as f64;
    let edge = |k: usize| low + width * k as f64;
    let bin = |&x: &f64| (1..bins).take_while(|&k| x > edge(k)).count();
    values.iter().map(bin).collect()
}

/// The genes, and last the pseudo-gene.
fn with_other_genes(var: &Frame) -> Frame {
    let mut var = var.clone();
    var.names.push(OTHER_GENES.into());
    for column in &mut var.columns {
        let none = arrow_array::new_null_array(column.values.data_type(), 1);
        // Concatenation of equal types cannot fail.
        if let Ok(longer) = arrow_select::concat::concat(&[&column.values, &none]) {
            column.values = longer;
        }
    }
    var
}
