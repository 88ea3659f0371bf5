//! What a type looks like: descriptions made from serde alone, their canonical text, and fingerprints.
//!
//! A [`Description`] feeds the fingerprint in the native frame, gob's type definitions, JSON Schema and forms, so it
//! keeps the containers' names; the canonical text leaves them out. This file holds the types and the builders; the
//! grammar and the hashes are in `text.rs`, the tracing of a type in `tracer.rs`.

mod graph;
mod text;
mod tracer;

use std::fmt;

use serde::de::DeserializeOwned;

pub use text::{fingerprint, fnv1a32, method_hash, signature};

/// The shape of a type, as its serde form has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// True or false.
    Bool,
    /// An integer of 8, 16, 32, 64 or 128 bits.
    Int {
        /// Its width.
        bits: u8,
        /// Whether it can be negative.
        signed: bool,
    },
    /// A floating-point number of 32 or 64 bits.
    Float {
        /// Its width.
        bits: u8,
    },
    /// One Unicode scalar value.
    Char,
    /// UTF-8 text.
    String,
    /// A byte string.
    Bytes,
    /// Nothing to say: `()` and unit structs.
    Unit,
    /// A value or none.
    Option(Box<Shape>),
    /// Any number of values of one shape.
    Sequence(Box<Shape>),
    /// A fixed number of values: tuples, tuple structs, arrays.
    Tuple(Vec<Shape>),
    /// Any number of keys with a value each.
    Map {
        /// Shape of the keys.
        key: Box<Shape>,
        /// Shape of the values.
        value: Box<Shape>,
    },
    /// Named fields, in order.
    Struct {
        /// The type's name; not part of the canonical text.
        name: String,
        /// The fields.
        fields: Vec<FieldShape>,
    },
    /// One of several variants, in order.
    Enum {
        /// The type's name; not part of the canonical text.
        name: String,
        /// The variants.
        variants: Vec<VariantShape>,
    },
    /// A value of any shape: the type asks the format what comes next. Only the codecs that describe themselves, JSON and
    /// MessagePack, can answer.
    Any,
    /// The shape that many levels up again: 0 is the nearest enclosing option, sequence, tuple, map, struct or enum.
    Recursive {
        /// Enclosing shapes to pass over.
        levels: usize,
    },
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldShape {
    /// The name, after serde's renames.
    pub name: String,
    /// What it holds.
    pub shape: Shape,
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VariantShape {
    /// The name, after serde's renames.
    pub name: String,
    /// What it holds: `None` for a unit variant, a [`Shape::Tuple`] or [`Shape::Struct`] for those kinds, otherwise
    /// the one value.
    pub content: Option<Shape>,
}

impl Shape {
    /// A signed integer of that many bits.
    pub fn int(bits: u8) -> Shape {
        Shape::Int { bits, signed: true }
    }

    /// An unsigned integer of that many bits.
    pub fn uint(bits: u8) -> Shape {
        Shape::Int { bits, signed: false }
    }

    /// A floating-point number of that many bits.
    pub fn float(bits: u8) -> Shape {
        Shape::Float { bits }
    }

    /// That or none.
    pub fn option(inner: Shape) -> Shape {
        Shape::Option(Box::new(inner))
    }

    /// Any number of those.
    pub fn sequence(inner: Shape) -> Shape {
        Shape::Sequence(Box::new(inner))
    }

    /// These, in this order.
    pub fn tuple(elements: impl IntoIterator<Item = Shape>) -> Shape {
        Shape::Tuple(elements.into_iter().collect())
    }

    /// Any number of keys with a value each.
    pub fn map(key: Shape, value: Shape) -> Shape {
        Shape::Map { key: Box::new(key), value: Box::new(value) }
    }

    /// A struct with these fields.
    ///
    /// ```
    /// use coreloop::codec::{Description, Shape};
    /// let args = Shape::structure("Args", [("A", Shape::int(64)), ("B", Shape::int(64))]);
    /// assert_eq!(Description::new(args).text(), "{A:i64,B:i64}");
    /// ```
    pub fn structure<N: Into<String>>(
        name: impl Into<String>,
        fields: impl IntoIterator<Item = (N, Shape)>,
    ) -> Shape {
        let fields =
            fields.into_iter().map(|(name, shape)| FieldShape { name: name.into(), shape }).collect();
        Shape::Struct { name: name.into(), fields }
    }

    /// An enum with these variants; `None` makes a unit variant.
    pub fn enumeration<N: Into<String>>(
        name: impl Into<String>,
        variants: impl IntoIterator<Item = (N, Option<Shape>)>,
    ) -> Shape {
        let variants =
            variants.into_iter().map(|(name, content)| VariantShape { name: name.into(), content }).collect();
        Shape::Enum { name: name.into(), variants }
    }

    fn holds_any(&self) -> bool {
        match self {
            Shape::Any => true,
            Shape::Option(inner) | Shape::Sequence(inner) => inner.holds_any(),
            Shape::Tuple(elements) => elements.iter().any(Shape::holds_any),
            Shape::Map { key, value } => key.holds_any() || value.holds_any(),
            Shape::Struct { fields, .. } => fields.iter().any(|field| field.shape.holds_any()),
            Shape::Enum { variants, .. } => {
                variants.iter().filter_map(|variant| variant.content.as_ref()).any(Shape::holds_any)
            }
            Shape::Bool
            | Shape::Int { .. }
            | Shape::Float { .. }
            | Shape::Char
            | Shape::String
            | Shape::Bytes
            | Shape::Unit
            | Shape::Recursive { .. } => false,
        }
    }

    /// The shape that many levels up again.
    pub fn recursive(levels: usize) -> Shape {
        Shape::Recursive { levels }
    }
}

/// What a type looks like; made from serde by [`Description::of`], or by hand from a [`Shape`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Description {
    shape: Shape,
    /// Why the shape is `Any`, where the type could not be described.
    why_any: Option<String>,
}

