//! The steady state of a cell whose genes act on each other, and of any knockout.

use crate::design::Levels;
use crate::solver::Line;
use crate::weights::Weights;
use lacuna_sdk::arrow::RecordBatch;
use lacuna_sdk::rows::Genes;
use lacuna_sdk::{chosen_table, prelude::*};
/// How far one iteration goes towards what the regression says: undamped, genes that repress each other would
/// swing.
const DAMPING: f64 = 0.6;

choice! {
    /// How the level of a gene acts on others.
    pub enum Response {
        /// x / (1 + x): half as much as at most where the level is the mean of all.
        Saturating = "saturating",
        /// x: as species of a community do.
        Linear = "linear",
    }
}

impl Response {
    /// What a regulator of level x does.
    pub fn of(self, x: f64) -> f64 {
        match self {
            Self::Saturating => x / (1.0 + x),
            Self::Linear => x,
        }
    }
}

/// What the levels of all genes tend to.
pub struct Rates {
    iterations: usize,
    tolerance: f64,
    response: Response,
    /// Mean levels, from which the iteration starts.
    means: Vec<f32>,
    intercepts: Vec<f32>,
    /// Regulators × genes: what their responses are multiplied by.
    responses: Weights,
    /// Expressed genes × genes: what is added where the gene of the row is expressed.
    presences: Weights,
}

/// A cell on its way to its steady state.
#[derive(Clone)]
struct State {
    levels: Vec<f64>,
    /// What each level tends to, before it is cut off at 0.
    goals: Vec<f64>,
    /// The genes that are expressed.
    expressed: Vec<bool>,
}

impl Rates {
    /// From the lines of all genes, whose features are the responses of all genes, then z.
    pub fn new(
        iterations: usize,
        tolerance: f64,
        response: Response,
        means: Vec<f32>,
        lines: &[Line],
    ) -> Self {
        let genes = lines.len();
        let kind = |line: &Line, from: usize| -> Vec<(u32, f32)> {
            let range = from..from + genes;
            let some = line.weights.iter().filter(|weight| range.contains(&(weight.0 as usize)));
            some.map(|&(i, weight)| (i - from as u32, weight as f32)).collect()
        };
        let of_kind = |from| {
            Weights::from_columns(genes, &lines.iter().map(|line| kind(line, from)).collect::<Vec<_>>())
        };
        let intercepts = lines.iter().map(|line| line.intercept as f32).collect();
        Self {
            iterations,
            tolerance,
            response,
            means,
            intercepts,
            responses: of_kind(0),
            presences: of_kind(genes),
        }
    }

    /// Weights that are not 0.
    pub fn len(&self) -> usize {
        self.responses.len() + self.presences.len()
    }

    /// Σ|q − x| of closed predictions q of these cells, in the units of levels.
    pub fn absolute_error(&self, observed: &Levels, cx: &Context) -> Result<f64> {
        let errors = cx.parallel_map(observed.cells.len(), |cell| {
            cx.check()?;
            let cell = &observed.cells[cell];
            let assemblage: Vec<u32> = cell.iter().map(|&(gene, _)| gene).collect();
            let levels = self.levels(&assemblage);
            let total: f64 = levels.iter().sum();
            let closed = observed.genes as f64 / if total > 0.0 { total } else { 1.0 };
            Ok(cell.iter().map(|&(j, x)| (levels[j as usize] * closed - f64::from(x)).abs()).sum())
        });
        Ok(errors.into_iter().collect::<Result<Vec<f64>>>()?.iter().sum())
    }

    /// The steady state of a cell that expresses these genes, or what the iterations came to.
    fn steady(&self, assemblage: &[u32]) -> State {
        let n = self.means.len();
        let goals = self.intercepts.iter().map(|&a| a.into()).collect();
        let mut state = State { levels: vec![0.0; n], goals, expressed: vec![false; n] };
        for &gene in assemblage {
            let gene = gene as usize;
            state.expressed[gene] = true;
            self.presences.add(gene, 1.0, &mut state.goals, |_| {});
            self.set(&mut state, gene, self.means[gene].into(), |_| {});
        }
        self.settle(&mut state, assemblage.iter().map(|&gene| gene as usize).collect());
        state
    }

    /// The levels of all genes in the steady state of a cell that expresses these.
    pub fn levels(&self, assemblage: &[u32]) -> Vec<f64> {
        self.steady(assemblage).levels
    }

    /// Gives a gene a level, and says whose goals that changes.
    fn set(&self, state: &mut State, gene: usize, level: f64, changed: impl FnMut(usize)) {
        let by = self.response.of(level) - self.response.of(state.levels[gene]);
        state.levels[gene] = level;
        if by != 0.0 {
            self.responses.add(gene, by, &mut state.goals, changed);
        }
    }

