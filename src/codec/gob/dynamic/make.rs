//! Writes a piece of JSON by the gob type that was found for it.
//!
//! A zero in a field is left out where Go leaves it out; elements are all written.

use serde_json::Value;

use super::super::fault::Fault;
use super::super::number::{insert_uint, put_bytes, put_float, put_int, put_uint};
use super::super::types::{GobType, Node};
use super::form::{Form, pair};

/// Appends the definitions and the message of a value.
pub(super) fn append(value: &Value, gob_type: &GobType, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.extend_from_slice(&gob_type.definitions);
    let start = out.len();
    put_int(out, i64::from(gob_type.id));
    if !matches!(gob_type.nodes[gob_type.root], Node::Struct { .. }) {
        out.push(0);
    }
    put(value, gob_type, gob_type.root, out)?;
    insert_uint(out, start, (out.len() - start) as u64);
    Ok(())
}

fn put(value: &Value, gob_type: &GobType, at: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match (Form::of(value)?, &gob_type.nodes[at]) {
        (Form::Bool(is_so), Node::Bool) => out.push(u8::from(is_so)),
        (Form::Int(number), Node::Int) => put_int(out, number),
        (Form::Uint(number), Node::Uint) => put_uint(out, number),
        (Form::Float(number), Node::Float) => put_float(out, number),
        (Form::Bytes(bytes), Node::Bytes) => put_bytes(out, &bytes),
        (Form::Text(text), Node::String) => put_bytes(out, text.as_bytes()),
        (Form::List(list), Node::Slice { elem }) => {
            put_uint(out, list.len() as u64);
            for value in list {
                put(value, gob_type, *elem, out)?;
            }
        }
        (Form::Named(entries), Node::Map { elem, .. }) => {
            put_uint(out, entries.len() as u64);
            for (key, value) in entries {
                put_bytes(out, key.as_bytes());
                put(value, gob_type, *elem, out)?;
            }
        }
        (Form::Pairs(pairs), Node::Map { key, elem }) => {
            put_uint(out, pairs.len() as u64);
            for both in pairs {
                let (one, other) = pair(both)?;
                put(one, gob_type, *key, out)?;
                put(other, gob_type, *elem, out)?;
            }
        }
        (Form::Struct(values), Node::Struct { fields, .. }) => {
            let mut before = 0;
            for (number, (name, at)) in (1..).zip(fields) {
                let Some(value) = values.get(name) else { continue };
                if !is_left_out(&Form::of(value)?) {
                    put_uint(out, number - before);
                    put(value, gob_type, *at, out)?;
                    before = number;
                }
            }
            out.push(0);
        }
        // The type was made of this very value.
        _ => return Err(Fault::text("the value is not of its type")),
    }
    Ok(())
}

/// Whether Go leaves it out of a struct.
fn is_left_out(form: &Form<'_>) -> bool {
    match form {
        Form::Null => true,
        Form::Bool(is_so) => !is_so,
        Form::Int(number) => *number == 0,
        Form::Uint(number) => *number == 0,
        Form::Float(number) => *number == 0.0,
        Form::Bytes(bytes) => bytes.is_empty(),
        Form::Text(text) => text.is_empty(),
        Form::List(list) => list.is_empty(),
        // Go writes a map that is there and empty; whoever misses it has an empty one.
        Form::Named(entries) => entries.is_empty(),
        Form::Pairs(pairs) => pairs.is_empty(),
        Form::Struct(_) => false,
    }
}
