//! What a screen says of each gene: over all cells that express it, and in each group of cells.

use super::ImpactTable;
use crate::data::{Cells, Knockouts};
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// One gene in one group, by one metric.
pub struct GeneSummary {
    group: String,
    metric: String,
    gene: u32,
    /// Cells of the group that express the gene.
    cells: usize,
    /// Their share of the group.
    presence: f64,
    /// Mean share of the gene in these cells' profiles.
    mean_share: f64,
    mean: f64,
    /// Normal 95 % interval of the mean over cells.
    interval: (f64, f64),
    /// Quantiles .05, .25, .5, .75, .95 over cells.
    quantiles: [f64; 5],
    rank: usize,
}

impl GeneSummary {
    /// What is known of a gene in a group of so many cells before any impact.
    fn of((group, metric): (&str, &str), gene: u32, size: usize, expressing: &[(usize, f64)]) -> Self {
        let (cells, sum) = expressing[gene as usize];
        Self {
            group: group.into(),
            metric: metric.into(),
            gene,
            cells,
            presence: cells as f64 / size.max(1) as f64,
            mean_share: sum / cells.max(1) as f64,
            mean: f64::NAN,
            interval: (f64::NAN, f64::NAN),
            quantiles: [f64::NAN; 5],
            rank: 0,
        }
    }
}

/// The group of all cells.
const ALL: &str = "all";

/// Summaries by group, then metric, then rank. Single knockouts only.
pub fn summarise(table: &ImpactTable, cells: &Cells, groups: Option<&str>) -> Result<Vec<GeneSummary>> {
    let shares = shares(cells);
    let mut out = vec![];
    for (group, member) in &groups_of(cells, groups)? {
        for column in 0..table.columns.len() {
            out.extend(of_group(table, cells, (group, member), column, &shares));
        }
    }
    Ok(out)
}

/// A group's name, and which cells are in it.
pub type Group = (String, Vec<bool>);

/// All cells, then the groups of an annotation by name.
pub fn groups_of(cells: &Cells, annotation: Option<&str>) -> Result<Vec<Group>> {
    let mut groups = vec![(ALL.into(), vec![true; cells.len()])];
    if let Some(column) = annotation {
        let texts = crate::run::obs_column(cells, column).context("`groups`")?.texts();
        let names: std::collections::BTreeSet<&String> = texts.iter().flatten().collect();
        for name in names {
            groups.push((name.clone(), texts.iter().map(|t| t.as_ref() == Some(name)).collect()));
        }
    }
    Ok(groups)
}

/// The cells of a group that express each gene, and the sum of its shares in them.
fn expressing(cells: &Cells, member: &[bool], shares: &[f32]) -> Vec<(usize, f64)> {
    let mut expressing = vec![(0usize, 0f64); cells.n_genes()];
    for cell in (0..cells.len()).filter(|&c| member[c]) {
        for at in cells.x.range(cell) {
            let (count, sum) = &mut expressing[cells.x.indices[at] as usize];
            *count += 1;
            *sum += f64::from(shares[at]);
        }
    }
    expressing
}

/// The impacts of knockouts of a population: `impacts[i]` is that of knockout `i` in this group, of this metric.
pub fn of_population(
    knockouts: &Knockouts,
    cells: &Cells,
    (group, member): &Group,
    (metric, impacts, lowest_first): (&str, &[f32], bool),
) -> Vec<GeneSummary> {
    let size = member.iter().filter(|m| **m).count();
    let expressing = expressing(cells, member, &shares(cells));
    let one = |i: usize| {
        let gene = knockouts.single(i).filter(|_| !impacts[i].is_nan())?;
        let mean = f64::from(impacts[i]);
        Some(GeneSummary { mean, ..GeneSummary::of((group, metric), gene, size, &expressing) })
    };
    ranked((0..knockouts.len()).filter_map(one).collect(), lowest_first)
}

