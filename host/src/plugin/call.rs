//! Calls into plugins: the host's data as records of the border, errors with the plugin's name.

use super::cross::{cells_view, copy_cells, knockouts_ref};
use super::load::{Home, Plugin};
use super::manifest::{Answers, Component, ModelInfo, Scale};
use super::remote;
use super::services::Services;
use super::worker::Worker;
use crate::data::{Cells, Knockouts};
use anyhow::{Context, Result, bail, ensure};
use arrow_array::RecordBatch;
use lacuna_abi::{
    self as abi, Answer, ArrowPair, CellsView, ErrorKind, Factory, HostRef, KnockoutsRef, MatMut, MatRef,
    PResult, PluginError, PluginModuleRef, RNone, ROption, RResult, RSlice, RSliceMut, RSome, RStr, RVec,
    TD_Opaque,
};
use std::collections::HashSet;
use std::sync::Arc;

/// An error that a plugin reported.
#[derive(Debug, Clone)]
pub struct PluginFailure {
    /// `plugin/component`.
    pub component: String,
    /// What kind of error.
    pub kind: ErrorKind,
    /// The plugin's words.
    pub message: String,
    /// The place of a panic, if it was one.
    pub detail: String,
}

impl std::error::Error for PluginFailure {}

impl std::fmt::Display for PluginFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { component, message, detail, kind } = self;
        match *kind {
            ErrorKind::CANCELLED => write!(f, "cancelled"),
            ErrorKind::PANIC if detail.is_empty() => write!(f, "plugin {component} panicked: {message}"),
            ErrorKind::PANIC => write!(f, "plugin {component} panicked at {detail}: {message}"),
            _ => write!(f, "{component}: {message}"),
        }
    }
}

fn answered<T>(component: &str, host: &Services, result: PResult<T>) -> Result<T> {
    let PluginError { kind, message, detail } = match result {
        RResult::ROk(value) => return Ok(value),
        RResult::RErr(error) => error,
    };
    let (kind, message) = match kind {
        ErrorKind::CANCELLED if !host.cancelled() => {
            (ErrorKind::FAILED, "it stopped as if cancelled, which nobody asked for".to_string())
        }
        kind => (kind, super::one_line(message.as_str())),
    };
    let detail = super::one_line(detail.as_str());
    Err(PluginFailure { component: component.to_string(), kind, message, detail }.into())
}

/// The border from which on plugins tell of devices.
const SINCE_DEVICES: [u16; 3] = [1, 2, 0];

impl Plugin {
    /// The full name of one of its components.
    pub fn full_name(&self, id: &str) -> String {
        format!("{}/{id}", self.manifest.name)
    }

    /// Makes a component, here or in a worker.
    fn made<T>(
        &self,
        component: &Component,
        params: &str,
        host: &Services,
        here: impl Fn(PluginModuleRef) -> Factory<T>,
        apart: impl Fn(&Arc<Worker>, RStr<'_>, RStr<'_>, &HostRef) -> PResult<T>,
    ) -> Result<(T, String)> {
        let (name, host_ref) = (self.full_name(&component.id), host.host_ref());
        let (id, params) = (component.id.as_str().into(), params.into());
        let made = match &self.home {
            Home::Here(module) => here(*module)(id, params, host_ref),
            Home::Apart(home) => match home.worker() {
                Ok(worker) => apart(&worker, id, params, &host_ref),
                Err(error) => RResult::RErr(error),
            },
        };
        Ok((answered(&name, host, made)?, name))
    }

    /// Makes a simulator.
    pub fn simulator(&self, component: &Component, params: &str, host: &Services) -> Result<Simulator> {
        let (inner, name) = self.made(component, params, host, |m| m.simulator(), remote::simulator)?;
        Ok(Simulator { inner, name, info: component.model_info() })
    }

    /// Makes a model.
    pub fn model(&self, component: &Component, params: &str, host: &Services) -> Result<Model> {
        let (inner, name) = self.made(component, params, host, |m| m.model(), remote::model)?;
        Ok(Model { inner, name, info: component.model_info() })
    }

