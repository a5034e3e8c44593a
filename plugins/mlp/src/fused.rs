//! The fused screen: impacts of knockouts without a profile.
//!
//! Without an activation by the exact shortcut (see [`collapsed`](crate::collapsed)): cells are taken in blocks, and gene
//! by gene within a block, so that a row of the map is read once for all cells of the block that lose this gene. For a
//! cell the row is compacted to the genes that it expresses; two passes over these give the profile's total and the
//! dissimilarity. With hidden layers cell by cell: all its knockouts go through the layers together (see
//! [`deep`](crate::deep)), then through the same head. Nothing depends on how cells come together.

use crate::collapsed::{Collapsed, Room};
use crate::deep::Deep;
use crate::head::{Asked, Head, Measure, absolute};
use crate::lanes::{Chunk, Job, Lanes, Marks, Path, ZERO, chunks, get, packed, set};
use crate::sums::{DEPTH, NOTHING, Tiled, sums_of_rows};
use lacuna_sdk::prelude::*;
use std::ops::Range;

/// Cells of a block: their working set and a row of the map stay in the processor's caches.
const CELLS_OF_A_BLOCK: usize = 48;

/// Writes the impact of each knockout, by the collapsed map.
pub fn by_map(
    map: &Collapsed,
    asked: Asked<'_>,
    path: Path,
    impacts: &mut [f32],
    cx: &Context,
) -> Result<()> {
    let runs: Vec<(usize, Range<usize>)> = asked.knockouts.by_cell().collect();
    for block in runs.chunks(CELLS_OF_A_BLOCK) {
        cx.check()?;
        path.run(Block { map, asked, runs: block, impacts });
    }
    Ok(())
}

/// Writes the impact of each knockout, by a network with hidden layers.
pub fn by_layers(
    network: &Deep,
    asked: Asked<'_>,
    path: Path,
    impacts: &mut [f32],
    cx: &Context,
) -> Result<()> {
    let mut rows = vec![];
    for (cell, run) in asked.knockouts.by_cell() {
        cx.check()?;
        let genes = asked.cells.assemblage(cell);
        let base = network.base(genes, path);
        network.outputs(&base, &[&[]], path, &mut rows);
        let mut head = path.run(NewHead { asked, cell, outputs: &mut rows });
        let lost: Vec<Vec<usize>> =
            run.clone().map(|i| places(genes, asked.knockouts.get(i).genes)).collect();
        let impacts = impacts[run].chunks_mut(Deep::ROWS);
        for (lost, impacts) in lost.chunks(Deep::ROWS).zip(impacts) {
            let lists: Vec<&[usize]> = lost.iter().map(Vec::as_slice).collect();
            network.outputs(&base, &lists, path, &mut rows);
            path.run(Heads { head: &mut head, measure: asked.measure, lost, rows: &mut rows, impacts });
        }
    }
    Ok(())
}

/// Where the lost genes stand in an assemblage. Those that the cell does not express change nothing.
pub fn places(genes: &[u32], lost: &[u32]) -> Vec<usize> {
    lost.iter().filter_map(|g| genes.binary_search(g).ok()).collect()
}

/// The chunks of a cell's lists: pairs, which the passes take at once.
pub fn width(genes: usize) -> usize {
    chunks(genes).next_multiple_of(2)
}

/// A cell in a block. All lists follow the genes that it expresses, with zeros behind them.
struct Cell<'a> {
    genes: &'a [u32],
    marks: Marks<'a>,
    /// Sum of the map's rows over its genes.
    sum: Vec<Chunk>,
    bias: Vec<Chunk>,
    /// Sum · share + bias, where share is 1 / the number of genes that are left.
    base: Vec<Chunk>,
    share: f32,
    head: Head,
}

/// Buffers of one cell's genes.
struct Buffers {
    /// What a knockout takes from the sum, then the profile after it.
    after: Vec<Chunk>,
    row: Vec<Chunk>,
    /// A row of the map that it does not keep.
    room: Room,
    /// The base at the lost places, while it is 0 there.
    gone: Vec<f32>,
}

struct Block<'a, 'b> {
    map: &'a Collapsed,
    asked: Asked<'a>,
    runs: &'a [(usize, Range<usize>)],
    impacts: &'b mut [f32],
}

