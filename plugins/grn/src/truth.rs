//! The true answers of a simulated world.

use crate::dynamics::{Equations, Limits, Solver};
use crate::measured::Measured;
use crate::network::{Network, Weights};
use crate::world::{Absence, Cell, Perturbed, Rules, World};
use lacuna_sdk::ndarray::{ArrayViewMut2, Axis};
use lacuna_sdk::prelude::*;
use lacuna_sdk::{serde_json, suggest, tracing};
use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr;
use std::sync::OnceLock;

/// Steady states that are kept: as many as fit into this many bytes.
const KEPT_BYTES: usize = 128 << 20;
/// Rows of one cell that are answered together. Only the first of them may have to find the steady state.
const ROWS: usize = 64;
/// What the saved bytes are.
const FORMAT: &str = "grn truth 1";
/// More cells than this are not simulated.
pub const MOST_CELLS: usize = 10_000_000;
/// The highest level that a gene can be given.
const MOST_LEVEL: f32 = 1e6;
/// The largest Hill coefficient.
pub const MOST_HILL: f64 = 20.0;

/// Answers any knockout in any cell of the world, without noise: the genes are frozen, or their production is
/// multiplied by their level, and the cell goes on from its own steady state, with its own weights, to the
/// next one. In a cell that is perturbed already this is one more knockout. A knockout that does not settle is answered with where it got to, and a warning. A level near 0
/// is no knockout where an absent repressor has no effect: a repressor that is there in traces leaves its
/// targets derepressed.
pub struct Truth {
    world: World,
    number: HashMap<String, u32>,
    /// Steady states of the first cells; those of the others are found again when they are needed.
    steady: Vec<OnceLock<Box<[f64]>>>,
}

impl Truth {
    /// The truth about a world.
    pub fn new(world: World) -> Self {
        let number = world.network.genes().iter().cloned().zip(0..).collect();
        let bytes_per_cell = size_of::<OnceLock<Box<[f64]>>>() + size_of::<f64>() * world.network.len();
        let kept = world.n_cells().min(KEPT_BYTES / bytes_per_cell);
        Self { world, number, steady: (0..kept).map(|_| OnceLock::new()).collect() }
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Keeps the steady state of a cell, if there is room.
    pub fn keep(&self, cell: usize, x: &[f64]) {
        if let Some(slot) = self.steady.get(cell) {
            slot.get_or_init(|| x.into());
        }
    }

    /// The gene of the world for each gene of a query.
    fn find_genes(&self, cells: &Cells<'_>) -> Result<Vec<u32>> {
        let find = |j| {
            let name = cells.gene_name(j);
            self.number.get(name).copied().ok_or_else(|| self.unknown_gene(name))
        };
        (0..cells.n_genes()).map(find).collect()
    }

    fn unknown_gene(&self, name: &str) -> Error {
        let genes = self.world.network.genes();
        let hint = suggest(name, genes.iter().map(String::as_str));
        let hint = hint.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
        Error::data(format!("no gene `{name}` among the {} genes of the simulated world{hint}", genes.len()))
    }

    /// The cell of the world that a row of the query's cells is.
    fn find_cell(&self, cells: &Cells<'_>, cell: usize) -> Result<usize> {
        if cell >= cells.len() {
            return Err(Error::data(format!("a knockout in cell {cell} of {}", cells.len())));
        }
        let id = cells.id(cell);
        usize::try_from(id).ok().filter(|&id| id < self.world.n_cells()).ok_or_else(|| {
            let (name, cells) = (cells.cell_name(cell), self.world.n_cells());
            Error::data(format!("cell `{name}` has the id {id}, but the simulated world has {cells} cells"))
        })
    }

    /// Answers a piece of the query; answers how many knockouts did not settle.
    fn answer(&self, query: &Query<'_>, genes: &[u32], piece: &mut Piece<'_>) -> Result<usize> {
        let id = self.find_cell(&query.cells, piece.cell)?;
        let (cell, _) = self.world.draw(id);
        let mut solver = Solver::default();
        let fresh: Box<[f64]>;
        let steady: &[f64] = match self.steady.get(id) {
            Some(slot) => slot.get_or_init(|| self.find_steady(&cell, &mut solver)),
            None => {
                fresh = self.find_steady(&cell, &mut solver);
                &fresh
            }
        };
        let mut perturbed = Perturbed::new(&self.world, &cell, steady, solver);
        let mut unsettled = 0;
        for (k, row) in piece.rows.clone().enumerate() {
            let changes = changes(query.knockouts.get(row), genes)?;
            unsettled += usize::from(!perturbed.perturb(changes));
            for sample in 0..query.samples {
                let out = piece.values.row_mut(k * query.samples + sample);
                let reported = genes.iter().map(|&j| self.world.report(perturbed.x[j as usize]));
                out.into_iter().zip(reported).for_each(|(out, value)| *out = value);
            }
        }
        Ok(unsettled)
    }

    fn find_steady(&self, cell: &Cell, solver: &mut Solver) -> Box<[f64]> {
        self.world.settle(cell, solver).x.into()
    }
}

/// The genes of a knockout, as genes of the world, with their levels.
fn changes<'a>(
    knockout: Knockout<'a>,
    genes: &'a [u32],
) -> Result<impl Iterator<Item = (u32, f64)> + use<'a>> {
    for (&gene, &level) in knockout.genes.iter().zip(knockout.levels) {
        if gene as usize >= genes.len() {
            return Err(Error::data(format!("a knockout of gene {gene} of {}", genes.len())));
        }
        if !(0.0..=MOST_LEVEL).contains(&level) {
            return Err(Error::data(format!(
                "the level of a gene: expected 0 to {MOST_LEVEL}, found {level}"
            )));
        }
    }
    let of_world = |(&gene, &level): (&u32, &f32)| (genes[gene as usize], f64::from(level));
    Ok(knockout.genes.iter().zip(knockout.levels).map(of_world))
}

