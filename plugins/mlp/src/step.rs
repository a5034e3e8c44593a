//! One step of the training at speed: what `plain` does in plain words, for f32. The backward pass; the forward pass is in
//! `forward`, the updates are in `adam`.

use crate::adam::{Descent, Outer, Pending, Rates, Update};
use crate::batch::{Batch, run_all};
use crate::lanes::{Chunk, Job, Lanes, Path, ZERO, flat, flat_mut, packed};
use crate::matmul::product;
use crate::network::Network;
use crate::sums::{Ahead, Columns, DEPTH, NOTHING, ROWS, Tiled, of_depth};
use crate::weights::{Matrix, Weights};
use lacuna_sdk::prelude::*;

/// Chunks of a layer between that one task updates.
const CHUNKS: usize = 1 << 13;

/// Weights in training, with Adam's moments. [`forward`](Self::forward) is in a file of its own.
#[derive(Clone)]
pub struct Trainer {
    /// The weights.
    pub weights: Weights,
    pub(crate) mean: Weights,
    pub(crate) square: Weights,
    /// What the next forward pass does to the first and the last layer; biases and layers between are updated already.
    pub(crate) pending: Option<Pending>,
    updates: i32,
    descent: Descent,
    pub(crate) path: Path,
}

impl Trainer {
    /// Fresh moments for these weights.
    pub fn new(network: &Network<f32>, descent: Descent, path: Path) -> Self {
        let zeros = Weights::of(&Network::zeros(&network.shape()));
        Self {
            weights: Weights::of(network),
            mean: zeros.clone(),
            square: zeros,
            pending: None,
            updates: 0,
            descent,
            path,
        }
    }

    /// The backward pass of a minibatch that has just gone [`forward`](Self::forward), and Adam's update; that of the first
    /// and the last layer is pending until the next forward pass or [`settle`](Self::settle).
    ///
    /// The gradient is that of the summed dissimilarities, as in `plain::Pass::backward`.
    pub fn update(&mut self, batch: &Batch, cx: &Context) {
        debug_assert!(self.pending.is_none(), "a forward pass comes between updates");
        self.updates += 1;
        let rates = Rates::new(&self.descent, self.updates);
        let gradient = batch.gradient();
        let by_genes = batch.by_genes(&gradient);
        let mut d = self.back_through_last(batch, &gradient, cx);
        self.silence(&mut d, batch.last_inputs());
        self.last_bias(batch, &by_genes, rates);
        if let Some(units) = batch.between.last() {
            let mut between = Matrix::zeros(units.rows, units.columns);
            between.take_columns(&d);
            for i in (0..self.weights.between.len()).rev() {
                between = self.layer_between(i, batch, &between, rates, cx);
            }
            between.give_columns(&mut d);
        }
        self.first_bias(&d, batch.len(), rates);
        let last = Outer { coefficients: by_genes, columns: batch.last_inputs().to_vec() };
        let first = Outer { coefficients: batch.by_genes(&batch.divisors_of_genes()), columns: d };
        let (with, by_gene) = (batch.with.clone(), batch.by_gene.clone());
        self.pending = Some(Pending { with, by_gene, cells: batch.len(), first, last, rates });
    }

    /// Weights and moments, when nothing is pending.
    pub fn state(&self) -> [&Weights; 3] {
        debug_assert!(self.pending.is_none());
        [&self.weights, &self.mean, &self.square]
    }

    /// Weights and moments, to be changed.
    pub fn state_mut(&mut self) -> [&mut Weights; 3] {
        [&mut self.weights, &mut self.mean, &mut self.square]
    }

    /// Updates so far.
    pub fn updates(&self) -> i32 {
        self.updates
    }

    /// As after so many updates.
    pub fn set_updates(&mut self, updates: i32) {
        self.updates = updates;
    }

    /// The gradient of what goes into the last layer: some columns of all cells after the other.
    fn back_through_last(&self, batch: &Batch, gradient: &[f32], cx: &Context) -> Vec<Columns> {
        let (last, gradient) = (&self.weights.last, batch.by_tiles(gradient));
        let mut d = vec![NOTHING; batch.last_inputs().len()];
        let mut tasks: Vec<Back<'_>> = last
            .chunks
            .chunks(last.size())
            .zip(d.chunks_mut(batch.len()))
            .map(|(w, out)| Back { w, rows: last.rows, sets: &batch.tiled, gradient: &gradient, out })
            .collect();
        let path = self.path;
        let operations = last.chunks.len() / last.rows.max(1) * batch.stored();
        run_all(&mut tasks, operations, cx, |task| path.run(task));
        d
    }

