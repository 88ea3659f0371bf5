//! What a piece of JSON stands for: itself, or what a `$` in front of a name says.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::super::fault::Fault;

/// A piece of JSON as gob has it.
pub(super) enum Form<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bytes(Vec<u8>),
    Text(&'v str),
    List(&'v [Value]),
    /// A map with text for keys.
    Named(&'v Map<String, Value>),
    /// A map with whatever for keys: lists of two.
    Pairs(&'v [Value]),
    Struct(&'v Map<String, Value>),
}

impl<'v> Form<'v> {
    pub(super) fn of(value: &'v Value) -> Result<Form<'v>, Fault> {
        Ok(match value {
            Value::Null => Form::Null,
            Value::Bool(is_so) => Form::Bool(*is_so),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Form::Int(number),
                (None, _) if number.is_u64() => {
                    return Err(Fault::said(format_args!(
                        "{number} is too large for an int: write {{\"$uint\": {number}}}"
                    )));
                }
                (None, Some(number)) => Form::Float(number),
                (None, None) => {
                    return Err(Fault::said(format_args!("gob cannot express the number {number}")));
                }
            },
            Value::String(text) => Form::Text(text),
            Value::Array(list) => Form::List(list),
            Value::Object(object) => match object.iter().find(|(name, _)| name.starts_with('$')) {
                None => Form::Struct(object),
                Some((name, value)) if object.len() == 1 => Form::marked(name, value)?,
                Some((name, _)) => {
                    return Err(Fault::said(format_args!("{name} must be the only member of its object")));
                }
            },
        })
    }

    fn marked(name: &str, value: &'v Value) -> Result<Form<'v>, Fault> {
        let found = match (name, value) {
            ("$uint", Value::Number(number)) => number.as_u64().map(Form::Uint),
            ("$float", Value::Number(number)) => number.as_f64().map(Form::Float),
            ("$float", Value::String(text)) => match text.as_str() {
                "NaN" => Some(Form::Float(f64::NAN)),
                "+Inf" => Some(Form::Float(f64::INFINITY)),
                "-Inf" => Some(Form::Float(f64::NEG_INFINITY)),
                _ => None,
            },
            ("$bytes", Value::String(text)) => {
                base64::engine::general_purpose::STANDARD.decode(text).ok().map(Form::Bytes)
            }
            ("$map", Value::Object(entries)) => Some(Form::Named(entries)),
            ("$map", Value::Array(pairs)) => Some(Form::Pairs(pairs)),
            _ => None,
        };
        found.ok_or_else(|| {
            Fault::said(match name {
                "$uint" => "{\"$uint\": …} holds a whole number that is not negative",
                "$float" => "{\"$float\": …} holds a number, \"NaN\", \"+Inf\" or \"-Inf\"",
                "$bytes" => "{\"$bytes\": …} holds base64 text",
                "$map" => "{\"$map\": …} holds an object, or a list of pairs",
                _ => "a name that begins with $ is none of $uint, $float, $bytes, $map",
            })
        })
    }
}

/// The two of a pair.
pub(super) fn pair(value: &Value) -> Result<(&Value, &Value), Fault> {
    match value.as_array().map(Vec::as_slice) {
        Some([key, value]) => Ok((key, value)),
        _ => Err(Fault::text("a list in {\"$map\": …} is of pairs: [[key, value], …]")),
    }
}
