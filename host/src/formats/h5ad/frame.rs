//! Reading obs and var: the encodings of anndata 0.7 to 0.12.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow_array::builder::StringBuilder;
use arrow_array::types::*;
use arrow_array::*;
use arrow_schema::DataType;
use hdf5_pure::AttrValue;

use crate::data::{Column, Frame};
use crate::formats::hdf5::{Data, Hdf5, Kind, SAVE_AGAIN};

/// Reads a dataframe. A column that can't be read becomes a warning; the names are needed.
pub(super) fn read(file: &Hdf5, path: &str, warnings: &mut Vec<String>) -> Result<Frame> {
    ensure!(
        !file.has_dataset(path),
        "{path} is a table of anndata before 0.7 (2019), which can't be read here; \
         save the file again from Python: {SAVE_AGAIN}"
    );
    let attributes = file.attributes(path).with_context(|| format!("{path} is missing"))?;
    let index = index_name(file, path, &attributes)?;
    let mut frame = Frame::of_names(names(file, &format!("{path}/{index}"))?);
    let strange = frame.names.iter().filter(|name| name.contains(char::REPLACEMENT_CHARACTER)).count();
    if strange > 0 {
        warnings.push(format!(
            "{path}: {strange} names are not UTF-8: � stands for what could not be read in them"
        ));
    }
    for name in column_names(file, path, &attributes, &index)? {
        match read_column(file, path, &name, frame.len()) {
            Ok((values, ordered)) => frame.columns.push(Column { name, values, ordered }),
            Err(problem) => warnings.push(format!("{path}: the column {name:?} is left out: {problem:#}")),
        }
    }
    Ok(frame)
}

type Attributes = HashMap<String, AttrValue>;

fn index_name(file: &Hdf5, path: &str, attributes: &Attributes) -> Result<String> {
    if let Some(name) = attributes.get("_index").and_then(AttrValue::as_str) {
        return Ok(name.into());
    }
    let usual = ["_index", "index"].into_iter().find(|name| file.has_dataset(&format!("{path}/{name}")));
    usual
        .map(Into::into)
        .with_context(|| format!("{path} has no attribute `_index` that says where its names are"))
}

/// Names are strings; numbers, as very old files have them, become text.
fn names(file: &Hdf5, path: &str) -> Result<Vec<String>> {
    let (values, _) = read_values(file, path)?;
    let column = Column { name: path.into(), values, ordered: false };
    let missing = || anyhow!("{path}: a name is missing");
    column.texts().into_iter().map(|name| name.ok_or_else(missing)).collect()
}

/// The order of the file; where it states none, all members of the group.
fn column_names(file: &Hdf5, path: &str, attributes: &Attributes, index: &str) -> Result<Vec<String>> {
    match attributes.get("column-order") {
        Some(order) => Ok(order.as_strings().map(<[String]>::to_vec).unwrap_or_default()),
        None => {
            let members = [file.datasets(path)?, file.groups(path)?].concat();
            Ok(members.into_iter().filter(|name| name != index && name != "__categories").collect())
        }
    }
}

fn read_column(file: &Hdf5, path: &str, name: &str, rows: usize) -> Result<(ArrayRef, bool)> {
    let categories = format!("{path}/__categories/{name}");
    let place = format!("{path}/{name}");
    // anndata 0.7 keeps the categories of all columns in one group beside them.
    let (values, ordered) = if file.has_dataset(&categories) {
        categorical(file, &place, &categories)?
    } else {
        read_values(file, &place)?
    };
    ensure!(values.len() == rows, "it has {} values, {rows} were expected", values.len());
    Ok((values, ordered))
}

/// Values of a dataset or of an encoded group, and whether they are ordered categories.
fn read_values(file: &Hdf5, path: &str) -> Result<(ArrayRef, bool)> {
    if file.has_dataset(path) {
        return Ok((plain(&file.data(path)?)?, false));
    }
    let attributes = file.attributes(path).map_err(|_| anyhow!("the file has no {path}"))?;
    match attributes.get("encoding-type").and_then(AttrValue::as_str) {
        Some("categorical") => {
            let (values, _) = categorical(file, &format!("{path}/codes"), &format!("{path}/categories"))?;
            Ok((values, attributes.get("ordered").is_some_and(is_true)))
        }
        Some("nullable-integer" | "nullable-boolean" | "nullable-string-array") => {
            Ok((nullable(file, path)?, false))
        }
        Some(other) => bail!("its encoding {other:?} is not supported"),
        None => bail!("it is a group without an encoding"),
    }
}

fn is_true(value: &AttrValue) -> bool {
    value.as_i64().is_some_and(|v| v != 0)
}

