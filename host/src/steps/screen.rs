//! A screen: knockouts proposed by a strategy, predicted by a model, measured by a metric.

mod effects;
mod genes;
mod impacts;
mod pairs;
mod population;
mod ranking;
mod refits;
mod spread;
mod strongest;
mod summary;
mod table;

pub use genes::quantile;
pub use impacts::{generic_only, make_null as null_profile};
pub use pairs::Pairs;
pub use population::{Effects, effects as population_effects};
pub use table::{ImpactTable, write_parquet};

use super::FittedModel;
use super::prepare::OTHER_GENES;
use crate::data::{CellSet, Cells, Csr, Frame, Knockouts};
use crate::formats::h5ad;
use crate::pipeline::{Call, Diagnostic, Input, Keys, Node, PortType, Value};
use crate::plugin::{Answers, Kind, Levels, Metric, Scope, Services, Shape, Strategy, is_name};
use crate::run::{Outputs, StepCx, json_bytes};
use anyhow::{Result, bail, ensure};
use genes::{GeneSummary, Subjects};
use impacts::Proposals;
use ranking::Ranked;
use refits::Refitted;
use serde_json::{Value as Json, json};
use std::collections::HashSet;
use strongest::Strongest;
use summary::Summary;
use table::StoredTable;

/// What is screened, and how.
#[derive(Clone)]
pub struct Screen {
    model: Vec<Input>,
    cells: Vec<Input>,
    pub(super) knockouts: Call,
    pub(super) impacts: Vec<Impact>,
    pub(super) anchor: Option<f64>,
    effects: EffectsOf,
    groups: Option<String>,
    /// The knockouts, where a strategy that looks at all cells at once was asked before.
    known: Option<Knockouts>,
    /// Whether screen.h5ad is written.
    h5ad: bool,
    /// Whether all impacts are written, if the pipeline says so.
    table: Option<bool>,
    /// How many knockouts of each cell are written apart.
    top_per_cell: Option<u64>,
}

/// A metric, and what "after" is compared with.
#[derive(Clone)]
pub struct Impact {
    /// The metric.
    pub call: Call,
    /// What "after" is compared with.
    pub against: Against,
}

/// What the prediction for a knockout is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The prediction without a knockout: the removed genes' own shares count.
    Predicted,
    /// The same without the removed genes, closed again: the excess over a knockout without consequence.
    PredictedNull,
    /// The observed profile.
    Observed,
    /// The observed profile without the removed genes, closed again.
    ObservedNull,
}

const AGAINST: [(&str, Against); 4] = [
    ("predicted", Against::Predicted),
    ("predicted-null", Against::PredictedNull),
    ("observed", Against::Observed),
    ("observed-null", Against::ObservedNull),
];

impl Against {
    /// As pipelines write it.
    pub fn word(self) -> &'static str {
        AGAINST.iter().find(|(_, a)| *a == self).map_or("", |(word, _)| word)
    }

    /// Whether the removed genes are taken out of it.
    pub fn is_null(self) -> bool {
        matches!(self, Self::PredictedNull | Self::ObservedNull)
    }

    /// Whether it is the observed profile.
    pub fn is_observed(self) -> bool {
        matches!(self, Self::Observed | Self::ObservedNull)
    }
}

/// The knockouts whose effects on all other genes are written.
#[derive(Clone)]
struct EffectsOf {
    /// So many, by mean impact.
    top: usize,
    /// The single knockouts of these genes; the report speaks of them too.
    genes: Vec<String>,
}

const EFFECTS: usize = 50;

/// How many knockouts of each cell are written where not all are.
const TOP_PER_CELL: u64 = 10;

/// Folders and files of a screen.
const IMPACTS: &str = "impacts";
const SUMMARY: &str = "summary";
const CELLS: &str = "cells.parquet";

/// What a screen tells.
struct Told {
    rows: usize,
    genes: Vec<GeneSummary>,
    ranked: Vec<Ranked>,
}

