//! A host for unit tests of a plugin: no files, no threads; log messages go to standard error.

use crate::Context;
use lacuna_abi::{
    ErrorKind, HostApi, HostApi_TO, Job, PResult, PluginError, RArc, RResult, RStr, RString, TD_Opaque,
};

#[derive(Clone)]
struct TestHost {
    seed: u64,
}

/// A context with this seed, whose loops run one after the other.
///
/// ```
/// let cx = lacuna_sdk::testing::context(7);
/// assert_eq!(cx.parallel_map(3, |i| i * i), [0, 1, 4]);
/// ```
pub fn context(seed: u64) -> Context {
    Context { host: HostApi_TO::from_ptr(RArc::new(TestHost { seed }), TD_Opaque) }
}

impl HostApi for TestHost {
    fn log_max_level(&self) -> u8 {
        3
    }
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        eprintln!("[{level}] {target}: {message} {fields}");
    }
    fn progress(&self, _done: u64, _total: u64, _label: RStr<'_>) {}
    fn is_cancelled(&self) -> bool {
        false
    }
    fn parallel_for(&self, n: usize, job: Job<'_>) {
        (0..n).for_each(|i| job.run(i));
    }
    fn threads(&self) -> usize {
        1
    }
    fn seed(&self) -> u64 {
        self.seed
    }
    fn scratch_dir(&self) -> PResult<RString> {
        RResult::RErr(PluginError::new(ErrorKind::FAILED, "the test host has no scratch folder"))
    }
}
