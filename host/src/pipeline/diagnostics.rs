//! Problems of a pipeline: each with its place, the text underlined, and a suggestion.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::json;
use std::ops::Range;

/// A place in one of the texts that make a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which text.
    pub source: usize,
    /// Which bytes.
    pub range: Range<usize>,
}

/// The texts that make a pipeline: its file, and each `--set`.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    texts: Vec<(String, String)>,
}

impl Sources {
    /// Adds a text and its name; gives its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.texts.push((name.into(), text.into()));
        self.texts.len() - 1
    }

    /// A text by its number.
    pub fn text(&self, source: usize) -> &str {
        &self.texts[source].1
    }

    /// A text's name.
    pub fn name(&self, source: usize) -> &str {
        &self.texts[source].0
    }

    /// Line and column of a place, both from 1; columns count characters.
    pub fn line_column(&self, place: &Place) -> (usize, usize) {
        let before = &self.text(place.source)[..place.range.start.min(self.text(place.source).len())];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pipeline cannot run.
    Error,
    /// It can, but hardly as meant.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub at: Place,
    /// What is wrong.
    pub title: String,
    /// A few words under the place.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(at: Place, title: impl Into<String>) -> Self {
        Self { severity: Severity::Error, at, title: title.into(), label: String::new(), help: None }
    }

    /// A warning.
    pub fn warning(at: Place, title: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, title) }
    }

    /// With a few words under the place.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With "did you mean", if a candidate is near; else with the list of all, if it is short.
    pub fn suggest<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        if let Some(near) = nearest(word, &candidates) {
            return self.help(format!("did you mean `{near}`?"));
        }
        match candidates.len() {
            0 => self,
            n if n <= 40 => self.help(format!("there are: {}", candidates.join(", "))),
            _ => self,
        }
    }

    fn render(&self, sources: &Sources, renderer: &Renderer) -> String {
        let (name, text) = &sources.texts[self.at.source];
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut annotation = AnnotationKind::Primary.span(self.shown_range(text));
        if !self.label.is_empty() {
            annotation = annotation.label(&*self.label);
        }
        let snippet = Snippet::source(text.as_str()).path(name.as_str()).annotation(annotation);
        let mut group = level.primary_title(&*self.title).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(&**help));
        }
        renderer.render(&[group])
    }

    /// A table's place is its header line: a whole section underlined says nothing.
    fn shown_range(&self, text: &str) -> Range<usize> {
        let start = self.at.range.start.min(text.len());
        let end = self.at.range.end.clamp(start, text.len());
        let first_line = text[start..end].find('\n').map_or(end, |i| start + i);
        start..first_line
    }
}

/// The candidate nearest to a word, if any is near.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |c: &&&str| strsim::damerau_levenshtein(&lower, &c.to_lowercase());
    let best = candidates.iter().min_by_key(distance)?;
    (distance(&best) <= (best.len().max(word.len()) / 3).max(1)).then_some(*best)
}

/// Sorts problems by place, errors and warnings together, and drops repetitions.
pub fn sorted(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    problems.sort_by_key(|p| (p.at.source, p.at.range.start, p.severity));
    problems.dedup();
    problems
}

/// All problems as text for people, with colours if asked for.
pub fn render(problems: &[Diagnostic], sources: &Sources, colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let mut out: String = problems.iter().map(|p| p.render(sources, &renderer) + "\n\n").collect();
    let count = |severity| problems.iter().filter(|p| p.severity == severity).count();
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let summary: Vec<String> = [(errors, "error"), (warnings, "warning")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| plural(n, word))
        .collect();
    if !summary.is_empty() {
        out += &format!("{}\n", summary.join(", "));
    }
    out
}

/// All problems for machines.
pub fn to_json(problems: &[Diagnostic], sources: &Sources) -> serde_json::Value {
    let one = |p: &Diagnostic| {
        let (line, column) = sources.line_column(&p.at);
        let severity = if p.severity == Severity::Error { "error" } else { "warning" };
        json!({
            "severity": severity, "file": sources.texts[p.at.source].0, "line": line, "column": column,
            "message": p.title, "label": p.label, "help": p.help,
        })
    };
    problems.iter().map(one).collect()
}
