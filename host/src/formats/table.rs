//! Reading text tables: comma, tab or semicolon, plain or gzipped, with or without names.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use csv::ByteRecord;

use super::{Loaded, text};
use crate::data::{Cells, Csr, Frame};

/// Which way a table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// A row is a cell.
    CellsByGenes,
    /// A row is a gene.
    GenesByCells,
}

impl FromStr for Orientation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cells-by-genes" => Ok(Self::CellsByGenes),
            "genes-by-cells" => Ok(Self::GenesByCells),
            _ => bail!("an orientation is \"cells-by-genes\" or \"genes-by-cells\", not {text:?}"),
        }
    }
}

/// What the headings of a first column of names are called, apart from nothing at all.
const HEADINGS: [&str; 14] = [
    "index",
    "unnamed: 0",
    "cell",
    "cells",
    "cell_id",
    "cellid",
    "barcode",
    "barcodes",
    "gene",
    "genes",
    "gene_id",
    "symbol",
    "name",
    "id",
];

/// Reads a table as cells × genes.
///
/// - Numbers only: genes × cells unless stated otherwise (the layout of the reference data); cells and genes are
///   numbered (`cell-001`, `gene-1`), or genes are named by `gene_names`.
/// - A header row and a first column of names: cells × genes unless stated otherwise, as pandas writes
///   `AnnData.to_df()`. The header may lack the cell above the names, as R writes it.
///
/// `gene_names` is a text file with one name a line, or a table whose first column has them, for a table of numbers
/// only.
///
/// # Errors
/// With line and column: rows of different lengths, text where a number was expected, text that is not UTF-8.
pub fn read(path: &Path, orientation: Option<Orientation>, gene_names: Option<&Path>) -> Result<Loaded> {
    let place = || path.display().to_string();
    let text = text::read_all(path).with_context(place)?;
    let table = Table::parse(&text).with_context(place)?;
    drop(text);
    let named = table.named;
    ensure!(
        !(named && gene_names.is_some()),
        "{}: it names its genes itself: a list of gene names is for tables of numbers only",
        place()
    );
    let usual = if named { Orientation::CellsByGenes } else { Orientation::GenesByCells };
    let mut cells = table.into_cells(orientation.unwrap_or(usual));
    if let Some(list) = gene_names {
        cells.var.names = read_names(list, cells.n_genes()).with_context(|| list.display().to_string())?;
    }
    let warning = orientation.is_none().then(|| guessed(&cells)).filter(|_| named);
    Ok(Loaded { named, ..Loaded::new(cells, warning.into_iter().collect()) })
}

/// Tables with names come in both orientations, and nothing in them says which.
fn guessed(cells: &Cells) -> String {
    let first = |frame: &Frame| frame.names.first().cloned().unwrap_or_default();
    format!(
        "the table was read as {} cells (rows, {:?} first) × {} genes (columns, {:?} first); \
         state orientation = \"genes-by-cells\" if it is the other way round",
        cells.len(),
        first(&cells.obs),
        cells.n_genes(),
        first(&cells.var)
    )
}

/// Whether text is a table: what the first row tells.
pub(super) fn looks_like_table(text: &str) -> bool {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    delimiter(line).is_some() || line.trim().parse::<f32>().is_ok()
}

/// Tab, semicolon or comma, whichever there is, in this order; a semicolon goes with commas in numbers.
fn delimiter(line: &str) -> Option<u8> {
    let mut quoted = false;
    let outside = line.bytes().filter(|&b| {
        quoted ^= b == b'"';
        !quoted
    });
    let found: Vec<u8> = outside.collect();
    [b'\t', b';', b','].into_iter().find(|d| found.contains(d))
}

struct Table {
    x: Csr,
    named: bool,
    rows: Vec<String>,
    columns: Vec<String>,
}

impl Table {
    fn parse(text: &str) -> Result<Self> {
        let first = text.lines().find(|line| !line.is_empty()).context("the file is empty")?;
        let delimiter = delimiter(first).unwrap_or(b',');
        let mut head = records(text, delimiter);
        let first = head.next().context("the file is empty")??;
        let named = !first.iter().all(|field| number(field).is_some());
        let second = head.next().transpose()?;
        let mut columns = vec![];
        if named {
            columns = column_names(&first, second.as_ref())?;
        }
        let width = if named { columns.len() } else { first.len() };
        let mut rows = Rows { named, width, delimiter, columns, x: Csr::empty(width), names: vec![] };
        for record in records(text, delimiter).skip(usize::from(named)) {
            rows.add(&record?)?;
        }
        Ok(rows.finish())
    }

    fn into_cells(self, orientation: Orientation) -> Cells {
        let (x, cells, genes) = match orientation {
            Orientation::CellsByGenes => (self.x, self.rows, self.columns),
            Orientation::GenesByCells => (transposed(&self.x), self.columns, self.rows),
        };
        let cells = if self.named { cells } else { numbered("cell", x.n_rows()) };
        let genes = if self.named { genes } else { numbered("gene", x.n_cols) };
        Cells::new(x, Frame::of_names(cells), Frame::of_names(genes))
    }
}

