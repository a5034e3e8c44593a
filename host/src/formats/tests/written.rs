//! Files that are written read back as the cells they were written from.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use proptest::prelude::*;

use super::*;

/// Cells with a column of every kind, with and without missing values, and a layer with a stored 0.
pub(super) fn rich() -> (Cells, Csr) {
    let x = Csr::from_parts(vec![1.0, 2.5, 3.0, 4.0], vec![0, 2, 1, 2], vec![0, 2, 2, 4], 3).unwrap();
    let mut layer = x.clone();
    layer.values[1] = 0.0;
    let mut obs = Frame::of_names(["a", "b", "c"].map(String::from).to_vec());
    obs.push(
        "category",
        Arc::new([Some("WT"), None, Some("KO β")].into_iter().collect::<DictionaryArray<Int8Type>>()),
    );
    obs.push(
        "stage",
        Arc::new([Some("late"), Some("early"), None].into_iter().collect::<DictionaryArray<Int32Type>>()),
    );
    obs.columns[1].ordered = true;
    obs.push("none", Arc::new([None::<&str>, None, None].into_iter().collect::<DictionaryArray<Int8Type>>()));
    obs.push("text", Arc::new(StringArray::from(vec!["größe", "", "x/y"])));
    obs.push("note", Arc::new(StringArray::from(vec![Some("n"), None, Some("")])));
    obs.push("i8", Arc::new(Int8Array::from(vec![i8::MIN, 0, i8::MAX])));
    obs.push("i16", Arc::new(Int16Array::from(vec![i16::MIN, 0, i16::MAX])));
    obs.push("i32", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)])));
    obs.push("i64", Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX])));
    obs.push("u8", Arc::new(UInt8Array::from(vec![None, Some(0), Some(u8::MAX)])));
    obs.push("u16", Arc::new(UInt16Array::from(vec![0, 1, u16::MAX])));
    obs.push("u32", Arc::new(UInt32Array::from(vec![0, 1, u32::MAX])));
    obs.push("u64", Arc::new(UInt64Array::from(vec![0, 1, u64::MAX])));
    obs.push("f32", Arc::new(Float32Array::from(vec![Some(0.1), None, Some(-1e30)])));
    obs.push("f64", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-1e300)])));
    obs.push("flag", Arc::new(BooleanArray::from(vec![true, false, true])));
    obs.push("maybe", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])));
    let mut var = Frame::of_names(["Trem2", "Apoe", "Trem2"].map(String::from).to_vec());
    var.push("gene_ids", Arc::new(StringArray::from(vec!["E1", "E2", "E3"])));
    (Cells::new(x, obs, var), layer)
}

#[track_caller]
fn check_same(read: &Frame, written: &Frame) {
    assert_eq!(read.names, written.names);
    assert_eq!(read.columns.len(), written.columns.len());
    for (a, b) in read.columns.iter().zip(&written.columns) {
        assert_eq!((&a.name, a.ordered, a.texts()), (&b.name, b.ordered, b.texts()));
        match (a.categories(), b.categories()) {
            (None, None) => assert_eq!(a.values.data_type(), b.values.data_type()),
            (a, b) => assert_eq!(a, b),
        }
    }
}

#[test]
fn every_kind_of_column_reads_back() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (cells, layer) = rich();
    h5ad::write(file.path(), &cells, &[("ko_impact", &layer)]).unwrap();
    let read = H5ad::open(file.path()).unwrap();
    assert_eq!(read.warnings(), [""; 0]);
    check_same(read.obs(), &cells.obs);
    check_same(read.var(), &cells.var);
    assert_eq!(read.read("X").unwrap(), cells.x);
    assert_eq!(dense(&read.read("layers/ko_impact").unwrap()), dense(&layer));
    let stored: Vec<_> = read.matrices().iter().map(|m| m.stored).collect();
    assert_eq!(stored, [Some(4), Some(4)], "the layer's stored 0 is kept");
}

#[test]
fn the_same_cells_make_the_same_bytes() {
    let (cells, layer) = rich();
    let bytes = || {
        let file = tempfile::NamedTempFile::new().unwrap();
        h5ad::write(file.path(), &cells, &[("ko_impact", &layer)]).unwrap();
        std::fs::read(file.path()).unwrap()
    };
    assert!(bytes() == bytes());
}

