//! What changes when a gene is lost: the mean profile before and after, gene by gene, signed.

use super::Setup;
use super::genes::Groups;
use super::impacts::{Proposals, blocks, make_null, push_after};
use super::ranking::{Identity, Ranked, identity};
use super::spread::{Spread, Tail};
use super::table::TableFile;
use crate::data::{CellSet, Cells, Knockouts, Window};
use crate::plugin::Services;
use crate::run::Cancelled;
use crate::steps::{FittedModel, Variation};
use anyhow::{Context, Result};
use arrow_array::builder::{Float64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Knockouts, and cells, that are predicted at once.
const KNOCKOUTS_AT_ONCE: usize = 8;
const CELLS_AT_ONCE: usize = 32;
/// Cells that are held while all knockouts are predicted.
const CELLS_OF_A_SPAN: usize = 2048;

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

/// What effects are asked for.
pub struct Asked<'a> {
    /// The cells, with the model's genes.
    pub cells: &'a CellSet,
    /// The knockouts of the screen.
    pub proposals: &'a Proposals<'a>,
    /// Those whose effects are written.
    pub chosen: &'a [Ranked],
    /// The groups that the effects are told of.
    pub groups: &'a Groups,
}

/// Writes the effects of each chosen knockout on all other genes.
///
/// "Before" is the prediction without the removed genes, closed again, so that a knockout without consequence
/// changes nothing; with anchoring it is the observed profile instead. The interval of the log2 fold change is
/// the normal 95 % interval over cells (paired, delta method); refits of the model add theirs. The cells are gone through once for as many knockouts
/// as can be summed up in an eighth of the memory.
pub fn write(setup: &Setup<'_>, asked: &Asked<'_>, memory: u64, path: &Path) -> Result<()> {
    let refits = Refits::of(setup.model);
    let names = refits.names(OF_PROFILES);
    let mut file = TableFile::create(path, Table::new(&names).finish()?.schema())?;
    let values = Sums::BYTES + refits.variations.len() * size_of::<f64>();
    let bytes = (values * asked.cells.n_genes() * asked.groups.names.len()) as u64;
    let chunks = (memory / 8 / (bytes * KNOCKOUTS_AT_ONCE as u64).max(1)).max(1) as usize;
    for some in asked.chosen.chunks(chunks.saturating_mul(KNOCKOUTS_AT_ONCE)) {
        of_knockouts(setup, &Asked { chosen: some, ..*asked }, (&refits, &names), &mut file)?;
    }
    file.finish()
}

/// The numbers of effects on profiles.
pub const OF_PROFILES: &[&str] = &["before", "after", "log2fc", "log2fc_lower", "log2fc_upper", "detection"];
/// The numbers of effects that are scores.
pub const OF_SCORES: &[&str] = &["score", "detection"];

/// A knockout in a cell: the cell's number, and that of the knockout among the chosen ones.
type Row = (usize, usize);

/// Adds the tables of some knockouts to a file.
fn of_knockouts(
    setup: &Setup<'_>,
    asked: &Asked<'_>,
    (refits, names): (&Refits<'_>, &[&'static str]),
    file: &mut TableFile,
) -> Result<()> {
    let sums = summed(setup, asked)?;
    let genes = asked.cells.n_genes();
    let folds = |sums: Vec<Vec<Sums>>| -> Vec<Vec<Vec<f64>>> {
        let of_group = |sums: &Sums| (0..genes).map(|j| sums.fold(j)).collect();
        sums.iter().map(|of_knockout| of_knockout.iter().map(of_group).collect()).collect()
    };
    let refitted =
        refits.each(setup.host, |model, host| Ok(folds(summed(&Setup { model, host, ..*setup }, asked)?)))?;
    for (k, (chosen, sums)) in asked.chosen.iter().zip(&sums).enumerate() {
        let mut table = Table::new(names);
        for (g, (group, sums)) in
            asked.groups.names.iter().zip(sums).enumerate().filter(|(_, (_, s))| s.n > 0.0)
        {
            let of_refits = refitted.iter().map(|folds| folds[k][g].clone()).collect();
            let values =
                (0..genes).map(|j| if chosen.genes.contains(&(j as u32)) { f64::NAN } else { sums.fold(j) });
            let spread = refits.spread(&chosen.genes, &values.collect::<Vec<f64>>(), of_refits, &sums.before);
            sums.tell(
                &mut table,
                (&chosen.label, group),
                (&chosen.genes, &asked.cells.var().names),
                spread.as_ref(),
            );
        }
        file.write(&table.finish()?)?;
    }
    Ok(())
}

