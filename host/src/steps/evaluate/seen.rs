//! Which of the cells that a model is asked about it has learned from.

use crate::data::Cells;
use std::collections::HashMap;

/// Rows of some cells.
pub type Rows<'a> = (&'a Cells, Vec<usize>);

/// Of so many cells of one name each is looked at.
const OF_ONE_NAME: usize = 16;

/// How many of the cells asked about are among those that were learned from.
///
/// They have the name, and the counts of one are nowhere above those of the other: counts may have been drawn of them, or
/// genes left out. Cells of other files and of other simulated worlds may have their names, and other counts.
pub fn seen(learned: &[Rows<'_>], (asked, rows): &Rows<'_>) -> usize {
    let mut found = vec![false; rows.len()];
    for (cells, learned) in learned {
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        learned.iter().for_each(|&i| by_name.entry(cells.obs.names[i].as_str()).or_default().push(i));
        let mut pair = Pair::new(cells, asked);
        for (found, &row) in found.iter_mut().zip(rows) {
            let of_name = by_name.get(asked.obs.names[row].as_str()).into_iter().flatten().take(OF_ONE_NAME);
            *found |= of_name.into_iter().any(|&other| pair.is_one(other, row));
        }
    }
    found.iter().filter(|found| **found).count()
}

/// All of some cells.
pub fn all(cells: &Cells) -> Rows<'_> {
    (cells, (0..cells.len()).collect())
}

/// Two sets of cells, with the genes that both know.
struct Pair<'a> {
    learned: &'a Cells,
    asked: &'a Cells,
    /// Where a gene of those asked about is among those learned from.
    place: Vec<Option<usize>>,
    /// For each gene learned from whether it is asked about.
    shared: Vec<bool>,
    /// A row that was learned from; zeros between calls.
    row: Vec<f32>,
}

impl<'a> Pair<'a> {
    fn new(learned: &'a Cells, asked: &'a Cells) -> Self {
        let names = learned.var.names.iter().enumerate();
        let places: HashMap<&str, usize> = names.map(|(j, name)| (name.as_str(), j)).collect();
        let place: Vec<_> = asked.var.names.iter().map(|name| places.get(name.as_str()).copied()).collect();
        let mut shared = vec![false; learned.n_genes()];
        place.iter().flatten().for_each(|&j| shared[j] = true);
        Self { learned, asked, place, shared, row: vec![0.0; learned.n_genes()] }
    }

    /// Whether the counts of one are nowhere above those of the other, and it is the same cell by that.
    fn is_one(&mut self, other: usize, row: usize) -> bool {
        let (genes, values) = self.learned.x.row(other);
        let learned = || genes.iter().map(|&j| j as usize).zip(values).filter(|(j, _)| self.shared[*j]);
        learned().for_each(|(j, value)| self.row[j] = *value);
        let (asked, counts) = self.asked.x.row(row);
        let (mut common, mut above, mut below) = (0, false, false);
        for (&j, &count) in asked.iter().zip(counts) {
            let Some(j) = self.place[j as usize] else { continue };
            common += usize::from(self.row[j] != 0.0);
            above |= count > self.row[j];
            below |= count < self.row[j];
        }
        below |= common < learned().count();
        genes.iter().for_each(|&j| self.row[j as usize] = 0.0);
        common > 0 && !(above && below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Csr, Frame};

    fn cells(named: &str, rows: &[&[f32]], genes: &[&str]) -> Cells {
        let mut x = Csr::empty(genes.len());
        for row in rows {
            x.push_row((0..).zip(row.iter().copied()).filter(|(_, count)| *count != 0.0));
        }
        let names = (0..rows.len()).map(|i| format!("{named}{i}")).collect();
        Cells::new(x, Frame::of_names(names), Frame::of_names(genes.iter().map(|g| g.to_string()).collect()))
    }

    #[test]
    fn cells_are_the_same_by_name_and_by_counts_of_which_some_may_be_gone() {
        let learned = cells("c", &[&[3.0, 0.0, 5.0], &[1.0, 2.0, 0.0]], &["a", "b", "c"]);
        let of = |asked: &Cells| seen(&[all(&learned)], &all(asked));
        assert_eq!(of(&learned), 2);
        assert_eq!(of(&cells("d", &[&[3.0, 0.0, 5.0]], &["a", "b", "c"])), 0);
        // Drawn of them, or they of these; genes left out, in another order.
        assert_eq!(of(&cells("c", &[&[2.0, 0.0, 5.0], &[1.0, 3.0, 1.0]], &["a", "b", "c"])), 2);
        assert_eq!(of(&cells("c", &[&[5.0, 3.0], &[0.0, 1.0]], &["c", "a"])), 2);
        assert_eq!(of(&cells("c", &[&[3.0, 7.0], &[1.0, 7.0]], &["a", "new"])), 2);
        // Of another world: more of one gene, less of another; nothing in common.
        assert_eq!(of(&cells("c", &[&[4.0, 0.0, 4.0], &[0.0, 3.0, 0.0]], &["a", "b", "c"])), 0);
        assert_eq!(of(&cells("c", &[&[0.0, 1.0, 0.0]], &["a", "b", "c"])), 0);
        assert_eq!(of(&cells("c", &[&[2.0]], &["new"])), 0);
    }

    #[test]
    fn each_part_that_was_learned_from_counts_and_no_cell_counts_twice() {
        let (one, other) = (cells("c", &[&[3.0, 1.0]], &["a", "b"]), cells("c", &[&[1.0, 3.0]], &["a", "b"]));
        assert_eq!(seen(&[all(&one), all(&other)], &all(&one)), 1);
        assert_eq!(seen(&[all(&one), all(&other)], &all(&other)), 1);
        assert_eq!(seen(&[all(&one), all(&one)], &all(&one)), 1);
        assert_eq!(seen(&[], &all(&one)), 0);
    }
}
