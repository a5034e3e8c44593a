//! What changes when a gene is lost: the mean profile before and after, gene by gene, signed.

use super::Shot;
use super::impacts::{make_null, push_after};
use super::table::write_parquet;
use crate::data::Knockouts;
use crate::run::Cancelled;
use anyhow::{Context, Result};
use arrow_array::builder::{Float64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Knockouts, and cells, that are predicted at once.
const KNOCKOUTS_AT_ONCE: usize = 8;
const CELLS_AT_ONCE: usize = 32;

/// Sums over the cells of one group, gene by gene.
struct Sums {
    n: f64,
    before: Vec<f64>,
    after: Vec<f64>,
    before2: Vec<f64>,
    after2: Vec<f64>,
    both: Vec<f64>,
    detected: Vec<f64>,
}

/// Writes the effects of each knockout on all other genes.
///
/// "Before" is the prediction without the removed genes, closed again, so that a knockout without consequence
/// changes nothing; with anchoring it is the observed profile instead. The interval of the log2 fold change is
/// the normal 95 % interval over cells (paired, delta method).
pub fn write(shot: &Shot<'_>, knockouts: &[Knockouts], groups: Option<&str>, path: &Path) -> Result<()> {
    let group_of: Vec<Option<String>> = match groups {
        None => vec![None; shot.cells.len()],
        Some(column) => crate::run::obs_column(shot.cells, column).context("`groups`")?.texts(),
    };
    let names: BTreeSet<&String> = group_of.iter().flatten().collect();
    let mut members: Vec<Member<'_>> = vec![("all", None)];
    members.extend(names.iter().map(|name| (name.as_str(), Some(*name))));
    let tables: Vec<Vec<RecordBatch>> = knockouts
        .par_chunks(KNOCKOUTS_AT_ONCE)
        .map(|some| of_knockouts(shot, some, &members, &group_of))
        .collect::<Result<_>>()?;
    let tables = tables.concat();
    let tables = if tables.is_empty() { vec![Table::new(OF_PROFILES).finish()?] } else { tables };
    write_parquet(path, &tables)
}

/// The numbers of effects on profiles.
pub const OF_PROFILES: &[&str] = &["before", "after", "log2fc", "log2fc_lower", "log2fc_upper", "detection"];
/// The numbers of effects that are scores.
pub const OF_SCORES: &[&str] = &["score", "detection"];

/// A group as results call it, and the annotation's value; none for all cells.
type Member<'a> = (&'a str, Option<&'a String>);
type Members<'a> = [Member<'a>];

/// The tables of some knockouts, which share the predictions of the cells as they are.
fn of_knockouts(
    shot: &Shot<'_>,
    knockouts: &[Knockouts],
    members: &Members<'_>,
    group_of: &[Option<String>],
) -> Result<Vec<RecordBatch>> {
    let (genes, names) = (shot.cells.n_genes(), &shot.cells.var.names);
    let mut sums: Vec<Vec<Sums>> =
        knockouts.iter().map(|_| members.iter().map(|_| Sums::new(genes)).collect()).collect();
    // Of each knockout the rows of the cells to come.
    let mut next = vec![0; knockouts.len()];
    for start in (0..shot.cells.len() as u64).step_by(CELLS_AT_ONCE) {
        if shot.host.cancelled() {
            return Err(Cancelled.into());
        }
        let mut asked: Vec<(u64, usize, usize)> = vec![];
        for (k, (rows, next)) in knockouts.iter().zip(&mut next).enumerate() {
            while *next < rows.len() && rows.cell[*next] < start + CELLS_AT_ONCE as u64 {
                asked.push((rows.cell[*next], k, *next));
                *next += 1;
            }
        }
        asked.sort_unstable();
        add_block(shot, knockouts, &asked, (members, group_of), &mut sums)?;
    }
    let table_of = |(rows, sums): (&Knockouts, &Vec<Sums>)| {
        let label = rows.label(0, names);
        let mut table = Table::new(OF_PROFILES);
        for ((group, _), sums) in members.iter().zip(sums).filter(|(_, s)| s.n > 0.0) {
            sums.tell(&mut table, (&label, group), rows.genes(0), names);
        }
        table.finish()
    };
    knockouts.iter().zip(&sums).map(table_of).collect()
}

