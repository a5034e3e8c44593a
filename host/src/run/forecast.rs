//! What a run will need, before it runs: each step is tried out on this machine, in a folder that goes away.
//!
//! The steps run in order, as in a run, each on ever more of its work until that took a second or two: a fit with more
//! and more of what its model declares as its effort, a screen and an evaluation on more and more cells. What is short is
//! run as a whole, and known; the rest is extrapolated. A step that is stopped is told by its own progress, and what
//! cannot be told is said to be unknown. What an earlier run left is looked at, and nothing is written to its folder.

mod climb;
mod parts;
mod trial;

use super::Cancelled;
use super::context::{Outputs, StepCx};
use super::dir::{RECORD, Record, StepDir};
use super::execute::{Executor, Instance, RunOptions, conclude, place_of};
use super::family::{Choices, Chosen, Labels, suffix};
use super::progress::Console;
use crate::memory;
use crate::pipeline::{Plan, Step};
use crate::plugin::Services;
use crate::steps::{Action, Pairs};
use anyhow::{Context, Result};
use climb::Taken;
use serde_json::Value as Json;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use trial::{LONGEST, Watch, limited};

/// What a run will need.
pub struct Forecast {
    /// Each member of each step, in order.
    pub steps: Vec<StepForecast>,
    /// Bytes of what lies beside the steps: run.json, and the reports once more.
    pub beside: u64,
    /// How long the trials took.
    pub seconds: f64,
}

/// What one member of a step will need.
pub struct StepForecast {
    /// The step's name.
    pub step: String,
    /// What it runs.
    pub used: String,
    /// Which member.
    pub labels: Labels,
    /// Where the figures are from.
    pub basis: Basis,
    /// The figures.
    pub needs: Needs,
    /// Of a screen, how many knockouts it makes in how many cells.
    pub pairs: Option<u64>,
    /// What else is to be known of the figures.
    pub note: Option<String>,
}

/// Where figures are from.
#[derive(Debug, Clone, PartialEq)]
pub enum Basis {
    /// An earlier run's output is still good.
    Kept,
    /// The whole was run.
    Whole,
    /// A part was run: so many, of so many, of these.
    Part(u64, u64, String),
    /// The whole was begun, and stopped when this share of it was done.
    Begun(f64),
    /// Nothing: why.
    Unknown(String),
}

/// Figures; none where they are unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Needs {
    /// Time.
    pub seconds: Option<f64>,
    /// The most memory of this process at once, in bytes.
    pub memory: Option<u64>,
    /// Bytes of files.
    pub disk: Option<u64>,
}

/// The label of what is a part of something.
const SAMPLE: &str = "(sample)";

/// Tells what a run of a plan into `options.dir` will need.
///
/// # Errors
/// What a step reports, which the run would report too; [`Cancelled`] when the user asked to stop.
pub fn forecast(plan: &Plan, options: &RunOptions) -> Result<Forecast> {
    let start = Instant::now();
    let folder = tempfile::tempdir().context("cannot make a temporary folder: TMPDIR says where")?;
    let dir = folder.path().to_path_buf();
    let (cancelled, memory) = (options.cancelled.clone(), options.memory);
    let here = RunOptions { dir, cancelled, memory, console: Console::Quiet };
    let executor = Executor::new(plan, &here)?;
    let (hollow, screened, trials) = Default::default();
    let mut planner = Planner { executor, options, hollow, screened, trials };
    let mut steps = vec![];
    for number in plan.order().unwrap_or_default() {
        let told = planner.step(number).with_context(|| place_of(plan, &plan.steps[number]))?;
        steps.extend(told);
    }
    let all_kept = steps.iter().all(|step| step.basis == Basis::Kept);
    let beside = if all_kept { 0 } else { planner.beside(folder.path())? };
    Ok(Forecast { steps, beside, seconds: start.elapsed().as_secs_f64() })
}

struct Planner<'p> {
    /// At work in a folder that goes away. Its members are kept ones, or outcomes of trials.
    executor: Executor<'p>,
    /// Of the run.
    options: &'p RunOptions,
    /// Members that have no outcome.
    hollow: HashSet<(usize, Labels)>,
    /// The trials of screens of which none was the whole.
    screened: HashMap<(usize, Labels), Screened>,
    /// How many trials there were.
    trials: Cell<usize>,
}

/// What a screen came to in some of its cells: how many, and the outcome.
struct Screened {
    pairs: Rc<Pairs>,
    parts: Vec<(u64, Rc<Instance>)>,
}

/// One member of a step, to be tried out.
struct Member<'a> {
    number: usize,
    step: &'a Step,
    labels: Labels,
    choices: Choices,
    key: String,
}

