//! A fitted network: predictions and screens by the collapsed map or through hidden layers; saved and loaded.

use crate::collapsed::Collapsed;
use crate::deep::Deep;
use crate::device::{self, Device, Screener};
use crate::fused;
use crate::head::{Asked, Measure};
use crate::lanes::Path;
use crate::network::{Layer, Network, Shape};
use crate::train::Look;
use lacuna_sdk::arrow::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use lacuna_sdk::ndarray::{Array1, Array2};
use lacuna_sdk::prelude::*;
use lacuna_sdk::{table, tracing};
use std::sync::{Arc, OnceLock};

/// The network with the best weights.
pub struct FittedMlp {
    genes: Vec<String>,
    network: Network<f32>,
    ready: Ready,
    /// Whether the map is screened as f16.
    f16: bool,
    /// Where it screens.
    place: Place,
    /// The network on that device, since the first screen; nothing on the processor.
    device: OnceLock<Result<Option<Box<dyn Screener>>>>,
    /// The training curve; told once, after the fit, and not saved with the weights.
    history: Vec<Look>,
}

/// A device, as parameters name it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its kind.
    pub device: Device,
    /// Its number.
    pub index: usize,
}

/// The processor.
const PROCESSOR: Place = Place { device: Device::Cpu, index: 0 };

/// The network as knockouts need it.
enum Ready {
    /// Without an activation the layers are one map.
    Linear(Collapsed),
    /// With hidden layers.
    Deep(Deep),
}

/// Cells on which a map stored as f16 is tried.
const TRIED: usize = 16;
/// The most that an impact may change by it.
const TOLERANCE: f32 = 1e-6;

impl FittedMlp {
    /// A trained network.
    pub fn new(genes: Vec<String>, network: Network<f32>, history: Vec<Look>) -> Self {
        let ready = match network.relu {
            false => Ready::Linear(Collapsed::new(&network)),
            true => Ready::Deep(Deep::new(&network)),
        };
        Self { genes, network, ready, f16: false, place: PROCESSOR, device: OnceLock::new(), history }
    }

    /// Screens there.
    pub fn on(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The network on its device; nothing where that is the processor.
    fn on_device(&self) -> Result<Option<&dyn Screener>> {
        let opened = self.device.get_or_init(|| {
            let device = device::open(self.place.device, self.place.index)?;
            device.map(|device| device.screener(&self.network, self.f16)).transpose()
        });
        opened.as_ref().map(Option::as_deref).map_err(Clone::clone)
    }

    /// Its network, for a training that goes on with these cells.
    pub fn network_of(self, cells: &Cells<'_>) -> Result<Network<f32>> {
        if self.genes != cells.gene_names() {
            let (known, found) = (self.genes.len(), cells.n_genes());
            let message = format!(
                "the network to go on from has {known} genes, and the cells {found}: expected the same, in the same order"
            );
            return Err(Error::data(message));
        }
        Ok(self.network)
    }

    /// Screens a map that is stored as f16, unless that changes impacts in some of these cells.
    pub fn try_f16(&mut self, cells: &Cells<'_>, cx: &Context) -> Result<()> {
        let Ready::Linear(map) = &mut self.ready else {
            return Err(Error::parameters(
                "`f16` stores the collapsed map: a network with `hidden` layers has none",
            ));
        };
        if map.rows().is_none() {
            tracing::warn!(
                "`f16` changes nothing: the map of so many genes is not stored, but multiplied out as it is needed"
            );
            return Ok(());
        }
        let mut list = KnockoutList::new();
        for cell in (0..cells.len()).step_by(cells.len().div_ceil(TRIED).max(1)) {
            cells.assemblage(cell).iter().for_each(|&gene| list.push(cell, &[gene]));
        }
        let (knockouts, measure) = (list.as_knockouts(), Measure::excess(self.genes.len()));
        let asked = Asked { cells, knockouts: &knockouts, measure };
        let [mut whole, mut halved] = [(); 2].map(|()| vec![0.0f32; knockouts.len()]);
        fused::by_map(map, asked, Path::chosen(), &mut whole, cx)?;
        map.halve();
        fused::by_map(map, asked, Path::chosen(), &mut halved, cx)?;
        // An entry above what f16 holds would spoil a cell that is not tried here.
        let same = |a: f32, b: f32| if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() };
        let changes = whole.iter().zip(&halved).map(|(&a, &b)| same(a, b));
        let change = match map.halves_are_finite() && changes.clone().all(|change| !change.is_nan()) {
            true => changes.fold(0.0, f32::max),
            false => f32::INFINITY,
        };
        self.f16 = change <= TOLERANCE;
        if !self.f16 {
            map.whole();
            tracing::warn!(
                "f16 would change impacts by up to {change:.1e}, more than {TOLERANCE:.0e}: the map stays f32"
            );
        }
        Ok(())
    }

