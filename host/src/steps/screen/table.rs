//! The impacts of a screen as Parquet parts, written and read.

use super::population::POPULATION;
use crate::data::{Cells, Csr, Frame, Knockouts};
use anyhow::{Context, Result, bail, ensure};
use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All rows of a screen.
pub struct ImpactTable {
    /// The knockouts, in the order of results.
    pub knockouts: Knockouts,
    /// The names of the impact columns.
    pub columns: Vec<String>,
    /// The impacts, one list for each column; NaN where there is no value.
    pub values: Vec<Vec<f32>>,
}

/// How Parquet files are written: the same content gives the same bytes.
pub fn writer_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("lacuna {}", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A table that is written batch by batch, whole or not at all.
pub struct TableFile {
    path: PathBuf,
    temporary: PathBuf,
    writer: ArrowWriter<File>,
}

impl TableFile {
    /// Begins a table.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        let temporary = path.with_extension("parquet.tmp");
        let place = || format!("cannot write {}", path.display());
        let file = File::create(&temporary).with_context(place)?;
        let writer = ArrowWriter::try_new(file, schema, Some(writer_properties())).with_context(place)?;
        Ok(Self { path: path.to_path_buf(), temporary, writer })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Puts the table in its place.
    pub fn finish(self) -> Result<()> {
        let place = || format!("cannot write {}", self.path.display());
        let file = self.writer.into_inner().with_context(place)?;
        file.sync_all().with_context(place)?;
        std::fs::rename(&self.temporary, &self.path).with_context(place)
    }
}

/// Writes a table whole or not at all.
pub fn write_parquet(path: &Path, batches: &[RecordBatch]) -> Result<()> {
    let Some(first) = batches.first() else { bail!("no table for {}", path.display()) };
    let mut file = TableFile::create(path, first.schema())?;
    batches.iter().try_for_each(|batch| file.write(batch))?;
    file.finish()
}

/// Writes knockouts with their impacts; NaN means that there is none.
pub fn write_knockouts(
    path: &Path,
    knockouts: &Knockouts,
    impacts: &[(&str, &[f32])],
    (obs, var): (&[String], &[String]),
) -> Result<()> {
    let mut cell = StringBuilder::new();
    let mut label = StringBuilder::new();
    let mut genes = ListBuilder::new(StringBuilder::new());
    for i in 0..knockouts.len() {
        cell.append_value(knockouts.cell.get(i).map_or(POPULATION, |&c| obs[c as usize].as_str()));
        label.append_value(knockouts.label(i, var));
        knockouts.genes(i).iter().for_each(|&g| genes.values().append_value(&var[g as usize]));
        genes.append(true);
    }
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("cell".into(), Arc::new(cell.finish())),
        ("knockout".into(), Arc::new(label.finish())),
        ("genes".into(), Arc::new(genes.finish())),
    ];
    for (name, values) in impacts {
        let mut column = Float32Builder::with_capacity(values.len());
        values.iter().for_each(|v| column.append_option((!v.is_nan()).then_some(*v)));
        columns.push(((*name).into(), Arc::new(column.finish())));
    }
    let nullable = columns.into_iter().map(|(name, values)| (name, values, true));
    write_parquet(path, &[RecordBatch::try_from_iter_with_nullable(nullable)?])
}

/// The impacts of a screen in its folder: parts, each of which fits in memory.
pub struct StoredTable {
    dir: PathBuf,
    files: Vec<String>,
    /// Number of rows.
    pub rows: usize,
    /// See [`ImpactTable::columns`].
    pub columns: Vec<String>,
    /// Of each column, whether the lowest values are the strongest effects, as those of an agreement are.
    pub lowest_first: Vec<bool>,
}

impl StoredTable {
    /// Reads what a screen's manifest says.
    pub fn open(dir: &Path) -> Result<Self> {
        let place = || format!("cannot read {}", dir.display());
        let path = dir.join("manifest.json");
        ensure!(
            path.exists(),
            "the screen has kept no table of all its knockouts: write `table = true` there"
        );
        let manifest: Json = serde_json::from_slice(&std::fs::read(path).with_context(place)?)?;
        let listed = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
        let text = |value: &Json| value.as_str().map(String::from);
        Ok(Self {
            dir: dir.to_path_buf(),
            files: listed("parts").iter().filter_map(|part| text(&part["file"])).collect(),
            rows: manifest["rows"].as_u64().unwrap_or(0) as usize,
            columns: listed("impacts").iter().filter_map(|i| text(&i["column"])).collect(),
            lowest_first: listed("impacts").iter().map(|i| i["strongest"] == "lowest").collect(),
        })
    }

