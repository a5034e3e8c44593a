//! The other end of the pipes: a library in a worker process of this executable.

use super::load::load;
use super::shared::{read_values, write_rows};
use super::wire::{
    Frame, WireCells, cells_table, genes_table, knockouts_ref, knockouts_table, read_knockouts,
};
use super::worker::{error, retold, told};
use anyhow::{Context, Result, bail};
use arrow_array::{ArrayRef, Float32Array, Float64Array, RecordBatch};
use lacuna_abi::{
    self as abi, Answer, ArrowPair, CellsView, ErrorKind, HostApi, HostApi_TO, HostRef, Job, KnockoutsBuf,
    KnockoutsRef, MatMut, MatRef, PResult, PluginError, PluginModuleRef, RArc, RNone, ROption, RResult,
    RSlice, RSliceMut, RSome, RStr, RString, TD_Opaque,
};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Out = Arc<Mutex<BufWriter<File>>>;

/// A component, or what one has made.
enum Object {
    Simulator(abi::SimulatorBox),
    Model(abi::ModelBox),
    Fitted(abi::FittedBox),
    Strategy(abi::StrategyBox),
    Metric(abi::MetricBox),
}

/// An object, and the number of the call that its log belongs to: while it is dropped that of the drop.
#[derive(Clone)]
struct Kept(Arc<Object>, Arc<AtomicU64>);

struct Server {
    module: PluginModuleRef,
    out: Out,
    objects: Mutex<HashMap<u64, Kept>>,
    cancelled: Arc<AtomicBool>,
    pools: Mutex<HashMap<usize, Arc<ThreadPool>>>,
}

/// What the worker does: loads the library, says what it is, and answers calls until its input ends.
pub fn serve(path: &Path) -> i32 {
    let (Ok(out), Ok(input)) = (take_stdout(), take_stdin()) else { return 1 };
    let out: Out = Arc::new(Mutex::new(BufWriter::with_capacity(1 << 16, out)));
    let plugin = match load(path) {
        Ok(plugin) => plugin,
        Err(reason) => {
            reply(&out, &Frame::of(json!({ "refused": reason })));
            return 0;
        }
    };
    let Some(module) = plugin.module() else { return 1 };
    let text = (module.manifest())();
    reply(&out, &Frame::of(json!({ "manifest": text.as_str() })));
    let (objects, cancelled, pools) = Default::default();
    let server = Arc::new(Server { module, out, objects, cancelled, pools });
    let mut input = BufReader::with_capacity(1 << 16, input);
    while let Ok(Some(frame)) = Frame::read(&mut input) {
        server.clone().take(frame);
    }
    // Calls that are still at work have nobody to answer to; a host that was killed removes nothing.
    let _ = std::env::var("LACUNA_SCRATCH").map(std::fs::remove_dir_all);
    0
}

/// The pipe to the host for frames alone; what the library prints goes to standard error.
#[cfg(unix)]
fn take_stdout() -> std::io::Result<File> {
    let pipe = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(pipe.into())
}

/// The pipe from the host, which no process that the library starts may read from.
#[cfg(unix)]
fn take_stdin() -> std::io::Result<File> {
    let pipe = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(pipe.into())
}

#[cfg(not(unix))]
fn take_stdin() -> std::io::Result<File> {
    Err(std::io::Error::other("workers need a Unix system"))
}

#[cfg(not(unix))]
fn take_stdout() -> std::io::Result<File> {
    Err(std::io::Error::other("workers need a Unix system"))
}

