//! Sentences about models of perturbations: which baselines each beats by each metric, and by how much.

use super::super::scores::ScoreRow;
use crate::number::shown;
use crate::plugin::Services;
use serde_json::{Value as Json, json};

/// One sentence for each model and metric, and a warning for each model that does not beat every baseline.
pub fn verdicts(rows: &[ScoreRow], host: &Services) -> Vec<Json> {
    let mut verdicts = vec![];
    let mut weak: Vec<(&str, Vec<&str>)> = vec![];
    for row in rows.iter().filter(|row| !row.baseline && !row.rivals.is_empty()) {
        let Some((text, beats_all)) = sentence(row, rows) else { continue };
        if !beats_all {
            match weak.iter_mut().find(|(model, _)| *model == row.model) {
                Some((_, metrics)) => metrics.push(&row.metric),
                None => weak.push((&row.model, vec![&row.metric])),
            }
        }
        verdicts.push(json!({ "text": text, "beats_all": beats_all, "model": row.model, "data": row.data }));
    }
    for (model, metrics) in weak {
        host.warn(format!("{model} does not beat every simple baseline, by {}", metrics.join(", ")));
    }
    verdicts
}

/// What is said of a row, and whether it beats every baseline that has a value; nothing where no interval can be given.
fn sentence(row: &ScoreRow, rows: &[ScoreRow]) -> Option<(String, bool)> {
    let (margin, level) = (row.margin.as_ref()?, row.level?);
    let (lower, upper) = (margin.lower?, margin.upper?);
    let value = |name: &String| {
        let same = |r: &&ScoreRow| {
            r.model == *name && (&r.data, &r.metric, &r.stratum) == (&row.data, &row.metric, &row.stratum)
        };
        rows.iter().find(same).and_then(|r| r.value)
    };
    let (valued, silent): (Vec<&String>, Vec<&String>) =
        row.rivals.iter().partition(|name| value(name).is_some());
    let (beaten, unbeaten): (Vec<&String>, Vec<&String>) =
        valued.into_iter().partition(|name| row.beats.contains(name));
    let list = |names: &[&String]| names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    let what = match (beaten.as_slice(), unbeaten.as_slice()) {
        ([], []) => return None,
        (beaten, []) => format!("beats every baseline ({})", list(beaten)),
        ([], unbeaten) => format!("does not beat {}", list(unbeaten)),
        (beaten, unbeaten) => format!("does not beat {} (it does beat {})", list(unbeaten), list(beaten)),
    };
    let mut text = format!(
        "`{}` {what} on `{}`, by {}. Its gain over `{}` is {}, {} interval {} to {}.",
        row.model,
        row.data,
        row.metric,
        margin.rival,
        shown(margin.gain),
        level.shown(),
        shown(lower),
        shown(upper),
    );
    if let Some((better, of)) = row.random {
        text += &format!(" Its own targets score better than random ones in {better} of {of} draws.");
    }
    if let Some(n) = row.scored.filter(|n| *n < row.of) {
        text += &format!(" It has a value in {n} of {} perturbations only.", row.of);
    }
    if !silent.is_empty() {
        text += &format!(" No value: {}.", list(&silent));
    }
    Some((text, unbeaten.is_empty()))
}
