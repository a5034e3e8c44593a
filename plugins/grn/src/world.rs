//! A simulated world: a network and the cells that live by it.

use crate::dynamics::{Circuit, Equations, Limits, Solver};
use crate::measured::Measured;
use crate::network::{Network, Weights};
use lacuna_sdk::rand::{RngExt, SeedableRng, seq::index};
use lacuna_sdk::{Error, Result, Stream};

/// How the absent genes of a cell are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Absence {
    /// Exactly so many genes are absent.
    Genes(usize),
    /// Each gene is absent with this probability.
    Probability(f64),
}

/// What holds for every cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// How absent genes are drawn.
    pub absence: Absence,
    /// The probability that a cell has its own weight of an edge.
    pub redraw: f64,
    /// Where such weights come from.
    pub weights: Weights,
    /// The equations.
    pub equations: Equations,
    /// When a cell has settled.
    pub limits: Limits,
    /// Concentrations below this are reported as 0.
    pub threshold: f64,
}

/// A network and cells. A cell is drawn from the seed whenever it is needed, so that a world of any number of
/// cells takes no more memory than its network.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The network.
    pub network: Network,
    /// What holds for every cell.
    pub rules: Rules,
    /// Number of unperturbed cells, the first ones.
    pub cells: usize,
    /// The perturbations whose cells come after them.
    pub measured: Measured,
    /// The step's seed.
    pub seed: u64,
}

/// What sets a cell apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// 1 for each gene that is present, 0 for each that is absent or perturbed.
    pub levels: Vec<f64>,
    /// The weight of each edge.
    pub weights: Vec<f64>,
    /// Where integration starts.
    pub start: Vec<f64>,
}

/// The steady state of a cell, or where it got to.
pub struct Steady {
    /// The concentration of each gene.
    pub x: Vec<f64>,
    /// Whether it settled.
    pub settled: bool,
}

impl World {
    /// A world, if the network has enough genes for the absent ones.
    pub fn new(network: Network, rules: Rules, cells: usize, measured: Measured, seed: u64) -> Result<Self> {
        match rules.absence {
            Absence::Genes(absent) if absent >= network.len() => Err(Error::parameters(format!(
                "absent_genes: expected fewer than the {} genes of the network, found {absent}; give \
                 `absent_genes` or `absence`",
                network.len()
            ))),
            _ => Ok(Self { network, rules, cells, measured, seed }),
        }
    }

    /// Number of all cells, also the perturbed ones.
    pub fn n_cells(&self) -> usize {
        self.cells + self.measured.total()
    }

    /// The genes that are perturbed in a cell, ascending; none in an unperturbed one.
    pub fn perturbation(&self, cell: usize) -> &[u32] {
        cell.checked_sub(self.cells).map_or(&[], |perturbed| self.measured.genes_of(perturbed))
    }

    /// Draws a cell from its own stream: absent genes, weights, start. What is drawn from the stream after
    /// them is the cell's noise. A perturbed cell is drawn as any other; then its genes are absent too.
    pub fn draw(&self, cell: usize) -> (Cell, Stream) {
        // The same stream as `Context::stream(1 + cell)` of the step that simulated; a loaded truth has no
        // such context.
        let mut rng = Stream::seed_from_u64(self.seed);
        rng.set_stream(1 + cell as u64);
        let mut levels = self.draw_levels(&mut rng);
        self.perturbation(cell).iter().for_each(|&gene| levels[gene as usize] = 0.0);
        let weights =
            self.network.edges().iter().map(|edge| self.draw_weight(edge.weight, &mut rng)).collect();
        let start = levels.iter().map(|level| level * rng.random::<f64>()).collect();
        (Cell { levels, weights, start }, rng)
    }

    fn draw_levels(&self, rng: &mut Stream) -> Vec<f64> {
        let genes = self.network.len();
        match self.rules.absence {
            Absence::Genes(absent) => {
                let mut levels = vec![1.0; genes];
                index::sample(rng, genes, absent.min(genes)).into_iter().for_each(|j| levels[j] = 0.0);
                levels
            }
            Absence::Probability(p) => (0..genes).map(|_| f64::from(rng.random::<f64>() >= p)).collect(),
        }
    }

