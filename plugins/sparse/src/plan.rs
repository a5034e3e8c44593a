//! What both models learn from.

use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::Genes;

/// The cells of a fit.
pub struct Plan<'t, 'c> {
    pub genes: Genes,
    pub train: &'t Cells<'c>,
    /// The cells that choose, if there are any.
    pub validation: Option<&'t Cells<'c>>,
}

impl<'t, 'c> Plan<'t, 'c> {
    /// Checks that all cells have the same genes.
    pub fn of(training: &'t Training<'c>) -> Result<Self> {
        let genes = Genes::of(&training.cells)?;
        let validation = training.validation.as_ref().filter(|cells| !cells.is_empty());
        validation.map_or(Ok(()), |cells| genes.check(cells))?;
        Ok(Self { genes, train: &training.cells, validation })
    }

    /// The cells to learn from, once all is chosen: with `refit` also those that chose.
    pub fn sets(&self, refit: bool) -> Vec<&'t Cells<'c>> {
        [self.train].into_iter().chain(self.validation.filter(|_| refit)).collect()
    }
}
