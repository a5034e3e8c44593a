//! The parameters, and what they say together.

use crate::dynamics::{Equations, Limits};
use crate::measured::{Design, pairs_of};
use crate::network::{Drawing, MOST_WEIGHT, Weights};
use crate::observe::Observation;
use crate::truth::{MOST_CELLS, MOST_HILL};
use crate::world::{Absence, Rules};
use lacuna_sdk::prelude::*;

choice! {
    /// Values for the parameters that are left out.
    pub enum Preset {
        /// The data of the DKO paper: exactly 20 absent genes in each cell, redraw 0.15.
        Dko = "dko",
        /// Each gene absent with probability 0.3, redraw 0.05.
        DkoDropout = "dko-dropout",
    }
}

choice! {
    /// How the network comes about.
    pub enum Topology {
        /// Every regulator is as likely as any other.
        ErdosRenyi = "erdos-renyi",
        /// A few regulators have many targets: out-degrees follow a power law.
        ScaleFree = "scale-free",
        /// Read from the file `edges`.
        EdgeList = "edge-list",
    }
}

choice! {
    /// What a repressor that is absent does to its targets.
    pub enum AbsentRepressor {
        /// Its term vanishes, as in the DKO paper.
        NoEffect = "no-effect",
        /// Its term becomes its weight: the target is made as if the repressor's concentration were 0.
        Derepressed = "derepressed",
    }
}

config! {
    /// Parameters of `grn`.
    pub struct GrnConfig {
        /// Where the values of the parameters come from that have no default here.
        preset: Preset = Preset::Dko,
        /// Number of cells. Both presets: 500.
        #[range(1..=MOST_CELLS as i32)]
        cells: Option<usize> = None,
        /// Number of genes of a drawn network. Both presets: 100.
        #[range(1..=100_000)]
        genes: Option<usize> = None,
        /// How many of the genes, the first ones, may regulate in a drawn network. Both presets: 50.
        #[range(1..=100_000)]
        regulators: Option<usize> = None,
        /// How the network comes about. Both presets: erdos-renyi; edge-list if `edges` is given.
        topology: Option<Topology> = None,
        /// The exponent of the out-degrees of a scale-free network. Both presets: 2.5.
        #[range(2.0..=10.0)]
        gamma: Option<f64> = None,
        /// Mean number of regulators of a gene in a drawn network: 2 + Poisson(mean − 2). Both presets: 3.
        #[range(2.0..=100.0)]
        mean_degree: Option<f64> = None,
        /// Share of repressing edges in a drawn network. Both presets: 0.5.
        #[range(0.0..=1.0)]
        repressing: Option<f64> = None,
        /// Weights are drawn evenly from here on. Both presets: 0.
        #[range(0.0..=MOST_WEIGHT)]
        weight_low: Option<f64> = None,
        /// Weights are drawn evenly up to here. Both presets: 2.
        #[range(0.0..=MOST_WEIGHT)]
        weight_high: Option<f64> = None,
        /// Exactly so many genes, drawn at random, are absent in each cell. Preset dko: 20. Instead of
        /// `absence`.
        #[range(0..=100_000)]
        absent_genes: Option<usize> = None,
        /// Each gene is absent in a cell with this probability. Preset dko-dropout: 0.3. Instead of
        /// `absent_genes`.
        #[range(0.0..=1.0)]
        absence: Option<f64> = None,
        /// The probability that a cell has its own weight of an edge, drawn from `weight_low` to
        /// `weight_high` (its sign stays), also for an edge list. Preset dko: 0.15; dko-dropout: 0.05.
        #[range(0.0..=1.0)]
        redraw: Option<f64> = None,
        /// The network as a CSV file with the header `regulator,target,weight`; a negative weight represses.
        /// The genes are all that it names, in order of first appearance.
        edges: Option<File> = None,
        /// B, the rate at which every gene product decays.
        #[range(1e-3..=1e3)]
        decay: f64 = 1.0,
        /// n, the Hill coefficient of the response xⁿ / (Kⁿ + xⁿ).
        #[range(1.0..=MOST_HILL)]
        hill: f64 = 1.0,
        /// K, the concentration at which a regulator has half its effect.
        #[range(1e-3..=1e3)]
        half_saturation: f64 = 1.0,
        /// What a repressor that is absent or knocked out does to its targets.
        absent_repressor: AbsentRepressor = AbsentRepressor::NoEffect,
        /// Concentrations below this are reported as 0; the cell itself keeps them.
        #[range(0.0..=1e6)]
        threshold: f64 = 1e-3,
        /// A cell has settled when no concentration changes faster than this.
        #[range(1e-12..=1e-2)]
        tolerance: f64 = 1e-9,
        /// A cell that needs longer than this, or 200,000 steps, counts as not settled. In the unit of 1 /
        /// decay.
        #[range(1.0..=1e6)]
        max_time: f64 = 1e4,
        /// Standard deviation of multiplicative log-normal noise of mean 1 on the reported values; 0 for
        /// none.
        #[range(0.0..=5.0)]
        noise: f64 = 0.0,
        /// Mean total count of a cell; 0 reports concentrations instead of counts.
        #[range(0.0..=1e9)]
        library_size: f64 = 0.0,
        /// φ of negative binomial counts, whose variance is μ + φ μ²; 0 is Poisson. Needs `library_size`.
        #[range(0.0..=100.0)]
        dispersion: f64 = 0.0,
        /// The probability that a reported value is lost.
        #[range(0.0..=1.0)]
        technical_dropout: f64 = 0.0,
        /// So many genes are perturbed one at a time, as in Perturb-seq: each is silent from the start in
        /// cells of its own, which come after the others. Drawn among the genes that regulate any; 0 for
        /// none. Adds the annotations `perturbation` (`control`, `G012`, `G012+G030`) and `nperts`.
        #[range(0..=100_000)]
        measured_genes: usize = 0,
        /// So many pairs of the `measured_genes` are perturbed together, in cells of their own.
        #[range(0..=MOST_CELLS as i32)]
        measured_pairs: usize = 0,
        /// Number of cells of each gene, and of each pair, that is perturbed.
        #[range(1..=MOST_CELLS as i32)]
        measured_cells: usize = 50,
    }
}

