//! Finds a type's shape by letting its `Deserialize` read sample values and recording what it requests.
//!
//! A type is read in rounds: each explores one more variant of every enum, until nothing is left to explore. Inside a
//! place that is already being explored, the reading takes the shortest end: an option is none, a list is empty, an
//! enum is its shortest variant. Fingerprints depend on the results of this file, so they must not change. `graph.rs`
//! holds what is known.

use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::graph::{NamedTypeContent, NamedTypeKey, ShapeGraph, ShapeNode, ShapeNodeId};
use super::{DescribeError, Shape};

/// The limit of places read in all rounds together: it ends loops and types that are far too large to describe.
const STEPS_MAX: usize = 1 << 17;
/// The limit of nesting levels, to protect the stack.
const DEPTH_MAX: usize = 128;

pub(super) fn trace<T: DeserializeOwned>() -> Result<Shape, DescribeError> {
    let mut state = TraceState {
        graph: ShapeGraph::new(),
        path: Vec::new(),
        steps: 0,
        depth: 0,
        untyped_at: None,
        cause: None,
    };
    let root = state.graph.unknown();
    let type_name = std::any::type_name::<T>();
    loop {
        let known_before = state.graph.known();
        if let Err(error) = T::deserialize(TypeTracer { state: &mut state, at: root }) {
            let path = state.path.join(".");
            return Err(match state.cause {
                Some(TraceCause::SelfDescribing) => DescribeError::SelfDescribing { type_name, path },
                Some(TraceCause::Unsupported(what)) => DescribeError::Unsupported { type_name, path, what },
                // The type buffered a value of any shape, and then did not accept it for any of its variants.
                None if state.untyped_at == Some(state.steps) => {
                    DescribeError::SelfDescribing { type_name, path }
                }
                None => DescribeError::Refused { type_name, path, message: error.0 },
            });
        }
        if state.graph.is_complete(root) {
            let unsupported = |what| DescribeError::Unsupported { type_name, path: String::new(), what };
            return state.graph.shape(root).ok_or_else(|| unsupported("its description would be too large"));
        }
        if state.graph.known() == known_before {
            let what = "some part of it is never read";
            return Err(DescribeError::Unsupported { type_name, path: String::new(), what });
        }
    }
}

struct TraceState {
    graph: ShapeGraph,
    /// The fields and variants on the way to the current place; not changed after an error.
    path: Vec<String>,
    steps: usize,
    depth: usize,
    /// The step at which the type last requested a value of any shape.
    untyped_at: Option<usize>,
    /// The reason why the tracer ended the reading, if the type did not.
    cause: Option<TraceCause>,
}

enum TraceCause {
    SelfDescribing,
    Unsupported(&'static str),
}

/// An error that passes through the `Deserialize` of the type.
#[derive(Debug)]
struct TraceError(String);

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TraceError {}

impl Error for TraceError {
    fn custom<T: fmt::Display>(message: T) -> TraceError {
        TraceError(message.to_string())
    }
}

impl TraceState {
    fn fail(&mut self, cause: TraceCause) -> TraceError {
        self.cause.get_or_insert(cause);
        TraceError("cannot be traced".into())
    }

    fn unsupported(&mut self, what: &'static str) -> TraceError {
        self.fail(TraceCause::Unsupported(what))
    }

    /// Reads one level deeper.
    fn inside<R>(
        &mut self,
        read: impl FnOnce(&mut TraceState) -> Result<R, TraceError>,
    ) -> Result<R, TraceError> {
        self.steps += 1;
        self.depth += 1;
        if self.steps > STEPS_MAX {
            return Err(self.unsupported("it is too large, or reads without end"));
        }
        if self.depth > DEPTH_MAX {
            return Err(self.unsupported("it nests too deep, or without end"));
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }
}

/// A deserializer for one place in the type.
struct TypeTracer<'t> {
    state: &'t mut TraceState,
    at: ShapeNodeId,
}

const CHANGES: &str = "it asks for different things on different readings";

impl TypeTracer<'_> {
    /// Records the node of this place, if it is not known yet.
    fn settle(&mut self, make: impl FnOnce(&mut ShapeGraph) -> ShapeNode) -> &ShapeNode {
        if matches!(self.state.graph.node(self.at), ShapeNode::Unknown) {
            let node = make(&mut self.state.graph);
            self.state.graph.set(self.at, node);
        }
        self.state.graph.node(self.at)
    }

    fn leaf(&mut self, shape: Shape) -> Result<(), TraceError> {
        let fits = matches!(self.settle(|_| ShapeNode::Leaf(shape.clone())), ShapeNode::Leaf(known) if *known == shape);
        if fits { Ok(()) } else { Err(self.state.unsupported(CHANGES)) }
    }

