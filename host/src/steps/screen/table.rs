//! The impacts of a screen as Parquet parts, written and read.

use super::Shot;
use super::population::POPULATION;
use crate::data::{Cells, Csr, Knockouts};
use anyhow::{Context, Result, bail};
use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// All rows of a screen.
pub struct ImpactTable {
    /// The knockouts, in the order of results.
    pub knockouts: Knockouts,
    /// The names of the impact columns.
    pub columns: Vec<String>,
    /// The impacts, one list for each column; NaN where there is no value.
    pub values: Vec<Vec<f32>>,
    /// Of each column, whether the lowest values are the strongest effects, as those of an agreement are.
    pub lowest_first: Vec<bool>,
}

/// All rows of one knockout.
pub struct Ranked {
    /// Its name.
    pub label: String,
    /// Its rows.
    pub rows: Vec<usize>,
    /// The mean impact; its negative where the lowest are the strongest.
    pub strength: f64,
}

/// How Parquet files are written: the same content gives the same bytes.
pub fn writer_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("lacuna {}", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Writes a table whole or not at all.
pub fn write_parquet(path: &Path, batches: &[RecordBatch]) -> Result<()> {
    let Some(first) = batches.first() else { bail!("no table for {}", path.display()) };
    let temporary = path.with_extension("parquet.tmp");
    let place = || format!("cannot write {}", path.display());
    let file = File::create(&temporary).with_context(place)?;
    let mut writer =
        ArrowWriter::try_new(file, first.schema(), Some(writer_properties())).with_context(place)?;
    for batch in batches {
        writer.write(batch).with_context(place)?;
    }
    let file = writer.into_inner().with_context(place)?;
    file.sync_all().with_context(place)?;
    std::fs::rename(&temporary, path).with_context(place)
}

/// Writes one part.
pub fn write_part(path: &Path, knockouts: &Knockouts, impacts: &[Vec<f32>], shot: &Shot<'_>) -> Result<()> {
    let columns: Vec<(&str, &[f32])> =
        shot.measures.iter().zip(impacts).map(|(m, values)| (m.column.as_str(), values.as_slice())).collect();
    write_knockouts(path, knockouts, &columns, shot.cells)
}

/// Writes knockouts with their impacts; NaN means that there is none.
pub fn write_knockouts(
    path: &Path,
    knockouts: &Knockouts,
    impacts: &[(&str, &[f32])],
    cells: &Cells,
) -> Result<()> {
    let (obs, var) = (&cells.obs.names, &cells.var.names);
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

impl ImpactTable {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.knockouts.len()
    }

    /// Reads all parts of a screen of these cells.
    pub fn read(dir: &Path, cells: &Cells) -> Result<Self> {
        let place = || format!("cannot read {}", dir.display());
        let manifest: Json =
            serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).with_context(place)?)?;
        let listed = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
        let columns: Vec<String> =
            listed("impacts").iter().filter_map(|i| Some(i["column"].as_str()?.to_string())).collect();
        let values = vec![vec![]; columns.len()];
        let lowest_first = listed("impacts").iter().map(|i| i["strongest"] == "lowest").collect();
        let mut table = Self { knockouts: Knockouts::default(), columns, values, lowest_first };
        let index = |names: &[String]| -> HashMap<String, u32> {
            names.iter().enumerate().map(|(i, name)| (name.clone(), i as u32)).collect()
        };
        let (obs, var) = (index(&cells.obs.names), index(&cells.var.names));
        for part in listed("parts") {
            let path = dir.join(part["file"].as_str().unwrap_or_default());
            table.read_part(&path, &obs, &var).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(table)
    }

    fn read_part(
        &mut self,
        path: &Path,
        obs: &HashMap<String, u32>,
        var: &HashMap<String, u32>,
    ) -> Result<()> {
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

    /// All knockouts, those with the strongest mean impact of this column first; ties by name.
    pub fn rows_by_knockout(&self, column: usize, cells: &Cells) -> Vec<Ranked> {
        let mut rows: HashMap<String, Vec<usize>> = HashMap::new();
        for i in 0..self.len() {
            rows.entry(self.knockouts.label(i, &cells.var.names)).or_default().push(i);
        }
        let sign = if self.lowest_first[column] { -1.0 } else { 1.0 };
        let strength = |rows: &[usize]| {
            let values =
                rows.iter().map(|&i| sign * f64::from(self.values[column][i])).filter(|v| !v.is_nan());
            let (sum, n) = values.fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
            if n == 0 { f64::NEG_INFINITY } else { sum / f64::from(n) }
        };
        let mut ranked: Vec<Ranked> =
            rows.into_iter().map(|(label, rows)| Ranked { strength: strength(&rows), label, rows }).collect();
        ranked.sort_by(|a, b| b.strength.total_cmp(&a.strength).then_with(|| a.label.cmp(&b.label)));
        ranked
    }

    /// The impacts of single knockouts as cells × genes; explicit zeros are kept, others are not stored.
    pub fn layer(&self, values: &[f32], cells: &Cells) -> Csr {
        let mut layer = Csr::empty(cells.n_genes());
        let mut runs = self.knockouts.by_cell().into_iter().peekable();
        for cell in 0..cells.len() {
            if let Some((_, rows)) = runs.next_if(|(c, _)| *c == cell) {
                for i in rows {
                    if let (Some(gene), false) = (self.knockouts.single(i), values[i].is_nan()) {
                        layer.indices.push(gene);
                        layer.values.push(values[i]);
                    }
                }
            }
            layer.offsets.push(layer.values.len() as u64);
        }
        layer
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
