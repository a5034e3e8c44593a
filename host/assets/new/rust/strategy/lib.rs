//! A strategy: which genes are worth a knockout in which cell.
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::seq::IndexedRandom;

config! {
    /// Parameters of `top-genes`.
    pub struct TopGenesConfig {
        /// How many genes of each cell are knocked out; all that it expresses if they are fewer.
        #[range(1..)]
        k: usize = 10,
        /// How many of its other genes are knocked out too, drawn at random, to compare with.
        #[range(0..)]
        others: usize = 0,
    }
}

/// The genes that a cell expresses most, strongest first; of equal ones the first.
pub struct TopGenes(TopGenesConfig);

impl Component for TopGenes {
    const ID: &str = "top-genes";
    const DOC: &str = "Knocks out the k genes that each cell expresses most, one at a time";
    type Config = TopGenesConfig;
    fn new(config: TopGenesConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Strategy for TopGenes {
    // What is proposed for a cell depends on that cell alone: the host may ask for a few cells at a time.
    const SCOPE: Scope = Scope::Cell;

    fn propose(&self, proposal: &Proposal<'_>, cx: &Context) -> Result<KnockoutList> {
        let mut list = KnockoutList::new();
        if proposal.round > 0 {
            return Ok(list);
        }
        let cells = proposal.cells;
        // In parallel; the results come in the order of the cells, whatever the number of threads.
        let chosen = cx.parallel_map(cells.len(), |cell| self.choose(&cells, cell, cx));
        for (cell, genes) in chosen.into_iter().enumerate() {
            genes?.iter().for_each(|&gene| list.push(cell, &[gene]));
        }
        Ok(list)
    }
}

impl TopGenes {
    fn choose(&self, cells: &Cells<'_>, cell: usize, cx: &Context) -> Result<Vec<u32>> {
        cx.check()?;
        let mut genes: Vec<(f32, u32)> =
            cells.shares(cell).zip(cells.assemblage(cell).iter().copied()).collect();
        genes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let (top, rest) = genes.split_at(self.0.k.min(genes.len()));
        // A stream for each cell, by its number in the file: the draw depends neither on threads nor on which
        // cells are asked for together.
        let mut stream = cx.stream(cells.id(cell));
        let others = rest.sample(&mut stream, self.0.others);
        Ok(top.iter().chain(others).map(|&(_, gene)| gene).collect())
    }
}

plugin! { name: "my-plugin", strategies: [TopGenes] }

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    /// The genes proposed for each of three cells, the last of which expresses one gene only.
    fn proposed(k: usize, others: usize) -> [Vec<u32>; 3] {
        let strategy = TopGenes::new(TopGenesConfig { k, others }).unwrap();
        let cells = testing::cells(&[&[1.0, 5.0, 0.0, 3.0], &[2.0, 2.0, 2.0, 0.0], &[0.0, 0.0, 9.0, 0.0]]);
        let list = testing::propose(&strategy, &cells).unwrap();
        let of =
            |cell| list.as_knockouts().iter().filter(|k| k.cell == Some(cell)).map(|k| k.genes[0]).collect();
        [of(0), of(1), of(2)]
    }

    #[test]
    fn the_strongest_genes_come_first_and_silent_ones_never() {
        assert_eq!(proposed(2, 0), [vec![1, 3], vec![0, 1], vec![2]]);
    }

    #[test]
    fn the_others_are_not_among_the_strongest() {
        assert_eq!(proposed(2, 5), [vec![1, 3, 0], vec![0, 1, 2], vec![2]]);
    }
}