/// What a trial runs: the step or a changed one, and on what.
struct Part {
    action: Option<Action>,
    choices: Choices,
    /// Bytes that the trial holds, and a run would not.
    held: u64,
}

/// A trial that came to an end.
struct Done {
    taken: Taken,
    /// Until the next trial, whose memory they are not to be part of; then they are read from the files.
    outputs: Option<Outputs>,
    record: Record,
    dir: PathBuf,
}

/// A trial that was stopped: how long it was at work, what was to come as far as it is known, and its memory.
struct Cut {
    units: u64,
    seconds: f64,
    to_come: Option<(f64, f64)>,
    memory: Option<u64>,
}

impl Cut {
    /// What it would have taken, by its own progress, or has taken at least; all but its time as smaller trials tell.
    fn as_taken(&self, tried: &[Taken]) -> Option<Taken> {
        let last = tried.last()?;
        let size = last.size * self.units as f64 / last.units.max(1) as f64;
        let (seconds, memory, disk) = climb::extrapolate(tried, size)?;
        let own = self.seconds + self.to_come.map_or(0.0, |(to_come, _)| to_come);
        let seconds = if self.to_come.is_some() { own } else { own.max(seconds) };
        Some(Taken { units: self.units, size, seconds, memory: memory.max(self.memory), disk })
    }
}

/// The trials of one member.
#[derive(Default)]
struct Climbed {
    done: Vec<Done>,
    cut: Option<Cut>,
    /// Why a part cannot be tried, where the whole cannot either.
    failed: Option<String>,
}

impl Climbed {
    fn taken(&self) -> Vec<Taken> {
        self.done.iter().map(|done| done.taken).collect()
    }
}

/// How much there is of a member's work.
struct Whole<'a> {
    units: u64,
    of: &'a str,
    /// In what the needs grow with, if that is known.
    size: Option<u64>,
    /// Whether memory grows too.
    memory_grows: bool,
    /// The files that the whole has.
    has: &'a dyn Fn(&str) -> bool,
}

impl<'p> Planner<'p> {
    fn step(&mut self, number: usize) -> Result<Vec<StepForecast>> {
        let plan = self.executor.plan;
        let step = &plan.steps[number];
        if let Some(missing) = plan.upstream(number).find(|&other| self.hides_members(step, other)) {
            return Ok(vec![unknown(step, &Labels::new(), without(&plan.steps[missing].name))]);
        }
        let members = self.executor.members(step)?;
        if members.is_empty() {
            return Err(self.executor.nothing_in_common(step));
        }
        members.into_iter().map(|(labels, choices)| self.member(number, labels, choices)).collect()
    }

    /// Whether the members of a step cannot be told, since those of another, or its cells, are not there.
    fn hides_members(&self, step: &Step, other: usize) -> bool {
        let absent = !self.executor.instances.borrow().contains_key(&other);
        absent || (step.by.is_some() && self.hollow.iter().any(|(number, _)| *number == other))
    }

    fn member(&mut self, number: usize, labels: Labels, choices: Choices) -> Result<StepForecast> {
        let step = &self.executor.plan.steps[number];
        let key = self.executor.key(step, &choices)?;
        let kept = StepDir::of(&self.options.dir, &step.name, &labels);
        if let Some(record) = kept.recorded().filter(|record| record.key == key) {
            let pairs = pairs_of(step, &record);
            let needs = Needs { seconds: Some(0.0), memory: Some(0), disk: Some(0) };
            let told = StepForecast { needs, pairs, ..unknown(step, &labels, String::new()) };
            self.executor.add(number, Instance { labels, choices, record, dir: kept.done });
            return Ok(StepForecast { basis: Basis::Kept, ..told });
        }
        let member = Member { number, step, labels, choices, key };
        let hollow: Vec<&Chosen> =
            member.choices.values().flatten().filter(|c| self.hollow.contains(&at(c))).collect();
        if let Some(&first) = hollow.first() {
            let why = without(&self.executor.step(first).name);
            let only_model = hollow.iter().all(|chosen| chosen.input.key == "model");
            return match &step.action {
                Action::Screen(screen) if only_model => self.only_pairs(&member, screen, why),
                _ => Ok(self.without_outcome(&member, why)),
            };
        }
        self.options.console.line(&format!("  trying out {}{}", step.name, suffix(&member.labels)));
        match &step.action {
            Action::Fit(fit) => self.fit(&member, fit),
            Action::Best(best) => self.best(&member, best),
            Action::Screen(screen) => self.screen(&member, screen),
            Action::Evaluate(evaluate) if evaluate.is_mapping() => self.on_cells(&member),
            Action::Evaluate(_) if self.has_part(&member) => self.on_screens(&member),
            _ => self.whole(&member),
        }
    }

