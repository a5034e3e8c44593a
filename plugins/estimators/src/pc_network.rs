//! `pc-network`

mod secular;
mod tensor;

use crate::counts::{Counts, DOMINANT};
use crate::eigen::Svd;
use crate::residuals::{depths, take_out};
use crate::scores::{ESTIMATOR, Scores};
use lacuna_sdk::ndarray::{Array2, Axis, s};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;

config! {
    /// Parameters of `pc-network`.
    pub struct PcNetworkConfig {
        /// The number of principal components of each regression.
        #[range(1..=100)]
        components: usize = 3,
        /// The share of edges, the weakest, that are set to 0. scTenifoldKnk takes 0.9.
        #[range(0.0..=1.0)]
        quantile: f64 = 0.0,
        /// Whether an edge is the mean of those of either direction.
        symmetric: bool = false,
        /// 1: one network, of all cells. More: networks of cells drawn with replacement, of which what they share is
        /// kept; scTenifoldKnk makes 10.
        #[range(1..=100)]
        networks: usize = 1,
        /// How many cells are drawn for each of several networks.
        #[range(2..=100_000)]
        cells: usize = 500,
        /// The rank of the tensor that several networks are approximated by.
        #[range(1..=20)]
        rank: usize = 3,
        /// Whether the depth of sequencing is taken out. Without, edges are those of scTenifoldNet.
        depth: bool = true,
        /// A gene above this share of all counts is left out of the libraries; 1 leaves none out.
        #[range(0.0..=1.0)]
        dominant: f64 = DOMINANT,
    }
}

/// Genes whose edges one thread makes at a time.
const ROWS: usize = 64;
/// As scTenifoldNet ends the approximation of several networks.
const TOLERANCE: f64 = 1e-5;

/// Principal component regression of each gene on all others, the network of scTenifoldNet and scTenifoldKnk:
/// the score of gene j for the loss of gene g is −a_gj, the edge from g to j, which the knockout removes. The
/// strongest edge of the network is 1.
///
/// X, shape (n, genes), is expression, each gene with mean 0 and variance 1 over the training cells. Gene j is
/// regressed on the first k principal components of all others, X₋ⱼ = U S Vᵀ: a_gj is the coefficient of g in
/// V S⁻¹ Uᵀ x_j. The diagonal is 0, and so is what a constant gene has to do with others. Then, in this order,
/// with `symmetric` a_gj and a_jg become their mean, all are divided by the largest |a|, and those below the
/// `quantile` of |a| become 0.
///
/// With `networks` > 1, each is made of `cells` cells, drawn with replacement, and a is the mean of their approximation
/// by a tensor of rank `rank`. They take 4 bytes × genes² × networks while the model is fitted.
///
/// Expression is c / L, c counts and L libraries without genes above a share of `dominant` of all counts, of which what a
/// regression on log(1 + L) explains is taken out. With `depth = false` nothing is taken out, and L is the sum of
/// all genes that the model is given, as in scTenifoldNet.
pub struct PcNetwork(PcNetworkConfig);

