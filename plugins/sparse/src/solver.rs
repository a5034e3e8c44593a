//! Huber regression with an L1 penalty, for all genes.
//!
//! Of gene j, over the n cells that express it, with its standardised level y and features x:
//!
//! ```text
//! minimise  1/n Σ_c ρ(y_c − b − Σ_i x_ci β_i) + λ Σ_i f_i |β_i|,   ρ(r) = r²/2 up to δ, δ|r| − δ²/2 beyond
//! ```
//!
//! First all f are 1; each round of reweighting then sets f_i = e / (|β_i| + e), which all but frees the
//! features that count of the penalty's pull towards 0 (Candès, Wakin and Boyd 2008). Each problem is solved
//! by coordinate descent over a working set of features (Huber's loss has a curvature of at most 1, so that
//! each step goes down), which grows by those whose gradient is beyond the penalty: of many features nearly
//! all never enter it. These gradients are products of matrices, for a block of genes at once. The conditions
//! of the optimum hold to [`TOLERANCE`] of the penalty. Where a gene has a source, a line that was fitted to other cells, y is
//! what that one leaves over, and b stands under the penalty too: under a strong one nothing departs from it. On the way from strong penalties to weak ones each solution is
//! where the next starts.

use crate::design::{Features, Target};
use lacuna_sdk::ndarray::linalg::general_mat_mul;
use lacuna_sdk::ndarray::{Array2, ArrayView1, ShapeBuilder};
use lacuna_sdk::{prelude::*, tracing};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Genes whose gradients are one product of matrices, at most and at least: the more, the faster it is, as long as
/// every thread has some.
const MOST_OF_A_BLOCK: usize = 128;
const LEAST_OF_A_BLOCK: usize = 8;
/// Blocks that all genes are cut into, where they are neither too large nor too small.
const BLOCKS: usize = 16;
/// Gradients of fewer genes are sums: for so few a product of matrices is slower.
const FEW: usize = 4;
/// How far a gradient may be from the conditions of the optimum, in parts of the penalty.
pub const TOLERANCE: f64 = 1e-3;
/// The same for solutions that only say how features are reweighted.
const ROUGH: f64 = 1e-2;
/// Sweeps over a working set, of which tens are needed.
const MOST_SWEEPS: usize = 2000;
/// Times that a working set may grow, of which a few are needed.
const MOST_GROWTHS: usize = 100;
/// How many features a working set may grow by at once, at least: once the strongest are in, many others need
/// not be.
const GROWTH: usize = 16;

/// How all genes are regressed.
pub struct Regression<'a> {
    pub features: &'a Features,
    pub targets: &'a [Target],
    /// How far Huber's loss is a square, in standard deviations of the gene.
    pub delta: f64,
    /// Rounds of reweighting.
    pub reweight: usize,
    /// The e of reweighting.
    pub softness: f64,
}

/// A regressed gene: its level is intercept + Σ weight · raw feature.
#[derive(Debug, Clone)]
pub struct Line {
    pub intercept: f64,
    /// Ascending features, none of weight 0.
    pub weights: Vec<(u32, f64)>,
}

impl Line {
    /// The level of a cell with these features.
    pub fn level(&self, feature: impl Fn(u32) -> f64) -> f64 {
        self.intercept + self.weights.iter().map(|&(i, weight)| weight * feature(i)).sum::<f64>()
    }

    /// The sum of two lines.
    fn plus(self, other: &Self) -> Self {
        let mut weights: BTreeMap<u32, f64> = self.weights.into_iter().collect();
        other.weights.iter().for_each(|&(i, weight)| *weights.entry(i).or_default() += weight);
        let weights = weights.into_iter().filter(|(_, weight)| *weight != 0.0).collect();
        Self { intercept: self.intercept + other.intercept, weights }
    }
}

/// Where a regression goes on from: the solution for another penalty.
#[derive(Debug, Clone, Default)]
pub struct Start {
    intercept: f64,
    /// Features and their weights, in the units of the solver.
    weights: Vec<(usize, f64)>,
}