    fn draw_weight(&self, weight: f64, rng: &mut Stream) -> f64 {
        if rng.random::<f64>() < self.rules.redraw { self.rules.weights.draw(rng) } else { weight }
    }

    /// The equations of a cell whose genes have these levels.
    pub fn circuit<'a>(&'a self, cell: &'a Cell, levels: &'a [f64]) -> Circuit<'a> {
        Circuit { network: &self.network, equations: self.rules.equations, weights: &cell.weights, levels }
    }

    /// Integrates a cell from its start.
    pub fn settle(&self, cell: &Cell, solver: &mut Solver) -> Steady {
        let mut x = cell.start.clone();
        let settled = solver.settle(&self.circuit(cell, &cell.levels), self.rules.limits, &mut x);
        Steady { x, settled }
    }

    /// The concentration that is reported.
    pub fn report(&self, x: f64) -> f32 {
        if x < self.rules.threshold { 0.0 } else { x as f32 }
    }
}

/// A perturbed cell, one perturbation after the other.
pub struct Perturbed<'a> {
    world: &'a World,
    cell: &'a Cell,
    steady: &'a [f64],
    levels: Vec<f64>,
    changed: Vec<u32>,
    solver: Solver,
    /// The concentration of each gene after the last perturbation.
    pub x: Vec<f64>,
}

impl<'a> Perturbed<'a> {
    /// The cell as it is, at its steady state.
    pub fn new(world: &'a World, cell: &'a Cell, steady: &'a [f64], solver: Solver) -> Self {
        let levels = cell.levels.clone();
        Self { world, cell, steady, levels, changed: vec![], solver, x: steady.to_vec() }
    }