/// Above this many knockouts their table is not written, above this many stored values screen.h5ad is not.
const MOST_STORED: usize = 100_000_000;
/// Bytes that a value takes while screen.h5ad is made.
const BYTES_OF_H5AD: u64 = 20;

impl Screen {
    /// Keys: `model`, `cells`, `knockouts`, `impact`, `anchor`, `effects`, `groups`, `h5ad`, `table`, `top_per_cell`.
    pub fn resolve(keys: &mut Keys<'_>) -> Option<Self> {
        let model = keys.required_inputs("model", &[PortType::Model], "a model, or a simulator's truth");
        let cells = keys.required_inputs("cells", &[PortType::Cells], "the cells to knock genes out in");
        let knockouts = keys.call("knockouts", Kind::Strategy, &mut |_| {});
        if knockouts.is_none() && keys.node("knockouts").is_none() {
            let title = "a screen needs `knockouts`: a strategy, such as \"each-expressed-gene\"";
            keys.problem(Diagnostic::error(keys.place(), title));
        }
        let anchor = read_anchor(keys);
        let impacts = read_impacts(keys, anchor.is_some());
        let effects = read_effects(keys);
        let groups = keys.text("groups");
        let h5ad = keys.boolean("h5ad").unwrap_or(true);
        let (table, top_per_cell) = (keys.boolean("table"), keys.count("top_per_cell", 1));
        let (knockouts, impacts, known) = (knockouts?, impacts?, None);
        Some(Self {
            model,
            cells,
            knockouts,
            impacts,
            anchor,
            effects,
            groups,
            known,
            h5ad,
            table,
            top_per_cell,
        })
    }

    /// See [`super::Action::inputs`].
    pub fn inputs(&self) -> Vec<&Input> {
        self.model.iter().chain(&self.cells).collect()
    }

    /// See [`super::Action::spec`].
    pub fn spec(&self) -> Json {
        let effects = json!({ "top": self.effects.top, "genes": self.effects.genes });
        json!({
            "knockouts": self.knockouts.describe(), "impact": self.impacts.iter().map(Impact::spec).collect::<Json>(),
            "anchor": self.anchor, "effects": effects, "groups": self.groups, "h5ad": self.h5ad,
            "table": self.table, "top_per_cell": self.top_per_cell,
        })
    }

    /// See [`super::Action::calls`].
    pub fn calls(&self) -> Vec<&Call> {
        std::iter::once(&self.knockouts).chain(self.impacts.iter().map(|i| &i.call)).collect()
    }

