//! What validation cells choose.

use crate::design::{Levels, Target};
use crate::solver::{Line, Regression, Start};
use lacuna_sdk::ndarray::Array2;
use lacuna_sdk::{prelude::*, tracing};

/// Genes on which is chosen: enough to tell the candidates apart.
const CHOOSERS: usize = 128;

/// A change of the error by less may be chance.
const STIR: f64 = 0.01;

/// Cells that judge.
pub struct HeldOut {
    /// Features × cells, neither centred nor scaled.
    pub features: Array2<f32>,
    pub levels: Levels,
}

impl HeldOut {
    /// The penalty with the least Σ|f − x| over these cells, on some genes from all ranks of abundance: of these, the
    /// strongest first, the one after which the error rises.
    pub fn penalty(&self, regression: &Regression<'_>, penalties: &[f64], cx: &Context) -> Result<f64> {
        descend(penalties, 0.0, self.errors(some_genes(regression.targets), regression, cx))
    }

    /// The penalty with the least error of all of them, on all genes, the strongest of equal ones. A departure may be of several
    /// sizes, so that the error falls more than once; and cells to depart by are few, so that the few most abundant genes
    /// among some would decide, and all take no long time.
    pub fn penalty_of_a_departure(
        &self,
        regression: &Regression<'_>,
        penalties: &[f64],
        cx: &Context,
    ) -> Result<f64> {
        let mut error = self.errors((0..regression.targets.len()).collect(), regression, cx);
        let (mut best, mut least) = (penalties[0], f64::INFINITY);
        for &penalty in penalties {
            let next = error(penalty)?;
            tracing::debug!(penalty, error = next, "tried");
            if next < least {
                (best, least) = (penalty, next);
            }
        }
        Ok(best)
    }

    /// The error of these genes under a penalty, each time going on from the last one's solution.
    fn errors<'a>(
        &'a self,
        genes: Vec<usize>,
        regression: &'a Regression<'_>,
        cx: &'a Context,
    ) -> impl FnMut(f64) -> Result<f64> + 'a {
        let mut starts = vec![Start::default(); genes.len()];
        move |penalty| Ok(self.sum_of_errors(&genes, &regression.go_on(&mut starts, &genes, penalty, cx)?))
    }

    /// Σ|f − x| over these genes, in the cells that express them; f below 0 is 0.
    fn sum_of_errors(&self, genes: &[usize], lines: &[Line]) -> f64 {
        let mut line_of = vec![None; self.levels.genes];
        genes.iter().zip(lines).for_each(|(&gene, line)| line_of[gene] = Some(line));
        let mut error = 0.0;
        for (cell, levels) in self.levels.cells.iter().enumerate() {
            for &(gene, x) in levels {
                let Some(line) = line_of[gene as usize] else { continue };
                let terms =
                    line.weights.iter().map(|&(i, w)| w * f64::from(self.features[[i as usize, cell]]));
                let f = line.intercept + terms.sum::<f64>();
                error += (f.max(0.0) - f64::from(x)).abs();
            }
        }
        error
    }
}

/// The penalty with the least error of those that are tried, from the strongest on: until the error, having fallen by more
/// than [`STIR`] once, falls by less than `worth`: weaker ones take longest. Before, hardly any feature has come in yet, and
/// only a rise by more than that ends it. Parts of the least error, all of them.
pub fn descend(penalties: &[f64], worth: f64, mut error: impl FnMut(f64) -> Result<f64>) -> Result<f64> {
    let (mut best, mut least) = (penalties[0], error(penalties[0])?);
    let mut falling = false;
    for &penalty in &penalties[1..] {
        let next = error(penalty)?;
        tracing::debug!(penalty, error = next, "tried");
        let fall = (least - next) / least;
        if next < least {
            (best, least) = (penalty, next);
        }
        if fall < -STIR || (falling && fall < worth) {
            break;
        }
        falling |= fall > STIR;
    }
    Ok(best)
}

