//! `matched-auroc`

use crate::areas::{Ranked, auroc};
use crate::panel::{OF_CHANGED, Panel, Tested};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `matched-auroc`.
    pub struct MatchedAurocConfig {
        /// A gene changes if its adjusted p value is below this.
        #[range(0.0..=1.0)]
        rate: f64 = 0.05,
        /// With fewer changed genes there is no score: one or two positives say nothing.
        #[range(1..=1000000)]
        fewest: usize = 20,
        /// Bins of mean expression.
        #[range(1..=1000)]
        bins: usize = 20,
    }
}

/// `de-auroc` with negatives that are expressed as the positives are. The tested genes are cut into `bins` equally full
/// bins by their mean log expression in the controls (fewer where a bin would have fewer than 8 genes), and in each bin
/// the negatives weigh together as much as the positives do; changed genes of a bin without others have no match and
/// are left out. That is the expectation of drawing negatives with the positives' distribution of mean expression.
///
/// No value with fewer than `fewest` changed genes that have a match, and for a constant prediction.
pub struct MatchedAuroc(MatchedAurocConfig);

impl Component for MatchedAuroc {
    const ID: &'static str = "matched-auroc";
    const DOC: &'static str = "The area under the ROC curve of the size of the predicted effect, among genes of the same mean expression";
    type Config = MatchedAurocConfig;
    fn new(config: MatchedAurocConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Metric for MatchedAuroc {
    const INFO: MetricInfo = MetricInfo {
        range: (0.0, 1.0),
        chance: Some(0.5),
        needs: &[Part::Before, Part::After, Part::Panel, Part::Observed, Part::Controls],
        source: "Lacuna; differential expression is found more easily for well expressed genes",
        ..OF_CHANGED
    };

    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        let panel = Panel::of(Self::ID, comparison, scores.len())?;
        if comparison.controls.is_none() {
            return Err(Error::data("matched-auroc needs the mean expression of the controls"));
        }
        panel.score_tested(scores, self.0.rate, cx, |genes| {
            let ranked = matched(genes, self.0.bins);
            let positives = ranked.iter().filter(|r| r.positive).count();
            if positives < self.0.fewest { f64::NAN } else { auroc(&ranked) }
        })
    }
}

/// Bins of fewer genes are not cut any further.
const LEAST_BIN: usize = 8;

/// The genes of all bins that have both positives and negatives, which weigh the same in each.
fn matched(genes: &[Tested], bins: usize) -> Vec<Ranked> {
    let mut order: Vec<usize> = (0..genes.len()).collect();
    order.sort_by(|&a, &b| genes[a].expression.total_cmp(&genes[b].expression).then(a.cmp(&b)));
    let bins = bins.min(genes.len() / LEAST_BIN).max(1);
    let mut ranked = vec![];
    for bin in 0..bins {
        let members = &order[bin * order.len() / bins..(bin + 1) * order.len() / bins];
        let positives = members.iter().filter(|&&i| genes[i].changed).count();
        let negatives = members.len() - positives;
        if positives == 0 || negatives == 0 {
            continue;
        }
        let weight = |positive: bool| if positive { 1.0 } else { positives as f64 / negatives as f64 };
        ranked.extend(members.iter().map(|&i| Ranked {
            score: f64::from(genes[i].predicted).abs(),
            positive: genes[i].changed,
            weight: weight(genes[i].changed),
        }));
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_of_nothing_but_expression_is_at_chance_within_bins() {
        // Half of the high genes change and none of the low ones: expression alone tells most of it, until it is matched.
        let gene = |i: usize| Tested {
            measured: 1.0,
            predicted: (i / 16) as f32,
            z: 0.0,
            changed: i >= 80 && i.is_multiple_of(2),
            expression: (i / 16) as f32,
        };
        let genes: Vec<Tested> = (0..160).map(gene).collect();
        let ranked = matched(&genes, 10);
        assert!((auroc(&ranked) - 0.5).abs() < 1e-12 && ranked.len() == 80);
        let plain: Vec<Ranked> = genes
            .iter()
            .map(|g| Ranked { score: f64::from(g.predicted), positive: g.changed, weight: 1.0 })
            .collect();
        assert!(auroc(&plain) > 0.8);
        assert!(matched(&genes[..80], 10).is_empty());
    }
}
