//! The exact shortcut: without an activation the two layers are one affine map, h = z·W / k + b with
//! W = W1·W2 and b = b1·W2 + b2. With s the sum of W's rows over a cell's k genes, losing the genes g gives
//! h_i = (s_i − Σ W_gi) / (k − |g|) + b_i. So all knockouts of a cell need no matrix product.
//!
//! For tens of thousands of genes W would fill the memory, while its factors are narrow. Then a row is multiplied out
//! when a knockout first asks for it.

use crate::lanes::{Chunk, Halves, Job, LANES, Lanes, Path, ZERO, chunks, flat, get, halves, packed, set};
use crate::matmul::multiply;
use crate::network::Network;
use crate::sums::AddRows;
use half::f16;
use lacuna_sdk::ndarray::{Array2, s};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Above so many bytes W is not multiplied out as a whole, nor are more of its rows kept.
const MOST_BYTES: usize = 256 << 20;

/// The two layers as one.
pub struct Collapsed {
    rows: Rows,
    /// The rows again as f16, if they are screened as such; rows of `halves_width`.
    halves: Vec<Halves>,
    bias: Vec<f32>,
}

/// The rows of W, one for each gene that goes in, in chunks.
enum Rows {
    /// One after the other.
    Whole(Vec<Chunk>),
    /// W1 and W2.
    Factors(Factors),
}

/// W1, and W2 with outputs × inputs: both have a row for each gene, as wide as the layers are in between.
struct Factors {
    into: Vec<Chunk>,
    out: Vec<Chunk>,
    width: usize,
    kept: Vec<OnceLock<Vec<Chunk>>>,
    /// How many more rows may be kept.
    room: AtomicUsize,
}

/// Room for a row that cannot be kept, and whose it is.
#[derive(Default)]
pub struct Room {
    gene: Option<usize>,
    row: Vec<Chunk>,
}

/// A cell, ready for its knockouts. All lists follow its assemblage.
pub struct Base<'a> {
    genes: &'a [u32],
    /// Sum of W's rows over the cell's genes, at the cell's genes.
    sum: Vec<f32>,
    b: Vec<f32>,
}

impl Collapsed {
    /// Of a network with two layers and without ReLU.
    pub fn new(network: &Network<f32>) -> Self {
        let [first, second] = &network.layers[..] else {
            unreachable!("a linear network has two layers");
        };
        let bias = (first.b.dot(&second.w) + &second.b).to_vec();
        let genes = bias.len();
        let width = chunks(genes);
        let rows = match size_of::<Chunk>() * width * genes <= MOST_BYTES {
            true => {
                let mut w = Array2::zeros((genes, width * LANES));
                multiply(&first.w.view(), &second.w.view(), &mut w.slice_mut(s![.., ..genes]));
                Rows::Whole(w.rows().into_iter().flat_map(|row| packed(row.iter().copied(), width)).collect())
            }
            false => Rows::Factors(Factors::new(&first.w, &second.w.t().as_standard_layout().into_owned())),
        };
        Self { rows, halves: vec![], bias }
    }

    /// From W, row after row, and b.
    #[cfg(test)]
    pub fn of(w: &[f32], bias: Vec<f32>) -> Self {
        let width = chunks(bias.len());
        let rows =
            w.chunks_exact(bias.len().max(1)).flat_map(|row| packed(row.iter().copied(), width)).collect();
        Self { rows: Rows::Whole(rows), halves: vec![], bias }
    }

    /// The same map, never multiplied out.
    #[cfg(test)]
    pub fn of_factors(network: &Network<f32>) -> Self {
        let [first, second] = &network.layers[..] else { panic!("two layers") };
        let mut factors = Factors::new(&first.w, &second.w.t().as_standard_layout().into_owned());
        factors.room = AtomicUsize::new(3);
        Self { rows: Rows::Factors(factors), ..Self::new(network) }
    }

    /// Stores the rows as f16 too. A map that is not multiplied out has none.
    pub fn halve(&mut self) {
        if let Rows::Whole(rows) = &self.rows {
            self.halves = rows.chunks_exact(chunks(self.genes()).max(1)).flat_map(halves).collect();
        }
    }

    /// Whether f16 holds all of them.
    pub fn halves_are_finite(&self) -> bool {
        self.halves.iter().all(|halves| halves.0.iter().all(|&half| f16::from_bits(half).is_finite()))
    }

    /// The same without them.
    pub fn whole(&mut self) {
        self.halves = vec![];
    }

    /// Number of genes.
    pub fn genes(&self) -> usize {
        self.bias.len()
    }

    /// b, one number for each gene.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// All rows of W, one after the other, if they are multiplied out.
    pub fn rows(&self) -> Option<&[Chunk]> {
        match &self.rows {
            Rows::Whole(rows) => Some(rows),
            Rows::Factors(_) => None,
        }
    }

    /// A gene's row of W as f16, if there are such.
    pub fn half_row(&self, gene: u32) -> Option<&[Halves]> {
        let width = chunks(self.genes()).div_ceil(2);
        (!self.halves.is_empty()).then(|| &self.halves[gene as usize * width..(gene as usize + 1) * width])
    }

