//! `additive`

use crate::genes::{Genes, removed_altogether};
use crate::log_expression::log_expression;
use lacuna_sdk::prelude::*;
use std::collections::BTreeMap;

choice! {
    /// What the loss of a gene does that was never measured alone.
    pub enum Unseen {
        /// The mean effect of all measured perturbations.
        Mean = "mean",
        /// Nothing.
        None = "none",
        /// It is an error to ask.
        Refuse = "refuse",
    }
}

config! {
    /// Parameters of `additive`.
    pub struct AdditiveConfig {
        /// What the loss of a gene does that was never measured alone.
        unseen: Unseen = Unseen::Mean,
    }
}

/// Effects of measured perturbations, added up: the baseline of Ahlmann-Eltze & Huber, Nature Methods 2025.
///
/// With x = log(1 + 10,000 p), the effect of a perturbation is the mean of x over its cells less that over the control
/// cells, and the answer for a population is the mean of x over its cells, plus the effects of the removed genes measured
/// alone, 0 where that is less; the removed genes are 0. A loss of no gene leaves the cells as they are.
///
/// The spread is the standard error of that sum, with the cells of the query taken for others than those of the
/// training; of a gene that was never measured alone, the standard deviation of the measured effects stands in. NaN
/// where nothing is known: of a perturbation of one cell, and of an unseen gene that does nothing.
pub struct Additive(AdditiveConfig);

impl Component for Additive {
    const ID: &'static str = "additive";
    const DOC: &'static str =
        "The cells' mean plus the measured effects of the removed genes, each measured alone";
    type Config = AdditiveConfig;
    fn new(config: AdditiveConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for Additive {
    type Fitted = Effects;
    const INFO: ModelInfo = ModelInfo {
        answers: Answers::Means,
        scale: Scale::Log1pCp10k,
        needs_labels: true,
        sees_expression: true,
        source: "Ahlmann-Eltze & Huber, Nature Methods 2025: the additive model",
        ..ModelInfo::PROFILES
    };

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Effects> {
        let (cells, mut groups) = (&training.cells, groups(training)?);
        let controls = groups.remove(&[][..]).unwrap_or_default();
        if controls.is_empty() || groups.is_empty() {
            let (all, controls) = (cells.len(), controls.len());
            return Err(Error::data(format!(
                "expected control cells and perturbed cells, found {controls} controls among {all} cells"
            )));
        }
        let control = Mean::of(cells, controls.into_iter(), cx)?;
        let groups: Vec<(&[u32], Vec<usize>)> = groups.into_iter().collect();
        let means = cx.parallel_map(groups.len(), |i| Mean::of(cells, groups[i].1.iter().copied(), cx));
        let means = means.into_iter().collect::<Result<Vec<_>>>()?;
        let any = Mean::effect_of_any(&means, &control);
        let singles = groups.iter().zip(means).filter_map(|((genes, _), mean)| match genes {
            [gene] => Some((*gene, mean)),
            _ => None,
        });
        let singles = singles.collect();
        Ok(Effects { genes: Genes::of(cells), unseen: self.0.unseen, control, singles, any })
    }
}

/// The training cells by perturbation, in the order of the genes.
fn groups<'a>(training: &Training<'a>) -> Result<BTreeMap<&'a [u32], Vec<usize>>> {
    let message = "expected the measured perturbation of each training cell, found none: name their annotation in a \
                   step `prepare`, perturbation = \"…\"";
    let labels = training.perturbations.ok_or_else(|| Error::data(message))?;
    let (expected, found) = (training.cells.len(), labels.len());
    if expected != found {
        return Err(Error::data(format!(
            "expected {expected} perturbations, one for each cell, found {found}"
        )));
    }
    let mut groups: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    for cell in 0..found {
        let label = labels.get(cell);
        let name = training.cells.cell_name(cell);
        removed_altogether(&label)
            .map_err(|e| Error::data(format!("the perturbation of cell {name}: {e}")))?;
        groups.entry(label.genes).or_default().push(cell);
    }
    Ok(groups)
}

/// The mean of log expression over some cells.
#[derive(Debug, Clone, PartialEq)]
struct Mean {
    /// Shape (genes).
    mean: Vec<f32>,
    /// Its standard error, shape (genes). NaN for one cell.
    error: Vec<f32>,
}