impl Server {
    fn take(self: Arc<Self>, frame: Frame) {
        let number = |key: &str| frame.head[key].as_u64().unwrap_or(0);
        match frame.head["do"].as_str() {
            Some("cancel") => self.cancelled.store(true, Ordering::Relaxed),
            // Here, so that it is done before the input ends.
            Some("drop") => self.answer(&frame),
            _ => match self.pool(number("threads").max(1) as usize) {
                Ok(pool) => pool.spawn(move || self.answer(&frame)),
                Err(problem) => self.refuse(number("call"), error(ErrorKind::FAILED, format!("{problem:#}"))),
            },
        }
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Kept>> {
        self.objects.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn pool(&self, threads: usize) -> Result<Arc<ThreadPool>> {
        let mut pools = self.pools.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(pool) = pools.get(&threads) {
            return Ok(pool.clone());
        }
        let pool = Arc::new(ThreadPoolBuilder::new().num_threads(threads).build()?);
        pools.insert(threads, pool.clone());
        Ok(pool)
    }

    fn refuse(&self, call: u64, e: PluginError) {
        let told = json!({ "kind": e.kind.0, "message": e.message.as_str(), "detail": e.detail.as_str() });
        reply(&self.out, &Frame::of(json!({ "re": call, "error": told })));
    }

    fn answer(&self, frame: &Frame) {
        let call = frame.head["call"].as_u64().unwrap_or(0);
        let number = Arc::new(AtomicU64::new(call));
        let host = self.host(frame, number.clone());
        // A library's panics are errors already; this is for ours.
        let done = catch_unwind(AssertUnwindSafe(|| self.work(frame, &host, &number)));
        match done.unwrap_or_else(|_| bail!("the worker panicked")) {
            Ok(_) if call == 0 => {}
            Ok(mut answer) => {
                answer.head["re"] = call.into();
                reply(&self.out, &answer);
            }
            Err(problem) => self.refuse(call, retold(problem, "")),
        }
    }

    fn host(&self, frame: &Frame, call: Arc<AtomicU64>) -> HostRef {
        let number = |key: &str| frame.head[key].as_u64().unwrap_or(0);
        let host = CallHost {
            call,
            seed: number("seed"),
            threads: number("threads").max(1) as usize,
            scratch: frame.head["scratch"].as_str().map(String::from),
            level: number("log").min(5) as u8,
            cancelled: self.cancelled.clone(),
            out: self.out.clone(),
            start: Instant::now(),
            told: Arc::new(AtomicU64::new(0)),
        };
        HostApi_TO::from_ptr(RArc::new(host), TD_Opaque)
    }

    fn object(&self, frame: &Frame) -> Result<Arc<Object>> {
        let number = frame.head["object"].as_u64().unwrap_or(0);
        let kept = self.objects().get(&number).cloned();
        Ok(kept.with_context(|| format!("there is no object {number}"))?.0)
    }

    fn keep(&self, frame: &Frame, key: &str, object: Object, call: &Arc<AtomicU64>) -> Result<Frame> {
        let number = frame.head[key].as_u64().with_context(|| format!("`{key}` is no number"))?;
        self.objects().insert(number, Kept(Arc::new(object), call.clone()));
        Ok(Frame::of(json!({})))
    }

    fn work(&self, frame: &Frame, host: &HostRef, call: &Arc<AtomicU64>) -> Result<Frame> {
        let what = frame.head["do"].as_str().unwrap_or_default();
        if what == "make" {
            return self.keep(frame, "object", self.make(frame, host)?, call);
        }
        if what == "drop" {
            let kept = self.objects().remove(&frame.head["object"].as_u64().unwrap_or(0));
            if let Some(Kept(object, speaks)) = kept {
                speaks.store(call.load(Ordering::Relaxed), Ordering::Relaxed);
                drop(object);
            }
            return Ok(Frame::of(json!({})));
        }
        let object = self.object(frame)?;
        match (&*object, what) {
            (Object::Simulator(simulator), "simulate") => self.simulate(simulator, frame, host, call),
            (Object::Simulator(simulator), "load") => {
                let bytes = RSlice::from_slice(frame.part("model").unwrap_or_default());
                let fitted = told(simulator.load_truth(host.clone(), bytes))?;
                self.keep(frame, "fitted", Object::Fitted(fitted), call)
            }
            (Object::Model(model), "load") => {
                let bytes = RSlice::from_slice(frame.part("model").unwrap_or_default());
                let fitted = told(model.load(host.clone(), bytes))?;
                self.keep(frame, "fitted", Object::Fitted(fitted), call)
            }
            (Object::Model(model), "fit" | "refine") => {
                let training = Training::read(frame)?;
                let record = abi::TrainingApi_TO::from_ptr(&training, TD_Opaque);
                let from = || RSlice::from_slice(frame.part("model").unwrap_or_default());
                let fitted = told(match what {
                    "fit" => model.fit(host.clone(), record),
                    _ => model.refine(host.clone(), record, from()),
                })?;
                self.keep(frame, "fitted", Object::Fitted(fitted), call)
            }
            (Object::Model(model), "devices") => {
                let lines = told(model.devices(host.clone()))?;
                let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
                Ok(Frame::of(json!({ "devices": lines })))
            }
            (Object::Fitted(fitted), "predict") => predict(fitted, frame, host),
            (Object::Fitted(fitted), "screen") => screen(fitted, frame, host),
            (Object::Fitted(fitted), "save") => {
                let bytes = told(fitted.save(host.clone()))?;
                Ok(Frame::of(json!({})).with("model", bytes.into_vec()))
            }
            (Object::Fitted(fitted), "tables") => {
                let mut answer = Frame::of(json!({}));
                for table in told(fitted.tables(host.clone()))? {
                    answer = answer
                        .with_table(&table.name, &table.table.into_table().map_err(anyhow::Error::msg)?)?;
                }
                Ok(answer)
            }
            (Object::Strategy(strategy), "propose") => propose(strategy, frame, host),
            (Object::Metric(metric), "score") => score(metric, frame, host),
            (_, what) => bail!("an object cannot `{what}`"),
        }
    }

    fn make(&self, frame: &Frame, host: &HostRef) -> Result<Object> {
        let text = |key: &str| frame.head[key].as_str().unwrap_or_default();
        let parameters = frame.head["parameters"].to_string();
        let (id, parameters) = (RStr::from(text("component")), RStr::from(parameters.as_str()));
        let host = host.clone();
        Ok(match text("kind") {
            "simulator" => Object::Simulator(told((self.module.simulator())(id, parameters, host))?),
            "model" => Object::Model(told((self.module.model())(id, parameters, host))?),
            "strategy" => Object::Strategy(told((self.module.strategy())(id, parameters, host))?),
            "metric" => Object::Metric(told((self.module.metric())(id, parameters, host))?),
            kind => bail!("there is no kind `{kind}`"),
        })
    }

    fn simulate(
        &self,
        simulator: &abi::SimulatorBox,
        frame: &Frame,
        host: &HostRef,
        call: &Arc<AtomicU64>,
    ) -> Result<Frame> {
        let made = told(simulator.simulate(host.clone()))?;
        let mut answer = simulated(&made.cells()).context("it made no valid cells")?;
        if let RSome(network) = told(made.network())? {
            answer = answer.with_table("network", &network.into_table().map_err(anyhow::Error::msg)?)?;
        }
        self.keep(frame, "truth", Object::Fitted(told(made.truth())?), call)?;
        Ok(answer)
    }
}

/// Lists that cannot travel are refused here; all else is for the host to judge.
fn simulated(cells: &CellsView<'_>) -> Result<Frame> {
    let (offsets, stored) =
        (cells.csr.offsets.as_slice(), cells.csr.indices.len().min(cells.csr.values.len()));
    let fit = offsets.len() == cells.ids.len() + 1 && cells.library.len() == cells.ids.len();
    if !fit || !offsets.is_sorted() || offsets.last().is_some_and(|&last| last as usize > stored) {
        bail!("their lists do not fit together");
    }
    let rows: Vec<u64> = (0..cells.ids.len() as u64).collect();
    Frame::of(json!({}))
        .with_table("cells", &cells_table(cells, &rows)?)?
        .with_table("genes", &genes_table(cells)?)
}

fn cells_of(frame: &Frame, prefix: &str) -> Result<WireCells> {
    WireCells::read(&frame.required(&format!("{prefix}cells"))?, &frame.required(&format!("{prefix}genes"))?)
}

fn knockouts_of(frame: &Frame, name: &str) -> Result<Option<KnockoutsBuf>> {
    frame.table(name)?.map(|table| read_knockouts(&table)).transpose()
}

struct Training {
    cells: WireCells,
    validation: Option<WireCells>,
    perturbations: Option<KnockoutsBuf>,
    validation_perturbations: Option<KnockoutsBuf>,
    network: Option<RecordBatch>,
}

impl Training {
    fn read(frame: &Frame) -> Result<Self> {
        let validation =
            frame.part("validation.cells").map(|_| cells_of(frame, "validation.")).transpose()?;
        Ok(Self {
            cells: cells_of(frame, "")?,
            validation,
            perturbations: knockouts_of(frame, "perturbations")?,
            validation_perturbations: knockouts_of(frame, "validation.perturbations")?,
            network: frame.table("network")?,
        })
    }
}

fn option<T>(value: Option<T>) -> ROption<T> {
    value.map_or(RNone, RSome)
}

impl abi::TrainingApi for Training {
    fn cells(&self) -> CellsView<'_> {
        self.cells.view()
    }
    fn validation(&self) -> ROption<CellsView<'_>> {
        option(self.validation.as_ref().map(WireCells::view))
    }
    fn perturbations(&self) -> ROption<KnockoutsRef<'_>> {
        option(self.perturbations.as_ref().map(knockouts_ref))
    }
    fn validation_perturbations(&self) -> ROption<KnockoutsRef<'_>> {
        option(self.validation_perturbations.as_ref().map(knockouts_ref))
    }
    fn network(&self) -> ROption<ArrowPair> {
        option(self.network.as_ref().and_then(|table| ArrowPair::from_table(table).ok()))
    }
}

