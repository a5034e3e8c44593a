//! Models: answers of the right shape, saved and loaded the same, whoever asks and on however many threads.

use super::bench::{Bench, test_cells};
use super::{Applies, Case, PASSED, calls, is_plain, required, skipped, unless};
use crate::data::{Cells, Knockouts};
use crate::plugin::{Answers, Fitted, Lesson, Levels, Training};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;

pub const CASES: &[Case] = &[
    required("answers 0, 1 and many knockouts with finite shares or scores", |bench| {
        with_model(bench, |bench, fitted| {
            let all = bench.questions();
            for rows in [0..0, 0..1, 1..2, 0..all.len()] {
                let knockouts = all.select(rows);
                let found = bench.predict(fitted, bench.cells, &knockouts)?;
                if bench.component.model_info().answers != Answers::GeneScores {
                    closed(&found, &knockouts, bench.cells)?;
                }
            }
            Ok(())
        })
    }),
    required("answers each knockout by itself", |bench| {
        with_model(bench, |bench, fitted| {
            let (all, genes) = (bench.questions(), bench.cells.n_genes());
            let together = bench.predict(fitted, bench.cells, &all)?;
            for i in (0..all.len()).step_by(5) {
                let alone = bench.predict(fitted, bench.cells, &all.select([i]))?;
                let same = alone.iter().zip(&together[i * genes..]).all(|(a, b)| (a - b).abs() < 1e-5);
                ensure!(same, "the answer for knockout {} depends on what else is asked", i + 1);
            }
            Ok(())
        })
    }),
    required("is the same after it was saved and loaded", |bench| {
        with_model(bench, |bench, fitted| {
            let bytes = fitted.save(&bench.services()).context("saving")?;
            let again = bench.model()?.load(&bench.services(), &bytes).context("loading")?;
            same_answers(bench, fitted, &again, "the loaded model answers otherwise")?;
            let twice = again.save(&bench.services()).context("saving the loaded model")?;
            ensure!(twice == bytes, "the loaded model is saved as other bytes");
            Ok(())
        })
    }),
    required("refuses to load what is no model of its own", |bench| {
        with_model(bench, |bench, fitted| {
            let bytes = fitted.save(&bench.services())?;
            for wrong in [&[][..], b"no model", &bytes[..bytes.len() / 2]] {
                match bench.model()?.load(&bench.services(), wrong) {
                    Ok(_) => anyhow::bail!("{} bytes that are no model are loaded", wrong.len()),
                    Err(error) => is_plain(error)?,
                }
            }
            Ok(())
        })
    }),
    required("learns the same from the same seed, on 1 and 2 threads", |bench| {
        with_model(bench, |bench, _| {
            let fit = |threads| bench.on_threads(threads, || bench.fitted());
            let (one, two) = (fit(1)??, fit(2)??);
            if bench.component.model_info().varies {
                return alike(bench, &one, &two);
            }
            let saved = |fitted: &Fitted| fitted.save(&bench.services());
            ensure!(saved(&one)? == saved(&two)?, "the same training gave another model");
            Ok(())
        })
    }),
    required("goes on from a fitted model if it says so", goes_on),
    required("says an error of cells that it cannot learn from", |bench| {
        with_model(bench, |bench, _| {
            let silent = Cells { x: crate::data::Csr::empty(3), ..test_cells(0, 3, bench.seed) };
            for cells in [silent, test_cells(1, 1, bench.seed), test_cells(2, 3, bench.seed)] {
                // Labels that it needs may be there or not.
                for train in [Lesson::of(Arc::new(cells.clone())), bench.lesson(cells)] {
                    let training = Training { train: &train, validation: None };
                    bench.model()?.fit(&bench.services(), &training).map(drop).or_else(is_plain)?;
                }
            }
            Ok(())
        })
    }),
    required("answers any level if it says so, and level 1 as no knockout", any_level),
    required("screens as it predicts", fused_equals_generic),
    calls::stops(|bench| unless(why_not(bench), || calls::cancel(bench, || bench.fitted().map(drop)))),
    calls::keeps_no_memory(|bench| {
        unless(why_not(bench), || {
            let (fitted, all) = (bench.fitted()?, bench.questions());
            calls::repeat(bench, || bench.predict(&fitted, bench.cells, &all).map(drop))
        })
    }),
];

