//! Checks of the plan as a whole: cycles, capabilities that do not fit, outputs that nothing uses.

use super::diagnostics::Diagnostic;
use super::plan::Plan;
use crate::plugin::{Answers, ModelInfo};
use crate::steps::Action;

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
            Action::Screen(_) => check_models(plan, i, problems),
            Action::Evaluate(_) => {
                check_models(plan, i, problems);
                check_truth(plan, i, problems);
            }
            Action::Fit(fit) if fit.call.component.model_info().needs_labels => {
                let title = format!("`{}` learns from measured perturbations", fit.call.component.id);
                let problem = Diagnostic::error(fit.call.at.clone(), title);
                problems.push(problem.help("this Lacuna fits models on unperturbed cells only"));
            }
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

/// What the model behind an input declares, if it is a model or a truth.
fn model_info(plan: &Plan, step: usize) -> Option<ModelInfo> {
    match &plan.steps[step].action {
        Action::Fit(fit) => Some(fit.call.component.model_info()),
        Action::Simulate(simulate) => Some(simulate.call.component.model_info()),
        _ => None,
    }
}

fn check_models(plan: &Plan, step: usize, problems: &mut Vec<Diagnostic>) {
    let mapping = matches!(plan.steps[step].action, Action::Evaluate(_));
    for input in plan.steps[step].action.inputs() {
        let Some(info) = model_info(plan, input.step) else { continue };
        if !["model", "models"].contains(&input.key) {
            continue;
        }
        let name = &plan.steps[input.step].name;
        if info.answers != Answers::Profiles {
            let title = format!(
                "`{name}` answers with {}; profiles of cells are needed here",
                in_words(info.answers)
            );
            problems.push(Diagnostic::error(input.at.clone(), title));
        } else if mapping && info.sees_expression {
            let title =
                format!("`{name}` sees the cell that it is to predict, so its score would mean nothing");
            problems.push(
                Diagnostic::error(input.at.clone(), title)
                    .help("evaluate its screen against a truth instead"),
            );
        }
    }
}

/// What is called the truth has to be one: a screen of what a simulator knows.
fn check_truth(plan: &Plan, step: usize, problems: &mut Vec<Diagnostic>) {
    for input in plan.steps[step].action.inputs().into_iter().filter(|input| input.key == "truth") {
        let screen = &plan.steps[input.step];
        let models = screen.action.inputs().into_iter().filter(|input| input.key == "model");
        let of_a_model =
            |m: &&crate::pipeline::Input| !matches!(plan.steps[m.step].action, Action::Simulate(_));
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

fn in_words(answers: Answers) -> &'static str {
    match answers {
        Answers::Profiles => "profiles",
        Answers::Means => "population means",
        Answers::Samples => "samples",
        Answers::GeneScores => "gene scores",
    }
}
