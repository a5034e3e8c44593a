//! A screen without its table: what is told of genes and cells is kept while the impacts go by.
//!
//! Finished parts leave the state so far and the strongest knockouts of their cells in a folder, which goes when the
//! screen is done; a killed screen goes on from there.

use super::genes::{GeneSummary, Subjects, quantile_of};
use super::impacts::{Sink, compute};
use super::ranking::{Ranked, Tally};
use super::strongest::Strongest;
use super::{ImpactTable, Setup};
use crate::data::{Knockouts, Window};
use crate::run::write_atomically;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A part is closed behind so many rows.
const ROWS_OF_A_PART: usize = 1 << 20;
/// Bits of a value's mantissa that tell bins apart: 32 bins between two powers of 2.
const MANTISSA: u32 = 5;

/// Counts of values in bins whose width is 1/32 of the power of 2 below them.
///
/// A bin is told from others by the first bits of a value, so that no logarithm decides. The middle of a bin is within
/// 1/64 of each value in it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sketch {
    /// Bins that are not empty, ascending.
    bins: Vec<(i32, u32)>,
}

impl Sketch {
    /// The bin of a value: 0 is that of 0, values below 0 have negative ones.
    fn bin(value: f32) -> i32 {
        let bin = (value.abs().to_bits() >> (23 - MANTISSA)) as i32;
        if value < 0.0 { -bin } else { bin }
    }

    /// The middle of a bin.
    fn middle(bin: i32) -> f64 {
        let low = bin.unsigned_abs() << (23 - MANTISSA);
        let middle = if bin == 0 { 0.0 } else { f64::from(f32::from_bits(low | 1 << (22 - MANTISSA))) };
        if bin < 0 { -middle } else { middle }
    }

    fn add(&mut self, value: f32) {
        let bin = Self::bin(value);
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => self.bins[at].1 += 1,
            Err(at) => self.bins.insert(at, (bin, 1)),
        }
    }

    /// The value of this rank among all, ascending, to within 1/64.
    fn ranked(&self, rank: usize) -> f64 {
        let mut before = 0;
        let holds = |(_, count): &&(i32, u32)| {
            before += *count as usize;
            before > rank
        };
        self.bins.iter().find(holds).map_or(f64::NAN, |(bin, _)| Self::middle(*bin))
    }
}

/// The impacts of one gene's knockout in one group, by one metric.
#[derive(Debug, Clone, Default, PartialEq)]
struct Moments {
    n: u64,
    /// In the order of rows, so that the mean is that of the table.
    sum: f64,
    /// Running mean, and sum of squared differences from it (Welford).
    mean: f64,
    squares: f64,
    sketch: Sketch,
}

impl Moments {
    fn add(&mut self, value: f32) {
        let x = f64::from(value);
        self.n += 1;
        self.sum += x;
        let before = x - self.mean;
        self.mean += before / self.n as f64;
        self.squares += before * (x - self.mean);
        self.sketch.add(value);
    }

    fn mean_interval(&self) -> (f64, (f64, f64)) {
        let n = self.n as f64;
        let (mean, error) = (self.sum / n, (self.squares / (n - 1.0) / n).sqrt());
        (mean, super::effects::interval((mean, error)))
    }
}

/// All that is kept of the impacts so far.
struct State {
    /// Parts that are in it.
    parts: usize,
    /// Their rows.
    rows: usize,
    tally: Tally,
    /// By column, then group, then gene.
    genes: Vec<Moments>,
}

/// Keeps what is told of a screen.
pub struct Summary<'a> {
    setup: &'a Setup<'a>,
    subjects: &'a Subjects<'a>,
    strongest: Strongest,
    dir: PathBuf,
    columns: Vec<String>,
    lowest_first: Vec<bool>,
    state: State,
    /// The number of the part that comes next.
    next: usize,
}

impl<'a> Summary<'a> {
    /// Begins, or goes on where a killed run left the folder.
    pub fn begin(
        setup: &'a Setup<'a>,
        subjects: &'a Subjects<'a>,
        strongest: Strongest,
        dir: &Path,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lowest_first: Vec<bool> =
            setup.screen.impacts.iter().map(|impact| impact.strongest() == "lowest").collect();
        let columns: Vec<String> = setup.measures.iter().map(|measure| measure.column.clone()).collect();
        let genes = subjects.cells.n_genes();
        let tally = Tally::new(strongest.column(), lowest_first[strongest.column()], genes);
        let genes = vec![Moments::default(); columns.len() * subjects.groups.names.len() * genes];
        let empty = State { parts: 0, rows: 0, tally, genes };
        let dir = dir.to_path_buf();
        let mut summary =
            Self { setup, subjects, strongest, dir, columns, lowest_first, state: empty, next: 0 };
        if let Ok(bytes) = std::fs::read(summary.dir.join(STATE)) {
            summary.go_on(&bytes);
        }
        Ok(summary)
    }

