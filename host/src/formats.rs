//! Files in and out: h5ad, 10x HDF5, 10x folders and text tables, told apart by content.
//!
//! [`detect`] says what a file is, [`look`] what is in it, [`load`] reads it as [`Cells`]; [`h5ad::H5ad`] reads a
//! file larger than memory some cells at a time, and [`h5ad::write`] writes. Values, names and annotations come as
//! they are in the file: repeated names, NaN and the like are for the caller to judge.

mod detect;
mod features;
pub mod h5ad;
mod hdf5;
pub mod mtx;
mod sparse;
pub mod table;
pub mod tenx;
mod text;
mod values;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::data::{CellSet, Cells, Frame};
pub use detect::{Format, detect};
pub use h5ad::H5ad;
pub use table::Orientation;
pub use text::read_all as read_text;
pub use values::{ValueKind, ValueScan, ValueSummary, sample_rows};

/// Most cells that [`look`] reads of each matrix.
const SAMPLE: usize = 2000;

/// What the caller may state about a file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `X` (default), `layers/NAME` or `raw/X`, of an h5ad file.
    pub matrix: Option<String>,
    /// Names of the genes of a table of numbers only.
    pub gene_names: Option<PathBuf>,
    /// Which way a table stands, where it is not as [`table::read`] takes it.
    pub orientation: Option<Orientation>,
}

/// Cells as read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Values, names and annotations, as they are in the file.
    pub cells: Cells,
    /// What was left out or taken otherwise, in words.
    pub warnings: Vec<String>,
    /// Whether the file names its cells and genes; only a table of numbers does not.
    pub named: bool,
}

impl Loaded {
    fn new(cells: Cells, warnings: Vec<String>) -> Self {
        Self { cells, warnings, named: true }
    }
}

/// How a matrix is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// By rows: some cells can be read alone.
    Csr,
    /// By columns.
    Csc,
    /// All values.
    Dense,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csr => "sparse by cells (csr)",
            Self::Csc => "sparse by genes (csc)",
            Self::Dense => "dense",
        })
    }
}

/// A matrix of a file, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixInfo {
    /// `X`, `layers/NAME` or `raw/X`.
    pub name: String,
    /// How it is stored.
    pub encoding: Encoding,
    /// Number of rows.
    pub n_cells: u64,
    /// Number of columns.
    pub n_genes: u64,
    /// Number of stored values, if it is sparse.
    pub stored: Option<u64>,
}

/// What is in a file.
#[derive(Debug, Clone)]
pub struct Look {
    /// What the file is.
    pub format: Format,
    /// The cells' names and annotations.
    pub obs: Frame,
    /// The genes' names and annotations.
    pub var: Frame,
    /// Each matrix, and a summary of up to 2,000 of its cells, spread over the file; or why it can't be read.
    pub matrices: Vec<(MatrixInfo, Result<ValueSummary, String>)>,
    /// What can't be read, in words.
    pub warnings: Vec<String>,
}

/// Reads a file or folder of any format.
///
/// # Errors
/// When it is none of the formats, is damaged, or the options do not apply to it.
pub fn load(path: &Path, options: &Options) -> Result<Loaded> {
    let format = detect(path)?;
    check_options(path, format, options)?;
    match format {
        Format::H5ad => {
            let file = H5ad::open(path)?;
            let cells = file.cells(options.matrix.as_deref().unwrap_or("X"))?;
            Ok(Loaded::new(cells, file.warnings().to_vec()))
        }
        Format::TenxHdf5 => tenx::read(path),
        Format::TenxFolder => mtx::read(path),
        Format::Table => table::read(path, options.orientation, options.gene_names.as_deref()),
    }
}

/// Cells whose values may still be in the file.
pub struct Opened {
    /// Names and annotations, and the values, wherever they are; library sizes only where these are held.
    pub cells: CellSet,
    /// See [`Loaded::warnings`].
    pub warnings: Vec<String>,
    /// See [`Loaded::named`].
    pub named: bool,
}

/// What a reader may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes that a matrix may take to be read whole.
    pub matrix: u64,
    /// Bytes that are read at once of one that stays in its file.
    pub block: u64,
}

/// As [`load`], but a large matrix of an h5ad file that is stored by rows, or dense, stays where it is.
///
/// # Errors
/// As [`load`].
pub fn open(path: &Path, options: &Options, limits: Limits) -> Result<Opened> {
    if detect(path)? == Format::H5ad {
        check_options(path, Format::H5ad, options)?;
        let (file, matrix) = (H5ad::open(path)?, options.matrix.as_deref().unwrap_or("X"));
        let warnings = file.warnings().to_vec();
        if file.can_stay(matrix) && file.size(matrix)? > limits.matrix {
            let cells = file.stored(matrix, limits.block)?.into();
            return Ok(Opened { cells, warnings, named: true });
        }
        return Ok(Opened { cells: file.cells(matrix)?.into(), warnings, named: true });
    }
    let Loaded { cells, warnings, named } = load(path, options)?;
    Ok(Opened { cells: cells.into(), warnings, named })
}

/// An option that would change nothing is refused: it was meant to.
fn check_options(path: &Path, format: Format, options: &Options) -> Result<()> {
    let stated = options.matrix.as_deref().filter(|name| *name != "X");
    if let (Some(name), false) = (stated, format == Format::H5ad) {
        bail!("{}: a {format} has one matrix, not {name}", path.display());
    }
    let about_tables = options.gene_names.is_some() || options.orientation.is_some();
    ensure!(
        format == Format::Table || !about_tables,
        "{}: gene names and orientation are for text tables, this is a {format}",
        path.display()
    );
    Ok(())
}

/// Looks into a file or folder of any format.
///
/// # Errors
/// When it is none of the formats or is damaged.
pub fn look(path: &Path, options: &Options) -> Result<Look> {
    let format = detect(path)?;
    if format == Format::H5ad {
        return look_h5ad(&H5ad::open(path)?);
    }
    let loaded = load(path, options)?;
    let (n_cells, n_genes) = (loaded.cells.len() as u64, loaded.cells.n_genes() as u64);
    let (encoding, stored) = match format {
        Format::Table => (Encoding::Dense, None),
        _ => (Encoding::Csr, Some(loaded.cells.x.nnz() as u64)),
    };
    let info = MatrixInfo { name: "X".into(), encoding, n_cells, n_genes, stored };
    let Cells { x, obs, var, .. } = loaded.cells;
    let values = ValueSummary::of(&x);
    Ok(Look { format, obs, var, matrices: vec![(info, Ok(values))], warnings: loaded.warnings })
}

fn look_h5ad(file: &H5ad) -> Result<Look> {
    let summary = |info: &MatrixInfo| {
        let values = file.sample(&info.name, SAMPLE).map(|x| ValueSummary::of(&x));
        (info.clone(), values.map_err(|problem| format!("{problem:#}")))
    };
    Ok(Look {
        format: Format::H5ad,
        obs: file.obs().clone(),
        var: file.var().clone(),
        matrices: file.matrices().iter().map(summary).collect(),
        warnings: file.warnings().to_vec(),
    })
}
