//! `keystoneness`

use crate::sum::{profiles, sum};
use lacuna_sdk::prelude::*;
use std::ops::Range;

/// How much more a knockout does than to remove its genes: BC(after, before∖g) · (1 − p_g), where before∖g is
/// the profile before without the knocked-out genes g, closed again, and p_g their share in it.
///
/// Without a knocked-out gene it is the Bray–Curtis dissimilarity. No value where nothing is left, neither in
/// before∖g nor in after.
pub struct Keystoneness;

impl Component for Keystoneness {
    const ID: &'static str = "keystoneness";
    const DOC: &'static str =
        "Keystoneness, BC(after, before without the lost genes, closed) · (1 − their share)";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Metric for Keystoneness {
    const INFO: MetricInfo = MetricInfo {
        needs: &[Part::Before, Part::After, Part::Knockouts],
        range: (0.0, 1.0),
        direction: Direction::None,
        symmetric: false,
        // Equal profiles differ by the lost genes' share: p_g (1 − p_g), not a constant.
        identity: None,
        formula: Some("keystoneness"),
        source: "DKI: Wang et al., Nature Ecology & Evolution 8, 22 (2024)",
        ..MetricInfo::ERROR
    };

    fn row(&self, row: &Row<'_>) -> Result<f64> {
        let (before, after) = profiles(row)?;
        let lost = knocked_out(row)?;
        let lost_share: f64 = lost.iter().map(|&g| f64::from(before[g as usize])).sum();
        let rest = over_kept(before, after, lost, |b, _| b);
        // Closing an empty rest would divide by zero: it stays empty.
        let close = if rest > 0.0 { 1.0 / rest } else { 0.0 };
        let difference = over_kept(before, after, lost, |b, a| (a - b * close).abs());
        let total = over_kept(before, after, lost, |b, a| a + b * close);
        // The lost genes are silent in the null profile, so that |a − 0| = a + 0 = a.
        let after_lost: f64 = lost.iter().map(|&g| f64::from(after[g as usize])).sum();
        // Shares of f32 sum to 1 only nearly: the lost ones may reach just above it.
        let kept_share = if lost_share > 1.0 { 0.0 } else { 1.0 - lost_share };
        Ok((difference + after_lost) / (total + after_lost) * kept_share)
    }
}

/// The knocked-out genes of a row, ascending and within the profile.
fn knocked_out<'a>(row: &Row<'a>) -> Result<&'a [u32]> {
    let knockout = row.knockout.ok_or_else(|| Error::data("keystoneness needs the knockout of each row"))?;
    let n = row.before.len();
    if let Some(gene) = knockout.genes.iter().find(|&&g| g as usize >= n) {
        return Err(Error::data(format!("expected knocked-out genes below {n}, found gene {gene}")));
    }
    if let Some((gene, level)) = knockout.genes.iter().zip(knockout.levels).find(|(_, level)| **level != 0.0)
    {
        let message =
            format!("keystoneness is defined for knockouts (level 0), found level {level} of gene {gene}");
        return Err(Error::data(message));
    }
    Ok(knockout.genes)
}

/// [`sum`] over all genes but the lost ones.
fn over_kept(before: &[f32], after: &[f32], lost: &[u32], term: impl Fn(f64, f64) -> f64 + Copy) -> f64 {
    kept_runs(before.len(), lost).map(|run| sum(&before[run.clone()], &after[run], term)).sum()
}

/// The runs of genes between the lost ones.
fn kept_runs(n: usize, lost: &[u32]) -> impl Iterator<Item = Range<usize>> {
    let starts = std::iter::once(0).chain(lost.iter().map(|&g| g as usize + 1));
    let ends = lost.iter().map(|&g| g as usize).chain(std::iter::once(n));
    starts.zip(ends).map(|(start, end)| start..end.max(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{agrees_with_scipy, is_as_declared, random_row};
    use lacuna_sdk::testing;

    fn score(before: &[f32], after: &[f32], genes: &[u32]) -> f64 {
        let levels = vec![0.0; genes.len()];
        let mut row = testing::row(before, after);
        row.knockout = Some(Knockout { cell: Some(0), genes, levels: &levels });
        Keystoneness.row(&row).unwrap()
    }

    #[test]
    fn agrees_with_scipy_and_is_as_declared() {
        agrees_with_scipy(&Keystoneness);
        is_as_declared(&Keystoneness);
    }

    #[test]
    fn a_knockout_without_consequence_scores_zero() {
        assert_eq!(score(&[0.5, 0.25, 0.25], &[0.0, 0.5, 0.5], &[0]), 0.0);
        assert_eq!(score(&[0.5, 0.25, 0.25], &[0.0, 1.0, 0.0], &[0]), 0.5 * 0.5);
    }

    #[test]
    fn equal_profiles_score_the_lost_share_times_the_rest() {
        let before = random_row(&mut testing::context(1).stream(0), 50);
        let lost = f64::from(before[3]) + f64::from(before[17]);
        assert!((score(&before, &before, &[3, 17]) - lost * (1.0 - lost)).abs() < 1e-6);
    }

    #[test]
    fn an_only_gene_leaves_nothing_to_compare() {
        assert!(score(&[0.0, 1.0], &[0.0, 0.0], &[1]).is_nan());
        assert_eq!(score(&[0.0, 1.0], &[1.0, 0.0], &[1]), 0.0);
    }

    #[test]
    fn a_row_without_its_knockout_or_with_a_level_is_an_error() {
        let mut row = testing::row(&[1.0], &[1.0]);
        assert_eq!(Keystoneness.row(&row), Err(Error::data("keystoneness needs the knockout of each row")));
        row.knockout = Some(Knockout { cell: Some(0), genes: &[1], levels: &[0.0] });
        assert_eq!(
            Keystoneness.row(&row),
            Err(Error::data("expected knocked-out genes below 1, found gene 1"))
        );
        row.knockout = Some(Knockout { cell: Some(0), genes: &[0], levels: &[0.5] });
        let message = "keystoneness is defined for knockouts (level 0), found level 0.5 of gene 0";
        assert_eq!(Keystoneness.row(&row), Err(Error::data(message)));
    }
}
