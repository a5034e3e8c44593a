//! The simulator of communities, as the host calls it, and its steady states against an explicit integrator.

use super::*;
use lacuna_sdk::ndarray::{Array2, Axis};
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::serde_json::{Value, json};
use lacuna_sdk::testing::{self, context};

fn glv(parameters: Value) -> Result<Glv> {
    Glv::new(GlvConfig::parse(&parameters).map_err(Error::Parameters)?)
}

fn simulate(parameters: Value, seed: u64) -> Simulation<GlvTruth> {
    glv(parameters).unwrap().simulate(&context(seed)).unwrap()
}

fn error(parameters: Value) -> String {
    match glv(parameters).and_then(|glv| glv.simulate(&context(1)).map(drop)) {
        Err(Error::Parameters(message)) => message,
        other => panic!("expected an error, found {other:?}"),
    }
}

fn dense(cells: &OwnedCells) -> Array2<f32> {
    let view = cells.to_view();
    let cells = Cells::from_view(&view);
    let mut values = Array2::zeros((cells.len(), cells.n_genes()));
    for c in 0..cells.len() {
        for (&j, &value) in cells.assemblage(c).iter().zip(cells.values(c)) {
            values[[c, j as usize]] = value;
        }
    }
    values
}

/// The equations as they are written, integrated by Runge and Kutta's fixed steps.
struct Plain {
    growth: Vec<f64>,
    interactions: Vec<Vec<f64>>,
}

impl Plain {
    fn of(world: &World) -> Self {
        let n = world.network().len();
        let mut interactions = vec![vec![0.0; n]; n];
        (0..n).for_each(|i| interactions[i][i] = -1.0);
        for edge in world.network().edges() {
            interactions[edge.target as usize][edge.regulator as usize] = edge.signed_weight();
        }
        Self { growth: world.growth().to_vec(), interactions }
    }

    fn slope(&self, x: &[f64]) -> Vec<f64> {
        let growth =
            |i: usize| self.growth[i] + self.interactions[i].iter().zip(x).map(|(a, x)| a * x).sum::<f64>();
        (0..x.len()).map(|i| x[i] * growth(i)).collect()
    }

    fn integrate(&self, mut x: Vec<f64>) -> Vec<f64> {
        const H: f64 = 0.1;
        let ahead = |x: &[f64], slope: &[f64], h: f64| -> Vec<f64> {
            x.iter().zip(slope).map(|(x, s)| x + h * s).collect()
        };
        for _ in 0..20_000 {
            let a = self.slope(&x);
            let b = self.slope(&ahead(&x, &a, H / 2.0));
            let c = self.slope(&ahead(&x, &b, H / 2.0));
            let d = self.slope(&ahead(&x, &c, H));
            for i in 0..x.len() {
                x[i] += H / 6.0 * (a[i] + 2.0 * b[i] + 2.0 * c[i] + d[i]);
            }
        }
        x
    }
}

/// Strong interactions, so that species die out, but stable ones.
fn small(seed: u64, scale_free: bool) -> Simulation<GlvTruth> {
    let mut parameters =
        json!({"cells": 4, "genes": 14, "connectivity": 0.5, "strength": 0.22, "threshold": 0.0});
    if scale_free {
        parameters["topology"] = "scale-free".into();
    }
    simulate(parameters, seed)
}

/// A species that is hardly worse off than those that live takes long to vanish, as 1 / time.
fn assert_near(found: impl Iterator<Item = f64>, expected: &[f64], what: &str) {
    for (i, (found, expected)) in found.zip(expected).enumerate() {
        let near = if found == 0.0 { 1e-3 } else { 1e-4 };
        assert!((found - expected).abs() < near, "{what}: expected {expected} of species {i}, found {found}");
    }
}

