//! Cells × genes with names, annotations and origin.

use super::{Csr, Frame, Measured};

/// Cells: counts or profiles as read, and what is known of each cell and gene.
#[derive(Debug, Clone)]
pub struct Cells {
    /// Cells × genes; the pattern is the assemblage.
    pub x: Csr,
    /// The cells' names and annotations.
    pub obs: Frame,
    /// The genes' names and annotations.
    pub var: Frame,
    /// The row of each cell where it was made: in the file, or in the simulated world.
    pub ids: Vec<u64>,
    /// Each cell's total before genes were chosen.
    pub library: Vec<f64>,
    /// Which perturbation each cell had, where that is known.
    pub measured: Option<Measured>,
}

impl Cells {
    /// Cells as read: each cell's id is its row, its library size its total.
    pub fn new(x: Csr, obs: Frame, var: Frame) -> Self {
        let library = (0..x.n_rows()).map(|i| x.row_sum(i)).collect();
        let ids = (0..x.n_rows() as u64).collect();
        Self { x, obs, var, ids, library, measured: None }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.x.n_rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.x.n_cols
    }

    /// These cells, in this order.
    pub fn select_cells(&self, rows: &[usize]) -> Self {
        Self {
            x: self.x.select_rows(rows),
            obs: self.obs.select(rows),
            var: self.var.clone(),
            ids: rows.iter().map(|&i| self.ids[i]).collect(),
            library: rows.iter().map(|&i| self.library[i]).collect(),
            measured: self.measured.as_ref().map(|m| m.select(rows)),
        }
    }

    /// These genes, ascending. Library sizes stay.
    pub fn select_genes(&self, genes: &[usize]) -> Self {
        Self { x: self.x.select_cols(genes), var: self.var.select(genes), ..self.clone() }
    }

    /// Writes a cell's profile, shape (genes): shares that sum to 1; all 0 for a cell without counts.
    pub fn write_profile(&self, cell: usize, out: &mut [f32]) {
        out.fill(0.0);
        let total = self.x.row_sum(cell);
        let (genes, values) = self.x.row(cell);
        for (&j, &v) in genes.iter().zip(values) {
            out[j as usize] = (f64::from(v) / total) as f32;
        }
    }
}
