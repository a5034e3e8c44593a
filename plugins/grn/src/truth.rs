//! The true answers of a simulated world.

use crate::asked::{Roster, Rows};
use crate::dynamics::{Equations, Limits, Solver};
use crate::measured::Measured;
use crate::network::{Network, Weights};
use crate::world::{Absence, Cell, Perturbed, Rules, World};
use lacuna_sdk::prelude::*;
use lacuna_sdk::serde_json;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::OnceLock;

/// Steady states that are kept: as many as fit into this many bytes.
const KEPT_BYTES: usize = 128 << 20;
/// What the saved bytes are.
const FORMAT: &str = "grn truth 1";
/// More cells than this are not simulated.
pub const MOST_CELLS: usize = 10_000_000;
/// The largest Hill coefficient.
pub const MOST_HILL: f64 = 20.0;

/// Answers any knockout in any cell of the world, without noise: the genes are frozen, or their production is
/// multiplied by their level, and the cell goes on from its own steady state, with its own weights, to the
/// next one. In a cell that is perturbed already this is one more knockout. A knockout that does not settle is answered with where it got to, and a warning. A level near 0
/// is no knockout where an absent repressor has no effect: a repressor that is there in traces leaves its
/// targets derepressed.
pub struct Truth {
    world: World,
    roster: Roster,
    /// Steady states of the first cells; those of the others are found again when they are needed.
    steady: Vec<OnceLock<Box<[f64]>>>,
}

impl Truth {
    /// The truth about a world.
    pub fn new(world: World) -> Self {
        let roster = Roster::new(world.network.genes(), world.n_cells());
        let bytes_per_cell = size_of::<OnceLock<Box<[f64]>>>() + size_of::<f64>() * world.network.len();
        let kept = world.n_cells().min(KEPT_BYTES / bytes_per_cell);
        Self { world, roster, steady: (0..kept).map(|_| OnceLock::new()).collect() }
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

    /// Fills some rows of a cell; answers how many of its knockouts did not settle.
    fn fill(&self, id: usize, rows: &mut Rows<'_>) -> Result<usize> {
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
        rows.fill(|changes, reported| {
            let settled = perturbed.perturb(changes.iter().copied());
            reported.iter_mut().zip(&perturbed.x).for_each(|(out, &x)| *out = self.world.report(x));
            settled
        })
    }

    fn find_steady(&self, cell: &Cell, solver: &mut Solver) -> Box<[f64]> {
        self.world.settle(cell, solver).x.into()
    }
}

impl Fitted for Truth {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.roster.answer(query, answer, cx, |cell, rows| self.fill(cell, rows))
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
