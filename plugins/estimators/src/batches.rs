//! Cells that were handled together.

use lacuna_sdk::arrow::{Array, ArrayRef};
use lacuna_sdk::prelude::*;

/// With more batches than these, an annotation is no batch.
const MOST_BATCHES: usize = 1000;

/// The batch of each cell by an annotation, numbered as they appear; one batch without an annotation.
pub fn batches(cells: &Cells<'_>, annotation: Option<&str>) -> Result<Vec<usize>> {
    let Some(name) = annotation else { return Ok(vec![0; cells.len()]) };
    let missing =
        || Error::data(format!("expected cells with the annotation `{name}`, found none of that name"));
    let values = cells.obs(name).ok_or_else(missing)??;
    let mut known: Vec<ArrayRef> = vec![];
    let mut batches = Vec::with_capacity(cells.len());
    for cell in 0..cells.len() {
        if values.is_null(cell) {
            let cell = cells.cell_name(cell);
            return Err(Error::data(format!(
                "expected a batch of each cell in `{name}`, found none of `{cell}`"
            )));
        }
        let value = values.slice(cell, 1);
        let batch = known.iter().position(|other| other.as_ref().eq(value.as_ref())).unwrap_or_else(|| {
            known.push(value);
            known.len() - 1
        });
        if batch >= MOST_BATCHES {
            return Err(Error::data(format!(
                "expected at most {MOST_BATCHES} batches in `{name}`, found more"
            )));
        }
        batches.push(batch);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::arrow::types::Int8Type;
    use lacuna_sdk::arrow::{DictionaryArray, Int64Array, StringArray};
    use lacuna_sdk::testing;
    use std::sync::Arc;

    fn of(column: ArrayRef) -> Result<Vec<usize>> {
        let owned = testing::cells(&[&[1.0][..]; 4]).with_obs("lane", column);
        let view = owned.to_view();
        batches(&Cells::from_view(&view), Some("lane"))
    }

    #[test]
    fn texts_categories_and_numbers_are_batches() {
        let words = ["b", "a", "b", "c"];
        for column in [
            Arc::new(StringArray::from(words.to_vec())) as ArrayRef,
            Arc::new(words.into_iter().collect::<DictionaryArray<Int8Type>>()),
            Arc::new(Int64Array::from(vec![7, 3, 7, 9])),
        ] {
            assert_eq!(of(column).unwrap(), [0, 1, 0, 2]);
        }
        let owned = testing::cells(&[&[1.0][..]; 2]);
        let view = owned.to_view();
        assert_eq!(batches(&Cells::from_view(&view), None).unwrap(), [0, 0]);
    }

    #[test]
    fn cells_without_a_batch_are_an_error() {
        let holes = Arc::new(StringArray::from(vec![Some("a"), None, None, Some("b")]));
        let found = of(holes).unwrap_err();
        assert_eq!(found, Error::data("expected a batch of each cell in `lane`, found none of `c1`"));
        let owned = testing::cells(&[&[1.0][..]; 2]);
        let view = owned.to_view();
        let found = batches(&Cells::from_view(&view), Some("lane")).unwrap_err();
        assert_eq!(found, Error::data("expected cells with the annotation `lane`, found none of that name"));
    }
}
