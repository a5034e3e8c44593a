//! Screens by models that answer for a population as a whole: its mean profile, or a score for each gene.
//!
//! A knockout is then one row, whatever the number of cells, and what a cell expresses decides only which
//! knockouts are proposed.

use super::effects::{OF_PROFILES, OF_SCORES, Refits, Table, interval};
use super::genes::{self, GeneSummary, Group, Groups};
use super::impacts::{make_null, push_before};
use super::refits::{self, Cut, Means, Refitted};
use super::spread::Spread;
use super::table::{write_knockouts, write_parquet};
use super::{EffectsOf, Measure, Screen, Shot};
use crate::data::{Cells, Knockouts};
use crate::plugin::{Answers, Scale, Services, Strategy};
use crate::run::{Cancelled, Outputs, StepCx, json_bytes, write_atomically};
use crate::steps::FittedModel;
use crate::steps::prepare::OTHER_GENES;
use anyhow::{Context, Result};
use lacuna_abi::MatRef;
use serde_json::{Value as Json, json};
use std::collections::HashSet;

/// What stands in the place of a cell's name.
pub const POPULATION: &str = "(population)";
/// Knockouts that the model is asked for at once.
const KNOCKOUTS_AT_ONCE: usize = 64;
/// Cells that a strategy is asked about at once.
const CELLS_AT_ONCE: usize = 64;

/// The impacts of all knockouts in one group, one list for each impact.
type Impacts = Vec<Vec<f32>>;