#[test]
fn steady_states_and_knockouts_are_those_of_an_explicit_integrator_from_anywhere() {
    let mut died_out = [0, 0];
    for seed in 0..6 {
        let made = small(seed, seed % 2 == 1);
        let (world, plain, values) = (made.truth.world(), Plain::of(made.truth.world()), dense(&made.cells));
        let view = made.cells.to_view();
        let mut rng = context(seed).stream(77);
        for c in 0..2 {
            let (present, _) = world.assemblage(c);
            let mut start = vec![0.0; 14];
            present.iter().for_each(|&i| start[i as usize] = rng.random_range(0.05..2.0));
            let steady = plain.integrate(start);
            let cell = values.index_axis(Axis(0), c);
            assert_near(cell.iter().map(|&x| x.into()), &steady, &format!("world {seed}, cell {c}"));
            died_out[0] += present.iter().filter(|&&i| cell[i as usize] == 0.0).count();
            let living: Vec<u32> = (0..14).filter(|&i| cell[i as usize] > 0.0).collect();
            for lost in [&living[..1], &living[1..3], &living[2..5]] {
                let list = testing::knockouts(&[(c, lost)]);
                let found = testing::predict(&made.truth, &made.cells, &list).unwrap();
                let mut start: Vec<f64> = cell.iter().map(|&x| x.into()).collect();
                lost.iter().for_each(|&i| start[i as usize] = 0.0);
                let after = plain.integrate(start);
                let name = format!("world {seed}, cell {c} without {lost:?}");
                assert_near(found.row(0).iter().map(|&x| x.into()), &after, &name);
                died_out[1] += living.iter().filter(|i| found[[0, **i as usize]] == 0.0).count() - lost.len();
            }
        }
        assert_eq!(Cells::from_view(&view).len(), 4);
    }
    assert!(died_out[0] > 3 && died_out[1] > 0, "{died_out:?} species died out in cells and after knockouts");
}

#[test]
fn nobody_who_lives_grows_and_nobody_who_died_out_could_come_back() {
    for seed in 0..20 {
        let made = simulate(json!({"cells": 10, "genes": 60, "strength": 0.15, "threshold": 0.0}), seed);
        let (world, plain) = (made.truth.world(), Plain::of(made.truth.world()));
        for c in 0..10 {
            let (present, _) = world.assemblage(c);
            let community = world.settle(&present);
            assert!(community.settled);
            let mut x = vec![0.0; 60];
            community
                .species
                .iter()
                .enumerate()
                .for_each(|(i, &s)| x[s as usize] = community.balance.abundance(i));
            for &i in &present {
                let i = i as usize;
                let growth: f64 =
                    plain.growth[i] + plain.interactions[i].iter().zip(&x).map(|(a, x)| a * x).sum::<f64>();
                assert!(
                    if x[i] > 0.0 { growth.abs() < 1e-10 } else { growth < 1e-10 },
                    "{growth} at {}",
                    x[i]
                );
            }
        }
    }
}

#[test]
fn two_species_by_hand() {
    // x0 = r0 + a x1, x1 = r1: whoever is lost, the other goes to its growth rate, or a level of it.
    let mut seed = 0;
    let made = loop {
        let made = simulate(
            json!({"cells": 1, "genes": 2, "connectivity": 0.5, "strength": 0.4, "absence": 0, "growth_low": 1}),
            seed,
        );
        let edges = made.truth.world().network().edges().to_vec();
        if let [edge] = edges[..]
            && edge.target == 0
            && edge.represses
            && edge.weight < 0.4
        {
            break made;
        }
        seed += 1;
    };
    let (world, cell) = (made.truth.world(), dense(&made.cells));
    let a = world.network().edges()[0].signed_weight();
    assert!((f64::from(cell[[0, 0]]) - (1.0 + a)).abs() < 1e-6 && cell[[0, 1]] == 1.0);
    let list = testing::knockouts(&[(0, &[1]), (0, &[0]), (0, &[0, 1])]);
    let found = testing::predict(&made.truth, &made.cells, &list).unwrap();
    assert_eq!(found, lacuna_sdk::ndarray::array![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]);
    // Twice the growth of species 1.
    let mut out = [0.0; 2];
    assert!(world.settle(&[0, 1]).perturb(world, &[(1, 2.0)], &mut out));
    assert!((f64::from(out[0]) - (1.0 + 2.0 * a)).abs() < 1e-6 && (out[1] - 2.0).abs() < 1e-6, "{out:?}");
}

#[test]
fn one_column_of_the_table_tells_what_a_knockout_does_as_all_of_it_does() {
    let made = simulate(json!({"cells": 3, "genes": 50, "strength": 0.12}), 4);
    let world = made.truth.world();
    let community = world.settle(&world.assemblage(1).0);
    let mut quick = 0;
    for i in 0..community.species.len() {
        let mut slow = community.balance.clone();
        slow.lose(i);
        assert!(slow.settle());
        let Some(fast) = community.balance.without(i) else { continue };
        quick += 1;
        assert!(fast.iter().enumerate().all(|(k, x)| (x - slow.abundance(k)).abs() < 1e-10));
    }
    assert!(quick > 5);
}

