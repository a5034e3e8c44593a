//! The network: linear layers from the closed assemblage to the profile.
//!
//! For a cell with assemblage z of k genes: x = z / k, then layer after layer a·W + b; what comes out is h, and
//! q_j = z_j |h_j| / Σ_l z_l |h_l|. The reference has two layers with as many units between them as there are genes, and
//! no activation; `rank` has fewer units there, `hidden` has layers of its own with ReLU behind each. Weights are
//! inputs × outputs. [`step`](crate::step) trains it; in tests `plain` does.

use lacuna_sdk::ndarray::{Array1, Array2, LinalgScalar, NdFloat, ScalarOperand};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;

/// f32 or f64.
pub trait Real: NdFloat + LinalgScalar + ScalarOperand + Send + Sync {
    /// A number.
    fn of(x: f64) -> Self;
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
}

/// How many units the layers have, genes first and last, and whether ReLU stands between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Genes, the units between the layers, genes.
    pub widths: Vec<usize>,
    /// Whether each layer but the last is followed by ReLU.
    pub relu: bool,
}

impl Shape {
    /// Two layers without an activation; between them as many units as genes, or fewer.
    pub fn linear(genes: usize, rank: Option<usize>) -> Self {
        Self { widths: vec![genes, rank.unwrap_or(genes), genes], relu: false }
    }

    /// In words, behind the units.
    pub fn activation(&self) -> &'static str {
        if self.relu { " with ReLU" } else { "" }
    }

    /// Hidden layers with ReLU.
    pub fn deep(genes: usize, hidden: &[usize]) -> Self {
        let widths = std::iter::once(genes).chain(hidden.iter().copied()).chain([genes]).collect();
        Self { widths, relu: true }
    }
}

/// A layer, or its gradient, or Adam's moments.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer<T> {
    /// Weights, inputs × outputs.
    pub w: Array2<T>,
    /// Biases.
    pub b: Array1<T>,
}

/// All layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Network<T> {
    /// From genes to genes; two at least.
    pub layers: Vec<Layer<T>>,
    /// Whether each layer but the last is followed by ReLU.
    pub relu: bool,
}

impl<T: Real> Network<T> {
    /// All zeros.
    pub fn zeros(shape: &Shape) -> Self {
        let layer = |w: &[usize]| Layer { w: Array2::zeros((w[0], w[1])), b: Array1::zeros(w[1]) };
        Self { layers: shape.widths.windows(2).map(layer).collect(), relu: shape.relu }
    }

    /// As PyTorch initialises `Linear`: weights and biases uniform within ±1/√inputs.
    pub fn random(shape: &Shape, stream: &mut Stream) -> Self {
        let mut network = Self::zeros(shape);
        for layer in &mut network.layers {
            let bound = 1.0 / (layer.w.nrows().max(1) as f64).sqrt();
            layer
                .parts_mut()
                .into_iter()
                .flatten()
                .for_each(|w| *w = T::of(stream.random_range(-bound..bound)));
        }
        network
    }

    /// All parameters, part by part.
    #[cfg(test)]
    pub fn parts_mut(&mut self) -> Vec<&mut [T]> {
        self.layers.iter_mut().flat_map(Layer::parts_mut).collect()
    }

    /// Number of genes.
    pub fn genes(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.b.len())
    }

    /// What it was made from.
    pub fn shape(&self) -> Shape {
        let first = self.layers.first().map_or(0, |layer| layer.w.nrows());
        let widths = std::iter::once(first).chain(self.layers.iter().map(|layer| layer.b.len())).collect();
        Shape { widths, relu: self.relu }
    }
}

impl<T> Layer<T> {
    /// Weights and biases.
    fn parts_mut(&mut self) -> [&mut [T]; 2] {
        let slice = "parameters lie one after the other";
        [self.w.as_slice_mut().expect(slice), self.b.as_slice_mut().expect(slice)]
    }
}
