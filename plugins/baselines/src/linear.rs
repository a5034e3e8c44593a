//! `linear`

use crate::BASELINE;
use crate::ridge::{Design, Solution};
use lacuna_sdk::arrow::RecordBatch;
use lacuna_sdk::ndarray::Array2;
use lacuna_sdk::rows::Genes;
use lacuna_sdk::{chosen_table, prelude::*, tracing};
use std::sync::atomic::{AtomicU64, Ordering};

/// Genes that are regressed together: wide enough for a dense product to run at full speed, narrow enough to
/// give every thread some blocks.
const BLOCK: usize = 128;
/// What λ is chosen from, in half decades. 3 to 10 is best on the reference's synthetic cells, 300 to 1000 on
/// measured ones, where λ = 1 does worse than `masked-mean`. Weak first, since it takes longest.
const LAMBDAS: [f64; 9] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0];
/// So strong that nothing departs from a source.
const NOTHING_DEPARTS: f64 = 1e12;
/// For so few training cells that none can be held out.
const FALLBACK_LAMBDA: f64 = 100.0;

config! {
    /// Parameters of `linear`.
    pub struct LinearConfig {
        /// The penalty on squared weights. Left out: the best of 1, 3, 10, …, 10000 on the validation cells, or
        /// on a fifth of the training cells where there are none. With `from` it is the penalty on what departs from that
        /// model, and a last candidate lets nothing depart.
        #[range(above(0.0))]
        lambda: Option<f64> = None,
    }
}

/// Ridge regression of each gene's share on the assemblage z, over the training cells that express the gene, with
/// an intercept: f_j(z) = a_j + Σ_i w_ij z_i (see the module `ridge`). The answer is f, below 0 set to 0,
/// restricted to the genes that the cell still expresses, closed.
pub struct Linear(LinearConfig);

impl Component for Linear {
    const ID: &'static str = "linear";
    const DOC: &'static str = "Ridge regression of each gene's share on the assemblage, masked and closed";
    type Config = LinearConfig;
    fn new(config: LinearConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Linear {
    type Fitted = Affine;
    const INFO: ModelInfo =
        ModelInfo { refines: true, source: "ridge regression, Hoerl & Kennard 1970", ..BASELINE };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Affine> {
        self.learned(None, training, cx)
    }

    fn refine(&self, from: Affine, training: &Training<'_>, cx: &Context) -> Result<Affine> {
        from.genes.check(&training.cells)?;
        self.learned(Some(&from), training, cx)
    }
}

impl Linear {
    /// The regression, towards a source if there is one.
    fn learned(&self, from: Option<&Affine>, training: &Training<'_>, cx: &Context) -> Result<Affine> {
        let genes = Genes::of(&training.cells)?;
        let cells = &training.cells;
        let lambda = match (self.0.lambda, &training.validation) {
            (Some(lambda), _) => lambda,
            (None, Some(validation)) if !validation.is_empty() => {
                genes.check(validation)?;
                let held_out = (validation, every(validation));
                choose_lambda(&Regression::new(from, cells, &every(cells)), held_out, cx)?
            }
            (None, _) => {
                let (held_out, rest): (Vec<_>, Vec<_>) =
                    every(cells).into_iter().partition(|cell| cell % 5 == 4);
                choose_lambda(&Regression::new(from, cells, &rest), (cells, held_out), cx)?
            }
        };
        Affine::fit(genes, &Regression::new(from, cells, &every(cells)), lambda, cx)
    }
}

/// The regression of some cells, or of what a source leaves over of their shares, with a penalty on what is added to the
/// source, its intercept too: λ(‖w − w₀‖² + (a − a₀)²), the intercepts taken at the mean assemblage.
struct Regression<'a> {
    design: Design,
    from: Option<&'a Affine>,
    /// At most [`BLOCK`] genes, evenly from the most to the least abundant, on which λ is chosen.
    choosers: Vec<usize>,
}

impl<'a> Regression<'a> {
    fn new(from: Option<&'a Affine>, cells: &Cells<'_>, rows: &[usize]) -> Self {
        let design = Design::new(cells, rows);
        let choosers = some_genes(&design);
        let design = match from {
            Some(source) => design.less(|i| source.sums(cells.assemblage(rows[i]))),
            None => design,
        };
        Self { design, from, choosers }
    }

