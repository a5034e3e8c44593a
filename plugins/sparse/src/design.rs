//! What is regressed on what: features of all cells, and the levels of each gene where it is expressed.
//!
//! A level is x = p·N: a gene's share times the number of genes, so that the mean level of a cell is 1.

use crate::solver::Line;
use lacuna_sdk::ndarray::Array2;
use lacuna_sdk::prelude::*;

/// A gene that fewer cells express is not regressed: it keeps its mean.
const FEW: usize = 8;
/// A gene whose standard deviation is a smaller part of its mean is constant but for rounding.
const CONSTANT: f64 = 1e-5;

/// One feature of all cells, centred and scaled, in a matrix of them.
pub struct Features {
    /// Features × cells, 4 bytes each: (raw − centre) · scale.
    pub values: Array2<f32>,
    /// What was subtracted from each.
    pub centre: Vec<f64>,
    /// What each was multiplied by; 0 for a feature that is the same in all cells.
    pub scale: Vec<f64>,
}

/// A gene's levels where it is expressed, standardised.
pub struct Target {
    /// The cells that express the gene.
    pub cells: Vec<u32>,
    /// (x − mean) / sd in these cells; empty where the gene keeps its mean. Or what a source leaves over of x, / sd; empty
    /// where the gene keeps the source's line.
    pub y: Vec<f64>,
    /// The mean level.
    pub mean: f64,
    /// The standard deviation of the level; of what a source leaves over the root of the mean square.
    pub sd: f64,
    /// The line to depart from.
    pub source: Option<Line>,
}

/// The levels of all cells of some sets, one set after the other, cell by cell.
pub struct Levels {
    /// Of each cell its genes and their levels.
    pub cells: Vec<Vec<(u32, f32)>>,
    /// Number of genes.
    pub genes: usize,
}

impl Levels {
    /// Reads these sets of cells, which have the same genes.
    pub fn of(sets: &[&Cells<'_>]) -> Self {
        let genes = sets.first().map_or(0, |cells| cells.n_genes());
        let level = |p: f32| p * genes as f32;
        let of_cell = |cells: &Cells<'_>, cell| -> Vec<(u32, f32)> {
            cells.assemblage(cell).iter().copied().zip(cells.shares(cell).map(level)).collect()
        };
        let all = sets.iter().flat_map(|cells| (0..cells.len()).map(|cell| of_cell(cells, cell)));
        Self { cells: all.collect(), genes }
    }

    /// Each gene as something to be regressed.
    pub fn targets(&self) -> Vec<Target> {
        self.by_gene().into_iter().map(|(cells, values)| Target::new(cells, values)).collect()
    }

    /// Of each gene the cells that express it, and its level in them.
    fn by_gene(&self) -> Vec<(Vec<u32>, Vec<f64>)> {
        let mut by_gene = vec![(vec![], vec![]); self.genes];
        for (cell, levels) in self.cells.iter().enumerate() {
            for &(gene, x) in levels {
                let (cells, values): &mut (Vec<u32>, Vec<f64>) = &mut by_gene[gene as usize];
                cells.push(cell as u32);
                values.push(x.into());
            }
        }
        by_gene
    }

    /// What these lines, one for each gene, leave over of the levels, as something to be regressed.
    pub fn departures(&self, lines: Vec<Line>) -> Vec<Target> {
        let z = self.assemblages();
        let genes = self.by_gene().into_iter().zip(lines);
        genes.map(|((cells, values), line)| Target::departing(cells, &values, line, &z)).collect()
    }

    /// The assemblage z of each cell: genes × cells.
    pub fn assemblages(&self) -> Array2<f32> {
        self.features(|_| 1.0)
    }

    /// A function of the level where a gene is expressed, 0 where it is not: genes × cells.
    pub fn features(&self, f: impl Fn(f32) -> f32) -> Array2<f32> {
        let mut values = Array2::zeros((self.genes, self.cells.len()));
        for (cell, levels) in self.cells.iter().enumerate() {
            levels.iter().for_each(|&(gene, x)| values[[gene as usize, cell]] = f(x));
        }
        values
    }
}

