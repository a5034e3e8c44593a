//! Components in a worker, behind the same traits as those of a library in this process.

use super::shared::Lent;
use super::wire::{
    Frame, WireCells, cells_table, genes_table, knockouts_ref, knockouts_table, numbers, read_knockouts,
};
use super::worker::{Worker, retold, told};
use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use arrow_array::types::{Float32Type, Float64Type};
use lacuna_abi::{
    self as abi, Answer, ArrowPair, CellsView, HostRef, KnockoutsBuf, KnockoutsRef, MatMut, MatRef, PResult,
    RNone, ROption, RResult, RSlice, RSliceMut, RSome, RStr, RString, RVec, TD_Opaque,
};
use serde_json::{Value as Json, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Something that lives in a worker. Dropped there when it is dropped here.
struct Object {
    worker: Arc<Worker>,
    number: u64,
    /// Who is told what goes wrong while a component is dropped: the step's host, which lives as long as it.
    host: Option<HostRef>,
}

impl Drop for Object {
    fn drop(&mut self) {
        match self.host.take() {
            Some(host) => drop(self.call(&host, "drop", Frame::default())),
            None => self.worker.tell(json!({ "do": "drop", "object": self.number })),
        }
    }
}

impl Object {
    fn new(worker: &Arc<Worker>) -> Self {
        Self { worker: worker.clone(), number: worker.number(), host: None }
    }

    fn call(&self, host: &HostRef, what: &str, frame: Frame) -> PResult<Frame> {
        self.worker.call(host, what, self.number, frame)
    }
}

/// The outcome of a call whose preparation, or whose answer, may be wrong.
///
/// What a worker sends is taken apart by libraries that may panic on it, which must not cross the border.
fn result<T>(body: impl FnOnce() -> Result<T>) -> PResult<T> {
    let done = catch_unwind(AssertUnwindSafe(body));
    match done.unwrap_or_else(|_| Err(anyhow::anyhow!("its answer cannot be taken apart"))) {
        Ok(value) => RResult::ROk(value),
        Err(problem) => RResult::RErr(retold(problem, "the exchange with its worker process failed: ")),
    }
}

/// Makes a component in a worker.
fn make(worker: &Arc<Worker>, kind: &str, id: RStr<'_>, params: RStr<'_>, host: &HostRef) -> PResult<Object> {
    let mut object = Object::new(worker);
    let parameters: Json = serde_json::from_str(params.as_str()).unwrap_or_default();
    let frame = Frame::of(json!({ "kind": kind, "component": id.as_str(), "parameters": parameters }));
    let made = object.call(host, "make", frame);
    made.map(|_| {
        object.host = Some(host.clone());
        object
    })
}

/// Makes a simulator.
pub fn simulator(
    worker: &Arc<Worker>,
    id: RStr<'_>,
    params: RStr<'_>,
    host: &HostRef,
) -> PResult<abi::SimulatorBox> {
    make(worker, "simulator", id, params, host).map(|o| abi::SimulatorApi_TO::from_value(o, TD_Opaque))
}

/// Makes a model.
pub fn model(worker: &Arc<Worker>, id: RStr<'_>, params: RStr<'_>, host: &HostRef) -> PResult<abi::ModelBox> {
    make(worker, "model", id, params, host).map(|o| abi::ModelApi_TO::from_value(o, TD_Opaque))
}

/// Makes a strategy.
pub fn strategy(
    worker: &Arc<Worker>,
    id: RStr<'_>,
    params: RStr<'_>,
    host: &HostRef,
) -> PResult<abi::StrategyBox> {
    make(worker, "strategy", id, params, host).map(|o| abi::StrategyApi_TO::from_value(o, TD_Opaque))
}

/// Makes a metric.
pub fn metric(
    worker: &Arc<Worker>,
    id: RStr<'_>,
    params: RStr<'_>,
    host: &HostRef,
) -> PResult<abi::MetricBox> {
    make(worker, "metric", id, params, host).map(|o| abi::MetricApi_TO::from_value(o, TD_Opaque))
}

fn with_cells(frame: Frame, prefix: &str, view: &CellsView<'_>) -> Result<Frame> {
    let rows: Vec<u64> = (0..view.ids.len() as u64).collect();
    frame
        .with_table(&format!("{prefix}cells"), &cells_table(view, &rows)?)?
        .with_table(&format!("{prefix}genes"), &genes_table(view)?)
}

/// The knockouts, and only the cells that they refer to.
fn with_asked(frame: Frame, cells: &CellsView<'_>, knockouts: &KnockoutsRef<'_>) -> Result<Frame> {
    if knockouts.cell.is_empty() {
        return with_cells(frame, "", cells)?.with_table("knockouts", &knockouts_table(knockouts)?);
    }
    let mut rows = knockouts.cell.to_vec();
    rows.sort_unstable();
    rows.dedup();
    let place = |cell: &u64| rows.binary_search(cell).unwrap_or(0) as u64;
    let moved = KnockoutsBuf {
        cell: knockouts.cell.iter().map(place).collect(),
        offsets: knockouts.offsets.to_vec().into(),
        genes: knockouts.genes.to_vec().into(),
        levels: knockouts.levels.to_vec().into(),
    };
    frame
        .with_table("cells", &cells_table(cells, &rows)?)?
        .with_table("genes", &genes_table(cells)?)?
        .with_table("knockouts", &knockouts_table(&knockouts_ref(&moved))?)
}

fn into_table(pair: ArrowPair) -> Result<RecordBatch> {
    pair.into_table().map_err(anyhow::Error::msg)
}

/// What a simulator in a worker made.
struct RemoteSimulation {
    cells: WireCells,
    network: Option<RecordBatch>,
    truth: Arc<Object>,
}

impl abi::SimulatorApi for Object {
    fn simulate(&self, host: HostRef) -> PResult<abi::SimulationBox> {
        result(|| {
            let truth = Object::new(&self.worker);
            let done = told(self.call(&host, "simulate", Frame::of(json!({ "truth": truth.number }))))?;
            let cells = WireCells::read(&done.required("cells")?, &done.required("genes")?)?;
            let made = RemoteSimulation { cells, network: done.table("network")?, truth: Arc::new(truth) };
            Ok(abi::SimulationApi_TO::from_value(made, TD_Opaque))
        })
    }
    fn load_truth(&self, host: HostRef, bytes: RSlice<'_, u8>) -> PResult<abi::FittedBox> {
        load(self, &host, bytes)
    }
}

fn load(object: &Object, host: &HostRef, bytes: RSlice<'_, u8>) -> PResult<abi::FittedBox> {
    let fitted = Object::new(&object.worker);
    let frame = Frame::of(json!({ "fitted": fitted.number })).with("model", bytes.to_vec());
    object.call(host, "load", frame).map(|_| fitted_box(Arc::new(fitted)))
}

impl abi::SimulationApi for RemoteSimulation {
    fn cells(&self) -> CellsView<'_> {
        self.cells.view()
    }
    fn network(&self) -> PResult<ROption<ArrowPair>> {
        let pair =
            self.network.as_ref().map(|table| ArrowPair::from_table(table).map_err(anyhow::Error::msg));
        result(|| Ok(pair.transpose()?.map_or(RNone, RSome)))
    }
    fn truth(&self) -> PResult<abi::FittedBox> {
        RResult::ROk(fitted_box(self.truth.clone()))
    }
}

