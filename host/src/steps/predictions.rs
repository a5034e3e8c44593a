//! Anyone's predicted effects, from a table or an h5ad file, to stand beside models in an evaluation.

use crate::formats::{self, Format};
use crate::pipeline::{Call, Diagnostic, Input, Keys};
use crate::run::{Outputs, StepCx, json_bytes, obs_column};
use crate::steps::screen::write_parquet;
use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of predicted effects.
pub struct Predictions {
    path: PathBuf,
    shown: String,
    columns: Columns,
    perturbation: Option<String>,
    matrix: String,
}

/// The names of a table's columns.
struct Columns {
    knockout: String,
    gene: String,
    effect: String,
}

/// Predicted effects: of a perturbation, by its label, on each gene.
#[derive(Debug, Default, PartialEq)]
pub struct Predicted {
    effects: BTreeMap<String, HashMap<String, f64>>,
}

const FILE: &str = "predictions.parquet";

impl Predictions {
    /// Keys: `path`; `columns` of a table; `perturbation` and `layer` of an h5ad.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let path = keys.required_path("path", "the file of predicted effects");
        let read = |keys: &mut Keys<'_>| {
            let mut name = |key: &'static str| keys.text(key).unwrap_or_else(|| key.into());
            Columns { knockout: name("knockout"), gene: name("gene"), effect: name("effect") }
        };
        let columns = keys.inner("columns", read);
        let perturbation = keys.text("perturbation");
        let matrix = keys.text("layer").map_or_else(|| "X".into(), |name| format!("layers/{name}"));
        if columns.is_some() && perturbation.is_some() {
            let title =
                "`columns` are those of a table, `perturbation` is an annotation of an h5ad: give one";
            keys.problem(Diagnostic::error(keys.place_of("columns"), title));
        }
        let own = |name: &str| name.to_string();
        let usual = || Columns { knockout: own("knockout"), gene: own("gene"), effect: own("effect") };
        let (path, shown) = path?;
        Some(Self { path, shown, columns: columns.unwrap_or_else(usual), perturbation, matrix })
    }

    /// None.
    pub fn inputs(&self) -> Vec<&Input> {
        vec![]
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        json!({
            "path": self.shown, "perturbation": self.perturbation, "matrix": self.matrix,
            "columns": [self.columns.knockout, self.columns.gene, self.columns.effect],
        })
    }

    /// None.
    pub fn calls(&self) -> Vec<&Call> {
        vec![]
    }

    /// The file.
    pub fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    /// Reads and checks; writes the effects as one table, whatever they came from.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let predicted = self.read().with_context(|| self.shown.clone())?;
        ensure!(!predicted.effects.is_empty(), "{} has no predicted effects", self.shown);
        predicted.write(&cx.path(FILE))?;
        let genes: BTreeSet<&String> = predicted.effects.values().flat_map(HashMap::keys).collect();
        let (n, genes) = (predicted.effects.len(), genes.len());
        let summary = json!({
            "headline": format!("effects of {n} perturbations on {genes} genes"),
            "perturbations": n, "genes": genes,
        });
        cx.write("predictions.json", &json_bytes(&summary)?)?;
        Ok(Outputs { summary, ..Outputs::default() })
    }

    fn read(&self) -> Result<Predicted> {
        if is_parquet(&self.path)? {
            return self.read_parquet();
        }
        match formats::detect(&self.path)? {
            Format::H5ad => self.read_h5ad(),
            Format::Table => self.read_text(),
            other => bail!("this is a {other}; expected a table (CSV, TSV, Parquet) or an h5ad file"),
        }
    }

    /// A row of the matrix is a perturbation; what is not stored is 0.
    fn read_h5ad(&self) -> Result<Predicted> {
        let options = formats::Options { matrix: Some(self.matrix.clone()), ..Default::default() };
        let cells = formats::load(&self.path, &options)?.cells;
        let labels = match &self.perturbation {
            None => cells.obs.names.clone(),
            Some(name) => {
                let values = obs_column(&cells.obs, name)?.texts();
                let of = |(i, label): (usize, Option<String>)| {
                    label.with_context(|| format!("`{name}` has no value in row {}", cells.obs.names[i]))
                };
                values.into_iter().enumerate().map(of).collect::<Result<_>>()?
            }
        };
        let mut predicted = Predicted::default();
        for (i, label) in labels.iter().enumerate() {
            let (genes, values) = cells.x.row(i);
            let mut row = vec![0.0; cells.n_genes()];
            genes.iter().zip(values).for_each(|(&gene, &value)| row[gene as usize] = f64::from(value));
            for (gene, effect) in cells.var.names.iter().zip(row) {
                predicted.add(label, gene, effect)?;
            }
        }
        Ok(predicted)
    }

    fn read_text(&self) -> Result<Predicted> {
        let text = formats::read_text(&self.path)?;
        let head = text.lines().next().unwrap_or_default();
        let delimiter = ['\t', ';', ','].into_iter().find(|d| head.contains(*d)).unwrap_or(',');
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter as u8).from_reader(text.as_bytes());
        let names: Vec<String> = reader.headers()?.iter().map(String::from).collect();
        let [knockout, gene, effect] = self.columns.places(&names)?;
        let mut predicted = Predicted::default();
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |at: usize| record.get(at).unwrap_or_default();
            let number = field(effect).trim();
            let value = number.parse().map_err(|_| {
                anyhow!("line {line}: expected a number as `{}`, found `{number}`", names[effect])
            })?;
            predicted.add(field(knockout), field(gene), value).with_context(|| format!("line {line}"))?;
        }
        Ok(predicted)
    }

    fn read_parquet(&self) -> Result<Predicted> {
        let mut predicted = Predicted::default();
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(&self.path)?)?.build()? {
            let batch = batch?;
            let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
            let places = self.columns.places(&names)?;
            let column = |at: usize, wanted: DataType| {
                let found = batch.column(places[at]);
                arrow_cast(found, &wanted)
                    .with_context(|| format!("column `{}` is {}", names[places[at]], found.data_type()))
            };
            let (labels, genes) = (column(0, DataType::Utf8)?, column(1, DataType::Utf8)?);
            let effects = column(2, DataType::Float64)?;
            let rows = labels.as_string::<i32>().iter().zip(genes.as_string::<i32>().iter());
            for ((label, gene), effect) in rows.zip(effects.as_primitive::<Float64Type>()) {
                let (Some(label), Some(gene), Some(effect)) = (label, gene, effect) else {
                    bail!("expected a knockout, a gene and an effect in each row, found a missing value");
                };
                predicted.add(label, gene, effect)?;
            }
        }
        Ok(predicted)
    }
}

