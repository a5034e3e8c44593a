//! What the refits of a model say of its values, gene by gene: how far they scatter, and how they would be by chance.

use crate::statistics::{PLAIN, adjusted};

/// Which values are strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// High ones.
    Upper,
    /// Low ones.
    Lower,
    /// Those far from 0.
    Both,
}

impl Tail {
    fn strength(self, value: f64) -> f64 {
        match self {
            Self::Upper => value,
            Self::Lower => -value,
            Self::Both => value.abs(),
        }
    }
}

/// Of each gene; NaN where it is not known.
pub struct Spread {
    /// Ends of the interval that holds what 95 % of refits to as many other cells would say.
    pub interval: Vec<(f64, f64)>,
    /// The share of refits without relations between genes, of this gene and of those like it, that say as much. None where
    /// these and the fit all say the same.
    pub p: Vec<f64>,
    /// Whether no such refit says as much: p is as small as it can be.
    pub least: Vec<bool>,
    /// Benjamini and Hochberg's, over the genes.
    pub fdr: Vec<f64>,
}

/// Fewer refits make no interval.
const FEWEST: usize = 5;
/// How many genes like it a gene is compared with: a twentieth of all, within these bounds.
const LIKE: (usize, usize) = (20, 50);

impl Spread {
    /// Of values (genes; NaN is none), of the same by refits on halves of the cells, and by null refits. `order` has the genes so that neighbours are alike.
    pub fn of(values: &[f64], (halves, null): (&[&[f64]], &[&[f64]]), order: &[usize], tail: Tail) -> Self {
        let t: Vec<f64> = (0..=halves.len() / 2).map(|freedom| PLAIN.t(freedom)).collect();
        let interval =
            (0..values.len()).map(|g| interval(values[g], halves.iter().map(|h| h[g]), &t)).collect();
        let told = by_likeness(values, order, (f64::NAN, false), |gene, like| {
            let pool = like.iter().flat_map(|&g| null.iter().map(move |n| n[g])).filter(|x| !x.is_nan());
            let strength = tail.strength(values[gene]);
            let (mut all, mut strong, mut same) = (0, 0, 0);
            for x in pool {
                all += 1;
                strong += usize::from(tail.strength(x) >= strength);
                same += usize::from(x == values[gene]);
            }
            let p = if same == all { f64::NAN } else { (1 + strong) as f64 / (1 + all) as f64 };
            (p, strong == 0 && all > 0)
        });
        let (p, least): (Vec<f64>, Vec<bool>) = told.into_iter().unzip();
        // A gene of which nothing can be told is one of the family all the same.
        let family: Vec<usize> = (0..p.len()).filter(|&g| !values[g].is_nan()).collect();
        let mut fdr = vec![f64::NAN; p.len()];
        let found =
            adjusted(&family.iter().map(|&g| if p[g].is_nan() { 1.0 } else { p[g] }).collect::<Vec<_>>());
        family.iter().zip(found).filter(|(g, _)| !p[**g].is_nan()).for_each(|(&g, x)| fdr[g] = x);
        Self { interval, p, least, fdr }
    }
}

/// The share of the genes like it, the gene itself among them, whose values are as strong; of each gene.
pub fn among_like(values: &[f64], order: &[usize], tail: Tail) -> Vec<f64> {
    by_likeness(values, order, f64::NAN, |gene, like| {
        let strong = |g: &&usize| tail.strength(values[**g]) >= tail.strength(values[gene]);
        like.iter().filter(strong).count() as f64 / like.len() as f64
    })
}

/// What is told of each gene that has a value, from the genes like it, itself among them.
fn by_likeness<T: Clone>(
    values: &[f64],
    order: &[usize],
    nothing: T,
    tell: impl Fn(usize, &[usize]) -> T,
) -> Vec<T> {
    let order: Vec<usize> = order.iter().copied().filter(|&g| !values[g].is_nan()).collect();
    let like = (order.len() / 20).clamp(LIKE.0, LIKE.1).min(order.len().saturating_sub(1));
    let mut told = vec![nothing; values.len()];
    for (at, &gene) in order.iter().enumerate() {
        let first = at.saturating_sub(like / 2).min(order.len() - 1 - like);
        told[gene] = tell(gene, &order[first..=first + like]);
    }
    told
}

