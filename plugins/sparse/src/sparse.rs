//! `sparse`

use crate::choose::HeldOut;
use crate::design::{Features, Levels};
use crate::plan::Plan;
use crate::solver::{Line, Regression};
use crate::weights::Weights;
use lacuna_sdk::arrow::RecordBatch;
use lacuna_sdk::rows::{Asked, Genes};
use lacuna_sdk::{chosen_table, prelude::*, tracing};

/// What the penalty is chosen from, the strongest first.
const PENALTIES: [f64; 7] = [0.16, 0.08, 0.04, 0.02, 0.01, 0.005, 0.0025];
/// The penalty where there are no validation cells: best on the reference's synthetic cells.
const PENALTY: f64 = 0.02;
/// What the penalty of a departure from a source is chosen from. The first leaves nothing of it: neither a feature nor a
/// standardised residual is above 1 in the mean.
const OF_DEPARTURES: [f64; 8] = [1.0, 0.16, 0.08, 0.04, 0.02, 0.01, 0.005, 0.0025];
/// The penalty of a departure where there are no validation cells: such cells are few.
const OF_A_DEPARTURE: f64 = 0.08;
/// The e of reweighting: weights much larger than it, in standard deviations of the gene, are hardly
/// penalised.
const SOFTNESS: f64 = 0.05;

config! {
    /// Parameters of `sparse`.
    pub struct SparseConfig {
        /// The L1 penalty λ. Left out: of 0.16, 0.08, …, 0.0025, the one after which the error of the validation
        /// cells rises; 0.02 where there are none. With `from` it is the penalty of the departure from that model: the best of
        /// 1 and these, or 0.08.
        #[range(above(0.0))]
        penalty: Option<f64> = None,
        /// How far Huber's loss is a square, in standard deviations of the gene: residuals beyond pull no
        /// harder.
        #[range(above(0.0))]
        delta: f64 = 0.25,
        /// Rounds of reweighting, after which the features that count are hardly drawn towards 0 any more.
        #[range(0..=10)]
        reweight: usize = 1,
        /// Learn from the validation cells too, once they have chosen the penalty.
        refit: bool = true,
    }
}

/// Sparse robust regression of each gene's level x_j = p_j·N on the assemblage z, over the training cells
/// that express the gene (see the module `solver`): f_j(z) = a_j + Σ_i w_ij z_i. The answer is f, below 0 set
/// to 0, restricted to the genes that the cell still expresses, closed.
pub struct Sparse(pub SparseConfig);

