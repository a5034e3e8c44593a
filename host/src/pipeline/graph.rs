//! The plan as text, or as a graph in the DOT language.

use super::plan::Plan;
use std::fmt::Write;

/// The steps in their order, each with what it runs and what it reads.
pub fn graph(plan: &Plan, dot: bool) -> String {
    let order = plan.order().unwrap_or_default();
    if dot { as_dot(plan, &order) } else { as_text(plan, &order) }
}

fn as_text(plan: &Plan, order: &[usize]) -> String {
    let names = order.iter().map(|&i| plan.steps[i].name.len());
    let width = names.max().unwrap_or(0);
    let mut out = String::new();
    for &i in order {
        let step = &plan.steps[i];
        let inputs: Vec<String> = step.action.inputs().iter().map(|input| source(plan, input)).collect();
        let arrow = if inputs.is_empty() { String::new() } else { format!("  ← {}", inputs.join(", ")) };
        let by = step.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let _ = writeln!(out, "{:width$}  {}{by}{arrow}", step.name, step.action.used());
    }
    out
}

fn source(plan: &Plan, input: &super::Input) -> String {
    format!("{}.{}", plan.steps[input.step].name, input.port)
}

fn as_dot(plan: &Plan, order: &[usize]) -> String {
    let mut out = format!("digraph \"{}\" {{\n  rankdir = LR;\n  node [shape = box];\n", plan.name);
    for &i in order {
        let step = &plan.steps[i];
        let _ = writeln!(out, "  \"{}\" [label = \"{}\\n{}\"];", step.name, step.name, step.action.used());
    }
    for &i in order {
        for input in plan.steps[i].action.inputs() {
            let from = &plan.steps[input.step].name;
            let _ = writeln!(out, "  \"{from}\" -> \"{}\" [label = \"{}\"];", plan.steps[i].name, input.port);
        }
    }
    out + "}\n"
}
