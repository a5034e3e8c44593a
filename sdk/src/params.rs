//! Typed parameters: a type, a default, a range and a doc line each, from which come the parser and the schema.

use serde_json::{Map, Value, json};
use std::ops::{Range, RangeFrom, RangeInclusive, RangeToInclusive};
use std::path::{Path, PathBuf};

/// A type that a parameter can have. Its JSON schema is what the host checks a pipeline against.
pub trait Param: Sized {
    /// The JSON schema of the type, without default and doc.
    fn schema() -> Value;
    /// Reads a value; the error says what was expected and what was found.
    fn parse(value: &Value) -> Result<Self, String>;
    /// The value as JSON, to state a default.
    fn to_json(&self) -> Value;
}

fn mismatch(expected: &str, found: &Value) -> String {
    let kind = match found {
        Value::Null => "nothing".to_string(),
        Value::Array(_) => "a list".to_string(),
        Value::Object(_) => "a table".to_string(),
        scalar => scalar.to_string(),
    };
    format!("expected {expected}, found {kind}")
}

macro_rules! scalar_param {
    ($type:ty, $schema:expr, $expected:literal, $read:expr) => {
        impl Param for $type {
            fn schema() -> Value {
                $schema
            }
            fn parse(value: &Value) -> Result<Self, String> {
                let read: fn(&Value) -> Option<$type> = $read;
                read(value).ok_or_else(|| mismatch($expected, value))
            }
            fn to_json(&self) -> Value {
                json!(self)
            }
        }
    };
}

scalar_param!(bool, json!({"type": "boolean"}), "true or false", |v| v.as_bool());
scalar_param!(f64, json!({"type": "number"}), "a number", |v| v.as_f64());
scalar_param!(String, json!({"type": "string"}), "a text", |v| v.as_str().map(String::from));
scalar_param!(i64, json!({"type": "integer"}), "a whole number", |v| v.as_i64());
scalar_param!(u64, json!({"type": "integer", "minimum": 0}), "a whole number, 0 or more", |v| v.as_u64());
scalar_param!(usize, json!({"type": "integer", "minimum": 0}), "a whole number, 0 or more", |v| v
    .as_u64()
    .and_then(|n| usize::try_from(n).ok()));

/// A file named in a pipeline. The host resolves it relative to the TOML and takes its content into the
/// step's key, so that an edited file is a changed parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File(pub PathBuf);

impl AsRef<Path> for File {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Param for File {
    fn schema() -> Value {
        json!({"type": "string", "format": "path"})
    }
    fn parse(value: &Value) -> Result<Self, String> {
        value.as_str().map(|s| Self(s.into())).ok_or_else(|| mismatch("the path of a file", value))
    }
    fn to_json(&self) -> Value {
        json!(self.0.to_string_lossy())
    }
}

impl<T: Param> Param for Vec<T> {
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }
    fn parse(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| mismatch("a list", value))?;
        let parse = |(i, item)| T::parse(item).map_err(|e| format!("entry {}: {e}", i + 1));
        items.iter().enumerate().map(parse).collect()
    }
    fn to_json(&self) -> Value {
        self.iter().map(T::to_json).collect()
    }
}

/// May be left out, and has no default then.
impl<T: Param> Param for Option<T> {
    fn schema() -> Value {
        T::schema()
    }
    fn parse(value: &Value) -> Result<Self, String> {
        if value.is_null() { Ok(None) } else { T::parse(value).map(Some) }
    }
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }
}

/// The range of a number, from a Rust range or [`above`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    min: Option<f64>,
    max: Option<f64>,
    exclusive_min: bool,
    exclusive_max: bool,
}

/// Greater than `min`, which is itself not allowed.
pub fn above(min: f64) -> Bounds {
    Bounds { min: Some(min), exclusive_min: true, ..Bounds::default() }
}

macro_rules! bounds_from {
    ($($number:ty),*) => {$(
        impl From<RangeInclusive<$number>> for Bounds {
            fn from(r: RangeInclusive<$number>) -> Self {
                Self { min: Some(*r.start() as f64), max: Some(*r.end() as f64), ..Self::default() }
            }
        }
        impl From<Range<$number>> for Bounds {
            fn from(r: Range<$number>) -> Self {
                Self {
                    min: Some(r.start as f64), max: Some(r.end as f64), exclusive_max: true, ..Self::default()
                }
            }
        }
        impl From<RangeFrom<$number>> for Bounds {
            fn from(r: RangeFrom<$number>) -> Self {
                Self { min: Some(r.start as f64), ..Self::default() }
            }
        }
        impl From<RangeToInclusive<$number>> for Bounds {
            fn from(r: RangeToInclusive<$number>) -> Self {
                Self { max: Some(r.end as f64), ..Self::default() }
            }
        }
    )*};
}
bounds_from!(f64, i32);