    /// The steady state without some expressed genes, from that with them on: as a knockout would, and few genes are
    /// far from where they end.
    fn lose(&self, state: &mut State, lost: impl Iterator<Item = u32>) {
        let mut open = vec![];
        for gene in lost.map(|gene| gene as usize) {
            state.expressed[gene] = false;
            self.presences.add(gene, -1.0, &mut state.goals, |j| open.push(j));
            self.set(state, gene, 0.0, |j| open.push(j));
        }
        open.sort_unstable();
        open.dedup();
        self.settle(state, open);
    }

    /// Moves genes until none is further than the tolerance from its goal. Only those whose goals changed are looked
    /// at: `open`, to begin with.
    fn settle(&self, state: &mut State, mut open: Vec<usize>) {
        let mut is_open = vec![false; self.means.len()];
        let most = self.means.len() as f64;
        for _ in 0..self.iterations {
            // All genes move at once: no level depends on the order of genes.
            let change = |gene: usize| DAMPING * (state.goals[gene].clamp(0.0, most) - state.levels[gene]);
            open.retain(|&gene| state.expressed[gene] && change(gene).abs() > self.tolerance);
            if open.is_empty() {
                return;
            }
            let moves: Vec<(usize, f64)> =
                open.drain(..).map(|gene| (gene, state.levels[gene] + change(gene))).collect();
            for (gene, level) in moves {
                let mut look_at = |gene: usize| {
                    if !std::mem::replace(&mut is_open[gene], true) {
                        open.push(gene);
                    }
                };
                look_at(gene);
                self.set(state, gene, level, look_at);
            }
            open.iter().for_each(|&gene| is_open[gene] = false);
        }
    }
}

/// The fitted model.
pub struct Dynamics {
    pub genes: Genes,
    /// The penalty of its regression.
    pub penalty: f64,
    pub rates: Rates,
}

