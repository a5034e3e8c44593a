//! The true answers of a world of species.

use super::GlvConfig;
use super::world::World;
use crate::asked::{Roster, Rows};
use lacuna_sdk::prelude::*;

/// What the saved bytes are.
const FORMAT: &str = "glv truth 1";

/// Answers any knockout in any cell of the world, without noise: the species are taken out of the cell's own steady
/// state, and the others go on from there to the next one, on which some may die out. Species that had died out, or
/// were never there, stay away. A level other than 0 multiplies the growth rate.
pub struct GlvTruth {
    world: World,
    roster: Roster,
}

impl GlvTruth {
    /// The truth about a world.
    pub fn new(world: World) -> Self {
        let roster = Roster::new(world.network().genes(), world.config().cells);
        Self { world, roster }
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn fill(&self, cell: usize, rows: &mut Rows<'_>) -> Result<usize> {
        let (present, _) = self.world.assemblage(cell);
        let community = self.world.settle(&present);
        rows.fill(|changes, out| community.perturb(&self.world, changes, out) && community.settled)
    }
}

impl Fitted for GlvTruth {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.roster.answer(query, answer, cx, |cell, rows| self.fill(cell, rows))
    }

    fn save(&self) -> Result<Vec<u8>> {
        let saved = Saved::new().text("format", FORMAT).params("parameters", self.world.config());
        let saved = saved.text("seed", self.world.seed().to_string());
        saved.text("witness", witness(&self.world)).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let format = saved.get_text("format")?;
        if format != FORMAT {
            return Err(Error::data(format!("expected the format `{FORMAT}`, found `{format}`")));
        }
        let config: GlvConfig = saved.get_params("parameters")?;
        config.check()?;
        let world = World::draw(config, saved.get_text("seed")?.parse()?)?;
        if witness(&world) != saved.get_text("witness")? {
            return Err(Error::data("saved by a version of this plugin that draws species in another way"));
        }
        Ok(Self::new(world))
    }
}

/// A number that depends on all draws of the web and the first cell. They are drawn again after loading: this tells
/// when another version of the plugin, or of the generator below it, would draw others.
fn witness(world: &World) -> String {
    let edges = world.network().edges().iter().map(|edge| edge.signed_weight());
    let present = world.assemblage(0).0.into_iter().map(f64::from);
    let draws = edges.chain(world.growth().iter().copied()).chain(present).zip(1..);
    draws.map(|(value, place)| value * f64::from(place)).sum::<f64>().to_string()
}
