//! `glv`: communities of species that live by generalised Lotka–Volterra equations.
//!
//! ```text
//! x_i' = x_i (r_i + Σ_j A_ij x_j),   A_ii = −1
//! ```
//!
//! A species is what other simulators call a gene: the columns of the cells. In each cell some species are absent
//! at random. Interactions are weak enough that every community has one steady state, to which it comes from
//! wherever it starts; some species may die out on the way. So nothing has to be integrated: the steady state is
//! found to rounding by exchanging species (see the module `balance`), and so is what a knockout leads to.

mod balance;
mod truth;
mod world;

pub use truth::GlvTruth;

use crate::network::numbered;
use crate::observe::Observation;
use lacuna_sdk::arrow::BooleanArray;
use lacuna_sdk::prelude::*;
use lacuna_sdk::tracing;
use std::sync::Arc;
use world::World;

/// Cells that are made before the next ones begin: bounds the memory of what is on its way.
const BLOCK: usize = 1024;

choice! {
    /// Who acts on whom.
    pub enum Web {
        /// Every ordered pair of species is as likely as any other.
        ErdosRenyi = "erdos-renyi",
        /// A few species act on many: out-degrees follow a power law.
        ScaleFree = "scale-free",
    }
}

config! {
    /// Parameters of `glv`.
    pub struct GlvConfig {
        /// Number of cells, each a community of its own.
        #[range(1..=10_000_000)]
        cells: usize = 500,
        /// Number of species, the genes of the cells. Time grows with their cube.
        #[range(2..=4000)]
        genes: usize = 100,
        /// Who acts on whom.
        topology: Web = Web::ErdosRenyi,
        /// The exponent of the out-degrees of a scale-free web; 2.5 if not given.
        #[range(above(2.0))]
        gamma: Option<f64> = None,
        /// C, the share of the ordered pairs of species that interact.
        #[range(0.0..=1.0)]
        connectivity: f64 = 0.2,
        /// σ, the standard deviation of the interactions A_ij, which are normal and of mean 0. A species limits itself by −1.
        #[range(above(0.0))]
        strength: f64 = 0.1,
        /// Growth rates r are drawn evenly from here on.
        #[range(0.0..=1e3)]
        growth_low: f64 = 0.0,
        /// Growth rates r are drawn evenly up to here.
        #[range(above(0.0))]
        growth_high: f64 = 1.0,
        /// Each species is absent in a cell with this probability.
        #[range(0.0..=1.0)]
        absence: f64 = 0.3,
        /// Abundances below this are reported as 0; the community itself keeps them.
        #[range(0.0..=1e6)]
        threshold: f64 = 1e-3,
        /// Standard deviation of multiplicative log-normal noise of mean 1 on the reported values; 0 for none.
        #[range(0.0..=5.0)]
        noise: f64 = 0.0,
        /// Mean total count of a cell; 0 reports abundances instead of counts.
        #[range(0.0..=1e9)]
        library_size: f64 = 0.0,
        /// φ of negative binomial counts, whose variance is μ + φ μ²; 0 is Poisson. Needs `library_size`.
        #[range(0.0..=100.0)]
        dispersion: f64 = 0.0,
        /// The probability that a reported value is lost.
        #[range(0.0..=1.0)]
        technical_dropout: f64 = 0.0,
    }
}

impl GlvConfig {
    /// What one parameter's range cannot say.
    fn check(&self) -> Result<()> {
        let mut problems = vec![];
        if self.gamma.is_some() && self.topology != Web::ScaleFree {
            problems.push("gamma: only the topology \"scale-free\" has an exponent".to_string());
        }
        if self.growth_high < self.growth_low {
            let GlvConfig { growth_low, growth_high, .. } = self;
            problems.push(format!(
                "growth_high: expected at least growth_low = {growth_low}, found {growth_high}"
            ));
        }
        if self.dispersion > 0.0 && self.library_size == 0.0 {
            problems.push("dispersion: only counts have one; give `library_size` too".into());
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::parameters(problems.join("; "))) }
    }

    /// The exponent of a scale-free web.
    fn exponent(&self) -> Option<f64> {
        (self.topology == Web::ScaleFree).then_some(self.gamma.unwrap_or(2.5))
    }

    fn observation(&self) -> Observation {
        let GlvConfig { noise, library_size, dispersion, technical_dropout, .. } = *self;
        Observation { noise, library_size, dispersion, technical_dropout }
    }
}

/// Simulates communities of species with known interactions.
pub struct Glv(GlvConfig);

impl Component for Glv {
    const ID: &'static str = "glv";
    const DOC: &'static str =
        "Steady states of generalised Lotka-Volterra communities, and of any community that loses species";
    type Config = GlvConfig;

    fn new(config: GlvConfig) -> Result<Self> {
        config.check()?;
        Ok(Self(config))
    }
}

impl Simulator for Glv {
    type Truth = GlvTruth;
    const SCALE: Scale = Scale::Counts;

    fn simulate(&self, cx: &Context) -> Result<Simulation<GlvTruth>> {
        let truth = GlvTruth::new(World::draw(self.0.clone(), cx.seed())?);
        let network = Some(truth.world().network().to_table()?);
        Ok(Simulation { cells: self.make_cells(truth.world(), cx)?, network, truth })
    }
}

impl Glv {
    fn make_cells(&self, world: &World, cx: &Context) -> Result<OwnedCells> {
        let (n, names) = (self.0.cells, numbered("cell-", 4, self.0.cells));
        let mut cells = OwnedCells::new(world.network().genes().to_vec());
        let (mut settled, mut died_out) = (vec![], 0);
        for begin in (0..n).step_by(BLOCK) {
            cx.progress(begin as u64, n as u64, "cells");
            for made in cx.parallel_map(BLOCK.min(n - begin), |i| self.make_cell(world, begin + i, cx)) {
                let (values, has_settled, lost) = made?;
                cells.push(names[settled.len()].as_str(), &values);
                settled.push(has_settled);
                died_out += lost;
            }
        }
        cx.progress(n as u64, n as u64, "cells");
        tracing::info!("{:.1} species a cell died out", died_out as f64 / n as f64);
        crate::warn_of_unsettled(&settled);
        let acts = (0..self.0.genes).map(|i| Some(world.network().regulates(i)));
        Ok(cells
            .with_obs("settled", Arc::new(BooleanArray::from(settled)))
            .with_var("regulator", Arc::new(acts.collect::<BooleanArray>())))
    }

    /// What is measured of a cell, whether it settled, and how many of its species died out.
    fn make_cell(&self, world: &World, cell: usize, cx: &Context) -> Result<(Vec<f32>, bool, usize)> {
        cx.check()?;
        let (present, mut rng) = world.assemblage(cell);
        let community = world.settle(&present);
        let mut values = vec![0.0; self.0.genes];
        community.report(self.0.threshold, &mut values);
        self.0.observation().measure(&mut values, &mut rng)?;
        Ok((values, community.settled, present.len() - community.species.len()))
    }
}

#[cfg(test)]
mod tests;