/// A knockout of one gene in a block: the gene, its cell in the block, its place in the cell, its row of the screen.
type Single = (u32, u32, u32, usize);

impl Job for Block<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { map, asked, runs, impacts } = self;
        // Loops, not closures, around all that uses lanes: a closure would be compiled for any processor.
        let mut cells: Vec<Cell<'_>> = Vec::with_capacity(runs.len());
        let assemblages: Vec<&[u32]> = runs.iter().map(|(cell, _)| asked.cells.assemblage(*cell)).collect();
        let sums = sums(l, map, &assemblages);
        for ((cell, _), sum) in runs.iter().zip(sums) {
            cells.push(Cell::new(l, map, asked, *cell, sum));
        }
        let widest = cells.iter().map(|c| c.sum.len()).max().unwrap_or(0) + 2;
        let mut buffers = Buffers {
            after: vec![ZERO; widest],
            row: vec![ZERO; widest],
            room: Room::default(),
            gone: vec![],
        };
        let mut singles: Vec<Single> = vec![];
        for (number, (cell, (_, rows))) in cells.iter_mut().zip(runs).enumerate() {
            for i in rows.clone() {
                let lost = asked.knockouts.get(i).genes;
                match lost {
                    [gene] if let Ok(at) = cell.genes.binary_search(gene) => {
                        singles.push((*gene, number as u32, at as u32, i));
                    }
                    _ => impacts[i] = cell.several(l, map, lost, asked.measure, &mut buffers),
                }
            }
        }
        // Gene by gene, so that the row is at hand; the cells of a gene in their order.
        singles.sort_unstable();
        for (gene, number, at, i) in singles {
            let cell = &mut cells[number as usize];
            impacts[i] = cell.single(l, map, gene, at as usize, asked.measure, &mut buffers);
        }
    }
}

/// For each cell the sum of the map's rows of its genes, at these genes, in as many chunks as [`width`] says.
#[inline(always)]
fn sums<L: Lanes>(l: L, map: &Collapsed, cells: &[&[u32]]) -> Vec<Vec<Chunk>> {
    let Some(rows) = map.rows() else {
        return cells.iter().map(|genes| packed(map.sum(genes).into_iter(), width(genes.len()))).collect();
    };
    let (all, genes) = (chunks(map.genes()), map.genes());
    let sets = Tiled::new(cells.iter().copied(), genes);
    let mut wide: Vec<Vec<Chunk>> = cells.iter().map(|_| vec![ZERO; all.next_multiple_of(DEPTH)]).collect();
    let mut some = vec![NOTHING; cells.len()];
    for first in (0..all).step_by(DEPTH) {
        sums_of_rows(l, rows, all, first, &sets, &mut some);
        for (wide, some) in wide.iter_mut().zip(&some) {
            wide[first..first + DEPTH].copy_from_slice(some);
        }
    }
    let mut compact = vec![];
    for (genes, wide) in cells.iter().zip(&wide) {
        let mut sum = vec![ZERO; width(genes.len()) + 1];
        l.compact(&wide[..all], &Marks::new(genes, all), &mut sum);
        sum.truncate(width(genes.len()));
        compact.push(sum);
    }
    compact
}

impl<'a> Cell<'a> {
    #[inline(always)]
    fn new<L: Lanes>(l: L, map: &Collapsed, asked: Asked<'a>, cell: usize, sum: Vec<Chunk>) -> Self {
        let genes = asked.cells.assemblage(cell);
        let marks = Marks::new(genes, chunks(map.genes()));
        let bias = packed(genes.iter().map(|&j| map.bias()[j as usize]), sum.len());
        let mut base = vec![ZERO; sum.len()];
        affine(l, (&sum, share_of(genes.len()), &bias), &mut base);
        let head = Head::new(l, asked, cell, base.clone());
        let mut new = Self { genes, marks, sum, bias, base, share: share_of(genes.len()), head };
        new.prepare(l, genes.len().saturating_sub(1));
        new
    }

    /// Sum · share + bias for so many genes that are left.
    #[inline(always)]
    fn prepare<L: Lanes>(&mut self, l: L, left: usize) {
        if share_of(left) != self.share {
            self.share = share_of(left);
            affine(l, (&self.sum, self.share, &self.bias), &mut self.base);
        }
    }

