//! The exact shortcut: without an activation the two layers are one affine map, h = z·W / k + b with
//! W = W1·W2 and b = b1·W2 + b2. With s the sum of W's rows over a cell's k genes, losing the genes g gives
//! h_i = (s_i − Σ W_gi) / (k − |g|) + b_i. So all knockouts of a cell need no matrix product.

use crate::network::Network;
use lacuna_sdk::ndarray::{Array1, Array2};

/// The two layers as one.
pub struct Collapsed {
    w: Array2<f32>,
    b: Array1<f32>,
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
        let b = network.b1.dot(&network.w2) + &network.b2;
        Self { w: network.w1.dot(&network.w2), b }
    }

    /// Sums up a cell.
    pub fn base<'a>(&self, genes: &'a [u32]) -> Base<'a> {
        let mut all = vec![0.0; self.b.len()];
        for &j in genes {
            let row = self.row(j);
            all.iter_mut().zip(row).for_each(|(s, w)| *s += w);
        }
        let at = |values: &[f32]| genes.iter().map(|&j| values[j as usize]).collect();
        Base { genes, sum: at(&all), b: at(self.b.as_slice().unwrap_or(&[])) }
    }

    fn row(&self, gene: u32) -> &[f32] {
        let genes = self.b.len();
        let all = self.w.as_slice().unwrap_or(&[]);
        &all[gene as usize * genes..(gene as usize + 1) * genes]
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
            out.iter_mut().zip(base.genes).for_each(|(s, &j)| *s -= row[j as usize]);
        }
        let share = 1.0 / left as f32;
        out.iter_mut().zip(&base.b).for_each(|(s, b)| *s = (*s * share + b).abs());
        for at in expressed {
            out[at] = 0.0;
        }
        close(out);
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

/// Bray–Curtis dissimilarity of two lists of shares; NaN when both are all 0.
pub fn bray_curtis(a: &[f32], b: &[f32]) -> f64 {
    let mut difference = [0.0f32; LANES];
    let mut total = [0.0f32; LANES];
    let (chunks, rest_a) = a.as_chunks::<LANES>();
    let (b_chunks, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            difference[lane] += (a[lane] - b[lane]).abs();
            total[lane] += a[lane] + b[lane];
        }
    }
    for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
        difference[lane] += (a - b).abs();
        total[lane] += a + b;
    }
    let add = |lanes: [f32; LANES]| lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
    add(difference) / add(total)
}
