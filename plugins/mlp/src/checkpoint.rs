//! What a training that is killed goes on from: weights, moments, the best weights and the curve, in the step's scratch
//! folder. It goes on to the same bytes; how often a checkpoint is written changes nothing but what is lost.

use crate::lanes::{Chunk, LANES};
use crate::network::Network;
use crate::step::Trainer;
use crate::train::Look;
use crate::weights::Weights;
use lacuna_sdk::prelude::*;
use lacuna_sdk::tracing;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, BufWriter, Read, Result as IoResult, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Counts up when what is written, or how it goes on, changes: a checkpoint of another layout is not gone on from.
const LAYOUT: u32 = 3;

/// The state of a training between two steps.
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Weights and moments.
    pub trainer: Trainer,
    /// The best weights so far, and their loss.
    pub best: Option<Weights>,
    /// See [`best`](Self::best).
    pub best_loss: f64,
    /// The looks so far.
    pub history: Vec<Look>,
}

/// Where checkpoints of a training are kept, and how often.
pub struct Checkpoints {
    path: Option<PathBuf>,
    every: Duration,
    last: Instant,
    /// Of all that decides the training.
    fingerprint: u64,
}

impl Checkpoints {
    /// In the scratch folder of the step; without one there are none. The training goes on from a network, if one is given.
    pub fn new(
        config: &impl std::fmt::Debug,
        every: f64,
        (from, training): (Option<&Network<f32>>, &Training<'_>),
        cx: &Context,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        (LAYOUT, format!("{config:?}"), cx.seed()).hash(&mut hasher);
        for layer in from.into_iter().flat_map(|network| &network.layers) {
            layer.w.iter().chain(&layer.b).for_each(|weight| weight.to_bits().hash(&mut hasher));
        }
        for cells in std::iter::once(&training.cells).chain(&training.validation) {
            (cells.len(), cells.gene_names()).hash(&mut hasher);
            for i in 0..cells.len() {
                cells.assemblage(i).hash(&mut hasher);
                cells.shares(i).for_each(|share| share.to_bits().hash(&mut hasher));
            }
        }
        let fingerprint = hasher.finish();
        let path = cx.scratch_dir().ok().map(|dir| dir.join(format!("mlp-{fingerprint:016x}.training")));
        // Longer than any training is never.
        let every = Duration::try_from_secs_f64(every).unwrap_or(Duration::MAX);
        Self { path, every, last: Instant::now(), fingerprint }
    }

    /// Goes on where an earlier training of the same kind stopped. What cannot be read is as if it were not there.
    pub fn resume(&self, state: &mut State) {
        let Some(file) = self.path.as_ref().and_then(|path| File::open(path).ok()) else { return };
        let mut from =
            Hashed { inner: BufReader::with_capacity(1 << 20, file), hasher: DefaultHasher::new() };
        match self.read(&mut from, state) {
            Ok(Some(())) => {
                tracing::info!(step = state.step, "the training goes on where it was interrupted")
            }
            Ok(None) => (),
            Err(e) => tracing::warn!("a checkpoint of the training cannot be read ({e}): it begins anew"),
        }
    }

    /// Writes a checkpoint when it is time to.
    pub fn keep(&mut self, state: &mut State, cx: &Context) {
        let Some(path) = self.path.as_ref().filter(|_| self.last.elapsed() >= self.every) else { return };
        state.trainer.settle(cx);
        let temporary = path.with_extension("part");
        let written = File::create(&temporary).and_then(|file| {
            let mut out =
                Hashed { inner: BufWriter::with_capacity(1 << 20, file), hasher: DefaultHasher::new() };
            self.write(&mut out, state)?;
            let hash = out.hasher.finish();
            out.inner.write_all(&hash.to_le_bytes())?;
            out.inner.into_inner()?.sync_all()?;
            std::fs::rename(&temporary, path)
        });
        if let Err(e) = written {
            tracing::warn!(
                "no checkpoint of the training can be kept ({e}): if it is interrupted it begins anew"
            );
            self.path = None;
        }
        self.last = Instant::now();
    }

    fn write(&self, out: &mut impl Write, state: &State) -> IoResult<()> {
        let numbers = [
            self.fingerprint,
            state.step,
            state.trainer.updates() as u64,
            state.best_loss.to_bits(),
            u64::from(state.best.is_some()),
            state.history.len() as u64,
        ];
        let looks = state.history.iter();
        let looks = looks.flat_map(|look| [look.step, look.training.to_bits(), look.validation.to_bits()]);
        for number in numbers.into_iter().chain(looks) {
            out.write_all(&number.to_le_bytes())?;
        }
        for list in state.trainer.state().into_iter().chain(&state.best).flat_map(Weights::lists) {
            for chunk in list {
                let mut bytes = [0; 4 * LANES];
                bytes
                    .as_chunks_mut()
                    .0
                    .iter_mut()
                    .zip(chunk.0)
                    .for_each(|(b, x): (&mut [u8; 4], _)| *b = x.to_le_bytes());
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    fn read(&self, from: &mut Hashed<impl Read>, state: &mut State) -> IoResult<Option<()>> {
        let mut number = || {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes).map(|()| u64::from_le_bytes(bytes))
        };
        if number()? != self.fingerprint {
            return Ok(None);
        }
        let [step, updates, best_loss, has_best, looks] =
            [number()?, number()?, number()?, number()?, number()?];
        let mut history = vec![];
        for _ in 0..looks {
            let (step, training) = (number()?, f64::from_bits(number()?));
            history.push(Look { step, training, validation: f64::from_bits(number()?) });
        }
        let mut trainer = state.trainer.clone();
        trainer.set_updates(updates as i32);
        let mut best = (has_best == 1).then(|| trainer.weights.clone());
        for list in trainer.state_mut().into_iter().chain(&mut best).flat_map(Weights::lists_mut) {
            read_chunks(from, list)?;
        }
        let (found, mut hash) = (from.hasher.finish(), [0; 8]);
        from.inner.read_exact(&mut hash)?;
        if u64::from_le_bytes(hash) != found {
            return Err(std::io::Error::other("it is damaged"));
        }
        *state = State { step, trainer, best, best_loss: f64::from_bits(best_loss), history };
        Ok(Some(()))
    }
}

/// What is written or read, and a hash of it.
struct Hashed<T> {
    inner: T,
    hasher: DefaultHasher,
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.write(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> IoResult<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> IoResult<usize> {
        let n = self.inner.read(bytes)?;
        self.hasher.write(&bytes[..n]);
        Ok(n)
    }
}

fn read_chunks(from: &mut impl Read, list: &mut [Chunk]) -> IoResult<()> {
    for chunk in list {
        let mut bytes = [0; 4 * LANES];
        from.read_exact(&mut bytes)?;
        chunk.0.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b));
    }
    Ok(())
}