fn is_parquet(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    Ok(read.is_ok() && magic == *b"PAR1")
}

/// The column as texts, or as numbers, whatever their width.
fn arrow_cast(column: &ArrayRef, wanted: &DataType) -> Option<ArrayRef> {
    let of = crate::data::Column { name: String::new(), values: column.clone(), ordered: false };
    let texts = of.texts();
    match wanted {
        DataType::Utf8 => Some(Arc::new(StringArray::from(texts))),
        _ if matches!(
            column.data_type(),
            DataType::Utf8 | DataType::Dictionary(_, _) | DataType::Boolean
        ) =>
        {
            None
        }
        _ => {
            let numbers: Option<Vec<f64>> = texts.into_iter().map(|t| t?.parse().ok()).collect();
            Some(Arc::new(Float64Array::from(numbers?)))
        }
    }
}

impl Columns {
    fn places(&self, names: &[String]) -> Result<[usize; 3]> {
        let place = |wanted: &String| {
            names.iter().position(|name| name == wanted).with_context(|| {
                format!(
                    "there is no column `{wanted}`; there are: {}. Name them: `columns`",
                    names.join(", ")
                )
            })
        };
        Ok([place(&self.knockout)?, place(&self.gene)?, place(&self.effect)?])
    }
}

impl Predicted {
    fn add(&mut self, label: &str, gene: &str, effect: f64) -> Result<()> {
        ensure!(effect.is_finite(), "expected a finite effect of {label} on {gene}, found {effect}");
        let row = self.effects.entry(label.trim().into()).or_default();
        ensure!(row.insert(gene.into(), effect).is_none(), "there are two effects of {label} on {gene}");
        Ok(())
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut rows: Vec<(&str, &str, f64)> = vec![];
        for (label, effects) in &self.effects {
            rows.extend(effects.iter().map(|(gene, effect)| (label.as_str(), gene.as_str(), *effect)));
        }
        rows.sort_by_key(|row| (row.0, row.1));
        let text = |of: fn(&(&str, &str, f64)) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let effects: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)));
        let columns =
            [("knockout", text(|row| row.0.into())), ("gene", text(|row| row.1.into())), ("effect", effects)];
        write_parquet(path, &[RecordBatch::try_from_iter(columns)?])
    }

    /// What a step of this kind wrote into its folder.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut predicted = Self::default();
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(dir.join(FILE))?)?.build()? {
            let batch = batch?;
            let (labels, genes) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            for ((label, gene), effect) in
                labels.iter().zip(genes).zip(batch.column(2).as_primitive::<Float64Type>())
            {
                predicted.add(
                    label.unwrap_or_default(),
                    gene.unwrap_or_default(),
                    effect.unwrap_or(f64::NAN),
                )?;
            }
        }
        Ok(predicted)
    }

    /// The labels of the perturbations.
    pub fn labels(&self) -> Vec<String> {
        self.effects.keys().cloned().collect()
    }

    /// The effects of a perturbation on these genes, and how many of them there are; 0 for genes without one.
    pub fn of(&self, label: &str, genes: &[String]) -> (Vec<f32>, usize) {
        let Some(row) = self.effects.get(label) else { return (vec![0.0; genes.len()], 0) };
        let found: Vec<Option<f64>> = genes.iter().map(|gene| row.get(gene).copied()).collect();
        let known = found.iter().flatten().count();
        (found.into_iter().map(|effect| effect.unwrap_or(0.0) as f32).collect(), known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Result<Predicted> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("effects.txt");
        std::fs::write(&path, text)?;
        let own = |name: &str| name.to_string();
        let columns = Columns { knockout: own("ko"), gene: own("gene"), effect: own("lfc") };
        Predictions { path, shown: own("effects.txt"), columns, perturbation: None, matrix: own("X") }.read()
    }

    #[test]
    fn tables_of_any_delimiter_are_read_and_written_again() {
        let read = step("ko\tgene\tlfc\nA+ctrl\tB\t-0.5\nA+ctrl\tC\t1e-3\nD\tB\t2\n").unwrap();
        assert_eq!(read, step("gene,x,ko,lfc\nB,1,D,2\nB,1,A+ctrl,-0.5\nC,1,A+ctrl,0.001\n").unwrap());
        let dir = tempfile::tempdir().unwrap();
        read.write(&dir.path().join(FILE)).unwrap();
        assert_eq!(Predicted::open(dir.path()).unwrap(), read);
        let genes = ["C", "X", "B"].map(String::from);
        assert_eq!(read.of("A+ctrl", &genes), (vec![0.001, 0.0, -0.5], 2));
        assert_eq!(read.of("Z", &genes), (vec![0.0; 3], 0));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = |text: &str| format!("{:#}", step(text).unwrap_err());
        let cases = [
            ("ko,gene,effect\nA,B,1\n", "there is no column `lfc`; there are: ko, gene, effect"),
            ("ko,gene,lfc\nA,B,high\n", "line 2: expected a number as `lfc`, found `high`"),
            ("ko,gene,lfc\nA,B,1\nA,B,2\n", "line 3: there are two effects of A on B"),
            ("ko,gene,lfc\nA,B,NaN\n", "line 2: expected a finite effect of A on B, found NaN"),
        ];
        for (text, expected) in cases {
            assert!(error(text).contains(expected), "{}", error(text));
        }
    }
}
