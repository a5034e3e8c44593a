//! Parameters: the defaults work, and what does not fit is refused with a message, by the plugin too.

use super::bench::Bench;
use super::manifest::properties;
use super::{Applies, Case, PASSED, failure_in, required, skipped};
use anyhow::{Result, bail, ensure};
use lacuna_abi::ErrorKind;
use serde_json::{Value as Json, json};

pub const CASES: &[Case] = &[
    required("is made with its defaults", |bench| match bench.needs_parameters() {
        Some(why) => skipped(&why),
        None => bench.make(&bench.parameters).map(Ok),
    }),
    required("takes its defaults when they are written out", |bench| {
        if let Some(why) = bench.needs_parameters() {
            return skipped(&why);
        }
        let mut all = bench.parameters.clone();
        for (name, schema) in properties(bench) {
            if all.get(name).is_none() && schema.get("default").is_some() {
                all[name] = schema["default"].clone();
            }
        }
        bench.make(&all).map(Ok)
    }),
    required("refuses an unknown parameter", |bench| refuses(bench, "no-such-parameter", json!(1))),
    required("refuses a value of another type", |bench| {
        for (name, schema) in properties(bench) {
            let wrong = if schema["type"] == "boolean" { json!("yes") } else { json!(true) };
            refuses(bench, name, wrong)?.ok();
        }
        PASSED
    }),
    required("refuses a value out of range", out_of_range),
];

fn out_of_range(bench: &Bench<'_>) -> Result<Applies> {
    let mut tried = 0;
    for (name, schema) in properties(bench) {
        let whole = schema["type"] == "integer";
        let beyond =
            |limit: f64, step: f64| if whole { json!((limit + step) as i64) } else { json!(limit + step) };
        let mut values = vec![];
        values.extend(schema["minimum"].as_f64().map(|low| beyond(low, -1.0)));
        values.extend(schema["exclusiveMinimum"].as_f64().map(|low| beyond(low, 0.0)));
        values.extend(schema["maximum"].as_f64().map(|high| beyond(high, 1.0)));
        values.extend(schema["exclusiveMaximum"].as_f64().map(|high| beyond(high, 0.0)));
        values.extend(schema["enum"].is_array().then(|| json!("no-such-word")));
        // Beyond the largest whole numbers there is nothing to try.
        let says_so = |value: &Json| value.as_f64().is_none_or(|x| x.abs() < (1u64 << 53) as f64);
        for value in values.into_iter().filter(says_so) {
            tried += 1;
            refuses(bench, name, value)?.ok();
        }
    }
    if tried == 0 { skipped("no parameter has a range") } else { PASSED }
}

/// The host checks a pipeline against the schema; a plugin that is called otherwise has to check too.
fn refuses(bench: &Bench<'_>, name: &str, value: Json) -> Result<Applies> {
    let mut parameters = bench.parameters.clone();
    parameters[name] = value.clone();
    let Err(error) = bench.make(&parameters) else { bail!("{name} = {value} is taken") };
    match failure_in(&error).map(|failure| (failure.kind, failure.message.as_str())) {
        Some((ErrorKind::PARAMETERS, message)) => {
            ensure!(message.contains(name), "the refusal of {name} = {value} does not name it: {message}");
            PASSED
        }
        _ => bail!("{name} = {value} is not refused as a wrong parameter, but: {error:#}"),
    }
}
