//! Writing h5ad files in the encodings of anndata 0.8 to 0.12.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, BooleanArray};
use arrow_schema::DataType;
use hdf5_pure::{
    AttrValue, DatasetBuilder, Datatype, EnumTypeBuilder, FileBuilder, GroupBuilder, H5Element, make_i8_type,
};

use crate::data::{Cells, Column, Csr, Frame};

/// Elements of a chunk. Chunks of more than 65,535 made files that HDF5 2.0 can't open.
const CHUNK: usize = 32_768;
const GZIP_LEVEL: u32 = 4;
/// The version that each encoding has had since anndata 0.8.
const VERSIONS: [(&str, &str); 10] = [
    ("anndata", "0.1.0"),
    ("dict", "0.1.0"),
    ("csr_matrix", "0.1.0"),
    ("dataframe", "0.2.0"),
    ("array", "0.2.0"),
    ("string-array", "0.2.0"),
    ("categorical", "0.2.0"),
    ("nullable-integer", "0.1.0"),
    ("nullable-boolean", "0.1.0"),
    ("nullable-string-array", "0.1.0"),
];

/// Writes cells, and layers of the same shape, as an h5ad file that anndata and scanpy open.
///
/// X and the layers are CSR: values `f32`, indices and row offsets `i32` (offsets `i64` above 2³¹ values), as anndata
/// has them. A 0 that a layer stores is written: an absent value is another thing. In obs and var strings stay
/// strings and categories categories, with their order; a missing value is NaN among floats, no category among
/// categories, and `nullable-*` elsewhere. The same cells make the same bytes. The file is built beside the
/// cells: that takes about 1.5 times the memory of X and the layers.
///
/// # Errors
/// When a layer has another shape, an annotation can't be written, or the disk is full.
pub fn write(path: &Path, cells: &Cells, layers: &[(&str, &Csr)]) -> Result<()> {
    let mut file = FileBuilder::new();
    for (key, value) in encoding("anndata") {
        file.set_attr(key, value);
    }
    check(cells, layers)?;
    let x = csr(file.create_group("X"), &cells.x);
    file.add_group(x.finish());
    let mut group = encoded(file.create_group("layers"), "dict");
    for (name, layer) in layers {
        let layer = csr(group.create_group(name), layer);
        group.add_group(layer.finish());
    }
    file.add_group(group.finish());
    for (name, frame) in [("obs", &cells.obs), ("var", &cells.var)] {
        let group =
            dataframe(file.create_group(name), frame).with_context(|| format!("{name} can't be written"))?;
        file.add_group(group.finish());
    }
    for name in ["obsm", "varm", "obsp", "varp", "uns"] {
        let empty = encoded(file.create_group(name), "dict");
        file.add_group(empty.finish());
    }
    file.write(path).with_context(|| format!("{} can't be written", path.display()))
}

fn check(cells: &Cells, layers: &[(&str, &Csr)]) -> Result<()> {
    let (rows, cols) = (cells.len(), cells.n_genes());
    ensure!(
        (cells.obs.len(), cells.var.len()) == (rows, cols),
        "X is {rows} × {cols}, but obs names {} cells and var {} genes",
        cells.obs.len(),
        cells.var.len()
    );
    for (name, layer) in layers {
        ensure!(
            (layer.n_rows(), layer.n_cols) == (rows, cols),
            "the layer {name} is {} × {}, X is {rows} × {cols}",
            layer.n_rows(),
            layer.n_cols
        );
    }
    Ok(())
}

fn text(value: &str) -> AttrValue {
    AttrValue::VarLenString(value.into())
}

