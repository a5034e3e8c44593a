//! Predicted against true impacts of the same knockouts in the same cells.

mod doubles;

use super::scores::{Blocks, Contender, Over, ScoreRow, plain_row, score, score_pair};
use super::{Evaluate, Judge, name_of, single, training_cells};
use crate::data::Cells;
use crate::plugin::Services;
use crate::run::{Chosen, StepCx, seeded_stream};
use crate::steps::screen::{ImpactTable, Shot};
use crate::steps::{Action, Screen};
use anyhow::{Context, Result, bail, ensure};
use arrow_array::cast::AsArray;
use doubles::Doubles;
use rand::seq::index::sample;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

/// How many points of predicted and true impacts the report draws.
const POINTS: usize = 1500;

/// A screen behind a choice, with its cells and impacts.
struct Screened<'a> {
    screen: &'a Screen,
    model: Chosen,
    cells: Arc<Cells>,
    table: ImpactTable,
}

/// Scores of all screens and baselines: all knockouts, each stratum, cell by cell, and the ranking of genes.
pub fn scores(
    evaluate: &Evaluate,
    judges: &[Judge],
    strata: &[String],
    cx: &StepCx<'_>,
) -> Result<(Vec<ScoreRow>, Json)> {
    let truth = open(single(cx, "truth")?, cx).context("`truth`")?;
    let (mut rows, mut points) = (vec![], vec![]);
    for chosen in cx.chosen("screens") {
        let screened = open(chosen, cx)?;
        let pairing = Pairing::new(&screened, &truth)?;
        let name = name_of(chosen, cx);
        if pairing.pairs.len() < screened.table.len() {
            let (found, all) = (pairing.pairs.len(), screened.table.len());
            cx.services.warn(format!("{found} of the {all} knockouts of {name} are in the truth's screen: the others are not scored"));
        }
        let contenders = contenders(evaluate, &screened, cx)?;
        for (c, column) in screened.table.columns.iter().enumerate() {
            let t_column = same_impact(&screened, c, &truth)?;
            let data =
                if screened.table.columns.len() > 1 { format!("{name}.{column}") } else { name.clone() };
            // A knockout without a value for anyone is left out for all, so that all are scored on the same.
            let has_value = |&(p, t): &(usize, usize)| {
                !truth.table.values[t_column][t].is_nan() && contenders.iter().all(|k| !k.2[c][p].is_nan())
            };
            let pairing = pairing.filtered(has_value);
            let of_column: Vec<Contender> = contenders
                .iter()
                .map(|(name, baseline, values)| Contender {
                    name: name.clone(),
                    baseline: *baseline,
                    blocks: pairing.blocks(&values[c], &truth.table.values[t_column]),
                })
                .collect();
            for judge in judges {
                rows.extend(of_all_strata(&data, judge, &of_column, &pairing, strata, &screened, cx)?);
            }
            points.push(json!({ "data": data, "points": drawn(&of_column[0].blocks, cx.step_seed()) }));
        }
    }
    Ok((rows, points.into()))
}

fn open<'a>(chosen: &Chosen, cx: &'a StepCx<'_>) -> Result<Screened<'a>> {
    let Action::Screen(screen) = &cx.run().step(chosen).action else { bail!("this is no screen") };
    let instance = cx.run().instance(chosen)?;
    let input =
        |key: &str| instance.choices.get(key).and_then(|c| c.first()).context("a screen without inputs");
    let model = input("model")?.clone();
    let cells = cx.run().model(&model)?.align(cx.run().cell_set(input("cells")?)?, &cx.services)?;
    let cells = cx.hold(&cells, "cells")?;
    let table = ImpactTable::read(&instance.dir.join("impacts"), &cells)?;
    Ok(Screened { screen, model, cells, table })
}

/// The column of the truth's screen that holds the same impact as column `c` of a screen.
fn same_impact(screened: &Screened<'_>, c: usize, truth: &Screened<'_>) -> Result<usize> {
    let column = &screened.table.columns[c];
    let Some(found) = truth.table.columns.iter().position(|x| x == column) else {
        bail!("the truth has no impacts named `{column}`: give both screens the same `impact`");
    };
    let described = |s: &Screened<'_>, c: usize| {
        let impact = &s.screen.impacts[c];
        let against = if impact.against.is_null() { "the null" } else { "the whole" };
        (impact.call.describe(), format!("{} against {against} profile", impact.call.full_name()))
    };
    let (one, other) = (described(screened, c), described(truth, found));
    ensure!(
        one == other,
        "`{column}` is {} in the screen and {} in the truth: give both the same `impact`",
        one.1,
        other.1
    );
    Ok(found)
}