    /// A row of the map, at the cell's genes.
    #[inline(always)]
    fn compact<L: Lanes>(&self, l: L, map: &Collapsed, gene: u32, room: &mut Room, out: &mut [Chunk]) {
        let out = &mut out[..self.sum.len() + 2];
        match map.half_row(gene) {
            Some(row) => l.compact_halves(row, &self.marks, out),
            None => l.compact(map.row(gene, room), &self.marks, out),
        }
    }

    #[inline(always)]
    fn single<L: Lanes>(
        &mut self,
        l: L,
        map: &Collapsed,
        gene: u32,
        at: usize,
        measure: Measure,
        buffers: &mut Buffers,
    ) -> f32 {
        self.prepare(l, self.genes.len() - 1);
        self.compact(l, map, gene, &mut buffers.room, &mut buffers.after);
        self.impact(l, &[at], measure, buffers)
    }

    /// Knockouts of any number of genes.
    #[inline(always)]
    fn several<L: Lanes>(
        &mut self,
        l: L,
        map: &Collapsed,
        lost: &[u32],
        measure: Measure,
        buffers: &mut Buffers,
    ) -> f32 {
        let width = self.sum.len();
        let places = places(self.genes, lost);
        buffers.after[..width].fill(ZERO);
        for &at in &places {
            self.compact(l, map, self.genes[at], &mut buffers.room, &mut buffers.row);
            for (sum, row) in buffers.after[..width].iter_mut().zip(&buffers.row) {
                l.store(l.add(l.load(sum), l.load(row)), sum);
            }
        }
        self.prepare(l, self.genes.len() - places.len());
        self.impact(l, &places, measure, buffers)
    }

    /// The impact of losing the genes at some places, the sum of whose rows is in `after`.
    ///
    /// What is lost is 0 in every list while this runs, so that it counts nowhere.
    #[inline(always)]
    fn impact<L: Lanes>(&mut self, l: L, lost: &[usize], measure: Measure, buffers: &mut Buffers) -> f32 {
        let Buffers { after, gone, .. } = buffers;
        let after = &mut after[..self.sum.len()];
        gone.clear();
        for &at in lost {
            gone.push(get(&self.base, at));
            set(&mut self.base, at, 0.0);
            set(after, at, 0.0);
        }
        let left = self.pass(l, after);
        for (&at, base) in lost.iter().zip(&*gone) {
            set(&mut self.base, at, *base);
        }
        self.head.impact(l, lost, measure, after, left)
    }

    /// `after` becomes |base − share · after|; its sum.
    #[inline(always)]
    fn pass<L: Lanes>(&self, l: L, after: &mut [Chunk]) -> f32 {
        let minus = l.splat(-self.share);
        let (mut even, mut odd) = (l.splat(0.0), l.splat(0.0));
        for (after, base) in after.as_chunks_mut::<2>().0.iter_mut().zip(self.base.as_chunks::<2>().0) {
            let x = l.abs(l.fma(l.load(&after[0]), minus, l.load(&base[0])));
            let y = l.abs(l.fma(l.load(&after[1]), minus, l.load(&base[1])));
            (even, odd) = (l.add(even, x), l.add(odd, y));
            l.store(x, &mut after[0]);
            l.store(y, &mut after[1]);
        }
        l.sum(l.add(even, odd))
    }
}

/// Makes a cell's head from what comes out of the network for the cell as it is.
struct NewHead<'a, 'b> {
    asked: Asked<'a>,
    cell: usize,
    outputs: &'b mut Vec<Chunk>,
}

impl Job for NewHead<'_, '_> {
    type Out = Head;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Head {
        Head::new(l, self.asked, self.cell, std::mem::take(self.outputs))
    }
}

/// The heads of knockouts of one cell, whose outputs are `rows`.
struct Heads<'a> {
    head: &'a mut Head,
    measure: Measure,
    lost: &'a [Vec<usize>],
    rows: &'a mut [Chunk],
    impacts: &'a mut [f32],
}

impl Job for Heads<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.head.reference.len();
        for (i, (lost, impact)) in self.lost.iter().zip(self.impacts).enumerate() {
            let after = &mut self.rows[i * width..(i + 1) * width];
            for &at in lost {
                set(after, at, 0.0);
            }
            let left = absolute(l, after);
            *impact = self.head.impact(l, lost, self.measure, after, left);
        }
    }
}