    fn forget_samples(&self) {
        self.executor.values.borrow_mut().retain(|(_, labels), _| !labels.contains_key(SAMPLE));
        let mut instances = self.executor.instances.borrow_mut();
        instances.values_mut().for_each(|members| members.retain(|i| !i.labels.contains_key(SAMPLE)));
    }

    /// Trials of ever more of the work, from the least amount on, and of no more than the most of the whole.
    fn climb(
        &self,
        member: &Member<'_>,
        (least, whole, most): (u64, u64, u64),
        part: &mut dyn FnMut(&Self, u64) -> Result<Part>,
    ) -> Result<Climbed> {
        let mut climbed = Climbed::default();
        let mut next = Some(least.min(most));
        while let Some(units) = next {
            climbed.done.iter_mut().for_each(|done| done.outputs = None);
            let part = part(self, units)?;
            let attempt = self.attempt(member, &part, units);
            self.forget_samples();
            match attempt {
                Ok(Ok(done)) => {
                    climbed.done.push(done);
                    let more = climb::next(&climbed.taken(), whole).map(|more| more.min(most));
                    next = more.filter(|more| *more > units);
                }
                Ok(Err(cut)) => {
                    climbed.cut = Some(cut);
                    next = None;
                }
                // What is wrong with a part need not be wrong with the whole.
                Err(error) if units < whole && !super::is_cancelled(&error) => {
                    climbed.failed = Some(format!("{error:#}"));
                    next = (units < most).then_some(most);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(climbed)
    }

    /// One trial, as a run does it: done, or stopped.
    fn attempt(&self, member: &Member<'_>, part: &Part, units: u64) -> Result<Result<Done, Cut>> {
        self.check()?;
        let dir = StepDir { done: self.executor.dir.path().join(format!("trials/{}", self.trials.get())) };
        self.trials.set(self.trials.get() + 1);
        let halt = Arc::new(AtomicBool::new(false));
        let (services, watch) = self.services(member, halt.clone());
        memory::forget_peak();
        let start = Instant::now();
        let ended = limited(&self.options.cancelled, &halt, || {
            let work = dir.begin(&member.key)?;
            let (step, labels, choices) = (member.step, &member.labels, &part.choices);
            let (executor, done) = (&self.executor, dir.done.as_path());
            let cx = StepCx { executor, step, labels, choices, dir: &work, done, services };
            let outputs = part.action.as_ref().unwrap_or(&step.action).run(&cx)?;
            Ok((conclude(cx, &outputs, &dir, member.key.clone())?, outputs))
        });
        let (seconds, memory) = (start.elapsed().as_secs_f64(), memory::peak());
        let memory = memory.map(|bytes| bytes.saturating_sub(part.held));
        self.check()?;
        match ended {
            Ok((record, outputs)) => {
                let size = pairs_of(member.step, &record).unwrap_or(units) as f64;
                let taken = Taken { units, size, seconds, memory, disk: bytes_of(&record, &dir, &|_| true) };
                Ok(Ok(Done { taken, outputs: Some(outputs), record, dir: dir.done }))
            }
            Err(_) if halt.load(Ordering::Relaxed) => {
                Ok(Err(Cut { units, seconds, to_come: watch.to_come(), memory }))
            }
            Err(error) => Err(error),
        }
    }

    fn services(&self, member: &Member<'_>, cancelled: Arc<AtomicBool>) -> (Services, Arc<Watch>) {
        let name = format!("{}{}", member.step.name, suffix(&member.labels));
        let watch = Watch::new(self.options.console.step(&name));
        let scratch = self.executor.dir.path().join("scratch");
        (Services::new(&name, member.step.seed, cancelled, watch.clone(), scratch), watch)
    }

    fn check(&self) -> Result<()> {
        if self.options.cancelled.load(Ordering::Relaxed) { Err(Cancelled.into()) } else { Ok(()) }
    }

    /// What the trials tell of the whole. The last one stands for the member from now on.
    fn settle(&mut self, member: &Member<'_>, climbed: Climbed, whole: &Whole<'_>) -> StepForecast {
        let mut tried = climbed.taken();
        let Some(last) = tried.last().copied() else {
            return self.stopped(member, climbed);
        };
        let mut note = None;
        let (needs, basis) = if last.units == whole.units {
            (Needs { seconds: Some(last.seconds), memory: last.memory, disk: Some(last.disk) }, Basis::Whole)
        } else {
            for (tried, done) in tried.iter_mut().zip(&climbed.done) {
                tried.disk = bytes_of(&done.record, &StepDir { done: done.dir.clone() }, whole.has);
                // Where more cells were not more pairs, or nobody knows how many there will be.
                tried.size =
                    if whole.size.is_some() && last.size > 0.0 { tried.size } else { tried.units as f64 };
            }
            if let Some(cut) = &climbed.cut {
                tried.extend(cut.as_taken(&tried));
                let longest = LONGEST.as_secs();
                note =
                    cut.to_come.is_none().then(|| format!("at least: a trial was stopped after {longest} s"));
            }
            if tried.len() == 1 {
                note = Some("a guess: one trial alone does not tell what grows".into());
            }
            let size = whole.size.filter(|_| last.size > 0.0).unwrap_or(whole.units) as f64;
            (extrapolated(&tried, size, whole), Basis::Part(last.units, whole.units, whole.of.into()))
        };
        if let Some(done) = climbed.done.into_iter().next_back() {
            self.executor.add(member.number, member.instance(&done));
            let place = member.place();
            if let Some(outputs) = done.outputs {
                self.executor.values.borrow_mut().insert(place, Rc::new(outputs));
            }
        }
        StepForecast { needs, basis, note, ..unknown(member.step, &member.labels, String::new()) }
    }

    /// A member that was stopped, and has no outcome.
    fn stopped(&mut self, member: &Member<'_>, climbed: Climbed) -> StepForecast {
        let told = climbed.cut.and_then(|cut| Some((cut.to_come?, cut)));
        let Some(((to_come, share), cut)) = told else {
            let longest = LONGEST.as_secs();
            let why = format!("not finished in {longest} s, and nothing says how far it was");
            return self.without_outcome(member, climbed.failed.unwrap_or(why));
        };
        let needs = Needs { seconds: Some(cut.seconds + to_come), memory: cut.memory, disk: None };
        StepForecast { needs, basis: Basis::Begun(share), ..self.without_outcome(member, String::new()) }
    }

    /// A member that nobody can read from.
    fn without_outcome(&mut self, member: &Member<'_>, why: String) -> StepForecast {
        let (ports, files, warnings) = (BTreeMap::new(), vec![], vec![]);
        let record = Record { key: member.key.clone(), ports, files, warnings, summary: Json::Null };
        let (labels, choices) = (member.labels.clone(), member.choices.clone());
        self.executor.add(member.number, Instance { labels, choices, record, dir: PathBuf::new() });
        self.hollow.insert(member.place());
        unknown(member.step, &member.labels, why)
    }

    /// Bytes of what a run writes beside its steps.
    fn beside(&self, folder: &Path) -> Result<u64> {
        if self.hollow.is_empty() {
            self.executor.publish_reports()?;
        }
        self.executor.write_run_json(&[])?;
        let files = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.metadata().ok());
        Ok(files.filter(|file| file.is_file()).map(|file| file.len()).sum())
    }
}

impl Member<'_> {
    fn place(&self) -> (usize, Labels) {
        (self.number, self.labels.clone())
    }

    fn instance(&self, done: &Done) -> Instance {
        let (labels, choices) = (self.labels.clone(), self.choices.clone());
        Instance { labels, choices, record: done.record.clone(), dir: done.dir.clone() }
    }
}

fn extrapolated(tried: &[Taken], size: f64, whole: &Whole<'_>) -> Needs {
    let Some((seconds, memory, disk)) = climb::extrapolate(tried, size) else { return Needs::default() };
    let most = tried.iter().filter_map(|t| t.memory).max();
    let memory = if whole.memory_grows { memory } else { most };
    Needs { seconds: Some(seconds), memory, disk: Some(disk) }
}

/// The files of a step that the whole has too, and its record.
fn bytes_of(record: &Record, dir: &StepDir, has: &dyn Fn(&str) -> bool) -> u64 {
    let files: u64 = record.files.iter().filter(|file| has(&file.path)).map(|file| file.bytes).sum();
    files + std::fs::metadata(dir.done.join(RECORD)).map_or(0, |file| file.len())
}

/// The pairs of a screen, as it says itself.
fn pairs_of(step: &Step, record: &Record) -> Option<u64> {
    matches!(step.action, Action::Screen(_)).then(|| record.summary["knockouts"].as_u64()).flatten()
}

fn at(chosen: &Chosen) -> (usize, Labels) {
    (chosen.input.step, chosen.labels.clone())
}

fn without(step: &str) -> String {
    format!("`{step}` was not finished here")
}

fn unknown(step: &Step, labels: &Labels, why: String) -> StepForecast {
    StepForecast {
        step: step.name.clone(),
        used: step.action.used(),
        labels: labels.clone(),
        basis: Basis::Unknown(why),
        needs: Needs::default(),
        pairs: None,
        note: None,
    }
}