/// Screens all groups; writes impacts of the whole population, what is told of genes, and effects.
pub fn run(
    screen: &Screen,
    model: &FittedModel,
    (cells, unlike): (&Cells, Option<f64>),
    cx: &StepCx<'_>,
) -> Result<Outputs> {
    let measures = screen.measures(&cx.services)?;
    let whole = Shot { screen, model, cells, measures: &measures, host: &cx.services };
    let knockouts = proposed(&whole, &screen.strategy(&cx.services)?)?;
    if knockouts.is_empty() {
        cx.services.warn(format!("{} proposed no knockout in these cells", screen.knockouts.full_name()));
    }
    let groups = genes::groups_of(cells, screen.groups.as_deref())?;
    let parts: Vec<Cells> = groups.iter().map(|(_, member)| members(cells, member)).collect();
    let described = describe(&whole);
    let mut impacts: Vec<Impacts> = vec![];
    for (group, part) in groups.iter().zip(&parts) {
        let shot = Shot { cells: part, ..whole };
        impacts.push(of_group(&shot, &knockouts).with_context(|| format!("group `{}`", group.0))?);
        cx.services.progress(impacts.len() as u64, groups.len() as u64, "groups");
    }
    write_impacts(&whole, &knockouts, &impacts[0], &described, cx)?;
    let mut summaries = summaries(&knockouts, cells, &groups, &impacts, &described);
    let refitted = refitted(&whole, &knockouts, &parts, cx)?;
    let (shown, names) = (screen.shown(), groups.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let (what, genes) = ((described.as_slice(), shown), cells.n_genes());
    let judgement = refits::judge(&mut summaries, what, &names, refitted.as_ref(), genes);
    refits::warn_of_ranking(&judgement, &cx.services);
    cx.write("genes.csv", &genes::write_csv(&summaries, &cells.var)?)?;
    let ranked = (impacts[0][shown].as_slice(), lowest_first(&described[shown]));
    let chosen = strongest(screen, &knockouts, cells, ranked, &cx.services)?;
    write_effects(&whole, &knockouts.select(chosen.iter().copied()), (&groups, &parts), cx)?;
    let label = |&i: &usize| knockouts.label(i, &cells.var.names);
    let column = described[shown]["column"].as_str().unwrap_or_default();
    let summary = json!({
        "headline": format!("{} knockouts in a population of {} cells", knockouts.len(), cells.len()),
        "knockouts": knockouts.len(), "cells": cells.len(), "genes": cells.n_genes(), "population": true,
        "model": model.fitted.name(), "impacts": described, "strategy": screen.knockouts.full_name(),
        "top": chosen.iter().map(label).collect::<Vec<_>>(), "shown": described[shown],
        "stability": judgement.stability, "unlike": unlike,
        "keystones": genes::keystones(&summaries, column, &cells.var, &screen.effects.genes),
    });
    cx.write("screen.json", &json_bytes(&summary)?)?;
    super::summary::remove(&cx.path(refits::FOLDER))?;
    Ok(Outputs { summary, ..Outputs::default() })
}

/// The screen by each refit of the model.
fn refitted(
    whole: &Shot<'_>,
    knockouts: &Knockouts,
    parts: &[Cells],
    cx: &StepCx<'_>,
) -> Result<Option<Refitted>> {
    let by_depth = Groups::by_depth(&whole.cells.library);
    let (genes, columns) = (whole.cells.n_genes(), describe(whole).len());
    let empty =
        |groups: usize| Means::unknown(columns, if groups == 0 { parts.len() } else { groups }, genes);
    Refitted::gather(whole.model, empty, cx, |model, host, cut| {
        let shot = Shot { model, host, ..*whole };
        if cut == Cut::Groups {
            return means(&shot, knockouts, parts);
        }
        let halves: Vec<Cells> = genes::members_of(&by_depth, whole.cells.len())
            .iter()
            .map(|member| members(whole.cells, member))
            .collect();
        means(&shot, knockouts, &halves)
    })
}

/// The impacts of single knockouts on groups of cells.
fn means(shot: &Shot<'_>, knockouts: &Knockouts, parts: &[Cells]) -> Result<Means> {
    let mut means = Means::unknown(describe(shot).len(), parts.len(), shot.cells.n_genes());
    for (group, cells) in parts.iter().enumerate() {
        for (column, impacts) in of_group(&Shot { cells, ..*shot }, knockouts)?.into_iter().enumerate() {
            let out = means.of_mut(column, group);
            let singles =
                impacts.into_iter().enumerate().filter_map(|(i, x)| Some((knockouts.single(i)?, x)));
            singles.for_each(|(gene, impact)| out[gene as usize] = f64::from(impact));
        }
    }
    Ok(means)
}

/// The different knockouts that a strategy proposes for the cells.
fn proposed(shot: &Shot<'_>, strategy: &Strategy) -> Result<Knockouts> {
    if let Some(known) = &shot.screen.known {
        return Ok(known.of_population());
    }
    let none = Knockouts::default();
    if !super::by_blocks(&shot.screen.knockouts) {
        return Ok(shot.proposed(strategy, shot.cells, (0, &none, &[]))?.of_population());
    }
    let (mut all, mut seen) = (Knockouts::default(), HashSet::new());
    for start in (0..shot.cells.len()).step_by(CELLS_AT_ONCE) {
        let rows: Vec<usize> = (start..(start + CELLS_AT_ONCE).min(shot.cells.len())).collect();
        let found = shot.proposed(strategy, &shot.cells.select_cells(&rows), (0, &none, &[]))?;
        for i in 0..found.len() {
            let levels: Vec<u32> = found.levels(i).iter().map(|level| level.to_bits()).collect();
            if seen.insert((found.genes(i).to_vec(), levels)) {
                all.push_population(found.genes(i), found.levels(i));
            }
        }
    }
    Ok(all.of_population())
}

fn members(cells: &Cells, member: &[bool]) -> Cells {
    let rows: Vec<usize> = (0..cells.len()).filter(|&i| member[i]).collect();
    cells.select_cells(&rows)
}

/// What the impacts are, as in the manifest of any screen.
fn describe(shot: &Shot<'_>) -> Vec<Json> {
    if shot.model.fitted.info().answers == Answers::GeneScores {
        return vec![
            json!({ "column": "impact", "metric": "root mean square of the scores", "strongest": "highest" }),
        ];
    }
    shot.measures.iter().zip(&shot.screen.impacts).map(|(measure, impact)| measure.describe(impact)).collect()
}

fn lowest_first(described: &Json) -> bool {
    described["strongest"] == "lowest"
}

/// The answers for some knockouts of a population, and the standard deviations of its values.
struct Answered {
    /// The population as it is; nothing where the model gives scores.
    base: Vec<f32>,
    base_spread: Vec<f32>,
    /// One row for each knockout.
    rows: Vec<f32>,
    spread: Vec<f32>,
}

/// Asks the model. Mean profiles are closed.
fn ask(model: &FittedModel, cells: &Cells, knockouts: &Knockouts, host: &Services) -> Result<Answered> {
    if host.cancelled() {
        return Err(Cancelled.into());
    }
    let genes = cells.n_genes();
    if model.fitted.info().answers == Answers::GeneScores {
        let mut rows = vec![0.0; knockouts.len() * genes];
        model.predict(host, cells, knockouts, &mut rows)?;
        return Ok(Answered { base: vec![], base_spread: vec![], rows, spread: vec![] });
    }
    let query = with_base(knockouts);
    let mut rows = vec![0.0; query.len() * genes];
    let mut spread = vec![f32::NAN; rows.len()];
    model.predict_with_spread(host, cells, &query, (&mut rows, &mut spread))?;
    let (after, after_spread) = (rows.split_off(genes), spread.split_off(genes));
    Ok(Answered { base: rows, base_spread: spread, rows: after, spread: after_spread })
}

/// The population as it is, then each knockout.
fn with_base(knockouts: &Knockouts) -> Knockouts {
    let mut query = Knockouts::default();
    query.push_population(&[], &[]);
    (0..knockouts.len()).for_each(|i| query.push_population(knockouts.genes(i), knockouts.levels(i)));
    query
}

/// The predicted effects of knockouts on a population, knockouts × genes: scores as they are, else the profiles
/// without and with each knockout.
pub enum Effects {
    /// Signed scores.
    Scores(Vec<f32>),
    /// The profile as it is (genes), and after each knockout (knockouts × genes).
    Means(Vec<f32>, Vec<f32>),
    /// The same of means of log1p(10⁴ p).
    Logs(Vec<f32>, Vec<f32>),
}

/// Asks for the effects of knockouts on a population.
pub fn effects(
    model: &FittedModel,
    cells: &Cells,
    knockouts: &Knockouts,
    host: &Services,
) -> Result<Effects> {
    let info = model.fitted.info();
    if (info.answers, info.scale) == (Answers::Means, Scale::Log1pCp10k) {
        let query = with_base(knockouts);
        let mut rows = vec![0.0; query.len() * cells.n_genes()];
        model.logs(host, cells, &query, &mut rows)?;
        let after = rows.split_off(cells.n_genes());
        return Ok(Effects::Logs(rows, after));
    }
    let found = ask(model, cells, knockouts, host)?;
    Ok(if found.base.is_empty() {
        Effects::Scores(found.rows)
    } else {
        Effects::Means(found.base, found.rows)
    })
}

fn blocks(n: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..n).step_by(KNOCKOUTS_AT_ONCE).map(move |start| (start..(start + KNOCKOUTS_AT_ONCE).min(n)).collect())
}