    /// ReLU lets nothing back where nothing went through.
    fn silence(&self, gradient: &mut [Columns], units: &[Columns]) {
        if self.weights.relu {
            silence(gradient.as_flattened_mut(), units.as_flattened());
        }
    }

    /// Updates a layer between by the gradient of its outputs; gives that of its inputs.
    fn layer_between(&mut self, i: usize, batch: &Batch, d: &Matrix, rates: Rates, cx: &Context) -> Matrix {
        let inputs = &batch.between[i];
        let mut gradient = Matrix::zeros(inputs.columns, d.columns);
        product(&inputs.view().t(), &d.view(), &mut gradient.view_mut(), cx);
        let mut back = Matrix::zeros(inputs.rows, inputs.columns);
        product(&d.view(), &self.weights.between[i].view().t(), &mut back.view_mut(), cx);
        if self.weights.relu {
            silence(&mut back.chunks, &inputs.chunks);
        }
        let (w, m, v) =
            (&mut self.weights.between[i], &mut self.mean.between[i], &mut self.square.between[i]);
        let mut tasks: Vec<Update<'_>> = w
            .chunks
            .chunks_mut(CHUNKS)
            .zip(m.chunks.chunks_mut(CHUNKS))
            .zip(v.chunks.chunks_mut(CHUNKS))
            .zip(gradient.chunks.chunks(CHUNKS))
            .map(|(((w, m), v), gradient)| Update { w, m, v, gradient, rates })
            .collect();
        let path = self.path;
        run_all(&mut tasks, gradient.chunks.len(), cx, |task| path.run(task));
        self.bias(i + 1, &d.sums(), rates);
        back
    }

    fn bias(&mut self, i: usize, gradient: &[Chunk], rates: Rates) {
        let (w, m, v) = (&mut self.weights.biases[i], &mut self.mean.biases[i], &mut self.square.biases[i]);
        self.path.run(&mut Update { w, m, v, gradient, rates });
    }

    fn last_bias(&mut self, batch: &Batch, by_genes: &[f32], rates: Rates) {
        let of_gene = |range: &[usize]| by_genes[range[0]..range[1]].iter().sum::<f32>();
        let last = self.weights.biases.len() - 1;
        let gradient = packed(batch.by_gene.windows(2).map(of_gene), self.weights.biases[last].len());
        self.bias(last, &gradient, rates);
    }

    fn first_bias(&mut self, d: &[Columns], cells: usize, rates: Rates) {
        let mut sums = vec![ZERO; d.len() / cells * DEPTH];
        for (sums, columns) in sums.chunks_exact_mut(DEPTH).zip(d.chunks_exact(cells)) {
            for columns in columns {
                flat_mut(sums).iter_mut().zip(flat(columns)).for_each(|(sum, x)| *sum += x);
            }
        }
        self.bias(0, &sums, rates);
    }
}

fn silence(gradient: &mut [Chunk], units: &[Chunk]) {
    for (d, a) in flat_mut(gradient).iter_mut().zip(flat(units)) {
        if *a <= 0.0 {
            *d = 0.0;
        }
    }
}

/// What comes back through some columns of the last layer.
struct Back<'a> {
    w: &'a [Chunk],
    rows: usize,
    sets: &'a Tiled,
    /// Before the head, as the sets lie.
    gradient: &'a [f32],
    out: &'a mut [Columns],
}

impl Job for &mut Back<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        of_depth!(self.w.len() / self.rows, self, of_panel, l);
    }
}

