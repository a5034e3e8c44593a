//! Metrics: scores as they are declared.

use super::bench::Bench;
use super::{Applies, Case, PASSED, calls, required, skipped, unless};
use crate::data::Knockouts;
use crate::plugin::{Metric, MetricInfo, Panel, Shape};
use crate::run::seeded_stream;
use anyhow::{Context, Result, bail, ensure};
use lacuna_abi::MatRef;
use rand::RngExt;

/// Scores that differ by less are the same.
const TOLERANCE: f64 = 1e-6;

pub const CASES: &[Case] = &[
    required("scores 0, 1 and many rows", |bench| {
        with_metric(bench, |bench, metric, info| {
            for n in [0, 1, 7] {
                let rows = Rows::of(bench, n);
                let scores = rows.score(bench, metric, info, false)?;
                let expected = if info.shape == Shape::Population { 1 } else { n };
                ensure!(scores.len() == expected, "{} scores for {n} rows", scores.len());
            }
            Ok(())
        })
    }),
    required("stays in its range", |bench| {
        with_metric(bench, |bench, metric, info| {
            let (low, high) = (info.low.unwrap_or(f64::NEG_INFINITY), info.high.unwrap_or(f64::INFINITY));
            for score in Rows::of(bench, 20).score(bench, metric, info, false)? {
                let fits = score.is_nan() || (low - 1e-9..=high + 1e-9).contains(&score);
                ensure!(fits, "it declares a range from {low} to {high}, and scored {score}");
            }
            Ok(())
        })
    }),
    required("has a score for profiles that differ", |bench| {
        with_metric(bench, |bench, metric, info| {
            let scores = Rows::of(bench, 20).score(bench, metric, info, false)?;
            ensure!(scores.iter().any(|score| !score.is_nan()), "it has no score for any of 20 pairs");
            Ok(())
        })
    }),
    required("gives its declared score for equal profiles", |bench| {
        with_metric(bench, |bench, metric, info| {
            let Some(identity) = info.identity else { return Ok(()) };
            let rows = Rows::of(bench, 9).equal();
            for score in rows.score(bench, metric, info, false)? {
                let fits = score.is_nan() || (score - identity).abs() < TOLERANCE;
                ensure!(fits, "it declares {identity} for equal profiles, and scored {score}");
            }
            Ok(())
        })
    }),
    required("scores equal profiles as no worse than different ones", direction),
    required("is symmetric if it says so", |bench| {
        with_metric(bench, |bench, metric, info| {
            if !info.symmetric {
                return Ok(());
            }
            let rows = Rows::of(bench, 9);
            let (one, other) =
                (rows.score(bench, metric, info, false)?, rows.score(bench, metric, info, true)?);
            for (a, b) in one.iter().zip(&other) {
                let fits = a.is_nan() && b.is_nan() || (a - b).abs() < TOLERANCE;
                ensure!(fits, "before and after exchanged: {a} becomes {b}");
            }
            Ok(())
        })
    }),
    required("scores numbers below 0, and on any scale, if it says so", |bench| {
        with_metric(bench, |bench, metric, info| {
            let rows = Rows::of(bench, 9);
            let even = 1.0 / rows.genes.max(1) as f32;
            let signed = |rows: Rows| match info.signed && info.shape == Shape::Row {
                true => rows.changed(|x| x - even, |x| x - even),
                false => rows,
            };
            let one = signed(Rows::of(bench, 9)).score(bench, metric, info, false)?;
            ensure!(
                one.iter().any(|s| !s.is_nan()),
                "it has no score for vectors of numbers above and below 0"
            );
            if info.scale_free {
                let scaled = signed(rows).changed(|x| x, |x| 4.0 * x).score(bench, metric, info, false)?;
                for (a, b) in one.iter().zip(&scaled) {
                    let same = a.is_nan() && b.is_nan() || (a - b).abs() < TOLERANCE;
                    ensure!(same, "it says that scale does not matter, and {a} becomes {b} with it");
                }
            }
            Ok(())
        })
    }),
    required("scores each row by itself", |bench| {
        match bench.component.metric_info().shape {
            Shape::Panel => return skipped("it scores panels"),
            Shape::Population => return skipped("it scores populations"),
            Shape::Row => {}
        }
        with_metric(bench, |bench, metric, info| {
            let rows = Rows::of(bench, 9);
            let together = rows.score(bench, metric, info, false)?;
            for (i, score) in together.iter().enumerate() {
                let alone = rows.only(&[i]).score(bench, metric, info, false)?[0];
                let same = alone.to_bits() == score.to_bits() || alone.is_nan() && score.is_nan();
                ensure!(same, "row {} scores {score} among others and {alone} alone", i + 1);
            }
            Ok(())
        })
    }),
    required("scores a population whatever the order of its cells", |bench| {
        if bench.component.metric_info().shape != Shape::Population {
            return skipped("it scores no populations");
        }
        with_metric(bench, |bench, metric, info| {
            let rows = Rows::of(bench, 9);
            let reversed: Vec<usize> = (0..9).rev().collect();
            let one = rows.score(bench, metric, info, false)?[0];
            let other = rows.only(&reversed).score(bench, metric, info, false)?[0];
            let same = one.is_nan() && other.is_nan() || (one - other).abs() < TOLERANCE;
            ensure!(same, "a population scores {one}, and {other} in another order");
            Ok(())
        })
    }),
    required("scores a panel whatever its order", |bench| {
        if bench.component.metric_info().shape != Shape::Panel {
            return skipped("it scores no panels");
        }
        with_metric(bench, |bench, metric, info| {
            let rows = Rows::of(bench, 9);
            let reversed: Vec<usize> = (0..9).rev().collect();
            let one = rows.score(bench, metric, info, false)?;
            let other = rows.only(&reversed).score(bench, metric, info, false)?;
            for (i, (a, b)) in one.iter().zip(other.iter().rev()).enumerate() {
                let same = a.is_nan() && b.is_nan() || (a - b).abs() < TOLERANCE;
                ensure!(same, "perturbation {} scores {a}, and {b} in another order", i + 1);
            }
            Ok(())
        })
    }),
    required("gives the same on 1 and 2 threads", |bench| {
        with_metric(bench, |bench, metric, info| {
            let rows = Rows::of(bench, 33);
            let one = bench.on_threads(1, || rows.score(bench, metric, info, false))??;
            let two = bench.on_threads(2, || rows.score(bench, metric, info, false))??;
            let bits = |scores: &[f64]| scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
            ensure!(bits(&one) == bits(&two), "its scores depend on the number of threads");
            Ok(())
        })
    }),
    calls::stops(|bench| with_rows(bench, |call| calls::cancel(bench, call))),
    calls::keeps_no_memory(|bench| with_rows(bench, |call| calls::repeat(bench, call))),
];

