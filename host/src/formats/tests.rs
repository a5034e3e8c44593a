//! Tests on the files in tests/fixtures/formats, which Python wrote, each with what Python reads from it.

mod damage;
mod python;
mod real;
mod refused;
mod written;

use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::data::{Column, Csr};

pub(super) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/formats")
}

pub(super) fn fixture(name: &str) -> PathBuf {
    fixtures().join(name)
}

/// All h5ad fixtures that can be read.
pub(super) fn h5ad_names() -> Vec<String> {
    let files = std::fs::read_dir(fixtures()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let stems = files.filter_map(|name| name.strip_suffix(".h5ad").map(String::from));
    let mut names: Vec<_> = stems.filter(|name| !name.starts_with("refused-")).collect();
    names.sort();
    assert!(names.len() > 10);
    names
}

fn answer(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap()).unwrap()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
}

fn float(value: &Value) -> f32 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap() as f32,
    }
}

pub(super) fn dense(x: &Csr) -> Vec<Vec<f32>> {
    let row = |i| {
        let mut row = vec![0.0; x.n_cols];
        x.row(i).0.iter().zip(x.row(i).1).for_each(|(&j, &v)| row[j as usize] = v);
        row
    };
    (0..x.n_rows()).map(row).collect()
}

/// Bits, so that NaN equals NaN.
fn bits(rows: Vec<Vec<f32>>) -> Vec<Vec<u32>> {
    rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
}

#[track_caller]
fn check_matrix(x: &Csr, expected: &Value) {
    let rows = expected["dense"].as_array().unwrap();
    let rows = rows.iter().map(|row| row.as_array().unwrap().iter().map(float).collect()).collect();
    assert_eq!(bits(dense(x)), bits(rows));
    assert!(x.values.iter().all(|&v| v != 0.0));
}

#[track_caller]
fn check_column(column: &Column, expected: &Value) {
    assert_eq!(column.name, expected["name"]);
    let values = expected["values"].as_array().unwrap();
    if expected["kind"] == "float" {
        let numbers = column.numbers().unwrap().into_iter().map(|v| v.map(|v| v as f32));
        assert_eq!(
            numbers.collect::<Vec<_>>(),
            values.iter().map(|v| v.as_f64().map(|v| v as f32)).collect::<Vec<_>>()
        );
        return;
    }
    let text = |v: &Value| match v {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        number => Some(number.to_string()),
    };
    assert_eq!(column.texts(), values.iter().map(text).collect::<Vec<_>>(), "{}", column.name);
    assert_eq!(column.categories().is_some(), expected["kind"] == "category", "{}", column.name);
    if let Some((_, names)) = column.categories() {
        assert_eq!(names, texts(&expected["categories"]));
        assert_eq!(column.ordered, expected["ordered"].as_bool().unwrap());
    }
}

#[track_caller]
fn check_frame(frame: &Frame, names: &Value, columns: &Value) {
    assert_eq!(frame.names, texts(names));
    let columns = columns.as_array().unwrap();
    assert_eq!(frame.columns.len(), columns.len());
    frame.columns.iter().zip(columns).for_each(|(column, expected)| check_column(column, expected));
}

#[test]
fn h5ad_files_read_as_python_reads_them() {
    for name in h5ad_names() {
        println!("{name}");
        let expected = answer(&name);
        let file = H5ad::open(&fixture(&format!("{name}.h5ad"))).unwrap();
        assert_eq!(file.warnings(), [""; 0]);
        check_frame(file.obs(), &expected["obs_names"], &expected["obs"]);
        check_frame(file.var(), &expected["var_names"], &expected["var"]);
        if let Some(raw) = file.raw_var() {
            check_frame(raw, &expected["raw_var_names"], &expected["raw_var"]);
        }
        let matrices = expected["matrices"].as_object().unwrap();
        assert_eq!(file.matrices().len(), matrices.len());
        for info in file.matrices() {
            let encoding = format!("{:?}", info.encoding).to_lowercase();
            assert_eq!(encoding, matrices[&info.name]["encoding"]);
            check_matrix(&file.read(&info.name).unwrap(), &matrices[&info.name]);
        }
    }
}

#[test]
fn some_cells_read_as_in_the_whole_matrix() {
    for name in h5ad_names() {
        let file = H5ad::open(&fixture(&format!("{name}.h5ad"))).unwrap();
        let n = file.obs().len();
        for info in file.matrices() {
            let whole = file.read(&info.name).unwrap();
            for start in 0..=n {
                for end in start..=n {
                    let rows = file.read_rows(&info.name, start..end).unwrap();
                    let expected = whole.select_rows(&(start..end).collect::<Vec<_>>());
                    assert_eq!((rows.offsets, rows.indices), (expected.offsets, expected.indices));
                }
            }
            assert!(file.read_rows(&info.name, n..n + 1).is_err());
            assert_eq!(bits(dense(&file.sample(&info.name, n).unwrap())), bits(dense(&whole)));
        }
    }
}

