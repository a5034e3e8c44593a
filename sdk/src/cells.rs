//! Cells, as a plugin sees and makes them.

use crate::{Error, Result, suggest};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use lacuna_abi::{
    ArrowPair, CellsApi, CellsApi_TO, CellsView, CsrRef, RNone, ROption, RSlice, RSome, RStr, RString, RVec,
    TD_Opaque,
};
use std::sync::Arc;

/// Names and annotations; hides whose they are.
trait Info: Send + Sync {
    fn cell_name(&self, i: usize) -> &str;
    fn gene_name(&self, j: usize) -> &str;
    fn obs(&self, name: &str) -> Option<ArrowPair>;
    fn var(&self, name: &str) -> Option<ArrowPair>;
}

impl Info for lacuna_abi::CellsRef<'_> {
    fn cell_name(&self, i: usize) -> &str {
        CellsApi_TO::cell_name(self, i).as_str()
    }
    fn gene_name(&self, j: usize) -> &str {
        CellsApi_TO::gene_name(self, j).as_str()
    }
    fn obs(&self, name: &str) -> Option<ArrowPair> {
        CellsApi_TO::obs(self, name.into()).into_option()
    }
    fn var(&self, name: &str) -> Option<ArrowPair> {
        CellsApi_TO::var(self, name.into()).into_option()
    }
}

/// Cells × genes, sparse. The pattern of a row is the cell's assemblage; the values are as read.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    csr: CsrRef<'a>,
    ids: &'a [u64],
    library: &'a [f64],
    info: &'a dyn Info,
}

impl<'a> Cells<'a> {
    /// The cells behind a view of the border, such as [`OwnedCells::to_view`].
    pub fn from_view<'v: 'a>(view: &'a CellsView<'v>) -> Self {
        Self { csr: view.csr, ids: view.ids.as_slice(), library: view.library.as_slice(), info: &view.info }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.csr.n_genes as usize
    }

    fn range(&self, cell: usize) -> std::ops::Range<usize> {
        let offsets = self.csr.offsets.as_slice();
        offsets[cell] as usize..offsets[cell + 1] as usize
    }

    /// The genes that a cell expresses, ascending.
    pub fn assemblage(&self, cell: usize) -> &'a [u32] {
        &self.csr.indices.as_slice()[self.range(cell)]
    }

    /// The values of the expressed genes, in the order of [`assemblage`](Self::assemblage).
    pub fn values(&self, cell: usize) -> &'a [f32] {
        &self.csr.values.as_slice()[self.range(cell)]
    }

    /// The cell's total over the genes at hand.
    pub fn total(&self, cell: usize) -> f64 {
        self.values(cell).iter().map(|&v| f64::from(v)).sum()
    }

    /// The shares of the expressed genes, in the order of [`assemblage`](Self::assemblage); they sum to 1.
    pub fn shares(&self, cell: usize) -> impl Iterator<Item = f32> + 'a {
        let total = self.total(cell);
        self.values(cell).iter().map(move |&v| (f64::from(v) / total) as f32)
    }

    /// Writes the cell's profile, shape (genes): shares that sum to 1, 0 for silent genes.
    ///
    /// # Panics
    /// When `out` has another length than there are genes.
    pub fn write_profile(&self, cell: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.n_genes());
        out.fill(0.0);
        self.assemblage(cell).iter().zip(self.shares(cell)).for_each(|(&j, p)| out[j as usize] = p);
    }

    /// The number the cell had where it was made: its row in the file, or in the simulated world.
    pub fn id(&self, cell: usize) -> u64 {
        self.ids[cell]
    }

    /// The cell's total before genes were chosen.
    pub fn library(&self, cell: usize) -> f64 {
        self.library[cell]
    }

    /// The cell's name.
    pub fn cell_name(&self, cell: usize) -> &'a str {
        self.info.cell_name(cell)
    }

    /// A gene's name.
    pub fn gene_name(&self, gene: usize) -> &'a str {
        self.info.gene_name(gene)
    }

    /// The names of all genes.
    pub fn gene_names(&self) -> Vec<String> {
        (0..self.n_genes()).map(|j| self.gene_name(j).to_string()).collect()
    }

    /// The columns of these genes. The error names the first unknown gene and suggests the nearest.
    pub fn find_genes<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<u32>> {
        let index: std::collections::HashMap<&str, u32> =
            (0..self.n_genes()).map(|j| (self.gene_name(j), j as u32)).collect();
        let find =
            |name: &S| index.get(name.as_ref()).copied().ok_or_else(|| self.unknown_gene(name.as_ref()));
        names.iter().map(find).collect()
    }

    fn unknown_gene(&self, name: &str) -> Error {
        let hint = suggest(name, (0..self.n_genes()).map(|j| self.gene_name(j)));
        let hint = hint.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
        Error::data(format!("no gene `{name}` among the {} genes{hint}", self.n_genes()))
    }

    /// An annotation of the cells, one entry a cell.
    pub fn obs(&self, name: &str) -> Option<Result<ArrayRef>> {
        Some(self.info.obs(name)?.into_array().map_err(|e| Error::data(format!("obs column `{name}`: {e}"))))
    }

    /// An annotation of the genes, one entry a gene.
    pub fn var(&self, name: &str) -> Option<Result<ArrayRef>> {
        Some(self.info.var(name)?.into_array().map_err(|e| Error::data(format!("var column `{name}`: {e}"))))
    }
}