/// Hands over a call that scores as many rows as a screen asks for at once.
fn with_rows(
    bench: &Bench<'_>,
    body: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<Applies>,
) -> Result<Applies> {
    unless(why_not(bench), || {
        let (metric, info, rows) = (bench.metric()?, bench.component.metric_info(), Rows::of(bench, 512));
        body(&|| rows.score(bench, &metric, &info, false).map(drop))
    })
}

/// A row says nothing where one of its two scores has no value.
fn direction(bench: &Bench<'_>) -> Result<Applies> {
    let info = bench.component.metric_info();
    let worse: fn(f64, f64) -> bool = match info.direction.as_str() {
        "lower" => |equal, different| equal > different + TOLERANCE,
        "higher" => |equal, different| equal < different - TOLERANCE,
        "none" | "" => return skipped("it declares no direction"),
        other => bail!("it declares the direction `{other}`; expected lower, higher or none"),
    };
    unless(why_not(bench), || {
        let (metric, rows) = (bench.metric()?, Rows::of(bench, 20));
        let different = rows.score(bench, &metric, &info, false)?;
        let equal = rows.equal().score(bench, &metric, &info, false)?;
        let both = |(a, b): &(&f64, &f64)| !a.is_nan() && !b.is_nan();
        let pairs: Vec<(&f64, &f64)> = equal.iter().zip(&different).filter(both).collect();
        let mean = |of: fn(&(&f64, &f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        // In a panel another perturbation may be nearer by chance: there the means are compared.
        let compared = match info.shape {
            Shape::Panel if !pairs.is_empty() => vec![(mean(|p| *p.0), mean(|p| *p.1))],
            _ => pairs.iter().map(|(equal, different)| (**equal, **different)).collect(),
        };
        for (equal, different) in compared {
            ensure!(
                !worse(equal, different),
                "it declares that {} is better, and scored {equal} for equal profiles, {different} for different ones",
                info.direction
            );
        }
        if pairs.is_empty() { skipped("it has no score for equal profiles") } else { PASSED }
    })
}

/// Why the cases do not apply to a metric, if they do not.
fn why_not(bench: &Bench<'_>) -> Option<String> {
    let info = bench.component.metric_info();
    let given: &[&str] = match info.shape {
        Shape::Row => &["before", "after", "observed", "knockouts"],
        Shape::Population => &["before", "after"],
        Shape::Panel => &["before", "after", "panel", "observed", "controls"],
    };
    let missing = info.needs.iter().find(|part| !given.contains(&part.as_str()));
    missing.map(|part| format!("it needs {part}")).or_else(|| bench.needs_parameters())
}

fn with_metric(
    bench: &Bench<'_>,
    body: fn(&Bench<'_>, &Metric, &MetricInfo) -> Result<()>,
) -> Result<Applies> {
    unless(why_not(bench), || {
        body(bench, &bench.metric()?, &bench.component.metric_info())?;
        PASSED
    })
}

/// Profiles before and after knockouts, with what a metric may look at; of a panel, measured and predicted effects.
struct Rows {
    before: Vec<f32>,
    after: Vec<f32>,
    /// Of a panel: z of each gene, and the controls' mean.
    z: Vec<f32>,
    controls: Vec<f32>,
    knockouts: Knockouts,
    genes: usize,
}

/// Genes of a panel: enough that those that change are not too few to be scored.
const PANEL_GENES: usize = 120;

impl Rows {
    /// Cells without one of their genes, closed again, and a little changed.
    fn of(bench: &Bench<'_>, n: usize) -> Self {
        if bench.component.metric_info().shape == Shape::Panel {
            return Self::of_panel(bench.seed, n);
        }
        let (cells, genes) = (bench.cells, bench.cells.n_genes());
        let (mut before, mut after, mut knockouts) =
            (vec![0.0; n * genes], vec![0.0; n * genes], Knockouts::default());
        for i in 0..n {
            let cell = i % cells.len().max(1);
            let row = &mut before[i * genes..(i + 1) * genes];
            cells.write_profile(cell, row);
            let lost = cells.x.row(cell).0.first().copied().unwrap_or(0);
            knockouts.push(cell as u64, &[lost], &[0.0]);
            let changed = &mut after[i * genes..(i + 1) * genes];
            for (j, (out, p)) in changed.iter_mut().zip(row.iter()).enumerate() {
                *out = if j == lost as usize { 0.0 } else { p * (1.0 + 0.1 * (j % 3) as f32) };
            }
            let sum: f32 = changed.iter().sum();
            changed.iter_mut().filter(|_| sum > 0.0).for_each(|p| *p /= sum);
        }
        Self { before, after, z: vec![], controls: vec![], knockouts, genes }
    }

    /// Measured effects, predictions that know something of them, and z values that grow with the effects.
    fn of_panel(seed: u64, n: usize) -> Self {
        let genes = PANEL_GENES;
        let mut stream = seeded_stream(seed, 2);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| stream.random_range(-1.0..1.0f32)).collect() };
        let (mut before, noise, controls) = (draw(n * genes), draw(n * genes), draw(genes));
        let mut after: Vec<f32> = before.iter().zip(&noise).map(|(b, noise)| (b + noise) / 2.0).collect();
        let z = before.iter().map(|b| 6.0 * b).collect();
        let mut knockouts = Knockouts::default();
        for i in 0..n {
            let target = i % genes;
            knockouts.push_population(&[target as u32], &[0.0]);
            (before[i * genes + target], after[i * genes + target]) = (0.0, 0.0);
        }
        Self { before, after, z, controls, knockouts, genes }
    }

    fn equal(self) -> Self {
        Self { after: self.before.clone(), ..self }
    }

    fn changed(mut self, before: impl Fn(f32) -> f32, after: impl Fn(f32) -> f32) -> Self {
        self.before.iter_mut().for_each(|x| *x = before(*x));
        self.after.iter_mut().for_each(|x| *x = after(*x));
        self
    }

    fn only(&self, chosen: &[usize]) -> Self {
        let pick = |values: &[f32]| -> Vec<f32> {
            chosen.iter().flat_map(|i| values[i * self.genes..(i + 1) * self.genes].to_vec()).collect()
        };
        Self {
            before: pick(&self.before),
            after: pick(&self.after),
            z: if self.z.is_empty() { vec![] } else { pick(&self.z) },
            controls: self.controls.clone(),
            knockouts: self.knockouts.select(chosen.iter().copied()),
            genes: self.genes,
        }
    }

    fn score(
        &self,
        bench: &Bench<'_>,
        metric: &Metric,
        info: &MetricInfo,
        exchanged: bool,
    ) -> Result<Vec<f64>> {
        let n = self.knockouts.len();
        let matrix = |values| MatRef::from_rows(values, n, self.genes);
        let (mut before, mut after) = (matrix(&self.before), matrix(&self.after));
        if exchanged {
            std::mem::swap(&mut before, &mut after);
        }
        if info.shape == Shape::Panel {
            let panel = Panel {
                measured: before,
                predicted: after,
                targets: &self.knockouts,
                z: matrix(&self.z),
                controls: MatRef::from_rows(&self.controls, 1, self.genes),
            };
            return metric.score_panel(&bench.services(), panel).context("scoring");
        }
        if info.shape == Shape::Population {
            return Ok(vec![metric.score_population(&bench.services(), (before, after)).context("scoring")?]);
        }
        let observed = info.wants("observed").then(|| matrix(&self.before));
        let knockouts = info.wants("knockouts").then_some(&self.knockouts);
        metric.score_rows(&bench.services(), (before, after), observed, knockouts).context("scoring")
    }
}