impl Fitted for Dynamics {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let mut of_cell: Option<(usize, State)> = None;
        let mut lacking: Option<State> = None;
        self.genes.answer(query, answer, cx, |asked, row| {
            let known = of_cell.take().filter(|(cell, _)| *cell == asked.cell);
            let steady = || (asked.cell, self.rates.steady(asked.assemblage()));
            let (_, base) = of_cell.insert(known.unwrap_or_else(steady));
            if asked.lost_expressed().next().is_none() {
                return asked.write_masked(row, |gene| base.levels[gene]);
            }
            let state = lacking.get_or_insert_with(|| base.clone());
            state.clone_from(base);
            self.rates.lose(state, asked.lost_expressed());
            asked.write_masked(row, |gene| state.levels[gene]);
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        let (n, rates) = (self.genes.len(), &self.rates);
        let saved = self.genes.save().text("iterations", rates.iterations.to_string());
        let saved = saved.text("tolerance", rates.tolerance.to_string()).params("response", &rates.response);
        let saved = saved.text("penalty", self.penalty.to_string());
        let saved = saved.tensor("means", &[n], &rates.means).tensor("intercepts", &[n], &rates.intercepts);
        let saved = rates.responses.save("responses", saved);
        rates.presences.save("presences", saved).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let n = genes.len();
        let rates = Rates {
            iterations: saved.get_text("iterations")?.parse()?,
            tolerance: saved.get_text("tolerance")?.parse()?,
            response: saved.get_params("response")?,
            means: saved.get_tensor("means", &[n])?.to_vec(),
            intercepts: saved.get_tensor("intercepts", &[n])?.to_vec(),
            responses: Weights::load("responses", &saved, n)?,
            presences: Weights::load("presences", &saved, n)?,
        };
        let penalty = saved.get_text("penalty")?.parse()?;
        Ok(Self { genes, penalty, rates })
    }

    fn tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        let (penalty, response) = (self.penalty.to_json(), self.rates.response.to_json());
        Ok(vec![chosen_table(&[("penalty", penalty), ("response", response)])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ask, cells, knockouts};
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    fn rates(iterations: usize, tolerance: f64, response: Response, lines: &[Line]) -> Rates {
        Rates::new(iterations, tolerance, response, vec![1.0; lines.len()], lines)
    }

    fn line(intercept: f64, i: u32, weight: f64) -> Line {
        Line { intercept, weights: vec![(i, weight)] }
    }

    #[test]
    fn a_steady_state_by_hand() {
        // Gene 1 represses gene 0, which is there for gene 1. Saturating: x1 = 1 + z0 = 2, x0 = 2 − 2 · 2/3 = 2/3; linear:
        // x1 = 2, x0 = 2 − 0.5 · 2 = 1. Without gene 0, x1 = 1; without gene 1, x0 = 2.
        let both = cells(&[&[1.0, 1.0]]);
        let view = both.to_view();
        for (response, weight, x0) in [(Response::Saturating, -2.0, 2.0 / 3.0), (Response::Linear, -0.5, 1.0)]
        {
            let rates = rates(100, 1e-12, response, &[line(2.0, 1, weight), line(1.0, 2, 1.0)]);
            let state = rates.steady(&[0, 1]).levels;
            assert!((state[0] - x0).abs() < 1e-9 && (state[1] - 2.0).abs() < 1e-9);
            let alone = rates.steady(&[0]).levels;
            assert!((alone[0] - 2.0).abs() < 1e-9 && alone[1] == 0.0);
            let model = Dynamics { genes: Genes::of(&Cells::from_view(&view)).unwrap(), penalty: 1.0, rates };
            let list = knockouts(&[(0, &[]), (0, &[0]), (0, &[1]), (0, &[0, 1])]);
            let rows = ask(&model, &both, &list).unwrap();
            let share = (x0 / (2.0 + x0)) as f32;
            assert!(
                (rows[0][0] - share).abs() < 1e-6 && (rows[0][1] - (1.0 - share)).abs() < 1e-6,
                "{rows:?}"
            );
            assert_eq!(rows[1..], [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]);
        }
    }

    /// Few and weak enough for one steady state; genes, then z, are the features.
    fn random_lines(genes: usize, seed: u64) -> Vec<Line> {
        let mut rng = testing::context(seed).stream(0);
        let mut line = |_| {
            let mut weights: Vec<(u32, f64)> = (0..4)
                .map(|_| (rng.random_range(0..2 * genes as u32), rng.random_range(-0.4..0.4)))
                .collect();
            weights.sort_by_key(|weight| weight.0);
            weights.dedup_by_key(|weight| weight.0);
            Line { intercept: rng.random_range(0.2..2.0), weights }
        };
        (0..genes).map(&mut line).collect()
    }

    /// max(0, a + Σ v h(x) + Σ w z) of each expressed gene, by all lines as they are written.
    fn goals(lines: &[Line], response: Response, expressed: &[bool], x: &[f64]) -> Vec<f64> {
        let n = x.len();
        let feature =
            |i: usize| if i < n { response.of(x[i]) } else { f64::from(u8::from(expressed[i - n])) };
        let goal = |j: usize| {
            let sum: f64 =
                lines[j].weights.iter().map(|&(i, w)| f64::from(w as f32) * feature(i as usize)).sum();
            if expressed[j] { (f64::from(lines[j].intercept as f32) + sum).max(0.0) } else { 0.0 }
        };
        (0..n).map(goal).collect()
    }

    #[test]
    fn no_level_is_further_from_its_goal_than_the_tolerance_with_and_without_genes() {
        for (seed, response) in [(1, Response::Saturating), (2, Response::Linear)] {
            let lines = random_lines(60, seed);
            let rates = rates(1000, 1e-7, response, &lines);
            let assemblage: Vec<u32> = (0..60).filter(|gene| gene % 4 != 1).collect();
            let base = rates.steady(&assemblage);
            for lost in [&[][..], &[0], &[4, 10], &[2, 3, 7, 59]] {
                let mut state = base.clone();
                rates.lose(&mut state, lost.iter().copied());
                let there = |gene: u32| assemblage.contains(&gene) && !lost.contains(&gene);
                let expressed: Vec<bool> = (0..60).map(there).collect();
                let goals = goals(&lines, response, &expressed, &state.levels);
                for (goal, x) in goals.iter().zip(&state.levels) {
                    assert!(DAMPING * (goal - x).abs() <= 1e-7 + 1e-12, "{goal}, {x} without {lost:?}");
                }
                // From the mean levels on it comes to the same.
                let kept: Vec<u32> = (0..60).filter(|&gene| there(gene)).collect();
                let fresh = rates.steady(&kept);
                assert!(fresh.levels.iter().zip(&state.levels).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn what_swings_or_grows_without_end_ends_after_the_stated_iterations() {
        for response in [Response::Saturating, Response::Linear] {
            for weight in [-1000.0, 1000.0] {
                let rates = rates(100, 1e-5, response, &[line(50.0, 1, weight), line(50.0, 0, weight)]);
                assert!(rates.steady(&[0, 1]).levels.iter().all(|x| (0.0..=1000.0).contains(x)));
            }
        }
    }
}
