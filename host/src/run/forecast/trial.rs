//! One trial: a step, or a part of it, at work in a folder that goes away, stopped when it takes too long.

use crate::plugin::ProgressSink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A trial is stopped after this.
pub const LONGEST: Duration = Duration::from_secs(8);
/// How often it is looked whether to stop.
const LOOK: Duration = Duration::from_millis(20);
/// Progress is kept this often.
const POINT: Duration = Duration::from_millis(10);
/// A rate is told over no less than this.
const SHORTEST: Duration = Duration::from_millis(500);

/// Does some work, and sets `halt` when the user asks to stop or it has taken too long.
pub fn limited<T>(user: &AtomicBool, halt: &AtomicBool, work: impl FnOnce() -> T) -> T {
    let (done, over) = mpsc::channel::<()>();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if user.load(Ordering::Relaxed) || start.elapsed() > LONGEST {
                    halt.store(true, Ordering::Relaxed);
                }
            }
        });
        let out = work();
        drop(done);
        out
    })
}

/// Progress as it is shown, watched to tell when the work would be finished.
pub struct Watch {
    shown: Arc<dyn ProgressSink>,
    seen: Mutex<Seen>,
}

/// What a part of the work, told by label and total, has said of itself.
#[derive(Default)]
struct Seen {
    label: String,
    total: u64,
    points: Vec<(Instant, u64)>,
}

impl Watch {
    /// Passes on what it sees.
    pub fn new(shown: Arc<dyn ProgressSink>) -> Arc<Self> {
        Arc::new(Self { shown, seen: Mutex::default() })
    }

    /// The seconds to come, by the rate of late, and the share that is done; nothing where too little was said.
    pub fn to_come(&self) -> Option<(f64, f64)> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner()).to_come()
    }
}

impl ProgressSink for Watch {
    fn update(&self, done: u64, total: u64, label: &str) {
        self.shown.update(done, total, label);
        self.seen.lock().unwrap_or_else(|e| e.into_inner()).add(Instant::now(), done, (total, label));
    }
}

impl Seen {
    fn add(&mut self, now: Instant, done: u64, (total, label): (u64, &str)) {
        if (self.total, self.label.as_str()) != (total, label) {
            *self = Self { label: label.into(), total, points: vec![] };
        }
        // Threads may tell of their progress out of order.
        let done = self.points.last().map_or(done, |(_, last)| done.max(*last));
        match &mut self.points[..] {
            [_, .., last] if now - last.0 < POINT => last.1 = done,
            _ => self.points.push((now, done)),
        }
    }

    fn to_come(&self) -> Option<(f64, f64)> {
        let (&(start, _), &(end, done)) = (self.points.first()?, self.points.last()?);
        if end - start < SHORTEST || done > self.total {
            return None;
        }
        // The first quarter may have been slow for reasons of its own.
        let (from, before) = *self.points.iter().find(|(at, _)| *at >= start + (end - start) / 4)?;
        let (seconds, more) = ((end - from).as_secs_f64(), done - before);
        (more > 0)
            .then(|| ((self.total - done) as f64 * seconds / more as f64, done as f64 / self.total as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_late_tells_what_is_to_come() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        seen.add(at(0), 5, (7, "files"));
        // Another part of the work: 1 s for nothing, then 10 a second.
        seen.add(at(1000), 0, (100, "steps"));
        (0..=40).for_each(|i| seen.add(at(2000 + 100 * i), i, (100, "steps")));
        let (seconds, share) = seen.to_come().unwrap();
        assert!((seconds - 6.0).abs() < 1e-9 && (share - 0.4).abs() < 1e-9, "{seconds} {share}");
    }

    #[test]
    fn nothing_is_told_of_what_says_nothing() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert_eq!(seen.to_come(), None);
        seen.add(start, 1, (10, "x"));
        assert_eq!(seen.to_come(), None);
        seen.add(start + LONGEST, 1, (10, "x"));
        assert_eq!(seen.to_come(), None);
        // Where the whole is unknown, so is the rest.
        seen.add(start, 1, (0, "y"));
        seen.add(start + LONGEST, 20, (0, "y"));
        assert_eq!(seen.to_come(), None);
    }

    #[test]
    fn work_is_halted_when_the_user_asks() {
        let (user, halt) = (AtomicBool::new(true), AtomicBool::new(false));
        limited(&user, &halt, || {
            while !halt.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        });
        assert!(halt.into_inner());
    }
}
