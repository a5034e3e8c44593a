//! `lacuna look`.

use super::{print, shown};
use anyhow::Result;
use clap::Args;
use lacuna::data::{Column, Frame};
use lacuna::formats::{self, Look, ValueSummary};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct LookArgs {
    /// A file of cells: h5ad, 10x HDF5, CSV or TSV; or a 10x folder.
    file: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub fn look(args: &LookArgs) -> Result<u8> {
    let look = formats::look(&args.file, &formats::Options::default())?;
    print(&if args.json { format!("{:#}\n", to_json(&look)) } else { to_text(&args.file, &look) })?;
    Ok(0)
}

/// How many values of an annotation are listed.
const LISTED: usize = 8;

fn to_text(path: &Path, look: &Look) -> String {
    let mut out =
        format!("{}: {}, {} cells × {} genes\n", shown(path), look.format, look.obs.len(), look.var.len());
    out += "\nMatrices\n";
    for (info, summary) in &look.matrices {
        let what = match summary {
            Ok(s) => format!("{}; {}", s.kind, range(s)),
            Err(problem) => format!("cannot be read: {problem}"),
        };
        let _ = writeln!(out, "  {:<16} {:<24} {what}", info.name, info.encoding.to_string());
    }
    if let Some((_, Ok(s))) = look.matrices.first() {
        let genes = s.stored as f64 / s.n_cells.max(1) as f64;
        let _ = writeln!(
            out,
            "\nDepth: median {} a cell in X; {genes:.0} genes expressed on average",
            plain(s.row_sum_median)
        );
    }
    out += "\nCells (obs)\n";
    frame_text(&mut out, &look.obs);
    out += "\nGenes (var)\n";
    frame_text(&mut out, &look.var);
    let _ = writeln!(out, "  names look like {}", name_style(&look.var.names));
    for warning in &look.warnings {
        let _ = writeln!(out, "\nwarning: {warning}");
    }
    out
}

fn frame_text(out: &mut String, frame: &Frame) {
    let first: Vec<&str> = frame.names.iter().take(3).map(String::as_str).collect();
    let more = if frame.len() > 3 { ", …" } else { "" };
    let _ = writeln!(out, "  {:<24} {}{more}", "names", first.join(", "));
    for column in &frame.columns {
        let _ = writeln!(out, "  {:<24} {}", column.name, column_text(column));
    }
}

/// The values of an annotation with their counts, or the range of its numbers.
fn column_text(column: &Column) -> String {
    let missing = column.values.null_count();
    let mut text = match column.numbers() {
        Some(numbers) if distinct(column).len() > LISTED => {
            let finite = numbers.into_iter().flatten().filter(|x| x.is_finite());
            let (low, high) =
                finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
            format!("numbers from {} to {}", plain(low), plain(high))
        }
        _ => {
            let mut values: Vec<(String, usize)> = distinct(column).into_iter().collect();
            values.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
            if values.len() > LISTED && values.len() == column.values.len() {
                return format!(
                    "all different: {}, …",
                    column.texts().into_iter().flatten().take(3).collect::<Vec<_>>().join(", ")
                );
            }
            let shown: Vec<String> = values.iter().take(LISTED).map(|(v, n)| format!("{v} ({n})")).collect();
            let more =
                if values.len() > LISTED { format!(", … {} values", values.len()) } else { String::new() };
            shown.join(", ") + &more
        }
    };
    if missing > 0 {
        text += &format!("; {missing} missing");
    }
    text
}

/// Each value of an annotation and how often it comes.
pub fn distinct(column: &Column) -> BTreeMap<String, usize> {
    let mut values = BTreeMap::new();
    column.texts().into_iter().flatten().for_each(|text| *values.entry(text).or_insert(0) += 1);
    values
}

fn range(s: &ValueSummary) -> String {
    format!("from {} to {}", plain(f64::from(s.min)), plain(f64::from(s.max)))
}

fn plain(x: f64) -> String {
    if x.fract() == 0.0 && x.abs() < 1e15 { format!("{x:.0}") } else { format!("{x:.4}") }
}

/// What the names of most genes look like.
fn name_style(names: &[String]) -> &'static str {
    let most = |test: fn(&str) -> bool| 2 * names.iter().filter(|n| test(n)).count() > names.len();
    let letters = |n: &str| n.chars().filter(|c| c.is_alphabetic()).collect::<String>();
    match () {
        () if names.is_empty() => "nothing: there are no genes",
        () if most(|n| n.starts_with("ENSMUSG")) => "Ensembl ids of mouse genes",
        () if most(|n| n.starts_with("ENSG")) => "Ensembl ids of human genes",
        () if most(|n| n.starts_with("ENS")) => "Ensembl ids",
        () if most(|n| n.bytes().all(|b| b.is_ascii_digit())) => "numbers (Entrez ids?)",
        () if names.iter().filter(|n| letters(n) == letters(n).to_uppercase()).count() * 2 > names.len() => {
            "human symbols (upper case)"
        }
        () if most(|n| n.starts_with(|c: char| c.is_uppercase()) && n.chars().any(char::is_lowercase)) => {
            "mouse symbols (capitalised)"
        }
        () => "names of no known style",
    }
}

fn to_json(look: &Look) -> Json {
    let matrix = |(info, summary): &(formats::MatrixInfo, Result<ValueSummary, String>)| {
        let values = match summary {
            Ok(s) => {
                json!({ "kind": s.kind.to_string(), "min": s.min, "max": s.max, "whole_numbers": s.all_integers,
                "median_sum": s.row_sum_median, "cells_looked_at": s.n_cells })
            }
            Err(problem) => json!({ "problem": problem }),
        };
        json!({ "name": info.name, "encoding": info.encoding.to_string(), "stored": info.stored, "values": values })
    };
    let frame = |frame: &Frame| -> Json {
        let column = |c: &Column| {
            let values = distinct(c);
            let listed = (values.len() <= 100).then_some(values);
            json!({ "name": c.name, "type": format!("{:?}", c.values.data_type()), "missing": c.values.null_count(),
                "values": listed })
        };
        frame.columns.iter().map(column).collect()
    };
    json!({
        "format": look.format.to_string(), "cells": look.obs.len(), "genes": look.var.len(),
        "matrices": look.matrices.iter().map(matrix).collect::<Json>(), "obs": frame(&look.obs),
        "var": frame(&look.var), "gene_names": name_style(&look.var.names), "warnings": look.warnings,
    })
}
