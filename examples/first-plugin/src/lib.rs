//! A whole plugin: the squared chord distance between two profiles, 0 (equal) to 2 (nothing shared).
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `squared-chord`.
    pub struct SquaredChordConfig {
        /// Shares below this one count as 0.
        #[range(0.0..=1.0)]
        floor: f64 = 0.0,
    }
}
pub struct SquaredChord(SquaredChordConfig);

impl Component for SquaredChord {
    const ID: &'static str = "squared-chord";
    const DOC: &'static str = "Squared chord distance, Σ(√a − √b)² (Overpeck et al. 1985)";
    type Config = SquaredChordConfig;
    fn new(config: SquaredChordConfig) -> Result<Self> {
        Ok(Self(config))
    }
}
impl Metric for SquaredChord {
    const INFO: MetricInfo = MetricInfo { range: (0.0, 2.0), ..MetricInfo::ERROR };
    fn row(&self, row: &Row) -> Result<f64> {
        let root = |p: &f32| if f64::from(*p) < self.0.floor { 0.0 } else { f64::from(*p).sqrt() };
        let squares = row.before.iter().zip(row.after).map(|(b, a)| (root(b) - root(a)).powi(2));
        Ok(squares.sum())
    }
}
plugin! { name: "first-plugin", metrics: [SquaredChord] }