    /// Screens; writes impacts part by part, then what is told of genes, effects, and an h5ad for scanpy.
    pub fn run(&self, cx: &StepCx<'_>) -> Result<Outputs> {
        let model = cx.model("model")?;
        let mut cells = model.align(cx.cell_set("cells")?, &cx.services)?;
        super::warn_of_perturbed(&cells, "screened", &cx.services);
        let of_cells = model.fitted.info().answers == Answers::Profiles;
        if !of_cells || !by_blocks(&self.knockouts) {
            cells = CellSet::Held(cx.hold(&cells, "cells")?);
        }
        let unlike = self.unlike(&model, &cells, &cx.services)?;
        if !of_cells {
            return population::run(self, &model, (&*cells.load()?, unlike), cx);
        }
        let (measures, strategy) = (self.measures(&cx.services)?, self.strategy(&cx.services)?);
        let setup = Setup { screen: self, model: &model, measures: &measures, host: &cx.services };
        let subjects = Subjects::of(&cells, self.groups.as_deref())?;
        let mut proposals = Proposals::of(&setup, &cells, &strategy)?;
        let has_table = self.has_table(&mut proposals, &setup, &cells, cx.memory())?;
        let with_h5ad = self.with_h5ad(has_table, &subjects, cx)?;
        let mut told = match has_table {
            true => self.with_table(&setup, &proposals, &subjects, cx)?,
            false => self.without_table(&setup, &proposals, &subjects, cx)?,
        };
        if told.rows == 0 {
            cx.services.warn(format!("{} proposed no knockout in these cells", self.knockouts.full_name()));
        }
        let (shown, described) = (self.shown(), setup.described());
        let refitted = Refitted::of_cells(&setup, &proposals, &subjects, cx)?;
        let groups = &subjects.groups.names;
        let judgement =
            refits::judge(&mut told.genes, (&described, shown), groups, refitted.as_ref(), cells.n_genes());
        refits::warn_of_ranking(&judgement, &cx.services);
        cx.write("genes.csv", &genes::write_csv(&told.genes, cells.var())?)?;
        let chosen = self.effects_of(told.ranked, cells.var(), &cx.services)?;
        let asked = effects::Asked {
            cells: &cells,
            proposals: &proposals,
            chosen: &chosen,
            groups: &subjects.groups,
        };
        effects::write(&setup, &asked, cx.memory(), &cx.path("effects.parquet"))?;
        if with_h5ad {
            self.write_h5ad(&StoredTable::open(&cx.path(IMPACTS))?, &cells, cx)?;
        }
        let summary = json!({
            "headline": format!("{} knockouts in {} cells", told.rows, cells.len()),
            "knockouts": told.rows, "cells": cells.len(), "genes": cells.n_genes(), "table": has_table,
            "model": model.fitted.name(), "impacts": described, "strategy": self.knockouts.full_name(),
            "anchor": self.anchor, "top": chosen.iter().map(|k| k.label.as_str()).collect::<Json>(),
            "shown": described[shown], "stability": judgement.stability, "unlike": unlike,
            "keystones":
                genes::keystones(&told.genes, &measures[shown].column, cells.var(), &self.effects.genes),
        });
        cx.write("screen.json", &json_bytes(&summary)?)?;
        // What a killed run would go on from is needed no more.
        summary::remove(&cx.path(SUMMARY))?;
        summary::remove(&cx.path(refits::FOLDER))?;
        Ok(Outputs { summary, ..Outputs::default() })
    }

    /// The share of the cells that are unlike those that the model was trained on; warns when there are many, and of genes
    /// that are asked for and that the training cells express nearly always or never.
    fn unlike(&self, model: &FittedModel, cells: &CellSet, host: &Services) -> Result<Option<f64>> {
        const RARE: f32 = 0.02;
        let Some(familiar) = &model.familiar else { return Ok(None) };
        for &gene in &super::prepare::find_genes(cells.var(), &self.effects.genes, "effects")? {
            let (name, presence) = (&cells.var().names[gene], familiar.presence()[gene]);
            let seldom = if presence > 1.0 - RARE { "without" } else { "with" };
            if !(RARE..=1.0 - RARE).contains(&presence) {
                host.warn(format!(
                    "{name} is expressed in {:.1} % of the training cells: the model has hardly seen a cell {seldom} it, \
                     and what it says of its loss is extrapolated",
                    100.0 * presence
                ));
            }
        }
        let unlike = familiar.unlike(cells)?;
        if unlike > familiar.limit() {
            host.warn(format!(
                "{:.0} % of the cells are unlike the training cells, of which 1 % are, by the genes that they express: \
                 impacts in them are extrapolated",
                100.0 * unlike
            ));
        }
        Ok(Some(unlike))
    }

    /// Whether the impacts of all knockouts are written: unless the pipeline says so, where they are not too many.
    fn has_table(
        &self,
        proposals: &mut Proposals<'_>,
        setup: &Setup<'_>,
        cells: &CellSet,
        memory: u64,
    ) -> Result<bool> {
        if let Some(table) = self.table {
            return Ok(table);
        }
        let too_many = proposals.are_more_than(MOST_STORED, setup, cells, memory / 8)?;
        if too_many {
            setup.host.warn(format!(
                "more than {MOST_STORED} knockouts: their impacts are summed up (genes.csv, cells.parquet) and not all \
                 written; `table = true` writes them"
            ));
        }
        Ok(!too_many)
    }

