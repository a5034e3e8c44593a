//! Reading 10x folders: matrix.mtx, barcodes.tsv, and features.tsv (Cell Ranger 3 and later) or genes.tsv.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::text::Lines;
use super::{Loaded, features};
use crate::data::{Cells, Csr, Frame};

/// The three files of a 10x folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// Genes × cells.
    pub matrix: PathBuf,
    /// One line for each cell.
    pub barcodes: PathBuf,
    /// One line for each gene: id, symbol, kind.
    pub features: PathBuf,
}

impl Folder {
    /// Finds the three files, plain or gzipped, all with the same prefix (`GSM123_matrix.mtx.gz`) or none.
    ///
    /// # Errors
    /// When one is missing, or there are several matrices. Nothing when there is no matrix at all.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>> {
        let mut names = vec![];
        for entry in std::fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        let mut prefixes: Vec<&str> = names.iter().filter_map(|name| prefix(name)).collect();
        prefixes.dedup();
        let prefix = match prefixes[..] {
            [] => return Ok(None),
            [one] => one,
            _ => bail!("there are several matrices, with the names {prefixes:?}: give each its own folder"),
        };
        let find = |wanted: &str| {
            let candidates = [format!("{prefix}{wanted}"), format!("{prefix}{wanted}.gz")];
            candidates.into_iter().find(|name| names.contains(name)).map(|name| folder.join(name))
        };
        let pick = |wanted: &[&str]| {
            let missing =
                || anyhow!("there is a {prefix}matrix.mtx, but no {prefix}{}.tsv or .tsv.gz", wanted[0]);
            wanted.iter().find_map(|w| find(&format!("{w}.tsv"))).ok_or_else(missing)
        };
        Ok(Some(Self {
            matrix: find("matrix.mtx").context("the matrix is gone")?,
            barcodes: pick(&["barcodes"])?,
            features: pick(&["features", "genes"])?,
        }))
    }
}

/// What stands before `matrix.mtx` in the name of a matrix.
fn prefix(name: &str) -> Option<&str> {
    name.strip_suffix(".gz").unwrap_or(name).strip_suffix("matrix.mtx")
}

/// Reads a 10x folder: genes × cells become cells × genes, named by symbol.
///
/// Of several kinds of features only "Gene Expression" is kept. A matrix that is cells × genes, as some tools write
/// it, is told by its shape and read as such, with a warning.
///
/// # Errors
/// When a file is missing, or not what it should be; the message has the line.
pub fn read(folder: &Path) -> Result<Loaded> {
    let place = || folder.display().to_string();
    let files = Folder::find(folder).with_context(place)?;
    let files = files.with_context(|| format!("{}: there is no matrix.mtx or matrix.mtx.gz", place()))?;
    let barcodes = read_barcodes(&files.barcodes)?;
    let features = features::read_table(&files.features)?;
    let mut warnings = vec![];
    let x = read_matrix(&files.matrix, barcodes.len(), features.len(), &mut warnings)?;
    let (x, var) = features.keep_expression(x, &mut warnings);
    Ok(Loaded::new(Cells::new(x, Frame::of_names(barcodes), var), warnings))
}

fn read_barcodes(path: &Path) -> Result<Vec<String>> {
    let mut lines = Lines::open(path)?;
    let mut barcodes = vec![];
    while let Some(line) = lines.next_text()? {
        // A line too few or too many does not fit the matrix.
        if !line.is_empty() {
            barcodes.push(line.split('\t').next().unwrap_or_default().to_string());
        }
    }
    Ok(barcodes)
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Number,
    /// No values: an entry is a 1.
    Pattern,
}

/// Reads the matrix of known size as cells × genes.
fn read_matrix(path: &Path, cells: usize, genes: usize, warnings: &mut Vec<String>) -> Result<Csr> {
    let mut lines = Lines::open(path)?;
    let field = read_header(&mut lines)?;
    let (rows, columns, entries) = read_sizes(&mut lines)?;
    let turned = (rows, columns) != (genes, cells) && (rows, columns) == (cells, genes);
    if turned {
        warnings.push(format!("{}: the matrix is cells × genes, and was read as such", path.display()));
    } else if (rows, columns) != (genes, cells) {
        bail!(lines.place(format!(
            "the matrix is {rows} × {columns}, but there are {genes} features and {cells} barcodes"
        )));
    }
    let mut entries = Entries { lines, field, sizes: (rows, columns), left: entries };
    let mut builder = Builder::new(cells);
    while let Some((row, column, value)) = entries.next()? {
        let (cell, gene) = if turned { (row, column) } else { (column, row) };
        builder.push(cell, gene, value);
    }
    builder.finish(genes)
}

fn read_header(lines: &mut Lines) -> Result<Field> {
    let header = lines.next_text()?.context("the file is empty")?.to_ascii_lowercase();
    let words: Vec<&str> = header.split_ascii_whitespace().collect();
    match words[..] {
        ["%%matrixmarket", "matrix", "coordinate", field, "general"] => match field {
            "integer" | "real" | "double" => Ok(Field::Number),
            "pattern" => Ok(Field::Pattern),
            _ => bail!(lines.place(format!("values that are {field:?} are not supported"))),
        },
        ["%%matrixmarket", ..] => bail!(
            lines.place(format!("`matrix coordinate integer general` was expected, {header:?} was found"))
        ),
        _ => bail!(lines.place("it does not begin with %%MatrixMarket")),
    }
}

