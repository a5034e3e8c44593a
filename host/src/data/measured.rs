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
    /// As the annotation calls it.
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

impl LabelRules {
    fn is_control(&self, label: &str) -> bool {
        if self.control.is_empty() {
            return CONTROL_WORDS.contains(&label.to_lowercase().as_str());
        }
        self.control.iter().any(|word| word == label)
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
            let parts: Vec<&str> = label.split(by).filter(|part| !self.is_control(part)).collect();
            let known = label.contains(by) && parts.iter().all(|part| genes.contains_key(part));
            known.then(|| parts.into_iter().map(String::from).collect())
        };
        split('+').or_else(|| split('_'))
    }
}

impl Measured {
    /// Reads the labels of cells, one each. Targets stand in the order of the genes, each once.
    pub fn read(labels: &[String], gene_names: &[String], rules: &LabelRules) -> Self {
        let genes: HashMap<&str, usize> =
            gene_names.iter().enumerate().map(|(j, name)| (name.as_str(), j)).collect();
        let mut number: BTreeMap<&String, u32> = labels.iter().map(|label| (label, 0)).collect();
        let mut kinds = vec![];
        for (label, number) in &mut number {
            *number = kinds.len() as u32;
            let mut targets = rules.targets_of(label, &genes);
            if let Some(targets) = &mut targets {
                targets.sort_by_key(|name| genes.get(name.as_str()).copied());
                targets.dedup();
            }
            kinds.push(Perturbation { label: (*label).clone(), targets });
        }
        Self { kinds, of: labels.iter().map(|label| number[label]).collect() }
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

    /// The cells of each perturbation that hits genes of the data, controls left out; in the order of labels.
    pub fn cells_by_perturbation(&self) -> Vec<(&Perturbation, Vec<usize>)> {
        let mut cells: Vec<Vec<usize>> = vec![vec![]; self.kinds.len()];
        self.of.iter().enumerate().for_each(|(i, &kind)| cells[kind as usize].push(i));
        let hits = |p: &Perturbation| p.targets.as_ref().is_some_and(|targets| !targets.is_empty());
        self.kinds.iter().zip(cells).filter(|(p, cells)| hits(p) && !cells.is_empty()).collect()
    }
}

impl Perturbation {
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
        let is_control = |&i: &usize| self.measured.as_ref().is_none_or(|m| m.is_control(i));
        (0..self.len()).filter(is_control).collect()
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
