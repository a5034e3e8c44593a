//! Measured cells drawn again: with replacement or in halves, cell by cell or replicate by replicate.

use crate::data::Cells;
use crate::plugin::Services;
use crate::run::{obs_column, seeded_stream};
use anyhow::{Result, bail};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// Where the streams of the splits begin, beyond those of the draws.
const SPLITS: u64 = 1 << 32;

/// What is drawn in each arm: the controls, and the cells of each perturbation.
pub struct Arms {
    arms: Vec<Arm>,
    cells: usize,
}

/// Cells, or the cells of one replicate each.
struct Arm {
    units: Vec<Vec<usize>>,
    replicates: bool,
}

impl Arm {
    fn of_cells(rows: &[usize]) -> Self {
        Self { units: rows.iter().map(|&row| vec![row]).collect(), replicates: false }
    }
}

/// Of fewer replicates an interval by draws is too narrow.
const FEW: usize = 6;

impl Arms {
    /// Each perturbation's label and cells beside the controls. With `replicate`, an annotation, replicates are drawn where
    /// an arm has at least two of them.
    pub fn new(
        cells: &Cells,
        controls: &[usize],
        (labels, members): (&[String], &[Vec<usize>]),
        (replicate, host): (Option<&str>, &Services),
    ) -> Result<Self> {
        let rows: Vec<&[usize]> =
            std::iter::once(controls).chain(members.iter().map(Vec::as_slice)).collect();
        let Some(name) = replicate else {
            return Ok(Self { arms: rows.into_iter().map(Arm::of_cells).collect(), cells: cells.len() });
        };
        let of = obs_column(&cells.obs, name)?.texts();
        let (mut arms, mut single, mut few) = (vec![], vec![], vec![]);
        for (i, rows) in rows.into_iter().enumerate() {
            let mut units: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for &row in rows {
                let Some(value) = &of[row] else {
                    bail!(
                        "cell {} has no value of `{name}`, which names the replicates",
                        cells.obs.names[row]
                    );
                };
                units.entry(value).or_default().push(row);
            }
            let whose = if i == 0 { "controls" } else { labels[i - 1].as_str() };
            if (2..FEW).contains(&units.len()) {
                few.push(format!("{} of {whose}", units.len()));
            }
            arms.push(if units.len() < 2 {
                single.push(whose);
                Arm::of_cells(rows)
            } else {
                Arm { units: units.into_values().collect(), replicates: true }
            });
        }
        if !single.is_empty() {
            host.warn(format!(
                "one replicate by `{name}`: {}. Their cells are drawn instead: intervals cover cells, not animals or \
                 donors",
                single.join(", ")
            ));
        }
        if !few.is_empty() {
            host.warn(format!(
                "fewer than {FEW} replicates by `{name}`: {}. Intervals by so few are too narrow: of 2 they hold 60 %, of 4 \
                 80 %, not 95 %",
                few.join(", ")
            ));
        }
        Ok(Self { arms, cells: cells.len() })
    }

    /// What is drawn of perturbation `i` and the controls.
    pub fn covers(&self, i: usize) -> &'static str {
        if self.arms[0].replicates && self.arms[i + 1].replicates { "replicates" } else { "cells" }
    }

    /// How often each cell counts in draw `n` with replacement, as many in each arm as it has.
    pub fn draw(&self, seed: u64, n: usize) -> Vec<u32> {
        let mut stream = seeded_stream(seed, n as u64);
        let mut weights = vec![0; self.cells];
        for arm in self.arms.iter().filter(|arm| !arm.units.is_empty()) {
            for _ in 0..arm.units.len() {
                let unit = &arm.units[stream.random_range(0..arm.units.len())];
                unit.iter().for_each(|&row| weights[row] += 1);
            }
        }
        weights
    }

    /// Which cells are in the one half of each arm, and which in the other, in split `n`.
    pub fn halves(&self, seed: u64, n: usize) -> [Vec<u32>; 2] {
        let mut stream = seeded_stream(seed, SPLITS + n as u64);
        let mut halves = [vec![0; self.cells], vec![0; self.cells]];
        for arm in &self.arms {
            let mut order: Vec<usize> = (0..arm.units.len()).collect();
            order.shuffle(&mut stream);
            for (i, unit) in order.into_iter().enumerate() {
                arm.units[unit].iter().for_each(|&row| halves[i % 2][row] = 1);
            }
        }
        halves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Csr, Frame};
    use arrow_array::StringArray;
    use std::sync::Arc;

    fn silent() -> Services {
        crate::plugin::Services::silent(0, Default::default())
    }

    /// Eight cells of the donors a, b, a, b, …, of which the last two are all c.
    fn cells() -> Cells {
        let mut obs = Frame::of_names((0..8).map(|i| format!("c{i}")).collect());
        let donors = StringArray::from(vec!["a", "b", "a", "b", "a", "b", "c", "c"]);
        obs.push("donor", Arc::new(donors));
        let mut x = Csr::empty(1);
        (0..8).for_each(|_| x.push_row(std::iter::once((0, 1.0))));
        Cells::new(x, obs, Frame::of_names(vec!["g".into()]))
    }

    fn arms(replicate: Option<&str>, host: &Services) -> Result<Arms> {
        let labels = ["P".to_string(), "Q".into()];
        let members = [vec![4, 5], vec![6, 7]];
        Arms::new(&cells(), &[0, 1, 2, 3], (&labels, &members), (replicate, host))
    }

    #[test]
    fn a_draw_has_as_many_cells_in_each_arm_and_halves_share_them_out() {
        let arms = arms(None, &silent()).unwrap();
        let sums = |w: &[u32]| [&w[..4], &w[4..6], &w[6..]].map(|arm| arm.iter().sum::<u32>());
        for n in 0..20 {
            assert_eq!(sums(&arms.draw(3, n)), [4, 2, 2]);
            let [one, other] = arms.halves(3, n);
            assert!(one.iter().zip(&other).all(|(a, b)| a + b == 1));
            assert_eq!((sums(&one), sums(&other)), ([2, 1, 1], [2, 1, 1]));
        }
        assert_ne!(arms.draw(3, 0), arms.draw(3, 1));
        assert_eq!(arms.draw(3, 1), arms.draw(3, 1));
    }

    #[test]
    fn replicates_are_drawn_whole_and_a_single_one_is_said() {
        let host = silent();
        let arms = arms(Some("donor"), &host).unwrap();
        let warned = host.warnings().join("; ");
        assert!(warned.contains("one replicate by `donor`: Q. Their cells are drawn"), "{warned}");
        assert_eq!((arms.covers(0), arms.covers(1)), ("replicates", "cells"));
        for n in 0..20 {
            let weights = arms.draw(1, n);
            assert!(weights[0] == weights[2] && weights[1] == weights[3] && weights[0] + weights[1] == 2);
        }
    }

    #[test]
    fn an_unknown_annotation_is_an_error() {
        let error = arms(Some("doner"), &silent()).err().unwrap().to_string();
        assert!(error.contains("did you mean `donor`?"), "{error}");
    }
}
