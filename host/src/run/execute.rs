//! The executor: keys decide what is still good; what is not is run; values are loaded only when asked for.

use super::context::{Outputs, StepCx};
use super::dir::{Record, RunDir, SCRATCH, StepDir, hashed_files, json_bytes};
use super::family::{Alternative, Choices, Chosen, Labels, compatible, join, suffix};
use super::progress::Console;
use crate::data::{CellSet, Cells};
use crate::pipeline::{Input, Plan, Step};
use crate::plugin::{Plugin, Services};
use crate::steps::{Action, FittedModel};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value as Json, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// How a plan is run.
pub struct RunOptions {
    /// The run's folder.
    pub dir: PathBuf,
    /// How many bytes cells and results may take.
    pub memory: u64,
    /// Set when the user asks to stop.
    pub cancelled: Arc<AtomicBool>,
    /// What is shown.
    pub console: Console,
}

/// What a run did.
pub struct RunSummary {
    /// The folder.
    pub dir: PathBuf,
    /// Each member of each step, in order.
    pub steps: Vec<StepSummary>,
}

/// What one member of a step did.
pub struct StepSummary {
    /// The step's name.
    pub step: String,
    /// What it ran.
    pub used: String,
    /// Which member.
    pub labels: Labels,
    /// What it says of its output.
    pub summary: Json,
    /// Where its output is.
    pub dir: PathBuf,
    /// Whether an earlier run's output was still good.
    pub reused: bool,
    /// How long it took.
    pub seconds: f64,
}

/// One member of a step's family, finished.
pub struct Instance {
    /// Which member.
    pub labels: Labels,
    /// What it read.
    pub choices: Choices,
    /// What is known of its output.
    pub record: Record,
    /// Where its output is.
    pub dir: PathBuf,
}

/// A run in progress.
pub struct Executor<'p> {
    /// The plan.
    pub plan: &'p Plan,
    pub(super) dir: RunDir,
    options: &'p RunOptions,
    pub(super) instances: RefCell<HashMap<usize, Vec<Rc<Instance>>>>,
    pub(super) values: RefCell<HashMap<(usize, Labels), Rc<Outputs>>>,
}

/// Part of every key: results of another version of Lacuna are not taken over.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs a plan.
///
/// # Errors
/// What a step reports, with its name and place; [`Cancelled`](super::Cancelled) when the user asked to stop.
/// Finished steps are kept in any case.
pub fn execute(plan: &Plan, options: &RunOptions) -> Result<RunSummary> {
    let executor = Executor::new(plan, options).context(super::NotBegun)?;
    let mut steps = vec![];
    for number in plan.order().unwrap_or_default() {
        let step = &plan.steps[number];
        let place = || place_of(plan, step);
        let members = executor.members(step).with_context(place)?;
        if members.is_empty() {
            return Err(executor.nothing_in_common(step)).with_context(place);
        }
        for (labels, choices) in members {
            let done = executor.run_member(number, labels, choices);
            steps.push(done.with_context(place)?);
        }
    }
    executor.publish_reports()?;
    // Plugins have left their scratch folders; what they lay in goes too.
    let _ = std::fs::remove_dir(options.dir.join("scratch"));
    executor.write_run_json(&steps)?;
    Ok(RunSummary { dir: options.dir.clone(), steps })
}

/// A step for an error: its name, and where it stands.
pub(super) fn place_of(plan: &Plan, step: &Step) -> String {
    let (line, column) = plan.sources.line_column(&step.at);
    format!("step `{}` ({}:{line}:{column})", step.name, plan.sources.name(step.at.source))
}

impl<'p> Executor<'p> {
    /// Of a run that has not begun, in a folder that is locked from now on.
    pub(super) fn new(plan: &'p Plan, options: &'p RunOptions) -> Result<Self> {
        let (instances, values) = Default::default();
        Ok(Self { plan, dir: RunDir::open(&options.dir)?, options, instances, values })
    }
}

