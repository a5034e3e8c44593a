//! What an author implements: a component of one of four kinds.

use crate::params::Param;
use crate::{Cells, Context, Error, Knockout, KnockoutList, Knockouts, OwnedCells, Result};
use arrow_array::RecordBatch;
use ndarray::{ArrayView2, ArrayViewMut2};

/// What every component has: an id, a doc line, parameters, and a constructor.
pub trait Component: Sized + Send + Sync + 'static {
    /// Its name in pipelines, `[a-z0-9-]+`.
    const ID: &'static str;
    /// One sentence: what it does.
    const DOC: &'static str;
    /// Its parameters, made by [`config!`](crate::config); [`NoConfig`](crate::NoConfig) for none.
    type Config: Param + Default;
    /// Makes the component. Checks here what one parameter's range cannot say. Cheap and without effects.
    fn new(config: Self::Config) -> Result<Self>;
}

/// Makes cells with known truth, and answers with the true response to any knockout.
///
/// ```
/// use lacuna_sdk::prelude::*;
/// use lacuna_sdk::rand::RngExt;
/// use lacuna_sdk::{stream, testing};
///
/// /// Each cell expresses each of three genes at a level of its own; no gene acts on another.
/// struct Loose;
///
/// impl Component for Loose {
///     const ID: &str = "loose";
///     const DOC: &str = "Ten cells whose genes do not act on each other";
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Simulator for Loose {
///     type Truth = World;
///     const SCALE: Scale = Scale::Counts;
///     fn simulate(&self, cx: &Context) -> Result<Simulation<World>> {
///         let truth = World { seed: cx.seed() };
///         let mut cells = OwnedCells::new(["A", "B", "C"].map(String::from).to_vec());
///         (0..10).for_each(|i| cells.push(format!("cell-{i}"), &truth.levels(i, &[])));
///         Ok(Simulation { cells, network: None, truth })
///     }
/// }
///
/// /// Cells follow from the seed, hence so does what they would be without a gene.
/// struct World {
///     seed: u64,
/// }
///
/// impl World {
///     fn levels(&self, cell: u64, lost: &[u32]) -> Vec<f32> {
///         let mut draw = stream(self.seed, cell);
///         let drawn: Vec<f32> = (0..3).map(|_| draw.random_range(1.0..9.0)).collect();
///         (0..3).zip(drawn).map(|(gene, level)| if lost.contains(&gene) { 0.0 } else { level }).collect()
///     }
/// }
///
/// impl Fitted for World {
///     fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
///         for (knockout, mut row) in query.knockouts.iter().zip(answer.values.rows_mut()) {
///             cx.check()?;
///             let cell = knockout.cell.ok_or_else(|| Error::data("expected a knockout in a cell"))?;
///             let levels = self.levels(query.cells.id(cell), knockout.genes);
///             row.iter_mut().zip(levels).for_each(|(out, level)| *out = level);
///         }
///         Ok(())
///     }
///     fn save(&self) -> Result<Vec<u8>> {
///         Saved::new().text("seed", self.seed.to_string()).to_bytes()
///     }
///     fn load(bytes: &[u8]) -> Result<Self> {
///         Ok(Self { seed: Saved::from_bytes(bytes)?.get_text("seed")?.parse()? })
///     }
/// }
///
/// let made = Loose.simulate(&testing::context(7))?;
/// let mut knockouts = KnockoutList::new();
/// knockouts.push(4, &[]);
/// knockouts.push(4, &[1]);
/// let truth = testing::predict(&made.truth, &made.cells, &knockouts)?;
/// assert_eq!([truth[[1, 0]], truth[[1, 1]]], [truth[[0, 0]], 0.0]);
/// # Ok::<(), Error>(())
/// ```
pub trait Simulator: Component {
    /// The truth about the cells it made.
    type Truth: Fitted;
    /// The scale of the truth's answers.
    const SCALE: Scale;
    /// Makes the cells, from the step's seed.
    fn simulate(&self, cx: &Context) -> Result<Simulation<Self::Truth>>;
}

/// What a simulator made.
pub struct Simulation<T> {
    /// The cells.
    pub cells: OwnedCells,
    /// The true network, with the columns `regulator`, `target`, `weight` (negative represses).
    pub network: Option<RecordBatch>,
    /// The model that answers with the truth for these cells, by their ids.
    pub truth: T,
}

/// Learns from wild-type cells to predict the response to knockouts.
///
/// ```
/// use lacuna_sdk::prelude::*;
/// use lacuna_sdk::testing;
///
/// /// Every gene that is left has the same share.
/// struct Even;
///
/// impl Component for Even {
///     const ID: &str = "even";
///     const DOC: &str = "Equal shares of all genes that a cell expresses";
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Model for Even {
///     type Fitted = Fit;
///     const INFO: ModelInfo = ModelInfo { baseline: true, ..ModelInfo::PROFILES };
///     fn fit(&self, training: &Training<'_>, _cx: &Context) -> Result<Fit> {
///         Ok(Fit { genes: training.cells.gene_names() })
///     }
/// }
///
/// struct Fit {
///     genes: Vec<String>,
/// }
///
/// impl Fitted for Fit {
///     fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
///         for (knockout, mut row) in query.knockouts.iter().zip(answer.values.rows_mut()) {
///             cx.check()?;
///             let cell = knockout.cell.ok_or_else(|| Error::data("expected a knockout in a cell"))?;
///             let left = query.cells.assemblage(cell).iter().filter(|gene| !knockout.genes.contains(gene));
///             let share = 1.0 / left.clone().count() as f32;
///             row.fill(0.0);
///             left.for_each(|&gene| row[gene as usize] = share);
///         }
///         Ok(())
///     }
///     fn save(&self) -> Result<Vec<u8>> {
///         Saved::new().names("genes", &self.genes).to_bytes()
///     }
///     fn load(bytes: &[u8]) -> Result<Self> {
///         Ok(Self { genes: Saved::from_bytes(bytes)?.get_names("genes")? })
///     }
/// }
///
/// let cells = testing::cells(&[&[5.0, 0.0, 1.0, 2.0]]);
/// let fitted = testing::fit(&Even, &cells)?;
/// let mut knockouts = KnockoutList::new();
/// knockouts.push(0, &[2]);
/// let answer = testing::predict(&fitted, &cells, &knockouts)?;
/// assert_eq!(answer.row(0).to_vec(), [0.5, 0.0, 0.0, 0.5]);
/// # Ok::<(), Error>(())
/// ```
pub trait Model: Component {
    /// The fitted model.
    type Fitted: Fitted;
    /// What the model answers and needs.
    const INFO: ModelInfo;
    /// Fits to the training cells.
    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Self::Fitted>;
    /// Fits to the training cells, going on from a model that was fitted to others: with hardly any cells the answers stay
    /// those of `from`. A model that offers it says so: [`ModelInfo::refines`]. The host gives cells with the same genes in
    /// the same order; `from` may have been fitted with other parameters.
    fn refine(&self, _from: Self::Fitted, _training: &Training<'_>, _cx: &Context) -> Result<Self::Fitted> {
        Err(Error::failed(lacuna_abi::DOES_NOT_REFINE))
    }
    /// Where the model can compute on this machine, and why not elsewhere: a line each, which `lacuna plugin inspect` shows.
    /// None for a model that knows the processor alone. It may take a second, and must not panic where there is no driver.
    fn devices(&self) -> Vec<String> {
        vec![]
    }
}

/// A fitted model or a truth. Called from many threads at once.
pub trait Fitted: Send + Sync + Sized + 'static {
    /// Writes one row of `answer`, shape (genes), for each knockout of the query, on the declared scale.
    ///
    /// A knockout without genes asks for the cell as it is.
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()>;

    /// The model as bytes.
    fn save(&self) -> Result<Vec<u8>>;

    /// The model from its bytes.
    fn load(bytes: &[u8]) -> Result<Self>;

    /// Writes the impact of each knockout without writing profiles, or answers `Ok(false)` when it has no
    /// such way for this formula. Must agree with the generic way (predict, then measure).
    fn screen(&self, _screen: &Screen<'_>, _impacts: &mut [f32], _cx: &Context) -> Result<bool> {
        Ok(false)
    }

    /// What the model tells about itself: named tables, such as `training` with a column `step`.
    ///
    /// A model that chooses some of its parameters itself where they are left out, such as a penalty by validation cells,
    /// tells which in a table `chosen` ([`chosen_table`](crate::chosen_table)): `parameter`, the name of one of its parameters, and
    /// `value`, JSON text that this parameter takes. Further fits of the model, of an ensemble and to halves of the cells, get these
    /// as their parameters: so they differ from it by their seed or their cells, and by nothing else. What was given may
    /// stand there too.
    fn tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        Ok(vec![])
    }
}

