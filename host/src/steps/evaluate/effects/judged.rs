//! Scores of predicted effects with what tells how sure they are: measured cells drawn again, halves of them as the
//! ceiling, random targets as the floor.

use super::super::Judge;
use super::super::scores::{FEWEST, Margin, ScoreRow, finite, mean, standard_deviation, student};
use super::arms::Arms;
use super::informative::{Measured, spearman};
use super::panel::{Evidence, Panel};
use super::random_targets::RandomTargets;
use super::{Contender, Settings};
use crate::data::Cells;
use crate::plugin::{self, Services, Shape};
use crate::run::Cancelled;
use crate::statistics::{Level, PLAIN};
use crate::steps::screen::quantile;
use anyhow::Result;
use lacuna_abi::MatRef;
use rayon::prelude::*;

/// Draws that are measured together, which saves logarithms, and how many such blocks are held at once.
const DRAWS_AT_ONCE: usize = 8;
const BLOCKS_AT_ONCE: usize = 4;
/// The name of the ceiling in the scores.
const CEILING: &str = "split-half";

/// All that is judged, and by whom.
pub struct Court<'a> {
    /// The perturbations.
    pub panel: &'a Panel,
    /// The measured cells.
    pub cells: &'a Cells,
    /// The metrics.
    pub judges: &'a [Judge],
    /// Models and baselines.
    pub contenders: &'a [Contender],
    /// The stand-ins of the targets.
    pub random: &'a RandomTargets,
    /// Logging and cancellation.
    pub host: &'a Services,
}

/// A score of each perturbation; NaN where there is none.
type Units = Vec<f64>;

/// The scores of one contender by one metric.
#[derive(Default)]
struct Verdict {
    whole: Units,
    /// Of the cells drawn again.
    drawn: Vec<Units>,
    /// Of each draw of random targets.
    random: Vec<Units>,
}

/// All scores: metrics × contenders, and the ceiling by each metric.
pub struct Drawn {
    verdicts: Vec<Vec<Verdict>>,
    ceiling: Vec<Units>,
    /// What is known of the perturbations.
    pub measured: Measured,
}

impl Drawn {
    /// Scores all contenders.
    pub fn of(court: &Court<'_>, arms: &Arms, settings: &Settings) -> Result<Self> {
        let whole = court.evidence(&[vec![1; court.cells.len()]], true)?;
        let mut verdicts = court.each(|judge, contender| {
            let random = (0..court.random.len()).filter(|_| !contender.random.is_empty());
            let random = random.map(|draw| {
                let effects = court.random.in_place(court.panel, &contender.random, draw);
                court.units(judge, &whole[0], &effects)
            });
            Ok(Verdict {
                whole: court.units(judge, &whole[0], &contender.effects)?,
                drawn: vec![],
                random: random.collect::<Result<_>>()?,
            })
        })?;
        let seed = court.host.seed();
        let blocks: Vec<usize> = (0..settings.draws).step_by(DRAWS_AT_ONCE).collect();
        for blocks in blocks.chunks(BLOCKS_AT_ONCE) {
            let of_block = |&start: &usize| {
                let draws = start..(start + DRAWS_AT_ONCE).min(settings.draws);
                let weights: Vec<Vec<u32>> = draws.map(|n| arms.draw(seed, n)).collect();
                court.scores_of(&weights)
            };
            let found: Vec<Vec<Vec<Vec<Units>>>> = blocks.par_iter().map(of_block).collect::<Result<_>>()?;
            for (judge, contenders) in
                found.into_iter().flatten().flat_map(|draw| draw.into_iter().enumerate())
            {
                for (contender, units) in contenders.into_iter().enumerate() {
                    verdicts[judge][contender].drawn.push(units);
                }
            }
        }
        let splits: Vec<(Vec<Units>, Units)> = (0..settings.splits)
            .into_par_iter()
            .map(|n| court.agreement(&arms.halves(seed, n)))
            .collect::<Result<_>>()?;
        let over_splits = |judge: usize| -> Units {
            let of = |i: usize| mean(splits.iter().map(|(split, _)| split[judge][i]));
            (0..court.panel.labels.len()).map(of).collect()
        };
        let agreement: Units =
            (0..court.panel.labels.len()).map(|i| mean(splits.iter().map(|(_, rho)| rho[i]))).collect();
        let measured = Measured::of(&settings.informative, court.panel, &whole[0], agreement);
        let ceiling =
            if splits.is_empty() { vec![] } else { (0..court.judges.len()).map(over_splits).collect() };
        Ok(Self { verdicts, ceiling, measured })
    }
}