/// A column without missing values; in floats NaN is a missing value, as in pandas.
fn plain(data: &Data) -> Result<ArrayRef> {
    let n = data.len()?;
    macro_rules! integers {
        ($type:ident) => {
            Arc::new(
                data.integers(0..n)?
                    .into_iter()
                    .map(|v| v as <$type as ArrowPrimitiveType>::Native)
                    .collect::<PrimitiveArray<$type>>(),
            )
        };
    }
    Ok(match data.kind() {
        Kind::Boolean => Arc::new(booleans(data)?.into_iter().map(Some).collect::<BooleanArray>()),
        Kind::Text => Arc::new(StringArray::from(data.strings()?)),
        Kind::Float { bytes: 8 } => {
            let values = data.doubles(0..n)?.into_iter().map(|v| (!v.is_nan()).then_some(v));
            Arc::new(values.collect::<Float64Array>())
        }
        Kind::Float { .. } => {
            let values = data.floats(0..n)?.into_iter().map(|v| (!v.is_nan()).then_some(v));
            Arc::new(values.collect::<Float32Array>())
        }
        Kind::Integer { bytes: 1, signed: true } => integers!(Int8Type),
        Kind::Integer { bytes: 2, signed: true } => integers!(Int16Type),
        Kind::Integer { bytes: 4, signed: true } => integers!(Int32Type),
        Kind::Integer { signed: true, .. } => integers!(Int64Type),
        Kind::Integer { bytes: 1, .. } => integers!(UInt8Type),
        Kind::Integer { bytes: 2, .. } => integers!(UInt16Type),
        Kind::Integer { bytes: 4, .. } => integers!(UInt32Type),
        Kind::Integer { .. } => Arc::new(UInt64Array::from(data.unsigned()?)),
        Kind::Other => bail!("its type is not supported"),
    })
}

fn booleans(data: &Data) -> Result<Vec<bool>> {
    Ok(data.integers(0..data.len()?)?.into_iter().map(|v| v != 0).collect())
}

/// Values with a mask beside them, true where a value is missing.
fn nullable(file: &Hdf5, path: &str) -> Result<ArrayRef> {
    let values = plain(&file.data(&format!("{path}/values"))?)?;
    let missing = booleans(&file.data(&format!("{path}/mask"))?)?;
    ensure!(values.len() == missing.len(), "it has {} values and a mask of {}", values.len(), missing.len());
    let at = (0..values.len() as u64).zip(missing).map(|(i, missing)| (!missing).then_some(i));
    Ok(arrow_select::take::take(&values, &at.collect::<UInt64Array>(), None)?)
}

/// Categories as an Arrow dictionary, whose keys are as wide as the file's codes; code -1 is a missing value.
fn categorical(file: &Hdf5, codes: &str, categories: &str) -> Result<(ArrayRef, bool)> {
    let (texts, _) = read_values(file, categories)?;
    let texts: ArrayRef = Arc::new(category_texts(texts)?);
    let data = file.data(codes)?;
    let ordered = file.data(categories).ok().map(|d| d.attribute("ordered")).transpose()?.flatten();
    let keys = data.integers(0..data.len()?)?;
    if let Some(bad) = keys.iter().find(|&&k| k < -1 || k >= texts.len() as i64) {
        bail!("it has a code {bad}, but {} categories", texts.len());
    }
    macro_rules! dictionary {
        ($type:ident) => {{
            let keys = keys.iter().map(|&k| (k >= 0).then_some(k as <$type as ArrowPrimitiveType>::Native));
            Arc::new(DictionaryArray::try_new(keys.collect::<PrimitiveArray<$type>>(), texts)?)
        }};
    }
    let values: ArrayRef = match data.kind() {
        Kind::Integer { bytes: 1, signed: true } => dictionary!(Int8Type),
        Kind::Integer { bytes: 2, signed: true } => dictionary!(Int16Type),
        _ => dictionary!(Int32Type),
    };
    Ok((values, ordered.as_ref().is_some_and(is_true)))
}

/// Categories that are numbers or booleans become the text that Python has for numbers, so that 1.0 stays `1.0`.
fn category_texts(values: ArrayRef) -> Result<StringArray> {
    let column = Column { name: String::new(), values, ordered: false };
    let whole = |text: String| {
        if text.contains(|c: char| !c.is_ascii_digit() && c != '-') { text } else { text + ".0" }
    };
    let is_float = matches!(column.values.data_type(), DataType::Float32 | DataType::Float64);
    let mut texts = StringBuilder::new();
    for text in column.texts() {
        let text = text.context("one of its categories is missing")?;
        texts.append_value(if is_float { whole(text) } else { text });
    }
    Ok(texts.finish())
}
