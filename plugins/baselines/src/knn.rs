//! `knn`

use crate::BASELINE;
use crate::masked_mean::mean_where_expressed;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::{Asked, Genes};

config! {
    /// Parameters of `knn`.
    pub struct KnnConfig {
        /// How many training cells are averaged; all of them if there are fewer.
        #[range(1..)]
        k: usize = 20,
    }
}

/// The mean profile of the k training cells whose assemblages are nearest to what the cell still expresses, by
/// the Jaccard index |A ∩ B| / |A ∪ B|; of equally near cells the first. Restricted to the assemblage, closed.
///
/// A gene's share is (Σ p + m) / (n + 1) over the n of these cells that express it, with its `masked-mean` m as
/// one more cell, as in the reference prototype, so that a gene that no neighbour expresses has a share too.
pub struct Knn(KnnConfig);

impl Component for Knn {
    const ID: &'static str = "knn";
    const DOC: &'static str = "The mean profile of the training cells with the nearest assemblages (Jaccard)";
    type Config = KnnConfig;
    fn new(config: KnnConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Knn {
    type Fitted = Neighbours;
    const INFO: ModelInfo = ModelInfo { source: "k nearest neighbours, Jaccard 1912", ..BASELINE };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Neighbours> {
        let cells = &training.cells;
        let genes = Genes::of(cells)?;
        let expressing = (0..cells.len()).filter(|&cell| !cells.assemblage(cell).is_empty());
        let train = expressing.map(|c| (cells.assemblage(c).to_vec(), cells.shares(c).collect())).collect();
        Ok(Neighbours::new(genes, self.0.k, mean_where_expressed(cells, cx)?, train))
    }
}

/// The training cells, by cell and by gene.
pub struct Neighbours {
    genes: Genes,
    k: usize,
    mean: Vec<f32>,
    /// The assemblage and the shares of each cell.
    train: Vec<(Vec<u32>, Vec<f32>)>,
    /// For each cell, which genes it expresses.
    by_cell: Vec<Bits>,
    /// For each gene, which cells express it.
    by_gene: Vec<Bits>,
}

impl Neighbours {
    fn new(genes: Genes, k: usize, mean: Vec<f32>, train: Vec<(Vec<u32>, Vec<f32>)>) -> Self {
        let mut by_gene = vec![Bits::new(train.len()); genes.len()];
        let mut by_cell = vec![Bits::new(genes.len()); train.len()];
        for (cell, (assemblage, _)) in train.iter().enumerate() {
            for &gene in assemblage {
                by_cell[cell].set(gene as usize);
                by_gene[gene as usize].set(cell);
            }
        }
        Self { genes, k, mean, train, by_cell, by_gene }
    }
}

/// A set of small numbers.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(n: usize) -> Self {
        Self(vec![0; n.div_ceil(64)])
    }