struct Query {
    cells: WireCells,
    knockouts: KnockoutsBuf,
    head: Json,
}

impl Query {
    fn read(frame: &Frame) -> Result<Self> {
        let knockouts = knockouts_of(frame, "knockouts")?.context("part `knockouts` is missing")?;
        Ok(Self { cells: cells_of(frame, "")?, knockouts, head: frame.head.clone() })
    }
}

impl abi::QueryApi for Query {
    fn cells(&self) -> CellsView<'_> {
        self.cells.view()
    }
    fn knockouts(&self) -> KnockoutsRef<'_> {
        knockouts_ref(&self.knockouts)
    }
    fn samples(&self) -> usize {
        self.head["samples"].as_u64().map_or(1, |n| n as usize)
    }
}

impl abi::ScreenApi for Query {
    fn cells(&self) -> CellsView<'_> {
        self.cells.view()
    }
    fn knockouts(&self) -> KnockoutsRef<'_> {
        knockouts_ref(&self.knockouts)
    }
    fn formula(&self) -> RStr<'_> {
        self.head["formula"].as_str().unwrap_or_default().into()
    }
    fn against(&self) -> RStr<'_> {
        self.head["against"].as_str().unwrap_or_default().into()
    }
    fn anchor(&self) -> ROption<f64> {
        option(self.head["anchor"].as_f64())
    }
}

