//! Measured perturbations: which cells had which genes perturbed, and which are controls.

use super::{Cells, Knockouts};
use std::collections::{BTreeMap, HashMap};

/// The measured perturbation of each cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The perturbations, by label; controls are one of them, without targets.
    pub kinds: Vec<Perturbation>,
    /// Which of them each cell has.
    pub of: Vec<u32>,
}

/// A perturbation that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Perturbation {
    /// Its genes joined by `+`, or `control`; as the annotation calls it where it names no genes of the data.
    pub label: String,
    /// The genes that it hit; none for controls. `None` where the label names no genes of the data.
    pub targets: Option<Vec<String>>,
}

/// How the values of an annotation are read as perturbations.
#[derive(Debug, Clone, Default)]
pub struct LabelRules {
    /// The values that mean a control; where there are none, the words of published data.
    pub control: Vec<String>,
    /// The genes behind values that do not name them.
    pub targets: BTreeMap<String, Vec<String>>,
}

/// Values that mean a control in published data, whatever their case.
const CONTROL_WORDS: [&str; 8] =
    ["control", "ctrl", "non-targeting", "nt", "unperturbed", "wt", "wild-type", "wildtype"];

fn is_control_word(label: &str) -> bool {
    CONTROL_WORDS.contains(&label.to_lowercase().as_str())
}

impl LabelRules {
    fn is_control(&self, label: &str) -> bool {
        if self.control.is_empty() {
            is_control_word(label)
        } else {
            self.control.iter().any(|word| word == label)
        }
    }

    /// The targets of a label: as told, or a gene's name, or several joined by `+` (GEARS, whose `ctrl` is no
    /// gene) or by `_` (scPerturb). No target for a control, `None` when some part is no gene.
    fn targets_of(&self, label: &str, genes: &HashMap<&str, usize>) -> Option<Vec<String>> {
        if let Some(told) = self.targets.get(label) {
            return Some(told.clone());
        }
        if self.is_control(label) {
            return Some(vec![]);
        }
        if genes.contains_key(label) {
            return Some(vec![label.into()]);
        }
        let split = |by: char| -> Option<Vec<String>> {
            // The partner of a single perturbation, as in `A+ctrl`, is no gene, whatever else means a control.
            let is_gene = |part: &&str| !self.is_control(part) && !is_control_word(part);
            let parts: Vec<&str> = label.split(by).filter(is_gene).collect();
            let known =
                label.contains(by) && !parts.is_empty() && parts.iter().all(|p| genes.contains_key(p));
            known.then(|| parts.into_iter().map(String::from).collect())
        };
        split('+').or_else(|| split('_'))
    }
}

impl Measured {
    /// Reads the labels of cells, one each. Labels of the same targets, such as `A+B` and `B+A`, are one perturbation;
    /// targets stand in the order of the genes, each once.
    pub fn read(labels: &[String], gene_names: &[String], rules: &LabelRules) -> Self {
        let genes: HashMap<&str, usize> =
            gene_names.iter().enumerate().map(|(j, name)| (name.as_str(), j)).collect();
        let mut found: BTreeMap<&String, Perturbation> = BTreeMap::new();
        for label in labels {
            found.entry(label).or_insert_with(|| Perturbation::read(label, &genes, rules));
        }
        let mut kinds: Vec<Perturbation> = found.values().cloned().collect();
        kinds.sort_by(|a, b| a.label.cmp(&b.label));
        kinds.dedup();
        let number = |label: &String| kinds.iter().position(|kind| *kind == found[label]);
        let numbers: BTreeMap<&String, u32> =
            found.keys().map(|label| (*label, number(label).unwrap_or(0) as u32)).collect();
        Self { of: labels.iter().map(|label| numbers[label]).collect(), kinds }
    }

    /// These cells.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self { kinds: self.kinds.clone(), of: rows.iter().map(|&i| self.of[i]).collect() }
    }

    /// The perturbation of a cell.
    pub fn of_cell(&self, cell: usize) -> &Perturbation {
        &self.kinds[self.of[cell] as usize]
    }

    /// Whether a cell is a control.
    pub fn is_control(&self, cell: usize) -> bool {
        self.of_cell(cell).is_control()
    }

    /// The control cells among so many; all where nothing was measured.
    pub fn controls(measured: Option<&Self>, cells: usize) -> Vec<usize> {
        (0..cells).filter(|&i| measured.is_none_or(|m| m.is_control(i))).collect()
    }

    /// The cells of each perturbation that hits genes of the data, controls left out; in the order of labels.
    pub fn cells_by_perturbation(&self) -> Vec<(&Perturbation, Vec<usize>)> {
        let mut cells: Vec<Vec<usize>> = vec![vec![]; self.kinds.len()];
        self.of.iter().enumerate().for_each(|(i, &kind)| cells[kind as usize].push(i));
        let hits = |p: &Perturbation| p.targets.as_ref().is_some_and(|targets| !targets.is_empty());
        self.kinds.iter().zip(cells).filter(|(p, cells)| hits(p) && !cells.is_empty()).collect()
    }
}

