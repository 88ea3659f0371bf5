//! The members of a struct: null members that the struct does not require are skipped, required members that are
//! absent become zeros.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer, U64Deserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
};

use super::wrap::LenientSeed;
use super::{Reading, ReadingZeros};
use crate::codec::needs::{RustType, needs};
use crate::codec::zero::Zero;

/// The member of a struct whose value is being read.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) number: u32,
    pub(super) name: &'static str,
    /// Whether the struct requires it.
    pub(super) is_needed: bool,
}

/// The visitor of a struct.
pub(super) struct FieldsVisitor<'p, V> {
    pub(super) visitor: V,
    pub(super) fields: &'static [&'static str],
    pub(super) reading: &'p Reading,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for FieldsVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let FieldsVisitor { visitor, fields, reading } = self;
        let rust = RustType::of::<V::Value>(fields);
        let needs = if reading.fills_zeros { needs(rust) } else { None };
        let given = Vec::with_capacity(fields.len());
        let access = Fields { access, reading, rust, fields, needs, given, value: None, next_need: 0 };
        visitor.visit_map(access).inspect_err(|error| reading.learn(rust, fields, error))
    }
}

/// The source of the next value of a struct.
enum FieldValue {
    /// The value of a member, or of an unknown member.
    Member(Option<Member>),
    /// The zero of a field that the body lacks.
    Zero(&'static str),
}

/// The members of a struct in the body, followed by zeros for the required fields that the body lacks.
struct Fields<'p, A> {
    access: A,
    reading: &'p Reading,
    rust: RustType,
    fields: &'static [&'static str],
    needs: Option<Rc<[&'static str]>>,
    /// The fields that the body has.
    given: Vec<&'static str>,
    value: Option<FieldValue>,
    next_need: usize,
}

impl<A> Fields<'_, A> {
    fn needs(&self, name: &'static str) -> bool {
        self.needs.as_ref().is_some_and(|needs| needs.contains(&name))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        // An error of a key or a value is not about missing fields.
        self.reading.is_explained.set(true);
        while let Some(key) = self.access.next_key::<FieldKey<'de>>()? {
            let number = self.reading.members.get();
            self.reading.members.set(number.wrapping_add(1));
            if self.reading.passed_over.contains(&number) {
                self.access.next_value::<IgnoredAny>()?;
                continue;
            }
            let member = key.find(self.fields).map(|name| {
                self.given.push(name);
                Member { number, name, is_needed: self.needs(name) }
            });
            self.value = Some(FieldValue::Member(member));
            let key = key.give(seed)?;
            self.reading.is_explained.set(false);
            return Ok(Some(key));
        }
        self.reading.is_explained.set(false);
        while let Some(name) = self.needs.as_ref().and_then(|needs| needs.get(self.next_need).copied()) {
            self.next_need += 1;
            if !self.given.contains(&name) && !self.reading.is_refused(self.rust, name) {
                self.value = Some(FieldValue::Zero(name));
                return seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let reading = self.reading;
        let value = match self.value.take() {
            Some(FieldValue::Member(member)) => {
                self.access.next_value_seed(LenientSeed { seed, reading, member })
            }
            Some(FieldValue::Zero(name)) => {
                let mut run = ReadingZeros::new(reading);
                let zero = seed.deserialize(Zero { run: &mut run, kind: None });
                zero.inspect_err(|_| reading.note_without_zero(name))
            }
            None => Err(A::Error::custom("a value was asked for before its key")),
        };
        value.inspect_err(|_| reading.is_explained.set(true))
    }
}

/// The key of a member: its name, or possibly its index in MessagePack.
enum FieldKey<'de> {
    Text(Cow<'de, str>),
    Place(u64),
}

impl<'de> FieldKey<'de> {
    fn find(&self, fields: &'static [&'static str]) -> Option<&'static str> {
        match self {
            FieldKey::Text(name) => fields.iter().copied().find(|field| field == name),
            FieldKey::Place(at) => fields.get(usize::try_from(*at).ok()?).copied(),
        }
    }

    fn give<S: DeserializeSeed<'de>, E: Error>(self, seed: S) -> Result<S::Value, E> {
        match self {
            FieldKey::Text(Cow::Borrowed(name)) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            FieldKey::Text(Cow::Owned(name)) => {
                let name: StrDeserializer<'_, E> = name.as_str().into_deserializer();
                seed.deserialize(name)
            }
            FieldKey::Place(at) => {
                let at: U64Deserializer<E> = at.into_deserializer();
                seed.deserialize(at)
            }
        }
    }
}

impl<'de> Deserialize<'de> for FieldKey<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldKey<'de>, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = FieldKey<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<FieldKey<'de>, E> {
                Ok(FieldKey::Text(Cow::Owned(name.to_owned())))
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<FieldKey<'de>, E> {
                Ok(FieldKey::Text(Cow::Borrowed(name)))
            }

            fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<FieldKey<'de>, E> {
                Ok(FieldKey::Text(Cow::Owned(String::from_utf8_lossy(name).into_owned())))
            }

            fn visit_u64<E: Error>(self, at: u64) -> Result<FieldKey<'de>, E> {
                Ok(FieldKey::Place(at))
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}
