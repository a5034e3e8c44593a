//! Progress: a bar on a terminal, plain lines elsewhere, each at most every few seconds.

use crate::plugin::ProgressSink;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// All bars; they step aside while a line is written.
static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));

/// Standard error for log messages, which do not tear the bars.
pub struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        BARS.suspend(|| std::io::stderr().write(bytes))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// What a run shows while it works, on standard error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// A bar where standard error is a terminal, lines elsewhere.
    Shown,
    /// Nothing.
    Quiet,
}

impl Console {
    /// A line of its own.
    pub fn line(self, text: &str) {
        if self == Self::Shown {
            BARS.suspend(|| eprintln!("{text}"));
        }
    }

    /// The progress of one step.
    pub fn step(self, name: &str) -> Arc<StepProgress> {
        let bar = (self == Self::Shown && std::io::stderr().is_terminal()).then(|| bar(name));
        Arc::new(StepProgress {
            name: name.into(),
            bar,
            lines: self == Self::Shown,
            last: Mutex::new(Instant::now()),
        })
    }
}

fn bar(name: &str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::no_length());
    let style = ProgressStyle::with_template("{prefix:.bold} {wide_bar} {msg} {pos}/{len} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(name.to_string());
    bar
}

/// See [`Console::step`]. The bar goes when this is dropped.
pub struct StepProgress {
    name: String,
    bar: Option<ProgressBar>,
    lines: bool,
    last: Mutex<Instant>,
}

const BETWEEN_LINES: Duration = Duration::from_secs(5);

impl ProgressSink for StepProgress {
    fn update(&self, done: u64, total: u64, label: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total.max(done));
            bar.set_message(label.to_string());
            bar.set_position(done);
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        if self.lines && last.elapsed() >= BETWEEN_LINES {
            *last = Instant::now();
            let percent = (100 * done).checked_div(total).map(|p| format!(" ({p} %)")).unwrap_or_default();
            eprintln!("  {}: {label} {done}/{total}{percent}", self.name);
        }
    }
}

impl Drop for StepProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
