//! Knockouts, as a plugin reads and proposes them.

use lacuna_abi::{KnockoutsBuf, KnockoutsRef};

/// Knockouts to answer, one row each.
#[derive(Clone, Copy, Default)]
pub struct Knockouts<'a> {
    cell: &'a [u64],
    offsets: &'a [u64],
    genes: &'a [u32],
    levels: &'a [f32],
}

/// One row of [`Knockouts`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knockout<'a> {
    /// The cell, as a row of the cells at hand; `None` means the population.
    pub cell: Option<usize>,
    /// The genes, ascending; none means the cell as it is.
    pub genes: &'a [u32],
    /// The level of each gene: 0 is a knockout, 0.3 a knock-down to 30 %, 2 an over-expression.
    pub levels: &'a [f32],
}

impl<'a> Knockouts<'a> {
    /// The knockouts behind a view of the border.
    #[doc(hidden)]
    pub fn from_ref(knockouts: KnockoutsRef<'a>) -> Self {
        Self {
            cell: knockouts.cell.as_slice(),
            offsets: knockouts.offsets.as_slice(),
            genes: knockouts.genes.as_slice(),
            levels: knockouts.levels.as_slice(),
        }
    }

    /// Number of knockouts.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Knockout `i`.
    pub fn get(&self, i: usize) -> Knockout<'a> {
        let range = self.offsets[i] as usize..self.offsets[i + 1] as usize;
        Knockout {
            cell: self.cell.get(i).map(|&c| c as usize),
            genes: &self.genes[range.clone()],
            levels: &self.levels[range],
        }
    }

    /// All knockouts.
    pub fn iter(&self) -> impl Iterator<Item = Knockout<'a>> {
        let all = *self;
        (0..all.len()).map(move |i| all.get(i))
    }

    /// Runs of knockouts of the same cell: the cell and the rows. Knockouts of the population have no cell, and
    /// no run.
    pub fn by_cell(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + 'a {
        let cell = self.cell;
        let mut start = 0;
        std::iter::from_fn(move || {
            let &first = cell.get(start)?;
            let end = start + cell[start..].iter().take_while(|&&c| c == first).count();
            let run = (first as usize, start..end);
            start = end;
            Some(run)
        })
    }
}

/// Knockouts that a strategy proposes: all in cells, or all of the population.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KnockoutList {
    cell: Vec<u64>,
    offsets: Vec<u64>,
    genes: Vec<u32>,
    levels: Vec<f32>,
}

impl KnockoutList {
    /// No knockouts yet.
    pub fn new() -> Self {
        Self { offsets: vec![0], ..Self::default() }
    }

    /// Adds the knockout of these genes (any order) in one cell.
    ///
    /// # Panics
    /// When there are knockouts of the population in the list.
    pub fn push(&mut self, cell: usize, genes: &[u32]) {
        self.add_genes(genes);
        self.end_row(Some(cell));
    }

    /// Adds the knockout of these genes (any order) in the whole population.
    ///
    /// # Panics
    /// When there are knockouts in cells in the list.
    pub fn push_population(&mut self, genes: &[u32]) {
        self.add_genes(genes);
        self.end_row(None);
    }

    fn add_genes(&mut self, genes: &[u32]) {
        let start = self.genes.len();
        self.genes.extend_from_slice(genes);
        self.genes[start..].sort_unstable();
        self.levels.resize(self.genes.len(), 0.0);
    }

    /// Adds a perturbation of these genes, each to a level: 0 a knockout, 0.3 a knock-down, 2 an over-expression.
    ///
    /// # Panics
    /// When there are knockouts of the population in the list.
    pub fn push_levels(&mut self, cell: usize, genes: &[(u32, f32)]) {
        let mut sorted = genes.to_vec();
        sorted.sort_by_key(|&(gene, _)| gene);
        self.genes.extend(sorted.iter().map(|&(gene, _)| gene));
        self.levels.extend(sorted.iter().map(|&(_, level)| level));
        self.end_row(Some(cell));
    }

    fn end_row(&mut self, cell: Option<usize>) {
        let in_cells = !self.cell.is_empty();
        assert!(self.is_empty() || in_cells == cell.is_some(), "knockouts in cells and of the population");
        self.cell.extend(cell.map(|cell| cell as u64));
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.offsets.push(self.genes.len() as u64);
    }

    /// Number of knockouts.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The knockouts as they are read.
    pub fn as_knockouts(&self) -> Knockouts<'_> {
        Knockouts { cell: &self.cell, offsets: &self.offsets, genes: &self.genes, levels: &self.levels }
    }

    pub(crate) fn into_abi(self) -> KnockoutsBuf {
        KnockoutsBuf {
            cell: self.cell.into(),
            offsets: if self.offsets.is_empty() { vec![0].into() } else { self.offsets.into() },
            genes: self.genes.into(),
            levels: self.levels.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genes_are_sorted_and_rows_grouped_by_cell() {
        let mut list = KnockoutList::new();
        list.push(4, &[7, 2]);
        list.push(4, &[]);
        list.push(5, &[1]);
        let knockouts = list.as_knockouts();
        assert_eq!(knockouts.get(0), Knockout { cell: Some(4), genes: &[2, 7], levels: &[0.0, 0.0] });
        assert_eq!(knockouts.get(1).genes, [0u32; 0]);
        assert_eq!(knockouts.by_cell().collect::<Vec<_>>(), [(4, 0..2), (5, 2..3)]);
    }

    #[test]
    fn knockouts_of_the_population_have_no_cell() {
        let mut list = KnockoutList::default();
        list.push_population(&[]);
        list.push_population(&[7, 2]);
        let knockouts = list.as_knockouts();
        assert_eq!((list.len(), knockouts.get(0).cell), (2, None));
        assert_eq!(knockouts.get(1), Knockout { cell: None, genes: &[2, 7], levels: &[0.0, 0.0] });
        assert!(Knockouts::default().is_empty());
        let mixed = std::panic::catch_unwind(move || list.push(0, &[1]));
        assert!(mixed.is_err());
    }
}
