//! Writes values with elements: lists, tuples, maps, structs.
//!
//! Counts precede the elements, so a list that does not know its length gets its count inserted at the end. Fields
//! are written in the order of the description, which is the order of derived types.

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::encode::ValueEncoder;
use super::fault::GobFault;
use super::number::{insert_uint, put_uint};
use super::single::Number;
use super::time::TimeParts;
use super::types::{GobNode, GobType};

/// Elements of one type, with their count.
struct Counted<'a> {
    out: &'a mut Vec<u8>,
    gob_type: &'a GobType,
    /// The position of the count if it is not known in advance, and the position of the field's number.
    unknown: Option<(usize, usize)>,
    /// Whether the field is removed again if the count is zero at the end.
    leaves_out: bool,
    declared: usize,
    count: usize,
}

impl<'a> Counted<'a> {
    fn begin(mut place: ValueEncoder<'a>, len: Option<usize>, leaves_out: bool) -> Counted<'a> {
        let start = place.out.len();
        let leaves_out = leaves_out && place.delta > 0 && !place.keeps_zero;
        let is_written = place.begin(leaves_out && len == Some(0));
        if let Some(len) = len.filter(|_| is_written) {
            put_uint(place.out, len as u64);
        }
        let unknown = len.is_none().then_some((place.out.len(), start));
        let ValueEncoder { out, gob_type, .. } = place;
        Counted { out, gob_type, unknown, leaves_out, declared: len.unwrap_or(0), count: 0 }
    }

    fn element<T: Serialize + ?Sized>(&mut self, at: usize, value: &T) -> Result<(), GobFault> {
        let place =
            ValueEncoder { out: &mut *self.out, gob_type: self.gob_type, at, delta: 0, keeps_zero: true };
        if value.serialize(place)? {
            Ok(())
        } else {
            Err(GobFault::text("gob cannot express None in a list or a map"))
        }
    }

    /// Returns whether anything was written.
    fn end(self) -> Result<bool, GobFault> {
        match self.unknown {
            Some((_, start)) if self.count == 0 && self.leaves_out => {
                self.out.truncate(start);
                Ok(false)
            }
            Some((at, _)) => {
                insert_uint(self.out, at, self.count as u64);
                Ok(true)
            }
            None if self.count != self.declared => Err(GobFault::said(format_args!(
                "the value said that it has {} elements, and has {}",
                self.declared, self.count
            ))),
            None => Ok(self.count > 0 || !self.leaves_out),
        }
    }
}

/// A list: a slice, a byte string, or an array that does not know its length.
pub(super) struct ListEncoder<'a> {
    counted: Counted<'a>,
    /// The type of the elements; `None` for the bytes of a byte string.
    elem: Option<usize>,
    /// The required number of elements, for an array.
    len: Option<usize>,
    /// Whether this is the content of a variant, so that the enum's struct ends after it.
    in_variant: bool,
}

