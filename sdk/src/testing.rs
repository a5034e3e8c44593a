//! A host for unit tests of a plugin: no files, no threads; log messages go to standard error. And one call for
//! each kind of component, so that a test is about what is computed.
//!
//! ```
//! use lacuna_sdk::prelude::*;
//! use lacuna_sdk::testing;
//!
//! /// Knocks out the first gene of each cell.
//! struct First;
//!
//! impl Component for First {
//!     const ID: &'static str = "first";
//!     const DOC: &'static str = "Knocks out the first gene of each cell";
//!     type Config = NoConfig;
//!     fn new(_: NoConfig) -> Result<Self> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Strategy for First {
//!     const SCOPE: Scope = Scope::Cell;
//!     fn propose(&self, proposal: &Proposal<'_>, _cx: &Context) -> Result<KnockoutList> {
//!         let mut list = KnockoutList::new();
//!         for cell in 0..proposal.cells.len() {
//!             proposal.cells.assemblage(cell).iter().take(1).for_each(|&gene| list.push(cell, &[gene]));
//!         }
//!         Ok(list)
//!     }
//! }
//!
//! let cells = testing::cells(&[&[0.0, 2.0, 1.0], &[3.0, 0.0, 0.0]]);
//! let list = testing::propose(&First, &cells)?;
//! assert_eq!(list.as_knockouts().get(0).genes, [1]);
//! # Ok::<(), Error>(())
//! ```

use crate::{
    AnswerMut, Cells, Comparison, Context, Fitted, KnockoutList, Knockouts, Metric, Model, OwnedCells,
    Proposal, Query, Result, Row, Screen, Strategy, Training,
};
use lacuna_abi::{
    ErrorKind, HostApi, HostApi_TO, Job, PResult, PluginError, RArc, RResult, RStr, RString, TD_Opaque,
};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, aview1};
use rand::RngExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a context is made of, where the seed is not all that matters: threads in a benchmark, a folder for scratch files.
///
/// ```
/// use lacuna_sdk::testing::Setting;
///
/// let cx = Setting { threads: 4, ..Setting::default() }.context();
/// assert_eq!((cx.threads(), cx.parallel_map(3, |i| i * i)), (4, vec![0, 1, 4]));
/// ```
#[derive(Clone)]
pub struct Setting {
    /// The step's seed.
    pub seed: u64,
    /// What the plugin is told of the host's threads.
    pub threads: usize,
    /// Runs a function for `0..n`. By default one after the other, whatever `threads` says.
    pub parallel: fn(n: usize, body: &(dyn Fn(usize) + Sync)),
    /// The scratch folder, if there is one.
    pub scratch: Option<PathBuf>,
    /// The user asks to stop when progress has come so far; 0 is from the start.
    pub cancel_at: Option<u64>,
}

/// A host with this setting.
#[derive(Clone)]
struct TestHost {
    setting: Setting,
    /// How far progress has come.
    done: Arc<AtomicU64>,
}

impl Default for Setting {
    fn default() -> Self {
        let parallel = |n: usize, body: &(dyn Fn(usize) + Sync)| (0..n).for_each(body);
        Self { seed: 0, threads: 1, parallel, scratch: None, cancel_at: None }
    }
}

impl Setting {
    /// The context.
    pub fn context(self) -> Context {
        let host = TestHost { setting: self, done: Arc::default() };
        Context { host: HostApi_TO::from_ptr(RArc::new(host), TD_Opaque) }
    }
}

/// A context with this seed, whose loops run one after the other.
///
/// ```
/// let cx = lacuna_sdk::testing::context(7);
/// assert_eq!(cx.parallel_map(3, |i| i * i), [0, 1, 4]);
/// ```
pub fn context(seed: u64) -> Context {
    Setting { seed, ..Setting::default() }.context()
}

/// A context of a user who has asked to stop.
#[cfg(test)]
pub(crate) fn cancelled_context() -> Context {
    Setting { cancel_at: Some(0), ..Setting::default() }.context()
}

/// Cells with these values, shape (genes) each. The genes are `g0`, `g1`, …, the cells `c0`, `c1`, …
pub fn cells(rows: &[&[f32]]) -> OwnedCells {
    let genes = rows.first().map_or(0, |row| row.len());
    let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
    rows.iter().enumerate().for_each(|(i, row)| cells.push(format!("c{i}"), row));
    cells
}