/// What a preset says. Its networks are Erdős–Rényi.
struct Values {
    cells: usize,
    genes: usize,
    regulators: usize,
    gamma: f64,
    mean_degree: f64,
    repressing: f64,
    weights: Weights,
    absence: Absence,
    redraw: f64,
}

/// Recovered from the statistics of the reference data.
const DKO: Values = Values {
    cells: 500,
    genes: 100,
    regulators: 50,
    gamma: 2.5,
    mean_degree: 3.0,
    repressing: 0.5,
    weights: Weights { low: 0.0, high: 2.0 },
    absence: Absence::Genes(20),
    redraw: 0.15,
};

const DKO_DROPOUT: Values = Values { absence: Absence::Probability(0.3), redraw: 0.05, ..DKO };

/// The parameters, checked, with the preset's values.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of unperturbed cells.
    pub cells: usize,
    /// How many perturbations are measured.
    pub design: Design,
    /// Where the network comes from.
    pub wiring: Wiring,
    /// What holds for every cell.
    pub rules: Rules,
    /// How cells are measured.
    pub observation: Observation,
}

/// Where the network comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Wiring {
    /// It is drawn.
    Drawn(Drawing),
    /// It is read from an edge list.
    Listed(File),
}

impl GrnConfig {
    /// The parameters with the preset's values, or all that is wrong with them.
    pub fn settings(&self) -> Result<Settings> {
        let preset = match self.preset {
            Preset::Dko => DKO,
            Preset::DkoDropout => DKO_DROPOUT,
        };
        let problems = self.problems(&preset);
        if !problems.is_empty() {
            return Err(Error::parameters(problems.join("; ")));
        }
        let wiring = match &self.edges {
            Some(file) => Wiring::Listed(file.clone()),
            None => Wiring::Drawn(self.drawing(&preset)),
        };
        Ok(Settings {
            cells: self.cells.unwrap_or(preset.cells),
            design: self.design(),
            wiring,
            rules: self.rules(&preset),
            observation: self.observation(),
        })
    }

    fn design(&self) -> Design {
        Design { genes: self.measured_genes, pairs: self.measured_pairs, cells: self.measured_cells }
    }

    fn drawing(&self, preset: &Values) -> Drawing {
        let scale_free = self.topology == Some(Topology::ScaleFree);
        Drawing {
            genes: self.genes.unwrap_or(preset.genes),
            regulators: self.regulators.unwrap_or(preset.regulators),
            gamma: scale_free.then_some(self.gamma.unwrap_or(preset.gamma)),
            mean_degree: self.mean_degree.unwrap_or(preset.mean_degree),
            repressing: self.repressing.unwrap_or(preset.repressing),
            weights: self.weights(preset),
        }
    }

    fn weights(&self, preset: &Values) -> Weights {
        let Weights { low, high } = preset.weights;
        Weights { low: self.weight_low.unwrap_or(low), high: self.weight_high.unwrap_or(high) }
    }

    fn absence(&self, preset: &Values) -> Absence {
        let genes = self.absent_genes.map(Absence::Genes);
        genes.or(self.absence.map(Absence::Probability)).unwrap_or(preset.absence)
    }

