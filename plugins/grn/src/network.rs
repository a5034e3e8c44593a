//! Gene regulatory networks: drawn at random, or read from an edge list.

use lacuna_sdk::arrow::{Float64Array, RecordBatch, StringArray};
use lacuna_sdk::rand::RngExt;
use lacuna_sdk::rand::seq::SliceRandom;
use lacuna_sdk::rand_distr::Poisson;
use lacuna_sdk::{Error, Result, Stream, table};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The header of an edge list.
const HEADER: &str = "regulator,target,weight";
/// The largest weight.
pub const MOST_WEIGHT: f64 = 1e6;

/// Who regulates whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    genes: Vec<String>,
    /// By target, then regulator.
    edges: Vec<Edge>,
    /// The edges of target `j` are `first[j]..first[j + 1]`.
    first: Vec<usize>,
    /// The targets of each gene.
    targets: Vec<Vec<u32>>,
}

/// One regulator acts on one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// The gene that acts.
    pub regulator: u32,
    /// The gene that is acted on.
    pub target: u32,
    /// How strongly, above 0.
    pub weight: f64,
    /// Whether it represses; otherwise it activates.
    pub represses: bool,
}

impl Edge {
    /// The weight, negative for a repressing edge.
    pub fn signed_weight(&self) -> f64 {
        if self.represses { -self.weight } else { self.weight }
    }
}

impl Network {
    /// The network of these edges, which name genes by number.
    pub fn new(genes: Vec<String>, mut edges: Vec<Edge>) -> Self {
        edges.sort_unstable_by_key(|e| (e.target, e.regulator));
        let mut first = vec![0; genes.len() + 1];
        let mut targets = vec![vec![]; genes.len()];
        for edge in &edges {
            first[edge.target as usize + 1] += 1;
            targets[edge.regulator as usize].push(edge.target);
        }
        (0..genes.len()).for_each(|j| first[j + 1] += first[j]);
        Self { genes, edges, first, targets }
    }

    /// The names of the genes.
    pub fn genes(&self) -> &[String] {
        &self.genes
    }

    /// Number of genes.
    pub fn len(&self) -> usize {
        self.genes.len()
    }

    /// All edges, by target.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Which of the [`edges`](Self::edges) act on a gene.
    pub fn edges_of(&self, gene: usize) -> Range<usize> {
        self.first[gene]..self.first[gene + 1]
    }

    /// The genes that a gene regulates.
    pub fn targets_of(&self, gene: usize) -> &[u32] {
        &self.targets[gene]
    }

    /// Whether a gene regulates any.
    pub fn regulates(&self, gene: usize) -> bool {
        !self.targets[gene].is_empty()
    }

    /// The table that the host writes: `regulator`, `target`, `weight` (negative represses).
    pub fn to_table(&self) -> Result<RecordBatch> {
        let names = |gene: fn(&Edge) -> u32| -> StringArray {
            self.edges.iter().map(|e| Some(self.genes[gene(e) as usize].as_str())).collect()
        };
        let weights: Float64Array = self.edges.iter().map(|e| Some(e.signed_weight())).collect();
        table(vec![
            ("regulator", Arc::new(names(|e| e.regulator))),
            ("target", Arc::new(names(|e| e.target))),
            ("weight", Arc::new(weights)),
        ])
    }

    /// The edge list. Rust writes the shortest decimal that reads back as the same number, so that
    /// [`from_list`](Self::from_list) gives the same network to the last bit.
    pub fn to_list(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for edge in &self.edges {
            let name = |gene: u32| &self.genes[gene as usize];
            text += &format!("{},{},{}\n", name(edge.regulator), name(edge.target), edge.signed_weight());
        }
        text
    }

