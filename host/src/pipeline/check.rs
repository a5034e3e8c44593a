//! Checks of the plan as a whole: cycles, capabilities that do not fit, outputs that nothing uses.

use super::diagnostics::Diagnostic;
use super::plan::Plan;
use crate::pipeline::{Call, Input};
use crate::plugin::{Answers, Component, Kind, ModelInfo, Shape};
use crate::steps::{Action, Evaluate, Fit, Screen};

/// Adds what is wrong with the plan.
pub fn check(plan: &Plan, problems: &mut Vec<Diagnostic>) {
    if let Err(cycles) = plan.order() {
        for cycle in cycles {
            let names: Vec<&str> =
                cycle.iter().chain(cycle.first()).map(|&i| plan.steps[i].name.as_str()).collect();
            let place = plan.steps[cycle[0]].at.clone();
            problems.push(Diagnostic::error(place, format!("the steps form a cycle: {}", names.join(" → "))));
        }
        return;
    }
    for (i, step) in plan.steps.iter().enumerate() {
        match &step.action {
            Action::Screen(screen) => check_screen(plan, i, screen, problems),
            Action::Evaluate(evaluate) => {
                check_evaluation(plan, i, evaluate, problems);
                check_truth(plan, i, problems);
            }
            Action::Fit(fit) => {
                let cells: Vec<&Input> = fit.train.iter().chain(&fit.validation).collect();
                check_lessons(plan, &[&fit.call], &cells, problems);
                check_source(plan, i, fit, problems);
            }
            Action::Best(best) => check_lessons(plan, &best.calls(), &best.inputs(), problems),
            _ => {}
        }
        if step.by.is_some() && step.action.cell_keys().is_empty() {
            let title = format!("`by` of step `{}`: there are no cells here to group", step.name);
            problems.push(Diagnostic::error(step.at.clone(), title));
        }
        if !is_result(&step.action) && !(0..plan.steps.len()).any(|j| plan.upstream(j).any(|u| u == i)) {
            let problem = Diagnostic::warning(step.at.clone(), format!("nothing uses step `{}`", step.name));
            problems.push(problem.help("remove it, or name it in a screen, an evaluation or a report"));
        }
    }
}

/// Whether people look at what the step gives, so that it needs no user.
fn is_result(action: &Action) -> bool {
    matches!(action, Action::Screen(_) | Action::Evaluate(_) | Action::Report(_))
}

/// Models that learn from measured perturbations have to be given such.
fn check_lessons(plan: &Plan, calls: &[&Call], inputs: &[&Input], problems: &mut Vec<Diagnostic>) {
    let learns =
        |call: &&&Call| call.component.kind == Kind::Model && call.component.model_info().needs_labels;
    if let Some(call) = calls.iter().find(learns) {
        let who = format!("`{}` learns from measured perturbations", call.component.id);
        inputs.iter().for_each(|input| check_labelled(plan, input, &who, problems));
    }
}

/// A model goes on from a fitted one of its own component, if it offers that.
fn check_source(plan: &Plan, step: usize, fit: &Fit, problems: &mut Vec<Diagnostic>) {
    let Some(first) = fit.from.first() else { return };
    let id = &fit.call.component.id;
    if !fit.call.component.model_info().refines {
        let title = format!("`{id}` does not go on from a fitted model");
        problems.push(Diagnostic::error(first.at.clone(), title).help(others_that_refine(plan)));
        return;
    }
    let fits_it = |i: usize| matches!(&plan.steps[i].action, Action::Fit(other) if other.call.full_name() == fit.call.full_name());
    for input in fit.from.iter().filter(|input| !fits_it(input.step)) {
        let source = &plan.steps[input.step];
        let what = match &source.action {
            Action::Fit(other) => format!("fits `{}`", other.call.component.id),
            Action::Best(_) => "chooses among models: name the step of a model".into(),
            _ => "fits no model".into(),
        };
        let title = format!("`{id}` goes on from a fitted `{id}`, and `{}` {what}", source.name);
        let known: Vec<&str> = (0..plan.steps.len())
            .filter(|&i| i != step && fits_it(i))
            .map(|i| plan.steps[i].name.as_str())
            .collect();
        let problem = Diagnostic::error(input.at.clone(), title);
        problems.push(match known.is_empty() {
            true => problem.help(format!("no other step fits `{id}`")),
            false => problem.help(format!("steps that fit it: {}", known.join(", "))),
        });
    }
}

/// Which models go on from a fitted one.
fn others_that_refine(plan: &Plan) -> String {
    let refines = |c: &&Component| c.kind == Kind::Model && c.model_info().refines;
    let mut ids: Vec<&str> =
        plan.registry.components().map(|(_, c)| c).filter(refines).map(|c| c.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        "no model that is loaded does".into()
    } else {
        format!("these do: {}", ids.join(", "))
    }
}

/// What the model behind an input declares, if it is a model or a truth.
fn model_info(plan: &Plan, step: usize) -> Option<ModelInfo> {
    match &plan.steps[step].action {
        Action::Fit(fit) => Some(fit.call.component.model_info()),
        Action::Best(best) => Some(best.info()),
        Action::Simulate(simulate) => Some(simulate.call.component.model_info()),
        _ => None,
    }
}

/// The steps behind a key, with what is known of the model in each.
fn models<'p>(plan: &'p Plan, step: usize, keys: &[&str]) -> Vec<(&'p Input, &'p str, ModelInfo)> {
    let inputs = plan.steps[step].action.inputs().into_iter().filter(|input| keys.contains(&input.key));
    let known = |input: &'p Input| {
        let info = model_info(plan, input.step)?;
        Some((input, plan.steps[input.step].name.as_str(), info))
    };
    inputs.filter_map(known).collect()
}