impl Mean {
    fn of(
        cells: &Cells<'_>,
        rows: impl ExactSizeIterator<Item = usize> + Clone,
        cx: &Context,
    ) -> Result<Self> {
        let n = rows.len() as f64;
        let (mut sums, mut expressing) = (vec![0.0; cells.n_genes()], vec![0.0; cells.n_genes()]);
        for cell in rows.clone() {
            cx.check()?;
            log_expression(cells, cell).for_each(|(gene, x)| {
                sums[gene] += x;
                expressing[gene] += 1.0;
            });
        }
        let mean: Vec<f64> = sums.iter().map(|sum| sum / n).collect();
        // Of the cells that do not express a gene, then of those that do.
        let silent = mean.iter().zip(&expressing).map(|(mean, expressing)| (n - expressing) * mean * mean);
        let mut squares: Vec<f64> = silent.collect();
        for cell in rows {
            log_expression(cells, cell).for_each(|(gene, x)| squares[gene] += (x - mean[gene]).powi(2));
        }
        let error = squares.iter().map(|squares| (squares / (n - 1.0) / n).sqrt() as f32).collect();
        Ok(Self { mean: mean.iter().map(|&mean| mean as f32).collect(), error })
    }

    /// The mean effect of some perturbations, each counted once, and the standard deviation of their effects.
    fn effect_of_any(perturbations: &[Self], control: &Self) -> Self {
        let n = perturbations.len() as f64;
        let effect_of = |gene: usize| {
            let effects =
                perturbations.iter().map(move |p| f64::from(p.mean[gene]) - f64::from(control.mean[gene]));
            let mean = effects.clone().sum::<f64>() / n;
            let squares: f64 = effects.map(|effect| (effect - mean).powi(2)).sum();
            (mean as f32, (squares / (n - 1.0)).sqrt() as f32)
        };
        let (mean, error) = (0..control.mean.len()).map(effect_of).unzip();
        Self { mean, error }
    }
}

/// What was measured.
#[derive(Debug, PartialEq)]
pub struct Effects {
    genes: Genes,
    unseen: Unseen,
    control: Mean,
    /// Of the genes that were measured alone, ascending.
    singles: Vec<(u32, Mean)>,
    /// The effect of a perturbation of which nothing else is known.
    any: Mean,
}

/// A sum, and its variance.
#[derive(Clone, Copy)]
struct Sum {
    value: f64,
    variance: f64,
}

impl Sum {
    fn add(&mut self, mean: &Mean, gene: usize) {
        self.value += f64::from(mean.mean[gene]);
        self.variance += f64::from(mean.error[gene]).powi(2);
    }

    /// Takes the mean away so many times. One that is not taken away adds no error, even if it has none of its own.
    fn subtract(&mut self, times: f64, mean: &Mean, gene: usize) {
        if times > 0.0 {
            self.value -= times * f64::from(mean.mean[gene]);
            self.variance += (times * f64::from(mean.error[gene])).powi(2);
        }
    }
}

impl Effects {
    /// The effects to be added for a knockout, and from how many of them the mean of the controls is to be taken away.
    fn of<'a>(&'a self, knockout: &Knockout<'_>) -> Result<(Vec<Effect<'a>>, f64), String> {
        let effects = knockout.genes.iter().map(|&gene| self.of_gene(gene)).collect::<Result<Vec<_>, _>>()?;
        let less_controls = effects.iter().filter(|effect| matches!(effect, Effect::Mean(_))).count();
        Ok((effects, less_controls as f64))
    }

    fn of_gene(&self, gene: u32) -> Result<Effect<'_>, String> {
        match (self.singles.binary_search_by_key(&gene, |single| single.0), self.unseen) {
            (Ok(place), _) => Ok(Effect::Mean(&self.singles[place].1)),
            (Err(_), Unseen::Mean) => Ok(Effect::Any(&self.any)),
            (Err(_), Unseen::None) => Ok(Effect::Unknown),
            (Err(_), Unseen::Refuse) => {
                let name = self.genes.name(gene);
                Err(format!(
                    "expected genes that were measured alone, since `unseen` is \"refuse\", found `{name}`"
                ))
            }
        }
    }

    /// Writes the answer for a knockout in cells of this mean.
    fn write(
        &self,
        cells: &Mean,
        knockout: &Knockout<'_>,
        values: &mut [f32],
        spread: &mut [f32],
    ) -> Result<(), String> {
        let (effects, less_controls) = self.of(knockout)?;
        for (gene, (value, spread)) in values.iter_mut().zip(spread.iter_mut()).enumerate() {
            let mut sum = Sum { value: 0.0, variance: 0.0 };
            sum.add(cells, gene);
            effects.iter().for_each(|effect| effect.add_to(&mut sum, gene));
            sum.subtract(less_controls, &self.control, gene);
            (*value, *spread) = (sum.value.max(0.0) as f32, sum.variance.sqrt() as f32);
        }
        for &gene in knockout.genes {
            (values[gene as usize], spread[gene as usize]) = (0.0, 0.0);
        }
        Ok(())
    }
}

