//! `dose`

use crate::gene_pairs::GenePairs;
use crate::log_expression::{LogExpression, log_of_share};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `dose`.
    pub struct DoseConfig {
        /// λ, added to the sum of squares of the target's log expression: the fewer cells express it, and the
        /// less it varies, the nearer all slopes are to 0. A knockout is far from any dose that was seen, and
        /// a slope that is a little wrong is very wrong there.
        #[range(above(0.0))]
        ridge: f64 = 100.0,
    }
}

/// Genes follow the dose of a target. With x = log(1 + 10,000 p), the slope of gene j on target g is
///
/// β = Σ(x_g − x̄_g)(x_j − x̄_j) / (Σ(x_g − x̄_g)² + λ)
///
/// over the training cells that express both: in the answer, what is silent stays silent, so that the slope has to say
/// how much there is of a gene that is expressed. (Over all cells that express g, whether j is there at all outweighs
/// the rest: on cells of `grn`, impacts then correlated with the true ones by −.05 instead of .27.) In a cell where g has
/// c counts per 10,000, level l changes gene j by the factor exp(β (log(1 + l c) − log(1 + c))), and g itself by l; then
/// the profile is closed. Factors of several targets multiply, also on each other, so that a target of level 1 is as good
/// as none. A silent target changes nothing.
///
/// At level 1 the answer is the cell's own profile, to the last bit. Kept are the slopes, genes × genes, of at most
/// 3,000 genes.
pub struct Dose(DoseConfig);