/// A matrix in shared memory: its file, and its shape.
struct Matrix {
    file: PathBuf,
    rows: usize,
    cols: usize,
    repeated: bool,
    values: Vec<f32>,
}

impl Matrix {
    fn told(value: &Json) -> Result<Self> {
        let size = |key: &str| {
            value[key].as_u64().map(|n| n as usize).with_context(|| format!("a matrix without `{key}`"))
        };
        let file = value["file"].as_str().context("a matrix without `file`")?.into();
        let (rows, cols, repeated) = (size("rows")?, size("cols")?, value["repeated"] == true);
        let stored =
            if repeated { cols } else { rows.checked_mul(cols).context("a matrix that is too large")? };
        Ok(Self { file, rows, cols, repeated, values: vec![f32::NAN; stored] })
    }

    fn read(value: &Json) -> Result<Option<Self>> {
        if value.is_null() {
            return Ok(None);
        }
        let mut matrix = Self::told(value)?;
        let file = File::open(&matrix.file).context("cannot open shared memory")?;
        read_values(&file, &mut matrix.values).context("cannot read shared memory")?;
        Ok(Some(matrix))
    }

    fn write(&self) -> Result<()> {
        let file = File::options().write(true).open(&self.file).context("cannot open shared memory")?;
        write_rows(&file, &[&self.values]).context("cannot write to shared memory")
    }

