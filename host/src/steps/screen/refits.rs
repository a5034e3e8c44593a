//! A screen by each refit of its model: what says how far the impacts are to be trusted.

use super::genes::{GeneSummary, Groups};
use super::impacts::{Proposals, Sink, compute};
use super::spread::{Spread, Tail, among_like};
use super::{Setup, Subjects};
use crate::data::{CellSet, Knockouts, Window};
use crate::plugin::Services;
use crate::run::{Cancelled, StepCx, write_atomically};
use crate::steps::{FittedModel, MOST_REFITS as MOST, Variation};
use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use std::collections::HashSet;

/// Where the means of finished refits lie while the screen is at work.
pub const FOLDER: &str = "refits";

/// Mean impacts of single knockouts: by column, then group, then gene; NaN where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Means {
    values: Vec<f64>,
    groups: usize,
    genes: usize,
}

impl Means {
    /// Of so many columns, groups and genes; none is known yet.
    pub fn unknown(columns: usize, groups: usize, genes: usize) -> Self {
        Self { values: vec![f64::NAN; columns * groups * genes], groups, genes }
    }

    /// The means of a column in a group, shape (genes).
    pub fn of(&self, column: usize, group: usize) -> &[f64] {
        let first = (column * self.groups + group) * self.genes;
        &self.values[first..first + self.genes]
    }

    /// The same, to be written.
    pub fn of_mut(&mut self, column: usize, group: usize) -> &mut [f64] {
        let first = (column * self.groups + group) * self.genes;
        &mut self.values[first..first + self.genes]
    }

    /// Forgets all genes but some.
    fn keep(&mut self, some: &[bool]) {
        let genes = some.iter().cycle();
        self.values.iter_mut().zip(genes).filter(|(_, kept)| !**kept).for_each(|(x, _)| *x = f64::NAN);
    }

    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// From the bytes of means of the same shape.
    fn restored(mut self, bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || numbers.len() != self.values.len() {
            return None;
        }
        self.values = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        Some(self)
    }
}

/// The means of a screen by all refits of its model.
pub struct Refitted {
    refits: Vec<(Variation, Means)>,
    /// By the model itself, in the shallower and the deeper half of the cells.
    depth: Means,
}

/// The groups of `depth`.
const SHALLOW: usize = 1;
const DEEP: usize = 2;

impl Refitted {
    /// The means by each refit, and of the halves by depth, as `screen` finds them. Those that a killed run has found are
    /// read from their files.
    pub fn gather(
        model: &FittedModel,
        empty: impl Fn(usize) -> Means,
        cx: &StepCx<'_>,
        mut screen: impl FnMut(&FittedModel, &Services, Cut) -> Result<Means>,
    ) -> Result<Option<Self>> {
        let Some(refits) = model.refits.as_ref().filter(|refits| refits.tell_uncertainty()) else {
            return Ok(None);
        };
        let dir = cx.path(FOLDER);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let kept = |name: &str, empty: Means, find: &mut dyn FnMut() -> Result<Means>| -> Result<Means> {
            let file = dir.join(name);
            let known = std::fs::read(&file).ok().and_then(|bytes| empty.restored(&bytes));
            if let Some(known) = known {
                return Ok(known);
            }
            let found = find()?;
            write_atomically(&file, &found.bytes())?;
            Ok(found)
        };
        let host = |name: &str| cx.services.of_refit(cx.step_seed(), name);
        let depth = kept("depth", empty(3), &mut || screen(model, &host("depth"), Cut::Depth))?;
        let (variations, mut found) = (refits.variations(), vec![]);
        for (done, &variation) in variations.iter().enumerate() {
            cx.check()?;
            cx.services.progress(done as u64, variations.len() as u64, "refits");
            let (name, genes) = (variation.name(), model.genes.clone());
            let means = kept(&name, empty(0), &mut || {
                let host = host(&name);
                screen(&refits.open(variation, genes.clone(), &host)?, &host, Cut::Groups)
            });
            let mut means = means.with_context(|| format!("refit {name}"))?;
            if let Variation::Null(_) = variation {
                means.keep(&refits.dealt(variation, means.genes));
            }
            found.push((variation, means));
        }
        Ok(Some(Self { refits: found, depth }))
    }

    /// The screen of cells by each refit.
    pub fn of_cells(
        setup: &Setup<'_>,
        proposals: &Proposals<'_>,
        subjects: &Subjects<'_>,
        cx: &StepCx<'_>,
    ) -> Result<Option<Self>> {
        let cells = subjects.cells;
        let by_depth = Groups::by_depth(cells.library());
        let columns = setup.measures.len();
        let empty = |groups: usize| {
            let groups = if groups == 0 { subjects.groups.names.len() } else { groups };
            Means::unknown(columns, groups, cells.n_genes())
        };
        Self::gather(setup.model, empty, cx, |model, host, cut| {
            let groups = if cut == Cut::Depth { &by_depth } else { &subjects.groups };
            let mut adding = Adding::new(Setup { model, host, ..*setup }, cells, groups);
            proposals.each_part(&Setup { model, host, ..*setup }, cells, &mut adding)?;
            Ok(adding.means())
        })
    }