    /// Gives some genes of the unperturbed cell a level and integrates on from its steady state. Level 0
    /// freezes the gene at 0; any other multiplies the gene's production. Absent genes stay absent. Answers
    /// whether the cell settled.
    pub fn perturb(&mut self, genes: impl Iterator<Item = (u32, f64)>) -> bool {
        self.x.copy_from_slice(self.steady);
        self.levels.copy_from_slice(&self.cell.levels);
        self.changed.clear();
        for (gene, level) in genes {
            let j = gene as usize;
            if self.levels[j] == 0.0 || level == 1.0 {
                continue;
            }
            self.levels[j] *= level;
            if level == 0.0 {
                self.x[j] = 0.0;
            }
            self.changed.push(gene);
        }
        let circuit = self.world.circuit(self.cell, &self.levels);
        self.solver.settle_after(&self.changed, &circuit, self.world.rules.limits, &mut self.x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Drawing, Edge, numbered};
    use lacuna_sdk::serde_json::{Value, from_str};
    use lacuna_sdk::testing::context;

    const LIMITS: Limits = Limits { tolerance: 1e-9, max_time: 1e4 };
    const WEIGHTS: Weights = Weights { low: 0.0, high: 2.0 };

    fn rules(equations: Equations) -> Rules {
        let absence = Absence::Probability(0.3);
        Rules { absence, redraw: 0.2, weights: WEIGHTS, equations, limits: LIMITS, threshold: 1e-3 }
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn genes(value: &Value) -> Vec<u32> {
        numbers(value).into_iter().map(|gene| gene as u32).collect()
    }

    /// The world and the one cell of a case of tests/fixtures/grn/make.py.
    fn fixture(case: &Value) -> (World, Cell) {
        let number = |name: &str| case[name].as_f64().unwrap();
        let edge = |edge: &Value| match numbers(edge)[..] {
            [regulator, target, weight] => Edge {
                regulator: regulator as u32,
                target: target as u32,
                weight: weight.abs(),
                represses: weight < 0.0,
            },
            _ => panic!("an edge has three numbers"),
        };
        let edges = case["edges"].as_array().unwrap().iter().map(edge).collect();
        let equations = Equations {
            decay: number("decay"),
            hill: number("hill"),
            half_saturation: number("half_saturation"),
            derepressed: case["absent_repressor"] == "derepressed",
        };
        let network = Network::new(numbered("G", 3, 12), edges);
        let mut levels = vec![1.0; 12];
        genes(&case["absent"]).into_iter().for_each(|gene| levels[gene as usize] = 0.0);
        let start = numbers(&case["start"]).iter().zip(&levels).map(|(x, level)| x * level).collect();
        let weights = network.edges().iter().map(|edge| edge.weight).collect();
        let world =
            World { network, rules: rules(equations), cells: 1, measured: Measured::default(), seed: 0 };
        (world, Cell { levels, weights, start })
    }

    fn assert_near(found: &[f64], expected: &[f64], what: &str) {
        for (j, (x, y)) in found.iter().zip(expected).enumerate() {
            assert!((x - y).abs() < 1e-6, "{what}: expected {y} for gene {j}, found {x}");
        }
    }

    #[test]
    fn steady_states_and_knockouts_are_those_of_another_integrator() {
        let cases: Value = from_str(include_str!("../../../tests/fixtures/grn/steady-states.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let (world, cell) = fixture(case);
            let name = case["name"].as_str().unwrap();
            let steady = world.settle(&cell, &mut Solver::default());
            assert!(steady.settled, "{name}");
            assert_near(&steady.x, &numbers(&case["steady"]), name);
            let mut perturbed = Perturbed::new(&world, &cell, &steady.x, Solver::default());
            for knockout in case["knockouts"].as_array().unwrap() {
                let changes = genes(&knockout["genes"]).into_iter().zip(numbers(&knockout["levels"]));
                assert!(perturbed.perturb(changes), "{name} {knockout}");
                assert_near(&perturbed.x, &numbers(&knockout["after"]), &format!("{name} {knockout}"));
            }
        }
    }

    #[test]
    fn a_cell_is_drawn_from_the_step_s_stream_of_its_number() {
        let mut world = random_world(11);
        world.rules.redraw = 0.0;
        let (cell, mut noise) = world.draw(2);
        let mut stream = context(11).stream(3);
        let absent: Vec<bool> = cell.levels.iter().map(|_| stream.random::<f64>() < 0.3).collect();
        assert!(cell.levels.iter().zip(&absent).all(|(&level, &absent)| (level == 0.0) == absent));
        let kept = |_: &Edge| stream.random::<f64>() >= world.rules.redraw;
        assert!(world.network.edges().iter().all(kept));
        let start: Vec<f64> = cell.levels.iter().map(|level| level * stream.random::<f64>()).collect();
        assert_eq!(cell.start, start);
        assert_eq!(noise.random::<u64>(), stream.random::<u64>());
    }

    /// max |x'|, by the formula as it is written, gene by gene.
    fn speed(circuit: &Circuit<'_>, x: &[f64]) -> f64 {
        let speed = |j: usize| (circuit.production(j, x) - circuit.equations.decay * x[j]).abs();
        (0..x.len()).map(speed).fold(0.0, f64::max)
    }

    fn random_world(seed: u64) -> World {
        let mut rng = context(seed).stream(99);
        let drawing = Drawing {
            genes: rng.random_range(4..40),
            regulators: 4,
            gamma: rng.random_bool(0.5).then_some(2.5),
            mean_degree: 2.5,
            repressing: rng.random(),
            weights: WEIGHTS,
        };
        let equations = Equations {
            decay: rng.random_range(0.2..3.0),
            hill: [1.0, 1.0, 2.0, 1.7][rng.random_range(0..4)],
            half_saturation: rng.random_range(0.3..2.0),
            derepressed: rng.random(),
        };
        World::new(drawing.draw(&mut rng).unwrap(), rules(equations), 3, Measured::default(), seed).unwrap()
    }

    #[test]
    fn nothing_moves_in_a_settled_cell_and_nothing_is_negative() {
        for seed in 0..100 {
            let world = random_world(seed);
            for c in 0..world.cells {
                let (cell, mut rng) = world.draw(c);
                let steady = world.settle(&cell, &mut Solver::default());
                let mut perturbed = Perturbed::new(&world, &cell, &steady.x, Solver::default());
                let genes = index::sample(&mut rng, world.network.len(), 2).into_iter();
                let settled = perturbed.perturb(genes.map(|j| (j as u32, [0.0, 0.4, 3.0][j % 3])));
                for (settled, x, levels) in
                    [(steady.settled, &steady.x, &cell.levels), (settled, &perturbed.x, &perturbed.levels)]
                {
                    let speed = speed(&world.circuit(&cell, levels), x);
                    assert!(settled && speed < LIMITS.tolerance, "world {seed}, cell {c}: {speed}");
                    assert!(x.iter().zip(levels).all(|(&x, &level)| x >= 0.0 && (level > 0.0 || x == 0.0)));
                }
            }
        }
    }

    #[test]
    fn the_tightest_tolerance_is_reached() {
        let mut world = random_world(3);
        world.rules.limits.tolerance = 1e-12;
        let (cell, _) = world.draw(0);
        let steady = world.settle(&cell, &mut Solver::default());
        assert!(steady.settled);
        assert!(speed(&world.circuit(&cell, &cell.levels), &steady.x) < 2e-12);
    }

    #[test]
    fn strong_regulation_settles_too() {
        for seed in 0..20 {
            let mut world = random_world(seed);
            world.rules.redraw = 1.0;
            world.rules.weights = Weights { low: 1e5, high: 1e6 };
            world.rules.equations.hill = 1.0;
            world.rules.limits.tolerance = 1e-12;
            let (cell, _) = world.draw(0);
            assert!(world.settle(&cell, &mut Solver::default()).settled, "world {seed}");
        }
    }

    #[test]
    fn only_what_lies_downstream_moves() {
        let network =
            Network::from_list("regulator,target,weight\nA,B,1\nB,C,1\nD,C,1\nD,A,1", None).unwrap();
        let equations = Equations { decay: 1.0, hill: 1.0, half_saturation: 1.0, derepressed: false };
        let world =
            World { network, rules: rules(equations), cells: 1, measured: Measured::default(), seed: 0 };
        let cell = Cell { levels: vec![1.0; 4], weights: vec![1.0; 4], start: vec![0.5; 4] };
        // Not a steady state at all, so that whatever is integrated changes.
        let steady = [0.5, 0.5, 0.5, 0.5];
        let mut perturbed = Perturbed::new(&world, &cell, &steady, Solver::default());
        assert!(perturbed.perturb([(1, 0.0)].into_iter()));
        assert_eq!(perturbed.x[..2], [0.5, 0.0]);
        assert_eq!(perturbed.x[3], 0.5);
        assert!(perturbed.x[2] < 0.5);
    }

    #[test]
    fn a_cell_that_needs_longer_than_the_longest_time_has_not_settled() {
        let network = Network::from_list("regulator,target,weight\nA,B,1", None).unwrap();
        let equations = Equations { decay: 1.0, hill: 1.0, half_saturation: 1.0, derepressed: false };
        let mut world =
            World { network, rules: rules(equations), cells: 1, measured: Measured::default(), seed: 0 };
        let cell = Cell { levels: vec![1.0; 2], weights: vec![1.0], start: vec![1.0; 2] };
        assert!(world.settle(&cell, &mut Solver::default()).settled);
        // Nothing makes A: it decays as exp(−t).
        world.rules.limits.max_time = 5.0;
        let steady = world.settle(&cell, &mut Solver::default());
        assert!(!steady.settled && (1e-4..7e-3).contains(&steady.x[0]), "{:?}", steady.x);
    }

    #[test]
    fn a_cell_that_oscillates_does_not_settle() {
        // The repressilator: three genes in a ring of repression, steep enough to swing for ever.
        let list = "regulator,target,weight\nA,B,-20\nB,C,-20\nC,A,-20";
        let network = Network::from_list(list, None).unwrap();
        let equations = Equations { decay: 1.0, hill: 4.0, half_saturation: 1.0, derepressed: false };
        let mut world =
            World { network, rules: rules(equations), cells: 1, measured: Measured::default(), seed: 0 };
        world.rules.limits.max_time = 200.0;
        let cell = Cell { levels: vec![1.0; 3], weights: vec![20.0; 3], start: vec![0.1, 0.2, 0.9] };
        let steady = world.settle(&cell, &mut Solver::default());
        assert!(!steady.settled);
        assert!(steady.x.iter().all(|x| (0.0..=20.0).contains(x)));
    }
}
