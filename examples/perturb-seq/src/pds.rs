//! `pds`

use lacuna_sdk::ndarray::ArrayView2;
use lacuna_sdk::prelude::*;

/// The perturbation discrimination score of cell-eval: whether a predicted effect is nearer to the measured effect of its
/// own perturbation than to those of the others. 1 − rank / (n − 1), the rank of the own truth among the n truths by
/// their cosine with the prediction: 0 for the nearest, n − 1 for the farthest, ties by mid-rank.
///
/// The genes that any perturbation of the panel removes are left out of every effect: that they are gone is no
/// prediction. An effect of which nothing but zeros is left has no direction: its own perturbation has no score, and as
/// a truth it is not among the n. Neither is there a score where n is below 2.
///
/// Equal effects score 1, unless two truths have the same direction.
pub struct Pds;

impl Component for Pds {
    const ID: &'static str = "pds";
    const DOC: &'static str = "Perturbation discrimination: the rank, by cosine, of the own measured effect among those of all perturbations";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Pds {
    const INFO: MetricInfo = MetricInfo {
        shape: Shape::Panel,
        needs: &[Part::Before, Part::After, Part::Panel],
        range: (0.0, 1.0),
        symmetric: false,
        chance: Some(0.5),
        source: "perturbation discrimination score, cell-eval (Arc Institute)",
        ..MetricInfo::AGREEMENT
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let (measured, predicted, panel) = parts(comparison, scores.len())?;
        let kept = kept_genes(&panel, measured.ncols())?;
        let (truths, predictions) = (directions(measured, &kept), directions(predicted, &kept));
        let found = cx.parallel_map(scores.len(), |i| -> Result<f64> {
            cx.check()?;
            Ok(discrimination(i, &predictions, &truths).unwrap_or(f64::NAN))
        });
        for (score, found) in scores.iter_mut().zip(found) {
            *score = found?;
        }
        Ok(())
    }
}

type Parts<'a> = (ArrayView2<'a, f32>, ArrayView2<'a, f32>, Knockouts<'a>);

/// The measured effects, the predicted ones, and the perturbations, if there are n of each.
fn parts<'a>(comparison: &Comparison<'a>, n: usize) -> Result<Parts<'a>> {
    let missing = |part| Error::data(format!("pds needs {part}"));
    let measured = comparison.before.ok_or_else(|| missing("the measured effects"))?;
    let predicted = comparison.after.ok_or_else(|| missing("the predicted effects"))?;
    let panel = comparison.panel.ok_or_else(|| missing("the panel of perturbations"))?;
    if measured.dim() != predicted.dim() || measured.nrows() != n || panel.len() != n {
        return Err(Error::data(format!(
            "expected measured and predicted effects of {n} perturbations, found the shapes {:?} and {:?} and {} \
             perturbations",
            measured.dim(),
            predicted.dim(),
            panel.len()
        )));
    }
    Ok((measured, predicted, panel))
}

/// The genes that no perturbation of the panel removes, ascending.
fn kept_genes(panel: &Knockouts<'_>, n: usize) -> Result<Vec<usize>> {
    let mut kept = vec![true; n];
    for (i, perturbation) in panel.iter().enumerate() {
        for &gene in perturbation.genes {
            let unknown =
                || Error::data(format!("perturbation {i}: expected a gene below {n}, found gene {gene}"));
            *kept.get_mut(gene as usize).ok_or_else(unknown)? = false;
        }
    }
    Ok((0..n).filter(|&gene| kept[gene]).collect())
}

/// Each effect on these genes, of length 1; `None` where it has no direction.
fn directions(effects: ArrayView2<'_, f32>, kept: &[usize]) -> Vec<Option<Vec<f64>>> {
    let direction = |effect: lacuna_sdk::ndarray::ArrayView1<'_, f32>| {
        let effect: Vec<f64> = kept.iter().map(|&gene| f64::from(effect[gene])).collect();
        let length = dot(&effect, &effect).sqrt();
        (length > 0.0 && length.is_finite()).then(|| effect.iter().map(|x| x / length).collect())
    };
    effects.rows().into_iter().map(direction).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The score of perturbation `i`, if it has one.