fn records(text: &str, delimiter: u8) -> impl Iterator<Item = Result<ByteRecord>> {
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).flexible(true).delimiter(delimiter);
    reader.from_reader(text.as_bytes()).into_byte_records().map(|record| Ok(record?))
}

/// Names from a header row. A row that can't be told from data is refused: a gene or a cell would be lost in silence.
fn column_names(first: &ByteRecord, second: Option<&ByteRecord>) -> Result<Vec<String>> {
    let names: Vec<String> = first.iter().map(text_of).collect();
    let Some(second) = second else { bail!("there is a row of names and nothing else") };
    if second.len() == names.len() + 1 {
        return Ok(names);
    }
    let heading = names[0].trim().to_lowercase();
    let headed = heading.is_empty() || HEADINGS.contains(&heading.as_str());
    let (names_above, names_beside) = (first.iter().skip(1), number(&second[0]).is_none());
    ensure!(
        headed || names_beside,
        "the first row has names, but the first column has numbers ({:?} under {:?}): put the names of the rows there, \
         or leave the cell above them empty if these are names",
        text_of(&second[0]),
        names[0]
    );
    ensure!(
        headed || names.len() == 1 || !names_above.clone().all(|field| number(field).is_some()),
        "the first column has names, but the first row has numbers ({}): put the names of the columns there, \
         or leave the cell before them empty if these are names",
        names_above.clone().take(3).map(text_of).collect::<Vec<_>>().join(", ")
    );
    Ok(names[1..].to_vec())
}

/// The rows read so far.
struct Rows {
    named: bool,
    width: usize,
    delimiter: u8,
    columns: Vec<String>,
    x: Csr,
    names: Vec<String>,
}

impl Rows {
    fn add(&mut self, record: &ByteRecord) -> Result<()> {
        let line = record.position().map_or(0, csv::Position::line);
        let names = usize::from(self.named);
        ensure!(
            record.len() == self.width + names,
            "line {line} has {} fields, {} were expected, as in the first row",
            record.len(),
            self.width + names
        );
        if self.named {
            self.names.push(text_of(&record[0]));
        }
        let mut row = Vec::with_capacity(self.width);
        for (j, field) in record.iter().skip(names).enumerate() {
            let value = number(field).ok_or_else(|| self.explain(line, j, field))?;
            row.push((j as u32, value));
        }
        self.x.push_row(row.into_iter());
        Ok(())
    }

    fn explain(&self, line: u64, column: usize, field: &[u8]) -> anyhow::Error {
        let at = column + 1 + usize::from(self.named);
        let name = self.columns.get(column).map(|name| format!(" ({name})")).unwrap_or_default();
        let text = text_of(field);
        let comma = self.delimiter != b',' && text.replacen(',', ".", 1).parse::<f32>().is_ok();
        let hint = match () {
            () if comma => ": numbers are written with a point here, 1.5",
            () if text.trim().is_empty() => ": write 0 where there is nothing",
            () => "",
        };
        anyhow!("line {line}, column {at}{name}: a number was expected, {text:?} was found{hint}")
    }

    fn finish(self) -> Table {
        Table { x: self.x, named: self.named, rows: self.names, columns: self.columns }
    }
}

/// NaN and infinities are numbers here: what to do about them is the reader's business.
fn number(field: &[u8]) -> Option<f32> {
    std::str::from_utf8(field).ok()?.trim().parse().ok()
}

fn text_of(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim().into()
}

/// `gene-01` …, as wide as the last number.
fn numbered(what: &str, n: usize) -> Vec<String> {
    let width = n.to_string().len();
    (1..=n).map(|i| format!("{what}-{i:0width$}")).collect()
}

fn transposed(x: &Csr) -> Csr {
    let mut offsets = vec![0u64; x.n_cols + 1];
    x.indices.iter().for_each(|&j| offsets[j as usize + 1] += 1);
    (1..offsets.len()).for_each(|j| offsets[j] += offsets[j - 1]);
    let mut next = offsets.clone();
    let mut out = Csr { values: vec![0.0; x.nnz()], indices: vec![0; x.nnz()], offsets, n_cols: x.n_rows() };
    for i in 0..x.n_rows() {
        let (columns, values) = x.row(i);
        for (&j, &v) in columns.iter().zip(values) {
            let at = next[j as usize] as usize;
            (out.values[at], out.indices[at]) = (v, i as u32);
            next[j as usize] += 1;
        }
    }
    out
}

/// One name a line, or the first column of a table; one more than needed means that the first is a heading.
fn read_names(path: &Path, expected: usize) -> Result<Vec<String>> {
    let text = text::read_all(path)?;
    let delimiter = delimiter(text.lines().next().unwrap_or_default()).unwrap_or(b',');
    let mut names = vec![];
    for record in records(&text, delimiter) {
        names.push(record?.get(0).map(text_of).unwrap_or_default());
    }
    if names.len() == expected + 1 {
        names.remove(0);
    }
    ensure!(names.len() == expected, "it has {} names, but the table has {expected} genes", names.len());
    Ok(names)
}