impl abi::ModelApi for Object {
    fn fit(&self, host: HostRef, training: abi::TrainingRef<'_>) -> PResult<abi::FittedBox> {
        result(|| {
            let fitted = Object::new(&self.worker);
            told(self.call(&host, "fit", with_training(fitted.number, &training)?))?;
            Ok(fitted_box(Arc::new(fitted)))
        })
    }
    fn load(&self, host: HostRef, bytes: RSlice<'_, u8>) -> PResult<abi::FittedBox> {
        load(self, &host, bytes)
    }
    fn refine(
        &self,
        host: HostRef,
        training: abi::TrainingRef<'_>,
        bytes: RSlice<'_, u8>,
    ) -> PResult<abi::FittedBox> {
        result(|| {
            let fitted = Object::new(&self.worker);
            let frame = with_training(fitted.number, &training)?.with("model", bytes.to_vec());
            told(self.call(&host, "refine", frame))?;
            Ok(fitted_box(Arc::new(fitted)))
        })
    }
    fn devices(&self, host: HostRef) -> PResult<RVec<RString>> {
        result(|| {
            let answer = told(self.call(&host, "devices", Frame::of(json!({}))))?;
            let lines = answer.head["devices"].as_array().into_iter().flatten();
            Ok(lines.filter_map(|line| line.as_str().map(RString::from)).collect())
        })
    }
}

