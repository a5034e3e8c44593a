//! What both models learn from, and under which penalty.

use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::Genes;

/// The penalty where there are no validation cells: best on the reference's synthetic cells.
const PENALTY: f64 = 0.02;

/// A fit that is about to be made.
pub struct Plan<'t, 'c> {
    pub genes: Genes,
    pub penalty: f64,
    /// The cells to learn from.
    pub sets: Vec<&'t Cells<'c>>,
}

impl<'t, 'c> Plan<'t, 'c> {
    /// With this penalty, or the one that `choose` finds by learning from the first cells and judging on the second.
    /// With `refit` these are then learned from too.
    pub fn of(
        training: &'t Training<'c>,
        penalty: Option<f64>,
        refit: bool,
        choose: impl Fn(&Cells<'c>, &Cells<'c>) -> Result<f64>,
    ) -> Result<Self> {
        let genes = Genes::of(&training.cells)?;
        let validation = training.validation.as_ref().filter(|cells| !cells.is_empty());
        validation.map_or(Ok(()), |cells| genes.check(cells))?;
        let penalty = match (penalty, validation) {
            (Some(penalty), _) => penalty,
            (None, Some(validation)) => choose(&training.cells, validation)?,
            (None, None) => PENALTY,
        };
        let mut sets = vec![&training.cells];
        sets.extend(validation.filter(|_| refit));
        Ok(Self { genes, penalty, sets })
    }
}

/// The penalty before the error first rises: weaker ones take longest, and are not tried.
pub fn descend(penalties: &[f64], error: impl Fn(f64) -> Result<f64>) -> Result<f64> {
    let (mut best, mut least) = (penalties[0], error(penalties[0])?);
    for &penalty in &penalties[1..] {
        let next = error(penalty)?;
        if next >= least {
            break;
        }
        (best, least) = (penalty, next);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descent_ends_where_the_error_rises() {
        let fit = |penalty: f64| match penalty {
            p if p < 0.1 => Err(Error::data("this takes too long")),
            p => Ok((p - 2.0).abs()),
        };
        assert_eq!(descend(&[8.0, 4.0, 2.0, 1.0, 0.01], fit), Ok(2.0));
        assert_eq!(descend(&[8.0], fit), Ok(8.0));
    }
}