impl Executor<'_> {
    /// The members that a step runs for: its inputs' members that fit together, cut by `by`.
    pub(super) fn members(&self, step: &Step) -> Result<Vec<(Labels, Choices)>> {
        let mut slots: Vec<(&'static str, Vec<Alternative>)> = vec![];
        let inputs = step.action.inputs();
        let mut keys: Vec<&'static str> = vec![];
        inputs.iter().for_each(|input| {
            if !keys.contains(&input.key) {
                keys.push(input.key)
            }
        });
        for &key in keys.iter().filter(|k| !step.action.list_keys().contains(k)) {
            slots.push((key, self.offered(step, key)?));
        }
        let mut members = join(&slots);
        for (labels, choices) in &mut members {
            for &key in keys.iter().filter(|k| step.action.list_keys().contains(k)) {
                let fitting =
                    self.alternatives(&inputs, key).into_iter().filter(|(l, _)| compatible(l, labels));
                choices.insert(key, fitting.flat_map(|(_, chosen)| chosen).collect());
            }
        }
        Ok(members)
    }

    /// What there is to choose from under a key, cut by `by`.
    fn offered(&self, step: &Step, key: &'static str) -> Result<Vec<Alternative>> {
        let alternatives = self.alternatives(&step.action.inputs(), key);
        match step.by.as_ref().filter(|_| step.action.cell_keys().contains(&key)) {
            Some(by) => self.cut(alternatives, by),
            None => Ok(alternatives),
        }
    }

    /// Why a step has no member, in words.
    pub(super) fn nothing_in_common(&self, step: &Step) -> anyhow::Error {
        let mut groups: Vec<String> = vec![];
        for input in step.action.inputs() {
            let offered = self.offered(step, input.key).unwrap_or_default();
            let named: Vec<String> = offered.iter().map(|(labels, _)| suffix(labels).trim().into()).collect();
            let text = format!("`{}` has {}", input.key, named.join(", "));
            if !groups.contains(&text) {
                groups.push(text);
            }
        }
        anyhow::anyhow!("its inputs have no group in common: {}", groups.join("; "))
    }

    /// Every member of every step named under a key.
    fn alternatives(&self, inputs: &[&Input], key: &'static str) -> Vec<Alternative> {
        let named: Vec<&&Input> = inputs.iter().filter(|input| input.key == key).collect();
        let mut alternatives = vec![];
        for input in &named {
            for instance in self.instances.borrow().get(&input.step).into_iter().flatten() {
                let mut labels = instance.labels.clone();
                if named.len() > 1 {
                    let step = &self.plan.steps[input.step].name;
                    let several = named.iter().filter(|other| other.step == input.step).count() > 1;
                    let name = if several { format!("{step}.{}", input.port) } else { step.clone() };
                    labels.insert(key.into(), name);
                }
                let chosen =
                    Chosen { input: (**input).clone(), labels: instance.labels.clone(), group: None };
                alternatives.push((labels, vec![chosen]));
            }
        }
        alternatives
    }

    /// One alternative for each group of an annotation, where the labels do not say the group already.
    fn cut(&self, alternatives: Vec<Alternative>, by: &str) -> Result<Vec<Alternative>> {
        let mut out = vec![];
        for (labels, chosen) in alternatives {
            let Some(one) = chosen.first().filter(|_| !labels.contains_key(by)) else {
                out.push((labels, chosen));
                continue;
            };
            let cells = self.cell_set(one)?;
            let texts = super::obs_column(cells.obs(), by).context("`by`")?.texts();
            let groups: std::collections::BTreeSet<String> = texts.into_iter().flatten().collect();
            for group in groups {
                let mut labels = labels.clone();
                labels.insert(by.into(), group.clone());
                out.push((labels, vec![Chosen { group: Some((by.into(), group)), ..one.clone() }]));
            }
        }
        Ok(out)
    }

    fn run_member(&self, number: usize, labels: Labels, choices: Choices) -> Result<StepSummary> {
        let step = &self.plan.steps[number];
        let start = Instant::now();
        let dir = self.dir.step(&step.name, &labels);
        let key = self.key(step, &choices)?;
        let kept = dir.finished().filter(|record| record.key == key);
        let reused = kept.is_some();
        let record = match kept {
            Some(record) => record,
            None => self.run_anew(number, &labels, &choices, &dir, key)?,
        };
        let summary = StepSummary {
            step: step.name.clone(),
            used: step.action.used(),
            labels: labels.clone(),
            summary: record.summary.clone(),
            dir: dir.done.clone(),
            reused,
            seconds: start.elapsed().as_secs_f64(),
        };
        self.options.console.line(&summary.line());
        self.add(number, Instance { labels, choices, record, dir: dir.done });
        Ok(summary)
    }

    /// Adds a finished member.
    pub(super) fn add(&self, number: usize, instance: Instance) {
        self.instances.borrow_mut().entry(number).or_default().push(Rc::new(instance));
    }

    fn run_anew(
        &self,
        number: usize,
        labels: &Labels,
        choices: &Choices,
        dir: &StepDir,
        key: String,
    ) -> Result<Record> {
        let step = &self.plan.steps[number];
        self.unpublish()?;
        let part = dir.begin(&key)?;
        let mut cx = self.context(step, labels, choices, (&part, &dir.done));
        // Where plugins keep what a killed run of the same step goes on from.
        let scratch = std::path::absolute(part.join(SCRATCH)).context("no current folder")?;
        cx.services = cx.services.with_scratch(scratch);
        cx.check()?;
        let outputs = step.action.run(&cx)?;
        let record = conclude(cx, &outputs, dir, key)?;
        self.values.borrow_mut().insert((number, labels.clone()), Rc::new(outputs));
        Ok(record)
    }

    fn context<'a>(
        &'a self,
        step: &'a Step,
        labels: &'a Labels,
        choices: &'a Choices,
        (dir, done): (&'a Path, &'a Path),
    ) -> StepCx<'a> {
        let name = format!("{}{}", step.name, suffix(labels));
        let progress = self.options.console.step(&name);
        let scratch = self.dir.path().join("scratch");
        let services = Services::new(&name, step.seed, self.options.cancelled.clone(), progress, scratch);
        StepCx { executor: self, step, labels, choices, dir, done, services }
    }

    /// The hash of everything that decides a member's output, threads not among it.
    pub(super) fn key(&self, step: &Step, choices: &Choices) -> Result<String> {
        let calls = step.action.calls();
        let plugins: Vec<&str> = calls.iter().map(|call| call.plugin.sha256.as_str()).collect();
        let files: Result<Vec<String>> = step.action.files().iter().map(|path| hash_path(path)).collect();
        // What is evaluated or reported is described by its step's key too, not by its bytes alone.
        let with_keys = matches!(step.action, Action::Evaluate(_) | Action::Report(_));
        let mut inputs = Map::new();
        for (key, chosen) in choices {
            let one = |c: &Chosen| {
                let instance = self.instance(c)?;
                let upstream =
                    with_keys.then(|| (&instance.record.key, &self.plan.steps[c.input.step].name, &c.labels));
                Ok(json!([instance.record.ports.get(&c.input.port), c.group, upstream]))
            };
            inputs.insert((*key).into(), chosen.iter().map(one).collect::<Result<Json>>()?);
        }
        // A report speaks of all that led to it.
        let told = matches!(step.action, Action::Report(_)).then(|| {
            let one = |(step, i): (&Step, Rc<Instance>)| json!([step.name, i.labels, i.record.key]);
            json!([self.plan.name, self.plan.seed, self.behind(step).into_iter().map(one).collect::<Json>()])
        });
        let all = json!({
            "lacuna": VERSION, "use": step.action.used(), "spec": step.action.spec(), "plugins": plugins,
            "files": files?, "seed": step.seed, "inputs": inputs, "told": told,
            "generic": crate::steps::generic_only(),
        });
        Ok(blake3::hash(all.to_string().as_bytes()).to_hex().to_string())
    }

    /// The finished member behind a choice.
    pub fn instance(&self, chosen: &Chosen) -> Result<Rc<Instance>> {
        let instances = self.instances.borrow();
        let members = instances.get(&chosen.input.step).into_iter().flatten();
        let found = members.into_iter().find(|i| i.labels == chosen.labels);
        found
            .cloned()
            .with_context(|| format!("step `{}` has not run", self.plan.steps[chosen.input.step].name))
    }

    /// The step behind a choice.
    pub fn step(&self, chosen: &Chosen) -> &Step {
        &self.plan.steps[chosen.input.step]
    }

    fn outputs(&self, chosen: &Chosen) -> Result<Rc<Outputs>> {
        let at = (chosen.input.step, chosen.labels.clone());
        if let Some(outputs) = self.values.borrow().get(&at) {
            return Ok(outputs.clone());
        }
        let instance = self.instance(chosen)?;
        let step = self.step(chosen);
        // Steps that are cheaper to repeat than to store write into a folder that goes away.
        let scratch = tempfile::tempdir()?;
        let repeats = matches!(step.action, Action::Read(_) | Action::Prepare(_) | Action::Split(_));
        let dir = if repeats { scratch.path() } else { &instance.dir };
        let cx = self.context(step, &instance.labels, &instance.choices, (dir, dir));
        let outputs = step.action.reload(&cx).with_context(|| format!("step `{}`", step.name))?;
        let outputs = Rc::new(outputs);
        self.values.borrow_mut().insert(at, outputs.clone());
        Ok(outputs)
    }

    /// How many bytes cells and results may take.
    pub fn memory(&self) -> u64 {
        self.options.memory
    }

    /// The cells behind a choice, in memory.
    ///
    /// # Errors
    /// See [`hold`](Self::hold).
    pub fn cells(&self, chosen: &Chosen) -> Result<Arc<Cells>> {
        self.hold(&self.cell_set(chosen)?, chosen.input.key)
    }

    /// The cells of a set that came under a key, in memory.
    ///
    /// # Errors
    /// When they would take more than half of what the run may take.
    pub fn hold(&self, cells: &CellSet, key: &str) -> Result<Arc<Cells>> {
        if let CellSet::Stored(_) = cells {
            let (bytes, memory, shown) = (cells.bytes()?, self.memory(), crate::memory::shown);
            ensure!(
                bytes <= memory / 2,
                "the {} cells × {} genes under `{key}` have to be in memory as a whole here and take {}, more than half \
                 of `memory`, {}: take fewer cells (`cells = {{ at_most = … }}` in `prepare`, or other shares in \
                 `split`), fewer genes, or a larger `memory`",
                cells.len(),
                cells.n_genes(),
                shown(bytes),
                shown(memory)
            );
        }
        cells.load()
    }

    /// The cells behind a choice, in memory or in their file.
    pub fn cell_set(&self, chosen: &Chosen) -> Result<CellSet> {
        let outputs = self.outputs(chosen)?;
        let cells = outputs.cells.get(&chosen.input.port).context("no cells on that port")?;
        let Some((column, value)) = &chosen.group else { return Ok(cells.clone()) };
        let texts = super::obs_column(cells.obs(), column)?.texts();
        let rows: Vec<usize> = (0..cells.len()).filter(|&i| texts[i].as_deref() == Some(value)).collect();
        Ok(cells.select_cells(&rows))
    }

    /// The model behind a choice.
    pub fn model(&self, chosen: &Chosen) -> Result<Arc<FittedModel>> {
        self.outputs(chosen)?.model.clone().context("no model on that port")
    }

    /// Each member of each step that led to a step: name, what it ran, what it says, its warnings.
    pub fn steps_behind(&self, step: &Step) -> Vec<(String, String, String, Vec<String>)> {
        let about = |step: &Step, i: &Instance| {
            let headline = i.record.summary["headline"].as_str().unwrap_or_default();
            let name = format!("{}{}", step.name, suffix(&i.labels));
            (name, step.action.used(), headline.to_string(), i.record.warnings.clone())
        };
        self.behind(step).iter().map(|(step, instance)| about(step, instance)).collect()
    }

    /// The fitted models that led to a step: name, folder, and what the step says.
    pub fn models_behind(&self, step: &Step) -> Vec<(String, PathBuf, Json)> {
        let behind = self.behind(step);
        let models =
            behind.iter().filter(|(step, _)| matches!(step.action, Action::Fit(_) | Action::Best(_)));
        let about = |(step, i): &(&Step, Rc<Instance>)| {
            (format!("{}{}", step.name, suffix(&i.labels)), i.dir.clone(), i.record.summary.clone())
        };
        models.map(about).collect()
    }

    /// The finished members of the steps that a step reads from, and of those that they read from, in order.
    fn behind(&self, step: &Step) -> Vec<(&Step, Rc<Instance>)> {
        let mut behind: Vec<usize> = step.action.inputs().iter().map(|input| input.step).collect();
        let mut looked_at = 0;
        while let Some(&number) = behind.get(looked_at) {
            looked_at += 1;
            let further: Vec<usize> = self.plan.upstream(number).filter(|u| !behind.contains(u)).collect();
            behind.extend(further);
        }
        let of_one =
            |(other, _): &(&Step, _)| behind.iter().any(|&n| std::ptr::eq(*other, &self.plan.steps[n]));
        self.finished().into_iter().filter(of_one).collect()
    }

    fn finished(&self) -> Vec<(&Step, Rc<Instance>)> {
        let instances = self.instances.borrow();
        let order = self.plan.order().unwrap_or_default();
        let members = order.iter().flat_map(|number| {
            let members = instances.get(number).into_iter().flatten();
            members.map(|instance| (&self.plan.steps[*number], instance.clone()))
        });
        members.collect()
    }

    /// The plugins whose components the plan uses: name, version, hash.
    pub fn plugins(&self) -> Vec<(String, String, String)> {
        let told = |p: &Plugin| (p.manifest.name.clone(), p.manifest.version.clone(), p.sha256.clone());
        self.plan.plugins().into_iter().map(told).collect()
    }

    /// Reports lie beside run.json too, where people look.
    pub(super) fn publish_reports(&self) -> Result<()> {
        for (step, instance) in self.finished() {
            if matches!(step.action, Action::Report(_)) {
                let page = std::fs::read(instance.dir.join(crate::steps::REPORT_FILE))?;
                self.dir.write(&format!("{}.html", step.name), &page)?;
            }
        }
        Ok(())
    }

    /// What an earlier run said of the folder does not hold from now on.
    fn unpublish(&self) -> Result<()> {
        let reports = self.plan.steps.iter().filter(|step| matches!(step.action, Action::Report(_)));
        let names = reports.map(|step| format!("{}.html", step.name)).chain(["run.json".to_string()]);
        names.into_iter().try_for_each(|name| self.dir.remove(&name))
    }

    pub(super) fn write_run_json(&self, steps: &[StepSummary]) -> Result<()> {
        let plan = self.plan;
        let plugin = |(name, version, sha256): (String, String, String)| json!({ "name": name, "version": version, "sha256": sha256 });
        let timings: Vec<Json> = steps
            .iter()
            .map(|s| json!({ "step": s.step, "labels": s.labels, "seconds": s.seconds, "reused": s.reused }))
            .collect();
        let run = json!({
            "format": 1,
            "lacuna": VERSION,
            "border": [lacuna_abi::ABI_MAJOR, lacuna_abi::ABI_MINOR, lacuna_abi::ABI_PATCH],
            "platform": super::platform(),
            "name": plan.name,
            "seed": plan.seed,
            "plugins": self.plugins().into_iter().map(plugin).collect::<Json>(),
            "pipeline": plan.steps.iter().map(|s| (s.name.clone(), plan.resolved(s))).collect::<Map<_, _>>(),
            "steps": self.records(),
            "timings": { "threads": rayon::current_num_threads(), "steps": timings },
            "memory": { "setting_bytes": self.options.memory, "peak_bytes": crate::memory::peak() },
        });
        self.dir.write("run.json", &json_bytes(&run)?)
    }

    fn records(&self) -> Json {
        let record = |(step, i): (&Step, Rc<Instance>)| json!({ "step": step.name, "labels": i.labels, "record": i.record });
        self.finished().into_iter().map(record).collect()
    }
}

