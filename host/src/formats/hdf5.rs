//! What the readers need of HDF5: reads of bounded size, which never panic and say where they failed.
//!
//! The only module that reads through `hdf5_pure`. The library is young, and files come from anywhere, so each
//! call into it is guarded: a panic becomes an error, and no size that a file declares is believed before it is
//! compared with the size of the file.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow_array::types::{ArrowPrimitiveType, Float16Type};
use hdf5_pure::{AttrValue, DType, Dataset, Datatype, DatatypeByteOrder, File, FormatError};

/// Elements read at a time: 4 MiB of `f32`.
const WINDOW: u64 = 1 << 20;
/// Deflate can't expand more than this (a 258-byte match takes two bits).
const MAX_EXPANSION: u64 = 1032;
/// What a small file may declare beyond its own size times the largest expansion.
const SLACK: u64 = 1 << 20;
/// Filters that can be undone: deflate, shuffle, fletcher32, scale-offset, LZF.
const FILTERS: [u16; 5] = [1, 2, 3, 6, 32000];

/// What helps with files that can't be read.
pub(super) const SAVE_AGAIN: &str =
    "import anndata; anndata.read_h5ad(\"old.h5ad\").write_h5ad(\"new.h5ad\", compression=\"gzip\")";

/// An open file.
pub(super) struct Hdf5 {
    file: File,
    size: u64,
}

/// A dataset that can be read: its filters are known and its size is plausible.
pub(super) struct Data {
    name: String,
    dataset: Dataset,
    kind: Kind,
    shape: Vec<u64>,
    chunk_rows: u64,
}

/// What a dataset holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Integers of this many bytes.
    Integer { bytes: u8, signed: bool },
    /// Floats of this many bytes.
    Float { bytes: u8 },
    /// An HDF5 enumeration FALSE, TRUE, as h5py writes `bool`.
    Boolean,
    /// Strings of any kind.
    Text,
    /// Anything else: compounds, references, …
    Other,
}

impl Hdf5 {
    /// Opens a file for reading on demand; nothing but its metadata is held.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path)?.len();
        let file = guard(|| File::open_streaming(path)).context("the HDF5 file can't be opened")?;
        let end = file.superblock().eof_address;
        ensure!(
            size >= end,
            "the file is cut short: it has {size} bytes of {end}. Was the download complete?"
        );
        Ok(Self { file, size })
    }

    /// Whether the file starts with HDF5's signature (or has it after a user block).
    pub(super) fn is_hdf5(path: &Path) -> Result<bool> {
        guard(|| Ok(hdf5_pure::is_hdf5(path)?))
    }

    /// Whether there is such a group.
    pub(super) fn has_group(&self, path: &str) -> bool {
        guard(|| self.file.group(path)).is_ok()
    }

    /// Whether there is such a dataset.
    pub(super) fn has_dataset(&self, path: &str) -> bool {
        guard(|| self.file.dataset(path)).is_ok()
    }

    /// Names of the groups in a group (`""` is the root), sorted.
    pub(super) fn groups(&self, path: &str) -> Result<Vec<String>> {
        self.names(path, |group| group.groups())
    }

    /// Names of the datasets in a group (`""` is the root), sorted.
    pub(super) fn datasets(&self, path: &str) -> Result<Vec<String>> {
        self.names(path, |group| group.datasets())
    }

    fn names(
        &self,
        path: &str,
        list: impl FnOnce(&hdf5_pure::Group) -> Result<Vec<String>, hdf5_pure::Error>,
    ) -> Result<Vec<String>> {
        let mut names = guard(|| list(&self.group(path)?)).with_context(|| self.place(path))?;
        names.sort();
        Ok(names)
    }

    fn group(&self, path: &str) -> Result<hdf5_pure::Group, hdf5_pure::Error> {
        if path.is_empty() { Ok(self.file.root()) } else { self.file.group(path) }
    }

    fn place(&self, path: &str) -> String {
        if path.is_empty() { "the root group".into() } else { format!("the group {path}") }
    }

    /// Attributes of a group (`""` is the root).
    pub(super) fn attributes(&self, path: &str) -> Result<HashMap<String, AttrValue>> {
        guard(|| self.group(path)?.attrs()).with_context(|| self.place(path))
    }

    /// A dataset, refused when it can't be read whole.
    pub(super) fn data(&self, path: &str) -> Result<Data> {
        self.open_data(path).with_context(|| format!("the dataset {path}"))
    }

    fn open_data(&self, path: &str) -> Result<Data> {
        let dataset = guard(|| self.file.dataset(path))?;
        check_filters(&dataset)?;
        let (shape, dtype, element) =
            guard(|| Ok((dataset.shape()?, dataset.dtype()?, dataset.element_size()?)))?;
        let data = Data {
            name: path.into(),
            kind: Kind::of(&dtype),
            chunk_rows: chunk_rows(&dataset)?,
            dataset,
            shape,
        };
        self.check_size(&data, element)?;
        check_chunks(&data)?;
        Ok(data)
    }

    /// A damaged shape must not make us ask for more memory than the file can fill.
    fn check_size(&self, data: &Data, element: u64) -> Result<()> {
        let declared = data.shape.iter().try_fold(element, |n, &d| n.checked_mul(d));
        let possible = self.size.saturating_mul(MAX_EXPANSION).saturating_add(SLACK);
        ensure!(
            declared.is_some_and(|n| n <= possible),
            "its shape {:?} needs more bytes than a file of {} bytes can hold: the file is damaged or cut short",
            data.shape,
            self.size
        );
        Ok(())
    }
}

