//! Reading h5ad files, as anndata 0.7 to 0.12 write them.

mod frame;
mod write;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use hdf5_pure::AttrValue;

use super::hdf5::Hdf5;
use super::sparse::{Axes, Matrix};
use super::{Encoding, MatrixInfo, sample_rows};
use crate::data::{Cells, Csr, Frame, RowSource, Stored};

pub use write::write;

/// An open h5ad file: annotations are held, matrices are read on demand, whole or a range of cells at a time.
pub struct H5ad {
    path: PathBuf,
    file: Hdf5,
    obs: Frame,
    var: Frame,
    raw_var: Option<Frame>,
    matrices: Vec<MatrixInfo>,
    /// Names of the matrices that can't be read, and why.
    unreadable: Vec<(String, String)>,
    opened: Mutex<HashMap<String, Arc<Matrix>>>,
    warnings: Vec<String>,
}

impl H5ad {
    /// Opens a file and reads obs, var and what there is to know of each matrix, but no values.
    ///
    /// Columns and layers that can't be read become [warnings](Self::warnings).
    ///
    /// # Errors
    /// When it is no h5ad file, is damaged, or the names of its cells or genes can't be read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_parts(path).with_context(|| path.display().to_string())
    }

    fn open_parts(path: &Path) -> Result<Self> {
        let file = Hdf5::open(path)?;
        let mut warnings = vec![];
        let obs = frame::read(&file, "obs", &mut warnings)?;
        let var = frame::read(&file, "var", &mut warnings)?;
        let raw_var = match file.has_group("raw/var") {
            true => Some(frame::read(&file, "raw/var", &mut warnings)?),
            false => None,
        };
        let (matrices, unreadable) = find_matrices(&file);
        warnings.extend(unreadable.iter().map(|(name, problem)| format!("{name} can't be read: {problem}")));
        Ok(Self {
            path: path.into(),
            file,
            obs,
            var,
            raw_var,
            matrices,
            unreadable,
            opened: Default::default(),
            warnings,
        })
    }

    /// The matrices that can be read, in the order X, layers by name, raw/X.
    pub fn matrices(&self) -> &[MatrixInfo] {
        &self.matrices
    }

    /// The cells' names and annotations.
    pub fn obs(&self) -> &Frame {
        &self.obs
    }

    /// The names and annotations of the genes of X and of the layers.
    pub fn var(&self) -> &Frame {
        &self.var
    }

    /// The names and annotations of the genes of raw/X.
    pub fn raw_var(&self) -> Option<&Frame> {
        self.raw_var.as_ref()
    }

    /// What could not be read, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The genes that are the columns of a matrix.
    pub fn genes_of(&self, matrix: &str) -> &Frame {
        match (&self.raw_var, matrix) {
            (Some(raw), "raw/X") => raw,
            _ => &self.var,
        }
    }

    /// Reads a matrix, cells × genes; what is stored as 0 is left out.
    ///
    /// # Errors
    /// When there is no such matrix, its shape is not that of obs and var, or it is damaged.
    pub fn read(&self, matrix: &str) -> Result<Csr> {
        self.read_rows(matrix, 0..self.obs.len())
    }

    /// Reads some cells of a matrix: nothing but these cells is read where the matrix is stored by rows (`csr`) or
    /// dense. A `csc` matrix is stored by genes: each call streams it from end to end, its indices twice, and only
    /// these cells are held. Several threads may read at once.
    ///
    /// # Errors
    /// As [`read`](Self::read), and when there are no such cells.
    pub fn read_rows(&self, matrix: &str, rows: Range<usize>) -> Result<Csr> {
        self.rows_of(matrix, &[rows]).with_context(|| format!("{}: {matrix}", self.path.display()))
    }

    /// Reads up to `limit` cells that stand for a matrix, in blocks spread over the file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn sample(&self, matrix: &str, limit: usize) -> Result<Csr> {
        let blocks = sample_rows(self.obs.len(), limit);
        self.rows_of(matrix, &blocks).with_context(|| format!("{}: {matrix}", self.path.display()))
    }

    fn rows_of(&self, matrix: &str, blocks: &[Range<usize>]) -> Result<Csr> {
        let opened = self.checked(matrix)?;
        let cells = self.obs.len();
        if let Some(rows) = blocks.iter().find(|rows| rows.start > rows.end || rows.end > cells) {
            bail!("there are no cells {rows:?}: the file has {cells}");
        }
        opened.rows(blocks)
    }

    /// A matrix of the shape that obs and var ask for.
    fn checked(&self, matrix: &str) -> Result<Arc<Matrix>> {
        let info = self.info(matrix)?;
        let (cells, genes) = (self.obs.len(), self.genes_of(matrix).len());
        ensure!(
            (info.n_cells, info.n_genes) == (cells as u64, genes as u64),
            "it is {} × {}, but obs names {cells} cells and var {genes} genes",
            info.n_cells,
            info.n_genes
        );
        self.matrix(info, Axes { rows: cells, cols: genes })
    }

    /// Whether some rows of a matrix can be read without reading all.
    pub fn can_stay(&self, matrix: &str) -> bool {
        self.info(matrix).is_ok_and(|info| info.encoding != Encoding::Csc)
    }

    /// How many bytes a matrix takes in memory, at most.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn size(&self, matrix: &str) -> Result<u64> {
        let opened = self.checked(matrix).with_context(|| format!("{}: {matrix}", self.path.display()))?;
        Ok(opened.size(0..self.obs.len()).saturating_mul(8))
    }

    /// A matrix that stays in the file, with the cells and genes it belongs to; it is read in blocks of so many bytes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn stored(self, matrix: &str, block: u64) -> Result<Stored> {
        let place = format!("{}: {matrix}", self.path.display());
        let opened = self.checked(matrix).with_context(|| place.clone())?;
        let var = self.genes_of(matrix).clone();
        let (stamp, path) = (stamp(&self.path), self.path);
        Ok(Stored::new(Arc::new(Rows { place, path, stamp, opened }), self.obs, var, block))
    }

    /// A matrix stays open: of a large one, finding the chunks takes longer than reading some cells.
    fn matrix(&self, info: &MatrixInfo, axes: Axes) -> Result<Arc<Matrix>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = opened.get(&info.name) {
            return Ok(matrix.clone());
        }
        let matrix = Arc::new(Matrix::open(&self.file, &info.name, info.encoding, axes)?);
        opened.insert(info.name.clone(), matrix.clone());
        Ok(matrix)
    }

    fn info(&self, matrix: &str) -> Result<&MatrixInfo> {
        if let Some(info) = self.matrices.iter().find(|m| m.name == matrix) {
            return Ok(info);
        }
        if let Some((_, problem)) = self.unreadable.iter().find(|(name, _)| name == matrix) {
            bail!("{problem}");
        }
        let names: Vec<_> = self.matrices.iter().map(|m| m.name.as_str()).collect();
        match names.is_empty() {
            true => bail!("the file has no matrix that can be read"),
            false => bail!("the file has no such matrix; it has {}", names.join(", ")),
        }
    }

    /// Reads a matrix with the cells and genes it belongs to. Repeated names are left as they are.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn cells(&self, matrix: &str) -> Result<Cells> {
        let x = self.read(matrix)?;
        Ok(Cells::new(x, self.obs.clone(), self.genes_of(matrix).clone()))
    }
}

