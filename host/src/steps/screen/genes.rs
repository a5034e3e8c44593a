//! What a screen says of each gene: over all cells that express it, and in each group of cells.

use super::ImpactTable;
use super::ranking::{Ranked, Tally};
use super::table::StoredTable;
use crate::data::{CellSet, Cells, Csr, Frame, Knockouts};
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// One gene in one group, by one metric.
pub struct GeneSummary {
    /// The group.
    pub group: String,
    /// The impact.
    pub metric: String,
    /// The gene that is knocked out.
    pub gene: u32,
    /// Cells of the group that express the gene.
    cells: usize,
    /// Their share of the group.
    pub presence: f64,
    /// Mean share of the gene in these cells' profiles.
    pub mean_share: f64,
    /// Mean impact.
    pub mean: f64,
    /// Normal 95 % interval of the mean over cells.
    interval: (f64, f64),
    /// Quantiles .05, .25, .5, .75, .95 over cells.
    quantiles: [f64; 5],
    rank: usize,
    /// Ends of the 95 % interval of the mean by a further refit to as many other cells.
    pub refit: (f64, f64),
    /// How likely so strong a mean is without relations between genes.
    pub p: f64,
    /// The false discovery rate at which it is found.
    pub fdr: f64,
    /// The share of the genes that as many cells express whose mean is as strong.
    pub matched: f64,
}

impl GeneSummary {
    /// What is known of a gene in a group before any impact.
    fn of((group, metric): (&str, &str), gene: u32, known: &Presence) -> Self {
        let (cells, sum) = known.expressing[gene as usize];
        Self {
            group: group.into(),
            metric: metric.into(),
            gene,
            cells,
            presence: cells as f64 / known.size.max(1) as f64,
            mean_share: sum / cells.max(1) as f64,
            mean: f64::NAN,
            interval: (f64::NAN, f64::NAN),
            quantiles: [f64::NAN; 5],
            rank: 0,
            refit: (f64::NAN, f64::NAN),
            p: f64::NAN,
            fdr: f64::NAN,
            matched: f64::NAN,
        }
    }

    /// With its impacts: their mean and its interval, and what a quantile of them is.
    pub fn with_impacts(
        whose: (&str, &str),
        gene: u32,
        known: &Presence,
        ((mean, interval), quantile): (MeanInterval, impl Fn(f64) -> f64),
    ) -> Self {
        Self { mean, interval, quantiles: QUANTILES.map(quantile), ..Self::of(whose, gene, known) }
    }
}

/// A mean, and the ends of its interval.
type MeanInterval = (f64, (f64, f64));

const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// The group of all cells.
const ALL: &str = "all";

/// All cells, and the groups of an annotation by name.
pub struct Groups {
    /// The first is that of all cells.
    pub names: Vec<String>,
    /// The group of each cell beside that of all, where there are any; by number in `names`.
    of: Option<Vec<Option<u32>>>,
}

impl Groups {
    /// Of these cells, by an annotation if there is one.
    pub fn of(obs: &Frame, annotation: Option<&str>) -> Result<Self> {
        let mut names = vec![ALL.to_string()];
        let Some(column) = annotation else { return Ok(Self { names, of: None }) };
        let texts = crate::run::obs_column(obs, column).context("`groups`")?.texts();
        let found: BTreeSet<&String> = texts.iter().flatten().collect();
        names.extend(found.into_iter().cloned());
        let number: HashMap<&str, u32> = names.iter().map(String::as_str).zip(0..).skip(1).collect();
        let of = texts.iter().map(|text| text.as_ref().and_then(|t| number.get(t.as_str()).copied()));
        Ok(Self { of: Some(of.collect()), names: names.clone() })
    }

    /// All cells, and of these the half with the smaller libraries and the other.
    pub fn by_depth(library: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..library.len()).collect();
        order.sort_by(|&a, &b| library[a].total_cmp(&library[b]).then(a.cmp(&b)));
        let mut of = vec![None; library.len()];
        order
            .iter()
            .enumerate()
            .for_each(|(rank, &cell)| of[cell] = Some(1 + (2 * rank / library.len()) as u32));
        Self { names: [ALL, "shallow", "deep"].map(String::from).to_vec(), of: Some(of) }
    }

    /// The groups that a cell is in, by number: that of all cells, and its own.
    pub fn of_cell(&self, cell: usize) -> impl Iterator<Item = usize> + use<> {
        let own = self.of.as_ref().and_then(|of| of[cell]);
        std::iter::once(0).chain(own.map(|group| group as usize))
    }
}

