//! The parts of a step's work that are tried: a fit of less effort, a screen or an evaluation of fewer cells.

use super::{Basis, Done, Member, Part, Planner, SAMPLE, Screened, StepForecast, Whole, at};
use crate::data::CellSet;
use crate::pipeline::Call;
use crate::plugin::Answers;
use crate::run::context::{Outputs, seeded_stream};
use crate::run::execute::Instance;
use crate::run::family::{Choices, Chosen};
use crate::steps::{Action, Best, Fit, Pairs, Screen};
use anyhow::{Context, Result, bail};
use rand::seq::SliceRandom;
use serde_json::json;
use std::rc::Rc;
use std::time::Duration;

/// Cells of the first trial of a screen or an evaluation.
const FEWEST_CELLS: u64 = 16;
/// How long a strategy is asked for knockouts.
const COUNTING: Duration = Duration::from_secs(3);

impl Planner<'_> {
    /// A step that is run once, as it is.
    pub(super) fn whole(&mut self, member: &Member<'_>) -> Result<StepForecast> {
        let climbed = self.climb(member, (1, 1, 1), &mut |_, _| Ok(as_it_is(member)))?;
        let whole = Whole { units: 1, of: "", size: None, memory_grows: true, has: &|_| true };
        Ok(self.settle(member, climbed, &whole))
    }

    /// A fit, with more and more effort, if its model declares what that is.
    pub(super) fn fit(&mut self, member: &Member<'_>, fit: &Fit) -> Result<StepForecast> {
        let Some(effort) = Effort::of(&fit.call) else { return self.whole(member) };
        let climbed = self.climb(member, (effort.least, effort.whole, effort.whole), &mut |_, units| {
            let mut call = fit.call.clone();
            call.params.values[&effort.name] = json!(units);
            Ok(Part { action: Some(Action::Fit(fit.with(call))), ..as_it_is(member) })
        })?;
        let (units, of) = (effort.whole, effort.name.as_str());
        let whole = Whole { units, of, size: None, memory_grows: false, has: &|_| true };
        Ok(self.settle(member, climbed, &whole))
    }

    /// A choice among models, all with more and more of their effort.
    pub(super) fn best(&mut self, member: &Member<'_>, best: &Best) -> Result<StepForecast> {
        let efforts: Vec<Option<Effort>> = best.candidates.iter().map(Effort::of).collect();
        let Some(most) = efforts.iter().flatten().max_by_key(|effort| effort.whole) else {
            return self.whole(member);
        };
        let climbed = self.climb(member, (1, most.whole, most.whole), &mut |_, units| {
            let mut candidates = best.candidates.clone();
            for (call, effort) in candidates.iter_mut().zip(&efforts) {
                if let Some(effort) = effort {
                    call.params.values[&effort.name] = json!(effort.share(units, most.whole));
                }
            }
            Ok(Part { action: Some(Action::Best(best.among(candidates))), ..as_it_is(member) })
        })?;
        let (units, of) = (most.whole, most.name.as_str());
        let whole = Whole { units, of, size: None, memory_grows: false, has: &|_| true };
        let told = self.settle(member, climbed, &whole);
        let guess = matches!(told.basis, Basis::Part(..)).then(|| {
            "the model that a trial chose, and fitted again, may be another than the run's".to_string()
        });
        Ok(StepForecast { note: told.note.or(guess), ..told })
    }

    /// A screen of more and more cells.
    pub(super) fn screen(&mut self, member: &Member<'_>, screen: &Screen) -> Result<StepForecast> {
        let (model, cells) = (first(member, "model")?, first(member, "cells")?.clone());
        let (model, all) = (self.executor.model(model)?, self.executor.cell_set(&cells)?);
        let (services, _) = self.services(member, self.options.cancelled.clone());
        let aligned = model.align(all.clone(), &services)?;
        let answers = model.fitted.info().answers;
        let pairs = Rc::new(screen.pairs(answers, &aligned, &services, COUNTING)?);
        self.check()?;
        let limits = (FEWEST_CELLS, all.len() as u64, all.len() as u64);
        let climbed = self.climb(member, limits, &mut |planner, units| {
            planner.part_of_screen(member, screen, &pairs, units)
        })?;
        let stored = aligned.nnz()?;
        let whole = Whole {
            units: all.len() as u64,
            of: "cells",
            // Of a population each knockout is one row, whose work is that of all its cells.
            size: (answers == Answers::Profiles).then_some(pairs.count),
            memory_grows: true,
            has: &|file| screen.writes(file, pairs.count, stored),
        };
        let instance = |done: &Done| (done.taken.units, Rc::new(member.instance(done)));
        if climbed.done.last().is_some_and(|last| last.taken.units < whole.units) {
            let parts = climbed.done.iter().map(instance).collect();
            self.screened.insert(member.place(), Screened { pairs: pairs.clone(), parts });
        }
        let mut told = self.settle(member, climbed, &whole);
        if matches!(told.basis, Basis::Part(..)) {
            told.needs.seconds = told.needs.seconds.map(|seconds| seconds + pairs.seconds);
        }
        Ok(counted(told, &pairs))
    }

    /// A screen of so many of its cells.
    fn part_of_screen(
        &self,
        member: &Member<'_>,
        screen: &Screen,
        pairs: &Pairs,
        units: u64,
    ) -> Result<Part> {
        let cells = first(member, "cells")?;
        let all = self.executor.cell_set(cells)?;
        if units >= all.len() as u64 {
            return Ok(as_it_is(member));
        }
        let rows = some_of(all.len(), units as usize);
        let choices = self.with_cells(member, cells, all.select_cells(&rows));
        let some = screen.of_some(pairs, &rows);
        Ok(Part { held: some.held(pairs), action: Some(Action::Screen(Box::new(some))), choices })
    }

    /// The pairs of a screen.
    fn pairs(&self, member: &Member<'_>, screen: &Screen) -> Result<Pairs> {
        let model = self.executor.model(first(member, "model")?)?;
        let (services, _) = self.services(member, self.options.cancelled.clone());
        let cells = model.align(self.executor.cell_set(first(member, "cells")?)?, &services)?;
        screen.pairs(model.fitted.info().answers, &cells, &services, COUNTING)
    }

    /// The pairs of a screen without its model.
    pub(super) fn only_pairs(
        &mut self,
        member: &Member<'_>,
        screen: &Screen,
        why: String,
    ) -> Result<StepForecast> {
        let answers = match &self.executor.step(first(member, "model")?).action {
            Action::Fit(fit) => fit.call.component.model_info().answers,
            _ => Answers::Profiles,
        };
        let cells = self.executor.cell_set(first(member, "cells")?)?;
        let (services, _) = self.services(member, self.options.cancelled.clone());
        let pairs = screen.pairs(answers, &cells, &services, COUNTING)?;
        Ok(counted(self.without_outcome(member, why), &pairs))
    }

    /// An evaluation of more and more cells.
    pub(super) fn on_cells(&mut self, member: &Member<'_>) -> Result<StepForecast> {
        let cells = first(member, "cells")?.clone();
        let all = self.executor.cell_set(&cells)?;
        let units = all.len() as u64;
        let climbed = self.climb(member, (FEWEST_CELLS, units, units), &mut |planner, some| {
            if some == units {
                return Ok(as_it_is(member));
            }
            let part = all.select_cells(&some_of(all.len(), some as usize));
            Ok(Part { choices: planner.with_cells(member, &cells, part), ..as_it_is(member) })
        })?;
        let whole = Whole { units, of: "cells", size: None, memory_grows: true, has: &|_| true };
        Ok(self.settle(member, climbed, &whole))
    }

    /// Whether a screen that this reads is there in part only.
    pub(super) fn has_part(&self, member: &Member<'_>) -> bool {
        member.choices.values().flatten().any(|chosen| self.screened.contains_key(&at(chosen)))
    }

    /// An evaluation of screens, all of the same cells: as many as each of them was tried out on.
    pub(super) fn on_screens(&mut self, member: &Member<'_>) -> Result<StepForecast> {
        let parts = member.choices.values().flatten().filter_map(|chosen| self.screened.get(&at(chosen)));
        let most = parts.filter_map(|screened| screened.parts.last()).map(|(cells, _)| *cells).min();
        let screens = member.choices.get("screens").into_iter().flatten();
        let units = screens.map(|chosen| self.cells_of(chosen)).max().unwrap_or(0);
        let limits = (FEWEST_CELLS, units, most.unwrap_or(units));
        let climbed = self.climb(member, limits, &mut |planner, cells| {
            Ok(Part { choices: planner.with_screens(member, cells)?, ..as_it_is(member) })
        })?;
        let whole = Whole { units, of: "cells", size: None, memory_grows: true, has: &|_| true };
        Ok(self.settle(member, climbed, &whole))
    }

    /// How many cells a screen has.
    fn cells_of(&self, screen: &Chosen) -> u64 {
        let cells =
            self.executor.instance(screen).ok().and_then(|i| i.choices.get("cells")?.first().cloned());
        cells.and_then(|cells| self.executor.cell_set(&cells).ok()).map_or(0, |cells| cells.len() as u64)
    }

    /// A member's choices with the screens, and the truth, of so many cells.
    fn with_screens(&self, member: &Member<'_>, cells: u64) -> Result<Choices> {
        let mut choices = member.choices.clone();
        let mut parts = vec![];
        for chosen in choices.values_mut().flatten() {
            let part = self.screen_of(chosen, cells)?;
            chosen.labels.insert(SAMPLE.into(), cells.to_string());
            parts.push((chosen.input.step, Instance { labels: chosen.labels.clone(), ..part }));
        }
        parts.into_iter().for_each(|(number, part)| self.executor.add(number, part));
        Ok(choices)
    }

    /// What a screen comes to in so many cells, from its trials, or tried out now.
    fn screen_of(&self, chosen: &Chosen, cells: u64) -> Result<Instance> {
        let screened = self.screened.get(&at(chosen));
        let known = screened.and_then(|screened| screened.parts.iter().find(|(units, _)| *units == cells));
        if let Some((_, part)) = known {
            let (labels, choices) = (part.labels.clone(), part.choices.clone());
            return Ok(Instance { labels, choices, record: part.record.clone(), dir: part.dir.clone() });
        }
        let (step, instance) = (self.executor.step(chosen), self.executor.instance(chosen)?);
        let Action::Screen(screen) = &step.action else { bail!("`{}` is no screen", step.name) };
        let (labels, choices) = (instance.labels.clone(), instance.choices.clone());
        let number = chosen.input.step;
        let member = Member { number, step, labels, choices, key: instance.record.key.clone() };
        let pairs = match screened {
            Some(screened) => screened.pairs.clone(),
            None => Rc::new(self.pairs(&member, screen)?),
        };
        let part = self.part_of_screen(&member, screen, &pairs, cells)?;
        match self.attempt(&member, &part, cells)? {
            Ok(done) => Ok(member.instance(&done)),
            Err(_) => bail!("`{}` was not finished in {cells} cells", step.name),
        }
    }

    /// A member's choices with these cells.
    fn with_cells(&self, member: &Member<'_>, all: &Chosen, some: CellSet) -> Choices {
        let mut sample = Chosen { group: None, ..all.clone() };
        sample.labels.insert(SAMPLE.into(), some.len().to_string());
        let outputs = Rc::new(Outputs::of_cells(&all.input.port, some));
        self.executor.values.borrow_mut().insert((all.input.step, sample.labels.clone()), outputs);
        let mut choices = member.choices.clone();
        choices.insert("cells", vec![sample]);
        choices
    }
}

