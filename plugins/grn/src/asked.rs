//! What is asked of a simulated world: the genes and cells that a query names, and its rows, cell by cell.

use lacuna_sdk::ndarray::{ArrayViewMut2, Axis};
use lacuna_sdk::prelude::*;
use lacuna_sdk::{suggest, tracing};
use std::collections::HashMap;
use std::ops::Range;

/// Rows of one cell that are answered together. Only the first of them may have to find the steady state.
const ROWS: usize = 64;
/// The highest level that a gene can be given.
const MOST_LEVEL: f32 = 1e6;

/// The genes and cells of a simulated world, as queries name them.
pub struct Roster {
    number: HashMap<String, u32>,
    genes: Vec<String>,
    cells: usize,
}

impl Roster {
    /// Of a world with these genes and so many cells.
    pub fn new(genes: &[String], cells: usize) -> Self {
        Self { number: genes.iter().cloned().zip(0..).collect(), genes: genes.to_vec(), cells }
    }

    /// Answers a query piece by piece, on all threads: `of_cell` gets a cell of the world and some of its rows,
    /// which it fills; it answers how many of them did not settle.
    pub fn answer(
        &self,
        query: &Query<'_>,
        answer: &mut AnswerMut<'_>,
        cx: &Context,
        of_cell: impl Fn(usize, &mut Rows<'_>) -> Result<usize> + Sync,
    ) -> Result<()> {
        let genes = self.find_genes(&query.cells)?;
        let mut pieces = cut(query, answer.values.view_mut())?;
        cx.parallel_chunks(&mut pieces, 1, |_, piece| {
            let Piece { cell, rows, values, unsettled } = &mut piece[0];
            *unsettled = cx.check().and_then(|()| {
                let cell = self.find_cell(&query.cells, *cell)?;
                let (rows, values, world) = (rows.clone(), values.view_mut(), self.genes.len());
                of_cell(cell, &mut Rows { query, genes: &genes, rows, values, world })
            });
        });
        let unsettled = pieces.into_iter().map(|piece| piece.unsettled).sum::<Result<usize>>()?;
        if unsettled > 0 {
            let knockouts = query.knockouts.len();
            tracing::warn!(
                "{unsettled} of {knockouts} knockouts did not settle: their last state is the answer"
            );
        }
        if let Some(spread) = &mut answer.spread {
            spread.fill(0.0);
        }
        Ok(())
    }

    /// The gene of the world for each gene of a query.
    fn find_genes(&self, cells: &Cells<'_>) -> Result<Vec<u32>> {
        let find = |j| {
            let name = cells.gene_name(j);
            self.number.get(name).copied().ok_or_else(|| self.unknown_gene(name))
        };
        (0..cells.n_genes()).map(find).collect()
    }

    fn unknown_gene(&self, name: &str) -> Error {
        let hint = suggest(name, self.genes.iter().map(String::as_str));
        let hint = hint.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
        let genes = self.genes.len();
        Error::data(format!("no gene `{name}` among the {genes} genes of the simulated world{hint}"))
    }

    /// The cell of the world that a row of the query's cells is.
    fn find_cell(&self, cells: &Cells<'_>, cell: usize) -> Result<usize> {
        if cell >= cells.len() {
            return Err(Error::data(format!("a knockout in cell {cell} of {}", cells.len())));
        }
        let id = cells.id(cell);
        usize::try_from(id).ok().filter(|&id| id < self.cells).ok_or_else(|| {
            let (name, cells) = (cells.cell_name(cell), self.cells);
            Error::data(format!("cell `{name}` has the id {id}, but the simulated world has {cells} cells"))
        })
    }
}

/// Rows of one cell, and where their answers go.
struct Piece<'a> {
    cell: usize,
    rows: Range<usize>,
    values: ArrayViewMut2<'a, f32>,
    unsettled: Result<usize>,
}

/// Cuts a query into pieces that do not share any answer.
fn cut<'a>(query: &Query<'_>, mut values: ArrayViewMut2<'a, f32>) -> Result<Vec<Piece<'a>>> {
    let expected = (query.knockouts.len() * query.samples, query.cells.n_genes());
    if values.dim() != expected {
        return Err(Error::failed(format!(
            "expected an answer of shape {expected:?}, found {:?}",
            values.dim()
        )));
    }
    if let Some(row) = (0..query.knockouts.len()).find(|&i| query.knockouts.get(i).cell.is_none()) {
        return Err(Error::data(format!("the truth answers for cells, but knockout {row} names none")));
    }
    let mut pieces = vec![];
    for (cell, run) in query.knockouts.by_cell() {
        for begin in run.clone().step_by(ROWS) {
            let rows = begin..run.end.min(begin + ROWS);
            let (own, rest) = values.split_at(Axis(0), rows.len() * query.samples);
            pieces.push(Piece { cell, rows, values: own, unsettled: Ok(0) });
            values = rest;
        }
    }
    Ok(pieces)
}

/// Rows of one cell that are to be filled.
pub struct Rows<'a> {
    query: &'a Query<'a>,
    /// The gene of the world for each gene of the query.
    genes: &'a [u32],
    rows: Range<usize>,
    values: ArrayViewMut2<'a, f32>,
    /// Number of genes of the world.
    world: usize,
}

impl Rows<'_> {
    /// Fills each row: `perturb` gets the genes of the world that change, with their levels, and writes what is
    /// reported of all genes of the world; it answers whether the cell settled. Answers how many did not.
    pub fn fill(&mut self, mut perturb: impl FnMut(&[(u32, f64)], &mut [f32]) -> bool) -> Result<usize> {
        let mut reported = vec![0.0; self.world];
        let mut unsettled = 0;
        for (k, row) in self.rows.clone().enumerate() {
            let changes = self.changes(self.query.knockouts.get(row))?;
            unsettled += usize::from(!perturb(&changes, &mut reported));
            for sample in 0..self.query.samples {
                let out = self.values.row_mut(k * self.query.samples + sample);
                out.into_iter().zip(self.genes).for_each(|(out, &gene)| *out = reported[gene as usize]);
            }
        }
        Ok(unsettled)
    }

    /// The genes of a knockout, as genes of the world, with their levels.
    fn changes(&self, knockout: Knockout<'_>) -> Result<Vec<(u32, f64)>> {
        let change = |(&gene, &level): (&u32, &f32)| {
            let Some(&of_world) = self.genes.get(gene as usize) else {
                return Err(Error::data(format!("a knockout of gene {gene} of {}", self.genes.len())));
            };
            match (0.0..=MOST_LEVEL).contains(&level) {
                true => Ok((of_world, f64::from(level))),
                false => Err(Error::data(format!(
                    "the level of a gene: expected 0 to {MOST_LEVEL}, found {level}"
                ))),
            }
        };
        knockout.genes.iter().zip(knockout.levels).map(change).collect()
    }
}
