//! Scores of contenders: values, intervals by a bootstrap over cells, and who beats which baseline.

use super::Judge;
use crate::plugin::Services;
use crate::run::{Cancelled, seeded_stream};
use crate::statistics::{Level, PLAIN};
use anyhow::Result;
use lacuna_abi::MatRef;
use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value as Json, json};

/// Resamples of the cells for a mean of per-cell scores.
const RESAMPLES: usize = 1000;
/// Resamples for a score of all values at once, whose spread gives a normal interval.
const RESAMPLES_FLATTENED: usize = 100;
/// Predicted values that a metric is handed at once: of as many contenders as that is, so that it may look at the
/// truth once for all of them.
const VALUES_AT_ONCE: usize = 1 << 23;
/// With fewer resampled means beyond an end of an interval, it is a normal one.
const FEWEST_BEYOND: f64 = 5.0;

/// True and predicted values, cell by cell.
#[derive(Default)]
pub struct Blocks {
    /// Where each cell's values begin; one more than there are cells.
    pub offsets: Vec<usize>,
    /// True values.
    pub truth: Vec<f32>,
    /// Predicted values.
    pub predicted: Vec<f32>,
}

/// A model or a baseline with its predictions.
pub struct Contender {
    /// Its name.
    pub name: String,
    /// Whether it is a baseline.
    pub baseline: bool,
    /// Its predictions; offsets and truth are the same for all contenders.
    pub blocks: Blocks,
}

/// One row of scores.csv.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ScoreRow {
    /// What was predicted.
    pub data: String,
    /// By whom.
    pub model: String,
    /// The metric.
    pub metric: String,
    /// Which values, and how they are taken together.
    pub stratum: String,
    /// The score.
    pub value: Option<f64>,
    /// Lower end of the 95 % interval over cells, or over perturbations.
    pub lower: Option<f64>,
    /// Upper end.
    pub upper: Option<f64>,
    /// Which way is better: `lower`, `higher`, `none`.
    pub direction: String,
    /// The baselines that it beats: the interval of the paired difference excludes 0.
    pub beats: Vec<String>,
    /// Of how many cells, or perturbations, the value is the mean, if it is one: those that have a score.
    pub scored: Option<usize>,
    /// What the interval covers: the spread of `cells`, `replicates`, `perturbations`, or random `targets`.
    pub covers: Option<&'static str>,
    /// (value − baseline) / (ceiling − baseline), where there is a ceiling.
    pub skill: Option<f64>,
    /// By how much it is better than each baseline, where that is known.
    #[serde(skip)]
    pub margins: Vec<Margin>,
    /// The level of its comparisons with baselines.
    #[serde(skip)]
    pub level: Option<Level>,
    /// In how many draws of random targets it scores better with its own, and of how many.
    #[serde(skip)]
    pub random: Option<(usize, usize)>,
    /// Of so many.
    #[serde(skip)]
    pub of: usize,
    /// Whether it is itself a baseline.
    pub baseline: bool,
    /// The baselines that it stands beside.
    #[serde(skip)]
    pub rivals: Vec<String>,
}

/// By how much a model is better than a baseline: above 0 is better, whichever way the metric goes.
#[derive(Debug, Clone)]
pub struct Margin {
    /// The baseline.
    pub rival: String,
    /// The mean difference, over what both have a score for.
    pub gain: f64,
    /// The lower end of its interval.
    pub lower: Option<f64>,
    /// Upper end.
    pub upper: Option<f64>,
}

/// A score, and what tells how sure it is.
#[derive(Clone)]
struct Scored {
    value: f64,
    interval: (f64, f64),
    /// The scores of resampled cells.
    resampled: Vec<f64>,
    /// The score of each cell, or of each perturbation, where the score is their mean; NaN where there is none.
    units: Vec<f64>,
}

/// Of fewer cells, or perturbations, no spread can be told.
pub const FEWEST: usize = 5;

impl Scored {
    /// Without interval and resamples, hence without a verdict, where there are too few cells for one.
    fn if_cells(self, cells: usize) -> Self {
        if cells >= FEWEST {
            return self;
        }
        Self { interval: (f64::NAN, f64::NAN), resampled: vec![], ..self }
    }

