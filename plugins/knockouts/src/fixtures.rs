//! Cells for the tests of all strategies, and knockouts in a readable form.

use lacuna_sdk::prelude::*;
use lacuna_sdk::testing;
use std::path::PathBuf;

/// Cells c0 {A, B, C, D}, c1 {B, D}, c2 {} and c3 {A, C, D} of the genes A to E.
pub fn four_cells() -> OwnedCells {
    let mut cells = OwnedCells::new(["A", "B", "C", "D", "E"].map(String::from).to_vec());
    cells.push("c0", &[1.0, 2.0, 3.0, 4.0, 0.0]);
    cells.push("c1", &[0.0, 2.0, 0.0, 4.0, 0.0]);
    cells.push("c2", &[0.0; 5]);
    cells.push("c3", &[1.0, 0.0, 3.0, 4.0, 0.0]);
    cells
}

/// What a strategy proposes for these cells with the seed 7.
pub fn propose<S: Strategy>(strategy: &S, cells: &OwnedCells, round: u64) -> Result<KnockoutList> {
    let view = cells.to_view();
    let mut proposal = testing::proposal(Cells::from_view(&view));
    proposal.round = round;
    strategy.propose(&proposal, &testing::context(7))
}

/// Knockouts of [`four_cells`] as `c0 A+B`.
pub fn rows(list: &KnockoutList) -> Vec<String> {
    let name = |&gene: &u32| ["A", "B", "C", "D", "E"][gene as usize];
    let genes = |k: &Knockout<'_>| k.genes.iter().map(name).collect::<Vec<_>>().join("+");
    list.as_knockouts().iter().map(|k| format!("c{} {}", k.cell.unwrap(), genes(&k))).collect()
}

/// A file in the temporary folder, removed when it is dropped.
pub struct TempFile(pub PathBuf);

impl TempFile {
    /// A file of this name and content; the name must be the test's own.
    pub fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lacuna-knockouts-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    /// The file as a parameter.
    pub fn param(&self) -> Option<File> {
        Some(File(self.0.clone()))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