    /// The network of an edge list. Without `genes`, they are all that the list names, in order of first
    /// appearance. The error names the line.
    pub fn from_list(text: &str, genes: Option<Vec<String>>) -> Result<Self, String> {
        let rows = parse_list(text)?;
        let genes = genes.unwrap_or_else(|| first_appearance(&rows));
        let edges = {
            let number: HashMap<&str, u32> = genes.iter().map(String::as_str).zip(0..).collect();
            let find = |name: &str| number.get(name).copied().ok_or_else(|| format!("no gene `{name}`"));
            let edge = |row: &Row| {
                let (regulator, target) = (find(row.regulator)?, find(row.target)?);
                Ok(Edge { regulator, target, weight: row.weight.abs(), represses: row.weight < 0.0 })
            };
            rows.iter().map(edge).collect::<Result<_, String>>()?
        };
        Ok(Self::new(genes, edges))
    }

    /// The network of an edge list in a file.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::data(format!("cannot read the edge list {place}: {e}")))?;
        Self::from_list(&text, None).map_err(|e| Error::data(format!("edge list {place}, {e}")))
    }
}

struct Row<'a> {
    regulator: &'a str,
    target: &'a str,
    weight: f64,
}

/// The rows of an edge list, without blank lines.
fn parse_list(text: &str) -> Result<Vec<Row<'_>>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let header = lines.next().map_or("", |(line, _)| line);
    if !header.split(',').map(bare).eq(HEADER.split(',')) {
        return Err(format!("line 1: expected the header `{HEADER}`, found `{}`", header.trim()));
    }
    let mut seen = HashMap::new();
    let mut rows = vec![];
    for (line, number) in lines {
        let row = parse_row(line).map_err(|e| format!("line {number}: {e}"))?;
        if let Some(earlier) = seen.insert((row.regulator, row.target), number) {
            let (regulator, target) = (row.regulator, row.target);
            return Err(format!(
                "line {number}: the edge {regulator} to {target} stands on line {earlier} too"
            ));
        }
        rows.push(row);
    }
    if rows.is_empty() { Err("line 2: expected an edge, found the end".into()) } else { Ok(rows) }
}

fn parse_row(line: &str) -> Result<Row<'_>, String> {
    let fields: Vec<&str> = line.split(',').map(bare).collect();
    let &[regulator, target, weight] = &fields[..] else {
        return Err(format!("expected 3 fields ({HEADER}), found {}", fields.len()));
    };
    if regulator.is_empty() || target.is_empty() {
        return Err("expected the name of a gene, found nothing".into());
    }
    match weight.parse::<f64>() {
        // A weight of 0 has no sign, so a cell that draws it anew would not know whether it represses.
        Ok(w) if w != 0.0 && w.abs() <= MOST_WEIGHT => Ok(Row { regulator, target, weight: w }),
        _ => Err(format!("expected a weight other than 0, at most {MOST_WEIGHT}, found `{weight}`")),
    }
}

/// A field without the spaces and quotation marks around it.
fn bare(field: &str) -> &str {
    field.trim_matches(|c: char| c == '"' || c.is_whitespace())
}

fn first_appearance(rows: &[Row]) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = rows.iter().flat_map(|row| [row.regulator, row.target]);
    names.filter(|name| seen.insert(*name)).map(String::from).collect()
}

/// Weights are drawn evenly from above `low` up to `high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// The lower end, at least 0.
    pub low: f64,
    /// The upper end, above 0.
    pub high: f64,
}

impl Weights {
    /// Draws one weight. It is above 0: `random` is below 1.
    pub fn draw(self, rng: &mut Stream) -> f64 {
        self.low + (self.high - self.low) * (1.0 - rng.random::<f64>())
    }
}

/// A network to be drawn at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawing {
    /// Number of genes.
    pub genes: usize,
    /// The first so many genes may regulate.
    pub regulators: usize,
    /// Scale-free with this exponent; otherwise Erdős–Rényi.
    pub gamma: Option<f64>,
    /// Mean number of regulators of a gene, at least 2.
    pub mean_degree: f64,
    /// Probability that an edge represses.
    pub repressing: f64,
    /// Where weights come from.
    pub weights: Weights,
}