    fn view(&self) -> MatRef<'_> {
        if self.repeated {
            MatRef::repeated(&self.values, self.rows)
        } else {
            MatRef::from_rows(&self.values, self.rows, self.cols)
        }
    }

    fn view_mut(&mut self) -> MatMut<'_> {
        MatMut::from_rows(&mut self.values, self.rows, self.cols)
    }
}

fn predict(fitted: &abi::FittedBox, frame: &Frame, host: &HostRef) -> Result<Frame> {
    let query = Query::read(frame)?;
    let mut values = Matrix::told(&frame.head["values"])?;
    let mut spread =
        (!frame.head["spread"].is_null()).then(|| Matrix::told(&frame.head["spread"])).transpose()?;
    let record = abi::QueryApi_TO::from_ptr(&query, TD_Opaque);
    let answer = Answer { values: values.view_mut(), spread: option(spread.as_mut().map(Matrix::view_mut)) };
    told(fitted.predict(host.clone(), record, answer))?;
    values.write()?;
    spread.iter().try_for_each(Matrix::write)?;
    Ok(Frame::of(json!({ "written": values.rows })))
}

fn screen(fitted: &abi::FittedBox, frame: &Frame, host: &HostRef) -> Result<Frame> {
    let query = Query::read(frame)?;
    let mut impacts = vec![f32::NAN; query.knockouts.offsets.len().saturating_sub(1)];
    let record = abi::ScreenApi_TO::from_ptr(&query, TD_Opaque);
    let offered = told(fitted.screen(host.clone(), record, RSliceMut::from_mut_slice(&mut impacts)))?;
    let answer = Frame::of(json!({}));
    if !offered {
        return Ok(answer);
    }
    answer.with_table("impacts", &column("impact", Arc::new(Float32Array::from(impacts)))?)
}

fn column(name: &str, values: ArrayRef) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter([(name, values)])?)
}

struct Proposal {
    cells: WireCells,
    round: u64,
    earlier: KnockoutsBuf,
    impacts: Vec<f32>,
}

impl abi::ProposalApi for Proposal {
    fn cells(&self) -> CellsView<'_> {
        self.cells.view()
    }
    fn round(&self) -> u64 {
        self.round
    }
    fn earlier(&self) -> KnockoutsRef<'_> {
        knockouts_ref(&self.earlier)
    }
    fn impacts(&self) -> RSlice<'_, f32> {
        RSlice::from_slice(&self.impacts)
    }
}

fn propose(strategy: &abi::StrategyBox, frame: &Frame, host: &HostRef) -> Result<Frame> {
    let proposal = Proposal {
        cells: cells_of(frame, "")?,
        round: frame.head["round"].as_u64().unwrap_or(0),
        earlier: knockouts_of(frame, "earlier")?.context("part `earlier` is missing")?,
        impacts: super::wire::numbers::<arrow_array::types::Float32Type>(
            &frame.required("impacts")?,
            "impact",
        )?,
    };
    let record = abi::ProposalApi_TO::from_ptr(&proposal, TD_Opaque);
    let found = told(strategy.propose(host.clone(), record))?;
    // Lists that do not fit together cannot travel as one table.
    let fits = found.offsets.first() == Some(&0)
        && found.offsets.is_sorted()
        && found.offsets.last() == Some(&(found.genes.len() as u64))
        && found.levels.len() == found.genes.len()
        && (found.cell.is_empty() || found.cell.len() + 1 == found.offsets.len());
    if !fits {
        bail!("the proposed knockouts' lists do not fit together");
    }
    Frame::of(json!({})).with_table("knockouts", &knockouts_table(&knockouts_ref(&found))?)
}

