//! Infers the gob type of a piece of JSON: the common type of all elements of a list, or the reason why there is
//! none.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::super::fault::GobFault;
use super::super::types::GobNode;
use super::form::{JsonForm, pair};
use crate::codec::depth_max;

/// The knowledge about a type.
enum InferredType {
    /// Unknown: the elements of an empty list.
    Open,
    Bool,
    Int,
    Uint,
    Float,
    Bytes,
    Text,
    List(Box<InferredType>),
    Map(Box<InferredType>, Box<InferredType>),
    /// By name: the order of fields is not significant.
    Struct(BTreeMap<String, InferredType>),
}

impl fmt::Display for InferredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InferredType::Open => "nothing",
            InferredType::Bool => "a bool",
            InferredType::Int => "an int",
            InferredType::Uint => "a uint",
            InferredType::Float => "a float",
            InferredType::Bytes => "a byte string",
            InferredType::Text => "a string",
            InferredType::List(_) => "a list",
            InferredType::Map(..) => "a map",
            InferredType::Struct(_) => "a struct",
        })
    }
}

/// Returns the types of a value as a graph, and the place of its own type.
pub(super) fn graph(value: &Value) -> Result<(Vec<GobNode>, usize), GobFault> {
    let found = InferredType::of(value, depth_max())?;
    if !found.is_known() {
        return Err(GobFault::text("the element type of an empty list is unknown"));
    }
    let mut nodes = Vec::new();
    let root = found.place(&mut nodes);
    Ok((nodes, root))
}

impl InferredType {
    fn of(value: &Value, depth_left: usize) -> Result<InferredType, GobFault> {
        let inside = || depth_left.checked_sub(1).filter(|left| *left > 0).ok_or(GobFault::TooDeep);
        Ok(match JsonForm::of(value)? {
            JsonForm::Null => {
                return Err(GobFault::text("null is allowed for an omitted field only"));
            }
            JsonForm::Bool(_) => InferredType::Bool,
            JsonForm::Int(_) => InferredType::Int,
            JsonForm::Uint(_) => InferredType::Uint,
            JsonForm::Float(_) => InferredType::Float,
            JsonForm::Bytes(_) => InferredType::Bytes,
            JsonForm::Text(_) => InferredType::Text,
            JsonForm::List(list) => {
                let inside = inside()?;
                let elem = list.iter().try_fold(InferredType::Open, |known, value| {
                    known.with(InferredType::of(value, inside)?, "a list")
                })?;
                InferredType::List(Box::new(elem))
            }
            JsonForm::Named(entries) => {
                let inside = inside()?;
                let elem = entries.values().try_fold(InferredType::Open, |known, value| {
                    known.with(InferredType::of(value, inside)?, "a map")
                })?;
                InferredType::Map(Box::new(InferredType::Text), Box::new(elem))
            }
            JsonForm::Pairs(pairs) => {
                let inside = inside()?;
                let (mut key, mut elem) = (InferredType::Open, InferredType::Open);
                for both in pairs {
                    let (one, other) = pair(both)?;
                    key = key.with(InferredType::of(one, inside)?, "the keys of a map")?;
                    elem = elem.with(InferredType::of(other, inside)?, "a map")?;
                }
                InferredType::Map(Box::new(key), Box::new(elem))
            }
            JsonForm::Struct(fields) => {
                let inside = inside()?;
                let mut types = BTreeMap::new();
                for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                    if name.is_empty() {
                        return Err(GobFault::text("a field has no name"));
                    }
                    types.insert(name.clone(), InferredType::of(value, inside)?);
                }
                InferredType::Struct(types)
            }
        })
    }

    /// Returns the common type of both.
    fn with(self, other: InferredType, of: &str) -> Result<InferredType, GobFault> {
        use InferredType::*;
        Ok(match (self, other) {
            (Open, known) | (known, Open) => known,
            (Bool, Bool) => Bool,
            (Int, Int) => Int,
            (Uint, Uint) => Uint,
            (Float, Float) => Float,
            (Bytes, Bytes) => Bytes,
            (Text, Text) => Text,
            (List(one), List(other)) => List(Box::new(one.with(*other, of)?)),
            (Map(key, elem), Map(other_key, other_elem)) => {
                Map(Box::new(key.with(*other_key, of)?), Box::new(elem.with(*other_elem, of)?))
            }
            (Struct(mut fields), Struct(others)) => {
                for (name, other) in others {
                    let both = match fields.remove(&name) {
                        Some(one) => one.with(other, of)?,
                        None => other,
                    };
                    fields.insert(name, both);
                }
                Struct(fields)
            }
            (one, other) => {
                return Err(GobFault::said(format_args!(
                    "{of} holds {one} and {other}: in gob it holds one type (floats are written 1.0 or \
                     {{\"$float\": 1}}, unsigned integers {{\"$uint\": 1}})"
                )));
            }
        })
    }

    /// Returns whether no part is unknown; unknown fields are left out.
    fn is_known(&self) -> bool {
        match self {
            InferredType::Open => false,
            InferredType::List(elem) => elem.is_known(),
            InferredType::Map(key, elem) => key.is_known() && elem.is_known(),
            _ => true,
        }
    }

    /// Adds the type and its parts to the nodes.
    fn place(&self, nodes: &mut Vec<GobNode>) -> usize {
        let node = match self {
            // A known type has no unknown part.
            InferredType::Open | InferredType::Int => GobNode::Int,
            InferredType::Bool => GobNode::Bool,
            InferredType::Uint => GobNode::Uint,
            InferredType::Float => GobNode::Float,
            InferredType::Bytes => GobNode::Bytes,
            InferredType::Text => GobNode::String,
            InferredType::List(elem) => GobNode::Slice { elem: elem.place(nodes) },
            InferredType::Map(key, elem) => {
                let key = key.place(nodes);
                GobNode::Map { key, elem: elem.place(nodes) }
            }
            InferredType::Struct(fields) => {
                let known = fields.iter().filter(|(_, field)| field.is_known());
                let fields = known.map(|(name, field)| (name.clone(), field.place(nodes))).collect();
                GobNode::Struct { name: String::new(), fields }
            }
        };
        nodes.push(node);
        nodes.len() - 1
    }
}
