//! Predicted against observed profiles of cells that the models have not seen.

use super::scores::{Blocks, Contender, Over, ScoreRow, plain_row, score, score_pair};
use super::seen::{all, seen};
use super::unlike::Unlike;
use super::{Evaluate, Judge, TrainingCells, by_training, name_of, single};
use crate::data::{Cells, Knockouts};
use crate::plugin::Services;
use crate::run::StepCx;
use crate::steps::FittedModel;
use anyhow::Result;
use rayon::prelude::*;

const CELLS_AT_ONCE: usize = 64;

/// Scores of all models and baselines, flattened, cell by cell and gene by gene; and how many cells are unlike those that
/// each model was trained on.
pub fn scores(
    evaluate: &Evaluate,
    judges: &[Judge],
    cx: &StepCx<'_>,
) -> Result<(Vec<ScoreRow>, Vec<Unlike>)> {
    let cells = cx.run().cells(single(cx, "cells")?)?;
    crate::steps::warn_of_perturbed(&crate::data::CellSet::Held(cells.clone()), "predicted", &cx.services);
    let data = name_of(single(cx, "cells")?, cx);
    let groups = by_training(cx.chosen("models"), cx)?;
    let (mut rows, mut unlike, all_models) = (vec![], vec![], cx.chosen("models").len());
    for peers in &groups {
        let (models, fitted) = (&peers.models, peers.fitted(cx)?);
        let aligned = fitted[0].align_held(cells.clone(), &cx.services)?;
        let mut contenders = vec![];
        for (chosen, model) in models.iter().zip(&fitted) {
            let name = name_of(chosen, cx);
            unlike.extend(Unlike::of(&name, model, &aligned)?);
            peers.training.iter().for_each(|training| warn_of_seen(&name, training, &cells, &cx.services));
            contenders.push(contender(name, false, model, &aligned, &cx.services)?);
        }
        // Beside them stand the baselines that learned from the same cells.
        let whose = peers.suffix(&groups, &contenders[0].name);
        for (name, fitted) in evaluate.fit_baselines(peers.training.as_ref(), cx)? {
            contenders.push(contender(name + &whose, true, &fitted, &aligned, &cx.services)?);
            let all = models.len() + evaluate.baselines.len();
            cx.services.progress(contenders.len() as u64, all as u64, "models");
        }
        for judge in judges {
            let compared = (contenders.as_slice(), all_models);
            if judge.info.vectors {
                rows.extend(score((&data, "flattened", Over::All), judge, compared, &cx.services)?);
            }
            rows.extend(score((&data, "cells", Over::Cells), judge, compared, &cx.services)?);
            for c in contenders.iter().filter(|_| judge.info.vectors) {
                let value = gene_by_gene(judge, &cx.services, &c.blocks, aligned.n_genes())?;
                rows.push(plain_row((&data, "genes"), judge, (&c.name, c.baseline), value));
            }
        }
    }
    Ok((rows, unlike))
}

/// Says how many of the cells a model has learned from.
fn warn_of_seen(name: &str, training: &TrainingCells, cells: &Cells, host: &Services) {
    let parts = std::iter::once(&training.0).chain(&training.1);
    let learned: Vec<_> = parts.map(|cells| all(cells)).collect();
    let seen = seen(&learned, &all(cells));
    if seen > 0 {
        host.warn(format!(
            "{name} learned from {seen} of the {} cells: of these a score says how well it remembers, not how well it \
             predicts",
            cells.len()
        ));
    }
}

/// A model with the profiles that it predicts of cells as they are.
pub fn contender(
    name: String,
    baseline: bool,
    model: &FittedModel,
    cells: &Cells,
    host: &Services,
) -> Result<Contender> {
    let genes = cells.n_genes();
    let predicted = predict_as_is(model, cells, host)?;
    let mut truth = vec![0.0; cells.len() * genes];
    truth.chunks_exact_mut(genes.max(1)).enumerate().for_each(|(i, row)| cells.write_profile(i, row));
    let offsets = (0..=cells.len()).map(|i| i * genes).collect();
    Ok(Contender { name, baseline, blocks: Blocks { offsets, truth, predicted } })
}

/// The predicted profiles of cells as they are, shape cells × genes.
fn predict_as_is(model: &FittedModel, cells: &Cells, host: &Services) -> Result<Vec<f32>> {
    let genes = cells.n_genes();
    let mut predicted = vec![0.0; cells.len() * genes];
    predicted.par_chunks_mut((CELLS_AT_ONCE * genes).max(1)).enumerate().try_for_each(|(block, out)| {
        let start = block * CELLS_AT_ONCE;
        let query = Knockouts::none_in(start..(start + CELLS_AT_ONCE).min(cells.len()));
        model.predict(host, cells, &query, out)
    })?;
    Ok(predicted)
}

/// The mean over genes of each gene's own score over the cells.
fn gene_by_gene(judge: &Judge, host: &Services, blocks: &Blocks, genes: usize) -> Result<f64> {
    let column =
        |values: &[f32], j: usize| -> Vec<f32> { values.iter().skip(j).step_by(genes).copied().collect() };
    let scores: Vec<f64> = (0..genes)
        .into_par_iter()
        .map(|j| score_pair(judge, host, &column(&blocks.truth, j), &column(&blocks.predicted, j)))
        .collect::<Result<_>>()?;
    let finite: Vec<f64> = scores.into_iter().filter(|s| !s.is_nan()).collect();
    Ok(finite.iter().sum::<f64>() / finite.len() as f64)
}