    /// Where a model with its default parameters can compute on this machine, and why not elsewhere.
    pub fn devices(&self, component: &Component) -> Result<Vec<String>> {
        if self.manifest.abi < SINCE_DEVICES {
            return Ok(vec![]);
        }
        let host = Services::silent(0, Arc::default());
        self.model(component, "{}", &host)?.devices(&host)
    }

    /// Makes a strategy.
    pub fn strategy(&self, component: &Component, params: &str, host: &Services) -> Result<Strategy> {
        let (inner, name) = self.made(component, params, host, |m| m.strategy(), remote::strategy)?;
        Ok(Strategy { inner, name })
    }

    /// Makes a metric.
    pub fn metric(&self, component: &Component, params: &str, host: &Services) -> Result<Metric> {
        let (inner, name) = self.made(component, params, host, |m| m.metric(), remote::metric)?;
        let info = component.metric_info();
        let range = (info.low.unwrap_or(f64::NEG_INFINITY), info.high.unwrap_or(f64::INFINITY));
        Ok(Metric { inner, name, range })
    }
}

/// A simulator, ready to run.
pub struct Simulator {
    inner: abi::SimulatorBox,
    name: String,
    info: ModelInfo,
}

/// What a simulator made.
pub struct Simulation {
    /// The cells.
    pub cells: Cells,
    /// The network, if there is one.
    pub network: Option<RecordBatch>,
    /// The truth.
    pub truth: Fitted,
}

impl Simulator {
    /// Makes cells.
    pub fn simulate(&self, host: &Services) -> Result<Simulation> {
        let made = answered(&self.name, host, self.inner.simulate(host.host_ref()))?;
        let cells =
            copy_cells(&made.cells()).with_context(|| format!("{}: it made no valid cells", self.name))?;
        let network = answered(&self.name, host, made.network())?.into_option().map(ArrowPair::into_table);
        let network = network.transpose().map_err(|e| anyhow::anyhow!("{}: its network: {e}", self.name))?;
        let truth = self.fitted(answered(&self.name, host, made.truth())?);
        Ok(Simulation { cells, network, truth })
    }

    /// Loads a truth.
    pub fn load_truth(&self, host: &Services, bytes: &[u8]) -> Result<Fitted> {
        let truth = self.inner.load_truth(host.host_ref(), RSlice::from_slice(bytes));
        Ok(self.fitted(answered(&self.name, host, truth)?))
    }

    fn fitted(&self, inner: abi::FittedBox) -> Fitted {
        Fitted::new(inner, &self.name, &self.info)
    }
}

/// A model, ready to be fitted.
pub struct Model {
    inner: abi::ModelBox,
    name: String,
    info: ModelInfo,
}

/// Cells as a model learns from them.
pub struct Lesson {
    /// The cells.
    pub cells: Arc<Cells>,
    /// The measured perturbation of each, row `i` that of cell `i`, for a model that learns from them.
    pub perturbations: Option<Knockouts>,
}

impl Lesson {
    /// The cells alone.
    pub fn of(cells: Arc<Cells>) -> Self {
        Self { cells, perturbations: None }
    }
}

/// What a model learns from.
pub struct Training<'a> {
    /// The training cells.
    pub train: &'a Lesson,
    /// Held-out cells.
    pub validation: Option<&'a Lesson>,
}

impl abi::TrainingApi for Training<'_> {
    fn cells(&self) -> CellsView<'_> {
        cells_view(&self.train.cells)
    }
    fn validation(&self) -> ROption<CellsView<'_>> {
        self.validation.map(|lesson| cells_view(&lesson.cells)).into()
    }
    fn perturbations(&self) -> ROption<KnockoutsRef<'_>> {
        self.train.perturbations.as_ref().map(knockouts_ref).into()
    }
    fn validation_perturbations(&self) -> ROption<KnockoutsRef<'_>> {
        self.validation.and_then(|lesson| lesson.perturbations.as_ref()).map(knockouts_ref).into()
    }
    fn network(&self) -> ROption<ArrowPair> {
        RNone
    }
}

impl Model {
    /// Fits the model.
    pub fn fit(&self, host: &Services, training: &Training<'_>) -> Result<Fitted> {
        let record = abi::TrainingApi_TO::from_ptr(training, TD_Opaque);
        let inner = answered(&self.name, host, self.inner.fit(host.host_ref(), record))?;
        Ok(Fitted::new(inner, &self.name, &self.info))
    }

