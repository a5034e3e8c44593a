//! Measured perturbations: cells of their own in which genes are silent from the start, as in Perturb-seq.

use crate::network::Network;
use lacuna_sdk::rand::seq::index;
use lacuna_sdk::{Error, Result, Stream};

/// The random stream of the step from which perturbations are drawn. The network has stream 0, cells have those from
/// 1 on.
pub const STREAM: u64 = u64::MAX;

/// How many perturbations are measured, and in how many cells.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Design {
    /// Genes that are perturbed one at a time.
    pub genes: usize,
    /// Pairs of these genes that are perturbed together.
    pub pairs: usize,
    /// Cells of each perturbation.
    pub cells: usize,
}

/// The perturbations that are measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// The genes of each perturbation, ascending: single genes first, then pairs, each in the order of the genes.
    pub perturbations: Vec<Vec<u32>>,
    /// Cells of each perturbation. Those of one perturbation stand together.
    pub cells: usize,
}

/// The number of pairs of so many genes.
pub fn pairs_of(genes: usize) -> usize {
    genes * genes.saturating_sub(1) / 2
}

impl Design {
    /// Cells of all perturbations together.
    pub fn total(&self) -> usize {
        self.genes.saturating_add(self.pairs).saturating_mul(self.cells)
    }

    /// Draws the genes among those that regulate others, then the pairs, each once. How many pairs are asked for does
    /// not change the genes. An error if the network has too few regulators.
    pub fn draw(&self, network: &Network, rng: &mut Stream) -> Result<Measured> {
        if self.genes == 0 {
            return Ok(Measured::default());
        }
        let regulators: Vec<u32> =
            (0..network.len()).filter(|&j| network.regulates(j)).map(|j| j as u32).collect();
        if self.genes > regulators.len() {
            let (expected, found) = (regulators.len(), self.genes);
            return Err(Error::parameters(format!(
                "measured_genes: expected at most the {expected} genes of the network that regulate others, found \
                 {found}"
            )));
        }
        let mut genes: Vec<u32> =
            index::sample(rng, regulators.len(), self.genes).into_iter().map(|i| regulators[i]).collect();
        genes.sort_unstable();
        let pairs = index::sample(rng, pairs_of(genes.len()), self.pairs);
        let mut pairs: Vec<Vec<u32>> = pairs.into_iter().map(|number| pair(&genes, number)).collect();
        pairs.sort_unstable();
        let singles = genes.into_iter().map(|gene| vec![gene]);
        Ok(Measured { perturbations: singles.chain(pairs).collect(), cells: self.cells })
    }
}

/// Pair number `number` of some genes: 01, 02, 12, 03, 13, 23, …
fn pair(genes: &[u32], number: usize) -> Vec<u32> {
    let mut begin = 0;
    let mut second = 1;
    while number - begin >= second {
        begin += second;
        second += 1;
    }
    vec![genes[number - begin], genes[second]]
}

impl Measured {
    /// Cells of all perturbations together.
    pub fn total(&self) -> usize {
        self.perturbations.len().saturating_mul(self.cells)
    }

    /// The genes that are silent in perturbed cell `cell`, counted from the first perturbed one.
    pub fn genes_of(&self, cell: usize) -> &[u32] {
        self.perturbations.get(cell / self.cells.max(1)).map_or(&[], Vec::as_slice)
    }

    /// The genes of each perturbation by number, such as `3;17;3+17`.
    pub fn to_text(&self) -> String {
        let genes = |genes: &Vec<u32>| genes.iter().map(u32::to_string).collect::<Vec<_>>().join("+");
        self.perturbations.iter().map(genes).collect::<Vec<_>>().join(";")
    }

    /// Perturbations of a network of so many genes, from their text; `None` for any other text.
    pub fn from_text(text: &str, cells: usize, genes: usize) -> Option<Self> {
        let gene = |text: &str| text.parse().ok().filter(|&gene: &u32| (gene as usize) < genes);
        let perturbation = |text: &str| text.split('+').map(gene).collect::<Option<Vec<u32>>>();
        let perturbations = text.split(';').map(perturbation).collect::<Option<_>>()?;
        Some(Self { perturbations, cells })
    }
}

/// What the annotation `perturbation` says of a cell: `control`, or the names of the silent genes, `A+B`.
pub fn label(network: &Network, genes: &[u32]) -> String {
    let names: Vec<&str> = genes.iter().map(|&gene| network.genes()[gene as usize].as_str()).collect();
    if names.is_empty() { "control".into() } else { names.join("+") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing::context;

    /// Of the genes A to F, all but B and F regulate others.
    fn network() -> Network {
        let list = "regulator,target,weight\nA,B,1\nC,B,1\nD,E,-1\nE,F,2\n";
        Network::from_list(list, Some(["A", "B", "C", "D", "E", "F"].map(String::from).to_vec())).unwrap()
    }

    fn draw(genes: usize, pairs: usize) -> Result<Vec<Vec<u32>>> {
        let measured = Design { genes, pairs, cells: 2 }.draw(&network(), &mut context(4).stream(STREAM))?;
        Ok(measured.perturbations)
    }

    #[test]
    fn all_regulators_and_all_their_pairs_can_be_measured() {
        let singles: [&[u32]; 4] = [&[0], &[2], &[3], &[4]];
        let pairs: [&[u32]; 6] = [&[0, 2], &[0, 3], &[0, 4], &[2, 3], &[2, 4], &[3, 4]];
        assert_eq!(draw(4, 6).unwrap(), [&singles[..], &pairs[..]].concat());
    }

    #[test]
    fn pairs_are_of_the_single_genes_and_do_not_change_them() {
        for genes in 2..=4 {
            let singles = draw(genes, 0).unwrap();
            assert_eq!(singles.len(), genes);
            let with_pairs = draw(genes, 1).unwrap();
            assert_eq!(with_pairs[..genes], singles);
            assert!(with_pairs[genes][0] < with_pairs[genes][1]);
            assert!(with_pairs[genes].iter().all(|&gene| singles.contains(&vec![gene])));
        }
    }

    #[test]
    fn more_genes_than_regulate_are_an_error() {
        let message =
            "measured_genes: expected at most the 4 genes of the network that regulate others, found 5";
        assert_eq!(draw(5, 0), Err(Error::parameters(message)));
    }

    #[test]
    fn cells_of_a_perturbation_stand_together_and_texts_read_back() {
        let measured = Measured { perturbations: vec![vec![3], vec![5], vec![3, 5]], cells: 2 };
        let silent: Vec<&[u32]> = (0..7).map(|cell| measured.genes_of(cell)).collect();
        assert_eq!(silent, [&[3][..], &[3], &[5], &[5], &[3, 5], &[3, 5], &[]]);
        assert_eq!(measured.to_text(), "3;5;3+5");
        assert_eq!(Measured::from_text("3;5;3+5", 2, 6), Some(measured));
        assert_eq!(["3;6", "3;", "a", ""].map(|text| Measured::from_text(text, 2, 6)), [const { None }; 4]);
        assert_eq!(Measured::default().genes_of(0), [0u32; 0]);
    }

    #[test]
    fn labels_name_the_silent_genes() {
        assert_eq!([&[][..], &[2], &[0, 4]].map(|genes| label(&network(), genes)), ["control", "C", "A+E"]);
    }
}
