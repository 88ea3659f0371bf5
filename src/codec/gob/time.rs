//! Go's `time.Time`, which encodes itself as bytes: version, seconds, nanoseconds, offset.
//!
//! The layout is that of `Time.MarshalBinary` in Go's time/time.go: version 1, or 2 for an offset with seconds; 64
//! bits of seconds since the year 1, 32 bits of nanoseconds, 16 bits of minutes east of UTC (-1 is UTC itself).

use std::fmt;

use serde::de::value::SeqDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::GobFault;
use crate::codec::describe::Shape;

/// The name of the type in its serde form.
pub(super) const NAME: &str = "time.Time";
/// The Go name of the type in definitions.
pub(super) const WIRE_NAME: &str = "Time";
/// The fields of [`Time`].
const FIELDS: [&str; 3] = ["Seconds", "Nanos", "OffsetMinutes"];

/// Seconds from the start of the year 1 to the start of 1970.
const YEAR_1_TO_EPOCH: i64 = 62_135_596_800;
const UTC: i16 = -1;

/// A point in time, as in Go's `time.Time`. In gob it is encoded as a `time.Time`, in the other codecs as a struct.
///
/// The default is Go's zero, the first moment of the year 1, UTC. There an offset of -1 minute means UTC, as in Go's
/// bytes.
///
/// ```
/// use coreloop::codec::gob::Time;
/// let moment = Time { seconds: 1_700_000_000, nanos: 5, offset_minutes: Some(60) };
/// let mut body = Vec::new();
/// coreloop::codec::gob::encode(&moment, &mut body).unwrap();
/// assert_eq!(coreloop::codec::gob::decode::<Time>(&body), Ok(moment));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Time {
    /// Seconds since the start of 1970, UTC.
    pub seconds: i64,
    /// Nanoseconds within the second: less than a billion.
    pub nanos: u32,
    /// The sender's offset in minutes east of UTC; `None` for UTC itself.
    pub offset_minutes: Option<i16>,
}

impl Default for Time {
    fn default() -> Time {
        Time { seconds: -YEAR_1_TO_EPOCH, nanos: 0, offset_minutes: None }
    }
}

/// A [`Time`] whose offset is not optional, since options in lists have no form in gob.
#[derive(Clone, Copy)]
pub(super) struct TimeParts {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    pub(super) offset: i16,
}

impl TimeParts {
    pub(super) const ZERO: TimeParts = TimeParts { seconds: -YEAR_1_TO_EPOCH, nanos: 0, offset: UTC };

    /// Returns the access for the visitor of [`Time`].
    pub(super) fn into_access(self) -> SeqDeserializer<std::array::IntoIter<i64, 3>, GobFault> {
        SeqDeserializer::new([self.seconds, i64::from(self.nanos), i64::from(self.offset)].into_iter())
    }

    pub(super) fn is_zero(&self) -> bool {
        (self.seconds, self.nanos, self.offset) == (-YEAR_1_TO_EPOCH, 0, UTC)
    }

    pub(super) fn bytes(&self) -> [u8; 15] {
        let mut bytes = [1; 15];
        bytes[1..9].copy_from_slice(&self.seconds.wrapping_add(YEAR_1_TO_EPOCH).to_be_bytes());
        bytes[9..13].copy_from_slice(&self.nanos.to_be_bytes());
        bytes[13..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }
}

/// Decodes the bytes of a `time.Time`. The seconds of an offset are dropped, since the offset is only for display.
pub(super) fn read(bytes: &[u8]) -> Result<TimeParts, GobFault> {
    let (bytes, is_known) = match bytes {
        [1, rest @ ..] => (rest, rest.len() == 14),
        [2, rest @ ..] => (rest, rest.len() == 15),
        _ => (bytes, false),
    };
    let fields = bytes.first_chunk::<8>().zip(bytes.get(8..14));
    let Some((seconds, &[a, b, c, d, e, f])) = fields.filter(|_| is_known) else {
        return Err(GobFault::text("a time of an unknown version"));
    };
    let nanos = u32::from_be_bytes([a, b, c, d]);
    if nanos >= 1_000_000_000 {
        return Err(GobFault::text("a time of more nanoseconds than a second has"));
    }
    let seconds = i64::from_be_bytes(*seconds).wrapping_sub(YEAR_1_TO_EPOCH);
    Ok(TimeParts { seconds, nanos, offset: i16::from_be_bytes([e, f]) })
}

/// Returns whether a shape is that of [`Time`].
pub(super) fn is_time(shape: &Shape) -> bool {
    let Shape::Struct { name, fields } = shape else { return false };
    let shapes = [Shape::int(64), Shape::uint(32), Shape::int(16)];
    let names = FIELDS.iter().zip(&shapes);
    name == NAME
        && fields.len() == FIELDS.len()
        && fields
            .iter()
            .zip(names)
            .all(|(field, (name, shape))| field.name == **name && field.shape == *shape)
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct(NAME, FIELDS.len())?;
        fields.serialize_field(FIELDS[0], &self.seconds)?;
        fields.serialize_field(FIELDS[1], &self.nanos)?;
        fields.serialize_field(FIELDS[2], &self.offset_minutes.unwrap_or(UTC))?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        deserializer.deserialize_struct(NAME, &FIELDS, TimeVisitor)
    }
}

struct TimeVisitor;

impl TimeVisitor {
    fn time<E: Error>(seconds: i64, nanos: u32, offset: i16) -> Result<Time, E> {
        if nanos >= 1_000_000_000 {
            return Err(E::custom("a time of more nanoseconds than a second has"));
        }
        Ok(Time { seconds, nanos, offset_minutes: (offset != UTC).then_some(offset) })
    }
}

impl<'de> Visitor<'de> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a moment: seconds, nanoseconds, minutes of offset")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Time, A::Error> {
        let short = |at| A::Error::invalid_length(at, &"a moment of three numbers");
        let seconds = access.next_element()?.ok_or_else(|| short(0))?;
        let nanos = access.next_element()?.ok_or_else(|| short(1))?;
        let offset = access.next_element()?.ok_or_else(|| short(2))?;
        TimeVisitor::time(seconds, nanos, offset)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Time, A::Error> {
        let (mut seconds, mut nanos, mut offset) = (None, None, None);
        while let Some(key) = access.next_key::<String>()? {
            match FIELDS.iter().position(|field| *field == key) {
                Some(0) => seconds = Some(access.next_value()?),
                Some(1) => nanos = Some(access.next_value()?),
                Some(_) => offset = Some(access.next_value()?),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        let missing = |at: usize| A::Error::missing_field(FIELDS[at]);
        TimeVisitor::time(
            seconds.ok_or_else(|| missing(0))?,
            nanos.ok_or_else(|| missing(1))?,
            offset.unwrap_or(UTC),
        )
    }
}
