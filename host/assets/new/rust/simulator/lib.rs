//! A simulator: cells, and the true answer to every knockout in them.
use lacuna_sdk::arrow::{BooleanArray, Float64Array, StringArray};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::{arrow::RecordBatch, stream, table};
use std::collections::HashMap;
use std::sync::Arc;

config! {
    /// Parameters of `two-state`.
    pub struct TwoStateConfig {
        /// Number of cells.
        #[range(1..=100_000)]
        cells: usize = 300,
        /// Number of genes: the switch, its program, and others.
        #[range(2..=5_000)]
        genes: usize = 40,
        /// The share of the genes that the switch turns up.
        #[range(0.0..=1.0)]
        program: f64 = 0.25,
        /// The share of active cells.
        #[range(0.0..=1.0)]
        active: f64 = 0.5,
        /// How many times higher the program is in an active cell.
        #[range(1.0..=1000.0)]
        fold: f64 = 8.0,
    }
}

/// The gene that is expressed in active cells only, and turns its program up there.
const SWITCH: usize = 0;
/// How likely a cell is to express a gene.
const EXPRESSED: f64 = 0.7;

/// Cells that are resting or active, as one gene says.
pub struct TwoState(TwoStateConfig);

impl Component for TwoState {
    const ID: &str = "two-state";
    const DOC: &str = "Cells in two states, with a gene that turns the program of one of them up";
    type Config = TwoStateConfig;
    fn new(config: TwoStateConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Simulator for TwoState {
    type Truth = World;
    const SCALE: Scale = Scale::Counts;

    fn simulate(&self, cx: &Context) -> Result<Simulation<World>> {
        let truth = World { config: self.0.clone(), seed: cx.seed() };
        let made = cx.parallel_map(self.0.cells, |cell| cx.check().map(|()| truth.levels(cell as u64, &[])));
        let mut cells = OwnedCells::new(truth.genes());
        let mut active = vec![];
        for (i, levels) in made.into_iter().enumerate() {
            let levels = levels?;
            cells.push(format!("cell-{i}"), &levels);
            active.push(levels[SWITCH] > 0.0);
        }
        let cells = cells.with_obs("active", Arc::new(BooleanArray::from(active)));
        Ok(Simulation { cells, network: Some(truth.network()?), truth })
    }
}

/// The truth. All of it follows from the parameters and the seed, so that nothing else has to be kept.
pub struct World {
    config: TwoStateConfig,
    seed: u64,
}

impl World {
    /// The last gene of the program; those after it are the others.
    fn end_of_program(&self) -> usize {
        ((self.config.genes - 1) as f64 * self.config.program).round() as usize
    }

    fn genes(&self) -> Vec<String> {
        let name = |gene| match gene {
            SWITCH => "switch".to_string(),
            gene if gene <= self.end_of_program() => format!("program-{gene}"),
            gene => format!("other-{gene}"),
        };
        (0..self.config.genes).map(name).collect()
    }

    /// What a cell expresses when some genes have a level: 0 a knockout, 0.5 half of what they had.
    fn levels(&self, cell: u64, changes: &[(usize, f32)]) -> Vec<f32> {
        let change = |gene| changes.iter().find(|c| c.0 == gene).map_or(1.0, |c| c.1);
        let mut draw = stream(self.seed, cell);
        let active = draw.random_bool(self.config.active);
        let switch = if active { change(SWITCH) } else { 0.0 };
        let turned_up = 1.0 + (self.config.fold as f32 - 1.0) * switch;
        let level = |gene| {
            // Drawn for every gene, used or not: a knockout must not change the luck of the other genes.
            let (expressed, level) = (draw.random_bool(EXPRESSED), draw.random_range(0.5f32..2.0));
            match gene {
                SWITCH => switch,
                // The last gene is always there, so that every cell has a profile.
                _ if !expressed && gene + 1 < self.config.genes => 0.0,
                _ if gene <= self.end_of_program() => level * turned_up * change(gene),
                _ => level * change(gene),
            }
        };
        (0..self.config.genes).map(level).collect()
    }

    /// The true network: from the switch to each gene of its program.
    fn network(&self) -> Result<RecordBatch> {
        let (genes, n) = (self.genes(), self.end_of_program());
        let targets: Vec<&str> = genes[1..=n].iter().map(String::as_str).collect();
        table(vec![
            ("regulator", Arc::new(StringArray::from(vec![genes[SWITCH].as_str(); n]))),
            ("target", Arc::new(StringArray::from(targets))),
            ("weight", Arc::new(Float64Array::from(vec![self.config.fold; n]))),
        ])
    }

    /// The gene of this world for each gene of some cells, of which a pipeline may have left some out.
    fn find_genes(&self, cells: &Cells<'_>) -> Result<Vec<usize>> {
        let number: HashMap<String, usize> = self.genes().into_iter().zip(0..).collect();
        let unknown = |name| Error::data(format!("there is no gene `{name}` in the simulated world"));
        let find = |name: String| number.get(&name).copied().ok_or_else(|| unknown(name));
        cells.gene_names().into_iter().map(find).collect()
    }
}

impl Fitted for World {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let genes = self.find_genes(&query.cells)?;
        answer.spread.iter_mut().for_each(|spread| spread.fill(0.0));
        for (i, mut row) in answer.values.rows_mut().into_iter().enumerate() {
            cx.check()?;
            let knockout = query.knockouts.get(i / query.samples);
            let Some(cell) = knockout.cell else {
                return Err(Error::data("expected knockouts in cells, found one of the population"));
            };
            let lost = knockout.genes.iter().map(|&gene| genes[gene as usize]);
            let changes: Vec<(usize, f32)> = lost.zip(knockout.levels.iter().copied()).collect();
            // By its id: the cells asked about may be some of those that were made, in any order.
            let levels = self.levels(query.cells.id(cell), &changes);
            row.iter_mut().zip(&genes).for_each(|(out, &gene)| *out = levels[gene]);
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>> {
        Saved::new().params("with", &self.config).text("seed", self.seed.to_string()).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        Ok(Self { config: saved.get_params("with")?, seed: saved.get_text("seed")?.parse()? })
    }
}

plugin! { name: "my-plugin", simulators: [TwoState] }

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    fn simulation() -> Simulation<World> {
        TwoState::new(TwoStateConfig::default()).unwrap().simulate(&testing::context(7)).unwrap()
    }

    /// The true answers to one knockout in every cell.
    fn after(made: &Simulation<World>, lost: &[u32]) -> Vec<Vec<f32>> {
        let mut knockouts = KnockoutList::new();
        (0..300).for_each(|cell| knockouts.push(cell, lost));
        let answers = testing::predict(&made.truth, &made.cells, &knockouts).unwrap();
        answers.rows().into_iter().map(|row| row.to_vec()).collect()
    }

    #[test]
    fn without_the_switch_the_program_falls_and_nothing_else_changes() {
        let made = simulation();
        let (as_it_is, without) = (after(&made, &[]), after(&made, &[SWITCH as u32]));
        let end = made.truth.end_of_program();
        let active = as_it_is.iter().filter(|cell| cell[SWITCH] > 0.0).count();
        assert!((100..200).contains(&active), "{active} active cells");
        for (before, after) in as_it_is.iter().zip(&without) {
            let fold = if before[SWITCH] > 0.0 { 8.0 } else { 1.0 };
            assert_eq!(after[SWITCH], 0.0);
            assert!((1..=end).all(|gene| (before[gene] - after[gene] * fold).abs() < 1e-4));
            assert_eq!(before[end + 1..], after[end + 1..]);
        }
    }

    #[test]
    fn a_knocked_out_gene_is_silent_and_a_saved_truth_answers_the_same() {
        let made = simulation();
        let without = after(&made, &[3, 20]);
        assert!(without.iter().all(|cell| cell[3] == 0.0 && cell[20] == 0.0));
        let truth = World::load(&made.truth.save().unwrap()).unwrap();
        assert_eq!(after(&Simulation { truth, ..made }, &[3, 20]), without);
    }
}
