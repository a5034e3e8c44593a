//! Impacts, block by block: predict, compare, drop. No screen ever holds all profiles.

use super::{Against, Measure, Setup, Shot};
use crate::data::{CellSet, Knockouts, Window};
use crate::plugin::{Fitted, Strategy};
use crate::run::{Cancelled, json_bytes};
use anyhow::{Context, Result};
use lacuna_abi::MatRef;
use rayon::prelude::*;
use serde_json::{Value as Json, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cells that a strategy is asked about at once.
const CELLS_AT_ONCE: usize = 64;
/// A part is closed at the first such block boundary behind this many rows.
const ROWS_OF_A_PART: usize = 1 << 17;
/// A part is closed at the first such block boundary behind this many cells, too: these are held.
const CELLS_OF_A_PART: usize = 1 << 12;
/// Rows that are predicted at once, and values of them.
const ROWS_AT_ONCE: usize = 512;
const VALUES_AT_ONCE: usize = 1 << 22;
/// Rows of one task where the model screens without profiles: many cells, which then share what it reads.
const ROWS_OF_A_FUSED_TASK: usize = 1 << 15;

/// The knockouts of a screen: asked for again where a strategy looks at each cell alone, else all of them.
pub enum Proposals<'a> {
    /// A strategy that is asked about blocks of cells.
    ByBlocks(&'a Strategy),
    /// What such a strategy has said to all blocks, in the order of results: it was counted, and is not much.
    Asked(Knockouts),
    /// All, in the order of results.
    All(Knockouts),
}

impl<'a> Proposals<'a> {
    /// Those of a strategy; one that looks at all cells gets all of them, which are held then.
    pub fn of(setup: &Setup<'_>, cells: &CellSet, strategy: &'a Strategy) -> Result<Self> {
        if super::by_blocks(&setup.screen.knockouts) {
            return Ok(Self::ByBlocks(strategy));
        }
        Ok(Self::All(match &setup.screen.known {
            Some(known) => known.clone(),
            None => all_rounds(&setup.shot(&*cells.load()?), strategy)?,
        }))
    }

    /// Whether there are more knockouts than this. What a strategy is asked to count them is kept where it takes at
    /// most so many bytes, so that it is asked once.
    pub fn are_more_than(
        &mut self,
        most: usize,
        setup: &Setup<'_>,
        cells: &CellSet,
        bytes: u64,
    ) -> Result<bool> {
        if let Self::All(all) | Self::Asked(all) = self {
            return Ok(all.len() > most);
        }
        let (mut window, mut count, mut kept) = (Window::of(cells), 0, Some(Knockouts::default()));
        for block in blocks(cells.len(), CELLS_AT_ONCE) {
            window.reach(block.end)?;
            let found = self.within(setup, &window, block.clone())?;
            count += found.len();
            if count > most {
                return Ok(true);
            }
            kept = kept.filter(|kept| kept.bytes() + found.bytes() <= bytes);
            if let Some(kept) = &mut kept {
                kept.append(&found);
            }
            window.release(block.end);
        }
        if let Some(kept) = kept {
            *self = Self::Asked(kept);
        }
        Ok(false)
    }

    /// The knockouts in some cells, which are in the window; cells by their numbers in the set.
    pub fn within(&self, setup: &Setup<'_>, window: &Window<'_>, cells: Range<usize>) -> Result<Knockouts> {
        let strategy = match self {
            Self::ByBlocks(strategy) => strategy,
            Self::All(all) | Self::Asked(all) => {
                let row = |cell: usize| all.cell.partition_point(|&c| c < cell as u64);
                return Ok(all.select(row(cells.start)..row(cells.end)));
            }
        };
        let (none, mut found) = (Knockouts::default(), Knockouts::default());
        for block in blocks(cells.len(), CELLS_AT_ONCE) {
            if setup.host.cancelled() {
                return Err(Cancelled.into());
            }
            let first = cells.start + block.start;
            let asked = window.select(first..first + block.len());
            let proposed = setup.shot(&asked).proposed(strategy, &asked, (0, &none, &[]))?;
            found.append(&proposed.renumbered(|cell| cell + first as u64));
        }
        Ok(found)
    }

    /// Hands over all knockouts in parts that end between cells, and with each the cells that it is about.
    pub fn each_part(&self, setup: &Setup<'_>, cells: &CellSet, sink: &mut dyn Sink) -> Result<()> {
        let mut window = Window::of(cells);
        if let Self::All(all) = self {
            return part_rows(all, sink.rows_of_a_part()).into_iter().try_for_each(|rows| {
                let progress = (rows.start as u64, all.len() as u64);
                sink.write(all.select(rows), &window, progress)
            });
        }
        let (mut pending, mut first, mut written) = (Knockouts::default(), 0, 0);
        for block in blocks(cells.len(), CELLS_AT_ONCE) {
            window.reach(block.end)?;
            pending.append(&self.within(setup, &window, block.clone())?);
            let is_full = pending.len() >= sink.rows_of_a_part() || block.end - first >= CELLS_OF_A_PART;
            if !(is_full || block.end == cells.len()) {
                continue;
            }
            if !pending.is_empty() {
                let rows = pending.len() as u64;
                // As many for each cell to come as for those so far.
                let total = (written + rows) * cells.len() as u64 / block.end as u64;
                sink.write(std::mem::take(&mut pending), &window, (written, total))?;
                written += rows;
            }
            window.release(block.end);
            first = block.end;
        }
        Ok(())
    }
}

/// What takes the knockouts of a screen, part by part.
pub trait Sink {
    /// A part is closed behind so many rows.
    fn rows_of_a_part(&self) -> usize;

    /// Computes the impacts of a part, whose cells are in the window, unless an earlier run has done so; `progress` is
    /// how many rows were before, and how many there will be.
    fn write(&mut self, knockouts: Knockouts, window: &Window<'_>, progress: (u64, u64)) -> Result<()>;
}

/// 0..n in pieces of this size.
pub fn blocks(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(size).map(move |start| start..(start + size).min(n))
}

/// Rows cut between cells.
fn part_rows(all: &Knockouts, most: usize) -> Vec<Range<usize>> {
    let mut parts = vec![];
    let mut start = 0;
    for (_, run) in all.by_cell() {
        if run.end - start >= most {
            parts.push(start..run.end);
            start = run.end;
        }
    }
    if start < all.len() {
        parts.push(start..all.len());
    }
    parts
}

/// All rounds of a strategy that looks at all cells; each after the first sees the impacts so far.
fn all_rounds(shot: &Shot<'_>, strategy: &Strategy) -> Result<Knockouts> {
    let mut all = Knockouts::default();
    let mut impacts = vec![];
    for round in 0.. {
        let next = shot.proposed(strategy, shot.cells, (round, &all, &impacts))?;
        all.append(&next);
        if next.is_empty() || !shot.screen.knockouts.component.adaptive() {
            break;
        }
        impacts.extend(compute(shot, &next, &|_| ())?.swap_remove(0));
    }
    Ok(all.sorted())
}

/// Writes the table of all impacts in parts, and last its manifest. Parts that are there already are kept.
pub struct Parts<'a> {
    setup: &'a Setup<'a>,
    cells: &'a CellSet,
    dir: PathBuf,
    parts: Vec<Json>,
}

impl Sink for Parts<'_> {
    fn rows_of_a_part(&self) -> usize {
        ROWS_OF_A_PART
    }

    fn write(&mut self, knockouts: Knockouts, window: &Window<'_>, progress: (u64, u64)) -> Result<()> {
        let file = format!("part-{:06}.parquet", self.parts.len());
        let path = self.dir.join(&file);
        let name = |i: usize| &self.cells.obs().names[knockouts.cell[i] as usize];
        let rows = knockouts.len();
        self.parts
            .push(json!({ "file": file, "rows": rows, "first_cell": name(0), "last_cell": name(rows - 1) }));
        // Parts appear whole: what is there is done work of a run that was killed.
        if path.exists() { Ok(()) } else { self.compute(knockouts, &path, window, progress) }
    }
}

