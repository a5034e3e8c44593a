//! The host's side of [`HostApi`]: logging, progress, cancellation, threads, seeds, scratch folders.

use lacuna_abi::{
    ErrorKind, HostApi, HostApi_TO, HostRef, Job, PResult, PluginError, RArc, RResult, RStr, RString,
    TD_Opaque,
};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Where progress goes: a bar, lines, or nowhere.
pub trait ProgressSink: Send + Sync {
    /// How far the work is; `total` 0 means unknown.
    fn update(&self, done: u64, total: u64, label: &str);
}

/// The services of one step.
#[derive(Clone)]
pub struct Services {
    step: Arc<str>,
    seed: u64,
    cancelled: Arc<AtomicBool>,
    progress: Arc<dyn ProgressSink>,
    scratch: Arc<Mutex<Option<tempfile::TempDir>>>,
    scratch_root: PathBuf,
    kept: Option<PathBuf>,
    warnings: Arc<Mutex<BTreeSet<String>>>,
    /// Whether warnings and progress go nowhere.
    quiet: bool,
}

impl Services {
    /// Services for a step. A scratch folder, if one is asked for, is made in `scratch_root`.
    pub fn new(
        step: &str,
        seed: u64,
        cancelled: Arc<AtomicBool>,
        progress: Arc<dyn ProgressSink>,
        scratch_root: PathBuf,
    ) -> Self {
        let (scratch, warnings) = Default::default();
        let (step, kept, quiet) = (step.into(), None, false);
        Self { step, seed, cancelled, progress, scratch, scratch_root, kept, warnings, quiet }
    }

    /// Services of no step, which tell nobody how far the work is.
    pub fn silent(seed: u64, cancelled: Arc<AtomicBool>) -> Self {
        struct Silent;
        impl ProgressSink for Silent {
            fn update(&self, _: u64, _: u64, _: &str) {}
        }
        Self::new("check", seed, cancelled, Arc::new(Silent), std::env::temp_dir())
    }

    /// The same with this scratch folder, made when it is asked for; whoever calls this removes it.
    pub fn with_scratch(self, folder: PathBuf) -> Self {
        Self { kept: Some(folder), ..self }
    }

    /// Services for a part of the step's work that is done again with another seed: it keeps its own scratch, and neither
    /// warns nor tells its progress.
    pub fn of_refit(&self, seed: u64, name: &str) -> Self {
        let kept = self.kept.as_ref().map(|folder| folder.join(name));
        let (scratch, warnings) = Default::default();
        Self { seed, kept, scratch, warnings, quiet: true, ..self.clone() }
    }

    /// The services as a plugin sees them.
    pub fn host_ref(&self) -> HostRef {
        HostApi_TO::from_ptr(RArc::new(self.clone()), TD_Opaque)
    }

    /// Whether the user asked to stop.
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Says how far the work is.
    pub fn progress(&self, done: u64, total: u64, label: &str) {
        if !self.quiet {
            self.progress.update(done, total, label);
        }
    }

    /// Warns, now and in the results.
    pub fn warn(&self, message: impl Into<String>) {
        if self.quiet {
            return;
        }
        let message = message.into();
        let step = &*self.step;
        tracing::warn!(step, "{message}");
        self.keep(message);
    }

    fn keep(&self, warning: String) {
        self.warnings.lock().unwrap_or_else(|e| e.into_inner()).insert(warning);
    }

    /// All warnings so far, sorted: threads may have given them in any order.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(|e| e.into_inner()).iter().cloned().collect()
    }

    /// The step's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// A message with its fields in words: `few cells (cells = 4)`.
fn with_fields(message: &str, fields: &str) -> String {
    let fields: serde_json::Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
    let words = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key} = {text}"),
        other => format!("{key} = {other}"),
    };
    let words: Vec<String> = fields.iter().map(words).collect();
    let text = if words.is_empty() { message.into() } else { format!("{message} ({})", words.join(", ")) };
    super::one_line(&text)
}

impl HostApi for Services {
    fn log_max_level(&self) -> u8 {
        use tracing::level_filters::LevelFilter;
        let current = LevelFilter::current();
        let levels = [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG];
        // Warnings are always wanted: they belong to the results.
        let listened = levels.iter().position(|l| current <= *l).map_or(5, |i| i as u8 + 1);
        listened.max(2)
    }

    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        let (step, origin) = (&*self.step, target.as_str());
        let text = with_fields(message.as_str(), fields.as_str());
        match level {
            0 | 1 => {
                tracing::error!(step, origin, "{text}");
                // An error that does not end the step belongs to the results as a warning does.
                self.keep(text);
            }
            2 => self.warn(text),
            3 => tracing::info!(step, origin, "{text}"),
            4 => tracing::debug!(step, origin, "{text}"),
            _ => tracing::trace!(step, origin, "{text}"),
        }
    }

    fn progress(&self, done: u64, total: u64, label: RStr<'_>) {
        self.progress(done, total, label.as_str());
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled()
    }

    fn parallel_for(&self, n: usize, job: Job<'_>) {
        (0..n).into_par_iter().for_each(|i| job.run(i));
    }

    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn scratch_dir(&self) -> PResult<RString> {
        if let Some(folder) = &self.kept {
            return match std::fs::create_dir_all(folder) {
                Ok(()) => RResult::ROk(folder.to_string_lossy().into_owned().into()),
                Err(e) => {
                    let message = format!("no scratch folder {}: {e}", folder.display());
                    RResult::RErr(PluginError::new(ErrorKind::FAILED, message))
                }
            };
        }
        let mut scratch = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        if scratch.is_none() {
            let made = std::fs::create_dir_all(&self.scratch_root)
                .and_then(|()| tempfile::TempDir::with_prefix_in("scratch-", &self.scratch_root));
            match made {
                Ok(folder) => *scratch = Some(folder),
                Err(e) => {
                    let message = format!("no scratch folder in {}: {e}", self.scratch_root.display());
                    return RResult::RErr(PluginError::new(ErrorKind::FAILED, message));
                }
            }
        }
        let path = scratch.as_ref().map(|f| f.path().to_string_lossy().into_owned()).unwrap_or_default();
        RResult::ROk(path.into())
    }

    #[cfg(lacuna_abi_appended)]
    fn appended(&self) -> u64 {
        2
    }
}
