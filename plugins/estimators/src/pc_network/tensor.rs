//! What several networks share.

use crate::solve::inverse;
use lacuna_sdk::ndarray::{Array2, Axis};
use lacuna_sdk::prelude::*;
use lacuna_sdk::rand::RngExt;

/// As scTenifoldNet ends.
const MOST_ITERATIONS: usize = 1000;
/// Of the mean of the diagonal: keeps an inverse finite where networks have less than the rank.
const RIDGE: f64 = 1e-12;

/// The mean over networks of their approximation by a tensor of low rank, Σ_r u_r ⊗ v_r ⊗ w_r, where w_r has one
/// number for each network: alternating least squares (CANDECOMP/PARAFAC), from random factors, until the length of what is
/// left changes by less than `tolerance` of the length of all.
pub fn shared(networks: &[Array2<f32>], rank: usize, tolerance: f64, cx: &Context) -> Result<Array2<f32>> {
    let genes = networks[0].nrows();
    let squares: f64 = networks.iter().flatten().map(|&edge| f64::from(edge) * f64::from(edge)).sum();
    if squares == 0.0 {
        return Ok(Array2::zeros((genes, genes)));
    }
    let mut stream = cx.stream(networks.len() as u64);
    let mut factors = [genes, genes, networks.len()]
        .map(|rows| Array2::from_shape_fn((rows, rank), |_| stream.random_range(-1.0..1.0)));
    let mut before = f64::INFINITY;
    for iteration in 1..MOST_ITERATIONS {
        cx.check()?;
        cx.progress(iteration as u64, 0, "iterations");
        let mut inner = 0.0;
        for mode in 0..3 {
            let along = along(networks, &factors, mode, cx);
            let others = [0, 1, 2].into_iter().filter(|&other| other != mode);
            let mut gram = others
                .map(|i| factors[i].t().dot(&factors[i]))
                .fold(Array2::ones((rank, rank)), |a, b| a * b);
            let ridge = RIDGE * gram.diag().mean().unwrap_or(0.0);
            gram.diag_mut().mapv_inplace(|x| x + ridge);
            let mut solved = along.dot(&inverse(&gram));
            inner = (&solved * &along).sum();
            // Scale goes to the last factor.
            if mode < 2 {
                let sizes =
                    solved.mapv(f64::abs).sum_axis(Axis(0)).mapv(|size| if size > 0.0 { size } else { 1.0 });
                solved /= &sizes;
            }
            factors[mode] = solved;
        }
        if factors.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::failed("the networks' tensor does not converge; a smaller `rank` may"));
        }
        let grams = factors.each_ref().map(|factor| factor.t().dot(factor));
        let estimated = (&grams[0] * &grams[1] * &grams[2]).sum();
        let left = (squares - 2.0 * inner + estimated).max(0.0).sqrt();
        if (left - before).abs() < tolerance * squares.sqrt() {
            break;
        }
        before = left;
    }
    let [one, other, weights] = &factors;
    let means = weights.mean_axis(Axis(0)).unwrap_or_default();
    Ok((one * &means).dot(&other.t()).mapv(|edge| edge as f32))
}

/// Σ of the networks times the factors of the two other modes, shape (rows of this mode's factor, rank).
fn along(networks: &[Array2<f32>], factors: &[Array2<f64>; 3], mode: usize, cx: &Context) -> Array2<f64> {
    let [one, other, weights] = factors;
    let right = if mode == 1 { one } else { other }.mapv(|x| x as f32);
    let products = cx.parallel_map(networks.len(), |i| {
        let network = if mode == 1 { networks[i].t() } else { networks[i].view() };
        network.dot(&right).mapv(f64::from)
    });
    let mut sums = Array2::zeros(factors[mode].dim());
    for (i, product) in products.iter().enumerate() {
        if mode == 2 {
            sums.row_mut(i).assign(&(one * product).sum_axis(Axis(0)));
        } else {
            sums += &(product * &weights.row(i));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    fn random(rows: usize, rank: usize, seed: u64) -> Array2<f64> {
        let mut stream = testing::context(seed).stream(0);
        Array2::from_shape_fn((rows, rank), |_| stream.random_range(-1.0..1.0))
    }

    /// Networks of rank 2, with these weights of the two parts in each.
    fn networks(n: usize) -> (Vec<Array2<f32>>, Array2<f64>) {
        let (u, v, w) = (random(12, 2, 1), random(12, 2, 2), random(n, 2, 3) + 2.0);
        let network = |i: usize| (&u * &w.row(i)).dot(&v.t());
        let mean = (&u * &w.mean_axis(Axis(0)).unwrap()).dot(&v.t());
        ((0..n).map(|i| network(i).mapv(|edge| edge as f32)).collect(), mean)
    }

    #[test]
    fn networks_of_low_rank_are_found_again_also_with_a_larger_one() {
        let (networks, mean) = networks(5);
        for rank in [2, 4] {
            let found = shared(&networks, rank, 1e-9, &testing::context(4)).unwrap();
            let most = found.iter().zip(&mean).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(most < 1e-3, "{rank}: {most}");
        }
    }

    #[test]
    fn what_only_one_network_has_is_left_out() {
        let (mut networks, mean) = networks(10);
        let mut stream = testing::context(7).stream(1);
        networks.iter_mut().flatten().for_each(|edge| *edge += stream.random_range(-0.5..0.5f32));
        let apart = |found: &Array2<f64>| (found - &mean).mapv(|x| x * x).sum();
        let plain =
            networks.iter().fold(Array2::zeros((12, 12)), |sum, network| sum + network.mapv(f64::from))
                / 10.0;
        let found = shared(&networks, 2, 1e-6, &testing::context(4)).unwrap().mapv(f64::from);
        assert!(apart(&found) < 0.5 * apart(&plain), "{} {}", apart(&found), apart(&plain));
    }

    #[test]
    fn agrees_with_sctenifoldpy_on_the_same_networks() {
        let table = |text: &str| {
            let values: Vec<f64> =
                text.lines().flat_map(|line| line.split(',')).map(|value| value.parse().unwrap()).collect();
            Array2::from_shape_vec((15, 15), values).unwrap()
        };
        let networks = [
            include_str!("../../../../tests/fixtures/pc-network/drawn-0.csv"),
            include_str!("../../../../tests/fixtures/pc-network/drawn-1.csv"),
            include_str!("../../../../tests/fixtures/pc-network/drawn-2.csv"),
            include_str!("../../../../tests/fixtures/pc-network/drawn-3.csv"),
        ]
        .map(|text| table(text).mapv(|edge| edge as f32));
        let expected = table(include_str!("../../../../tests/fixtures/pc-network/shared.csv"));
        // From whichever factors it starts. Theirs is divided by the largest edge.
        for seed in 1..4 {
            let found = shared(&networks, 2, 1e-13, &testing::context(seed)).unwrap();
            let most = found.iter().fold(0.0f32, |most, edge| most.max(edge.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (f64::from(found / most) - expected).abs() < 1e-4,
                    "{seed}: {expected}, found {found}"
                );
            }
        }
    }

    #[test]
    fn nothing_stays_nothing() {
        let found = shared(&vec![Array2::zeros((3, 3)); 4], 3, 1e-5, &testing::context(1)).unwrap();
        assert!(found.iter().all(|&edge| edge == 0.0));
    }
}
