//! Adam (Kingma & Ba 2015; β = 0.9, 0.999, ε = 1e-8 as in PyTorch), with decoupled weight decay (AdamW: Loshchilov & Hutter
//! 2019) and a schedule of the rate: updates by a gradient that is written, and those of the first and the last layer, which
//! wait for the next forward pass.
//!
//! The gradients of these two are never written: they are of the rank of the minibatch, and made row by row where Adam uses
//! them, in the one pass over weights and moments that an update needs anyway.

use crate::lanes::{Chunk, Job, Lanes};
use crate::sums::Columns;
use crate::weights::Panels;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// How far each update of a training goes.
#[derive(Debug, Clone, Copy)]
pub struct Descent {
    /// The learning rate; of a schedule the first.
    pub rate: f64,
    /// What each update takes of a weight, in units of the rate.
    pub decay: f64,
    /// The updates in which the rate falls to 0 by half a cosine; without it the rate stays.
    pub cosine: Option<u64>,
}

impl Descent {
    /// The learning rate of the `n`th update, n from 1.
    fn rate_of(&self, n: i32) -> f64 {
        let Some(updates) = self.cosine else { return self.rate };
        let done = f64::from(n - 1) / updates.max(1) as f64;
        self.rate * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
    }
}

/// What an update multiplies with.
#[derive(Clone, Copy)]
pub struct Rates {
    /// Of the mean, with its correction.
    pub rate: f32,
    /// √(1 − β₂ⁿ), which the root is divided by.
    pub correction: f32,
    /// What is left of a weight: exactly 1 without decay.
    pub left: f32,
}

impl Rates {
    /// Of the `n`th update, n from 1.
    pub fn new(descent: &Descent, n: i32) -> Self {
        let rate = descent.rate_of(n);
        Self {
            rate: (rate / (1.0 - f64::from(BETA1).powi(n))) as f32,
            correction: (1.0 - f64::from(BETA2).powi(n)).sqrt() as f32,
            left: (1.0 - rate * descent.decay).max(0.0) as f32,
        }
    }
}

/// An update of the first and the last layer: the gradient of a gene's row is the sum of the columns of the minibatch's
/// cells that express it, each times a coefficient.
#[derive(Clone)]
pub struct Pending {
    /// The cells that express a gene.
    pub with: Vec<u32>,
    /// Where each gene begins in `with`.
    pub by_gene: Vec<usize>,
    /// How many cells there are.
    pub cells: usize,
    /// Of the first layer.
    pub first: Outer,
    /// Of the last layer.
    pub last: Outer,
    /// What the update multiplies with.
    pub rates: Rates,
}

/// Coefficients, gene by gene as `with`; and some columns of all cells after the other.
#[derive(Clone)]
pub struct Outer {
    /// Numbers that are multiplied with columns.
    pub coefficients: Vec<f32>,
    /// Panels × cells.
    pub columns: Vec<Columns>,
}

/// The gradient of some columns of a layer.
#[derive(Clone, Copy)]
pub struct Gradient<'a> {
    with: &'a [u32],
    by_gene: &'a [usize],
    coefficients: &'a [f32],
    columns: &'a [Columns],
    rates: Rates,
}

impl Pending {
    /// Of a panel of the first layer.
    pub fn of_first(&self, panel: usize) -> Gradient<'_> {
        self.gradient(&self.first, panel)
    }

    /// Of a panel of the last layer.
    pub fn of_last(&self, panel: usize) -> Gradient<'_> {
        self.gradient(&self.last, panel)
    }

    fn gradient<'a>(&'a self, outer: &'a Outer, panel: usize) -> Gradient<'a> {
        Gradient {
            with: &self.with,
            by_gene: &self.by_gene,
            coefficients: &outer.coefficients,
            columns: &outer.columns[panel * self.cells..(panel + 1) * self.cells],
            rates: self.rates,
        }
    }
}

impl Gradient<'_> {
    /// Adam's update of rows from a gene on: weights and moments.
    #[inline(always)]
    pub fn update<L: Lanes, const N: usize>(
        &self,
        l: L,
        gene: usize,
        w: &mut [[Chunk; N]],
        m: &mut [[Chunk; N]],
        v: &mut [[Chunk; N]],
    ) {
        for (gene, (w, (m, v))) in (gene..).zip(w.iter_mut().zip(m.iter_mut().zip(v))) {
            let stored = self.by_gene[gene]..self.by_gene[gene + 1];
            let mut g = [l.splat(0.0); N];
            for (&cell, &coefficient) in self.with[stored.clone()].iter().zip(&self.coefficients[stored]) {
                let columns = &self.columns[cell as usize];
                for i in 0..N {
                    g[i] = l.fma(l.splat(coefficient), l.load(&columns[i]), g[i]);
                }
            }
            for i in 0..N {
                adam(l, (&mut w[i], &mut m[i], &mut v[i]), g[i], self.rates);
            }
        }
    }
}

/// Rows of a panel, with Adam's moments.
pub struct Rows<'a> {
    /// Weights.
    pub w: &'a mut [Chunk],
    /// Means of the gradient.
    pub m: &'a mut [Chunk],
    /// Means of its square.
    pub v: &'a mut [Chunk],
}

impl<'a> Rows<'a> {
    /// The panels of a layer.
    pub fn panels(all: [&'a mut Panels; 3]) -> Vec<Self> {
        let size = all[0].size();
        let [w, m, v] = all.map(|panels| panels.chunks.chunks_mut(size));
        w.zip(m).zip(v).map(|((w, m), v)| Self { w, m, v }).collect()
    }

    /// Some of them after the other; all are so many.
    pub fn split(self, all: usize, some: usize) -> Vec<Self> {
        let size = (self.w.len() / all.max(1) * some).max(1);
        let [w, m, v] = [self.w, self.m, self.v].map(|list| list.chunks_mut(size));
        w.zip(m).zip(v).map(|((w, m), v)| Self { w, m, v }).collect()
    }
}

/// Adam's update of one chunk.
#[inline(always)]
fn adam<L: Lanes>(l: L, (w, m, v): (&mut Chunk, &mut Chunk, &mut Chunk), g: L::V, rates: Rates) {
    let mean = l.fma(l.splat(BETA1), l.load(m), l.mul(l.splat(1.0 - BETA1), g));
    let square = l.fma(l.splat(BETA2), l.load(v), l.mul(l.mul(l.splat(1.0 - BETA2), g), g));
    let root = l.fma(l.sqrt(square), l.splat(1.0 / rates.correction), l.splat(EPSILON));
    l.store(mean, m);
    l.store(square, v);
    // A product with 1 changes no bit, and is made while the root and the quotient are: no branch is worth it.
    let left = l.mul(l.load(w), l.splat(rates.left));
    l.store(l.fma(l.div(mean, root), l.splat(-rates.rate), left), w);
}

/// An update by a gradient that is written.
pub struct Update<'a> {
    /// Weights.
    pub w: &'a mut [Chunk],
    /// Means of the gradient.
    pub m: &'a mut [Chunk],
    /// Means of its square.
    pub v: &'a mut [Chunk],
    /// As long as they are, or shorter.
    pub gradient: &'a [Chunk],
    /// What the update multiplies with.
    pub rates: Rates,
}

impl Job for &mut Update<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let moments = self.m.iter_mut().zip(&mut *self.v);
        for ((w, (m, v)), g) in self.w.iter_mut().zip(moments).zip(self.gradient) {
            adam(l, (w, m, v), l.load(g), self.rates);
        }
    }
}
