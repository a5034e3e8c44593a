//! Sentences about models of perturbations: which baselines each beats by each metric, and by how much.

use super::super::scores::ScoreRow;
use crate::number::shown;
use crate::plugin::Services;
use serde_json::{Value as Json, json};

/// One sentence for each model and metric, and a warning for each model that does not beat every baseline.
pub fn verdicts(rows: &[ScoreRow], host: &Services) -> Vec<Json> {
    let mut verdicts = vec![];
    let mut weak: Vec<(&str, Vec<&str>)> = vec![];
    for row in rows.iter().filter(|row| !row.baseline && !row.rivals.is_empty() && !is_repeated(row, rows)) {
        let Some((text, beats_all)) = sentence(row, rows) else { continue };
        if !beats_all {
            match weak.iter_mut().find(|(model, _)| *model == row.model) {
                Some((_, metrics)) if !metrics.contains(&row.metric.as_str()) => metrics.push(&row.metric),
                Some(_) => {}
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

/// Whether all perturbations are informative, so that the row of all has said it.
fn is_repeated(row: &ScoreRow, rows: &[ScoreRow]) -> bool {
    let same = |r: &ScoreRow| {
        r.stratum == "perturbations" && (&r.model, &r.metric, &r.data) == (&row.model, &row.metric, &row.data)
    };
    row.stratum == "informative" && rows.iter().any(|r| same(r) && r.of == row.of)
}

/// What is said of a row, and whether it beats every baseline that has a value; nothing where none has.
fn sentence(row: &ScoreRow, rows: &[ScoreRow]) -> Option<(String, bool)> {
    let level = row.level?;
    let value = |name: &String| {
        let same = |r: &&ScoreRow| {
            r.model == *name && (&r.data, &r.metric, &r.stratum) == (&row.data, &row.metric, &row.stratum)
        };
        rows.iter().find(same).and_then(|r| r.value)
    };
    let (valued, silent): (Vec<&String>, Vec<&String>) =
        row.rivals.iter().partition(|name| value(name).is_some());
    if valued.is_empty() {
        return None;
    }
    let place = format!("on `{}` ({}), by {}", row.data, in_words(&row.stratum, row.of), row.metric);
    // The baseline that leaves least to gain.
    let Some(margin) = row.margins.iter().min_by(|a, b| a.gain.total_cmp(&b.gain)) else {
        return Some((format!("`{}` has no value {place}: it beats no baseline.", row.model), false));
    };
    let (Some(lower), Some(upper)) = (margin.lower, margin.upper) else {
        let gain = format!("its gain over `{}` is {}, without an interval", margin.rival, shown(margin.gain));
        return Some((format!("`{}` is not shown to beat a baseline {place}: {gain}.", row.model), false));
    };
    let (beaten, unbeaten): (Vec<&String>, Vec<&String>) =
        valued.into_iter().partition(|name| row.beats.contains(name));
    let list = |names: &[&String]| names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    let what = match (beaten.as_slice(), unbeaten.as_slice()) {
        (beaten, []) => format!("beats every baseline ({})", list(beaten)),
        ([], unbeaten) => format!("does not beat {}", list(unbeaten)),
        (beaten, unbeaten) => format!("does not beat {} (it does beat {})", list(unbeaten), list(beaten)),
    };
    let mut text = format!(
        "`{}` {what} {place}. Its gain over `{}` is {}, {} interval{} {} to {}.",
        row.model,
        margin.rival,
        shown(margin.gain),
        level.shown(),
        row.covers.map(|covers| format!(" over {covers}")).unwrap_or_default(),
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

/// Over how many perturbations of which sort a row is.
fn in_words(stratum: &str, n: usize) -> String {
    let many = if n == 1 { "" } else { "s" };
    match stratum {
        "informative" => format!("{n} informative perturbation{many}"),
        "doubles" => format!("{n} perturbation{many} of two genes"),
        "interaction" => format!("{n} interaction{many} of two genes"),
        _ => format!("{n} perturbation{many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::scores::Margin;
    use super::*;
    use crate::statistics::Level;

    fn row(model: &str, stratum: &str, value: Option<f64>) -> ScoreRow {
        ScoreRow {
            data: "d".into(),
            model: model.into(),
            metric: "spearman".into(),
            stratum: stratum.into(),
            value,
            lower: None,
            upper: None,
            direction: "higher".into(),
            beats: vec![],
            scored: Some(3),
            covers: None,
            skill: None,
            margins: vec![],
            level: Some(Level::of_models(2)),
            random: None,
            of: 4,
            baseline: true,
            rivals: vec![],
        }
    }

    /// A model beside the baselines a, b and one without a value.
    fn rows(stratum: &str, beats: &[&str]) -> Vec<ScoreRow> {
        let margin = Margin { rival: "b".into(), gain: 0.125, lower: Some(-0.5), upper: Some(0.75) };
        let model = ScoreRow {
            baseline: false,
            beats: beats.iter().map(ToString::to_string).collect(),
            margins: vec![margin],
            random: Some((18, 20)),
            covers: Some("cells"),
            rivals: ["a", "b", "silent"].map(String::from).into(),
            ..row("m", stratum, Some(0.5))
        };
        vec![model, row("a", stratum, Some(0.1)), row("b", stratum, Some(0.2)), row("silent", stratum, None)]
    }

    #[test]
    fn a_sentence_says_what_is_beaten_and_by_how_much_and_a_warning_where_something_is_not() {
        let host = crate::plugin::Services::silent(0, Default::default());
        let said = verdicts(&rows("perturbations", &["a"]), &host);
        let expected = "`m` does not beat b (it does beat a) on `d` (4 perturbations), by spearman. Its gain over `b` is \
                        0.125, 97.5 % interval over cells -0.500 to 0.750. Its own targets score better than random ones in 18 of 20 \
                        draws. It has a value in 3 of 4 perturbations only. No value: silent.";
        assert_eq!((said[0]["text"].as_str().unwrap(), &said[0]["beats_all"]), (expected, &json!(false)));
        assert_eq!(host.warnings(), ["m does not beat every simple baseline, by spearman"]);
        let host = crate::plugin::Services::silent(0, Default::default());
        let said = verdicts(&rows("perturbations", &["a", "b"]), &host);
        assert!(said[0]["text"].as_str().unwrap().starts_with("`m` beats every baseline (a, b) on `d`"));
        assert!(said[0]["beats_all"] == true && host.warnings().is_empty());
    }

    #[test]
    fn a_model_without_a_value_or_an_interval_beats_nothing_and_that_is_said() {
        let told = |margins: Vec<Margin>| {
            let mut rows = rows("informative", &[]);
            rows[0].margins = margins;
            let host = crate::plugin::Services::silent(0, Default::default());
            let said = verdicts(&rows, &host);
            assert!(said[0]["beats_all"] == false && host.warnings().len() == 1);
            said[0]["text"].as_str().unwrap().to_string()
        };
        let none =
            "`m` has no value on `d` (4 informative perturbations), by spearman: it beats no baseline.";
        assert_eq!(told(vec![]), none);
        let margin = Margin { rival: "b".into(), gain: 0.125, lower: None, upper: None };
        let unsure = "`m` is not shown to beat a baseline on `d` (4 informative perturbations), by spearman: its gain over `b` \
                      is 0.125, without an interval.";
        assert_eq!(told(vec![margin]), unsure);
    }

    #[test]
    fn what_was_said_of_all_is_not_said_again_of_the_informative() {
        let host = crate::plugin::Services::silent(0, Default::default());
        let both = |of: usize| {
            let informative = rows("informative", &["a"]).into_iter().map(|row| ScoreRow { of, ..row });
            verdicts(&rows("perturbations", &["a"]).into_iter().chain(informative).collect::<Vec<_>>(), &host)
                .len()
        };
        assert_eq!((both(4), both(3)), (1, 2));
    }
}