/// What a model learns from. For unit tests: [`testing::training`](crate::testing::training).
#[non_exhaustive]
pub struct Training<'a> {
    /// The training cells.
    pub cells: Cells<'a>,
    /// Cells held out to choose the best state.
    pub validation: Option<Cells<'a>>,
    /// The measured perturbation of each training cell, for a model that [needs](ModelInfo::needs_labels) it: row i
    /// is cell i, whatever its [`cell`](crate::Knockout::cell) says; no genes means control. Levels are 0 unless the
    /// model understands [any](Levels::Any).
    pub perturbations: Option<Knockouts<'a>>,
    /// The same for the validation cells.
    pub validation_perturbations: Option<Knockouts<'a>>,
    /// A prior network, with the columns `regulator` and `target`.
    pub network: Option<RecordBatch>,
}

/// What a fitted model is asked. For unit tests: [`testing::query`](crate::testing::query).
#[non_exhaustive]
pub struct Query<'a> {
    /// The cells that the knockouts refer to; a knockout of the population refers to all of them.
    pub cells: Cells<'a>,
    /// The knockouts, one answer each: all in cells, or all of the population.
    pub knockouts: Knockouts<'a>,
    /// How many samples of each answer are wanted, in rows one after the other.
    pub samples: usize,
}

/// Where the answer goes. For unit tests: [`testing::answer`](crate::testing::answer).
#[non_exhaustive]
pub struct AnswerMut<'a> {
    /// Knockouts (× samples) × genes.
    pub values: ArrayViewMut2<'a, f32>,
    /// The standard deviation of each value, if wanted: of a mean, its standard error. NaN where there is none.
    pub spread: Option<ArrayViewMut2<'a, f32>>,
}

