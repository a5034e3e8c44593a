//! The equations of a cell, and the way to their steady state.
//!
//! x_j' = −B x_j + l_j · (Σ_i A⁺_ij h(x_i) + Σ_i A⁻_ij (1 − h(x_i))), h(x) = xⁿ / (Kⁿ + xⁿ), over the
//! regulators i that are present; l_j is 1, or the level of a gene that is knocked down or over-expressed. A
//! gene of level 0 is absent: frozen at 0.

use crate::network::Network;

/// The constants of the equations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Equations {
    /// B, the rate at which every gene product decays.
    pub decay: f64,
    /// n, the Hill coefficient.
    pub hill: f64,
    /// K, the concentration at which a regulator has half its effect.
    pub half_saturation: f64,
    /// Whether an absent repressor leaves its targets derepressed, at A⁻ · 1; otherwise its term vanishes.
    pub derepressed: bool,
}

impl Equations {
    /// h(x) and 1 − h(x). Each is computed without a difference, so that neither can be negative.
    #[inline]
    fn response(&self, x: f64) -> (f64, f64) {
        // A stage of the integrator may reach below 0, where the true path never goes.
        let mut ratio = x.max(0.0) / self.half_saturation;
        if self.hill != 1.0 {
            // The limit keeps ratio · off from being ∞ · 0.
            ratio = power(ratio, self.hill).min(1e300);
        }
        let off = 1.0 / (1.0 + ratio);
        (ratio * off, off)
    }
}

/// xⁿ; for whole n by products, which are faster and the same on every machine.
fn power(x: f64, n: f64) -> f64 {
    if n.fract() == 0.0 { (0..n as u32).fold(1.0, |product, _| product * x) } else { x.powf(n) }
}

/// When a cell has settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// It has when max |x'| is below this,
    pub tolerance: f64,
    /// and it never does when that takes longer than this.
    pub max_time: f64,
}

/// The equations of one cell.
#[derive(Clone, Copy)]
pub struct Circuit<'a> {
    /// Who regulates whom.
    pub network: &'a Network,
    /// The constants.
    pub equations: Equations,
    /// The cell's own weight of each edge.
    pub weights: &'a [f64],
    /// The level of each gene: what its production is multiplied by. 0 freezes the gene.
    pub levels: &'a [f64],
}

impl Circuit<'_> {
    /// How fast a gene is made at these concentrations.
    pub fn production(&self, gene: usize, x: &[f64]) -> f64 {
        self.levels[gene] * self.network.edges_of(gene).map(|e| self.term(e, x)).sum::<f64>()
    }

    /// What one edge adds.
    fn term(&self, e: usize, x: &[f64]) -> f64 {
        let edge = &self.network.edges()[e];
        let regulator = edge.regulator as usize;
        if self.levels[regulator] == 0.0 {
            return if edge.represses && self.equations.derepressed { self.weights[e] } else { 0.0 };
        }
        let (on, off) = self.equations.response(x[regulator]);
        self.weights[e] * if edge.represses { off } else { on }
    }
}

/// Brings cells to their steady state. Keeps its memory from one to the next.
#[derive(Default)]
pub struct Solver {
    /// Which genes may move.
    moving: Vec<bool>,
    /// Genes whose targets have yet to be marked.
    queue: Vec<u32>,
    /// The moving genes that regulate: only they can drive each other.
    leaders: Vec<u32>,
    /// The number of each leader.
    number: Vec<Option<u32>>,
    system: System,
}

impl Solver {
    /// Integrates all genes from `x` on. Answers whether they settled.
    pub fn settle(&mut self, circuit: &Circuit<'_>, limits: Limits, x: &mut [f64]) -> bool {
        self.moving.clear();
        self.moving.extend(circuit.levels.iter().map(|&level| level > 0.0));
        self.run(circuit, limits, x)
    }

