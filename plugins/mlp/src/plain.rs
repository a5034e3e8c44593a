//! The network's arithmetic in plain words, generic over f32 and f64: forward, Bray–Curtis loss, gradients. What is fast
//! is tested against it.

use crate::network::{Network, Real, product};
use lacuna_sdk::ndarray::{Array1, Array2, ArrayView2, Axis, Zip};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;

/// Cells as the network takes them.
pub struct Batch<T> {
    /// Closed assemblages z / k, cells × genes.
    pub x: Array2<T>,
    /// Observed profiles, cells × genes.
    pub p: Array2<T>,
}

/// What the forward pass leaves for the backward pass. Buffers are used again.
pub struct Pass<T> {
    u: Array2<T>,
    /// Before the head; after the backward pass its gradient.
    h: Array2<T>,
    /// Predicted profiles, cells × genes.
    pub q: Array2<T>,
    du: Array2<T>,
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
        Self { u: zeros(), h: zeros(), q: zeros(), du: zeros() }
    }

    /// Predicts the batch; gives each cell's Bray–Curtis dissimilarity to its observed profile.
    pub fn forward(&mut self, network: &Network<T>, batch: &Batch<T>, cx: &Context) -> Vec<T> {
        affine(&batch.x.view(), &network.w1, &network.b1, &mut self.u, cx);
        affine(&self.u.view(), &network.w2, &network.b2, &mut self.h, cx);
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
    pub fn backward(
        &mut self,
        network: &Network<T>,
        batch: &Batch<T>,
        gradient: &mut Network<T>,
        cx: &Context,
    ) {
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
        let dh = &self.h;
        product(&self.u.t(), &dh.view(), &mut gradient.w2.view_mut(), cx);
        gradient.b2.assign(&dh.sum_axis(Axis(0)));
        product(&dh.view(), &network.w2.t(), &mut self.du.view_mut(), cx);
        product(&batch.x.t(), &self.du.view(), &mut gradient.w1.view_mut(), cx);
        gradient.b1.assign(&self.du.sum_axis(Axis(0)));
    }
}

/// out = x·w + b.
fn affine<T: Real>(x: &ArrayView2<'_, T>, w: &Array2<T>, b: &Array1<T>, out: &mut Array2<T>, cx: &Context) {
    product(x, &w.view(), &mut out.view_mut(), cx);
    out.outer_iter_mut().for_each(|mut row| row += b);
}

#[cfg(test)]
pub mod tests {
    use super::*;
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

    fn loss(network: &Network<f64>, batch: &Batch<f64>, cx: &Context) -> f64 {
        Pass::new(batch.x.nrows(), network.genes()).forward(network, batch, cx).iter().sum()
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for (seed, genes, n) in [(1, 7, 5), (2, 12, 3), (3, 3, 9)] {
            let cx = context(seed);
            let owned = random_cells(n, genes, seed);
            let view = owned.to_view();
            let batch = Batch::of(&Cells::from_view(&view), &(0..n).collect::<Vec<_>>());
            let mut network = Network::<f64>::random(genes, &mut cx.stream(0));
            let mut gradient = Network::zeros(genes);
            let mut pass = Pass::new(n, genes);
            pass.forward(&network, &batch, &cx);
            pass.backward(&network, &batch, &mut gradient, &cx);
            let step = 1e-6;
            for part in 0..4 {
                for i in 0..network.parts_mut()[part].len() {
                    let mut at = |x: f64| {
                        network.parts_mut()[part][i] += x;
                        let loss = loss(&network, &batch, &cx);
                        network.parts_mut()[part][i] -= x;
                        loss
                    };
                    let numeric = (at(step) - at(-step)) / (2.0 * step);
                    let analytic = gradient.parts_mut()[part][i];
                    assert!((numeric - analytic).abs() < 1e-5, "part {part}, {i}: {numeric} and {analytic}");
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
        let network = Network::random(9, &mut cx.stream(0));
        let mut pass = Pass::new(6, 9);
        let losses = pass.forward(&network, &batch, &cx);
        for (i, loss) in losses.iter().enumerate() {
            let row = pass.q.row(i);
            assert!((row.sum() - 1.0).abs() < 1e-6);
            assert!((0..9).all(|j| row[j] == 0.0 || cells.assemblage(i).contains(&(j as u32))));
            assert!((0.0..=1.0).contains(loss));
        }
    }
}
