//! `correlation`

use crate::gene_pairs::GenePairs;
use crate::genes::removed_altogether;
use crate::log_expression::LogExpression;
use lacuna_sdk::prelude::*;

/// How a gene goes along with the lost one in wild-type cells: the score of gene j for the loss of gene g is −r, with
/// r the Pearson correlation of log(1 + 10,000 p) of j and g over the training cells. What goes up with g falls
/// without it. A loss of several genes scores the sum of theirs; a gene that is lost itself scores 0, and so does one
/// that is the same in all cells.
///
/// The scores are about the population: those of a knockout in a cell are the same in every cell. Kept are the
/// correlations, genes × genes, of at most 3,000 genes.
pub struct Correlation;

/// A gene whose values vary by less than this share of their squares does not vary but for rounding.
const ROUNDING: f64 = 1e-10;

impl Component for Correlation {
    const ID: &'static str = "correlation";
    const DOC: &'static str =
        "Scores each gene by its negative correlation with the lost one in wild-type cells";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Model for Correlation {
    type Fitted = Correlations;
    const INFO: ModelInfo = ModelInfo {
        answers: Answers::GeneScores,
        scale: Scale::Log1pCp10k,
        source: "Pearson correlation of log CP10k over wild-type cells, negated",
        ..ModelInfo::PROFILES
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Correlations> {
        let x = LogExpression::of(&training.cells);
        let spreads: Vec<Spread> = (0..x.n_genes()).map(|gene| Spread::of(&x, gene)).collect();
        let n = x.n_cells() as f64;
        let pairs = GenePairs::learn(&training.cells, &x, cx, |gene, row| {
            let own = &spreads[gene];
            let products = x.weighted_sums(x.of_gene(gene).iter().copied());
            for ((out, other), product) in row.iter_mut().zip(&spreads).zip(products) {
                let covariance = product - own.sum * other.sum / n;
                *out = own.correlation(other, covariance) as f32;
            }
        })?;
        Ok(Correlations(pairs))
    }
}

/// How a gene varies over the cells.
struct Spread {
    /// Σ x.
    sum: f64,
    /// √Σ(x − x̄)²; 0 for a gene that does not vary.
    root: f64,
}

impl Spread {
    fn of(x: &LogExpression, gene: usize) -> Self {
        let (n, values) = (x.n_cells() as f64, x.of_gene(gene));
        let sum: f64 = values.iter().map(|&(_, x)| x).sum();
        let mean = sum / n;
        let expressed: f64 = values.iter().map(|&(_, x)| (x - mean).powi(2)).sum();
        let centred = expressed + (n - values.len() as f64) * mean * mean;
        let squares: f64 = values.iter().map(|&(_, x)| x * x).sum();
        Self { sum, root: if centred > ROUNDING * squares { centred.sqrt() } else { 0.0 } }
    }

    /// Σ(x − x̄)(y − ȳ) in parts of what it is at most.
    fn correlation(&self, other: &Self, covariance: f64) -> f64 {
        let most = self.root * other.root;
        if most > 0.0 { (covariance / most).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

/// The correlation of each pair of genes.
#[derive(Debug)]
pub struct Correlations(GenePairs);

impl Fitted for Correlations {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.0.genes.answer(query, answer, cx, |knockout, scores, _| {
            removed_altogether(knockout)?;
            for &lost in knockout.genes {
                scores.iter_mut().zip(self.0.of_gene(lost)).for_each(|(score, r)| *score -= r);
            }
            knockout.genes.iter().for_each(|&lost| scores[lost as usize] = 0.0);
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        self.0.save().to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self(GenePairs::load(&Saved::from_bytes(bytes)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_expression::log_of_share;
    use lacuna_sdk::ndarray::Array2;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    /// Four cells of the total 10, of whose genes g2 never varies and g4 is silent.
    fn four_cells() -> OwnedCells {
        testing::cells(&[
            &[1.0, 2.0, 2.0, 5.0, 0.0],
            &[2.0, 4.0, 2.0, 2.0, 0.0],
            &[3.0, 5.0, 2.0, 0.0, 0.0],
            &[0.0, 1.0, 2.0, 7.0, 0.0],
        ])
    }

    fn scores(lost: &[&[u32]]) -> Array2<f32> {
        let (cells, lost) = (four_cells(), testing::population(lost));
        testing::predict(&testing::fit(&Correlation, &cells).unwrap(), &cells, &lost).unwrap()
    }

    fn pearson(a: [f64; 4], b: [f64; 4]) -> f64 {
        let log = |shares: [f64; 4]| shares.map(|share| log_of_share(share / 10.0));
        let (a, b) = (log(a), log(b));
        let mean = |x: [f64; 4]| x.iter().sum::<f64>() / 4.0;
        let (mean_a, mean_b) = (mean(a), mean(b));
        let sum =
            |of: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| of(a - mean_a, b - mean_b)).sum::<f64>();
        sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt()
    }

    #[test]
    fn a_score_is_the_negative_correlation_of_log_expression() {
        let [g0, g1, g3] = [[1.0, 2.0, 3.0, 0.0], [2.0, 4.0, 5.0, 1.0], [5.0, 2.0, 0.0, 7.0]];
        let found = scores(&[&[0], &[3]]);
        let expected = [
            [0.0, -pearson(g0, g1), 0.0, -pearson(g0, g3), 0.0],
            [-pearson(g0, g3), -pearson(g1, g3), 0.0, 0.0, 0.0],
        ];
        for (found, expected) in found.iter().zip(expected.iter().flatten()) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "expected {expected}, found {found}");
        }
        // What goes along falls, what goes against rises, and a gene that never varies says nothing.
        assert!(found[[0, 1]] < -0.5 && found[[0, 3]] > 0.5);
        assert_eq!(scores(&[&[2], &[4], &[]]), Array2::<f32>::zeros((3, 5)));
    }

    #[test]
    fn several_lost_genes_score_their_sum_and_none_themselves() {
        let found = scores(&[&[0], &[1], &[0, 1]]);
        assert_eq!((found[[2, 0]], found[[2, 1]]), (0.0, 0.0));
        assert!((2..5).all(|j| (found[[2, j]] - found[[0, j]] - found[[1, j]]).abs() < 1e-6));
    }

    #[test]
    fn scores_are_the_same_in_every_cell_and_lie_between_minus_one_and_one() {
        let mut stream = testing::context(5).stream(0);
        let rows: Vec<[f32; 8]> =
            (0..40).map(|_| std::array::from_fn(|_| stream.random_range(0.0..4.0))).collect();
        let cells = testing::cells(&rows.iter().map(|row| &row[..]).collect::<Vec<_>>());
        let fitted = testing::fit(&Correlation, &cells).unwrap();
        let mut in_cells = KnockoutList::new();
        (0..8).for_each(|gene| in_cells.push(gene, &[gene as u32]));
        let singles: Vec<[u32; 1]> = (0..8).map(|gene| [gene]).collect();
        let population = testing::population(&singles.iter().map(|gene| &gene[..]).collect::<Vec<_>>());
        let found = testing::predict(&fitted, &cells, &population).unwrap();
        assert_eq!(found, testing::predict(&fitted, &cells, &in_cells).unwrap());
        assert_eq!(found, found.t());
        assert!(found.iter().all(|r| r.abs() <= 1.0) && found.iter().any(|&r| r != 0.0));
    }

    #[test]
    fn a_saved_model_scores_the_same() {
        let (cells, lost) = (four_cells(), testing::population(&[&[0], &[1, 3]]));
        let fitted = testing::fit(&Correlation, &cells).unwrap();
        let bytes = fitted.save().unwrap();
        let loaded = Correlations::load(&bytes).unwrap();
        assert_eq!(loaded.save().unwrap(), bytes);
        let ask = |fitted| testing::predict(fitted, &cells, &lost).unwrap();
        assert_eq!(ask(&loaded), ask(&fitted));
        assert!((0..bytes.len()).step_by(7).all(|n| Correlations::load(&bytes[..n]).is_err()));
    }

    #[test]
    fn a_level_other_than_0_is_refused() {
        let cells = four_cells();
        let mut list = KnockoutList::new();
        list.push_levels(0, &[(1, 0.3)]);
        let error =
            testing::predict(&testing::fit(&Correlation, &cells).unwrap(), &cells, &list).unwrap_err();
        assert_eq!(error, Error::data("knockout 0: expected level 0, found level 0.3"));
    }
}
