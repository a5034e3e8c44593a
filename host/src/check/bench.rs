//! What every case works with: the component, parameters, cells, services.

use super::Settings;
use crate::data::{Cells, Csr, Frame, Knockouts};
use crate::plugin::{
    Answers, Component, Fitted, Lesson, Metric, Model, Plugin, Services, Simulator, Strategy, Training,
};
use crate::run::seeded_stream;
use anyhow::{Context, Result};
use rand::RngExt;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// One component, fresh, and what it is tried out with.
pub struct Bench<'a> {
    /// The plugin, in a process of its own.
    pub plugin: Arc<Plugin>,
    /// The component.
    pub component: &'a Component,
    /// Parameters to make it with.
    pub parameters: Json,
    /// Cells to try it on.
    pub cells: &'a Cells,
    /// The seed.
    pub seed: u64,
    /// Set to ask it to stop.
    pub cancelled: Arc<AtomicBool>,
}

/// How many genes are perturbed in cells with labels.
const PERTURBED: usize = 5;

/// Counts for cells of very different sizes, genes of which each has its own frequency; one gene in every cell, one in
/// none.
pub fn test_cells(cells: usize, genes: usize, seed: u64) -> Cells {
    let mut stream = seeded_stream(seed, 1);
    let mut x = Csr::empty(genes);
    for i in 0..cells {
        let depth = stream.random_range(1.0..20.0f64);
        let mut row = vec![];
        for j in 0..genes {
            let presence = match j {
                0 => 1.0,
                1 if genes > 2 => 0.0,
                _ => 0.2 + 0.7 * ((i * 7 + j * 13) % 10) as f64 / 10.0,
            };
            if stream.random_bool(presence) {
                row.push((j as u32, (1.0 + stream.random_range(0.0..depth)).floor() as f32));
            }
        }
        x.push_row(row.into_iter());
    }
    let names = |prefix: &str, n: usize| Frame::of_names((0..n).map(|i| format!("{prefix}{i}")).collect());
    Cells::new(x, names("cell-", cells), names("gene-", genes))
}

impl<'a> Bench<'a> {
    pub(super) fn new(plugin: Arc<Plugin>, component: &'a Component, settings: &'a Settings) -> Self {
        let parameters = settings.with.get(&component.id).cloned().unwrap_or_else(|| json!({}));
        let cancelled = Arc::new(AtomicBool::new(false));
        Self { plugin, component, parameters, cells: &settings.cells, seed: settings.seed, cancelled }
    }

    /// Services with the suite's seed.
    pub fn services(&self) -> Services {
        Services::silent(self.seed, self.cancelled.clone())
    }

    /// Why the component cannot be made as it is, if that is for want of parameters.
    pub fn needs_parameters(&self) -> Option<String> {
        let error = self.make(&self.parameters).err()?;
        let kind = super::failure_in(&error).map(|failure| failure.kind);
        let text = format!("{error:#}; give it parameters: --with '{} = {{ … }}'", self.component.id);
        (kind == Some(lacuna_abi::ErrorKind::PARAMETERS)).then_some(text)
    }

    /// Makes the component with these parameters, and drops it.
    pub fn make(&self, parameters: &Json) -> Result<()> {
        let (host, text) = (self.services(), parameters.to_string());
        crate::steps::make_and_drop(&self.plugin, self.component, &text, &host)
    }

    /// The component as a model.
    pub fn model(&self) -> Result<Model> {
        self.plugin.model(self.component, &self.parameters.to_string(), &self.services())
    }

    /// The model, fitted to the cells of which every fifth is held out.
    pub fn fitted(&self) -> Result<Fitted> {
        self.learned(|model, host, training| model.fit(host, training))
    }

    /// The same, going on from a fitted model.
    pub fn refined(&self, from: &[u8]) -> Result<Fitted> {
        self.learned(|model, host, training| model.refine(host, training, from))
    }

    fn learned(
        &self,
        learn: impl FnOnce(&Model, &Services, &Training<'_>) -> Result<Fitted>,
    ) -> Result<Fitted> {
        let of_fifth =
            |last: bool| -> Vec<usize> { (0..self.cells.len()).filter(|i| (i % 5 == 4) == last).collect() };
        let [train, held] = [false, true].map(|last| self.lesson(self.cells.select_cells(&of_fifth(last))));
        let validation = (!held.cells.is_empty()).then_some(&held);
        learn(&self.model()?, &self.services(), &Training { train: &train, validation })
    }

    /// Cells to learn from. For a model that learns from labels every second cell is a control, and in the others one
    /// of the first genes was perturbed.
    pub fn lesson(&self, cells: Cells) -> Lesson {
        let labelled = self.component.model_info().needs_labels.then(|| {
            let mut labels = Knockouts::default();
            let targets = cells.n_genes().clamp(1, PERTURBED);
            for i in 0..cells.len() {
                let target = [(i / 2 % targets) as u32];
                let (genes, levels) = if i % 2 == 0 { (&[][..], &[][..]) } else { (&target[..], &[0.0][..]) };
                labels.push(i as u64, genes, levels);
            }
            labels
        });
        Lesson { cells: Arc::new(cells), perturbations: labelled }
    }

    /// What a model is asked: knockouts in cells, or of the population.
    pub fn questions(&self) -> Knockouts {
        match self.component.model_info().answers {
            Answers::Means | Answers::GeneScores => some_knockouts(self.cells).of_population(),
            _ => some_knockouts(self.cells),
        }
    }

    /// The component as a simulator.
    pub fn simulator(&self) -> Result<Simulator> {
        self.plugin.simulator(self.component, &self.parameters.to_string(), &self.services())
    }

    /// The component as a strategy.
    pub fn strategy(&self) -> Result<Strategy> {
        self.plugin.strategy(self.component, &self.parameters.to_string(), &self.services())
    }

    /// The component as a metric.
    pub fn metric(&self) -> Result<Metric> {
        self.plugin.metric(self.component, &self.parameters.to_string(), &self.services())
    }

    /// Profiles for knockouts of the bench's cells, shape knockouts × genes.
    pub fn predict(&self, fitted: &Fitted, cells: &Cells, knockouts: &Knockouts) -> Result<Vec<f32>> {
        let mut out = vec![0.0; knockouts.len() * cells.n_genes()];
        fitted.predict(&self.services(), cells, knockouts, &mut out)?;
        Ok(out)
    }

    /// Does something with so many threads.
    pub fn on_threads<T: Send>(&self, threads: usize, body: impl FnOnce() -> T + Send) -> Result<T> {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
        Ok(pool.install(body))
    }
}

/// Each cell as it is, and without each of its first genes, alone and with the next.
pub fn some_knockouts(cells: &Cells) -> Knockouts {
    let mut all = Knockouts::default();
    for cell in 0..cells.len() {
        let (genes, _) = cells.x.row(cell);
        all.push(cell as u64, &[], &[]);
        genes.iter().take(3).for_each(|gene| all.push(cell as u64, &[*gene], &[0.0]));
        if let [a, b, ..] = genes {
            all.push(cell as u64, &[*a, *b], &[0.0, 0.0]);
        }
    }
    all
}
