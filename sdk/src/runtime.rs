//! Glue between the author's traits and the border, for the expansion of [`plugin!`](crate::plugin). No promise.
//!
//! Every entry goes through `guard`: it remembers the call's host for logging, and turns a panic into an
//! error with its place.

use crate::component::{
    AnswerMut, Comparison, Component, Fitted, Metric, Model, Proposal, Query, Screen, Simulation, Simulator,
    Strategy, Training,
};
use crate::params::Param;
use crate::{Cells, Context, Error, Knockouts, Result, forward};
use lacuna_abi::{
    self as abi, Answer, ArrowPair, CellsView, ComparisonRef, ErrorKind, HostRef, KnockoutsBuf, NamedTable,
    PResult, PluginError, ProposalRef, QueryRef, RNone, ROption, RResult, RSlice, RSliceMut, RSome, RString,
    RVec, ScreenRef, TD_Opaque, TrainingRef,
};
use ndarray::ArrayView2;
use std::any::Any;
use std::cell::RefCell;
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once};

/// The version of the SDK, for the handshake.
pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static HOSTS: RefCell<Vec<HostRef>> = const { RefCell::new(Vec::new()) };
}

/// The host of the call that runs on this thread.
pub(crate) fn current_host() -> Option<HostRef> {
    HOSTS.with(|hosts| hosts.borrow().last().cloned())
}

/// A library has its own std, hence its own panic hook: it keeps the place, which only the hook is told.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!("{}:{}:{}", l.file(), l.line(), l.column()));
            LAST_PANIC.with(|last| *last.borrow_mut() = place);
        }));
    });
}

/// A library has its own tracing dispatcher too.
fn install(host: &HostRef) {
    static ONCE: Once = Once::new();
    install_hook();
    ONCE.call_once(|| {
        forward::install(host);
        #[cfg(lacuna_abi_appended)]
        tracing::info!("the host's appended method answers {}", host.appended());
    });
}

fn last_place() -> Option<String> {
    LAST_PANIC.with(|last| last.borrow_mut().take())
}

fn with_host<T>(host: &HostRef, body: impl FnOnce() -> T) -> T {
    struct Pop;
    impl Drop for Pop {
        fn drop(&mut self) {
            HOSTS.with(|hosts| drop(hosts.borrow_mut().pop()));
        }
    }
    HOSTS.with(|hosts| hosts.borrow_mut().push(host.clone()));
    let _pop = Pop;
    body()
}

type Payload = Box<dyn Any + Send>;

fn panic_message(payload: Payload) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into());
    discard(payload);
    message
}

/// Drops what was thrown. That may panic, which must not leave this function; what is thrown then is leaked.
fn discard(payload: Payload) {
    panic::catch_unwind(AssertUnwindSafe(move || drop(payload))).unwrap_or_else(std::mem::forget);
}

fn guard<T>(host: &HostRef, body: impl FnOnce() -> Result<T>) -> PResult<T> {
    install(host);
    match panic::catch_unwind(AssertUnwindSafe(|| with_host(host, body))) {
        Ok(Ok(value)) => RResult::ROk(value),
        Ok(Err(error)) => RResult::RErr(error.into()),
        Err(payload) => {
            let place = last_place().unwrap_or_default();
            let message = panic_message(payload);
            RResult::RErr(PluginError {
                kind: ErrorKind::PANIC,
                message: message.into(),
                detail: place.into(),
            })
        }
    }
}

/// Runs a body on the host's threads. A panic in it is caught there and raised here.
pub(crate) fn parallel<F: Fn(usize) + Sync>(host: &HostRef, n: usize, body: &F) {
    let first_panic: Mutex<Option<(Payload, Option<String>)>> = Mutex::new(None);
    let guarded = |i: usize| {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| with_host(host, || body(i)))) {
            let place = last_place();
            let mut first = first_panic.lock().unwrap_or_else(|e| e.into_inner());
            if first.is_none() {
                *first = Some((payload, place));
            } else {
                discard(payload);
            }
        }
    };
    crate::context::run(host, n, &guarded);
    if let Some((payload, place)) = first_panic.into_inner().unwrap_or_else(|e| e.into_inner()) {
        LAST_PANIC.with(|last| *last.borrow_mut() = place);
        panic::resume_unwind(payload);
    }
}

/// The manifest, or the panic of one of the author's defaults as `{"error": …}`.
pub fn manifest(make: impl FnOnce() -> String) -> abi::RString {
    install_hook();
    let text = panic::catch_unwind(AssertUnwindSafe(make));
    let error = |payload| {
        let place = last_place().map(|place| format!(" (at {place})")).unwrap_or_default();
        serde_json::json!({ "error": panic_message(payload) + &place }).to_string()
    };
    text.unwrap_or_else(error).into()
}

/// The answer when a plugin has no component of that name.
pub fn unknown<T>(kind: &str, id: &str) -> PResult<T> {
    RResult::RErr(PluginError::new(ErrorKind::UNKNOWN_COMPONENT, format!("no {kind} `{id}` in this plugin")))
}