    /// Integrates on from a steady state after the levels of some genes were changed. Only they and what lies
    /// downstream of them moves; every other gene keeps its value to the last bit.
    pub fn settle_after(
        &mut self,
        changed: &[u32],
        circuit: &Circuit<'_>,
        limits: Limits,
        x: &mut [f64],
    ) -> bool {
        self.mark_downstream(changed, circuit);
        self.run(circuit, limits, x)
    }

    fn mark_downstream(&mut self, changed: &[u32], circuit: &Circuit<'_>) {
        self.moving.clear();
        self.moving.resize(circuit.levels.len(), false);
        self.queue.clear();
        self.queue.extend_from_slice(changed);
        for &gene in changed {
            self.moving[gene as usize] = circuit.levels[gene as usize] > 0.0;
        }
        while let Some(gene) = self.queue.pop() {
            for &target in circuit.network.targets_of(gene as usize) {
                let moves = &mut self.moving[target as usize];
                if !*moves && circuit.levels[target as usize] > 0.0 {
                    *moves = true;
                    self.queue.push(target);
                }
            }
        }
    }

    /// Integrates the leaders; the other moving genes follow them, and their steady state is production / B.
    fn run(&mut self, circuit: &Circuit<'_>, limits: Limits, x: &mut [f64]) -> bool {
        self.choose_leaders(circuit.network);
        self.system.clear();
        for i in 0..self.leaders.len() {
            self.add_leader(self.leaders[i] as usize, circuit, x);
        }
        let settled = self.system.settle(&circuit.equations, limits);
        for (&gene, &value) in self.leaders.iter().zip(&self.system.state) {
            // Rounding can leave a gene that vanishes a little below 0.
            x[gene as usize] = value.max(0.0);
        }
        for gene in 0..x.len() {
            if self.moving[gene] && self.number[gene].is_none() {
                x[gene] = circuit.production(gene, x) / circuit.equations.decay;
            }
        }
        settled
    }

    fn choose_leaders(&mut self, network: &Network) {
        self.leaders.clear();
        self.number.clear();
        for gene in 0..network.len() {
            let leads = self.moving[gene] && network.regulates(gene);
            self.number.push(leads.then_some(self.leaders.len() as u32));
            if leads {
                self.leaders.push(gene as u32);
            }
        }
    }

    /// Adds the equation of one leader. Regulators that stand still add to its constant.
    fn add_leader(&mut self, gene: usize, circuit: &Circuit<'_>, x: &[f64]) {
        let level = circuit.levels[gene];
        let mut constant = 0.0;
        for e in circuit.network.edges_of(gene) {
            let edge = &circuit.network.edges()[e];
            match self.number[edge.regulator as usize] {
                Some(number) => {
                    let off = if edge.represses { self.leaders.len() as u32 } else { 0 };
                    self.system.edges.push((number + off, level * circuit.weights[e]));
                }
                None => constant += level * circuit.term(e, x),
            }
        }
        self.system.end_gene(constant, x[gene]);
    }
}

/// The equations of the leaders alone, numbered from 0, and the integrator's memory.
#[derive(Default)]
struct System {
    /// Production by regulators that stand still.
    constant: Vec<f64>,
    /// Which activity, times which weight, is added. The activities are h(x) of all genes, then 1 − h(x).
    edges: Vec<(u32, f64)>,
    /// Where the edges of each gene end.
    ends: Vec<usize>,
    state: Vec<f64>,
    trial: Vec<f64>,
    activity: Vec<f64>,
    slopes: [Vec<f64>; 7],
}

/// The largest error that a step may make, in parts of the largest concentration where that is above 1.
const STEP_ERROR: f64 = 1e-6;
/// The same, in parts of the distance to the steady state, max |x'| / B. With a fixed bound alone the steps
/// grow until an explicit method stirs up as much as the bound allows, and |x'| never gets below it; bounded
/// by the distance, they stop growing where the method is stable, and |x'| falls as far as rounding lets it.
const STEP_ERROR_NEAR: f64 = 0.02;
/// |x'| is the difference of production and decay, and rounding of these lets it fall no further than to some
/// 1e-16 of them. This matters beside the tightest tolerance only where concentrations are above 100.
const ROUNDING: f64 = 1e-14;
/// After so many steps a cell counts as not settled, whatever its time.
const MAX_STEPS: usize = 200_000;