/// The rows of a matrix, read on demand.
struct Rows {
    /// File and matrix, for errors.
    place: String,
    path: PathBuf,
    /// Length and time of the file when it was opened.
    stamp: Option<(u64, SystemTime)>,
    opened: Arc<Matrix>,
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let file = path.metadata().ok()?;
    Some((file.len(), file.modified().ok()?))
}

impl RowSource for Rows {
    fn read(&self, rows: Range<usize>) -> Result<Csr> {
        let read = self.opened.rows(&[rows]).with_context(|| self.place.clone());
        // Results of a file that is of two minds would be kept as if they were of one.
        ensure!(
            stamp(&self.path) == self.stamp,
            "{} was changed while it was read: run this again when it is finished",
            self.path.display()
        );
        read
    }

    fn size(&self, rows: Range<usize>) -> u64 {
        self.opened.size(rows)
    }
}

/// X, the layers and raw/X; and those that can't be read, with the reason: the others still can.
fn find_matrices(file: &Hdf5) -> (Vec<MatrixInfo>, Vec<(String, String)>) {
    let mut names = vec!["X".to_string()];
    if file.has_group("layers") {
        let layers = [file.groups("layers"), file.datasets("layers")].into_iter().flatten().flatten();
        let mut layers: Vec<_> = layers.map(|name| format!("layers/{name}")).collect();
        layers.sort();
        names.extend(layers);
    }
    names.push("raw/X".into());
    let (mut found, mut unreadable) = (vec![], vec![]);
    for name in names.into_iter().filter(|name| file.has_group(name) || file.has_dataset(name)) {
        match describe(file, &name) {
            Ok(info) => found.extend(info),
            Err(problem) => unreadable.push((name, format!("{problem:#}"))),
        }
    }
    (found, unreadable)
}

/// Encoding and shape of a matrix; nothing when it is stored as `None`.
fn describe(file: &Hdf5, name: &str) -> Result<Option<MatrixInfo>> {
    ensure!(name != "raw/X" || file.has_group("raw/var"), "raw/var, which names its genes, is missing");
    let info = |encoding, n_cells, n_genes, stored| MatrixInfo {
        name: name.into(),
        encoding,
        n_cells,
        n_genes,
        stored,
    };
    if file.has_dataset(name) {
        let data = file.data(name)?;
        return match data.shape()[..] {
            [n_cells, n_genes] => Ok(Some(info(Encoding::Dense, n_cells, n_genes, None))),
            // anndata 0.12 writes an absent X as an empty dataset.
            [] => Ok(None),
            _ => bail!("two dimensions were expected, its shape is {:?}", data.shape()),
        };
    }
    let attributes = file.attributes(name)?;
    let text = |key| attributes.get(key).and_then(AttrValue::as_str);
    let encoding = match text("encoding-type").or(text("h5sparse_format")) {
        Some("csr_matrix" | "csr") => Encoding::Csr,
        Some("csc_matrix" | "csc") => Encoding::Csc,
        Some(other) => bail!("its encoding {other:?} is not supported"),
        None => bail!("it does not state its encoding"),
    };
    let shape = attributes.get("shape").or(attributes.get("h5sparse_shape")).and_then(AttrValue::to_u64s);
    let Some([n_cells, n_genes]) = shape.as_deref() else { bail!("it does not state its shape") };
    let stored = file.data(&format!("{name}/data"))?.len()?;
    Ok(Some(info(encoding, *n_cells, *n_genes, Some(stored))))
}