/// The cells of each group, each with its name and members.
pub type Group = (String, Vec<bool>);

/// All cells, then the groups of an annotation by name.
pub fn groups_of(cells: &Cells, annotation: Option<&str>) -> Result<Vec<Group>> {
    let groups = Groups::of(&cells.obs, annotation)?;
    let members = members_of(&groups, cells.len());
    Ok(groups.names.into_iter().zip(members).collect())
}

/// Which of so many cells are in each group.
pub fn members_of(groups: &Groups, cells: usize) -> Vec<Vec<bool>> {
    let mut members = vec![vec![false; cells]; groups.names.len()];
    (0..cells).for_each(|cell| groups.of_cell(cell).for_each(|group| members[group][cell] = true));
    members
}

/// The cells of a screen, and what is known of them before any impact.
pub struct Subjects<'a> {
    /// With the model's genes.
    pub cells: &'a CellSet,
    /// The groups that are told of.
    pub groups: Groups,
    /// Of each group.
    known: Vec<Presence>,
}

impl<'a> Subjects<'a> {
    /// These cells, grouped by an annotation if there is one. Goes through their values once.
    pub fn of(cells: &'a CellSet, annotation: Option<&str>) -> Result<Self> {
        let groups = Groups::of(cells.obs(), annotation)?;
        let known = Presence::of_groups(cells, &groups)?;
        Ok(Self { cells, groups, known })
    }

    /// Number of stored values.
    pub fn values(&self) -> usize {
        self.known[0].expressing.iter().map(|(cells, _)| cells).sum()
    }

    /// What is known of a group.
    pub fn known(&self, group: usize) -> &Presence {
        &self.known[group]
    }
}

/// Which genes the cells of a group express.
#[derive(Clone)]
pub struct Presence {
    /// Number of cells.
    size: usize,
    /// Of each gene the cells that express it, and the sum of its shares in them.
    expressing: Vec<(usize, f64)>,
}

