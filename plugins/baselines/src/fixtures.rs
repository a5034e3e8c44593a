//! Cells, knockouts and predictions for the tests of all baselines.

use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::testing;
pub use lacuna_sdk::testing::{cells, fit};

/// Knockouts of these genes in these cells.
pub fn knockouts(rows: &[(usize, &[u32])]) -> KnockoutList {
    let mut list = KnockoutList::new();
    rows.iter().for_each(|(cell, genes)| list.push(*cell, genes));
    list
}

/// Cells of whose genes each is expressed with its own probability, 0 for the first and 1 for the second, and
/// of which the first expresses nothing.
pub fn random_cells(n: usize, genes: usize, seed: u64) -> OwnedCells {
    let mut stream = testing::context(seed).stream(0);
    let mut row = vec![0.0f32; genes];
    let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
    for cell in 0..n {
        for (j, value) in row.iter_mut().enumerate() {
            let presence = [0.0, 1.0].get(j).copied().unwrap_or(j as f64 / genes as f64);
            let expressed = cell > 0 && stream.random_bool(presence);
            *value = if expressed { stream.random_range(0.1..2.0) } else { 0.0 };
        }
        cells.push(format!("c{cell}"), &row);
    }
    cells
}

/// Every cell as it is, every single knockout of its genes, one of a silent gene, and a triple.
pub fn many_knockouts(owned: &OwnedCells) -> KnockoutList {
    let view = owned.to_view();
    let cells = Cells::from_view(&view);
    let mut list = KnockoutList::new();
    for cell in 0..cells.len() {
        list.push(cell, &[]);
        cells.assemblage(cell).iter().for_each(|&gene| list.push(cell, &[gene]));
        list.push(cell, &[0]);
        list.push(cell, &[1, 3, 4]);
    }
    list
}

/// The answers of a fitted model.
pub fn ask<F: Fitted>(fitted: &F, query: &OwnedCells, knockouts: &KnockoutList) -> Result<Vec<Vec<f32>>> {
    let values = testing::predict(fitted, query, knockouts)?;
    Ok(values.rows().into_iter().map(|row| row.to_vec()).collect())
}

/// Fits and asks.
pub fn predict<M: Model>(
    model: &M,
    train: &OwnedCells,
    query: &OwnedCells,
    knockouts: &KnockoutList,
) -> Result<Vec<Vec<f32>>> {
    ask(&fit(model, train)?, query, knockouts)
}

/// What holds for every baseline: closed rows without lost genes (closed unless `open`), nothing outside the
/// assemblage (if `masked`), and the same bits after saving and loading.
pub fn holds_for_a_baseline<M: Model>(model: &M, masked: bool, open: bool) {
    assert!(M::INFO.baseline);
    let (train, query) = (random_cells(30, 12, 1), random_cells(9, 12, 2));
    let list = many_knockouts(&query);
    let fitted = fit(model, &train).unwrap();
    let answers = ask(&fitted, &query, &list).unwrap();
    let view = query.to_view();
    let cells = Cells::from_view(&view);
    for (knockout, row) in list.as_knockouts().iter().zip(&answers) {
        let expressed = cells.assemblage(knockout.cell.unwrap());
        let alive = |j: usize| !knockout.genes.contains(&(j as u32));
        let kept = |j: usize| alive(j) && (!masked || expressed.contains(&(j as u32)));
        assert!(row.iter().enumerate().all(|(j, &p)| if kept(j) { p >= 0.0 } else { p == 0.0 }), "{row:?}");
        let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
        let closed = (sum - 1.0).abs() < 1e-6 || (open && sum < 1.0);
        assert!(closed || (masked && !expressed.iter().any(|&j| alive(j as usize))), "{row:?}");
    }
    let bytes = fitted.save().unwrap();
    let loaded = M::Fitted::load(&bytes).unwrap();
    assert_eq!(loaded.save().unwrap(), bytes);
    assert_eq!(ask(&loaded, &query, &list).unwrap(), answers);
    assert!((0..bytes.len()).step_by(7).all(|n| M::Fitted::load(&bytes[..n]).is_err()));
}