/// Why the cases do not apply to a model, if they do not.
fn why_not(bench: &Bench<'_>) -> Option<String> {
    let info = bench.component.model_info();
    if info.answers == Answers::Samples {
        return Some("it answers with samples, which no step asks for".into());
    }
    bench.needs_parameters()
}

fn with_model(bench: &Bench<'_>, body: fn(&Bench<'_>, &Fitted) -> Result<()>) -> Result<Applies> {
    unless(why_not(bench), || {
        body(bench, &bench.fitted().context("fitting")?)?;
        PASSED
    })
}

/// The host has checked that all values are finite and not negative, and has closed what is not declared to be. The
/// shares of a cell as it is sum to 1, if it expresses a gene; those after a knockout to 1 at most, as a removed share
/// may be missing.
pub fn closed(rows: &[f32], knockouts: &Knockouts, cells: &Cells) -> Result<()> {
    for (i, row) in rows.chunks_exact(cells.n_genes().max(1)).enumerate() {
        let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
        let silent = knockouts.cell.get(i).is_some_and(|&cell| cells.x.range(cell as usize).is_empty());
        let whole = knockouts.genes(i).is_empty() && !silent;
        let fits = if whole { (sum - 1.0).abs() < 1e-3 } else { sum < 1.001 };
        ensure!(fits, "the shares of answer {} sum to {sum}", i + 1);
    }
    Ok(())
}

/// That two models answer with the same bits.
pub fn same_answers(bench: &Bench<'_>, one: &Fitted, other: &Fitted, problem: &str) -> Result<()> {
    let all = bench.questions();
    let (a, b) = (bench.predict(one, bench.cells, &all)?, bench.predict(other, bench.cells, &all)?);
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    ensure!(bits(&a) == bits(&b), "{problem}");
    Ok(())
}

/// From the same model with the same cells to the same, and from what is no model to an error.
fn goes_on(bench: &Bench<'_>) -> Result<Applies> {
    if !bench.component.model_info().refines {
        return skipped("it does not go on from fitted models");
    }
    with_model(bench, |bench, fitted| {
        let (bytes, all) = (fitted.save(&bench.services())?, bench.questions());
        let refine = |threads| bench.on_threads(threads, || bench.refined(&bytes));
        let (one, two) = (refine(1)?.context("going on")?, refine(2)??);
        let found = bench.predict(&one, bench.cells, &all)?;
        if bench.component.model_info().answers != Answers::GeneScores {
            closed(&found, &all, bench.cells)?;
        }
        if bench.component.model_info().varies {
            alike(bench, &one, &two)?;
        } else {
            let saved = |fitted: &Fitted| fitted.save(&bench.services());
            ensure!(saved(&one)? == saved(&two)?, "the same model and cells led to another model");
        }
        match bench.refined(&bytes[..bytes.len() / 2]) {
            Ok(_) => anyhow::bail!("it went on from bytes that are no model"),
            Err(error) => is_plain(error),
        }
    })
}

/// That two trainings of a model that may vary agree: no share differs by more than this.
fn alike(bench: &Bench<'_>, one: &Fitted, other: &Fitted) -> Result<()> {
    const TOLERANCE: f32 = 0.05;
    let all = bench.questions();
    let (a, b) = (bench.predict(one, bench.cells, &all)?, bench.predict(other, bench.cells, &all)?);
    let most = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    ensure!(most <= TOLERANCE, "two trainings differ by up to {most} in a share, more than {TOLERANCE}");
    Ok(())
}