    /// Returns the named type at this place, new or known.
    fn named(
        &mut self,
        key: NamedTypeKey,
        make: impl FnOnce(&mut ShapeGraph) -> NamedTypeContent,
    ) -> Result<usize, TraceError> {
        if let ShapeNode::Named(id) =
            *self.settle(|graph| ShapeNode::Named(graph.named_or_insert(&key, make)))
            && self.state.graph.named(id).key == key
        {
            return Ok(id);
        }
        Err(self.state.unsupported(CHANGES))
    }

    /// Reads elements that the type must read completely.
    fn elements<'de, V: Visitor<'de>>(
        self,
        elements: Vec<(Option<&'static str>, ShapeNodeId)>,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.state.inside(|state| {
            let mut elements = ElementTracer { state, left: elements.into_iter() };
            let value = visitor.visit_seq(&mut elements)?;
            if elements.left.len() > 0 {
                // serde's derive counts an alias as a separate field, and does not expose which field it belongs to.
                return Err(elements
                    .state
                    .unsupported("not all of its fields are read (has one of them an alias?)"));
            }
            Ok(value)
        })
    }
}

fn key_of<V>(name: &'static str, members: &'static [&'static str]) -> NamedTypeKey {
    NamedTypeKey { type_name: std::any::type_name::<V>(), name, members }
}

macro_rules! leaves {
    ($($method:ident $visit:ident($($sample:expr)?) $shape:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
            self.leaf($shape)?;
            self.state.inside(|_| visitor.$visit($($sample)?))
        }
    )*};
}

