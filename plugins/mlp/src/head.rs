//! What is measured of a knockout: the head of the network, and the dissimilarity of its profile to a reference, in two
//! passes over the genes that a cell expresses.

use crate::lanes::{Chunk, Lanes, get, packed, set};
use lacuna_sdk::prelude::*;

/// A dissimilarity that is fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formula {
    /// Σ|a − b| / Σ(a + b).
    BrayCurtis,
    /// Bray–Curtis against the null profile, times 1 − the lost share.
    Keystoneness,
    /// √Σ(a − b)².
    Euclidean,
    /// Σ|a − b| / N.
    Mae,
}

/// What is measured, and against what.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// What is computed of two profiles.
    pub formula: Formula,
    /// Whether the reference is the observed profile, not the predicted one.
    pub observed: bool,
    /// Whether the reference loses the genes too.
    pub null: bool,
    /// The pseudo-share e / N of anchoring.
    pub anchor: Option<f32>,
    genes: usize,
}

impl Measure {
    /// The plain one: Bray–Curtis dissimilarity to the prediction without the lost genes.
    pub fn excess(genes: usize) -> Self {
        Self { formula: Formula::BrayCurtis, observed: false, null: true, anchor: None, genes }
    }

    /// What a screen asks for, if it is fused.
    pub fn of(screen: &Screen<'_>) -> Option<Self> {
        let formula = match screen.formula {
            "bray-curtis" => Formula::BrayCurtis,
            "keystoneness" => Formula::Keystoneness,
            "euclidean" => Formula::Euclidean,
            "mae" => Formula::Mae,
            _ => return None,
        };
        let (observed, null) = match screen.against {
            "predicted" => (false, false),
            "predicted-null" => (false, true),
            "observed" => (true, false),
            "observed-null" => (true, true),
            _ => return None,
        };
        let genes = screen.cells.n_genes();
        let anchor = screen.anchor.map(|e| (e / genes.max(1) as f64) as f32);
        Some(Self { formula, observed, null: null || formula == Formula::Keystoneness, anchor, genes })
    }
}

/// Cells, their knockouts and what is measured. The knockouts of a cell stand together.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The cells.
    pub cells: &'a Cells<'a>,
    /// Their knockouts.
    pub knockouts: &'a Knockouts<'a>,
    /// What is measured.
    pub measure: Measure,
}

/// What a cell's predictions are compared with. All lists follow the genes that it expresses, with zeros behind them.
pub struct Head {
    /// The profile, 0 behind the genes.
    pub reference: Vec<Chunk>,
    total: f64,
    /// The anchored share is `slope · predicted + start`.
    slope: Vec<Chunk>,
    start: Vec<Chunk>,
    /// The reference at the lost places, while it is 0 there.
    gone: Vec<f32>,
}

/// `list` becomes |list|; its sum.
#[inline(always)]
pub fn absolute<L: Lanes>(l: L, list: &mut [Chunk]) -> f32 {
    let mut sum = l.splat(0.0);
    for chunk in list {
        let x = l.abs(l.load(chunk));
        sum = l.add(sum, x);
        l.store(x, chunk);
    }
    l.sum(sum)
}

impl Head {
    /// Of what comes out of the network for the cell as it is.
    #[inline(always)]
    pub fn new<L: Lanes>(l: L, asked: Asked<'_>, cell: usize, outputs: Vec<Chunk>) -> Self {
        let Asked { cells, measure, .. } = asked;
        let mut predicted = outputs;
        let inverse = inverse(absolute(l, &mut predicted));
        predicted.iter_mut().for_each(|chunk| chunk.0.iter_mut().for_each(|x| *x *= inverse));
        let width = predicted.len();
        let (mut slope, mut start) = (vec![], vec![]);
        if let Some(e) = measure.anchor {
            let fold = |(i, p): (usize, f32)| p / (get(&predicted, i) + e);
            slope = packed(cells.shares(cell).enumerate().map(fold), width);
            start = slope.iter().map(|chunk| Chunk(chunk.0.map(|x| x * e))).collect();
        }
        let reference = match measure.observed {
            true => packed(cells.shares(cell), width),
            false => predicted,
        };
        Self { total: total(&reference), reference, slope, start, gone: vec![] }
    }

