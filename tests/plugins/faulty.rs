//! A plugin for the tests of the border: each of its components works, and fails where `fault` says, as `how` says.

use lacuna_sdk::arrow::{ArrayRef, Float64Array, StringArray};
use lacuna_sdk::prelude::*;
use lacuna_sdk::{table, tracing};
use std::io::Write;
use std::panic::panic_any;
use std::sync::Arc;
use std::time::{Duration, Instant};

choice! {
    /// Where a component fails.
    pub enum Fault {
        /// Nowhere.
        Nowhere = "nowhere",
        /// While it is made.
        New = "new",
        /// While it is dropped.
        Drop = "drop",
        /// A simulator, while it simulates.
        Simulate = "simulate",
        /// A model, while it is fitted.
        Fit = "fit",
        /// A fitted model, while it predicts.
        Predict = "predict",
        /// A fitted model, while it is saved.
        Save = "save",
        /// A fitted model, while it is loaded.
        Load = "load",
        /// A fitted model, while it screens.
        Screen = "screen",
        /// A fitted model, while it gives its tables.
        Tables = "tables",
        /// A strategy, while it proposes.
        Propose = "propose",
        /// A metric, while it scores.
        Score = "score",
        /// Not at all, but what it gives is wrong.
        Data = "data",
    }
}

choice! {
    /// How a component fails.
    pub enum How {
        /// A panic with a message.
        Panic = "panic",
        /// A panic whose message has several lines.
        Lines = "lines",
        /// A panic with a payload that is no text.
        Payload = "payload",
        /// A panic with a payload that panics when it is dropped, with the same again.
        Bomb = "bomb",
        /// A panic on a thread of the host.
        Pool = "pool",
        /// Many panics on threads of the host, with payloads that panic when they are dropped.
        PoolBombs = "pool-bombs",
        /// An error.
        Error = "error",
        /// The end of the process: an abort.
        Abort = "abort",
        /// The end of the process: a write to memory that is not there.
        Segfault = "segfault",
        /// The end of the process: a recursion without end.
        Overflow = "overflow",
        /// The end of the process: an exit.
        Exit = "exit",
        /// More and more memory.
        Memory = "memory",
        /// A loop without end.
        Loop = "loop",
        /// The error for a user who asked to stop, which nobody did.
        Cancelled = "cancelled",
        /// Work of two seconds that ends early when the user asks to stop, as it should.
        Listens = "listens",
        /// Work of two seconds that goes on when the user asks to stop.
        Deaf = "deaf",
        /// Memory that is never given back, a little in each call.
        Leak = "leak",
        /// Data: a value that is not a number.
        NotANumber = "not-a-number",
        /// Data: an infinite value.
        Infinite = "infinite",
        /// Data: a negative value.
        Negative = "negative",
        /// Data: a row that is not written.
        Unwritten = "unwritten",
        /// Data: two cells, genes, columns, tables or knocked-out genes that are the same.
        Repeated = "repeated",
        /// Data: something without a name, or nothing knocked out.
        Nameless = "nameless",
        /// Data: an annotation of the wrong length.
        Length = "length",
        /// Data: a cell that does not exist.
        NoSuchCell = "no-such-cell",
        /// Data: a gene that does not exist.
        NoSuchGene = "no-such-gene",
        /// Data: a gene that the cell does not express.
        NotExpressed = "not-expressed",
        /// Data: a score that is best where it should be worst.
        Reversed = "reversed",
        /// Data: an annotation, or a knocked-out gene, that depends on the number of threads.
        Threads = "threads",
        /// Data: an order that depends on the number of threads.
        Order = "order",
    }
}

config! {
    /// Parameters of every component.
    pub struct Faults {
        /// Where it fails.
        fault: Fault = default_fault(),
        /// How it fails there.
        how: How = How::Panic,
        /// Whether it logs what it does.
        talks: bool = false,
    }
}

/// The manifest states defaults, so that a default that panics is a manifest that panics. The log shows which
/// processes have loaded the library.
fn default_fault() -> Fault {
    if let Some(log) = std::env::var_os("FAULTY_LOG") {
        let log = std::fs::File::options().append(true).open(log);
        let written = log.and_then(|mut log| writeln!(log, "{}", std::process::id()));
        written.expect("the test has made the file");
    }
    assert!(std::env::var_os("FAULTY_MANIFEST").is_none(), "panic in a default\nof two lines");
    Fault::Nowhere
}

/// Writes where no memory is.
#[allow(unsafe_code)]
fn write_nowhere() {
    let nowhere = std::ptr::without_provenance_mut::<u8>(16);
    // SAFETY: none: this is the fault that the test is about.
    unsafe { nowhere.write_volatile(1) };
}

#[allow(unconditional_recursion)]
fn recurse(values: &[u64; 1000]) -> u64 {
    let mut more = *values;
    more[0] = std::hint::black_box(more[1] + 1);
    recurse(std::hint::black_box(&more)) + more[999]
}