impl<'de> Deserializer<'de> for TypeTracer<'_> {
    type Error = TraceError;

    // The samples are 1 and not 0 or empty, since types that refuse values usually refuse those.
    leaves! {
        deserialize_bool visit_bool(false) Shape::Bool;
        deserialize_i8 visit_i8(1) Shape::int(8);
        deserialize_i16 visit_i16(1) Shape::int(16);
        deserialize_i32 visit_i32(1) Shape::int(32);
        deserialize_i64 visit_i64(1) Shape::int(64);
        deserialize_i128 visit_i128(1) Shape::int(128);
        deserialize_u8 visit_u8(1) Shape::uint(8);
        deserialize_u16 visit_u16(1) Shape::uint(16);
        deserialize_u32 visit_u32(1) Shape::uint(32);
        deserialize_u64 visit_u64(1) Shape::uint(64);
        deserialize_u128 visit_u128(1) Shape::uint(128);
        deserialize_f32 visit_f32(1.0) Shape::float(32);
        deserialize_f64 visit_f64(1.0) Shape::float(64);
        deserialize_char visit_char('1') Shape::Char;
        deserialize_str visit_borrowed_str("1") Shape::String;
        deserialize_string visit_borrowed_str("1") Shape::String;
        deserialize_bytes visit_borrowed_bytes(b"1") Shape::Bytes;
        deserialize_byte_buf visit_borrowed_bytes(b"1") Shape::Bytes;
        deserialize_unit visit_unit() Shape::Unit;
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.deserialize_unit(visitor)
    }

    /// Most of the codecs are not human-readable, and the fingerprints protect those.
    fn is_human_readable(&self) -> bool {
        false
    }

    /// A type that also accepts a unit value (`serde_json::Value`) has any shape at this place alone. A type that
    /// does not ends the tracing, since the types around it cannot be read without it.
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        self.leaf(Shape::Any)?;
        let value = self.state.inside(|state| {
            state.untyped_at = Some(state.steps);
            visitor.visit_unit()
        });
        value.map_err(|_| self.state.fail(TraceCause::SelfDescribing))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, TraceError> {
        Err(self
            .state
            .unsupported("its field names are known only while reading (serde's flatten, or adjacent tags)"))
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        let ShapeNode::Option(inner) = *self.settle(|graph| ShapeNode::Option(graph.unknown())) else {
            return Err(self.state.unsupported(CHANGES));
        };
        let at = self.at;
        self.state.inside(|state| {
            if !state.graph.begin(at, &[inner]) {
                return visitor.visit_none();
            }
            let value = visitor.visit_some(TypeTracer { state, at: inner })?;
            state.graph.end(at);
            Ok(value)
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        let ShapeNode::Sequence(inner) = *self.settle(|graph| ShapeNode::Sequence(graph.unknown())) else {
            return Err(self.state.unsupported(CHANGES));
        };
        let at = self.at;
        self.state.inside(|state| {
            let explores = state.graph.begin(at, &[inner]);
            let elements = if explores { vec![(None, inner)] } else { Vec::new() };
            let value = visitor.visit_seq(&mut ElementTracer { state, left: elements.into_iter() })?;
            if explores {
                state.graph.end(at);
            }
            Ok(value)
        })
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        let ShapeNode::Map(key, value) =
            *self.settle(|graph| ShapeNode::Map(graph.unknown(), graph.unknown()))
        else {
            return Err(self.state.unsupported(CHANGES));
        };
        let at = self.at;
        self.state.inside(|state| {
            let explores = state.graph.begin(at, &[key, value]);
            let elements = if explores { vec![(None, key), (None, value)] } else { Vec::new() };
            let value = visitor.visit_map(&mut ElementTracer { state, left: elements.into_iter() })?;
            if explores {
                state.graph.end(at);
            }
            Ok(value)
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, TraceError> {
        if len > STEPS_MAX {
            return Err(self.state.unsupported("it is too large"));
        }
        match self.settle(|graph| ShapeNode::Tuple((0..len).map(|_| graph.unknown()).collect())) {
            ShapeNode::Tuple(ids) if ids.len() == len => {
                let elements = ids.iter().map(|&id| (None, id)).collect();
                self.elements(elements, visitor)
            }
            _ => Err(self.state.unsupported(CHANGES)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let id =
            self.named(key_of::<V::Value>(name, &[]), |graph| NamedTypeContent::Newtype(graph.unknown()))?;
        match self.state.graph.named(id).content {
            NamedTypeContent::Newtype(inner) => {
                self.state.inside(|state| visitor.visit_newtype_struct(TypeTracer { state, at: inner }))
            }
            _ => Err(self.state.unsupported(CHANGES)),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let id = self.named(key_of::<V::Value>(name, &[]), |graph| {
            NamedTypeContent::Tuple((0..len).map(|_| graph.unknown()).collect())
        })?;
        match self.state.graph.named(id).content.elements() {
            Some(elements) if elements.len() == len => self.elements(elements, visitor),
            _ => Err(self.state.unsupported(CHANGES)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let id = self.named(key_of::<V::Value>(name, fields), |graph| {
            NamedTypeContent::Struct(fields.iter().map(|&field| (field, graph.unknown())).collect())
        })?;
        match self.state.graph.named(id).content.elements() {
            Some(elements) if elements.len() == fields.len() => self.elements(elements, visitor),
            _ => Err(self.state.unsupported(CHANGES)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let id = self.named(key_of::<V::Value>(name, variants), |_| {
            NamedTypeContent::Enum(variants.iter().map(|_| None).collect())
        })?;
        let Some(pick) = self.state.graph.begin_variant(id) else {
            return Err(self.state.unsupported("it has no value that ends"));
        };
        self.state.inside(|state| {
            state.path.push(format!("{name}::{}", variants[pick]));
            let value = visitor.visit_enum(VariantTracer { state, id, pick })?;
            state.path.pop();
            state.graph.end_variant(id, pick);
            Ok(value)
        })
    }
}

/// The elements of a list, tuple or struct, or the key and value of a map.
struct ElementTracer<'t> {
    state: &'t mut TraceState,
    left: std::vec::IntoIter<(Option<&'static str>, ShapeNodeId)>,
}

impl ElementTracer<'_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        let Some((name, at)) = self.left.next() else { return Ok(None) };
        if let Some(name) = name {
            self.state.path.push(name.to_string());
        }
        let value = seed.deserialize(TypeTracer { state: self.state, at })?;
        if name.is_some() {
            self.state.path.pop();
        }
        Ok(Some(value))
    }
}

impl<'de> SeqAccess<'de> for &mut ElementTracer<'_> {
    type Error = TraceError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, TraceError> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for &mut ElementTracer<'_> {
    type Error = TraceError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        self.next(seed)?.ok_or_else(|| TraceError("a value was asked for before its key".into()))
    }
}

/// The selected variant of an enum.
struct VariantTracer<'t> {
    state: &'t mut TraceState,
    id: usize,
    pick: usize,
}

impl VariantTracer<'_> {
    /// Records the content of the variant, if it is not known yet.
    fn settle(
        &mut self,
        make: impl FnOnce(&mut ShapeGraph) -> NamedTypeContent,
    ) -> Vec<(Option<&'static str>, ShapeNodeId)> {
        self.state.graph.variant_or_insert(self.id, self.pick, make)
    }
}

impl<'de, 't> EnumAccess<'de> for VariantTracer<'t> {
    type Error = TraceError;
    type Variant = VariantTracer<'t>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, VariantTracer<'t>), TraceError> {
        let index: U32Deserializer<TraceError> =
            u32::try_from(self.pick).unwrap_or(u32::MAX).into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for VariantTracer<'_> {
    type Error = TraceError;

    fn unit_variant(mut self) -> Result<(), TraceError> {
        self.settle(|_| NamedTypeContent::Unit);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, TraceError> {
        match self.settle(|graph| NamedTypeContent::Newtype(graph.unknown()))[..] {
            [(_, at)] => seed.deserialize(TypeTracer { state: self.state, at }),
            _ => Err(self.state.unsupported(CHANGES)),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, TraceError> {
        let elements =
            self.settle(|graph| NamedTypeContent::Tuple((0..len).map(|_| graph.unknown()).collect()));
        TypeTracer { state: self.state, at: 0 }.elements(elements, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let elements = self.settle(|graph| {
            NamedTypeContent::Struct(fields.iter().map(|&field| (field, graph.unknown())).collect())
        });
        TypeTracer { state: self.state, at: 0 }.elements(elements, visitor)
    }
}