    /// Writes all impacts, and sums them up.
    fn with_table(
        &self,
        setup: &Setup<'_>,
        proposals: &Proposals<'_>,
        subjects: &Subjects<'_>,
        cx: &StepCx<'_>,
    ) -> Result<Told> {
        let cells = subjects.cells;
        let mut parts = impacts::Parts::begin(setup, cells, &cx.path(IMPACTS))?;
        proposals.each_part(setup, cells, &mut parts)?;
        parts.finish()?;
        let table = StoredTable::open(&cx.path(IMPACTS))?;
        if let Some(count) = self.top_per_cell {
            let strongest = self.strongest(count);
            let (mut file, frames) =
                (strongest.begin(&table.columns, &cx.path(CELLS))?, (cells.obs(), cells.var()));
            table.each_part(frames, &mut |part| strongest.add(&part, frames, &mut file))?;
            file.finish()?;
        }
        let (genes, ranked) = genes::summarise(&table, subjects, (self.shown(), cx.memory()))?;
        Ok(Told { rows: table.rows, genes, ranked })
    }

    /// Sums the impacts up as they come.
    fn without_table(
        &self,
        setup: &Setup<'_>,
        proposals: &Proposals<'_>,
        subjects: &Subjects<'_>,
        cx: &StepCx<'_>,
    ) -> Result<Told> {
        let strongest = self.strongest(self.top_per_cell.unwrap_or(TOP_PER_CELL));
        let mut summary = Summary::begin(setup, subjects, strongest, &cx.path(SUMMARY))?;
        proposals.each_part(setup, subjects.cells, &mut summary)?;
        let (rows, genes, ranked) = summary.finish(&cx.path(CELLS))?;
        Ok(Told { rows, genes, ranked })
    }

    /// The strongest knockouts of a cell, by the impact for people.
    fn strongest(&self, count: u64) -> Strongest {
        let shown = self.shown();
        Strongest::new(count as usize, shown, self.impacts[shown].strongest() == "lowest")
    }

    /// Whether it says how impacts are kept, which only screens of cells have to.
    pub fn says_what_is_kept(&self) -> bool {
        self.table.is_some() || self.top_per_cell.is_some()
    }

    /// Whether it says what impacts are.
    pub fn has_impacts(&self) -> bool {
        !self.impacts.is_empty()
    }

    /// The strategy, if it proposes further rounds from impacts.
    pub fn adaptive_strategy(&self) -> Option<String> {
        self.knockouts.component.adaptive().then(|| self.knockouts.full_name())
    }

    /// Whether predictions are anchored to the observed profiles.
    pub fn is_anchored(&self) -> bool {
        self.anchor.is_some()
    }

    /// The impact for people: the excess over a knockout without consequence, where there is one.
    fn shown(&self) -> usize {
        self.impacts.iter().position(|i| i.against.is_null()).unwrap_or(0)
    }

    /// The strategy, made.
    pub fn strategy(&self, host: &Services) -> Result<Strategy> {
        self.knockouts.plugin.strategy(&self.knockouts.component, &self.knockouts.params_json(), host)
    }

    /// The metrics, made.
    pub fn measures(&self, host: &Services) -> Result<Vec<Measure>> {
        let several = self.impacts.len() > 1;
        let make = |impact: &Impact| {
            let metric =
                impact.call.plugin.metric(&impact.call.component, &impact.call.params_json(), host)?;
            let info = impact.call.component.metric_info();
            let column = if several { impact.call.name.clone() } else { "impact".into() };
            let wants_observed = info.wants("observed");
            Ok(Measure { metric, formula: info.formula, against: impact.against, column, wants_observed })
        };
        self.impacts.iter().map(make).collect()
    }

    /// The knockouts whose effects are written: the strongest, and those asked for.
    fn effects_of(&self, ranked: Vec<Ranked>, var: &Frame, host: &Services) -> Result<Vec<Ranked>> {
        let EffectsOf { top, genes } = &self.effects;
        let asked = super::prepare::find_genes(var, genes, "effects")?;
        let single = |k: &Ranked| match (&k.genes[..], &k.levels[..]) {
            ([gene], [0.0]) => Some(*gene),
            _ => None,
        };
        self.warn_of_unproposed(&asked, ranked.iter().filter_map(single), var, host);
        let wanted = ranked.into_iter().enumerate().filter(|(i, k)| i < top || genes.contains(&k.label));
        Ok(wanted.map(|(_, k)| k).collect())
    }