    /// The impact of losing the genes at some places, of which `after` has what comes out without them and `left` the sum.
    #[inline(always)]
    pub fn impact<L: Lanes>(
        &mut self,
        l: L,
        lost: &[usize],
        measure: Measure,
        after: &mut [Chunk],
        mut left: f32,
    ) -> f32 {
        self.gone.clear();
        for &at in lost {
            self.gone.push(get(&self.reference, at));
            if measure.null {
                set(&mut self.reference, at, 0.0);
            }
        }
        let share_lost: f64 = self.gone.iter().map(|share| f64::from(*share)).sum();
        let kept = if measure.null { self.kept(share_lost) } else { self.total };
        let scale = if measure.null && kept > 0.0 { (1.0 / kept) as f32 } else { 1.0 };
        if measure.anchor.is_some() {
            left = self.anchored(l, lost, after, inverse(left));
        }
        let value = self.dissimilarity(l, measure.formula == Formula::Euclidean, after, inverse(left), scale);
        for (&at, share) in lost.iter().zip(&self.gone) {
            set(&mut self.reference, at, *share);
        }
        match measure.formula {
            Formula::Euclidean => f64::from(value).sqrt() as f32,
            Formula::Mae => (f64::from(value) / measure.genes as f64) as f32,
            Formula::BrayCurtis | Formula::Keystoneness => {
                // Each profile sums to 1, or to 0 where nothing is left of it.
                let sums = f64::from(u8::from(left > 0.0)) + f64::from(u8::from(kept > 0.0));
                let weight = if measure.formula == Formula::Keystoneness { 1.0 - share_lost } else { 1.0 };
                (f64::from(value) / sums * weight) as f32
            }
        }
    }

    /// What is left of the reference without the lost share. Where little is left the difference would be rounding.
    fn kept(&self, share_lost: f64) -> f64 {
        if 2.0 * share_lost < self.total { self.total - share_lost } else { total(&self.reference) }
    }

    /// `after` becomes slope · (after · inverse) + start, 0 at the lost places; its sum.
    #[inline(always)]
    fn anchored<L: Lanes>(&self, l: L, lost: &[usize], after: &mut [Chunk], inverse: f32) -> f32 {
        let (inverse, nothing) = (l.splat(inverse), l.splat(0.0));
        for ((after, slope), start) in after.iter_mut().zip(&self.slope).zip(&self.start) {
            let share = l.fma(l.load(after), inverse, nothing);
            l.store(l.fma(l.load(slope), share, l.load(start)), after);
        }
        lost.iter().for_each(|&at| set(after, at, 0.0));
        let mut sum = nothing;
        for chunk in &*after {
            sum = l.add(sum, l.load(chunk));
        }
        l.sum(sum)
    }

    /// Σ|after · inverse − reference · scale|, or the squares.
    #[inline(always)]
    fn dissimilarity<L: Lanes>(&self, l: L, squares: bool, after: &[Chunk], inverse: f32, scale: f32) -> f32 {
        let (inverse, scale, nothing) = (l.splat(inverse), l.splat(-scale), l.splat(0.0));
        let (mut even, mut odd) = (nothing, nothing);
        for (after, reference) in after.as_chunks::<2>().0.iter().zip(self.reference.as_chunks::<2>().0) {
            let x = l.fma(l.load(&after[0]), inverse, l.fma(l.load(&reference[0]), scale, nothing));
            let y = l.fma(l.load(&after[1]), inverse, l.fma(l.load(&reference[1]), scale, nothing));
            (even, odd) = match squares {
                true => (l.fma(x, x, even), l.fma(y, y, odd)),
                false => (l.add(even, l.abs(x)), l.add(odd, l.abs(y))),
            };
        }
        l.sum(l.add(even, odd))
    }
}

/// 1 / x, or 0 where x is 0: a profile of which nothing is left stays 0.
fn inverse(x: f32) -> f32 {
    if x > 0.0 { 1.0 / x } else { 0.0 }
}

fn total(list: &[Chunk]) -> f64 {
    list.iter().flat_map(|chunk| chunk.0).map(f64::from).sum()
}