fn of_group(shot: &Shot<'_>, knockouts: &Knockouts) -> Result<Impacts> {
    let scores = shot.model.fitted.info().answers == Answers::GeneScores;
    let mut impacts: Impacts = vec![vec![]; if scores { 1 } else { shot.measures.len() }];
    let observed = mean_profile(shot.cells);
    for rows in blocks(knockouts.len()) {
        let block = knockouts.select(rows);
        let found = ask(shot.model, shot.cells, &block, shot.host)?;
        if scores {
            impacts[0].extend(magnitudes(&found.rows, &block, shot.cells));
            continue;
        }
        for (measure, out) in shot.measures.iter().zip(&mut impacts) {
            out.extend(measured(shot, measure, &block, (&found, &observed))?);
        }
    }
    Ok(impacts)
}

/// The root mean square of each knockout's scores of all other genes.
fn magnitudes(scores: &[f32], knockouts: &Knockouts, cells: &Cells) -> Vec<f32> {
    let genes = cells.n_genes();
    let other = cells.var.names.iter().position(|name| name == OTHER_GENES);
    let one = |(i, row): (usize, &[f32])| {
        let others = (0..genes).filter(|j| !knockouts.genes(i).contains(&(*j as u32)) && Some(*j) != other);
        let (sum, n) = others.fold((0f64, 0usize), |(sum, n), j| (sum + f64::from(row[j]).powi(2), n + 1));
        (sum / n.max(1) as f64).sqrt() as f32
    };
    scores.chunks_exact(genes.max(1)).enumerate().map(one).collect()
}

