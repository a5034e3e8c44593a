//! What goes over the pipes between the host and a worker: frames, and cells, knockouts and tables as Arrow.
//!
//! A frame is `LCNA`, the length of its head (u32, little-endian), the head as JSON, and the parts that the head
//! lists under `parts` as `[name, length]`, one after the other. docs/worker-protocol.md has the whole protocol.

use anyhow::{Context, Result, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, LargeListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_array::{ArrowPrimitiveType, Float64Array, UInt64Array};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field};
use lacuna_abi::{
    ArrowPair, CellsApi, CellsApi_TO, CellsView, CsrRef, KnockoutsBuf, KnockoutsRef, RNone, ROption, RSlice,
    RSome, RStr, RString, RVec, TD_Opaque,
};
use serde_json::{Value as Json, json};
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"LCNA";
const LONGEST_HEAD: usize = 1 << 28;

/// One message: a head, and named parts.
#[derive(Debug, Default)]
pub struct Frame {
    /// What it says.
    pub head: Json,
    /// What it carries.
    pub parts: Vec<(String, Vec<u8>)>,
}

impl Frame {
    /// A message without parts.
    pub fn of(head: Json) -> Self {
        Self { head, parts: vec![] }
    }

    /// Adds a part.
    pub fn with(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.parts.push((name.into(), bytes));
        self
    }

    /// Adds a table.
    pub fn with_table(self, name: &str, table: &RecordBatch) -> Result<Self> {
        Ok(self.with(name, table_to_bytes(table)?))
    }

    /// A part, if it is there.
    pub fn part(&self, name: &str) -> Option<&[u8]> {
        self.parts.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// A table, if it is there.
    pub fn table(&self, name: &str) -> Result<Option<RecordBatch>> {
        self.part(name)
            .map(|bytes| table_from_bytes(bytes).with_context(|| format!("part `{name}`")))
            .transpose()
    }

    /// A table that has to be there.
    pub fn required(&self, name: &str) -> Result<RecordBatch> {
        self.table(name)?.with_context(|| format!("part `{name}` is missing"))
    }

    /// Sends it.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut head = self.head.clone();
        let lengths: Vec<Json> = self.parts.iter().map(|(name, bytes)| json!([name, bytes.len()])).collect();
        head["parts"] = lengths.into();
        let head = head.to_string();
        let mut begin = MAGIC.to_vec();
        begin.extend((head.len() as u32).to_le_bytes());
        begin.extend(head.as_bytes());
        out.write_all(&begin)?;
        self.parts.iter().try_for_each(|(_, bytes)| out.write_all(bytes))?;
        out.flush()
    }

    /// Receives one; `None` where the other side has ended.
    pub fn read(input: &mut impl Read) -> Result<Option<Self>> {
        let mut begin = [0; 8];
        match input.read_exact(&mut begin) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        ensure!(&begin[..4] == MAGIC, "expected a frame, found {:?}", String::from_utf8_lossy(&begin));
        let length = u32::from_le_bytes([begin[4], begin[5], begin[6], begin[7]]) as usize;
        ensure!(length <= LONGEST_HEAD, "a frame's head has {length} bytes");
        let head: Json =
            serde_json::from_slice(&read_bytes(input, length as u64)?).context("a frame's head")?;
        let mut parts = vec![];
        for entry in head["parts"].as_array().into_iter().flatten() {
            let (Some(name), Some(length)) = (entry[0].as_str(), entry[1].as_u64()) else {
                bail!("a frame's parts are listed as {entry}");
            };
            parts.push((name.to_string(), read_bytes(input, length)?));
        }
        Ok(Some(Self { head, parts }))
    }
}

/// Grows with what arrives, so that a length that is announced and never sent costs no memory.
fn read_bytes(input: &mut impl Read, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    input.take(length).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == length, "a frame ends early: {} of {length} bytes", bytes.len());
    Ok(bytes)
}

