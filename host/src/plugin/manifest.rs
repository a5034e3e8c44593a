//! What a plugin says about itself. Fields that an older plugin does not know have defaults.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A plugin's manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line about it.
    #[serde(default)]
    pub description: String,
    /// The SDK it was built with.
    #[serde(default)]
    pub sdk: String,
    /// The border version it was built for.
    pub abi: [u16; 3],
    /// Its components.
    pub components: Vec<Component>,
}

/// One component of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Component {
    /// Its kind.
    pub kind: Kind,
    /// Its id in pipelines.
    pub id: String,
    /// One sentence: what it does.
    pub doc: String,
    /// What it declares about itself, by kind.
    #[serde(default)]
    pub capabilities: Value,
    /// The JSON schema of its parameters.
    pub parameters: Value,
}

/// The kinds of components.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Makes cells with known truth.
    Simulator,
    /// Learns to predict the response.
    Model,
    /// Proposes knockouts.
    Strategy,
    /// Compares profiles.
    Metric,
    /// A kind that this host does not know.
    #[serde(untagged)]
    Unknown(String),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Simulator => "simulator",
            Self::Model => "model",
            Self::Strategy => "strategy",
            Self::Metric => "metric",
            Self::Unknown(kind) => kind,
        })
    }
}

/// What a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// The profile of each cell.
    #[default]
    Profiles,
    /// The mean profile of the population.
    Means,
    /// Profiles sampled from the population.
    Samples,
    /// One score for each gene.
    GeneScores,
}

impl Answers {
    /// For messages.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Profiles => "profiles",
            Self::Means => "population means",
            Self::Samples => "samples",
            Self::GeneScores => "gene scores",
        }
    }
}

/// The scale of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Shares that sum to 1.
    #[default]
    Closed,
    /// Counts or concentrations.
    Counts,
    /// log1p of counts per 10,000.
    Log1pCp10k,
}

/// The levels of a gene that a model understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Levels {
    /// Knockout only.
    #[default]
    Knockout,
    /// Any level.
    Any,
}

/// What a model, or a simulator's truth, declares.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ModelInfo {
    /// What it answers.
    pub answers: Answers,
    /// On which scale.
    pub scale: Scale,
    /// Which levels it understands.
    pub levels: Levels,
    /// Whether it learns from measured perturbations.
    pub needs_labels: bool,
    /// Whether it is a baseline.
    pub baseline: bool,
    /// Whether an answer uses the cell's own expression.
    pub sees_expression: bool,
    /// Whether the same training may give another model.
    pub varies: bool,
    /// Whether it goes on from a fitted model.
    pub refines: bool,
    /// Formulas that it screens without writing profiles.
    pub fused: Vec<String>,
}

/// What a strategy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Each cell alone.
    Cell,
    /// All cells at once.
    #[default]
    Population,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StrategyInfo {
    scope: Scope,
    adaptive: bool,
}

/// What a metric scores at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// One score a row.
    #[default]
    Row,
    /// One score for all rows.
    Population,
    /// One score for each perturbation of a panel.
    Panel,
}

/// What a metric declares.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct MetricInfo {
    /// What it scores at once.
    pub shape: Shape,
    /// The parts that it needs.
    pub needs: Vec<String>,
    /// The smallest score.
    pub low: Option<f64>,
    /// The largest score.
    pub high: Option<f64>,
    /// `lower`, `higher` or `none`: which way is better.
    pub direction: String,
    /// Whether it compares any two vectors, not profiles only.
    pub vectors: bool,
    /// Whether numbers below 0 mean something to it.
    pub signed: bool,
    /// Whether what is compared may be on a scale of its own.
    pub scale_free: bool,
    /// Whether before and after may be exchanged.
    pub symmetric: bool,
    /// The score when before equals after.
    pub identity: Option<f64>,
    /// The documented formula it computes.
    pub formula: Option<String>,
}

impl MetricInfo {
    /// Whether the metric needs a part of a comparison.
    pub fn wants(&self, part: &str) -> bool {
        self.needs.iter().any(|needed| needed == part)
    }
}

impl Manifest {
    /// Reads and checks a manifest. The error is the end of a sentence about the library.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| format!("its manifest is no JSON ({e})"))?;
        if let Some(error) = value["error"].as_str() {
            return Err(format!("it panicked while it described itself: {error}"));
        }
        let mut manifest: Self =
            serde_json::from_value(value).map_err(|e| format!("its manifest is wrong ({e})"))?;
        manifest.check()?;
        manifest.components.iter_mut().for_each(Component::disown_what_is_not_understood);
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let ids = self.components.iter().map(|c| &c.id);
        if let Some(bad) = std::iter::once(&self.name).chain(ids).find(|n| !is_name(n)) {
            return Err(format!("`{bad}` in its manifest is no name (a-z, 0-9 and - only)"));
        }
        for (i, c) in self.components.iter().enumerate() {
            if self.components[..i].iter().any(|d| d.kind == c.kind && d.id == c.id) {
                return Err(format!("it has two components named {} `{}`", c.kind, c.id));
            }
            if !c.parameters.is_object() {
                return Err(format!("the parameters of its {} `{}` have no schema", c.kind, c.id));
            }
        }
        Ok(())
    }
}

/// Whether a text is a name as pipelines use them.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Component {
    /// A newer plugin may declare what this host does not know. Such a component is of no kind that it can use.
    fn disown_what_is_not_understood(&mut self) {
        fn read<T: for<'de> Deserialize<'de>>(value: &Value) -> Option<String> {
            T::deserialize(value).err().map(|e| e.to_string())
        }
        let problem = match (&self.kind, &self.capabilities) {
            (_, Value::Null) => None,
            (Kind::Simulator | Kind::Model, declared) => read::<ModelInfo>(declared),
            (Kind::Strategy, declared) => read::<StrategyInfo>(declared),
            (Kind::Metric, declared) => read::<MetricInfo>(declared),
            (Kind::Unknown(_), _) => None,
        };
        if let Some(problem) = problem {
            self.kind =
                Kind::Unknown(format!("{} that this Lacuna does not understand ({problem})", self.kind));
        }
    }

    fn capabilities<T: for<'de> Deserialize<'de> + Default>(&self) -> T {
        serde_json::from_value(self.capabilities.clone()).unwrap_or_default()
    }

    /// The capabilities of a model, or of a simulator's truth.
    pub fn model_info(&self) -> ModelInfo {
        self.capabilities()
    }

    /// The capabilities of a metric.
    pub fn metric_info(&self) -> MetricInfo {
        self.capabilities()
    }

    /// The scope of a strategy.
    pub fn scope(&self) -> Scope {
        self.capabilities::<StrategyInfo>().scope
    }

    /// Whether a strategy proposes further rounds from the impacts of the earlier ones.
    pub fn adaptive(&self) -> bool {
        self.capabilities::<StrategyInfo>().adaptive
    }
}