/// Knockouts of these genes in the whole population, one for each entry; an entry without genes is the cells as they
/// are.
pub fn population(knockouts: &[&[u32]]) -> KnockoutList {
    let mut list = KnockoutList::new();
    knockouts.iter().for_each(|genes| list.push_population(genes));
    list
}

/// Knockouts of these genes in these cells.
pub fn knockouts(rows: &[(usize, &[u32])]) -> KnockoutList {
    let mut list = KnockoutList::new();
    rows.iter().for_each(|(cell, genes)| list.push(*cell, genes));
    list
}

/// Cells of whose genes each is expressed with its own probability, 0 for the first and 1 for the second, and
/// of which the first expresses nothing.
pub fn random_cells(n: usize, genes: usize, seed: u64) -> OwnedCells {
    let mut stream = context(seed).stream(0);
    let mut row = vec![0.0f32; genes];
    let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
    for cell in 0..n {
        for (j, value) in row.iter_mut().enumerate() {
            let presence = [0.0, 1.0].get(j).copied().unwrap_or(j as f64 / genes as f64);
            let expressed = cell > 0 && stream.random_bool(presence);
            *value = if expressed { stream.random_range(0.1..2.0) } else { 0.0 };
        }
        cells.push(format!("c{cell}"), &row);
    }
    cells
}

/// Of cells of at least 5 genes: every one as it is, every single knockout of its genes, one of a silent gene, and a triple.
pub fn many_knockouts(owned: &OwnedCells) -> KnockoutList {
    let view = owned.to_view();
    let cells = Cells::from_view(&view);
    let mut list = KnockoutList::new();
    for cell in 0..cells.len() {
        list.push(cell, &[]);
        cells.assemblage(cell).iter().for_each(|&gene| list.push(cell, &[gene]));
        list.push(cell, &[0]);
        list.push(cell, &[1, 3, 4]);
    }
    list
}

/// The answers of a fitted model, shape (genes) for each knockout; see [`predict`].
pub fn answers<F: Fitted>(fitted: &F, query: &OwnedCells, knockouts: &KnockoutList) -> Result<Vec<Vec<f32>>> {
    let values = predict(fitted, query, knockouts)?;
    Ok(values.rows().into_iter().map(|row| row.to_vec()).collect())
}

/// Two profiles, shape (genes) each, to be compared; set other fields as you need them.
pub fn row<'a>(before: &'a [f32], after: &'a [f32]) -> Row<'a> {
    Row { before, after, observed: None, knockout: None }
}

/// Two matrices, rows × genes, to be compared; set other fields as you need them.
pub fn comparison<'a>(before: ArrayView2<'a, f32>, after: ArrayView2<'a, f32>) -> Comparison<'a> {
    Comparison {
        before: Some(before),
        after: Some(after),
        observed: None,
        knockouts: None,
        controls: None,
        panel: None,
    }
}

/// The score of one row: two profiles of equal length.
pub fn score<M: Metric>(metric: &M, before: &[f32], after: &[f32]) -> Result<f64> {
    let matrix = |profile| aview1(profile).insert_axis(Axis(0));
    let mut scores = [f64::NAN];
    metric.score(&comparison(matrix(before), matrix(after)), &mut scores, &context(1))?;
    Ok(scores[0])
}

