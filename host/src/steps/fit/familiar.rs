//! What the cells are like that a model was trained on, to tell which others are unlike them.

use crate::data::{CellSet, Cells, Csr};
use crate::steps::screen::quantile;
use anyhow::Result;
use serde_json::{Value as Json, json};

/// How often training cells express each gene, and how much they differ from that.
///
/// The surprise of a cell is the mean over genes of −ln of the probability of what it does with each, expressing it or not,
/// if genes were independent and expressed as often as in the training cells.
pub struct Familiar {
    /// The share of the training cells that express each gene, from (n + ½) / (cells + 1).
    presence: Vec<f32>,
    /// The range of surprise that holds 99 % of the training cells.
    range: (f64, f64),
}

/// The share of the training cells that is taken for unlike them.
const TAIL: f64 = 0.01;
/// A larger share of other cells is warned of.
pub const MANY_UNLIKE: f64 = 0.05;

impl Familiar {
    /// What these cells are like.
    pub fn of(cells: &Cells) -> Self {
        let mut count = vec![0f64; cells.n_genes()];
        cells.x.indices.iter().for_each(|&gene| count[gene as usize] += 1.0);
        let presence = count.iter().map(|n| ((n + 0.5) / (cells.len() as f64 + 1.0)) as f32).collect();
        let mut surprises = surprises_among(&cells.x, &count);
        surprises.sort_by(f64::total_cmp);
        let range = (quantile(&surprises, TAIL / 2.0), quantile(&surprises, 1.0 - TAIL / 2.0));
        Self { presence, range }
    }

    /// As it stands in a file.
    pub fn to_json(&self) -> Json {
        json!({ "presence": self.presence, "surprise": [self.range.0, self.range.1] })
    }

    /// From a file; none where it does not say it.
    pub fn from_json(json: &Json) -> Option<Self> {
        let presence = json["presence"].as_array()?.iter().map(|p| p.as_f64().map(|p| p as f32));
        let range = (json["surprise"][0].as_f64()?, json["surprise"][1].as_f64()?);
        Some(Self { presence: presence.collect::<Option<_>>()?, range })
    }

    /// The share of the training cells that express each gene.
    pub fn presence(&self) -> &[f32] {
        &self.presence
    }

    fn surprises(&self, x: &Csr) -> Vec<f64> {
        let odds = |p: f32| ((1.0 - f64::from(p)) / f64::from(p)).ln();
        let odds: Vec<f64> = self.presence.iter().map(|&p| odds(p)).collect();
        let silent: f64 = self.presence.iter().map(|&p| -(1.0 - f64::from(p)).ln()).sum();
        let genes = self.presence.len().max(1) as f64;
        let of = |i: usize| (silent + x.row(i).0.iter().map(|&g| odds[g as usize]).sum::<f64>()) / genes;
        (0..x.n_rows()).map(of).collect()
    }

    /// The share of cells that are unlike the training cells, of which 1 % are. The cells have the model's genes.
    ///
    /// # Errors
    /// When the cells can't be read.
    pub fn unlike(&self, cells: &CellSet) -> Result<f64> {
        let mut unlike = 0;
        cells.each_matrix(&mut |_, x| {
            let outside = |s: &f64| *s < self.range.0 || *s > self.range.1;
            unlike += self.surprises(x).iter().filter(|s| outside(s)).count();
            Ok(())
        })?;
        Ok(unlike as f64 / cells.len().max(1) as f64)
    }
}

/// The surprise of each cell by what the others among them express; `count` is how many express each gene. Of few cells each
/// would be less surprising than a cell that is not among them, if its own genes counted.
fn surprises_among(x: &Csr, count: &[f64]) -> Vec<f64> {
    let n = x.n_rows().max(1) as f64;
    // A cell that expresses the gene is one of those that do, one that does not is none of them.
    let expressed = |&c: &f64| -((c - 0.5).max(0.5) / n).ln();
    let silent = |&c: &f64| -((n - c - 0.5).max(0.5) / n).ln();
    let odds: Vec<f64> = count.iter().map(|c| expressed(c) - silent(c)).collect();
    let (all_silent, genes): (f64, f64) = (count.iter().map(silent).sum(), count.len().max(1) as f64);
    let of = |i: usize| (all_silent + x.row(i).0.iter().map(|&g| odds[g as usize]).sum::<f64>()) / genes;
    (0..x.n_rows()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Frame;
    use crate::run::seeded_stream;
    use rand::RngExt;
    use std::sync::Arc;

    fn cells(presence: [f64; 2], seed: u64) -> CellSet {
        let (mut stream, mut x) = (seeded_stream(seed, 0), Csr::empty(60));
        for _ in 0..400 {
            let value = |g: u32| f32::from(u8::from(stream.random_bool(presence[g as usize % 2])));
            x.push_row((0..60u32).map(|g| (g, 0.0)).map(|(g, _)| g).zip((0..60).map(value)));
        }
        let names = |n: usize, of: &str| Frame::of_names((0..n).map(|i| format!("{of}{i}")).collect());
        CellSet::Held(Arc::new(Cells::new(x, names(400, "c"), names(60, "g"))))
    }

    #[test]
    fn cells_of_another_kind_are_unlike_and_of_the_same_kind_are_not() {
        let train = cells([0.8, 0.1], 1).load().unwrap();
        let familiar = Familiar::of(&train);
        let again = Familiar::from_json(&familiar.to_json()).unwrap();
        assert_eq!(again.presence, familiar.presence);
        assert!(again.unlike(&cells([0.8, 0.1], 2)).unwrap() < 0.04);
        assert!(again.unlike(&cells([0.1, 0.8], 3)).unwrap() > 0.99);
        assert!(again.unlike(&cells([0.3, 0.02], 4)).unwrap() > 0.5, "shallower cells");
        assert!(Familiar::from_json(&Json::Null).is_none());
    }
}