impl Component for PcNetwork {
    const ID: &'static str = "pc-network";
    const DOC: &'static str = "Scores each gene by its negative edge from the lost one in a network of principal component regressions";
    type Config = PcNetworkConfig;
    fn new(config: PcNetworkConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for PcNetwork {
    type Fitted = Scores;
    const INFO: ModelInfo = ModelInfo {
        source: "scTenifoldNet's principal component regression network (Osorio et al. 2020), from which scTenifoldKnk \
                 (2022) removes a gene's edges",
        ..ESTIMATOR
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Scores> {
        Scores::check(&training.cells)?;
        let expression = self.expression(&training.cells);
        let edges = match self.0.networks {
            1 => self.network(expression, cx)?,
            _ => self.shared(&expression, cx)?,
        };
        Scores::learn(&training.cells, cx, |target, row| {
            row.iter_mut().zip(edges.row(target)).for_each(|(score, &edge)| *score = -f64::from(edge));
        })
    }
}

impl PcNetwork {
    /// a_gj, from gene g to gene j, of some cells.
    fn network(&self, mut expression: Array2<f64>, cx: &Context) -> Result<Array2<f32>> {
        take_out(&mut expression, None);
        let varying = standardise(&mut expression);
        let mut edges = edges(&expression, self.0.components, cx)?;
        if self.0.symmetric {
            symmetrise(&mut edges);
        }
        scale(&mut edges);
        drop_weakest(&mut edges, &varying, self.0.quantile);
        Ok(edges)
    }

    /// What networks of cells that are drawn share.
    fn shared(&self, expression: &Array2<f64>, cx: &Context) -> Result<Array2<f32>> {
        let mut networks = vec![];
        for i in 0..self.0.networks {
            let mut stream = cx.stream(i as u64);
            let cells: Vec<usize> =
                (0..self.0.cells).map(|_| stream.random_range(0..expression.nrows())).collect();
            networks.push(self.network(expression.select(Axis(0), &cells), cx)?);
            cx.progress(i as u64 + 1, self.0.networks as u64, "networks");
        }
        let mut edges = tensor::shared(&networks, self.0.rank, TOLERANCE, cx)?;
        edges.diag_mut().fill(0.0);
        scale(&mut edges);
        Ok(edges)
    }

    /// Each gene's share of each cell, shape (cells, genes), without what the depth explains.
    fn expression(&self, cells: &Cells<'_>) -> Array2<f64> {
        let counts = Counts::of(cells, self.0.dominant);
        let mut shares = Array2::zeros((counts.n_cells(), counts.n_genes()));
        for (cell, mut row) in shares.rows_mut().into_iter().enumerate() {
            let library = if self.0.depth { counts.library(cell) } else { cells.total(cell) };
            if library > 0.0 {
                counts.of_cell(cell).for_each(|(gene, count)| row[gene] = count / library);
            }
        }
        let depths = depths(&counts);
        take_out(&mut shares, self.0.depth.then_some(&depths));
        shares
    }
}

/// Gives each column of mean 0 the variance 1. Returns the columns that vary; others stay 0.
fn standardise(columns: &mut Array2<f64>) -> Vec<usize> {
    let n = columns.nrows() as f64;
    let mut varying = vec![];
    for (gene, mut column) in columns.axis_iter_mut(Axis(1)).enumerate() {
        let deviation = (column.dot(&column) / (n - 1.0)).sqrt();
        if deviation > 0.0 {
            column /= deviation;
            varying.push(gene);
        }
    }
    varying
}

/// a_gj, from gene g to gene j.
fn edges(expression: &Array2<f64>, components: usize, cx: &Context) -> Result<Array2<f32>> {
    let svd = Svd::of(expression.view(), cx)?;
    let genes = expression.ncols();
    let by_gene = svd.right.t().as_standard_layout().into_owned();
    let weights = secular::weights(&by_gene, &svd.squares.to_vec(), components, cx)?;
    let mut edges = vec![0.0f32; genes * genes];
    cx.parallel_chunks(&mut edges, ROWS * genes, |block, out| {
        if cx.is_cancelled() {
            return;
        }
        let rows = block * ROWS..block * ROWS + out.len() / genes;
        let product = by_gene.slice(s![rows, ..]).dot(&weights.t());
        out.iter_mut().zip(&product).for_each(|(out, &edge)| *out = edge as f32);
    });
    cx.check()?;
    let mut edges = Array2::from_shape_vec((genes, genes), edges)?;
    edges.diag_mut().fill(0.0);
    Ok(edges)
}

/// Makes the strongest edge 1.
fn scale(edges: &mut Array2<f32>) {
    let most = edges.iter().fold(0.0f32, |most, edge| most.max(edge.abs()));
    if most > 0.0 {
        edges.mapv_inplace(|edge| edge / most);
    }
}

fn symmetrise(edges: &mut Array2<f32>) {
    for (g, j) in (0..edges.nrows()).flat_map(|j| (0..j).map(move |g| (g, j))) {
        let mean = (edges[[g, j]] + edges[[j, g]]) / 2.0;
        (edges[[g, j]], edges[[j, g]]) = (mean, mean);
    }
}

/// Edges below a quantile of the sizes of all edges between these genes become 0.
fn drop_weakest(edges: &mut Array2<f32>, genes: &[usize], quantile: f64) {
    if quantile <= 0.0 || quantile >= 1.0 || genes.is_empty() {
        return;
    }
    let mut sizes: Vec<f32> =
        genes.iter().flat_map(|&g| genes.iter().map(move |&j| (g, j))).map(|at| edges[at].abs()).collect();
    let place = quantile * (sizes.len() - 1) as f64;
    let (_, &mut below, rest) = sizes.select_nth_unstable_by(place as usize, f32::total_cmp);
    let above = rest.iter().copied().min_by(f32::total_cmp).unwrap_or(below);
    let (below, above) = (f64::from(below), f64::from(above));
    let least = below + (above - below) * place.fract();
    edges.mapv_inplace(|edge| if f64::from(edge.abs()) < least { 0.0 } else { edge });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_near, holds_for_an_estimator, random_cells, scores};
    use lacuna_sdk::testing;

    fn config() -> PcNetworkConfig {
        PcNetworkConfig::default()
    }

    #[test]
    fn holds_what_every_estimator_holds() {
        holds_for_an_estimator(&PcNetwork(config()));
        holds_for_an_estimator(&PcNetwork(PcNetworkConfig { depth: false, components: 1, ..config() }));
        holds_for_an_estimator(&PcNetwork(PcNetworkConfig { components: 100, symmetric: true, ..config() }));
        holds_for_an_estimator(&PcNetwork(PcNetworkConfig { networks: 4, cells: 30, ..config() }));
    }

    fn table(text: &str) -> Vec<Vec<f64>> {
        text.lines().map(|line| line.split(',').map(|value| value.parse().unwrap()).collect()).collect()
    }

    #[test]
    fn agrees_with_sctenifoldpy_on_the_same_cells() {
        let plain = || PcNetworkConfig { depth: false, ..config() };
        let cases = [
            (include_str!("../../../tests/fixtures/pc-network/all.csv"), 40, plain()),
            (
                include_str!("../../../tests/fixtures/pc-network/few.csv"),
                9,
                PcNetworkConfig { components: 4, ..plain() },
            ),
            (
                include_str!("../../../tests/fixtures/pc-network/symmetric.csv"),
                40,
                PcNetworkConfig { symmetric: true, ..plain() },
            ),
            (
                include_str!("../../../tests/fixtures/pc-network/strongest.csv"),
                40,
                PcNetworkConfig { quantile: 0.9, ..plain() },
            ),
        ];
        let counts = table(include_str!("../../../tests/fixtures/pc-network/counts.csv"));
        let counts: Vec<Vec<f32>> =
            counts.iter().map(|row| row.iter().map(|&count| count as f32).collect()).collect();
        for (network, cells, config) in cases {
            let rows: Vec<&[f32]> = counts[..cells].iter().map(|row| &row[..]).collect();
            let found = scores(&PcNetwork(config.clone()), &testing::cells(&rows));
            for (j, row) in table(network).iter().enumerate() {
                for (g, &edge) in row.iter().enumerate() {
                    let found = f64::from(found[[g, j]]);
                    assert!(
                        (found + edge).abs() < 1e-6,
                        "{config:?} {g} {j}: expected {}, found {found}",
                        -edge
                    );
                }
            }
        }
    }

    /// a_gj by the decomposition of all genes but j.
    fn explicit(x: &Array2<f64>, components: usize) -> Array2<f64> {
        let genes = x.ncols();
        let mut edges = Array2::zeros((genes, genes));
        for j in 0..genes {
            let others: Vec<usize> = (0..genes).filter(|&other| other != j).collect();
            let svd = Svd::of(x.select(Axis(1), &others).view(), &testing::context(1)).unwrap();
            for c in 0..components.min(svd.squares.len()) {
                let slope = svd.left.column(c).dot(&x.column(j)) / svd.squares[c];
                others.iter().enumerate().for_each(|(i, &g)| edges[[g, j]] += slope * svd.right[[c, i]]);
            }
        }
        edges
    }

    #[test]
    fn agrees_with_a_decomposition_for_each_gene() {
        for (n, genes, components, seed) in [(60, 9, 3, 1), (12, 20, 5, 2), (30, 28, 1, 3), (7, 12, 50, 4)] {
            let cells = random_cells(n, genes, seed);
            let model = PcNetwork(PcNetworkConfig { components, ..config() });
            let view = cells.to_view();
            let mut x = model.expression(&Cells::from_view(&view));
            take_out(&mut x, None);
            standardise(&mut x);
            let expected = explicit(&x, components);
            let most = expected.iter().fold(0.0f64, |most, edge| most.max(edge.abs()));
            let found = scores(&model, &cells);
            for (g, j) in (0..genes).flat_map(|g| (0..genes).map(move |j| (g, j))).filter(|(g, j)| g != j) {
                assert_near(f64::from(found[[g, j]]), -expected[[g, j]] / most, format!("{n} {g} {j}"));
            }
        }
    }

    #[test]
    fn equal_components_and_columns_that_are_the_same_are_no_trouble() {
        // Two genes that are one, twice; and genes that have nothing to do with each other.
        let x = lacuna_sdk::ndarray::array![
            [1.0, 1.0, 1.0, 1.0, 0.0],
            [1.0, 1.0, -1.0, -1.0, 0.0],
            [-1.0, -1.0, 1.0, 1.0, 0.0],
            [-1.0, -1.0, -1.0, -1.0, 0.0]
        ];
        let found = edges(&x, 2, &testing::context(1)).unwrap();
        for (g, j) in (0..5).flat_map(|g| (0..5).map(move |j| (g, j))) {
            let expected = if matches!((g, j), (0, 1) | (1, 0) | (2, 3) | (3, 2)) { 1.0 } else { 0.0 };
            assert!((found[[g, j]] - expected).abs() < 1e-6, "{found}");
        }
    }

    #[test]
    fn the_follower_falls() {
        for networks in [1, 5] {
            let model = PcNetwork(PcNetworkConfig { networks, ..config() });
            let found = scores(&model, &random_cells(400, 10, 4));
            assert!(found[[3, 2]] < -0.8 && found[[2, 3]] < -0.8, "{found}");
        }
    }
}
