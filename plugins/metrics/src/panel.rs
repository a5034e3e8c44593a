//! Panels: measured and predicted effects of perturbations, and which measured changes are more than chance.

use lacuna_sdk::ndarray::{ArrayView1, ArrayView2};
use lacuna_sdk::prelude::*;

/// What a metric of panels declares; each adds its own.
pub const OF_PANEL: MetricInfo = MetricInfo {
    shape: Shape::Panel,
    needs: &[Part::Before, Part::After, Part::Panel],
    symmetric: false,
    identity: None,
    ..MetricInfo::AGREEMENT
};

/// What a metric of changed genes declares.
pub const OF_CHANGED: MetricInfo =
    MetricInfo { needs: &[Part::Before, Part::After, Part::Panel, Part::Observed], ..OF_PANEL };

/// Perturbations × genes, checked.
pub struct Panel<'a> {
    measured: ArrayView2<'a, f32>,
    predicted: ArrayView2<'a, f32>,
    targets: Knockouts<'a>,
    z: Option<ArrayView2<'a, f32>>,
    controls: Option<ArrayView1<'a, f32>>,
}

/// A gene that was tested, and that the perturbation does not remove.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tested {
    /// The measured effect.
    pub measured: f32,
    /// The predicted one.
    pub predicted: f32,
    /// z of the rank-sum test.
    pub z: f64,
    /// Whether it changes at the asked for false discovery rate.
    pub changed: bool,
    /// Mean of log(1 + 10,000 p) over the controls; 0 where it is not known.
    pub expression: f32,
}

impl<'a> Panel<'a> {
    /// The parts of a comparison of `n` perturbations.
    pub fn of(id: &str, comparison: &Comparison<'a>, n: usize) -> Result<Self> {
        let missing = |part| Error::data(format!("{id} needs {part}"));
        let measured = comparison.before.ok_or_else(|| missing("the measured effects"))?;
        let predicted = comparison.after.ok_or_else(|| missing("the predicted effects"))?;
        let targets = comparison.panel.ok_or_else(|| missing("the panel of perturbations"))?;
        if measured.dim() != predicted.dim() || measured.nrows() != n || targets.len() != n {
            return Err(Error::data(format!(
                "expected measured and predicted effects of {n} perturbations, found the shapes {:?} and {:?} and {} \
                 perturbations",
                measured.dim(),
                predicted.dim(),
                targets.len()
            )));
        }
        let genes = measured.ncols();
        for (i, perturbation) in targets.iter().enumerate() {
            if let Some(gene) = perturbation.genes.iter().find(|&&gene| gene as usize >= genes) {
                let message = format!("perturbation {i}: expected a gene below {genes}, found gene {gene}");
                return Err(Error::data(message));
            }
        }
        if let Some(z) = comparison.observed.filter(|z| z.dim() != measured.dim()) {
            let message = format!("expected z values of the shape {:?}, found {:?}", measured.dim(), z.dim());
            return Err(Error::data(message));
        }
        let controls = comparison
            .controls
            .filter(|c| c.nrows() > 0)
            .map(|c| c.index_axis_move(lacuna_sdk::ndarray::Axis(0), 0));
        if let Some(controls) = controls.filter(|c| c.len() != genes) {
            let message = format!("expected the controls' mean of {genes} genes, found {}", controls.len());
            return Err(Error::data(message));
        }
        Ok(Self { measured, predicted, targets, z: comparison.observed, controls })
    }

    /// Number of perturbations.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// The genes that no perturbation of the panel removes, ascending.
    pub fn kept_by_all(&self) -> Vec<usize> {
        let mut kept = vec![true; self.measured.ncols()];
        self.targets.iter().flat_map(|p| p.genes).for_each(|&gene| kept[gene as usize] = false);
        (0..kept.len()).filter(|&gene| kept[gene]).collect()
    }

    /// The measured and the predicted effect of perturbation `i` on some genes.
    pub fn effects(&self, i: usize, genes: &[usize]) -> (Vec<f32>, Vec<f32>) {
        let of = |matrix: ArrayView2<'_, f32>| genes.iter().map(|&gene| matrix[[i, gene]]).collect();
        (of(self.measured), of(self.predicted))
    }

    /// The genes that were tested for perturbation `i`, but for its targets. A gene changes if its p value, corrected
    /// by Benjamini and Hochberg over all that were tested, is below `rate`.
    pub fn tested(&self, i: usize, rate: f64) -> Result<Vec<Tested>> {
        let z = self.z.ok_or_else(|| Error::data("expected z values of the measured effects"))?;
        let genes: Vec<usize> = (0..z.ncols()).filter(|&gene| !z[[i, gene]].is_nan()).collect();
        let two_sided =
            |&gene: &usize| libm::erfc(f64::from(z[[i, gene]]).abs() * std::f64::consts::FRAC_1_SQRT_2);
        let limit = largest_found(&genes.iter().map(two_sided).collect::<Vec<_>>(), rate);
        let targets = self.targets.get(i).genes;
        let others = genes.iter().filter(|&&gene| !targets.contains(&(gene as u32)));
        let one = |gene: &usize| Tested {
            measured: self.measured[[i, *gene]],
            predicted: self.predicted[[i, *gene]],
            z: f64::from(z[[i, *gene]]),
            changed: two_sided(gene) <= limit,
            expression: self.controls.map_or(0.0, |c| c[*gene]),
        };
        Ok(others.map(one).collect())
    }

