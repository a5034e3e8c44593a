//! What runs on the device, written once for every runtime. Numbers are f32 but for maps that are stored as f16.

// CubeCL's macro writes functions and types that have no documentation, and takes arguments as the kernel needs them. Both
// sides of its && are computed: what guards an access is an `if` of its own.
#![allow(missing_docs, clippy::collapsible_if, clippy::too_many_arguments)]

pub mod adam;
pub mod loss;
pub mod product;
pub mod rows;
pub mod screen;
pub mod sheet;
pub mod team;