    /// Hands over the parts in order; cells and genes are those of these frames.
    pub fn each_part(
        &self,
        (obs, var): (&Frame, &Frame),
        each: &mut dyn FnMut(ImpactTable) -> Result<()>,
    ) -> Result<()> {
        let (obs, var) = (obs.index(), var.index());
        for file in &self.files {
            let (path, mut part) = (self.dir.join(file), ImpactTable::empty(&self.columns));
            part.read_part(&path, &obs, &var).with_context(|| format!("cannot read {}", path.display()))?;
            each(part)?;
        }
        Ok(())
    }
}

impl StoredTable {
    /// The impacts of single knockouts as cells × genes, one for each column; explicit zeros are kept, others are not
    /// stored.
    pub fn layers(&self, (obs, var): (&Frame, &Frame)) -> Result<Vec<Csr>> {
        let mut layers = vec![Csr::empty(var.len()); self.columns.len()];
        let end = |layer: &mut Csr, cell: u64| {
            while (layer.n_rows() as u64) < cell {
                layer.offsets.push(layer.values.len() as u64);
            }
        };
        self.each_part((obs, var), &mut |part| {
            for (layer, values) in layers.iter_mut().zip(&part.values) {
                for (i, &value) in values.iter().enumerate() {
                    end(layer, part.knockouts.cell[i]);
                    if let (Some(gene), false) = (part.knockouts.single(i), value.is_nan()) {
                        layer.indices.push(gene);
                        layer.values.push(value);
                    }
                }
            }
            Ok(())
        })?;
        layers.iter_mut().for_each(|layer| end(layer, obs.len() as u64));
        Ok(layers)
    }
}

impl ImpactTable {
    /// No rows yet.
    pub fn empty(columns: &[String]) -> Self {
        let (columns, values) = (columns.to_vec(), vec![vec![]; columns.len()]);
        Self { knockouts: Knockouts::default(), columns, values }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.knockouts.len()
    }

    /// Reads all parts of a screen of these cells.
    pub fn read(dir: &Path, cells: &Cells) -> Result<Self> {
        let stored = StoredTable::open(dir)?;
        let mut table = Self::empty(&stored.columns);
        stored.each_part((&cells.obs, &cells.var), &mut |part| {
            table.knockouts.append(&part.knockouts);
            table.values.iter_mut().zip(part.values).for_each(|(all, more)| all.extend(more));
            Ok(())
        })?;
        Ok(table)
    }

    fn read_part(&mut self, path: &Path, obs: &HashMap<&str, u32>, var: &HashMap<&str, u32>) -> Result<()> {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_batch_size(1 << 16).build()?;
        for batch in reader {
            let batch = batch?;
            let column = |name: &str| batch.column_by_name(name).with_context(|| format!("no column {name}"));
            let cells = column("cell")?.as_string::<i32>();
            let labels = column("knockout")?.as_string::<i32>();
            let genes = column("genes")?.as_list::<i32>();
            let mut row: Vec<u32> = vec![];
            for i in 0..batch.num_rows() {
                let cell = obs.get(cells.value(i)).with_context(|| format!("no cell {}", cells.value(i)))?;
                let list = genes.value(i);
                row.clear();
                for name in list.as_string::<i32>().iter().flatten() {
                    row.push(*var.get(name).with_context(|| format!("no gene {name}"))?);
                }
                let names = list.as_string::<i32>().iter().flatten();
                let levels = levels(labels.value(i), names)?;
                self.knockouts.push(u64::from(*cell), &row, &levels);
            }
            for (name, values) in self.columns.iter().zip(&mut self.values) {
                let column = column(name)?.as_primitive::<Float32Type>();
                values.extend(column.iter().map(|v| v.unwrap_or(f32::NAN)));
            }
        }
        Ok(())
    }
}

/// The levels in a knockout's name: `A@0.3+B` of the genes A and B has 0.3 and 0. Names may hold `@` and `+`.
fn levels<'a>(label: &str, genes: impl Iterator<Item = &'a str>) -> Result<Vec<f32>> {
    let (mut rest, mut levels) = (label, vec![]);
    for gene in genes {
        let after = rest.strip_prefix(gene).with_context(|| format!("`{label}` does not name {gene}"))?;
        let (level, next) = after.split_once('+').unwrap_or((after, ""));
        let level = level.strip_prefix('@').map_or(Ok(0.0), str::parse);
        levels.push(level.with_context(|| format!("`{label}` has no level of {gene}"))?);
        rest = next;
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_a_name_whatever_the_genes_are_called() {
        let read = |label: &str, genes: &[&str]| levels(label, genes.iter().copied()).unwrap();
        assert_eq!(read("A", &["A"]), [0.0]);
        assert_eq!(read("A@0.3+B+C@2", &["A", "B", "C"]), [0.3, 0.0, 2.0]);
        assert_eq!(read("a@0.3+x@b+c", &["a@0.3", "x@b+c"]), [0.0, 0.0]);
        assert_eq!(read("a@0.3@1.5+b+@0.5", &["a@0.3", "b+"]), [1.5, 0.5]);
        assert!(levels("A+B", ["A", "C"].into_iter()).is_err());
    }
}
