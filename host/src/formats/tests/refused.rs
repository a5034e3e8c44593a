//! What can't be read is refused with words that help.

use std::io::Write;
use std::path::Path;

use flate2::write::GzEncoder;
use hdf5_pure::{AttrValue, FileBuilder};

use super::*;

#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let error = match load(path, &Options::default()) {
        Ok(_) => panic!("{} was read", path.display()),
        Err(error) => format!("{error:#}"),
    };
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[track_caller]
fn refused_bytes(bytes: &[u8], words: &[&str]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    refused(file.path(), words);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(vec![], flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn other_formats_are_named_with_a_way_out() {
    refused_bytes(b"", &["empty"]);
    refused_bytes(b" \n\n ", &["nothing but blanks"]);
    refused_bytes(b"PK\x03\x04....", &["zip", "Lacuna reads h5ad"]);
    refused_bytes(&gzip(b"RDX3\nX\n..."), &["R workspace"]);
    let h5ad = std::fs::read(fixture("one-cell.h5ad")).unwrap();
    refused_bytes(&gzip(&h5ad), &["gzipped HDF5", "gunzip"]);
    refused_bytes(&gzip(b"X\n\0\0\0\x03\0\x04"), &["R object (.rds)", "write10xCounts"]);
    refused_bytes(b"\xff\xfea\0,\0", &["UTF-16"]);
    refused_bytes(b"a,\xe9,b\n1,2,3\n", &["not UTF-8", "byte 2"]);
    refused_bytes(b"1,2\n3,\x004\n", &["binary"]);
    refused_bytes(b"Dear reader\nthis is a letter\n", &["text that is no table"]);
    refused_bytes(b"<!DOCTYPE html>\n<html>", &["web page", "download"]);
    refused_bytes(b"{\"a\": [1, 2]}", &["JSON"]);
    refused_bytes(b"%%MatrixMarket matrix coordinate integer general\n", &["give the folder"]);
    refused_bytes(&gzip(b"1,2\n3,4\n")[..20], &["damaged"]);
    refused(Path::new("no/such/file"), &["no such file"]);
}

fn hdf5(build: impl FnOnce(&mut FileBuilder)) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut builder = FileBuilder::new();
    build(&mut builder);
    builder.write(file.path()).unwrap();
    file
}

fn add_groups(builder: &mut FileBuilder, names: &[&str]) {
    for name in names {
        let group = builder.create_group(name);
        builder.add_group(group.finish());
    }
}

#[test]
fn other_hdf5_files_are_named_with_a_way_out() {
    let mudata = hdf5(|b| b.set_attr("encoding-type", AttrValue::String("MuData".into())));
    refused(mudata.path(), &["MuData", "modalit"]);
    let loom = hdf5(|b| {
        b.create_dataset("matrix").with_f32_data(&[1.0]).with_shape(&[1, 1]);
        add_groups(b, &["row_attrs", "col_attrs"]);
    });
    refused(loom.path(), &["loom"]);
    let seurat = hdf5(|b| add_groups(b, &["assays", "meta.data"]));
    refused(seurat.path(), &["h5Seurat"]);
    let other = hdf5(|b| add_groups(b, &["a", "b", "c", "d", "e", "f", "g", "h"]));
    refused(other.path(), &["another kind", "a, b, c, d, e, f and 2 more"]);
    let genomes = hdf5(|b| {
        for genome in ["GRCh38", "mm10"] {
            let mut group = b.create_group(genome);
            group.create_dataset("barcodes").with_vlen_strings(&["AAAC-1"]);
            b.add_group(group.finish());
        }
    });
    refused(genomes.path(), &["several genomes", "GRCh38, mm10"]);
}

#[test]
fn folders_without_a_10x_matrix_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &["a folder without a matrix.mtx"]);
    let inner = folder.path().join("filtered_feature_bc_matrix");
    std::fs::create_dir(&inner).unwrap();
    for name in ["matrix.mtx.gz", "features.tsv.gz"] {
        std::fs::write(inner.join(name), "").unwrap();
    }
    refused(&inner, &["there is a matrix.mtx, but no barcodes.tsv or .tsv.gz"]);
    std::fs::write(inner.join("barcodes.tsv.gz"), "").unwrap();
    refused(folder.path(), &["in the folder", "filtered_feature_bc_matrix"]);
}

#[test]
fn filters_that_can_not_be_undone_are_named_with_a_way_out() {
    for (name, id) in [("zstd", "32015"), ("blosc", "32001")] {
        let path = fixture(&format!("refused-{name}.h5ad"));
        refused(&path, &["X/data", name, id, "compression=\"gzip\""]);
        let file = H5ad::open(&path).unwrap();
        let left = file.warnings().iter().any(|w| w.contains("\"depth\"") && w.contains(name));
        assert!(left, "{:?}", file.warnings());
    }
}

#[test]
fn the_layout_of_hdf5_2_is_named_with_a_way_out() {
    refused(&fixture("refused-hdf5-2.h5ad"), &["obs/_index", "HDF5 2.0", "save the file again"]);
}

#[test]
fn files_of_the_first_anndata_are_named_with_a_way_out() {
    refused(&fixture("refused-anndata-06.h5ad"), &["anndata before 0.7", "write_h5ad"]);
}

