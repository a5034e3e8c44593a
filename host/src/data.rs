//! Cells as the host holds them: sparse counts, names, annotations. Cells × genes everywhere.

mod cells;
mod csr;
mod frame;
mod knockouts;
mod measured;

pub use cells::Cells;
pub use csr::Csr;
pub use frame::{Column, Frame};
pub use knockouts::Knockouts;
pub use measured::{LabelRules, Measured, Perturbation};
