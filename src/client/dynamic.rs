//! Calls with JSON in place of types, checked against the server's own description of its methods.
//!
//! `Meta.Methods` is asked for once, and again when a method is not in it. `shape.rs` reads the types.

mod shape;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::shape::{ShapeFault, TypeShape};
use super::CallError;
use super::shared::Client;
use crate::codec::{Codec, CodecError};
use crate::status::Code;

/// What a server says about a method.
struct DescribedMethod {
    name: String,
    /// The argument's type.
    argument: TypeShape,
    /// The argument or the result is a stream.
    has_streams: bool,
    /// The method takes JSON.
    takes_json: bool,
}

/// The methods of a server, once a call has needed them. All clones of a client share it.
#[derive(Default)]
pub(super) struct DescriptionCache(Mutex<Option<Arc<Vec<DescribedMethod>>>>);

impl Client {
    /// Calls a method by name with JSON text, and returns the reply as JSON text.
    ///
    /// ```
    /// # use coreloop::{Context, Server, Status};
    /// use coreloop::client::Client;
    ///
    /// # struct Shop;
    /// # #[coreloop::service]
    /// # impl Shop {
    /// #     fn price(&self, _cx: &Context, count: u64) -> Result<u64, Status> { Ok(40 * count) }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder().service(Shop).listen("127.0.0.1:0").start()?;
    /// let client = Client::connect(&server.addresses()[0])?;
    /// assert_eq!(client.call_json("Shop.Price", "2")?, "80");
    /// let error = client.call_json("Shop.Prize", "2").unwrap_err();
    /// assert_eq!(error.to_string(), "unimplemented: the server has no method Shop.Prize; did you mean Shop.Price?");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::NotDescribed`] if the text does not fit what the server says of its methods: nothing was sent then.
    /// Otherwise as [`Caller::call`](super::Caller::call).
    pub fn call_json(&self, method: &str, argument: &str) -> Result<String, CallError> {
        let malformed =
            |what: String| CallError::Argument(CodecError::Malformed { codec: Codec::Json, what });
        let value: Value = serde_json::from_str(argument).map_err(|error| malformed(error.to_string()))?;
        self.check_described(method, &value)?;
        let reply = self.call_bytes(method, Codec::Json, argument.as_bytes())?;
        String::from_utf8(reply).map_err(|_| {
            CallError::Reply(CodecError::Malformed {
                codec: Codec::Json,
                what: "the text is not UTF-8".to_owned(),
            })
        })
    }

    /// Calls a method by name with a value that has a JSON form, such as `serde_json::json!({"item": "tea"})`, and returns
    /// the reply as another, such as a `serde_json::Value`.
    ///
    /// # Errors
    ///
    /// As [`Client::call_json`].
    pub fn call_value<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: &str,
        argument: &A,
    ) -> Result<R, CallError> {
        let text = serde_json::to_string(argument).map_err(|error| {
            CallError::Argument(CodecError::Encode { codec: Codec::Json, what: error.to_string() })
        })?;
        let reply = self.call_json(method, &text)?;
        serde_json::from_str(&reply).map_err(|error| {
            CallError::Reply(CodecError::Malformed { codec: Codec::Json, what: error.to_string() })
        })
    }

    /// Checks a call against the description of the server.
    fn check_described(&self, method: &str, argument: &Value) -> Result<(), CallError> {
        if self.scheme().codec_number().is_some_and(|number| number != Codec::Json.number()) {
            return Err(CallError::Argument(CodecError::NotAccepted {
                codec: Codec::Json,
                why: "the protocol of the address uses another codec",
            }));
        }
        let is_known = |methods: &[DescribedMethod]| methods.iter().any(|known| known.name == method);
        let mut methods = self.described(false)?;
        if !is_known(&methods) {
            // The server may have been replaced.
            methods = self.described(true)?;
        }
        let Some(known) = methods.iter().find(|known| known.name == method) else {
            let nearest = nearest(method, methods.iter().map(|known| &*known.name));
            return Err(DescriptionError::Method { method: method.to_owned(), nearest }.into());
        };
        let method = || method.to_owned();
        if known.has_streams {
            return Err(DescriptionError::Streams { method: method() }.into());
        }
        if !known.takes_json {
            return Err(DescriptionError::NoJson { method: method() }.into());
        }
        // Go's JSON-RPC, the only other protocol without metadata, finds fields whatever their case.
        let ignores_case = !self.scheme().carries_metadata();
        known.argument.check(argument, ignores_case).map_err(|fault| {
            let ShapeFault { path, field, fields } = fault;
            let nearest = nearest(&field, fields.iter().copied());
            let fields = fields.into_iter().map(str::to_owned).collect();
            DescriptionError::Field { method: method(), path, field, fields, nearest }.into()
        })
    }

    fn described(&self, again: bool) -> Result<Arc<Vec<DescribedMethod>>, CallError> {
        let known = &self.description().0;
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(methods) = lock().clone().filter(|_| !again) {
            return Ok(methods);
        }
        let reply = self.call_bytes("Meta.Methods", Codec::Json, b"\"\"")?;
        let list: Vec<Value> = serde_json::from_slice(&reply).map_err(|error| {
            CallError::Reply(CodecError::Malformed { codec: Codec::Json, what: error.to_string() })
        })?;
        let methods = Arc::new(list.iter().filter_map(DescribedMethod::read).collect::<Vec<_>>());
        *lock() = Some(methods.clone());
        Ok(methods)
    }
}