#[test]
fn fixtures_written_again_read_the_same() {
    for name in h5ad_names().iter().filter(|name| *name != "no-x") {
        let cells = load(&fixture(&format!("{name}.h5ad")), &Options::default()).unwrap().cells;
        let file = tempfile::NamedTempFile::new().unwrap();
        h5ad::write(file.path(), &cells, &[]).unwrap();
        let again = load(file.path(), &Options::default()).unwrap().cells;
        check_same(&again.obs, &cells.obs);
        check_same(&again.var, &cells.var);
        assert_eq!(bits(dense(&again.x)), bits(dense(&cells.x)), "{name}");
    }
}

#[test]
fn what_can_not_be_written_is_refused() {
    let (cells, layer) = rich();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.h5ad");
    let error = h5ad::write(&path, &cells, &[("small", &layer.select_rows(&[0]))]).unwrap_err();
    assert_eq!(error.to_string(), "the layer small is 1 × 3, X is 3 × 3");
    let mut twice = cells.clone();
    twice.obs.push("i8", Arc::new(Int8Array::from(vec![1, 2, 3])));
    assert!(format!("{:#}", h5ad::write(&path, &twice, &[]).unwrap_err()).contains("two columns \"i8\""));
    assert!(!path.exists());
}

#[test]
fn chunks_stay_below_what_hdf5_can_open() {
    let n = 100_000;
    let x = Csr::from_parts(vec![1.0; n], vec![0; n], (0..=n as u64).collect(), 1).unwrap();
    let names = (0..n).map(|i| i.to_string()).collect();
    let mut cells = Cells::new(x, Frame::of_names(names), Frame::of_names(vec!["g".into()]));
    cells.obs.push("n", Arc::new(Int64Array::from_iter_values(0..n as i64)));
    let file = tempfile::NamedTempFile::new().unwrap();
    h5ad::write(file.path(), &cells, &[]).unwrap();
    let written = hdf5_pure::File::open(file.path()).unwrap();
    for name in ["X/data", "X/indices", "X/indptr", "obs/n"] {
        assert_eq!(written.dataset(name).unwrap().chunk_shape().unwrap(), Some(vec![32_768]));
    }
    let read = H5ad::open(file.path()).unwrap();
    assert_eq!(read.read_rows("X", 70_000..70_003).unwrap().nnz(), 3);
    check_same(read.obs(), &cells.obs);
}

prop_compose! {
    fn any_cells()(rows in 0usize..9, cols in 1usize..7)(
        values in proptest::collection::vec(proptest::option::of(-9f32..9.0), rows * cols),
        numbers in proptest::collection::vec(proptest::option::of(any::<i16>()), rows),
        texts in proptest::collection::vec(proptest::option::of("[a-zß ]{0,5}"), rows),
        kinds in proptest::collection::vec(proptest::option::of("[xyz]"), rows),
        floats in proptest::collection::vec(proptest::option::of(-1e9f64..1e9), rows),
        names in proptest::collection::vec("[A-Zµ\\-]{1,8}", rows),
        cols in Just(cols),
    ) -> Cells {
        let mut x = Csr::empty(cols);
        values.chunks(cols).for_each(|row| x.push_row((0..).zip(row.iter().map(|v| v.unwrap_or(0.0)))));
        let mut obs = Frame::of_names(names);
        obs.push("numbers", Arc::new(Int16Array::from(numbers)));
        obs.push("texts", Arc::new(StringArray::from(texts)));
        let kinds: DictionaryArray<Int8Type> = kinds.iter().map(Option::as_deref).collect();
        obs.push("kinds", Arc::new(kinds));
        obs.push("floats", Arc::new(Float64Array::from(floats)));
        Cells::new(x, obs, Frame::of_names((0..cols).map(|j| format!("gene {j}")).collect()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_cells_read_back(cells in any_cells()) {
        let file = tempfile::NamedTempFile::new().unwrap();
        h5ad::write(file.path(), &cells, &[("same", &cells.x)]).unwrap();
        let loaded = load(file.path(), &Options::default()).unwrap();
        check_same(&loaded.cells.obs, &cells.obs);
        check_same(&loaded.cells.var, &cells.var);
        prop_assert_eq!(&loaded.cells.x, &cells.x);
        prop_assert_eq!(loaded.warnings, Vec::<String>::new());
    }
}