/// Cells that a plugin makes. Built row by row; values of 0 or less are left out. (One that is not a number is
/// kept, so that the host refuses it.)
#[derive(Debug, Clone)]
pub struct OwnedCells {
    values: Vec<f32>,
    indices: Vec<u32>,
    offsets: Vec<u64>,
    ids: Vec<u64>,
    library: Vec<f64>,
    cell_names: Vec<String>,
    gene_names: Vec<String>,
    obs: Vec<(String, ArrayRef)>,
    var: Vec<(String, ArrayRef)>,
}

impl OwnedCells {
    /// No cells yet, with these genes.
    pub fn new(gene_names: Vec<String>) -> Self {
        Self {
            values: vec![],
            indices: vec![],
            offsets: vec![0],
            ids: vec![],
            library: vec![],
            cell_names: vec![],
            gene_names,
            obs: vec![],
            var: vec![],
        }
    }

    /// Adds a cell with these values, shape (genes). Its id is its row.
    ///
    /// # Panics
    /// When there is not one value for each gene.
    pub fn push(&mut self, name: impl Into<String>, values: &[f32]) {
        assert_eq!(values.len(), self.gene_names.len(), "one value for each gene");
        let mut total = 0.0;
        for (j, &value) in values.iter().enumerate().filter(|(_, v)| **v > 0.0 || v.is_nan()) {
            self.indices.push(j as u32);
            self.values.push(value);
            total += f64::from(value);
        }
        self.offsets.push(self.indices.len() as u64);
        self.ids.push(self.ids.len() as u64);
        self.library.push(total);
        self.cell_names.push(name.into());
    }

    /// Adds an annotation of the cells.
    pub fn with_obs(mut self, name: &str, column: ArrayRef) -> Self {
        self.obs.push((name.into(), column));
        self
    }

    /// Adds an annotation of the genes.
    pub fn with_var(mut self, name: &str, column: ArrayRef) -> Self {
        self.var.push((name.into(), column));
        self
    }

    /// The cells as a call hands them over; read them with [`Cells::from_view`].
    pub fn to_view(&self) -> CellsView<'_> {
        CellsView {
            csr: CsrRef {
                values: RSlice::from_slice(&self.values),
                indices: RSlice::from_slice(&self.indices),
                offsets: RSlice::from_slice(&self.offsets),
                n_genes: self.gene_names.len() as u64,
            },
            ids: RSlice::from_slice(&self.ids),
            library: RSlice::from_slice(&self.library),
            info: CellsApi_TO::from_ptr(self, TD_Opaque),
        }
    }
}

