//! Replicates, such as donors or animals, and the halves that they are drawn into.

use crate::data::Cells;
use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use std::collections::BTreeSet;

/// The value of the annotation; cells without one are a replicate too.
type Name = Option<String>;

/// The replicates of the cells that a model learns from.
pub struct Replicates {
    annotation: String,
    training: BTreeSet<Name>,
    validation: BTreeSet<Name>,
}

impl Replicates {
    /// Those that an annotation of training and validation cells names.
    pub fn of(annotation: &str, train: &Cells, held: Option<&Cells>) -> Result<Self> {
        let names =
            |cells: &Cells| -> Result<BTreeSet<Name>> { Ok(named(cells, annotation)?.into_iter().collect()) };
        let validation = held.map(names).transpose()?.unwrap_or_default();
        Ok(Self { annotation: annotation.into(), training: names(train)?, validation })
    }

    /// How many of them have training cells.
    pub fn of_training(&self) -> usize {
        self.training.len()
    }

    /// The rows of one half of these cells; `None` if they are of one replicate.
    pub fn half(
        &self,
        cells: &Cells,
        first: bool,
        stream: &mut impl rand::Rng,
    ) -> Result<Option<Vec<usize>>> {
        let names = named(cells, &self.annotation)?;
        if names.iter().all(|name| *name == names[0]) {
            return Ok(None);
        }
        let of_first = self.first(stream);
        Ok(Some((0..names.len()).filter(|&cell| of_first.contains(&names[cell]) == first).collect()))
    }

    /// One half, drawn at random. Each half has training cells of as many, but for one, and validation cells of as many: a
    /// replicate that has both is with both in one half.
    fn first(&self, stream: &mut impl rand::Rng) -> BTreeSet<&Name> {
        let (training, validation) = (&self.training, &self.validation);
        let mut both: Vec<&Name> = training.intersection(validation).collect();
        let mut of_validation: Vec<&Name> = validation.difference(training).collect();
        let mut of_training: Vec<&Name> = training.difference(validation).collect();
        [&mut both, &mut of_validation, &mut of_training].into_iter().for_each(|names| names.shuffle(stream));
        // To either half in turn; those of one kind of cells go on where those of both ended.
        let next = both.len();
        let turns = (0..next).chain(next..next + of_validation.len()).chain(next..);
        let all = both.into_iter().chain(of_validation).chain(of_training);
        all.zip(turns).filter(|(_, turn)| turn % 2 == 0).map(|(name, _)| name).collect()
    }
}

/// The replicate of each cell.
fn named(cells: &Cells, annotation: &str) -> Result<Vec<Name>> {
    let column = crate::run::obs_column(&cells.obs, annotation).context("`replicate`")?;
    Ok(column.texts())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Csr, Frame};
    use crate::run::seeded_stream;
    use arrow_array::StringArray;
    use std::sync::Arc;

    /// Two cells of each of these donors.
    fn cells(donors: &[&str]) -> Cells {
        let mut x = Csr::empty(1);
        (0..2 * donors.len()).for_each(|_| x.push_row([(0, 1.0)].into_iter()));
        let mut obs = Frame::of_names((0..2 * donors.len()).map(|i| format!("c{i}")).collect());
        let values: StringArray = donors.iter().flat_map(|d| [Some(*d), Some(*d)]).collect();
        obs.push("donor", Arc::new(values));
        Cells::new(x, obs, Frame::of_names(vec!["g".into()]))
    }

    fn donors_of(cells: &Cells, rows: &[usize]) -> BTreeSet<Name> {
        let names = named(cells, "donor").unwrap();
        rows.iter().map(|&cell| names[cell].clone()).collect()
    }

    #[test]
    fn no_replicate_is_in_both_halves_and_both_have_training_and_validation_cells() {
        let few: &[&str] = &["a", "b", "c"];
        let cases = [
            (few, few),
            (&["a", "b", "c", "d", "e"], &["a", "b"]),
            (&["a", "b", "c", "d"], &["e", "f", "g"]),
            (&["a", "b", "c", "d"], &["d", "e"]),
        ];
        for (train, held) in cases.map(|(train, held)| (cells(train), cells(held))) {
            let replicates = Replicates::of("donor", &train, Some(&held)).unwrap();
            for draw in 0..20 {
                let half = |cells: &Cells, first| {
                    let rows = replicates.half(cells, first, &mut seeded_stream(draw, 0)).unwrap().unwrap();
                    donors_of(cells, &rows)
                };
                let [train, held] = [&train, &held].map(|cells| [half(cells, true), half(cells, false)]);
                assert!(train[0].len().abs_diff(train[1].len()) <= 1, "{train:?}");
                assert!(held[0].len().abs_diff(held[1].len()) <= 1, "{held:?}");
                for side in [0, 1] {
                    assert!(!train[side].is_empty() && !held[side].is_empty());
                    let other = train[1 - side].union(&held[1 - side]).cloned().collect();
                    assert!(
                        train[side].union(&held[side]).cloned().collect::<BTreeSet<_>>().is_disjoint(&other)
                    );
                }
            }
        }
    }

    #[test]
    fn cells_of_one_replicate_are_not_halved_by_it() {
        let (train, held) = (cells(&["a", "b"]), cells(&["c"]));
        let replicates = Replicates::of("donor", &train, Some(&held)).unwrap();
        assert_eq!(replicates.of_training(), 2);
        assert!(replicates.half(&held, true, &mut seeded_stream(1, 0)).unwrap().is_none());
        let wrong = Replicates::of("animal", &train, None).err().unwrap();
        assert!(format!("{wrong:#}").starts_with("`replicate`: the cells have no annotation `animal`"));
    }
}
