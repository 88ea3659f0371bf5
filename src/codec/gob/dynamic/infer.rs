//! The gob type of a piece of JSON: what all elements of a list have in common, or why there is none.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::super::fault::Fault;
use super::super::types::Node;
use super::form::{Form, pair};
use crate::codec::depth_max;

/// What is known of a type.
enum Type {
    /// Nothing: the elements of an empty list.
    Open,
    Bool,
    Int,
    Uint,
    Float,
    Bytes,
    Text,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// By name: a field's place in the type says nothing.
    Struct(BTreeMap<String, Type>),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Open => "nothing",
            Type::Bool => "a bool",
            Type::Int => "an int",
            Type::Uint => "a uint",
            Type::Float => "a float",
            Type::Bytes => "a byte string",
            Type::Text => "a string",
            Type::List(_) => "a list",
            Type::Map(..) => "a map",
            Type::Struct(_) => "a struct",
        })
    }
}

/// The types of a value, and which of them is its own.
pub(super) fn graph(value: &Value) -> Result<(Vec<Node>, usize), Fault> {
    let found = Type::of(value, depth_max())?;
    if !found.is_known() {
        return Err(Fault::text("the element type of an empty list is unknown"));
    }
    let mut nodes = Vec::new();
    let root = found.place(&mut nodes);
    Ok((nodes, root))
}

impl Type {
    fn of(value: &Value, depth_left: usize) -> Result<Type, Fault> {
        let inside = || depth_left.checked_sub(1).filter(|left| *left > 0).ok_or(Fault::TooDeep);
        Ok(match Form::of(value)? {
            Form::Null => {
                return Err(Fault::text("null is allowed for an omitted field only"));
            }
            Form::Bool(_) => Type::Bool,
            Form::Int(_) => Type::Int,
            Form::Uint(_) => Type::Uint,
            Form::Float(_) => Type::Float,
            Form::Bytes(_) => Type::Bytes,
            Form::Text(_) => Type::Text,
            Form::List(list) => {
                let inside = inside()?;
                let elem = list
                    .iter()
                    .try_fold(Type::Open, |known, value| known.with(Type::of(value, inside)?, "a list"))?;
                Type::List(Box::new(elem))
            }
            Form::Named(entries) => {
                let inside = inside()?;
                let elem = entries
                    .values()
                    .try_fold(Type::Open, |known, value| known.with(Type::of(value, inside)?, "a map"))?;
                Type::Map(Box::new(Type::Text), Box::new(elem))
            }
            Form::Pairs(pairs) => {
                let inside = inside()?;
                let (mut key, mut elem) = (Type::Open, Type::Open);
                for both in pairs {
                    let (one, other) = pair(both)?;
                    key = key.with(Type::of(one, inside)?, "the keys of a map")?;
                    elem = elem.with(Type::of(other, inside)?, "a map")?;
                }
                Type::Map(Box::new(key), Box::new(elem))
            }
            Form::Struct(fields) => {
                let inside = inside()?;
                let mut types = BTreeMap::new();
                for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                    if name.is_empty() {
                        return Err(Fault::text("a field has no name"));
                    }
                    types.insert(name.clone(), Type::of(value, inside)?);
                }
                Type::Struct(types)
            }
        })
    }

    /// The one type of both.
    fn with(self, other: Type, of: &str) -> Result<Type, Fault> {
        use Type::*;
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
                return Err(Fault::said(format_args!(
                    "{of} holds {one} and {other}: in gob it holds one type (floats are written 1.0 or \
                     {{\"$float\": 1}}, unsigned integers {{\"$uint\": 1}})"
                )));
            }
        })
    }

    /// Whether nothing in it is open; fields that are will be left out.
    fn is_known(&self) -> bool {
        match self {
            Type::Open => false,
            Type::List(elem) => elem.is_known(),
            Type::Map(key, elem) => key.is_known() && elem.is_known(),
            _ => true,
        }
    }

    /// Puts it, and what it consists of, with the others.
    fn place(&self, nodes: &mut Vec<Node>) -> usize {
        let node = match self {
            // Nothing that is known has an open part.
            Type::Open | Type::Int => Node::Int,
            Type::Bool => Node::Bool,
            Type::Uint => Node::Uint,
            Type::Float => Node::Float,
            Type::Bytes => Node::Bytes,
            Type::Text => Node::String,
            Type::List(elem) => Node::Slice { elem: elem.place(nodes) },
            Type::Map(key, elem) => {
                let key = key.place(nodes);
                Node::Map { key, elem: elem.place(nodes) }
            }
            Type::Struct(fields) => {
                let known = fields.iter().filter(|(_, field)| field.is_known());
                let fields = known.map(|(name, field)| (name.clone(), field.place(nodes))).collect();
                Node::Struct { name: String::new(), fields }
            }
        };
        nodes.push(node);
        nodes.len() - 1
    }
}
