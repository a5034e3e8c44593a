//! A plugin in a process of its own. What goes wrong in it (a crash, a loop without end, too much memory) becomes an
//! error of the call, and the host lives.

use super::probe::ending;
use super::shared::Pool;
use super::wire::Frame;
use lacuna_abi::{ErrorKind, HostRef, PResult, PluginError};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// The hidden command by which the host runs a library in a worker.
pub const WORKER_COMMAND: &str = "__worker";

/// The hidden command that limits a process' memory before it becomes another program.
pub const LIMIT_COMMAND: &str = "__limit";

/// What is allowed to a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// So long may a call give no sign of life: no progress, no message, no answer.
    pub silence: Duration,
    /// So many bytes of address space.
    pub memory: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { silence: Duration::from_secs(3600), memory: None }
    }
}

/// What a worker runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Program {
    /// A library, in another process of this executable.
    Library(PathBuf),
    /// A command that speaks the protocol, and the folder that it runs in.
    Command(Vec<String>, PathBuf),
}

/// How long a worker that was asked to stop may take.
const GRACE: Duration = Duration::from_secs(5);
/// How often a waiting call looks whether the user asked to stop.
const LOOK: Duration = Duration::from_millis(20);
/// How long an answer may be on its way when the worker has died.
const DRAIN: Duration = Duration::from_millis(500);
/// How much of what a worker prints is kept, to be told when it dies.
const KEPT: usize = 1 << 16;

/// What a worker sends in a call.
enum Event {
    Log(u8, String, String, String),
    Progress(u64, u64, String),
    Answer(Frame),
}

/// What the threads that listen to the worker share with its calls.
#[derive(Default)]
struct Listening {
    waiting: Mutex<HashMap<u64, Sender<Event>>>,
    hello: Mutex<Option<Sender<Event>>>,
    printed: Mutex<Vec<u8>>,
    /// Set when it prints no more.
    printed_all: AtomicBool,
    /// What is wrong with what it sends.
    garbled: OnceLock<String>,
    /// Set when it sends no more.
    closed: AtomicBool,
    /// When it last sent something, in milliseconds after `start`.
    heard: AtomicU64,
}