    fn some(&self, wanted: impl Fn(Variation) -> bool) -> Vec<&Means> {
        self.refits.iter().filter(|(v, _)| wanted(*v)).map(|(_, means)| means).collect()
    }

    /// What refits say of the means of a column in a group.
    fn spread(&self, values: &[f64], (column, group): (usize, usize), order: &[usize], tail: Tail) -> Spread {
        let of = |wanted: fn(Variation) -> bool| -> Vec<&[f64]> {
            self.some(wanted).into_iter().map(|means| means.of(column, group)).collect()
        };
        let halves = of(|v| matches!(v, Variation::Half(_)));
        let null = of(|v| matches!(v, Variation::Null(_)));
        Spread::of(values, (&halves, &null), order, tail)
    }

    /// How much of the strongest genes by one column over all cells the refits and other rankings share with it.
    fn stability(&self, values: &[f64], column: usize, tail: Tail, plain: &[(&str, Vec<f64>)]) -> Json {
        let known = values.iter().filter(|x| !x.is_nan()).count();
        let count = (known / 5).clamp(1, TOP);
        let top = |values: &[f64], tail: Tail| strongest(values, tail, count);
        let own = top(values, tail);
        let shared = |a: &HashSet<usize>, b: &HashSet<usize>| a.intersection(b).count() as f64 / count as f64;
        let tops = |wanted: fn(Variation) -> bool| -> Vec<HashSet<usize>> {
            self.some(wanted).into_iter().map(|means| top(means.of(column, 0), tail)).collect()
        };
        let halves = tops(|v| matches!(v, Variation::Half(_)));
        let seeds = tops(|v| matches!(v, Variation::Seed(_)));
        let pairs = (0..seeds.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let mut stability = json!({
            "top": count,
            "halves": mean(halves.chunks_exact(2).map(|pair| shared(&pair[0], &pair[1]))),
            "seeds": mean(pairs.map(|(a, b)| shared(&seeds[a], &seeds[b]))),
            "threshold": mean(tops(|v| v == Variation::Threshold).iter().map(|t| shared(t, &own))),
        });
        let (shallow, deep) = (self.depth.of(column, SHALLOW), self.depth.of(column, DEEP));
        // A model of the population that answers the same whatever the cells says nothing of their depth.
        if shallow.iter().zip(deep).any(|(a, b)| a != b && !(a.is_nan() && b.is_nan())) {
            stability["depth"] = json!(shared(&top(shallow, tail), &top(deep, tail)));
        }
        for (name, ranking) in plain {
            stability[*name] = json!(shared(&top(ranking, Tail::Upper), &own));
        }
        stability
    }
}

/// Which groups of cells are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Those of the screen.
    Groups,
    /// All, the shallower half, the deeper half.
    Depth,
}

/// How many genes, at most, are the strongest.
const TOP: usize = 50;

fn strongest(values: &[f64], tail: Tail, count: usize) -> HashSet<usize> {
    let sign = if tail == Tail::Lower { -1.0 } else { 1.0 };
    let mut order: Vec<usize> = (0..values.len()).filter(|&g| !values[g].is_nan()).collect();
    order.sort_by(|&a, &b| (sign * values[b]).total_cmp(&(sign * values[a])).then(a.cmp(&b)));
    order.into_iter().take(count).collect()
}

/// The mean; null of nothing.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Adds up the impacts of single knockouts.
struct Adding<'a> {
    setup: Setup<'a>,
    groups: &'a Groups,
    means: Means,
    counts: Vec<u64>,
}

impl<'a> Adding<'a> {
    fn new(setup: Setup<'a>, cells: &CellSet, groups: &'a Groups) -> Self {
        let mut means = Means::unknown(setup.measures.len(), groups.names.len(), cells.n_genes());
        means.values.fill(0.0);
        Self { counts: vec![0; means.values.len()], setup, groups, means }
    }

    fn means(mut self) -> Means {
        self.means.values.iter_mut().zip(&self.counts).for_each(|(sum, &n)| *sum /= n as f64);
        self.means
    }
}