/// Puts what a step wrote in its place, with a record.
pub(super) fn conclude(cx: StepCx<'_>, outputs: &Outputs, dir: &StepDir, key: String) -> Result<Record> {
    let step = cx.step;
    // Cells have a digest of their own; that of the other ports is made from the files.
    let digest_of = |port: &str| outputs.cells.get(port).map_or(Ok(String::new()), digest);
    let ports = step.ports.iter().map(|(port, _)| Ok((port.to_string(), digest_of(port)?)));
    let ports = ports.collect::<Result<_>>()?;
    let (files, warnings) = (vec![], cx.services.warnings());
    let record = Record { key, ports, files, warnings, summary: outputs.summary.clone() };
    drop(cx);
    // The same weights in another build of their plugin are another model.
    let code: String = step.action.calls().iter().map(|call| call.plugin.sha256.as_str()).collect();
    dir.finish(record, &code)
}

impl StepSummary {
    /// One line for the console.
    fn line(&self) -> String {
        let mark = if self.reused { "=" } else { "✓" };
        let name = format!("{}{}", self.step, suffix(&self.labels));
        let headline = self.summary["headline"].as_str().unwrap_or_default();
        let time = if self.reused { "unchanged".into() } else { format!("{:.1} s", self.seconds) };
        format!("{mark} {name:<18} {headline}  ({time})")
    }
}