    /// Effects were asked for of genes that the strategy knocks out in no cell.
    fn warn_of_unproposed(
        &self,
        asked: &[usize],
        proposed: impl Iterator<Item = u32>,
        var: &Frame,
        host: &Services,
    ) {
        let proposed: HashSet<usize> = proposed.map(|gene| gene as usize).collect();
        let absent: Vec<&str> =
            asked.iter().filter(|g| !proposed.contains(g)).map(|&g| var.names[g].as_str()).collect();
        if !absent.is_empty() {
            let strategy = self.knockouts.full_name();
            host.warn(format!("`effects`: {strategy} knocks out {} alone in no cell", absent.join(", ")));
        }
    }

    /// Whether screen.h5ad is written. It is made in memory: when that does not suffice, it is said before the screen.
    fn with_h5ad(&self, has_table: bool, subjects: &Subjects<'_>, cx: &StepCx<'_>) -> Result<bool> {
        if !(self.h5ad && has_table) {
            return Ok(false);
        }
        let values = subjects.values();
        if values > MOST_STORED {
            cx.services.warn(format!(
                "screen.h5ad is not written: the cells have {values} values, more than {MOST_STORED}; impacts/ has all \
                 that it would hold"
            ));
            return Ok(false);
        }
        let (bytes, memory) = (values as u64 * BYTES_OF_H5AD, cx.memory());
        ensure!(
            matches!(subjects.cells, CellSet::Held(_)) || bytes <= memory,
            "screen.h5ad is made in memory and takes {} for X alone, more than `memory`, {}: leave it out \
             (`h5ad = false`), screen fewer cells, or give a larger `memory`",
            crate::memory::shown(bytes),
            crate::memory::shown(memory)
        );
        Ok(true)
    }

    /// X as read, with one layer for each impact: single knockouts; what was not screened is not stored.
    fn write_h5ad(&self, table: &StoredTable, cells: &CellSet, cx: &StepCx<'_>) -> Result<()> {
        if table.rows > MOST_STORED {
            let rows = table.rows;
            cx.services
                .warn(format!("screen.h5ad is not written: {rows} knockouts, more than {MOST_STORED}"));
            return Ok(());
        }
        let name = |column: &String| match column.as_str() {
            "impact" => "ko_impact".into(),
            column => format!("ko_impact_{column}"),
        };
        let names: Vec<String> = table.columns.iter().map(name).collect();
        let layers = table.layers((cells.obs(), cells.var()))?;
        let layers: Vec<(&str, &Csr)> = names.iter().map(String::as_str).zip(&layers).collect();
        h5ad::write(&cx.path("screen.h5ad"), &*cells.load()?, &layers)
    }
}

impl Impact {
    /// Which values say that much has changed: those of an agreement do so when they are low.
    fn strongest(&self) -> &'static str {
        if self.call.component.metric_info().direction == "higher" { "lowest" } else { "highest" }
    }

    /// Whether the metric looks at the knockout, and takes the removed genes out itself.
    fn removes_genes(&self) -> bool {
        self.call.component.metric_info().wants("knockouts")
    }

    fn spec(&self) -> Json {
        json!({ "metric": self.call.describe(), "against": self.against.word(), "name": self.call.name })
    }
}

/// A metric, ready, and the column that its impacts stand in.
pub struct Measure {
    metric: Metric,
    formula: Option<String>,
    against: Against,
    pub(super) column: String,
    wants_observed: bool,
}

impl Measure {
    /// Its formula, if the model screens it without writing profiles.
    fn fused_formula(&self, shot: &Shot<'_>) -> Option<&str> {
        let offered = |formula: &&String| shot.model.fitted.info().fused.contains(formula);
        self.formula.as_ref().filter(offered).filter(|_| !generic_only()).map(String::as_str)
    }

