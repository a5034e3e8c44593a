//! `genes`

use crate::names::{self, Entry};
use lacuna_sdk::prelude::*;

config! {
    /// Parameters of `genes`.
    pub struct GenesConfig {
        /// Names of the genes.
        genes: Vec<String> = vec![],
        /// A file with one name a line, or a CSV with the names in its first column. Blank lines, comments
        /// (`#`) and a header `gene` are skipped.
        file: Option<File> = None,
    }
}

/// Each listed gene, alone, in every cell that expresses it, in the order of the genes. Where a cell does not
/// express a gene, losing it changes nothing.
pub struct Genes(GenesConfig);

impl Component for Genes {
    const ID: &'static str = "genes";
    const DOC: &'static str = "Knocks out each listed gene, alone, in every cell that expresses it";
    type Config = GenesConfig;
    fn new(config: GenesConfig) -> Result<Self> {
        if config.genes.is_empty() && config.file.is_none() {
            return Err(Error::parameters("expected `genes`, a list of names, or `file`; found neither"));
        }
        Ok(Self(config))
    }
}

impl Strategy for Genes {
    const SCOPE: Scope = Scope::Cell;

    fn propose(&self, proposal: &Proposal<'_>, cx: &Context) -> Result<KnockoutList> {
        let mut list = KnockoutList::new();
        if proposal.round > 0 {
            return Ok(list);
        }
        let cells = proposal.cells;
        let mut listed = vec![false; cells.n_genes()];
        names::find(&self.entries()?, &cells)?
            .iter()
            .flatten()
            .for_each(|&gene| listed[gene as usize] = true);
        for cell in 0..cells.len() {
            cx.check()?;
            let expressed = cells.assemblage(cell).iter();
            expressed.filter(|&&gene| listed[gene as usize]).for_each(|&gene| list.push(cell, &[gene]));
        }
        Ok(list)
    }
}

impl Genes {
    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = vec![Entry { place: "genes".into(), names: self.0.genes.clone() }];
        if let Some(file) = &self.0.file {
            entries.extend(names::read(file, |line| line.split([',', ';', '\t']).take(1).collect())?);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{TempFile, four_cells, propose, rows};

    fn genes(genes: &[&str], file: Option<File>) -> Genes {
        Genes::new(GenesConfig { genes: genes.iter().map(|g| g.to_string()).collect(), file }).unwrap()
    }

    #[test]
    fn each_listed_gene_is_knocked_out_where_it_is_expressed() {
        let list = propose(&genes(&["D", "B", "D", "E"], None), &four_cells(), 0).unwrap();
        assert_eq!(rows(&list), ["c0 B", "c0 D", "c1 B", "c1 D", "c3 D"]);
    }

    #[test]
    fn the_first_column_of_a_file_adds_to_the_list() {
        let file = TempFile::new("genes.csv", "gene,rank\nC,1\nA,2\n");
        let list = propose(&genes(&["A"], file.param()), &four_cells(), 0).unwrap();
        assert_eq!(rows(&list), ["c0 A", "c0 C", "c3 A", "c3 C"]);
    }

    #[test]
    fn one_round_is_all() {
        assert!(propose(&genes(&["A"], None), &four_cells(), 1).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let nothing = Genes::new(GenesConfig::default()).err();
        let message = "expected `genes`, a list of names, or `file`; found neither";
        assert_eq!(nothing, Some(Error::parameters(message)));
        let unknown = propose(&genes(&["A", "b"], None), &four_cells(), 0).unwrap_err();
        assert_eq!(unknown, Error::data("genes: no gene `b` among the 5 genes; did you mean `B`?"));
        let file = TempFile::new("unknown.txt", "A\n\nZyx\n");
        let unknown = propose(&genes(&[], file.param()), &four_cells(), 0).unwrap_err();
        assert!(
            matches!(unknown, Error::Data(m) if m.ends_with("unknown.txt, line 3: no gene `Zyx` among the 5 genes"))
        );
    }
}
