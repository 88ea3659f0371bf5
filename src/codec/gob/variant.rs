//! Enums: variants by name or number, by the one field of a struct that is set, or by the name in an interface.

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer, U32Deserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::decode::Place;
use super::fault::Fault;
use super::number::Deltas;
use super::run::Run;
use super::skip::{read_interface, read_single};
use super::wire::{At, Kind};

pub(super) fn read<'de, V: Visitor<'de>>(
    run: &mut Run<'de, '_>,
    at: At,
    kind: &Kind,
    visitor: V,
) -> Result<V::Value, Fault> {
    match kind {
        Kind::String => visitor.visit_enum(BorrowedStrDeserializer::<Fault>::new(run.reader.text()?)),
        Kind::Int => {
            let number = run.reader.int()?;
            by_number(u32::try_from(number).ok(), visitor)
        }
        Kind::Uint => {
            let number = run.reader.uint()?;
            by_number(u32::try_from(number).ok(), visitor)
        }
        Kind::Struct(fields) => run.inside(|run| {
            let mut deltas = Deltas::new();
            let Some(field) = deltas.next(&mut run.reader, fields.len())? else {
                return Err(Fault::text("expected a variant, no field of the struct is set"));
            };
            let (name, at) = &fields[field];
            let value = visitor.visit_enum(Variant { run, name, at: *at })?;
            match deltas.next(&mut run.reader, fields.len())? {
                None => Ok(value),
                Some(_) => Err(Fault::text("expected one variant, several fields of the struct are set")),
            }
        }),
        Kind::Interface => run.inside(|run| {
            let mut table = run.table();
            let Some((name, at)) = read_interface(&mut run.reader, &mut table)? else {
                return Err(Fault::text("expected a variant, the interface is nil"));
            };
            if !matches!(run.table().kind(at), Kind::Struct(_)) {
                read_single(&mut run.reader)?;
            }
            visitor.visit_enum(Variant { run, name, at })
        }),
        _ => Place { run, at }.mismatch("an enum (a string, an integer, or a struct with one field set)"),
    }
}

fn by_number<'de, V: Visitor<'de>>(number: Option<u32>, visitor: V) -> Result<V::Value, Fault> {
    let Some(number) = number else { return Err(Fault::text("expected the number of a variant")) };
    let number: U32Deserializer<Fault> = number.into_deserializer();
    visitor.visit_enum(number)
}

struct Variant<'r, 'n, 'de, 't> {
    run: &'r mut Run<'de, 't>,
    name: &'n str,
    at: At,
}

impl<'r, 'de, 't> EnumAccess<'de> for Variant<'r, '_, 'de, 't> {
    type Error = Fault;
    type Variant = Place<'r, 'de, 't>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Place { run: self.run, at: self.at }))
    }
}

/// What a variant holds.
impl<'de> VariantAccess<'de> for Place<'_, 'de, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.run.skip(self.at)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_struct("", fields, visitor)
    }
}
