//! Families: a step with `by`, or with a list where one input is expected, runs once for each member, and so
//! does every step that reads from it. Members are told apart by labels.

use crate::pipeline::Input;
use std::collections::BTreeMap;

/// What tells a member from the others: `cell_type` = `B cells`.
pub type Labels = BTreeMap<String, String>;

/// One member of an input's family, as a step reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The reference.
    pub input: Input,
    /// Which member of the other step's family.
    pub labels: Labels,
    /// Only cells whose annotation has this value.
    pub group: Option<(String, String)>,
}

/// For one instance of a step: the chosen members under each key.
pub type Choices = BTreeMap<&'static str, Vec<Chosen>>;

/// An alternative for a key: labels that choosing it adds, and what is chosen.
pub type Alternative = (Labels, Vec<Chosen>);

/// All members that fit together: one alternative for each key, with equal values for shared labels.
pub fn join(slots: &[(&'static str, Vec<Alternative>)]) -> Vec<(Labels, Choices)> {
    let mut joined: Vec<(Labels, Choices)> = vec![(Labels::new(), Choices::new())];
    for (key, alternatives) in slots {
        let mut next = vec![];
        for (labels, choices) in &joined {
            for (more, chosen) in alternatives.iter().filter(|(more, _)| compatible(labels, more)) {
                let mut labels = labels.clone();
                labels.extend(more.clone());
                let mut choices = choices.clone();
                choices.insert(key, chosen.clone());
                next.push((labels, choices));
            }
        }
        joined = next;
    }
    joined
}

/// Whether two sets of labels agree wherever both say something.
pub fn compatible(a: &Labels, b: &Labels) -> bool {
    a.iter().all(|(key, value)| b.get(key).is_none_or(|other| other == value))
}

/// Labels as a folder's name: `cell_type=B cells`, with what a file system or a shell dislikes as `%2F`.
///
/// A name that is too long for a file system ends in a hash instead.
pub fn folder(labels: &Labels) -> String {
    const LONGEST: usize = 200;
    let parts: Vec<String> = labels.iter().map(|(k, v)| format!("{}={}", encoded(k), encoded(v))).collect();
    let mut name = parts.join(",");
    if name.len() > LONGEST {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let cut = (0..=LONGEST - 20).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
        name = format!("{}%{}", &name[..cut], &hash[..16]);
    }
    // Such ends mark work in progress.
    for end in [".part", ".old", ".tmp"] {
        if let Some(stem) = name.strip_suffix(end) {
            name = format!("{stem}%2E{}", &end[1..]);
        }
    }
    name
}

fn encoded(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || " +-_.()".contains(c);
    let one = |c: char| {
        if plain(c) {
            return c.to_string();
        }
        let mut bytes = [0; 4];
        c.encode_utf8(&mut bytes).bytes().map(|b| format!("%{b:02X}")).collect()
    };
    text.chars().map(one).collect()
}

/// Labels for people: ` [B cells]`, or nothing.
pub fn suffix(labels: &Labels) -> String {
    if labels.is_empty() {
        return String::new();
    }
    format!(" [{}]", labels.values().cloned().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn members_with_a_shared_label_meet_only_their_like() {
        let alternatives =
            |list: &[&[(&str, &str)]]| list.iter().map(|l| (labels(l), vec![])).collect::<Vec<_>>();
        let models = alternatives(&[&[("type", "B")], &[("type", "T")]]);
        let cells = alternatives(&[&[("type", "B")], &[("type", "T")]]);
        let metric = alternatives(&[&[("metric", "x")], &[("metric", "y")]]);
        let joined = join(&[("model", models), ("cells", cells), ("metric", metric)]);
        let found: Vec<Labels> = joined.into_iter().map(|(l, _)| l).collect();
        let expected = [("B", "x"), ("B", "y"), ("T", "x"), ("T", "y")];
        assert_eq!(found, expected.map(|(t, m)| labels(&[("type", t), ("metric", m)])));
    }

    #[test]
    fn a_folder_name_keeps_letters_and_encodes_the_rest() {
        assert_eq!(folder(&labels(&[("cell_type", "CD14+ Mono/β")])), "cell_type=CD14+ Mono%2Fβ");
        assert_eq!(folder(&labels(&[])), "");
        assert_eq!(folder(&labels(&[("g", "B.part")])), "g=B%2Epart");
        let long = |end: &str| folder(&labels(&[("g", &("β".repeat(150) + end))]));
        assert!(long("x").len() < 220 && long("x") != long("y"));
    }
}