/// Adds what some knockouts do in some cells: (cell, knockout, its row), by cell.
fn add_block(
    shot: &Shot<'_>,
    knockouts: &[Knockouts],
    asked: &[(u64, usize, usize)],
    (members, group_of): (&Members<'_>, &[Option<String>]),
    sums: &mut [Vec<Sums>],
) -> Result<()> {
    let genes = shot.cells.n_genes();
    let mut query = Knockouts::default();
    for of_cell in asked.chunk_by(|a, b| a.0 == b.0) {
        query.push(of_cell[0].0, &[], &[]);
        of_cell
            .iter()
            .for_each(|&(cell, k, i)| query.push(cell, knockouts[k].genes(i), knockouts[k].levels(i)));
    }
    let mut predicted = vec![0.0; query.len() * genes];
    shot.model.fitted.predict(shot.host, shot.cells, &query, &mut predicted)?;
    let mut rows = predicted.chunks_exact(genes.max(1));
    let mut observed = vec![0.0; genes];
    for of_cell in asked.chunk_by(|a, b| a.0 == b.0) {
        let cell = of_cell[0].0 as usize;
        let Some(base) = rows.next() else { break };
        shot.cells.write_profile(cell, &mut observed);
        for ((_, k, i), after) in of_cell.iter().zip(rows.by_ref()) {
            let lost = (knockouts[*k].genes(*i), knockouts[*k].levels(*i));
            let mut changed = vec![];
            push_after(&mut changed, after, shot.screen.anchor.map(|e| (e, base, observed.as_slice())), lost);
            let mut before = if shot.screen.anchor.is_some() { observed.clone() } else { base.to_vec() };
            make_null(&mut before, lost);
            for (sums, (_, name)) in sums[*k].iter_mut().zip(members) {
                if name.is_none() || *name == group_of[cell].as_ref() {
                    sums.add(&before, &changed);
                }
            }
        }
    }
    Ok(())
}

impl Sums {
    fn new(genes: usize) -> Self {
        let zeros = || vec![0.0; genes];
        Self {
            n: 0.0,
            before: zeros(),
            after: zeros(),
            before2: zeros(),
            after2: zeros(),
            both: zeros(),
            detected: zeros(),
        }
    }

    fn add(&mut self, before: &[f32], after: &[f32]) {
        self.n += 1.0;
        for (j, (&b, &a)) in before.iter().zip(after).enumerate() {
            let (b, a) = (f64::from(b), f64::from(a));
            self.before[j] += b;
            self.after[j] += a;
            self.before2[j] += b * b;
            self.after2[j] += a * a;
            self.both[j] += a * b;
            self.detected[j] += f64::from(u8::from(b > 0.0));
        }
    }

    /// log2 of the ratio of means, and its standard error by the delta method for paired means.
    fn log2fc(&self, j: usize) -> Option<(f64, f64)> {
        let (b, a) = (self.before[j] / self.n, self.after[j] / self.n);
        if b <= 0.0 || a <= 0.0 {
            return None;
        }
        let scale = 1.0 / (self.n - 1.0);
        let variance_b = (self.before2[j] - self.n * b * b) * scale;
        let variance_a = (self.after2[j] - self.n * a * a) * scale;
        let covariance = (self.both[j] - self.n * a * b) * scale;
        let relative = variance_a / (a * a) + variance_b / (b * b) - 2.0 * covariance / (a * b);
        let error = (relative.max(0.0) / self.n).sqrt() / std::f64::consts::LN_2;
        Some(((a / b).log2(), error))
    }

    /// One row for each gene that the cells express, but for the removed ones.
    fn tell(&self, table: &mut Table, whose: (&str, &str), removed: &[u32], names: &[String]) {
        for (j, name) in names.iter().enumerate() {
            if self.detected[j] == 0.0 || removed.contains(&(j as u32)) {
                continue;
            }
            let fold = self.log2fc(j);
            let (low, high) = fold.filter(|_| self.n > 1.0).map(interval).unzip();
            let (before, after) = (Some(self.before[j] / self.n), Some(self.after[j] / self.n));
            let detection = Some(self.detected[j] / self.n);
            table.push(whose, name, &[before, after, fold.map(|(x, _)| x), low, high, detection]);
        }
    }
}

/// The normal 95 % interval of a value with its standard error.
pub fn interval((value, error): (f64, f64)) -> (f64, f64) {
    let half = 1.959_963_984_540_054 * error;
    (value - half, value + half)
}

/// Effects as a table: knockout, group, gene, and numbers.
pub struct Table {
    knockout: StringBuilder,
    group: StringBuilder,
    gene: StringBuilder,
    names: &'static [&'static str],
    numbers: Vec<Float64Builder>,
}

impl Table {
    /// No rows yet, with these numbers.
    pub fn new(names: &'static [&'static str]) -> Self {
        Self {
            knockout: StringBuilder::new(),
            group: StringBuilder::new(),
            gene: StringBuilder::new(),
            names,
            numbers: names.iter().map(|_| Float64Builder::new()).collect(),
        }
    }

    /// Adds the effect of a knockout in a group on a gene.
    pub fn push(&mut self, (knockout, group): (&str, &str), gene: &str, numbers: &[Option<f64>]) {
        self.knockout.append_value(knockout);
        self.group.append_value(group);
        self.gene.append_value(gene);
        self.numbers.iter_mut().zip(numbers).for_each(|(column, x)| column.append_option(*x));
    }

    /// The table.
    pub fn finish(mut self) -> Result<RecordBatch> {
        let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("knockout", Arc::new(self.knockout.finish()), true),
            ("group", Arc::new(self.group.finish()), true),
            ("gene", Arc::new(self.gene.finish()), true),
        ];
        for (name, column) in self.names.iter().zip(&mut self.numbers) {
            columns.push((name, Arc::new(column.finish()), true));
        }
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }
}
