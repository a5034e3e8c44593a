//! A fitted network: predictions and screens by the collapsed map; saved and loaded.

use crate::collapsed::Collapsed;
use crate::fused;
use crate::lanes::Path;
use crate::network::Network;
use crate::train::Look;
use lacuna_sdk::arrow::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use lacuna_sdk::ndarray::{Array1, Array2};
use lacuna_sdk::prelude::*;
use lacuna_sdk::table;
use std::sync::Arc;

/// The network with the best weights.
pub struct FittedMlp {
    genes: Vec<String>,
    network: Network<f32>,
    collapsed: Collapsed,
    /// The training curve; told once, after the fit, and not saved with the weights.
    history: Vec<Look>,
}

impl FittedMlp {
    /// A trained network.
    pub fn new(genes: Vec<String>, network: Network<f32>, history: Vec<Look>) -> Self {
        let collapsed = Collapsed::new(&network);
        Self { genes, network, collapsed, history }
    }

    /// The two layers as one map.
    #[cfg(test)]
    pub fn collapsed(&self) -> &Collapsed {
        &self.collapsed
    }

    fn check(&self, cells: &Cells<'_>, knockouts: &Knockouts<'_>) -> Result<()> {
        if cells.n_genes() != self.genes.len() {
            let (found, expected) = (cells.n_genes(), self.genes.len());
            return Err(Error::data(format!("the model knows {expected} genes, the cells have {found}")));
        }
        match knockouts.iter().find(|k| k.cell.is_none() || k.levels.iter().any(|&l| l != 0.0)) {
            Some(k) if k.cell.is_none() => Err(Error::data("this model answers for single cells only")),
            Some(k) => {
                Err(Error::data(format!("this model knows knockouts only, not the levels {:?}", k.levels)))
            }
            None => Ok(()),
        }
    }
}