    /// How many cells, or perturbations, have a value.
    fn scored(&self) -> usize {
        self.units.iter().filter(|s| !s.is_nan()).count()
    }
}

impl Blocks {
    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn cell(&self, i: usize) -> std::ops::Range<usize> {
        self.offsets[i]..self.offsets[i + 1]
    }

    /// Only the values for which `keep` holds.
    pub fn filtered(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut out = Self { offsets: vec![0], ..Self::default() };
        for i in 0..self.cells() {
            for at in self.cell(i).filter(|&at| keep(at)) {
                out.truth.push(self.truth[at]);
                out.predicted.push(self.predicted[at]);
            }
            out.offsets.push(out.truth.len());
        }
        out
    }
}

/// The score of one pair of rows; NaN where there is no value.
pub fn score_pair(judge: &Judge, host: &Services, truth: &[f32], predicted: &[f32]) -> Result<f64> {
    let row = |values| MatRef::repeated(values, 1);
    Ok(judge.metric.score_rows(host, (row(truth), row(predicted)), None, None)?[0])
}

/// The score of all values at once, of each contender.
fn flattened(judge: &Judge, host: &Services, contenders: &[Contender], seed: u64) -> Result<Vec<Scored>> {
    let values = contenders.first().map_or(0, |c| c.blocks.truth.len());
    let at_once = (VALUES_AT_ONCE / values.max(1)).max(1);
    let scored = contenders.chunks(at_once).map(|some| flattened_together(judge, host, some, seed));
    Ok(scored.collect::<Result<Vec<_>>>()?.concat())
}

/// The same of contenders that are handed to the metric at once. The intervals are normal, with the spread of
/// resampled cells.
fn flattened_together(
    judge: &Judge,
    host: &Services,
    contenders: &[Contender],
    seed: u64,
) -> Result<Vec<Scored>> {
    let cells = contenders[0].blocks.cells();
    let every: Vec<usize> = (0..cells).collect();
    let values = scores_of_cells(judge, host, contenders, &every, &mut Default::default())?;
    // Megabytes, made once for many resamples: else the system clears them for each.
    let draws = (0..RESAMPLES_FLATTENED).into_par_iter().map_init(Default::default, |buffers, n| {
        if host.cancelled() {
            return Err(Cancelled.into());
        }
        scores_of_cells(judge, host, contenders, &resample(cells, seed, n), buffers)
    });
    let draws: Vec<Vec<f64>> = draws.collect::<Result<_>>()?;
    let one = |(i, value): (usize, f64)| {
        let resampled: Vec<f64> = draws.iter().map(|scores| scores[i]).collect();
        let half = PLAIN.z() * standard_deviation(&resampled);
        Scored { value, interval: (value - half, value + half), resampled, units: vec![] }.if_cells(cells)
    };
    Ok(values.into_iter().enumerate().map(one).collect())
}

/// Each contender's score of all values of these cells: a row for each, beside the truth, which is the same for all.
fn scores_of_cells(
    judge: &Judge,
    host: &Services,
    contenders: &[Contender],
    cells: &[usize],
    (truth, predicted): &mut (Vec<f32>, Vec<f32>),
) -> Result<Vec<f64>> {
    let blocks = &contenders[0].blocks;
    truth.clear();
    predicted.clear();
    cells.iter().for_each(|&cell| truth.extend_from_slice(&blocks.truth[blocks.cell(cell)]));
    for contender in contenders {
        let values = &contender.blocks.predicted;
        cells.iter().for_each(|&cell| predicted.extend_from_slice(&values[blocks.cell(cell)]));
    }
    let rows = contenders.len();
    let pair = (MatRef::repeated(truth, rows), MatRef::from_rows(predicted, rows, truth.len()));
    judge.metric.score_rows(host, pair, None, None)
}

/// The score of each cell; NaN where there is no value.
pub fn of_cells(judge: &Judge, host: &Services, blocks: &Blocks) -> Result<Vec<f64>> {
    let one = |i: usize| {
        let cell = blocks.cell(i);
        score_pair(judge, host, &blocks.truth[cell.clone()], &blocks.predicted[cell])
    };
    (0..blocks.cells()).into_par_iter().map(one).collect()
}