impl Description {
    /// The description of a type, found by having it read sample values.
    ///
    /// ```
    /// use coreloop::codec::Description;
    /// let pairs = Description::of::<Vec<(u8, Option<String>)>>().unwrap();
    /// assert_eq!(pairs.text(), "[(u8,?string)]");
    /// ```
    pub fn of<T: DeserializeOwned>() -> Result<Description, DescribeError> {
        tracer::trace::<T>().map(Description::new)
    }

    /// A description made by hand.
    pub fn new(shape: Shape) -> Description {
        Description { shape, why_any: None }
    }

    /// Whether some of it has any shape: it travels in the codecs that describe themselves alone.
    pub fn is_dynamic(&self) -> bool {
        self.shape.holds_any()
    }

    /// Why it is dynamic, as what follows "the argument".
    pub(crate) fn why_dynamic(&self) -> &str {
        self.why_any.as_deref().unwrap_or("holds a value of any shape")
    }

    /// The shape that is described.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The canonical text, without the containers' names; the grammar is in `text.rs`.
    pub fn text(&self) -> String {
        text::canonical(&self.shape)
    }

    /// The text for people.
    pub fn readable(&self) -> String {
        text::readable(&self.shape)
    }
}

impl From<Shape> for Description {
    fn from(shape: Shape) -> Description {
        Description::new(shape)
    }
}

/// Why a type could not be described from serde alone. In each case: describe it by hand, or call it in JSON or
/// MessagePack.
#[derive(Clone, PartialEq, Eq)]
pub enum DescribeError {
    /// The type asks the format what comes next (untagged and internally tagged enums, `serde_json::Value`).
    SelfDescribing {
        /// The type that was to be described.
        type_name: &'static str,
        /// Where in it, as fields and variants.
        path: String,
    },
    /// The type refused a sample value (a validated newtype, a hand-written `Deserialize`).
    Refused {
        /// The type that was to be described.
        type_name: &'static str,
        /// Where in it, as fields and variants.
        path: String,
        /// What the type said.
        message: String,
    },
    /// The type is of a kind that cannot be traced.
    Unsupported {
        /// The type that was to be described.
        type_name: &'static str,
        /// Where in it, as fields and variants.
        path: String,
        /// What stands in the way.
        what: &'static str,
    },
}

crate::error_text::debug_as_text!(DescribeError);
impl DescribeError {
    /// The description of a value of any shape, which remembers why.
    pub fn into_description(self) -> Description {
        Description { shape: Shape::Any, why_any: Some(self.why()) }
    }

    /// The sentence without advice.
    fn why(&self) -> String {
        let (DescribeError::SelfDescribing { type_name, path }
        | DescribeError::Refused { type_name, path, .. }
        | DescribeError::Unsupported { type_name, path, .. }) = self;
        let place = if path.is_empty() { String::new() } else { format!(" (at {path})") };
        let why = match self {
            DescribeError::SelfDescribing { .. } => "it asks the format what comes next".to_owned(),
            DescribeError::Refused { message, .. } => format!("it refused a sample value: {message}"),
            DescribeError::Unsupported { what, .. } => (*what).to_owned(),
        };
        format!("type {type_name} cannot be described from serde alone{place}: {why}")
    }
}

impl fmt::Display for DescribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why())?;
        f.write_str("; describe it by hand, with Description::new and the constructors of Shape")
    }
}

impl std::error::Error for DescribeError {}

#[cfg(test)]
mod tests;