fn build<C: Component>(params: &str) -> Result<C> {
    let value: serde_json::Value = serde_json::from_str(params)?;
    C::new(C::Config::parse(&value).map_err(Error::Parameters)?)
}

/// Something of the author's that the host holds. Its drop may panic, which must not cross the border either.
struct Held<T> {
    value: Option<T>,
    /// Who is told of that: the step's host for a component, which lives no longer than its step.
    host: Option<HostRef>,
}

impl<T> Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("held until it is dropped")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(value))) else { return };
        let (place, name) = (last_place().unwrap_or_default(), std::any::type_name::<T>());
        let message = panic_message(payload);
        let tell = || tracing::warn!("{name} panicked while it was dropped, at {place}: {message}");
        match &self.host {
            Some(host) => with_host(host, tell),
            None => tell(),
        }
    }
}

/// A component behind the border.
struct Entry<C>(Held<C>);
/// A fitted model behind the border; shared, since a simulation hands out its truth more than once.
struct FittedEntry<F>(Arc<Held<F>>);
/// A simulation behind the border.
struct SimulationEntry<T> {
    host: HostRef,
    simulation: Simulation<Arc<Held<T>>>,
}

fn entry<C: Component>(params: &str, host: &HostRef) -> Result<Entry<C>> {
    Ok(Entry(Held { value: Some(build(params)?), host: Some(host.clone()) }))
}

/// Makes a simulator.
pub fn simulator<C: Simulator>(params: &str, host: &HostRef) -> PResult<abi::SimulatorBox> {
    guard(host, || Ok(abi::SimulatorApi_TO::from_value(entry::<C>(params, host)?, TD_Opaque)))
}

/// Makes a model.
pub fn model<C: Model>(params: &str, host: &HostRef) -> PResult<abi::ModelBox> {
    guard(host, || Ok(abi::ModelApi_TO::from_value(entry::<C>(params, host)?, TD_Opaque)))
}

/// Makes a strategy.
pub fn strategy<C: Strategy>(params: &str, host: &HostRef) -> PResult<abi::StrategyBox> {
    guard(host, || Ok(abi::StrategyApi_TO::from_value(entry::<C>(params, host)?, TD_Opaque)))
}

/// Makes a metric.
pub fn metric<C: Metric>(params: &str, host: &HostRef) -> PResult<abi::MetricBox> {
    guard(host, || Ok(abi::MetricApi_TO::from_value(entry::<C>(params, host)?, TD_Opaque)))
}

fn held<F: Fitted>(fitted: F) -> Arc<Held<F>> {
    Arc::new(Held { value: Some(fitted), host: None })
}

fn fitted_box<F: Fitted>(fitted: Arc<Held<F>>) -> abi::FittedBox {
    abi::FittedApi_TO::from_value(FittedEntry(fitted), TD_Opaque)
}

fn context(host: &HostRef) -> Context {
    Context { host: host.clone() }
}

impl<C: Simulator> abi::SimulatorApi for Entry<C> {
    fn simulate(&self, host: HostRef) -> PResult<abi::SimulationBox> {
        guard(&host, || {
            let Simulation { cells, network, truth } = self.0.simulate(&context(&host))?;
            let simulation = Simulation { cells, network, truth: held(truth) };
            let entry = SimulationEntry { host: host.clone(), simulation };
            Ok(abi::SimulationApi_TO::from_value(entry, TD_Opaque))
        })
    }
    fn load_truth(&self, host: HostRef, bytes: RSlice<'_, u8>) -> PResult<abi::FittedBox> {
        guard(&host, || Ok(fitted_box(held(C::Truth::load(bytes.as_slice())?))))
    }
}

impl<T: Fitted> abi::SimulationApi for SimulationEntry<T> {
    fn cells(&self) -> CellsView<'_> {
        self.simulation.cells.to_view()
    }
    fn network(&self) -> PResult<ROption<ArrowPair>> {
        guard(&self.host, || match &self.simulation.network {
            None => Ok(RNone),
            Some(table) => Ok(RSome(ArrowPair::from_table(table).map_err(Error::Failed)?)),
        })
    }
    fn truth(&self) -> PResult<abi::FittedBox> {
        guard(&self.host, || Ok(fitted_box(self.simulation.truth.clone())))
    }
}

