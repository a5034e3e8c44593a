//! Cells, models and threads for the benchmarks.

use lacuna_mlp::Mlp;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::serde_json::{Value, json};
use lacuna_sdk::testing::{self, Setting};
use rayon::prelude::*;

/// A context whose loops run on rayon's threads, as the host's do.
pub fn context() -> Context {
    let parallel = |n: usize, body: &(dyn Fn(usize) + Sync)| (0..n).into_par_iter().for_each(body);
    Setting { seed: 1, threads: rayon::current_num_threads(), parallel, ..Setting::default() }.context()
}

/// Cells of which each expresses a gene with this probability.
pub fn cells(cells: usize, genes: usize, presence: f64, seed: u64) -> OwnedCells {
    let mut stream = lacuna_sdk::stream(seed, 0);
    let mut owned = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
    for i in 0..cells {
        let mut row: Vec<f32> = (0..genes)
            .map(|_| if stream.random_bool(presence) { stream.random_range(0.1..3.0) } else { 0.0 })
            .collect();
        row[i % genes] = 1.0;
        owned.push(format!("c{i}"), &row);
    }
    owned
}

/// The model with these parameters.
pub fn model(with: Value) -> Mlp {
    let config = lacuna_sdk::params::Param::parse(&with).expect("parameters of mlp");
    Mlp::new(config).expect("parameters that fit together")
}

/// Fits a model with these parameters.
pub fn fit(with: Value, train: &OwnedCells, held: Option<&OwnedCells>) -> <Mlp as Model>::Fitted {
    let view = train.to_view();
    let mut training = testing::training(Cells::from_view(&view));
    let held = held.map(OwnedCells::to_view);
    training.validation = held.as_ref().map(Cells::from_view);
    model(with).fit(&training, &context()).expect("a fit")
}

/// A model of so many genes that has hardly been trained: it screens as fast as any.
pub fn untrained(with: &Value, genes: usize) -> <Mlp as Model>::Fitted {
    let mut with = with.clone();
    with["steps"] = json!(1);
    fit(with, &cells(4, genes, 0.3, 9), None)
}

/// All single knockouts of so many cells.
pub fn singles(cells: &Cells<'_>, range: std::ops::Range<usize>) -> KnockoutList {
    let mut list = KnockoutList::new();
    range.for_each(|c| cells.assemblage(c).iter().for_each(|&g| list.push(c, &[g])));
    list
}

/// Impacts of all single knockouts of all cells, in tasks as the host makes them.
pub fn screen(fitted: &<Mlp as Model>::Fitted, cells: &Cells<'_>) -> usize {
    const CELLS: usize = 54;
    let tasks: Vec<usize> = (0..cells.len()).step_by(CELLS).collect();
    let pairs = tasks.into_par_iter().map(|start| {
        let list = singles(cells, start..(start + CELLS).min(cells.len()));
        let screen = testing::screen(*cells, list.as_knockouts(), "bray-curtis", "predicted");
        let mut impacts = vec![0.0; list.len()];
        assert!(fitted.screen(&screen, &mut impacts, &context()).expect("a screen"));
        assert!(impacts.iter().all(|x| x.is_finite()));
        list.len()
    });
    pairs.sum()
}