    /// For the manifest of the impacts.
    fn describe(&self, impact: &Impact) -> Json {
        json!({ "column": self.column, "metric": impact.call.full_name(), "with": impact.call.params.written,
            "against": impact.against.word(), "strongest": impact.strongest(),
            "removes_genes": impact.removes_genes() })
    }
}

/// What a screen of whichever cells needs.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The screen.
    pub screen: &'a Screen,
    /// The model.
    pub model: &'a FittedModel,
    /// The metrics.
    pub measures: &'a [Measure],
    /// The host's services.
    pub host: &'a Services,
}

impl<'a> Setup<'a> {
    /// What the impacts are, for the manifest and the report.
    fn described(&self) -> Vec<Json> {
        self.measures.iter().zip(&self.screen.impacts).map(|(m, impact)| m.describe(impact)).collect()
    }

    /// With these cells, which have the model's genes.
    pub fn shot<'b>(&self, cells: &'b Cells) -> Shot<'b>
    where
        'a: 'b,
    {
        let Self { screen, model, measures, host } = *self;
        Shot { screen, model, cells, measures, host }
    }
}

/// Everything that computing impacts needs.
#[derive(Clone, Copy)]
pub struct Shot<'a> {
    /// The screen.
    pub screen: &'a Screen,
    /// The model.
    pub model: &'a FittedModel,
    /// The cells, with the model's genes.
    pub cells: &'a Cells,
    /// The metrics.
    pub measures: &'a [Measure],
    /// The host's services.
    pub host: &'a Services,
}

impl Shot<'_> {
    /// The impacts of these knockouts, one list for each metric. Evaluations call this for baselines.
    pub fn impacts(&self, knockouts: &Knockouts) -> Result<Vec<Vec<f32>>> {
        impacts::compute(self, knockouts, &|_| ())
    }

    /// Whether the model screens some impact without writing profiles.
    fn is_fused(&self) -> bool {
        self.measures.iter().any(|measure| measure.fused_formula(self).is_some())
    }

    /// The knockouts that a strategy proposes for some cells in a round, in the order of results.
    fn proposed(&self, strategy: &Strategy, cells: &Cells, round: Round<'_>) -> Result<Knockouts> {
        let (number, earlier, impacts) = round;
        let found = strategy.propose(self.host, cells, number, earlier, impacts)?;
        let model = &self.model.fitted;
        let level = found.levels.iter().find(|level| **level != 0.0);
        if let Some(level) = level.filter(|_| model.info().levels == Levels::Knockout) {
            let strategy = self.screen.knockouts.full_name();
            bail!(
                "{strategy} asks for genes at level {level}, and {} knows knockouts (0) only",
                model.name()
            );
        }
        Ok(without_other_genes(found, cells).sorted())
    }
}

/// A round's number, all earlier knockouts, and their impacts.
type Round<'a> = (u64, &'a Knockouts, &'a [f32]);

/// The pseudo-gene of `close = "library"` is nobody's gene.
fn without_other_genes(knockouts: Knockouts, cells: &Cells) -> Knockouts {
    let Some(other) = cells.var.names.iter().position(|name| name == OTHER_GENES) else { return knockouts };
    let keeps = |&i: &usize| !knockouts.genes(i).contains(&(other as u32));
    knockouts.select((0..knockouts.len()).filter(keeps))
}

fn read_anchor(keys: &mut Keys<'_>) -> Option<f64> {
    const E: f64 = 0.1;
    match keys.node("anchor").map(|n: &Node| &n.value) {
        Some(Value::Boolean(on)) => on.then_some(E),
        Some(Value::Table(_)) => keys.inner("anchor", |k| k.number("e", 1e-6, 1e6).unwrap_or(E)),
        Some(_) => {
            let at = keys.place_of("anchor");
            keys.problem(Diagnostic::error(at, "`anchor` is false, or a table such as { e = 0.1 }"));
            None
        }
        None => None,
    }
}