impl Perturbation {
    fn read(label: &str, genes: &HashMap<&str, usize>, rules: &LabelRules) -> Self {
        let mut targets = rules.targets_of(label, genes);
        if let Some(targets) = &mut targets {
            targets.sort_by_key(|name| genes.get(name.as_str()).copied());
            targets.dedup();
        }
        let label = match targets.as_deref() {
            None => label.into(),
            Some([]) => "control".into(),
            Some(targets) => targets.join("+"),
        };
        Self { label, targets }
    }

    /// Whether nothing was perturbed.
    pub fn is_control(&self) -> bool {
        self.targets.as_ref().is_some_and(Vec::is_empty)
    }

    /// The columns of its targets, ascending; `None` when some target is not among these genes.
    pub fn columns(&self, column: &HashMap<&str, u32>) -> Option<Vec<u32>> {
        let targets = self.targets.as_ref()?;
        let mut columns: Vec<u32> =
            targets.iter().map(|name| column.get(name.as_str()).copied()).collect::<Option<_>>()?;
        columns.sort_unstable();
        Some(columns)
    }
}

impl Cells {
    /// The control cells; all cells where nothing was measured.
    pub fn controls(&self) -> Vec<usize> {
        Measured::controls(self.measured.as_ref(), self.len())
    }

    /// The perturbation of each cell as knockouts, row `i` that of the `i`-th listed cell, and those cells: the
    /// controls, and the cells whose targets are all among the genes.
    pub fn labelled(&self, measured: &Measured) -> (Vec<usize>, Knockouts) {
        let column = self.var.index();
        let columns: Vec<Option<Vec<u32>>> = measured.kinds.iter().map(|p| p.columns(&column)).collect();
        let (mut rows, mut knockouts) = (vec![], Knockouts::default());
        for i in 0..self.len() {
            if let Some(genes) = &columns[measured.of[i] as usize] {
                knockouts.push(rows.len() as u64, genes, &vec![0.0; genes.len()]);
                rows.push(i);
            }
        }
        (rows, knockouts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[&str], rules: &LabelRules) -> Vec<Option<Vec<String>>> {
        let genes = ["B", "A", "HLA_A", "C"].map(String::from);
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let measured = Measured::read(&labels, &genes, rules);
        (0..labels.len()).map(|i| measured.of_cell(i).targets.clone()).collect()
    }

    fn genes(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_are_read_in_the_styles_of_gears_and_scperturb() {
        let found = read(
            &["ctrl", "Control", "A+ctrl", "ctrl+A", "A+B", "A_C", "HLA_A", "A_enh"],
            &LabelRules::default(),
        );
        let expected = [
            genes(&[]),
            genes(&[]),
            genes(&["A"]),
            genes(&["A"]),
            genes(&["B", "A"]),
            genes(&["A", "C"]),
            genes(&["HLA_A"]),
            None,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn labels_of_the_same_genes_are_one_perturbation() {
        let labels = ["A+ctrl", "ctrl+A", "B+A", "A+B", "ctrl", "NT", "x"].map(String::from);
        let measured = Measured::read(&labels, &["A", "B"].map(String::from), &LabelRules::default());
        let names: Vec<&str> = (0..labels.len()).map(|i| measured.of_cell(i).label.as_str()).collect();
        assert_eq!(names, ["A", "A", "A+B", "A+B", "control", "control", "x"]);
        let cells: Vec<_> =
            measured.cells_by_perturbation().into_iter().map(|(p, cells)| (&*p.label, cells)).collect();
        assert_eq!(cells, [("A", vec![0, 1]), ("A+B", vec![2, 3])]);
    }

    #[test]
    fn what_is_told_comes_before_what_is_guessed() {
        let rules = LabelRules {
            control: vec!["A".into()],
            targets: [("KO".to_string(), vec!["C".to_string(), "B".into()])].into(),
        };
        assert_eq!(
            read(&["A", "control", "KO", "B"], &rules),
            [genes(&[]), None, genes(&["B", "C"]), genes(&["B"])]
        );
    }
}
