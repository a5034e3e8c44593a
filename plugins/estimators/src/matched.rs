//! `matched`

use crate::counts::{Counts, DOMINANT, depth, log_cp10k};
use crate::eigen::Svd;
use crate::residuals::{depths, pearson, take_out};
use crate::scores::{ESTIMATOR, Scores};
use crate::solve::solve;
use lacuna_sdk::arrow::{BooleanArray, Float64Array, RecordBatch, StringArray};
use lacuna_sdk::ndarray::{Array1, Array2, Axis, s};
use lacuna_sdk::prelude::*;
use lacuna_sdk::{table, tracing};
use std::sync::Arc;

choice! {
    /// How cells that lack a gene and cells that express it are made alike.
    pub enum By {
        /// Each cell counts by the inverse of its probability to be what it is.
        Probability = "probability",
        /// Each cell that lacks the gene is compared with the nearest cells that express it.
        Neighbours = "neighbours",
    }
}

choice! {
    /// What the loss of a gene scores that cannot be matched.
    pub enum Unmatched {
        /// 0 everywhere, with a warning when the model is fitted.
        None = "none",
        /// It is an error to ask.
        Refuse = "refuse",
    }
}

config! {
    /// Parameters of `matched`.
    pub struct MatchedConfig {
        /// How cells are matched.
        by: By = By::Probability,
        /// With how many of the nearest cells each is compared, by neighbours.
        #[range(1..=100)]
        neighbours: usize = 5,
        /// The number of principal components that cells are matched by.
        #[range(0..=50)]
        components: usize = 5,
        /// Whether cells are matched by the depth of sequencing.
        depth: bool = true,
        /// What the loss of a gene scores that nearly all cells express, or hardly any.
        unmatched: Unmatched = Unmatched::None,
        /// A gene above this share of all counts is left out of the libraries; 1 leaves none out.
        #[range(0.0..=1.0)]
        dominant: f64 = DOMINANT,
    }
}

/// A gene that more than this share of the cells express has no match.
const MOST_PRESENT: f64 = 0.95;
/// Fewer cells than these that lack a gene, or that express it, are no match either.
const FEWEST: usize = 20;
/// Probabilities are kept away from 0 and 1, so that no cell counts more than 50 times.
const LEAST: f64 = 0.02;
/// The penalty of the squared coefficients, in cells: enough that they stay finite where a covariate tells
/// all.
const PENALTY: f64 = 1.0;

/// Cells that lack the lost gene against cells that express it, weighted to be alike otherwise: the score of
/// gene j is
///
/// Σ_lacking w x_j / Σ_lacking w − Σ_expressing w x_j / Σ_expressing w, in units of log(1 + 10,000 c / L),
///
/// c counts and L libraries without the lost gene and without genes above a share of `dominant` of all counts. The weight w
/// of a cell is the inverse of the probability to be what it is, by a logistic regression of presence on
/// log(1 + L) and on `components` principal components of Pearson residuals, of which the depth was taken out
/// (all of mean 0 and variance 1; ‖b‖² / 2 is added to the loss). Probabilities below .02 count as .02, above
/// .98 as .98.
///
/// By neighbours, all cells that lack the gene weigh the same, and w of a cell that expresses it is the number of those
/// among whose `neighbours` nearest, by the sum of squared differences of the same covariates, it is.
///
/// There is no match for a gene that more than 95 % of the cells express, that fewer than 20 lack or that
/// fewer than 20 express: `unmatched` says what its loss scores, and the table `matched` which genes these
/// are.
pub struct Matched(MatchedConfig);

