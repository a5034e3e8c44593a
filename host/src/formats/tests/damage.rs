//! Damaged files: an error or, where the damage hits values only, other values; never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::*;

/// A small generator (splitmix64), so that each run damages the same places.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// All ways in: look, load, and each matrix in parts.
fn read_all(path: &Path) {
    let _ = look(path, &Options::default());
    let _ = load(path, &Options::default());
    let Ok(file) = H5ad::open(path) else { return };
    for info in file.matrices() {
        let _ = file.read_rows(&info.name, 1..3);
    }
}

/// Writes damaged bytes over `target` and reads `path`, which is the file itself or its folder.
#[track_caller]
fn survives(path: &Path, target: &Path, bytes: &[u8], what: &str) {
    std::fs::write(target, bytes).unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| read_all(path)));
    assert!(result.is_ok(), "{}: {what}", target.display());
}

fn damage(path: &Path, target: &Path, original: &[u8], rounds: usize, random: &mut Random) {
    for _ in 0..rounds {
        let cut = random.below(original.len());
        survives(path, target, &original[..cut], &format!("cut at {cut}"));
        let mut flipped = original.to_vec();
        let places: Vec<usize> = (0..1 + random.below(3)).map(|_| random.below(original.len())).collect();
        places.iter().for_each(|&at| flipped[at] ^= 1 << random.below(8));
        survives(path, target, &flipped, &format!("bits flipped at {places:?}"));
        let mut filled = original.to_vec();
        let (at, value) = (random.below(original.len()), [0x00, 0xff][random.below(2)]);
        let end = (at + 8).min(original.len());
        filled[at..end].fill(value);
        survives(path, target, &filled, &format!("bytes {at} to {end} set to {value}"));
    }
    std::fs::write(target, original).unwrap();
}

/// Set to try more damage than the usual run has time for.
fn rounds(usual: usize) -> usize {
    std::env::var("LACUNA_DAMAGE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[test]
fn damaged_hdf5_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    let h5ad = h5ad_names().into_iter().map(|name| format!("{name}.h5ad"));
    for name in h5ad.chain(["tenx-v2.h5".into(), "tenx-v3.h5".into()]) {
        let target = folder.path().join(&name);
        let original = std::fs::read(fixture(&name)).unwrap();
        damage(&target, &target, &original, rounds(25), &mut random);
    }
}

#[test]
fn damaged_10x_folders_never_panic() {
    let mut random = Random(8);
    for name in ["mtx-v2", "mtx-v3-gz", "mtx-real", "mtx-pattern"] {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = std::fs::read_dir(fixture(name)).unwrap().map(|f| f.unwrap().path()).collect();
        for file in &files {
            std::fs::copy(file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
        for file in &files {
            let original = std::fs::read(file).unwrap();
            let target = folder.path().join(file.file_name().unwrap());
            damage(folder.path(), &target, &original, rounds(50), &mut random);
        }
    }
}

#[test]
fn damaged_tables_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(9);
    for name in ["table-bare.csv", "table-pandas.csv.gz", "table-semicolons.csv", "table-r.tsv"] {
        let target = folder.path().join(name);
        let original = std::fs::read(fixture(name)).unwrap();
        damage(&target, &target, &original, rounds(100), &mut random);
    }
}

#[test]
fn a_cut_file_is_an_error_not_fewer_cells() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("cut.h5ad");
    let original = std::fs::read(fixture("csr-gzip.h5ad")).unwrap();
    for cut in (0..original.len()).step_by(original.len() / 40) {
        std::fs::write(&target, &original[..cut]).unwrap();
        assert!(load(&target, &Options::default()).is_err(), "cut at {cut} of {}", original.len());
    }
}
