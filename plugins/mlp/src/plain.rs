//! The network's arithmetic in plain words, generic over f32 and f64: forward, Bray–Curtis loss, gradients. What is fast
//! is tested against it.

use crate::network::{Layer, Network, Real};
use lacuna_sdk::ndarray::{Array2, ArrayView2, Axis, Zip};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;

/// Cells as the network takes them.
pub struct Batch<T> {
    /// Closed assemblages z / k, cells × genes.
    pub x: Array2<T>,
    /// Observed profiles, cells × genes.
    pub p: Array2<T>,
}

/// What the forward pass leaves for the backward pass.
pub struct Pass<T> {
    /// What goes into each layer but the first, cells × units.
    between: Vec<Array2<T>>,
    /// Before the head; after the backward pass its gradient.
    h: Array2<T>,
    /// Predicted profiles, cells × genes.
    pub q: Array2<T>,
}

impl<T: Real> Batch<T> {
    /// These cells.
    pub fn of(cells: &Cells<'_>, rows: &[usize]) -> Self {
        let shape = (rows.len(), cells.n_genes());
        let mut batch = Self { x: Array2::zeros(shape), p: Array2::zeros(shape) };
        batch.fill(cells, rows);
        batch
    }

    /// These cells instead, as many as before.
    pub fn fill(&mut self, cells: &Cells<'_>, rows: &[usize]) {
        self.x.fill(T::zero());
        self.p.fill(T::zero());
        for (i, &cell) in rows.iter().enumerate() {
            let genes = cells.assemblage(cell);
            let share = T::of(1.0 / genes.len() as f64);
            for (&j, p) in genes.iter().zip(cells.shares(cell)) {
                self.x[[i, j as usize]] = share;
                self.p[[i, j as usize]] = T::of(f64::from(p));
            }
        }
    }
}

impl<T: Real> Pass<T> {
    /// Buffers for a batch of this shape.
    pub fn new(cells: usize, genes: usize) -> Self {
        let zeros = || Array2::zeros((cells, genes));
        Self { between: vec![], h: zeros(), q: zeros() }
    }

    /// Predicts the batch; gives each cell's Bray–Curtis dissimilarity to its observed profile.
    pub fn forward(&mut self, network: &Network<T>, batch: &Batch<T>) -> Vec<T> {
        self.between.clear();
        let mut a = batch.x.clone();
        let last = network.layers.len() - 1;
        for (i, layer) in network.layers.iter().enumerate() {
            a = affine(&a.view(), layer);
            if i < last {
                if network.relu {
                    a.mapv_inplace(|x| x.max(T::zero()));
                }
                self.between.push(a.clone());
            }
        }
        self.h = a;
        let rows = self
            .q
            .outer_iter_mut()
            .zip(self.h.outer_iter())
            .zip(batch.x.outer_iter())
            .zip(batch.p.outer_iter());
        rows.map(|(((mut q, h), x), p)| {
            // x is above 0 where z is 1.
            Zip::from(&mut q)
                .and(&h)
                .and(&x)
                .for_each(|q, &h, &x| *q = if x > T::zero() { h.abs() } else { T::zero() });
            let sum = q.sum();
            if sum > T::zero() {
                q.mapv_inplace(|a| a / sum);
            }
            let difference = Zip::from(&q).and(&p).fold(T::zero(), |d, &q, &p| d + (q - p).abs());
            difference / (q.sum() + p.sum())
        })
        .collect()
    }