impl Kind {
    fn of(dtype: &DType) -> Self {
        let integer = |bytes, signed| Self::Integer { bytes, signed };
        match dtype {
            DType::I8 => integer(1, true),
            DType::I16 => integer(2, true),
            DType::I32 => integer(4, true),
            DType::I64 => integer(8, true),
            DType::U8 => integer(1, false),
            DType::U16 => integer(2, false),
            DType::U32 => integer(4, false),
            DType::U64 => integer(8, false),
            DType::F32 => Self::Float { bytes: 4 },
            DType::F64 => Self::Float { bytes: 8 },
            DType::Other(kind) if is_half(kind) => Self::Float { bytes: 2 },
            DType::Enum(names) if *names == ["FALSE", "TRUE"] => Self::Boolean,
            DType::String | DType::VariableLengthString => Self::Text,
            _ => Self::Other,
        }
    }
}

impl Data {
    /// Rows, and columns where there are two dimensions.
    pub(super) fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Values in a row. Saturating: a damaged shape with a 0 in it passes the check of its size.
    fn width(&self) -> u64 {
        self.shape.iter().skip(1).fold(1, |n, &d| n.saturating_mul(d))
    }

    /// What it holds.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of values, of one dimension.
    ///
    /// # Errors
    /// When it has another number of dimensions.
    pub(super) fn len(&self) -> Result<u64> {
        let [n] = self.shape[..] else {
            bail!("the dataset {}: one dimension was expected, its shape is {:?}", self.name, self.shape)
        };
        Ok(n)
    }

    /// An attribute, where it has one.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<AttrValue>> {
        let mut attributes = self.guarded(|d| d.attrs())?;
        Ok(attributes.remove(name))
    }

    /// Cuts rows into windows of bounded size that end where chunks end, so that no chunk is decoded twice.
    pub(super) fn windows(&self, rows: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        let width = self.width().max(1);
        let chunk = self.chunk_rows;
        let step = (WINDOW / width).max(1).div_ceil(chunk) * chunk;
        let mut next = rows.start;
        std::iter::from_fn(move || {
            let start = next;
            next = (start / step + 1).saturating_mul(step).min(rows.end);
            (start < rows.end).then_some(start..next)
        })
    }

    /// The values of these rows as `f32`: numbers of any width, and booleans.
    pub(super) fn floats(&self, rows: Range<u64>) -> Result<Vec<f32>> {
        let count = rows.end.saturating_sub(rows.start);
        let values = match self.kind {
            Kind::Float { bytes: 2 } => self.halves(rows.start, count)?,
            Kind::Float { .. } | Kind::Integer { .. } | Kind::Boolean => {
                self.guarded(|d| d.read_f32_rows(rows.start, count))?
            }
            Kind::Text | Kind::Other => return Err(self.unexpected("numbers")),
        };
        self.complete(values, count)
    }

    /// The values of these rows as `f64`: numbers of any width.
    pub(super) fn doubles(&self, rows: Range<u64>) -> Result<Vec<f64>> {
        if self.kind == (Kind::Float { bytes: 2 }) {
            return Ok(self.floats(rows)?.into_iter().map(f64::from).collect());
        }
        let count = rows.end.saturating_sub(rows.start);
        let values = match self.kind {
            Kind::Float { .. } | Kind::Integer { .. } => {
                self.guarded(|d| d.read_f64_rows(rows.start, count))?
            }
            _ => return Err(self.unexpected("numbers")),
        };
        self.complete(values, count)
    }

    /// The values of these rows as integers: integers of any width (above `i64::MAX` they stay at it), booleans.
    pub(super) fn integers(&self, rows: Range<u64>) -> Result<Vec<i64>> {
        let count = rows.end.saturating_sub(rows.start);
        let values = match self.kind {
            Kind::Integer { .. } | Kind::Boolean => self.guarded(|d| d.read_i64_rows(rows.start, count))?,
            _ => return Err(self.unexpected("integers")),
        };
        self.complete(values, count)
    }

    /// All values as `u64`, for the one width that `i64` does not hold.
    pub(super) fn unsigned(&self) -> Result<Vec<u64>> {
        let values = self.guarded(|d| d.read_u64())?;
        let count = self.len()?;
        self.complete(values, count)
    }

    /// All strings.
    pub(super) fn strings(&self) -> Result<Vec<String>> {
        ensure!(self.kind == Kind::Text, self.unexpected("strings"));
        let values = self.guarded(|d| d.read_string())?;
        let count = self.len()?;
        self.complete(values, count)
    }

    /// 16-bit floats, which the library hands over as bytes.
    fn halves(&self, start: u64, count: u64) -> Result<Vec<f32>> {
        type Half = <Float16Type as ArrowPrimitiveType>::Native;
        let bytes = self.guarded(|d| d.read_raw_rows(start, count))?;
        let Datatype::FloatingPoint { byte_order, .. } = self.guarded(|d| d.datatype())? else {
            return Err(self.unexpected("numbers"));
        };
        let decode = match byte_order {
            DatatypeByteOrder::LittleEndian => |b: [u8; 2]| Half::from_le_bytes(b),
            DatatypeByteOrder::BigEndian => |b: [u8; 2]| Half::from_be_bytes(b),
            _ => return Err(self.unexpected("numbers of little or big byte order")),
        };
        Ok(bytes.chunks_exact(2).map(|b| decode([b[0], b[1]]).to_f32()).collect())
    }

    fn guarded<T>(&self, read: impl FnOnce(&Dataset) -> Result<T, hdf5_pure::Error>) -> Result<T> {
        guard(|| read(&self.dataset)).with_context(|| format!("the dataset {}", self.name))
    }

    /// Rows outside the dataset are left out by the library; here they are an error.
    fn complete<T>(&self, values: Vec<T>, rows: u64) -> Result<Vec<T>> {
        let expected = rows.saturating_mul(self.width());
        ensure!(
            values.len() as u64 == expected,
            "the dataset {}: {expected} values were expected, {} are there",
            self.name,
            values.len()
        );
        Ok(values)
    }

    fn unexpected(&self, expected: &str) -> anyhow::Error {
        let found = match self.guarded(|d| d.dtype()) {
            Ok(dtype) => dtype.to_string(),
            Err(_) => "of an unknown type".into(),
        };
        anyhow!("the dataset {}: {expected} were expected, its values are {found}", self.name)
    }
}