/// A whole screen of some cells. For unit tests: [`testing::screen`](crate::testing::screen).
#[non_exhaustive]
pub struct Screen<'a> {
    /// The cells that the knockouts refer to.
    pub cells: Cells<'a>,
    /// The knockouts; those of one cell stand together.
    pub knockouts: Knockouts<'a>,
    /// The formula of the impact, such as `bray-curtis`.
    pub formula: &'a str,
    /// What the prediction is compared with: `predicted`, `predicted-null`, `observed`, `observed-null`.
    pub against: &'a str,
    /// The pseudo-share e of anchoring, if predictions are anchored to the observed profile.
    pub anchor: Option<f64>,
}

/// What a model answers for one knockout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// The profile of the cell.
    Profiles,
    /// The mean over the population, on the model's scale. Knockouts name no cell then, and a knockout without genes
    /// asks for the cells as they are.
    Means,
    /// Profiles sampled from the population.
    Samples,
    /// One signed score for each gene, above 0 where the gene is expected to rise. All scores of a model are on one
    /// scale, whose unit is its own: they are compared with each other, and with effects by metrics that are free of
    /// scale. A knockout without genes scores 0 everywhere.
    GeneScores,
}

/// The scale of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Shares that sum to 1.
    Closed,
    /// Counts or concentrations; the host closes them.
    Counts,
    /// log(1 + 10,000 p) of the share p of each gene; of a population the mean over its cells.
    Log1pCp10k,
}

/// The levels of a gene that a model understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// Knockout only.
    Knockout,
    /// Any level, in parts of the gene's own expression.
    Any,
}

