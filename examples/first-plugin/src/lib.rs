//! A whole plugin: the Hellinger distance between two profiles, 0 (equal) to 1 (nothing shared).
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `hellinger`.
    pub struct HellingerConfig {
        /// Shares below this one count as 0.
        #[range(0.0..=1.0)]
        floor: f64 = 0.0,
    }
}
pub struct Hellinger(HellingerConfig);

impl Component for Hellinger {
    const ID: &'static str = "hellinger";
    const DOC: &'static str = "Hellinger distance, √(½ Σ(√a − √b)²)";
    type Config = HellingerConfig;
    fn new(config: HellingerConfig) -> Result<Self> {
        Ok(Self(config))
    }
}
impl Metric for Hellinger {
    const INFO: MetricInfo = MetricInfo { range: (0.0, 1.0), ..MetricInfo::ERROR };
    fn row(&self, row: &Row) -> Result<f64> {
        let root = |p: &f32| if f64::from(*p) < self.0.floor { 0.0 } else { f64::from(*p).sqrt() };
        let squares = row.before.iter().zip(row.after).map(|(b, a)| (root(b) - root(a)).powi(2));
        Ok((squares.sum::<f64>() / 2.0).sqrt())
    }
}
plugin! { name: "first-plugin", metrics: [Hellinger] }