fn eat_memory() {
    let mut eaten: Vec<Vec<u8>> = vec![];
    loop {
        eaten.push(std::hint::black_box(vec![1; 1 << 26]));
    }
}

fn work(listening: Option<&Context>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
        listening.map_or(Ok(()), Context::check)?;
    }
    Ok(())
}

fn loop_for_ever() {
    loop {
        std::hint::spin_loop();
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Self)
    }
}

impl Faults {
    /// Whether what the component gives is to be wrong in this way.
    fn gives(&self, how: How) -> bool {
        self.fault == Fault::Data && self.how == how
    }

    fn fails(&self, here: Fault, cx: Option<&Context>) -> Result<()> {
        if self.fault != here {
            return Ok(());
        }
        let on_the_pool = |body: fn(usize)| cx.map(|cx| cx.parallel(64, body)).unwrap_or_default();
        match self.how {
            How::Lines => assert_eq!(1, 2, "a message\n  of two lines"),
            How::Payload => panic_any(7_u8),
            How::Bomb => panic_any(Bomb),
            How::Pool => on_the_pool(|_| panic!("a panic on the pool")),
            How::PoolBombs => on_the_pool(|_| panic_any(Bomb)),
            How::Abort => std::process::abort(),
            How::Segfault => write_nowhere(),
            How::Overflow => drop(recurse(&[1; 1000])),
            How::Exit => std::process::exit(3),
            How::Memory => eat_memory(),
            How::Loop => loop_for_ever(),
            How::Listens => work(cx)?,
            How::Deaf => work(None)?,
            How::Leak => std::mem::forget(std::hint::black_box(vec![1u8; 1 << 21])),
            How::Error => return Err(Error::failed("an error of the author's")),
            How::Cancelled => return Err(Error::Cancelled),
            _ => panic!("a panic in {here:?}"),
        }
        Ok(())
    }

    /// What is logged reaches the host, from whichever thread.
    fn talk(&self, cx: &Context) {
        if self.talks {
            tracing::warn!(cells = 4, "a warning on the caller's thread");
            tracing::info!("news from the caller's thread");
            cx.parallel(64, |_| {
                tracing::warn!("a warning on the pool");
                tracing::info!("news from the pool");
            });
        }
    }

    fn dropped(&self) {
        if self.fault == Fault::Drop {
            panic!("a panic in a drop");
        }
    }
}

/// A component of a kind: constructor and drop are the same for all.
macro_rules! component {
    ($name:ident, $id:literal, $doc:literal) => {
        #[doc = $doc]
        pub struct $name(Faults);

        impl Component for $name {
            const ID: &'static str = $id;
            const DOC: &'static str = $doc;
            type Config = Faults;
            fn new(faults: Faults) -> Result<Self> {
                faults.fails(Fault::New, None)?;
                Ok(Self(faults))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.dropped();
            }
        }
    };
}

component!(World, "world", "Four cells with five genes each, of which cell i lacks gene i");
component!(
    Copycat,
    "copycat",
    "A model that answers with the cell itself without the genes that are knocked out"
);
component!(Picks, "picks", "A strategy that picks one expressed gene of each cell");
component!(Distance, "distance", "A metric: half the sum of absolute differences");

const CELLS: usize = 4;
const GENES: usize = 5;

impl Simulator for World {
    type Truth = Answers4;
    const SCALE: Scale = Scale::Closed;

    fn simulate(&self, cx: &Context) -> Result<Simulation<Answers4>> {
        self.0.talk(cx);
        self.0.fails(Fault::Simulate, Some(cx))?;
        let gives = |how| self.0.gives(how);
        let gene = |j: usize| if gives(How::Repeated) { "gene".into() } else { format!("gene-{j}") };
        let mut cells = OwnedCells::new((0..GENES).map(gene).collect());
        for i in 0..CELLS {
            let mut values: Vec<f32> =
                (0..GENES).map(|j| if i == j { 0.0 } else { (j + 1) as f32 }).collect();
            match self.0.how {
                How::NotANumber if gives(How::NotANumber) => values[2] = f32::NAN,
                How::Infinite if gives(How::Infinite) => values[2] = f32::INFINITY,
                _ => {}
            }
            cells.push(if gives(How::Nameless) { String::new() } else { format!("cell-{i}") }, &values);
        }
        let threads = if gives(How::Threads) { cx.threads() } else { 1 };
        let rows = if gives(How::Length) { CELLS - 1 } else { CELLS };
        let group: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("group-{}", i * threads))));
        let column: ArrayRef = Arc::new(StringArray::from(vec!["gene-0"]));
        let weight: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let network = table(vec![("regulator", column.clone()), ("target", column), ("weight", weight)])?;
        Ok(Simulation {
            cells: cells.with_obs("group", group),
            network: Some(network),
            truth: Answers4(self.0.clone()),
        })
    }
}

