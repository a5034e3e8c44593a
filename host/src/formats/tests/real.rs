//! Real data, where it lies beside the project.

use std::time::Instant;

use super::python::python;
use super::*;

const FILES: [&str; 5] = [
    "human_k562_crispri_tapseq.h5ad",
    "human_pbmc_4types.h5ad",
    "mouse_lung_endothelium_nkx2-1_indirect.h5ad",
    "mouse_microglia_trem2.h5ad",
    "mouse_microglia_wt_10x",
];

fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}

fn gene_sums(x: &Csr) -> Vec<f64> {
    let mut sums = vec![0.0; x.n_cols];
    x.indices.iter().zip(&x.values).for_each(|(&j, &v)| sums[j as usize] += f64::from(v));
    sums
}

#[test]
fn real_files_hold_counts() {
    for path in FILES.iter().filter_map(|name| shared(name)) {
        let start = Instant::now();
        let loaded = load(&path, &Options::default()).unwrap();
        let (cells, genes) = (loaded.cells.len(), loaded.cells.n_genes());
        println!(
            "{}: {cells} × {genes}, {} values, {:?}",
            path.display(),
            loaded.cells.x.nnz(),
            start.elapsed()
        );
        let values = ValueSummary::of(&loaded.cells.x);
        assert_eq!((values.kind, loaded.warnings), (ValueKind::Counts, vec![]));
        let look = look(&path, &Options::default()).unwrap();
        assert_eq!(look.matrices[0].1.as_ref().unwrap().kind, ValueKind::Counts);
    }
}

#[test]
fn real_files_read_as_python_reads_them() {
    for path in FILES.iter().filter_map(|name| shared(name)) {
        let Some(answer) = python("formats_sums.py", std::slice::from_ref(&path)) else { return };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let cells = load(&path, &Options::default()).unwrap().cells;
        assert_eq!(answer["cells"], serde_json::json!(cells.library));
        assert_eq!(answer["genes"], serde_json::json!(gene_sums(&cells.x)));
        assert_eq!(answer["obs_names"], serde_json::json!(cells.obs.names));
        assert_eq!(answer["var_names"], serde_json::json!(cells.var.names));
        for column in &cells.obs.columns {
            assert_eq!(answer["obs"][&column.name], serde_json::json!(column.texts()));
        }
    }
}

#[test]
fn a_10x_folder_and_the_h5ad_of_the_same_cells_agree() {
    let (Some(folder), Some(h5ad)) = (shared(FILES[4]), shared(FILES[3])) else { return };
    let (folder, h5ad) = (mtx::read(&folder).unwrap().cells, H5ad::open(&h5ad).unwrap().cells("X").unwrap());
    let place = |names: &[String], name: &String| names.iter().position(|n| n == name);
    let rows: Vec<_> = folder.obs.names.iter().map(|name| place(&h5ad.obs.names, name).unwrap()).collect();
    let shared: Vec<_> =
        (0..folder.n_genes()).filter(|&j| h5ad.var.names.contains(&folder.var.names[j])).collect();
    let columns: Vec<_> =
        shared.iter().map(|&j| place(&h5ad.var.names, &folder.var.names[j]).unwrap()).collect();
    assert_eq!((rows.len(), shared.len()), (622, 7274));
    let (a, b) = (dense(&folder.x), dense(&h5ad.x));
    for (i, &row) in rows.iter().enumerate() {
        assert!(shared.iter().zip(&columns).all(|(&j, &column)| a[i][j] == b[row][column]), "cell {i}");
    }
}

#[test]
fn blocks_of_cells_add_up_to_the_whole() {
    let Some(path) = shared(FILES[0]) else { return };
    let file = H5ad::open(&path).unwrap();
    let whole = file.read("X").unwrap();
    let mut blocks = Csr::empty(whole.n_cols);
    for start in (0..whole.n_rows()).step_by(1000) {
        let block = file.read_rows("X", start..(start + 1000).min(whole.n_rows())).unwrap();
        for i in 0..block.n_rows() {
            blocks.push_row(block.row(i).0.iter().copied().zip(block.row(i).1.iter().copied()));
        }
    }
    assert_eq!(blocks, whole);
}