/// Rows of one cell, and where their answers go.
struct Piece<'a> {
    cell: usize,
    rows: Range<usize>,
    values: ArrayViewMut2<'a, f32>,
    unsettled: Result<usize>,
}

/// Cuts a query into pieces that do not share any answer.
fn cut<'a>(query: &Query<'_>, mut values: ArrayViewMut2<'a, f32>) -> Result<Vec<Piece<'a>>> {
    let expected = (query.knockouts.len() * query.samples, query.cells.n_genes());
    if values.dim() != expected {
        return Err(Error::failed(format!(
            "expected an answer of shape {expected:?}, found {:?}",
            values.dim()
        )));
    }
    if let Some(row) = (0..query.knockouts.len()).find(|&i| query.knockouts.get(i).cell.is_none()) {
        return Err(Error::data(format!("the truth answers for cells, but knockout {row} names none")));
    }
    let mut pieces = vec![];
    for (cell, run) in query.knockouts.by_cell() {
        for begin in run.clone().step_by(ROWS) {
            let rows = begin..run.end.min(begin + ROWS);
            let (own, rest) = values.split_at(Axis(0), rows.len() * query.samples);
            pieces.push(Piece { cell, rows, values: own, unsettled: Ok(0) });
            values = rest;
        }
    }
    Ok(pieces)
}

