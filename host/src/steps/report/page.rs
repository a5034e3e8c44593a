//! The page: HTML from what the steps said of themselves.

use super::charts;
use crate::number;
use serde_json::{Value as Json, json};
use std::fmt::Write;

/// All that a page tells.
pub struct Content<'a> {
    /// The pipeline's name.
    pub name: &'a str,
    /// Its seed.
    pub seed: u64,
    /// Screens: title and summary.
    pub screens: Vec<(String, Json)>,
    /// Evaluations: title and summary.
    pub evaluations: Vec<(String, Json)>,
    /// Models that were chosen among others: title and summary.
    pub choices: Vec<(String, Json)>,
    /// Training curves: title and points.
    pub trainings: Vec<(String, Json)>,
    /// Each finished step: name, what it ran, what it says, its warnings.
    pub steps: Vec<(String, String, String, Vec<String>)>,
    /// Each plugin: name, version, hash.
    pub plugins: Vec<(String, String, String)>,
}

const STYLE: &str = include_str!("../../../assets/report.css");
const VEGA: [&str; 3] = [
    include_str!("../../../assets/vega/vega.min.js"),
    include_str!("../../../assets/vega/vega-lite.min.js"),
    include_str!("../../../assets/vega/vega-embed.min.js"),
];

/// A page in the making: text, and the plots to be drawn in it.
#[derive(Default)]
struct Page {
    html: String,
    charts: Vec<Json>,
}

/// The whole page.
pub fn render(content: &Content<'_>) -> String {
    let mut page = Page::default();
    page.verdicts(content);
    content.screens.iter().for_each(|(title, summary)| page.screen(title, summary));
    content.evaluations.iter().for_each(|(title, summary)| page.evaluation(title, summary));
    content.choices.iter().for_each(|(title, summary)| page.choice(title, summary));
    page.trainings(&content.trainings);
    page.provenance(content);
    page.finish(content.name)
}

/// Genes whose lines in the plot are the intervals by refits, where there are such.
fn with_lines(genes: &Json) -> Json {
    let one = |gene: &Json| {
        let mut gene = gene.clone();
        if gene["refit_lower"].is_number() {
            (gene["lower"], gene["upper"]) = (gene["refit_lower"].clone(), gene["refit_upper"].clone());
        }
        gene
    };
    list(genes).iter().map(one).collect()
}

/// Text as HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn number(value: &Json) -> String {
    number::shown(value.as_f64().unwrap_or(f64::NAN))
}

fn interval(of: &Json) -> String {
    match of["lower"].is_number() {
        true => format!("{} – {}", number(&of["lower"]), number(&of["upper"])),
        false => "–".into(),
    }
}

