//! The four kinds of components, as the host calls them.

use crate::{
    Answer, ArrowPair, CellsView, ComparisonRef, ErrorKind, HostRef, KnockoutsBuf, PResult, PluginError,
    ProposalRef, QueryRef, ScreenRef, TrainingRef,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RErr, ROk, ROption, RSlice, RSliceMut, RString, RVec},
};

/// Declares a trait object type; with `--cfg lacuna_abi_appended` it has one more method at its end.
///
/// That is how the tests build "a later version" of the border, and show that both load each other.
macro_rules! appendable {
    ($(#[$meta:meta])* pub trait $name:ident: $bound:ident $(+ $more:ident)* { $($body:tt)* }) => {
        #[cfg(not(lacuna_abi_appended))]
        $(#[$meta])*
        #[sabi_trait]
        pub trait $name: $bound $(+ $more)* { $($body)* }

        #[cfg(lacuna_abi_appended)]
        $(#[$meta])*
        #[sabi_trait]
        pub trait $name: $bound $(+ $more)* {
            $($body)*
            /// Only in the tests' "later version".
            fn appended(&self) -> u64 { 1 }
        }
    };
}
pub(crate) use appendable;

/// A named table.
#[repr(C)]
#[derive(StableAbi)]
pub struct NamedTable {
    /// Its name, `[a-z0-9-]+`.
    pub name: RString,
    /// Its columns.
    pub table: ArrowPair,
}

/// Simulated cells and what is known about them.
#[sabi_trait]
pub trait SimulationApi: Send + Sync {
    /// The cells.
    fn cells(&self) -> CellsView<'_>;
    /// The true network as a table with the columns `regulator`, `target`, `weight`.
    fn network(&self) -> PResult<ROption<ArrowPair>>;
    /// The model that answers with the truth, for these cells' ids.
    #[sabi(last_prefix_field)]
    fn truth(&self) -> PResult<FittedBox>;
}
/// Owned [`SimulationApi`].
pub type SimulationBox = SimulationApi_TO<'static, RBox<()>>;

/// Makes cells with known truth.
#[sabi_trait]
pub trait SimulatorApi: Send + Sync {
    /// Makes the cells, from the host's seed.
    fn simulate(&self, host: HostRef) -> PResult<SimulationBox>;
    /// Loads a truth from the bytes it was saved as.
    #[sabi(last_prefix_field)]
    fn load_truth(&self, host: HostRef, bytes: RSlice<'_, u8>) -> PResult<FittedBox>;
}
/// Owned [`SimulatorApi`].
pub type SimulatorBox = SimulatorApi_TO<'static, RBox<()>>;

/// Learns to predict the response.
#[sabi_trait]
pub trait ModelApi: Send + Sync {
    /// Fits to the training cells.
    fn fit(&self, host: HostRef, training: TrainingRef<'_>) -> PResult<FittedBox>;
    /// Loads a fitted model from the bytes it was saved as.
    #[sabi(last_prefix_field)]
    fn load(&self, host: HostRef, bytes: RSlice<'_, u8>) -> PResult<FittedBox>;
    /// Fits to the training cells, going on from a fitted model, from the bytes it was saved as. From border 1.1 on.
    fn refine(
        &self,
        _host: HostRef,
        _training: TrainingRef<'_>,
        _bytes: RSlice<'_, u8>,
    ) -> PResult<FittedBox> {
        RErr(PluginError::new(ErrorKind::FAILED, DOES_NOT_REFINE))
    }
    /// Where it can compute on this machine, and why not elsewhere, a line each; none for the processor alone. From border
    /// 1.2 on.
    fn devices(&self, _host: HostRef) -> PResult<RVec<RString>> {
        ROk(RVec::new())
    }
}
/// What a model says that does not go on from a fitted one.
pub const DOES_NOT_REFINE: &str = "it does not go on from a fitted model";

/// Owned [`ModelApi`].
pub type ModelBox = ModelApi_TO<'static, RBox<()>>;

appendable! {
/// A fitted model, or a truth. Called from many threads at once.
pub trait FittedApi: Send + Sync {
    /// Writes one answer for each knockout of the query.
    fn predict(&self, host: HostRef, query: QueryRef<'_>, answer: Answer<'_>) -> PResult<()>;
    /// The model as bytes.
    fn save(&self, host: HostRef) -> PResult<RVec<u8>>;
    /// Writes one impact for each knockout, or answers `false` when it does not offer that formula.
    fn screen(&self, host: HostRef, screen: ScreenRef<'_>, impacts: RSliceMut<'_, f32>) -> PResult<bool>;
    /// What the model tells about itself, such as its training curve.
    #[sabi(last_prefix_field)]
    fn tables(&self, host: HostRef) -> PResult<RVec<NamedTable>>;
}
}
/// Owned [`FittedApi`].
pub type FittedBox = FittedApi_TO<'static, RBox<()>>;

/// Proposes knockouts, in rounds.
#[sabi_trait]
pub trait StrategyApi: Send + Sync {
    /// The next round; no knockouts when it has ended.
    #[sabi(last_prefix_field)]
    fn propose(&self, host: HostRef, proposal: ProposalRef<'_>) -> PResult<KnockoutsBuf>;
}
/// Owned [`StrategyApi`].
pub type StrategyBox = StrategyApi_TO<'static, RBox<()>>;

/// Compares profiles.
#[sabi_trait]
pub trait MetricApi: Send + Sync {
    /// Writes one score for each row, perturbation or population, as declared; NaN where there is no value.
    #[sabi(last_prefix_field)]
    fn score(&self, host: HostRef, comparison: ComparisonRef<'_>, scores: RSliceMut<'_, f64>) -> PResult<()>;
}
/// Owned [`MetricApi`].
pub type MetricBox = MetricApi_TO<'static, RBox<()>>;