/// What the loss of one gene adds.
enum Effect<'a> {
    /// The mean of the cells that lack it, less that of the controls.
    Mean(&'a Mean),
    /// The effect of any perturbation.
    Any(&'a Mean),
    /// Nothing, and nobody knows how well that is.
    Unknown,
}

impl Effect<'_> {
    fn add_to(&self, sum: &mut Sum, gene: usize) {
        match self {
            Self::Mean(mean) | Self::Any(mean) => sum.add(mean, gene),
            Self::Unknown => sum.variance = f64::NAN,
        }
    }
}

impl Fitted for Effects {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        let n = query.cells.len();
        if n == 0 && !query.knockouts.is_empty() {
            return Err(Error::data("expected a population of 1 cell or more, found none"));
        }
        let cells = Mean::of(&query.cells, 0..n, cx)?;
        self.genes.answer(query, answer, cx, |knockout, values, spread| {
            if let Some(cell) = knockout.cell {
                return Err(format!("expected the population, found cell {cell}"));
            }
            removed_altogether(knockout)?;
            self.write(&cells, knockout, values, spread)
        })
    }

    fn save(&self) -> Result<Vec<u8>> {
        let n = self.genes.len();
        let measured: Vec<String> =
            self.singles.iter().map(|&(gene, _)| self.genes.name(gene).to_string()).collect();
        let all = |part: fn(&Mean) -> &Vec<f32>| -> Vec<f32> {
            self.singles.iter().flat_map(|(_, single)| part(single)).copied().collect()
        };
        let with = AdditiveConfig { unseen: self.unseen };
        let saved = self.genes.save().params("with", &with).names("measured", &measured);
        let saved = save_mean(saved, "control", &self.control);
        let saved = save_mean(saved, "any", &self.any);
        let saved = saved.tensor("singles mean", &[measured.len(), n], &all(|single| &single.mean));
        saved.tensor("singles error", &[measured.len(), n], &all(|single| &single.error)).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = Genes::load(&saved)?;
        let AdditiveConfig { unseen } = saved.get_params("with")?;
        let (control, any) = (load_mean(&saved, "control", &genes)?, load_mean(&saved, "any", &genes)?);
        let singles = load_singles(&saved, &genes)?;
        Ok(Self { genes, unseen, control, singles, any })
    }
}

fn save_mean(saved: Saved, name: &str, Mean { mean, error }: &Mean) -> Saved {
    let saved = saved.tensor(&format!("{name} mean"), &[mean.len()], mean);
    saved.tensor(&format!("{name} error"), &[error.len()], error)
}

fn load_mean(saved: &Saved, name: &str, genes: &Genes) -> Result<Mean> {
    let part = |part: &str| saved.get_tensor(&format!("{name} {part}"), &[genes.len()]);
    Ok(Mean { mean: part("mean")?.to_vec(), error: part("error")?.to_vec() })
}