    fn set(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn has(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    fn common(&self, other: &Self) -> u32 {
        self.0.iter().zip(&other.0).map(|(a, b)| (a & b).count_ones()).sum()
    }
}

impl Fitted for Neighbours {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let mut search = Search::new(self);
        self.genes.answer(query, answer, cx, |asked, row| {
            search.find(asked);
            asked.write_masked(row, |gene| search.share(gene));
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        let (cells, values) = (self.train.len(), self.train.iter().map(|t| t.0.len()).sum::<usize>());
        // Tensors hold f32, exact for whole numbers up to 2^24, which no gene's column reaches.
        let lengths: Vec<f32> = self.train.iter().map(|t| t.0.len() as f32).collect();
        let columns: Vec<f32> = self.train.iter().flat_map(|t| &t.0).map(|&gene| gene as f32).collect();
        let shares: Vec<f32> = self.train.iter().flat_map(|t| &t.1).copied().collect();
        let saved = self.genes.save().text("k", self.k.to_string()).text("cells", cells.to_string());
        let saved = saved.text("values", values.to_string()).tensor("mean", &[self.genes.len()], &self.mean);
        let saved = saved.tensor("lengths", &[cells], &lengths).tensor("columns", &[values], &columns);
        saved.tensor("shares", &[values], &shares).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let number = |name: &str| Ok::<usize, Error>(saved.get_text(name)?.parse()?);
        let (k, cells, values) = (number("k")?, number("cells")?, number("values")?);
        let mean = saved.get_tensor("mean", &[genes.len()])?.to_vec();
        let lengths = saved.get_tensor("lengths", &[cells])?;
        let (mut columns, mut shares) =
            (saved.get_tensor("columns", &[values])?, saved.get_tensor("shares", &[values])?);
        let mut train = Vec::with_capacity(cells);
        for &length in lengths {
            let length = length as usize;
            let split = columns.split_at_checked(length).zip(shares.split_at_checked(length));
            let ((of_cell, columns_left), (p, shares_left)) = split.ok_or_else(|| damaged("lengths"))?;
            let assemblage: Vec<u32> = of_cell.iter().map(|&gene| gene as u32).collect();
            if assemblage.iter().any(|&gene| gene as usize >= genes.len()) {
                return Err(damaged("columns"));
            }
            train.push((assemblage, p.to_vec()));
            (columns, shares) = (columns_left, shares_left);
        }
        Ok(Self::new(genes, k, mean, train))
    }
}

fn damaged(tensor: &str) -> Error {
    Error::data(format!("tensor `{tensor}` of the saved model does not fit the others"))
}

/// The neighbours of one row after the other. Rows of one cell share the count of common genes, and rows with
/// the same neighbours, as most single knockouts of a cell, share their sums.
struct Search<'a> {
    fitted: &'a Neighbours,
    cell: Option<usize>,
    /// Genes that the query cell, before any knockout, has in common with each training cell.
    common: Vec<u32>,
    /// Ascending.
    neighbours: Vec<usize>,
    /// Σ p and n of each gene over the neighbours.
    sums: Vec<(f64, f64)>,
}

/// A training cell and its Jaccard index, as a fraction.
#[derive(Clone, Copy)]
struct Candidate {
    train: usize,
    common: u32,
    union: u32,
}

impl Candidate {
    /// Exact, by cross-multiplying.
    fn is_nearer_than(&self, other: &Self) -> bool {
        u64::from(self.common) * u64::from(other.union) > u64::from(other.common) * u64::from(self.union)
    }
}

impl<'a> Search<'a> {
    fn new(fitted: &'a Neighbours) -> Self {
        Self { fitted, cell: None, common: vec![], neighbours: vec![], sums: vec![] }
    }

    fn find(&mut self, asked: &Asked<'_>) {
        if self.cell.replace(asked.cell) != Some(asked.cell) {
            let mut expressed = Bits::new(self.fitted.genes.len());
            asked.assemblage().iter().for_each(|&gene| expressed.set(gene as usize));
            self.common = self.fitted.by_cell.iter().map(|train| train.common(&expressed)).collect();
        }
        let nearest = self.nearest(asked);
        if nearest != self.neighbours {
            self.neighbours = nearest;
            self.add_up();
        }
    }

    /// The nearest training cells, ascending.
    fn nearest(&self, asked: &Asked<'_>) -> Vec<usize> {
        let lost: Vec<&Bits> =
            asked.lost_expressed().map(|gene| &self.fitted.by_gene[gene as usize]).collect();
        let left = (asked.assemblage().len() - lost.len()) as u32;
        let mut nearest: Vec<Candidate> = vec![];
        for (train, (assemblage, _)) in self.fitted.train.iter().enumerate() {
            let common = self.common[train] - lost.iter().filter(|gene| gene.has(train)).count() as u32;
            let candidate = Candidate { train, common, union: left + assemblage.len() as u32 - common };
            if nearest.len() == self.fitted.k {
                // Training cells come in order, so that of equally near ones the first stays.
                if nearest.last().is_some_and(|last| !candidate.is_nearer_than(last)) {
                    continue;
                }
                nearest.pop();
            }
            let place = nearest.partition_point(|other| !candidate.is_nearer_than(other));
            nearest.insert(place, candidate);
        }
        let mut nearest: Vec<usize> = nearest.iter().map(|candidate| candidate.train).collect();
        nearest.sort_unstable();
        nearest
    }

    fn add_up(&mut self) {
        self.sums.clear();
        self.sums.resize(self.fitted.genes.len(), (0.0, 0.0));
        for &train in &self.neighbours {
            let (assemblage, shares) = &self.fitted.train[train];
            for (&gene, &share) in assemblage.iter().zip(shares) {
                let (sum, n) = &mut self.sums[gene as usize];
                *sum += f64::from(share);
                *n += 1.0;
            }
        }
    }

    fn share(&self, gene: usize) -> f64 {
        let (sum, n) = self.sums[gene];
        (sum + f64::from(self.fitted.mean[gene])) / (n + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{
        cells, fit, holds_for_a_baseline, knockouts, many_knockouts, predict, random_cells,
    };
    use lacuna_sdk::testing;

    #[test]
    fn holds_what_every_baseline_holds() {
        holds_for_a_baseline(&Knn(KnnConfig::default()), true, false);
        holds_for_a_baseline(&Knn(KnnConfig { k: 3 }), true, false);
    }

    #[test]
    fn the_nearest_cell_and_the_mean_share_the_answer() {
        // Means .375, .625, .5; the query is nearest to the first cell, without gene 0 to the second.
        let train = cells(&[&[1.0, 0.0, 1.0], &[0.0, 1.0, 0.0], &[1.0, 1.0, 2.0]]);
        let query = cells(&[&[1.0, 1.0, 0.0]]);
        let rows =
            predict(&Knn(KnnConfig { k: 1 }), &train, &query, &knockouts(&[(0, &[]), (0, &[0])])).unwrap();
        // Jaccard 1/3, 1/2, 2/3: the third cell, (.25 + .375)/2 and (.25 + .625)/2, closed.
        assert_eq!(rows[0], [(0.3125f32 / 0.75), 0.4375 / 0.75, 0.0]);
        assert_eq!(rows[1], [0.0, 1.0, 0.0]);
    }

    /// One row by the definition: all Jaccard indices in floating point, sorted.
    fn brute_force(train: &Cells<'_>, mean: &[f32], k: usize, expressed: &[u32]) -> Vec<f64> {
        let jaccard = |cell: usize| {
            let common = expressed.iter().filter(|gene| train.assemblage(cell).contains(gene)).count();
            common as f64 / (expressed.len() + train.assemblage(cell).len() - common) as f64
        };
        let mut order: Vec<usize> = (0..train.len()).filter(|&c| !train.assemblage(c).is_empty()).collect();
        order.sort_by(|&a, &b| jaccard(b).total_cmp(&jaccard(a)));
        let share = |&gene: &u32| {
            let near = order[..k.min(order.len())].iter();
            let profile = |&cell: &usize| {
                let place = train.assemblage(cell).binary_search(&gene).ok()?;
                train.shares(cell).nth(place).map(f64::from)
            };
            let shares: Vec<f64> = near.filter_map(profile).collect();
            (shares.iter().sum::<f64>() + f64::from(mean[gene as usize])) / (shares.len() + 1) as f64
        };
        let mut row = vec![0.0; mean.len()];
        let total: f64 = expressed.iter().map(share).sum();
        expressed.iter().for_each(|gene| row[*gene as usize] = share(gene) / total);
        row
    }

    #[test]
    fn agrees_with_brute_force_ties_and_knockouts_included() {
        let (train, query) = (random_cells(60, 20, 3), random_cells(8, 20, 4));
        let list = many_knockouts(&query);
        let (train_view, query_view) = (train.to_view(), query.to_view());
        let (train_cells, query_cells) = (Cells::from_view(&train_view), Cells::from_view(&query_view));
        let mean = mean_where_expressed(&train_cells, &testing::context(1)).unwrap();
        for k in [1, 5, 20, 100] {
            let rows = predict(&Knn(KnnConfig { k }), &train, &query, &list).unwrap();
            for (knockout, row) in list.as_knockouts().iter().zip(rows) {
                let kept = |gene: &&u32| !knockout.genes.contains(gene);
                let expressed: Vec<u32> =
                    query_cells.assemblage(knockout.cell.unwrap()).iter().filter(kept).copied().collect();
                if expressed == [1] || expressed.is_empty() {
                    continue; // one share, or none
                }
                let expected = brute_force(&train_cells, &mean, k, &expressed);
                let near = row.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6);
                assert!(near, "k = {k}, {knockout:?}: {row:?}, {expected:?}");
            }
        }
    }

    #[test]
    fn damaged_columns_are_an_error() {
        let fitted = fit(&Knn(KnnConfig::default()), &cells(&[&[1.0, 2.0]])).unwrap();
        let mut wrong = Neighbours::load(&fitted.save().unwrap()).unwrap();
        wrong.train[0].0[1] = 7;
        let error = Neighbours::load(&wrong.save().unwrap()).err();
        assert_eq!(error, Some(Error::data("tensor `columns` of the saved model does not fit the others")));
    }
}