/// What a model answers and needs. Start from [`ModelInfo::PROFILES`].
#[derive(Debug, Clone, Copy)]
pub struct ModelInfo {
    /// What it answers.
    pub answers: Answers,
    /// On which scale.
    pub scale: Scale,
    /// Which levels it understands.
    pub levels: Levels,
    /// Whether it learns from measured perturbations.
    pub needs_labels: bool,
    /// Whether it is a deliberately simple predictor, fitted beside every model that is evaluated.
    pub baseline: bool,
    /// Whether an answer uses the cell's own expression, not only its assemblage. Such a model cannot be
    /// tested on predicting the profile of a cell as it is.
    pub sees_expression: bool,
    /// Whether the same training with the same seed may give another model, as sums in the order in which threads end
    /// do. Results of such a model are not the same bytes; `lacuna plugin check` holds it to tolerances.
    pub varies: bool,
    /// Whether it goes on from a fitted model: [`Model::refine`].
    pub refines: bool,
    /// Formulas of impacts that its [`Fitted::screen`] offers.
    pub fused: &'static [&'static str],
    /// Where it comes from: a paper, an equation.
    pub source: &'static str,
}

impl ModelInfo {
    /// Closed profiles of single cells, from the assemblage alone, for knockouts.
    pub const PROFILES: Self = Self {
        answers: Answers::Profiles,
        scale: Scale::Closed,
        levels: Levels::Knockout,
        needs_labels: false,
        baseline: false,
        sees_expression: false,
        varies: false,
        refines: false,
        fused: &[],
        source: "",
    };
}

/// Proposes knockouts, in rounds.
///
/// ```
/// use lacuna_sdk::prelude::*;
/// use lacuna_sdk::testing;
///
/// /// The gene that a cell expresses least.
/// struct Faintest;
///
/// impl Component for Faintest {
///     const ID: &str = "faintest";
///     const DOC: &str = "Knocks out the gene that each cell expresses least";
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Strategy for Faintest {
///     const SCOPE: Scope = Scope::Cell;
///     fn propose(&self, proposal: &Proposal<'_>, cx: &Context) -> Result<KnockoutList> {
///         let mut list = KnockoutList::new();
///         if proposal.round > 0 {
///             return Ok(list); // One round is all.
///         }
///         for cell in 0..proposal.cells.len() {
///             cx.check()?;
///             let genes = proposal.cells.assemblage(cell).iter().zip(proposal.cells.values(cell));
///             let faintest = genes.min_by(|a, b| a.1.total_cmp(b.1));
///             faintest.iter().for_each(|(gene, _)| list.push(cell, &[**gene]));
///         }
///         Ok(list)
///     }
/// }
///
/// // The second cell expresses nothing: there is nothing to knock out.
/// let list = testing::propose(&Faintest, &testing::cells(&[&[3.0, 0.0, 1.0], &[0.0, 0.0, 0.0]]))?;
/// assert_eq!(list.len(), 1);
/// assert_eq!(list.as_knockouts().get(0).genes, [2]);
/// # Ok::<(), Error>(())
/// ```
pub trait Strategy: Component {
    /// Whether proposals for a cell depend on that cell alone.
    const SCOPE: Scope;
    /// Whether later rounds depend on the impacts of earlier ones. If not, there is one round.
    const ADAPTIVE: bool = false;
    /// The next round; an empty list ends it. Only genes that a cell expresses may be knocked out in it.
    fn propose(&self, proposal: &Proposal<'_>, cx: &Context) -> Result<KnockoutList>;
}

/// What a strategy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each cell alone, in one round; the host may hand over the cells in blocks.
    Cell,
    /// All cells at once.
    Population,
}

/// What a strategy proposes from. For unit tests: [`testing::proposal`](crate::testing::proposal).
#[non_exhaustive]
pub struct Proposal<'a> {
    /// The cells.
    pub cells: Cells<'a>,
    /// How many rounds came before.
    pub round: u64,
    /// All knockouts of the earlier rounds.
    pub earlier: Knockouts<'a>,
    /// Their impacts.
    pub impacts: &'a [f32],
}