/// The strongest first, each with its rank; ties by gene.
fn ranked(mut genes: Vec<GeneSummary>, lowest_first: bool) -> Vec<GeneSummary> {
    let strength = |g: &GeneSummary| if lowest_first { -g.mean } else { g.mean };
    genes.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then(a.gene.cmp(&b.gene)));
    genes.iter_mut().enumerate().for_each(|(i, g)| g.rank = i + 1);
    genes
}

fn of_group(
    table: &ImpactTable,
    cells: &Cells,
    (group, member): (&str, &[bool]),
    column: usize,
    shares: &[f32],
) -> Vec<GeneSummary> {
    let (metric, values) = (&table.columns[column], &table.values[column]);
    let size = member.iter().filter(|m| **m).count();
    let mut impacts: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (i, &value) in values.iter().enumerate() {
        if let Some(gene) = table.knockouts.single(i).filter(|_| !value.is_nan())
            && member[table.knockouts.cell[i] as usize]
        {
            impacts.entry(gene).or_default().push(f64::from(value));
        }
    }
    let expressing = expressing(cells, member, shares);
    let one = |(gene, impacts): (u32, Vec<f64>)| {
        let (mean, interval) = mean_interval(&impacts);
        let quantiles = quantiles(impacts);
        GeneSummary { mean, interval, quantiles, ..GeneSummary::of((group, metric), gene, size, &expressing) }
    };
    ranked(impacts.into_iter().map(one).collect(), table.lowest_first[column])
}

/// The share of each stored value in its cell's profile.
fn shares(cells: &Cells) -> Vec<f32> {
    let mut shares = cells.x.values.clone();
    for cell in 0..cells.len() {
        let total = cells.x.row_sum(cell);
        shares[cells.x.range(cell)].iter_mut().for_each(|v| *v = (f64::from(*v) / total) as f32);
    }
    shares
}

/// The mean, and its normal 95 % interval; without an interval for a single value.
pub fn mean_interval(values: &[f64]) -> (f64, (f64, f64)) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = 1.959_963_984_540_054 * (variance / n).sqrt();
    (mean, (mean - half, mean + half))
}

fn quantiles(mut values: Vec<f64>) -> [f64; 5] {
    values.sort_by(f64::total_cmp);
    [0.05, 0.25, 0.5, 0.75, 0.95].map(|q| quantile(&values, q))
}

/// A quantile of sorted values, between neighbours by their distance (numpy's default).
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// The summaries as CSV. What is not known is empty.
pub fn write_csv(genes: &[GeneSummary], cells: &Cells) -> Result<Vec<u8>> {
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
    ])?;
    let text = |x: f64| if x.is_finite() { x.to_string() } else { String::new() };
    for g in genes {
        let [q05, q25, median, q75, q95] = g.quantiles.map(text);
        writer.write_record([
            g.group.clone(),
            g.metric.clone(),
            cells.var.names[g.gene as usize].clone(),
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
        ])?;
    }
    Ok(writer.into_inner()?)
}

/// How many genes the console and the report show.
const SHOWN: usize = 20;

/// The first genes by one metric over all cells, and those asked for, for the console and the report.
pub fn keystones(genes: &[GeneSummary], metric: &str, cells: &Cells, asked: &[String]) -> Json {
    let number = |x: f64| x.is_finite().then_some(x);
    genes
        .iter()
        .filter(|g| g.group == ALL && g.metric == metric)
        .filter(|g| g.rank <= SHOWN || asked.contains(&cells.var.names[g.gene as usize]))
        .map(|g| {
            json!({
                "gene": cells.var.names[g.gene as usize], "rank": g.rank, "cells": g.cells, "presence": g.presence,
                "asked": asked.contains(&cells.var.names[g.gene as usize]), "mean_share": g.mean_share, "impact": number(g.mean), "lower": number(g.interval.0),
                "upper": number(g.interval.1),
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
}
