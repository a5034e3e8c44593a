//! Cells for the tests of all estimators, and what holds for each of them.

use lacuna_sdk::ndarray::Array2;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::testing;

/// Counts of cells of very different depth, of whose genes the first is in no cell, the second the same share
/// of each, and the third follows the fourth.
pub fn random_cells(n: usize, genes: usize, seed: u64) -> OwnedCells {
    let mut stream = testing::context(seed).stream(0);
    let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
    for cell in 0..n {
        let depth: f64 = stream.random_range(1.0..8.0);
        let mut row = vec![0.0f32; genes];
        for (j, count) in row.iter_mut().enumerate().skip(1) {
            let mean = depth * (1.0 + (j % 5) as f64) / 2.0;
            *count = stream.random_range(0.0..2.0 * mean).floor() as f32;
        }
        if genes > 3 {
            (row[1], row[2]) = (depth.floor() as f32, row[3] + (row[2] / 3.0).floor());
        }
        cells.push(format!("c{cell}"), &row);
    }
    cells
}

/// The scores for the loss of each gene, lost gene × gene.
pub fn scores<M: Model>(model: &M, cells: &OwnedCells) -> Array2<f32> {
    let fitted = testing::fit(model, cells).unwrap();
    testing::predict(&fitted, cells, &singles(cells)).unwrap()
}

fn singles(cells: &OwnedCells) -> KnockoutList {
    let view = cells.to_view();
    let genes: Vec<[u32; 1]> = (0..Cells::from_view(&view).n_genes() as u32).map(|gene| [gene]).collect();
    testing::population(&genes.iter().map(|gene| &gene[..]).collect::<Vec<_>>())
}

/// What holds for every estimator: finite scores, 0 for what is lost, nothing said by and about a silent
/// gene, cells that are hardly any, and the same answers after saving and loading.
pub fn holds_for_an_estimator<M: Model>(model: &M) {
    assert_eq!(M::INFO.answers, Answers::GeneScores);
    let cells = random_cells(60, 12, 3);
    let found = scores(model, &cells);
    assert!(found.iter().all(|score| score.is_finite()) && found.diag().iter().all(|&score| score == 0.0));
    assert!(found.row(0).iter().chain(found.column(0)).all(|&score| score == 0.0), "{found}");
    for few in [random_cells(2, 5, 1), random_cells(3, 1, 1), testing::cells(&[&[0.0; 3][..]; 4])] {
        assert!(scores(model, &few).iter().all(|score| score.is_finite()));
    }
    let alike = testing::cells(&[&[1.0, 2.0, 3.0, 4.0, 0.0][..]; 6]);
    assert!(scores(model, &alike).iter().all(|&score| score == 0.0), "{}", scores(model, &alike));
    assert!(testing::fit(model, &random_cells(1, 5, 1)).is_err());
    let fitted = testing::fit(model, &cells).unwrap();
    let bytes = fitted.save().unwrap();
    let loaded = M::Fitted::load(&bytes).unwrap();
    assert_eq!(loaded.save().unwrap(), bytes);
    assert_eq!(testing::predict(&loaded, &cells, &singles(&cells)).unwrap(), found);
}

/// That two numbers agree, but for f32.
pub fn assert_near(found: f64, expected: f64, what: impl std::fmt::Display) {
    let most = 1e-4 * expected.abs().max(1e-2);
    assert!((found - expected).abs() < most, "{what}: expected {expected}, found {found}");
}