/// The parameter that the work of a fit is proportional to.
struct Effort {
    name: String,
    least: u64,
    whole: u64,
}

impl Effort {
    /// As the model's schema declares it, if it does.
    fn of(call: &Call) -> Option<Self> {
        let properties = call.component.parameters["properties"].as_object()?;
        let (name, schema) = properties.iter().find(|(_, schema)| schema["effort"] == true)?;
        let least = schema["minimum"].as_u64().unwrap_or(1).max(1);
        let whole = call.params.values[name].as_u64()?;
        (least < whole).then(|| Self { name: name.clone(), least, whole })
    }

    /// As much of it as `units` are of `all`.
    fn share(&self, units: u64, all: u64) -> u64 {
        let part = u128::from(self.whole) * u128::from(units) / u128::from(all.max(1));
        u64::try_from(part).unwrap_or(self.whole).clamp(self.least, self.whole)
    }
}

/// The step itself.
fn as_it_is(member: &Member<'_>) -> Part {
    Part { action: None, choices: member.choices.clone(), held: 0 }
}

/// So many of the cells, drawn so that fewer are always among more; ascending.
fn some_of(cells: usize, some: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..cells).collect();
    rows.shuffle(&mut seeded_stream(0, 0));
    rows.truncate(some);
    rows.sort_unstable();
    rows
}

fn counted(told: StepForecast, pairs: &Pairs) -> StepForecast {
    let note = pairs.note.map(String::from).or(told.note);
    StepForecast { pairs: Some(pairs.count), note, ..told }
}

fn first<'a>(member: &'a Member<'_>, key: &str) -> Result<&'a Chosen> {
    let chosen = member.choices.get(key).and_then(|chosen| chosen.first());
    chosen.with_context(|| format!("`{key}` is missing"))
}
