//! Scores of predicted effects with what tells how sure they are: measured cells drawn again, halves of them as the
//! ceiling, random targets as the floor.

use super::super::Judge;
use super::super::differential::Changed;
use super::super::scores::{FEWEST, Margin, ScoreRow, finite, mean, standard_deviation, student};
use super::arms::Arms;
use super::doubles::{FromMeasured, interaction};
use super::informative::{Measured, spearman};
use super::panel::{Evidence, Panel, Sides};
use super::populations;
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
/// The names of the ceilings in the scores.
const HALVES: &str = "split-half";
const CORRECTED: &str = "split-half (Spearman-Brown)";
/// The formulas of correlations between noisy measurements, of which it is known what twice the cells would make them.
const CORRELATIONS: [&str; 2] = ["spearman", "pearson"];

/// All that is judged, and by whom.
pub struct Court<'a> {
    /// The perturbations.
    pub panel: &'a Panel,
    /// The measured cells.
    pub cells: &'a Cells,
    /// What is asked.
    pub questions: &'a [Question<'a>],
    /// Models and baselines.
    pub contenders: &'a [Contender],
    /// The stand-ins of the targets.
    pub random: &'a RandomTargets,
    /// What names end with that several sets of training cells would share.
    pub whose: &'a str,
    /// Logging and cancellation.
    pub host: &'a Services,
}

/// A metric, and what it scores.
pub struct Question<'a> {
    judge: &'a Judge,
    of: Of,
}

/// What of the perturbations is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// What each changes.
    Effects,
    /// What two genes change beyond the sum of what each changes.
    Interactions,
    /// The cells of each, by the metric of populations of this number.
    Cells(usize),
}

/// Each metric scores effects; where there are doubles with their singles, correlations score interactions too.
pub fn questions<'a>(judges: &'a [Judge], panel: &Panel) -> Vec<Question<'a>> {
    let correlates = |judge: &&Judge| {
        judge.info.shape == Shape::Row && judge.info.signed && judge.info.scale_free && judge.info.vectors
    };
    let with_doubles = judges.iter().filter(|_| !panel.doubles.members().is_empty());
    let interactions = with_doubles.filter(correlates).map(|judge| Question { judge, of: Of::Interactions });
    let of_effects = judges.iter().filter(|judge| judge.info.shape != Shape::Population);
    let of_cells = populations::of_populations(judges).enumerate();
    of_effects
        .map(|judge| Question { judge, of: Of::Effects })
        .chain(interactions)
        .chain(of_cells.map(|(n, judge)| Question { judge, of: Of::Cells(n) }))
        .collect()
}

/// A score of each perturbation; NaN where there is none.
pub type Units = Vec<f64>;

/// The scores of one contender by one metric.
#[derive(Default)]
struct Verdict {
    whole: Units,
    /// Of the cells drawn again.
    drawn: Vec<Units>,
    /// Of each draw of random targets.
    random: Vec<Units>,
}

/// What halves of the measured cells say of each other.
struct Ceilings {
    /// The score of the one half as a prediction of the other.
    halves: Units,
    /// The same of all cells and as many others, where that can be told from halves.
    corrected: Option<Units>,
}

impl Ceilings {
    fn of(question: &Question<'_>, halves: Units) -> Self {
        let known =
            question.judge.info.formula.as_deref().is_some_and(|formula| CORRELATIONS.contains(&formula));
        let corrected = known.then(|| halves.iter().map(|&r| spearman_brown(r)).collect());
        Self { halves, corrected }
    }

    /// What skill is counted to.
    fn best(&self) -> &Units {
        self.corrected.as_ref().unwrap_or(&self.halves)
    }

    /// All, with their names.
    fn named(&self) -> impl Iterator<Item = (&'static str, &Units)> {
        let corrected = self.corrected.iter().map(|units| (CORRECTED, units));
        std::iter::once((HALVES, &self.halves)).chain(corrected)
    }
}

/// The correlation of two measurements with twice the cells, by that of two halves (Spearman; Brown, 1910). Below 0, where there is
/// nothing to measure, it is the mirror image, so that chance stays 0 on average.
fn spearman_brown(r: f64) -> f64 {
    2.0 * r / (1.0 + r.abs())
}

