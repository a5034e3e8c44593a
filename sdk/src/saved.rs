//! Fitted models as bytes: named tensors and texts, in the safetensors format that Python reads too.

use crate::params::Param;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;

/// Named tensors of `f32` and named texts, to save a fitted model and load it again.
///
/// ```
/// # use lacuna_sdk::Saved;
/// let genes = ["Apoe", "Trem2"].map(String::from);
/// let bytes = Saved::new().names("genes", &genes).tensor("mean", &[2], &[0.75, 0.25]).to_bytes()?;
/// let saved = Saved::from_bytes(&bytes)?;
/// assert_eq!(saved.get_names("genes")?, genes);
/// assert_eq!(saved.get_tensor("mean", &[2])?, [0.75, 0.25]);
/// # Ok::<(), lacuna_sdk::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    texts: HashMap<String, String>,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Saved {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text, such as the parameters as JSON.
    pub fn text(mut self, name: &str, text: impl Into<String>) -> Self {
        self.texts.insert(name.into(), text.into());
        self
    }

    /// Adds a list of names, such as the genes.
    pub fn names(self, name: &str, names: &[String]) -> Self {
        self.text(name, serde_json::json!(names).to_string())
    }

    /// Adds parameters.
    pub fn params<C: Param>(self, name: &str, params: &C) -> Self {
        self.text(name, params.to_json().to_string())
    }

    /// Adds a tensor, its values in row order.
    ///
    /// # Panics
    /// When the shape does not fit the values.
    pub fn tensor(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "tensor `{name}`");
        self.tensors.push((name.into(), shape.to_vec(), values.to_vec()));
        self
    }

    /// A text by name.
    pub fn get_text(&self, name: &str) -> Result<&str> {
        let text = self.texts.get(name).map(String::as_str);
        text.ok_or_else(|| Error::data(format!("the saved model has no text `{name}`")))
    }

    /// A list of names.
    pub fn get_names(&self, name: &str) -> Result<Vec<String>> {
        Ok(serde_json::from_str(self.get_text(name)?)?)
    }

    /// Parameters by name, checked as those of a pipeline are.
    pub fn get_params<C: Param>(&self, name: &str) -> Result<C> {
        let params = C::parse(&serde_json::from_str(self.get_text(name)?)?);
        params.map_err(|e| Error::data(format!("`{name}` of the saved model: {e}")))
    }

    /// A tensor's values, if it has this shape.
    pub fn get_tensor(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        let missing = || Error::data(format!("the saved model has no tensor `{name}`"));
        let (_, found, values) = self.tensors.iter().find(|t| t.0 == name).ok_or_else(missing)?;
        if found != shape {
            let message =
                format!("tensor `{name}` of the saved model: expected shape {shape:?}, found {found:?}");
            return Err(Error::data(message));
        }
        Ok(values)
    }

    /// As bytes. The same content gives the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let little_endian: Vec<Vec<u8>> =
            self.tensors.iter().map(|t| t.2.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let mut views = vec![];
        for ((name, shape, _), bytes) in self.tensors.iter().zip(&little_endian) {
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?));
        }
        // The format keeps its metadata in a hash map, whose order is not fixed: one entry holds all texts.
        let mut texts: Vec<_> = self.texts.iter().collect();
        texts.sort();
        let texts: serde_json::Map<String, serde_json::Value> =
            texts.into_iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect();
        let metadata = HashMap::from([("lacuna".to_string(), serde_json::Value::Object(texts).to_string())]);
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// From bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let texts = header.metadata().as_ref().and_then(|m| m.get("lacuna"));
        let texts: HashMap<String, String> = texts.map_or(Ok(HashMap::new()), |t| serde_json::from_str(t))?;
        let mut tensors = vec![];
        for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(Error::data(format!("tensor `{name}`: expected F32, found {:?}", view.dtype())));
            }
            let values = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            tensors.push((name, view.shape().to_vec(), values));
        }
        Ok(Self { texts, tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_back_and_damaged_ones_are_refused() {
        crate::config! {
            /// One.
            struct One {
                /// A share.
                #[range(0.0..=1.0)]
                share: f64 = 0.1,
            }
        }
        let saved = Saved::new().params("with", &One { share: 1.0 / 3.0 }).text("bad", r#"{"share": 2}"#);
        assert_eq!(saved.get_params::<One>("with").unwrap().share, 1.0 / 3.0);
        let error = saved.get_params::<One>("bad").unwrap_err();
        let expected = "`bad` of the saved model: share: expected at least 0 and at most 1, found 2";
        assert_eq!(error, Error::data(expected));
    }

    #[test]
    fn saved_bytes_are_the_same_each_time_and_damage_is_an_error() {
        let make = || {
            let saved = Saved::new().text("b", "1").text("a", "2").tensor("w", &[2, 1], &[1.0, -2.5]);
            saved.tensor("empty", &[0, 3], &[]).to_bytes().unwrap()
        };
        let bytes = make();
        assert!((0..20).all(|_| make() == bytes));
        let saved = Saved::from_bytes(&bytes).unwrap();
        assert_eq!((saved.get_text("a"), saved.get_tensor("w", &[2, 1])), (Ok("2"), Ok(&[1.0, -2.5][..])));
        assert!(saved.get_tensor("w", &[1, 2]).is_err());
        assert!((0..bytes.len()).all(|n| Saved::from_bytes(&bytes[..n]).is_err()));
    }
}