impl Component for Matched {
    const ID: &'static str = "matched";
    const DOC: &'static str =
        "Compares cells that lack a gene with cells that express it and are alike otherwise";
    type Config = MatchedConfig;
    fn new(config: MatchedConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Matched {
    type Fitted = Matches;
    const INFO: ModelInfo = ModelInfo {
        source: "inverse probability weighting (Horvitz and Thompson 1952; Hájek 1971), logistic propensity \
                 (Rosenbaum and Rubin 1983); nearest neighbours (Rubin 1973)",
        ..ESTIMATOR
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Matches> {
        Scores::check(&training.cells)?;
        let counts = Counts::of(&training.cells, self.0.dominant);
        let covariates = self.covariates(&counts, cx)?;
        let matching = Matching::new(&counts, &covariates, &self.0);
        let scores = Scores::learn(&training.cells, cx, |target, row| {
            if why_not(counts.n_cells(), counts.of_gene(target).len()).is_none() {
                matching.compare(target, row);
            }
        })?;
        let expressing = (0..counts.n_genes()).map(|gene| counts.of_gene(gene).len()).collect();
        let matches = Matches { scores, config: self.0.clone(), cells: counts.n_cells(), expressing };
        matches.warn();
        Ok(matches)
    }
}

impl Matched {
    /// The principal components that cells are matched by, of mean 0 and variance 1, shape (cells,
    /// components).
    fn covariates(&self, counts: &Counts<'_>, cx: &Context) -> Result<Array2<f64>> {
        if self.0.components == 0 {
            return Ok(Array2::zeros((counts.n_cells(), 0)));
        }
        let mut residuals = pearson(counts, 100.0, cx)?;
        take_out(&mut residuals, Some(&depths(counts)));
        let svd = Svd::of(residuals.view(), cx)?;
        let kept = self.0.components.min(svd.squares.len());
        Ok(svd.left.slice(s![.., ..kept]).mapv(|u| u * (counts.n_cells() as f64).sqrt()))
    }
}

/// Why a gene has no match, if it has none.
fn why_not(cells: usize, expressing: usize) -> Option<String> {
    let lacking = cells - expressing.min(cells);
    let found = format!("{expressing} of {cells} cells express it and {lacking} lack it");
    let always = expressing as f64 > MOST_PRESENT * cells as f64;
    let few = lacking.min(expressing) < FEWEST;
    (always || few).then(|| {
        format!(
            "expected at most {} % that express it, and {FEWEST} of either kind, found that {found}",
            100.0 * MOST_PRESENT
        )
    })
}

/// What all targets share.
struct Matching<'a> {
    counts: &'a Counts<'a>,
    covariates: &'a Array2<f64>,
    config: &'a MatchedConfig,
    /// Log expression in each cell with its whole library, which a cell that lacks the target has.
    whole: Vec<Vec<f64>>,
}

impl<'a> Matching<'a> {
    fn new(counts: &'a Counts<'a>, covariates: &'a Array2<f64>, config: &'a MatchedConfig) -> Self {
        let of_cell = |cell: usize| {
            let library = counts.library(cell);
            counts.of_cell(cell).map(|(_, count)| log_cp10k(count, library)).collect()
        };
        Self { counts, covariates, config, whole: (0..counts.n_cells()).map(of_cell).collect() }
    }

    /// The scores for the loss of a gene.
    fn compare(&self, target: usize, row: &mut [f64]) {
        let mut of_target = vec![0.0; self.counts.n_cells()];
        self.counts.of_gene(target).iter().for_each(|&(cell, count)| of_target[cell] = count);
        let libraries: Vec<f64> =
            of_target.iter().enumerate().map(|(c, &n)| self.counts.library_without(c, target, n)).collect();
        let present: Vec<bool> = of_target.iter().map(|&count| count > 0.0).collect();
        let design = self.design(&libraries);
        let weights = match self.config.by {
            By::Probability => weights(&design, &present),
            By::Neighbours => neighbour_weights(&design, &present, self.config.neighbours),
        };
        for (cell, (&present, weight)) in present.iter().zip(weights).enumerate() {
            let (factor, library) = (if present { -weight } else { weight }, libraries[cell]);
            for ((gene, count), &whole) in self.counts.of_cell(cell).zip(&self.whole[cell]) {
                row[gene] += factor * if present { log_cp10k(count, library) } else { whole };
            }
        }
    }

    /// 1 and the covariates of each cell, shape (cells, coefficients).
    fn design(&self, libraries: &[f64]) -> Array2<f64> {
        let (n, known) = self.covariates.dim();
        let mut design = Array2::ones((n, 1 + known + usize::from(self.config.depth)));
        design.slice_mut(s![.., 1..=known]).assign(self.covariates);
        if self.config.depth {
            let depths = libraries.iter().map(|&library| depth(library)).collect();
            design.column_mut(known + 1).assign(&standardised(depths));
        }
        design
    }
}

/// Values of mean 0 and variance 1; all 0 if they do not vary.
fn standardised(values: Array1<f64>) -> Array1<f64> {
    let centred = &values - values.mean().unwrap_or(0.0);
    let deviation = centred.std(0.0);
    if deviation > 1e-9 { centred / deviation } else { Array1::zeros(values.len()) }
}

/// The inverse probability of each cell to be what it is, in parts of the sum over cells of its kind.
fn weights(design: &Array2<f64>, present: &[bool]) -> Vec<f64> {
    let probabilities = design.dot(&logistic(design, present)).mapv(sigmoid);
    let own = |(&p, &present): (&f64, &bool)| if present { p } else { 1.0 - p };
    let inverse: Vec<f64> =
        probabilities.iter().zip(present).map(|each| 1.0 / own(each).clamp(LEAST, 1.0 - LEAST)).collect();
    let mut sums = [0.0; 2];
    inverse.iter().zip(present).for_each(|(weight, &present)| sums[usize::from(present)] += weight);
    inverse.iter().zip(present).map(|(weight, &present)| weight / sums[usize::from(present)]).collect()
}

/// How often each expressing cell is among the nearest of a lacking cell, and 1 of each lacking cell, in parts of
/// the sum over cells of its kind.
fn neighbour_weights(design: &Array2<f64>, present: &[bool], neighbours: usize) -> Vec<f64> {
    let of_kind = |kind: bool| (0..present.len()).filter(move |&cell| present[cell] == kind);
    let (lacking, expressing) = (of_kind(false).count(), of_kind(true).count());
    let kept = neighbours.min(expressing);
    let rows: Vec<Vec<f64>> = design.rows().into_iter().map(|row| row.to_vec()).collect();
    let mut weights = vec![0.0; present.len()];
    let mut near: Vec<(f64, usize)> = Vec::with_capacity(expressing);
    for cell in of_kind(false) {
        let apart = |other: usize| rows[cell].iter().zip(&rows[other]).map(|(a, b)| (a - b) * (a - b)).sum();
        near.clear();
        near.extend(of_kind(true).map(|other| (apart(other), other)));
        if kept < near.len() {
            // Of cells at the same distance the first.
            near.select_nth_unstable_by(kept, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        near[..kept].iter().for_each(|&(_, other)| weights[other] += 1.0 / (kept * lacking) as f64);
        weights[cell] = 1.0 / lacking as f64;
    }
    weights
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The coefficients of a logistic regression, all but the first under a penalty, by Newton's method.
fn logistic(design: &Array2<f64>, present: &[bool]) -> Array1<f64> {
    let share = present.iter().filter(|present| **present).count() as f64 / present.len() as f64;
    let mut coefficients = Array1::zeros(design.ncols());
    coefficients[0] = (share / (1.0 - share)).ln();
    let mut penalties = Array1::from_elem(design.ncols(), PENALTY);
    penalties[0] = 0.0;
    for _ in 0..50 {
        let p = design.dot(&coefficients).mapv(sigmoid);
        let errors: Array1<f64> = present.iter().zip(&p).map(|(&y, p)| f64::from(u8::from(y)) - p).collect();
        let gradient = design.t().dot(&errors) - &penalties * &coefficients;
        let curved = design * &p.mapv(|p| (p * (1.0 - p)).max(1e-9)).insert_axis(Axis(1));
        let step = solve(design.t().dot(&curved) + Array2::from_diag(&penalties), gradient);
        // A step of more than a few units is where the quadratic is no guide.
        let length = step.dot(&step).sqrt();
        coefficients.scaled_add(1.0 / (length / 2.0).max(1.0), &step);
        if length.is_nan() || length < 1e-9 {
            break;
        }
    }
    coefficients
}

/// The scores, and how many cells they come from.
#[derive(Debug)]
pub struct Matches {
    scores: Scores,
    config: MatchedConfig,
    cells: usize,
    /// How many cells express each gene.
    expressing: Vec<usize>,
}

impl Matches {
    fn why_not(&self, gene: u32) -> Option<String> {
        why_not(self.cells, *self.expressing.get(gene as usize)?)
    }

    fn warn(&self) {
        let unmatched: Vec<u32> =
            (0..self.expressing.len() as u32).filter(|&gene| self.why_not(gene).is_some()).collect();
        let Some(&first) = unmatched.first() else { return };
        let (name, why) = (self.scores.name(first), self.why_not(first).unwrap_or_default());
        let then = match self.config.unmatched {
            Unmatched::None => "their loss scores 0",
            Unmatched::Refuse => "to ask about them is an error",
        };
        let (n, all) = (unmatched.len(), self.expressing.len());
        tracing::warn!("{n} of {all} genes have no matched cells, and {then}, as that of `{name}`: {why}");
    }
}

impl Fitted for Matches {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let refused = |gene: &u32| Some((*gene, self.why_not(*gene)?));
        if self.config.unmatched == Unmatched::Refuse {
            for (i, knockout) in query.knockouts.iter().enumerate() {
                if let Some((gene, why)) = knockout.genes.iter().find_map(refused) {
                    let name = self.scores.name(gene);
                    return Err(Error::data(format!("knockout {i}: no matched cells for `{name}`: {why}")));
                }
            }
        }
        self.scores.predict(query, answer, cx)
    }

    fn save(&self) -> Result<Vec<u8>> {
        let expressing: Vec<String> = self.expressing.iter().map(usize::to_string).collect();
        let saved = self.scores.saved().params("with", &self.config).text("cells", self.cells.to_string());
        saved.names("expressing", &expressing).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let scores = Scores::from_saved(&saved)?;
        let expressing: Vec<String> = saved.get_names("expressing")?;
        let expressing = expressing.iter().map(|n| n.parse()).collect::<Result<Vec<usize>, _>>()?;
        let (config, cells) = (saved.get_params("with")?, saved.get_text("cells")?.parse()?);
        Ok(Self { scores, config, cells, expressing })
    }

    fn tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        let genes = 0..self.expressing.len() as u32;
        let names: Vec<&str> = genes.clone().map(|gene| self.scores.name(gene)).collect();
        let presence: Vec<f64> = self.expressing.iter().map(|&n| n as f64 / self.cells as f64).collect();
        let matched: Vec<bool> = genes.map(|gene| self.why_not(gene).is_none()).collect();
        let matched = table(vec![
            ("gene", Arc::new(StringArray::from(names))),
            ("presence", Arc::new(Float64Array::from(presence))),
            ("matched", Arc::new(BooleanArray::from(matched))),
        ])?;
        Ok(vec![("matched".into(), matched)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{holds_for_an_estimator, random_cells, scores};
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    fn model(components: usize, depth: bool, unmatched: Unmatched) -> Matched {
        Matched(MatchedConfig { components, depth, unmatched, ..MatchedConfig::default() })
    }

    #[test]
    fn holds_what_every_estimator_holds() {
        holds_for_an_estimator(&model(5, true, Unmatched::None));
        holds_for_an_estimator(&model(0, false, Unmatched::None));
        holds_for_an_estimator(&by_neighbours(5));
    }

    fn by_neighbours(neighbours: usize) -> Matched {
        Matched(MatchedConfig { by: By::Neighbours, neighbours, ..MatchedConfig::default() })
    }

    #[test]
    fn neighbours_are_those_of_all_distances_sorted() {
        let mut stream = testing::context(2).stream(0);
        let design = Array2::from_shape_fn((40, 3), |_| f64::from(stream.random_range(0..4)));
        let present: Vec<bool> = (0..40).map(|_| stream.random_bool(0.6)).collect();
        for k in [1, 3, 100] {
            let found = neighbour_weights(&design, &present, k);
            let mut expected = [0.0; 40];
            let lacking: Vec<usize> = (0..40).filter(|&cell| !present[cell]).collect();
            for &cell in &lacking {
                let mut others: Vec<usize> = (0..40).filter(|&other| present[other]).collect();
                let apart = |other: usize| (&design.row(cell) - &design.row(other)).mapv(|x| x * x).sum();
                others.sort_by(|&a, &b| apart(a).total_cmp(&apart(b)));
                others.truncate(k);
                others.iter().for_each(|&o| expected[o] += 1.0 / (others.len() * lacking.len()) as f64);
                expected[cell] = 1.0 / lacking.len() as f64;
            }
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{k}: {found:?}");
        }
    }

    /// Cells of unlike depth that express g0 the likelier the deeper they are; g1 falls to half without g0,
    /// g2 does not.
    fn confounded(n: usize) -> OwnedCells {
        let mut stream = testing::context(4).stream(0);
        let mut cells = OwnedCells::new((0..10).map(|j| format!("g{j}")).collect());
        for cell in 0..n {
            let depth: f64 = stream.random_range(1.0..6.0);
            let present = stream.random_bool(depth / 7.0);
            let mut draw = |mean: f64| stream.random_range(0.0..2.0 * mean).floor() as f32;
            let mut row = [0.0; 10];
            row[0] = f32::from(u8::from(present));
            row[1] = draw(if present { 20.0 } else { 10.0 } * depth);
            row[2..].iter_mut().for_each(|count| *count = draw(20.0 * depth));
            cells.push(format!("c{cell}"), &row);
        }
        cells
    }

    #[test]
    fn without_covariates_it_is_the_difference_of_means() {
        let owned = random_cells(80, 9, 2);
        let found = scores(&model(0, false, Unmatched::None), &owned);
        let view = owned.to_view();
        let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
        let count = |c: usize, j: usize| counts.of_cell(c).find(|x| x.0 == j).map_or(0.0, |x| x.1);
        let (mut compared, targets) = (0, 1..9usize);
        for g in targets.filter(|&g| why_not(80, counts.of_gene(g).len()).is_none()) {
            for j in (0..9).filter(|&j| j != g) {
                let x = |c: usize| log_cp10k(count(c, j), counts.library_without(c, g, count(c, g)));
                let mean = |present: bool| {
                    let cells =
                        (0..80).filter(|&c| (count(c, g) > 0.0) == present).map(x).collect::<Vec<_>>();
                    cells.iter().sum::<f64>() / cells.len() as f64
                };
                let expected = mean(false) - mean(true);
                assert!((f64::from(found[[g, j]]) - expected).abs() < 1e-5, "{g} {j}");
                compared += 1;
            }
        }
        assert!(compared > 0);
    }

    #[test]
    fn the_coefficients_are_where_the_gradient_is_nothing() {
        let mut stream = testing::context(8).stream(0);
        let mut design = Array2::from_shape_fn((60, 4), |_| stream.random_range(-1.0..1.0));
        design.column_mut(0).fill(1.0);
        let random: Vec<bool> =
            (0..60).map(|i| design[[i, 1]] + stream.random_range(-1.0..1.0) > 0.3).collect();
        // Also where a covariate tells all.
        let separable: Vec<bool> = (0..60).map(|i| design[[i, 2]] > 0.1).collect();
        for present in [random, separable] {
            let b = logistic(&design, &present);
            for k in 0..4 {
                let slope: f64 = (0..60)
                    .map(|i| {
                        let p = 1.0 / (1.0 + (-design.row(i).dot(&b)).exp());
                        design[[i, k]] * (f64::from(u8::from(present[i])) - p)
                    })
                    .sum();
                assert!((slope - if k == 0 { 0.0 } else { b[k] }).abs() < 1e-6, "{k}: {slope}");
            }
        }
    }

    #[test]
    fn cells_alike_in_depth_are_compared() {
        let cells = confounded(3000);
        let plain = scores(&model(0, false, Unmatched::None), &cells);
        let matched = scores(&model(0, true, Unmatched::None), &cells);
        let near = Matched(MatchedConfig { components: 0, ..by_neighbours(5).0 });
        let near = scores(&near, &cells);
        assert!(near[[0, 1]] < -0.5 && (2..10).all(|j| near[[0, j]].abs() < 0.3), "{near}");
        // Half as much, −log 2, and without the depth as well.
        assert!(matched[[0, 1]] < -0.5 && plain[[0, 1]] < -0.5, "{matched}");
        assert!((2..10).all(|j| matched[[0, j]].abs() < 0.3), "{matched}");
        let model = model(0, true, Unmatched::None);
        let view = cells.to_view();
        let counts = Counts::of(&Cells::from_view(&view), DOMINANT);
        let none = model.covariates(&counts, &testing::context(1)).unwrap();
        let matching = Matching::new(&counts, &none, &model.0);
        let present: Vec<bool> =
            (0..3000).map(|c| counts.of_cell(c).next().is_some_and(|x| x.0 == 0)).collect();
        let libraries: Vec<f64> = (0..3000).map(|c| counts.library(c)).collect();
        let weights = weights(&matching.design(&libraries), &present);
        let mean_depth = |kind: bool, weights: &dyn Fn(usize) -> f64| {
            let cells = || (0..3000).filter(|&c| present[c] == kind);
            let sum: f64 = cells().map(weights).sum();
            cells().map(|c| weights(c) * depth(libraries[c])).sum::<f64>() / sum
        };
        let apart = |weights: &dyn Fn(usize) -> f64| mean_depth(true, weights) - mean_depth(false, weights);
        assert!(apart(&|_| 1.0) > 0.2 && apart(&|c| weights[c]).abs() < 0.02, "{}", apart(&|c| weights[c]));
    }

    #[test]
    fn a_gene_that_nearly_all_express_is_refused_by_name_and_numbers() {
        let cells = random_cells(60, 9, 3);
        let fitted = testing::fit(&model(2, true, Unmatched::Refuse), &cells).unwrap();
        let error = testing::predict(&fitted, &cells, &testing::population(&[&[], &[1]])).unwrap_err();
        let message = "knockout 1: no matched cells for `g1`: expected at most 95 % that express it, and 20 of \
                       either kind, found that 60 of 60 cells express it and 0 lack it";
        assert_eq!(error, Error::data(message));
        let tables = fitted.tables().unwrap();
        assert_eq!((tables[0].0.as_str(), tables[0].1.num_rows()), ("matched", 9));
    }
}