impl Court<'_> {
    fn evidence(&self, weights: &[Vec<u32>], tested: bool) -> Result<Vec<Evidence>> {
        self.panel.evidence(self.cells, (weights, tested), self.host)
    }

    /// Whether some metric looks at tests.
    fn tests(&self) -> bool {
        self.judges.iter().any(|judge| judge.info.wants("observed"))
    }

    /// Something for each metric and contender.
    fn each<T: Send>(&self, one: impl Fn(&Judge, &Contender) -> Result<T> + Sync) -> Result<Vec<Vec<T>>> {
        let of_judge = |judge: &Judge| self.contenders.par_iter().map(|c| one(judge, c)).collect();
        self.judges.iter().map(of_judge).collect()
    }

    /// The scores of some draws: draws × metrics × contenders.
    fn scores_of(&self, weights: &[Vec<u32>]) -> Result<Vec<Vec<Vec<Units>>>> {
        let evidence = self.evidence(weights, self.tests())?;
        evidence.par_iter().map(|e| self.each(|judge, c| self.units(judge, e, &c.effects))).collect()
    }

    /// How well the one half of the cells predicts the other, by each metric and by the correlation of ranks.
    fn agreement(&self, halves: &[Vec<u32>; 2]) -> Result<(Vec<Units>, Units)> {
        let evidence = self.evidence(halves, self.tests())?;
        let by = |judge| self.units(judge, &evidence[1], &evidence[0].effects);
        let of = |half: usize, i: usize| self.panel.others(&evidence[half].effects, i);
        let rho = (0..self.panel.labels.len()).map(|i| spearman(&of(0, i), &of(1, i))).collect();
        Ok((self.judges.iter().map(by).collect::<Result<_>>()?, rho))
    }

    /// The score of each perturbation.
    fn units(&self, judge: &Judge, evidence: &Evidence, predicted: &[f32]) -> Result<Units> {
        if self.host.cancelled() {
            return Err(Cancelled.into());
        }
        let panel = self.panel;
        let n = panel.labels.len();
        let matrix = |values| MatRef::from_rows(values, n, panel.genes);
        if judge.info.shape == Shape::Panel {
            let given = plugin::Panel {
                measured: matrix(&evidence.effects),
                predicted: matrix(predicted),
                targets: &panel.targets,
                z: matrix(&evidence.z),
                controls: MatRef::from_rows(&evidence.controls, 1, panel.genes),
            };
            return judge.metric.score_panel(self.host, given);
        }
        let one = |i| {
            let (truth, predicted) = (panel.others(&evidence.effects, i), panel.others(predicted, i));
            super::super::scores::score_pair(judge, self.host, &truth, &predicted)
        };
        (0..n).map(one).collect()
    }

    /// All rows: by each metric the contenders over all perturbations, and for each of them.
    pub fn rows(
        &self,
        data: &str,
        arms: &Arms,
        drawn: &Drawn,
        (settings, models): (&Settings, usize),
    ) -> Vec<ScoreRow> {
        let told = &drawn.measured.informative;
        let informative: Vec<usize> = (0..told.len()).filter(|&i| told[i]).collect();
        let mut rows = vec![];
        for (at, judge) in self.judges.iter().enumerate() {
            let fits = |c: &Contender| judge.info.scale_free || !c.scores;
            let own: Vec<usize> = (0..self.contenders.len()).filter(|&c| fits(&self.contenders[c])).collect();
            let trial = Trial {
                court: self,
                data,
                judge,
                own: &own,
                verdicts: &drawn.verdicts[at],
                ceiling: drawn.ceiling.get(at),
                informative: &informative,
                level: Level::of_models(models),
                sign: match judge.info.direction.as_str() {
                    "higher" => Some(1.0),
                    "lower" => Some(-1.0),
                    _ => None,
                },
                arms,
            };
            rows.extend(trial.rows(settings));
        }
        rows
    }
}

/// The contenders that one metric can score.
struct Trial<'a> {
    court: &'a Court<'a>,
    data: &'a str,
    judge: &'a Judge,
    own: &'a [usize],
    verdicts: &'a [Verdict],
    ceiling: Option<&'a Units>,
    informative: &'a [usize],
    level: Level,
    /// 1 where higher is better, −1 where lower is.
    sign: Option<f64>,
    arms: &'a Arms,
}

/// Over which perturbations a row is.
#[derive(Clone, Copy, PartialEq)]
enum Stratum {
    All,
    Informative,
    Only(usize),
}

impl Stratum {
    /// Whether it is a mean over perturbations.
    fn is_pooled(self) -> bool {
        !matches!(self, Self::Only(_))
    }
}