/// The mean profile of cells, shape (genes).
fn mean_profile(cells: &Cells) -> Vec<f32> {
    let mut sum = vec![0f64; cells.n_genes()];
    let mut profile = vec![0.0; cells.n_genes()];
    for cell in 0..cells.len() {
        cells.write_profile(cell, &mut profile);
        sum.iter_mut().zip(&profile).for_each(|(sum, &p)| *sum += f64::from(p));
    }
    sum.into_iter().map(|s| (s / cells.len() as f64) as f32).collect()
}

fn measured(
    shot: &Shot<'_>,
    measure: &Measure,
    block: &Knockouts,
    (found, observed): (&Answered, &[f32]),
) -> Result<Vec<f32>> {
    let genes = shot.cells.n_genes();
    let reference = if measure.against.is_observed() { observed } else { &found.base };
    let mut before = vec![];
    for i in 0..block.len() {
        push_before(&mut before, reference, measure.against, (block.genes(i), block.levels(i)));
    }
    let matrix = |values| MatRef::from_rows(values, block.len(), genes);
    let seen = measure.wants_observed.then(|| MatRef::repeated(observed, block.len()));
    let pair = (matrix(&before), matrix(&found.rows));
    let scores = measure.metric.score_rows(shot.host, pair, seen, Some(block))?;
    Ok(scores.into_iter().map(|s| s as f32).collect())
}

fn write_impacts(
    shot: &Shot<'_>,
    knockouts: &Knockouts,
    impacts: &Impacts,
    described: &[Json],
    cx: &StepCx<'_>,
) -> Result<()> {
    let (dir, file) = (cx.path("impacts"), "part-000000.parquet");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let names: Vec<&str> = described.iter().filter_map(|d| d["column"].as_str()).collect();
    let columns: Vec<(&str, &[f32])> = names.iter().copied().zip(impacts.iter().map(Vec::as_slice)).collect();
    let names = (shot.cells.obs.names.as_slice(), shot.cells.var.names.as_slice());
    write_knockouts(&dir.join(file), knockouts, &columns, names)?;
    let part =
        json!({ "file": file, "rows": knockouts.len(), "first_cell": POPULATION, "last_cell": POPULATION });
    let manifest = json!({
        "format": 1, "rows": knockouts.len(), "impacts": described, "anchor": Json::Null,
        "knockouts": shot.screen.knockouts.describe(), "model": shot.model.fitted.name(), "parts": [part],
    });
    write_atomically(&dir.join("manifest.json"), &json_bytes(&manifest)?)
}

fn summaries(
    knockouts: &Knockouts,
    cells: &Cells,
    groups: &[Group],
    impacts: &[Impacts],
    described: &[Json],
) -> Vec<GeneSummary> {
    let of_group = |(group, impacts): (&Group, &Impacts)| -> Vec<GeneSummary> {
        let of_impact = |(values, what): (&Vec<f32>, &Json)| {
            let name = what["column"].as_str().unwrap_or_default();
            genes::of_population(knockouts, cells, group, (name, values, lowest_first(what)))
        };
        impacts.iter().zip(described).flat_map(of_impact).collect()
    };
    groups.iter().zip(impacts).flat_map(of_group).collect()
}

/// The knockouts whose effects are written: the strongest, and those asked for.
fn strongest(
    screen: &Screen,
    knockouts: &Knockouts,
    cells: &Cells,
    (impacts, lowest_first): (&[f32], bool),
    host: &Services,
) -> Result<Vec<usize>> {
    let EffectsOf { top, genes } = &screen.effects;
    let asked = crate::steps::prepare::find_genes(&cells.var, genes, "effects")?;
    let strength = |&i: &usize| match (impacts[i].is_nan(), lowest_first) {
        (true, _) => f32::NEG_INFINITY,
        (_, true) => -impacts[i],
        _ => impacts[i],
    };
    let mut order: Vec<usize> = (0..knockouts.len()).collect();
    order.sort_by(|a, b| strength(b).total_cmp(&strength(a)).then(a.cmp(b)));
    let is_asked = |&i: &usize| knockouts.single(i).is_some_and(|g| asked.contains(&(g as usize)));
    screen.warn_of_unproposed(
        &asked,
        (0..knockouts.len()).filter_map(|i| knockouts.single(i)),
        &cells.var,
        host,
    );
    Ok(order.into_iter().enumerate().filter(|(at, i)| at < top || is_asked(i)).map(|(_, i)| i).collect())
}