/// Goes through the cells, and sums up what the chosen knockouts do in them; by knockout, then group.
fn summed(setup: &Setup<'_>, asked: &Asked<'_>) -> Result<Vec<Vec<Sums>>> {
    let genes = asked.cells.n_genes();
    let number: HashMap<Identity, usize> =
        asked.chosen.iter().enumerate().map(|(k, chosen)| (chosen.identity(), k)).collect();
    // Most knockouts are of other genes: no identity is made of these.
    let firsts: HashSet<u32> = asked.chosen.iter().filter_map(|k| k.genes.first().copied()).collect();
    let groups = || asked.groups.names.iter().map(|_| Sums::new(genes)).collect::<Vec<_>>();
    let mut sums: Vec<Vec<Sums>> = asked.chosen.iter().map(|_| groups()).collect();
    let mut window = Window::of(asked.cells);
    for cells in blocks(asked.cells.len(), CELLS_OF_A_SPAN) {
        window.reach(cells.end)?;
        let proposed = asked.proposals.within(setup, &window, cells.clone())?;
        let wanted =
            (0..proposed.len()).filter(|&i| proposed.genes(i).first().is_none_or(|g| firsts.contains(g)));
        let wanted = wanted.filter_map(|i| Some((i, *number.get(&identity(&proposed, i))?)));
        let mut rows: Vec<Row> = wanted.map(|(i, k)| (proposed.cell[i] as usize, k)).collect();
        rows.sort_unstable();
        let here = (window.cells(), window.start());
        // Knockouts of a chunk share the predictions of the cells as they are.
        sums.par_chunks_mut(KNOCKOUTS_AT_ONCE).enumerate().try_for_each(|(chunk, sums)| {
            let first = chunk * KNOCKOUTS_AT_ONCE;
            let of_chunk = |row: &&Row| (first..first + sums.len()).contains(&row.1);
            let rows: Vec<Row> = rows.iter().filter(of_chunk).map(|&(cell, k)| (cell, k - first)).collect();
            let chunk = Asked { chosen: &asked.chosen[first..first + sums.len()], ..*asked };
            rows.chunk_by(|a, b| a.0 / CELLS_AT_ONCE == b.0 / CELLS_AT_ONCE)
                .try_for_each(|block| add_block(setup, here, &chunk, block, sums))
        })?;
        window.release(cells.end);
    }
    Ok(sums)
}

/// Adds what some knockouts do in some of the cells that are here; `start` is the number of the first of these.
fn add_block(
    setup: &Setup<'_>,
    (cells, start): (&Cells, usize),
    asked: &Asked<'_>,
    rows: &[Row],
    sums: &mut [Vec<Sums>],
) -> Result<()> {
    if setup.host.cancelled() {
        return Err(Cancelled.into());
    }
    let genes = asked.cells.n_genes();
    let mut query = Knockouts::default();
    for of_cell in rows.chunk_by(|a, b| a.0 == b.0) {
        let cell = (of_cell[0].0 - start) as u64;
        query.push(cell, &[], &[]);
        let lost = of_cell.iter().map(|&(_, k)| &asked.chosen[k]);
        lost.for_each(|lost| query.push(cell, &lost.genes, &lost.levels));
    }
    let mut predicted = vec![0.0; query.len() * genes];
    setup.model.predict(setup.host, cells, &query, &mut predicted)?;
    let mut profiles = predicted.chunks_exact(genes.max(1));
    let mut observed = vec![0.0; genes];
    for of_cell in rows.chunk_by(|a, b| a.0 == b.0) {
        let cell = of_cell[0].0;
        let Some(base) = profiles.next() else { break };
        cells.write_profile(cell - start, &mut observed);
        for (&(_, k), after) in of_cell.iter().zip(profiles.by_ref()) {
            let lost = (asked.chosen[k].genes.as_slice(), asked.chosen[k].levels.as_slice());
            let anchor = setup.screen.anchor.map(|e| (e, base, observed.as_slice()));
            let mut changed = vec![];
            push_after(&mut changed, after, anchor, lost);
            let mut before = if anchor.is_some() { observed.clone() } else { base.to_vec() };
            make_null(&mut before, lost);
            asked.groups.of_cell(cell).for_each(|group| sums[k][group].add(&before, &changed));
        }
    }
    Ok(())
}

impl Sums {
    /// Of each gene.
    const BYTES: usize = 6 * size_of::<f64>();

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

    /// The same without its error; NaN where there is none.
    fn fold(&self, j: usize) -> f64 {
        self.log2fc(j).map_or(f64::NAN, |(fold, _)| fold)
    }

    /// One row for each gene that the cells express, but for the removed ones.
    fn tell(
        &self,
        table: &mut Table,
        whose: (&str, &str),
        (removed, names): (&[u32], &[String]),
        spread: Option<&Spread>,
    ) {
        for (j, name) in names.iter().enumerate() {
            if self.detected[j] == 0.0 || removed.contains(&(j as u32)) {
                continue;
            }
            let fold = self.log2fc(j);
            let (low, high) = fold.filter(|_| self.n > 1.0).map(interval).unzip();
            let (before, after) = (Some(self.before[j] / self.n), Some(self.after[j] / self.n));
            let detection = Some(self.detected[j] / self.n);
            let numbers = [before, after, fold.map(|(x, _)| x), low, high, detection];
            table.push(whose, name, &numbers, spread.map(|spread| (spread, j)));
        }
    }
}