impl Fitted for Truth {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let genes = self.find_genes(&query.cells)?;
        let mut pieces = cut(query, answer.values.view_mut())?;
        cx.parallel_chunks(&mut pieces, 1, |_, piece| {
            let piece = &mut piece[0];
            piece.unsettled = cx.check().and_then(|()| self.answer(query, &genes, piece));
        });
        let unsettled = pieces.into_iter().map(|piece| piece.unsettled).sum::<Result<usize>>()?;
        if unsettled > 0 {
            let knockouts = query.knockouts.len();
            tracing::warn!(
                "{unsettled} of {knockouts} knockouts did not settle: their last state is the answer"
            );
        }
        if let Some(spread) = &mut answer.spread {
            spread.fill(0.0);
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>> {
        let World { network, .. } = &self.world;
        Saved::new()
            .text("format", FORMAT)
            .text("parameters", parameters(&self.world))
            .names("genes", network.genes())
            .text("network", network.to_list())
            .text("witness", witness(&self.world))
            .to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let format = saved.get_text("format")?;
        if format != FORMAT {
            return Err(Error::data(format!("expected the format `{FORMAT}`, found `{format}`")));
        }
        let genes = saved.get_names("genes")?;
        let network = Network::from_list(saved.get_text("network")?, Some(genes))
            .map_err(|e| Error::data(format!("the saved network: {e}")))?;
        let world = read_parameters(saved.get_text("parameters")?, network)?;
        if witness(&world) != saved.get_text("witness")? {
            return Err(Error::data("saved by a version of this plugin that draws cells in another way"));
        }
        Ok(Self::new(world))
    }
}

/// A number that depends on all draws of the first cell. Cells are drawn again after loading: this tells when
/// another version of the plugin, or of the generator below it, would draw other cells.
fn witness(world: &World) -> String {
    let (cell, _) = world.draw(0);
    let draws = cell.start.iter().chain(&cell.weights).zip(1..);
    draws.map(|(value, place)| value * f64::from(place)).sum::<f64>().to_string()
}

/// The parameters as JSON. Numbers are texts: JSON readers may lose the last bit of a number, and Rust's own
/// writing and reading does not.
fn parameters(world: &World) -> String {
    let World { rules, cells, measured, seed, .. } = world;
    let absence = match rules.absence {
        Absence::Genes(genes) => ("absent_genes", genes.to_string()),
        Absence::Probability(p) => ("absence", p.to_string()),
    };
    let numbers = [
        ("cells", cells.to_string()),
        ("seed", seed.to_string()),
        absence,
        ("redraw", rules.redraw.to_string()),
        ("weight_low", rules.weights.low.to_string()),
        ("weight_high", rules.weights.high.to_string()),
        ("decay", rules.equations.decay.to_string()),
        ("hill", rules.equations.hill.to_string()),
        ("half_saturation", rules.equations.half_saturation.to_string()),
        ("derepressed", rules.equations.derepressed.to_string()),
        ("tolerance", rules.limits.tolerance.to_string()),
        ("max_time", rules.limits.max_time.to_string()),
        ("threshold", rules.threshold.to_string()),
    ];
    // Without perturbations the same bytes as before there were any.
    let perturbations =
        [("measured", measured.to_text()), ("measured_cells", measured.cells.to_string())].into_iter();
    let numbers = numbers.into_iter().chain(perturbations.filter(|_| measured.total() > 0));
    let texts = numbers.map(|(name, text)| (name.to_string(), text.into()));
    serde_json::Value::Object(serde_json::Map::from_iter(texts)).to_string()
}

fn read_parameters(text: &str, network: Network) -> Result<World> {
    let texts: HashMap<String, String> = serde_json::from_str(text)?;
    let absence = match texts.contains_key("absence") {
        true => Absence::Probability(parse(&texts, "absence")?),
        false => Absence::Genes(parse(&texts, "absent_genes")?),
    };
    let equations = Equations {
        decay: parse(&texts, "decay")?,
        hill: parse(&texts, "hill")?,
        half_saturation: parse(&texts, "half_saturation")?,
        derepressed: parse(&texts, "derepressed")?,
    };
    let rules = Rules {
        absence,
        redraw: parse(&texts, "redraw")?,
        weights: Weights { low: parse(&texts, "weight_low")?, high: parse(&texts, "weight_high")? },
        equations,
        limits: Limits { tolerance: parse(&texts, "tolerance")?, max_time: parse(&texts, "max_time")? },
        threshold: parse(&texts, "threshold")?,
    };
    let cells = parse(&texts, "cells")?;
    let Equations { decay, hill, half_saturation, .. } = equations;
    let measured = read_measured(&texts, network.len())?;
    let all = measured.total().saturating_add(cells);
    if all > MOST_CELLS || !(decay > 0.0 && half_saturation > 0.0 && (1.0..=MOST_HILL).contains(&hill)) {
        return Err(Error::data("the saved parameters are out of their range"));
    }
    World::new(network, rules, cells, measured, parse(&texts, "seed")?)
}

/// The measured perturbations of a network of so many genes; none where nothing is said of them.
fn read_measured(texts: &HashMap<String, String>, genes: usize) -> Result<Measured> {
    let Some(text) = texts.get("measured") else { return Ok(Measured::default()) };
    let cells = parse(texts, "measured_cells")?;
    let measured = Measured::from_text(text, cells, genes);
    measured.ok_or_else(|| Error::data("the saved perturbations do not fit the network"))
}

fn parse<T: FromStr>(texts: &HashMap<String, String>, name: &str) -> Result<T> {
    let read = texts.get(name).and_then(|text| text.parse().ok());
    read.ok_or_else(|| Error::data(format!("the saved parameters have no `{name}`")))
}
