//! One suite for every runtime: kernels, training and screens against the processor. A runtime without a device is skipped
//! with a printed reason, unless LACUNA_REQUIRE names it.

use super::kernels::product::Then;
use super::kernels::{adam, loss, rows};
use super::matrix::{Matrix, multiply};
use super::runner::{Buffer, Runner};
use super::screening::Screener;
use super::training::Set;
use crate::MlpConfig;
use crate::device::{self, Accelerator, Device, Found, Screener as _};
use crate::fitted::FittedMlp;
use crate::fused::tests::{AGAINST, FORMULAS, cells, knockouts};
use crate::head::{Asked, Measure};
use crate::lanes::Path;
use crate::network::{Network, Shape};
use crate::plain::Batch;
use crate::plain::tests::{random_cells, shapes};
use crate::train::{Look, train};
use cubecl::Runtime;
use lacuna_sdk::ndarray::Array2;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::testing::{self, context};

/// Runs a test on each runtime that has a device.
macro_rules! on_each_runtime {
    ($($(#[$meta:meta])* fn $name:ident<R: Runtime>($on:ident: &Runner<R>) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn on<R: Runtime>($on: &Runner<R>) $body

            #[cfg(feature = "cuda")]
            #[test]
            fn cuda() {
                if is_there("cuda") {
                    on(&super::super::cuda::runner(0).unwrap());
                }
            }

            #[cfg(feature = "wgpu")]
            #[test]
            fn wgpu() {
                if is_there("wgpu") {
                    on(&super::super::wgpu::runner(0).unwrap());
                }
            }
        }
    )* };
}

/// Whether a runtime has a device.
fn is_there(runtime: &str) -> bool {
    let required = std::env::var("LACUNA_REQUIRE").unwrap_or_default();
    match device::found().into_iter().find(|found| found.runtime == runtime) {
        Some(Found { devices: Ok(_), .. }) => true,
        Some(Found { devices: Err(why), .. }) if required.split(',').any(|name| name == runtime) => {
            panic!("{runtime} is required: {why}")
        }
        Some(Found { devices: Err(why), .. }) => {
            println!("skipped: no {runtime} device: {why}");
            false
        }
        None => false,
    }
}

fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut stream = context(seed).stream(3);
    Array2::from_shape_fn((rows, columns), |_| stream.random_range(-1.0..1.0))
}

fn upload<R: Runtime>(on: &Runner<R>, numbers: &Array2<f32>) -> Buffer {
    on.upload(&numbers.iter().copied().collect::<Vec<f32>>())
}

fn assert_near(found: &[f32], expected: impl IntoIterator<Item = f32>, tolerance: f32, what: &str) {
    let expected: Vec<f32> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = (found - expected).abs() <= tolerance * (1.0 + expected.abs())
            || found.is_nan() && expected.is_nan();
        assert!(same, "{what}, {i}: {found}, expected {expected}");
    }
}

/// A fitted network, as the host would have it.
fn fitted(network: &Network<f32>) -> FittedMlp {
    FittedMlp::new((0..network.genes()).map(|j| format!("g{j}")).collect(), network.clone(), vec![])
}

fn fit(
    cells: [&OwnedCells; 2],
    config: &MlpConfig,
    device: Option<&dyn Accelerator>,
) -> (Network<f32>, Vec<Look>) {
    let (view, held) = (cells[0].to_view(), cells[1].to_view());
    let mut training = testing::training(Cells::from_view(&view));
    training.validation = Some(Cells::from_view(&held));
    match device {
        None => train(config, None, &training, &context(3)).unwrap(),
        Some(device) => {
            let shape = config.shape(training.cells.n_genes());
            let network = Network::random(&shape, &mut context(3).stream(0));
            device.train(config, &network, &training, &context(3)).unwrap()
        }
    }
}