    /// Writes the impact of each knockout.
    pub fn impacts(&self, asked: Asked<'_>, path: Path, impacts: &mut [f32], cx: &Context) -> Result<()> {
        match &self.ready {
            Ready::Linear(map) => fused::by_map(map, asked, path, impacts, cx),
            Ready::Deep(network) => fused::by_layers(network, asked, path, impacts, cx),
        }
    }

    /// Stores the map as f16, whatever that changes.
    #[cfg(test)]
    pub fn halve(&mut self) {
        if let Ready::Linear(map) = &mut self.ready {
            map.halve();
        }
    }

    /// The two layers as one map.
    #[cfg(test)]
    pub fn collapsed(&self) -> &Collapsed {
        match &self.ready {
            Ready::Linear(map) => map,
            Ready::Deep(_) => panic!("a network with hidden layers"),
        }
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
            let genes = query.cells.assemblage(cell);
            let mut write = |i: usize, profile: &[f32]| {
                let mut row = answer.values.row_mut(i);
                row.fill(0.0);
                genes.iter().zip(profile).for_each(|(&j, &p)| row[j as usize] = p);
            };
            match &self.ready {
                Ready::Linear(map) => {
                    let base = map.base(genes);
                    for i in rows {
                        map.knockout(&base, query.knockouts.get(i).genes, &mut profile);
                        write(i, &profile);
                    }
                }
                Ready::Deep(network) => {
                    let lost: Vec<Vec<usize>> =
                        rows.clone().map(|i| fused::places(genes, query.knockouts.get(i).genes)).collect();
                    let lost: Vec<&[usize]> = lost.iter().map(Vec::as_slice).collect();
                    let base = network.base(genes, Path::chosen());
                    network.profiles(&base, &lost, |i, profile| write(rows.start + i, profile));
                }
            }
        }
        Ok(())
    }

    fn screen(&self, screen: &Screen<'_>, impacts: &mut [f32], cx: &Context) -> Result<bool> {
        let Some(measure) = Measure::of(screen) else { return Ok(false) };
        self.check(&screen.cells, &screen.knockouts)?;
        let asked = Asked { cells: &screen.cells, knockouts: &screen.knockouts, measure };
        match self.on_device()? {
            Some(device) => device.impacts(asked, impacts, cx)?,
            None => self.impacts(asked, Path::chosen(), impacts, cx)?,
        }
        Ok(true)
    }

    fn save(&self) -> Result<Vec<u8>> {
        let Shape { widths, relu } = self.network.shape();
        let mut saved = Saved::new()
            .text("format", "mlp-1")
            .names("genes", &self.genes)
            .text("widths", lacuna_sdk::serde_json::json!(widths).to_string())
            .text("activation", if relu { "relu" } else { "none" })
            .text("f16", self.f16.to_string())
            .text("device", self.place.device.word())
            .text("device-index", self.place.index.to_string());
        for (i, Layer { w, b }) in (1..).zip(&self.network.layers) {
            let values: Vec<f32> = w.iter().copied().collect();
            saved = saved.tensor(&format!("w{i}"), &[w.nrows(), w.ncols()], &values).tensor(
                &format!("b{i}"),
                &[b.len()],
                &b.to_vec(),
            );
        }
        saved.to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = saved.get_names("genes")?;
        let network = network_of(&saved)?;
        if network.genes() != genes.len() || network.layers[0].w.nrows() != genes.len() {
            return Err(Error::data("the saved network is not of as many genes as it names"));
        }
        let mut fitted = Self::new(genes, network, vec![]);
        fitted.f16 = saved.get_text("f16")? == "true";
        // A network of before there were devices names none.
        if let Ok(word) = saved.get_text("device") {
            let index = saved.get_text("device-index")?.parse()?;
            fitted.place = Place { device: Device::of(word)?, index };
        }
        match &mut fitted.ready {
            Ready::Linear(map) if fitted.f16 => map.halve(),
            _ => (),
        }
        Ok(fitted)
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

/// The layers of a saved network.
pub fn network_of(saved: &Saved) -> Result<Network<f32>> {
    let widths: Vec<usize> = lacuna_sdk::serde_json::from_str(saved.get_text("widths")?)?;
    if widths.len() < 3 {
        return Err(Error::data("a saved network has two layers at least"));
    }
    let layer = |(i, pair): (usize, &[usize])| {
        let w = saved.get_tensor(&format!("w{i}"), pair)?.to_vec();
        let b = saved.get_tensor(&format!("b{i}"), &pair[1..])?.to_vec();
        Ok(Layer { w: Array2::from_shape_vec((pair[0], pair[1]), w)?, b: Array1::from(b) })
    };
    let layers = (1..).zip(widths.windows(2)).map(layer).collect::<Result<Vec<_>>>()?;
    Ok(Network { layers, relu: saved.get_text("activation")? == "relu" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::tests::{random_cells, shapes};
    use crate::plain::{Batch, Pass};
    use lacuna_sdk::testing::{self, context};

    const GENES: usize = 24;

    fn models(seed: u64) -> impl Iterator<Item = FittedMlp> {
        shapes(GENES).into_iter().map(move |shape| {
            let network = Network::random(&shape, &mut context(seed).stream(0));
            FittedMlp::new((0..GENES).map(|j| format!("g{j}")).collect(), network, vec![])
        })
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
        pass.forward(&model.network, &batch);
        pass.q.row(0).to_vec()
    }

    #[test]
    fn predictions_equal_the_plain_forward_pass_for_single_and_double_knockouts() {
        for (seed, model) in (0..3).flat_map(|seed| models(seed).map(move |model| (seed, model))) {
            let owned = random_cells(5, GENES, seed);
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
    fn a_map_that_is_not_multiplied_out_predicts_the_same() {
        let shape = Shape::linear(GENES, Some(3));
        let network = Network::random(&shape, &mut context(4).stream(0));
        let genes: Vec<String> = (0..GENES).map(|j| format!("g{j}")).collect();
        let whole = FittedMlp::new(genes.clone(), network.clone(), vec![]);
        let ready = Ready::Linear(Collapsed::of_factors(&network));
        let factors = FittedMlp { ready, ..FittedMlp::new(genes, network, vec![]) };
        let owned = random_cells(5, GENES, 4);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let list = knockouts(&cells);
        let [a, b] = [&whole, &factors].map(|model| predict(model, cells, list.as_knockouts()));
        assert!((&a - &b).iter().all(|d| d.abs() < 1e-6));
        let [a, b] = [&whole, &factors].map(|model| {
            let mut impacts = vec![9.0; list.len()];
            let screen = testing::screen(cells, list.as_knockouts(), "bray-curtis", "predicted-null");
            assert!(model.screen(&screen, &mut impacts, &context(0)).unwrap());
            impacts
        });
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6 || a.is_nan() && b.is_nan()));
    }

    #[test]
    fn what_is_saved_predicts_the_same_bits() {
        for model in models(7) {
            let owned = random_cells(4, GENES, 3);
            let view = owned.to_view();
            let cells = Cells::from_view(&view);
            let list = knockouts(&cells);
            let loaded = FittedMlp::load(&model.save().unwrap()).unwrap();
            let [a, b] = [&model, &loaded].map(|model| predict(model, cells, list.as_knockouts()));
            assert_eq!(a, b);
        }
    }

    #[test]
    fn f16_is_kept_where_it_changes_nothing_and_refused_where_it_does() {
        let owned = random_cells(20, GENES, 3);
        let view = owned.to_view();
        let cells = Cells::from_view(&view);
        let mut model = models(5).next().unwrap();
        model.try_f16(&cells, &context(0)).unwrap();
        let Ready::Linear(map) = &mut model.ready else { panic!() };
        // So few genes feel the rounding; a map of f16 numbers does not.
        assert!(!model.f16 && map.half_row(0).is_none());
        let rounded = model.network.layers[0].w.mapv(|w| (w * 8.0).round() / 8.0);
        model.network.layers[0].w = rounded;
        model.network.layers[1].w.fill(0.0);
        model.network.layers[1].w.diag_mut().fill(1.0);
        let mut model = FittedMlp::new(model.genes, model.network, vec![]);
        model.try_f16(&cells, &context(0)).unwrap();
        assert!(model.f16 && model.collapsed().half_row(0).is_some());
        assert!(FittedMlp::load(&model.save().unwrap()).unwrap().collapsed().half_row(3).is_some());
        let error = models(5).last().unwrap().try_f16(&cells, &context(0)).unwrap_err();
        assert!(format!("{error:?}").contains("hidden"), "{error:?}");
    }

    #[test]
    fn losing_all_genes_leaves_nothing_and_a_silent_gene_changes_nothing() {
        for model in models(2) {
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
            assert!(values.row(2).iter().zip(values.row(0)).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}
