//! What a fit chose of its model's parameters: further fits of the same model are given it.

use crate::data::Column;
use crate::pipeline::Call;
use anyhow::{Context, Result, ensure};
use arrow_array::RecordBatch;
use serde_json::{Map, Value as Json};

/// The table in which a fitted model tells it.
pub const TABLE: &str = "chosen";

/// The values by parameter, from that table of a model whose parameters this schema describes.
pub fn read(table: &RecordBatch, schema: &Json) -> Result<Map<String, Json>> {
    let (names, values) = (texts(table, "parameter")?, texts(table, "value")?);
    names.into_iter().zip(values).map(|(name, value)| of_parameter(name, &value, schema)).collect()
}

fn of_parameter(name: String, value: &str, schema: &Json) -> Result<(String, Json)> {
    let known: Vec<&String> =
        schema["properties"].as_object().into_iter().flat_map(|known| known.keys()).collect();
    ensure!(known.contains(&&name), "expected a parameter of the model, one of {known:?}, found `{name}`");
    let value = serde_json::from_str(value)
        .with_context(|| format!("expected JSON as the value of `{name}`, found `{value}`"))?;
    Ok((name, value))
}

fn texts(table: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let schema = table.schema();
    let found = || schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
    let values = table
        .column_by_name(name)
        .with_context(|| format!("expected the columns parameter, value, found {}", found()))?;
    let column = Column { name: name.into(), values: values.clone(), ordered: false };
    let texts = column.texts().into_iter().enumerate();
    let told = |(row, text): (usize, Option<String>)| {
        text.with_context(|| format!("row {}: expected a {name}, found none", row + 1))
    };
    texts.map(told).collect()
}

/// The same component with these values of its parameters.
pub fn given(call: &Call, chosen: &Map<String, Json>) -> Call {
    let mut call = call.clone();
    for params in [&mut call.params.values, &mut call.params.written] {
        chosen.iter().for_each(|(name, value)| params[name] = value.clone());
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, StringArray};
    use serde_json::json;
    use std::sync::Arc;

    fn read_of(columns: [(&str, &[Option<&str>]); 2]) -> Result<Map<String, Json>> {
        let column = |values: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
        let columns = columns.map(|(name, values)| (name, column(values)));
        let schema =
            json!({ "properties": { "penalty": { "type": "number" }, "response": { "type": "string" } } });
        read(&RecordBatch::try_from_iter(columns)?, &schema)
    }

    #[test]
    fn values_are_json_by_parameter() {
        let names = [Some("penalty"), Some("response")];
        let found = read_of([("parameter", &names), ("value", &[Some("1e-3"), Some("\"linear\"")])]).unwrap();
        assert_eq!(Json::Object(found), json!({ "penalty": 0.001, "response": "linear" }));
        assert!(read_of([("value", &[]), ("parameter", &[])]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_choice_is_an_error_that_says_so() {
        fn said(columns: [(&str, &[Option<&str>]); 2]) -> String {
            format!("{:#}", read_of(columns).unwrap_err())
        }
        let one = |name, value| said([("parameter", &[name]), ("value", &[value])]);
        let unknown = one(Some("penalti"), Some("1"));
        assert!(
            unknown.contains("\"penalty\", \"response\"") && unknown.contains("found `penalti`"),
            "{unknown}"
        );
        assert!(one(Some("response"), Some("linear")).contains("expected JSON as the value of `response`"));
        assert_eq!(one(Some("penalty"), None), "row 1: expected a value, found none");
        let other = said([("name", &[]), ("value", &[])]);
        assert_eq!(other, "expected the columns parameter, value, found name, value");
    }
}