impl Fitted for FittedMlp {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.check(&query.cells, &query.knockouts)?;
        let mut profile = vec![];
        for (cell, rows) in query.knockouts.by_cell() {
            cx.check()?;
            let base = self.collapsed.base(query.cells.assemblage(cell));
            for i in rows {
                self.collapsed.knockout(&base, query.knockouts.get(i).genes, &mut profile);
                let mut row = answer.values.row_mut(i);
                row.fill(0.0);
                base.genes().iter().zip(&profile).for_each(|(&j, &p)| row[j as usize] = p);
            }
        }
        Ok(())
    }

    fn screen(&self, screen: &Screen<'_>, impacts: &mut [f32], cx: &Context) -> Result<bool> {
        let Some(measure) = fused::Measure::of(screen) else { return Ok(false) };
        self.check(&screen.cells, &screen.knockouts)?;
        fused::screen(&self.collapsed, screen, measure, Path::chosen(), impacts, cx)?;
        Ok(true)
    }

    fn save(&self) -> Result<Vec<u8>> {
        let n = self.genes.len();
        let Network { w1, b1, w2, b2 } = &self.network;
        let values = |a: &Array2<f32>| a.iter().copied().collect::<Vec<f32>>();
        Saved::new()
            .text("format", "mlp-1")
            .names("genes", &self.genes)
            .tensor("w1", &[n, n], &values(w1))
            .tensor("b1", &[n], &b1.to_vec())
            .tensor("w2", &[n, n], &values(w2))
            .tensor("b2", &[n], &b2.to_vec())
            .to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = saved.get_names("genes")?;
        let n = genes.len();
        let matrix = |name: &str| {
            Ok::<_, Error>(Array2::from_shape_vec((n, n), saved.get_tensor(name, &[n, n])?.to_vec())?)
        };
        let vector = |name: &str| Ok::<_, Error>(Array1::from(saved.get_tensor(name, &[n])?.to_vec()));
        let network = Network { w1: matrix("w1")?, b1: vector("b1")?, w2: matrix("w2")?, b2: vector("b2")? };
        Ok(Self::new(genes, network, vec![]))
    }

    fn tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        let step: ArrayRef = Arc::new(UInt64Array::from_iter_values(self.history.iter().map(|l| l.step)));
        let column = |f: fn(&Look) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter(self.history.iter().map(|l| Some(f(l)).filter(|x| !x.is_nan()))))
        };
        let columns = vec![
            ("step", step),
            ("training", column(|l| l.training)),
            ("validation", column(|l| l.validation)),
        ];
        Ok(vec![("training".into(), table(columns)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::tests::random_cells;
    use crate::plain::{Batch, Pass};
    use lacuna_sdk::ndarray::Array2;
    use lacuna_sdk::testing::{self, context};

    const GENES: usize = 24;

    fn model(seed: u64) -> FittedMlp {
        let network = Network::random(GENES, &mut context(seed).stream(0));
        FittedMlp::new((0..GENES).map(|j| format!("g{j}")).collect(), network, vec![])
    }

    /// All knockouts of one and two expressed genes, and none.
    fn knockouts(cells: &Cells<'_>) -> KnockoutList {
        let mut list = KnockoutList::new();
        for cell in 0..cells.len() {
            let genes = cells.assemblage(cell);
            list.push(cell, &[]);
            for (i, &a) in genes.iter().enumerate() {
                list.push(cell, &[a]);
                genes[i + 1..].iter().for_each(|&b| list.push(cell, &[a, b]));
            }
        }
        list
    }

    fn predict(model: &FittedMlp, cells: Cells<'_>, knockouts: Knockouts<'_>) -> Array2<f32> {
        let mut values = Array2::from_elem((knockouts.len(), GENES), f32::NAN);
        let mut answer = testing::answer(values.view_mut());
        model.predict(&testing::query(cells, knockouts), &mut answer, &context(0)).unwrap();
        values
    }

    /// The assemblage without the lost genes through both layers, as the reference does it.
    fn plain(model: &FittedMlp, cells: &Cells<'_>, knockout: Knockout<'_>) -> Vec<f32> {
        let left: Vec<u32> = cells
            .assemblage(knockout.cell.unwrap())
            .iter()
            .copied()
            .filter(|g| !knockout.genes.contains(g))
            .collect();
        let mut values = vec![0.0; GENES];
        left.iter().for_each(|&g| values[g as usize] = 1.0);
        let mut one = OwnedCells::new(cells.gene_names());
        one.push("one", &values);
        let view = one.to_view();
        let batch = Batch::of(&Cells::from_view(&view), &[0]);
        let mut pass = Pass::new(1, GENES);
        pass.forward(&model.network, &batch, &context(0));
        pass.q.row(0).to_vec()
    }

    #[test]
    fn the_shortcut_equals_the_plain_forward_pass_for_single_and_double_knockouts() {
        for seed in 0..4 {
            let (model, owned) = (model(seed), random_cells(5, GENES, seed));
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            let list = knockouts(&cells);
            let values = predict(&model, cells, list.as_knockouts());
            for (i, knockout) in list.as_knockouts().iter().enumerate() {
                for (a, b) in values.row(i).iter().zip(plain(&model, &cells, knockout)) {
                    assert!((a - b).abs() < 1e-6, "{knockout:?}: {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn what_is_saved_predicts_the_same_bits() {
        let (model, owned) = (model(7), random_cells(4, GENES, 3));
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let list = knockouts(&cells);
        let loaded = FittedMlp::load(&model.save().unwrap()).unwrap();
        assert_eq!(predict(&model, cells, list.as_knockouts()), predict(&loaded, cells, list.as_knockouts()));
    }

    #[test]
    fn losing_all_genes_leaves_nothing_and_a_silent_gene_changes_nothing() {
        let model = model(2);
        let mut owned = OwnedCells::new((0..GENES).map(|j| format!("g{j}")).collect());
        let mut row = vec![0.0; GENES];
        (row[3], row[5]) = (2.0, 1.0);
        owned.push("two", &row);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let mut list = KnockoutList::new();
        [&[][..], &[3, 5], &[7]].into_iter().for_each(|genes| list.push(0, genes));
        let values = predict(&model, cells, list.as_knockouts());
        assert!(values.row(1).iter().all(|&v| v == 0.0));
        assert_eq!(values.row(2), values.row(0));
    }
}
