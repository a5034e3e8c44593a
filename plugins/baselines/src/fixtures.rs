//! Cells, knockouts and predictions for the tests of all baselines.

use lacuna_sdk::prelude::*;
pub use lacuna_sdk::testing::{answers as ask, cells, fit, knockouts, many_knockouts, random_cells};

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
