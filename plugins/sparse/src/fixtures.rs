//! Cells, knockouts and predictions for the tests of both models.

use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::testing;
pub use lacuna_sdk::testing::{answers as ask, cells, fit, knockouts};
use lacuna_sdk::testing::{many_knockouts, random_cells};

/// Cells in which gene j of 25 has the level 1 + the number of the expressed among the next three genes,
/// times noise.
pub fn regulated_cells(n: usize, noise: f64, seed: u64) -> OwnedCells {
    let genes = 25;
    let mut stream = testing::context(seed).stream(0);
    let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
    for cell in 0..n {
        let expressed: Vec<bool> = (0..genes).map(|_| stream.random_bool(0.7)).collect();
        let level = |j: usize| 1.0 + (1..4).filter(|d| expressed[(j + d) % genes]).count() as f64;
        let mut value = |j| level(j) * (1.0 + noise * stream.random_range(-1.0..1.0));
        let values: Vec<f32> = (0..genes).map(|j| if expressed[j] { value(j) as f32 } else { 0.0 }).collect();
        cells.push(format!("c{cell}"), &values);
    }
    cells
}

/// What holds for both models: closed rows, nothing outside what is left of the assemblage, a knockout is the
/// cell without the gene to this difference, and the same bits after saving and loading.
pub fn holds_for_a_model<M: Model>(model: &M, near: f32) {
    let (train, query) = (random_cells(60, 12, 1), random_cells(9, 12, 2));
    let view = query.to_view();
    let cells = Cells::from_view(&view);
    let list = many_knockouts(&query);
    let fitted = fit(model, &train).unwrap();
    let answers = ask(&fitted, &query, &list).unwrap();
    for (knockout, row) in list.as_knockouts().iter().zip(&answers) {
        let expressed = cells.assemblage(knockout.cell.unwrap());
        let kept = |j: u32| !knockout.genes.contains(&j) && expressed.contains(&j);
        let right = |(j, &p): (usize, &f32)| if kept(j as u32) { p >= 0.0 } else { p == 0.0 };
        assert!(row.iter().enumerate().all(right), "{row:?}");
        let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
        assert!((sum - 1.0).abs() < 1e-6 || !(0..12).any(kept), "{row:?}");
    }
    let slow = ask(&fitted, &without(&cells, &list), &as_they_are(list.len())).unwrap();
    for (quick, slow) in answers.iter().flatten().zip(slow.iter().flatten()) {
        assert!((quick - slow).abs() <= near, "{quick} {slow}");
    }
    let bytes = fitted.save().unwrap();
    let loaded = M::Fitted::load(&bytes).unwrap();
    assert_eq!(loaded.save().unwrap(), bytes);
    assert_eq!(ask(&loaded, &query, &list).unwrap(), answers);
    assert!((0..bytes.len()).step_by(7).all(|n| M::Fitted::load(&bytes[..n]).is_err()));
}

/// Each knockout as a cell of its own that never expressed the lost genes.
fn without(cells: &Cells<'_>, list: &KnockoutList) -> OwnedCells {
    let mut without = OwnedCells::new(cells.gene_names());
    let mut row = vec![0.0; cells.n_genes()];
    for knockout in list.as_knockouts().iter() {
        cells.write_profile(knockout.cell.unwrap(), &mut row);
        knockout.genes.iter().for_each(|&gene| row[gene as usize] = 0.0);
        without.push("", &row);
    }
    without
}

/// Each of so many cells as it is.
pub fn as_they_are(n: usize) -> KnockoutList {
    let mut list = KnockoutList::new();
    (0..n).for_each(|cell| list.push(cell, &[]));
    list
}
