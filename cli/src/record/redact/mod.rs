//! Removal of secrets from bodies before they are recorded: the values of fields with certain names.
//!
//! JSON is processed as text (`json.rs`), so that fields unknown to the type are covered too; gob, compact and
//! MessagePack are read by the type's description and written again (`typed.rs`, `value.rs`). A body that cannot be
//! inspected is not recorded.

mod json;
mod typed;
mod value;

use std::collections::HashMap;
use std::sync::Arc;

use coreloop::codec::{Codec, Description, Shape};

use self::typed::TypedArgument;

/// Why a body is not in the record, as the record spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OmissionReason {
    /// Its codec has no fields that could be inspected.
    Opaque,
    /// It does not match its codec and its method's type.
    Undecodable,
}

impl OmissionReason {
    pub(super) fn name(self) -> &'static str {
        match self {
            OmissionReason::Opaque => "opaque",
            OmissionReason::Undecodable => "undecodable",
        }
    }
}

/// Removes secrets; caches what it has derived from the types of methods.
pub(super) struct Redactor {
    names: Arc<SecretNames>,
    /// By method index.
    methods: HashMap<u32, TypedArgument>,
}

impl Redactor {
    pub(super) fn new(names: &[String]) -> Redactor {
        Redactor { names: Arc::new(SecretNames(names.to_vec())), methods: HashMap::new() }
    }

    /// Returns the body without the secrets. `method` identifies the method, `argument` describes its argument.
    pub(super) fn blanked(
        &mut self,
        codec: Codec,
        method: u32,
        argument: &Description,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, OmissionReason> {
        if self.names.0.is_empty() || body.is_empty() {
            return Ok(body);
        }
        match codec {
            Codec::Json => json::blanked(&body, &self.names).ok_or(OmissionReason::Undecodable),
            Codec::Gob | Codec::Compact | Codec::MessagePack => {
                let typed = self.methods.entry(method).or_insert_with(|| TypedArgument::new(argument));
                typed.blanked(codec, &body, &self.names).ok_or(OmissionReason::Undecodable)
            }
            // The type describes the whole body: it has no other fields.
            Codec::Fixed if !self.names.are_in(argument.shape()) => Ok(body),
            // Raw, protobuf, the user's codecs, and whatever is added: secrets could not be found.
            _ => Err(OmissionReason::Opaque),
        }
    }
}

/// The names of fields whose values are secrets, compared without regard to case.
struct SecretNames(Vec<String>);

impl SecretNames {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn are_in(&self, shape: &Shape) -> bool {
        match shape {
            Shape::Option(inner) | Shape::Sequence(inner) => self.are_in(inner),
            Shape::Tuple(shapes) => shapes.iter().any(|shape| self.are_in(shape)),
            Shape::Map { key, value } => self.are_in(key) || self.are_in(value),
            Shape::Struct { fields, .. } => {
                fields.iter().any(|field| self.has(&field.name) || self.are_in(&field.shape))
            }
            Shape::Enum { variants, .. } => variants.iter().any(|variant| {
                self.has(&variant.name)
                    || variant.content.as_ref().is_some_and(|content| self.are_in(content))
            }),
            // It may hold anything that a caller puts there.
            Shape::Any => true,
            Shape::Bool
            | Shape::Int { .. }
            | Shape::Float { .. }
            | Shape::Char
            | Shape::String
            | Shape::Bytes
            | Shape::Unit
            | Shape::Recursive { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests;
