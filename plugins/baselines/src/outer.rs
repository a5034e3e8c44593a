//! What baselines of gene scores learn: a number for each lost gene times a number for each other gene.

use lacuna_sdk::ndarray::aview1;
use lacuna_sdk::prelude::*;
use lacuna_sdk::rows::Genes;

/// What such a baseline declares; each adds where it comes from. Evaluations of measured perturbations take it, those of
/// profiles and impacts do not.
pub const EFFECTS: ModelInfo =
    ModelInfo { answers: Answers::GeneScores, scale: Scale::Log1pCp10k, ..crate::BASELINE };

/// The score of gene j for the loss of gene g is `lost[g] · gained[j]`; that of several genes the sum; a lost gene scores
/// 0. The same in every cell.
#[derive(Debug, PartialEq)]
pub struct Outer {
    genes: Genes,
    lost: Vec<f32>,
    gained: Vec<f32>,
}

impl Outer {
    /// One number for each gene when it is lost, and one when another is.
    pub fn new(cells: &Cells<'_>, lost: Vec<f32>, gained: Vec<f32>) -> Result<Self> {
        Ok(Self { genes: Genes::of(cells)?, lost, gained })
    }

    fn write(&self, knockout: &Knockout<'_>, row: &mut [f32]) -> Result<(), String> {
        let n = self.genes.len();
        if let Some(gene) = knockout.genes.iter().find(|&&gene| gene as usize >= n) {
            return Err(format!("expected a gene below {n}, found gene {gene}"));
        }
        if let Some(level) = knockout.levels.iter().find(|level| **level != 0.0) {
            return Err(format!("expected level 0, found level {level}"));
        }
        let lost: f32 = knockout.genes.iter().map(|&gene| self.lost[gene as usize]).sum();
        row.iter_mut().zip(&self.gained).for_each(|(score, gained)| *score = lost * gained);
        knockout.genes.iter().for_each(|&gene| row[gene as usize] = 0.0);
        Ok(())
    }
}

impl Fitted for Outer {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.genes.check(&query.cells)?;
        answer.spread.iter_mut().for_each(|spread| spread.fill(f32::NAN));
        let mut row = vec![0.0; self.genes.len()];
        let mut rows = answer.values.rows_mut().into_iter();
        for (i, knockout) in query.knockouts.iter().enumerate() {
            cx.check()?;
            self.write(&knockout, &mut row).map_err(|e| Error::data(format!("knockout {i}: {e}")))?;
            rows.by_ref().take(query.samples).for_each(|mut sample| sample.assign(&aview1(&row)));
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>> {
        let n = self.genes.len();
        self.genes.save().tensor("lost", &[n], &self.lost).tensor("gained", &[n], &self.gained).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let part = |name| saved.get_tensor(name, &[genes.len()]).map(<[f32]>::to_vec);
        let (lost, gained) = (part("lost")?, part("gained")?);
        Ok(Self { genes, lost, gained })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    fn outer() -> (OwnedCells, Outer) {
        let owned = testing::cells(&[&[1.0, 2.0, 3.0]]);
        let learned = (vec![1.0, -2.0, 0.5], vec![4.0, 5.0, 6.0]);
        let outer = Outer::new(&Cells::from_view(&owned.to_view()), learned.0, learned.1).unwrap();
        (owned, outer)
    }

    #[test]
    fn losses_add_up_and_the_lost_score_nothing() {
        let (cells, outer) = outer();
        let ask = |lost: &[&[u32]]| testing::predict(&outer, &cells, &testing::population(lost));
        let found = ask(&[&[0], &[0, 1], &[]]).unwrap();
        let rows: Vec<Vec<f32>> = found.rows().into_iter().map(|row| row.to_vec()).collect();
        assert_eq!(rows, [[0.0, 5.0, 6.0], [0.0, 0.0, -6.0], [0.0; 3]]);
        assert_eq!(ask(&[&[3]]), Err(Error::data("knockout 0: expected a gene below 3, found gene 3")));
    }

    #[test]
    fn a_saved_one_is_the_same_and_a_cut_one_is_refused() {
        let outer = outer().1;
        let bytes = outer.save().unwrap();
        assert_eq!(Outer::load(&bytes).unwrap(), outer);
        assert!((0..bytes.len()).step_by(7).all(|n| Outer::load(&bytes[..n]).is_err()));
    }
}