impl Sink for Adding<'_> {
    fn rows_of_a_part(&self) -> usize {
        1 << 20
    }

    fn write(&mut self, knockouts: Knockouts, window: &Window<'_>, _: (u64, u64)) -> Result<()> {
        if self.setup.host.cancelled() {
            return Err(Cancelled.into());
        }
        let start = window.start() as u64;
        let here = knockouts.renumbered(|cell| cell - start);
        let impacts = compute(&self.setup.shot(window.cells()), &here, &|_| ())?;
        let knockouts = here.renumbered(|cell| cell + start);
        let Means { groups, genes, .. } = self.means;
        for (column, values) in impacts.iter().enumerate() {
            for (i, &value) in values.iter().enumerate() {
                let Some(gene) = knockouts.single(i).filter(|_| !value.is_nan()) else { continue };
                for group in self.groups.of_cell(knockouts.cell[i] as usize) {
                    let at = (column * groups + group) * genes + gene as usize;
                    self.means.values[at] += f64::from(value);
                    self.counts[at] += 1;
                }
            }
        }
        Ok(())
    }
}

/// What refits say of a screen as a whole, by the impact for people over all cells.
pub struct Judgement {
    /// How stable the ranking is.
    pub stability: Json,
    /// Why nothing could be found, if that is so.
    least: Option<Least>,
}

/// Genes of which no null fit says as much, while there are too few of them, or of null fits, for a false discovery rate below 5 %.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Least {
    genes: usize,
    /// The p of them.
    p: f64,
    tested: usize,
    null: usize,
}

/// A false discovery rate below this is a finding.
const FOUND: f64 = 0.05;

impl Least {
    /// If nothing is found for want of null fits.
    fn of(spread: &Spread, null: usize) -> Option<Self> {
        let at: Vec<usize> = (0..spread.p.len()).filter(|&g| spread.least[g]).collect();
        if at.is_empty() || spread.fdr.iter().any(|fdr| *fdr < FOUND) {
            return None;
        }
        let p = at.iter().map(|&g| spread.p[g]).fold(0.0, f64::max);
        let tested = spread.p.iter().filter(|p| !p.is_nan()).count();
        Some(Self { genes: at.len(), p, tested, null })
    }

    /// How many null fits give so many genes at the smallest p a rate below 5 %, in tens.
    fn enough(&self) -> usize {
        let values = |p: f64| 1.0 / p - 1.0;
        let p = FOUND * self.genes as f64 / self.tested as f64;
        let needed = self.null as f64 * values(p) / values(self.p);
        (needed.floor() as usize + 1).next_multiple_of(10)
    }

    fn words(&self) -> String {
        let Self { genes, p, tested, null } = self;
        let more = match self.enough() as u64 {
            enough @ 0..=MOST => format!("`uncertainty = {{ null = {enough} }}` can tell more"),
            _ => format!("even `null = {MOST}` would not suffice: fewer genes can be told apart"),
        };
        format!(
            "no gene has a false discovery rate below {FOUND}, and {genes} of {tested} are at the smallest p that {null} \
             null fits can give ({p:.4}): {more}"
        )
    }
}

/// Adds to summaries how each gene stands among those like it, and what refits say of it; tells what they say of the
/// ranking by the impact for people.
///
/// `described` says what the impacts are, in the order of columns; `shown` is the one for people.
pub fn judge(
    summaries: &mut [GeneSummary],
    (described, shown): (&[Json], usize),
    groups: &[String],
    refitted: Option<&Refitted>,
    genes: usize,
) -> Judgement {
    let mut judgement = Judgement { stability: Json::Null, least: None };
    for of_one in summaries.chunk_by_mut(|a, b| (&a.group, &a.metric) == (&b.group, &b.metric)) {
        let position = |d: &Json| d["column"].as_str() == Some(of_one[0].metric.as_str());
        let Some(column) = described.iter().position(position) else { continue };
        let Some(group) = groups.iter().position(|g| *g == of_one[0].group) else { continue };
        let tail = if described[column]["strongest"] == "lowest" { Tail::Lower } else { Tail::Upper };
        let by_gene = |of: &dyn Fn(&GeneSummary) -> f64| {
            let mut values = vec![f64::NAN; genes];
            of_one.iter().for_each(|s| values[s.gene as usize] = of(s));
            values
        };
        let (values, presence) = (by_gene(&|s| s.mean), by_gene(&|s| s.presence));
        let abundance = by_gene(&|s| s.presence * s.mean_share);
        // Genes that as many cells express stand side by side, and of these those of like abundance.
        let mut order: Vec<usize> = of_one.iter().map(|s| s.gene as usize).collect();
        let likeness = |g: usize| (presence[g], abundance[g]);
        order.sort_by(|&a, &b| {
            let ((p, x), (q, y)) = (likeness(a), likeness(b));
            p.total_cmp(&q).then(x.total_cmp(&y)).then(a.cmp(&b))
        });
        let matched = among_like(&values, &order, tail);
        let spread = refitted.map(|refitted| refitted.spread(&values, (column, group), &order, tail));
        if let Some(refitted) = refitted.filter(|_| (column, group) == (shown, 0)) {
            let plain = [("abundance", abundance), ("presence", presence)];
            judgement.stability = refitted.stability(&values, column, tail, &plain);
            let null = refitted.some(|v| matches!(v, Variation::Null(_))).len();
            judgement.least = spread.as_ref().and_then(|spread| Least::of(spread, null));
        }
        for summary in of_one.iter_mut() {
            let gene = summary.gene as usize;
            summary.matched = matched[gene];
            if let Some(spread) = &spread {
                summary.refit = spread.interval[gene];
                (summary.p, summary.fdr) = (spread.p[gene], spread.fdr[gene]);
            }
        }
    }
    judgement
}

