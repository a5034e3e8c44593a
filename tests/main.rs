//! End-to-end tests: they drive the built binary and the built plugins, as a user does.

mod support;

mod diagnostics;
mod structure;