    /// Fits the model, going on from a fitted one, from the bytes it was saved as.
    pub fn refine(&self, host: &Services, training: &Training<'_>, from: &[u8]) -> Result<Fitted> {
        ensure!(self.info.refines, "{}: {}", self.name, abi::DOES_NOT_REFINE);
        let record = abi::TrainingApi_TO::from_ptr(training, TD_Opaque);
        let refined = self.inner.refine(host.host_ref(), record, RSlice::from_slice(from));
        Ok(Fitted::new(answered(&self.name, host, refined)?, &self.name, &self.info))
    }

    /// Where it can compute on this machine, and why not elsewhere.
    pub fn devices(&self, host: &Services) -> Result<Vec<String>> {
        let lines = answered(&self.name, host, self.inner.devices(host.host_ref()))?;
        Ok(lines.into_iter().map(|line| line.into_string()).collect())
    }

    /// Loads a fitted model.
    pub fn load(&self, host: &Services, bytes: &[u8]) -> Result<Fitted> {
        let inner = answered(&self.name, host, self.inner.load(host.host_ref(), RSlice::from_slice(bytes)))?;
        Ok(Fitted::new(inner, &self.name, &self.info))
    }
}

/// A fitted model, or a truth.
pub struct Fitted {
    inner: abi::FittedBox,
    name: String,
    info: ModelInfo,
}

struct Query<'a> {
    cells: &'a Cells,
    knockouts: &'a Knockouts,
}

impl abi::QueryApi for Query<'_> {
    fn cells(&self) -> CellsView<'_> {
        cells_view(self.cells)
    }
    fn knockouts(&self) -> KnockoutsRef<'_> {
        knockouts_ref(self.knockouts)
    }
    fn samples(&self) -> usize {
        1
    }
}

struct ScreenQuery<'a> {
    query: Query<'a>,
    formula: &'a str,
    against: &'a str,
    anchor: Option<f64>,
}

impl abi::ScreenApi for ScreenQuery<'_> {
    fn cells(&self) -> CellsView<'_> {
        cells_view(self.query.cells)
    }
    fn knockouts(&self) -> KnockoutsRef<'_> {
        knockouts_ref(self.query.knockouts)
    }
    fn formula(&self) -> RStr<'_> {
        self.formula.into()
    }
    fn against(&self) -> RStr<'_> {
        self.against.into()
    }
    fn anchor(&self) -> ROption<f64> {
        self.anchor.into()
    }
}

impl Fitted {
    fn new(inner: abi::FittedBox, name: &str, info: &ModelInfo) -> Self {
        #[cfg(lacuna_abi_appended)]
        tracing::info!("the model's appended method answers {}", inner.appended());
        Self { inner, name: name.into(), info: info.clone() }
    }

    /// What the model declares.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// `plugin/component`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The answer for each knockout; shape knockouts × genes, row after row, written to `out`: closed profiles of
    /// cells or of the population, or gene scores.
    ///
    /// # Errors
    /// What the plugin reports; a value that is not finite, or negative in a profile, naming cell, knockout and gene.
    pub fn predict(
        &self,
        host: &Services,
        cells: &Cells,
        knockouts: &Knockouts,
        out: &mut [f32],
    ) -> Result<()> {
        self.ask(host, cells, knockouts, out, None)?;
        for (i, row) in out.chunks_exact_mut(cells.n_genes().max(1)).enumerate() {
            self.finish_row(row, &cells.var.names).with_context(|| self.whose(i, cells, knockouts))?;
        }
        Ok(())
    }

    /// As [`predict`](Self::predict), and the standard deviation of each value as a part of that value, NaN where
    /// the model gives none: for profiles of the population.
    pub fn predict_with_spread(
        &self,
        host: &Services,
        cells: &Cells,
        knockouts: &Knockouts,
        (out, spread): (&mut [f32], &mut [f32]),
    ) -> Result<()> {
        self.ask(host, cells, knockouts, out, Some(spread))?;
        let genes = cells.n_genes().max(1);
        for (i, (row, spread)) in out.chunks_exact_mut(genes).zip(spread.chunks_exact_mut(genes)).enumerate()
        {
            let relative = |(deviation, &value): (&mut f32, &f32)| {
                // d ln(exp(v) − 1) / dv on the log1p scale; 1 / v on the others.
                *deviation *= if self.info.scale == Scale::Log1pCp10k {
                    value.exp() / value.exp_m1()
                } else {
                    1.0 / value
                };
            };
            spread.iter_mut().zip(row.iter()).for_each(relative);
            self.finish_row(row, &cells.var.names).with_context(|| self.whose(i, cells, knockouts))?;
        }
        Ok(())
    }

