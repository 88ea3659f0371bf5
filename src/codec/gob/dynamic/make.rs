//! Writes a piece of JSON with the gob type that was inferred for it.
//!
//! A zero in a field is left out where Go leaves it out; elements are always written.

use serde_json::Value;

use super::super::fault::GobFault;
use super::super::number::{insert_uint, put_bytes, put_float, put_int, put_uint};
use super::super::types::{GobNode, GobType};
use super::form::{JsonForm, pair};

/// Appends the definitions and the message of a value.
pub(super) fn append(value: &Value, gob_type: &GobType, out: &mut Vec<u8>) -> Result<(), GobFault> {
    out.extend_from_slice(&gob_type.definitions);
    let start = out.len();
    put_int(out, i64::from(gob_type.id));
    if !matches!(gob_type.nodes[gob_type.root], GobNode::Struct { .. }) {
        out.push(0);
    }
    put(value, gob_type, gob_type.root, out)?;
    insert_uint(out, start, (out.len() - start) as u64);
    Ok(())
}

fn put(value: &Value, gob_type: &GobType, at: usize, out: &mut Vec<u8>) -> Result<(), GobFault> {
    match (JsonForm::of(value)?, &gob_type.nodes[at]) {
        (JsonForm::Bool(is_so), GobNode::Bool) => out.push(u8::from(is_so)),
        (JsonForm::Int(number), GobNode::Int) => put_int(out, number),
        (JsonForm::Uint(number), GobNode::Uint) => put_uint(out, number),
        (JsonForm::Float(number), GobNode::Float) => put_float(out, number),
        (JsonForm::Bytes(bytes), GobNode::Bytes) => put_bytes(out, &bytes),
        (JsonForm::Text(text), GobNode::String) => put_bytes(out, text.as_bytes()),
        (JsonForm::List(list), GobNode::Slice { elem }) => {
            put_uint(out, list.len() as u64);
            for value in list {
                put(value, gob_type, *elem, out)?;
            }
        }
        (JsonForm::Named(entries), GobNode::Map { elem, .. }) => {
            put_uint(out, entries.len() as u64);
            for (key, value) in entries {
                put_bytes(out, key.as_bytes());
                put(value, gob_type, *elem, out)?;
            }
        }
        (JsonForm::Pairs(pairs), GobNode::Map { key, elem }) => {
            put_uint(out, pairs.len() as u64);
            for both in pairs {
                let (one, other) = pair(both)?;
                put(one, gob_type, *key, out)?;
                put(other, gob_type, *elem, out)?;
            }
        }
        (JsonForm::Struct(values), GobNode::Struct { fields, .. }) => {
            let mut before = 0;
            for (number, (name, at)) in (1..).zip(fields) {
                let Some(value) = values.get(name) else { continue };
                if !is_left_out(&JsonForm::of(value)?) {
                    put_uint(out, number - before);
                    put(value, gob_type, *at, out)?;
                    before = number;
                }
            }
            out.push(0);
        }
        // The type was inferred from this value.
        _ => return Err(GobFault::text("the value is not of its type")),
    }
    Ok(())
}

/// Returns whether Go leaves the value out of a struct.
fn is_left_out(form: &JsonForm<'_>) -> bool {
    match form {
        JsonForm::Null => true,
        JsonForm::Bool(is_so) => !is_so,
        JsonForm::Int(number) => *number == 0,
        JsonForm::Uint(number) => *number == 0,
        JsonForm::Float(number) => *number == 0.0,
        JsonForm::Bytes(bytes) => bytes.is_empty(),
        JsonForm::Text(text) => text.is_empty(),
        JsonForm::List(list) => list.is_empty(),
        // Go writes an empty map that is not nil; here it is left out, since a receiver reads an absent map as an
        // empty one.
        JsonForm::Named(entries) => entries.is_empty(),
        JsonForm::Pairs(pairs) => pairs.is_empty(),
        JsonForm::Struct(_) => false,
    }
}