impl<'a> ListEncoder<'a> {
    pub(super) fn begin(place: ValueEncoder<'a>, len: Option<usize>) -> Result<ListEncoder<'a>, GobFault> {
        let (elem, array_len) = match place.node() {
            GobNode::Slice { elem } => (Some(*elem), None),
            GobNode::Bytes => (None, None),
            GobNode::Array { elem, len } => (Some(*elem), Some(*len)),
            _ => return place.mismatch("a list"),
        };
        // Arrays are never left out, not even arrays of zeros.
        Ok(ListEncoder {
            counted: Counted::begin(place, len, array_len.is_none()),
            elem,
            len: array_len,
            in_variant: false,
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GobFault> {
        self.counted.count += 1;
        match self.elem {
            Some(elem) => self.counted.element(elem, value),
            None => {
                let byte = u8::try_from(value.serialize(Number)?);
                self.counted.out.push(byte.map_err(|_| GobFault::text("expected a byte"))?);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<bool, GobFault> {
        if let Some(len) = self.len.filter(|len| *len != self.counted.count) {
            let count = self.counted.count;
            return Err(GobFault::said(format_args!("{count} elements in an array of {len}")));
        }
        if !self.in_variant {
            return self.counted.end();
        }
        let Counted { out, unknown, .. } = self.counted;
        // The length of a tuple is known, and the content of a variant is always written.
        debug_assert!(unknown.is_none());
        out.push(0);
        Ok(true)
    }
}

impl SerializeSeq for ListEncoder<'_> {
    type Ok = bool;
    type Error = GobFault;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GobFault> {
        self.element(value)
    }

    fn end(self) -> Result<bool, GobFault> {
        self.finish()
    }
}

/// A map.
pub(super) struct MapEncoder<'a> {
    counted: Counted<'a>,
    key: usize,
    elem: usize,
}

impl<'a> MapEncoder<'a> {
    pub(super) fn begin(place: ValueEncoder<'a>, len: Option<usize>) -> Result<MapEncoder<'a>, GobFault> {
        let GobNode::Map { key, elem } = place.node() else { return place.mismatch("a map") };
        // Go leaves out only nil maps, and maps in Rust are never nil.
        Ok(MapEncoder { key: *key, elem: *elem, counted: Counted::begin(place, len, false) })
    }
}

impl SerializeMap for MapEncoder<'_> {
    type Ok = bool;
    type Error = GobFault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), GobFault> {
        self.counted.count += 1;
        self.counted.element(self.key, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GobFault> {
        self.counted.element(self.elem, value)
    }

    fn end(self) -> Result<bool, GobFault> {
        self.counted.end()
    }
}

/// A struct: fields with numbers, and a zero at the end.
pub(super) struct StructEncoder<'a> {
    out: &'a mut Vec<u8>,
    gob_type: &'a GobType,
    fields: &'a [(String, usize)],
    /// The smallest number that the next field can have.
    next: usize,
    /// One more than the last number that was written.
    written: usize,
    /// Whether this is the content of a variant, so that the enum's struct ends after it.
    in_variant: bool,
    /// The parts of the time, if this is one, and whether a zero is written.
    time: Option<(TimeParts, bool)>,
}

impl<'a> StructEncoder<'a> {
    pub(super) fn begin(
        mut place: ValueEncoder<'a>,
        in_variant: bool,
    ) -> Result<StructEncoder<'a>, GobFault> {
        let (fields, time) = match place.node() {
            GobNode::Struct { fields, .. } => {
                place.begin(false);
                (&fields[..], None)
            }
            GobNode::Time => (&[][..], Some(TimeParts::ZERO)),
            _ => return place.mismatch("a struct"),
        };
        let ValueEncoder { out, gob_type, delta, keeps_zero, .. } = place;
        // A time is written once all its parts are known.
        let time = time.map(|parts| (parts, keeps_zero || delta == 0));
        let written = if time.is_some() { delta } else { 0 };
        Ok(StructEncoder { out, gob_type, fields, next: 0, written, in_variant, time })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), GobFault> {
        if let Some((parts, _)) = &mut self.time {
            let number = value.serialize(Number)?;
            match name {
                "Seconds" => parts.seconds = number,
                "Nanos" => parts.nanos = number as u32,
                _ => parts.offset = number as i16,
            }
            return Ok(());
        }
        let is_next = self.fields.get(self.next).is_some_and(|(next, _)| next == name);
        let field = if is_next {
            self.next
        } else {
            let later = self.fields.get(self.next..).unwrap_or_default();
            let found = later.iter().position(|(later, _)| later == name);
            self.next + found.ok_or_else(|| self.unknown(name))?
        };
        self.value(field, value)
    }

    /// Writes the field with this number, unless it is left out.
    fn value<T: Serialize + ?Sized>(&mut self, field: usize, value: &T) -> Result<(), GobFault> {
        let Some((_, at)) = self.fields.get(field) else { return Err(self.unknown(field)) };
        self.next = field + 1;
        let delta = self.next - self.written;
        let place =
            ValueEncoder { out: &mut *self.out, gob_type: self.gob_type, at: *at, delta, keeps_zero: false };
        if value.serialize(place)? {
            self.written = self.next;
        }
        Ok(())
    }

    #[cold]
    fn unknown(&self, name: impl std::fmt::Display) -> GobFault {
        GobFault::said(format_args!(
            "the value has a field {name} that its description has not, or has earlier: describe the type as it \
             serializes"
        ))
    }

    fn finish(self) -> bool {
        match self.time {
            Some((parts, keeps_zero)) => {
                if !keeps_zero && parts.is_zero() {
                    return false;
                }
                if self.written > 0 {
                    put_uint(self.out, self.written as u64);
                }
                let bytes = parts.bytes();
                self.out.push(bytes.len() as u8);
                self.out.extend_from_slice(&bytes);
            }
            None => self.out.push(0),
        }
        if self.in_variant {
            self.out.push(0);
        }
        true
    }
}

impl SerializeStruct for StructEncoder<'_> {
    type Ok = bool;
    type Error = GobFault;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), GobFault> {
        self.field(name, value)
    }

    fn end(self) -> Result<bool, GobFault> {
        Ok(self.finish())
    }
}

impl SerializeStructVariant for StructEncoder<'_> {
    type Ok = bool;
    type Error = GobFault;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), GobFault> {
        self.field(name, value)
    }

    fn end(self) -> Result<bool, GobFault> {
        Ok(self.finish())
    }
}

/// A tuple: an array if its elements are alike, otherwise a struct.
pub(super) enum TupleEncoder<'a> {
    Alike(ListEncoder<'a>),
    Mixed(StructEncoder<'a>),
}

impl<'a> TupleEncoder<'a> {
    pub(super) fn begin(
        place: ValueEncoder<'a>,
        len: usize,
        in_variant: bool,
    ) -> Result<TupleEncoder<'a>, GobFault> {
        match place.node() {
            GobNode::Struct { fields, .. } if fields.len() == len => {
                StructEncoder::begin(place, in_variant).map(TupleEncoder::Mixed)
            }
            GobNode::Struct { .. } => place.mismatch("a tuple of another length"),
            _ => Ok(TupleEncoder::Alike(ListEncoder { in_variant, ..ListEncoder::begin(place, Some(len))? })),
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GobFault> {
        match self {
            TupleEncoder::Alike(list) => list.element(value),
            TupleEncoder::Mixed(fields) => fields.value(fields.next, value),
        }
    }

    fn finish(self) -> Result<bool, GobFault> {
        match self {
            TupleEncoder::Alike(list) => list.finish(),
            TupleEncoder::Mixed(fields) => Ok(fields.finish()),
        }
    }
}

impl SerializeTuple for TupleEncoder<'_> {
    type Ok = bool;
    type Error = GobFault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GobFault> {
        self.element(value)
    }

    fn end(self) -> Result<bool, GobFault> {
        self.finish()
    }
}

impl SerializeTupleStruct for TupleEncoder<'_> {
    type Ok = bool;
    type Error = GobFault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GobFault> {
        self.element(value)
    }

    fn end(self) -> Result<bool, GobFault> {
        self.finish()
    }
}

impl SerializeTupleVariant for TupleEncoder<'_> {
    type Ok = bool;
    type Error = GobFault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), GobFault> {
        self.element(value)
    }

    fn end(self) -> Result<bool, GobFault> {
        self.finish()
    }
}