struct Comparison {
    matrices: [Option<Matrix>; 4],
    knockouts: Option<KnockoutsBuf>,
    panel: Option<KnockoutsBuf>,
}

impl Comparison {
    fn matrix(&self, i: usize) -> ROption<MatRef<'_>> {
        option(self.matrices[i].as_ref().map(Matrix::view))
    }
}

impl abi::ComparisonApi for Comparison {
    fn before(&self) -> ROption<MatRef<'_>> {
        self.matrix(0)
    }
    fn after(&self) -> ROption<MatRef<'_>> {
        self.matrix(1)
    }
    fn observed(&self) -> ROption<MatRef<'_>> {
        self.matrix(2)
    }
    fn knockouts(&self) -> ROption<KnockoutsRef<'_>> {
        option(self.knockouts.as_ref().map(knockouts_ref))
    }
    fn controls(&self) -> ROption<MatRef<'_>> {
        self.matrix(3)
    }
    fn panel(&self) -> ROption<KnockoutsRef<'_>> {
        option(self.panel.as_ref().map(knockouts_ref))
    }
}

fn score(metric: &abi::MetricBox, frame: &Frame, host: &HostRef) -> Result<Frame> {
    let read = |name: &str| Matrix::read(&frame.head[name]);
    let comparison = Comparison {
        matrices: [read("before")?, read("after")?, read("observed")?, read("controls")?],
        knockouts: knockouts_of(frame, "knockouts")?,
        panel: knockouts_of(frame, "panel")?,
    };
    let mut scores = vec![f64::NAN; frame.head["scores"].as_u64().unwrap_or(0) as usize];
    let record = abi::ComparisonApi_TO::from_ptr(&comparison, TD_Opaque);
    told(metric.score(host.clone(), record, RSliceMut::from_mut_slice(&mut scores)))?;
    Frame::of(json!({})).with_table("scores", &column("score", Arc::new(Float64Array::from(scores)))?)
}

/// The host of one call, as the library sees it.
#[derive(Clone)]
struct CallHost {
    call: Arc<AtomicU64>,
    seed: u64,
    threads: usize,
    scratch: Option<String>,
    level: u8,
    cancelled: Arc<AtomicBool>,
    out: Out,
    start: Instant,
    /// When progress was last told, in milliseconds after the start, plus 1.
    told: Arc<AtomicU64>,
}

/// Progress more often than this is not sent.
const PROGRESS: Duration = Duration::from_millis(50);

impl HostApi for CallHost {
    fn log_max_level(&self) -> u8 {
        self.level
    }

    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        let log = json!([level, target.as_str(), message.as_str(), fields.as_str()]);
        reply(&self.out, &Frame::of(json!({ "re": self.call.load(Ordering::Relaxed), "log": log })));
    }

    fn progress(&self, done: u64, total: u64, label: RStr<'_>) {
        let (now, last) = (self.start.elapsed().as_millis() as u64 + 1, self.told.load(Ordering::Relaxed));
        let due = last == 0 || now >= last + PROGRESS.as_millis() as u64;
        if due && self.told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let progress = json!([done, total, label.as_str()]);
            reply(
                &self.out,
                &Frame::of(json!({ "re": self.call.load(Ordering::Relaxed), "progress": progress })),
            );
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn parallel_for(&self, n: usize, job: Job<'_>) {
        (0..n).into_par_iter().for_each(|i| job.run(i));
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn scratch_dir(&self) -> PResult<RString> {
        // The host has made it, and removes it: when the step is finished, or else when this process has ended.
        match self.scratch.clone().or_else(|| std::env::var("LACUNA_SCRATCH").ok()) {
            Some(folder) => RResult::ROk(folder.into()),
            None => RResult::RErr(error(ErrorKind::FAILED, "no scratch folder".into())),
        }
    }
}

/// Sends a frame to whoever started this process.
fn reply(out: &Out, frame: &Frame) {
    // Nobody listens when the host is gone; the worker's input ends then too.
    let _ = frame.write(&mut *out.lock().unwrap_or_else(|e| e.into_inner()));
}
