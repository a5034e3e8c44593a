//! `each-expressed-gene`

use lacuna_sdk::prelude::*;

/// Every expressed gene of each cell, one at a time, in the order of the genes.
pub struct EachExpressedGene;

impl Component for EachExpressedGene {
    const ID: &'static str = "each-expressed-gene";
    const DOC: &'static str = "Knocks out every expressed gene of each cell, one at a time";
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Strategy for EachExpressedGene {
    const SCOPE: Scope = Scope::Cell;

    fn propose(&self, proposal: &Proposal<'_>, cx: &Context) -> Result<KnockoutList> {
        let mut list = KnockoutList::new();
        if proposal.round > 0 {
            return Ok(list);
        }
        for cell in 0..proposal.cells.len() {
            cx.check()?;
            proposal.cells.assemblage(cell).iter().for_each(|&gene| list.push(cell, &[gene]));
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{four_cells, propose, rows};

    #[test]
    fn every_expressed_gene_is_knocked_out_once_in_order() {
        let list = propose(&EachExpressedGene, &four_cells(), 0).unwrap();
        let expected = ["c0 A", "c0 B", "c0 C", "c0 D", "c1 B", "c1 D", "c3 A", "c3 C", "c3 D"];
        assert_eq!(rows(&list), expected);
    }

    #[test]
    fn one_round_is_all() {
        assert!(propose(&EachExpressedGene, &four_cells(), 1).unwrap().is_empty());
    }
}