/// What a screen asks for has to fit what its model answers.
fn check_screen(plan: &Plan, step: usize, screen: &Screen, problems: &mut Vec<Diagnostic>) {
    for (input, name, info) in models(plan, step, &["model"]) {
        let answers = info.answers.in_words();
        let mut problem = |title: String, help: &str| {
            problems.push(Diagnostic::error(input.at.clone(), title).help(help));
        };
        if info.answers == Answers::Samples {
            problem(
                format!(
                    "`{name}` answers with {answers}; a screen takes profiles, population means or gene scores"
                ),
                "take another model",
            );
            continue;
        }
        if info.answers == Answers::GeneScores {
            if screen.has_impacts() {
                let help = "leave `impact` out: knockouts are ranked by the root mean square of their scores";
                problem(format!("`{name}` answers with {answers}, which `impact` cannot compare"), help);
            }
        } else if !screen.has_impacts() {
            let title = "a screen needs `impact`: a metric, such as \"bray-curtis\"";
            problems.push(Diagnostic::error(plan.steps[step].at.clone(), title));
            continue;
        }
        if info.answers == Answers::Profiles {
            continue;
        }
        if screen.is_anchored() {
            problem(
                format!("`{name}` answers with {answers}, which cannot be anchored to cells"),
                "leave `anchor` out",
            );
        }
        if screen.says_what_is_kept() {
            let help = "leave `table` and `top_per_cell` out";
            problem(format!("`{name}` answers with {answers}: there are no impacts in cells to keep"), help);
        }
        if let Some(strategy) = screen.adaptive_strategy() {
            let title =
                format!("`{strategy}` asks for impacts in cells, and `{name}` answers with {answers}");
            problem(title, "take a strategy that proposes once");
        }
    }
}

/// What an evaluation compares has to be there in the models' answers.
fn check_evaluation(plan: &Plan, step: usize, evaluate: &Evaluate, problems: &mut Vec<Diagnostic>) {
    for (input, name, info) in models(plan, step, &["models"]) {
        let fits = match info.answers {
            Answers::Profiles => true,
            Answers::Samples => false,
            Answers::Means | Answers::GeneScores => !evaluate.is_mapping(),
        };
        if !fits {
            let answers = info.answers.in_words();
            let title = format!("`{name}` answers with {answers}; profiles of cells are needed here");
            problems.push(Diagnostic::error(input.at.clone(), title));
        } else if evaluate.is_mapping() && info.sees_expression {
            let title =
                format!("`{name}` sees the cell that it is to predict, so its score would mean nothing");
            problems.push(
                Diagnostic::error(input.at.clone(), title)
                    .help("evaluate its screen against a truth instead"),
            );
        }
    }
    for (_, name, _) in models(plan, step, &["models"]).iter().filter(|m| m.2.answers == Answers::GeneScores)
    {
        // Who predicts no cells is not scored by metrics of populations.
        let bound = |call: &&Call| {
            let info = call.component.metric_info();
            !evaluate.is_mapping() && !info.scale_free && info.shape != Shape::Population
        };
        for call in evaluate.metrics().iter().filter(bound) {
            let title = format!(
                "`{}` compares sizes, and the gene scores of `{name}` have a unit of their own",
                call.name
            );
            problems.push(
                Diagnostic::error(call.at.clone(), title)
                    .help("a correlation fits, or a metric that is free of scale, as pds"),
            );
        }
    }
    for input in plan.steps[step].action.inputs().into_iter().filter(|input| input.key == "screens") {
        for (_, name, info) in models(plan, input.step, &["model"]) {
            if info.answers != Answers::Profiles {
                let title = format!(
                    "`{}` screens `{name}`, which answers with {}: it has no impacts in cells",
                    plan.steps[input.step].name,
                    info.answers.in_words()
                );
                let help = "evaluate the model: `models` with `truth`, cells with measured perturbations";
                problems.push(Diagnostic::error(input.at.clone(), title).help(help));
            }
        }
    }
}

/// Cells with measured perturbations have been read as such by a `prepare` on their way.
fn check_labelled(plan: &Plan, input: &Input, who: &str, problems: &mut Vec<Diagnostic>) {
    let prepares = |step: usize| match &plan.steps[step].action {
        Action::Prepare(prepare) => prepare.reads_perturbations(),
        _ => false,
    };
    let (mut on_the_way, mut next) = (vec![input.step], 0);
    while let Some(&step) = on_the_way.get(next) {
        if prepares(step) {
            return;
        }
        on_the_way.extend(plan.upstream(step));
        next += 1;
    }
    let title = format!("{who}, and which these are in `{}` is not known", plan.steps[input.step].name);
    let help = "name their annotation in a `prepare` step: perturbation = \"perturbation\"";
    problems.push(Diagnostic::error(input.at.clone(), title).help(help));
}

/// What is called the truth has to be one: a screen of what a simulator knows, or measured perturbations.
fn check_truth(plan: &Plan, step: usize, problems: &mut Vec<Diagnostic>) {
    for input in plan.steps[step].action.inputs().into_iter().filter(|input| input.key == "truth") {
        let screen = &plan.steps[input.step];
        if !matches!(screen.action, Action::Screen(_)) {
            check_labelled(plan, input, "models are compared with measured perturbations", problems);
            continue;
        }
        let models = screen.action.inputs().into_iter().filter(|input| input.key == "model");
        let of_a_model = |m: &&Input| !matches!(plan.steps[m.step].action, Action::Simulate(_));
        if let Some(model) = models.into_iter().find(of_a_model) {
            let title = format!(
                "`{}` screens the model `{}`, which is no truth",
                screen.name, plan.steps[model.step].name
            );
            problems.push(
                Diagnostic::error(input.at.clone(), title).help("name a screen of a simulator's truth"),
            );
        }
    }
}