/// A table as an Arrow IPC stream.
pub fn table_to_bytes(table: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(vec![], &table.schema())?;
    writer.write(table)?;
    Ok(writer.into_inner()?)
}

fn table_from_bytes(bytes: &[u8]) -> Result<RecordBatch> {
    // This decoder takes what is there, and makes no room for what is only said to come.
    let (mut decoder, mut rest, mut batches) = (StreamDecoder::new(), Buffer::from(bytes.to_vec()), vec![]);
    while let Some(batch) = decoder.decode(&mut rest)? {
        batches.push(batch);
    }
    decoder.finish()?;
    let schema = decoder.schema().context("a table without a schema")?;
    match batches.len() {
        1 => Ok(batches.into_iter().next().unwrap_or_else(|| RecordBatch::new_empty(schema))),
        0 => Ok(RecordBatch::new_empty(schema)),
        _ => Ok(arrow_select::concat::concat_batches(&schema, &batches)?),
    }
}

/// A column of numbers of a table.
pub fn numbers<T: ArrowPrimitiveType>(table: &RecordBatch, name: &str) -> Result<Vec<T::Native>> {
    let column = table.column_by_name(name).with_context(|| format!("no column `{name}`"))?;
    let values = column.as_primitive_opt::<T>();
    let values =
        values.with_context(|| format!("column `{name}` is {}, not {}", column.data_type(), T::DATA_TYPE))?;
    ensure!(values.null_count() == 0, "column `{name}` has missing values");
    Ok(values.values().to_vec())
}

fn texts(table: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let column = table.column_by_name(name).with_context(|| format!("no column `{name}`"))?;
    if let Some(values) = column.as_string_opt::<i32>() {
        return Ok(values.iter().map(|v| v.unwrap_or_default().to_string()).collect());
    }
    let values = column.as_string_opt::<i64>().with_context(|| format!("column `{name}` is no text"))?;
    Ok(values.iter().map(|v| v.unwrap_or_default().to_string()).collect())
}

fn lists<T: ArrowPrimitiveType>(offsets: &[u64], values: Vec<T::Native>) -> ArrayRef {
    let field = Arc::new(Field::new("item", T::DATA_TYPE, false));
    let offsets = OffsetBuffer::new(ScalarBuffer::from_iter(offsets.iter().map(|&o| o as i64)));
    let values = PrimitiveArray::<T>::from_iter_values(values);
    Arc::new(LargeListArray::new(field, offsets, Arc::new(values), None))
}

/// Offsets and values of a column of lists.
type Lists<T> = (Vec<u64>, Vec<T>);

fn read_lists<T: ArrowPrimitiveType>(table: &RecordBatch, name: &str) -> Result<Lists<T::Native>> {
    let column = table.column_by_name(name).with_context(|| format!("no column `{name}`"))?;
    let wanted = DataType::LargeList(Arc::new(Field::new("item", T::DATA_TYPE, true)));
    let (offsets, values): (Vec<i64>, &ArrayRef) =
        match (column.as_list_opt::<i64>(), column.as_list_opt::<i32>()) {
            (Some(lists), _) => (lists.offsets().to_vec(), lists.values()),
            (_, Some(lists)) => (lists.offsets().iter().map(|&o| i64::from(o)).collect(), lists.values()),
            _ => bail!("column `{name}` is {}, not {wanted}", column.data_type()),
        };
    let numbers = values.as_primitive_opt::<T>();
    let numbers =
        numbers.with_context(|| format!("column `{name}` is {}, not {wanted}", column.data_type()))?;
    ensure!(column.null_count() == 0 && numbers.null_count() == 0, "column `{name}` has missing values");
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let values = numbers.values()[first as usize..last as usize].to_vec();
    Ok((offsets.into_iter().map(|o| (o - first) as u64).collect(), values))
}

