//! The exact shortcut: without an activation the two layers are one affine map, h = z·W / k + b with
//! W = W1·W2 and b = b1·W2 + b2. With s the sum of W's rows over a cell's k genes, losing the genes g gives
//! h_i = (s_i − Σ W_gi) / (k − |g|) + b_i. So all knockouts of a cell need no matrix product.

use crate::lanes::{Chunk, Job, Lanes, Path, ZERO, chunks, get, packed};
use crate::network::Network;

/// The two layers as one: rows of W in chunks, one for each gene that goes in.
pub struct Collapsed {
    rows: Vec<Chunk>,
    bias: Vec<f32>,
}

/// A cell, ready for its knockouts. All lists follow its assemblage.
pub struct Base<'a> {
    genes: &'a [u32],
    /// Sum of W's rows over the cell's genes, at the cell's genes.
    sum: Vec<f32>,
    b: Vec<f32>,
}

impl Collapsed {
    /// The product of the layers.
    pub fn new(network: &Network<f32>) -> Self {
        let bias = network.b1.dot(&network.w2) + &network.b2;
        let w = network.w1.dot(&network.w2);
        Self::of(w.into_raw_vec_and_offset().0, bias.to_vec())
    }

    /// From W, row after row, and b.
    pub fn of(w: Vec<f32>, bias: Vec<f32>) -> Self {
        let width = chunks(bias.len());
        let rows =
            w.chunks_exact(bias.len().max(1)).flat_map(|row| packed(row.iter().copied(), width)).collect();
        Self { rows, bias }
    }

    /// Number of genes.
    pub fn genes(&self) -> usize {
        self.bias.len()
    }

    /// b, one number for each gene.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// All rows of W, one after the other.
    pub fn rows(&self) -> &[Chunk] {
        &self.rows
    }

    /// A gene's row of W.
    pub fn row(&self, gene: u32) -> &[Chunk] {
        let width = chunks(self.bias.len());
        &self.rows[gene as usize * width..(gene as usize + 1) * width]
    }

    /// Sums up a cell.
    pub fn base<'a>(&self, genes: &'a [u32]) -> Base<'a> {
        let mut all = vec![ZERO; chunks(self.bias.len())];
        Path::chosen().run(AddRows { map: self, genes, out: &mut all });
        let sum = genes.iter().map(|&j| get(&all, j as usize)).collect();
        Base { genes, sum, b: genes.iter().map(|&j| self.bias[j as usize]).collect() }
    }

    /// Writes the profile after losing some genes, at the cell's genes: shares that sum to 1, 0 for the lost.
    ///
    /// Genes that the cell does not express change nothing. When no gene is left, all is 0.
    pub fn knockout(&self, base: &Base<'_>, lost: &[u32], out: &mut Vec<f32>) {
        let expressed = lost.iter().filter_map(|g| base.genes.binary_search(g).ok());
        let left = base.genes.len() - expressed.clone().count();
        out.clear();
        if left == 0 {
            out.resize(base.genes.len(), 0.0);
            return;
        }
        out.extend_from_slice(&base.sum);
        for at in expressed.clone() {
            let row = self.row(base.genes[at]);
            out.iter_mut().zip(base.genes).for_each(|(s, &j)| *s -= get(row, j as usize));
        }
        let share = 1.0 / left as f32;
        out.iter_mut().zip(&base.b).for_each(|(s, b)| *s = (*s * share + b).abs());
        for at in expressed {
            out[at] = 0.0;
        }
        close(out);
    }
}

/// Adds up rows of the map.
struct AddRows<'a> {
    map: &'a Collapsed,
    genes: &'a [u32],
    out: &'a mut [Chunk],
}

impl Job for AddRows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for &gene in self.genes {
            for (sum, chunk) in self.out.iter_mut().zip(self.map.row(gene)) {
                l.store(l.add(l.load(sum), l.load(chunk)), sum);
            }
        }
    }
}

impl Base<'_> {
    /// The cell's genes.
    pub fn genes(&self) -> &[u32] {
        self.genes
    }
}

/// Divides by the sum, if there is one.
pub fn close(values: &mut [f32]) {
    let sum = sum(values.iter().copied());
    if sum > 0.0 {
        values.iter_mut().for_each(|v| *v /= sum);
    }
}

const LANES: usize = 16;

/// A sum in 16 lanes that are added up at the end: the compiler makes vectors of it, and the order is fixed.
pub fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0; LANES];
    values.enumerate().for_each(|(i, v)| lanes[i % LANES] += v);
    lanes.iter().sum()
}
