//! Cells and knockouts on their way across the border: the host's lent to a plugin, a plugin's copied and checked.

use crate::data::{Cells, Column, Csr, Frame, Knockouts};
use anyhow::{Result, bail, ensure};
use arrow_array::ArrayRef;
use lacuna_abi::{
    ArrowPair, CellsApi, CellsApi_TO, CellsView, CsrRef, KnockoutsRef, ROption, RSlice, RStr, RString, RVec,
    TD_Opaque,
};
use std::collections::HashSet;

impl CellsApi for Cells {
    fn cell_name(&self, i: usize) -> RStr<'_> {
        self.obs.names.get(i).map_or("", String::as_str).into()
    }
    fn gene_name(&self, j: usize) -> RStr<'_> {
        self.var.names.get(j).map_or("", String::as_str).into()
    }
    fn obs_names(&self) -> RVec<RString> {
        names(&self.obs)
    }
    fn obs(&self, name: RStr<'_>) -> ROption<ArrowPair> {
        exported(&self.obs, name.as_str())
    }
    fn var_names(&self) -> RVec<RString> {
        names(&self.var)
    }
    fn var(&self, name: RStr<'_>) -> ROption<ArrowPair> {
        exported(&self.var, name.as_str())
    }
}

fn names(frame: &Frame) -> RVec<RString> {
    frame.columns.iter().map(|c| RString::from(c.name.as_str())).collect()
}

fn exported(frame: &Frame, name: &str) -> ROption<ArrowPair> {
    frame.column(name).and_then(|c| ArrowPair::from_array(&c.values).ok()).into()
}

/// Cells as a call hands them over; nothing is copied.
pub fn cells_view(cells: &Cells) -> CellsView<'_> {
    CellsView {
        csr: CsrRef {
            values: RSlice::from_slice(&cells.x.values),
            indices: RSlice::from_slice(&cells.x.indices),
            offsets: RSlice::from_slice(&cells.x.offsets),
            n_genes: cells.n_genes() as u64,
        },
        ids: RSlice::from_slice(&cells.ids),
        library: RSlice::from_slice(&cells.library),
        info: CellsApi_TO::from_ptr(cells, TD_Opaque),
    }
}

/// Knockouts as a call hands them over.
pub fn knockouts_ref(k: &Knockouts) -> KnockoutsRef<'_> {
    KnockoutsRef {
        cell: RSlice::from_slice(&k.cell),
        offsets: RSlice::from_slice(&k.offsets),
        genes: RSlice::from_slice(&k.genes),
        levels: RSlice::from_slice(&k.levels),
    }
}

/// Cells that a plugin made, copied and checked.
pub fn copy_cells(view: &CellsView<'_>) -> Result<Cells> {
    let csr = &view.csr;
    let x = Csr::from_parts(
        csr.values.to_vec(),
        csr.indices.to_vec(),
        csr.offsets.to_vec(),
        csr.n_genes as usize,
    )?;
    ensure!(
        view.ids.len() == x.n_rows() && view.library.len() == x.n_rows(),
        "{} cells, but {} ids and {} library sizes",
        x.n_rows(),
        view.ids.len(),
        view.library.len()
    );
    let info = &view.info;
    let obs = copy_frame(("cell", x.n_rows()), |i| info.cell_name(i), info.obs_names(), |n| info.obs(n))?;
    let var = copy_frame(("gene", x.n_cols), |j| info.gene_name(j), info.var_names(), |n| info.var(n))?;
    let cells = Cells { x, obs, var, ids: view.ids.to_vec(), library: view.library.to_vec(), measured: None };
    check_values(&cells)?;
    Ok(cells)
}

fn check_values(cells: &Cells) -> Result<()> {
    for i in 0..cells.len() {
        let (genes, values) = cells.x.row(i);
        if let Some(at) = values.iter().position(|v| !v.is_finite() || *v < 0.0) {
            let (cell, gene) = (&cells.obs.names[i], &cells.var.names[genes[at] as usize]);
            bail!("expected values of 0 or more, found {} for gene {gene} in cell {cell}", values[at]);
        }
    }
    Ok(())
}

fn copy_frame<'a>(
    (row, rows): (&str, usize),
    name: impl Fn(usize) -> RStr<'a>,
    columns: RVec<RString>,
    column: impl Fn(RStr<'_>) -> ROption<ArrowPair>,
) -> Result<Frame> {
    let mut frame = Frame::of_names((0..rows).map(|i| name(i).as_str().to_string()).collect());
    let mut seen = HashSet::new();
    for (i, name) in frame.names.iter().enumerate() {
        ensure!(!name.is_empty(), "{row} number {} has no name", i + 1);
        ensure!(seen.insert(name), "two {row}s are named `{name}`");
    }
    for key in columns {
        let Some(pair) = column(key.as_str().into()).into_option() else { continue };
        let values: ArrayRef = pair.into_array().map_err(|e| anyhow::anyhow!("column {key}: {e}"))?;
        ensure!(values.len() == rows, "column {key} has {} entries for {rows} rows", values.len());
        frame.columns.push(Column { name: key.into(), values, ordered: false });
    }
    Ok(frame)
}