/// Runs a call into the library; a panic on damaged input becomes an error.
fn guard<T>(call: impl FnOnce() -> Result<T, hdf5_pure::Error>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(explain),
        Err(_) => bail!("the HDF5 library failed on it: the file is probably damaged"),
    }
}

/// The library's own words, but for what has a way out.
fn explain(error: hdf5_pure::Error) -> anyhow::Error {
    match error {
        hdf5_pure::Error::Format(FormatError::InvalidLayoutVersion(version @ 5..)) => anyhow!(
            "it is stored in a layout of HDF5 2.0 (libver=\"latest\", version {version}), which can't be read here; \
             save the file again from Python: {SAVE_AGAIN}"
        ),
        // The cause that it carries says the same once more.
        other => anyhow!("{other}"),
    }
}

fn is_half(kind: &Datatype) -> bool {
    matches!(kind, Datatype::FloatingPoint { size: 2, layout, .. }
        if layout.exponent_size == 5 && layout.mantissa_size == 10)
}

fn chunk_rows(dataset: &Dataset) -> Result<u64> {
    let shape = guard(|| dataset.chunk_shape())?;
    Ok(shape.and_then(|s| s.first().copied()).unwrap_or(1).max(1))
}

/// Names the filter that can't be undone, and the way out.
fn check_filters(dataset: &Dataset) -> Result<()> {
    let Some(id) = guard(|| Ok(dataset.filters()))?.into_iter().find(|id| !FILTERS.contains(id)) else {
        return Ok(());
    };
    let name = match id {
        4 => "szip",
        307 => "bzip2",
        32001 => "blosc",
        32004 => "lz4",
        32008 => "bitshuffle",
        32013 => "zfp",
        32015 => "zstd",
        32026 => "blosc2",
        _ => "an unknown filter",
    };
    bail!(
        "it is compressed with {name} (HDF5 filter {id}), which can't be read here; \
         save the file with gzip from Python: import hdf5plugin; {SAVE_AGAIN}"
    )
}

/// HDF5 reads a chunk that is not there as zeros; in data that was written it means a lost index.
fn check_chunks(data: &Data) -> Result<()> {
    let Some(chunk) = guard(|| data.dataset.chunk_shape())? else { return Ok(()) };
    // An index that can't be enumerated is left to the read itself.
    let Ok(chunks) = guard(|| data.dataset.chunks()) else { return Ok(()) };
    let needed = data.shape.iter().zip(&chunk).map(|(&n, &c)| n.div_ceil(c.max(1)));
    let needed = needed.fold(1u64, u64::saturating_mul);
    ensure!(
        chunks.len() as u64 >= needed,
        "{} of its {needed} chunks are missing: the file is damaged, or was not written to its end",
        needed - chunks.len() as u64
    );
    Ok(())
}