#[test]
fn webs_have_the_connectivity_strength_and_hubs_asked_for() {
    let web = |parameters: Value| {
        let made = simulate(parameters, 3);
        let network = made.truth.world().network().clone();
        let most = (0..network.len()).map(|i| network.targets_of(i).len()).max().unwrap();
        (network, most)
    };
    let (even, most_even) = web(json!({"cells": 1, "genes": 300, "connectivity": 0.1, "strength": 0.05}));
    let (hubs, most_hubs) = web(
        json!({"cells": 1, "genes": 300, "connectivity": 0.1, "strength": 0.05, "topology": "scale-free"}),
    );
    for network in [&even, &hubs] {
        let edges = network.edges();
        assert!((edges.len() as f64 / (300.0 * 299.0) - 0.1).abs() < 0.01, "{}", edges.len());
        let spread = (edges.iter().map(|e| e.weight * e.weight).sum::<f64>() / edges.len() as f64).sqrt();
        assert!((spread - 0.05).abs() < 0.002, "{spread}");
        assert!(
            (edges.iter().filter(|e| e.represses).count() as f64 / edges.len() as f64 - 0.5).abs() < 0.03
        );
    }
    assert!(most_even < 60 && most_hubs > 200, "{most_even}, {most_hubs}");
}

#[test]
fn the_seed_decides_and_a_cell_does_not_depend_on_the_others() {
    let values =
        |cells: usize, seed| dense(&simulate(json!({"cells": cells, "library_size": 1000}), seed).cells);
    assert_eq!(values(30, 7), values(30, 7));
    assert_ne!(values(30, 7), values(30, 8));
    assert_eq!(values(10, 7), values(30, 7).slice_axis(Axis(0), (0..10).into()));
}

#[test]
fn a_saved_truth_is_the_same_and_damaged_bytes_are_refused() {
    let made =
        simulate(json!({"cells": 6, "topology": "scale-free", "gamma": 3.1, "strength": 0.02}), u64::MAX - 3);
    let bytes = made.truth.save().unwrap();
    let loaded = GlvTruth::load(&bytes).unwrap();
    assert_eq!(loaded.save().unwrap(), bytes);
    let list = testing::many_knockouts(&made.cells);
    let answers = |truth: &GlvTruth| testing::predict(truth, &made.cells, &list).unwrap();
    assert_eq!(answers(&made.truth), answers(&loaded));
    assert!((0..bytes.len()).step_by(13).all(|n| GlvTruth::load(&bytes[..n]).is_err()));
    let saved = Saved::from_bytes(&bytes).unwrap();
    let error = |saved: Saved| GlvTruth::load(&saved.to_bytes().unwrap()).err().unwrap();
    let draws = "saved by a version of this plugin that draws species in another way";
    assert_eq!(error(saved.clone().text("seed", "5")), Error::data(draws));
    let format = "expected the format `glv truth 1`, found `grn truth 1`";
    assert_eq!(error(saved.text("format", "grn truth 1")), Error::data(format));
}

#[test]
fn what_cannot_be_is_refused() {
    assert_eq!(error(json!({"gamma": 3.0})), "gamma: only the topology \"scale-free\" has an exponent");
    assert_eq!(
        error(json!({"growth_low": 2, "dispersion": 1})),
        "growth_high: expected at least growth_low = 2, found 1; dispersion: only counts have one; give \
         `library_size` too"
    );
    let strong = error(json!({"strength": 1.0}));
    let most: f64 = strong.strip_prefix("strength: expected at most ").unwrap()[..6].parse().unwrap();
    assert!(strong.ends_with("found 1; weaken the interactions, or lower `connectivity`"), "{strong}");
    // So strong it may be, and no stronger.
    assert!(glv(json!({"cells": 1, "strength": most - 1e-3})).unwrap().simulate(&context(1)).is_ok());
    error(json!({"cells": 1, "strength": most + 1e-3}));
    assert_eq!(error(json!({"genes": 1})), "genes: expected at least 2 and at most 4000, found 1");
}

#[test]
fn empty_communities_and_communities_of_strangers_are_no_panic() {
    let nobody = simulate(json!({"cells": 2, "absence": 1}), 1);
    assert_eq!(dense(&nobody.cells).sum(), 0.0);
    let made = simulate(json!({"cells": 2, "genes": 10}), 1);
    let cell = dense(&made.cells);
    let gone = (0..10).find(|&i| cell[[0, i]] == 0.0).unwrap() as u32;
    let list = testing::knockouts(&[(0, &[gone]), (0, &[])]);
    let found = testing::predict(&made.truth, &made.cells, &list).unwrap();
    assert_eq!((found.row(0), found.row(1)), (cell.row(0), cell.row(0)));
}