/// At most [`CHOOSERS`] genes, evenly from the most to the least abundant.
fn some_genes(targets: &[Target]) -> Vec<usize> {
    let total = |gene: usize| targets[gene].mean * targets[gene].cells.len() as f64;
    let mut genes: Vec<usize> = (0..targets.len()).collect();
    genes.sort_by(|&a, &b| total(b).total_cmp(&total(a)));
    genes.into_iter().step_by(targets.len().div_ceil(CHOOSERS).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::design::Features;
    use crate::fixtures::regulated_cells;
    use lacuna_sdk::testing::context;

    fn levels(n: usize, noise: f64, seed: u64) -> Levels {
        let cells = regulated_cells(n, noise, seed);
        let view = cells.to_view();
        Levels::of(&[&Cells::from_view(&view)])
    }

    #[test]
    fn the_descent_ends_where_the_error_rises() {
        let fit = |penalty: f64| match penalty {
            p if p < 0.1 => Err(Error::data("this takes too long")),
            p if p > 8.0 => Ok(6.0),
            p => Ok((p - 2.0).abs()),
        };
        assert_eq!(descend(&[8.0, 4.0, 2.0, 1.0, 0.01], 0.0, fit), Ok(2.0));
        assert_eq!(descend(&[8.0], 0.0, fit), Ok(8.0));
        // Nothing changes at first; after a fall, one by less than a fiftieth ends it.
        assert_eq!(descend(&[32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.01], 0.0, fit), Ok(2.0));
        assert_eq!(descend(&[8.0, 4.0, 3.99, 0.01], 0.02, fit), Ok(3.99));
        assert_eq!(descend(&[4.0, 3.99, 2.0, 1.0], 0.02, fit), Ok(2.0));
        // A little rise at first does not end it, a larger one does.
        assert_eq!(descend(&[4.0, 4.01, 2.0, 1.0], 0.02, fit), Ok(2.0));
        assert_eq!(descend(&[4.0, 5.0, 0.01], 0.02, fit), Ok(4.0));
    }

    #[test]
    fn the_chosen_penalty_is_the_best_of_those_solved_alone() {
        let (train, held_out) = (levels(120, 0.6, 1), levels(80, 0.6, 2));
        let (features, targets) = (Features::new(train.assemblages(), None), train.targets());
        let held_out = HeldOut { features: held_out.assemblages(), levels: held_out };
        let regression =
            Regression { features: &features, targets: &targets, delta: 0.5, reweight: 1, softness: 0.05 };
        let penalties = [0.4, 0.1, 0.05, 0.02, 0.005, 0.001];
        let genes: Vec<usize> = (0..25).collect();
        let mut errors: Vec<(f64, f64)> = vec![];
        for penalty in penalties {
            let lines = regression.solve(&genes, penalty, &context(1)).unwrap();
            errors.push((held_out.sum_of_errors(&genes, &lines), penalty));
        }
        let least = errors.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        assert!(least.1 < 0.1 && least.1 > 0.001, "{errors:?}");
        assert_eq!(held_out.penalty(&regression, &penalties, &context(1)), Ok(least.1), "{errors:?}");
    }

    #[test]
    fn the_error_by_hand() {
        let held_out = HeldOut {
            features: lacuna_sdk::ndarray::array![[1.0, 0.0], [0.5, 2.0]],
            levels: Levels { cells: vec![vec![(0, 1.0), (1, 3.0)], vec![(1, 4.0)]], genes: 2 },
        };
        let line = |intercept, weights| Line { intercept, weights };
        // Gene 1: 1 + 2 · 0.5 − 3 = −1; 1 + 2 · 2 − 4 = 1. Gene 0, where it is expressed: 0 − 1.
        let lines = [line(1.0, vec![(1, 2.0)]), line(-5.0, vec![(0, 1.0)])];
        assert_eq!(held_out.sum_of_errors(&[1, 0], &lines), 3.0);
        assert_eq!(held_out.sum_of_errors(&[1], &lines[..1]), 2.0);
    }
}