/// Names, whether they are baselines, and impacts of the screen's own knockouts by column.
type Impacts = Vec<(String, bool, Vec<Vec<f32>>)>;

fn contenders(evaluate: &Evaluate, screened: &Screened<'_>, cx: &StepCx<'_>) -> Result<Impacts> {
    let own = name_of(&screened.model, cx);
    let mut all = vec![(own, false, screened.table.values.clone())];
    let measures = screened.screen.measures(&cx.services)?;
    for (name, model) in evaluate.fit_baselines(training_cells(&screened.model, cx)?.as_ref(), cx)? {
        let shot = Shot {
            screen: screened.screen,
            model: &model,
            cells: &screened.cells,
            measures: &measures,
            host: &cx.services,
        };
        all.push((name, true, shot.impacts(&screened.table.knockouts)?));
        cx.services.progress(all.len() as u64, evaluate.baselines.len() as u64 + 1, "models");
    }
    Ok(all)
}

/// Which row of the truth belongs to which row of the screen.
struct Pairing {
    /// Row of the screen, row of the truth; by cell.
    pairs: Vec<(usize, usize)>,
    /// Where each cell's pairs begin.
    offsets: Vec<usize>,
}

impl Pairing {
    fn new(screened: &Screened<'_>, truth: &Screened<'_>) -> Result<Self> {
        let name = |s: &Screened<'_>, i: usize| {
            let cell = s.cells.obs.names[s.table.knockouts.cell[i] as usize].clone();
            (cell, s.table.knockouts.label(i, &s.cells.var.names))
        };
        let of_truth: HashMap<(String, String), usize> =
            (0..truth.table.len()).map(|i| (name(truth, i), i)).collect();
        let (mut pairs, mut offsets) = (vec![], vec![0]);
        for (_, run) in screened.table.knockouts.by_cell() {
            pairs.extend(run.filter_map(|i| Some((i, *of_truth.get(&name(screened, i))?))));
            offsets.push(pairs.len());
        }
        ensure!(
            2 * pairs.len() >= screened.table.len() && !pairs.is_empty(),
            "{} of the screen's {} knockouts are in the truth's screen: give both the same cells and `knockouts`, \
             and the same `seed` if these are sampled",
            pairs.len(),
            screened.table.len()
        );
        Ok(Self { pairs, offsets })
    }

    fn filtered(&self, keep: impl Fn(&(usize, usize)) -> bool) -> Self {
        let mut out = Self { pairs: vec![], offsets: vec![0] };
        for cell in self.offsets.windows(2) {
            out.pairs.extend(self.pairs[cell[0]..cell[1]].iter().copied().filter(&keep));
            out.offsets.push(out.pairs.len());
        }
        out
    }

    fn blocks(&self, predicted: &[f32], truth: &[f32]) -> Blocks {
        Blocks {
            offsets: self.offsets.clone(),
            truth: self.pairs.iter().map(|&(_, t)| truth[t]).collect(),
            predicted: self.pairs.iter().map(|&(p, _)| predicted[p]).collect(),
        }
    }
}