impl Back<'_> {
    #[inline(always)]
    fn of_panel<L: Lanes, const N: usize>(&mut self, l: L) {
        let mut rest = self.w.as_chunks::<N>().0;
        for tile in 0..self.rows.div_ceil(ROWS) {
            let (rows, others) = rest.split_at(rest.len().min(ROWS));
            rest = others;
            let behind = rest[..rest.len().min(ROWS)].as_flattened();
            let mut ahead = Ahead::new([behind, &[], &[]], self.out.len());
            for (range, out) in self.sets.starts(tile).windows(2).zip(&mut *self.out) {
                ahead.fetch(l);
                let range = range[0] as usize..range[1] as usize;
                let mut sums = [l.splat(0.0); N];
                for i in 0..N {
                    sums[i] = l.load(&out[i]);
                }
                for (&place, &d) in self.sets.places()[range.clone()].iter().zip(&self.gradient[range]) {
                    let row = &rows[place as usize];
                    for i in 0..N {
                        sums[i] = l.fma(l.splat(d), l.load(&row[i]), sums[i]);
                    }
                }
                for i in 0..N {
                    l.store(sums[i], &mut out[i]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Sets;
    use crate::network::{Layer, Shape};
    use crate::plain::tests::{random_cells, shapes};
    use crate::plain::{self, Pass};
    use lacuna_sdk::testing::context;

    /// The reference's updates; and AdamW's with a rate that falls.
    const DESCENTS: [Descent; 2] = [
        Descent { rate: 0.01, decay: 0.0, cosine: None },
        Descent { rate: 0.01, decay: 0.3, cosine: Some(20) },
    ];

    /// Adam in plain words, f64.
    fn plain(network: &mut Network<f64>, gradients: &[Network<f64>], descent: &Descent) {
        let mut moments: Vec<Vec<(f64, f64)>> =
            network.parts_mut().iter().map(|part| vec![(0.0, 0.0); part.len()]).collect();
        for (t, gradient) in (1..).zip(gradients) {
            let mut gradient = gradient.clone();
            let fallen = |updates: u64| match t as u64 > updates {
                true => 0.0,
                false => 0.5 + 0.5 * (std::f64::consts::PI * f64::from(t - 1) / updates as f64).cos(),
            };
            let rate = descent.rate * descent.cosine.map_or(1.0, fallen);
            for ((part, g), moments) in
                network.parts_mut().into_iter().zip(gradient.parts_mut()).zip(&mut moments)
            {
                for ((w, g), (m, v)) in part.iter_mut().zip(g).zip(moments) {
                    (*m, *v) = (0.9 * *m + 0.1 * *g, 0.999 * *v + 0.001 * *g * *g);
                    let (mean, square) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
                    *w -= rate * descent.decay * *w;
                    *w -= rate * mean / (square.sqrt() + 1e-8);
                }
            }
        }
    }

    fn in_f64(network: &Network<f32>) -> Network<f64> {
        let wide = |x: &f32| f64::from(*x);
        let layer = |l: &Layer<f32>| Layer { w: l.w.map(wide), b: l.b.map(wide) };
        Network { layers: network.layers.iter().map(layer).collect(), relu: network.relu }
    }

    #[test]
    fn a_step_on_every_path_equals_the_plain_network_and_all_give_the_same_bits() {
        for (genes, n, seed) in [(3, 1, 1), (8, 5, 2), (33, 7, 3), (130, 20, 4), (300, 9, 5)] {
            let with = |descent| shapes(genes).map(|shape| (shape, descent));
            for (shape, descent) in DESCENTS.into_iter().flat_map(with) {
                let cx = context(seed);
                let owned = random_cells(n, genes, seed);
                let view = owned.to_view();
                let cells = Cells::from_view(&view);
                let (sets, rows) = (Sets::new(&cells), (0..n).collect::<Vec<_>>());
                let network = Network::<f32>::random(&shape, &mut cx.stream(0));
                let run = |path: Path| {
                    let mut trainer = Trainer::new(&network, descent, path);
                    let mut batch = Batch::new(&sets, &rows, &shape);
                    trainer.forward(&mut [&mut batch], &cx);
                    let losses = batch.losses(&cx);
                    trainer.update(&batch, &cx);
                    trainer.settle(&cx);
                    (losses, trainer.weights.network())
                };
                let (losses, mut found) = run(Path::Portable);
                let batch = plain::Batch::<f64>::of(&cells, &rows);
                let (mut pass, mut gradient) = (Pass::new(n, genes), Network::zeros(&shape));
                let mut expected = in_f64(&network);
                let plain_losses = pass.forward(&expected, &batch);
                for (a, b) in losses.iter().zip(&plain_losses) {
                    assert!((f64::from(*a) - b).abs() < 1e-5, "{shape:?}: {a} and {b}");
                }
                pass.backward(&expected.clone(), &batch, &mut gradient);
                plain(&mut expected, std::slice::from_ref(&gradient), &descent);
                let parts = found.parts_mut().into_iter().zip(expected.parts_mut());
                for ((found, expected), gradient) in parts.zip(gradient.parts_mut()) {
                    // The first update is the rate times the gradient's sign: where that is hardly above 0, rounding
                    // decides.
                    for ((a, b), g) in found.iter().zip(expected).zip(gradient) {
                        assert!(
                            (f64::from(*a) - *b).abs() < 1e-5 || g.abs() < 1e-6,
                            "{shape:?}: {a} and {b}, gradient {g}"
                        );
                    }
                }
                for path in Path::available() {
                    assert_eq!(run(path), (losses.clone(), found.clone()), "{path:?}");
                }
            }
        }
    }

    #[test]
    fn cells_of_one_gene_teach_nothing() {
        let cx = context(6);
        let mut owned = OwnedCells::new((0..60).map(|j| format!("g{j}")).collect());
        for i in 0..20 {
            let row: Vec<f32> = (0..60).map(|j| if j == 3 * i { 0.7 } else { 0.0 }).collect();
            owned.push(format!("c{i}"), &row);
        }
        let view = owned.to_view();
        let (sets, shape) = (Sets::new(&Cells::from_view(&view)), Shape::linear(60, None));
        let network = Network::<f32>::random(&shape, &mut cx.stream(0));
        let mut trainer = Trainer::new(&network, DESCENTS[0], Path::chosen());
        let mut batch = Batch::new(&sets, &(0..20).collect::<Vec<_>>(), &shape);
        trainer.forward(&mut [&mut batch], &cx);
        assert_eq!(batch.losses(&cx), [0.0; 20]);
        trainer.update(&batch, &cx);
        trainer.settle(&cx);
        assert_eq!(trainer.weights.network(), network);
    }

    #[test]
    fn decay_alone_shrinks_each_weight_by_the_rate_of_its_update() {
        // Cells of one gene teach nothing: what is left of a weight is the product of what each update leaves.
        let cx = context(6);
        let mut owned = OwnedCells::new((0..60).map(|j| format!("g{j}")).collect());
        owned.push("one", &(0..60).map(|j| if j == 7 { 2.0 } else { 0.0 }).collect::<Vec<f32>>());
        let view = owned.to_view();
        let sets = Sets::new(&Cells::from_view(&view));
        for shape in shapes(60) {
            let network = Network::<f32>::random(&shape, &mut cx.stream(0));
            let mut trainer = Trainer::new(&network, DESCENTS[1], Path::chosen());
            let mut batch = Batch::new(&sets, &[0], &shape);
            for _ in 0..30 {
                trainer.forward(&mut [&mut batch], &cx);
                trainer.update(&batch, &cx);
            }
            trainer.settle(&cx);
            let rate = |t: i32| 0.005 * (1.0 + (std::f64::consts::PI * f64::from(t) / 20.0).cos());
            let left: f64 = (0..20).map(|t| 1.0 - 0.3 * rate(t)).product();
            let (mut expected, mut found) = (in_f64(&network), in_f64(&trainer.weights.network()));
            for (expected, found) in expected.parts_mut().into_iter().zip(found.parts_mut()) {
                for (w, found) in expected.iter().zip(found) {
                    assert!((w * left - *found).abs() < 1e-6, "{shape:?}: {w} to {found}, not {}", w * left);
                }
            }
        }
    }

    #[test]
    fn many_steps_follow_the_plain_network() {
        let with = |descent| shapes(20).map(|shape| (shape, descent));
        for (shape, descent) in DESCENTS.into_iter().flat_map(with) {
            let (n, steps) = (6, 30);
            let cx = context(9);
            let owned = random_cells(n, 20, 9);
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            let (sets, rows) = (Sets::new(&cells), (0..n).collect::<Vec<_>>());
            let network = Network::<f32>::random(&shape, &mut cx.stream(0));
            let mut trainer = Trainer::new(&network, descent, Path::chosen());
            let mut both = [Batch::new(&sets, &rows[..2], &shape), Batch::new(&sets, &rows, &shape)];
            let batch = plain::Batch::<f64>::of(&cells, &rows);
            let (mut pass, mut gradients) = (Pass::new(n, 20), vec![]);
            let start = in_f64(&network);
            for _ in 0..steps {
                let mut now = start.clone();
                plain(&mut now, &gradients, &descent);
                let [some, all] = &mut both;
                // Whether an update is pending or done changes nothing.
                let mut settled = trainer.clone();
                settled.settle(&cx);
                settled.forward(&mut [some, all], &cx);
                let again = all.losses(&cx);
                trainer.forward(&mut [some, all], &cx);
                assert_eq!(trainer.weights.network(), settled.weights.network());
                let expected = pass.forward(&now, &batch);
                let losses = all.losses(&cx);
                assert_eq!(losses, again);
                for (a, b) in losses.iter().zip(&expected) {
                    assert!((f64::from(*a) - b).abs() < 2e-3, "{shape:?}: {a} and {b}");
                }
                assert_eq!(some.losses(&cx), losses[..2], "cells do not depend on each other");
                let mut gradient = Network::zeros(&shape);
                pass.backward(&now, &batch, &mut gradient);
                gradients.push(gradient);
                trainer.update(all, &cx);
            }
        }
    }
}
