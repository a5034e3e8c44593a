//! A resolved pipeline: what runs, in which order.

use super::diagnostics::{Place, Sources};
use super::keys::PortType;
use crate::plugin::{Plugin, Registry};
use crate::steps::Action;
use serde_json::{Map, Value as Json, json};
use std::path::PathBuf;

/// A pipeline that passed all checks.
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// How much memory a run may take, in bytes, if it says so. Results do not depend on it.
    pub memory: Option<u64>,
    /// The folder of its TOML.
    pub base: PathBuf,
    /// Its texts, for messages at run time.
    pub sources: Sources,
    /// The plugins.
    pub registry: Registry,
    /// Its steps, in the order of the file.
    pub steps: Vec<Step>,
}

/// One step.
pub struct Step {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub at: Place,
    /// Its seed.
    pub seed: u64,
    /// The obs column whose groups it runs for, one by one.
    pub by: Option<String>,
    /// What it gives, main port first.
    pub ports: Vec<(&'static str, PortType)>,
    /// What it does.
    pub action: Action,
}

impl Plan {
    /// A plan of these steps.
    pub fn new(
        name: String,
        seed: u64,
        base: PathBuf,
        sources: Sources,
        registry: Registry,
        steps: Vec<Step>,
    ) -> Self {
        Self { name, seed, memory: None, base, sources, registry, steps }
    }

    /// The steps that a step reads from.
    pub fn upstream(&self, step: usize) -> impl Iterator<Item = usize> {
        self.steps[step].action.inputs().into_iter().map(|input| input.step)
    }

    /// A step as it was resolved: defaults filled in.
    pub fn resolved(&self, step: &Step) -> Json {
        let mut inputs: Map<String, Json> = Map::new();
        for input in step.action.inputs() {
            let text = format!("{}.{}", self.steps[input.step].name, input.port);
            let entry = inputs.entry(input.key).or_insert_with(|| json!([]));
            if let Some(list) = entry.as_array_mut() {
                list.push(text.into());
            }
        }
        json!({
            "use": step.action.used(), "seed": step.seed, "by": step.by, "inputs": inputs,
            "keys": step.action.spec(),
        })
    }

    /// The plugins whose components it uses, by name, each once.
    pub fn plugins(&self) -> Vec<&Plugin> {
        let calls = self.steps.iter().flat_map(|step| step.action.calls());
        let mut used: Vec<&Plugin> = calls.map(|call| call.plugin.as_ref()).collect();
        let identity = |p: &Plugin| (p.manifest.name.clone(), p.manifest.version.clone(), p.sha256.clone());
        used.sort_by_key(|p| identity(p));
        used.dedup_by_key(|p| identity(p));
        used
    }

    /// An order in which each step comes after those it reads from, else as in the file. The error is all cycles.
    pub fn order(&self) -> Result<Vec<usize>, Vec<Vec<usize>>> {
        let (mut done, mut cycles): (Vec<usize>, Vec<Vec<usize>>) = (vec![], vec![]);
        while done.len() < self.steps.len() {
            let ready = |&i: &usize| !done.contains(&i) && self.upstream(i).all(|u| done.contains(&u));
            match (0..self.steps.len()).find(ready) {
                Some(step) => done.push(step),
                None => {
                    let cycle = self.cycle(&done);
                    done.extend(&cycle);
                    cycles.push(cycle);
                }
            }
        }
        if cycles.is_empty() { Ok(done) } else { Err(cycles) }
    }

    /// Follows references back among the steps that are not done until one comes again.
    fn cycle(&self, done: &[usize]) -> Vec<usize> {
        let Some(start) = (0..self.steps.len()).find(|i| !done.contains(i)) else { return vec![] };
        let mut path = vec![start];
        loop {
            let last = path[path.len() - 1];
            let Some(next) = self.upstream(last).find(|u| !done.contains(u)) else { return path };
            if let Some(first) = path.iter().position(|&s| s == next) {
                path.drain(..first);
                path.reverse();
                return path;
            }
            path.push(next);
        }
    }
}