    /// Writes the gradient of the summed dissimilarities, after [`forward`](Self::forward) on the same batch.
    ///
    /// With q and p closed, BC = ½ Σ|q − p|. Through the closing, ∂BC/∂a_j = (g_j − Σ_l g_l q_l) / Σa with
    /// g = ½ sign(q − p); through the absolute value, times sign(h_j).
    pub fn backward(&mut self, network: &Network<T>, batch: &Batch<T>, gradient: &mut Network<T>) {
        let half = T::of(0.5);
        let rows = self
            .h
            .outer_iter_mut()
            .zip(self.q.outer_iter())
            .zip(batch.x.outer_iter())
            .zip(batch.p.outer_iter());
        for (((mut h, q), x), p) in rows {
            let g = |q: T, p: T| {
                if q > p {
                    half
                } else if q < p {
                    -half
                } else {
                    T::zero()
                }
            };
            let sum = Zip::from(&h)
                .and(&x)
                .fold(T::zero(), |s, &h, &x| if x > T::zero() { s + h.abs() } else { s });
            let mean = Zip::from(&q).and(&p).fold(T::zero(), |m, &q, &p| m + g(q, p) * q);
            Zip::from(&mut h).and(&q).and(&p).and(&x).for_each(|h, &q, &p, &x| {
                let silent = x <= T::zero() || *h == T::zero() || sum <= T::zero();
                *h = if silent { T::zero() } else { h.signum() * (g(q, p) - mean) / sum };
            });
        }
        let mut d = self.h.clone();
        for (i, (layer, gradient)) in network.layers.iter().zip(&mut gradient.layers).enumerate().rev() {
            let into = if i == 0 { &batch.x } else { &self.between[i - 1] };
            gradient.w = into.t().dot(&d);
            gradient.b = d.sum_axis(Axis(0));
            d = d.dot(&layer.w.t());
            if network.relu && i > 0 {
                Zip::from(&mut d).and(into).for_each(|d, &a| *d = if a > T::zero() { *d } else { T::zero() });
            }
        }
    }
}

/// x·w + b.
fn affine<T: Real>(x: &ArrayView2<'_, T>, layer: &Layer<T>) -> Array2<T> {
    let mut out = x.dot(&layer.w);
    out.outer_iter_mut().for_each(|mut row| row += &layer.b);
    out
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::network::Shape;
    use lacuna_sdk::testing::context;

    /// Cells with random assemblages and profiles.
    pub fn random_cells(cells: usize, genes: usize, seed: u64) -> OwnedCells {
        let mut stream = context(seed).stream(99);
        let mut owned = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
        for i in 0..cells {
            let mut row: Vec<f32> = (0..genes)
                .map(
                    |_| if stream.random_range(0.0..1.0) < 0.6 { stream.random_range(0.1..3.0) } else { 0.0 },
                )
                .collect();
            row[i % genes] = 1.0;
            owned.push(format!("c{i}"), &row);
        }
        owned
    }

    fn loss(network: &Network<f64>, batch: &Batch<f64>) -> f64 {
        Pass::new(batch.x.nrows(), network.genes()).forward(network, batch).iter().sum()
    }

    /// Networks of every form for so many genes.
    pub fn shapes(genes: usize) -> [Shape; 4] {
        [
            Shape::linear(genes, None),
            Shape::linear(genes, Some(3)),
            Shape::deep(genes, &[18]),
            Shape::deep(genes, &[9, 20, 5]),
        ]
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for (seed, genes, n) in [(1, 7, 5), (2, 12, 3), (3, 3, 9)] {
            for shape in shapes(genes) {
                let cx = context(seed);
                let owned = random_cells(n, genes, seed);
                let view = owned.to_view();
                let batch = Batch::of(&Cells::from_view(&view), &(0..n).collect::<Vec<_>>());
                let mut network = Network::<f64>::random(&shape, &mut cx.stream(0));
                let mut gradient = Network::zeros(&shape);
                let mut pass = Pass::new(n, genes);
                pass.forward(&network, &batch);
                pass.backward(&network, &batch, &mut gradient);
                let step = 1e-7;
                for part in 0..network.parts_mut().len() {
                    for i in 0..network.parts_mut()[part].len() {
                        let mut at = |x: f64| {
                            network.parts_mut()[part][i] += x;
                            let loss = loss(&network, &batch);
                            network.parts_mut()[part][i] -= x;
                            loss
                        };
                        let numeric = (at(step) - at(-step)) / (2.0 * step);
                        let analytic = gradient.parts_mut()[part][i];
                        assert!(
                            (numeric - analytic).abs() < 1e-5,
                            "{shape:?}, part {part}, {i}: {numeric} and {analytic}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn silent_genes_stay_silent_and_profiles_sum_to_one() {
        let cx = context(5);
        let owned = random_cells(6, 9, 5);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let batch = Batch::<f32>::of(&cells, &[0, 1, 2, 3, 4, 5]);
        let network = Network::random(&Shape::linear(9, None), &mut cx.stream(0));
        let mut pass = Pass::new(6, 9);
        let losses = pass.forward(&network, &batch);
        for (i, loss) in losses.iter().enumerate() {
            let row = pass.q.row(i);
            assert!((row.sum() - 1.0).abs() < 1e-6);
            assert!((0..9).all(|j| row[j] == 0.0 || cells.assemblage(i).contains(&(j as u32))));
            assert!((0.0..=1.0).contains(loss));
        }
    }
}