/// What a model learns from, to become the model of this number.
fn with_training(fitted: u64, training: &abi::TrainingRef<'_>) -> Result<Frame> {
    let mut frame = with_cells(Frame::of(json!({ "fitted": fitted })), "", &training.cells())?;
    if let RSome(validation) = training.validation() {
        frame = with_cells(frame, "validation.", &validation)?;
    }
    let labels = [training.perturbations(), training.validation_perturbations()];
    for (name, labels) in ["perturbations", "validation.perturbations"].into_iter().zip(labels) {
        if let RSome(knockouts) = labels {
            frame = frame.with_table(name, &knockouts_table(&knockouts)?)?;
        }
    }
    match training.network() {
        RSome(network) => frame.with_table("network", &into_table(network)?),
        RNone => Ok(frame),
    }
}

/// A fitted model in a worker.
struct RemoteFitted(Arc<Object>);

fn fitted_box(object: Arc<Object>) -> abi::FittedBox {
    abi::FittedApi_TO::from_value(RemoteFitted(object), TD_Opaque)
}

/// A matrix that the worker writes.
fn lend(worker: &Worker, matrix: &MatMut<'_>) -> Result<(Lent, Json)> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let lent = worker.pool.lend((4 * rows * cols) as u64)?;
    let told = json!({ "file": lent.path(), "rows": rows, "cols": cols });
    Ok((lent, told))
}

fn take_back(lent: &Lent, matrix: MatMut<'_>) -> Result<()> {
    let mut view = matrix.into_view();
    lent.read(view.as_slice_mut().context("rows that do not lie one after the other")?)
}

/// A matrix that the worker reads. One row that is seen many times is written once.
fn show(worker: &Worker, matrix: &MatRef<'_>) -> Result<(Lent, Json)> {
    let view = matrix.view();
    let repeated = view.nrows() > 1 && view.strides()[0] == 0;
    let n = if repeated { 1 } else { view.nrows() };
    let rows: Vec<&[f32]> = (0..n).map(|i| matrix.row(i)).collect();
    let lent = worker.pool.lend((4 * n * matrix.cols()) as u64)?;
    lent.write(&rows)?;
    let told =
        json!({ "file": lent.path(), "rows": matrix.rows(), "cols": matrix.cols(), "repeated": repeated });
    Ok((lent, told))
}

