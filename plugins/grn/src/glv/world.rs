//! A world of species: who acts on whom, and which of them meet in a cell.

use super::GlvConfig;
use super::balance::{Balance, is_positive_definite};
use crate::network::{Edge, Network, numbered};
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::rand::seq::SliceRandom;
use lacuna_sdk::rand_distr::StandardNormal;
use lacuna_sdk::{Error, Result, Stream, stream};

/// Halvings of the range in which the largest strength of a web is looked for.
const HALVINGS: usize = 20;

/// A web of species, their growth rates, and cells. A cell is drawn from the seed whenever it is needed.
pub struct World {
    config: GlvConfig,
    seed: u64,
    network: Network,
    growth: Vec<f64>,
}

/// A community in its steady state.
pub struct Community {
    /// The species that live, ascending.
    pub species: Vec<u32>,
    /// These species alone.
    pub balance: Balance,
    /// Whether the steady state was found.
    pub settled: bool,
}

impl World {
    /// Draws the web and the growth rates from stream 0 of the seed. An error where communities may have more than one
    /// steady state, or none.
    pub fn draw(config: GlvConfig, seed: u64) -> Result<Self> {
        let mut rng = stream(seed, 0);
        let network = draw_web(&config, &mut rng);
        let range = config.growth_high - config.growth_low;
        let growth = (0..config.genes).map(|_| config.growth_low + range * rng.random::<f64>()).collect();
        let world = Self { config, seed, network, growth };
        if world.is_stable(1.0) { Ok(world) } else { Err(world.too_strong()) }
    }

    /// The parameters.
    pub fn config(&self) -> &GlvConfig {
        &self.config
    }

    /// The step's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Who acts on whom.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The growth rate of each species.
    pub fn growth(&self) -> &[f64] {
        &self.growth
    }

    /// Whether all communities have one steady state each, which attracts them, when interactions are so many times as
    /// strong: −(A + Aᵀ) is positive definite.
    fn is_stable(&self, times: f64) -> bool {
        let n = self.network.len();
        let mut matrix = vec![0.0; n * n];
        (0..n).for_each(|i| matrix[i * n + i] = 2.0);
        for edge in self.network.edges() {
            let (i, j) = (edge.target as usize, edge.regulator as usize);
            matrix[i * n + j] -= times * edge.signed_weight();
            matrix[j * n + i] -= times * edge.signed_weight();
        }
        is_positive_definite(matrix, n)
    }

    fn too_strong(&self) -> Error {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            *(if self.is_stable(middle) { &mut low } else { &mut high }) = middle;
        }
        let strength = self.config.strength;
        Error::parameters(format!(
            "strength: expected at most {:.4}, up to which every community of this web has one steady state, found \
             {strength}; weaken the interactions, or lower `connectivity`",
            low * strength
        ))
    }

    /// Draws the species that meet in a cell from its own stream, ascending. What is drawn from the stream after them
    /// is the cell's noise.
    pub fn assemblage(&self, cell: usize) -> (Vec<u32>, Stream) {
        let mut rng = stream(self.seed, 1 + cell as u64);
        let mut present = |_: &u32| rng.random::<f64>() >= self.config.absence;
        let species = (0..self.network.len() as u32).filter(&mut present).collect();
        (species, rng)
    }

    /// The steady state of these species, ascending.
    pub fn settle(&self, present: &[u32]) -> Community {
        let n = present.len();
        let mut interactions = vec![0.0; n * n];
        let mut place = vec![None; self.network.len()];
        present.iter().enumerate().for_each(|(i, &species)| place[species as usize] = Some(i));
        for (i, &species) in present.iter().enumerate() {
            interactions[i * n + i] = -1.0;
            for edge in &self.network.edges()[self.network.edges_of(species as usize)] {
                if let Some(j) = place[edge.regulator as usize] {
                    interactions[i * n + j] = edge.signed_weight();
                }
            }
        }
        let growth = present.iter().map(|&species| self.growth[species as usize]).collect();
        let mut balance = Balance::new(growth, interactions);
        let settled = balance.settle();
        let living = (0..n).filter(|&i| balance.lives(i)).map(|i| present[i]).collect();
        Community { species: living, balance: balance.living(), settled }
    }
}

impl Community {
    /// Writes the abundances of all species; those below the threshold as 0.
    pub fn report(&self, threshold: f64, out: &mut [f32]) {
        self.write(|i| self.balance.abundance(i), threshold, out);
    }

    fn write(&self, abundance: impl Fn(usize) -> f64, threshold: f64, out: &mut [f32]) {
        out.fill(0.0);
        for (i, &species) in self.species.iter().enumerate() {
            let x = abundance(i);
            out[species as usize] = if x < threshold { 0.0 } else { x as f32 };
        }
    }

    /// What is reported after the growth rates of some species were multiplied, by 0 meaning that they are lost. Species
    /// that are not there stay away. Answers whether there is a steady state.
    pub fn perturb(&self, world: &World, changes: &[(u32, f64)], out: &mut [f32]) -> bool {
        let threshold = world.config.threshold;
        let here = |species: u32| self.species.binary_search(&species).ok();
        let changes: Vec<(usize, f64)> =
            changes.iter().filter_map(|&(species, level)| Some((here(species)?, level))).collect();
        if let [(i, 0.0)] = changes[..]
            && let Some(rest) = self.balance.without(i)
        {
            self.write(|k| rest[k], threshold, out);
            return true;
        }
        let mut balance = self.balance.clone();
        for (i, level) in changes {
            if level == 0.0 {
                balance.lose(i);
            } else {
                let growth = world.growth[self.species[i] as usize];
                balance.grow(i, (level - 1.0) * growth);
            }
        }
        let settled = balance.settle();
        self.write(|k| balance.abundance(k), threshold, out);
        settled
    }
}

/// Each ordered pair of species interacts with a probability that is the connectivity, times how readily the one that
/// acts does so, of mean 1.
fn draw_web(config: &GlvConfig, rng: &mut Stream) -> Network {
    let n = config.genes;
    let mut propensity = vec![1.0; n];
    if let Some(gamma) = config.exponent() {
        let of_rank = |rank: usize| (rank as f64).powf(-1.0 / (gamma - 1.0));
        let total: f64 = (1..=n).map(of_rank).sum();
        propensity = (1..=n).map(|rank| of_rank(rank) * n as f64 / total).collect();
        propensity.shuffle(rng);
    }
    let mut edges = vec![];
    for target in 0..n as u32 {
        for regulator in (0..n as u32).filter(|&j| j != target) {
            let acts = rng.random::<f64>() < config.connectivity * propensity[regulator as usize];
            let z: f64 = rng.sample(StandardNormal);
            if acts && z != 0.0 {
                let weight = config.strength * z.abs();
                edges.push(Edge { regulator, target, weight, represses: z < 0.0 });
            }
        }
    }
    Network::new(numbered("S", 3, n), edges)
}