    /// The answers of a model whose scale is log1p(10⁴ p), as they are.
    pub fn logs(&self, host: &Services, cells: &Cells, knockouts: &Knockouts, out: &mut [f32]) -> Result<()> {
        self.ask(host, cells, knockouts, out, None)?;
        let genes = cells.n_genes().max(1);
        match out.iter().position(|x| !x.is_finite() || *x < 0.0) {
            None => Ok(()),
            Some(at) => Err(anyhow::anyhow!(
                "expected a number of 0 or more, found {} for gene {}",
                out[at],
                cells.var.names[at % genes]
            )
            .context(self.whose(at / genes, cells, knockouts))),
        }
    }

    fn ask(
        &self,
        host: &Services,
        cells: &Cells,
        knockouts: &Knockouts,
        out: &mut [f32],
        spread: Option<&mut [f32]>,
    ) -> Result<()> {
        let query = Query { cells, knockouts };
        let (rows, genes) = (knockouts.len(), cells.n_genes());
        // A row that the plugin forgets to write shows as not a number, not as an earlier answer.
        let blank = |values: &mut [f32]| values.fill(f32::NAN);
        blank(out);
        let spread = spread.map(|values| {
            blank(values);
            MatMut::from_rows(values, rows, genes)
        });
        let answer = Answer { values: MatMut::from_rows(out, rows, genes), spread: spread.into() };
        let record = abi::QueryApi_TO::from_ptr(&query, TD_Opaque);
        answered(&self.name, host, self.inner.predict(host.host_ref(), record, answer))
    }

    /// Whose answer row `i` is, for errors.
    fn whose(&self, i: usize, cells: &Cells, knockouts: &Knockouts) -> String {
        let whom = match knockouts.cell.get(i) {
            Some(&cell) => format!("cell {}", cells.obs.names[cell as usize]),
            None => "the population".into(),
        };
        let label = knockouts.label(i, &cells.var.names);
        let what = if label.is_empty() { "as it is".into() } else { format!("without {label}") };
        format!("{}: the answer for {whom} {what}", self.name)
    }

    /// Checks a row and closes it where the model's scale says so.
    fn finish_row(&self, row: &mut [f32], genes: &[String]) -> Result<()> {
        if self.info.answers == Answers::GeneScores {
            let bad = row.iter().position(|v| !v.is_finite());
            return bad.map_or(Ok(()), |j| bail!("expected a score, found {} for gene {}", row[j], genes[j]));
        }
        if self.info.scale == Scale::Log1pCp10k {
            row.iter_mut().for_each(|v| *v = v.exp_m1());
        }
        // One pass without branches in the common case: a bad value shows in the sum or in the minimum.
        let (sum, low) = row.iter().fold((0f64, 0f32), |(sum, low), &v| (sum + f64::from(v), low.min(v)));
        if !sum.is_finite() || low < 0.0 {
            let bad = row.iter().position(|v| !v.is_finite() || *v < 0.0).unwrap_or(0);
            bail!("expected values of 0 or more, found {} for gene {}", row[bad], genes[bad]);
        }
        if self.info.scale != Scale::Closed && sum > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / sum) as f32);
        }
        Ok(())
    }

    /// The impact of each knockout without writing profiles; `false` when the model does not offer that.
    pub fn screen(
        &self,
        host: &Services,
        cells: &Cells,
        knockouts: &Knockouts,
        (formula, against, anchor): (&str, &str, Option<f64>),
        impacts: &mut [f32],
    ) -> Result<bool> {
        let query = ScreenQuery { query: Query { cells, knockouts }, formula, against, anchor };
        let record = abi::ScreenApi_TO::from_ptr(&query, TD_Opaque);
        let offered = self.inner.screen(host.host_ref(), record, RSliceMut::from_mut_slice(impacts));
        answered(&self.name, host, offered)
    }

    /// The model as bytes.
    pub fn save(&self, host: &Services) -> Result<RVec<u8>> {
        answered(&self.name, host, self.inner.save(host.host_ref()))
    }

    /// What the model tells about itself.
    pub fn tables(&self, host: &Services) -> Result<Vec<(String, RecordBatch)>> {
        let tables = answered(&self.name, host, self.inner.tables(host.host_ref()))?;
        let mut names = HashSet::new();
        let read = |t: abi::NamedTable| {
            let name = String::from(t.name);
            ensure!(super::manifest::is_name(&name), "{}: `{name}` is no name for a table", self.name);
            ensure!(names.insert(name.clone()), "{}: it has two tables named `{name}`", self.name);
            let table =
                t.table.into_table().map_err(|e| anyhow::anyhow!("{}: table {name}: {e}", self.name))?;
            Ok((name, table))
        };
        tables.into_iter().map(read).collect()
    }
}