impl Bounds {
    /// Adds the range to a schema; for a list, to its entries.
    #[doc(hidden)]
    pub fn add_to(self, schema: &mut Value) {
        if let Some(items) = schema.get_mut("items") {
            return self.add_to(items);
        }
        let integer = schema["type"] == "integer";
        let number = |x: f64| if integer { json!(x as i64) } else { json!(x) };
        if let Some(min) = self.min {
            schema[if self.exclusive_min { "exclusiveMinimum" } else { "minimum" }] = number(min);
        }
        if let Some(max) = self.max {
            schema[if self.exclusive_max { "exclusiveMaximum" } else { "maximum" }] = number(max);
        }
    }

    /// Checks a number, or every number of a list.
    #[doc(hidden)]
    pub fn check(self, value: &Value) -> Result<(), String> {
        if let Some(items) = value.as_array() {
            return items.iter().try_for_each(|item| self.check(item));
        }
        let Some(x) = value.as_f64() else { return Ok(()) };
        let low = self.min.is_none_or(|min| x > min || (x == min && !self.exclusive_min));
        let high = self.max.is_none_or(|max| x < max || (x == max && !self.exclusive_max));
        if low && high { Ok(()) } else { Err(format!("expected {self}, found {x}")) }
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let low = if self.exclusive_min { "more than" } else { "at least" };
        let high = if self.exclusive_max { "less than" } else { "at most" };
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, "{low} {min} and {high} {max}"),
            (Some(min), None) => write!(f, "{low} {min}"),
            (None, Some(max)) => write!(f, "{high} {max}"),
            (None, None) => write!(f, "a number"),
        }
    }
}

/// Joins the doc lines of a field into its description.
#[doc(hidden)]
pub fn doc(lines: &[&str]) -> String {
    lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ").trim().to_string()
}

/// Adds one property to an object schema.
#[doc(hidden)]
pub fn property<T: Param>(
    schema: &mut Value,
    name: &str,
    doc: String,
    default: &T,
    (bounds, effort): (Option<Bounds>, bool),
) {
    let mut entry = T::schema();
    if let Some(bounds) = bounds {
        bounds.add_to(&mut entry);
    }
    entry["description"] = doc.into();
    let default = default.to_json();
    if !default.is_null() {
        entry["default"] = default;
    }
    if effort {
        entry["effort"] = true.into();
    }
    schema["properties"][name] = entry;
}

/// Reads one field of an object, or keeps its default.
#[doc(hidden)]
pub fn field<T: Param>(
    object: &Map<String, Value>,
    name: &str,
    slot: &mut T,
    bounds: Option<Bounds>,
) -> Result<(), String> {
    let Some(value) = object.get(name) else { return Ok(()) };
    let parsed = T::parse(value).map_err(|e| format!("{name}: {e}"))?;
    if let Some(bounds) = bounds {
        bounds.check(value).map_err(|e| format!("{name}: {e}"))?;
    }
    *slot = parsed;
    Ok(())
}

/// The object behind a table of parameters, with unknown names refused.
#[doc(hidden)]
pub fn object<'v>(value: &'v Value, known: &[&str]) -> Result<&'v Map<String, Value>, String> {
    let object = value.as_object().ok_or_else(|| mismatch("a table of parameters", value))?;
    match object.keys().find(|k| !known.contains(&k.as_str())) {
        None => Ok(object),
        Some(key) => {
            let hint = crate::suggest(key, known.iter().copied()).map(|s| format!("; did you mean `{s}`?"));
            Err(format!("unknown parameter `{key}`{}", hint.unwrap_or_default()))
        }
    }
}

