//! What a refit changes: the seed, or the cells.

use super::replicates::Replicates;
use crate::data::{Cells, Csr};
use crate::pipeline::step_seed;
use crate::run::seeded_stream;
use anyhow::{Result, ensure};
use rand::seq::SliceRandom;

/// How a refit differs from the fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variation {
    /// By its seed alone: a further member of an ensemble.
    Seed(u32),
    /// One half of the cells, or of the replicates, drawn at random: 2n and 2n + 1 are the two halves of one draw.
    Half(u32),
    /// The values of some genes, drawn at random, are dealt out anew among cells of like depth, so that these genes tell
    /// nothing of others, nor others of them.
    Null(u32),
    /// A gene counts as expressed from 2 counts on.
    Threshold,
}

/// Cells whose depth is taken for alike are parts of this many, by library size.
const STRATA: usize = 10;
/// No part is of fewer cells.
const FEWEST_OF_A_STRATUM: usize = 10;
/// Of so many genes one has its values dealt out: the others keep the model what it is.
const DEALT: usize = 4;

impl Variation {
    /// Its name, as of a file.
    pub fn name(self) -> String {
        match self {
            Self::Seed(n) => format!("seed-{n:03}"),
            Self::Half(n) => format!("half-{n:03}"),
            Self::Null(n) => format!("null-{n:03}"),
            Self::Threshold => "threshold".into(),
        }
    }

    /// The cells that a refit learns from; `part` tells training from validation cells, the seed is the step's.
    pub fn of(
        self,
        cells: &Cells,
        replicates: Option<&Replicates>,
        (seed, part): (u64, &str),
    ) -> Result<Cells> {
        let drawn_as = match self {
            Self::Half(n) => format!("halves-{}", n / 2),
            _ => self.name(),
        };
        let mut stream = seeded_stream(step_seed(seed, &format!("{drawn_as} {part}")), 0);
        let varied = match self {
            Self::Seed(_) => cells.clone(),
            Self::Half(n) => {
                // Drawn alike for training and validation cells.
                let mut of_replicates = seeded_stream(step_seed(seed, &format!("{drawn_as} replicates")), 0);
                let whole = replicates.map(|r| r.half(cells, n % 2 == 0, &mut of_replicates)).transpose()?;
                let rows = whole.flatten().unwrap_or_else(|| half(cells.len(), n % 2 == 0, &mut stream));
                cells.select_cells(&rows)
            }
            Self::Null(_) => {
                let dealt = self.dealt(cells.n_genes(), seed);
                Cells { x: dealt_out(cells, &dealt, &mut stream), ..cells.clone() }
            }
            Self::Threshold => Cells { x: from_two_on(&cells.x), ..cells.clone() },
        };
        // Cells of which nothing is left say nothing.
        let rows: Vec<usize> = (0..varied.len()).filter(|&i| !varied.x.range(i).is_empty()).collect();
        ensure!(!rows.is_empty(), "no cell is left");
        Ok(if rows.len() == varied.len() { varied } else { varied.select_cells(&rows) })
    }
}

impl Variation {
    /// Which of so many genes a null refit deals out; the seed is the step's.
    pub fn dealt(self, genes: usize, seed: u64) -> Vec<bool> {
        let mut order: Vec<usize> = (0..genes).collect();
        let mut stream = seeded_stream(step_seed(seed, &self.name()), 0);
        let (chosen, _) = order.partial_shuffle(&mut stream, genes.div_ceil(DEALT));
        let mut dealt = vec![false; genes];
        chosen.iter().for_each(|&gene| dealt[gene] = true);
        dealt
    }
}

/// Whether values are counts of which some are above 1, so that another threshold means something.
pub fn has_thresholds(cells: &Cells) -> bool {
    cells.x.values.iter().all(|v| v.fract() == 0.0) && cells.x.values.iter().any(|v| *v > 1.0)
}

