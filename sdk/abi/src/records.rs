//! What a call hands over, as records that can grow: each is a trait object whose later methods have defaults.

use crate::{ArrowPair, CsrRef, KnockoutsRef, MatMut, MatRef};
use abi_stable::{
    StableAbi, sabi_trait,
    sabi_types::RRef,
    std_types::{RNone, ROption, RSlice, RStr, RString, RVec},
};

/// Cells: the frozen, hot part as slices, the rest behind [`CellsApi`].
#[repr(C)]
#[derive(StableAbi)]
pub struct CellsView<'a> {
    /// Cells × genes.
    pub csr: CsrRef<'a>,
    /// The number each cell had where it was made (a simulator's own row, a file's row).
    pub ids: RSlice<'a, u64>,
    /// Each cell's total before genes were chosen.
    pub library: RSlice<'a, f64>,
    /// Names and annotations.
    pub info: CellsRef<'a>,
}

/// Names and annotations of cells and genes.
#[sabi_trait]
pub trait CellsApi: Send + Sync {
    /// Name of cell `i`.
    fn cell_name(&self, i: usize) -> RStr<'_>;
    /// Name of gene `j`.
    fn gene_name(&self, j: usize) -> RStr<'_>;
    /// Names of the annotations of cells.
    fn obs_names(&self) -> RVec<RString>;
    /// One annotation of the cells.
    fn obs(&self, name: RStr<'_>) -> ROption<ArrowPair>;
    /// Names of the annotations of genes.
    fn var_names(&self) -> RVec<RString>;
    /// One annotation of the genes.
    #[sabi(last_prefix_field)]
    fn var(&self, name: RStr<'_>) -> ROption<ArrowPair>;
}
/// Borrowed [`CellsApi`].
pub type CellsRef<'a> = CellsApi_TO<'a, RRef<'a, ()>>;

/// What a model learns from.
#[sabi_trait]
pub trait TrainingApi: Send + Sync {
    /// The training cells.
    fn cells(&self) -> CellsView<'_>;
    /// Cells held out to choose the best state; none when the pipeline gives none.
    fn validation(&self) -> ROption<CellsView<'_>>;
    /// The measured perturbation of each training cell: row i is cell i, whatever its `cell` says; no genes means
    /// control. Cells whose perturbation is not among the genes are not handed over. Levels are 0 unless the model
    /// declares that it understands any.
    fn perturbations(&self) -> ROption<KnockoutsRef<'_>>;
    /// The same for the validation cells.
    fn validation_perturbations(&self) -> ROption<KnockoutsRef<'_>>;
    /// A prior network as a table with the columns `regulator`, `target` and any others.
    #[sabi(last_prefix_field)]
    fn network(&self) -> ROption<ArrowPair>;
}
/// Borrowed [`TrainingApi`].
pub type TrainingRef<'a> = TrainingApi_TO<'a, RRef<'a, ()>>;

/// What a fitted model, or a simulator's truth, is asked.
#[sabi_trait]
pub trait QueryApi: Send + Sync {
    /// The cells the knockouts refer to.
    fn cells(&self) -> CellsView<'_>;
    /// The knockouts, one answer each.
    fn knockouts(&self) -> KnockoutsRef<'_>;
    /// How many samples of each answer are wanted; 1 but for models that answer with samples.
    #[sabi(last_prefix_field)]
    fn samples(&self) -> usize;
}
/// Borrowed [`QueryApi`].
pub type QueryRef<'a> = QueryApi_TO<'a, RRef<'a, ()>>;

/// Where the answer is written: memory lent by the host. Every row has to be written.
#[repr(C)]
#[derive(StableAbi)]
pub struct Answer<'a> {
    /// Knockouts (× samples) × genes.
    pub values: MatMut<'a>,
    /// The standard deviation of each value, of a mean its standard error, where the host wants it. It comes filled
    /// with NaN, which means that the model gives none.
    pub spread: ROption<MatMut<'a>>,
}

/// A whole screen of some cells, for models that answer without writing profiles.
#[sabi_trait]
pub trait ScreenApi: Send + Sync {
    /// The cells the knockouts refer to.
    fn cells(&self) -> CellsView<'_>;
    /// The knockouts, one impact each; those of one cell stand together.
    fn knockouts(&self) -> KnockoutsRef<'_>;
    /// The formula of the wanted impact, by its id in the documentation of metrics (such as `bray-curtis`).
    fn formula(&self) -> RStr<'_>;
    /// What the prediction is compared with: `predicted`, `predicted-null`, `observed` or `observed-null`.
    fn against(&self) -> RStr<'_>;
    /// The pseudo-share by which predictions are anchored to the observed profile, if they are.
    #[sabi(last_prefix_field)]
    fn anchor(&self) -> ROption<f64>;
}
/// Borrowed [`ScreenApi`].
pub type ScreenRef<'a> = ScreenApi_TO<'a, RRef<'a, ()>>;

/// What a strategy proposes from.
#[sabi_trait]
pub trait ProposalApi: Send + Sync {
    /// The cells of the screen, or a block of them for a strategy that looks at each cell alone.
    fn cells(&self) -> CellsView<'_>;
    /// How many rounds came before.
    fn round(&self) -> u64;
    /// All knockouts of the earlier rounds.
    fn earlier(&self) -> KnockoutsRef<'_>;
    /// Their impacts.
    #[sabi(last_prefix_field)]
    fn impacts(&self) -> RSlice<'_, f32>;
}
/// Borrowed [`ProposalApi`].
pub type ProposalRef<'a> = ProposalApi_TO<'a, RRef<'a, ()>>;

/// What a metric compares. Every part is optional; a metric declares the parts it needs.
#[sabi_trait]
pub trait ComparisonApi: Send + Sync {
    /// Rows × genes: the reference or true profiles. In a panel: the measured effects, perturbations × genes,
    /// differences of means of log(1 + 10,000 p), 0 at the perturbation's own targets.
    fn before(&self) -> ROption<MatRef<'_>>;
    /// Rows × genes: the predicted profiles, or those after the knockout. In a panel: the predicted effects, or gene
    /// scores.
    fn after(&self) -> ROption<MatRef<'_>>;
    /// Rows × genes: the profiles that were observed. In a panel: z of the Wilcoxon rank-sum test of each gene between
    /// a perturbation's cells and the controls, NaN where it was not tested.
    fn observed(&self) -> ROption<MatRef<'_>>;
    /// The knockout of each row.
    fn knockouts(&self) -> ROption<KnockoutsRef<'_>>;
    /// Control cells × genes. In a panel: one row, the mean over the controls of log(1 + 10,000 p).
    fn controls(&self) -> ROption<MatRef<'_>>;
    /// A panel of perturbations: before and after have one row of effects for each, and these are their targets.
    #[sabi(last_prefix_field)]
    fn panel(&self) -> ROption<KnockoutsRef<'_>> {
        RNone
    }
}
/// Borrowed [`ComparisonApi`].
pub type ComparisonRef<'a> = ComparisonApi_TO<'a, RRef<'a, ()>>;
