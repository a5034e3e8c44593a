//! Strategies: knockouts of genes that cells express, and an end.

use super::bench::Bench;
use super::{Applies, Case, PASSED, calls, required, skipped, unless};
use crate::data::{Cells, Knockouts};
use crate::plugin::{Scope, Strategy};
use anyhow::{Result, ensure};

pub const CASES: &[Case] = &[
    required("proposes only genes that cells express, and ends", |bench| {
        with_strategy(bench, |bench, strategy| rounds(bench, strategy, bench.cells).map(drop))
    }),
    required("can do with a single cell", |bench| {
        with_strategy(bench, |bench, strategy| {
            // A list of genes need not name one that this cell expresses; what is proposed has to be right.
            let one = bench.cells.select_cells(&[bench.cells.len() - 1]);
            rounds(bench, strategy, &one).map(drop).or_else(super::is_plain)
        })
    }),
    required("proposes the same for the same seed, on 1 and 2 threads", |bench| {
        with_strategy(bench, |bench, strategy| {
            let one = bench.on_threads(1, || rounds(bench, strategy, bench.cells))??;
            let two = bench.on_threads(2, || rounds(bench, strategy, bench.cells))??;
            ensure!(one.sorted() == two.sorted(), "its proposals differ");
            ensure!(one == two, "it proposes the same in another order");
            Ok(())
        })
    }),
    required("looks at each cell alone if it says so", |bench| {
        if bench.component.scope() != Scope::Cell {
            return skipped("it looks at all cells at once");
        }
        with_strategy(bench, |bench, strategy| {
            let whole = rounds(bench, strategy, bench.cells)?;
            let mut pieces = Knockouts::default();
            for start in (0..bench.cells.len()).step_by(3) {
                let rows: Vec<usize> = (start..(start + 3).min(bench.cells.len())).collect();
                let found = rounds(bench, strategy, &bench.cells.select_cells(&rows))?;
                (0..found.len())
                    .for_each(|i| pieces.push(start as u64 + found.cell[i], found.genes(i), found.levels(i)));
            }
            ensure!(whole.sorted() == pieces.sorted(), "its proposals for a cell depend on the others");
            Ok(())
        })
    }),
    calls::stops(|bench| {
        unless(bench.needs_parameters(), || {
            let strategy = bench.strategy()?;
            calls::cancel(bench, || first_round(bench, &strategy))
        })
    }),
    calls::keeps_no_memory(|bench| {
        unless(bench.needs_parameters(), || {
            let strategy = bench.strategy()?;
            calls::repeat(bench, || first_round(bench, &strategy))
        })
    }),
];

fn first_round(bench: &Bench<'_>, strategy: &Strategy) -> Result<()> {
    strategy.propose(&bench.services(), bench.cells, 0, &Knockouts::default(), &[]).map(drop)
}

fn with_strategy(bench: &Bench<'_>, body: fn(&Bench<'_>, &Strategy) -> Result<()>) -> Result<Applies> {
    unless(bench.needs_parameters(), || {
        body(bench, &bench.strategy()?)?;
        PASSED
    })
}

/// So many rounds an adaptive strategy may take for a few cells.
const MOST_ROUNDS: u64 = 1000;

/// All rounds, in the order of the proposals; the impacts are made up. The host checks each proposal.
fn rounds(bench: &Bench<'_>, strategy: &Strategy, cells: &Cells) -> Result<Knockouts> {
    let (mut all, mut impacts) = (Knockouts::default(), vec![]);
    for round in 0.. {
        ensure!(round < MOST_ROUNDS, "it has not ended after {MOST_ROUNDS} rounds");
        let next = strategy.propose(&bench.services(), cells, round, &all, &impacts)?;
        for i in 0..next.len() {
            impacts.push(((next.cell[i] * 31 + u64::from(next.genes(i)[0]) * 17) % 100) as f32 / 100.0);
            all.push(next.cell[i], next.genes(i), next.levels(i));
        }
        if next.is_empty() || !bench.component.adaptive() {
            break;
        }
    }
    Ok(all)
}
