//! What a plugin says about itself, as JSON: the host reads this before it makes any component.

use crate::component::{
    Answers, Component, Direction, Levels, Metric, Model, ModelInfo, Part, Scale, Scope, Shape, Simulator,
    Strategy,
};
use crate::params::Param;
use serde_json::{Value, json};

/// The manifest of a plugin.
pub fn manifest(name: &str, version: &str, description: &str, components: Vec<Value>) -> String {
    json!({
        "name": name,
        "version": version,
        "description": description,
        "sdk": env!("CARGO_PKG_VERSION"),
        "abi": [lacuna_abi::ABI_MAJOR, lacuna_abi::ABI_MINOR, lacuna_abi::ABI_PATCH],
        "components": components,
    })
    .to_string()
}

fn entry<C: Component>(kind: &str, capabilities: Value) -> Value {
    json!({
        "kind": kind, "id": C::ID, "doc": C::DOC, "capabilities": capabilities,
        "parameters": C::Config::schema(),
    })
}

/// The entry of a simulator.
pub fn simulator<C: Simulator>() -> Value {
    entry::<C>("simulator", json!({"scale": scale(C::SCALE)}))
}

/// The entry of a model.
pub fn model<C: Model>() -> Value {
    let ModelInfo {
        answers,
        levels,
        needs_labels,
        baseline,
        sees_expression,
        varies,
        refines,
        fused,
        source,
        ..
    } = C::INFO;
    let answers = match answers {
        Answers::Profiles => "profiles",
        Answers::Means => "means",
        Answers::Samples => "samples",
        Answers::GeneScores => "gene-scores",
    };
    let levels = match levels {
        Levels::Knockout => "knockout",
        Levels::Any => "any",
    };
    let capabilities = json!({
        "answers": answers, "scale": scale(C::INFO.scale), "levels": levels, "needs_labels": needs_labels,
        "baseline": baseline, "sees_expression": sees_expression, "varies": varies, "refines": refines,
        "fused": fused, "source": source,
    });
    entry::<C>("model", capabilities)
}

/// The entry of a strategy.
pub fn strategy<C: Strategy>() -> Value {
    let scope = match C::SCOPE {
        Scope::Cell => "cell",
        Scope::Population => "population",
    };
    entry::<C>("strategy", json!({"scope": scope, "adaptive": C::ADAPTIVE}))
}

/// The entry of a metric. An infinite end of the range is left out.
pub fn metric<C: Metric>() -> Value {
    let info = C::INFO;
    let shape = match info.shape {
        Shape::Row => "row",
        Shape::Population => "population",
        Shape::Panel => "panel",
    };
    let direction = match info.direction {
        Direction::LowerIsBetter => "lower",
        Direction::HigherIsBetter => "higher",
        Direction::None => "none",
    };
    let needs: Vec<&str> = info.needs.iter().map(|p| part(*p)).collect();
    let finite = |x: f64| x.is_finite().then_some(x);
    let capabilities = json!({
        "shape": shape, "needs": needs, "low": finite(info.range.0), "high": finite(info.range.1),
        "direction": direction, "vectors": info.vectors,
        "signed": info.signed, "scale_free": info.scale_free, "symmetric": info.symmetric, "identity": info.identity,
        "chance": info.chance, "formula": info.formula, "source": info.source,
    });
    entry::<C>("metric", capabilities)
}

fn scale(scale: Scale) -> &'static str {
    match scale {
        Scale::Closed => "closed",
        Scale::Counts => "counts",
        Scale::Log1pCp10k => "log1p-cp10k",
    }
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Before => "before",
        Part::After => "after",
        Part::Observed => "observed",
        Part::Knockouts => "knockouts",
        Part::Controls => "controls",
        Part::Panel => "panel",
    }
}
