//! `cells.parquet`: the strongest knockouts of each cell.

use super::ImpactTable;
use super::table::TableFile;
use crate::data::Frame;
use anyhow::{Context, Result};
use arrow_array::builder::{Float32Builder, StringBuilder, UInt32Builder};
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which knockouts of a cell are the strongest.
#[derive(Debug, Clone, Copy)]
pub struct Strongest {
    /// How many of each cell.
    count: usize,
    /// The column that decides.
    column: usize,
    /// Whether its lowest values are the strongest.
    lowest_first: bool,
}

impl Strongest {
    /// So many, by a column.
    pub fn new(count: usize, column: usize, lowest_first: bool) -> Self {
        Self { count, column, lowest_first }
    }

    /// The column that decides.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Those of the cells of a part, in the order of cells, the strongest first; ties in the order of results. What has
    /// no value is left out.
    fn of(&self, part: &ImpactTable, (obs, var): (&Frame, &Frame)) -> Result<RecordBatch> {
        let values = &part.values[self.column];
        let strength = |i: &usize| if self.lowest_first { -values[*i] } else { values[*i] };
        let (mut cell, mut rank) = (StringBuilder::new(), UInt32Builder::new());
        let mut knockout = StringBuilder::new();
        let mut columns: Vec<Float32Builder> = part.values.iter().map(|_| Float32Builder::new()).collect();
        for (number, rows) in part.knockouts.by_cell() {
            let mut rows: Vec<usize> = rows.filter(|&i| !values[i].is_nan()).collect();
            rows.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
            for (i, place) in rows.into_iter().take(self.count).zip(1..) {
                cell.append_value(&obs.names[number]);
                rank.append_value(place);
                knockout.append_value(part.knockouts.label(i, &var.names));
                for (column, values) in columns.iter_mut().zip(&part.values) {
                    column.append_option((!values[i].is_nan()).then_some(values[i]));
                }
            }
        }
        let mut all: Vec<(&str, ArrayRef, bool)> = vec![
            ("cell", Arc::new(cell.finish()), true),
            ("rank", Arc::new(rank.finish()), true),
            ("knockout", Arc::new(knockout.finish()), true),
        ];
        for (name, column) in part.columns.iter().zip(&mut columns) {
            all.push((name, Arc::new(column.finish()), true));
        }
        Ok(RecordBatch::try_from_iter_with_nullable(all)?)
    }

    /// Writes those of one part.
    pub fn write(&self, part: &ImpactTable, frames: (&Frame, &Frame), path: &Path) -> Result<()> {
        super::table::write_parquet(path, &[self.of(part, frames)?])
    }

    /// Puts the tables of parts together.
    pub fn join(&self, parts: &[PathBuf], columns: &[String], path: &Path) -> Result<()> {
        let mut file = self.begin(columns, path)?;
        for part in parts {
            let place = || format!("cannot read {}", part.display());
            let source = File::open(part).with_context(place)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(source).with_context(place)?;
            for batch in reader.with_batch_size(1 << 16).build().with_context(place)? {
                file.write(&batch.with_context(place)?)?;
            }
        }
        file.finish()
    }

    /// Begins a table; parts are added one by one.
    pub fn begin(&self, columns: &[String], path: &Path) -> Result<TableFile> {
        let none = ImpactTable::empty(columns);
        TableFile::create(path, self.of(&none, (&Frame::default(), &Frame::default()))?.schema())
    }

    /// Adds those of a part.
    pub fn add(&self, part: &ImpactTable, frames: (&Frame, &Frame), file: &mut TableFile) -> Result<()> {
        file.write(&self.of(part, frames)?)
    }
}