fn names(columns: &[(String, ArrayRef)]) -> RVec<RString> {
    columns.iter().map(|(name, _)| RString::from(name.as_str())).collect()
}

fn column(columns: &[(String, ArrayRef)], name: &str) -> ROption<ArrowPair> {
    let found = columns.iter().find(|(n, _)| n == name);
    match found.and_then(|(_, array)| ArrowPair::from_array(array).ok()) {
        Some(pair) => RSome(pair),
        None => RNone,
    }
}

impl CellsApi for OwnedCells {
    fn cell_name(&self, i: usize) -> RStr<'_> {
        self.cell_names.get(i).map_or("", String::as_str).into()
    }
    fn gene_name(&self, j: usize) -> RStr<'_> {
        self.gene_names.get(j).map_or("", String::as_str).into()
    }
    fn obs_names(&self) -> RVec<RString> {
        names(&self.obs)
    }
    fn obs(&self, name: RStr<'_>) -> ROption<ArrowPair> {
        column(&self.obs, name.as_str())
    }
    fn var_names(&self) -> RVec<RString> {
        names(&self.var)
    }
    fn var(&self, name: RStr<'_>) -> ROption<ArrowPair> {
        column(&self.var, name.as_str())
    }
}

/// A table of named columns of equal length.
pub fn table(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// The table in which a fitted model tells what it chose, by parameter: see [`Fitted::tables`](crate::Fitted::tables).
///
/// ```
/// # use lacuna_sdk::{chosen_table, prelude::*};
/// let (name, table) = chosen_table(&[("penalty", 0.02.to_json())])?;
/// assert_eq!((name.as_str(), table.num_rows()), ("chosen", 1));
/// # Ok::<(), Error>(())
/// ```
pub fn chosen_table(values: &[(&str, serde_json::Value)]) -> Result<(String, RecordBatch)> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(values.iter().map(|(name, _)| name)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(values.iter().map(|(_, v)| v.to_string())));
    Ok(("chosen".into(), table(vec![("parameter", names), ("value", texts)])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_cells() -> OwnedCells {
        let mut cells = OwnedCells::new(["Apoe", "Trem2", "Tyrobp"].map(String::from).to_vec());
        cells.push("c0", &[1.0, 0.0, 3.0]);
        cells.push("c1", &[0.0, 0.0, 0.0]);
        cells
    }

    #[test]
    fn the_pattern_is_the_assemblage_and_shares_sum_to_one() {
        let owned = two_cells();
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        assert_eq!((cells.len(), cells.n_genes()), (2, 3));
        assert_eq!(cells.assemblage(0), [0, 2]);
        let mut profile = [9.0; 3];
        cells.write_profile(0, &mut profile);
        assert_eq!(profile, [0.25, 0.0, 0.75]);
        cells.write_profile(1, &mut profile);
        assert_eq!(profile, [0.0; 3]);
    }

    #[test]
    fn a_value_that_is_not_a_number_is_not_taken_for_an_absent_gene() {
        let mut cells = OwnedCells::new(vec!["a".into(), "b".into(), "c".into()]);
        cells.push("c0", &[f32::NAN, -1.0, 2.0]);
        let values = cells.to_view().csr.values.to_vec();
        assert!(values[0].is_nan() && values[1..] == [2.0], "{values:?}");
    }

    #[test]
    fn an_unknown_gene_is_named_with_a_suggestion() {
        let owned = two_cells();
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        assert_eq!(cells.find_genes(&["Tyrobp", "Apoe"]), Ok(vec![2, 0]));
        let error = cells.find_genes(&["TREM2"]).unwrap_err();
        assert_eq!(error, Error::data("no gene `TREM2` among the 3 genes; did you mean `Trem2`?"));
    }
}
