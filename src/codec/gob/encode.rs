//! The serializer: appends a value directly to the output, with the types of its description.
//!
//! A zero in a field is left out where Go leaves it out; the check for zero comes before anything is written. In
//! lists and maps everything is written, so `None` has no form there. There is one difference from Go: `Some` of a
//! zero is written as a zero, since Go's rule (leaving it out) would turn it into `None`. Values with elements are in
//! `compound.rs`.

use serde::Serialize;
use serde::ser::Serializer;

use super::compound::{ListEncoder, MapEncoder, StructEncoder, TupleEncoder};
use super::fault::GobFault;
use super::number::{end_message, put_bytes, put_float, put_int, put_uint};
use super::types::{GobNode, GobType};

/// Appends the definitions and the message of a value.
pub(super) fn encode_value<T: Serialize + ?Sized>(
    value: &T,
    gob_type: &GobType,
    out: &mut Vec<u8>,
) -> Result<(), GobFault> {
    out.extend_from_slice(&gob_type.definitions);
    let start = out.len();
    // Most values are short: reserves one byte for the length.
    out.push(0);
    put_int(out, i64::from(gob_type.id));
    if !matches!(gob_type.nodes[gob_type.root], GobNode::Struct { .. }) {
        out.push(0);
    }
    let is_written =
        value.serialize(ValueEncoder { out, gob_type, at: gob_type.root, delta: 0, keeps_zero: true })?;
    if !is_written {
        return Err(GobFault::text("gob cannot express None as the whole value"));
    }
    end_message(out, start);
    Ok(())
}

/// The serializer of one value. Its `Ok` is whether anything was written.
pub(super) struct ValueEncoder<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) gob_type: &'a GobType,
    pub(super) at: usize,
    /// The distance from the previous field; 0 for elements, which have no number.
    pub(super) delta: usize,
    /// Whether a zero is written as well.
    pub(super) keeps_zero: bool,
}

impl<'a> ValueEncoder<'a> {
    pub(super) fn node(&self) -> &'a GobNode {
        &self.gob_type.nodes[self.at]
    }

    /// Writes the field's number before a value. Returns false if the value is left out.
    #[inline]
    pub(super) fn begin(&mut self, is_zero: bool) -> bool {
        if self.delta > 0 {
            if is_zero && !self.keeps_zero {
                return false;
            }
            put_uint(self.out, self.delta as u64);
        }
        true
    }

    #[cold]
    pub(super) fn mismatch<R>(&self, what: &str) -> Result<R, GobFault> {
        Err(GobFault::said(format_args!(
            "the value has {what} where its description has {:?}: describe the type as it serializes",
            self.node()
        )))
    }

    fn signed(mut self, number: i64) -> Result<bool, GobFault> {
        let GobNode::Int = self.node() else { return self.mismatch("a signed integer") };
        let is_written = self.begin(number == 0);
        if is_written {
            put_int(self.out, number);
        }
        Ok(is_written)
    }

    fn unsigned(mut self, number: u64) -> Result<bool, GobFault> {
        let GobNode::Uint = self.node() else { return self.mismatch("an unsigned integer") };
        let is_written = self.begin(number == 0);
        if is_written {
            put_uint(self.out, number);
        }
        Ok(is_written)
    }

    fn text(mut self, text: &str) -> Result<bool, GobFault> {
        let GobNode::String = self.node() else { return self.mismatch("text") };
        let is_written = self.begin(text.is_empty());
        if is_written {
            put_bytes(self.out, text.as_bytes());
        }
        Ok(is_written)
    }

    /// Returns the encoder for a variant's content, in the struct that represents the enum; that struct ends after
    /// the content.
    fn variant(mut self, variant: &str, index: u32) -> Result<ValueEncoder<'a>, GobFault> {
        let GobNode::Struct { fields, .. } = self.node() else { return self.mismatch("a variant") };
        let index = index as usize;
        // Variants that are only read or only written shift the numbers.
        let is_there = fields.get(index).is_some_and(|(name, _)| name == variant);
        let found = if is_there { Some(index) } else { fields.iter().position(|(name, _)| name == variant) };
        let Some(index) = found else { return self.mismatch("another variant") };
        self.begin(false);
        Ok(ValueEncoder { at: fields[index].1, delta: index + 1, keeps_zero: true, ..self })
    }
}

macro_rules! numbers {
    ($($method:ident $write:ident $type:ty;)*) => {$(
        #[inline]
        fn $method(self, number: $type) -> Result<bool, GobFault> {
            self.$write(number.into())
        }
    )*};
}

