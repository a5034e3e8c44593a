//! Knockouts, one row each: a cell and the genes removed from it.

use std::cmp::Ordering;

/// A list of knockouts. A row without genes means the cell, or the population, as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Knockouts {
    /// The cell of each row; empty when the rows mean whole populations.
    pub cell: Vec<u64>,
    /// Where each row's genes begin; one more than there are rows.
    pub offsets: Vec<u64>,
    /// The genes, ascending within a row.
    pub genes: Vec<u32>,
    /// Each gene's level: 0 is a knockout.
    pub levels: Vec<f32>,
}

impl Default for Knockouts {
    fn default() -> Self {
        Self { cell: vec![], offsets: vec![0], genes: vec![], levels: vec![] }
    }
}

impl Knockouts {
    /// Each of these cells as it is.
    pub fn none_in(cells: std::ops::Range<usize>) -> Self {
        let cell: Vec<u64> = cells.map(|c| c as u64).collect();
        Self { offsets: vec![0; cell.len() + 1], cell, ..Self::default() }
    }

    /// Adds a knockout.
    pub fn push(&mut self, cell: u64, genes: &[u32], levels: &[f32]) {
        self.cell.push(cell);
        self.genes.extend_from_slice(genes);
        self.levels.extend_from_slice(levels);
        self.offsets.push(self.genes.len() as u64);
    }

    /// Adds a knockout of the whole population.
    pub fn push_population(&mut self, genes: &[u32], levels: &[f32]) {
        self.genes.extend_from_slice(genes);
        self.levels.extend_from_slice(levels);
        self.offsets.push(self.genes.len() as u64);
    }

    /// Adds further knockouts of cells.
    pub fn append(&mut self, other: &Self) {
        let before = self.genes.len() as u64;
        self.cell.extend_from_slice(&other.cell);
        self.genes.extend_from_slice(&other.genes);
        self.levels.extend_from_slice(&other.levels);
        self.offsets.extend(other.offsets[1..].iter().map(|at| at + before));
    }

    /// The same of cells that are numbered otherwise.
    pub fn renumbered(mut self, number: impl Fn(u64) -> u64) -> Self {
        self.cell.iter_mut().for_each(|cell| *cell = number(*cell));
        self
    }

    /// The different knockouts among these, whatever their cells, as knockouts of the population: by genes in
    /// var order, then by level.
    pub fn of_population(&self) -> Self {
        let key = |i: usize| (self.genes(i), self.levels(i).iter().map(|l| l.to_bits()).collect::<Vec<_>>());
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_by_cached_key(|&i| key(i));
        rows.dedup_by(|a, b| key(*a) == key(*b));
        let mut out = Self::default();
        rows.into_iter().for_each(|i| out.push_population(self.genes(i), self.levels(i)));
        out
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory of its rows.
    pub fn bytes(&self) -> u64 {
        (8 * (self.cell.len() + self.offsets.len()) + 4 * (self.genes.len() + self.levels.len())) as u64
    }

    fn range(&self, i: usize) -> std::ops::Range<usize> {
        self.offsets[i] as usize..self.offsets[i + 1] as usize
    }

    /// The genes of row `i`.
    pub fn genes(&self, i: usize) -> &[u32] {
        &self.genes[self.range(i)]
    }

    /// The levels of row `i`.
    pub fn levels(&self, i: usize) -> &[f32] {
        &self.levels[self.range(i)]
    }

    /// These rows, in this order.
    pub fn select(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut out = Self::default();
        for i in rows {
            match self.cell.get(i) {
                Some(&cell) => out.push(cell, self.genes(i), self.levels(i)),
                None => out.push_population(self.genes(i), self.levels(i)),
            }
        }
        out
    }

    /// The rows in the order of results: by cell, then by genes in var order, then by level.
    pub fn sorted(&self) -> Self {
        let compare = |&a: &usize, &b: &usize| -> Ordering {
            let key = |i: usize| (self.cell[i], self.genes(i));
            let levels =
                || self.levels(a).iter().map(|l| l.to_bits()).cmp(self.levels(b).iter().map(|l| l.to_bits()));
            key(a).cmp(&key(b)).then_with(levels)
        };
        if (1..self.len()).all(|i| compare(&(i - 1), &i).is_le()) {
            return self.clone();
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(compare);
        self.select(order)
    }

    /// Runs of rows of the same cell: the cell and its rows.
    pub fn by_cell(&self) -> Vec<(usize, std::ops::Range<usize>)> {
        let mut runs = vec![];
        let mut start = 0;
        for run in self.cell.chunk_by(|a, b| a == b) {
            runs.push((run[0] as usize, start..start + run.len()));
            start += run.len();
        }
        runs
    }

    /// The name of row `i`: `A`, `A+B`, or `A@0.3` for a level other than 0.
    pub fn label(&self, i: usize, gene_names: &[String]) -> String {
        let one = |(&gene, &level): (&u32, &f32)| {
            let name = &gene_names[gene as usize];
            if level == 0.0 { name.clone() } else { format!("{name}@{level}") }
        };
        self.genes(i).iter().zip(self.levels(i)).map(one).collect::<Vec<_>>().join("+")
    }

    /// The gene of a single knockout.
    pub fn single(&self, i: usize) -> Option<u32> {
        match (self.genes(i), self.levels(i)) {
            ([gene], [level]) if *level == 0.0 => Some(*gene),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_cell_then_genes() {
        let mut k = Knockouts::default();
        k.push(1, &[2], &[0.0]);
        k.push(0, &[1, 3], &[0.0, 0.0]);
        k.push(1, &[0, 5], &[0.0, 0.0]);
        k.push(1, &[0], &[0.3]);
        let sorted = k.sorted();
        let genes: Vec<_> = (0..4).map(|i| (sorted.cell[i], sorted.genes(i))).collect();
        assert_eq!(genes, [(0, &[1u32, 3][..]), (1, &[0]), (1, &[0, 5]), (1, &[2])]);
        assert_eq!(sorted.by_cell(), [(0, 0..1), (1, 1..4)]);
        let names = ["A", "B", "C", "D", "E", "F"].map(String::from);
        let labels: Vec<_> = (0..4).map(|i| sorted.label(i, &names)).collect();
        assert_eq!(labels, ["B+D", "A@0.3", "A+F", "C"]);
        assert_eq!((sorted.single(1), sorted.single(3)), (None, Some(2)));
    }
}
