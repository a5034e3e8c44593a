//! Sums of rows of a matrix: what a set of genes puts into a layer. Both the training and the screen begin with it.
//!
//! A tile, a few rows of a few columns, fits into the nearest cache. Its rows are added up for all sets before the next
//! tile comes, and a set's sums stay in registers meanwhile; so a row is read from afar once, and from nearby as often as
//! it is added.

use crate::lanes::{Chunk, Job, Lanes, ZERO};
use std::ops::Range;

/// Columns of a tile, in chunks: a set's stay in registers.
pub const DEPTH: usize = 8;
/// Rows of a tile.
pub const ROWS: usize = 48;
/// Numbers of a tile's columns.
pub type Columns = [Chunk; DEPTH];
/// So many zeros.
pub const NOTHING: Columns = [ZERO; DEPTH];

/// Calls `$run` with the constant N for the depth of a panel; no closure, which would be compiled for any processor.
macro_rules! of_depth {
    ($depth:expr, $task:expr, $run:ident, $l:expr) => {
        match $depth {
            1 => $task.$run::<L, 1>($l),
            2 => $task.$run::<L, 2>($l),
            3 => $task.$run::<L, 3>($l),
            4 => $task.$run::<L, 4>($l),
            5 => $task.$run::<L, 5>($l),
            6 => $task.$run::<L, 6>($l),
            7 => $task.$run::<L, 7>($l),
            $crate::sums::DEPTH => $task.$run::<L, DEPTH>($l),
            n => unreachable!("{n} columns"),
        }
    };
}
pub(crate) use of_depth;

/// Sets of rows in the order in which tiles need them: tile by tile, and set by set in each.
///
/// So what is asked of a tile is read as one stream.
#[derive(Default)]
pub struct Tiled {
    sets: usize,
    /// Where a set's places of a tile begin; and at last where they end.
    starts: Vec<u32>,
    /// Which rows of the tile.
    places: Vec<u8>,
}

impl Tiled {
    /// Sets of rows of a matrix that has so many, each ascending.
    pub fn new<'a>(sets: impl ExactSizeIterator<Item = &'a [u32]> + Clone, rows: usize) -> Self {
        let mut new = Self::default();
        new.fill(sets, rows);
        new
    }

    /// These sets instead.
    pub fn fill<'a>(&mut self, sets: impl ExactSizeIterator<Item = &'a [u32]> + Clone, rows: usize) {
        self.sets = sets.len();
        // Counted two places further on, so that a start becomes the next one while its places are filled.
        self.starts.clear();
        self.starts.resize(rows.div_ceil(ROWS) * self.sets + 2, 0);
        for (i, set) in sets.clone().enumerate() {
            for &row in set {
                self.starts[row as usize / ROWS * self.sets + i + 2] += 1;
            }
        }
        (1..self.starts.len()).for_each(|i| self.starts[i] += self.starts[i - 1]);
        self.places.resize(self.starts.pop().unwrap_or(0) as usize, 0);
        for (i, set) in sets.enumerate() {
            for &row in set {
                let next = &mut self.starts[row as usize / ROWS * self.sets + i + 1];
                self.places[*next as usize] = (row as usize % ROWS) as u8;
                *next += 1;
            }
        }
    }

    /// Where each set's places of a tile begin, and where the last one's end.
    pub fn starts(&self, tile: usize) -> &[u32] {
        &self.starts[tile * self.sets..=(tile + 1) * self.sets]
    }

    /// Where the places of tiles lie.
    pub fn range(&self, tiles: Range<usize>) -> Range<usize> {
        self.starts[tiles.start * self.sets] as usize..self.starts[tiles.end * self.sets] as usize
    }

    /// All places, tile by tile.
    pub fn places(&self) -> &[u8] {
        &self.places
    }
}

/// What will be read after a tile: it is asked for a little at a time while the tile is in use.
pub struct Ahead<'a> {
    lists: [&'a [Chunk]; 3],
    next: usize,
    /// How much at a time, of each list.
    each: usize,
}

impl<'a> Ahead<'a> {
    /// All of these lists in so many times.
    pub fn new(lists: [&'a [Chunk]; 3], times: usize) -> Self {
        Self { lists, next: 0, each: lists[0].len().div_ceil(times.max(1)) }
    }

    /// Asks for some.
    #[inline(always)]
    pub fn fetch<L: Lanes>(&mut self, l: L) {
        let end = (self.next + self.each).min(self.lists[0].len());
        for list in self.lists {
            for chunk in list.get(self.next..end).unwrap_or_default() {
                l.fetch(chunk);
            }
        }
        self.next = end;
    }
}

/// Adds to each set's sums, of N columns, its rows of a tile.
#[inline(always)]
pub fn add_rows<L: Lanes, const N: usize>(
    l: L,
    rows: &[[Chunk; N]],
    (sets, tile): (&Tiled, usize),
    out: &mut [Columns],
    ahead: &mut Ahead<'_>,
) {
    for (range, out) in sets.starts(tile).windows(2).zip(out) {
        ahead.fetch(l);
        let mut sums = [l.splat(0.0); N];
        for i in 0..N {
            sums[i] = l.load(&out[i]);
        }
        for &place in &sets.places[range[0] as usize..range[1] as usize] {
            let row = &rows[place as usize];
            for i in 0..N {
                sums[i] = l.add(sums[i], l.load(&row[i]));
            }
        }
        for i in 0..N {
            l.store(sums[i], &mut out[i]);
        }
    }
}

/// For each set the sum of its rows, over the columns from `first` on; those behind the last column are 0.
///
/// `matrix` has rows of `width` chunks.
#[inline(always)]
pub fn sums_of_rows<L: Lanes>(
    l: L,
    matrix: &[Chunk],
    width: usize,
    first: usize,
    sets: &Tiled,
    out: &mut [Columns],
) {
    let columns = DEPTH.min(width - first);
    let mut tile = [NOTHING; ROWS];
    out.fill(NOTHING);
    for (number, rows) in matrix.chunks(ROWS * width.max(1)).enumerate() {
        for (out, row) in tile.iter_mut().zip(rows.chunks_exact(width)) {
            out[..columns].copy_from_slice(&row[first..first + columns]);
        }
        add_rows(l, &tile, (sets, number), out, &mut Ahead::new([&[]; 3], 1));
    }
}

/// Adds up rows of a matrix for one set.
pub struct AddRows<'a> {
    /// As wide as `out`.
    pub rows: &'a [Chunk],
    /// Which.
    pub genes: &'a [u32],
    /// The sums.
    pub out: &'a mut [Chunk],
}

impl Job for AddRows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.out.len();
        for &gene in self.genes {
            let row = &self.rows[gene as usize * width..(gene as usize + 1) * width];
            for (sum, chunk) in self.out.iter_mut().zip(row) {
                l.store(l.add(l.load(sum), l.load(chunk)), sum);
            }
        }
    }
}