impl abi::FittedApi for RemoteFitted {
    fn predict(&self, host: HostRef, query: abi::QueryRef<'_>, answer: Answer<'_>) -> PResult<()> {
        let worker = &self.0.worker;
        result(|| {
            let (values, told_values) = lend(worker, &answer.values)?;
            let mut head = json!({ "samples": query.samples(), "values": told_values });
            let spread = match answer.spread {
                RSome(matrix) => {
                    let (lent, told) = lend(worker, &matrix)?;
                    // A worker that knows nothing of spreads leaves it as it is: not known.
                    lent.write(&[&vec![f32::NAN; matrix.rows() * matrix.cols()]])?;
                    head["spread"] = told;
                    Some((lent, matrix))
                }
                RNone => None,
            };
            let frame = with_asked(Frame::of(head), &query.cells(), &query.knockouts())?;
            let done = told(self.0.call(&host, "predict", frame))?;
            let (expected, written) = (answer.values.rows(), done.head["written"].as_u64());
            anyhow::ensure!(written == Some(expected as u64), "it has not written {expected} rows");
            take_back(&values, answer.values)?;
            spread.map_or(Ok(()), |(lent, matrix)| take_back(&lent, matrix))
        })
    }
    fn save(&self, host: HostRef) -> PResult<RVec<u8>> {
        result(|| {
            let done = told(self.0.call(&host, "save", Frame::default()))?;
            Ok(done.part("model").context("part `model` is missing")?.to_vec().into())
        })
    }
    fn screen(
        &self,
        host: HostRef,
        screen: abi::ScreenRef<'_>,
        mut impacts: RSliceMut<'_, f32>,
    ) -> PResult<bool> {
        result(|| {
            let anchor = screen.anchor().into_option();
            let head = json!({
                "formula": screen.formula().as_str(), "against": screen.against().as_str(), "anchor": anchor,
            });
            let frame = with_asked(Frame::of(head), &screen.cells(), &screen.knockouts())?;
            let done = told(self.0.call(&host, "screen", frame))?;
            let Some(table) = done.table("impacts")? else { return Ok(false) };
            fill(impacts.as_mut_slice(), &numbers::<Float32Type>(&table, "impact")?)?;
            Ok(true)
        })
    }
    fn tables(&self, host: HostRef) -> PResult<RVec<abi::NamedTable>> {
        result(|| {
            let done = told(self.0.call(&host, "tables", Frame::default()))?;
            let one = |(name, _): &(String, Vec<u8>)| {
                let table = ArrowPair::from_table(&done.required(name)?).map_err(anyhow::Error::msg)?;
                Ok(abi::NamedTable { name: RString::from(name.as_str()), table })
            };
            done.parts.iter().map(one).collect()
        })
    }
}

/// What came has to be as much as was asked for.
fn fill<T: Copy>(wanted: &mut [T], found: &[T]) -> Result<()> {
    anyhow::ensure!(wanted.len() == found.len(), "expected {} values, found {}", wanted.len(), found.len());
    wanted.copy_from_slice(found);
    Ok(())
}

impl abi::StrategyApi for Object {
    fn propose(&self, host: HostRef, proposal: abi::ProposalRef<'_>) -> PResult<KnockoutsBuf> {
        result(|| {
            let impacts = arrow_array::Float32Array::from(proposal.impacts().to_vec());
            let impacts =
                RecordBatch::try_from_iter([("impact", Arc::new(impacts) as arrow_array::ArrayRef)])?;
            let frame = with_cells(Frame::of(json!({ "round": proposal.round() })), "", &proposal.cells())?
                .with_table("earlier", &knockouts_table(&proposal.earlier())?)?
                .with_table("impacts", &impacts)?;
            let done = told(self.call(&host, "propose", frame))?;
            read_knockouts(&done.required("knockouts")?)
        })
    }
}

impl abi::MetricApi for Object {
    fn score(
        &self,
        host: HostRef,
        what: abi::ComparisonRef<'_>,
        mut scores: RSliceMut<'_, f64>,
    ) -> PResult<()> {
        result(|| {
            let mut head = json!({ "scores": scores.len() });
            let mut kept = vec![];
            let matrices = [what.before(), what.after(), what.observed(), what.controls()];
            for (name, matrix) in ["before", "after", "observed", "controls"].into_iter().zip(matrices) {
                if let RSome(matrix) = matrix {
                    let (lent, told) = show(&self.worker, &matrix)?;
                    head[name] = told;
                    kept.push(lent);
                }
            }
            let mut frame = Frame::of(head);
            for (name, knockouts) in [("knockouts", what.knockouts()), ("panel", what.panel())] {
                if let RSome(knockouts) = knockouts {
                    frame = frame.with_table(name, &knockouts_table(&knockouts)?)?;
                }
            }
            let done = told(self.call(&host, "score", frame))?;
            let table = done.required("scores")?;
            fill(scores.as_mut_slice(), &numbers::<Float64Type>(&table, "score")?)
        })
    }
}