impl<'a> Parts<'a> {
    /// In a folder.
    pub fn begin(setup: &'a Setup<'a>, cells: &'a CellSet, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { setup, cells, dir: dir.to_path_buf(), parts: vec![] })
    }

    fn compute(
        &self,
        knockouts: Knockouts,
        path: &Path,
        window: &Window<'_>,
        (before, total): (u64, u64),
    ) -> Result<()> {
        let (host, start) = (self.setup.host, window.start() as u64);
        let progress = |done: usize| host.progress(before + done as u64, total, "knockouts");
        let here = knockouts.renumbered(|cell| cell - start);
        let impacts = compute(&self.setup.shot(window.cells()), &here, &progress)?;
        let measures = self.setup.measures.iter().zip(&impacts);
        let columns: Vec<(&str, &[f32])> =
            measures.map(|(measure, values)| (measure.column.as_str(), values.as_slice())).collect();
        let names = (self.cells.obs().names.as_slice(), self.cells.var().names.as_slice());
        super::table::write_knockouts(path, &here.renumbered(|cell| cell + start), &columns, names)
    }

    /// Writes the manifest.
    pub fn finish(self) -> Result<()> {
        let screen = self.setup.screen;
        let rows: u64 = self.parts.iter().filter_map(|p| p["rows"].as_u64()).sum();
        let manifest = json!({
            "format": 1, "rows": rows, "impacts": self.setup.described(), "anchor": screen.anchor,
            "knockouts": screen.knockouts.describe(), "model": self.setup.model.fitted.name(),
            "parts": self.parts,
        });
        crate::run::write_atomically(&self.dir.join("manifest.json"), &json_bytes(&manifest)?)
    }
}