#[test]
fn a_sample_is_the_same_however_a_matrix_is_stored() {
    let rows = sample_rows(7, 3).into_iter().flatten().collect::<Vec<_>>();
    for name in ["csr-gzip", "csc", "dense-f32"] {
        let file = H5ad::open(&fixture(&format!("{name}.h5ad"))).unwrap();
        assert_eq!(file.sample("X", 3).unwrap(), file.read("X").unwrap().select_rows(&rows));
    }
}

#[test]
fn raw_cells_come_with_the_genes_of_raw() {
    let options = Options { matrix: Some("raw/X".into()), ..Default::default() };
    let loaded = load(&fixture("raw-and-layers.h5ad"), &options).unwrap();
    let expected = answer("raw-and-layers");
    check_matrix(&loaded.cells.x, &expected["matrices"]["raw/X"]);
    check_frame(&loaded.cells.var, &expected["raw_var_names"], &expected["raw_var"]);
    assert_eq!(ValueSummary::of(&loaded.cells.x).kind, ValueKind::Counts);
}

#[test]
fn look_says_what_each_matrix_holds() {
    let look = look(&fixture("raw-and-layers.h5ad"), &Options::default()).unwrap();
    let kinds =
        look.matrices.iter().map(|(info, values)| (info.name.as_str(), values.as_ref().unwrap().kind));
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [
            ("X", ValueKind::Log1p),
            ("layers/counts", ValueKind::Counts),
            ("layers/scaled", ValueKind::Scaled),
            ("raw/X", ValueKind::Counts)
        ]
    );
}

/// Everything but h5ad: one matrix, told by content.
#[track_caller]
fn check_load(file: &str, format: Format, options: &Options) -> Loaded {
    let path = fixture(file);
    assert_eq!(detect(&path).unwrap(), format);
    let loaded = load(&path, options).unwrap();
    let expected = answer(file.split('.').next().unwrap());
    check_matrix(&loaded.cells.x, &expected["matrices"]["X"]);
    check_frame(&loaded.cells.obs, &expected["obs_names"], &expected["obs"]);
    check_frame(&loaded.cells.var, &expected["var_names"], &expected["var"]);
    loaded
}

#[test]
fn tenx_folders_read_whichever_version_wrote_them() {
    let default = Options::default();
    let loaded = check_load("mtx-v3-gz", Format::TenxFolder, &default);
    let left = "4 features of the kind \"Gene Expression\" are kept, others left out: 1 Antibody Capture";
    assert_eq!(loaded.warnings, [left]);
    for name in ["mtx-v2", "mtx-real", "mtx-pattern"] {
        assert_eq!(check_load(name, Format::TenxFolder, &default).warnings, [""; 0]);
    }
}

#[test]
fn tenx_hdf5_reads_whichever_version_wrote_it() {
    let loaded = check_load("tenx-v3.h5", Format::TenxHdf5, &Options::default());
    assert!(loaded.warnings[0].contains("1 Antibody Capture"));
    check_load("tenx-v2.h5", Format::TenxHdf5, &Options::default());
}

#[test]
fn tables_read_with_and_without_names() {
    let default = Options::default();
    let names = [
        "table-bare.csv",
        "table-bare-windows.csv",
        "table-pandas.csv.gz",
        "table-tabs.tsv",
        "table-semicolons.csv",
    ];
    for name in names.into_iter().chain(["table-r.tsv"]) {
        println!("{name}");
        check_load(name, Format::Table, &default);
    }
    let turned = Options { orientation: Some("genes-by-cells".parse().unwrap()), ..default };
    let loaded = check_load("table-genes-by-cells.csv", Format::Table, &turned);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn a_table_that_stands_either_way_says_how_it_was_read() {
    let warnings = load(&fixture("table-genes-by-cells.csv"), &Options::default()).unwrap().warnings;
    assert!(warnings[0].contains("5 cells (rows, \"Trem2\" first) × 7 genes (columns, \"AAAC-1\" first)"));
}

#[test]
fn an_open_file_is_read_by_several_threads() {
    let file = H5ad::open(&fixture("csr-gzip.h5ad")).unwrap();
    let whole = file.read("X").unwrap();
    std::thread::scope(|scope| {
        for i in 0..7 {
            let (file, whole) = (&file, &whole);
            scope.spawn(move || assert_eq!(file.read_rows("X", i..i + 1).unwrap(), whole.select_rows(&[i])));
        }
    });
}

#[test]
fn gene_names_come_from_a_list_or_the_first_column_of_a_table() {
    for list in ["gene-names.txt", "gene-names.csv"] {
        let options = Options { gene_names: Some(fixture(list)), ..Default::default() };
        let loaded = load(&fixture("table-bare.csv"), &options).unwrap();
        assert_eq!(loaded.cells.var.names, ["Trem2", "Apoe", "β-actin", "MT-CO1", "Cd9"]);
    }
}