/// A running worker.
pub struct Worker {
    /// To the thread that writes: a worker that does not read must not stop the host.
    outbox: Mutex<Option<Sender<Frame>>>,
    child: Mutex<Child>,
    listening: Arc<Listening>,
    /// Why the host ended it, if it did.
    ended: OnceLock<PluginError>,
    limits: Limits,
    start: Instant,
    numbers: AtomicU64,
    /// Matrices for calls.
    pub pool: Pool,
    _scratch: tempfile::TempDir,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Worker {
    /// Starts a worker; gives it and what it says of itself: a manifest, as JSON.
    ///
    /// # Errors
    /// The end of a sentence about the plugin.
    pub fn start(
        program: &Program,
        limits: Limits,
        patience: Duration,
    ) -> Result<(Arc<Self>, String), String> {
        let problem = |e: std::io::Error| format!("its worker process cannot be started ({e})");
        let scratch = tempfile::Builder::new().prefix("lacuna-").tempdir().map_err(problem)?;
        let mut command = command(program, limits).map_err(problem)?;
        command.env("LACUNA_SCRATCH", scratch.path());
        if matches!(program, Program::Command(..)) {
            command.env("PYTHONPATH", python_path(scratch.path()).map_err(problem)?);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(problem)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let listening = Arc::new(Listening::default());
        let (sender, hello) = channel();
        *lock(&listening.hello) = Some(sender);
        let start = Instant::now();
        stdout.into_iter().for_each(|out| listening.clone().listen(out, start));
        stderr.into_iter().for_each(|err| listening.clone().keep(err));
        let worker = Arc::new(Self {
            outbox: Mutex::new(stdin.map(|stdin| listening.clone().write(stdin))),
            child: Mutex::new(child),
            listening,
            ended: OnceLock::new(),
            limits,
            start,
            numbers: AtomicU64::new(1),
            pool: Pool::default(),
            _scratch: scratch,
        });
        let manifest = worker.greeted(&hello, patience)?;
        Ok((worker, manifest))
    }

    fn greeted(&self, hello: &Receiver<Event>, patience: Duration) -> Result<String, String> {
        match hello.recv_timeout(patience) {
            Ok(Event::Answer(frame)) => match (frame.head["refused"].as_str(), &frame.head["manifest"]) {
                (Some(reason), _) => Err(reason.to_string()),
                (None, Json::String(text)) => Ok(text.clone()),
                (None, manifest) => Ok(manifest.to_string()),
            },
            Ok(_) | Err(RecvTimeoutError::Disconnected) => Err(self.obituary().message.into()),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = patience.as_secs();
                self.end(error(
                    ErrorKind::TIMED_OUT,
                    format!("it hangs: it said nothing of itself in {seconds} s"),
                ));
                Err(self.obituary().message.into())
            }
        }
    }

    /// A number that no object or call of this worker has.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether it can be called no more.
    pub fn is_dead(&self) -> bool {
        let closed = self.listening.closed.load(Ordering::Acquire);
        closed || self.ended.get().is_some() || !matches!(lock(&self.child).try_wait(), Ok(None))
    }

    /// The memory that it uses, in bytes, where the system says so.
    pub fn memory(&self) -> Option<u64> {
        crate::memory::resident(lock(&self.child).id())
    }

    /// Calls it and waits for the answer. On the way its log and progress go to `host`; when the user asks to stop
    /// it is told, and ended when it does not stop.
    pub fn call(&self, host: &HostRef, what: &str, object: u64, mut frame: Frame) -> PResult<Frame> {
        let number = self.number();
        let (sender, events) = channel();
        lock(&self.listening.waiting).insert(number, sender);
        let head = &mut frame.head;
        (head["call"], head["do"], head["object"]) = (number.into(), what.into(), object.into());
        (head["seed"], head["threads"]) = (host.seed().into(), host.threads().into());
        head["log"] = host.log_max_level().into();
        // A long fit keeps what it has in the step's own folder, where a later process finds it.
        if let ("fit" | "refine", PResult::ROk(folder)) = (what, host.scratch_dir()) {
            head["scratch"] = folder.as_str().into();
        }
        let answer = if self.send(frame) { self.answer(host, &events) } else { Err(self.obituary()) };
        // Who stops the host may have stopped its workers too.
        let stopped = |e: &PluginError| e.kind == ErrorKind::CRASHED && host.is_cancelled();
        let cancelled = |e| if stopped(&e) { error(ErrorKind::CANCELLED, "cancelled".into()) } else { e };
        let answer = answer.map_err(cancelled);
        lock(&self.listening.waiting).remove(&number);
        answer.into()
    }

    /// Tells it something that needs no answer.
    pub fn tell(&self, head: Json) {
        self.send(Frame::of(head));
    }

    fn send(&self, frame: Frame) -> bool {
        lock(&self.outbox).as_ref().is_some_and(|outbox| outbox.send(frame).is_ok())
    }

    fn answer(&self, host: &HostRef, events: &Receiver<Event>) -> Result<Frame, PluginError> {
        let (began, mut asked_to_stop, mut gone) = (Instant::now(), None, None);
        loop {
            match events.recv_timeout(LOOK) {
                Ok(Event::Answer(frame)) => return answered(frame),
                Ok(Event::Log(level, target, message, fields)) => {
                    host.log(level, target.as_str().into(), message.as_str().into(), fields.as_str().into());
                }
                Ok(Event::Progress(done, total, label)) => {
                    host.progress(done, total, label.as_str().into());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.obituary()),
                Err(RecvTimeoutError::Timeout) if self.cannot_answer() => {
                    return Err(self.obituary());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            // What it has started may hold its output open when it has died itself.
            if gone.is_none() && !matches!(lock(&self.child).try_wait(), Ok(None)) {
                gone = Some(Instant::now());
            }
            if gone.is_some_and(|since| since.elapsed() > DRAIN) {
                return Err(self.obituary());
            }
            if host.is_cancelled() && asked_to_stop.is_none() {
                asked_to_stop = Some(Instant::now());
                self.tell(json!({ "do": "cancel" }));
            }
            if asked_to_stop.is_some_and(|since| since.elapsed() > GRACE) {
                self.end(error(ErrorKind::CANCELLED, "cancelled".into()));
            } else if self.silent_since(began) > self.limits.silence {
                let seconds = self.limits.silence.as_secs_f64();
                self.end(error(
                    ErrorKind::TIMED_OUT,
                    format!("no sign of life for {seconds} s, so its worker process was ended: allow more with `isolate = {{ seconds = … }}`"),
                ));
            }
        }
    }

    fn cannot_answer(&self) -> bool {
        self.ended.get().is_some() || self.listening.closed.load(Ordering::Acquire)
    }

    /// How long it has sent nothing at all since a call began: calls may have to wait for each other.
    fn silent_since(&self, began: Instant) -> Duration {
        let heard = self.start + Duration::from_millis(self.listening.heard.load(Ordering::Relaxed));
        heard.max(began).elapsed()
    }

    /// Ends it.
    fn end(&self, why: PluginError) {
        let _ = self.ended.set(why);
        kill(&mut lock(&self.child));
    }

    /// Why it does not answer any more.
    fn obituary(&self) -> PluginError {
        if let Some(why) = self.ended.get() {
            return why.clone();
        }
        let status = self.ending();
        self.listening.hear_out();
        let printed = String::from_utf8_lossy(&lock(&self.listening.printed)).into_owned();
        let last = printed.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or_default();
        let said = if last.is_empty() { String::new() } else { format!("; its last words: {last}") };
        let what = if let Some(garbled) = self.listening.garbled.get() {
            format!("what its worker process sends makes no sense: {garbled}{said}")
        } else if printed.contains("has overflowed its stack") {
            "its worker process overflowed its stack".into()
        } else if printed.contains("memory allocation of") || printed.contains("MemoryError") {
            format!(
                "its worker process ran out of memory{}",
                self.memory_limit().map(|gb| format!(" (limit: {gb} GB)")).unwrap_or_default()
            )
        } else {
            let limit = self.memory_limit().map(|gb| format!(" (its memory is limited to {gb} GB)"));
            format!("its worker process {status}{said}{}", limit.unwrap_or_default())
        };
        let why = error(ErrorKind::CRASHED, what);
        self.ended.get_or_init(|| why).clone()
    }

    fn memory_limit(&self) -> Option<f64> {
        self.limits.memory.map(|bytes| bytes as f64 / 1e9)
    }

    /// How the process ended. One that has closed its output, but goes on, is ended.
    fn ending(&self) -> String {
        let (mut child, start) = (lock(&self.child), Instant::now());
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    // What it has started goes with it; its number is not another's so soon.
                    kill_group(&child);
                    return match status.code() {
                        Some(code) => format!("ended early (exit code {code})"),
                        None => format!("crashed ({})", ending(status)),
                    };
                }
                Ok(None) if start.elapsed() < Duration::from_secs(1) => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                _ => {
                    kill(&mut child);
                    return "closed its input or output".into();
                }
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker ends when its input does.
        drop(lock(&self.outbox).take());
        let (mut child, start) = (lock(&self.child), Instant::now());
        while start.elapsed() < Duration::from_secs(1) {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        kill(&mut child);
        let _ = child.wait();
    }
}

/// Ends a worker, and what it has started: they are a process group of their own.
fn kill(child: &mut Child) {
    // One that has ended and been waited for may have left its number to another.
    if matches!(child.try_wait(), Ok(None)) {
        kill_group(child);
    }
    let _ = child.kill();
}

fn kill_group(child: &Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// A plugin's own error, on its way through `?`.
#[derive(Debug)]
pub struct Told(pub PluginError);

impl std::error::Error for Told {}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// What a call across the border gave, or the plugin's own error.
pub fn told<T>(result: PResult<T>) -> anyhow::Result<T> {
    result.into_result().map_err(|e| Told(e).into())
}

/// The plugin's own error in this one, or this one as an error of the exchange, which `what` names.
pub fn retold(problem: anyhow::Error, what: &str) -> PluginError {
    match problem.downcast::<Told>() {
        Ok(told) => told.0,
        Err(problem) => error(ErrorKind::DATA, format!("{what}{problem:#}")),
    }
}

/// An error that the host found.
pub fn error(kind: ErrorKind, message: String) -> PluginError {
    PluginError::new(kind, super::one_line(&message))
}

fn answered(frame: Frame) -> Result<Frame, PluginError> {
    let told = &frame.head["error"];
    if told.is_null() {
        return Ok(frame);
    }
    let kind = told["kind"].as_u64().and_then(|kind| u32::try_from(kind).ok());
    let text = |key: &str| told[key].as_str().unwrap_or_default().to_string();
    Err(PluginError {
        kind: kind.map_or(ErrorKind::FAILED, ErrorKind),
        message: text("message").into(),
        detail: text("detail").into(),
    })
}

fn command(program: &Program, limits: Limits) -> std::io::Result<Command> {
    let own = std::env::current_exe()?;
    let memory = limits.memory.map(|bytes| bytes.to_string());
    let mut command = Command::new(&own);
    if let Some(memory) = &memory {
        command.args([LIMIT_COMMAND, memory, "--"]);
    }
    match program {
        Program::Library(path) => {
            if memory.is_some() {
                command.arg(own);
            }
            command.arg(WORKER_COMMAND).arg(path);
        }
        Program::Command(words, folder) => {
            if memory.is_none() {
                command = Command::new(words.first().map_or("", String::as_str));
                command.args(words.iter().skip(1));
            } else {
                command.args(words);
            }
            command.current_dir(folder);
        }
    }
    Ok(command)
}

/// Where Python finds the module `lacuna_plugin` of this release; one that lies beside a script comes first.
fn python_path(scratch: &Path) -> std::io::Result<OsString> {
    let folder = scratch.join("python");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("lacuna_plugin.py"), include_str!("../../../sdk/python/lacuna_plugin.py"))?;
    let others = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let all =
        std::iter::once(folder).chain(std::env::split_paths(&others).filter(|p| !p.as_os_str().is_empty()));
    std::env::join_paths(all).map_err(std::io::Error::other)
}

impl Listening {
    /// Reads what the worker answers, until it ends.
    fn listen(self: Arc<Self>, stdout: ChildStdout, start: Instant) {
        std::thread::spawn(move || {
            let mut stdout = BufReader::with_capacity(1 << 16, stdout);
            loop {
                match Frame::read(&mut stdout) {
                    Ok(Some(frame)) => {
                        self.heard.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
                        self.pass_on(frame);
                    }
                    Ok(None) => break,
                    Err(e) => {
                        let _ = self.garbled.set(format!("{e:#}"));
                        break;
                    }
                }
            }
            self.give_up();
        });
    }

    /// Whoever waits finds the sender gone; who comes later, that this is closed.
    fn give_up(&self) {
        self.closed.store(true, Ordering::Release);
        lock(&self.hello).take();
        lock(&self.waiting).clear();
    }

    /// Writes what is sent, until the worker reads no more.
    fn write(self: Arc<Self>, stdin: ChildStdin) -> Sender<Frame> {
        let (outbox, frames) = channel::<Frame>();
        std::thread::spawn(move || {
            let mut stdin = BufWriter::with_capacity(1 << 16, stdin);
            if frames.iter().any(|frame| frame.write(&mut stdin).is_err()) {
                self.give_up();
            }
        });
        outbox
    }

    fn pass_on(&self, frame: Frame) {
        let head = &frame.head;
        let Some(number) = head["re"].as_u64() else {
            if let Some(hello) = lock(&self.hello).take() {
                let _ = hello.send(Event::Answer(frame));
            }
            return;
        };
        let text = |value: &Json| value.as_str().unwrap_or_default().to_string();
        let event = if let Some(log) = head["log"].as_array().filter(|log| log.len() == 4) {
            let level = log[0].as_u64().and_then(|level| u8::try_from(level).ok()).unwrap_or(3);
            Event::Log(level, text(&log[1]), text(&log[2]), text(&log[3]))
        } else if let Some(progress) = head["progress"].as_array().filter(|progress| progress.len() == 3) {
            let count = |value: &Json| value.as_u64().unwrap_or(0);
            Event::Progress(count(&progress[0]), count(&progress[1]), text(&progress[2]))
        } else {
            Event::Answer(frame)
        };
        match (lock(&self.waiting).get(&number), event) {
            (Some(waiting), event) => drop(waiting.send(event)),
            // What is said after its call has ended, as while a model is dropped.
            (None, Event::Log(level @ 0..=2, _, message, _)) => {
                tracing::warn!(level, "{}", super::one_line(&message));
            }
            (None, _) => {}
        }
    }

    /// Keeps the end of what the worker prints.
    fn keep(self: Arc<Self>, mut stderr: ChildStderr) {
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                text.lines()
                    .filter(|l| !l.trim().is_empty())
                    .for_each(|line| tracing::info!("a worker prints: {line}"));
                let mut printed = lock(&self.printed);
                printed.extend_from_slice(&buffer[..n]);
                let surplus = printed.len().saturating_sub(KEPT);
                printed.drain(..surplus);
            }
            self.printed_all.store(true, Ordering::Release);
        });
    }

    /// Waits for the last words of a worker that has ended. Somebody else may hold its output open: not for long.
    fn hear_out(&self) {
        let start = Instant::now();
        while !self.printed_all.load(Ordering::Acquire) && start.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Limits this process' memory and becomes another program; returns only when that fails.
#[cfg(unix)]
pub fn limit_and_become(memory: u64, words: &[String]) -> std::io::Error {
    use rustix::process::{Resource, Rlimit, setrlimit};
    use std::os::unix::process::CommandExt;
    let limit = Rlimit { current: Some(memory), maximum: Some(memory) };
    if let Err(e) = setrlimit(Resource::As, limit) {
        return e.into();
    }
    Command::new(words.first().map_or("", String::as_str)).args(words.iter().skip(1)).exec()
}

#[cfg(not(unix))]
pub fn limit_and_become(_memory: u64, _words: &[String]) -> std::io::Error {
    std::io::Error::other("memory cannot be limited on this system")
}
