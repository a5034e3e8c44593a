//! The second gate: an unknown file is loaded by a child process first. dlopen of a damaged library can crash,
//! and its constructors can hang; here that is a reason, not an accident.

use super::load::load;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The hidden command by which the host asks itself to load one library and leave.
pub const PROBE_COMMAND: &str = "__probe";

/// The child's exit codes. Not 0: a library's constructor that calls `exit(0)` has not passed.
const LOADED: i32 = 93;
const REFUSED: i32 = 94;

/// How often a file is loaded before it is trusted: where a damaged one is put in memory can decide what it does.
const TRIES: usize = 3;

/// What stands before the reason on the child's standard error, where the library may print too.
const REASON: &str = "refused by lacuna: ";

/// What the child does: loads the library; on refusal prints the reason. The exit code says which.
pub fn probe_in_this_process(path: &Path) -> i32 {
    match load(path) {
        Ok(_) => LOADED,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "\n{REASON}{}", super::one_line(&reason));
            REFUSED
        }
    }
}

/// Loads the file in child processes, unless one with the same hash has passed before.
pub fn probe(path: &Path, sha256: &str) -> Result<(), String> {
    let passed = passed_file(sha256);
    if passed.as_ref().is_some_and(|p| p.exists()) {
        return Ok(());
    }
    for _ in 0..TRIES {
        run_child(path)?;
    }
    if let Some(passed) = passed {
        remember(&passed);
    }
    Ok(())
}

/// Lacuna's cache folder: `LACUNA_CACHE`, or `lacuna` in the user's cache folder.
pub fn cache_dir() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("LACUNA_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("lacuna")))
        .or_else(|| var("HOME").map(|d| d.join(".cache/lacuna")))
}

/// Only what passed is remembered: a refusal may be due to this build of the host, or to a busy machine.
fn passed_file(sha256: &str) -> Option<PathBuf> {
    Some(cache_dir()?.join("loaded").join(format!("{sha256}-{}", env!("CARGO_PKG_VERSION"))))
}

fn remember(passed: &Path) {
    let written =
        passed.parent().map(std::fs::create_dir_all).transpose().and_then(|_| std::fs::write(passed, ""));
    if let Err(e) = written {
        tracing::debug!("the verdict cannot be kept in {}: {e}", passed.display());
    }
}

fn run_child(path: &Path) -> Result<(), String> {
    let problem = |e: std::io::Error| format!("it could not be tried out in a child process ({e})");
    let mut stderr = tempfile::tempfile().map_err(problem)?;
    let child = Command::new(std::env::current_exe().map_err(problem)?)
        .arg(PROBE_COMMAND)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr.try_clone().map_err(problem)?)
        .spawn()
        .map_err(problem)?;
    let limit = time_limit();
    let Some(status) = wait(child, limit).map_err(problem)? else {
        return Err(format!("it hangs: loading it in a child process took more than {} s", limit.as_secs()));
    };
    match status.code() {
        Some(LOADED) => Ok(()),
        Some(REFUSED) => Err(reason(&mut stderr).unwrap_or_else(|| "it does not load".into())),
        Some(code) => Err(format!("it ends the process that loads it (exit code {code})")),
        None => Err(format!("it crashes: loading it in a child process ended with {}", ending(status))),
    }
}

/// The reason in what the child printed; the library may have printed anything before and after it.
fn reason(stderr: &mut File) -> Option<String> {
    const TAIL: u64 = 1 << 16;
    let end = stderr.seek(SeekFrom::End(0)).ok()?;
    stderr.seek(SeekFrom::Start(end.saturating_sub(TAIL))).ok()?;
    let mut bytes = vec![];
    stderr.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.rsplit_once(REASON)?.1.lines().next()?.to_string())
}

/// How long a plugin may take to load.
pub fn time_limit() -> Duration {
    let seconds = std::env::var("LACUNA_PROBE_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10).max(1))
}

fn wait(mut child: Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An exit status in words.
#[cfg(unix)]
pub fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(4) => "SIGILL".into(),
        Some(6) => "SIGABRT".into(),
        Some(7) => "SIGBUS".into(),
        Some(8) => "SIGFPE".into(),
        Some(9) => "SIGKILL".into(),
        Some(11) => "SIGSEGV".into(),
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}

/// An exit status in words.
#[cfg(not(unix))]
pub fn ending(status: ExitStatus) -> String {
    status.to_string()
}
