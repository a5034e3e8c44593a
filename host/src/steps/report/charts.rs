//! The plots, as Vega-Lite specifications with their data inside.

use serde_json::{Value as Json, json};

const MODEL: &str = "#2f6690";
const BASELINE: &str = "#9a9a9a";

fn chart(width: Json, height: Json, rest: Json) -> Json {
    let mut spec = json!({
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json", "width": width, "height": height,
        "config": {
            "font": "system-ui, sans-serif", "view": { "stroke": null },
            "axis": { "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500, "gridColor": "#eee" },
        },
    });
    if let (Some(spec), Some(rest)) = (spec.as_object_mut(), rest.as_object()) {
        spec.extend(rest.clone());
    }
    spec
}

/// Genes by mean impact, with the interval over cells.
pub fn keystones(genes: &Json, x_title: &str) -> Json {
    let tooltip = json!([
        { "field": "gene" }, { "field": "impact", "format": ".3r", "title": "mean impact" },
        { "field": "lower", "format": ".3r" }, { "field": "upper", "format": ".3r" },
        { "field": "cells", "title": "cells that express it" },
        { "field": "presence", "format": ".3p" }, { "field": "mean_share", "format": ".3p", "title": "mean share" },
    ]);
    let y = json!({ "field": "gene", "type": "nominal", "sort": null, "title": null });
    chart(
        json!(560),
        json!({ "step": 18 }),
        json!({
            "data": { "values": genes },
            "layer": [
                { "mark": { "type": "bar", "color": MODEL, "opacity": 0.85 }, "encoding": {
                    "y": y, "x": { "field": "impact", "type": "quantitative", "title": x_title }, "tooltip": tooltip } },
                { "mark": { "type": "rule", "color": "#1b1b1b" }, "encoding": {
                    "y": y, "x": { "field": "lower", "type": "quantitative" }, "x2": { "field": "upper" } } },
            ],
        }),
    )
}

/// The scores of a metric on one stratum: models in colour, baselines in grey, with intervals.
pub fn scores(rows: &[&Json], metric: &str, better: &str) -> Json {
    let y = json!({ "field": "model", "type": "nominal", "sort": null, "title": null });
    let colour = json!({ "field": "baseline", "type": "nominal", "legend": null,
        "scale": { "domain": [false, true], "range": [MODEL, BASELINE] } });
    let title = format!("{metric} ({better})");
    let x = |field: &str| json!({ "field": field, "type": "quantitative", "title": title, "scale": { "zero": false, "padding": 12 } });
    let tooltip = json!([
        { "field": "model" }, { "field": "value", "format": ".5f" },
        { "field": "lower", "format": ".5f" }, { "field": "upper", "format": ".5f" },
    ]);
    chart(
        json!(250),
        json!({ "step": 20 }),
        json!({
            "data": { "values": rows },
            "layer": [
                { "mark": { "type": "rule", "strokeWidth": 2 }, "encoding": {
                    "y": y, "x": x("lower"), "x2": { "field": "upper" }, "color": colour } },
                { "mark": { "type": "point", "filled": true, "size": 70 }, "encoding": {
                    "y": y, "x": x("value"), "color": colour, "tooltip": tooltip } },
            ],
        }),
    )
}

/// True against predicted impacts.
pub fn truth(points: &Json) -> Json {
    let values: Json = points
        .as_array()
        .map(|list| list.iter().map(|p| json!({ "truth": p[0], "predicted": p[1] })).collect())
        .unwrap_or_default();
    let axis = |field: &str, title: &str| json!({ "field": field, "type": "quantitative", "title": title });
    let x = axis("truth", "true impact");
    let y = axis("predicted", "predicted impact");
    chart(
        json!(300),
        json!(300),
        json!({
            "data": { "values": values },
            "mark": { "type": "circle", "size": 14, "opacity": 0.35, "color": MODEL },
            "encoding": { "x": x, "y": y },
        }),
    )
}

/// Loss against optimiser steps.
pub fn training(points: &Json) -> Json {
    chart(
        json!(560),
        json!(220),
        json!({
            "data": { "values": points },
            "mark": { "type": "line", "strokeWidth": 1.5 },
            "encoding": {
                "x": { "field": "step", "type": "quantitative", "title": "step" },
                "y": { "field": "value", "type": "quantitative", "title": "loss", "scale": { "type": "log" } },
                "color": { "field": "of", "type": "nominal", "title": null,
                    "scale": { "range": [BASELINE, MODEL] } },
            },
        }),
    )
}
