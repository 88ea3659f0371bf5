//! Interprets a piece of JSON: as itself, or as the form that a `$` name selects.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::super::fault::GobFault;

/// A piece of JSON, as gob represents it.
pub(super) enum JsonForm<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bytes(Vec<u8>),
    Text(&'v str),
    List(&'v [Value]),
    /// A map with text keys.
    Named(&'v Map<String, Value>),
    /// A map with keys of any type: lists of two.
    Pairs(&'v [Value]),
    Struct(&'v Map<String, Value>),
}

impl<'v> JsonForm<'v> {
    pub(super) fn of(value: &'v Value) -> Result<JsonForm<'v>, GobFault> {
        Ok(match value {
            Value::Null => JsonForm::Null,
            Value::Bool(is_so) => JsonForm::Bool(*is_so),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => JsonForm::Int(number),
                (None, _) if number.is_u64() => {
                    return Err(GobFault::said(format_args!(
                        "{number} is too large for an int: write {{\"$uint\": {number}}}"
                    )));
                }
                (None, Some(number)) => JsonForm::Float(number),
                (None, None) => {
                    return Err(GobFault::said(format_args!("gob cannot express the number {number}")));
                }
            },
            Value::String(text) => JsonForm::Text(text),
            Value::Array(list) => JsonForm::List(list),
            Value::Object(object) => match object.iter().find(|(name, _)| name.starts_with('$')) {
                None => JsonForm::Struct(object),
                Some((name, value)) if object.len() == 1 => JsonForm::marked(name, value)?,
                Some((name, _)) => {
                    return Err(GobFault::said(format_args!("{name} must be the only member of its object")));
                }
            },
        })
    }

    fn marked(name: &str, value: &'v Value) -> Result<JsonForm<'v>, GobFault> {
        let found = match (name, value) {
            ("$uint", Value::Number(number)) => number.as_u64().map(JsonForm::Uint),
            ("$float", Value::Number(number)) => number.as_f64().map(JsonForm::Float),
            ("$float", Value::String(text)) => match text.as_str() {
                "NaN" => Some(JsonForm::Float(f64::NAN)),
                "+Inf" => Some(JsonForm::Float(f64::INFINITY)),
                "-Inf" => Some(JsonForm::Float(f64::NEG_INFINITY)),
                _ => None,
            },
            ("$bytes", Value::String(text)) => {
                base64::engine::general_purpose::STANDARD.decode(text).ok().map(JsonForm::Bytes)
            }
            ("$map", Value::Object(entries)) => Some(JsonForm::Named(entries)),
            ("$map", Value::Array(pairs)) => Some(JsonForm::Pairs(pairs)),
            _ => None,
        };
        found.ok_or_else(|| {
            GobFault::said(match name {
                "$uint" => "{\"$uint\": …} holds a whole number that is not negative",
                "$float" => "{\"$float\": …} holds a number, \"NaN\", \"+Inf\" or \"-Inf\"",
                "$bytes" => "{\"$bytes\": …} holds base64 text",
                "$map" => "{\"$map\": …} holds an object, or a list of pairs",
                _ => "a name that begins with $ is none of $uint, $float, $bytes, $map",
            })
        })
    }
}

/// Returns the two parts of a pair.
pub(super) fn pair(value: &Value) -> Result<(&Value, &Value), GobFault> {
    match value.as_array().map(Vec::as_slice) {
        Some([key, value]) => Ok((key, value)),
        _ => Err(GobFault::text("a list in {\"$map\": …} is of pairs: [[key, value], …]")),
    }
}