impl Component for Sparse {
    const ID: &'static str = "sparse";
    const DOC: &'static str = "Huber regression with an L1 penalty of each gene's share on the assemblage";
    type Config = SparseConfig;
    fn new(config: SparseConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Sparse {
    type Fitted = Lines;
    const INFO: ModelInfo = ModelInfo {
        refines: true,
        source: "Huber 1964; lasso, Tibshirani 1996; reweighted, Candes, Wakin & Boyd 2008",
        ..ModelInfo::PROFILES
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Lines> {
        self.learned(None, training, cx)
    }

    fn refine(&self, from: Lines, training: &Training<'_>, cx: &Context) -> Result<Lines> {
        from.genes.check(&training.cells)?;
        self.learned(Some(&from), training, cx)
    }
}

impl Sparse {
    /// The regression, or that of what a source leaves over.
    fn learned(&self, from: Option<&Lines>, training: &Training<'_>, cx: &Context) -> Result<Lines> {
        let plan = Plan::of(training)?;
        let penalty = self.penalty(from, &plan, cx)?;
        let every: Vec<usize> = (0..plan.genes.len()).collect();
        let solve = |regression: &Regression<'_>| regression.solve(&every, penalty, cx);
        let lines = self.regression(from, &Levels::of(&plan.sets(self.0.refit)), solve)?;
        let fitted = Lines::new(plan.genes, penalty, &lines);
        tracing::info!(penalty, "{:.1} weights a gene", fitted.weights.len() as f64 / every.len() as f64);
        Ok(fitted)
    }

    fn regression<T>(
        &self,
        from: Option<&Lines>,
        levels: &Levels,
        solve: impl FnOnce(&Regression<'_>) -> T,
    ) -> T {
        // Not scaled: a gene that nearly all cells express, or nearly none, has little to tell.
        let features = Features::new(levels.assemblages(), None);
        let targets = from.map_or_else(|| levels.targets(), |from| levels.departures(from.lines()));
        let SparseConfig { delta, reweight, .. } = &self.0;
        let (delta, reweight) = (*delta, *reweight);
        solve(&Regression { features: &features, targets: &targets, delta, reweight, softness: SOFTNESS })
    }

    /// The penalty that is given, or that the validation cells choose.
    fn penalty(&self, from: Option<&Lines>, plan: &Plan<'_, '_>, cx: &Context) -> Result<f64> {
        let (given, Some(validation)) = (self.0.penalty, plan.validation) else {
            let usual = if from.is_some() { OF_A_DEPARTURE } else { PENALTY };
            return Ok(self.0.penalty.unwrap_or(usual));
        };
        let levels = Levels::of(&[validation]);
        let held_out = HeldOut { features: levels.assemblages(), levels };
        let choose = |regression: &Regression<'_>| match from {
            Some(_) => held_out.penalty_of_a_departure(regression, &OF_DEPARTURES, cx),
            None => held_out.penalty(regression, &PENALTIES, cx),
        };
        given.map_or_else(|| self.regression(from, &Levels::of(&[plan.train]), choose), Ok)
    }
}

/// The fitted regression, f(z) = intercept + z · weights.
pub struct Lines {
    genes: Genes,
    penalty: f64,
    intercepts: Vec<f32>,
    /// Expressed genes × predicted genes: what is added where the gene of the row is expressed.
    weights: Weights,
}

impl Lines {
    fn new(genes: Genes, penalty: f64, lines: &[Line]) -> Self {
        let narrow = |line: &Line| line.weights.iter().map(|&(i, weight)| (i, weight as f32)).collect();
        let columns: Vec<Vec<(u32, f32)>> = lines.iter().map(narrow).collect();
        let weights = Weights::from_columns(genes.len(), &columns);
        Self { genes, penalty, intercepts: lines.iter().map(|line| line.intercept as f32).collect(), weights }
    }

    /// The line of each gene.
    fn lines(&self) -> Vec<Line> {
        let wide =
            |column: Vec<(u32, f32)>| column.into_iter().map(|(i, weight)| (i, weight.into())).collect();
        let lines = self.intercepts.iter().zip(self.weights.columns());
        lines.map(|(&a, column)| Line { intercept: a.into(), weights: wide(column) }).collect()
    }

    /// f of the cell before any knockout, for all genes.
    fn base(&self, asked: &Asked<'_>) -> Vec<f64> {
        let mut base: Vec<f64> = self.intercepts.iter().map(|&a| a.into()).collect();
        asked.assemblage().iter().for_each(|&gene| self.weights.add(gene as usize, 1.0, &mut base, |_| {}));
        base
    }
}

impl Fitted for Lines {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let mut of_cell: Option<(usize, Vec<f64>)> = None;
        let mut levels = vec![];
        self.genes.answer(query, answer, cx, |asked, row| {
            let known = of_cell.take().filter(|(cell, _)| *cell == asked.cell);
            let (_, base) = of_cell.insert(known.unwrap_or_else(|| (asked.cell, self.base(asked))));
            // A lost gene takes its row of weights away, always from the base, so that no rounding adds up.
            levels.clone_from(base);
            asked
                .lost_expressed()
                .for_each(|gene| self.weights.add(gene as usize, -1.0, &mut levels, |_| {}));
            asked.write_masked(row, |gene| levels[gene]);
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        let saved = self.genes.save().text("penalty", self.penalty.to_string());
        let saved = saved.tensor("intercepts", &[self.genes.len()], &self.intercepts);
        self.weights.save("weights", saved).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let penalty = saved.get_text("penalty")?.parse()?;
        let intercepts = saved.get_tensor("intercepts", &[genes.len()])?.to_vec();
        let weights = Weights::load("weights", &saved, genes.len())?;
        Ok(Self { genes, penalty, intercepts, weights })
    }

    fn tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        Ok(vec![chosen_table(&[("penalty", self.penalty.to_json())])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{ask, cells, fit, holds_for_a_model, knockouts, regulated_cells};
    use lacuna_sdk::testing;

    fn chosen(train: &OwnedCells, validation: &OwnedCells, config: SparseConfig) -> Lines {
        let (train, validation) = (train.to_view(), validation.to_view());
        let mut training = testing::training(Cells::from_view(&train));
        training.validation = Some(Cells::from_view(&validation));
        Sparse(config).fit(&training, &testing::context(1)).unwrap()
    }

    #[test]
    fn holds_what_every_model_holds() {
        holds_for_a_model(&Sparse(SparseConfig::default()), 1e-6);
        holds_for_a_model(
            &Sparse(SparseConfig { penalty: Some(1e-4), delta: 0.1, reweight: 3, refit: true }),
            1e-6,
        );
    }

    #[test]
    fn regulators_are_found_and_other_genes_are_not() {
        let model = Sparse(SparseConfig { delta: 1.0, ..SparseConfig::default() });
        let fitted = fit(&model, &regulated_cells(400, 0.1, 1)).unwrap();
        for i in 0..25usize {
            for j in (0..25usize).filter(|&j| j != i) {
                let weight = fitted.weights.row(i).iter().find(|e| e.0 as usize == j).map_or(0.0, |e| e.1);
                let regulates = (1..4).any(|d| (j + d) % 25 == i);
                // Closing alone lets every gene take some of the others' shares.
                assert!(if regulates { weight > 0.25 } else { weight.abs() < 0.25 }, "{i} on {j}: {weight}");
            }
        }
    }

    #[test]
    fn an_outlier_does_not_matter() {
        let (mut one, mut other) = (regulated_cells(200, 0.0, 1), regulated_cells(200, 0.0, 1));
        let mut outlier = vec![1.0; 25];
        one.push("usual", &outlier);
        outlier[3] = 1e6;
        other.push("outlier", &outlier);
        let config = || SparseConfig { delta: 0.1, ..SparseConfig::default() };
        let (one, other) = (fit(&Sparse(config()), &one).unwrap(), fit(&Sparse(config()), &other).unwrap());
        assert!(other.intercepts.iter().all(|a| a.abs() < 100.0));
        assert!((one.intercepts[10] - other.intercepts[10]).abs() < 0.1);
    }

    #[test]
    fn the_penalty_follows_the_noise() {
        let of = |noise| {
            let (train, held_out) = (regulated_cells(100, noise, 1), regulated_cells(50, noise, 2));
            chosen(&train, &held_out, SparseConfig::default()).penalty
        };
        assert!(of(0.0) < of(0.95), "{} {}", of(0.0), of(0.95));
        let (train, held_out) = (regulated_cells(100, 0.5, 1), regulated_cells(50, 0.5, 2));
        let fixed = SparseConfig { penalty: Some(0.03), refit: false, ..SparseConfig::default() };
        let alone = fit(&Sparse(fixed.clone()), &train).unwrap();
        assert_eq!(chosen(&train, &held_out, fixed).save().unwrap(), alone.save().unwrap());
    }

    /// Regulated cells in which gene 3 has three times its level beside gene 12.
    fn other_cells(n: usize, noise: f64, seed: u64) -> OwnedCells {
        let usual = regulated_cells(n, noise, seed);
        let view = usual.to_view();
        let usual = Cells::from_view(&view);
        let mut cells = OwnedCells::new(usual.gene_names());
        for cell in 0..n {
            let mut row = vec![0.0; 25];
            let values = usual.assemblage(cell).iter().zip(usual.values(cell));
            values.for_each(|(&gene, &value)| row[gene as usize] = value);
            row[3] *= if row[12] > 0.0 { 3.0 } else { 1.0 };
            cells.push(format!("c{cell}"), &row);
        }
        cells
    }

    /// The mean dissimilarity of these cells' profiles.
    fn error(fitted: &Lines, cells: &OwnedCells) -> f64 {
        let view = cells.to_view();
        let observed = Cells::from_view(&view);
        let list = crate::fixtures::as_they_are(observed.len());
        let mut truth = vec![0.0; 25];
        let of_cell = |(cell, row): (usize, Vec<f32>)| {
            observed.write_profile(cell, &mut truth);
            row.iter().zip(&truth).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / 2.0
        };
        let rows = ask(fitted, cells, &list).unwrap();
        rows.into_iter().enumerate().map(of_cell).sum::<f64>() / observed.len() as f64
    }

    #[test]
    fn under_a_strong_penalty_nothing_departs_from_the_source() {
        let source = fit(&Sparse(SparseConfig::default()), &regulated_cells(100, 0.5, 1)).unwrap();
        let strong = Sparse(SparseConfig { penalty: Some(1.0), ..SparseConfig::default() });
        let other = other_cells(60, 0.5, 2);
        let same =
            testing::refine(&strong, Lines::load(&source.save().unwrap()).unwrap(), &other, None).unwrap();
        assert_eq!((&same.intercepts, &same.weights), (&source.intercepts, &source.weights));
        // Genes that too few cells express keep the source's line too.
        let few =
            testing::refine(&Sparse(SparseConfig::default()), source, &other_cells(7, 0.5, 2), None).unwrap();
        assert_eq!((few.intercepts, few.weights), (same.intercepts, same.weights));
    }

    #[test]
    fn a_departure_needs_few_cells_and_many_lead_to_the_fit_from_scratch() {
        let source = || fit(&Sparse(SparseConfig::default()), &regulated_cells(400, 0.3, 1)).unwrap();
        let fresh = other_cells(200, 0.3, 7);
        let of = |n, held_out| {
            let (cells, held_out) = (other_cells(n, 0.3, 5), other_cells(held_out, 0.3, 6));
            let model = Sparse(SparseConfig::default());
            let refined = testing::refine(&model, source(), &cells, Some(&held_out)).unwrap();
            (error(&refined, &fresh), error(&chosen(&cells, &held_out, SparseConfig::default()), &fresh))
        };
        let ((few, few_alone), (many, many_alone)) = (of(28, 12), of(560, 240));
        let before = error(&source(), &fresh);
        assert!(few < 0.9 * before && few < 0.8 * few_alone, "{before}: {few}, alone {few_alone}");
        assert!((many - many_alone).abs() < 0.02 * many_alone, "{many}, alone {many_alone}");
    }

    #[test]
    fn a_source_of_other_genes_is_an_error() {
        let source = fit(&Sparse(SparseConfig::default()), &cells(&[&[1.0, 2.0]])).unwrap();
        let refined = testing::refine(&Sparse(SparseConfig::default()), source, &cells(&[&[1.0; 3]]), None);
        let expected = Error::data("expected cells with the 2 genes of the fit, found 3 genes");
        assert_eq!(refined.err(), Some(expected));
    }

    #[test]
    fn genes_without_cells_or_variance_keep_their_mean() {
        // Gene 0 is always a half, gene 1 is seen in one cell, gene 2 never.
        let mut rows: Vec<&[f32]> = vec![&[1.0, 0.0, 0.0, 1.0]; 20];
        rows.push(&[1.0, 1.0, 0.0, 0.0]);
        let fitted = fit(&Sparse(SparseConfig::default()), &cells(&rows)).unwrap();
        assert_eq!(fitted.intercepts, [2.0, 2.0, 0.0, 2.0]);
        let query = cells(&[&[1.0, 1.0, 1.0, 0.0]]);
        let rows = ask(&fitted, &query, &knockouts(&[(0, &[]), (0, &[0, 1])])).unwrap();
        assert_eq!(rows, [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
    }

    #[test]
    fn validation_cells_with_other_genes_are_an_error() {
        let (train, other) = (cells(&[&[1.0, 2.0]]), cells(&[&[1.0, 2.0, 3.0]]));
        let (train, other) = (train.to_view(), other.to_view());
        let mut training = testing::training(Cells::from_view(&train));
        training.validation = Some(Cells::from_view(&other));
        let error = Sparse(SparseConfig::default()).fit(&training, &testing::context(1)).err();
        assert_eq!(error, Some(Error::data("expected cells with the 2 genes of the fit, found 3 genes")));
    }

    #[test]
    fn a_question_outside_the_cells_is_an_error_not_a_panic() {
        let one = cells(&[&[1.0, 1.0, 2.0]]);
        let fitted = fit(&Sparse(SparseConfig::default()), &one).unwrap();
        let error = |message: &str| Err(Error::data(message));
        let ask_one = |list: &[(usize, &[u32])]| ask(&fitted, &one, &knockouts(list));
        assert_eq!(
            ask_one(&[(0, &[]), (1, &[])]),
            error("knockout 1: expected a cell below 1, found cell 1")
        );
        assert_eq!(ask_one(&[(0, &[3])]), error("knockout 0: expected a gene below 3, found gene 3"));
        let other = ask(&fitted, &cells(&[&[1.0]]), &knockouts(&[]));
        assert_eq!(other, error("expected cells with the 3 genes of the fit, found 1 genes"));
        let silent = fit(&Sparse(SparseConfig::default()), &cells(&[&[0.0; 3]]));
        let message = "expected training cells that express genes, found none among 1";
        assert_eq!(silent.err(), Some(Error::data(message)));
    }
}