fn read_impacts(keys: &mut Keys<'_>, anchored: bool) -> Option<Vec<Impact>> {
    if keys.node("impact").is_none() {
        return Some(vec![]); // Whether one is needed depends on the model.
    }
    let words: Vec<&'static str> = AGAINST.iter().map(|(word, _)| *word).collect();
    let mut asked: Vec<Option<&'static str>> = vec![];
    let calls = keys.calls("impact", Kind::Metric, &mut |k| asked.push(k.word("against", &words)))?;
    if calls.len() != asked.len() {
        return None; // One is wrong, and which of the others was asked for what is not known.
    }
    if calls.is_empty() {
        let at = keys.place_of("impact");
        keys.problem(Diagnostic::error(at, "`impact` is empty: name a metric"));
        return None;
    }
    let mut impacts = vec![];
    for (call, word) in calls.into_iter().zip(asked) {
        if ["cell", "knockout", "genes"].contains(&call.name.as_str()) || !is_name(&call.name) {
            let title = format!("`{}` cannot name an impact: it becomes a column of the results", call.name);
            let problem = Diagnostic::error(call.at.clone(), title);
            keys.problem(problem.help("a-z, 0-9 and -, but not `cell`, `knockout` or `genes`"));
        }
        if let Some(part) = call.needs_other_than(&["before", "after", "observed", "knockouts"]) {
            let title = format!("`{}` needs {part}, which a screen does not have", call.component.id);
            keys.problem(Diagnostic::error(call.at.clone(), title));
        }
        let info = call.component.metric_info();
        if info.shape != Shape::Row {
            let title = format!("`{}` does not score single rows, so it is no impact", call.component.id);
            keys.problem(Diagnostic::error(call.at.clone(), title));
        }
        // A metric that looks at the knockout takes the removed genes out itself.
        let whole = info.wants("knockouts");
        let default = match (anchored, whole) {
            (false, false) => Against::PredictedNull,
            (false, true) => Against::Predicted,
            (true, false) => Against::ObservedNull,
            (true, true) => Against::Observed,
        };
        let against = word.and_then(|w| AGAINST.iter().find(|(x, _)| *x == w)).map_or(default, |(_, a)| *a);
        if whole && against.is_null() {
            let title = format!(
                "`{}` takes the removed genes out itself: compare it with the whole profile",
                call.name
            );
            keys.problem(
                Diagnostic::error(call.at.clone(), title).help("against = \"predicted\" or \"observed\""),
            );
        }
        if anchored && !against.is_observed() {
            let title = "an anchored prediction is compared with the observed profile";
            keys.problem(
                Diagnostic::error(call.at.clone(), title).help("against = \"observed\" or \"observed-null\""),
            );
        }
        impacts.push(Impact { call, against });
    }
    Some(impacts)
}

fn read_effects(keys: &mut Keys<'_>) -> EffectsOf {
    let none = || EffectsOf { top: EFFECTS, genes: vec![] };
    match keys.node("effects").map(|n: &Node| &n.value) {
        None => none(),
        Some(Value::Integer(n)) if *n >= 0 => EffectsOf { top: *n as usize, ..none() },
        Some(Value::List(_)) => EffectsOf { top: 0, genes: keys.texts("effects").unwrap_or_default() },
        Some(Value::Table(_)) => {
            let read = |k: &mut Keys<'_>| EffectsOf {
                top: k.count("top", 0).map_or(EFFECTS, |n| n as usize),
                genes: k.texts("genes").unwrap_or_default(),
            };
            keys.inner("effects", read).unwrap_or_else(none)
        }
        Some(_) => {
            let at = keys.place_of("effects");
            let title = "`effects` is a number of knockouts, a list of genes, or { top = …, genes = […] }";
            keys.problem(Diagnostic::error(at, title));
            none()
        }
    }
}

/// Whether the strategy may be asked about blocks of cells: it looks at each cell alone, and once.
fn by_blocks(call: &Call) -> bool {
    call.component.scope() == Scope::Cell && !call.component.adaptive()
}