/// The score of each perturbation of a panel: measured and predicted effects, perturbations × genes, and the genes
/// that each perturbation removes.
///
/// ```
/// use lacuna_sdk::ndarray::array;
/// use lacuna_sdk::prelude::*;
/// use lacuna_sdk::testing;
///
/// /// How many of the panel's perturbations have a stronger measured effect on the first gene.
/// struct Stronger;
///
/// impl Component for Stronger {
///     const ID: &'static str = "stronger";
///     const DOC: &'static str = "How many perturbations of the panel change the first gene more";
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Metric for Stronger {
///     const INFO: MetricInfo =
///         MetricInfo { shape: Shape::Panel, needs: &[Part::Before], identity: None, ..MetricInfo::ERROR };
///     fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], _cx: &Context) -> Result<()> {
///         let before = comparison.before.ok_or_else(|| Error::data("expected measured effects"))?;
///         let change = before.column(0);
///         let stronger = |own: f32| change.iter().filter(|other| other.abs() > own.abs()).count() as f64;
///         scores.iter_mut().zip(change).for_each(|(score, own)| *score = stronger(*own));
///         Ok(())
///     }
/// }
///
/// let (measured, predicted) = (array![[1.0, 0.0], [-2.0, 0.5]], array![[0.0, 0.0], [0.0, 0.0]]);
/// let scores = testing::score_panel(&Stronger, measured.view(), predicted.view(), &[&[1], &[0]])?;
/// assert_eq!(scores, [1.0, 0.0]);
/// # Ok::<(), Error>(())
/// ```
pub fn score_panel<M: Metric>(
    metric: &M,
    measured: ArrayView2<'_, f32>,
    predicted: ArrayView2<'_, f32>,
    targets: &[&[u32]],
) -> Result<Vec<f64>> {
    let targets = population(targets);
    let panel = Comparison { panel: Some(targets.as_knockouts()), ..comparison(measured, predicted) };
    let mut scores = vec![f64::NAN; targets.len()];
    metric.score(&panel, &mut scores, &context(1))?;
    Ok(scores)
}

/// What a strategy is given in its first round; set other fields for later ones.
pub fn proposal(cells: Cells<'_>) -> Proposal<'_> {
    Proposal { cells, round: 0, earlier: Knockouts::default(), impacts: &[] }
}

/// What a strategy proposes for these cells in its first round.
pub fn propose<S: Strategy>(strategy: &S, cells: &OwnedCells) -> Result<KnockoutList> {
    let view = cells.to_view();
    strategy.propose(&proposal(Cells::from_view(&view)), &context(1))
}

/// Training cells; set other fields as you need them.
pub fn training(cells: Cells<'_>) -> Training<'_> {
    Training { cells, validation: None, perturbations: None, validation_perturbations: None, network: None }
}

/// The model after fitting to these cells, without validation cells.
pub fn fit<M: Model>(model: &M, cells: &OwnedCells) -> Result<M::Fitted> {
    let view = cells.to_view();
    model.fit(&training(Cells::from_view(&view)), &context(1))
}

/// The model after it has gone on from a fitted one with these cells, and with validation cells if there are any.
pub fn refine<M: Model>(
    model: &M,
    from: M::Fitted,
    cells: &OwnedCells,
    validation: Option<&OwnedCells>,
) -> Result<M::Fitted> {
    let (view, held) = (cells.to_view(), validation.map(OwnedCells::to_view));
    let validation = held.as_ref().map(Cells::from_view);
    model.refine(from, &Training { validation, ..training(Cells::from_view(&view)) }, &context(1))
}

/// The model after fitting to these cells and the measured perturbation of each: the genes that were removed, none
/// for a control. Without validation cells.
///
/// ```
/// use lacuna_sdk::prelude::*;
/// use lacuna_sdk::testing;
///
/// /// The share of the control cells.
/// struct Controls;
///
/// impl Component for Controls {
///     const ID: &'static str = "controls";
///     const DOC: &'static str = "Knows how many of its cells were controls";
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Model for Controls {
///     type Fitted = Share;
///     const INFO: ModelInfo =
///         ModelInfo { answers: Answers::GeneScores, needs_labels: true, ..ModelInfo::PROFILES };
///     fn fit(&self, training: &Training<'_>, _cx: &Context) -> Result<Share> {
///         let labels = training.perturbations.ok_or_else(|| Error::data("expected measured perturbations"))?;
///         let controls = labels.iter().filter(|perturbation| perturbation.genes.is_empty());
///         Ok(Share(controls.count() as f32 / labels.len() as f32))
///     }
/// }
///
/// struct Share(f32);
///
/// impl Fitted for Share {
///     fn predict(&self, _query: &Query<'_>, answer: &mut AnswerMut<'_>, _cx: &Context) -> Result<()> {
///         answer.values.fill(self.0);
///         Ok(())
///     }
///     fn save(&self) -> Result<Vec<u8>> {
///         Saved::new().tensor("share", &[1], &[self.0]).to_bytes()
///     }
///     fn load(bytes: &[u8]) -> Result<Self> {
///         Ok(Self(Saved::from_bytes(bytes)?.get_tensor("share", &[1])?[0]))
///     }
/// }
///
/// let cells = testing::cells(&[&[5.0, 1.0], &[6.0, 0.0], &[0.0, 2.0], &[4.0, 1.0]]);
/// let fitted = testing::fit_labelled(&Controls, &cells, &[&[], &[1], &[0], &[]])?;
/// let answers = testing::predict(&fitted, &cells, &testing::population(&[&[0]]))?;
/// assert_eq!(answers.row(0).to_vec(), [0.5, 0.5]);
/// # Ok::<(), Error>(())
/// ```
pub fn fit_labelled<M: Model>(model: &M, cells: &OwnedCells, perturbations: &[&[u32]]) -> Result<M::Fitted> {
    let view = cells.to_view();
    let mut labels = KnockoutList::new();
    perturbations.iter().enumerate().for_each(|(cell, genes)| labels.push(cell, genes));
    let perturbations = Some(labels.as_knockouts());
    model.fit(&Training { perturbations, ..training(Cells::from_view(&view)) }, &context(1))
}

/// Knockouts of these cells to be answered, without samples; set `samples` for more than one.
pub fn query<'a>(cells: Cells<'a>, knockouts: Knockouts<'a>) -> Query<'a> {
    Query { cells, knockouts, samples: 1 }
}

/// Where an answer goes, knockouts (× samples) × genes; set `spread` to ask for it too.
pub fn answer(values: ArrayViewMut2<'_, f32>) -> AnswerMut<'_> {
    AnswerMut { values, spread: None }
}

/// The answers of a fitted model or a truth, knockouts × genes; NaN where it wrote nothing.
pub fn predict<F: Fitted>(fitted: &F, cells: &OwnedCells, knockouts: &KnockoutList) -> Result<Array2<f32>> {
    let mut values = unwritten(cells, knockouts);
    ask(fitted, cells, knockouts, answer(values.view_mut()))?;
    Ok(values)
}

/// The same with the spread of each value.
pub fn predict_with_spread<F: Fitted>(
    fitted: &F,
    cells: &OwnedCells,
    knockouts: &KnockoutList,
) -> Result<(Array2<f32>, Array2<f32>)> {
    let (mut values, mut spread) = (unwritten(cells, knockouts), unwritten(cells, knockouts));
    let answer = AnswerMut { values: values.view_mut(), spread: Some(spread.view_mut()) };
    ask(fitted, cells, knockouts, answer)?;
    Ok((values, spread))
}

fn unwritten(cells: &OwnedCells, knockouts: &KnockoutList) -> Array2<f32> {
    Array2::from_elem((knockouts.len(), cells.to_view().csr.n_genes as usize), f32::NAN)
}

fn ask<F: Fitted>(
    fitted: &F,
    cells: &OwnedCells,
    knockouts: &KnockoutList,
    mut answer: AnswerMut<'_>,
) -> Result<()> {
    let view = cells.to_view();
    fitted.predict(&query(Cells::from_view(&view), knockouts.as_knockouts()), &mut answer, &context(1))
}

/// A screen for [`Fitted::screen`], without anchor.
pub fn screen<'a>(
    cells: Cells<'a>,
    knockouts: Knockouts<'a>,
    formula: &'a str,
    against: &'a str,
) -> Screen<'a> {
    Screen { cells, knockouts, formula, against, anchor: None }
}

impl HostApi for TestHost {
    fn log_max_level(&self) -> u8 {
        3
    }
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        eprintln!("[{level}] {target}: {message} {fields}");
    }
    fn progress(&self, done: u64, _total: u64, _label: RStr<'_>) {
        self.done.store(done, Ordering::Relaxed);
    }
    fn is_cancelled(&self) -> bool {
        self.setting.cancel_at.is_some_and(|at| self.done.load(Ordering::Relaxed) >= at)
    }
    fn parallel_for(&self, n: usize, job: Job<'_>) {
        (self.setting.parallel)(n, &|i| job.run(i));
    }
    fn threads(&self) -> usize {
        self.setting.threads
    }
    fn seed(&self) -> u64 {
        self.setting.seed
    }
    fn scratch_dir(&self) -> PResult<RString> {
        match &self.setting.scratch {
            Some(folder) => RResult::ROk(folder.to_string_lossy().into_owned().into()),
            None => RResult::RErr(PluginError::new(ErrorKind::FAILED, "the test host has no scratch folder")),
        }
    }
}