impl Regression<'_> {
    /// The lines of these genes.
    pub fn solve(&self, genes: &[usize], penalty: f64, cx: &Context) -> Result<Vec<Line>> {
        self.go_on(&mut vec![Start::default(); genes.len()], genes, penalty, cx)
    }

    /// The lines of these genes, from the solutions for a stronger penalty on, which it replaces by its own.
    pub fn go_on(
        &self,
        starts: &mut [Start],
        genes: &[usize],
        penalty: f64,
        cx: &Context,
    ) -> Result<Vec<Line>> {
        let size = genes.len().div_ceil(BLOCKS).clamp(LEAST_OF_A_BLOCK, MOST_OF_A_BLOCK);
        let blocks = genes.chunks(size).zip(starts.chunks_mut(size));
        let mut blocks: Vec<_> = blocks.map(|(genes, starts)| (genes, starts, Ok(vec![]))).collect();
        let (done, unsettled, n) = (AtomicU64::new(0), AtomicU64::new(0), blocks.len());
        cx.parallel_chunks(&mut blocks, 1, |_, block| {
            let (genes, starts, lines) = &mut block[0];
            *lines = self.solve_block(genes, starts, penalty, &unsettled, cx);
            cx.progress(done.fetch_add(1, Ordering::Relaxed) + 1, n as u64, "blocks of genes");
        });
        match unsettled.into_inner() {
            0 => {}
            n => tracing::warn!("{n} regressions stopped short of their optimum, after {MOST_SWEEPS} sweeps"),
        }
        Ok(blocks.into_iter().map(|(_, _, lines)| lines).collect::<Result<Vec<_>>>()?.concat())
    }

    fn solve_block(
        &self,
        genes: &[usize],
        starts: &mut [Start],
        penalty: f64,
        unsettled: &AtomicU64,
        cx: &Context,
    ) -> Result<Vec<Line>> {
        let fit = |(&gene, start): (&usize, &Start)| Fit::new(gene, self, start);
        let mut fits: Vec<Fit<'_>> = genes.iter().zip(starts.iter()).map(fit).collect();
        // What the first weights are wanted for, the factors of the next, needs less precision.
        let first = if self.reweight > 0 { ROUGH } else { TOLERANCE };
        self.settle(&mut fits, penalty, first, unsettled, cx)?;
        starts.iter_mut().zip(&fits).for_each(|(start, fit)| *start = fit.start());
        for round in 1..=self.reweight {
            fits.iter_mut().for_each(|fit| fit.reweight(self.softness));
            let tolerance = if round < self.reweight { ROUGH } else { TOLERANCE };
            self.settle(&mut fits, penalty, tolerance, unsettled, cx)?;
        }
        Ok(fits.iter().map(|fit| fit.line(self.features)).collect())
    }

    /// Solves for this penalty, from what `fits` hold on.
    fn settle(
        &self,
        fits: &mut [Fit<'_>],
        penalty: f64,
        tolerance: f64,
        unsettled: &AtomicU64,
        cx: &Context,
    ) -> Result<()> {
        let mut open: Vec<&mut Fit<'_>> = fits.iter_mut().collect();
        for _ in 0..MOST_GROWTHS {
            for fit in &mut open {
                cx.check()?;
                if !fit.descend(penalty, tolerance, self.delta) {
                    unsettled.fetch_add(1, Ordering::Relaxed);
                }
            }
            let gradients = self.gradients(&open);
            let mut gradients = gradients.columns().into_iter();
            open.retain_mut(|fit| {
                gradients.next().is_some_and(|gradient| fit.grow(gradient, penalty, tolerance, self))
            });
            if open.is_empty() {
                return Ok(());
            }
        }
        unsettled.fetch_add(open.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Features × genes: how steeply the loss falls with each weight.
    fn gradients(&self, fits: &[&mut Fit<'_>]) -> Array2<f32> {
        let (features, cells) = self.features.values.dim();
        let mut pulls = Array2::zeros((cells, fits.len()).f());
        for (fit, mut pull) in fits.iter().zip(pulls.columns_mut()) {
            fit.write_pull(self.delta, |cell, value| pull[cell] = value as f32);
        }
        let mut gradients = Array2::zeros((features, fits.len()));
        if fits.len() > FEW {
            general_mat_mul(1.0, &self.features.values, &pulls, 0.0, &mut gradients);
            return gradients;
        }
        for (row, mut gradient) in self.features.values.rows().into_iter().zip(gradients.rows_mut()) {
            gradient.iter_mut().zip(pulls.columns()).for_each(|(out, pull)| *out = row.dot(&pull));
        }
        gradients
    }
}

/// The regression of one gene, on its way.
struct Fit<'a> {
    gene: usize,
    target: &'a Target,
    /// The working set, in the order in which features came in.
    columns: Vec<Column>,
    intercept: f64,
    /// By what the penalty of the intercept is multiplied; without a source it has none.
    factor: Option<f64>,
    /// y − b − Σ x β in the cells that express the gene.
    residuals: Vec<f32>,
}

/// A feature in a working set, in the cells that express the gene.
struct Column {
    feature: usize,
    /// Centred over these cells, so that no step moves the intercept.
    values: Vec<f32>,
    mean: f64,
    /// The mean square of the values.
    curvature: f64,
    weight: f64,
    /// f, by which the penalty is multiplied.
    factor: f64,
}

impl<'a> Fit<'a> {
    fn new(gene: usize, regression: &Regression<'a>, start: &Start) -> Self {
        let target = &regression.targets[gene];
        let column = |&(feature, weight)| {
            let column = Column::new(feature, regression.features, &target.cells);
            column.map(|column| Column { weight, ..column })
        };
        let columns = start.weights.iter().filter_map(column).collect();
        let residuals = vec![0.0; target.y.len()];
        let factor = target.source.is_some().then_some(1.0);
        Self { gene, target, columns, intercept: start.intercept, factor, residuals }
    }

    /// Where another penalty goes on from.
    fn start(&self) -> Start {
        let weighty = self.columns.iter().filter(|column| column.weight != 0.0);
        Start {
            intercept: self.intercept,
            weights: weighty.map(|column| (column.feature, column.weight)).collect(),
        }
    }

    fn reweight(&mut self, softness: f64) {
        let factor = |weight: f64| softness / (weight.abs() + softness);
        self.columns.iter_mut().for_each(|column| column.factor = factor(column.weight));
        self.factor = self.factor.map(|_| factor(self.intercept));
    }

    /// Coordinate descent over the working set; false if it has not settled.
    fn descend(&mut self, penalty: f64, tolerance: f64, delta: f64) -> bool {
        let enough = tolerance * penalty / 2.0;
        self.refresh();
        // Most weights are 0 and stay so: they are looked at when the others have settled.
        let mut all = true;
        for _ in 0..MOST_SWEEPS {
            let largest = self.sweep(penalty, delta, all);
            if largest <= enough && all {
                return true;
            }
            all = largest <= enough;
        }
        self.residuals.is_empty()
    }

    /// The residuals by their definition, without the rounding of the steps before.
    fn refresh(&mut self) {
        let mut residuals: Vec<f64> = self.target.y.iter().map(|y| y - self.intercept).collect();
        for column in self.columns.iter().filter(|column| column.weight != 0.0) {
            let values = column.values.iter().zip(&mut residuals);
            values.for_each(|(&x, r)| *r -= column.weight * f64::from(x));
        }
        self.residuals.iter_mut().zip(residuals).for_each(|(own, r)| *own = r as f32);
    }

    /// One step in each coordinate, or in those that are not 0; the largest gradient that it met.
    fn sweep(&mut self, penalty: f64, delta: f64, all: bool) -> f64 {
        let n = self.residuals.len().max(1) as f64;
        let delta = delta as f32;
        let pull = self.residuals.iter().map(|r| f64::from(r.clamp(-delta, delta))).sum::<f64>() / n;
        let shift = match self.factor {
            Some(factor) => shrink(self.intercept + pull, penalty * factor) - self.intercept,
            None => pull,
        };
        self.residuals.iter_mut().for_each(|r| *r -= shift as f32);
        self.intercept += f64::from(shift as f32);
        let mut largest = shift.abs();
        for column in self.columns.iter_mut().filter(|column| all || column.weight != 0.0) {
            let gradient = clamped_product(&column.values, &self.residuals, delta) / n;
            let goal = shrink(column.curvature * column.weight + gradient, penalty * column.factor);
            let step = goal / column.curvature - column.weight;
            if step != 0.0 {
                subtract(&mut self.residuals, step as f32, &column.values);
                column.weight = goal / column.curvature;
            }
            largest = largest.max((step * column.curvature).abs());
        }
        largest
    }

    /// The clamped residual of each cell over the number of cells: features times it are the gradient. Their sum is 0, as it is
    /// at a free intercept, so that features that are not centred over these cells give the same.
    fn write_pull(&self, delta: f64, mut write: impl FnMut(usize, f64)) {
        let n = self.residuals.len().max(1) as f64;
        let pull = |r: &f32| f64::from(*r).clamp(-delta, delta);
        let mean = self.factor.map_or(0.0, |_| self.residuals.iter().map(pull).sum::<f64>() / n);
        let cells = self.target.cells.iter().zip(&self.residuals);
        cells.for_each(|(&cell, r)| write(cell as usize, (pull(r) - mean) / n));
    }

    /// Takes in the features whose gradient is beyond the penalty, the strongest first; false if there are
    /// none.
    fn grow(
        &mut self,
        gradient: ArrayView1<'_, f32>,
        penalty: f64,
        tolerance: f64,
        regression: &Regression<'_>,
    ) -> bool {
        let enough = (penalty * (1.0 + tolerance)) as f32;
        // Features come gene by gene, one kind after the other; of none of its own is a gene regressed on.
        let own = |i: usize| i % regression.targets.len() == self.gene;
        let mut known: Vec<bool> = (0..gradient.len()).map(own).collect();
        self.columns.iter().for_each(|column| known[column.feature] = true);
        let beyond = |i: &usize| !known[*i] && gradient[*i].abs() > enough;
        let mut strongest: Vec<usize> = (0..gradient.len()).filter(beyond).collect();
        strongest.sort_by(|&a, &b| gradient[b].abs().total_cmp(&gradient[a].abs()).then(a.cmp(&b)));
        strongest.truncate(GROWTH.max(self.columns.len()));
        let before = self.columns.len();
        let column = |i| Column::new(i, regression.features, &self.target.cells);
        self.columns.extend(strongest.into_iter().filter_map(column));
        self.columns.len() > before
    }

    /// In the units of levels and raw features.
    fn line(&self, features: &Features) -> Line {
        let Target { mean, sd, source, .. } = self.target;
        if !self.target.is_regressed() {
            return source.clone().unwrap_or(Line { intercept: *mean, weights: vec![] });
        }
        let mut intercept = self.intercept;
        let mut weights = vec![];
        for column in self.columns.iter().filter(|column| column.weight != 0.0) {
            let (i, scale) = (column.feature, features.scale[column.feature]);
            intercept -= column.weight * (column.mean + features.centre[i] * scale);
            weights.push((i as u32, column.weight * scale * sd));
        }
        weights.sort_by_key(|weight| weight.0);
        match source {
            Some(source) => Line { intercept: sd * intercept, weights }.plus(source),
            None => Line { intercept: mean + sd * intercept, weights },
        }
    }
}

impl Column {
    /// Nothing where the feature is the same in all these cells.
    fn new(feature: usize, features: &Features, cells: &[u32]) -> Option<Self> {
        let row = features.values.row(feature);
        let n = cells.len().max(1) as f64;
        let mean = cells.iter().map(|&cell| f64::from(row[cell as usize])).sum::<f64>() / n;
        let centred = |&cell: &u32| (f64::from(row[cell as usize]) - mean) as f32;
        let values: Vec<f32> = cells.iter().map(centred).collect();
        let curvature = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / n;
        let varies = curvature > 1e-12 * (1.0 + mean * mean);
        varies.then_some(Self { feature, values, mean, curvature, weight: 0.0, factor: 1.0 })
    }
}

/// What is left of a value that is drawn towards 0.
fn shrink(value: f64, by: f64) -> f64 {
    value.signum() * (value.abs() - by).max(0.0)
}

/// Cells whose products are summed in single precision before they are added up in double.
const STRETCH: usize = 256;

/// Σ x·clamp(r, −δ, δ), in sixteen sums at once, stretch by stretch.
fn clamped_product(x: &[f32], r: &[f32], delta: f32) -> f64 {
    let stretches = x.chunks(STRETCH).zip(r.chunks(STRETCH));
    stretches.map(|(x, r)| f64::from(clamped_stretch(x, r, delta))).sum()
}

fn clamped_stretch(x: &[f32], r: &[f32], delta: f32) -> f32 {
    let mut sums = [0.0f32; 16];
    let (x, x_rest) = x.as_chunks::<16>();
    let (r, r_rest) = r.as_chunks::<16>();
    for (x, r) in x.iter().zip(r) {
        for i in 0..16 {
            sums[i] += x[i] * r[i].max(-delta).min(delta);
        }
    }
    let rest = x_rest.iter().zip(r_rest).map(|(x, r)| x * r.clamp(-delta, delta));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

/// r −= step · x
fn subtract(r: &mut [f32], step: f32, x: &[f32]) {
    r.iter_mut().zip(x).for_each(|(r, x)| *r -= step * x);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::design::Levels;
    use lacuna_sdk::testing;
    use lacuna_sdk::testing::random_cells;

    /// What the gradients and the solution look like in plain words: all sums over all cells and features.
    struct Plain {
        /// Cells that express the gene × features.
        x: Vec<Vec<f64>>,
        y: Vec<f64>,
        delta: f64,
    }

    impl Plain {
        fn residual(&self, c: usize, b: f64, beta: &[f64]) -> f64 {
            self.y[c] - b - self.x[c].iter().zip(beta).map(|(x, b)| x * b).sum::<f64>()
        }

        /// The gradient of the loss, downhill, of the intercept and of each weight.
        fn downhill(&self, b: f64, beta: &[f64]) -> (f64, Vec<f64>) {
            let n = self.y.len() as f64;
            let (mut shift, mut gradient) = (0.0, vec![0.0; beta.len()]);
            for c in 0..self.y.len() {
                let pull = self.residual(c, b, beta).clamp(-self.delta, self.delta) / n;
                shift += pull;
                gradient.iter_mut().zip(&self.x[c]).for_each(|(g, x)| *g += x * pull);
            }
            (shift, gradient)
        }

        fn objective(&self, b: f64, beta: &[f64], penalty: f64) -> f64 {
            let loss = |r: f64| r * r / 2.0 - (r.abs() - self.delta).max(0.0).powi(2) / 2.0;
            let losses = (0..self.y.len()).map(|c| loss(self.residual(c, b, beta)));
            losses.sum::<f64>() / self.y.len() as f64 + penalty * beta.iter().map(|b| b.abs()).sum::<f64>()
        }

        /// Proximal gradient with small steps, for long.
        fn solve(&self, penalties: &[f64]) -> (f64, Vec<f64>) {
            let (mut b, mut beta) = (0.0, vec![0.0; penalties.len()]);
            // The trace bounds the curvature.
            let n = self.y.len() as f64;
            let trace = 1.0 + self.x.iter().flatten().map(|x| x * x).sum::<f64>() / n;
            for _ in 0..60_000 {
                let (shift, gradient) = self.downhill(b, &beta);
                b += shift / trace;
                for ((beta, g), penalty) in beta.iter_mut().zip(gradient).zip(penalties) {
                    *beta = shrink(*beta + g / trace, penalty / trace);
                }
            }
            (b, beta)
        }
    }

    fn features(levels: &Levels, to_sd: Option<f64>) -> Features {
        Features::new(levels.assemblages(), to_sd)
    }

    fn levels(n: usize, genes: usize, seed: u64) -> Levels {
        let cells = random_cells(n, genes, seed);
        let view = cells.to_view();
        Levels::of(&[&Cells::from_view(&view)])
    }

    fn plain(features: &Features, target: &Target, own: usize, delta: f64) -> Plain {
        let value = |i: usize, c: u32| f64::from(features.values[[i, c as usize]]);
        let row =
            |&c: &u32| (0..features.scale.len()).map(|i| if i == own { 0.0 } else { value(i, c) }).collect();
        Plain { x: target.cells.iter().map(row).collect(), y: target.y.clone(), delta }
    }

    /// The standardised solution behind a line.
    fn standardised(line: &Line, features: &Features, target: &Target) -> (f64, Vec<f64>) {
        let mut beta = vec![0.0; features.scale.len()];
        let mut b = (line.intercept - target.mean) / target.sd;
        for &(i, weight) in &line.weights {
            let i = i as usize;
            beta[i] = weight / (features.scale[i] * target.sd);
            b += weight * features.centre[i] / target.sd;
        }
        (b, beta)
    }

    #[test]
    fn the_optimum_is_that_of_a_plain_solver_and_its_conditions_hold() {
        let levels = levels(60, 14, 3);
        let targets = levels.targets();
        for (penalty, delta, to_sd) in [(0.02, 1.0, None), (0.1, 0.5, Some(0.4)), (0.005, 1e9, None)] {
            let features = features(&levels, to_sd);
            let regression =
                Regression { features: &features, targets: &targets, delta, reweight: 0, softness: 0.05 };
            let genes: Vec<usize> = (0..14).collect();
            let lines = regression.solve(&genes, penalty, &testing::context(1)).unwrap();
            for gene in (0..14).filter(|&gene| targets[gene].is_regressed()) {
                let plain = plain(&features, &targets[gene], gene, delta);
                let (b, beta) = standardised(&lines[gene], &features, &targets[gene]);
                let (shift, gradient) = plain.downhill(b, &beta);
                assert!(shift.abs() < 2.0 * TOLERANCE * penalty);
                for (g, beta) in gradient.iter().zip(&beta) {
                    let amiss = if *beta == 0.0 { g.abs() - penalty } else { g - penalty * beta.signum() };
                    let amiss = if *beta == 0.0 { amiss.max(0.0) } else { amiss.abs() };
                    assert!(amiss < 2.0 * TOLERANCE * penalty, "gene {gene}: {g} at {beta}");
                }
                // Of few cells more than one solution may be best: so what they have in common is compared.
                let (plain_b, plain_beta) = plain.solve(&[penalty; 14]);
                let (found, best) =
                    (plain.objective(b, &beta, penalty), plain.objective(plain_b, &plain_beta, penalty));
                assert!((found - best).abs() < 1e-4, "gene {gene}: {found}, not {best}");
            }
        }
    }

    #[test]
    fn reweighting_solves_the_reweighted_problem() {
        let levels = levels(80, 12, 4);
        let (targets, features) = (levels.targets(), features(&levels, None));
        let solve = |reweight| {
            let regression =
                Regression { features: &features, targets: &targets, delta: 1.0, reweight, softness: 0.05 };
            regression.solve(&(0..12).collect::<Vec<_>>(), 0.03, &testing::context(1)).unwrap()
        };
        let (first, second) = (solve(0), solve(1));
        for gene in (0..12).filter(|&gene| targets[gene].is_regressed()) {
            let plain = plain(&features, &targets[gene], gene, 1.0);
            let (_, before) = standardised(&first[gene], &features, &targets[gene]);
            let penalties: Vec<f64> = before.iter().map(|b| 0.03 * 0.05 / (b.abs() + 0.05)).collect();
            let (_, expected) = plain.solve(&penalties);
            let (_, found) = standardised(&second[gene], &features, &targets[gene]);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-2, "gene {gene}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_departure_is_the_optimum_of_what_the_source_leaves_over_with_its_intercept_under_the_penalty() {
        let levels = levels(70, 10, 5);
        let features = features(&levels, None);
        let source = |gene: usize| Line { intercept: 0.9, weights: vec![((gene as u32 + 1) % 10, 0.4)] };
        let targets = levels.departures((0..10).map(source).collect());
        for penalty in [0.01, 0.05, 0.2] {
            let regression = Regression {
                features: &features,
                targets: &targets,
                delta: 0.7,
                reweight: 0,
                softness: 0.05,
            };
            let genes: Vec<usize> = (0..10).collect();
            let lines = regression.solve(&genes, penalty, &testing::context(1)).unwrap();
            for gene in (0..10).filter(|&gene| targets[gene].is_regressed()) {
                let (target, source) = (&targets[gene], source(gene));
                let mut beta = vec![0.0; 10];
                lines[gene].weights.iter().for_each(|&(i, w)| beta[i as usize] += w);
                source.weights.iter().for_each(|&(i, w)| beta[i as usize] -= w);
                beta.iter_mut().for_each(|w| *w /= target.sd);
                // Features as the solver has them: centred over the cells that express the gene.
                let mut plain = plain(&features, target, gene, 0.7);
                let n = plain.x.len() as f64;
                for i in 0..10 {
                    let mean = plain.x.iter().map(|x| x[i]).sum::<f64>() / n;
                    plain.x.iter_mut().for_each(|x| x[i] -= mean);
                }
                let z = |i: u32, c: u32| {
                    f64::from(features.values[[i as usize, c as usize]]) + features.centre[i as usize]
                };
                // The departure at the mean cell is the penalised intercept.
                let mean_of =
                    |line: &Line| target.cells.iter().map(|&c| line.level(|i| z(i, c))).sum::<f64>() / n;
                let b = (mean_of(&lines[gene]) - mean_of(&source)) / target.sd;
                let left =
                    |&c: &u32| levels.cells[c as usize].iter().find(|l| l.0 as usize == gene).unwrap().1;
                for (y, c) in target.y.iter().zip(&target.cells) {
                    assert!((y * target.sd - (f64::from(left(c)) - source.level(|i| z(i, *c)))).abs() < 1e-5);
                }
                let (shift, gradient) = plain.downhill(b, &beta);
                let near = |g: f64, weight: f64| match weight.abs() < 1e-9 {
                    true => (g.abs() - penalty).max(0.0) < 3.0 * TOLERANCE * penalty,
                    false => (g - penalty * weight.signum()).abs() < 3.0 * TOLERANCE * penalty,
                };
                assert!(near(shift, b), "gene {gene}, {penalty}: {shift} at {b}");
                assert!(gradient.iter().zip(&beta).all(|(g, w)| near(*g, *w)), "gene {gene}, {penalty}");
            }
        }
    }

    #[test]
    fn nothing_to_solve_is_no_panic() {
        for (n, genes) in [(1, 1), (1, 3), (2, 2), (20, 1)] {
            let levels = levels(n, genes, 6);
            let (targets, features) = (levels.targets(), features(&levels, Some(0.4)));
            let regression = Regression {
                features: &features,
                targets: &targets,
                delta: 1.0,
                reweight: 1,
                softness: 0.05,
            };
            let every: Vec<usize> = (0..genes).collect();
            let lines = regression.solve(&every, 0.02, &testing::context(1)).unwrap();
            assert!(lines.iter().all(|line| line.intercept.is_finite()));
        }
    }
}
