//! The elements of lists and maps, one at a time, as a Rust type requests them.
//!
//! Counts have been checked against the bytes left: every value takes at least one byte.

use serde::de::value::{F64Deserializer, U8Deserializer};
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};

use super::decode::ValueDecoder;
use super::fault::GobFault;
use super::run::DecodeRun;
use super::wire::TypeIndex;

/// The elements of an array or slice.
pub(super) struct GobElements<'r, 'de, 't> {
    pub(super) run: &'r mut DecodeRun<'de, 't>,
    pub(super) left: usize,
    pub(super) elem: TypeIndex,
    /// The number of elements that may be reserved.
    pub(super) reserve: usize,
}

impl<'de> SeqAccess<'de> for &mut GobElements<'_, 'de, '_> {
    type Error = GobFault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, GobFault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(ValueDecoder { run: self.run, at: self.elem }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reserve))
    }
}

/// The entries of a map.
pub(super) struct GobEntries<'r, 'de, 't> {
    pub(super) run: &'r mut DecodeRun<'de, 't>,
    pub(super) left: usize,
    pub(super) key: TypeIndex,
    pub(super) elem: TypeIndex,
    /// The number of entries that may be reserved.
    pub(super) reserve: usize,
}

impl<'de> MapAccess<'de> for &mut GobEntries<'_, 'de, '_> {
    type Error = GobFault;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, GobFault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(ValueDecoder { run: self.run, at: self.key }).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, GobFault> {
        seed.deserialize(ValueDecoder { run: self.run, at: self.elem })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reserve))
    }
}

/// A byte string, byte by byte.
pub(super) struct ByteElements<'de> {
    pub(super) bytes: &'de [u8],
}

impl<'de> SeqAccess<'de> for &mut ByteElements<'de> {
    type Error = GobFault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, GobFault> {
        let Some((byte, rest)) = self.bytes.split_first() else { return Ok(None) };
        self.bytes = rest;
        let byte: U8Deserializer<GobFault> = (*byte).into_deserializer();
        seed.deserialize(byte).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.bytes.len())
    }
}

/// The two parts of a complex number.
pub(super) struct ComplexParts {
    pub(super) parts: [f64; 2],
    pub(super) at: usize,
}

impl<'de> SeqAccess<'de> for ComplexParts {
    type Error = GobFault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, GobFault> {
        let Some(part) = self.parts.get(self.at) else { return Ok(None) };
        self.at += 1;
        let part: F64Deserializer<GobFault> = (*part).into_deserializer();
        seed.deserialize(part).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.parts.len() - self.at)
    }
}