/// One half of so many cells; ascending.
fn half(cells: usize, first: bool, stream: &mut impl rand::Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells).collect();
    order.shuffle(stream);
    let rest = order.split_off(cells / 2);
    let mut rows = if first { order } else { rest };
    rows.sort_unstable();
    rows
}

/// The matrix with the values of some genes dealt out anew within strata of library size.
fn dealt_out(cells: &Cells, dealt: &[bool], stream: &mut impl rand::Rng) -> Csr {
    let n = cells.len();
    let strata = strata_of(&cells.library);
    let mut by_gene: Vec<Vec<(u32, f32)>> = vec![vec![]; cells.n_genes()];
    for cell in 0..n {
        let (genes, values) = cells.x.row(cell);
        genes.iter().zip(values).for_each(|(&g, &v)| by_gene[g as usize].push((cell as u32, v)));
    }
    let members = |s: usize| (0..n as u32).filter(|&cell| strata[cell as usize] == s).collect::<Vec<u32>>();
    let mut members: Vec<Vec<u32>> = (0..strata.iter().max().map_or(0, |s| s + 1)).map(members).collect();
    let mut rows: Vec<Vec<(u32, f32)>> = vec![vec![]; n];
    for (gene, values) in by_gene.iter().enumerate() {
        if !dealt[gene] {
            values.iter().for_each(|&(cell, v)| rows[cell as usize].push((gene as u32, v)));
            continue;
        }
        for (s, cells) in members.iter_mut().enumerate() {
            let here: Vec<f32> =
                values.iter().filter(|(cell, _)| strata[*cell as usize] == s).map(|(_, v)| *v).collect();
            let (chosen, _) = cells.partial_shuffle(stream, here.len());
            chosen.iter().zip(here).for_each(|(&cell, v)| rows[cell as usize].push((gene as u32, v)));
        }
    }
    let mut x = Csr::empty(cells.n_genes());
    rows.into_iter().for_each(|row| x.push_row(row.into_iter()));
    x
}

/// The stratum of each cell by its library size, ties by number.
fn strata_of(library: &[f64]) -> Vec<usize> {
    let n = library.len();
    let count = (n / FEWEST_OF_A_STRATUM).clamp(1, STRATA);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| library[a].total_cmp(&library[b]).then(a.cmp(&b)));
    let mut strata = vec![0; n];
    order.iter().enumerate().for_each(|(rank, &cell)| strata[cell] = rank * count / n);
    strata
}