impl System {
    fn clear(&mut self) {
        self.constant.clear();
        self.edges.clear();
        self.ends.clear();
        self.state.clear();
    }

    /// Ends the equation of one gene, after its edges were added.
    fn end_gene(&mut self, constant: f64, start: f64) {
        self.constant.push(constant);
        self.ends.push(self.edges.len());
        self.state.push(start);
    }

    /// Dormand–Prince 5(4) until max |x'| is below the tolerance.
    fn settle(&mut self, equations: &Equations, limits: Limits) -> bool {
        let n = self.state.len();
        self.trial.clone_from(&self.state);
        self.activity.resize(2 * n, 0.0);
        self.slopes.iter_mut().for_each(|slope| slope.resize(n, 0.0));
        let (mut time, mut step) = (0.0, 0.25 / equations.decay);
        self.derive(equations, 0);
        for _ in 0..MAX_STEPS {
            let (speed, size) = (largest(&self.slopes[0]), largest(&self.state));
            if speed < limits.tolerance.max(ROUNDING * equations.decay * size) {
                return true;
            }
            if time >= limits.max_time {
                return false;
            }
            let bound = (STEP_ERROR * size.max(1.0)).min(STEP_ERROR_NEAR * speed / equations.decay);
            let ratio = self.try_step(equations, step) / bound;
            if ratio <= 1.0 {
                time += step;
                std::mem::swap(&mut self.state, &mut self.trial);
                self.slopes.swap(0, 6);
            }
            step *= growth(ratio);
        }
        false
    }

    /// Writes the slope at `trial`.
    fn derive(&mut self, equations: &Equations, slope: usize) {
        let (on, off) = self.activity.split_at_mut(self.trial.len());
        for ((x, on), off) in self.trial.iter().zip(on).zip(off) {
            (*on, *off) = equations.response(*x);
        }
        let mut edges = self.edges.as_slice();
        let mut begin = 0;
        let rows = self.constant.iter().zip(&self.ends).zip(&self.trial);
        for (((constant, &end), x), slope) in rows.zip(&mut self.slopes[slope]) {
            let (own, rest) = edges.split_at(end - begin);
            let made: f64 = own.iter().map(|&(source, weight)| weight * self.activity[source as usize]).sum();
            *slope = constant + made - equations.decay * x;
            (edges, begin) = (rest, end);
        }
    }

    /// One step of Dormand and Prince (1980), RK5(4)7M, into `trial`; answers the estimated error. The last
    /// slope belongs to `trial` and is the first of the next step.
    fn try_step(&mut self, equations: &Equations, h: f64) -> f64 {
        self.stage(h, [1.0 / 5.0]);
        self.derive(equations, 1);
        self.stage(h, [3.0 / 40.0, 9.0 / 40.0]);
        self.derive(equations, 2);
        self.stage(h, [44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0]);
        self.derive(equations, 3);
        self.stage(h, [19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0]);
        self.derive(equations, 4);
        self.stage(h, [9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0]);
        self.derive(equations, 5);
        self.stage(h, [35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0]);
        self.derive(equations, 6);
        self.error(h)
    }

    /// `trial` = `state` + h · weighted sum of the first slopes.
    fn stage<const S: usize>(&mut self, h: f64, weights: [f64; S]) {
        let n = self.state.len();
        let slopes: [&[f64]; S] = std::array::from_fn(|s| &self.slopes[s][..n]);
        for (i, (trial, state)) in self.trial.iter_mut().zip(&self.state).enumerate() {
            let sum = (0..S).fold(0.0, |sum, s| sum + weights[s] * slopes[s][i]);
            *trial = state + h * sum;
        }
    }