    /// Goes on from what a killed run left, if all of it is there.
    fn go_on(&mut self, bytes: &[u8]) {
        let (tally, genes) = (self.state.tally.clone(), self.state.genes.clone());
        let empty = State { parts: 0, rows: 0, tally, genes };
        match empty.restored(bytes) {
            Ok(state) if (0..state.parts).all(|part| self.strongest_file(part).exists()) => {
                tracing::info!(parts = state.parts, "the screen goes on where it was interrupted");
                self.state = state;
            }
            // No warning of the results, which are as if nothing had been interrupted.
            _ => tracing::warn!("what an interrupted run left of this screen is damaged: it begins anew"),
        }
    }

    fn add(&mut self, part: &ImpactTable) {
        let groups = &self.subjects.groups;
        let genes = self.subjects.cells.n_genes();
        for (column, values) in part.values.iter().enumerate() {
            for (i, &value) in values.iter().enumerate() {
                let Some(gene) = part.knockouts.single(i).filter(|_| !value.is_nan()) else { continue };
                for group in groups.of_cell(part.knockouts.cell[i] as usize) {
                    self.state.genes[(column * groups.names.len() + group) * genes + gene as usize]
                        .add(value);
                }
            }
        }
        self.state.tally.add(part);
        self.state.rows += part.len();
        self.state.parts += 1;
    }

    fn strongest_file(&self, part: usize) -> PathBuf {
        self.dir.join(format!("cells-{part:06}.parquet"))
    }

    /// Number of knockouts; what there is to say of each gene, by group, metric and rank; all knockouts ranked. The
    /// strongest of each cell are written.
    pub fn finish(self, strongest: &Path) -> Result<(usize, Vec<GeneSummary>, Vec<Ranked>)> {
        let files: Vec<PathBuf> = (0..self.state.parts).map(|part| self.strongest_file(part)).collect();
        self.strongest.join(&files, &self.columns, strongest)?;
        let (names, genes) = (&self.subjects.groups.names, self.subjects.cells.n_genes());
        let mut out = vec![];
        for (group, name) in names.iter().enumerate() {
            for (column, metric) in self.columns.iter().enumerate() {
                let first = (column * names.len() + group) * genes;
                let one = |(gene, of): (usize, &Moments)| {
                    let quantiles = |q| quantile_of(of.n as usize, q, |rank| of.sketch.ranked(rank));
                    (of.n > 0).then(|| {
                        let whose = (name.as_str(), metric.as_str());
                        let of = (of.mean_interval(), quantiles);
                        GeneSummary::with_impacts(whose, gene as u32, self.subjects.known(group), of)
                    })
                };
                let found = self.state.genes[first..first + genes].iter().enumerate().filter_map(one);
                out.extend(super::genes::ranked(found.collect(), self.lowest_first[column]));
            }
        }
        Ok((self.state.rows, out, self.state.tally.ranked(self.subjects.cells.var())))
    }
}

/// Removes the folder, if there is one. First it is out of sight, so that no run goes on from half of it.
pub fn remove(dir: &Path) -> Result<()> {
    let place = || format!("cannot remove {}", dir.display());
    let away = dir.with_extension("old");
    let clear = || if away.exists() { std::fs::remove_dir_all(&away).with_context(place) } else { Ok(()) };
    // A kill may have left what was to go.
    clear()?;
    if dir.exists() {
        std::fs::rename(dir, &away).with_context(place)?;
    }
    clear()
}

/// Where the state lies in the folder.
const STATE: &str = "state.bin";

