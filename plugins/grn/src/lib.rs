//! Simulates single cells with a known gene regulatory network.
//!
//! Each cell has its own absent genes and some weights of its own; its profile is the steady state of a
//! system of rate equations. The truth about a knockout is the steady state that the cell reaches from there
//! when the genes are frozen too. Perturbations can be measured as well, in cells of their own. The preset `dko`
//! has the settings recovered from the data of He, Klein, Levy and Wang, arXiv 2510.03359.

mod asked;
mod config;
mod dynamics;
mod glv;
mod measured;
mod network;
mod observe;
mod truth;
mod world;

pub use config::{AbsentRepressor, GrnConfig, Preset, Topology};
pub use glv::{Glv, GlvConfig, GlvTruth, Web};
pub use truth::Truth;

use config::{Settings, Wiring};
use dynamics::Solver;
use lacuna_sdk::arrow::{BooleanArray, Int64Array, StringArray};
use lacuna_sdk::prelude::*;
use lacuna_sdk::tracing;
use network::{Network, numbered};
use std::sync::Arc;
use world::World;

/// Cells that are integrated before the next ones begin: bounds the memory of states on their way.
const BLOCK: usize = 1024;

/// Simulates cells that live by a gene regulatory network.
pub struct Grn(Settings);

impl Component for Grn {
    const ID: &'static str = "grn";
    const DOC: &'static str =
        "Steady states of cells with a known gene regulatory network, and of any knockout";
    type Config = GrnConfig;

    fn new(config: GrnConfig) -> Result<Self> {
        Ok(Self(config.settings()?))
    }
}

impl Simulator for Grn {
    type Truth = Truth;
    const SCALE: Scale = Scale::Counts;

    fn simulate(&self, cx: &Context) -> Result<Simulation<Truth>> {
        let Settings { cells, design, rules, .. } = self.0;
        let network = self.network(cx)?;
        let measured = design.draw(&network, &mut cx.stream(measured::STREAM))?;
        let truth = Truth::new(World::new(network, rules, cells, measured, cx.seed())?);
        let network = Some(truth.world().network.to_table()?);
        Ok(Simulation { cells: self.make_cells(&truth, cx)?, network, truth })
    }
}

impl Grn {
    fn network(&self, cx: &Context) -> Result<Network> {
        match &self.0.wiring {
            Wiring::Drawn(drawing) => drawing.draw(&mut cx.stream(0)),
            Wiring::Listed(file) => Network::read(file.as_ref()),
        }
    }

    fn make_cells(&self, truth: &Truth, cx: &Context) -> Result<OwnedCells> {
        let world @ World { network, .. } = truth.world();
        let (n, names) = (world.n_cells(), names(world));
        let mut cells = OwnedCells::new(network.genes().to_vec());
        let mut settled = vec![];
        for begin in (0..n).step_by(BLOCK) {
            cx.progress(begin as u64, n as u64, "cells");
            let block = BLOCK.min(n - begin);
            for made in cx.parallel_map(block, |i| self.make_cell(truth, begin + i, cx)) {
                let (values, has_settled) = made?;
                cells.push(names[settled.len()].as_str(), &values);
                settled.push(has_settled);
            }
        }
        cx.progress(n as u64, n as u64, "cells");
        warn_of_unsettled(&settled);
        let regulates = (0..network.len()).map(|j| Some(self.may_regulate(network, j)));
        let cells = cells
            .with_obs("settled", Arc::new(BooleanArray::from(settled)))
            .with_var("regulator", Arc::new(regulates.collect::<BooleanArray>()));
        Ok(if world.measured.total() > 0 { with_labels(cells, world) } else { cells })
    }

    /// What is measured of a cell, and whether it settled.
    fn make_cell(&self, truth: &Truth, cell: usize, cx: &Context) -> Result<(Vec<f32>, bool)> {
        cx.check()?;
        let world = truth.world();
        let (drawn, mut rng) = world.draw(cell);
        let steady = world.settle(&drawn, &mut Solver::default());
        truth.keep(cell, &steady.x);
        let mut values: Vec<f32> = steady.x.iter().map(|&x| world.report(x)).collect();
        self.0.observation.measure(&mut values, &mut rng)?;
        Ok((values, steady.settled))
    }

    fn may_regulate(&self, network: &Network, gene: usize) -> bool {
        match &self.0.wiring {
            Wiring::Drawn(drawing) => gene < drawing.regulators,
            Wiring::Listed(_) => network.regulates(gene),
        }
    }
}

/// The names of all cells. Those of the unperturbed ones do not depend on the others.
fn names(world: &World) -> Vec<String> {
    let unperturbed = numbered("cell-", 4, world.cells);
    unperturbed.into_iter().chain(numbered("perturbed-", 4, world.measured.total())).collect()
}

/// The cells with the perturbation of each, and how many genes it has.
fn with_labels(cells: OwnedCells, world: &World) -> OwnedCells {
    let silent = || (0..world.n_cells()).map(|cell| world.perturbation(cell));
    let labels = silent().map(|genes| Some(measured::label(&world.network, genes)));
    let numbers = silent().map(|genes| genes.len() as i64);
    cells
        .with_obs("perturbation", Arc::new(labels.collect::<StringArray>()))
        .with_obs("nperts", Arc::new(Int64Array::from_iter_values(numbers)))
}

fn warn_of_unsettled(settled: &[bool]) {
    let unsettled = settled.iter().filter(|settled| !**settled).count();
    if unsettled > 0 {
        let cells = settled.len();
        tracing::warn!("{unsettled} of {cells} cells did not settle; the obs column `settled` names them");
    }
}

#[cfg(test)]
mod tests;

plugin! { name: "grn", simulators: [Grn, Glv] }
