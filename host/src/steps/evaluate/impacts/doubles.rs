//! Knockouts of two genes beside those of each of the two alone in the same cell.
//!
//! Their interaction is I(ab) = impact(ab) − impact(a) − impact(b): what the loss of both does beyond what each loss does.

use super::super::scores::Blocks;
use super::Pairing;
use crate::data::Knockouts;
use std::collections::HashMap;

/// The doubles of a screen whose singles it has too.
pub struct Doubles {
    /// Where in the pairing the double and its two singles are.
    places: Vec<[usize; 3]>,
    /// Where each cell's doubles begin.
    offsets: Vec<usize>,
}

impl Doubles {
    /// Those among the paired knockouts of a screen; a single is at the level that its gene has in the double.
    pub fn among(pairing: &Pairing, knockouts: &Knockouts) -> Self {
        let mut doubles = Self { places: vec![], offsets: vec![0] };
        for cell in pairing.offsets.windows(2) {
            let places = cell[0]..cell[1];
            let row = |at: usize| pairing.pairs[at].0;
            let key =
                |at: usize, i: usize| (knockouts.genes(row(at))[i], knockouts.levels(row(at))[i].to_bits());
            let genes = |at: usize| knockouts.genes(row(at)).len();
            let single: HashMap<(u32, u32), usize> =
                places.clone().filter(|&at| genes(at) == 1).map(|at| (key(at, 0), at)).collect();
            let found = places
                .filter(|&at| genes(at) == 2)
                .filter_map(|at| Some([at, *single.get(&key(at, 0))?, *single.get(&key(at, 1))?]));
            doubles.places.extend(found);
            doubles.offsets.push(doubles.places.len());
        }
        doubles
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The impacts of the doubles.
    pub fn impacts(&self, blocks: &Blocks) -> Blocks {
        self.blocks(blocks, |values, [both, ..]| values[both])
    }

    /// Their interactions.
    pub fn interactions(&self, blocks: &Blocks) -> Blocks {
        self.blocks(blocks, |values, [both, one, other]| {
            (f64::from(values[both]) - f64::from(values[one]) - f64::from(values[other])) as f32
        })
    }

    fn blocks(&self, blocks: &Blocks, value: impl Fn(&[f32], [usize; 3]) -> f32) -> Blocks {
        let of = |values: &[f32]| self.places.iter().map(|&places| value(values, places)).collect();
        Blocks { offsets: self.offsets.clone(), truth: of(&blocks.truth), predicted: of(&blocks.predicted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interactions_are_those_of_doubles_with_both_singles_in_the_same_cell_and_at_the_same_levels() {
        let mut knockouts = Knockouts::default();
        let rows: [(u64, &[u32], &[f32]); 9] = [
            (0, &[1], &[0.0]),
            (0, &[1, 2], &[0.0, 0.0]),
            (0, &[2], &[0.0]),
            (0, &[2, 3], &[0.0, 0.0]), // 3 is not lost alone
            (1, &[1], &[0.0]),
            (1, &[1, 2], &[0.0, 0.0]), // 2 is lost alone in another cell only
            (2, &[1], &[0.5]),
            (2, &[1, 2], &[0.0, 0.0]), // 1 is lost at another level
            (2, &[2], &[0.0]),
        ];
        rows.iter().for_each(|(cell, genes, levels)| knockouts.push(*cell, genes, levels));
        let pairing = Pairing { pairs: (0..9).map(|i| (i, i)).collect(), offsets: vec![0, 4, 6, 9] };
        let doubles = Doubles::among(&pairing, &knockouts);
        let truth = vec![0.25, 1.0, 0.125, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0];
        let predicted = truth.iter().map(|x| 2.0 * x).collect();
        let blocks = Blocks { offsets: vec![0, 4, 6, 9], truth, predicted };
        let (impacts, found) = (doubles.impacts(&blocks), doubles.interactions(&blocks));
        assert_eq!((impacts.truth, impacts.predicted), (vec![1.0], vec![2.0]));
        assert_eq!((found.truth, found.predicted), (vec![0.625], vec![1.25]));
        assert_eq!(found.offsets, [0, 1, 1, 1]);
        assert!(!doubles.is_empty());
    }
}