/// The share of each of so many genes in a closed assemblage.
fn share_of(genes: usize) -> f32 {
    if genes > 0 { 1.0 / genes as f32 } else { 0.0 }
}

/// out = sum · share + bias.
#[inline(always)]
fn affine<L: Lanes>(l: L, (sum, share, bias): (&[Chunk], f32, &[Chunk]), out: &mut [Chunk]) {
    for ((out, sum), bias) in out.iter_mut().zip(sum).zip(bias) {
        l.store(l.fma(l.load(sum), l.splat(share), l.load(bias)), out);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::fitted::FittedMlp;
    use crate::network::{Network, Shape};
    use crate::plain::tests::shapes;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing::{self, context};

    /// Cells of very different sizes: with every gene, one, two, none, and random ones.
    pub fn cells(genes: usize, seed: u64) -> OwnedCells {
        let mut stream = context(seed).stream(1);
        let mut owned = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
        for (i, presence) in [1.0, 0.0, 0.0, 0.0, 0.5, 0.2, 0.8].into_iter().enumerate() {
            let mut row: Vec<f32> = (0..genes)
                .map(|_| if stream.random_bool(presence) { stream.random_range(0.1..9.0) } else { 0.0 })
                .collect();
            if i == 1 || i == 2 {
                row[genes - 1] = 2.0;
                row[0] = (i - 1) as f32;
            }
            owned.push(format!("c{i}"), &row);
        }
        owned
    }

    /// No knockout, each gene that is expressed, pairs, triples, six at once, and what is not expressed.
    pub fn knockouts(cells: &Cells<'_>) -> KnockoutList {
        let mut list = KnockoutList::new();
        for cell in 0..cells.len() {
            let genes = cells.assemblage(cell);
            list.push(cell, &[]);
            genes.iter().for_each(|&g| list.push(cell, &[g]));
            for n in [2, 3, 6] {
                genes.chunks_exact(n).for_each(|lost| list.push(cell, lost));
            }
            (0..cells.n_genes() as u32)
                .filter(|g| !genes.contains(g))
                .take(2)
                .for_each(|g| list.push(cell, &[g]));
        }
        list
    }

    /// The plain way, in f64: predict, make the reference, measure.
    struct Oracle<'a> {
        cells: Cells<'a>,
        base: Vec<f64>,
        after: Vec<f64>,
        lost: &'a [u32],
    }

    fn closed(mut profile: Vec<f64>) -> Vec<f64> {
        let sum: f64 = profile.iter().sum();
        profile.iter_mut().filter(|_| sum > 0.0).for_each(|p| *p /= sum);
        profile
    }

    impl Oracle<'_> {
        fn measure(&self, cell: usize, formula: &str, against: &str, anchor: Option<f64>) -> f64 {
            let genes = self.cells.n_genes();
            let mut observed = vec![0.0; genes];
            self.cells.write_profile(cell, &mut observed);
            let observed: Vec<f64> = observed.into_iter().map(f64::from).collect();
            let is_lost = |j: usize| self.lost.contains(&(j as u32));
            let after = match anchor {
                None => self.after.clone(),
                Some(e) => {
                    let e = e / genes as f64;
                    let fold = |j: usize| (self.after[j] + e) / (self.base[j] + e);
                    closed((0..genes).map(|j| if is_lost(j) { 0.0 } else { observed[j] * fold(j) }).collect())
                }
            };
            let mut before = if against.starts_with("observed") { observed } else { self.base.clone() };
            let share: f64 = (0..genes).filter(|&j| is_lost(j)).map(|j| before[j]).sum();
            if against.ends_with("null") || formula == "keystoneness" {
                (0..genes).filter(|&j| is_lost(j)).for_each(|j| before[j] = 0.0);
                before = closed(before);
            }
            let sum = |f: fn(f64, f64) -> f64| after.iter().zip(&before).map(|(&a, &b)| f(a, b)).sum::<f64>();
            let bray_curtis = || sum(|a, b| (a - b).abs()) / sum(|a, b| a + b);
            match formula {
                "bray-curtis" => bray_curtis(),
                "keystoneness" => bray_curtis() * (1.0 - share),
                "euclidean" => sum(|a, b| (a - b).powi(2)).sqrt(),
                _ => sum(|a, b| (a - b).abs()) / genes as f64,
            }
        }
    }

    /// Every reference.
    pub const AGAINST: [&str; 4] = ["predicted", "predicted-null", "observed", "observed-null"];
    /// Every formula.
    pub const FORMULAS: [&str; 4] = ["bray-curtis", "keystoneness", "euclidean", "mae"];

    fn impacts(model: &FittedMlp, asked: Asked<'_>, path: Path) -> Vec<f32> {
        let mut impacts = vec![9.0; asked.knockouts.len()];
        model.impacts(asked, path, &mut impacts, &context(0)).unwrap();
        impacts
    }

    fn names(genes: usize) -> Vec<String> {
        (0..genes).map(|j| format!("g{j}")).collect()
    }

    /// Every formula against everything, anchored and not: on each path the same bits, and what predicting and measuring
    /// gives. A map stored as f16 differs from that by its rounding.
    fn check(model: &FittedMlp, genes: usize, seed: u64, tolerance: f64) {
        let owned = cells(genes, seed);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let list = knockouts(&cells);
        let predicted = testing::predict(model, &owned, &list).unwrap();
        let row = |i: usize| predicted.row(i).iter().map(|&p| f64::from(p)).collect::<Vec<f64>>();
        for (formula, against, anchor) in FORMULAS
            .iter()
            .flat_map(|f| AGAINST.iter().flat_map(move |a| [(*f, *a, None), (*f, *a, Some(0.1))]))
        {
            let mut screen = testing::screen(cells, list.as_knockouts(), formula, against);
            screen.anchor = anchor;
            let measure = Measure::of(&screen).unwrap();
            let asked = Asked { cells: &screen.cells, knockouts: &screen.knockouts, measure };
            let found = impacts(model, asked, Path::Portable);
            let mut base = vec![];
            for (i, knockout) in list.as_knockouts().iter().enumerate() {
                let cell = knockout.cell.unwrap();
                if knockout.genes.is_empty() {
                    base = row(i);
                }
                let oracle = Oracle { cells, base: base.clone(), after: row(i), lost: knockout.genes };
                let expected = oracle.measure(cell, formula, against, anchor);
                let found = f64::from(found[i]);
                assert!(
                    (found - expected).abs() < tolerance || found.is_nan() && expected.is_nan(),
                    "{genes} genes, {formula} against {against}, {anchor:?}, {knockout:?}: {found}, expected {expected}"
                );
            }
            let bits = |impacts: Vec<f32>| impacts.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let expected = bits(found);
            for path in Path::available() {
                assert_eq!(bits(impacts(model, asked, path)), expected, "{path:?}");
            }
        }
    }

    #[test]
    fn every_path_equals_predicting_and_measuring_and_all_give_the_same_bits() {
        for (genes, seed) in [(3, 1), (24, 2), (37, 3), (70, 4), (130, 5)] {
            for shape in shapes(genes) {
                let network = Network::random(&shape, &mut context(seed).stream(0));
                let mut model = FittedMlp::new(names(genes), network, vec![]);
                check(&model, genes, seed, 1e-6);
                if !shape.relu {
                    model.halve();
                    check(&model, genes, seed, 1e-2);
                }
            }
        }
    }

    #[test]
    fn an_impact_does_not_depend_on_what_else_is_asked() {
        let genes = 40;
        let network = Network::random(&Shape::linear(genes, None), &mut context(8).stream(0));
        let model = FittedMlp::new(names(genes), network, vec![]);
        let owned = cells(genes, 8);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let list = knockouts(&cells);
        let run = |list: &KnockoutList| {
            let knockouts = list.as_knockouts();
            let asked = Asked { cells: &cells, knockouts: &knockouts, measure: Measure::excess(genes) };
            impacts(&model, asked, Path::chosen())
        };
        let together = run(&list);
        for (i, knockout) in list.as_knockouts().iter().enumerate() {
            let mut alone = KnockoutList::new();
            alone.push(knockout.cell.unwrap(), knockout.genes);
            assert_eq!(run(&alone)[0].to_bits(), together[i].to_bits(), "{knockout:?}");
        }
    }
}
