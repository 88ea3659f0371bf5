//! Gob without a type of Rust's: values shown as JSON, and made from JSON. For tools, which know no types.
//!
//! `form.rs` reads what a piece of JSON stands for, `infer.rs` finds the gob type of that, `make.rs` writes it by that
//! type; `show.rs` reads a stream by the definitions that it carries, `moment.rs` spells times.
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
//! Structs in one list or map may leave different fields out: their type has them all. A field that holds nothing but
//! empty lists has no type, and is left out as Go leaves it out.
//!
//! # To JSON
//!
//! The same the other way round, without the `$` forms but for interfaces, which are
//! `{"$type": "name", "value": …}`: unsigned integers are numbers and byte strings base64 text. Maps whose keys are no
//! text are lists of pairs, complex numbers `[re, im]`, a `time.Time` is RFC 3339 text, what makes bytes of itself
//! (GobEncoder) is base64 text. Fields that the sender left out are shown as the zero that they are; a struct that holds
//! itself is `null` there. Bytes of a string that are not UTF-8 show as U+FFFD.

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

/// Appends the body of a piece of JSON: one self-contained stream. On an error `out` is as it was.
///
/// Ids are the process's own, as those of all its types: each new type takes one for good, so this is not for what peers
/// send.
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

/// Shows a self-contained body by the definitions that it carries; an empty one is null.
///
/// # Errors
///
/// The bytes are no gob, nest too deep, or would show as far more than they are.
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