fn encoding(kind: &str) -> [(&'static str, AttrValue); 2] {
    let version = VERSIONS.iter().find(|(name, _)| *name == kind).map_or("", |(_, version)| version);
    [("encoding-type", text(kind)), ("encoding-version", text(version))]
}

fn encoded(mut group: GroupBuilder, kind: &str) -> GroupBuilder {
    for (key, value) in encoding(kind) {
        group.set_attr(key, value);
    }
    group
}

fn csr(group: GroupBuilder, x: &Csr) -> GroupBuilder {
    let mut group = encoded(group, "csr_matrix");
    group.set_attr("shape", AttrValue::I64Array(vec![x.n_rows() as i64, x.n_cols as i64]));
    numbers(group.create_dataset("data"), &x.values);
    let indices: Vec<i32> = x.indices.iter().map(|&j| j as i32).collect();
    numbers(group.create_dataset("indices"), &indices);
    let offsets: Result<Vec<i32>, _> = x.offsets.iter().map(|&at| i32::try_from(at)).collect();
    match offsets {
        Ok(offsets) => numbers(group.create_dataset("indptr"), &offsets),
        Err(_) => {
            let offsets: Vec<i64> = x.offsets.iter().map(|&at| at as i64).collect();
            numbers(group.create_dataset("indptr"), &offsets);
        }
    }
    group
}

/// Numbers in compressed chunks.
fn numbers<T: H5Element>(dataset: &mut DatasetBuilder, values: &[T]) {
    compress(dataset.with_data(values), values.len());
}

/// An empty dataset has no chunks.
fn compress(dataset: &mut DatasetBuilder, len: usize) {
    if len > 0 {
        dataset.with_chunks(&[len.min(CHUNK) as u64]).with_shuffle().with_deflate(GZIP_LEVEL);
    }
}

fn array(dataset: &mut DatasetBuilder, kind: &str) {
    for (key, value) in encoding(kind) {
        dataset.set_attr(key, value);
    }
}

fn strings(dataset: &mut DatasetBuilder, values: &[&str]) {
    dataset.with_vlen_strings(values).with_shape(&[values.len() as u64]);
    array(dataset, "string-array");
}

fn booleans(dataset: &mut DatasetBuilder, values: &[bool]) -> Result<()> {
    let bytes = values.iter().map(|&v| u8::from(v)).collect();
    compress(dataset.with_raw_data(boolean()?, bytes, values.len() as u64), values.len());
    array(dataset, "array");
    Ok(())
}

/// As h5py writes `bool`: an enumeration on `i8`.
fn boolean() -> Result<Datatype> {
    Ok(EnumTypeBuilder::with_base(make_i8_type()).value("FALSE", 0).value("TRUE", 1).build()?)
}

fn dataframe(group: GroupBuilder, frame: &Frame) -> Result<GroupBuilder> {
    let mut group = encoded(group, "dataframe");
    let taken = |name: &&str| frame.column(name).is_some();
    let index = ["_index", "index", "names", "row_names"].into_iter().find(|name| !taken(name));
    let index = index.context("all names for the index are taken by columns")?;
    group.set_attr("_index", text(index));
    let names: Vec<&str> = frame.names.iter().map(String::as_str).collect();
    strings(group.create_dataset(index), &names);
    let mut order: Vec<String> = vec![];
    for column in &frame.columns {
        // A slash would make a group of it.
        let name = column.name.replace('/', "_");
        ensure!(!order.contains(&name), "there are two columns {name:?}");
        ensure!(!name.is_empty() && name != ".", "a column can't be called {name:?}");
        write_column(&mut group, &name, column).with_context(|| format!("the column {name:?}"))?;
        order.push(name);
    }
    group.set_attr("column-order", AttrValue::VarLenStringArray(order));
    Ok(group)
}

fn write_column(group: &mut GroupBuilder, name: &str, column: &Column) -> Result<()> {
    let values = &column.values;
    macro_rules! integers {
        ($type:ident) => {{
            let values = values.as_primitive::<$type>();
            // The value beside a mask means nothing: 0, so that the same cells make the same bytes.
            let plain: Vec<_> = values.iter().map(|v| v.unwrap_or_default()).collect();
            let fill = |dataset: &mut DatasetBuilder| {
                numbers(dataset, &plain);
                array(dataset, "array");
                Ok(())
            };
            masked(group, name, values, "nullable-integer", fill)
        }};
    }
    macro_rules! floats {
        ($type:ident, $nan:expr) => {{
            let plain: Vec<_> = values.as_primitive::<$type>().iter().map(|v| v.unwrap_or($nan)).collect();
            let dataset = group.create_dataset(name);
            numbers(dataset, &plain);
            array(dataset, "array");
            Ok(())
        }};
    }
    match values.data_type() {
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => integers!(UInt64Type),
        DataType::Float32 => floats!(Float32Type, f32::NAN),
        DataType::Float64 => floats!(Float64Type, f64::NAN),
        DataType::Boolean => write_booleans(group, name, values.as_boolean()),
        DataType::Utf8 => {
            let texts: Vec<&str> = values.as_string::<i32>().iter().map(Option::unwrap_or_default).collect();
            let fill = |dataset: &mut DatasetBuilder| {
                strings(dataset, &texts);
                Ok(())
            };
            masked(group, name, values, "nullable-string-array", fill)
        }
        DataType::Dictionary(_, _) => categories(group, name, column),
        other => bail!("values of the type {other} can't be written"),
    }
}

fn write_booleans(group: &mut GroupBuilder, name: &str, values: &BooleanArray) -> Result<()> {
    let plain: Vec<bool> = values.iter().map(Option::unwrap_or_default).collect();
    masked(group, name, values, "nullable-boolean", |dataset| booleans(dataset, &plain))
}

/// A plain dataset where no value is missing, else values with a mask beside them.
fn masked(
    group: &mut GroupBuilder,
    name: &str,
    values: &dyn Array,
    kind: &str,
    fill: impl FnOnce(&mut DatasetBuilder) -> Result<()>,
) -> Result<()> {
    if values.null_count() == 0 {
        return fill(group.create_dataset(name));
    }
    let mut inner = encoded(group.create_group(name), kind);
    fill(inner.create_dataset("values"))?;
    let missing: Vec<bool> = (0..values.len()).map(|i| values.is_null(i)).collect();
    booleans(inner.create_dataset("mask"), &missing)?;
    group.add_group(inner.finish());
    Ok(())
}

fn categories(group: &mut GroupBuilder, name: &str, column: &Column) -> Result<()> {
    let (codes, texts) = column.categories().context("its categories are not strings")?;
    let mut inner = encoded(group.create_group(name), "categorical");
    inner.set_attr("ordered", AttrValue::U8(column.ordered.into()));
    strings(inner.create_dataset("categories"), &texts);
    let codes: Vec<i32> = codes.into_iter().map(|code| code.map_or(-1, |code| code as i32)).collect();
    write_codes(inner.create_dataset("codes"), &codes, texts.len());
    group.add_group(inner.finish());
    Ok(())
}

/// Codes as narrow as pandas has them.
fn write_codes(dataset: &mut DatasetBuilder, codes: &[i32], categories: usize) {
    if categories <= i8::MAX as usize {
        numbers(dataset, &codes.iter().map(|&c| c as i8).collect::<Vec<_>>());
    } else if categories <= i16::MAX as usize {
        numbers(dataset, &codes.iter().map(|&c| c as i16).collect::<Vec<_>>());
    } else {
        numbers(dataset, codes);
    }
    array(dataset, "array");
}