/// A hash of all that is in cells: values, names, annotations, ids, library sizes, measured perturbations.
fn digest(cells: &CellSet) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &mut dyn Iterator<Item = u8>| {
        let bytes: Vec<u8> = bytes.collect();
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    };
    part(&mut cells.survey()?.digest.into_bytes().into_iter());
    part(&mut cells.ids().iter().flat_map(|v| v.to_le_bytes()));
    part(&mut cells.library().iter().flat_map(|v| v.to_le_bytes()));
    if let Some(measured) = cells.measured() {
        part(&mut format!("{:?}", measured.kinds).into_bytes().into_iter());
        part(&mut measured.of.iter().flat_map(|kind| kind.to_le_bytes()));
    }
    for frame in [cells.obs(), cells.var()] {
        part(&mut frame.names.join("\n").into_bytes().into_iter());
        for column in &frame.columns {
            let texts: Vec<String> =
                column.texts().into_iter().map(|t| t.map_or("n".into(), |t| format!("v{t}"))).collect();
            let text = format!(
                "{}\n{:?}\n{}\n{}",
                column.name,
                column.values.data_type(),
                column.ordered,
                texts.join("\n")
            );
            part(&mut text.into_bytes().into_iter());
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// A file's hash, or those of a folder's files.
fn hash_path(path: &Path) -> Result<String> {
    let hashes: Vec<String> = hashed_files(path)?.into_iter().map(|(_, hash)| hash).collect();
    Ok(hashes.join(" "))
}
