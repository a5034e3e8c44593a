//! Simulators: valid cells, and a truth that is one.

use super::bench::{Bench, some_knockouts};
use super::model::closed;
use super::{Applies, Case, PASSED, calls, is_plain, required, unless};
use crate::data::{Cells, Frame, Knockouts};
use crate::plugin::Simulation;
use anyhow::{Context, Result, ensure};

/// So many cells of a simulation are asked about.
const ASKED: usize = 20;

pub const CASES: &[Case] = &[
    required("makes the same cells from the same seed, on 1 and 2 threads", |bench| {
        with_world(bench, |bench, _| {
            let made = |threads| bench.on_threads(threads, || bench.simulator()?.simulate(&bench.services()));
            let (one, two) = (made(1)??, made(2)??);
            same_cells(&one.cells, &two.cells)?;
            ensure!(one.network == two.network, "its networks differ");
            let truth = |made: &Simulation| made.truth.save(&bench.services());
            ensure!(truth(&one)? == truth(&two)?, "its truths differ");
            Ok(())
        })
    }),
    required("knows finite shares as the truth, and silence of what is knocked out", |bench| {
        with_world(bench, |bench, made| {
            let cells = asked(&made.cells);
            let (all, genes) = (some_knockouts(&cells), cells.n_genes());
            let found = bench.predict(&made.truth, &cells, &all)?;
            closed(&found, &all, &cells)?;
            for (i, row) in found.chunks_exact(genes.max(1)).enumerate() {
                let loud = all.genes(i).iter().find(|&&gene| row[gene as usize] != 0.0);
                if let Some(&gene) = loud {
                    let (name, share) = (&cells.var.names[gene as usize], row[gene as usize]);
                    anyhow::bail!("{name} is knocked out, and has a share of {share}");
                }
            }
            Ok(())
        })
    }),
    required("knows the same after the truth was saved and loaded", |bench| {
        with_world(bench, |bench, made| {
            let bytes = made.truth.save(&bench.services()).context("saving")?;
            let again = bench.simulator()?.load_truth(&bench.services(), &bytes).context("loading")?;
            let cells = asked(&made.cells);
            let all = some_knockouts(&cells);
            let answers = [&made.truth, &again].map(|truth| bench.predict(truth, &cells, &all));
            let [one, two] = answers;
            ensure!(one? == two?, "the loaded truth answers otherwise");
            for wrong in [&[][..], b"no truth"] {
                match bench.simulator()?.load_truth(&bench.services(), wrong) {
                    Ok(_) => anyhow::bail!("{} bytes that are no truth are loaded", wrong.len()),
                    Err(error) => is_plain(error)?,
                }
            }
            Ok(())
        })
    }),
    required("answers for some of its genes and cells as for all", |bench| {
        with_world(bench, |bench, made| {
            let cells = asked(&made.cells);
            let kept: Vec<usize> = (0..cells.n_genes()).filter(|j| j % 3 != 1).collect();
            let fewer = cells.select_genes(&kept).select_cells(&[cells.len() - 1]);
            let mut as_is = Knockouts::default();
            as_is.push(0, &[], &[]);
            let found = bench.predict(&made.truth, &fewer, &as_is)?;
            closed(&found, &as_is, &fewer)
        })
    }),
    calls::stops(|bench| {
        unless(bench.needs_parameters(), || {
            let simulator = bench.simulator()?;
            calls::cancel(bench, || simulator.simulate(&bench.services()).map(drop))
        })
    }),
    calls::keeps_no_memory(|bench| {
        unless(bench.needs_parameters(), || {
            let simulator = bench.simulator()?;
            calls::repeat(bench, || {
                let made = simulator.simulate(&bench.services())?;
                let cells = asked(&made.cells);
                bench.predict(&made.truth, &cells, &some_knockouts(&cells)).map(drop)
            })
        })
    }),
];

/// That two simulations made the same cells, with all that is known of them.
fn same_cells(one: &Cells, two: &Cells) -> Result<()> {
    ensure!(one.x == two.x, "its values differ");
    ensure!(one.ids == two.ids, "its cells' ids differ");
    let bits = |cells: &Cells| cells.library.iter().map(|size| size.to_bits()).collect::<Vec<_>>();
    ensure!(bits(one) == bits(two), "its library sizes differ");
    for (what, one, two) in [("cells", &one.obs, &two.obs), ("genes", &one.var, &two.var)] {
        ensure!(one.names == two.names, "the names of its {what} differ");
        let columns = |frame: &Frame| {
            frame.columns.iter().map(|c| (c.name.clone(), c.values.clone())).collect::<Vec<_>>()
        };
        ensure!(columns(one) == columns(two), "the annotations of its {what} differ");
    }
    Ok(())
}

fn asked(cells: &Cells) -> Cells {
    cells.select_cells(&(0..cells.len().min(ASKED)).collect::<Vec<_>>())
}

fn with_world(bench: &Bench<'_>, body: fn(&Bench<'_>, &Simulation) -> Result<()>) -> Result<Applies> {
    unless(bench.needs_parameters(), || {
        body(bench, &bench.simulator()?.simulate(&bench.services()).context("simulating")?)?;
        PASSED
    })
}
