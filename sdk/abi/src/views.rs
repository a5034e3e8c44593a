//! Borrowed blocks of numbers. Their fields are frozen.

use abi_stable::{
    StableAbi,
    std_types::{RSlice, RVec},
};
use core::marker::PhantomData;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

/// Rows × genes of `f32`, read only. Each row is contiguous; a row stride of 0 repeats one row.
#[cfg(not(lacuna_abi_mutant))]
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct MatRef<'a> {
    ptr: *const f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    lifetime: PhantomData<&'a f32>,
}
/// Another layout under the same name, which the layout check has to refuse. Built by a test only.
#[cfg(lacuna_abi_mutant)]
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct MatRef<'a> {
    ptr: *const f32,
    cols: usize,
    rows: usize,
    row_stride: usize,
    padding: u64,
    lifetime: PhantomData<&'a f32>,
}

// SAFETY: a shared borrow of floats, as `&[f32]` is.
unsafe impl Send for MatRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatRef<'_> {}

impl<'a> MatRef<'a> {
    fn from_parts(ptr: *const f32, rows: usize, cols: usize, row_stride: usize) -> Self {
        Self {
            ptr,
            rows,
            cols,
            row_stride,
            #[cfg(lacuna_abi_mutant)]
            padding: 0,
            lifetime: PhantomData,
        }
    }

    /// Borrows a matrix. `None` when its rows are not contiguous or its strides are negative.
    pub fn new(matrix: ArrayView2<'a, f32>) -> Option<Self> {
        let (rows, cols) = matrix.dim();
        let [row_stride, col_stride] = [matrix.strides()[0], matrix.strides()[1]];
        let fits = (cols <= 1 || col_stride == 1) && (rows <= 1 || row_stride >= 0);
        fits.then(|| Self::from_parts(matrix.as_ptr(), rows, cols, row_stride.max(0) as usize))
    }

    /// Borrows `rows × cols` values that lie one row after the other.
    ///
    /// # Panics
    /// When the slice has another length.
    pub fn from_rows(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "{rows} rows of {cols} values");
        Self::from_parts(values.as_ptr(), rows, cols, cols)
    }

    /// One row, seen `rows` times.
    pub fn repeated(row: &'a [f32], rows: usize) -> Self {
        Self::from_parts(row.as_ptr(), rows, row.len(), 0)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`, shape (genes).
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, i: usize) -> &'a [f32] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        if self.cols == 0 {
            return &[];
        }
        // SAFETY: the maker promised `rows` rows of `cols` values, `row_stride` apart, alive for 'a.
        unsafe { core::slice::from_raw_parts(self.ptr.add(i * self.row_stride), self.cols) }
    }

    /// The block as an array view.
    pub fn view(&self) -> ArrayView2<'a, f32> {
        if self.rows == 0 || self.cols == 0 {
            return ArrayView2::from_shape((self.rows, self.cols), &[]).expect("an empty view");
        }
        let shape = (self.rows, self.cols).strides((self.row_stride, 1));
        // SAFETY: as in `row`; strides are not negative.
        unsafe { ArrayView2::from_shape_ptr(shape, self.ptr) }
    }
}

/// Rows × genes of `f32` that the host lends to be written. Each row is contiguous.
#[repr(C)]
#[derive(StableAbi)]
pub struct MatMut<'a> {
    ptr: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    lifetime: PhantomData<&'a mut f32>,
}

// SAFETY: an exclusive borrow of floats, as `&mut [f32]` is.
unsafe impl Send for MatMut<'_> {}
// SAFETY: shared access to a `MatMut` gives its sizes only.
unsafe impl Sync for MatMut<'_> {}

impl<'a> MatMut<'a> {
    /// Borrows `rows × cols` values that lie one row after the other.
    ///
    /// # Panics
    /// When the slice has another length.
    pub fn from_rows(values: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "{rows} rows of {cols} values");
        Self { ptr: values.as_mut_ptr(), rows, cols, row_stride: cols, lifetime: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The block as an array view.
    pub fn into_view(self) -> ArrayViewMut2<'a, f32> {
        if self.rows == 0 || self.cols == 0 {
            return ArrayViewMut2::from_shape((self.rows, self.cols), &mut []).expect("an empty view");
        }
        let shape = (self.rows, self.cols).strides((self.row_stride, 1));
        // SAFETY: the maker promised exclusive access to these values for 'a, and `self` is consumed.
        unsafe { ArrayViewMut2::from_shape_ptr(shape, self.ptr) }
    }
}

/// Cells × genes in compressed rows. The pattern is the assemblage: explicit zeros are not allowed.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct CsrRef<'a> {
    /// Values as read, one for each stored entry.
    pub values: RSlice<'a, f32>,
    /// Gene of each stored entry, ascending within a cell.
    pub indices: RSlice<'a, u32>,
    /// Where each cell's entries begin; one more than there are cells.
    pub offsets: RSlice<'a, u64>,
    /// Number of genes.
    pub n_genes: u64,
}

/// Knockouts, one row each: genes `genes[offsets[i]..offsets[i + 1]]` of cell `cell[i]`, at their levels.
///
/// A row without genes asks for the cell as it is. When `cell` is empty, a row means the whole population.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct KnockoutsRef<'a> {
    /// Row of the cell within the cells handed over, or empty.
    pub cell: RSlice<'a, u64>,
    /// Where each row's genes begin; one more than there are rows.
    pub offsets: RSlice<'a, u64>,
    /// Columns of the genes, ascending within a row.
    pub genes: RSlice<'a, u32>,
    /// Level of each gene: 0 is a knockout, 0.3 a knock-down to 30 %, 2 an over-expression.
    pub levels: RSlice<'a, f32>,
}

/// [`KnockoutsRef`] with its memory.
#[repr(C)]
#[derive(StableAbi)]
pub struct KnockoutsBuf {
    /// See [`KnockoutsRef::cell`].
    pub cell: RVec<u64>,
    /// See [`KnockoutsRef::offsets`].
    pub offsets: RVec<u64>,
    /// See [`KnockoutsRef::genes`].
    pub genes: RVec<u32>,
    /// See [`KnockoutsRef::levels`].
    pub levels: RVec<f32>,
}