impl<'a> Serializer for ValueEncoder<'a> {
    type Ok = bool;
    type Error = GobFault;
    type SerializeSeq = ListEncoder<'a>;
    type SerializeTuple = TupleEncoder<'a>;
    type SerializeTupleStruct = TupleEncoder<'a>;
    type SerializeTupleVariant = TupleEncoder<'a>;
    type SerializeMap = MapEncoder<'a>;
    type SerializeStruct = StructEncoder<'a>;
    type SerializeStructVariant = StructEncoder<'a>;

    numbers! {
        serialize_i8 signed i8;
        serialize_i16 signed i16;
        serialize_i32 signed i32;
        serialize_i64 signed i64;
        serialize_u8 unsigned u8;
        serialize_u16 unsigned u16;
        serialize_u32 unsigned u32;
        serialize_u64 unsigned u64;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_i128(self, number: i128) -> Result<bool, GobFault> {
        self.text(&number.to_string())
    }

    fn serialize_u128(self, number: u128) -> Result<bool, GobFault> {
        self.text(&number.to_string())
    }

    fn serialize_bool(mut self, is_so: bool) -> Result<bool, GobFault> {
        let GobNode::Bool = self.node() else { return self.mismatch("a boolean") };
        let is_written = self.begin(!is_so);
        if is_written {
            self.out.push(u8::from(is_so));
        }
        Ok(is_written)
    }

    fn serialize_f32(self, number: f32) -> Result<bool, GobFault> {
        self.serialize_f64(f64::from(number))
    }

    fn serialize_f64(mut self, number: f64) -> Result<bool, GobFault> {
        let GobNode::Float = self.node() else { return self.mismatch("a floating-point number") };
        // Minus zero counts as zero, as in Go.
        let is_written = self.begin(number == 0.0);
        if is_written {
            put_float(self.out, number);
        }
        Ok(is_written)
    }

    fn serialize_char(self, letter: char) -> Result<bool, GobFault> {
        self.signed(i64::from(u32::from(letter)))
    }

    fn serialize_str(self, text: &str) -> Result<bool, GobFault> {
        self.text(text)
    }

    fn serialize_bytes(mut self, bytes: &[u8]) -> Result<bool, GobFault> {
        let GobNode::Bytes = self.node() else { return self.mismatch("a byte string") };
        let is_written = self.begin(bytes.is_empty());
        if is_written {
            put_bytes(self.out, bytes);
        }
        Ok(is_written)
    }

    fn serialize_none(self) -> Result<bool, GobFault> {
        Ok(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, GobFault> {
        value.serialize(ValueEncoder { keeps_zero: true, ..self })
    }

    fn serialize_unit(mut self) -> Result<bool, GobFault> {
        match self.node() {
            GobNode::Struct { fields, .. } if fields.is_empty() => {
                self.begin(false);
                self.out.push(0);
                Ok(true)
            }
            _ => self.mismatch("nothing"),
        }
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<bool, GobFault> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<bool, GobFault> {
        if let GobNode::String = self.node() {
            return self.text(variant);
        }
        let mut place = self.variant(variant, index)?;
        let GobNode::Bool = place.node() else { return place.mismatch("a variant that holds nothing") };
        place.begin(false);
        place.out.extend_from_slice(&[1, 0]);
        Ok(true)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<bool, GobFault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<bool, GobFault> {
        let ValueEncoder { out, gob_type, at, delta, keeps_zero } = self.variant(variant, index)?;
        if !value.serialize(ValueEncoder { out: &mut *out, gob_type, at, delta, keeps_zero })? {
            return Err(GobFault::said(format_args!("gob cannot express None in the variant {variant}")));
        }
        out.push(0);
        Ok(true)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ListEncoder<'a>, GobFault> {
        ListEncoder::begin(self, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<TupleEncoder<'a>, GobFault> {
        TupleEncoder::begin(self, len, false)
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<TupleEncoder<'a>, GobFault> {
        TupleEncoder::begin(self, len, false)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<TupleEncoder<'a>, GobFault> {
        TupleEncoder::begin(self.variant(variant, index)?, len, true)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<MapEncoder<'a>, GobFault> {
        MapEncoder::begin(self, len)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<StructEncoder<'a>, GobFault> {
        StructEncoder::begin(self, false)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<StructEncoder<'a>, GobFault> {
        StructEncoder::begin(self.variant(variant, index)?, true)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<bool, GobFault> {
        self.text(&value.to_string())
    }
}
