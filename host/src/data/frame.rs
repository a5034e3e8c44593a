//! Annotations of cells (obs) or genes (var): names and columns.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt64Array};
use arrow_schema::DataType;
use std::collections::HashMap;

/// One annotation. Categories are an Arrow dictionary of strings, whose values keep the categories' order.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// One entry for each row: strings, categories, integers, floats or booleans; nulls are missing values.
    pub values: ArrayRef,
    /// Whether categories have an order.
    pub ordered: bool,
}

/// Names of the rows and their annotations.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Unique names of the rows.
    pub names: Vec<String>,
    /// The annotations, in the order of the file.
    pub columns: Vec<Column>,
}

impl Frame {
    /// Names only.
    pub fn of_names(names: Vec<String>) -> Self {
        Self { names, columns: vec![] }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Which row each name has.
    pub fn index(&self) -> HashMap<&str, u32> {
        self.names.iter().enumerate().map(|(i, name)| (name.as_str(), i as u32)).collect()
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Adds a column.
    pub fn push(&mut self, name: &str, values: ArrayRef) {
        self.columns.push(Column { name: name.into(), values, ordered: false });
    }

    /// These rows, in this order. Categories stay, used or not.
    pub fn select(&self, rows: &[usize]) -> Self {
        let names = rows.iter().map(|&i| self.names[i].clone()).collect();
        self.rows(names, &rows.iter().map(|&i| Some(i)).collect::<Vec<_>>())
    }

    /// Rows of these names, each with the annotations of one of the rows here, or with none.
    pub fn rows(&self, names: Vec<String>, rows: &[Option<usize>]) -> Self {
        let at = UInt64Array::from_iter(rows.iter().map(|row| row.map(|i| i as u64)));
        let take = |c: &Column| Column { values: take(&c.values, &at), ..c.clone() };
        Self { names, columns: self.columns.iter().map(take).collect() }
    }

    /// Makes names unique as anndata does: the second `x` becomes `x-1`. Says how many were changed.
    pub fn make_names_unique(&mut self) -> usize {
        let mut seen: std::collections::HashSet<String> = self.names.iter().cloned().collect();
        let mut first: std::collections::HashSet<String> = Default::default();
        let mut next: std::collections::HashMap<String, usize> = Default::default();
        let mut changed = 0;
        for name in &mut self.names {
            if first.insert(name.clone()) {
                continue;
            }
            let count = next.entry(name.clone()).or_insert(1);
            let mut candidate = format!("{name}-{count}");
            while !seen.insert(candidate.clone()) {
                *count += 1;
                candidate = format!("{name}-{count}");
            }
            *count += 1;
            *name = candidate;
            changed += 1;
        }
        changed
    }
}

fn take(values: &ArrayRef, at: &UInt64Array) -> ArrayRef {
    arrow_select::take::take(values, at, None).expect("rows within range")
}

impl Column {
    /// Each row's value as text, as it would be written in a pipeline; `None` where it is missing.
    pub fn texts(&self) -> Vec<Option<String>> {
        use arrow_array::types::*;
        let values = &self.values;
        macro_rules! texts {
            ($($type:ident => $arrow:ty),*) => {
                match values.data_type() {
                    $(DataType::$type => {
                        values.as_primitive::<$arrow>().iter().map(|v| v.map(|v| v.to_string())).collect()
                    })*
                    DataType::Boolean => values.as_boolean().iter().map(|v| v.map(|v| v.to_string())).collect(),
                    DataType::Utf8 => values.as_string::<i32>().iter().map(|v| v.map(String::from)).collect(),
                    DataType::Dictionary(_, _) => self.category_texts(),
                    _ => vec![None; values.len()],
                }
            };
        }
        texts!(Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type, UInt8 => UInt8Type,
            UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type, Float32 => Float32Type,
            Float64 => Float64Type)
    }

    /// Each row's category and the names of the categories, used or not; nothing at all where it has none.
    pub fn categories(&self) -> Option<(Vec<Option<usize>>, Vec<&str>)> {
        let dictionary = self.values.as_any_dictionary_opt()?;
        let names = dictionary.values().as_string_opt::<i32>()?;
        // Keys can't be normalised where there is no category, as in a column of missing values.
        let keys = if names.is_empty() { vec![0; self.values.len()] } else { dictionary.normalized_keys() };
        let code = |(i, key)| (!self.values.is_null(i)).then_some(key);
        Some((
            keys.into_iter().enumerate().map(code).collect(),
            names.iter().map(Option::unwrap_or_default).collect(),
        ))
    }

    fn category_texts(&self) -> Vec<Option<String>> {
        let Some((codes, names)) = self.categories() else { return vec![None; self.values.len()] };
        codes.into_iter().map(|code| code.map(|code| names[code].to_string())).collect()
    }

    /// Each row's value as a number; `None` where it is missing, and nothing at all where it is no number.
    pub fn numbers(&self) -> Option<Vec<Option<f64>>> {
        let texts = self.texts();
        let is_number = |t: &String| t.parse::<f64>().is_ok();
        let numeric = self.values.data_type().is_numeric() || texts.iter().flatten().all(is_number);
        numeric.then(|| texts.into_iter().map(|t| t.and_then(|t| t.parse().ok())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::types::Int8Type;
    use arrow_array::{BooleanArray, DictionaryArray, Int32Array};
    use std::sync::Arc;

    #[test]
    fn repeated_names_become_unique_without_meeting_a_taken_one() {
        let mut frame = Frame::of_names(["a", "a", "a-1", "b", "a"].map(String::from).to_vec());
        assert_eq!(frame.make_names_unique(), 2);
        assert_eq!(frame.names, ["a", "a-2", "a-1", "b", "a-3"]);
    }

    #[test]
    fn columns_read_as_text_and_follow_selected_rows() {
        let mut frame = Frame::of_names(["x", "y", "z"].map(String::from).to_vec());
        let kinds: DictionaryArray<Int8Type> = [Some("WT"), None, Some("KO")].into_iter().collect();
        frame.push("condition", Arc::new(kinds));
        frame.push("n", Arc::new(Int32Array::from(vec![Some(4), None, Some(6)])));
        frame.push("doublet", Arc::new(BooleanArray::from(vec![true, false, true])));
        let picked = frame.select(&[2, 1]);
        assert_eq!(picked.names, ["z", "y"]);
        assert_eq!(picked.column("condition").unwrap().texts(), [Some("KO".into()), None]);
        assert_eq!(picked.column("n").unwrap().numbers().unwrap(), [Some(6.0), None]);
        assert_eq!(picked.column("doublet").unwrap().texts()[0].as_deref(), Some("true"));
        assert!(picked.column("doublet").unwrap().numbers().is_none());
    }

    #[test]
    fn a_column_of_missing_categories_has_no_texts() {
        let none: DictionaryArray<Int8Type> = [None::<&str>, None].into_iter().collect();
        let column = Column { name: "x".into(), values: Arc::new(none), ordered: false };
        assert_eq!(column.texts(), [None, None]);
        assert_eq!(column.categories(), Some((vec![None, None], vec![])));
    }
}
