//! What the host offers to a plugin during a call.

use crate::{PResult, components::appendable};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RArc, RStr, RString},
};
use core::{ffi::c_void, marker::PhantomData};

/// The body of a parallel loop on its way to the host's threads.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Job<'a> {
    data: *const c_void,
    call: extern "C" fn(*const c_void, usize),
    lifetime: PhantomData<&'a u8>,
}

// SAFETY: `Job::new` takes a `Sync` body only.
unsafe impl Send for Job<'_> {}
// SAFETY: as above.
unsafe impl Sync for Job<'_> {}

impl<'a> Job<'a> {
    /// Wraps a body. It must not unwind: a panic in it ends the process.
    pub fn new<F: Fn(usize) + Sync>(body: &'a F) -> Self {
        extern "C" fn call<F: Fn(usize) + Sync>(data: *const c_void, i: usize) {
            // SAFETY: `data` is the `&F` of `new`, alive for 'a, and F is `Sync`.
            unsafe { (*data.cast::<F>())(i) }
        }
        Self { data: core::ptr::from_ref(body).cast(), call: call::<F>, lifetime: PhantomData }
    }

    /// Runs the body for index `i`.
    pub fn run(&self, i: usize) {
        (self.call)(self.data, i);
    }
}

appendable! {
/// Services of the host, valid for the step that the call belongs to.
pub trait HostApi: Send + Sync + Clone {
    /// The most verbose level that is listened to: 0 none, 1 error … 5 trace.
    fn log_max_level(&self) -> u8;
    /// Logs one event; `fields` is a JSON object.
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>);
    /// Says how far the work is; `total` 0 means unknown.
    fn progress(&self, done: u64, total: u64, label: RStr<'_>);
    /// Whether the user asked to stop.
    fn is_cancelled(&self) -> bool;
    /// Runs the job for `0..n` on the host's threads and waits.
    fn parallel_for(&self, n: usize, job: Job<'_>);
    /// How many threads the host works with. Results must not depend on it.
    fn threads(&self) -> usize;
    /// The step's seed.
    fn seed(&self) -> u64;
    /// A folder for temporary files, removed after the step.
    #[sabi(last_prefix_field)]
    fn scratch_dir(&self) -> PResult<RString>;
}
}

/// The host as a plugin sees it.
pub type HostRef = HostApi_TO<'static, RArc<()>>;
