//! Sums of rows of a matrix: what a set of genes puts into a layer. Both the training and the screen begin with it.
//!
//! A few rows of a few columns fit into the nearest cache. They are added up for all sets before the next rows come, and
//! a set's sums stay in registers meanwhile; so a row is read from afar once, and from nearby as often as it is added.

use crate::lanes::{Chunk, Job, Lanes, ZERO};

/// Columns that are summed up at once, in chunks: they stay in registers.
pub const COLUMNS: usize = 4;
/// Rows that are summed up for all sets before the next.
const ROWS: usize = 96;

/// Genes, ascending, and where those of each [`ROWS`] rows begin among them.
#[derive(Clone, Copy)]
pub struct Set<'a> {
    /// The rows to be added.
    pub genes: &'a [u32],
    /// Made by [`segments`].
    pub segments: &'a [u32],
}

/// How many numbers [`segments`] adds for a matrix of so many rows.
pub fn count(rows: usize) -> usize {
    rows.div_ceil(ROWS) + 1
}

/// Adds where a set's genes of each tile of rows begin.
pub fn segments(genes: &[u32], rows: usize, out: &mut Vec<u32>) {
    let mut at = 0;
    for tile in 0..count(rows) {
        at += genes[at..].partition_point(|&j| (j as usize) < tile * ROWS);
        out.push(at as u32);
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
    sets: &[Set<'_>],
    out: &mut [[Chunk; COLUMNS]],
) {
    let columns = COLUMNS.min(width - first);
    let mut tile = [[ZERO; COLUMNS]; ROWS];
    out.fill([ZERO; COLUMNS]);
    for (number, rows) in matrix.chunks(ROWS * width.max(1)).enumerate() {
        for (out, row) in tile.iter_mut().zip(rows.chunks_exact(width)) {
            out[..columns].copy_from_slice(&row[first..first + columns]);
        }
        for (set, out) in sets.iter().zip(&mut *out) {
            let genes = &set.genes[set.segments[number] as usize..set.segments[number + 1] as usize];
            let [mut a, mut b, mut c, mut d] =
                [l.load(&out[0]), l.load(&out[1]), l.load(&out[2]), l.load(&out[3])];
            for &gene in genes {
                let row = &tile[gene as usize - number * ROWS];
                a = l.add(a, l.load(&row[0]));
                b = l.add(b, l.load(&row[1]));
                c = l.add(c, l.load(&row[2]));
                d = l.add(d, l.load(&row[3]));
            }
            l.store(a, &mut out[0]);
            l.store(b, &mut out[1]);
            l.store(c, &mut out[2]);
            l.store(d, &mut out[3]);
        }
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
