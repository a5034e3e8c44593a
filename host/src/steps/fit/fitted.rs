//! A fitted model as steps use it: with its genes, and with the others of its ensemble.

use super::familiar::Familiar;
use super::refits::Refits;
use crate::data::{CellSet, Cells, Knockouts};
use crate::plugin::{Fitted, Services};
use anyhow::{Result, ensure};
use std::collections::HashMap;
use std::sync::Arc;

/// A fitted model, or a simulator's truth.
pub struct FittedModel {
    /// The model; the first of an ensemble.
    pub fitted: Fitted,
    /// The others of an ensemble, which answer with it.
    pub others: Vec<Fitted>,
    /// The genes it was trained on; none for a truth, which finds genes by name itself.
    pub genes: Option<Vec<String>>,
    /// What the cells are like that it was trained on.
    pub familiar: Option<Familiar>,
    /// Its refits, if it was a step that fitted it.
    pub refits: Option<Refits>,
}

impl FittedModel {
    /// One without anything around it.
    pub fn of(fitted: Fitted, genes: Option<Vec<String>>) -> Self {
        Self { fitted, others: vec![], genes, familiar: None, refits: None }
    }

    /// The model, or all of an ensemble.
    pub fn members(&self) -> impl Iterator<Item = &Fitted> {
        std::iter::once(&self.fitted).chain(&self.others)
    }

    /// See [`Fitted::predict`]; of an ensemble the mean.
    pub fn predict(
        &self,
        host: &Services,
        cells: &Cells,
        knockouts: &Knockouts,
        out: &mut [f32],
    ) -> Result<()> {
        self.mean(out, |member, out| member.predict(host, cells, knockouts, out))
    }

    /// See [`Fitted::logs`]; of an ensemble the mean.
    pub fn logs(&self, host: &Services, cells: &Cells, knockouts: &Knockouts, out: &mut [f32]) -> Result<()> {
        self.mean(out, |member, out| member.logs(host, cells, knockouts, out))
    }

    /// See [`Fitted::predict_with_spread`]; of an ensemble the mean, and the mean spread.
    pub fn predict_with_spread(
        &self,
        host: &Services,
        cells: &Cells,
        knockouts: &Knockouts,
        (out, spread): (&mut [f32], &mut [f32]),
    ) -> Result<()> {
        let rows = out.len();
        let mut both = vec![f32::NAN; 2 * rows];
        self.mean(&mut both, |member, both| {
            let halves = both.split_at_mut(rows);
            member.predict_with_spread(host, cells, knockouts, halves)
        })?;
        out.copy_from_slice(&both[..rows]);
        spread.copy_from_slice(&both[rows..]);
        Ok(())
    }

    /// The mean of what all members write, in their order.
    fn mean(&self, out: &mut [f32], ask: impl Fn(&Fitted, &mut [f32]) -> Result<()>) -> Result<()> {
        ask(&self.fitted, out)?;
        if self.others.is_empty() {
            return Ok(());
        }
        let mut further = vec![f32::NAN; out.len()];
        for member in &self.others {
            ask(member, &mut further)?;
            out.iter_mut().zip(&further).for_each(|(sum, x)| *sum += x);
        }
        let members = (self.others.len() + 1) as f32;
        out.iter_mut().for_each(|sum| *sum /= members);
        Ok(())
    }

    /// The cells with the model's genes, in the model's order. Genes that the cells lack are silent.
    ///
    /// # Errors
    /// When the cells have less than half of the model's genes.
    pub fn align(&self, cells: CellSet, services: &Services) -> Result<CellSet> {
        let Some(genes) = self.genes.as_ref().filter(|genes| **genes != cells.var().names) else {
            return Ok(cells);
        };
        let column: HashMap<&str, u32> =
            genes.iter().enumerate().map(|(j, g)| (g.as_str(), j as u32)).collect();
        let target: Vec<Option<u32>> =
            cells.var().names.iter().map(|g| column.get(g.as_str()).copied()).collect();
        let found = target.iter().flatten().count();
        ensure!(
            2 * found >= genes.len(),
            "the cells have {found} of the {} genes that the model was trained on",
            genes.len()
        );
        if found < genes.len() {
            let missing = genes.len() - found;
            services.warn(format!(
                "{missing} of the model's {} genes are not in the cells: taken as silent",
                genes.len()
            ));
        }
        let mut source = vec![None; genes.len()];
        target.iter().enumerate().for_each(|(j, t)| t.iter().for_each(|&t| source[t as usize] = Some(j)));
        let var = cells.var().rows(genes.clone(), &source);
        Ok(cells.place_genes(target, var))
    }

    /// The same of cells in memory.
    ///
    /// # Errors
    /// As [`align`](Self::align).
    pub fn align_held(&self, cells: Arc<Cells>, services: &Services) -> Result<Arc<Cells>> {
        self.align(CellSet::Held(cells), services)?.load()
    }
}