impl Component for Dose {
    const ID: &'static str = "dose";
    const DOC: &'static str = "Changes a cell's profile by each gene's slope on the dose of the target";
    type Config = DoseConfig;
    fn new(config: DoseConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Dose {
    type Fitted = Slopes;
    const INFO: ModelInfo = ModelInfo {
        levels: Levels::Any,
        sees_expression: true,
        source: "ridge regression of log CP10k on the target's, over the cells that express both",
        ..ModelInfo::PROFILES
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Slopes> {
        let x = LogExpression::of(&training.cells);
        let pairs = GenePairs::learn(&training.cells, &x, cx, |target, row| {
            let mut sums = vec![Sums::default(); x.n_genes()];
            let doses = x.of_gene(target);
            let mean = doses.iter().map(|&(_, x)| x).sum::<f64>() / doses.len().max(1) as f64;
            for &(cell, dose) in doses {
                // Less the mean, which changes no slope, so that sums of products stay accurate.
                x.of_cell(cell).iter().for_each(|&(gene, y)| sums[gene].add(dose - mean, y));
            }
            row.iter_mut().zip(sums).for_each(|(slope, sums)| *slope = sums.slope(self.0.ridge) as f32);
            // The target itself is given by its level.
            row[target] = 0.0;
        })?;
        Ok(Slopes(pairs))
    }
}

/// Sums over the cells that express both a target, with x, and a gene, with y.
#[derive(Clone, Copy, Default)]
struct Sums {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// Σ(x − x̄)(y − ȳ) / (Σ(x − x̄)² + λ); 0 without cells.
    fn slope(&self, ridge: f64) -> f64 {
        let n = self.n.max(1.0);
        (self.xy - self.x * self.y / n) / (self.xx - self.x * self.x / n + ridge)
    }
}

/// The slope of each gene on each target; row: target.
#[derive(Debug)]
pub struct Slopes(GenePairs);

impl Fitted for Slopes {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let mut changed = Changed::default();
        self.0.genes.answer(query, answer, cx, |knockout, profile, _| {
            changed.read(&query.cells, knockout)?;
            let targets = knockout.genes.iter().zip(knockout.levels);
            targets.for_each(|(&gene, &level)| changed.apply(gene, f64::from(level), &self.0));
            changed.write(profile);
            Ok(())
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        self.0.save().to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self(GenePairs::load(&Saved::from_bytes(bytes)?)?))
    }
}

/// A cell on its way. Keeps its memory from one knockout to the next.
#[derive(Default)]
struct Changed {
    /// The genes that the cell expresses, ascending.
    genes: Vec<u32>,
    /// What it has of each.
    before: Vec<f64>,
    /// The same times the levels.
    values: Vec<f64>,
    /// Σ before.
    total: f64,
    /// The logarithm of the factor of each gene.
    logs: Vec<f64>,
}

impl Changed {
    fn read(&mut self, cells: &Cells<'_>, knockout: &Knockout<'_>) -> Result<(), String> {
        let cell = knockout.cell.ok_or("expected a cell, found the population")?;
        if cell >= cells.len() {
            return Err(format!("expected a cell below {}, found cell {cell}", cells.len()));
        }
        if let Some(level) = knockout.levels.iter().find(|level| !(0.0..=f32::MAX).contains(*level)) {
            return Err(format!("expected a level of 0 or more, found level {level}"));
        }
        self.genes.clear();
        self.genes.extend_from_slice(cells.assemblage(cell));
        self.before.clear();
        self.before.extend(cells.values(cell).iter().map(|&value| f64::from(value)));
        self.values.clone_from(&self.before);
        self.total = cells.total(cell);
        self.logs.clear();
        self.logs.resize(self.genes.len(), 0.0);
        Ok(())
    }

    /// Gives a target a level.
    fn apply(&mut self, target: u32, level: f64, slopes: &GenePairs) {
        let Ok(place) = self.genes.binary_search(&target) else { return };
        let share = self.before[place] / self.total;
        let change = log_of_share(level * share) - log_of_share(share);
        let slopes = slopes.of_gene(target);
        for (log, &gene) in self.logs.iter_mut().zip(&self.genes) {
            *log += f64::from(slopes[gene as usize]) * change;
        }
        self.values[place] *= level;
    }

    /// Writes the closed profile, shape (genes). Nothing is left of a cell that has lost all that it expressed.
    fn write(&mut self, profile: &mut [f32]) {
        // Closing takes any common factor out again: without the largest, none is infinite.
        let left = self.logs.iter().zip(&self.values).filter(|(_, value)| **value > 0.0);
        let largest = left.map(|(log, _)| *log).fold(f64::NEG_INFINITY, f64::max);
        let factors = self.logs.iter().map(|log| (log - largest).exp());
        self.values
            .iter_mut()
            .zip(factors)
            .filter(|(value, _)| **value > 0.0)
            .for_each(|(v, factor)| *v *= factor);
        let total: f64 = self.values.iter().sum();
        let left = self.genes.iter().zip(&self.values).filter(|(_, value)| **value > 0.0);
        left.for_each(|(&gene, value)| profile[gene as usize] = (value / total) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::ndarray::Array2;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    /// Cells whose shares are those of log expression x: (e^x − 1) / 10,000, the last gene having the rest.
    fn cells_of(rows: &[[f64; 2]]) -> OwnedCells {
        let mut cells = OwnedCells::new(["target", "follower", "rest"].map(String::from).to_vec());
        for (i, row) in rows.iter().enumerate() {
            let shares = row.map(|x| (x.exp_m1() / 1e4) as f32);
            cells.push(format!("c{i}"), &[shares[0], shares[1], 1.0 - shares[0] - shares[1]]);
        }
        cells
    }

    /// The follower rises by 2 where the target does by 1. The last two cells lack one of them and do not count.
    fn followed() -> OwnedCells {
        cells_of(&[[2.0, 1.0], [3.0, 3.0], [4.0, 5.0], [0.0, 6.0], [5.0, 0.0]])
    }

    fn fit(cells: &OwnedCells, ridge: f64) -> Slopes {
        testing::fit(&Dose::new(DoseConfig { ridge }).unwrap(), cells).unwrap()
    }

    /// The profile of a cell with these levels.
    fn ask(fitted: &Slopes, cells: &OwnedCells, cell: usize, levels: &[(u32, f32)]) -> Result<Vec<f32>> {
        let mut list = KnockoutList::new();
        list.push_levels(cell, levels);
        Ok(testing::predict(fitted, cells, &list)?.row(0).to_vec())
    }

    fn profile(cells: &OwnedCells, cell: usize) -> Vec<f32> {
        let view = cells.to_view();
        let mut profile = vec![0.0; 3];
        Cells::from_view(&view).write_profile(cell, &mut profile);
        profile
    }

    #[test]
    fn slopes_are_those_of_a_damped_regression_over_cells_that_express_both() {
        for (ridge, expected) in [(1e-9, 2.0), (2.0, 1.0), (6.0, 0.5)] {
            // Σ(x − 3)² = 2, Σ(x − 3) y = 4.
            let slope = fit(&followed(), ridge).0.of_gene(0)[1];
            assert!((f64::from(slope) - expected).abs() < 1e-4, "λ = {ridge}: {slope}");
        }
    }

    #[test]
    fn the_follower_changes_by_its_slope_and_the_target_by_its_level() {
        let (cells, fitted) = (followed(), fit(&followed(), 2.0));
        let [slope, of_rest] = [1, 2].map(|gene| f64::from(fitted.0.of_gene(0)[gene]));
        for level in [0.0, 0.3, 2.0] {
            let counts = profile(&cells, 1).iter().map(|&p| f64::from(p) * 1e4).collect::<Vec<_>>();
            let change = (f64::from(level) * counts[0]).ln_1p() - counts[0].ln_1p();
            let expected = [
                counts[0] * f64::from(level),
                counts[1] * (slope * change).exp(),
                counts[2] * (of_rest * change).exp(),
            ];
            let found = ask(&fitted, &cells, 1, &[(0, level)]).unwrap();
            for (found, expected) in found.iter().zip(expected.map(|e| e / expected.iter().sum::<f64>())) {
                assert!(
                    (f64::from(*found) / expected.max(1e-30) - 1.0).abs() < 1e-5 || *found == 0.0,
                    "{level}"
                );
            }
            assert_eq!(found[0] == 0.0, level == 0.0);
        }
    }

    fn random_cells() -> OwnedCells {
        let mut stream = testing::context(3).stream(0);
        let mut cells = OwnedCells::new((0..9).map(|j| format!("g{j}")).collect());
        for c in 0..30 {
            let value = |_| if stream.random_bool(0.7) { stream.random_range(0.1..9.0) } else { 0.0 };
            cells.push(format!("c{c}"), &(0..9).map(value).collect::<Vec<f32>>());
        }
        cells
    }

    #[test]
    fn level_1_is_the_cell_s_own_profile_to_the_last_bit() {
        let owned = random_cells();
        let fitted = fit(&owned, 1.0);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let mut own = vec![0.0; 9];
        for cell in 0..cells.len() {
            cells.write_profile(cell, &mut own);
            assert_eq!(ask(&fitted, &owned, cell, &[]).unwrap(), own);
            assert_eq!(ask(&fitted, &owned, cell, &[(2, 1.0)]).unwrap(), own);
            assert_eq!(ask(&fitted, &owned, cell, &[(0, 1.0), (5, 1.0)]).unwrap(), own);
            // Beside another target, one of level 1 is as good as none.
            let alone = ask(&fitted, &owned, cell, &[(5, 0.4)]).unwrap();
            assert_eq!(ask(&fitted, &owned, cell, &[(3, 1.0), (5, 0.4)]).unwrap(), alone);
        }
    }

    #[test]
    fn answers_are_continuous_in_the_level_closed_and_silent_where_the_cell_is() {
        let owned = random_cells();
        let fitted = fit(&owned, 1.0);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let levels = [0.0f32, 1e-6, 0.1, 0.5, 0.999_999, 1.0, 1.000_001, 2.0];
        for cell in 0..cells.len() {
            let rows: Vec<Vec<f32>> = levels
                .iter()
                .map(|&level| ask(&fitted, &owned, cell, &[(1, level), (4, 0.7)]).unwrap())
                .collect();
            let apart = |a: usize, b: usize| -> f32 {
                rows[a].iter().zip(&rows[b]).map(|(a, b)| (a - b).abs()).sum()
            };
            // Near level 0 the slope in the level is steepest: about 10,000 p.
            assert!(apart(0, 1) < 0.1 && apart(4, 5) < 1e-4 && apart(5, 6) < 1e-4, "cell {cell}");
            for row in &rows {
                let expressed = cells.assemblage(cell);
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5 || expressed.is_empty());
                assert!(row.iter().zip(0..).all(|(&p, gene)| p == 0.0 || expressed.contains(&gene)));
            }
        }
    }

    #[test]
    fn a_silent_target_changes_nothing_and_an_only_gene_leaves_nothing() {
        let cells = testing::cells(&[&[1.0, 2.0, 1.0], &[0.0, 3.0, 1.0], &[0.0, 0.0, 2.0]]);
        let fitted = fit(&cells, 1.0);
        assert_eq!(ask(&fitted, &cells, 1, &[(0, 0.0)]).unwrap(), [0.0, 0.75, 0.25]);
        assert_eq!(ask(&fitted, &cells, 2, &[(2, 0.0)]).unwrap(), [0.0; 3]);
        assert_eq!(ask(&fitted, &cells, 2, &[(2, 5.0)]).unwrap(), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn steep_slopes_and_high_levels_stay_finite() {
        let (cells, fitted) = (followed(), fit(&followed(), 1e-9));
        let found = ask(&fitted, &cells, 0, &[(0, 1e30)]).unwrap();
        assert!(
            found.iter().all(|p| p.is_finite()) && (found.iter().sum::<f32>() - 1.0).abs() < 1e-5,
            "{found:?}"
        );
    }

    #[test]
    fn a_saved_model_answers_the_same() {
        let (cells, fitted) = (random_cells(), fit(&random_cells(), 1.0));
        let bytes = fitted.save().unwrap();
        let loaded = Slopes::load(&bytes).unwrap();
        assert_eq!(loaded.save().unwrap(), bytes);
        let all =
            |fitted| (0..30).map(|cell| ask(fitted, &cells, cell, &[(3, 0.2)]).unwrap()).collect::<Vec<_>>();
        assert_eq!(all(&loaded), all(&fitted));
    }

    #[test]
    fn what_is_no_dose_in_a_cell_is_refused() {
        let (cells, fitted) = (followed(), fit(&followed(), 1.0));
        let error = |levels: &[(u32, f32)]| ask(&fitted, &cells, 0, levels).unwrap_err();
        for level in [-0.5, f32::NAN, f32::INFINITY] {
            let message = format!("knockout 0: expected a level of 0 or more, found level {level}");
            assert_eq!(error(&[(1, level)]), Error::data(message));
        }
        let population: Result<Array2<f32>> =
            testing::predict(&fitted, &cells, &testing::population(&[&[0]]));
        assert_eq!(population.unwrap_err(), Error::data("knockout 0: expected a cell, found the population"));
        let outside = ask(&fitted, &cells, 5, &[]).unwrap_err();
        assert_eq!(outside, Error::data("knockout 0: expected a cell below 5, found cell 5"));
    }
}