/// Compares profiles. A row-shaped metric implements [`row`](Metric::row); any other [`score`](Metric::score).
///
/// ```
/// use lacuna_sdk::prelude::*;
/// use lacuna_sdk::testing;
///
/// /// The largest difference of any gene.
/// struct Chebyshev;
///
/// impl Component for Chebyshev {
///     const ID: &str = "chebyshev";
///     const DOC: &str = "The largest difference of any gene's share";
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Metric for Chebyshev {
///     const INFO: MetricInfo = MetricInfo { vectors: true, ..MetricInfo::ERROR };
///     fn row(&self, row: &Row<'_>) -> Result<f64> {
///         let differences = row.before.iter().zip(row.after).map(|(b, a)| f64::from(a - b).abs());
///         Ok(differences.fold(0.0, f64::max))
///     }
/// }
///
/// assert_eq!(testing::score(&Chebyshev, &[0.5, 0.25, 0.25], &[0.0, 0.5, 0.5])?, 0.5);
/// # Ok::<(), Error>(())
/// ```
pub trait Metric: Component {
    /// What the metric declares about itself.
    const INFO: MetricInfo;

    /// The score of one row; NaN where there is no value.
    fn row(&self, _row: &Row<'_>) -> Result<f64> {
        Err(Error::failed(format!("{} does not score single rows", Self::ID)))
    }

    /// Writes all scores: one for each row, perturbation, or population, as [`MetricInfo::shape`] says.
    fn score(&self, comparison: &Comparison<'_>, scores: &mut [f64], cx: &Context) -> Result<()> {
        for (i, score) in scores.iter_mut().enumerate() {
            cx.check()?;
            *score = self.row(&comparison.row(i)?)?;
        }
        Ok(())
    }
}

/// What a metric compares. Parts that it does not [need](MetricInfo::needs) may be missing. For unit tests:
/// [`testing::comparison`](crate::testing::comparison).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Comparison<'a> {
    /// Rows × genes: the true profiles, or those before the knockout.
    pub before: Option<ArrayView2<'a, f32>>,
    /// Rows × genes: the predicted profiles, or those after the knockout.
    pub after: Option<ArrayView2<'a, f32>>,
    /// Rows × genes: the observed profiles. In a panel, perturbations × genes: z of the Wilcoxon rank-sum test of a
    /// gene between the perturbation's cells and the controls, above 0 where it is higher in them; NaN where a gene was
    /// not tested.
    pub observed: Option<ArrayView2<'a, f32>>,
    /// The knockout of each row.
    pub knockouts: Option<Knockouts<'a>>,
    /// Control cells × genes. In a panel one row: the mean over the controls of log(1 + 10,000 p).
    pub controls: Option<ArrayView2<'a, f32>>,
    /// A panel of perturbations, for a metric of the shape [`Panel`](Shape::Panel): before has the measured effect of
    /// each, perturbations × genes, after the predicted one; these are their targets. An effect is the difference of
    /// the means of log(1 + 10,000 p) over perturbed and control cells, or gene scores; 0 at the perturbation's own
    /// targets.
    pub panel: Option<Knockouts<'a>>,
}

/// One row of a [`Comparison`]. For unit tests: [`testing::row`](crate::testing::row).
#[non_exhaustive]
pub struct Row<'a> {
    /// The true profile, or the one before the knockout. Shape (genes).
    pub before: &'a [f32],
    /// The predicted profile, or the one after the knockout.
    pub after: &'a [f32],
    /// The observed profile.
    pub observed: Option<&'a [f32]>,
    /// The knockout.
    pub knockout: Option<Knockout<'a>>,
}

impl<'a> Comparison<'a> {
    /// Row `i` of `before` and `after`.
    pub fn row(&self, i: usize) -> Result<Row<'a>> {
        let part = |m: Option<ArrayView2<'a, f32>>| m.and_then(|m| (i < m.nrows()).then(|| row_of(m, i))?);
        let missing = |name| Error::data(format!("the comparison has no row {i} of `{name}`"));
        Ok(Row {
            before: part(self.before).ok_or_else(|| missing("before"))?,
            after: part(self.after).ok_or_else(|| missing("after"))?,
            observed: part(self.observed),
            knockout: self.knockouts.filter(|k| i < k.len()).map(|k| k.get(i)),
        })
    }
}

