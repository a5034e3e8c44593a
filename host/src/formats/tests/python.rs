//! What is written, Python reads. Runs where LACUNA_PYTHON names a Python that has scanpy.

use std::process::Command;

use serde_json::json;

use super::written::rich;
use super::*;

/// Runs a script of tests/python; nothing where there is no Python for it.
pub(super) fn python(script: &str, arguments: &[PathBuf]) -> Option<String> {
    let Ok(python) = std::env::var("LACUNA_PYTHON") else {
        println!("skipped: LACUNA_PYTHON does not name a Python with scanpy");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

fn column(column: &Column) -> Value {
    let values = &column.values;
    let dtype = values.data_type().to_string().to_lowercase();
    let (kind, dtype) = match values.data_type().to_string().as_str() {
        "Boolean" => ("boolean", if values.null_count() > 0 { "boolean" } else { "bool" }.into()),
        "Utf8" => ("string", if values.null_count() > 0 { "string" } else { "object" }.into()),
        "Float32" | "Float64" => ("float", dtype),
        // pandas calls its own integers Int32 and UInt8.
        text if text.contains("Int") && values.null_count() > 0 && column.categories().is_none() => {
            ("integer", text.into())
        }
        _ if column.categories().is_none() => ("integer", dtype),
        _ => ("category", "category".into()),
    };
    let value = |text: Option<String>| match (text, kind) {
        (None, _) => Value::Null,
        (Some(text), "float" | "integer") => serde_json::from_str(&text).unwrap(),
        (Some(text), _) => text.into(),
    };
    let mut out = json!({ "name": column.name, "kind": kind, "dtype": dtype });
    out["values"] = column.texts().into_iter().map(value).collect();
    // A float of 32 bits is printed with as many digits as it needs; Python reads it as 64 bits.
    if *values.data_type() == arrow_schema::DataType::Float32 {
        let wide = |v: &Value| v.as_f64().map(|v| f64::from(v as f32));
        out["values"] = out["values"].as_array().unwrap().iter().map(wide).collect();
    }
    if let Some((_, names)) = column.categories() {
        out["categories"] = names.into();
        out["ordered"] = column.ordered.into();
    }
    out
}

fn matrix(x: &Csr) -> Value {
    json!({ "dense": dense(x), "indptr": x.offsets, "indices": x.indices, "data": x.values })
}

#[test]
fn python_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (cells, layer) = rich();
    let none = cells.select_cells(&[]);
    let cases = [(&cells, &layer), (&cells.select_cells(&[1]), &layer.select_rows(&[1])), (&none, &none.x)];
    let mut files = vec![];
    for (i, (cells, layer)) in cases.into_iter().enumerate() {
        let path = |end: &str| folder.path().join(format!("{i}.{end}"));
        h5ad::write(&path("h5ad"), cells, &[("ko_impact", layer)]).unwrap();
        let answer = json!({
            "obs_names": cells.obs.names,
            "var_names": cells.var.names,
            "obs": cells.obs.columns.iter().map(column).collect::<Vec<_>>(),
            "var": cells.var.columns.iter().map(column).collect::<Vec<_>>(),
            "matrices": { "X": matrix(&cells.x), "layers/ko_impact": matrix(layer) },
        });
        std::fs::write(path("json"), answer.to_string()).unwrap();
        files.extend([path("h5ad"), path("json")]);
    }
    python("formats_check.py", &files);
}

#[test]
fn python_reads_fixtures_that_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = vec![];
    for name in h5ad_names() {
        let file = H5ad::open(&fixture(&format!("{name}.h5ad"))).unwrap();
        let Ok(cells) = file.cells("X") else { continue };
        let layers = file.matrices().iter().filter_map(|m| m.name.strip_prefix("layers/"));
        let layers: Vec<_> =
            layers.map(|name| (name, file.read(&format!("layers/{name}")).unwrap())).collect();
        let layers: Vec<_> = layers.iter().map(|(name, x)| (*name, x)).collect();
        let path = folder.path().join(format!("{name}.h5ad"));
        h5ad::write(&path, &cells, &layers).unwrap();
        files.extend([path, fixture(&format!("{name}.json"))]);
    }
    python("formats_check.py", &files);
}