#[test]
fn a_matrix_that_is_not_there_is_refused_with_those_that_are() {
    refused(&fixture("no-x.h5ad"), &["X", "layers/counts"]);
    let options = Options { matrix: Some("layers/spliced".into()), ..Default::default() };
    let error = format!("{:#}", load(&fixture("raw-and-layers.h5ad"), &options).unwrap_err());
    assert!(error.contains("it has X, layers/counts, layers/scaled, raw/X"), "{error}");
}

#[test]
fn options_that_would_change_nothing_are_refused() {
    let matrix = Options { matrix: Some("raw/X".into()), ..Default::default() };
    assert!(load(&fixture("mtx-v2"), &matrix).is_err());
    let turned = Options { orientation: Some(Orientation::CellsByGenes), ..Default::default() };
    assert!(load(&fixture("csr-gzip.h5ad"), &turned).is_err());
    let names = Options { gene_names: Some(fixture("gene-names.txt")), ..Default::default() };
    assert!(load(&fixture("table-tabs.tsv"), &names).is_err());
}

#[track_caller]
fn refused_table(text: &str, words: &[&str]) {
    refused_bytes(text.as_bytes(), words);
}

#[test]
fn damaged_tables_are_refused_with_line_and_column() {
    refused_table("1,2,3\n4,5\n", &["line 2 has 2 fields, 3 were expected"]);
    refused_table(",a,b\nx,1,2\ny,3,oops\n", &["line 3, column 3 (b)", "\"oops\""]);
    refused_table("1,2\n3,\n", &["line 2, column 2", "write 0"]);
    refused_table("1;2\n3;2,5\n", &["line 2, column 2", "\"2,5\"", "with a point"]);
    refused_table(",a,b\n", &["a row of names and nothing else"]);
}

#[test]
fn a_row_that_is_names_or_data_is_not_guessed() {
    refused_table("Trem2,Apoe\n1,2\n3,4\n", &["the first column has numbers", "under \"Trem2\""]);
    refused_table("Trem2,1,2\nApoe,3,4\n", &["the first row has numbers", "1, 2"]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"cell_id,Trem2\n1,5\n2,NaN\n").unwrap();
    let cells = load(file.path(), &Options::default()).unwrap().cells;
    assert_eq!((cells.obs.names, cells.var.names), (vec!["1".into(), "2".into()], vec!["Trem2".to_string()]));
    assert!(cells.x.values[1].is_nan());
}

/// A folder of 2 genes and 3 cells around this matrix.
#[track_caller]
fn refused_matrix(matrix: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("barcodes.tsv"), "A\nB\nC\n").unwrap();
    std::fs::write(folder.path().join("genes.tsv"), "id1\tTrem2\nid2\tApoe\n").unwrap();
    std::fs::write(folder.path().join("matrix.mtx"), matrix).unwrap();
    refused(folder.path(), words);
}

#[test]
fn damaged_matrices_are_refused_with_the_line() {
    let head = "%%MatrixMarket matrix coordinate integer general\n";
    let with = |rest: &str| format!("{head}%\n{rest}");
    refused_matrix("1 1 1\n", &["line 1", "%%MatrixMarket"]);
    refused_matrix(&head.replace("integer", "complex"), &["line 1", "complex"]);
    refused_matrix(&head.replace("coordinate", "array"), &["line 1", "coordinate"]);
    refused_matrix(&with(""), &["ends before the sizes"]);
    refused_matrix(&with("2 3\n"), &["line 3", "three numbers"]);
    refused_matrix(&with("2 4 0\n"), &["2 × 4", "2 features and 3 barcodes"]);
    refused_matrix(&with("2 3 2\n1 1 5\n3 1 5\n"), &["line 5", "row must be 1 to 2", "\"3\""]);
    refused_matrix(&with("2 3 1\n1 -1 5\n"), &["line 4", "column must be 1 to 3", "\"-1\""]);
    refused_matrix(&with("2 3 1\n0 1 5\n"), &["line 4", "row must be 1 to 2", "\"0\""]);
    refused_matrix(&with("2 3 1\n1 1 x\n"), &["line 4", "a number", "1 1 x"]);
    refused_matrix(&with("2 3 1\n1 1\n"), &["line 4", "a number"]);
    refused_matrix(&with("2 3 2\n1 1 5\n"), &["1 more entries were declared"]);
    refused_matrix(&with("2 3 1\n1 1 5\n1 2 5\n"), &["line 5", "more entries than declared"]);
    refused_matrix(&with("2 3 18446744073709551616\n"), &["line 3"]);
}

#[test]
fn a_matrix_of_cells_by_genes_is_told_by_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("GSM1_barcodes.tsv"), "A\r\nB\r\nC\r\n").unwrap();
    std::fs::write(folder.path().join("GSM1_features.tsv"), "id1\nid2\n").unwrap();
    let matrix = "%%MatrixMarket matrix coordinate integer general\n3 2 2\n1 2 7\n3 1 1e2\n\n";
    std::fs::write(folder.path().join("GSM1_matrix.mtx"), matrix).unwrap();
    let loaded = load(folder.path(), &Options::default()).unwrap();
    assert_eq!(dense(&loaded.cells.x), [[0.0, 7.0], [0.0, 0.0], [100.0, 0.0]]);
    assert_eq!(loaded.cells.obs.names, ["A", "B", "C"]);
    assert!(loaded.warnings[0].contains("cells × genes"));
}