    /// The scores of all perturbations, each from its tested genes; none where a gene's effect is not a number.
    pub fn score_tested(
        &self,
        scores: &mut [f64],
        rate: f64,
        cx: &Context,
        one: impl Fn(&[Tested]) -> f64 + Sync,
    ) -> Result<()> {
        self.score(scores, cx, |i| {
            let genes = self.tested(i, rate)?;
            let known = genes.iter().all(|g| !g.measured.is_nan() && !g.predicted.is_nan());
            Ok(if known { one(&genes) } else { f64::NAN })
        })
    }

    /// The scores of all perturbations.
    pub fn score(
        &self,
        scores: &mut [f64],
        cx: &Context,
        one: impl Fn(usize) -> Result<f64> + Sync,
    ) -> Result<()> {
        let found = cx.parallel_map(scores.len(), |i| {
            cx.check()?;
            one(i)
        });
        for (score, found) in scores.iter_mut().zip(found) {
            *score = found?;
        }
        Ok(())
    }
}

/// The largest p value that Benjamini and Hochberg's procedure finds at a rate; below 0 where it finds none.
fn largest_found(p: &[f64], rate: f64) -> f64 {
    let mut sorted = p.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let found = sorted.iter().enumerate().rev().find(|(i, p)| *p * n / (*i as f64 + 1.0) < rate);
    found.map_or(-1.0, |(_, p)| *p)
}

/// The middle of some values; NaN of none.
pub fn median(values: impl Iterator<Item = f32>) -> f64 {
    let mut sorted: Vec<f64> = values.map(f64::from).collect();
    sorted.sort_by(f64::total_cmp);
    let (n, middle) = (sorted.len(), sorted.len() / 2);
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_packages, is_declared_panel};
    use lacuna_sdk::ndarray::array;
    use lacuna_sdk::testing;

    #[test]
    fn changed_genes_are_those_of_benjamini_and_hochberg_and_targets_are_no_genes() {
        // p: 5.7e-7, 0.0027, 0.0455, 0.32, and one that was not tested.
        let (effects, z) =
            (array![[0.5f32, 1.0, -2.0, 3.0, 4.0]], array![[5.0f32, -3.0, 2.0, 1.0, f32::NAN]]);
        let targets = testing::population(&[&[0]]);
        let mut comparison = testing::comparison(effects.view(), effects.view());
        (comparison.observed, comparison.panel) = (Some(z.view()), Some(targets.as_knockouts()));
        let panel = Panel::of("some", &comparison, 1).unwrap();
        let changed = |rate| panel.tested(0, rate).unwrap().iter().map(|g| g.changed).collect::<Vec<_>>();
        // Adjusted: 2.3e-6, 0.0054, 0.0607, 0.32.
        assert_eq!(changed(0.05), [true, false, false]);
        assert_eq!(changed(0.0607), [true, true, false]);
        assert_eq!(changed(0.005), [false; 3]);
        assert_eq!(panel.kept_by_all(), [1, 2, 3, 4]);
    }

    #[test]
    fn the_plain_correlation_is_the_pearson_delta_of_cell_eval() {
        let found = crate::fixtures::plain_correlations("by cell-eval");
        assert!(
            found.len() == 8 && found.iter().all(|(own, theirs)| (own - theirs).abs() < 1e-6),
            "{found:?}"
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let effects = array![[0.5f32, 1.0]];
        let targets = testing::population(&[&[2]]);
        let mut comparison = testing::comparison(effects.view(), effects.view());
        let error = |c: &Comparison<'_>| Panel::of("some", c, 1).err().unwrap();
        assert_eq!(error(&comparison), Error::data("some needs the panel of perturbations"));
        comparison.panel = Some(targets.as_knockouts());
        let message = "perturbation 0: expected a gene below 2, found gene 2";
        assert_eq!(error(&comparison), Error::data(message));
    }

    #[test]
    fn medians_are_those_of_sorted_values() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn every_metric_of_panels_agrees_with_other_packages_and_is_as_declared() {
        use crate::{centroid_accuracy::CentroidAccuracy, de_auprc::DeAuprc, de_auroc::DeAuroc};
        use crate::{de_direction::DeDirection, lfc_nmae::LfcNmae, lfc_spearman::LfcSpearman};
        use crate::{matched_auroc::MatchedAuroc, overlap::Overlap, pds::Pds, precision::Precision};
        use crate::{pearson_delta_pert::PearsonDeltaPert, r2w_delta::R2wDelta, wmse::Wmse};
        macro_rules! held {
            ($($metric:ty),*) => {$({
                let metric = <$metric>::new(Default::default()).unwrap();
                agrees_with_packages(&metric);
                is_declared_panel(&metric);
            })*};
        }
        held!(CentroidAccuracy, DeAuprc, DeAuroc, DeDirection, LfcNmae, LfcSpearman, MatchedAuroc);
        held!(Overlap, Pds, PearsonDeltaPert, Precision, R2wDelta, Wmse);
    }
}