fn write_effects(
    whole: &Shot<'_>,
    knockouts: &Knockouts,
    (groups, parts): (&[Group], &[Cells]),
    cx: &StepCx<'_>,
) -> Result<()> {
    let scores = whole.model.fitted.info().answers == Answers::GeneScores;
    let refits = Refits::of(whole.model);
    let names = refits.names(if scores { OF_SCORES } else { OF_PROFILES });
    let (mut tables, detected) = (vec![], parts.iter().map(detection).collect::<Vec<_>>());
    for rows in blocks(knockouts.len()) {
        let block = knockouts.select(rows);
        for (((group, _), cells), detected) in groups.iter().zip(parts).zip(&detected) {
            let found = ask(whole.model, cells, &block, whole.host)?;
            let by_refit = refits.each(whole.host, |model, host| {
                let found = ask(model, cells, &block, host)?;
                Ok((0..block.len()).map(|i| found.effects(&block, i)).collect::<Vec<_>>())
            })?;
            let mut table = Table::new(&names);
            for i in 0..block.len() {
                let of_refits = by_refit.iter().map(|effects: &Vec<Vec<f64>>| effects[i].clone()).collect();
                let spread = refits.spread(block.genes(i), &found.effects(&block, i), of_refits, detected);
                tell(&mut table, (group, &cells.var.names, detected), &block, i, (&found, spread.as_ref()));
            }
            tables.push(table.finish()?);
        }
    }
    if tables.is_empty() {
        tables.push(Table::new(&names).finish()?);
    }
    write_parquet(&cx.path("effects.parquet"), &tables)
}

impl Answered {
    /// The scores of knockout `i`, or the log2 fold changes, of all genes; NaN where there is none, and of the removed ones.
    fn effects(&self, block: &Knockouts, i: usize) -> Vec<f64> {
        let genes = self.rows.len() / block.len().max(1);
        let row = &self.rows[i * genes..(i + 1) * genes];
        let mut before = self.base.clone();
        if !before.is_empty() {
            make_null(&mut before, (block.genes(i), block.levels(i)));
        }
        let one = |j: usize| match before.get(j) {
            _ if block.genes(i).contains(&(j as u32)) => f64::NAN,
            None => f64::from(row[j]),
            Some(&b) if b > 0.0 && row[j] > 0.0 => (f64::from(row[j]) / f64::from(b)).log2(),
            Some(_) => f64::NAN,
        };
        (0..genes).map(one).collect()
    }
}

/// The effects of knockout `i` on the genes that cells of the group express, but for the removed ones.
fn tell(
    table: &mut Table,
    (group, names, detected): (&str, &[String], &[f64]),
    block: &Knockouts,
    i: usize,
    (found, spread): (&Answered, Option<&Spread>),
) {
    let (label, genes) = (block.label(i, names), names.len());
    let (effects, mut before) = (found.effects(block, i), found.base.clone());
    if !before.is_empty() {
        make_null(&mut before, (block.genes(i), block.levels(i)));
    }
    for j in (0..genes).filter(|j| detected[*j] > 0.0 && !block.genes(i).contains(&(*j as u32))) {
        let (after, detection) = (found.rows[i * genes + j], Some(detected[j]));
        let spread = spread.map(|spread| (spread, j));
        if before.is_empty() {
            table.push((&label, group), &names[j], &[Some(f64::from(after)), detection], spread);
            continue;
        }
        let fold = Some(effects[j]).filter(|fold| fold.is_finite());
        let errors = [found.base_spread[j], found.spread[i * genes + j]].map(f64::from);
        let error = errors[0].hypot(errors[1]) / std::f64::consts::LN_2;
        let (low, high) = fold.filter(|_| error.is_finite()).map(|fold| interval((fold, error))).unzip();
        let (b, a) = (Some(f64::from(before[j])), Some(f64::from(after)));
        table.push((&label, group), &names[j], &[b, a, fold, low, high, detection], spread);
    }
}

/// The share of cells that express each gene.
fn detection(cells: &Cells) -> Vec<f64> {
    let mut count = vec![0.0; cells.n_genes()];
    cells.x.indices.iter().for_each(|&j| count[j as usize] += 1.0);
    count.into_iter().map(|n: f64| n / cells.len() as f64).collect()
}
