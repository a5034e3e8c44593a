//! Networks with hidden layers: many knockouts of a cell at once.
//!
//! Losing genes takes their rows from the sum that the first layer is, as without hidden layers. What follows is not
//! linear: products of matrices with a row for each knockout, the last one for the genes that the cell expresses only.

use crate::fused::width;
use crate::lanes::{Chunk, Job, LANES, Lanes, Path, ZERO, chunks, flat, flat_mut, packed};
use crate::matmul::multiply;
use crate::network::{Layer, Network};
use crate::sums::AddRows;
use lacuna_sdk::ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

/// A network with ReLU behind all layers but the last.
pub struct Deep {
    /// Rows of the first layer in chunks, and its bias.
    first: Vec<Chunk>,
    bias: Vec<Chunk>,
    /// Units of the first layer.
    units: usize,
    between: Vec<Layer<f32>>,
    /// Outputs × inputs.
    last: Array2<f32>,
    last_bias: Vec<f32>,
}

/// A cell, ready for its knockouts.
pub struct Base<'a> {
    genes: &'a [u32],
    /// Sum of the first layer's rows over the cell's genes.
    sum: Vec<Chunk>,
    /// The last layer's rows and bias for these genes.
    last: Array2<f32>,
    bias: Vec<f32>,
}

impl Deep {
    /// Knockouts that go through the layers together.
    pub const ROWS: usize = 512;

    /// Of a network with ReLU.
    pub fn new(network: &Network<f32>) -> Self {
        let [first, between @ .., last] = &network.layers[..] else {
            unreachable!("a network has two layers at least");
        };
        let units = first.b.len();
        let rows = first.w.rows().into_iter().flat_map(|row| packed(row.iter().copied(), chunks(units)));
        Self {
            first: rows.collect(),
            bias: packed(first.b.iter().copied(), chunks(units)),
            units,
            between: between.to_vec(),
            last: last.w.t().as_standard_layout().into_owned(),
            last_bias: last.b.to_vec(),
        }
    }

    /// Sums up a cell.
    pub fn base<'a>(&self, genes: &'a [u32], path: Path) -> Base<'a> {
        let mut sum = vec![ZERO; chunks(self.units)];
        path.run(AddRows { rows: &self.first, genes, out: &mut sum });
        let mut last = Array2::zeros((genes.len(), self.last.ncols()));
        for (mut out, &gene) in last.rows_mut().into_iter().zip(genes) {
            out.assign(&self.last.row(gene as usize));
        }
        Base { genes, sum, last, bias: genes.iter().map(|&j| self.last_bias[j as usize]).collect() }
    }

    /// What comes out of the last layer for each knockout, at the cell's genes: rows of [`width`] chunks, 0 behind the
    /// genes. `lost` are places in the assemblage.
    pub fn outputs(&self, base: &Base<'_>, lost: &[&[usize]], path: Path, out: &mut Vec<Chunk>) {
        let (genes, units) = (base.genes.len(), chunks(self.units));
        let mut first = vec![ZERO; lost.len() * units];
        path.run(FirstLayer { network: self, base, lost, out: &mut first });
        let all = ArrayView2::from_shape((lost.len(), units * LANES), flat(&first)).expect("rows of chunks");
        let mut inputs = all.slice(s![.., ..self.units]).to_owned();
        for layer in &self.between {
            let mut next = Array2::zeros((lost.len(), layer.b.len()));
            multiply(&inputs.view(), &layer.w.view(), &mut next.view_mut());
            for mut row in next.rows_mut() {
                row += &layer.b;
                row.iter_mut().filter(|x| **x <= 0.0).for_each(|x| *x = 0.0);
            }
            inputs = next;
        }
        out.clear();
        out.resize(lost.len() * width(genes), ZERO);
        let shape = (lost.len(), width(genes) * LANES);
        let all = ArrayViewMut2::from_shape(shape, flat_mut(out)).expect("rows of chunks");
        let mut rows = all.slice_move(s![.., ..genes]);
        multiply(&inputs.view(), &base.last.t(), &mut rows);
        for mut row in rows.rows_mut() {
            row.iter_mut().zip(&base.bias).for_each(|(x, b)| *x += b);
        }
    }

    /// Writes the profile after losing the genes at some places: shares that sum to 1, at the cell's genes.
    pub fn profiles(&self, base: &Base<'_>, lost: &[&[usize]], mut write: impl FnMut(usize, &[f32])) {
        let genes = base.genes.len();
        let mut rows = vec![];
        for (block, lost) in lost.chunks(Self::ROWS).enumerate() {
            self.outputs(base, lost, Path::chosen(), &mut rows);
            let (outputs, width) = (flat_mut(&mut rows), width(genes) * LANES);
            for (i, lost) in lost.iter().enumerate() {
                let row = &mut outputs[i * width..i * width + genes];
                row.iter_mut().for_each(|x| *x = x.abs());
                lost.iter().for_each(|&at| row[at] = 0.0);
                crate::collapsed::close(row);
                write(block * Self::ROWS + i, row);
            }
        }
    }
}

/// What comes out of the first layer when some genes are lost.
struct FirstLayer<'a> {
    network: &'a Deep,
    base: &'a Base<'a>,
    lost: &'a [&'a [usize]],
    out: &'a mut [Chunk],
}

impl Job for FirstLayer<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { network, base, lost, out } = self;
        let width = base.sum.len();
        for (lost, out) in lost.iter().zip(out.chunks_exact_mut(width.max(1))) {
            out.copy_from_slice(&base.sum);
            for &at in *lost {
                let gene = base.genes[at] as usize;
                for (x, row) in out.iter_mut().zip(&network.first[gene * width..(gene + 1) * width]) {
                    l.store(l.fma(l.splat(-1.0), l.load(row), l.load(x)), x);
                }
            }
            let left = base.genes.len() - lost.len();
            let share = l.splat(if left > 0 { 1.0 / left as f32 } else { 0.0 });
            for (x, bias) in out.iter_mut().zip(&network.bias) {
                l.store(l.relu(l.fma(l.load(x), share, l.load(bias))), x);
            }
        }
    }
}