/// All scores: questions × contenders, and the ceiling of each question.
pub struct Drawn {
    verdicts: Vec<Vec<Verdict>>,
    ceilings: Vec<Ceilings>,
    /// What is known of the perturbations.
    pub measured: Measured,
}

impl Drawn {
    /// Scores all contenders.
    pub fn of(
        court: &Court<'_>,
        arms: &Arms,
        tests: &Changed,
        (settings, whole): (&Settings, &Sides),
    ) -> Result<Self> {
        let mut verdicts = court.each(|question, contender| {
            // Those that stand in for a double's genes are not those that stand in for these alone.
            let stand_ins = question.of == Of::Effects && !contender.random.is_empty();
            let random = (0..court.random.len()).filter(|_| stand_ins).map(|draw| {
                let effects = court.random.in_place(court.panel, &contender.random, draw);
                court.units(question, &whole.all, &effects)
            });
            Ok(Verdict {
                whole: match question.of {
                    Of::Cells(n) => contender.cells.get(n).cloned().unwrap_or_default(),
                    _ => court.own_units(question, whole, contender)?,
                },
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
            for (question, contenders) in
                found.into_iter().flatten().flat_map(|draw| draw.into_iter().enumerate())
            {
                for (contender, units) in contenders.into_iter().enumerate() {
                    verdicts[question][contender].drawn.push(units);
                }
            }
        }
        let splits: Vec<(Vec<Units>, Units)> = (0..settings.splits)
            .into_par_iter()
            .map(|n| court.agreement(n, &arms.halves(seed, n)))
            .collect::<Result<_>>()?;
        let over_splits = |question: usize| -> Units {
            let of = |i: usize| mean(splits.iter().map(|(split, _)| split[question][i]));
            (0..court.panel.labels.len()).map(of).collect()
        };
        let agreement: Units =
            (0..court.panel.labels.len()).map(|i| mean(splits.iter().map(|(_, rho)| rho[i]))).collect();
        let tests = (tests, court.cells.var.names.as_slice());
        let measured = Measured::of(&settings.informative, court.panel, tests, &whole.all, agreement);
        let asked = court.questions.iter().enumerate().filter(|_| !splits.is_empty());
        let ceilings = asked.map(|(i, question)| Ceilings::of(question, over_splits(i))).collect();
        Ok(Self { verdicts, ceilings, measured })
    }
}

impl Court<'_> {
    fn evidence(&self, weights: &[Vec<u32>], tested: bool) -> Result<Vec<Evidence>> {
        self.panel.evidence(self.cells, (weights, tested), self.host)
    }

    /// Whether some metric looks at tests.
    fn tests(&self) -> bool {
        self.questions.iter().any(|question| question.judge.info.wants("observed"))
    }

    /// Something for each question and contender.
    fn each<T: Send>(
        &self,
        one: impl Fn(&Question<'_>, &Contender) -> Result<T> + Sync,
    ) -> Result<Vec<Vec<T>>> {
        let asked = |question| self.contenders.par_iter().map(|c| one(question, c)).collect();
        self.questions.iter().map(asked).collect()
    }

    /// The scores of some draws: draws × questions × contenders.
    fn scores_of(&self, weights: &[Vec<u32>]) -> Result<Vec<Vec<Vec<Units>>>> {
        let halved = self.contenders.iter().any(|c| c.by_halves.is_some());
        let sides = self.panel.sides(self.cells, (weights, self.tests(), halved), self.host)?;
        sides.par_iter().map(|s| self.each(|question, c| self.own_units(question, s, c))).collect()
    }

    /// How well the one half of the cells predicts the other, by each question and by the correlation of ranks.
    fn agreement(&self, number: usize, halves: &[Vec<u32>; 2]) -> Result<(Vec<Units>, Units)> {
        let evidence = self.evidence(halves, self.tests())?;
        let by = |question: &Question<'_>| match question.of {
            Of::Cells(_) if number < populations::SPLITS => {
                populations::between_halves(question.judge, (self.cells, self.panel), halves, self.host)
            }
            Of::Cells(_) => Ok(vec![f64::NAN; self.panel.labels.len()]),
            _ => self.units(question, &evidence[1], &evidence[0].effects),
        };
        let of = |half: usize, i: usize| self.panel.others(&evidence[half].effects, i);
        let rho = (0..self.panel.labels.len()).map(|i| spearman(&of(0, i), &of(1, i))).collect();
        Ok((self.questions.iter().map(by).collect::<Result<_>>()?, rho))
    }

    /// The score of each perturbation of which a contender says something.
    fn own_units(&self, question: &Question<'_>, sides: &Sides, contender: &Contender) -> Result<Units> {
        let mut units = match (question.of, &contender.by_halves, &sides.halves) {
            // What is made of the one half of the controls is compared with what is measured by the other.
            (Of::Effects, Some(predicted), Some(measured)) => {
                let one = self.units(question, &measured[1], &predicted[0])?;
                let other = self.units(question, &measured[0], &predicted[1])?;
                one.iter().zip(other).map(|(a, b)| (a + b) / 2.0).collect()
            }
            (Of::Effects | Of::Interactions, None, _) => {
                self.units(question, &sides.all, &contender.effects)?
            }
            // Cells themselves are not drawn again.
            _ => vec![f64::NAN; self.panel.labels.len()],
        };
        let says = |i: &usize| self.says_something(question.of, contender, *i);
        (0..units.len()).filter(|i| !says(i)).for_each(|i| units[i] = f64::NAN);
        Ok(units)
    }

    /// Of scores that are all 0, nothing is known of how they would add up.
    fn says_something(&self, of: Of, contender: &Contender, i: usize) -> bool {
        let singles = self.panel.doubles.singles(i);
        let known = |k| !contender.scores || self.panel.row(&contender.effects, k).iter().any(|&x| x != 0.0);
        match of {
            Of::Effects => contender.from_measured != Some(FromMeasured::Additive) || singles.is_some(),
            Of::Interactions => singles.is_some_and(|[a, b]| [i, a, b].into_iter().all(known)),
            Of::Cells(_) => true,
        }
    }

    /// The score of each perturbation.
    fn units(&self, question: &Question<'_>, evidence: &Evidence, predicted: &[f32]) -> Result<Units> {
        if self.host.cancelled() {
            return Err(Cancelled.into());
        }
        let (panel, judge) = (self.panel, question.judge);
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
        let of = |effects: &[f32], i| match question.of {
            Of::Interactions => interaction(panel, effects, i),
            _ => Some(panel.others(effects, i)),
        };
        let one = |i| match (of(&evidence.effects, i), of(predicted, i)) {
            (Some(truth), Some(predicted)) => {
                super::super::scores::score_pair(judge, self.host, &truth, &predicted)
            }
            _ => Ok(f64::NAN),
        };
        (0..n).map(one).collect()
    }

    /// All rows: of each question the contenders over all perturbations, and for each of them.
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
        for (at, question) in self.questions.iter().enumerate() {
            let judge = question.judge;
            // Of interactions what is made of measured effects says nothing, or has seen them.
            let fits = |c: &Contender| match question.of {
                Of::Effects => judge.info.scale_free || !c.scores,
                Of::Interactions => c.from_measured.is_none(),
                Of::Cells(n) => n < c.cells.len(),
            };
            let own: Vec<usize> = (0..self.contenders.len()).filter(|&c| fits(&self.contenders[c])).collect();
            let trial = Trial {
                court: self,
                data,
                judge,
                of: question.of,
                own: &own,
                verdicts: &drawn.verdicts[at],
                ceilings: drawn.ceilings.get(at),
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
    of: Of,
    own: &'a [usize],
    verdicts: &'a [Verdict],
    ceilings: Option<&'a Ceilings>,
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
    Doubles,
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
            Stratum::Doubles => self.court.panel.doubles.members(),
            Stratum::Only(i) => vec![i],
        }
    }

    /// All strata that have perturbations: those that are pooled first.
    fn strata(&self) -> Vec<Stratum> {
        let pooled = match self.of {
            Of::Interactions => &[Stratum::Doubles][..],
            _ => &[Stratum::All, Stratum::Informative, Stratum::Doubles],
        };
        let pooled = pooled.iter().copied().filter(|&stratum| !self.members(stratum).is_empty());
        let each = self.members(match self.of {
            Of::Interactions => Stratum::Doubles,
            _ => Stratum::All,
        });
        pooled.chain(each.into_iter().map(Stratum::Only)).collect()
    }

    /// Its name in the scores.
    fn name(&self, stratum: Stratum) -> String {
        match (stratum, self.of) {
            (Stratum::All, _) => "perturbations".into(),
            (Stratum::Informative, _) => "informative".into(),
            (Stratum::Doubles, Of::Interactions) => "interaction".into(),
            (Stratum::Doubles, _) => "doubles".into(),
            (Stratum::Only(i), Of::Interactions) => format!("interaction of {}", self.court.panel.labels[i]),
            (Stratum::Only(i), _) => self.court.panel.labels[i].clone(),
        }
    }

    /// Who has something to say of a stratum as a whole: the sums of singles say something of doubles only.
    fn own(&self, stratum: Stratum) -> Vec<usize> {
        let doubles = self.court.panel.doubles.members();
        let only_doubles = self.members(stratum).iter().all(|i| doubles.contains(i));
        let fits = |&c: &usize| {
            only_doubles || self.court.contenders[c].from_measured != Some(FromMeasured::Additive)
        };
        self.own.iter().copied().filter(fits).collect()
    }

    fn rows(&self, settings: &Settings) -> Vec<ScoreRow> {
        let base = self.base_of_skill(settings);
        let mut rows = vec![];
        for stratum in self.strata() {
            let own = self.own(stratum);
            // The ceiling of those perturbations that somebody has a score for.
            let members: Vec<usize> = self
                .members(stratum)
                .into_iter()
                .filter(|&i| own.iter().any(|&c| self.verdicts[c].whole[i].is_finite()))
                .collect();
            let ceiling = self.ceilings.map(|ceilings| over(ceilings.best(), &members));
            let mut of_stratum: Vec<ScoreRow> = own
                .iter()
                .flat_map(|&c| [Some(self.row(c, stratum)), self.random_row(c, stratum)])
                .flatten()
                .collect();
            for (name, units) in self.ceilings.iter().flat_map(|ceilings| ceilings.named()) {
                let scored = members.iter().filter(|&&i| units[i].is_finite()).count();
                let name = format!("{name}{}", self.court.whose);
                let mut row = self.empty(&name, false, stratum, over(units, &members));
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
                .is_none_or(|asked| name == asked || name.starts_with(&format!("{asked} ")))
        };
        let contender = |c: usize| &self.court.contenders[c];
        let able = self
            .own
            .iter()
            .copied()
            .filter(|&c| contender(c).is_rival() && contender(c).from_measured.is_none())
            .filter(|&c| is_asked(&contender(c).name));
        let value = |c: usize| sign * mean(self.verdicts[c].whole.iter().copied());
        able.filter(|&c| value(c).is_finite()).max_by(|&a, &b| value(a).total_cmp(&value(b)).then(b.cmp(&a)))
    }

    fn empty(&self, name: &str, baseline: bool, stratum: Stratum, value: f64) -> ScoreRow {
        super::super::scores::plain_row((self.data, &self.name(stratum)), self.judge, (name, baseline), value)
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
        let rivals = self.own(stratum).into_iter().filter(|&b| b != c && self.court.contenders[b].is_rival());
        let margins: Vec<Margin> = rivals.map(|b| self.margin(c, b, stratum)).collect();
        row.beats =
            margins.iter().filter(|m| m.lower.is_some_and(|x| x > 0.0)).map(|m| m.rival.clone()).collect();
        if stratum.is_pooled() {
            row.rivals = margins.iter().map(|m| m.rival.clone()).collect();
            row.random = self.above_random(c, stratum);
            row.margins = margins.into_iter().filter(|m| m.gain.is_finite()).collect();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_cells_correlate_better_and_chance_stays_chance() {
        // Signal and noise of the same variance in each half: r = 1/2, and 2/3 where the noise is half of that.
        assert!((spearman_brown(0.5) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((spearman_brown(0.0), spearman_brown(1.0), spearman_brown(-1.0)), (0.0, 1.0, -1.0));
        assert_eq!(spearman_brown(-0.2), -spearman_brown(0.2));
        assert!(spearman_brown(f64::NAN).is_nan());
    }
}
