//! The elements of lists and maps, one after the other, as a type of Rust's asks for them.
//!
//! Counts have been checked against the bytes that are left: every value takes at least one.

use serde::de::value::{F64Deserializer, U8Deserializer};
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};

use super::decode::Place;
use super::fault::Fault;
use super::run::Run;
use super::wire::At;

/// The elements of an array or slice.
pub(super) struct Elements<'r, 'de, 't> {
    pub(super) run: &'r mut Run<'de, 't>,
    pub(super) left: usize,
    pub(super) elem: At,
    /// How many may be reserved for.
    pub(super) reserve: usize,
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de, '_> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Place { run: self.run, at: self.elem }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reserve))
    }
}

/// The entries of a map.
pub(super) struct Entries<'r, 'de, 't> {
    pub(super) run: &'r mut Run<'de, 't>,
    pub(super) left: usize,
    pub(super) key: At,
    pub(super) elem: At,
    /// How many may be reserved for.
    pub(super) reserve: usize,
}

impl<'de> MapAccess<'de> for &mut Entries<'_, 'de, '_> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Place { run: self.run, at: self.key }).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(Place { run: self.run, at: self.elem })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reserve))
    }
}

/// A byte string, byte by byte.
pub(super) struct Bits<'de> {
    pub(super) bytes: &'de [u8],
}

impl<'de> SeqAccess<'de> for &mut Bits<'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((byte, rest)) = self.bytes.split_first() else { return Ok(None) };
        self.bytes = rest;
        let byte: U8Deserializer<Fault> = (*byte).into_deserializer();
        seed.deserialize(byte).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.bytes.len())
    }
}

/// The two parts of a complex number.
pub(super) struct Parts {
    pub(super) parts: [f64; 2],
    pub(super) at: usize,
}

impl<'de> SeqAccess<'de> for Parts {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(part) = self.parts.get(self.at) else { return Ok(None) };
        self.at += 1;
        let part: F64Deserializer<Fault> = (*part).into_deserializer();
        seed.deserialize(part).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.parts.len() - self.at)
    }
}