fn discrimination(i: usize, predictions: &[Option<Vec<f64>>], truths: &[Option<Vec<f64>>]) -> Option<f64> {
    let prediction = predictions[i].as_ref()?;
    let own = dot(prediction, truths[i].as_ref()?);
    let (mut others, mut nearer) = (0.0, 0.0);
    for (_, truth) in truths.iter().enumerate().filter(|(other, _)| *other != i) {
        let Some(truth) = truth else { continue };
        let cosine = dot(prediction, truth);
        others += 1.0;
        nearer += if cosine > own { 1.0 } else { f64::from(u8::from(cosine == own)) / 2.0 };
    }
    (others > 0.0).then(|| 1.0 - nearer / others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::ndarray::{Array2, Axis, array};
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::rand::seq::SliceRandom;
    use lacuna_sdk::testing;

    fn score(measured: &Array2<f32>, predicted: &Array2<f32>, targets: &[&[u32]]) -> Vec<f64> {
        testing::score_panel(&Pds, measured.view(), predicted.view(), targets).unwrap()
    }

    /// Effects of three perturbations, whose targets are genes 0, 1 and 2, on three more genes.
    fn measured() -> Array2<f32> {
        array![
            [-9.0, 0.0, 0.0, 1.0, 0.0, 0.0],
            [0.0, -9.0, 0.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, -9.0, 1.0, 1.0, 0.0],
        ]
    }

    const TARGETS: [&[u32]; 3] = [&[0], &[1], &[2]];

    #[test]
    fn scores_are_ranks_of_the_own_truth_by_cosine() {
        let predicted = array![
            [0.0, 0.0, 0.0, 3.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 2.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 2.0, 0.0, 0.0],
        ];
        // Cosines × √10: 3, 1, 4/√2; the first is nearest. × 1: 1, 0, 1/√2; farthest for the second, in the middle
        // for the third.
        assert_eq!(score(&measured(), &predicted, &TARGETS), [1.0, 0.0, 0.5]);
    }

    #[test]
    fn ties_share_their_ranks() {
        let same = array![[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, -1.0]];
        let predicted = array![[0.0, 5.0], [0.0, 0.1], [0.0, -1.0], [0.0, 1.0]];
        let scores = score(&same, &predicted, &[&[0][..]; 4]);
        // Two of the three others tie with the own truth. For the third the fourth truth is nearer; the fourth itself
        // is farthest.
        assert_eq!(scores, [1.0 - 1.0 / 3.0, 1.0 - 1.0 / 3.0, 1.0 - 2.0 / 3.0, 0.0]);
    }

    #[test]
    fn the_targets_of_the_panel_count_for_nothing() {
        // Only the own target is predicted: without it there is no direction.
        let only_targets = array![
            [-9.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, -9.0, 0.0, 0.0, 0.1, 0.0],
            [0.0, 0.0, -9.0, 0.0, 0.1, 0.0],
        ];
        let scores = score(&measured(), &only_targets, &TARGETS);
        assert!(scores[0].is_nan());
        assert_eq!(scores[1..], [1.0, 0.5]);
    }

    #[test]
    fn a_truth_without_direction_has_no_score_and_is_no_rival() {
        let mut truth = measured();
        truth[[2, 3]] = 0.0;
        truth[[2, 4]] = 0.0;
        let scores = score(&truth, &measured(), &TARGETS);
        assert_eq!(scores[..2], [1.0, 1.0]);
        assert!(scores[2].is_nan());
        let alone = score(&array![[1.0, 2.0]], &array![[1.0, 2.0]], &[&[0]]);
        assert!(alone[0].is_nan());
        assert_eq!(score(&Array2::zeros((0, 2)), &Array2::zeros((0, 2)), &[]), [0.0; 0]);
        let nan = score(&measured(), &Array2::from_elem((3, 6), f32::NAN), &TARGETS);
        assert!(nan.iter().all(|score| score.is_nan()));
    }

    fn random(perturbations: usize, seed: u64) -> Array2<f32> {
        let mut stream = testing::context(seed).stream(0);
        Array2::from_shape_fn((perturbations, 25), |_| stream.random_range(-1.0..1.0))
    }

    fn targets() -> Vec<[u32; 1]> {
        (0..20).map(|i| [i % 7]).collect()
    }

    #[test]
    fn a_perfect_prediction_scores_1_whatever_its_size_and_its_opposite_0() {
        let (truth, targets) = (random(20, 1), targets());
        let targets: Vec<&[u32]> = targets.iter().map(|gene| &gene[..]).collect();
        assert_eq!(score(&truth, &truth, &targets), [1.0; 20]);
        assert_eq!(score(&truth, &(&truth * 1e-3), &targets), [1.0; 20]);
        assert_eq!(score(&truth, &(&truth * -1.0), &targets), [0.0; 20]);
    }

    #[test]
    fn a_guess_scores_a_half_on_average() {
        let targets = targets();
        let targets: Vec<&[u32]> = targets.iter().map(|gene| &gene[..]).collect();
        let all: Vec<f64> =
            (0..50).flat_map(|seed| score(&random(20, seed), &random(20, seed + 1000), &targets)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((mean - 0.5).abs() < 0.03 && all.iter().all(|score| (0.0..=1.0).contains(score)), "{mean}");
    }

    #[test]
    fn permuting_perturbations_permutes_scores() {
        let (truth, predicted, targets) = (random(20, 1), random(20, 2) + random(20, 1), targets());
        let mut order: Vec<usize> = (0..20).collect();
        order.shuffle(&mut testing::context(3).stream(0));
        let permuted: Vec<&[u32]> = order.iter().map(|&i| &targets[i][..]).collect();
        let targets: Vec<&[u32]> = targets.iter().map(|gene| &gene[..]).collect();
        let scores = score(&truth, &predicted, &targets);
        let of = |matrix: &Array2<f32>| matrix.select(Axis(0), &order);
        let expected: Vec<f64> = order.iter().map(|&i| scores[i]).collect();
        assert_eq!(score(&of(&truth), &of(&predicted), &permuted), expected);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let error = |measured: &Array2<f32>, predicted: &Array2<f32>, targets: &[&[u32]]| {
            testing::score_panel(&Pds, measured.view(), predicted.view(), targets).unwrap_err()
        };
        let shapes = "expected measured and predicted effects of 3 perturbations, found the shapes (3, 6) and (3, 5) \
                      and 3 perturbations";
        assert_eq!(error(&measured(), &Array2::zeros((3, 5)), &TARGETS), Error::data(shapes));
        let gene = "perturbation 1: expected a gene below 6, found gene 6";
        assert_eq!(error(&measured(), &measured(), &[&[0], &[6], &[2]]), Error::data(gene));
        let matrix = measured();
        let comparison = testing::comparison(matrix.view(), matrix.view());
        let missing = Pds.score(&comparison, &mut [0.0; 3], &testing::context(1)).unwrap_err();
        assert_eq!(missing, Error::data("pds needs the panel of perturbations"));
    }
}