    /// The difference of the solutions of order 5 and 4.
    fn error(&self, h: f64) -> f64 {
        const WEIGHTS: [f64; 7] = [
            71.0 / 57600.0,
            0.0,
            -71.0 / 16695.0,
            71.0 / 1920.0,
            -17253.0 / 339200.0,
            22.0 / 525.0,
            -1.0 / 40.0,
        ];
        let at = |i: usize| WEIGHTS.iter().zip(&self.slopes).fold(0.0, |sum, (w, slope)| sum + w * slope[i]);
        (0..self.state.len()).fold(0.0, |most: f64, i| larger(most, h * at(i).abs()))
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| larger(most, value.abs()))
}

/// The larger of two, NaN if either is: `f64::max` would hide it, and a cell without numbers pass as settled.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// By how much the next step is longer, from the error in parts of its bound. The textbook's fifth root is a
/// fourth root here, because square roots give the same bits on every machine.
fn growth(ratio: f64) -> f64 {
    if ratio.is_nan() { 0.2 } else { (0.9 / ratio.sqrt().sqrt()).clamp(0.2, 5.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::array::from_fn;

    const EQUATIONS: Equations =
        Equations { decay: 0.5, hill: 2.0, half_saturation: 1.0, derepressed: false };

    /// Three genes in a ring: 0 activates 1, 1 activates 2, 2 represses 0.
    fn ring() -> System {
        let mut system = System::default();
        for (edge, constant, start) in [((5, 2.0), 0.0, 0.2), ((0, 1.5), 0.1, 1.1), ((1, 3.0), 0.0, 0.7)] {
            system.edges.push(edge);
            system.end_gene(constant, start);
        }
        system.trial.clone_from(&system.state);
        system.activity.resize(6, 0.0);
        system.slopes = from_fn(|_| vec![0.0; 3]);
        system.derive(&EQUATIONS, 0);
        system
    }

    /// Where equal steps to time 1 end, and the estimated error of the first.
    fn walk(steps: usize) -> ([f64; 3], f64) {
        let (mut system, mut first) = (ring(), None);
        for _ in 0..steps {
            let error = system.try_step(&EQUATIONS, 1.0 / steps as f64);
            first.get_or_insert(error);
            std::mem::swap(&mut system.state, &mut system.trial);
            system.slopes.swap(0, 6);
        }
        (from_fn(|i| system.state[i]), first.unwrap())
    }

    #[test]
    fn steps_have_order_five_and_their_error_estimate_is_of_order_five() {
        let (exact, _) = walk(512);
        let off = |found: [f64; 3]| largest(&from_fn::<f64, 3, _>(|i| found[i] - exact[i]));
        let ((coarse, coarse_error), (fine, fine_error)) = (walk(8), walk(16));
        // Half the step: 2⁵ = 32 times less error over the same time, and in the estimate for one step.
        let (order, order_of_estimate) =
            ((off(coarse) / off(fine)).log2(), (coarse_error / fine_error).log2());
        assert!((4.6..5.8).contains(&order), "{order}");
        assert!((4.6..5.8).contains(&order_of_estimate), "{order_of_estimate}");
        assert!(off(coarse) < 1e-7, "{}", off(coarse));
    }

    #[test]
    fn a_regulator_has_half_its_effect_at_half_saturation() {
        for hill in [1.0, 2.0, 2.5, 20.0] {
            let equations = Equations { hill, half_saturation: 0.4, ..EQUATIONS };
            let (on, off) = equations.response(0.4);
            assert!((on - 0.5).abs() < 1e-15 && (off - 0.5).abs() < 1e-15);
            assert_eq!(equations.response(0.0), (0.0, 1.0));
            assert_eq!(equations.response(-0.1), (0.0, 1.0));
            let (on, off) = equations.response(1e100);
            assert!((on - 1.0).abs() < 1e-12 && (0.0..1e-90).contains(&off));
        }
    }
}
