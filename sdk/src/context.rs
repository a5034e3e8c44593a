//! The host's services during a call.

use crate::{Error, Result, runtime};
use lacuna_abi::{HostRef, Job};
use rand::SeedableRng;
use std::path::PathBuf;
use std::sync::Mutex;

/// A stream of random numbers: ChaCha8, the same on every machine.
pub type Stream = rand_chacha::ChaCha8Rng;

/// Random stream `n` of a seed, as [`Context::stream`] gives it for the step's seed.
pub fn stream(seed: u64, n: u64) -> Stream {
    let mut stream = Stream::seed_from_u64(seed);
    stream.set_stream(n);
    stream
}

/// The host's services, valid during one call.
pub struct Context {
    pub(crate) host: HostRef,
}

impl Context {
    /// Says how far the work is; a `total` of 0 means unknown.
    pub fn progress(&self, done: u64, total: u64, label: &str) {
        self.host.progress(done, total, label.into());
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.host.is_cancelled()
    }

    /// Ends the call when the user asked to stop. Call it inside long loops: `cx.check()?`.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// How many threads the host works with. No result may depend on it.
    pub fn threads(&self) -> usize {
        self.host.threads()
    }

    /// The step's seed.
    pub fn seed(&self) -> u64 {
        self.host.seed()
    }

    /// Random stream `n` of the step. Give each cell its own, by its [id](crate::Cells::id), and the result depends neither
    /// on threads nor on which cells are asked about together.
    pub fn stream(&self, n: u64) -> Stream {
        stream(self.seed(), n)
    }

    /// A folder for temporary files, removed when the step is finished. A run that was killed finds it again as it was left
    /// by the same step (same plugin, parameters, inputs, seed): long fits keep in it what they go on from.
    pub fn scratch_dir(&self) -> Result<PathBuf> {
        let path = self.host.scratch_dir().into_result().map_err(|e| Error::failed(e.message.to_string()))?;
        Ok(PathBuf::from(path.as_str()))
    }

    /// Runs `body` for `0..n` on the host's threads and waits. A panic in it is raised here.
    pub fn parallel<F: Fn(usize) + Sync>(&self, n: usize, body: F) {
        runtime::parallel(&self.host, n, &body);
    }

    /// Runs `body` for `0..n` on the host's threads and collects what it returns, in order.
    pub fn parallel_map<T: Send, F: Fn(usize) -> T + Sync>(&self, n: usize, body: F) -> Vec<T> {
        let mut results: Vec<Option<T>> = (0..n).map(|_| None).collect();
        self.parallel_chunks(&mut results, 1, |i, slot| slot[0] = Some(body(i)));
        results.into_iter().flatten().collect()
    }

    /// Cuts `values` into chunks and runs `body` with each chunk's number on the host's threads.
    ///
    /// # Panics
    /// When `chunk` is 0.
    pub fn parallel_chunks<T: Send, F>(&self, values: &mut [T], chunk: usize, body: F)
    where
        F: Fn(usize, &mut [T]) + Sync,
    {
        let chunks: Vec<Mutex<Option<&mut [T]>>> =
            values.chunks_mut(chunk).map(|c| Mutex::new(Some(c))).collect();
        self.parallel(chunks.len(), |i| {
            let taken = chunks[i].lock().unwrap_or_else(|e| e.into_inner()).take();
            if let Some(chunk) = taken {
                body(i, chunk);
            }
        });
    }
}

/// A job for the border.
pub(crate) fn run(host: &HostRef, n: usize, body: &(impl Fn(usize) + Sync)) {
    host.parallel_for(n, Job::new(body));
}
