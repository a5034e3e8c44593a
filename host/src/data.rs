//! Cells as the host holds them: sparse counts, names, annotations. Cells × genes everywhere.

mod cells;
mod csr;
mod draw;
mod frame;
mod knockouts;
mod measured;
mod set;
mod survey;
mod window;

pub use cells::Cells;
pub use csr::Csr;
pub use frame::{Column, Frame};
pub use knockouts::Knockouts;
pub use measured::{LabelRules, Measured, Perturbation};
pub use set::{CellSet, RowSource, Stored};
pub use survey::Survey;
pub use window::Window;