/// Knockouts as a table: `cell` (row of the cells; missing for the population), `genes`, `levels`.
pub fn knockouts_table(knockouts: &KnockoutsRef<'_>) -> Result<RecordBatch> {
    let offsets = knockouts.offsets.as_slice();
    let offsets = if offsets.is_empty() { &[0] } else { offsets };
    let mut columns: Vec<(&str, ArrayRef)> = vec![];
    if !knockouts.cell.is_empty() || offsets.len() == 1 {
        columns.push(("cell", Arc::new(UInt64Array::from(knockouts.cell.to_vec()))));
    }
    columns.push(("genes", lists::<UInt32Type>(offsets, knockouts.genes.to_vec())));
    columns.push(("levels", lists::<Float32Type>(offsets, knockouts.levels.to_vec())));
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Knockouts from their table. What they say is for the host to judge.
pub fn read_knockouts(table: &RecordBatch) -> Result<KnockoutsBuf> {
    let (offsets, genes) = read_lists::<UInt32Type>(table, "genes")?;
    let (of_levels, levels) = match table.column_by_name("levels") {
        Some(_) => read_lists::<Float32Type>(table, "levels")?,
        None => (offsets.clone(), vec![0.0; genes.len()]),
    };
    ensure!(offsets == of_levels, "there is not one level for each gene");
    let cell = table.column_by_name("cell").map(|_| numbers::<UInt64Type>(table, "cell")).transpose()?;
    Ok(KnockoutsBuf {
        cell: cell.unwrap_or_default().into(),
        offsets: offsets.into(),
        genes: genes.into(),
        levels: levels.into(),
    })
}

/// The view of knockouts with their memory.
pub fn knockouts_ref(k: &KnockoutsBuf) -> KnockoutsRef<'_> {
    KnockoutsRef {
        cell: k.cell.as_rslice(),
        offsets: k.offsets.as_rslice(),
        genes: k.genes.as_rslice(),
        levels: k.levels.as_rslice(),
    }
}

/// Cells on their way: as they came, unchecked.
pub struct WireCells {
    values: Vec<f32>,
    indices: Vec<u32>,
    offsets: Vec<u64>,
    ids: Vec<u64>,
    library: Vec<f64>,
    cells: Names,
    genes: Names,
}

/// Names and annotations.
struct Names {
    names: Vec<String>,
    columns: Vec<(String, ArrayRef)>,
}

/// Before the names of annotations, beside which a table of cells or genes has columns of its own.
const OBS: &str = "obs:";
const VAR: &str = "var:";

impl Names {
    fn read(table: &RecordBatch, prefix: &str) -> Result<Self> {
        let schema = table.schema();
        let annotations = schema.fields().iter().zip(table.columns());
        let columns =
            annotations.filter_map(|(f, c)| Some((f.name().strip_prefix(prefix)?.to_string(), c.clone())));
        Ok(Self { columns: columns.collect(), names: texts(table, "name")? })
    }

    fn column(&self, name: &str) -> ROption<ArrowPair> {
        let found = self.columns.iter().find(|(n, _)| n == name);
        found.and_then(|(_, array)| ArrowPair::from_array(array).ok()).map_or(RNone, RSome)
    }

    fn keys(&self) -> RVec<RString> {
        self.columns.iter().map(|(name, _)| RString::from(name.as_str())).collect()
    }
}

impl WireCells {
    /// From the tables of cells and genes.
    pub fn read(cells: &RecordBatch, genes: &RecordBatch) -> Result<Self> {
        let (offsets, indices) = read_lists::<UInt32Type>(cells, "genes")?;
        let (of_values, values) = read_lists::<Float32Type>(cells, "values")?;
        ensure!(offsets == of_values, "there is not one value for each expressed gene");
        Ok(Self {
            values,
            indices,
            offsets,
            ids: numbers::<UInt64Type>(cells, "id")?,
            library: numbers::<Float64Type>(cells, "library")?,
            cells: Names::read(cells, OBS)?,
            genes: Names::read(genes, VAR)?,
        })
    }

