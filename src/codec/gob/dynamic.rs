//! Gob without a Rust type: values converted to JSON and from JSON, for tools that have no types.
//!
//! `form.rs` interprets a piece of JSON, `infer.rs` finds its gob type, and `make.rs` writes it with that type.
//! `show.rs` reads a stream with the definitions in it, and `moment.rs` formats times.
//!
//! # From JSON
//!
//! | JSON | Go |
//! |---|---|
//! | `true` | `bool` |
//! | `7`, a whole number | `int` |
//! | `7.0`, `0.5`, `7e3` | `float64` |
//! | `"text"` | `string` |
//! | `[…]` | a slice; its elements are of one type |
//! | `{"A": …}` | a struct with these fields |
//! | `{"$uint": 7}` | `uint` |
//! | `{"$float": 1}`, `{"$float": "NaN"}` (or `"+Inf"`, `"-Inf"`) | `float64` |
//! | `{"$bytes": "aGk="}` | `[]byte` |
//! | `{"$map": {"k": …}}`, `{"$map": [[1, …]]}` | a map |
//! | `null` | a field that is left out |
//!
//! Structs in one list or map may leave out different fields: their type has all of them. A field that contains only
//! empty lists has no type and is left out, as in Go.
//!
//! # To JSON
//!
//! The same mapping in reverse, without the `$` forms, except that an interface is `{"$type": "name", "value": …}`.
//! Unsigned integers are numbers and byte strings base64 text. Maps whose keys are not text are lists of pairs, complex
//! numbers are `[re, im]`, a `time.Time` is RFC 3339 text, and a type that encodes itself as bytes (GobEncoder) is
//! base64 text. Fields that the sender left out are shown as their zero; a struct that contains itself is `null`
//! there. Bytes of a string that are not UTF-8 are shown as U+FFFD.

mod form;
mod infer;
mod make;
mod moment;
mod show;

use serde_json::Value;

use super::fault::GobFault;
use super::stream;
use super::types::GobType;
use crate::codec::{Codec, CodecError};

/// Appends the body of a JSON value to `out`, as one self-contained stream. On an error `out` is unchanged.
///
/// Ids are shared with all other types of the process, and each new type takes one permanently. So this must not be
/// used on input from peers.
///
/// ```
/// use coreloop::codec::gob::dynamic::{decode_json, encode_json};
/// let point = serde_json::json!({"X": 22, "Y": {"$uint": 33}});
/// let mut body = Vec::new();
/// encode_json(&point, &mut body).unwrap();
/// assert_eq!(decode_json(&body).unwrap(), serde_json::json!({"X": 22, "Y": 33}));
/// ```
pub fn encode_json(value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let len_before = out.len();
    append(value, out).map_err(|fault| {
        out.truncate(len_before);
        fault.unwritten()
    })
}

fn append(value: &Value, out: &mut Vec<u8>) -> Result<(), GobFault> {
    let (nodes, root) = infer::graph(value)?;
    let gob_type = GobType::of_graph(&nodes, root)?;
    make::append(value, &gob_type, out)
}

/// Converts a self-contained body to JSON, with the definitions in it; an empty body is null.
///
/// # Errors
///
/// Fails if the bytes are not gob, nest too deep, or would expand to far more than their own size.
pub fn decode_json(body: &[u8]) -> Result<Value, CodecError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let (definitions, value) = stream::definitions_of(body).map_err(GobFault::malformed)?;
    let (payload, after) = stream::next_of(value).map_err(GobFault::malformed)?;
    let (value, left) = show::value_of(definitions, payload, after).map_err(GobFault::malformed)?;
    match left.len() {
        0 => Ok(value),
        count => Err(CodecError::TrailingBytes { codec: Codec::Gob, count }),
    }
}

#[cfg(test)]
mod tests;
