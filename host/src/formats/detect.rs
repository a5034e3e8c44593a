//! Telling formats apart by content: names of files say little, and are often wrong.

use std::fmt;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use hdf5_pure::AttrValue;

use super::hdf5::Hdf5;
use super::{mtx, table, tenx, text};

/// The formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// AnnData on disk.
    H5ad,
    /// HDF5 of 10x Genomics, Cell Ranger 2 and later.
    TenxHdf5,
    /// A folder with matrix.mtx, barcodes.tsv and features.tsv or genes.tsv, plain or gzipped.
    TenxFolder,
    /// Text with commas, tabs or semicolons, plain or gzipped.
    Table,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H5ad => "h5ad",
            Self::TenxHdf5 => "10x HDF5",
            Self::TenxFolder => "10x folder (Matrix Market)",
            Self::Table => "text table",
        })
    }
}

const SUPPORTED: &str = "Lacuna reads h5ad files, 10x HDF5 files, 10x folders (matrix.mtx, barcodes.tsv, features.tsv) \
                         and text tables (CSV, TSV), the texts also gzipped";
/// How much of a text is looked at.
const HEAD: u64 = 1 << 16;

/// Says which format a file or folder is.
///
/// # Errors
/// When it is none: the message says what it looks like, and what to do.
pub fn detect(path: &Path) -> Result<Format> {
    detect_kind(path).with_context(|| path.display().to_string())
}

fn detect_kind(path: &Path) -> Result<Format> {
    let metadata =
        std::fs::metadata(path).context("there is no such file or folder, or it can't be opened")?;
    if metadata.is_dir() {
        return detect_folder(path);
    }
    if metadata.len() == 0 {
        bail!("the file is empty");
    }
    if Hdf5::is_hdf5(path)? {
        return detect_hdf5(&Hdf5::open(path)?);
    }
    detect_text(path)
}

/// An error that says what a thing looks like.
fn refused(looks: &str) -> anyhow::Error {
    anyhow!("it looks like {looks}. {SUPPORTED}")
}

fn detect_folder(path: &Path) -> Result<Format> {
    if mtx::Folder::find(path)?.is_some() {
        return Ok(Format::TenxFolder);
    }
    if [".zgroup", "zarr.json", ".zattrs"].iter().any(|name| path.join(name).exists()) {
        return Err(refused(
            "a zarr store: in Python, anndata.read_zarr(…).write_h5ad(…) makes an h5ad file of it",
        ));
    }
    let inner = std::fs::read_dir(path)?.flatten().map(|entry| entry.path());
    let inner = inner.filter(|p| p.is_dir()).find(|p| matches!(mtx::Folder::find(p), Ok(Some(_))));
    match inner {
        Some(folder) => bail!("the 10x files are in the folder {} inside it", folder.display()),
        None => Err(refused("a folder without a matrix.mtx")),
    }
}

fn detect_hdf5(file: &Hdf5) -> Result<Format> {
    let root = file.attributes("")?;
    let encoding = root.get("encoding-type").and_then(AttrValue::as_str).unwrap_or_default().to_lowercase();
    if encoding == "mudata" || file.has_group("mod") {
        let modality = "one modality can be saved alone: mudata.read(…)[\"rna\"].write_h5ad(…)";
        return Err(refused(&format!("MuData (h5mu) with several modalities: {modality}")));
    }
    if file.has_group("row_attrs") && file.has_dataset("matrix") {
        return Err(refused(
            "a loom file: in Python, anndata.io.read_loom(…).write_h5ad(…) makes an h5ad file of it",
        ));
    }
    if file.has_group("assays") && file.has_group("meta.data") {
        return Err(refused(
            "h5Seurat: in R, SeuratDisk::Convert(…, dest = \"h5ad\") makes an h5ad file of it",
        ));
    }
    if encoding == "anndata" || is_anndata(file) {
        return Ok(Format::H5ad);
    }
    if tenx::find_group(file)?.is_some() {
        return Ok(Format::TenxHdf5);
    }
    let members = [file.groups("")?, file.datasets("")?].concat();
    Err(refused(&format!("an HDF5 file of another kind, with {}", list(&members))))
}

fn list(members: &[String]) -> String {
    match members {
        [] => "nothing in it".into(),
        few if few.len() <= 6 => few.join(", "),
        many => format!("{} and {} more", many[..6].join(", "), many.len() - 6),
    }
}

fn is_anndata(file: &Hdf5) -> bool {
    let any = |name: &str| file.has_group(name) || file.has_dataset(name);
    any("obs") && any("var")
}

/// First bytes of what people give by mistake.
const MAGIC: [(&[u8], &str); 14] = [
    (b"\x89HDF", "a gzipped HDF5 file: unpack it with gunzip"),
    (b"PK\x03\x04", "a zip archive, or an Excel sheet: unpack it, or save it as CSV"),
    (b"BZh", "a bzip2 archive, or an R file: unpack it, or convert it in R"),
    (b"\xfd7zXZ", "an xz archive, or an R file: unpack it, or convert it in R"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (b"PAR1", "Parquet: in Python, pandas.read_parquet(…).to_csv(…) makes a table of it"),
    (b"RDX", "an R workspace (.RData): save the counts as a 10x folder with DropletUtils::write10xCounts"),
    (b"X\n", "an R object (.rds): save the counts as a 10x folder with DropletUtils::write10xCounts"),
    (b"A\n", "an R object (.rds): save the counts as a 10x folder with DropletUtils::write10xCounts"),
    (b"\x93NUMPY", "a NumPy array: in Python, numpy.savetxt(…, delimiter=\",\") makes a table of it"),
    (b"%PDF", "a PDF document"),
    (b"\xff\xfe", "UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text: save it as UTF-8"),
    (
        b"%%MatrixMarket",
        "the matrix of a 10x folder: give the folder, with the barcodes and features beside it",
    ),
];

fn detect_text(path: &Path) -> Result<Format> {
    let mut head = vec![];
    text::open(path)?.take(HEAD).read_to_end(&mut head).context("its gzip data is damaged")?;
    if let Some((_, looks)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(refused(looks));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Err(refused("a tar archive: unpack it"));
    }
    if head.contains(&0) {
        return Err(refused("a binary file of an unknown kind"));
    }
    let text = match std::str::from_utf8(&head) {
        Ok(text) => text,
        // A character may be cut by the end of what was read.
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(e) => bail!("it is not UTF-8 text: see byte {}. {SUPPORTED}", e.valid_up_to()),
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() {
        bail!("the file holds nothing but blanks");
    }
    match text.chars().next() {
        Some('<') => Err(refused("a web page or XML: was the download complete?")),
        Some('{' | '[') => Err(refused("JSON")),
        _ if table::looks_like_table(text) => Ok(Format::Table),
        _ => Err(refused("text that is no table: its first row has no comma, tab or semicolon")),
    }
}