impl Drawing {
    /// Draws a network: for each gene an in-degree, its regulators (never itself), weights and signs.
    pub fn draw(&self, rng: &mut Stream) -> Result<Network> {
        let propensity = self.propensity(rng);
        let mut edges = vec![];
        for target in 0..self.genes {
            let others = self.regulators - usize::from(target < self.regulators);
            let degree = self.draw_degree(rng)?.min(others);
            for regulator in draw_regulators(&propensity, target, degree, rng) {
                let weight = self.weights.draw(rng);
                let represses = rng.random::<f64>() < self.repressing;
                edges.push(Edge { regulator: regulator as u32, target: target as u32, weight, represses });
            }
        }
        Ok(Network::new(numbered("G", 3, self.genes), edges))
    }

    /// Running sums of how readily each regulator is drawn. A power law of the out-degree with exponent γ
    /// comes from propensities rank^(−1/(γ−1)); the ranks are dealt out at random.
    fn propensity(&self, rng: &mut Stream) -> Vec<f64> {
        let mut propensity = vec![1.0; self.regulators];
        if let Some(gamma) = self.gamma {
            let of_rank = |rank: usize| (rank as f64).powf(-1.0 / (gamma - 1.0));
            propensity = (1..=self.regulators).map(of_rank).collect();
            propensity.shuffle(rng);
        }
        let mut sum = 0.0;
        propensity
            .iter()
            .map(|p| {
                sum += p;
                sum
            })
            .collect()
    }

    /// 2 + Poisson(mean − 2).
    fn draw_degree(&self, rng: &mut Stream) -> Result<usize> {
        // `Poisson` refuses a mean of 0.
        let beyond = self.mean_degree - 2.0;
        Ok(2 + if beyond > 0.0 { rng.sample(Poisson::new(beyond).map_err(failed)?) as usize } else { 0 })
    }
}

/// The error of a distribution, which is no [`std::error::Error`] without the crate's own std.
pub fn failed(error: impl std::fmt::Display) -> Error {
    Error::failed(error.to_string())
}

/// Draws different regulators of one target, ascending, each with its propensity among those not drawn yet.
fn draw_regulators(propensity: &[f64], target: usize, degree: usize, rng: &mut Stream) -> Vec<usize> {
    let total = propensity.last().copied().unwrap_or(0.0);
    let mut drawn = vec![];
    while drawn.len() < degree {
        // What was drawn before, and the target itself, is drawn again: the same as not offering it.
        let at = rng.random::<f64>() * total;
        let regulator = propensity.partition_point(|&sum| sum <= at).min(propensity.len() - 1);
        if regulator != target && !drawn.contains(&regulator) {
            drawn.push(regulator);
        }
    }
    drawn.sort_unstable();
    drawn
}