/// A strategy, ready to propose.
pub struct Strategy {
    inner: abi::StrategyBox,
    name: String,
}

struct Proposal<'a> {
    cells: &'a Cells,
    round: u64,
    earlier: &'a Knockouts,
    impacts: &'a [f32],
}

impl abi::ProposalApi for Proposal<'_> {
    fn cells(&self) -> CellsView<'_> {
        cells_view(self.cells)
    }
    fn round(&self) -> u64 {
        self.round
    }
    fn earlier(&self) -> KnockoutsRef<'_> {
        knockouts_ref(self.earlier)
    }
    fn impacts(&self) -> RSlice<'_, f32> {
        RSlice::from_slice(self.impacts)
    }
}

impl Strategy {
    /// The next round, checked: cells and genes that exist, and that each cell expresses.
    pub fn propose(
        &self,
        host: &Services,
        cells: &Cells,
        round: u64,
        earlier: &Knockouts,
        impacts: &[f32],
    ) -> Result<Knockouts> {
        let proposal = Proposal { cells, round, earlier, impacts };
        let record = abi::ProposalApi_TO::from_ptr(&proposal, TD_Opaque);
        let found = answered(&self.name, host, self.inner.propose(host.host_ref(), record))?;
        let knockouts = Knockouts {
            cell: found.cell.to_vec(),
            offsets: found.offsets.to_vec(),
            genes: found.genes.to_vec(),
            levels: found.levels.to_vec(),
        };
        check_knockouts(cells, &knockouts)
            .with_context(|| format!("{} proposed no valid knockouts", self.name))?;
        Ok(knockouts)
    }
}

fn check_knockouts(cells: &Cells, k: &Knockouts) -> Result<()> {
    ensure!(
        k.offsets.len() == k.cell.len() + 1
            && k.offsets.first() == Some(&0)
            && k.offsets.is_sorted()
            && k.offsets.last() == Some(&(k.genes.len() as u64))
            && k.levels.len() == k.genes.len(),
        "its lists do not fit together"
    );
    for i in 0..k.len() {
        let (cell, genes) = (k.cell[i] as usize, k.genes(i));
        ensure!(cell < cells.len(), "there is no cell number {} among the {} cells", cell + 1, cells.len());
        let name = &cells.obs.names[cell];
        ensure!(!genes.is_empty(), "a knockout in cell {name} has no gene");
        ensure!(
            genes.windows(2).all(|w| w[0] < w[1]),
            "the genes of a knockout in cell {name} are repeated or not in var order"
        );
        if let Some(level) = k.levels(i).iter().find(|l| !(l.is_finite() && **l >= 0.0)) {
            bail!("expected levels of 0 or more, found {level} in cell {name}");
        }
        let expressed = cells.x.row(cell).0;
        for (gene, level) in genes.iter().zip(k.levels(i)) {
            let known = cells.var.names.get(*gene as usize);
            let genes = cells.n_genes();
            let gene_name =
                known.with_context(|| format!("there is no gene number {} of {genes}", gene + 1))?;
            ensure!(
                *level > 0.0 || expressed.binary_search(gene).is_ok(),
                "cell {name} does not express {gene_name}"
            );
        }
    }
    Ok(())
}