/// Impacts by the device are those of the processor, for one measure.
fn compare<R: Runtime>(on: &Runner<R>, network: &Network<f32>, asked: Asked<'_>, f16: bool, what: &str) {
    let mut model = fitted(network);
    if f16 {
        model.halve();
    }
    let [mut expected, mut found] = [9.0, 8.0].map(|x| vec![x; asked.knockouts.len()]);
    model.impacts(asked, Path::chosen(), &mut expected, &context(0)).unwrap();
    // All at once, and in blocks of few knockouts.
    for bytes in [1 << 26, 600] {
        let screener = Screener::new(on.clone(), network, f16).unwrap().with_blocks(bytes);
        screener.impacts(asked, &mut found, &context(0)).unwrap();
        assert_near(&found, expected.iter().copied(), if f16 { 1e-4 } else { 1e-5 }, what);
        if asked.knockouts.len() > 1000 {
            break;
        }
    }
}

on_each_runtime! {
    fn products<R: Runtime>(on: &Runner<R>) {
        for (seed, (rows, columns, inner)) in
            (0..).zip([(1, 1, 1), (3, 5, 2), (17, 33, 20), (40, 70, 130), (65, 16, 3), (130, 1, 15)])
        {
            let (a, b, mask) = (random(rows, inner, seed), random(inner, columns, seed + 50), random(rows, columns, 9));
            let bias = random(1, columns, seed + 90);
            for (transposed, then) in [Then::Nothing, Then::Bias, Then::BiasRelu, Then::Mask]
                .into_iter()
                .flat_map(|then| [(false, then), (true, then)])
            {
                // Something stands before it.
                let lies = if transposed { b.t().as_standard_layout().into_owned() } else { b.clone() };
                let all: Vec<f32> = [7.0; 5].into_iter().chain(lies).chain(bias.iter().copied()).collect();
                let (all, out) = (on.upload(&all), on.room::<f32>(rows * columns));
                let matrix = Matrix { of: &all, layer: 5, bias: 5 + inner * columns, transposed };
                let mask_there = upload(on, &mask);
                let with = (then, (then == Then::Mask).then_some(&mask_there));
                multiply(on, &upload(on, &a), matrix, with, (rows, columns, inner), &out);
                let mut expected = a.dot(&b);
                match then {
                    Then::Nothing => (),
                    Then::Bias => expected += &bias,
                    Then::BiasRelu => expected = (expected + &bias).mapv(|x| x.max(0.0)),
                    Then::Mask => expected.zip_mut_with(&mask, |x, &m| *x = if m > 0.0 { *x } else { 0.0 }),
                }
                let what = format!("{rows} × {inner} × {columns}, {then:?}, transposed {transposed}");
                assert_near(&on.read::<f32>(&out).unwrap(), expected, 1e-5, &what);
            }
        }
    }

    fn updates<R: Runtime>(on: &Runner<R>) {
        for (cells, rows, columns) in [(1, 1, 1), (3, 5, 7), (20, 13, 40), (9, 4, 300)] {
            let (left, right) = (random(cells, rows, 1), random(cells, columns, 2));
            let (w, m) = (random(rows, columns, 3), random(rows, columns, 4));
            let v = random(rows, columns, 5).mapv(f32::abs);
            let [there_w, there_m, there_v] = [&w, &m, &v].map(|x| upload(on, x));
            let (cubes, units) = Runner::<R>::units(rows.div_ceil(adam::ROWS) * columns);
            adam::update::launch::<R>(
                on.client(), cubes, units, on.arg(&there_w), on.arg(&there_m), on.arg(&there_v),
                on.arg(&upload(on, &left)), on.arg(&upload(on, &right)), cells as u32, rows as u32, columns as u32, 0,
                0.02, 1.5, 0.99, false,
            );
            let g = left.t().dot(&right);
            let m = m * 0.9 + &g * 0.1;
            let v = v * 0.999 + (&g * &g) * 0.001;
            let w = w * 0.99 - &m / (v.mapv(f32::sqrt) * 1.5 + 1e-8) * 0.02;
            for (found, expected) in [(there_w, w), (there_m, m), (there_v, v)] {
                assert_near(&on.read::<f32>(&found).unwrap(), expected, 1e-5, &format!("{cells}, {rows} × {columns}"));
            }
        }
    }

    fn rows_are_made_dense_and_summed<R: Runtime>(on: &Runner<R>) {
        for (n, genes, units) in [(1, 1, 1), (3, 5, 7), (9, 33, 40), (40, 20, 300)] {
            let owned = random_cells(n, genes, 7);
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            // From the second place of a list on, in another order.
            let chosen: Vec<usize> = (0..n).rev().collect();
            let list: Vec<u32> = [99].into_iter().chain(chosen.iter().map(|&i| i as u32)).collect();
            let (set, list) = (Set::new(on, &cells), on.upload(&list));
            let [x, p] = [(); 2].map(|()| on.room::<f32>(n * genes));
            let (cubes, dim) = Runner::<R>::units(n * genes);
            rows::densify::launch::<R>(
                on.client(), cubes, dim, on.arg(&set.genes), on.arg(&set.shares), on.arg(&set.starts), on.arg(&list),
                on.arg(&x), on.arg(&p), 1, n as u32, genes as u32,
            );
            let batch = Batch::<f32>::of(&cells, &chosen);
            assert_near(&on.read::<f32>(&x).unwrap(), batch.x.clone(), 1e-7, "x");
            assert_near(&on.read::<f32>(&p).unwrap(), batch.p, 1e-7, "p");
            let (w, b) = (random(genes, units, 1), random(1, units, 2));
            let z = batch.x.mapv(|x| if x > 0.0 { 1.0 } else { 0.0f32 });
            let (closed, plain) = (batch.x.dot(&w) + &b, z.dot(&w));
            for (closed, relu, expected) in
                [(false, false, &plain), (true, false, &closed), (true, true, &closed.mapv(|x| x.max(0.0)))]
            {
                let all = on.upload(&[7.0; 3].into_iter().chain(w.iter().chain(&b).copied()).collect::<Vec<f32>>());
                let out = on.room::<f32>(n * units);
                let (cubes, dim) = Runner::<R>::units(n * units);
                rows::sum_rows::launch::<f32, R>(
                    on.client(), cubes, dim, on.arg(&all), on.arg(&set.genes), on.arg(&set.starts), on.arg(&list),
                    on.arg(&out), 1, n as u32, units as u32, 3, (3 + genes * units) as u32, closed, relu,
                );
                assert_near(&on.read::<f32>(&out).unwrap(), expected.clone(), 1e-5, &format!("{n}, {genes} × {units}"));
            }
        }
    }

    fn losses_and_gradients_equal_finite_differences<R: Runtime>(on: &Runner<R>) {
        for (n, genes) in [(2, 1), (3, 5), (9, 33), (20, 300)] {
            let owned = random_cells(n, genes, 5);
            let view = owned.to_view();
            let batch = Batch::<f64>::of(&Cells::from_view(&view), &(0..n).collect::<Vec<usize>>());
            let mut h = random(n, genes, 8);
            h.row_mut(0).fill(0.0); // Nothing comes out for one cell.
            let loss = |h: &[f64], cell: usize| {
                let (x, p) = (batch.x.row(cell), batch.p.row(cell));
                let out: Vec<f64> = h.iter().zip(x).map(|(h, &x)| if x > 0.0 { h.abs() } else { 0.0 }).collect();
                let sum: f64 = out.iter().sum();
                let q = out.iter().map(|a| if sum > 0.0 { a / sum } else { 0.0 });
                let (mut difference, mut total) = (0.0, 0.0);
                for (q, p) in q.zip(p) {
                    (difference, total) = (difference + (q - p).abs(), total + q + p);
                }
                difference / total
            };
            let [x, p] = [&batch.x, &batch.p].map(|list| upload(on, &list.mapv(|x| x as f32)));
            let (d, losses, by) = (on.room::<f32>(n * genes), on.room::<f32>(n), on.teams());
            let (cubes, dim) = Runner::<R>::rows(n, by);
            loss::losses::launch::<R>(
                on.client(), cubes, dim, on.arg(&upload(on, &h)), on.arg(&x), on.arg(&p), on.arg(&d), on.arg(&losses),
                n as u32, genes as u32, true, by.units, by.teams, by.plane,
            );
            let (d, losses) = (on.read::<f32>(&d).unwrap(), on.read::<f32>(&losses).unwrap());
            for cell in 0..n {
                let row: Vec<f64> = h.row(cell).iter().map(|&h| f64::from(h)).collect();
                assert_near(&losses[cell..=cell], [loss(&row, cell) as f32], 1e-6, "loss");
                for gene in 0..genes {
                    let at = |step: f64| {
                        let mut row = row.clone();
                        row[gene] += step;
                        loss(&row, cell)
                    };
                    let expected = if cell == 0 { 0.0 } else { (at(1e-7) - at(-1e-7)) / 2e-7 };
                    let found = f64::from(d[cell * genes + gene]);
                    assert!((found - expected).abs() < 1e-5, "cell {cell}, gene {gene}: {found}, expected {expected}");
                }
            }
        }
    }

    fn few_steps_lead_to_the_weights_of_the_processor<R: Runtime>(on: &Runner<R>) {
        for genes in [1, 7, 40] {
            for shape in shapes(genes) {
                let (rank, hidden) = match shape.relu {
                    true => (None, shape.widths[1..shape.widths.len() - 1].to_vec()),
                    false => (Some(shape.widths[1]), vec![]),
                };
                let config = MlpConfig { steps: 3, minibatch: 9, rank, hidden, weight_decay: 0.3, ..MlpConfig::default() };
                let (cells, held) = (random_cells(30, genes, 1), random_cells(11, genes, 2));
                let (expected, history) = fit([&cells, &held], &config, None);
                let (found, looks) = fit([&cells, &held], &config, Some(on));
                for (expected, found) in expected.layers.iter().zip(&found.layers) {
                    let found: Vec<f32> = found.w.iter().chain(&found.b).copied().collect();
                    let expected = expected.w.iter().chain(&expected.b).copied();
                    assert_near(&found, expected, 2e-4, &format!("{shape:?}"));
                }
                for (expected, found) in history.iter().zip(&looks) {
                    assert_eq!(expected.step, found.step);
                    let near = |a: f64, b: f64| (a - b).abs() < 1e-4;
                    let same = near(expected.training, found.training) && near(expected.validation, found.validation);
                    assert!(same, "{shape:?}: {expected:?} {found:?}");
                }
                assert_eq!(history.len(), looks.len());
            }
        }
    }

    fn a_training_reaches_the_loss_of_the_processor<R: Runtime>(on: &Runner<R>) {
        let lowest = |looks: &[Look]| looks.iter().map(|l| l.validation).fold(1.0, f64::min);
        let (cells, held) = (random_cells(60, 12, 1), random_cells(20, 12, 2));
        for (rank, hidden) in [(None, vec![]), (None, vec![16])] {
            let config = MlpConfig { steps: 300, rank, hidden, learning_rate: 0.003, ..MlpConfig::default() };
            let (_, expected) = fit([&cells, &held], &config, None);
            let (network, found) = fit([&cells, &held], &config, Some(on));
            let (expected, found) = (lowest(&expected), lowest(&found));
            assert!((expected - found).abs() < 1e-3, "{expected} {found}");
            // These are the best weights: the processor sees the same loss by them.
            let none = MlpConfig { steps: 1, learning_rate: 1e-30, ..config };
            let view = cells.to_view();
            let held = held.to_view();
            let mut training = testing::training(Cells::from_view(&view));
            training.validation = Some(Cells::from_view(&held));
            let again = train(&none, Some(network), &training, &context(3)).unwrap().1[0].validation;
            assert!((again - found).abs() < 1e-5, "{again} {found}");
        }
    }

    fn patience_and_rare_looks_are_those_of_the_processor<R: Runtime>(on: &Runner<R>) {
        let (cells, held) = (random_cells(30, 8, 1), random_cells(10, 8, 2));
        let config = MlpConfig { steps: 40, validate_every: 7, ..MlpConfig::default() };
        let steps = |looks: &[Look]| looks.iter().map(|look| look.step).collect::<Vec<u64>>();
        let looks = fit([&cells, &held], &config, Some(on)).1;
        assert_eq!(steps(&looks), [0, 7, 14, 21, 28, 35, 39]);
        let config = MlpConfig { steps: 2000, patience: Some(5), ..MlpConfig::default() };
        let looks = fit([&cells, &held], &config, Some(on)).1;
        let best = looks.iter().rposition(|l| looks.iter().all(|other| l.validation <= other.validation)).unwrap();
        assert_eq!(looks.len(), best + 6, "{:?}", &looks[best..]);
    }

    fn validation_cells_in_blocks_are_all_seen<R: Runtime>(on: &Runner<R>) {
        let (cells, held) = (random_cells(5, 4, 1), random_cells(1100, 4, 2));
        let config = MlpConfig { steps: 3, ..MlpConfig::default() };
        let (_, expected) = fit([&cells, &held], &config, None);
        let (_, found) = fit([&cells, &held], &config, Some(on));
        assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.iter().zip(&found) {
            assert!((expected.validation - found.validation).abs() < 1e-5, "{expected:?} {found:?}");
        }
    }

    fn a_training_that_diverges_is_an_error<R: Runtime>(on: &Runner<R>) {
        let cells = random_cells(30, 8, 1);
        let view = cells.to_view();
        let training = testing::training(Cells::from_view(&view));
        let config = MlpConfig { steps: 60, learning_rate: 1e37, ..MlpConfig::default() };
        let network = Network::random(&config.shape(8), &mut context(3).stream(0));
        let error = on.train(&config, &network, &training, &context(3)).unwrap_err();
        assert!(format!("{error:?}").contains("lower `learning_rate`"), "{error:?}");
    }

    fn screens_are_those_of_the_processor<R: Runtime>(on: &Runner<R>) {
        for (genes, seed) in [(3, 1), (37, 3), (130, 5)] {
            let owned = cells(genes, seed);
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            let list = knockouts(&cells);
            for shape in shapes(genes) {
                let network = Network::random(&shape, &mut context(seed).stream(0));
                // Each measure is a kernel of its own, which takes a device long to compile.
                let all = genes == 37 && matches!(shape.widths[..], [_, 37, _] | [_, 18, _]);
                let measures = FORMULAS.iter().flat_map(|f| AGAINST.iter().map(move |a| (*f, *a)));
                for (formula, against) in measures.filter(|m| all || *m == ("keystoneness", "observed-null")) {
                    for anchor in [None, Some(0.1)] {
                        let mut screen = testing::screen(cells, list.as_knockouts(), formula, against);
                        screen.anchor = anchor;
                        let measure = Measure::of(&screen).unwrap();
                        let asked = Asked { cells: &screen.cells, knockouts: &screen.knockouts, measure };
                        let what = format!("{shape:?}, {formula} against {against}, {anchor:?}");
                        compare(on, &network, asked, false, &what);
                        if !shape.relu && on.knows_f16() && formula == "bray-curtis" {
                            compare(on, &network, asked, true, &format!("f16, {what}"));
                        }
                    }
                }
            }
        }
    }

    fn cells_of_thousands_of_genes_are_screened_in_pieces<R: Runtime>(on: &Runner<R>) {
        let genes = 2500;
        let owned = random_cells(2, genes, 4);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let mut list = KnockoutList::new();
        for cell in 0..2 {
            cells.assemblage(cell).iter().step_by(97).for_each(|&gene| list.push(cell, &[gene]));
        }
        let knockouts = list.as_knockouts();
        for shape in [Shape::linear(genes, Some(5)), Shape::deep(genes, &[70])] {
            let network = Network::random(&shape, &mut context(1).stream(0));
            let asked = Asked { cells: &cells, knockouts: &knockouts, measure: Measure::excess(genes) };
            compare(on, &network, asked, false, &format!("{shape:?}"));
        }
    }

    fn more_knockouts_than_cubes_along_an_axis<R: Runtime>(on: &Runner<R>) {
        let owned = random_cells(3, 4, 4);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let mut list = KnockoutList::new();
        for cell in 0..3 {
            let genes = cells.assemblage(cell);
            // 2¹⁵ cubes lie along an axis: more than 65,535 of them where a team is a cube, with up to eight pairs.
            (0..180_000).for_each(|i| list.push(cell, &[genes[i % genes.len()]]));
        }
        let knockouts = list.as_knockouts();
        for shape in [Shape::linear(4, None), Shape::deep(4, &[3])] {
            let network = Network::random(&shape, &mut context(1).stream(0));
            let asked = Asked { cells: &cells, knockouts: &knockouts, measure: Measure::excess(4) };
            compare(on, &network, asked, false, &format!("{shape:?}"));
        }
    }

    fn what_does_not_fit_is_an_error_with_the_sizes<R: Runtime>(on: &Runner<R>) {
        let most = on.client().properties().memory.max_page_size;
        let most = most.min(4 * u64::from(u32::MAX));
        let error = format!("{:?}", on.check_room("the network", &[1, most / 4 + 1]).unwrap_err());
        let sizes = format!("{} MB in one list, and the device allows {} MB", (most >> 20) + 1, most.div_ceil(1 << 20));
        assert!(error.contains(&sizes), "{error}");
        let small = Runner::new(on.client().clone(), Some(1 << 20));
        let cells = random_cells(30, 300, 1);
        let view = cells.to_view();
        let training = testing::training(Cells::from_view(&view));
        let config = MlpConfig::default();
        let network = Network::random(&config.shape(300), &mut context(3).stream(0));
        let error = format!("{:?}", small.train(&config, &network, &training, &context(3)).unwrap_err());
        assert!(error.contains("the training takes 3 MB, and the device has 1 MB to give: take fewer genes"), "{error}");
    }

    fn nothing_asked_is_nothing_answered<R: Runtime>(on: &Runner<R>) {
        let owned = random_cells(3, 4, 4);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let list = KnockoutList::new();
        let network = Network::random(&Shape::linear(4, None), &mut context(1).stream(0));
        let knockouts = list.as_knockouts();
        let asked = Asked { cells: &cells, knockouts: &knockouts, measure: Measure::excess(4) };
        compare(on, &network, asked, false, "nothing");
    }

    fn threads_may_screen_at_once<R: Runtime>(on: &Runner<R>) {
        let owned = random_cells(8, 50, 4);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let network = Network::random(&Shape::linear(50, None), &mut context(1).stream(0));
        let list = knockouts(&cells);
        let asked = list.as_knockouts();
        let screener = on.screener(&network, false).unwrap();
        let run = || {
            let mut impacts = vec![0.0; asked.len()];
            let asked = Asked { cells: &cells, knockouts: &asked, measure: Measure::excess(50) };
            screener.impacts(asked, &mut impacts, &context(0)).unwrap();
            impacts.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        let alone = run();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), alone));
        });
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_there_is() {
    for (device, name) in [(Device::Cuda, "cuda"), (Device::Wgpu, "wgpu")] {
        let error = format!("{:?}", device::open(device, 999).err().unwrap());
        let found =
            device::found().into_iter().find(|found| found.runtime == name).map(|found| found.devices);
        let expected = match found {
            None => "is not in this build".to_string(),
            Some(Err(why)) => why,
            Some(Ok(devices)) => format!("expected 0 to {}, found 999", devices.len() - 1),
        };
        assert!(error.contains(&expected), "{error}");
    }
    assert!(device::open(Device::Auto, 999).unwrap().is_none());
}