/// Names such as `G001`, with as many digits as the last of them needs, but at least `digits`.
pub fn numbered(prefix: &str, digits: usize, n: usize) -> Vec<String> {
    let width = n.to_string().len().max(digits);
    (1..=n).map(|i| format!("{prefix}{i:0width$}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing::context;

    const DKO: Drawing = Drawing {
        genes: 100,
        regulators: 50,
        gamma: None,
        mean_degree: 3.0,
        repressing: 0.5,
        weights: Weights { low: 0.0, high: 2.0 },
    };

    fn out_degrees(network: &Network) -> Vec<usize> {
        (0..network.len()).map(|i| network.targets_of(i).len()).collect()
    }

    #[test]
    fn a_drawn_network_has_the_degrees_signs_and_weights_asked_for() {
        let network = Drawing { genes: 5000, ..DKO }.draw(&mut context(1).stream(0)).unwrap();
        let share = |has: fn(&Edge) -> bool| {
            network.edges().iter().filter(|e| has(e)).count() as f64 / network.edges().len() as f64
        };
        assert!((network.edges().len() as f64 / 5000.0 - 3.0).abs() < 0.05);
        assert!((0..5000).all(|j| network.edges_of(j).len() >= 2));
        assert!(network.edges().iter().all(|e| e.regulator != e.target && e.regulator < 50));
        assert!(network.edges().iter().all(|e| e.weight > 0.0 && e.weight <= 2.0));
        assert!((share(|e| e.represses) - 0.5).abs() < 0.02);
        assert!((share(|e| e.weight < 0.5) - 0.25).abs() < 0.02);
        assert_eq!((network.genes()[0].as_str(), network.genes()[4999].as_str()), ("G0001", "G5000"));
    }

    #[test]
    fn regulators_of_one_gene_differ_and_few_regulators_are_enough() {
        let small = Drawing { genes: 6, regulators: 3, mean_degree: 2.0, ..DKO };
        let network = small.draw(&mut context(3).stream(0)).unwrap();
        for j in 0..6 {
            let regulators: HashSet<u32> =
                network.edges_of(j).map(|e| network.edges()[e].regulator).collect();
            assert_eq!((regulators.len(), network.edges_of(j).len()), (2, 2), "gene {j}");
        }
    }

    #[test]
    fn a_scale_free_network_has_hubs() {
        let most = |drawing: Drawing| {
            let network = Drawing { genes: 1000, ..drawing }.draw(&mut context(5).stream(0)).unwrap();
            out_degrees(&network).into_iter().max().unwrap()
        };
        // Rank 1 of 50 has the share 1 / Σ rank^(−2/3) = 0.12 of 3,000 edges; evenly, each has 60.
        assert!((250..450).contains(&most(Drawing { gamma: Some(2.5), ..DKO })));
        assert!(most(DKO) < 100);
    }

    #[test]
    fn an_edge_list_reads_back_to_the_last_bit() {
        let network = DKO.draw(&mut context(9).stream(0)).unwrap();
        let again = Network::from_list(&network.to_list(), Some(network.genes().to_vec())).unwrap();
        assert_eq!(again, network);
    }

    #[test]
    fn an_edge_list_names_genes_in_order_of_appearance() {
        let text = "\u{feff}\"regulator\", target,weight\r\n\"Spi1\",Trem2,1.5\r\n\r\nMafb,Spi1,-2e-1\r\n";
        let network = Network::from_list(text, None).unwrap();
        assert_eq!(network.genes(), ["Spi1", "Trem2", "Mafb"]);
        let edges = [
            Edge { regulator: 2, target: 0, weight: 0.2, represses: true },
            Edge { regulator: 0, target: 1, weight: 1.5, represses: false },
        ];
        assert_eq!(network.edges(), edges);
        assert_eq!([0, 1, 2].map(|j| network.regulates(j)), [true, false, true]);
    }

    #[test]
    fn a_bad_edge_list_is_refused_with_its_line() {
        let error = |text: &str| Network::from_list(text, None).unwrap_err();
        let header = "regulator,target,weight";
        assert_eq!(error("a,b\n"), format!("line 1: expected the header `{header}`, found `a,b`"));
        assert_eq!(error(""), format!("line 1: expected the header `{header}`, found ``"));
        assert_eq!(error(header), "line 2: expected an edge, found the end");
        let after_header = |rest: &str| error(&format!("{header}\n{rest}"));
        assert_eq!(after_header("A,B\n"), format!("line 2: expected 3 fields ({header}), found 2"));
        assert_eq!(after_header("A,B,1\n\nA,,1"), "line 4: expected the name of a gene, found nothing");
        let weight =
            |found| format!("line 2: expected a weight other than 0, at most 1000000, found `{found}`");
        assert_eq!(after_header("A,B,x"), weight("x"));
        assert_eq!(after_header("A,B,0"), weight("0"));
        assert_eq!(after_header("A,B,inf"), weight("inf"));
        assert_eq!(after_header("A,B,1\nA,C,1\nA,B,2"), "line 4: the edge A to B stands on line 2 too");
    }
}