impl Presence {
    fn of_groups(cells: &CellSet, groups: &Groups) -> Result<Vec<Self>> {
        let none = Self { size: 0, expressing: vec![(0, 0.0); cells.n_genes()] };
        let mut all = vec![none; groups.names.len()];
        cells.each_matrix(&mut |start, x| {
            for i in 0..x.n_rows() {
                groups.of_cell(start + i).for_each(|group| all[group].add(x, i));
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn add(&mut self, x: &Csr, cell: usize) {
        self.size += 1;
        let total = x.row_sum(cell);
        let (genes, values) = x.row(cell);
        for (&gene, &value) in genes.iter().zip(values) {
            let (count, sum) = &mut self.expressing[gene as usize];
            *count += 1;
            // A share, as profiles have it.
            *sum += f64::from((f64::from(value) / total) as f32);
        }
    }
}

/// The impacts of the single knockouts of some genes, in the order of rows.
struct Gathered<'g> {
    genes: Range<usize>,
    groups: &'g Groups,
    /// By gene: a number of a group for each row, where there are groups.
    group: Vec<Vec<u32>>,
    /// By column, then gene.
    values: Vec<Vec<Vec<f32>>>,
}

impl<'g> Gathered<'g> {
    fn new(genes: Range<usize>, columns: usize, groups: &'g Groups) -> Self {
        let none = vec![vec![]; genes.len()];
        Self { group: vec![vec![]; genes.len()], values: vec![none; columns], genes, groups }
    }

    fn add(&mut self, part: &ImpactTable) {
        for i in 0..part.len() {
            let gene = part.knockouts.single(i).map(|gene| gene as usize);
            let Some(gene) = gene.filter(|gene| self.genes.contains(gene)) else { continue };
            let at = gene - self.genes.start;
            for (column, values) in self.values.iter_mut().zip(&part.values) {
                column[at].push(values[i]);
            }
            if let Some(of) = &self.groups.of {
                self.group[at].push(of[part.knockouts.cell[i] as usize].unwrap_or(0));
            }
        }
    }

    /// The values of a gene in a group; NaN is none.
    fn of(&self, column: usize, at: usize, group: usize) -> Vec<f64> {
        let values = self.values[column][at].iter().enumerate();
        let inside = |i: usize| group == 0 || self.group[at][i] as usize == group;
        values.filter(|(i, v)| !v.is_nan() && inside(*i)).map(|(_, &v)| f64::from(v)).collect()
    }

    /// What there is to say of these genes: by group, then column.
    fn tell(&self, table: &StoredTable, subjects: &Subjects<'_>, out: &mut [Vec<Vec<GeneSummary>>]) {
        for (group, name) in self.groups.names.iter().enumerate() {
            for (column, metric) in table.columns.iter().enumerate() {
                let one = |at: usize| {
                    let mut impacts = self.of(column, at, group);
                    let (gene, mean) = ((self.genes.start + at) as u32, mean_interval(&impacts));
                    impacts.sort_by(f64::total_cmp);
                    let of = (mean, |q| quantile(&impacts, q));
                    let whose = (name.as_str(), metric.as_str());
                    (!impacts.is_empty())
                        .then(|| GeneSummary::with_impacts(whose, gene, subjects.known(group), of))
                };
                out[group][column].extend((0..self.genes.len()).filter_map(one));
            }
        }
    }
}

/// Summaries by group, then metric, then rank, of single knockouts only; and all knockouts ranked by `column`.
///
/// The values of one gene are needed at once. Those of all genes are held where they take no more than a quarter of
/// the memory, else the table is read once for each range of genes that does.
pub fn summarise(
    table: &StoredTable,
    subjects: &Subjects<'_>,
    (column, memory): (usize, u64),
) -> Result<(Vec<GeneSummary>, Vec<Ranked>)> {
    let Subjects { cells, groups, .. } = subjects;
    let frames = (cells.obs(), cells.var());
    // Lists grow by doubling.
    let bytes_of_row = 8 * (table.columns.len() + usize::from(groups.of.is_some())) as u64;
    let most = memory / 4 / bytes_of_row.max(1);
    let (all, at_once) = (0..cells.n_genes(), table.rows as u64 <= most);
    let mut out: Vec<Vec<Vec<GeneSummary>>> =
        groups.names.iter().map(|_| table.columns.iter().map(|_| vec![]).collect()).collect();
    let mut tally = Tally::new(column, table.lowest_first[column], cells.n_genes());
    let mut gathered = Gathered::new(if at_once { all } else { 0..0 }, table.columns.len(), groups);
    table.each_part(frames, &mut |part| {
        tally.add(&part);
        gathered.add(&part);
        Ok(())
    })?;
    gathered.tell(table, subjects, &mut out);
    if !at_once {
        for genes in ranges(&tally.rows_of_singles(), most) {
            let mut gathered = Gathered::new(genes, table.columns.len(), groups);
            table.each_part(frames, &mut |part| {
                gathered.add(&part);
                Ok(())
            })?;
            gathered.tell(table, subjects, &mut out);
        }
    }
    let by_column = |of_group: Vec<Vec<GeneSummary>>| {
        of_group.into_iter().zip(&table.lowest_first).flat_map(|(genes, lowest)| ranked(genes, *lowest))
    };
    Ok((out.into_iter().flat_map(by_column).collect(), tally.ranked(cells.var())))
}

/// Genes cut into ranges of at most so many rows, or of one gene.
fn ranges(rows: &[u64], most: u64) -> Vec<Range<usize>> {
    let (mut ranges, mut start, mut sum) = (vec![], 0, 0);
    for (gene, &rows) in rows.iter().enumerate() {
        if gene > start && sum + rows > most {
            ranges.push(start..gene);
            (start, sum) = (gene, 0);
        }
        sum += rows;
    }
    ranges.push(start..rows.len());
    ranges
}

/// The impacts of knockouts of a population: `impacts[i]` is that of knockout `i` in this group, of this metric.
pub fn of_population(
    knockouts: &Knockouts,
    cells: &Cells,
    (group, member): &Group,
    (metric, impacts, lowest_first): (&str, &[f32], bool),
) -> Vec<GeneSummary> {
    let mut known = Presence { size: 0, expressing: vec![(0, 0.0); cells.n_genes()] };
    (0..cells.len()).filter(|&cell| member[cell]).for_each(|cell| known.add(&cells.x, cell));
    let one = |i: usize| {
        let gene = knockouts.single(i).filter(|_| !impacts[i].is_nan())?;
        let mean = f64::from(impacts[i]);
        Some(GeneSummary { mean, ..GeneSummary::of((group, metric), gene, &known) })
    };
    ranked((0..knockouts.len()).filter_map(one).collect(), lowest_first)
}

/// The strongest first, each with its rank; ties by gene.
pub fn ranked(mut genes: Vec<GeneSummary>, lowest_first: bool) -> Vec<GeneSummary> {
    let strength = |g: &GeneSummary| if lowest_first { -g.mean } else { g.mean };
    genes.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then(a.gene.cmp(&b.gene)));
    genes.iter_mut().enumerate().for_each(|(i, g)| g.rank = i + 1);
    genes
}

/// The mean, and its normal 95 % interval; without an interval for a single value.
pub fn mean_interval(values: &[f64]) -> (f64, (f64, f64)) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = crate::statistics::Z * (variance / n).sqrt();
    (mean, (mean - half, mean + half))
}

/// A quantile of sorted values, between neighbours by their distance (numpy's default).
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    quantile_of(sorted.len(), q, |rank| sorted[rank])
}