impl Sink for Summary<'_> {
    fn rows_of_a_part(&self) -> usize {
        ROWS_OF_A_PART
    }

    fn write(
        &mut self,
        knockouts: Knockouts,
        window: &Window<'_>,
        (before, total): (u64, u64),
    ) -> Result<()> {
        let number = self.next;
        self.next += 1;
        if number < self.state.parts {
            return Ok(());
        }
        let host = self.setup.host;
        let progress = |done: usize| host.progress(before + done as u64, total, "knockouts");
        let start = window.start() as u64;
        let here = knockouts.renumbered(|cell| cell - start);
        let values = compute(&self.setup.shot(window.cells()), &here, &progress)?;
        let knockouts = here.renumbered(|cell| cell + start);
        let part = ImpactTable { knockouts, columns: self.columns.clone(), values };
        let cells = self.subjects.cells;
        let frames = (cells.obs(), cells.var());
        self.strongest.write(&part, frames, &self.strongest_file(number))?;
        self.add(&part);
        write_atomically(&self.dir.join(STATE), &self.state.bytes())
    }
}

impl State {
    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![];
        [self.parts, self.rows, self.genes.len()].into_iter().for_each(|n| put(&mut out, n as u64));
        self.tally.numbers().into_iter().for_each(|n| put(&mut out, n));
        for of in &self.genes {
            put(&mut out, of.n);
            [of.sum, of.mean, of.squares].into_iter().for_each(|x| put(&mut out, x.to_bits()));
            put(&mut out, of.sketch.bins.len() as u64);
            of.sketch.bins.iter().for_each(|&(bin, count)| {
                out.extend_from_slice(&bin.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            });
        }
        out
    }

    /// The state that these bytes are of, of the same screen as this one.
    fn restored(self, bytes: &[u8]) -> Result<Self> {
        let mut from = Numbers(bytes);
        let (parts, rows) = (from.next()? as usize, from.next()? as usize);
        ensure!(from.next()? == self.genes.len() as u64, "it is of other genes or groups");
        let tally = self.tally.restored(&mut || from.next())?;
        let mut genes = vec![];
        for _ in 0..self.genes.len() {
            let n = from.next()?;
            let [sum, mean, squares] = [from.next()?, from.next()?, from.next()?].map(f64::from_bits);
            let bins = (0..from.next()?).map(|_| from.next().map(|n| (n as u32 as i32, (n >> 32) as u32)));
            let sketch = Sketch { bins: bins.collect::<Result<_>>()? };
            genes.push(Moments { n, sum, mean, squares, sketch });
        }
        Ok(Self { parts, rows, tally, genes })
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Numbers of 8 bytes, one after the other.
struct Numbers<'b>(&'b [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Result<u64> {
        let (number, rest) = self.0.split_first_chunk().context("it ends before its time")?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_s_middle_is_near_all_its_values() {
        for value in [1e-30f32, 3.1e-7, 0.0101, 0.25, 0.999, 1.0, 17.3, 4e9] {
            for value in [value, -value] {
                let middle = Sketch::middle(Sketch::bin(value));
                assert!(
                    (middle - f64::from(value)).abs() <= f64::from(value.abs()) / 64.0,
                    "{value}: {middle}"
                );
            }
        }
        assert_eq!((Sketch::bin(0.0), Sketch::bin(-0.0), Sketch::middle(0)), (0, 0, 0.0));
        assert!(Sketch::bin(-2.0) < Sketch::bin(-1.0) && Sketch::bin(-1.0) < Sketch::bin(1e-3));
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let new = || State {
            parts: 0,
            rows: 0,
            tally: Tally::new(0, false, 3),
            genes: vec![Moments::default(); 3],
        };
        let mut state = State { parts: 4, rows: 7, ..new() };
        [0.5, -0.25, 0.0, 0.3, 0.3].into_iter().for_each(|x| state.genes[1].add(x));
        let mut knockouts = Knockouts::default();
        knockouts.push(0, &[2], &[0.0]);
        knockouts.push(1, &[0, 2], &[0.0, 0.5]);
        let (columns, values) = (vec!["impact".into()], vec![vec![0.1, 0.7]]);
        state.tally.add(&ImpactTable { knockouts, columns, values });
        let again = new().restored(&state.bytes()).unwrap();
        assert_eq!((again.parts, again.rows, &again.genes), (4, 7, &state.genes));
        let var = crate::data::Frame::of_names(["A", "B", "C"].map(String::from).to_vec());
        assert_eq!(again.tally.ranked(&var), state.tally.ranked(&var));
        let bytes = new().bytes();
        assert!(new().restored(&bytes[..bytes.len() - 1]).is_err());
        let of = &again.genes[1];
        assert!(of.n == 5 && (of.sum - 0.85).abs() < 1e-6 && (of.sketch.ranked(4) - 0.5).abs() < 0.01);
    }
}