fn load_singles(saved: &Saved, genes: &Genes) -> Result<Vec<(u32, Mean)>> {
    let measured = saved.get_names("measured")?;
    let n = genes.len();
    let part = |part: &str| saved.get_tensor(&format!("singles {part}"), &[measured.len(), n]);
    let (means, errors) = (part("mean")?.chunks_exact(n.max(1)), part("error")?.chunks_exact(n.max(1)));
    let mut singles = vec![];
    for (name, (mean, error)) in measured.iter().zip(means.zip(errors)) {
        let gene =
            genes.find(name).ok_or_else(|| Error::data(format!("the saved model has no gene `{name}`")))?;
        singles.push((gene, Mean { mean: mean.to_vec(), error: error.to_vec() }));
    }
    singles.sort_by_key(|single| single.0);
    Ok(singles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_expression::log_of_share;
    use lacuna_sdk::ndarray::Array2;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    /// Eight cells of the total 10: three controls, two without g0, two without g1, one without g0 and g2.
    fn cells() -> OwnedCells {
        testing::cells(&[
            &[1.0, 2.0, 3.0, 4.0],
            &[2.0, 2.0, 2.0, 4.0],
            &[3.0, 2.0, 0.0, 5.0],
            &[0.0, 4.0, 3.0, 3.0],
            &[0.0, 5.0, 0.0, 5.0],
            &[5.0, 0.0, 1.0, 4.0],
            &[4.0, 0.0, 4.0, 2.0],
            &[0.0, 9.0, 0.0, 1.0],
        ])
    }

    const LABELS: [&[u32]; 8] = [&[], &[], &[], &[0], &[0], &[1], &[1], &[0, 2]];

    /// Log expression of tenths.
    fn x(tenths: f64) -> f64 {
        log_of_share(tenths / 10.0)
    }

    fn mean(tenths: &[f64]) -> f64 {
        tenths.iter().map(|&t| x(t)).sum::<f64>() / tenths.len() as f64
    }

    /// The square of the standard error.
    fn variance(tenths: &[f64]) -> f64 {
        let (n, mean) = (tenths.len() as f64, mean(tenths));
        tenths.iter().map(|&t| (x(t) - mean).powi(2)).sum::<f64>() / (n - 1.0) / n
    }

    fn fit(unseen: Unseen) -> Effects {
        let model = Additive::new(AdditiveConfig { unseen }).unwrap();
        testing::fit_labelled(&model, &cells(), &LABELS).unwrap()
    }

    fn controls() -> OwnedCells {
        let rows: [&[f32]; 3] = [&[1.0, 2.0, 3.0, 4.0], &[2.0, 2.0, 2.0, 4.0], &[3.0, 2.0, 0.0, 5.0]];
        testing::cells(&rows)
    }

    /// Values and spread for knockouts in the control cells.
    fn ask(fitted: &Effects, lost: &[&[u32]]) -> Result<(Array2<f32>, Array2<f32>)> {
        testing::predict_with_spread(fitted, &controls(), &testing::population(lost))
    }

    fn assert_near(found: f32, expected: f64) {
        assert!((f64::from(found) - expected).abs() < 2e-6, "expected {expected}, found {found}");
    }

    #[test]
    fn a_measured_perturbation_is_the_mean_of_its_cells() {
        let (values, spread) = ask(&fit(Unseen::Mean), &[&[], &[0], &[1]]).unwrap();
        let expected = [
            [mean(&[1.0, 2.0, 3.0]), x(2.0), mean(&[3.0, 2.0, 0.0]), mean(&[4.0, 4.0, 5.0])],
            [0.0, mean(&[4.0, 5.0]), mean(&[3.0, 0.0]), mean(&[3.0, 5.0])],
            [mean(&[5.0, 4.0]), 0.0, mean(&[1.0, 4.0]), mean(&[4.0, 2.0])],
        ];
        values
            .iter()
            .zip(expected.as_flattened())
            .for_each(|(found, expected)| assert_near(*found, *expected));
        // As the cells are: their own error. Else also those of the perturbed cells and of the controls.
        assert_near(spread[[0, 3]], variance(&[4.0, 4.0, 5.0]).sqrt());
        let controls = variance(&[4.0, 4.0, 5.0]);
        assert_near(spread[[1, 3]], (2.0 * controls + variance(&[3.0, 5.0])).sqrt());
        assert_near(spread[[0, 1]], 0.0);
        assert_eq!(spread[[1, 0]], 0.0);
    }

    #[test]
    fn several_removed_genes_add_their_effects() {
        let (values, spread) = ask(&fit(Unseen::Mean), &[&[0, 1]]).unwrap();
        let (m0, m1, control) = (mean(&[3.0, 0.0]), mean(&[1.0, 4.0]), mean(&[3.0, 2.0, 0.0]));
        assert_near(values[[0, 2]], m0 + m1 - control);
        assert_near(values[[0, 3]], mean(&[3.0, 5.0]) + mean(&[4.0, 2.0]) - mean(&[4.0, 4.0, 5.0]));
        assert_eq!((values[[0, 0]], values[[0, 1]]), (0.0, 0.0));
        // The controls' mean is in it once for the cells, and taken away twice.
        let variance = 5.0 * variance(&[4.0, 4.0, 5.0]) + variance(&[3.0, 5.0]) + variance(&[4.0, 2.0]);
        assert_near(spread[[0, 3]], variance.sqrt());
    }

    #[test]
    fn what_would_be_less_than_nothing_is_0() {
        let rows: [&[f32]; 4] =
            [&[5.0, 5.0, 0.0, 0.0], &[9.0, 0.0, 1.0, 0.0], &[9.0, 0.0, 0.0, 1.0], &[9.0, 1.0, 0.0, 0.0]];
        let labels: [&[u32]; 4] = [&[], &[2], &[3], &[]];
        let model = Additive::new(AdditiveConfig::default()).unwrap();
        let fitted = testing::fit_labelled(&model, &testing::cells(&rows), &labels).unwrap();
        let (values, _) = ask(&fitted, &[&[2, 3]]).unwrap();
        // x(2) less twice the controls' mean of x(5) and x(1).
        assert!(x(2.0) < 2.0 * mean(&[5.0, 1.0]));
        assert_eq!(values[[0, 1]], 0.0);
    }

    #[test]
    fn an_unseen_gene_has_the_mean_effect_of_all_perturbations() {
        let (values, spread) = ask(&fit(Unseen::Mean), &[&[2]]).unwrap();
        let control = mean(&[4.0, 4.0, 5.0]);
        let effects = [mean(&[3.0, 5.0]), mean(&[4.0, 2.0]), x(1.0)].map(|mean| mean - control);
        let effect = effects.iter().sum::<f64>() / 3.0;
        assert_near(values[[0, 3]], control + effect);
        assert_eq!(values[[0, 2]], 0.0);
        let among = effects.iter().map(|e| (e - effect).powi(2)).sum::<f64>() / 2.0;
        assert_near(spread[[0, 3]], (variance(&[4.0, 4.0, 5.0]) + among).sqrt());
    }

    #[test]
    fn an_unseen_gene_can_do_nothing_or_be_refused() {
        let (values, spread) = ask(&fit(Unseen::None), &[&[2], &[0, 2], &[0]]).unwrap();
        assert_near(values[[0, 3]], mean(&[4.0, 4.0, 5.0]));
        assert_eq!((values[[0, 2]], values[[1, 3]]), (0.0, values[[2, 3]]));
        assert!(spread[[0, 3]].is_nan() && spread[[1, 3]].is_nan() && spread[[2, 3]] > 0.0);
        let error = ask(&fit(Unseen::Refuse), &[&[0], &[2]]).unwrap_err();
        let message =
            "knockout 1: expected genes that were measured alone, since `unseen` is \"refuse\", found `g2`";
        assert_eq!(error, Error::data(message));
    }

    #[test]
    fn random_singles_are_reproduced() {
        let mut stream = testing::context(8).stream(0);
        let mut all = OwnedCells::new((0..12).map(|j| format!("g{j}")).collect());
        let (mut controls, mut labels) = (all.clone(), vec![]);
        let genes: Vec<[u32; 1]> = (0..6).map(|gene| [gene * 2]).collect();
        let mut sums = Array2::<f64>::zeros((6, 12));
        for cell in 0..70 {
            let perturbation = (cell % 7) as usize;
            let label: &[u32] = genes.get(perturbation).map_or(&[], |genes| genes);
            let expresses = |gene: u32| !label.contains(&gene);
            let row: Vec<f32> = (0..12)
                .map(|j| if expresses(j) { stream.random_range(-2.0..5.0f32).max(0.0) } else { 0.0 })
                .collect();
            all.push(format!("c{cell}"), &row);
            labels.push(label);
            let total: f64 = row.iter().map(|&v| f64::from(v)).sum();
            match perturbation {
                6 => controls.push(format!("c{cell}"), &row),
                p => (0..12).for_each(|j| sums[[p, j]] += log_of_share(f64::from(row[j]) / total) / 10.0),
            }
        }
        let fitted =
            testing::fit_labelled(&Additive::new(AdditiveConfig::default()).unwrap(), &all, &labels).unwrap();
        let asked: Vec<&[u32]> = genes.iter().map(|genes| &genes[..]).collect();
        let answers = testing::predict(&fitted, &controls, &testing::population(&asked)).unwrap();
        answers.iter().zip(&sums).for_each(|(found, expected)| assert_near(*found, *expected));
    }

    #[test]
    fn a_saved_model_answers_the_same() {
        for unseen in [Unseen::Mean, Unseen::None] {
            let fitted = fit(unseen);
            let bytes = fitted.save().unwrap();
            let loaded = Effects::load(&bytes).unwrap();
            assert_eq!(loaded.save().unwrap(), bytes);
            let bits = |(values, spread): (Array2<f32>, Array2<f32>)| -> Vec<u32> {
                values.iter().chain(&spread).map(|v| v.to_bits()).collect()
            };
            let asked: [&[u32]; 4] = [&[], &[0], &[1, 2], &[3]];
            assert_eq!(bits(ask(&loaded, &asked).unwrap()), bits(ask(&fitted, &asked).unwrap()));
            assert!((0..bytes.len()).step_by(11).all(|n| Effects::load(&bytes[..n]).is_err()));
        }
    }

    #[test]
    fn perturbations_of_several_genes_alone_are_enough() {
        let rows: [&[f32]; 3] = [&[1.0, 2.0, 3.0, 4.0], &[0.0, 0.0, 3.0, 4.0], &[0.0, 0.0, 5.0, 4.0]];
        let model = Additive::new(AdditiveConfig::default()).unwrap();
        let fitted = testing::fit_labelled(&model, &testing::cells(&rows), &[&[], &[0, 1], &[0, 1]]).unwrap();
        let loaded = Effects::load(&fitted.save().unwrap()).unwrap();
        assert_eq!(ask(&loaded, &[&[2]]).unwrap().0, ask(&fitted, &[&[2]]).unwrap().0);
    }

    #[test]
    fn one_cell_has_no_error() {
        let rows: [&[f32]; 3] = [&[1.0, 2.0, 3.0, 4.0], &[0.0, 1.0, 3.0, 4.0], &[0.0, 2.0, 5.0, 4.0]];
        let model = Additive::new(AdditiveConfig::default()).unwrap();
        let fitted = testing::fit_labelled(&model, &testing::cells(&rows), &[&[], &[0], &[0]]).unwrap();
        let (values, spread) = ask(&fitted, &[&[], &[0]]).unwrap();
        assert!(values.iter().chain(spread.row(0)).all(|v| v.is_finite()));
        assert!((1..4).all(|gene| spread[[1, gene]].is_nan()));
    }

    #[test]
    fn training_without_labels_controls_or_perturbed_cells_is_an_error() {
        let model = Additive::new(AdditiveConfig::default()).unwrap();
        let Error::Data(unlabelled) = testing::fit(&model, &cells()).unwrap_err() else { panic!() };
        assert!(
            unlabelled.starts_with("expected the measured perturbation of each training cell, found none")
        );
        let error = |labels: &[&[u32]]| testing::fit_labelled(&model, &cells(), labels).unwrap_err();
        let message = |controls| {
            Error::data(format!(
                "expected control cells and perturbed cells, found {controls} controls among 8 cells"
            ))
        };
        assert_eq!(error(&[&[][..]; 8]), message(8));
        assert_eq!(error(&[&[1][..]; 8]), message(0));
        assert_eq!(error(&[&[][..]; 7]), Error::data("expected 8 perturbations, one for each cell, found 7"));
    }

    #[test]
    fn a_knockout_in_a_cell_and_a_population_of_no_cells_are_refused() {
        let mut in_a_cell = KnockoutList::new();
        in_a_cell.push(2, &[0]);
        let error = testing::predict(&fit(Unseen::Mean), &cells(), &in_a_cell).unwrap_err();
        assert_eq!(error, Error::data("knockout 0: expected the population, found cell 2"));
        let nobody = OwnedCells::new((0..4).map(|j| format!("g{j}")).collect());
        let error = testing::predict(&fit(Unseen::Mean), &nobody, &testing::population(&[&[0]])).unwrap_err();
        assert_eq!(error, Error::data("expected a population of 1 cell or more, found none"));
    }
}