fn percent(value: &Json) -> String {
    number::percent(value.as_f64().unwrap_or(f64::NAN))
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Page {
    fn add(&mut self, html: &str) {
        self.html += html;
    }

    fn chart(&mut self, spec: Json) {
        let _ = write!(self.html, "<div class=\"chart\" id=\"chart-{}\"></div>", self.charts.len());
        self.charts.push(spec);
    }

    /// First of all: does each model beat the baselines? A model that does not is warned of loudly.
    fn verdicts(&mut self, content: &Content<'_>) {
        let verdicts = content.evaluations.iter().flat_map(|(_, summary)| list(&summary["verdicts"]));
        let (good, bad): (Vec<&Json>, Vec<&Json>) = verdicts.partition(|v| v["beats_all"] == true);
        if good.is_empty() && bad.is_empty() {
            self.add(if content.evaluations.is_empty() {
                "<p class=\"warning\"><b>No model was evaluated here.</b> Whether these impacts mean anything is not \
                 known: add a step <code>evaluate</code>.</p>"
            } else {
                "<p class=\"warning\"><b>No model was compared with a baseline here.</b> Whether it is better than a \
                 simple predictor is not known: there were no baselines, or too few cells.</p>"
            });
            return;
        }
        self.add("<h2>Does the model beat simple baselines?</h2>");
        if !bad.is_empty() {
            self.add("<div class=\"warning\"><b>Not everywhere.</b> Treat what follows with caution.<ul>");
            bad.iter().for_each(|v| self.sentence(v));
            self.add("</ul></div>");
        }
        if !good.is_empty() {
            self.add("<ul>");
            good.iter().for_each(|v| self.sentence(v));
            self.add("</ul>");
        }
        self.add(
            "<p class=\"note\">Beating means: the 95 % interval of the paired difference excludes 0, by a bootstrap over \
             cells, or Student's over measured perturbations; its level is corrected for the number of models (Bonferroni), not \
             for that of metrics, baselines and data.</p>",
        );
    }

    fn sentence(&mut self, verdict: &Json) {
        let text = escape(verdict["text"].as_str().unwrap_or_default());
        // Backquotes mark names.
        let mut out = String::new();
        for (i, part) in text.split('`').enumerate() {
            out += &if i % 2 == 1 { format!("<code>{part}</code>") } else { part.to_string() };
        }
        let _ = write!(self.html, "<li>{out}</li>");
    }

    fn screen(&mut self, title: &str, summary: &Json) {
        let first = &summary["shown"];
        let metric = first["metric"].as_str().unwrap_or_default();
        let against = first["against"].as_str().unwrap_or_default();
        let population = summary["population"] == true;
        let _ = write!(
            self.html,
            "<h2>Keystone genes: {}</h2><p>{} knockouts in {}{} cells, predicted by <code>{}</code>. Impact: \
             <code>{}</code> {}.</p>",
            escape(title),
            summary["knockouts"],
            if population { "a population of " } else { "" },
            summary["cells"],
            escape(summary["model"].as_str().unwrap_or_default()),
            escape(metric),
            escape(in_words(against, first["removes_genes"] == true)),
        );
        let genes = &summary["keystones"];
        if list(genes).is_empty() {
            self.knockouts_only(summary);
            return;
        }
        let what = if population {
            "impact on the population"
        } else {
            "mean impact over the cells that express the gene"
        };
        let refitted = list(genes).iter().any(|g| g["refit_lower"].is_number() || g["p"].is_number());
        self.chart(charts::keystones(&with_lines(genes), what));
        self.gene_table(genes, refitted);
        self.always_on(genes);
        if refitted {
            self.stability(&summary["stability"]);
        }
        if population {
            self.add("<p class=\"note\">The model answers for the population as a whole: there are no impacts in cells.</p>");
        }
        if list(genes).iter().any(|g| g["refit_lower"].is_number()) {
            self.add("<p class=\"note\">Lines: 95 % by refits.</p>");
        } else if !population {
            self.add("<p class=\"note\">Lines: normal 95 % intervals of the mean over cells; they hold the spread of cells, not the model's own error.</p>");
        }
    }

    /// Of a gene that nearly every cell expresses, the model has hardly seen the absence.
    fn always_on(&mut self, genes: &Json) {
        let always = list(genes).iter().filter(|g| g["presence"].as_f64().is_some_and(|p| p > 0.98));
        let named: Vec<String> = always
            .map(|g| {
                format!("{} ({})", escape(g["gene"].as_str().unwrap_or_default()), percent(&g["presence"]))
            })
            .collect();
        if !named.is_empty() {
            let _ = write!(
                self.html,
                "<p class=\"warning\"><b>Expressed in nearly all cells: {}.</b> The model has hardly seen a cell \
                 without them, so their impacts are extrapolated.</p>",
                named.join(", ")
            );
        }
    }

    /// A screen without single knockouts has a list of names only.
    fn knockouts_only(&mut self, summary: &Json) {
        let top: Vec<String> = list(&summary["top"])
            .iter()
            .take(20)
            .filter_map(|t| t.as_str())
            .map(|t| format!("<code>{}</code>", escape(t)))
            .collect();
        let _ = write!(self.html, "<p>Knockouts with the highest mean impact: {}.</p>", top.join(", "));
    }

    fn gene_table(&mut self, genes: &Json, refitted: bool) {
        self.add(
            "<table><thead><tr><th>rank</th><th>gene</th><th>mean impact</th><th>95 % interval</th><th>cells</th>\
             <th>presence</th><th>mean share</th>",
        );
        if refitted {
            self.add("<th>95 % by refits</th><th>p</th><th>FDR</th>");
        }
        self.add("</tr></thead><tbody>");
        for g in list(genes) {
            let _ = write!(
                self.html,
                "<tr><td>{}</td><td><b>{}</b></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
                g["rank"],
                escape(g["gene"].as_str().unwrap_or_default()),
                number(&g["impact"]),
                interval(g),
                g["cells"],
                percent(&g["presence"]),
                percent(&g["mean_share"]),
            );
            if refitted {
                let ends = json!({ "lower": g["refit_lower"], "upper": g["refit_upper"] });
                let (p, fdr) = (number(&g["p"]), number(&g["fdr"]));
                let _ = write!(self.html, "<td>{}</td><td>{p}</td><td>{fdr}</td>", interval(&ends));
            }
            self.add("</tr>");
        }
        self.add("</tbody></table>");
    }

    /// How much of the ranking stays when the model is fitted again, beside rankings that need no model.
    fn stability(&mut self, stability: &Json) {
        self.add(
            "<p class=\"note\">95 % by refits: what a fit to as many other cells would say, from fits to halves of the \
             cells. p: how often fits in which the gene tells nothing of others say as much, of it and of genes that as \
             many cells express; FDR by Benjamini and Hochberg over the genes.</p>",
        );
        let kinds = [
            ("halves", "by fits to the two halves of the cells"),
            ("seeds", "by two fits with other seeds"),
            ("threshold", "with a gene expressed from 2 counts on"),
            ("depth", "in the shallower and the deeper half of the cells"),
            ("abundance", "by abundance alone"),
            ("presence", "by the share of cells that express a gene alone"),
        ];
        let told = kinds.iter().filter(|(kind, _)| stability[*kind].is_number());
        let rows: String = told
            .map(|(kind, words)| format!("<tr><td>{words}</td><td>{}</td></tr>", percent(&stability[*kind])))
            .collect();
        let _ = write!(
            self.html,
            "<table><thead><tr><th>shared of the top {}</th><th></th></tr></thead><tbody>{rows}</tbody></table>",
            stability["top"],
        );
    }

    fn evaluation(&mut self, title: &str, summary: &Json) {
        let what = match summary["kind"].as_str() {
            Some("mapping") => "Predicted against observed profiles of cells that the model has not seen",
            Some("effects") => "Predicted against measured effects of perturbations",
            _ => "Predicted against true impacts",
        };
        let _ = write!(self.html, "<h2>{what}: {}</h2>", escape(title));
        let rows = list(&summary["scores"]);
        let mut shown: Vec<(&str, &str, &str)> = vec![];
        for row in rows {
            let text = |key: &str| row[key].as_str().unwrap_or_default();
            let panel = (text("data"), text("metric"), text("stratum"));
            // Single perturbations are in scores.csv: there may be thousands.
            let pooled = summary["kind"] != "effects" || POOLED.contains(&panel.2);
            if !shown.contains(&panel) && row["lower"].is_number() && pooled {
                shown.push(panel);
            }
        }
        self.add("<div class=\"grid\">");
        for (data, metric, stratum) in shown {
            let same = |r: &&Json| r["data"] == data && r["metric"] == metric && r["stratum"] == stratum;
            let panel: Vec<&Json> = rows.iter().filter(same).collect();
            let better = match panel[0]["direction"].as_str() {
                Some("higher") => "higher is better",
                Some("lower") => "lower is better",
                _ => "no direction",
            };
            let _ = write!(
                self.html,
                "<div><h3>{} <span class=\"note\">{}, {}</span></h3>",
                escape(metric),
                escape(data),
                escape(stratum_in_words(stratum))
            );
            self.chart(charts::scores(&panel, metric, better));
            self.add("</div>");
        }
        self.add("</div>");
        self.unlike(list(&summary["unlike"]));
        self.points(summary, rows);
    }

    /// How many of the predicted cells are unlike those that each model was trained on.
    fn unlike(&mut self, models: &[Json]) {
        if models.is_empty() {
            return;
        }
        self.add(
            "<table><thead><tr><th>model</th><th>cells</th><th>unlike its training cells</th></tr></thead><tbody>",
        );
        for of in models {
            let (share, limit) = (of["unlike"].as_f64(), of["limit"].as_f64());
            let many = if share > limit { ": it extrapolates" } else { "" };
            let _ = write!(
                self.html,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}{many}</td></tr>",
                escape(of["model"].as_str().unwrap_or_default()),
                of["cells"],
                percent(&of["unlike"]),
            );
        }
        self.add(
            "</tbody></table><p class=\"note\">Unlike are cells that express more or fewer genes than nearly all training cells, \
             or rarer ones among as many: 1 % of the training cells are.</p>",
        );
    }

    fn points(&mut self, summary: &Json, rows: &[Json]) {
        self.add("<div class=\"grid\">");
        for set in list(&summary["points"]) {
            let data = set["data"].as_str().unwrap_or_default();
            let own = |r: &&Json| r["data"] == data && r["stratum"] == "all" && r["baseline"] == false;
            let scores: Vec<String> = rows
                .iter()
                .filter(own)
                .map(|r| format!("{} {}", r["metric"].as_str().unwrap_or_default(), number(&r["value"])))
                .collect();
            let n = list(&set["points"]).len();
            let _ = write!(
                self.html,
                "<div><h3>True against predicted <span class=\"note\">{}: {}; {n} knockouts drawn at random</span></h3>",
                escape(data),
                escape(&scores.join(", "))
            );
            self.chart(charts::truth(&set["points"]));
            self.add("</div>");
        }
        self.add("</div>");
    }

    /// The models that one was chosen among, and the baselines beside them.
    fn choice(&mut self, title: &str, summary: &Json) {
        let _ = write!(
            self.html,
            "<h2>Which model was chosen: {}</h2><p>{}: mean over {} validation cells that none of them has seen.</p>\
             <table><thead><tr><th>model</th><th>mean</th><th>95 % interval</th><th>beats</th></tr></thead><tbody>",
            escape(title),
            escape(summary["metric"].as_str().unwrap_or_default()),
            summary["chosen_on"],
        );
        for row in list(&summary["candidates"]) {
            let name = escape(row["model"].as_str().unwrap_or_default());
            let name = match (row["chosen"] == true, row["baseline"] == true) {
                (true, _) => format!("<b>{name}</b>, chosen"),
                (_, true) => format!("{name}, a baseline"),
                _ => name,
            };
            let beats: Vec<&str> = list(&row["beats"]).iter().filter_map(Json::as_str).collect();
            let _ = write!(
                self.html,
                "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                number(&row["value"]),
                interval(row),
                escape(&beats.join(", "))
            );
        }
        self.add("</tbody></table>");
    }

    fn trainings(&mut self, trainings: &[(String, Json)]) {
        if trainings.is_empty() {
            return;
        }
        self.add("<h2>Training</h2>");
        for (name, points) in trainings {
            let _ = write!(self.html, "<h3><code>{}</code></h3>", escape(name));
            self.chart(charts::training(points));
        }
    }

    fn provenance(&mut self, content: &Content<'_>) {
        self.add(
            "<h2>What was run</h2><table><thead><tr><th>step</th><th>runs</th><th></th></tr></thead><tbody>",
        );
        for (name, used, headline, _) in &content.steps {
            let _ = write!(
                self.html,
                "<tr><td><b>{}</b></td><td><code>{}</code></td><td>{}</td></tr>",
                escape(name),
                escape(used),
                escape(headline)
            );
        }
        self.add("</tbody></table>");
        let warnings: Vec<String> = content
            .steps
            .iter()
            .flat_map(|(name, _, _, w)| {
                w.iter().map(move |w| format!("<li><b>{}</b>: {}</li>", escape(name), escape(w)))
            })
            .collect();
        if !warnings.is_empty() {
            let _ = write!(self.html, "<h3>Warnings</h3><ul class=\"warning\">{}</ul>", warnings.concat());
        }
        self.add("<h3>Plugins</h3><table><tbody>");
        for (name, version, hash) in &content.plugins {
            let short = hash.get(..16).unwrap_or(hash);
            let _ = write!(
                self.html,
                "<tr><td><code>{}</code></td><td>{}</td><td><code>sha256 {short}…</code></td></tr>",
                escape(name),
                escape(version)
            );
        }
        let _ = write!(
            self.html,
            "</tbody></table><p class=\"note\">Seed {}. Lacuna {}. All else is in run.json and the folder steps.</p>",
            content.seed,
            env!("CARGO_PKG_VERSION")
        );
    }

    fn finish(self, name: &str) -> String {
        // Within a script, `<` could begin a tag.
        let specs = Json::Array(self.charts).to_string().replace('<', "\\u003c");
        let scripts: String = VEGA.iter().map(|s| format!("<script>{s}</script>\n")).collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title} – Lacuna</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <h1>{title}</h1>\n{html}\n{scripts}\
             <script>\nconst specs = {specs};\n\
             specs.forEach((spec, i) => vegaEmbed('#chart-' + i, spec, {{ actions: {{ export: true, source: false, \
             compiled: false, editor: false }}, renderer: 'svg' }}));\n</script>\n</body>\n</html>\n",
            title = escape(name),
            html = self.html,
        )
    }
}

