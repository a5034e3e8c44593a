//! What is asked of the calls of every kind of component: they stop when they are asked to, and keep no memory.

use super::bench::Bench;
use super::{Applies, Case, PASSED, advisory, is_plain, skipped};
use anyhow::{Result, ensure};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// So long a call works before it is asked to stop.
const BEFORE: Duration = Duration::from_millis(100);
/// So long it may go on then.
const AFTER: Duration = Duration::from_secs(1);

/// So often a call is repeated, and as often again, while its process may not grow.
const CALLS: usize = 200;
/// Calls that take long are repeated for this time only, if that is often enough.
const TIME: Duration = Duration::from_secs(2);
const FEWEST_CALLS: usize = 10;
/// Growth that allocators may have.
const GROWTH: u64 = 16 << 20;

/// The case that a call stops.
pub const fn stops(run: fn(&Bench<'_>) -> Result<Applies>) -> Case {
    advisory("stops within a second when it is asked to", run)
}

/// The case that calls keep no memory.
pub const fn keeps_no_memory(run: fn(&Bench<'_>) -> Result<Applies>) -> Case {
    advisory("does not grow while it is called again and again", run)
}

/// Asks a call that is at work to stop, and looks how long it goes on.
pub fn cancel(bench: &Bench<'_>, call: impl FnOnce() -> Result<()>) -> Result<Applies> {
    let (at_work, ended) = channel::<()>();
    let flag = bench.cancelled.clone();
    let asking = std::thread::spawn(move || {
        let still_at_work = ended.recv_timeout(BEFORE) == Err(RecvTimeoutError::Timeout);
        still_at_work.then(|| {
            flag.store(true, Ordering::Relaxed);
            Instant::now()
        })
    });
    let done = call();
    let end = Instant::now();
    drop(at_work);
    let asked = asking.join().ok().flatten().filter(|asked| *asked < end);
    let late = asked.map(|asked| end - asked);
    if let Some(late) = late {
        ensure!(late < AFTER, "it went on for {:.1} s", late.as_secs_f64());
    }
    done.or_else(is_plain)?;
    if late.is_some() { PASSED } else { skipped("its call ended before it could be asked to stop") }
}

/// Repeats a call, and looks how much its process has grown when it has done so for a while.
pub fn repeat(bench: &Bench<'_>, mut call: impl FnMut() -> Result<()>) -> Result<Applies> {
    let (start, mut calls) = (Instant::now(), 0);
    while calls < CALLS && start.elapsed() < TIME {
        call()?;
        calls += 1;
    }
    if calls < FEWEST_CALLS {
        return skipped("its calls take too long to be repeated often");
    }
    let Some(before) = bench.plugin.worker_memory() else { return skipped(UNKNOWN) };
    (0..calls).try_for_each(|_| call())?;
    let Some(after) = bench.plugin.worker_memory() else { return skipped(UNKNOWN) };
    let grown = after.saturating_sub(before);
    ensure!(grown < GROWTH, "its process grew by {} MiB in {calls} calls", grown >> 20);
    PASSED
}

const UNKNOWN: &str = "the memory of its process is not known";