/// The same of `n` values of which `value` knows the one of each rank.
pub fn quantile_of(n: usize, q: f64, value: impl Fn(usize) -> f64) -> f64 {
    let Some(last) = n.checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (low, high) = (value(at.floor() as usize), value(at.ceil() as usize));
    low + (high - low) * at.fract()
}

/// The summaries as CSV. What is not known is empty.
pub fn write_csv(genes: &[GeneSummary], var: &Frame) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    writer.write_record([
        "group",
        "metric",
        "gene",
        "rank",
        "cells",
        "presence",
        "mean_share",
        "impact_mean",
        "impact_lower",
        "impact_upper",
        "impact_median",
        "impact_q05",
        "impact_q25",
        "impact_q75",
        "impact_q95",
        "refit_lower",
        "refit_upper",
        "p",
        "fdr",
        "matched",
    ])?;
    let text = |x: f64| if x.is_finite() { x.to_string() } else { String::new() };
    for g in genes {
        let [q05, q25, median, q75, q95] = g.quantiles.map(text);
        writer.write_record([
            g.group.clone(),
            g.metric.clone(),
            var.names[g.gene as usize].clone(),
            g.rank.to_string(),
            g.cells.to_string(),
            text(g.presence),
            text(g.mean_share),
            text(g.mean),
            text(g.interval.0),
            text(g.interval.1),
            median,
            q05,
            q25,
            q75,
            q95,
            text(g.refit.0),
            text(g.refit.1),
            text(g.p),
            text(g.fdr),
            text(g.matched),
        ])?;
    }
    Ok(writer.into_inner()?)
}

/// How many genes the console and the report show.
const SHOWN: usize = 20;

/// The first genes by one metric over all cells, and those asked for, for the console and the report.
pub fn keystones(genes: &[GeneSummary], metric: &str, var: &Frame, asked: &[String]) -> Json {
    let number = |x: f64| x.is_finite().then_some(x);
    genes
        .iter()
        .filter(|g| g.group == ALL && g.metric == metric)
        .filter(|g| g.rank <= SHOWN || asked.contains(&var.names[g.gene as usize]))
        .map(|g| {
            json!({
                "gene": var.names[g.gene as usize], "rank": g.rank, "cells": g.cells, "presence": g.presence,
                "asked": asked.contains(&var.names[g.gene as usize]), "mean_share": g.mean_share, "impact": number(g.mean), "lower": number(g.interval.0),
                "upper": number(g.interval.1), "refit_lower": number(g.refit.0), "refit_upper": number(g.refit.1),
                "p": number(g.p), "fdr": number(g.fdr), "matched": number(g.matched),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|q| quantile(&values, q)), [1.0, 1.75, 3.0, 5.0, 8.0]);
        assert!(quantile(&[], 0.5).is_nan());
        let (mean, (low, high)) = mean_interval(&values);
        assert_eq!(mean, 3.75);
        assert!((high - 6.784_2).abs() < 1e-3 && (low - 0.715_8).abs() < 1e-3, "{low} {high}");
        assert!(mean_interval(&[2.0]).1.0.is_nan());
    }

    #[test]
    fn ranges_hold_as_many_rows_as_are_allowed() {
        assert_eq!(ranges(&[3, 3, 3, 9, 1, 0], 6), [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(ranges(&[1, 1], 100), vec![Range { start: 0, end: 2 }]);
    }
}