impl Model for Copycat {
    type Fitted = Answers4;
    const INFO: ModelInfo = ModelInfo { fused: &["distance"], ..ModelInfo::PROFILES };

    fn fit(&self, _: &Training<'_>, cx: &Context) -> Result<Answers4> {
        self.0.talk(cx);
        self.0.fails(Fault::Fit, Some(cx))?;
        Ok(Answers4(self.0.clone()))
    }
}

/// The fitted model, and the world's truth.
pub struct Answers4(Faults);

impl Fitted for Answers4 {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.0.fails(Fault::Predict, Some(cx))?;
        for (knockout, mut row) in query.knockouts.iter().zip(answer.values.rows_mut()) {
            let (Some(cell), Some(row)) = (knockout.cell, row.as_slice_mut()) else { continue };
            if knockout.genes.is_empty() || !self.0.gives(How::Unwritten) {
                query.cells.write_profile(cell, row);
            }
            knockout.genes.iter().for_each(|&gene| row[gene as usize] = 0.0);
            let wrong = [(How::NotANumber, f32::NAN), (How::Infinite, f32::INFINITY), (How::Negative, -1.0)];
            wrong.iter().filter(|(how, _)| self.0.gives(*how)).for_each(|(_, value)| row[2] = *value);
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>> {
        self.0.fails(Fault::Save, None)?;
        Saved::new().text("faults", self.0.to_json().to_string()).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let faults = lacuna_sdk::serde_json::from_str(saved.get_text("faults")?)?;
        let faults = Faults::parse(&faults).map_err(Error::Data)?;
        faults.fails(Fault::Load, None)?;
        Ok(Self(faults))
    }

    fn screen(&self, _: &Screen<'_>, _: &mut [f32], cx: &Context) -> Result<bool> {
        self.0.fails(Fault::Screen, Some(cx))?;
        Ok(false)
    }

    fn tables(&self) -> Result<Vec<(String, lacuna_sdk::arrow::RecordBatch)>> {
        self.0.fails(Fault::Tables, None)?;
        let loss: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        let named = |name: &str| Ok((name.to_string(), table(vec![("loss", loss.clone())])?));
        let names: &[&str] = match self.0.how {
            _ if self.0.gives(How::Nameless) => &["../loss"],
            _ if self.0.gives(How::Repeated) => &["loss", "loss"],
            _ => &["loss"],
        };
        names.iter().map(|name| named(name)).collect()
    }
}

impl Drop for Answers4 {
    fn drop(&mut self) {
        self.0.dropped();
    }
}

impl Strategy for Picks {
    const SCOPE: Scope = Scope::Population;

    fn propose(&self, proposal: &Proposal<'_>, cx: &Context) -> Result<KnockoutList> {
        self.0.talk(cx);
        self.0.fails(Fault::Propose, Some(cx))?;
        let gives = |how| self.0.gives(how);
        let mut picked = KnockoutList::new();
        let threads = cx.threads();
        for i in 0..proposal.cells.len() {
            let i = if gives(How::Order) && threads > 1 { proposal.cells.len() - 1 - i } else { i };
            let expressed = proposal.cells.assemblage(i);
            let gene = if gives(How::Threads) { expressed[threads % expressed.len()] } else { expressed[0] };
            match self.0.how {
                _ if gives(How::NotANumber) => picked.push_levels(i, &[(gene, f32::NAN)]),
                _ if gives(How::Negative) => picked.push_levels(i, &[(gene, -1.0)]),
                _ if gives(How::Repeated) => picked.push(i, &[gene, gene]),
                _ if gives(How::Nameless) => picked.push(i, &[]),
                _ if gives(How::NoSuchCell) => picked.push(i + 100, &[gene]),
                _ if gives(How::NoSuchGene) => picked.push(i, &[gene + 100]),
                _ if gives(How::NotExpressed) => picked.push(i, &[i as u32]),
                _ => picked.push(i, &[gene]),
            }
        }
        Ok(picked)
    }
}

impl Metric for Distance {
    const INFO: MetricInfo = MetricInfo { formula: Some("distance"), ..MetricInfo::ERROR };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        self.0.talk(cx);
        self.0.fails(Fault::Score, Some(cx))?;
        for (i, score) in scores.iter_mut().enumerate() {
            let distance = self.row(&comparison.row(i)?)?;
            *score = match self.0.how {
                _ if self.0.gives(How::Infinite) => f64::INFINITY,
                _ if self.0.gives(How::Reversed) => 1.0 - distance,
                _ => distance,
            };
        }
        Ok(())
    }

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        Ok(row.before.iter().zip(row.after).map(|(b, a)| f64::from((b - a).abs())).sum::<f64>() / 2.0)
    }
}

plugin! { name: "faulty", simulators: [World], models: [Copycat], strategies: [Picks], metrics: [Distance] }