fn in_words(against: &str, removes_genes: bool) -> &'static str {
    match against {
        "predicted" if removes_genes => "against the prediction without a knockout, the gene itself left out",
        "observed" if removes_genes => "against the observed profile, the gene itself left out",
        "predicted" => "against the prediction without a knockout (the gene's own share counts)",
        "predicted-null" => {
            "against the same prediction without the gene, closed again: the excess over a knockout without consequence"
        }
        "observed" => "against the observed profile (the gene's own share counts)",
        "" => "of all genes but those knocked out",
        _ => {
            "against the observed profile without the gene, closed again: the excess over a knockout without consequence"
        }
    }
}

/// The strata of measured perturbations that are shown.
const POOLED: [&str; 4] = ["perturbations", "informative", "doubles", "interaction"];

fn stratum_in_words(stratum: &str) -> &str {
    match stratum {
        "flattened" => "all cells and genes at once",
        "all" => "all knockouts at once",
        "cells" => "cell by cell, mean",
        "perturbations" => "perturbation by perturbation, mean",
        "informative" => "informative perturbations, mean",
        "doubles" => "perturbations of two genes, mean",
        "interaction" => "interactions of two genes",
        "genes" => "gene by gene, mean",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_from_files_cannot_break_the_page() {
        let evil = "</script><script>alert(1)</script>";
        let screen = json!({ "shown": { "metric": evil, "against": "predicted" }, "model": evil, "knockouts": 1,
            "cells": 1, "keystones": [{ "gene": evil, "rank": 1, "impact": 0.5, "cells": 1, "presence": 1.0 }] });
        let content = Content {
            name: evil,
            seed: 1,
            screens: vec![(evil.into(), screen)],
            evaluations: vec![],
            choices: vec![(
                evil.into(),
                json!({ "metric": evil, "chosen_on": 1, "candidates": [
                { "model": evil, "chosen": true, "beats": [evil] }] }),
            )],
            trainings: vec![],
            steps: vec![(evil.into(), evil.into(), evil.into(), vec![evil.into()])],
            plugins: vec![],
        };
        let html = render(&content);
        assert!(!html.contains("<script>alert"));
        assert!(html.contains("No model was evaluated here"));
        assert!(html.contains("Expressed in nearly all cells"));
    }
}
