//! Training, validation and test cells: drawn at random, or in each group of an annotation alike.

use crate::data::CellSet;
use crate::pipeline::{Call, Diagnostic, Input, Keys, PortType, Table, Value};
use crate::run::{Outputs, StepCx, seeded_stream};
use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Shares of the cells, and how they are drawn.
pub struct Split {
    from: Vec<Input>,
    test: f64,
    validation: f64,
    stratify: Option<String>,
}

const TEST: f64 = 0.2;
const VALIDATION: f64 = 0.16;

/// A share of 0 leaves no port.
pub fn ports(table: &Table) -> Vec<(&'static str, PortType)> {
    let share = |key: &str, default: f64| match table.get(key).map(|n| &n.value) {
        Some(Value::Float(x)) => *x,
        Some(Value::Integer(i)) => *i as f64,
        _ => default,
    };
    let mut ports = vec![("train", PortType::Cells)];
    if share("validation", VALIDATION) != 0.0 {
        ports.push(("validation", PortType::Cells));
    }
    if share("test", TEST) != 0.0 {
        ports.push(("test", PortType::Cells));
    }
    ports
}

impl Split {
    /// Keys: `from`, `test`, `validation`, `stratify`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let from = keys.required_inputs("from", &[PortType::Cells], "the cells to split");
        let test = keys.number("test", 0.0, 0.95).unwrap_or(TEST);
        let validation = keys.number("validation", 0.0, 0.95).unwrap_or(VALIDATION);
        let stratify = keys.text("stratify");
        if test + validation >= 1.0 {
            let at = keys.place_of("validation");
            keys.problem(Diagnostic::error(at, "`test` and `validation` together leave no cell to train on"));
        }
        Some(Self { from, test, validation, stratify })
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        self.from.iter().collect()
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        json!({ "test": self.test, "validation": self.validation, "stratify": self.stratify })
    }

    /// None.
    pub fn calls(&self) -> Vec<&Call> {
        vec![]
    }

    /// Splits; writes which cell went where.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let cells = cx.cell_set("from")?;
        let strata = match &self.stratify {
            None => vec![(0..cells.len()).collect()],
            Some(column) => strata(&cells, column)?,
        };
        let part = self.assign(cells.len(), &strata, cx.step_seed());
        let mut outputs = Outputs::default();
        let mut counts = serde_json::Map::new();
        for (number, (port, share)) in self.parts().into_iter().enumerate() {
            let rows: Vec<usize> = (0..cells.len()).filter(|&i| part[i] == number).collect();
            if share == 0.0 {
                continue;
            }
            ensure!(!rows.is_empty(), "{} cells are too few: none is left for `{port}`", cells.len());
            counts.insert(port.into(), rows.len().into());
            outputs.add_cells(port, cells.select_cells(&rows));
        }
        let mut csv = csv::Writer::from_writer(vec![]);
        csv.write_record(["cell", "part"])?;
        for (name, &part) in cells.obs().names.iter().zip(&part) {
            csv.write_record([name.as_str(), self.parts()[part].0])?;
        }
        cx.write("split.csv", &csv.into_inner()?)?;
        let headline: Vec<String> = counts.iter().map(|(port, n)| format!("{n} {port}")).collect();
        counts.insert("headline".into(), headline.join(", ").into());
        outputs.summary = Json::Object(counts);
        Ok(outputs)
    }

    fn parts(&self) -> [(&'static str, f64); 3] {
        let train = 1.0 - self.test - self.validation;
        [("train", train), ("validation", self.validation), ("test", self.test)]
    }

    /// The part of each cell. In each stratum the shares are met as nearly as whole cells allow.
    fn assign(&self, n: usize, strata: &[Vec<usize>], seed: u64) -> Vec<usize> {
        let mut part = vec![0; n];
        for (number, rows) in strata.iter().enumerate() {
            let mut rows = rows.clone();
            rows.shuffle(&mut seeded_stream(seed, number as u64));
            let count = |share: f64| (share * rows.len() as f64).round() as usize;
            let test = count(self.test);
            let held = (test + count(self.validation)).min(rows.len());
            rows[..test].iter().for_each(|&i| part[i] = 2);
            rows[test..held].iter().for_each(|&i| part[i] = 1);
        }
        part
    }
}

/// The rows of each value of an annotation, by value; cells without one are a stratum of their own.
fn strata(cells: &CellSet, column: &str) -> Result<Vec<Vec<usize>>> {
    let column = crate::run::obs_column(cells.obs(), column).context("`stratify`")?;
    let mut strata: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
    for (i, text) in column.texts().into_iter().enumerate() {
        strata.entry(text).or_default().push(i);
    }
    Ok(strata.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_met_in_each_stratum_and_the_seed_decides() {
        let split = Split { from: vec![], test: 0.2, validation: 0.16, stratify: None };
        let strata: Vec<Vec<usize>> = vec![(0..400).collect(), (400..500).collect()];
        let part = split.assign(500, &strata, 1);
        let count = |rows: std::ops::Range<usize>, p: usize| part[rows].iter().filter(|&&x| x == p).count();
        assert_eq!([count(0..400, 0), count(0..400, 1), count(0..400, 2)], [256, 64, 80]);
        assert_eq!([count(400..500, 0), count(400..500, 1), count(400..500, 2)], [64, 16, 20]);
        assert_eq!(split.assign(500, &strata, 1), part);
        assert_ne!(split.assign(500, &strata, 2), part);
    }
}