fn of_all_strata(
    data: &str,
    judge: &Judge,
    contenders: &[Contender],
    pairing: &Pairing,
    strata: &[String],
    screened: &Screened<'_>,
    cx: &StepCx<'_>,
) -> Result<Vec<ScoreRow>> {
    let host = &cx.services;
    let models = cx.chosen("screens").len();
    let mut rows = score((data, "all", Over::All), judge, (contenders, models), host)?;
    let mut rankings = of_means((data, "knockout-means"), judge, contenders, (pairing, screened), host)?;
    for stratum in strata {
        let member = marked_genes(&screened.cells, stratum)?;
        let knockouts = &screened.table.knockouts;
        let is_member = |row: usize| knockouts.genes(row).iter().all(|&g| member[g as usize]);
        let filtered = each(contenders, |blocks| blocks.filtered(|at| is_member(pairing.pairs[at].0)));
        ensure!(!filtered[0].blocks.truth.is_empty(), "no knockout has only genes marked `{stratum}`");
        rows.extend(score((data, stratum, Over::All), judge, (&filtered, models), host)?);
        let (name, within) =
            (format!("knockout-means of {stratum}"), pairing.filtered(|(row, _)| is_member(*row)));
        rankings.extend(of_means((data, &name), judge, &filtered, (&within, screened), host)?);
    }
    let doubles = Doubles::among(pairing, &screened.table.knockouts);
    if !doubles.is_empty() {
        let of_doubles = each(contenders, |blocks| doubles.impacts(blocks));
        rows.extend(score((data, "doubles", Over::All), judge, (&of_doubles, models), host)?);
        // Interactions are below 0 as often as not.
        if judge.info.signed {
            let interactions = each(contenders, |blocks| doubles.interactions(blocks));
            rows.extend(score((data, "interaction", Over::All), judge, (&interactions, models), host)?);
        }
    }
    rows.extend(score((data, "cells", Over::Cells), judge, (contenders, models), host)?);
    rows.extend(rankings);
    Ok(rows)
}

/// The scores of the mean impacts over the cells.
fn of_means(
    named: (&str, &str),
    judge: &Judge,
    contenders: &[Contender],
    (pairing, screened): (&Pairing, &Screened<'_>),
    host: &Services,
) -> Result<Vec<ScoreRow>> {
    let one = |c: &Contender| {
        let (truth, predicted) = knockout_means(&c.blocks, pairing, screened);
        let value = score_pair(judge, host, &truth, &predicted)?;
        Ok(plain_row(named, judge, (&c.name, c.baseline), value))
    };
    contenders.iter().map(one).collect()
}

/// The contenders with other values.
fn each(contenders: &[Contender], values: impl Fn(&Blocks) -> Blocks) -> Vec<Contender> {
    let one =
        |c: &Contender| Contender { name: c.name.clone(), baseline: c.baseline, blocks: values(&c.blocks) };
    contenders.iter().map(one).collect()
}

/// The genes that a boolean annotation marks.
fn marked_genes(cells: &Cells, name: &str) -> Result<Vec<bool>> {
    let column = cells.var.column(name).with_context(|| {
        let known: Vec<&str> = cells.var.columns.iter().map(|c| c.name.as_str()).collect();
        format!("`strata`: the genes have no annotation `{name}`; there are: {}", known.join(", "))
    })?;
    let marks =
        column.values.as_boolean_opt().with_context(|| format!("`strata`: `{name}` is not true or false"))?;
    Ok(marks.iter().map(|m| m == Some(true)).collect())
}

/// The mean impact of each knockout over the cells, true and predicted: the ranking of keystone genes.
fn knockout_means(blocks: &Blocks, pairing: &Pairing, screened: &Screened<'_>) -> (Vec<f32>, Vec<f32>) {
    let mut sums: HashMap<&[u32], (f64, f64, f64)> = HashMap::new();
    let mut order: Vec<&[u32]> = vec![];
    for (at, &(row, _)) in pairing.pairs.iter().enumerate() {
        let (truth, predicted) = (blocks.truth[at], blocks.predicted[at]);
        let genes = screened.table.knockouts.genes(row);
        let sum = sums.entry(genes).or_insert_with(|| {
            order.push(genes);
            (0.0, 0.0, 0.0)
        });
        *sum = (sum.0 + f64::from(truth), sum.1 + f64::from(predicted), sum.2 + 1.0);
    }
    let mean =
        |f: fn(&(f64, f64, f64)) -> f64| order.iter().map(|g| (f(&sums[g]) / sums[g].2) as f32).collect();
    (mean(|s| s.0), mean(|s| s.1))
}

/// A sample of predicted and true impacts, for the report.
fn drawn(blocks: &Blocks, seed: u64) -> Json {
    let n = blocks.truth.len();
    let mut chosen = sample(&mut seeded_stream(seed, u64::MAX), n, POINTS.min(n)).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|i| json!([blocks.truth[i], blocks.predicted[i]])).collect()
}
