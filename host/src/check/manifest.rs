//! What a plugin says of a component: words for people, and declarations that hold together.

use super::bench::Bench;
use super::{Applies, Case, PASSED, advisory, required};
use anyhow::{Result, ensure};
use serde_json::{Map, Value as Json};

pub const CASES: &[Case] = &[
    required("has a doc line", |bench| {
        ensure!(
            bench.component.doc.split_whitespace().count() >= 2,
            "its doc says {:?}",
            bench.component.doc
        );
        PASSED
    }),
    required("documents each parameter", |bench| {
        for (name, schema) in properties(bench) {
            let doc = schema["description"].as_str().unwrap_or_default();
            ensure!(!doc.trim().is_empty(), "parameter `{name}` has no doc");
        }
        PASSED
    }),
    advisory("gives each number a range", numbers_have_ranges),
];

/// The parameters and their schemas.
pub fn properties<'a>(bench: &'a Bench<'_>) -> impl Iterator<Item = (&'a String, &'a Json)> {
    static NONE: std::sync::OnceLock<Map<String, Json>> = std::sync::OnceLock::new();
    let none = NONE.get_or_init(Map::new);
    bench.component.parameters["properties"].as_object().unwrap_or(none).iter()
}

fn numbers_have_ranges(bench: &Bench<'_>) -> Result<Applies> {
    for (name, schema) in properties(bench) {
        let limits = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
        let limited = limits.iter().any(|limit| schema.get(limit).is_some());
        ensure!(schema["type"] != "number" || limited, "parameter `{name}` takes any number");
    }
    PASSED
}