    /// What λ is chosen from. Beyond the last nothing departs from a source.
    fn lambdas(&self) -> Vec<f64> {
        LAMBDAS.into_iter().chain(self.from.map(|_| NOTHING_DEPARTS)).collect()
    }

    /// Regresses these genes.
    fn solve(&self, genes: &[usize], lambda: f64, cx: &Context) -> Result<Solution> {
        let mut solution = self.design.solve(genes, lambda, cx)?;
        let Some(source) = self.from else { return Ok(solution) };
        for (j, &gene) in genes.iter().enumerate() {
            // The intercept is that of the mean over n cells, which a penalty draws to 0 by n / (n + λ).
            let n = self.design.cells_expressing(gene) as f64;
            let drawn = self.design.mean(gene) * lambda / (n + lambda);
            solution.intercepts[j] += f64::from(source.intercepts[gene]) - drawn;
            let mut column = solution.weights.column_mut(j);
            column += &source.weights.column(gene);
        }
        Ok(solution)
    }
}

fn every(cells: &Cells<'_>) -> Vec<usize> {
    (0..cells.len()).collect()
}

/// The λ with the least Σ|f − p| over the held-out cells, before closing, on [`BLOCK`] genes from all ranks of
/// abundance: enough to tell half decades apart, at the cost of one block for each λ.
fn choose_lambda(
    regression: &Regression<'_>,
    (cells, held_out): (&Cells<'_>, Vec<usize>),
    cx: &Context,
) -> Result<f64> {
    if held_out.is_empty() {
        return Ok(FALLBACK_LAMBDA);
    }
    let (genes, lambdas) = (&regression.choosers, regression.lambdas());
    let errors = cx.parallel_map(lambdas.len(), |i| {
        let solution = regression.solve(genes, lambdas[i], cx)?;
        Ok(absolute_error(&solution, genes, cells, &held_out))
    });
    let errors = errors.into_iter().collect::<Result<Vec<f64>>>()?;
    // From the strongest on, which wins a tie.
    let best = (0..errors.len()).rev().min_by(|&a, &b| errors[a].total_cmp(&errors[b])).unwrap_or(0);
    tracing::info!(lambda = lambdas[best], error = errors[best], "chose lambda on {} cells", held_out.len());
    Ok(lambdas[best])
}

/// At most [`BLOCK`] genes, evenly from the most to the least abundant.
fn some_genes(design: &Design) -> Vec<usize> {
    let mut genes: Vec<usize> = (0..design.n_genes()).collect();
    genes.sort_by(|&a, &b| design.abundance(b).total_cmp(&design.abundance(a)));
    genes.into_iter().step_by(design.n_genes().div_ceil(BLOCK).max(1)).collect()
}

/// Σ|f − p| over these cells and genes, where they are expressed.
fn absolute_error(solution: &Solution, genes: &[usize], cells: &Cells<'_>, rows: &[usize]) -> f64 {
    let mut place = vec![None; cells.n_genes()];
    genes.iter().enumerate().for_each(|(j, &gene)| place[gene] = Some(j));
    let mut error = 0.0;
    for &row in rows {
        let mut fitted = solution.intercepts.clone();
        add_rows(&mut fitted, &solution.weights, cells.assemblage(row));
        for (&gene, share) in cells.assemblage(row).iter().zip(cells.shares(row)) {
            let fitted = place[gene as usize].map(|j: usize| fitted[j].max(0.0));
            error += fitted.map_or(0.0, |f| (f - f64::from(share)).abs());
        }
    }
    error
}

fn add_rows(sums: &mut [f64], weights: &Array2<f32>, rows: &[u32]) {
    for &row in rows {
        sums.iter_mut().zip(weights.row(row as usize)).for_each(|(sum, &w)| *sum += f64::from(w));
    }
}

/// The fitted regression, f(z) = intercept + z · weights.
pub struct Affine {
    genes: Genes,
    lambda: f64,
    intercepts: Vec<f32>,
    /// Expressed genes × predicted genes: what is added where the gene of the row is expressed.
    weights: Array2<f32>,
}

impl Affine {
    fn fit(genes: Genes, regression: &Regression<'_>, lambda: f64, cx: &Context) -> Result<Self> {
        // Genes that are expressed in about as many cells converge together.
        let mut order: Vec<usize> = (0..genes.len()).collect();
        order.sort_by_key(|&gene| regression.design.cells_expressing(gene));
        let blocks: Vec<&[usize]> = order.chunks(BLOCK).collect();
        let done = AtomicU64::new(0);
        let solutions = cx.parallel_map(blocks.len(), |i| {
            let solution = regression.solve(blocks[i], lambda, cx);
            cx.progress(done.fetch_add(1, Ordering::Relaxed) + 1, blocks.len() as u64, "blocks of genes");
            solution
        });
        let mut weights = Array2::zeros((genes.len(), genes.len()));
        let mut intercepts = vec![0.0; genes.len()];
        for (block, solution) in blocks.into_iter().zip(solutions) {
            let solution = solution?;
            for (j, &gene) in block.iter().enumerate() {
                intercepts[gene] = solution.intercepts[j] as f32;
                weights.column_mut(gene).assign(&solution.weights.column(j));
            }
        }
        Ok(Self { genes, lambda, intercepts, weights })
    }

    /// f of an assemblage, for all genes.
    fn sums(&self, assemblage: &[u32]) -> Vec<f64> {
        let mut sums: Vec<f64> = self.intercepts.iter().map(|&a| a.into()).collect();
        add_rows(&mut sums, &self.weights, assemblage);
        sums
    }
}

impl Fitted for Affine {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let mut of_cell: Option<(usize, Vec<f64>)> = None;
        self.genes.answer(query, answer, cx, |asked, row| {
            // A lost gene takes its row of weights away: O(genes) a knockout, for all knockouts of one cell.
            let known = of_cell.take().filter(|(cell, _)| *cell == asked.cell);
            let (_, base) =
                of_cell.insert(known.unwrap_or_else(|| (asked.cell, self.sums(asked.assemblage()))));
            let lost: Vec<_> = asked.lost_expressed().map(|gene| self.weights.row(gene as usize)).collect();
            asked.write_masked(row, |gene| {
                base[gene] - lost.iter().map(|weights| f64::from(weights[gene])).sum::<f64>()
            });
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        let n = self.genes.len();
        let weights: Vec<f32> = self.weights.iter().copied().collect();
        let saved = self.genes.save().text("lambda", self.lambda.to_string());
        saved.tensor("intercepts", &[n], &self.intercepts).tensor("weights", &[n, n], &weights).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let n = genes.len();
        let lambda = saved.get_text("lambda")?.parse()?;
        let intercepts = saved.get_tensor("intercepts", &[n])?.to_vec();
        let weights = Array2::from_shape_vec((n, n), saved.get_tensor("weights", &[n, n])?.to_vec())?;
        Ok(Self { genes, lambda, intercepts, weights })
    }

    fn tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        Ok(vec![chosen_table(&[("lambda", self.lambda.to_json())])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ask, cells, fit, holds_for_a_baseline, knockouts, many_knockouts, random_cells};
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    fn linear(lambda: f64) -> Linear {
        Linear(LinearConfig { lambda: Some(lambda) })
    }

    #[test]
    fn holds_what_every_baseline_holds() {
        holds_for_a_baseline(&Linear(LinearConfig::default()), true, false);
        holds_for_a_baseline(&linear(0.5), true, false);
    }

    #[test]
    fn a_tiny_example_by_hand() {
        // Gene 0 has share 1 alone and 1/2 beside gene 1: mean 3/4, and the centred z of gene 1 is ∓1/2 where
        // p − 3/4 is ±1/4. With λ = 1/2 its weight is −1/4 / (1/2 + 1/2) = −1/4.
        let train = cells(&[&[1.0, 0.0, 0.0], &[1.0, 1.0, 0.0]]);
        let fitted = fit(&linear(0.5), &train).unwrap();
        assert!((fitted.weights[[1, 0]] + 0.25).abs() < 1e-6 && (fitted.intercepts[0] - 0.875).abs() < 1e-6);
        // Gene 1 is seen in one cell only: its mean, 1/2. f = (.625, .5) with both genes; .875 for gene 0 alone.
        // Gene 2 was never seen: alone it gets all, beside others nothing.
        let query = cells(&[&[1.0, 1.0, 1.0]]);
        let rows = ask(&fitted, &query, &knockouts(&[(0, &[]), (0, &[1]), (0, &[0, 1])])).unwrap();
        let expected = [[0.625 / 1.125, 0.5 / 1.125, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
        for (found, expected) in rows.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-6, "{rows:?}");
        }
    }

    #[test]
    fn a_knockout_is_the_cell_without_the_gene() {
        let fitted = fit(&linear(3.0), &random_cells(60, 20, 6)).unwrap();
        let query = random_cells(6, 20, 7);
        let list = many_knockouts(&query);
        let quick = ask(&fitted, &query, &list).unwrap();
        // The same rows, each as a cell of its own that never expressed the lost genes.
        let view = query.to_view();
        let mut without = OwnedCells::new((0..20).map(|j| format!("g{j}")).collect());
        let mut row = vec![0.0; 20];
        for knockout in list.as_knockouts().iter() {
            Cells::from_view(&view).write_profile(knockout.cell.unwrap(), &mut row);
            knockout.genes.iter().for_each(|&gene| row[gene as usize] = 0.0);
            without.push("", &row);
        }
        let mut as_they_are = KnockoutList::new();
        (0..list.len()).for_each(|cell| as_they_are.push(cell, &[]));
        let slow = ask(&fitted, &without, &as_they_are).unwrap();
        for (quick, slow) in quick.iter().flatten().zip(slow.iter().flatten()) {
            assert!((quick - slow).abs() < 1e-6);
        }
    }

    /// Cells in which gene j has the level 1 + the number of the expressed among the next three genes, times
    /// noise.
    fn regulated_cells(n: usize, noise: f64, seed: u64) -> OwnedCells {
        let genes = 25;
        let mut stream = testing::context(seed).stream(0);
        let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
        for cell in 0..n {
            let expressed: Vec<bool> = (0..genes).map(|_| stream.random_bool(0.7)).collect();
            let level = |j: usize| 1.0 + (1..4).filter(|d| expressed[(j + d) % genes]).count() as f64;
            let values: Vec<f32> = (0..genes)
                .map(|j| level(j) * (1.0 + noise * stream.random_range(-1.0..1.0)))
                .map(|v| v as f32)
                .zip(&expressed)
                .map(|(value, &expressed)| if expressed { value } else { 0.0 })
                .collect();
            cells.push(format!("c{cell}"), &values);
        }
        cells
    }

    /// Source and departure are those at which the documented objective is flat, in plain sums over cells.
    #[test]
    fn a_departure_is_the_minimum_of_the_penalised_squares() {
        let (source, target) = (regulated_cells(60, 0.5, 1), random_cells(40, 25, 4));
        let from = fit(&linear(3.0), &source).unwrap();
        let lambda = 5.0;
        let refined =
            testing::refine(&linear(lambda), Affine::load(&from.save().unwrap()).unwrap(), &target, None);
        let (refined, view) = (refined.unwrap(), target.to_view());
        let cells = Cells::from_view(&view);
        for gene in 0..25usize {
            let rows: Vec<usize> =
                (0..cells.len()).filter(|&c| cells.assemblage(c).contains(&(gene as u32))).collect();
            if rows.is_empty() {
                continue;
            }
            let n = rows.len() as f64;
            let z = |c: usize, i: usize| f64::from(u8::from(cells.assemblage(c).contains(&(i as u32))));
            let mean: Vec<f64> = (0..25).map(|i| rows.iter().map(|&c| z(c, i)).sum::<f64>() / n).collect();
            let w = |i: usize| f64::from(refined.weights[[i, gene]]);
            let departs = |i: usize| w(i) - f64::from(from.weights[[i, gene]]);
            let f = |fit: &Affine, z: &dyn Fn(usize) -> f64| {
                let sum = (0..25).map(|i| f64::from(fit.weights[[i, gene]]) * z(i)).sum::<f64>();
                f64::from(fit.intercepts[gene]) + sum
            };
            let share = |c: usize| {
                let place = cells.assemblage(c).iter().position(|&g| g as usize == gene).unwrap();
                f64::from(cells.shares(c).nth(place).unwrap())
            };
            let left = |c: usize| share(c) - f(&refined, &|i| z(c, i));
            let b = f(&refined, &|i| mean[i]) - f(&from, &|i| mean[i]);
            let slope = rows.iter().map(|&c| left(c)).sum::<f64>() - lambda * b;
            assert!(slope.abs() < 1e-4, "gene {gene}: {slope}");
            for (i, mean) in mean.iter().enumerate() {
                let slope =
                    rows.iter().map(|&c| left(c) * (z(c, i) - mean)).sum::<f64>() - lambda * departs(i);
                assert!(slope.abs() < 1e-4, "gene {gene}, {i}: {slope}");
            }
        }
    }

    #[test]
    fn a_strong_penalty_keeps_the_source_and_many_cells_lead_to_the_fit_from_scratch() {
        let source = || fit(&linear(3.0), &random_cells(60, 25, 3)).unwrap();
        let (few, many) = (regulated_cells(10, 0.3, 1), regulated_cells(2000, 0.3, 1));
        let list = many_knockouts(&few);
        let kept = testing::refine(&linear(1e12), source(), &few, None).unwrap();
        let far = |a: &Affine, b: &Affine| {
            let (a, b) = (ask(a, &few, &list).unwrap(), ask(b, &few, &list).unwrap());
            a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(far(&kept, &source()) < 1e-6);
        let scratch = fit(&linear(1.0), &many).unwrap();
        let refined = testing::refine(&linear(1.0), source(), &many, None).unwrap();
        assert!(far(&refined, &scratch) < 0.1 * far(&source(), &scratch));
        // Cells that the source predicts as well as can be leave it as it is: the strongest candidate wins.
        let itself = || fit(&linear(3.0), &many).unwrap();
        let refined = testing::refine(
            &Linear(LinearConfig::default()),
            itself(),
            &few,
            Some(&regulated_cells(400, 0.3, 8)),
        );
        assert!(refined.unwrap().lambda >= 10_000.0);
        let other = testing::refine(&linear(1.0), source(), &cells(&[&[1.0, 2.0]]), None).err();
        assert_eq!(other, Some(Error::data("expected cells with the 25 genes of the fit, found 2 genes")));
    }

    fn chosen(train: &OwnedCells, validation: Option<&OwnedCells>) -> f64 {
        let view = train.to_view();
        let validation = validation.map(OwnedCells::to_view);
        let mut training = testing::training(Cells::from_view(&view));
        training.validation = validation.as_ref().map(Cells::from_view);
        Linear(LinearConfig::default()).fit(&training, &testing::context(1)).unwrap().lambda
    }

    #[test]
    fn lambda_follows_the_noise() {
        let (quiet, noisy) = (regulated_cells(200, 0.0, 1), regulated_cells(200, 0.95, 1));
        let (quiet_lambda, noisy_lambda) = (chosen(&quiet, None), chosen(&noisy, None));
        assert!(quiet_lambda <= 3.0 && noisy_lambda >= 10.0, "{quiet_lambda}, {noisy_lambda}");
        assert!(chosen(&quiet, Some(&regulated_cells(50, 0.0, 2))) <= 3.0);
        assert_eq!(chosen(&regulated_cells(4, 0.0, 1), None), FALLBACK_LAMBDA);
    }

    #[test]
    fn validation_cells_with_other_genes_are_an_error() {
        let (train, other) = (cells(&[&[1.0, 2.0]]), cells(&[&[1.0, 2.0, 3.0]]));
        let (train, other) = (train.to_view(), other.to_view());
        let mut training = testing::training(Cells::from_view(&train));
        training.validation = Some(Cells::from_view(&other));
        let error = Linear(LinearConfig::default()).fit(&training, &testing::context(1)).err();
        assert_eq!(error, Some(Error::data("expected cells with the 2 genes of the fit, found 3 genes")));
    }
}
