//! A host for unit tests of a plugin: no files, no threads; log messages go to standard error. And one call for
//! each kind of component, so that a test is about what is computed.
//!
//! ```
//! use lacuna_sdk::prelude::*;
//! use lacuna_sdk::testing;
//!
//! /// Knocks out the first gene of each cell.
//! struct First;
//!
//! impl Component for First {
//!     const ID: &'static str = "first";
//!     const DOC: &'static str = "Knocks out the first gene of each cell";
//!     type Config = NoConfig;
//!     fn new(_: NoConfig) -> Result<Self> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl Strategy for First {
//!     const SCOPE: Scope = Scope::Cell;
//!     fn propose(&self, proposal: &Proposal<'_>, _cx: &Context) -> Result<KnockoutList> {
//!         let mut list = KnockoutList::new();
//!         for cell in 0..proposal.cells.len() {
//!             proposal.cells.assemblage(cell).iter().take(1).for_each(|&gene| list.push(cell, &[gene]));
//!         }
//!         Ok(list)
//!     }
//! }
//!
//! let cells = testing::cells(&[&[0.0, 2.0, 1.0], &[3.0, 0.0, 0.0]]);
//! let list = testing::propose(&First, &cells)?;
//! assert_eq!(list.as_knockouts().get(0).genes, [1]);
//! # Ok::<(), Error>(())
//! ```

use crate::{
    AnswerMut, Cells, Comparison, Context, Fitted, KnockoutList, Metric, Model, OwnedCells, Proposal, Query,
    Result, Strategy, Training,
};
use lacuna_abi::{
    ErrorKind, HostApi, HostApi_TO, Job, PResult, PluginError, RArc, RResult, RStr, RString, TD_Opaque,
};
use ndarray::{Array2, aview1};

#[derive(Clone)]
struct TestHost {
    seed: u64,
    cancelled: bool,
}

/// A context with this seed, whose loops run one after the other.
///
/// ```
/// let cx = lacuna_sdk::testing::context(7);
/// assert_eq!(cx.parallel_map(3, |i| i * i), [0, 1, 4]);
/// ```
pub fn context(seed: u64) -> Context {
    made(TestHost { seed, cancelled: false })
}

/// A context of a user who has asked to stop.
#[cfg(test)]
pub(crate) fn cancelled_context() -> Context {
    made(TestHost { seed: 0, cancelled: true })
}

fn made(host: TestHost) -> Context {
    Context { host: HostApi_TO::from_ptr(RArc::new(host), TD_Opaque) }
}

/// Cells with these values, shape (genes) each. The genes are `g0`, `g1`, …, the cells `c0`, `c1`, …
pub fn cells(rows: &[&[f32]]) -> OwnedCells {
    let genes = rows.first().map_or(0, |row| row.len());
    let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
    rows.iter().enumerate().for_each(|(i, row)| cells.push(format!("c{i}"), row));
    cells
}

/// The score of one row: two profiles of equal length.
pub fn score<M: Metric>(metric: &M, before: &[f32], after: &[f32]) -> Result<f64> {
    let row = |profile| Some(aview1(profile).insert_axis(ndarray::Axis(0)));
    let comparison = Comparison {
        before: row(before),
        after: row(after),
        observed: None,
        knockouts: None,
        controls: None,
        panel: None,
    };
    let mut scores = [f64::NAN];
    metric.score(&comparison, &mut scores, &context(1))?;
    Ok(scores[0])
}

/// What a strategy proposes for these cells in its first round.
pub fn propose<S: Strategy>(strategy: &S, cells: &OwnedCells) -> Result<KnockoutList> {
    let (view, none) = (cells.to_view(), KnockoutList::new());
    let cells = Cells::from_view(&view);
    let proposal = Proposal { cells, round: 0, earlier: none.as_knockouts(), impacts: &[] };
    strategy.propose(&proposal, &context(1))
}

/// The model after fitting to these cells, without validation cells.
pub fn fit<M: Model>(model: &M, cells: &OwnedCells) -> Result<M::Fitted> {
    let view = cells.to_view();
    let cells = Cells::from_view(&view);
    model.fit(&Training { cells, validation: None, perturbations: None, network: None }, &context(1))
}

/// The answers of a fitted model or a truth, knockouts × genes; NaN where it wrote nothing.
pub fn predict<F: Fitted>(fitted: &F, cells: &OwnedCells, knockouts: &KnockoutList) -> Result<Array2<f32>> {
    let view = cells.to_view();
    let cells = Cells::from_view(&view);
    let mut values = Array2::from_elem((knockouts.len(), cells.n_genes()), f32::NAN);
    let query = Query { cells, knockouts: knockouts.as_knockouts(), samples: 1 };
    fitted.predict(&query, &mut AnswerMut { values: values.view_mut(), spread: None }, &context(1))?;
    Ok(values)
}

impl HostApi for TestHost {
    fn log_max_level(&self) -> u8 {
        3
    }
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        eprintln!("[{level}] {target}: {message} {fields}");
    }
    fn progress(&self, _done: u64, _total: u64, _label: RStr<'_>) {}
    fn is_cancelled(&self) -> bool {
        self.cancelled
    }
    fn parallel_for(&self, n: usize, job: Job<'_>) {
        (0..n).for_each(|i| job.run(i));
    }
    fn threads(&self) -> usize {
        1
    }
    fn seed(&self) -> u64 {
        self.seed
    }
    fn scratch_dir(&self) -> PResult<RString> {
        RResult::RErr(PluginError::new(ErrorKind::FAILED, "the test host has no scratch folder"))
    }
}