/// Declares the parameters of a component: a struct with a doc line, a default and, for numbers, a range for
/// each field. Unknown names, wrong types and values out of range are refused; the host shows and checks the
/// same declaration as a JSON schema.
///
/// `#[effort(1..)]` instead of `#[range(1..)]` marks a whole number that the work of a fit is proportional to, such as
/// optimiser steps: `lacuna plan` fits with few, to say how long many will take and to try out what needs a fitted model.
///
/// ```
/// use lacuna_sdk::prelude::*;
///
/// config! {
///     /// Parameters of the Huber distance.
///     pub struct HuberConfig {
///         /// Where the distance turns linear, as a share of the profile.
///         #[range(above(0.0))]
///         delta: f64 = 0.01,
///         /// Genes left out.
///         without: Vec<String> = vec![],
///     }
/// }
/// assert_eq!(HuberConfig::default().delta, 0.01);
/// ```
#[macro_export]
macro_rules! config {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $(
        $(#[doc = $doc:literal])* $(#[range($range:expr)])? $(#[effort($effort:expr)])?
        $field:ident : $type:ty = $default:expr
    ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name { $($(#[doc = $doc])* pub $field: $type),* }

        impl ::core::default::Default for $name {
            fn default() -> Self { Self { $($field: $default),* } }
        }

        impl $crate::params::Param for $name {
            fn schema() -> $crate::serde_json::Value {
                #[allow(unused_mut)]
                let mut schema = $crate::serde_json::json!({
                    "type": "object", "properties": {}, "additionalProperties": false
                });
                #[allow(unused_variables)]
                let default = Self::default();
                $($crate::params::property(
                    &mut schema, stringify!($field), $crate::params::doc(&[$($doc),*]), &default.$field,
                    ($crate::config!(@bounds $($range)? $($effort)?), $crate::config!(@effort $($effort)?)),
                );)*
                schema
            }

            fn parse(value: &$crate::serde_json::Value) -> ::core::result::Result<Self, String> {
                #[allow(unused_variables)]
                let object = $crate::params::object(value, &[$(stringify!($field)),*])?;
                #[allow(unused_mut)]
                let mut config = Self::default();
                $($crate::params::field(
                    object, stringify!($field), &mut config.$field,
                    $crate::config!(@bounds $($range)? $($effort)?),
                )?;)*
                Ok(config)
            }

            fn to_json(&self) -> $crate::serde_json::Value {
                #[allow(unused_mut)]
                let mut object = $crate::serde_json::Map::new();
                $(object.insert(
                    stringify!($field).to_string(), $crate::params::Param::to_json(&self.$field),
                );)*
                $crate::serde_json::Value::Object(object)
            }
        }
    };
    (@bounds) => { None };
    (@bounds $range:expr) => { Some($crate::params::Bounds::from($range)) };
    (@effort) => { false };
    (@effort $range:expr) => { true };
}

/// Declares a parameter that is one of several words.
///
/// ```
/// use lacuna_sdk::prelude::*;
///
/// choice! {
///     /// How in-degrees are drawn.
///     pub enum Degree {
///         /// 2 + Poisson(mean − 2).
///         Poisson = "poisson",
///         /// Every gene has the same.
///         Fixed = "fixed",
///     }
/// }
/// assert_eq!(Degree::parse(&"fixed".into()), Ok(Degree::Fixed));
/// ```
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $(
        $(#[doc = $doc:literal])* $variant:ident = $word:literal
    ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[doc = $doc])* $variant),+ }

        impl $crate::params::Param for $name {
            fn schema() -> $crate::serde_json::Value {
                $crate::serde_json::json!({
                    "type": "string",
                    "enum": [$($word),+],
                    "enumDescriptions": [$($crate::params::doc(&[$($doc),*])),+],
                })
            }
            fn parse(value: &$crate::serde_json::Value) -> ::core::result::Result<Self, String> {
                match value.as_str() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(format!("expected one of {}, found {value}", [$($word),+].join(", "))),
                }
            }
            fn to_json(&self) -> $crate::serde_json::Value {
                match self { $(Self::$variant => $word.into()),+ }
            }
        }
    };
}

config! {
    /// For a component without parameters.
    pub struct NoConfig {}
}

#[cfg(test)]
mod tests {
    use super::*;

    choice! {
        /// Two words.
        enum Word {
            /// The first.
            First = "first",
            /// The second.
            Second = "second",
        }
    }
    config! {
        /// Everything a parameter can be.
        struct All {
            /// A number
            /// over two lines.
            #[range(0.0..=1.0)]
            share: f64 = 0.1,
            /// A count.
            #[effort(1..)]
            count: u64 = 5,
            /// Layers.
            #[range(1..=64)]
            layers: Vec<usize> = vec![8, 8],
            /// A word.
            word: Word = Word::First,
            /// A file.
            file: Option<File> = None,
        }
    }

    #[test]
    fn the_schema_has_type_range_default_and_doc_in_order() {
        let schema = All::schema();
        let names: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["share", "count", "layers", "word", "file"]);
        let expected = json!({"type": "number", "minimum": 0.0, "maximum": 1.0,
            "description": "A number over two lines.", "default": 0.1});
        assert_eq!(schema["properties"]["share"], expected);
        let counted =
            json!({"type": "integer", "minimum": 1, "description": "A count.", "default": 5, "effort": true});
        assert_eq!(schema["properties"]["count"], counted);
        assert_eq!(schema["properties"]["layers"]["items"]["maximum"], 64);
        assert_eq!(schema["properties"]["word"]["enumDescriptions"], json!(["The first.", "The second."]));
        assert!(schema["properties"]["file"].get("default").is_none());
    }

    #[test]
    fn defaults_parse_back_to_themselves() {
        let all = All::parse(&All::default().to_json()).unwrap();
        assert_eq!((all.share, all.count, all.layers), (0.1, 5, vec![8, 8]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |v: Value| All::parse(&v).unwrap_err();
        assert_eq!(error(json!({"shares": 1})), "unknown parameter `shares`; did you mean `share`?");
        assert_eq!(error(json!({"share": 2})), "share: expected at least 0 and at most 1, found 2");
        assert_eq!(error(json!({"count": -1})), "count: expected a whole number, 0 or more, found -1");
        assert_eq!(error(json!({"layers": [8, 0]})), "layers: expected at least 1 and at most 64, found 0");
        assert_eq!(error(json!({"word": "third"})), "word: expected one of first, second, found \"third\"");
        assert_eq!(error(json!([])), "expected a table of parameters, found a list");
    }
}