/// Warns of a ranking that is not stable, or is one of abundance, and of too few null fits to find anything by.
pub fn warn_of_ranking(Judgement { stability, least }: &Judgement, host: &Services) {
    if let Some(least) = least {
        host.warn(least.words());
    }
    const LOW: f64 = 0.5;
    const HIGH: f64 = 0.8;
    let top = &stability["top"];
    let share = |name: &str| stability[name].as_f64();
    if let Some(shared) = share("halves").filter(|x| *x < LOW) {
        host.warn(format!(
            "the ranking is not stable: refits on two halves of the cells share {:.0} % of the top {top} genes",
            100.0 * shared
        ));
    }
    for by in ["abundance", "presence"] {
        if let Some(shared) = share(by).filter(|x| *x > HIGH) {
            host.warn(format!(
                "the ranking is nearly one by {by}: of the top {top} genes {:.0} % are among the top {top} by {by} alone",
                100.0 * shared
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(values: &[f64]) -> Means {
        let mut means = Means::unknown(1, 1, values.len());
        means.of_mut(0, 0).copy_from_slice(values);
        means
    }

    #[test]
    fn so_many_null_fits_are_enough_as_are_said_to_be() {
        // 100 genes alike in groups of 20, of which 6 stand out.
        let values: Vec<f64> = (0..100).map(|g| if g % 17 == 5 { 2.0 } else { 0.5 }).collect();
        let order: Vec<usize> = (0..100).collect();
        let with = |null: usize| {
            let fits = vec![(0..100).map(|g| f64::from(g % 7) / 7.0).collect::<Vec<f64>>(); null];
            let fits: Vec<&[f64]> = fits.iter().map(Vec::as_slice).collect();
            Least::of(&Spread::of(&values, (&[], &fits), &order, Tail::Upper), null)
        };
        let least = with(3).unwrap();
        assert_eq!(least, Least { genes: 6, p: 1.0 / 64.0, tested: 100, null: 3 });
        assert_eq!(least.enough(), 20);
        assert!(least.words().contains("6 of 100") && least.words().contains("null = 20"));
        assert_eq!(with(20), None);
        assert!(with(15).is_some());
        let one_of_many = Least { genes: 1, p: 0.0094, tested: 2000, null: 20 };
        assert!(one_of_many.words().contains("even `null = 1000` would not suffice"));
    }

    #[test]
    fn means_are_read_as_they_were_written() {
        let means = means(&[0.5, f64::NAN, 0.25]);
        let again = Means::unknown(1, 1, 3).restored(&means.bytes()).unwrap();
        assert_eq!((again.values[0], again.values[2]), (0.5, 0.25));
        assert!(again.values[1].is_nan());
        assert!(Means::unknown(1, 1, 2).restored(&means.bytes()).is_none());
        assert!(Means::unknown(1, 1, 3).restored(&means.bytes()[..20]).is_none());
    }

    #[test]
    fn stability_is_the_share_of_the_top_that_others_have_too() {
        let up: Vec<f64> = (0..20).map(f64::from).collect();
        let down: Vec<f64> = up.iter().rev().copied().collect();
        let mut depth = Means::unknown(1, 3, 20);
        depth.of_mut(0, SHALLOW).copy_from_slice(&up);
        depth.of_mut(0, DEEP).copy_from_slice(&up);
        let refits = vec![
            (Variation::Half(0), means(&up)),
            (Variation::Half(1), means(&down)),
            (Variation::Half(2), means(&down)),
            (Variation::Half(3), means(&down)),
        ];
        let mut refitted = Refitted { refits, depth };
        let found = refitted.stability(&up, 0, Tail::Upper, &[("abundance", down)]);
        assert_eq!((&found["top"], &found["halves"]), (&json!(4), &json!(0.5)));
        assert_eq!((&found["seeds"], &found["depth"]), (&Json::Null, &Json::Null));
        assert_eq!(found["abundance"], json!(0.0));
        refitted.depth.of_mut(0, DEEP)[3] = f64::NAN;
        assert_eq!(refitted.stability(&up, 0, Tail::Upper, &[])["depth"], json!(1.0));
        assert_eq!(strongest(&[3.0, f64::NAN, 1.0, 2.0], Tail::Lower, 2), HashSet::from([2, 3]));
    }
}