/// The interval about a value for one further refit to as many other cells, from refits on halves of the cells.
///
/// The values of halves scatter about that of all cells as that of all cells does about the truth (a delete-half jackknife,
/// Shao & Wu 1989), and what chance beside the cells adds to a fit is in them once. A further refit scatters as much, so
/// that their difference is √2 as wide. The two halves of a draw mirror each other: half as many degrees of freedom.
/// `t` has Student's quantile for each number of these. Halves that all say exactly the same tell nothing of how far fits
/// scatter: as of a gene that too few cells of each half lack for a model to judge it.
fn interval(value: f64, halves: impl Iterator<Item = f64>, t: &[f64]) -> (f64, f64) {
    let halves: Vec<f64> = halves.filter(|x| !x.is_nan()).collect();
    if value.is_nan() || halves.len() < FEWEST || halves.iter().all(|x| *x == halves[0]) {
        return (f64::NAN, f64::NAN);
    }
    let n = halves.len() as f64;
    let mean = halves.iter().sum::<f64>() / n;
    let variance = halves.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let half = t[halves.len() / 2] * (2.0 * variance).sqrt();
    (value - half, value + half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::seeded_stream;
    use rand::RngExt;
    use rand::seq::SliceRandom;

    #[test]
    fn intervals_hold_the_mean_of_as_many_other_cells_as_often_as_they_say() {
        let mut stream = seeded_stream(3, 0);
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let t: Vec<f64> = (0..=10).map(|freedom| PLAIN.t(freedom)).collect();
        let trials = 2000;
        let inside = (0..trials)
            .filter(|_| {
                let [mut cells, others] =
                    [0, 1].map(|_| (0..60).map(|_| stream.random()).collect::<Vec<f64>>());
                let mut halves = vec![];
                for _ in 0..10 {
                    cells.shuffle(&mut stream);
                    halves.extend([mean(&cells[..30]), mean(&cells[30..])]);
                }
                let (low, high) = interval(mean(&cells), halves.into_iter(), &t);
                (low..=high).contains(&mean(&others))
            })
            .count();
        let coverage = f64::from(inside as u32) / f64::from(trials);
        assert!((0.935..=0.965).contains(&coverage), "{coverage}");
        assert!(interval(1.0, [1.0, 2.0, 3.0, 4.0].into_iter(), &t).0.is_nan());
        assert!(interval(1.0, [1.0; 20].into_iter(), &t).0.is_nan());
    }

    #[test]
    fn fits_that_all_say_the_same_make_no_interval_and_no_p_but_count_in_the_family() {
        // The first gene is refused by all fits, the second by halves only; the others are told apart.
        let values: Vec<f64> = (0..60).map(|g| if g == 0 { 0.0 } else { 100.0 + f64::from(g) }).collect();
        let half = |k: i32| (0..60).map(|g| f64::from(if g < 2 { 0 } else { k + g })).collect::<Vec<f64>>();
        let halves: Vec<Vec<f64>> = (0..6).map(half).collect();
        let nulls = vec![vec![0.0; 60]; 20];
        let [halves, nulls] = [&halves, &nulls].map(|f| f.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let order: Vec<usize> = (0..60).collect();
        let spread = Spread::of(&values, (&halves, &nulls), &order, Tail::Upper);
        let known = |x: f64| !x.is_nan();
        assert_eq!([0, 1, 2].map(|g| known(spread.interval[g].0)), [false, false, true]);
        assert_eq!([0, 1, 2].map(|g| known(spread.p[g])), [false, true, true]);
        assert_eq!([0, 1, 2].map(|g| spread.least[g]), [false, true, true]);
        assert!(spread.fdr[0].is_nan() && (spread.fdr[1] - spread.p[1] * 60.0 / 59.0).abs() < 1e-12);
    }

    #[test]
    fn p_is_uniform_by_chance_and_small_for_what_stands_out() {
        let mut stream = seeded_stream(4, 0);
        let genes = 400;
        // Genes differ in scale along the order.
        let scale = |g: usize| 1.0 + g as f64 / 100.0;
        let mut draw = || (0..genes).map(|g| scale(g) * stream.random::<f64>()).collect::<Vec<f64>>();
        let nulls: Vec<Vec<f64>> = (0..20).map(|_| draw()).collect();
        let nulls: Vec<&[f64]> = nulls.iter().map(Vec::as_slice).collect();
        let order: Vec<usize> = (0..genes).collect();
        let mut values = draw();
        values[7] = f64::NAN;
        let spread = Spread::of(&values, (&[], &nulls), &order, Tail::Upper);
        assert!(spread.p[7].is_nan() && spread.interval[0].0.is_nan());
        let mut p: Vec<f64> = spread.p.iter().copied().filter(|p| !p.is_nan()).collect();
        p.sort_by(f64::total_cmp);
        let n = p.len() as f64;
        let distance =
            p.iter().enumerate().map(|(i, p)| (p - (i as f64 + 0.5) / n).abs()).fold(0.0, f64::max);
        assert!(distance < 1.63 / n.sqrt(), "Kolmogorov–Smirnov {distance}");
        values[200] = 20.0;
        let spread = Spread::of(&values, (&[], &nulls), &order, Tail::Upper);
        assert!(spread.p[200] < 0.003 && spread.fdr[200] >= spread.p[200]);
        let lower: Vec<f64> = values.iter().map(|x| -x).collect();
        let opposite: Vec<Vec<f64>> = nulls.iter().map(|n| n.iter().map(|x| -x).collect()).collect();
        let opposite: Vec<&[f64]> = opposite.iter().map(Vec::as_slice).collect();
        let same = Spread::of(&lower, (&[], &opposite), &order, Tail::Lower);
        assert_eq!(same.p[200], spread.p[200]);
    }

    #[test]
    fn a_gene_is_compared_with_those_next_to_it() {
        // Sixty of each kind: a weak gene in the middle stands in the middle of its own.
        let value = |g: i32| f64::from(g) + if g < 60 { 0.0 } else { 1000.0 };
        let values: Vec<f64> = (0..120).map(value).collect();
        let order: Vec<usize> = (0..120).rev().collect();
        let shares = among_like(&values, &order, Tail::Upper);
        assert_eq!((shares[0], shares[45]), (1.0, 11.0 / 21.0));
        assert_eq!(among_like(&[1.0], &[0], Tail::Both), [1.0]);
        assert!(among_like(&[], &[], Tail::Both).is_empty());
    }
}