fn row_of<'a>(matrix: ArrayView2<'a, f32>, i: usize) -> Option<&'a [f32]> {
    matrix.index_axis_move(ndarray::Axis(0), i).to_slice()
}

/// What a metric scores at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One score for each row.
    Row,
    /// One score for all rows together. In an evaluation, `before` has measured and `after` predicted cells of a
    /// perturbation, not as many, of log(1 + 10,000 p); 0 at its targets.
    Population,
    /// One score for each perturbation of a panel, in its order.
    Panel,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// An error.
    LowerIsBetter,
    /// An agreement.
    HigherIsBetter,
    /// Neither: a size, such as an impact.
    None,
}

/// A part of a [`Comparison`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// [`Comparison::before`].
    Before,
    /// [`Comparison::after`].
    After,
    /// [`Comparison::observed`].
    Observed,
    /// [`Comparison::knockouts`].
    Knockouts,
    /// [`Comparison::controls`].
    Controls,
    /// [`Comparison::panel`].
    Panel,
}

/// What a metric declares about itself. Start from [`MetricInfo::ERROR`] or [`MetricInfo::AGREEMENT`].
#[derive(Debug, Clone, Copy)]
pub struct MetricInfo {
    /// What it scores at once.
    pub shape: Shape,
    /// The parts it needs.
    pub needs: &'static [Part],
    /// The smallest and the largest score.
    pub range: (f64, f64),
    /// Which way is better, as an evaluation.
    pub direction: Direction,
    /// Whether it compares any two vectors, not profiles only: all cells laid end to end, a gene over the cells,
    /// impacts. False for a metric whose scale depends on a profile's sum, or grows with the length.
    pub vectors: bool,
    /// Whether numbers below 0 mean something to it, as those of effects have. False for a metric of shares.
    pub signed: bool,
    /// Whether all of `after` may be multiplied by the same positive number, as gene scores on a scale of their own.
    pub scale_free: bool,
    /// Whether before and after may be exchanged.
    pub symmetric: bool,
    /// The score when before equals after.
    pub identity: Option<f64>,
    /// The score of a guess, where there is one.
    pub chance: Option<f64>,
    /// The documented formula that it computes exactly, so that a model may fuse it; its id as a rule.
    pub formula: Option<&'static str>,
    /// Where it comes from: a paper, an equation.
    pub source: &'static str,
}

impl MetricInfo {
    /// A row-shaped dissimilarity: 0 when equal, lower is better, symmetric, without upper limit.
    pub const ERROR: Self = Self {
        shape: Shape::Row,
        needs: &[Part::Before, Part::After],
        range: (0.0, f64::INFINITY),
        direction: Direction::LowerIsBetter,
        vectors: false,
        signed: false,
        scale_free: false,
        symmetric: true,
        identity: Some(0.0),
        chance: None,
        formula: None,
        source: "",
    };

    /// A row-shaped correlation: 1 when equal, −1..1, higher is better, 0 by chance, symmetric.
    pub const AGREEMENT: Self = Self {
        range: (-1.0, 1.0),
        direction: Direction::HigherIsBetter,
        vectors: true,
        signed: true,
        scale_free: true,
        identity: Some(1.0),
        chance: Some(0.0),
        ..Self::ERROR
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    struct Never;

    impl Component for Never {
        const ID: &str = "never";
        const DOC: &str = "A metric that is not to be asked";
        type Config = crate::NoConfig;
        fn new(_: crate::NoConfig) -> Result<Self> {
            Ok(Self)
        }
    }

    impl Metric for Never {
        const INFO: MetricInfo = MetricInfo::ERROR;
        fn row(&self, _: &Row<'_>) -> Result<f64> {
            panic!("a row is scored though the user asked to stop")
        }
    }

    #[test]
    fn a_metric_of_rows_stops_between_them() {
        let rows = ndarray::array![[1.0f32, 0.0]];
        let (before, none) = (Some(rows.view()), None);
        let comparison = Comparison {
            before,
            after: before,
            observed: none,
            knockouts: None,
            controls: none,
            panel: None,
        };
        let done = Never.score(&comparison, &mut [f64::NAN], &testing::cancelled_context());
        assert_eq!(done, Err(Error::Cancelled));
    }
}