fn from_two_on(x: &Csr) -> Csr {
    let mut out = Csr::empty(x.n_cols);
    for i in 0..x.n_rows() {
        let (genes, values) = x.row(i);
        out.push_row(genes.iter().copied().zip(values.iter().copied()).filter(|(_, v)| *v >= 2.0));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Column, Frame};
    use arrow_array::StringArray;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// 40 cells × 6 genes, of which the first two are always expressed together; donors of 10 cells.
    fn cells() -> Cells {
        let mut x = Csr::empty(6);
        for i in 0..40u32 {
            let pair = i % 2 == 0;
            let value = |g: u32| match g {
                0 | 1 => f32::from(u8::from(pair)) * (1 + i / 10) as f32,
                g => ((i + g) % 3) as f32,
            };
            x.push_row((0..6).map(|g| (g, value(g))));
        }
        let mut obs = Frame::of_names((0..40).map(|i| format!("c{i}")).collect());
        let donors: StringArray = (0..40).map(|i| Some(format!("d{}", i / 10))).collect();
        obs.columns.push(Column { name: "donor".into(), values: Arc::new(donors), ordered: false });
        Cells::new(x, obs, Frame::of_names((0..6).map(|g| format!("g{g}")).collect()))
    }

    #[test]
    fn halves_are_all_cells_once_and_seeds_decide() {
        let cells = cells();
        let half = |n, seed| Variation::Half(n).of(&cells, None, (seed, "training")).unwrap();
        for pair in 0..3 {
            let mut ids = [half(2 * pair, 9).ids, half(2 * pair + 1, 9).ids].concat();
            ids.sort_unstable();
            assert_eq!(ids, (0..40).collect::<Vec<u64>>());
        }
        assert_eq!(half(0, 5).ids, half(0, 5).ids);
        assert_ne!(half(0, 5).ids, half(0, 6).ids);
        assert_ne!(half(0, 5).ids, half(2, 5).ids);
    }

    #[test]
    fn replicates_are_halved_whole() {
        let cells = cells();
        let replicates = Replicates::of("donor", &cells, Some(&cells)).unwrap();
        let half = |part| Variation::Half(3).of(&cells, Some(&replicates), (11, part)).unwrap();
        let mut of: BTreeMap<String, usize> = BTreeMap::new();
        let donors = half("training").obs.column("donor").unwrap().texts();
        donors.into_iter().for_each(|d| *of.entry(d.unwrap()).or_default() += 1);
        assert_eq!(of.values().copied().collect::<Vec<_>>(), [10, 10]);
        assert_eq!(half("training").ids, half("validation").ids);
    }

    #[test]
    fn dealing_out_keeps_each_genes_values_in_each_stratum_and_the_relations_of_the_others() {
        let cells = cells();
        let strata = strata_of(&cells.library);
        assert_eq!((strata.iter().max(), strata.iter().filter(|s| **s == 0).count()), (Some(&3), 10));
        let dealt = |seed| Variation::Null(0).dealt(6, seed);
        assert_eq!(dealt(1).iter().filter(|d| **d).count(), 2);
        let one_of_two = (0..).find(|&seed| dealt(seed)[0] && !dealt(seed)[1]).unwrap();
        let neither = (0..).find(|&seed| !dealt(seed)[0] && !dealt(seed)[1]).unwrap();
        let null = Variation::Null(0).of(&cells, None, (one_of_two, "training")).unwrap();
        let values = |x: &Csr, of: &dyn Fn(usize) -> usize, gene: u32, stratum: usize| {
            let value = |i: usize| {
                let (genes, values) = x.row(i);
                genes.iter().position(|g| *g == gene).map(|at| values[at] as u32)
            };
            let mut found: Vec<u32> =
                (0..x.n_rows()).filter(|&i| strata[of(i)] == stratum).filter_map(value).collect();
            found.sort_unstable();
            found
        };
        // A cell that lost all was left out: ids say which cell a row is.
        let id = |i: usize| null.ids[i] as usize;
        for (gene, stratum) in (0..6).flat_map(|g| (0..4).map(move |s| (g, s))) {
            assert_eq!(values(&null.x, &id, gene, stratum), values(&cells.x, &|i| i, gene, stratum));
        }
        let apart = |x: &Csr| {
            let has = |i: usize, g: u32| x.row(i).0.contains(&g);
            (0..x.n_rows()).filter(|&i| has(i, 0) != has(i, 1)).count()
        };
        assert_eq!(apart(&cells.x), 0);
        assert!(apart(&null.x) > 2, "{}", apart(&null.x));
        let other = Variation::Null(0).of(&cells, None, (neither, "training")).unwrap();
        assert_eq!(apart(&other.x), 0);
    }

    #[test]
    fn a_threshold_leaves_out_single_counts_and_empty_cells() {
        let cells = cells();
        assert!(has_thresholds(&cells));
        let higher = Variation::Threshold.of(&cells, None, (1, "training")).unwrap();
        assert!(higher.x.values.iter().all(|v| *v >= 2.0));
        assert!((0..higher.len()).all(|i| !higher.x.range(i).is_empty()));
        let shares = Cells { x: Csr { values: vec![0.5; cells.x.nnz()], ..cells.x.clone() }, ..cells };
        assert!(!has_thresholds(&shares));
    }
}
