//! Descriptions of types, made from serde alone, with their canonical text and fingerprints.
//!
//! A [`Description`] is the source of the fingerprint in the native frame, of gob's type definitions, JSON Schema and
//! forms, so it keeps the names of containers; the canonical text omits them. This file holds the types and the
//! builders; the grammar and the hashes are in `text.rs`, the tracing of a type in `tracer.rs`.

mod graph;
mod text;
mod tracer;

use std::fmt;

use serde::de::DeserializeOwned;

pub use text::{fingerprint, fnv1a32, method_hash};

/// The shape of a type's serde form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// True or false.
    Bool,
    /// An integer of 8, 16, 32, 64 or 128 bits.
    Int {
        /// The width in bits.
        bits: u8,
        /// Whether it can be negative.
        signed: bool,
    },
    /// A floating-point number of 32 or 64 bits.
    Float {
        /// The width in bits.
        bits: u8,
    },
    /// One Unicode scalar value.
    Char,
    /// UTF-8 text.
    String,
    /// A byte string.
    Bytes,
    /// The unit value: `()` and unit structs.
    Unit,
    /// An optional value.
    Option(Box<Shape>),
    /// Any number of values of one shape.
    Sequence(Box<Shape>),
    /// A fixed number of values: tuples, tuple structs, arrays.
    Tuple(Vec<Shape>),
    /// Any number of keys, each with a value.
    Map {
        /// The shape of the keys.
        key: Box<Shape>,
        /// The shape of the values.
        value: Box<Shape>,
    },
    /// Named fields, in order.
    Struct {
        /// The name of the type; not part of the canonical text.
        name: String,
        /// The fields.
        fields: Vec<FieldShape>,
    },
    /// One of several variants, in order.
    Enum {
        /// The name of the type; not part of the canonical text.
        name: String,
        /// The variants.
        variants: Vec<VariantShape>,
    },
    /// A value of any shape: the type requests whatever the format contains next. Only self-describing codecs support
    /// it, JSON and MessagePack.
    Any,
    /// A reference to an enclosing shape: 0 is the nearest option, sequence, tuple, map, struct or enum.
    Recursive {
        /// The number of enclosing shapes to skip.
        levels: usize,
    },
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldShape {
    /// The name, after serde's renames.
    pub name: String,
    /// The shape of the field's value.
    pub shape: Shape,
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VariantShape {
    /// The name, after serde's renames.
    pub name: String,
    /// The content: `None` for a unit variant, a [`Shape::Tuple`] or [`Shape::Struct`] for those kinds, otherwise the
    /// shape of the single value.
    pub content: Option<Shape>,
}

impl Shape {
    /// Returns a signed integer of this width in bits.
    pub fn int(bits: u8) -> Shape {
        Shape::Int { bits, signed: true }
    }

    /// Returns an unsigned integer of this width in bits.
    pub fn uint(bits: u8) -> Shape {
        Shape::Int { bits, signed: false }
    }

    /// Returns a floating-point number of this width in bits.
    pub fn float(bits: u8) -> Shape {
        Shape::Float { bits }
    }

    /// Returns an option of this shape.
    pub fn option(inner: Shape) -> Shape {
        Shape::Option(Box::new(inner))
    }

    /// Returns a sequence of this shape.
    pub fn sequence(inner: Shape) -> Shape {
        Shape::Sequence(Box::new(inner))
    }

    /// Returns a tuple of these shapes, in this order.
    pub fn tuple(elements: impl IntoIterator<Item = Shape>) -> Shape {
        Shape::Tuple(elements.into_iter().collect())
    }

    /// Returns a map with keys and values of these shapes.
    pub fn map(key: Shape, value: Shape) -> Shape {
        Shape::Map { key: Box::new(key), value: Box::new(value) }
    }

    /// Returns a struct with these fields.
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

    /// Returns an enum with these variants; `None` makes a unit variant.
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

    /// Returns a reference to the enclosing shape this many levels up.
    pub fn recursive(levels: usize) -> Shape {
        Shape::Recursive { levels }
    }
}

/// The description of a type, made from serde by [`Description::of`] or by hand from a [`Shape`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Description {
    shape: Shape,
    /// The reason why the shape is `Any`, if the type could not be described.
    why_any: Option<String>,
}

impl Description {
    /// Describes a type, by letting it read sample values.
    ///
    /// ```
    /// use coreloop::codec::Description;
    /// let pairs = Description::of::<Vec<(u8, Option<String>)>>().unwrap();
    /// assert_eq!(pairs.text(), "[(u8,?string)]");
    /// ```
    pub fn of<T: DeserializeOwned>() -> Result<Description, DescribeError> {
        tracer::trace::<T>().map(Description::new)
    }

    /// Returns a description made by hand.
    pub fn new(shape: Shape) -> Description {
        Description { shape, why_any: None }
    }

    /// Returns whether a part of the type has any shape: such a type is limited to the self-describing codecs.
    pub fn is_dynamic(&self) -> bool {
        self.shape.holds_any()
    }

    /// Returns why the type is dynamic, as the end of a sentence that begins with "the argument".
    pub(crate) fn why_dynamic(&self) -> &str {
        self.why_any.as_deref().unwrap_or("holds a value of any shape")
    }

    /// Returns the shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the canonical text, without the names of containers; the grammar is in `text.rs`.
    pub fn text(&self) -> String {
        text::canonical(&self.shape)
    }

    /// Returns a readable text.
    pub fn readable(&self) -> String {
        text::readable(&self.shape)
    }
}

impl From<Shape> for Description {
    fn from(shape: Shape) -> Description {
        Description::new(shape)
    }
}

/// The reason why a type could not be described from serde alone.
///
/// The remedy is the same in each case: describe the type by hand, or call the method in JSON or MessagePack.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescribeError {
    /// The type requests whatever the format contains next (untagged and internally tagged enums,
    /// `serde_json::Value`).
    SelfDescribing {
        /// The type to describe.
        type_name: &'static str,
        /// The place in the type, as fields and variants.
        path: String,
    },
    /// The type refused a sample value (a validated newtype, a hand-written `Deserialize`).
    Refused {
        /// The type to describe.
        type_name: &'static str,
        /// The place in the type, as fields and variants.
        path: String,
        /// The error message of the type.
        message: String,
    },
    /// The type is of a kind that cannot be traced.
    Unsupported {
        /// The type to describe.
        type_name: &'static str,
        /// The place in the type, as fields and variants.
        path: String,
        /// The reason.
        what: &'static str,
    },
}

crate::error_text::debug_as_text!(DescribeError);
impl DescribeError {
    /// Returns the description of a value of any shape, with this error as the reason.
    pub fn into_description(self) -> Description {
        Description { shape: Shape::Any, why_any: Some(self.why()) }
    }

    /// Returns the message without advice.
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