fn read_sizes(lines: &mut Lines) -> Result<(usize, usize, u64)> {
    loop {
        let line = lines.next()?.map(<[u8]>::to_vec);
        let Some(line) = line else { bail!(lines.place("the file ends before the sizes of the matrix")) };
        if line.is_empty() || line.starts_with(b"%") {
            continue;
        }
        let sizes = || {
            let mut tokens = Tokens(&line);
            let sizes = (parse(tokens.next()?)?, parse(tokens.next()?)?, parse(tokens.next()?)?);
            tokens.next().is_none().then_some(sizes)
        };
        return sizes().ok_or_else(|| {
            let found = String::from_utf8_lossy(&line).into_owned();
            anyhow!(lines.place(format!("three numbers (rows, columns, entries) were expected: {found:?}")))
        });
    }
}

/// The entries, each row and column counted from 0.
struct Entries {
    lines: Lines,
    field: Field,
    sizes: (usize, usize),
    left: u64,
}

impl Entries {
    fn next(&mut self) -> Result<Option<(u32, u32, f32)>> {
        let end = self.left == 0;
        let Some(line) = self.lines.next()? else {
            ensure!(
                end,
                self.lines.place(format!("the file ends, but {} more entries were declared", self.left))
            );
            return Ok(None);
        };
        if line.is_empty() {
            return self.next_after_blank();
        }
        let mut tokens = Tokens(line);
        let row = index(tokens.next(), self.sizes.0);
        let column = index(tokens.next(), self.sizes.1);
        let value = match self.field {
            Field::Number => tokens.next().and_then(number),
            Field::Pattern => Some(1.0),
        };
        match (row, column, value, tokens.next()) {
            (Some(row), Some(column), Some(value), None) if !end => {
                self.left -= 1;
                Ok(Some((row, column, value)))
            }
            _ if end => bail!(self.lines.place("there are more entries than declared")),
            _ => {
                let line = line.to_vec();
                Err(self.explain(&line))
            }
        }
    }

    /// Blank lines stand at the end of some files, and nowhere else.
    fn next_after_blank(&mut self) -> Result<Option<(u32, u32, f32)>> {
        while let Some(line) = self.lines.next()? {
            ensure!(line.is_empty(), self.lines.place("an entry was expected, the line before is empty"));
        }
        ensure!(
            self.left == 0,
            self.lines.place(format!("the file ends, but {} more entries were declared", self.left))
        );
        Ok(None)
    }

    /// What is wrong with a line that is no entry.
    fn explain(&self, line: &[u8]) -> anyhow::Error {
        let mut tokens = Tokens(line);
        let mut problem = None;
        for (what, size) in [("row", self.sizes.0), ("column", self.sizes.1)] {
            let token = tokens.next();
            if index(token, size).is_none() {
                let found = String::from_utf8_lossy(token.unwrap_or_default()).into_owned();
                problem = problem.or(Some(format!("the {what} must be 1 to {size}, {found:?} was found")));
            }
        }
        let wanted = if self.field == Field::Pattern { "row and column" } else { "row, column and a number" };
        let found = String::from_utf8_lossy(line).into_owned();
        let problem = problem.unwrap_or_else(|| format!("{wanted} were expected, {found:?} was found"));
        anyhow!(self.lines.place(problem))
    }
}

/// Words between spaces and tabs.
struct Tokens<'a>(&'a [u8]);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start();
        let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }
}

/// Digits as an integer; up to 18 of them can't overflow.
fn digits(token: &[u8]) -> Option<u64> {
    let valid = !token.is_empty() && token.len() <= 18 && token.iter().all(u8::is_ascii_digit);
    valid.then(|| token.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

fn index(token: Option<&[u8]>, size: usize) -> Option<u32> {
    let i = digits(token?)?;
    (1..=size as u64).contains(&i).then(|| u32::try_from(i - 1).ok())?
}

/// Counts take the short way.
fn number(token: &[u8]) -> Option<f32> {
    match digits(token) {
        Some(n) => Some(n as f32),
        None => parse(token),
    }
}

fn parse<T: FromStr>(token: &[u8]) -> Option<T> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// Makes rows of cells from entries. 10x files go cell by cell: then the cell of each entry need not be kept.
struct Builder {
    counts: Vec<u64>,
    last: u32,
    cells: Option<Vec<u32>>,
    genes: Vec<u32>,
    values: Vec<f32>,
}

impl Builder {
    fn new(cells: usize) -> Self {
        Self { counts: vec![0; cells], last: 0, cells: None, genes: vec![], values: vec![] }
    }

    fn push(&mut self, cell: u32, gene: u32, value: f32) {
        if cell < self.last && self.cells.is_none() {
            self.cells = Some(self.expand());
        }
        if let Some(cells) = &mut self.cells {
            cells.push(cell);
        }
        self.last = cell;
        self.counts[cell as usize] += 1;
        self.genes.push(gene);
        self.values.push(value);
    }

    /// The cell of each entry so far, which came in order.
    fn expand(&self) -> Vec<u32> {
        (0..).zip(&self.counts).flat_map(|(cell, &n)| std::iter::repeat_n(cell, n as usize)).collect()
    }

    fn finish(self, n_genes: usize) -> Result<Csr> {
        let mut offsets = Vec::with_capacity(self.counts.len() + 1);
        offsets.push(0);
        offsets.extend(self.counts.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        }));
        let Some(cells) = self.cells else {
            return Csr::from_parts(self.values, self.genes, offsets, n_genes);
        };
        let (mut values, mut genes) = (vec![0.0; self.values.len()], vec![0; self.genes.len()]);
        let mut next = offsets.clone();
        for ((cell, gene), value) in cells.into_iter().zip(self.genes).zip(self.values) {
            let at = &mut next[cell as usize];
            (values[*at as usize], genes[*at as usize]) = (value, gene);
            *at += 1;
        }
        Csr::from_parts(values, genes, offsets, n_genes)
    }
}