impl Target {
    fn new(cells: Vec<u32>, values: Vec<f64>) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let sd = (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
        let regressed = cells.len() >= FEW && sd > CONSTANT * mean;
        let y = values.into_iter().filter(|_| regressed).map(|x| (x - mean) / sd).collect();
        Self { cells, y, mean, sd, source: None }
    }

    /// What a line on the assemblages, genes × cells, leaves over of these levels.
    fn departing(cells: Vec<u32>, values: &[f64], line: Line, z: &Array2<f32>) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let level = |&cell: &u32| line.level(|i| z[[i as usize, cell as usize]].into());
        let left: Vec<f64> = cells.iter().zip(values).map(|(cell, x)| x - level(cell)).collect();
        let sd = (left.iter().map(|r| r * r).sum::<f64>() / n).sqrt();
        let regressed = cells.len() >= FEW && sd > CONSTANT * mean;
        let y = left.into_iter().filter(|_| regressed).map(|r| r / sd).collect();
        Self { cells, y, mean, sd, source: Some(line) }
    }

    /// Whether the gene is regressed: it varies, or departs from its source, and enough cells express it.
    pub fn is_regressed(&self) -> bool {
        !self.y.is_empty()
    }
}

impl Features {
    /// Centres each row, and scales it to this standard deviation, if one is given.
    pub fn new(mut values: Array2<f32>, to_sd: Option<f64>) -> Self {
        let (mut centre, mut scale) = (vec![], vec![]);
        for mut row in values.rows_mut() {
            let n = row.len().max(1) as f64;
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let square = |v: f64| (v - mean) * (v - mean);
            let sd = (row.iter().map(|&v| square(v.into())).sum::<f64>() / n).sqrt();
            let by = if sd > CONSTANT * mean.abs() { to_sd.map_or(1.0, |to| to / sd) } else { 0.0 };
            row.mapv_inplace(|v| ((f64::from(v) - mean) * by) as f32);
            centre.push(mean);
            scale.push(by);
        }
        Self { values, centre, scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::cells;
    use lacuna_sdk::ndarray::array;

    #[test]
    fn levels_are_shares_times_genes_and_sets_follow_each_other() {
        let (one, two) = (cells(&[&[1.0, 3.0]]), cells(&[&[0.0, 5.0]]));
        let (one, two) = (one.to_view(), two.to_view());
        let levels = Levels::of(&[&Cells::from_view(&one), &Cells::from_view(&two)]);
        assert_eq!(levels.cells, [vec![(0, 0.5), (1, 1.5)], vec![(1, 2.0)]]);
        assert_eq!(levels.assemblages(), array![[1.0, 0.0], [1.0, 1.0]]);
        assert_eq!(levels.targets()[1].cells, [0, 1]);
        assert_eq!(Levels::of(&[]).targets().len(), 0);
    }

    #[test]
    fn constant_and_rare_genes_keep_their_mean() {
        let target = |values: Vec<f64>| Target::new((0..values.len() as u32).collect(), values);
        for values in [vec![], vec![1.0], vec![0.1; 50], vec![1.0, 2.0, 3.0]] {
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            let target = target(values);
            assert!(!target.is_regressed() && target.mean == mean);
        }
        let varies = target((0..8).map(f64::from).collect());
        assert!(varies.is_regressed() && varies.y.iter().sum::<f64>().abs() < 1e-12);
    }

    #[test]
    fn features_are_centred_and_a_constant_one_is_0() {
        let features = Features::new(array![[1.0, 3.0], [0.1, 0.1]], Some(0.5));
        assert_eq!(features.values, array![[-0.5, 0.5], [0.0, 0.0]]);
        assert_eq!((features.centre[0], features.scale), (2.0, vec![0.5, 0.0]));
    }
}