/// A metric, ready to compare.
pub struct Metric {
    inner: abi::MetricBox,
    name: String,
    /// The declared range.
    range: (f64, f64),
}

#[derive(Clone, Copy)]
struct Comparison<'a> {
    before: MatRef<'a>,
    after: MatRef<'a>,
    observed: Option<MatRef<'a>>,
    knockouts: Option<&'a Knockouts>,
    controls: Option<MatRef<'a>>,
    panel: Option<&'a Knockouts>,
}

/// Measured and predicted effects of perturbations, and what is known of the measured ones; perturbations × genes.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    /// The measured effects.
    pub measured: MatRef<'a>,
    /// The predicted ones.
    pub predicted: MatRef<'a>,
    /// The genes that each perturbation removes.
    pub targets: &'a Knockouts,
    /// z of the rank-sum test of each gene; NaN where it was not tested.
    pub z: MatRef<'a>,
    /// One row: each gene's mean over the controls of log1p(10⁴ p).
    pub controls: MatRef<'a>,
}

impl abi::ComparisonApi for Comparison<'_> {
    fn before(&self) -> ROption<MatRef<'_>> {
        RSome(self.before)
    }
    fn after(&self) -> ROption<MatRef<'_>> {
        RSome(self.after)
    }
    fn observed(&self) -> ROption<MatRef<'_>> {
        self.observed.into()
    }
    fn knockouts(&self) -> ROption<KnockoutsRef<'_>> {
        self.knockouts.map(knockouts_ref).into()
    }
    fn controls(&self) -> ROption<MatRef<'_>> {
        self.controls.into()
    }
    fn panel(&self) -> ROption<KnockoutsRef<'_>> {
        self.panel.map(knockouts_ref).into()
    }
}

impl Metric {
    /// `plugin/component`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One score for each row of `before` and `after`; NaN where there is no value.
    pub fn score_rows(
        &self,
        host: &Services,
        (before, after): (MatRef<'_>, MatRef<'_>),
        observed: Option<MatRef<'_>>,
        knockouts: Option<&Knockouts>,
    ) -> Result<Vec<f64>> {
        let comparison = Comparison { before, after, observed, knockouts, controls: None, panel: None };
        self.score(host, comparison, after.rows())
    }

    /// One score for two populations, measured and predicted cells; NaN where there is no value.
    pub fn score_population(
        &self,
        host: &Services,
        (before, after): (MatRef<'_>, MatRef<'_>),
    ) -> Result<f64> {
        let comparison =
            Comparison { before, after, observed: None, knockouts: None, controls: None, panel: None };
        Ok(self.score(host, comparison, 1)?[0])
    }

    /// One score for each perturbation of a panel; NaN where there is no value.
    pub fn score_panel(&self, host: &Services, panel: Panel<'_>) -> Result<Vec<f64>> {
        let comparison = Comparison {
            before: panel.measured,
            after: panel.predicted,
            observed: Some(panel.z),
            knockouts: None,
            controls: Some(panel.controls),
            panel: Some(panel.targets),
        };
        self.score(host, comparison, panel.predicted.rows())
    }

    fn score(&self, host: &Services, comparison: Comparison<'_>, count: usize) -> Result<Vec<f64>> {
        let mut scores = vec![f64::NAN; count];
        let record = abi::ComparisonApi_TO::from_ptr(&comparison, TD_Opaque);
        answered(
            &self.name,
            host,
            self.inner.score(host.host_ref(), record, RSliceMut::from_mut_slice(&mut scores)),
        )?;
        if let Some(i) = scores.iter().position(|s| s.is_infinite()) {
            bail!("{}: expected a finite score or none, found {} for row {}", self.name, scores[i], i + 1);
        }
        let (low, high) = self.range;
        let slack = 1e-6 * (1.0 + high.min(1e6).abs());
        if let Some(i) = scores.iter().position(|s| *s < low - slack || *s > high + slack) {
            let score = scores[i];
            bail!("{}: it declares scores from {low} to {high}, and scored row {} {score}", self.name, i + 1);
        }
        Ok(scores)
    }
}
