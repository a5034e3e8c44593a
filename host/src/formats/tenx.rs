//! Reading 10x HDF5 files: `matrix/…` (Cell Ranger 3 and later), or one group named by its genome.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::features::Features;
use super::hdf5::Hdf5;
use super::sparse::{Axes, Matrix};
use super::{Encoding, Loaded};
use crate::data::{Cells, Frame};

/// Reads a 10x HDF5 file as cells × genes, named by symbol. Of several kinds of features only "Gene Expression" is kept.
///
/// # Errors
/// When it is no such file, or is damaged.
pub fn read(path: &Path) -> Result<Loaded> {
    read_parts(path).with_context(|| path.display().to_string())
}

fn read_parts(path: &Path) -> Result<Loaded> {
    let file = Hdf5::open(path)?;
    let group = find_group(&file)?.context("it has no group with 10x barcodes")?;
    let strings = |name: &str| file.data(&format!("{group}/{name}"))?.strings();
    let optional = |name: &str| match file.has_dataset(&format!("{group}/{name}")) {
        true => strings(name),
        false => Ok(vec![]),
    };
    let barcodes = strings("barcodes")?;
    let features = match file.has_group(&format!("{group}/features")) {
        true => Features {
            names: strings("features/name")?,
            ids: strings("features/id")?,
            kinds: optional("features/feature_type")?,
            genomes: optional("features/genome")?,
        },
        false => Features { names: strings("gene_names")?, ids: strings("genes")?, ..Default::default() },
    };
    check_lengths(&features)?;
    check_shape(&file, &group, &features, barcodes.len())?;
    // Features × cells by columns is cells × features by rows.
    let axes = Axes { rows: barcodes.len(), cols: features.len() };
    let matrix = Matrix::open(&file, &group, Encoding::Csr, axes)?;
    let all = 0..barcodes.len();
    let x = matrix.rows(&[all]).with_context(|| group.clone())?;
    let mut warnings = vec![];
    let (x, var) = features.keep_expression(x, &mut warnings);
    Ok(Loaded::new(Cells::new(x, Frame::of_names(barcodes), var), warnings))
}

/// The group with the matrix.
pub(super) fn find_group(file: &Hdf5) -> Result<Option<String>> {
    let mut groups = file.groups("")?;
    groups.retain(|g| file.has_dataset(&format!("{g}/barcodes")));
    match groups.len() {
        0 | 1 => Ok(groups.pop()),
        _ => bail!("it holds several genomes ({}): save one of them to a file of its own", groups.join(", ")),
    }
}

fn check_lengths(features: &Features) -> Result<()> {
    let n = features.len();
    for (what, list) in [("ids", &features.ids), ("kinds", &features.kinds), ("genomes", &features.genomes)] {
        ensure!(
            list.is_empty() || list.len() == n,
            "it has {n} names of features, but {} {what}",
            list.len()
        );
    }
    Ok(())
}

fn check_shape(file: &Hdf5, group: &str, features: &Features, cells: usize) -> Result<()> {
    let data = file.data(&format!("{group}/shape"))?;
    let shape = data.integers(0..data.len()?)?;
    ensure!(
        shape == [features.len() as i64, cells as i64],
        "{group}/shape is {shape:?}, but there are {} features and {cells} barcodes",
        features.len()
    );
    Ok(())
}