impl<C: Model> abi::ModelApi for Entry<C> {
    fn fit(&self, host: HostRef, training: TrainingRef<'_>) -> PResult<abi::FittedBox> {
        guard(&host, || {
            with_training(&training, |training| Ok(fitted_box(held(self.0.fit(training, &context(&host))?))))
        })
    }
    fn load(&self, host: HostRef, bytes: RSlice<'_, u8>) -> PResult<abi::FittedBox> {
        guard(&host, || Ok(fitted_box(held(C::Fitted::load(bytes.as_slice())?))))
    }
    fn refine(
        &self,
        host: HostRef,
        training: TrainingRef<'_>,
        bytes: RSlice<'_, u8>,
    ) -> PResult<abi::FittedBox> {
        guard(&host, || {
            with_training(&training, |training| {
                let from = C::Fitted::load(bytes.as_slice())?;
                Ok(fitted_box(held(self.0.refine(from, training, &context(&host))?)))
            })
        })
    }
    fn devices(&self, host: HostRef) -> PResult<RVec<RString>> {
        guard(&host, || Ok(self.0.devices().into_iter().map(RString::from).collect()))
    }
}

/// What a model learns from, as its author sees it.
fn with_training<T>(given: &TrainingRef<'_>, learn: impl FnOnce(&Training<'_>) -> Result<T>) -> Result<T> {
    let (cells, validation) = (given.cells(), given.validation().into_option());
    let network = given.network().into_option().map(ArrowPair::into_table).transpose();
    learn(&Training {
        cells: Cells::from_view(&cells),
        validation: validation.as_ref().map(Cells::from_view),
        perturbations: given.perturbations().into_option().map(Knockouts::from_ref),
        validation_perturbations: given.validation_perturbations().into_option().map(Knockouts::from_ref),
        network: network.map_err(Error::Data)?,
    })
}

impl<F: Fitted> abi::FittedApi for FittedEntry<F> {
    fn predict(&self, host: HostRef, query: QueryRef<'_>, answer: Answer<'_>) -> PResult<()> {
        guard(&host, || {
            let cells = query.cells();
            let knockouts = Knockouts::from_ref(query.knockouts());
            let rows = knockouts.len() * query.samples();
            let mut answer = AnswerMut {
                values: answer.values.into_view(),
                spread: answer.spread.into_option().map(abi::MatMut::into_view),
            };
            if answer.values.dim() != (rows, cells.csr.n_genes as usize) {
                return Err(Error::failed(format!(
                    "the host lent an answer of shape {:?}",
                    answer.values.dim()
                )));
            }
            let query = Query { cells: Cells::from_view(&cells), knockouts, samples: query.samples() };
            self.0.predict(&query, &mut answer, &context(&host))
        })
    }
    fn save(&self, host: HostRef) -> PResult<RVec<u8>> {
        guard(&host, || Ok(self.0.save()?.into()))
    }
    fn screen(&self, host: HostRef, screen: ScreenRef<'_>, mut impacts: RSliceMut<'_, f32>) -> PResult<bool> {
        guard(&host, || {
            let cells = screen.cells();
            let request = Screen {
                cells: Cells::from_view(&cells),
                knockouts: Knockouts::from_ref(screen.knockouts()),
                formula: screen.formula().as_str(),
                against: screen.against().as_str(),
                anchor: screen.anchor().into_option(),
            };
            self.0.screen(&request, impacts.as_mut_slice(), &context(&host))
        })
    }
    fn tables(&self, host: HostRef) -> PResult<RVec<NamedTable>> {
        guard(&host, || {
            let named = |(name, table): (String, arrow_array::RecordBatch)| {
                let table = ArrowPair::from_table(&table).map_err(Error::Failed)?;
                Ok(NamedTable { name: name.into(), table })
            };
            self.0.tables()?.into_iter().map(named).collect()
        })
    }
    #[cfg(lacuna_abi_appended)]
    fn appended(&self) -> u64 {
        2
    }
}

impl<C: Strategy> abi::StrategyApi for Entry<C> {
    fn propose(&self, host: HostRef, proposal: ProposalRef<'_>) -> PResult<KnockoutsBuf> {
        guard(&host, || {
            let cells = proposal.cells();
            let request = Proposal {
                cells: Cells::from_view(&cells),
                round: proposal.round(),
                earlier: Knockouts::from_ref(proposal.earlier()),
                impacts: proposal.impacts().as_slice(),
            };
            Ok(self.0.propose(&request, &context(&host))?.into_abi())
        })
    }
}

fn matrix(part: ROption<abi::MatRef<'_>>) -> Option<ArrayView2<'_, f32>> {
    part.into_option().map(|m| m.view())
}

fn rows(part: ROption<abi::KnockoutsRef<'_>>) -> Option<Knockouts<'_>> {
    part.into_option().map(Knockouts::from_ref)
}

impl<C: Metric> abi::MetricApi for Entry<C> {
    fn score(
        &self,
        host: HostRef,
        comparison: ComparisonRef<'_>,
        mut scores: RSliceMut<'_, f64>,
    ) -> PResult<()> {
        guard(&host, || {
            let parts = Comparison {
                before: matrix(comparison.before()),
                after: matrix(comparison.after()),
                observed: matrix(comparison.observed()),
                knockouts: rows(comparison.knockouts()),
                controls: matrix(comparison.controls()),
                panel: rows(comparison.panel()),
            };
            self.0.score(&parts, scores.as_mut_slice(), &context(&host))
        })
    }
}