impl DescribedMethod {
    fn read(info: &Value) -> Option<DescribedMethod> {
        let text = |name: &str| info.get(name).and_then(Value::as_str);
        let signature = text("Signature").unwrap_or_default();
        let codecs = info.get("Codecs").and_then(Value::as_array);
        Some(DescribedMethod {
            name: text("Name")?.to_owned(),
            argument: TypeShape::of_argument(text("Types").unwrap_or_default()),
            has_streams: signature.starts_with("stream ") || signature.contains(" -> stream "),
            takes_json: codecs.is_none_or(|codecs| codecs.iter().any(|name| name == Codec::Json.name())),
        })
    }
}

/// Why a call does not fit the server's description of its methods. Nothing was sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptionError {
    /// There is no such method.
    Method {
        /// The name that was given.
        method: String,
        /// The most similar name, if there is a similar one.
        nearest: Option<String>,
    },
    /// The argument has a field that its type does not have.
    Field {
        /// The method.
        method: String,
        /// Where the struct is in the argument: `""` for the argument itself, otherwise `lines[2]`.
        path: String,
        /// The field that was given.
        field: String,
        /// The fields of the type.
        fields: Vec<String>,
        /// The most similar of them, if there is a similar one.
        nearest: Option<String>,
    },
    /// The argument or the result of the method is a stream.
    Streams {
        /// The method.
        method: String,
    },
    /// The method does not take JSON.
    NoJson {
        /// The method.
        method: String,
    },
}

impl DescriptionError {
    pub(super) fn code(&self) -> Code {
        match self {
            DescriptionError::Field { .. } => Code::InvalidArgument,
            DescriptionError::Method { .. }
            | DescriptionError::Streams { .. }
            | DescriptionError::NoJson { .. } => Code::Unimplemented,
        }
    }
}

crate::error_text::debug_as_text!(DescriptionError);

impl fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Ok(()), nearest) = (match self {
            DescriptionError::Method { method, nearest } => {
                (write!(f, "the server has no method {method}"), nearest.as_deref())
            }
            DescriptionError::Field { method, path, field, fields, nearest } => {
                let at = if path.is_empty() { String::new() } else { format!(" in {path}") };
                let known = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
                let text =
                    write!(f, "argument of {method}: expected the fields {known}{at}; found {field:?}");
                (text, nearest.as_deref())
            }
            DescriptionError::Streams { method } => {
                (write!(f, "{method} has a stream, which has no form as one JSON value"), None)
            }
            DescriptionError::NoJson { method } => (write!(f, "{method} does not take JSON"), None),
        }) else {
            return Err(fmt::Error);
        };
        match nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DescriptionError {}

impl From<DescriptionError> for CallError {
    fn from(error: DescriptionError) -> CallError {
        CallError::NotDescribed(Box::new(error))
    }
}

/// Longer names are not compared: the distance is quadratic.
const NAME_CHARS_MAX: usize = 128;

/// Returns the name with the least distance, if it is small for the length.
fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    if written.chars().count() > NAME_CHARS_MAX {
        return None;
    }
    let near = names.filter(|name| name.len() <= NAME_CHARS_MAX).map(|name| (distance(written, name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + written.chars().count() / 4).then(|| name.to_owned())
}

/// Returns how many characters must be inserted, removed or replaced (Levenshtein), whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let least = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], least);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_is_near() {
        let names = ["Orders.Price", "Orders.Place", "Health.Check"];
        let of = |written| nearest(written, names.into_iter());
        assert_eq!(of("Orders.Prize").as_deref(), Some("Orders.Price"));
        assert_eq!(of("orders.price").as_deref(), Some("Orders.Price"));
        assert_eq!(of("Users.Get"), None);
        assert_eq!(nearest(&"x".repeat(1000), names.into_iter()), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("é", "e")), (3, 3, 1));
    }
}