/// A knock-down to half lies on the way to a knockout; at level 1 nothing is changed.
fn any_level(bench: &Bench<'_>) -> Result<Applies> {
    let info = bench.component.model_info();
    if info.levels != Levels::Any {
        return skipped("it understands knockouts only");
    }
    unless(why_not(bench), || {
        let (fitted, all) = (bench.fitted()?, bench.questions());
        let at = |level: f32| {
            let mut asked = all.clone();
            asked.levels.fill(level);
            bench.predict(&fitted, bench.cells, &asked).with_context(|| format!("at level {level}"))
        };
        for level in [0.0, 0.3, 2.0] {
            at(level)?;
        }
        let mut unchanged = Knockouts { genes: vec![], levels: vec![], ..all.clone() };
        unchanged.offsets.fill(0);
        let (as_it_is, same) = match info.answers {
            Answers::GeneScores => (vec![0.0; all.len() * bench.cells.n_genes()], at(1.0)?),
            _ => (bench.predict(&fitted, bench.cells, &unchanged)?, at(1.0)?),
        };
        let most = as_it_is.iter().zip(&same).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        ensure!(most < 1e-4, "at level 1 an answer differs by {most} from that without a knockout");
        PASSED
    })
}

fn fused_equals_generic(bench: &Bench<'_>) -> Result<Applies> {
    let formulas = bench.component.model_info().fused;
    let known: Vec<&String> = formulas.iter().filter(|f| formula(f).is_some()).collect();
    if known.is_empty() {
        return skipped("it fuses no formula that this suite knows");
    }
    if bench.component.model_info().answers != Answers::Profiles {
        return skipped("it does not answer with profiles of cells");
    }
    let fitted = bench.fitted()?;
    let all = bench.questions();
    let rows: Vec<usize> = (0..all.len()).filter(|&i| !all.genes(i).is_empty()).collect();
    let knockouts = all.select(rows);
    for name in known {
        for against in ["predicted", "predicted-null", "observed", "observed-null"] {
            let mut found = vec![f32::NAN; knockouts.len()];
            let how = (name.as_str(), against, None);
            if fitted.screen(&bench.services(), bench.cells, &knockouts, how, &mut found)? {
                compare(bench, &fitted, &knockouts, (name, against), &found)?;
            }
        }
    }
    PASSED
}

fn compare(
    bench: &Bench<'_>,
    fitted: &Fitted,
    knockouts: &Knockouts,
    (name, against): (&str, &str),
    found: &[f32],
) -> Result<()> {
    let (cells, genes) = (bench.cells, bench.cells.n_genes());
    let Some(formula) = formula(name) else { return Ok(()) };
    for (i, &found) in found.iter().enumerate() {
        let mut pair = Knockouts::default();
        pair.push(knockouts.cell[i], &[], &[]);
        pair.push(knockouts.cell[i], knockouts.genes(i), knockouts.levels(i));
        let predicted = bench.predict(fitted, cells, &pair)?;
        let (base, after) = predicted.split_at(genes);
        let mut before = base.to_vec();
        if against.starts_with("observed") {
            cells.write_profile(knockouts.cell[i] as usize, &mut before);
        }
        if against.ends_with("null") {
            crate::steps::null_profile(&mut before, (knockouts.genes(i), knockouts.levels(i)));
        }
        let expected = formula(&before, after);
        let same = expected.is_nan() && found.is_nan() || (expected - f64::from(found)).abs() < 1e-5;
        let label = knockouts.label(i, &cells.var.names);
        ensure!(
            same,
            "{name} against {against} of {label}: {found} screened, {expected} predicted and measured"
        );
    }
    Ok(())
}

type Formula = fn(&[f32], &[f32]) -> f64;

/// The documented formulas, plainly.
fn formula(name: &str) -> Option<Formula> {
    fn sum(a: &[f32], b: &[f32], one: impl Fn(f64, f64) -> f64) -> f64 {
        a.iter().zip(b).map(|(&x, &y)| one(f64::from(x), f64::from(y))).sum()
    }
    match name {
        "bray-curtis" => Some(|a, b| sum(a, b, |x, y| (x - y).abs()) / sum(a, b, |x, y| x + y)),
        "euclidean" => Some(|a, b| sum(a, b, |x, y| (x - y) * (x - y)).sqrt()),
        "mae" => Some(|a, b| sum(a, b, |x, y| (x - y).abs()) / a.len() as f64),
        _ => None,
    }
}