/// The refits that effects are told by.
pub struct Refits<'a> {
    model: &'a FittedModel,
    variations: Vec<Variation>,
}

impl<'a> Refits<'a> {
    /// Those of a model.
    pub fn of(model: &'a FittedModel) -> Self {
        let all = model.refits.iter().flat_map(|refits| refits.variations());
        let told = |v: &Variation| matches!(v, Variation::Half(_) | Variation::Null(_));
        Self { model, variations: all.filter(told).collect() }
    }

    /// The columns of effects, with those that the refits add.
    pub fn names(&self, plain: &[&'static str]) -> Vec<&'static str> {
        const REFITTED: [&str; 4] = ["refit_lower", "refit_upper", "p", "fdr"];
        let further = REFITTED.iter().filter(|_| !self.variations.is_empty());
        plain.iter().chain(further).copied().collect()
    }

    /// What is found by each refit, in order.
    pub fn each<T>(
        &self,
        host: &Services,
        find: impl Fn(&FittedModel, &Services) -> Result<T>,
    ) -> Result<Vec<T>> {
        let one = |&variation: &Variation| {
            let name = variation.name();
            let host = host.of_refit(host.seed(), &name);
            let refits = self.model.refits.as_ref().context("no refits")?;
            let model = refits.open(variation, self.model.genes.clone(), &host)?;
            find(&model, &host).with_context(|| format!("refit {name}"))
        };
        self.variations.iter().map(one).collect()
    }

    /// What the refits say of the effects of a knockout (genes; NaN is none), compared among genes that are as abundant.
    pub fn spread(
        &self,
        removed: &[u32],
        values: &[f64],
        mut by_refit: Vec<Vec<f64>>,
        abundance: &[f64],
    ) -> Option<Spread> {
        let refits = self.model.refits.as_ref().filter(|_| !self.variations.is_empty())?;
        for (&variation, values) in self.variations.iter().zip(&mut by_refit) {
            if let Variation::Null(_) = variation {
                // A relation is broken where either end was dealt out.
                let dealt = refits.dealt(variation, values.len());
                let from = removed.iter().all(|&gene| dealt[gene as usize]);
                values
                    .iter_mut()
                    .zip(dealt)
                    .filter(|(_, to)| !(from || *to))
                    .for_each(|(x, _)| *x = f64::NAN);
            }
        }
        let of = |wanted: fn(&Variation) -> bool| -> Vec<&[f64]> {
            let all = self.variations.iter().zip(&by_refit);
            all.filter(|(v, _)| wanted(v)).map(|(_, values)| values.as_slice()).collect()
        };
        let halves = of(|v| matches!(v, Variation::Half(_)));
        let null = of(|v| matches!(v, Variation::Null(_)));
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| abundance[a].total_cmp(&abundance[b]).then(a.cmp(&b)));
        Some(Spread::of(values, (&halves, &null), &order, Tail::Both))
    }
}

/// The normal 95 % interval of a value with its standard error.
pub fn interval((value, error): (f64, f64)) -> (f64, f64) {
    let half = crate::statistics::Z * error;
    (value - half, value + half)
}

/// Effects as a table: knockout, group, gene, and numbers.
pub struct Table {
    knockout: StringBuilder,
    group: StringBuilder,
    gene: StringBuilder,
    names: Vec<&'static str>,
    numbers: Vec<Float64Builder>,
}

impl Table {
    /// No rows yet, with these numbers.
    pub fn new(names: &[&'static str]) -> Self {
        Self {
            knockout: StringBuilder::new(),
            group: StringBuilder::new(),
            gene: StringBuilder::new(),
            names: names.to_vec(),
            numbers: names.iter().map(|_| Float64Builder::new()).collect(),
        }
    }

    /// Adds the effect of a knockout in a group on a gene, and what refits say of it: of gene so and so of these.
    pub fn push(
        &mut self,
        (knockout, group): (&str, &str),
        gene: &str,
        numbers: &[Option<f64>],
        spread: Option<(&Spread, usize)>,
    ) {
        self.knockout.append_value(knockout);
        self.group.append_value(group);
        self.gene.append_value(gene);
        let further = spread.map(|(s, j)| [s.interval[j].0, s.interval[j].1, s.p[j], s.fdr[j]]);
        let further = further.into_iter().flatten().map(|x| x.is_finite().then_some(x));
        let all = numbers.iter().copied().chain(further);
        self.numbers.iter_mut().zip(all).for_each(|(column, x)| column.append_option(x));
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
