//! Tables as CSV files.

use anyhow::Result;
use arrow_array::RecordBatch;

/// A table as CSV with a header. Numbers are written so that they read back exactly; nulls are empty.
pub fn write_csv(table: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(vec![]);
    let schema = table.schema();
    writer.write_record(schema.fields().iter().map(|f| f.name().as_str()))?;
    let columns: Vec<Vec<Option<String>>> = table
        .columns()
        .iter()
        .map(|values| {
            crate::data::Column { name: String::new(), values: values.clone(), ordered: false }.texts()
        })
        .collect();
    for row in 0..table.num_rows() {
        writer.write_record(columns.iter().map(|c| c[row].as_deref().unwrap_or("")))?;
    }
    Ok(writer.into_inner()?)
}