    /// The cells as a call hands them over.
    pub fn view(&self) -> CellsView<'_> {
        CellsView {
            csr: CsrRef {
                values: RSlice::from_slice(&self.values),
                indices: RSlice::from_slice(&self.indices),
                offsets: RSlice::from_slice(&self.offsets),
                n_genes: self.genes.names.len() as u64,
            },
            ids: RSlice::from_slice(&self.ids),
            library: RSlice::from_slice(&self.library),
            info: CellsApi_TO::from_ptr(self, TD_Opaque),
        }
    }
}

impl CellsApi for WireCells {
    fn cell_name(&self, i: usize) -> RStr<'_> {
        self.cells.names.get(i).map_or("", String::as_str).into()
    }
    fn gene_name(&self, j: usize) -> RStr<'_> {
        self.genes.names.get(j).map_or("", String::as_str).into()
    }
    fn obs_names(&self) -> RVec<RString> {
        self.cells.keys()
    }
    fn obs(&self, name: RStr<'_>) -> ROption<ArrowPair> {
        self.cells.column(name.as_str())
    }
    fn var_names(&self) -> RVec<RString> {
        self.genes.keys()
    }
    fn var(&self, name: RStr<'_>) -> ROption<ArrowPair> {
        self.genes.column(name.as_str())
    }
}

/// Some of these cells as a table, in this order: `name`, `id`, `library`, `genes`, `values`, `obs:…`.
pub fn cells_table(view: &CellsView<'_>, rows: &[u64]) -> Result<RecordBatch> {
    let csr = &view.csr;
    let (mut offsets, mut indices, mut values) = (vec![0u64], vec![], vec![]);
    for &row in rows {
        let range = csr.offsets[row as usize] as usize..csr.offsets[row as usize + 1] as usize;
        indices.extend_from_slice(&csr.indices[range.clone()]);
        values.extend_from_slice(&csr.values[range]);
        offsets.push(indices.len() as u64);
    }
    let names = rows.iter().map(|&row| view.info.cell_name(row as usize).as_str());
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("name".into(), Arc::new(StringArray::from_iter_values(names))),
        (
            "id".into(),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|&row| view.ids[row as usize]))),
        ),
        (
            "library".into(),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|&r| view.library[r as usize]))),
        ),
        ("genes".into(), lists::<UInt32Type>(&offsets, indices)),
        ("values".into(), lists::<Float32Type>(&offsets, values)),
    ];
    let at = UInt64Array::from(rows.to_vec());
    let all = rows.len() == view.ids.len() && rows.iter().enumerate().all(|(i, &row)| i as u64 == row);
    for key in view.info.obs_names() {
        let Some(column) = import(view.info.obs(key.as_str().into()), &key, view.ids.len())? else {
            continue;
        };
        let chosen = if all { column } else { arrow_select::take::take(&column, &at, None)? };
        columns.push((format!("{OBS}{key}"), chosen));
    }
    Ok(nullable(columns)?)
}

/// The genes as a table: `name`, `var:…`.
pub fn genes_table(view: &CellsView<'_>) -> Result<RecordBatch> {
    let names = (0..view.csr.n_genes as usize).map(|j| view.info.gene_name(j).as_str());
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("name".into(), Arc::new(StringArray::from_iter_values(names)))];
    for key in view.info.var_names() {
        let genes = view.csr.n_genes as usize;
        let Some(column) = import(view.info.var(key.as_str().into()), &key, genes)? else { continue };
        columns.push((format!("{VAR}{key}"), column));
    }
    Ok(nullable(columns)?)
}

fn import(pair: ROption<ArrowPair>, key: &str, rows: usize) -> Result<Option<ArrayRef>> {
    let Some(pair) = pair.into_option() else { return Ok(None) };
    let column = pair.into_array().map_err(|e| anyhow::anyhow!("column {key}: {e}"))?;
    ensure!(column.len() == rows, "column {key} has {} entries for {rows} rows", column.len());
    Ok(Some(column))
}

fn nullable(columns: Vec<(String, ArrayRef)>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
}