impl Trial<'_> {
    /// The perturbations of a stratum.
    fn members(&self, stratum: Stratum) -> Vec<usize> {
        match stratum {
            Stratum::All => (0..self.court.panel.labels.len()).collect(),
            Stratum::Informative => self.informative.to_vec(),
            Stratum::Only(i) => vec![i],
        }
    }

    fn rows(&self, settings: &Settings) -> Vec<ScoreRow> {
        let n = self.court.panel.labels.len();
        let base = self.base_of_skill(settings);
        let mut rows = vec![];
        let pooled = [Stratum::All, Stratum::Informative];
        let pooled = &pooled[..if self.informative.is_empty() { 1 } else { 2 }];
        for stratum in pooled.iter().copied().chain((0..n).map(Stratum::Only)) {
            // The ceiling of those perturbations that somebody has a score for.
            let members: Vec<usize> = self
                .members(stratum)
                .into_iter()
                .filter(|&i| self.own.iter().any(|&c| self.verdicts[c].whole[i].is_finite()))
                .collect();
            let ceiling = self.ceiling.map(|units| over(units, &members));
            let mut of_stratum: Vec<ScoreRow> = self
                .own
                .iter()
                .flat_map(|&c| [Some(self.row(c, stratum)), self.random_row(c, stratum)])
                .flatten()
                .collect();
            if let (Some(value), Some(units)) = (ceiling, self.ceiling) {
                let scored = members.iter().filter(|&&i| units[i].is_finite()).count();
                let mut row = self.empty(CEILING, false, stratum, value);
                row.scored = stratum.is_pooled().then_some(scored);
                of_stratum.push(row);
            }
            if let (Some(base), Some(ceiling), Some(sign)) = (base, ceiling, self.sign) {
                let low = over(&self.verdicts[base].whole, &members);
                let room = sign * (ceiling - low);
                for row in of_stratum.iter_mut().filter(|_| room > 0.0) {
                    row.skill = row.value.and_then(|value| finite(sign * (value - low) / room));
                }
            }
            rows.extend(of_stratum);
        }
        rows
    }

    /// The baseline that skills are counted from: the one that is asked for, or the best over all perturbations.
    fn base_of_skill(&self, settings: &Settings) -> Option<usize> {
        let sign = self.sign?;
        let is_asked = |name: &str| {
            settings
                .skill_against
                .as_ref()
                .is_none_or(|asked| name == asked || name.starts_with(&format!("{asked} of ")))
        };
        let contender = |c: usize| &self.court.contenders[c];
        let able = self
            .own
            .iter()
            .copied()
            .filter(|&c| contender(c).baseline && !contender(c).knows && is_asked(&contender(c).name));
        let value = |c: usize| sign * mean(self.verdicts[c].whole.iter().copied());
        able.filter(|&c| value(c).is_finite()).max_by(|&a, &b| value(a).total_cmp(&value(b)).then(b.cmp(&a)))
    }

    fn empty(&self, name: &str, baseline: bool, stratum: Stratum, value: f64) -> ScoreRow {
        let stratum = match stratum {
            Stratum::All => "perturbations",
            Stratum::Informative => "informative",
            Stratum::Only(i) => &self.court.panel.labels[i],
        };
        super::super::scores::plain_row((self.data, stratum), self.judge, (name, baseline), value)
    }

    fn row(&self, c: usize, stratum: Stratum) -> ScoreRow {
        let (contender, verdict) = (&self.court.contenders[c], &self.verdicts[c]);
        let members = self.scored(&[c], stratum);
        let mut row =
            self.empty(&contender.name, contender.baseline, stratum, over(&verdict.whole, &members));
        let (lower, upper) = self.interval(&verdict.whole, &verdict.drawn, &members, PLAIN);
        // No score is beyond what the metric says of itself, as a normal interval may be.
        row.lower = lower.map(|x| x.max(self.judge.info.low.unwrap_or(f64::NEG_INFINITY)));
        row.upper = upper.map(|x| x.min(self.judge.info.high.unwrap_or(f64::INFINITY)));
        row.covers = row.lower.map(|_| self.covers(&members, stratum));
        if stratum.is_pooled() {
            row.scored = Some(members.len());
            row.of = self.members(stratum).len();
        }
        if contender.knows || self.sign.is_none() {
            return row;
        }
        let rivals = self.own.iter().copied().filter(|&b| {
            let rival = &self.court.contenders[b];
            b != c && rival.baseline && !rival.knows
        });
        let margins: Vec<Margin> = rivals.map(|b| self.margin(c, b, stratum)).collect();
        row.beats =
            margins.iter().filter(|m| m.lower.is_some_and(|x| x > 0.0)).map(|m| m.rival.clone()).collect();
        if stratum.is_pooled() {
            row.rivals = margins.iter().map(|m| m.rival.clone()).collect();
            row.random = self.above_random(c, stratum);
        }
        // The rival that leaves least to gain.
        let known = margins.into_iter().filter(|m| m.gain.is_finite());
        row.margin = known.min_by(|a, b| a.gain.total_cmp(&b.gain));
        row.level = Some(self.level);
        row
    }

    /// The row of what a model scores with random targets; its interval holds 95 % of the draws.
    fn random_row(&self, c: usize, stratum: Stratum) -> Option<ScoreRow> {
        let (contender, draws) = (&self.court.contenders[c], &self.verdicts[c].random);
        if draws.is_empty() {
            return None;
        }
        let members = self.scored(&[c], stratum);
        let mut values: Vec<f64> =
            draws.iter().map(|units| over(units, &members)).filter(|x| x.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let name = format!("{} (random targets)", contender.name);
        let mut row = self.empty(&name, false, stratum, mean(values.iter().copied()));
        if values.len() >= FEWEST {
            row.lower = finite(quantile(&values, PLAIN.tail()));
            row.upper = finite(quantile(&values, 1.0 - PLAIN.tail()));
            row.covers = Some("targets");
        }
        Some(row)
    }

    /// In how many draws of random targets the own targets score better, and of how many.
    fn above_random(&self, c: usize, stratum: Stratum) -> Option<(usize, usize)> {
        let (sign, verdict) = (self.sign?, &self.verdicts[c]);
        let members = self.scored(&[c], stratum);
        let own = over(&verdict.whole, &members);
        let values: Vec<f64> =
            verdict.random.iter().map(|units| over(units, &members)).filter(|x| x.is_finite()).collect();
        let better = values.iter().filter(|&&x| sign * (own - x) > 0.0).count();
        (own.is_finite() && !values.is_empty()).then_some((better, values.len()))
    }

    /// The perturbations of a stratum in which all of some contenders have a score.
    fn scored(&self, contenders: &[usize], stratum: Stratum) -> Vec<usize> {
        let has = |&i: &usize| contenders.iter().all(|&c| self.verdicts[c].whole[i].is_finite());
        self.members(stratum).into_iter().filter(has).collect()
    }

    /// By how much one contender is better than another, over the perturbations in which both have a score.
    fn margin(&self, one: usize, other: usize, stratum: Stratum) -> Margin {
        let sign = self.sign.unwrap_or(f64::NAN);
        let members = self.scored(&[one, other], stratum);
        let gains =
            |a: &Units, b: &Units| -> Units { a.iter().zip(b).map(|(a, b)| sign * (a - b)).collect() };
        let (a, b) = (&self.verdicts[one], &self.verdicts[other]);
        let whole = gains(&a.whole, &b.whole);
        let drawn: Vec<Units> = a.drawn.iter().zip(&b.drawn).map(|(a, b)| gains(a, b)).collect();
        let (lower, upper) = self.interval(&whole, &drawn, &members, self.level);
        let rival = self.court.contenders[other].name.clone();
        Margin { rival, gain: over(&whole, &members), lower, upper }
    }

    /// The interval of a mean over perturbations: Student's over them, where there are enough; else, and for a single one,
    /// a normal one with the spread of the cells drawn again. (Not the draws' own quantiles: what is drawn again is noisier
    /// than what was measured, so that agreements are lower in every draw.)
    fn interval(
        &self,
        whole: &Units,
        drawn: &[Units],
        members: &[usize],
        level: Level,
    ) -> (Option<f64>, Option<f64>) {
        let value = over(whole, members);
        let (low, high) = if members.len() >= FEWEST {
            student(&members.iter().map(|&i| whole[i]).collect::<Vec<_>>(), level)
        } else {
            let values: Vec<f64> =
                drawn.iter().map(|units| over(units, members)).filter(|x| x.is_finite()).collect();
            if 2 * values.len() < drawn.len() || values.len() < FEWEST {
                return (None, None);
            }
            let half = level.z() * standard_deviation(&values);
            (value - half, value + half)
        };
        (finite(low), finite(high))
    }

    fn covers(&self, members: &[usize], stratum: Stratum) -> &'static str {
        match stratum {
            _ if stratum.is_pooled() && members.len() >= FEWEST => "perturbations",
            _ if members.iter().all(|&i| self.arms.covers(i) == "replicates") => "replicates",
            _ => "cells",
        }
    }
}

/// The mean over some perturbations, of those that have a score.
fn over(units: &[f64], members: &[usize]) -> f64 {
    mean(members.iter().map(|&i| units[i]))
}