/// The mean over cells of each cell's own score.
fn per_cell(judge: &Judge, host: &Services, blocks: &Blocks, seed: u64) -> Result<Scored> {
    Ok(mean_of_cells(of_cells(judge, host, blocks)?, seed))
}

/// The mean of the scores that there are; NaN without any.
pub fn mean(scores: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = scores.filter(|s| !s.is_nan()).fold((0.0, 0.0), |(sum, n), s| (sum + s, n + 1.0));
    sum / n
}

/// The mean of the scores of cells. The interval holds 95 % of the resampled means.
fn mean_of_cells(units: Vec<f64>, seed: u64) -> Scored {
    let resampled = resampled_means(&units, seed);
    let mut sorted: Vec<f64> = resampled.iter().copied().filter(|s| !s.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let interval = (quantile(&sorted, 0.025), quantile(&sorted, 0.975));
    let scored = Scored { value: mean(units.iter().copied()), interval, resampled, units };
    let cells = scored.scored();
    scored.if_cells(cells)
}

fn resampled_means(units: &[f64], seed: u64) -> Vec<f64> {
    (0..RESAMPLES).map(|n| mean(resample(units.len(), seed, n).into_iter().map(|i| units[i]))).collect()
}

/// Student's interval of the mean of the scores that there are; NaN for fewer than two.
pub fn student(units: &[f64], level: Level) -> (f64, f64) {
    let finite: Vec<f64> = units.iter().copied().filter(|s| s.is_finite()).collect();
    let half =
        level.t(finite.len().saturating_sub(1)) * standard_deviation(&finite) / (finite.len() as f64).sqrt();
    let mean = mean(finite.into_iter());
    (mean - half, mean + half)
}

/// Cells drawn with replacement. The same number gives the same cells for every contender, so differences pair.
fn resample(cells: usize, seed: u64, number: usize) -> Vec<usize> {
    let mut stream = seeded_stream(seed, number as u64);
    (0..cells).map(|_| stream.random_range(0..cells)).collect()
}

use crate::steps::screen::quantile;

/// Of the values that there are.
pub fn standard_deviation(values: &[f64]) -> f64 {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let n = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / n;
    (finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

/// How the values of a stratum are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// All at once.
    All,
    /// Cell by cell, then the mean.
    Cells,
}

/// Scores all contenders on one stratum by one metric, and compares them with the baselines among them, at the level of
/// `models` that are compared in all.
pub fn score(
    (data, stratum, over): (&str, &str, Over),
    judge: &Judge,
    (contenders, models): (&[Contender], usize),
    host: &Services,
) -> Result<Vec<ScoreRow>> {
    let scored: Vec<Scored> = match over {
        Over::All => flattened(judge, host, contenders, host.seed())?,
        _ => {
            let each = contenders.iter().map(|c| per_cell(judge, host, &c.blocks, host.seed()));
            each.collect::<Result<_>>()?
        }
    };
    let who: Vec<(&str, bool)> = contenders.iter().map(|c| (c.name.as_str(), c.baseline)).collect();
    let level = Level::of_models(models);
    Ok(compared((data, stratum, over), judge, &who, &scored, (host.seed(), level)))
}

/// A model or a baseline with its score in each of several cells.
pub struct Units {
    /// Its name.
    pub name: String,
    /// Whether it is a baseline.
    pub baseline: bool,
    /// Its scores; NaN where there is no value.
    pub scores: Vec<f64>,
}

/// The mean scores of all contenders over the same cells, compared with the baselines among them.
pub fn score_cells(
    (data, stratum): (&str, &str),
    judge: &Judge,
    units: &[Units],
    seed: u64,
) -> Vec<ScoreRow> {
    let scored: Vec<Scored> = units.iter().map(|u| mean_of_cells(u.scores.clone(), seed)).collect();
    let who: Vec<(&str, bool)> = units.iter().map(|u| (u.name.as_str(), u.baseline)).collect();
    compared((data, stratum, Over::Cells), judge, &who, &scored, (seed, PLAIN))
}

/// One row for each contender: its name, and whether it is a baseline.
fn compared(
    (data, stratum, over): (&str, &str, Over),
    judge: &Judge,
    who: &[(&str, bool)],
    scored: &[Scored],
    (seed, level): (u64, Level),
) -> Vec<ScoreRow> {
    let better =
        |i: usize, b: usize| is_better((&scored[i], &scored[b]), &judge.info.direction, over, (seed, level));
    let beats = |i: usize| {
        let baselines = (0..who.len()).filter(|&b| who[b].1 && b != i);
        let beaten = baselines.filter(|&b| better(i, b));
        beaten.map(|b| who[b].0.into()).collect()
    };
    let row = |(i, &(name, baseline)): (usize, &(&str, bool))| ScoreRow {
        data: data.into(),
        model: name.into(),
        metric: judge.name.clone(),
        stratum: stratum.into(),
        value: finite(scored[i].value),
        lower: finite(scored[i].interval.0),
        upper: finite(scored[i].interval.1),
        direction: judge.info.direction.clone(),
        beats: beats(i),
        scored: (over != Over::All).then(|| scored[i].scored()),
        covers: finite(scored[i].interval.0).map(|_| "cells"),
        skill: None,
        margins: vec![],
        level: Some(level),
        random: None,
        of: scored[i].units.len(),
        baseline,
        rivals: who.iter().filter(|(_, baseline)| *baseline).map(|(name, _)| (*name).into()).collect(),
    };
    who.iter().enumerate().map(row).collect()
}

/// A row without interval and comparison.
pub fn plain_row(
    (data, stratum): (&str, &str),
    judge: &Judge,
    contender: (&str, bool),
    value: f64,
) -> ScoreRow {
    ScoreRow {
        data: data.into(),
        model: contender.0.into(),
        metric: judge.name.clone(),
        stratum: stratum.into(),
        value: finite(value),
        direction: judge.info.direction.clone(),
        baseline: contender.1,
        ..ScoreRow::default()
    }
}

/// A number, if it is one.
pub fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// Whether the interval of the paired difference lies wholly on the better side of 0. Means are compared over the cells
/// in which both have a score.
fn is_better(
    (one, other): (&Scored, &Scored),
    direction: &str,
    over: Over,
    (seed, level): (u64, Level),
) -> bool {
    let sign = match direction {
        "higher" => 1.0,
        "lower" => -1.0,
        _ => return false,
    };
    let gains = |a: &[f64], b: &[f64]| -> Vec<f64> {
        a.iter().zip(b).map(|(a, b)| sign * (a - b)).filter(|gain| gain.is_finite()).collect()
    };
    if over == Over::All {
        let gain = gains(&one.resampled, &other.resampled);
        return !gain.is_empty()
            && sign * (one.value - other.value) - level.z() * standard_deviation(&gain) > 0.0;
    }
    let common = gains(&one.units, &other.units);
    if common.len() < FEWEST {
        return false;
    }
    // The same cells were drawn for both, unless some of them have a score in one only.
    let mut gain = match common.len() == one.units.len() {
        true => gains(&one.resampled, &other.resampled),
        false => resampled_means(&common, seed),
    };
    if level.tail() * (gain.len() as f64) < FEWEST_BEYOND {
        return mean(common.into_iter()) - level.z() * standard_deviation(&gain) > 0.0;
    }
    gain.sort_by(f64::total_cmp);
    quantile(&gain, level.tail()) > 0.0
}

/// The rows as CSV; what is not known is empty, beaten baselines are separated by `;`.
pub fn write_csv(rows: &[ScoreRow]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    writer.write_record([
        "data",
        "model",
        "metric",
        "stratum",
        "value",
        "lower",
        "upper",
        "direction",
        "beats",
        "scored",
        "interval",
        "skill",
    ])?;
    let text = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
    for row in rows {
        writer.write_record([
            row.data.clone(),
            row.model.clone(),
            row.metric.clone(),
            row.stratum.clone(),
            text(row.value),
            text(row.lower),
            text(row.upper),
            row.direction.clone(),
            row.beats.join(";"),
            row.scored.map(|n| n.to_string()).unwrap_or_default(),
            row.covers.unwrap_or_default().into(),
            text(row.skill),
        ])?;
    }
    Ok(writer.into_inner()?)
}

/// By how much each model, and baseline, is better than each baseline, with the interval of the paired difference.
pub fn write_gains(rows: &[ScoreRow]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    let columns = ["data", "model", "baseline", "metric", "stratum", "gain", "lower", "upper", "level"];
    writer.write_record(columns)?;
    let text = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
    for (row, margin) in rows.iter().flat_map(|row| row.margins.iter().map(move |margin| (row, margin))) {
        writer.write_record([
            row.data.clone(),
            row.model.clone(),
            margin.rival.clone(),
            row.metric.clone(),
            row.stratum.clone(),
            margin.gain.to_string(),
            text(margin.lower),
            text(margin.upper),
            text(row.level.map(|level| 1.0 - 2.0 * level.tail())),
        ])?;
    }
    Ok(writer.into_inner()?)
}

/// Each model's first score by each metric, for the console.
pub fn headline(rows: &[ScoreRow]) -> String {
    let mut first: Vec<&ScoreRow> = vec![];
    for row in rows.iter().filter(|r| !r.baseline) {
        if !first.iter().any(|r| (&r.model, &r.metric) == (&row.model, &row.metric)) {
            first.push(row);
        }
    }
    let value = |r: &ScoreRow| r.value.map_or("no value".into(), |v| format!("{v:.4}"));
    let one = |r: &&ScoreRow| format!("{} {} {}", r.model, r.metric, value(r));
    first.iter().take(4).map(one).collect::<Vec<_>>().join(", ")
}

/// Sentences that say which baselines each model beats, and which it does not; one for all metrics and strata
/// of the same outcome.
pub fn verdicts(rows: &[ScoreRow]) -> Vec<Json> {
    struct Verdict<'a> {
        model: &'a str,
        data: &'a str,
        beaten: Vec<&'a str>,
        unbeaten: Vec<&'a str>,
        silent: Vec<&'a str>,
        by: Vec<(&'a str, Vec<&'a str>)>,
        partly: Vec<String>,
    }
    let mut verdicts: Vec<Verdict<'_>> = vec![];
    for row in rows.iter().filter(|r| !r.baseline && r.lower.is_some() && r.direction != "none") {
        let same = |r: &&ScoreRow| {
            row.rivals.contains(&r.model)
                && (&r.data, &r.metric, &r.stratum) == (&row.data, &row.metric, &row.stratum)
        };
        let (mut beaten, mut unbeaten, mut silent) = (vec![], vec![], vec![]);
        for baseline in rows.iter().filter(same) {
            let list = match baseline.value {
                None => &mut silent,
                Some(_) if row.beats.contains(&baseline.model) => &mut beaten,
                Some(_) => &mut unbeaten,
            };
            list.push(baseline.model.as_str());
        }
        if beaten.is_empty() && unbeaten.is_empty() {
            continue;
        }
        let partly = row
            .scored
            .filter(|n| *n < row.of)
            .map(|n| format!("{n} of {} {} by {}", row.of, row.stratum, row.metric));
        let fits = |v: &&mut Verdict<'_>| {
            v.model == row.model && v.data == row.data && (&v.unbeaten, &v.silent) == (&unbeaten, &silent)
        };
        if let Some(verdict) = verdicts.iter_mut().find(fits) {
            verdict.partly.extend(partly);
            match verdict.by.iter_mut().find(|(metric, _)| *metric == row.metric) {
                Some((_, strata)) => strata.push(&row.stratum),
                None => verdict.by.push((&row.metric, vec![&row.stratum])),
            }
        } else {
            let by = vec![(row.metric.as_str(), vec![row.stratum.as_str()])];
            let partly = partly.into_iter().collect();
            verdicts.push(Verdict {
                model: &row.model,
                data: &row.data,
                beaten,
                unbeaten,
                silent,
                by,
                partly,
            });
        }
    }
    let sentence = |v: &Verdict<'_>| {
        let all = v.unbeaten.is_empty();
        let what = if all {
            format!("beats every baseline ({})", v.beaten.join(", "))
        } else {
            format!("does not beat {}", v.unbeaten.join(", "))
        };
        let by: Vec<String> =
            v.by.iter().map(|(metric, strata)| format!("{metric} ({})", strata.join(", "))).collect();
        let silent = match v.silent.as_slice() {
            [] => String::new(),
            names => format!(" No value, since they predict no differences: {}.", names.join(", ")),
        };
        let partly = match v.partly.as_slice() {
            [] => String::new(),
            some => format!(" It has a value in {} only.", some.join(", ")),
        };
        let text = format!("`{}` {what} on `{}`, by {}.{partly}{silent}", v.model, v.data, by.join(", "));
        json!({ "text": text, "beats_all": all, "model": v.model, "data": v.data })
    };
    verdicts.iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(value: f64, resampled: Vec<f64>) -> Scored {
        let units = resampled.clone();
        Scored { value, interval: (0.0, 0.0), resampled, units }
    }

    #[test]
    fn means_are_compared_where_both_have_a_score() {
        // It abstains from all but one of six, where the other is nearly as good.
        let rare = mean_of_cells(vec![0.9875, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN], 1);
        let all = mean_of_cells(vec![0.9872, -0.8, -0.9, -0.7, -0.85, -0.9], 1);
        assert!(rare.interval.0.is_nan() && rare.scored() == 1);
        let better = mean_of_cells(vec![f64::NAN, -0.7, -0.79, -0.61, -0.74, -0.8], 1);
        assert!(is_better((&better, &all), "higher", Over::Cells, (1, PLAIN)));
        assert!(!is_better((&rare, &all), "higher", Over::Cells, (1, PLAIN)));
    }

    #[test]
    fn students_interval_is_that_of_the_tables() {
        let (low, high) = student(&[1.0, 2.0, 3.0, 4.0, 5.0, f64::NAN], PLAIN);
        assert!((low - (3.0 - 2.776 * 2.5f64.sqrt() / 5f64.sqrt())).abs() < 1e-3);
        assert!((high + low - 6.0).abs() < 1e-9);
        assert!(student(&[1.0], PLAIN).0.is_nan());
    }

    #[test]
    fn a_model_beats_a_baseline_only_when_the_paired_difference_excludes_zero() {
        let base: Vec<f64> = (0..100).map(|i| 0.5 + f64::from(i % 10) / 100.0).collect();
        let better: Vec<f64> = base.iter().map(|b| b + 0.01).collect();
        let noisy: Vec<f64> =
            base.iter().enumerate().map(|(i, b)| b + if i % 2 == 0 { 0.05 } else { -0.04 }).collect();
        let one = scored(0.56, better);
        let other = scored(0.55, base);
        for over in [Over::All, Over::Cells] {
            let better = |a, b, direction| is_better((a, b), direction, over, (1, PLAIN));
            assert!(better(&one, &other, "higher") && !better(&one, &other, "lower"));
            assert!(better(&other, &one, "lower") && !better(&one, &one, "higher"));
            assert!(!better(&scored(0.56, noisy.clone()), &other, "higher"));
        }
    }

    #[test]
    fn the_more_models_are_compared_the_clearer_the_difference_has_to_be() {
        // Two standard deviations from 0.
        let base: Vec<f64> = (0..100).map(|i| 0.5 + f64::from(i % 2)).collect();
        let ahead: Vec<f64> =
            base.iter().zip(0..).map(|(b, i)| b + 0.2 + if i / 2 % 2 == 0 { 0.1 } else { -0.1 }).collect();
        let (one, other) = (scored(1.2, ahead), scored(1.0, base));
        let better = |over, models| is_better((&one, &other), "higher", over, (1, Level::of_models(models)));
        assert!(better(Over::All, 1) && !better(Over::All, 10));
        // A quantile of the draws as long as enough of them lie beyond it, then a normal one.
        assert!(better(Over::Cells, 1) && !better(Over::Cells, 100));
    }

    #[test]
    fn filtered_blocks_keep_their_cells() {
        let blocks = Blocks { offsets: vec![0, 2, 3], truth: vec![1., 2., 3.], predicted: vec![4., 5., 6.] };
        let kept = blocks.filtered(|at| at != 1);
        assert_eq!((kept.offsets, kept.truth, kept.predicted), (vec![0, 1, 2], vec![1., 3.], vec![4., 6.]));
    }
}