    /// A gene's row of W; `room` holds one that cannot be kept.
    pub fn row<'a>(&'a self, gene: u32, room: &'a mut Room) -> &'a [Chunk] {
        let width = chunks(self.genes());
        match &self.rows {
            Rows::Whole(rows) => &rows[gene as usize * width..(gene as usize + 1) * width],
            Rows::Factors(factors) => factors.row(gene as usize, width, room),
        }
    }

    /// The sum of W's rows over a cell's genes, at these genes.
    pub fn sum(&self, genes: &[u32]) -> Vec<f32> {
        match &self.rows {
            Rows::Whole(rows) => {
                let mut all = vec![ZERO; chunks(self.genes())];
                Path::chosen().run(AddRows { rows, genes, out: &mut all });
                genes.iter().map(|&j| get(&all, j as usize)).collect()
            }
            Rows::Factors(factors) => factors.sum(genes),
        }
    }

    /// Sums up a cell.
    pub fn base<'a>(&self, genes: &'a [u32]) -> Base<'a> {
        Base { genes, sum: self.sum(genes), b: genes.iter().map(|&j| self.bias[j as usize]).collect() }
    }

    /// Writes the profile after losing some genes, at the cell's genes: shares that sum to 1, 0 for the lost.
    ///
    /// Genes that the cell does not express change nothing. When no gene is left, all is 0.
    pub fn knockout(&self, base: &Base<'_>, lost: &[u32], out: &mut Vec<f32>) {
        let expressed = lost.iter().filter_map(|g| base.genes.binary_search(g).ok());
        let left = base.genes.len() - expressed.clone().count();
        out.clear();
        if left == 0 {
            out.resize(base.genes.len(), 0.0);
            return;
        }
        out.extend_from_slice(&base.sum);
        let mut room = Room::default();
        for at in expressed.clone() {
            let row = self.row(base.genes[at], &mut room);
            out.iter_mut().zip(base.genes).for_each(|(s, &j)| *s -= get(row, j as usize));
        }
        let share = 1.0 / left as f32;
        out.iter_mut().zip(&base.b).for_each(|(s, b)| *s = (*s * share + b).abs());
        for at in expressed {
            out[at] = 0.0;
        }
        close(out);
    }
}

impl Factors {
    fn new(into: &Array2<f32>, out: &Array2<f32>) -> Self {
        let (genes, width) = (into.nrows(), chunks(into.ncols()));
        let pack = |w: &Array2<f32>| -> Vec<Chunk> {
            w.rows().into_iter().flat_map(|row| packed(row.iter().copied(), width)).collect()
        };
        let room = MOST_BYTES / (size_of::<Chunk>() * chunks(genes)).max(1);
        Self {
            into: pack(into),
            out: pack(out),
            width,
            kept: (0..genes).map(|_| OnceLock::new()).collect(),
            room: AtomicUsize::new(room),
        }
    }

    fn row<'a>(&'a self, gene: usize, chunks: usize, room: &'a mut Room) -> &'a [Chunk] {
        if let Some(row) = self.kept[gene].get() {
            return row;
        }
        if room.gene == Some(gene) {
            return &room.row;
        }
        room.row.resize(chunks, ZERO);
        let unit = &self.into[gene * self.width..(gene + 1) * self.width];
        Path::chosen().run(Products { factors: self, unit, genes: None, out: &mut room.row });
        room.gene = Some(gene);
        let taken = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match taken {
            Ok(_) => self.kept[gene].get_or_init(|| room.row.clone()),
            Err(_) => &room.row,
        }
    }

    fn sum(&self, genes: &[u32]) -> Vec<f32> {
        let mut unit = vec![ZERO; self.width];
        Path::chosen().run(AddRows { rows: &self.into, genes, out: &mut unit });
        let mut sums = vec![ZERO; chunks(genes.len())];
        Path::chosen().run(Products { factors: self, unit: &unit, genes: Some(genes), out: &mut sums });
        flat(&sums)[..genes.len()].to_vec()
    }
}

/// What the second layer makes of what is between the layers: at some genes, or at all.
struct Products<'a> {
    factors: &'a Factors,
    unit: &'a [Chunk],
    genes: Option<&'a [u32]>,
    out: &'a mut [Chunk],
}

impl Job for Products<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { factors, unit, genes, out } = self;
        let width = factors.width;
        for i in 0..genes.map_or(factors.kept.len(), <[u32]>::len) {
            let gene = genes.map_or(i, |genes| genes[i] as usize);
            let mut sum = l.splat(0.0);
            for (x, y) in unit.iter().zip(&factors.out[gene * width..(gene + 1) * width]) {
                sum = l.fma(l.load(x), l.load(y), sum);
            }
            set(out, i, l.sum(sum));
        }
    }
}

/// Divides by the sum, if there is one.
pub fn close(values: &mut [f32]) {
    let sum = sum(values.iter().copied());
    if sum > 0.0 {
        values.iter_mut().for_each(|v| *v /= sum);
    }
}

/// A sum in 16 lanes that are added up at the end: the compiler makes vectors of it, and the order is fixed.
pub fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0; LANES];
    values.enumerate().for_each(|(i, v)| lanes[i % LANES] += v);
    lanes.iter().sum()
}