    fn rules(&self, preset: &Values) -> Rules {
        Rules {
            absence: self.absence(preset),
            redraw: self.redraw.unwrap_or(preset.redraw),
            weights: self.weights(preset),
            equations: Equations {
                decay: self.decay,
                hill: self.hill,
                half_saturation: self.half_saturation,
                derepressed: self.absent_repressor == AbsentRepressor::Derepressed,
            },
            limits: Limits { tolerance: self.tolerance, max_time: self.max_time / self.decay },
            threshold: self.threshold,
        }
    }

    fn observation(&self) -> Observation {
        Observation {
            noise: self.noise,
            library_size: self.library_size,
            dispersion: self.dispersion,
            technical_dropout: self.technical_dropout,
        }
    }

    /// What one parameter's range cannot say.
    fn problems(&self, preset: &Values) -> Vec<String> {
        let mut problems = match &self.edges {
            Some(_) => self.problems_of_a_list(),
            None => self.problems_of_a_drawing(preset),
        };
        if self.absent_genes.is_some() && self.absence.is_some() {
            problems.push("absent_genes: `absence` is given too; give one of them".into());
        }
        let Weights { low, high } = self.weights(preset);
        if low > high || high == 0.0 {
            let found = format!("{high}{}", origin(self.weight_high.is_some()));
            problems.push(format!(
                "weight_high: expected more than 0, at least weight_low = {low}, found {found}"
            ));
        }
        if self.dispersion > 0.0 && self.library_size == 0.0 {
            problems.push("dispersion: only counts have one; give `library_size` too".into());
        }
        problems.extend(self.problems_of_the_measured(preset));
        problems
    }

    fn problems_of_the_measured(&self, preset: &Values) -> Vec<String> {
        let design @ Design { genes, pairs, .. } = self.design();
        let mut problems = vec![];
        if pairs > pairs_of(genes) {
            let most = pairs_of(genes);
            problems.push(format!(
                "measured_pairs: expected at most the {most} pairs of {genes} measured genes, found {pairs}"
            ));
        }
        let cells = self.cells.unwrap_or(preset.cells).saturating_add(design.total());
        if cells > MOST_CELLS {
            problems
                .push(format!("measured_cells: expected at most {MOST_CELLS} cells in all, found {cells}"));
        }
        problems
    }

    fn problems_of_a_list(&self) -> Vec<String> {
        let said_by_the_list = [
            ("genes", self.genes.is_some()),
            ("regulators", self.regulators.is_some()),
            ("gamma", self.gamma.is_some()),
            ("mean_degree", self.mean_degree.is_some()),
            ("repressing", self.repressing.is_some()),
        ];
        let given = said_by_the_list.into_iter().filter(|(_, given)| *given);
        let mut problems: Vec<String> =
            given.map(|(name, _)| format!("{name}: the edge list says this, leave it out")).collect();
        if let Some(topology @ (Topology::ErdosRenyi | Topology::ScaleFree)) = self.topology {
            problems.push(format!("edges: a list is given, but the topology is {}", topology.to_json()));
        }
        problems
    }

    fn problems_of_a_drawing(&self, preset: &Values) -> Vec<String> {
        let Drawing { genes, regulators, mean_degree, .. } = self.drawing(preset);
        let mut problems = vec![];
        if self.topology == Some(Topology::EdgeList) {
            problems.push("topology: \"edge-list\" needs the file `edges`".into());
        }
        if self.gamma.is_some() && self.topology != Some(Topology::ScaleFree) {
            problems.push("gamma: only the topology \"scale-free\" has an exponent".into());
        }
        if regulators > genes {
            let found = format!("{regulators}{}", origin(self.regulators.is_some()));
            problems.push(format!("regulators: expected at most the {genes} genes, found {found}"));
        }
        // A gene does not regulate itself.
        if mean_degree > regulators as f64 - 1.0 {
            let found = format!("{mean_degree}{}", origin(self.mean_degree.is_some()));
            problems
                .push(format!("mean_degree: expected fewer than the {regulators} regulators, found {found}"));
        }
        if self.measured_genes > regulators {
            let found = self.measured_genes;
            problems
                .push(format!("measured_genes: expected at most the {regulators} regulators, found {found}"));
        }
        if let Absence::Genes(absent) = self.absence(preset)
            && absent >= genes
        {
            let found = format!("{absent}{}", origin(self.absent_genes.is_some()));
            problems.push(format!("absent_genes: expected fewer than the {genes} genes, found {found}"));
        }
        problems
    }
}

/// Says of a value that nobody gave where it comes from.
fn origin(given: bool) -> &'static str {
    if given { "" } else { " from the preset" }
}
