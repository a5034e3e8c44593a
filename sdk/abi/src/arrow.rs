//! Tables and columns: the Arrow C Data Interface, declared here so that both sides may use any Arrow library.

use abi_stable::StableAbi;
use arrow_array::{
    Array, ArrayRef, RecordBatch, StructArray,
    ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi},
    make_array,
};
use core::ffi::c_void;

#[repr(C)]
#[derive(StableAbi)]
struct CArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *const c_void,
    children: *const c_void,
    dictionary: *const c_void,
    release: *const c_void,
    private_data: *const c_void,
}

#[repr(C)]
#[derive(StableAbi)]
struct CSchema {
    format: *const c_void,
    name: *const c_void,
    metadata: *const c_void,
    flags: i64,
    n_children: i64,
    children: *const c_void,
    dictionary: *const c_void,
    release: *const c_void,
    private_data: *const c_void,
}

const _: () = assert!(
    size_of::<CArray>() == size_of::<FFI_ArrowArray>()
        && size_of::<CSchema>() == size_of::<FFI_ArrowSchema>()
);

/// An Arrow array on its way: a column, or a table as a struct array. Dropped unread, it is released once.
#[repr(C)]
#[derive(StableAbi)]
pub struct ArrowPair {
    array: CArray,
    schema: CSchema,
}

// SAFETY: the interface allows release on any thread; arrow-rs' own structs are `Send` for that reason.
unsafe impl Send for ArrowPair {}

impl ArrowPair {
    /// Exports a column; its buffers are shared, not copied.
    pub fn from_array(array: &dyn Array) -> Result<Self, String> {
        let (array, schema) = to_ffi(&array.to_data()).map_err(|e| e.to_string())?;
        // SAFETY: both structs are the C Data Interface's, of equal size; ownership moves.
        Ok(unsafe {
            Self {
                array: core::mem::transmute::<FFI_ArrowArray, CArray>(array),
                schema: core::mem::transmute::<FFI_ArrowSchema, CSchema>(schema),
            }
        })
    }

    /// Exports a table as a struct array.
    pub fn from_table(table: &RecordBatch) -> Result<Self, String> {
        Self::from_array(&StructArray::from(table.clone()))
    }

    /// Imports a column; its buffers are shared, not copied.
    pub fn into_array(self) -> Result<ArrayRef, String> {
        // SAFETY: ownership of both structs moves into arrow's own, which release them; `from_ffi` checks.
        let data = unsafe {
            let pair = core::mem::ManuallyDrop::new(self);
            let array: FFI_ArrowArray = core::mem::transmute_copy(&pair.array);
            let schema: FFI_ArrowSchema = core::mem::transmute_copy(&pair.schema);
            from_ffi(array, &schema)
        };
        Ok(make_array(data.map_err(|e| e.to_string())?))
    }

    /// Imports a table.
    pub fn into_table(self) -> Result<RecordBatch, String> {
        let array = self.into_array()?;
        let rows = array.as_any().downcast_ref::<StructArray>().ok_or("the table is not a struct array")?;
        if rows.null_count() > 0 {
            return Err("the table has null rows".into());
        }
        Ok(RecordBatch::from(rows.clone()))
    }
}

impl Drop for ArrowPair {
    fn drop(&mut self) {
        // SAFETY: read out once, here; arrow's own structs then call the producer's release functions.
        unsafe {
            drop(core::mem::transmute_copy::<CArray, FFI_ArrowArray>(&self.array));
            drop(core::mem::transmute_copy::<CSchema, FFI_ArrowSchema>(&self.schema));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Float64Array, Int64Array, cast::AsArray, types::Float64Type};
    use std::sync::Arc;

    #[test]
    fn a_column_crosses_without_a_copy_and_is_released_once() {
        let column = Float64Array::from(vec![Some(1.5), None, Some(-2.0)]);
        let data = column.to_data();
        let held = data.buffers()[0].strong_count();
        drop(ArrowPair::from_array(&column).unwrap());
        assert_eq!(data.buffers()[0].strong_count(), held);
        let back = ArrowPair::from_array(&column).unwrap().into_array().unwrap();
        assert_eq!(back.as_primitive::<Float64Type>(), &column);
        assert_eq!(back.to_data().buffers()[0].as_ptr(), data.buffers()[0].as_ptr());
    }

    #[test]
    fn a_table_keeps_names_and_values() {
        let step: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let loss: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.25]));
        let table = RecordBatch::try_from_iter([("step", step), ("loss", loss)]).unwrap();
        assert_eq!(ArrowPair::from_table(&table).unwrap().into_table().unwrap(), table);
    }
}