/// The impacts of knockouts, one list for each metric; NaN where there is no value.
///
/// The rows are cut into tasks of fixed size, so that nothing depends on the number of threads. `progress` is told
/// how many are done.
pub fn compute(
    shot: &Shot<'_>,
    knockouts: &Knockouts,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Vec<f32>>> {
    let rows = if shot.is_fused() { ROWS_OF_A_FUSED_TASK } else { rows_at_once(shot) };
    let tasks = tasks(knockouts, rows);
    let finished = AtomicUsize::new(0);
    let done: Vec<Vec<Vec<f32>>> = tasks
        .par_iter()
        .map_init(Buffers::default, |buffers, rows| {
            if shot.host.cancelled() {
                return Err(Cancelled.into());
            }
            let task = knockouts.select(rows.clone());
            let impacts =
                shot.measures.iter().map(|m| task_impacts(shot, m, &task, buffers)).collect::<Result<_>>()?;
            progress(finished.fetch_add(rows.len(), Ordering::Relaxed) + rows.len());
            Ok(impacts)
        })
        .collect::<Result<_>>()?;
    let column = |m: usize| done.iter().flat_map(|task| task[m].iter().copied()).collect();
    Ok((0..shot.measures.len()).map(column).collect())
}

/// Fewer rows of many genes, so that what is predicted at once is of bounded size.
fn rows_at_once(shot: &Shot<'_>) -> usize {
    (VALUES_AT_ONCE / shot.cells.n_genes().max(1)).clamp(1, ROWS_AT_ONCE)
}

/// Cuts the knockouts into pieces of at most so many rows, between cells where that is possible.
fn tasks(knockouts: &Knockouts, most: usize) -> Vec<Range<usize>> {
    let mut tasks: Vec<Range<usize>> = vec![];
    for (_, run) in knockouts.by_cell() {
        for piece in blocks(run.len(), most).map(|b| run.start + b.start..run.start + b.end) {
            match tasks.last_mut() {
                Some(last) if piece.end - last.start <= most => last.end = piece.end,
                _ => tasks.push(piece),
            }
        }
    }
    tasks
}

#[derive(Default)]
struct Buffers {
    predicted: Vec<f32>,
    after: Vec<f32>,
    before: Vec<f32>,
    observed: Vec<f32>,
}

/// The impacts of a task; of an ensemble the mean over its members.
fn task_impacts(
    shot: &Shot<'_>,
    measure: &Measure,
    task: &Knockouts,
    buffers: &mut Buffers,
) -> Result<Vec<f32>> {
    let mut of_member = |member: &Fitted| by_member(shot, member, measure, task, buffers);
    if shot.model.others.is_empty() {
        return of_member(&shot.model.fitted);
    }
    let (mut sums, mut members) = (vec![0f64; task.len()], 0f64);
    for member in shot.model.members() {
        sums.iter_mut().zip(of_member(member)?).for_each(|(sum, impact)| *sum += f64::from(impact));
        members += 1.0;
    }
    Ok(sums.into_iter().map(|sum| (sum / members) as f32).collect())
}

fn by_member(
    shot: &Shot<'_>,
    member: &Fitted,
    measure: &Measure,
    task: &Knockouts,
    buffers: &mut Buffers,
) -> Result<Vec<f32>> {
    if let Some(impacts) = fused(shot, member, measure, task)? {
        return Ok(impacts);
    }
    let mut impacts = Vec::with_capacity(task.len());
    for rows in tasks(task, rows_at_once(shot)) {
        impacts.extend(generic(shot, member, measure, (&task.select(rows), buffers))?);
    }
    Ok(impacts)
}

/// Predicts all profiles, and measures them.
fn generic(
    shot: &Shot<'_>,
    member: &Fitted,
    measure: &Measure,
    (task, buffers): (&Knockouts, &mut Buffers),
) -> Result<Vec<f32>> {
    let genes = shot.cells.n_genes();
    // Each cell as it is comes before its knockouts, so that the model sums up the cell once.
    let runs = task.by_cell();
    let mut query = Knockouts::default();
    for (cell, rows) in &runs {
        query.push(*cell as u64, &[], &[]);
        rows.clone().for_each(|i| query.push(*cell as u64, task.genes(i), task.levels(i)));
    }
    buffers.predicted.resize(query.len() * genes, 0.0);
    member.predict(shot.host, shot.cells, &query, &mut buffers.predicted)?;
    for buffer in [&mut buffers.after, &mut buffers.before, &mut buffers.observed] {
        buffer.clear();
    }
    let mut observed = vec![0.0; genes];
    let mut at = 0;
    for (cell, rows) in &runs {
        let base = &buffers.predicted[at * genes..(at + 1) * genes];
        shot.cells.write_profile(*cell, &mut observed);
        for (k, i) in rows.clone().enumerate() {
            let row = at + 1 + k;
            let predicted = &buffers.predicted[row * genes..(row + 1) * genes];
            let anchor = shot.screen.anchor.map(|e| (e, base, observed.as_slice()));
            let removed = (task.genes(i), task.levels(i));
            push_after(&mut buffers.after, predicted, anchor, removed);
            let reference = if measure.against.is_observed() { &observed } else { base };
            push_before(&mut buffers.before, reference, measure.against, removed);
            if measure.wants_observed {
                buffers.observed.extend_from_slice(&observed);
            }
        }
        at += rows.len() + 1;
    }
    let matrix = |values| MatRef::from_rows(values, task.len(), genes);
    let seen = measure.wants_observed.then(|| matrix(&buffers.observed));
    let pair = (matrix(&buffers.before), matrix(&buffers.after));
    let scores = measure.metric.score_rows(shot.host, pair, seen, Some(task))?;
    Ok(scores.into_iter().map(|s| s as f32).collect())
}

/// For the tests that hold the two ways against each other.
pub fn generic_only() -> bool {
    std::env::var_os("LACUNA_GENERIC_SCREEN").is_some()
}

/// The model's own way, if it has one for this formula.
fn fused(shot: &Shot<'_>, member: &Fitted, measure: &Measure, task: &Knockouts) -> Result<Option<Vec<f32>>> {
    let Some(formula) = measure.fused_formula(shot) else { return Ok(None) };
    let mut impacts = vec![f32::NAN; task.len()];
    let how = (formula, measure.against.word(), shot.screen.anchor);
    let offered = member.screen(shot.host, shot.cells, task, how, &mut impacts)?;
    Ok(offered.then_some(impacts))
}

/// The profile after the knockout; anchored, it is closed(observed × fold change), where the fold change is
/// (predicted + e/N) / (base + e/N), and genes at level 0 are silent.
pub fn push_after(
    after: &mut Vec<f32>,
    predicted: &[f32],
    anchor: Option<(f64, &[f32], &[f32])>,
    (genes, levels): (&[u32], &[f32]),
) {
    let start = after.len();
    after.extend_from_slice(predicted);
    let Some((e, base, observed)) = anchor else { return };
    let e = (e / predicted.len().max(1) as f64) as f32;
    let row = &mut after[start..];
    for ((x, &base), &observed) in row.iter_mut().zip(base).zip(observed) {
        let fold = (*x + e) / (base + e);
        *x = if observed > 0.0 { observed * fold } else { 0.0 };
    }
    genes.iter().zip(levels).filter(|(_, level)| **level == 0.0).for_each(|(&g, _)| row[g as usize] = 0.0);
    close(row);
}

/// Adds the profile that a knockout's prediction is compared with.
pub fn push_before(before: &mut Vec<f32>, reference: &[f32], against: Against, removed: (&[u32], &[f32])) {
    let start = before.len();
    before.extend_from_slice(reference);
    if against.is_null() {
        make_null(&mut before[start..], removed);
    }
}

/// The null profile: the genes at their levels (0 is a knockout), all others as they are, closed.
pub fn make_null(profile: &mut [f32], (genes, levels): (&[u32], &[f32])) {
    genes.iter().zip(levels).for_each(|(&g, level)| profile[g as usize] *= level);
    close(profile);
}

/// Makes a profile sum to 1; one of which nothing is left stays 0.
fn close(profile: &mut [f32]) {
    let sum: f64 = profile.iter().map(|&p| f64::from(p)).sum();
    if sum > 0.0 {
        profile.iter_mut().for_each(|p| *p = (f64::from(*p) / sum) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_of_bounded_size_and_cover_all_rows_in_order() {
        let mut k = Knockouts::default();
        for (cell, rows) in [(0, 100), (1, 300), (2, 300), (3, 1200), (4, 1)] {
            (0..rows).for_each(|g| k.push(cell, &[g], &[0.0]));
        }
        let tasks = tasks(&k, 512);
        assert!(tasks.iter().all(|t| t.len() <= 512));
        assert!(tasks.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!((tasks[0].start, tasks[tasks.len() - 1].end), (0, k.len()));
        assert!(tasks.len() <= 6, "{tasks:?}");
    }

    #[test]
    fn anchoring_keeps_the_cells_own_state_where_nothing_changes() {
        let observed = [0.5, 0.3, 0.2, 0.0];
        let base = [0.4, 0.4, 0.2, 0.0];
        let mut after = vec![];
        push_after(&mut after, &base, Some((0.1, &base, &observed)), (&[], &[]));
        for (a, b) in after.iter().zip(observed) {
            assert!((a - b).abs() < 1e-6);
        }
        after.clear();
        push_after(&mut after, &[0.0, 0.66, 0.34, 0.0], Some((0.1, &base, &observed)), (&[0], &[0.0]));
        assert_eq!(after[0], 0.0);
        assert!((after.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_null_profile_has_the_genes_at_their_levels() {
        let mut profile = [0.5, 0.3, 0.2];
        make_null(&mut profile, (&[0, 2], &[0.0, 1.5]));
        assert_eq!(profile, [0.0, 0.5, 0.5]);
        make_null(&mut profile, (&[1, 2], &[0.0, 0.0]));
        assert_eq!(profile, [0.0; 3]);
    }
}
