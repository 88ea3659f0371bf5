//! Enums: variants by name or number, by the one field of a struct that is set, or by the name in an interface.

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer, U32Deserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::decode::ValueDecoder;
use super::fault::GobFault;
use super::number::FieldDeltas;
use super::run::DecodeRun;
use super::skip::{read_interface, read_single};
use super::wire::{TypeIndex, WireType};

pub(super) fn read<'de, V: Visitor<'de>>(
    run: &mut DecodeRun<'de, '_>,
    at: TypeIndex,
    kind: &WireType,
    visitor: V,
) -> Result<V::Value, GobFault> {
    match kind {
        WireType::String => visitor.visit_enum(BorrowedStrDeserializer::<GobFault>::new(run.reader.text()?)),
        WireType::Int => {
            let number = run.reader.int()?;
            by_number(u32::try_from(number).ok(), visitor)
        }
        WireType::Uint => {
            let number = run.reader.uint()?;
            by_number(u32::try_from(number).ok(), visitor)
        }
        WireType::Struct(fields) => run.inside(|run| {
            let mut deltas = FieldDeltas::new();
            let Some(field) = deltas.next(&mut run.reader, fields.len())? else {
                return Err(GobFault::text("expected a variant, no field of the struct is set"));
            };
            let (name, at) = &fields[field];
            let value = visitor.visit_enum(GobVariant { run, name, at: *at })?;
            match deltas.next(&mut run.reader, fields.len())? {
                None => Ok(value),
                Some(_) => Err(GobFault::text("expected one variant, several fields of the struct are set")),
            }
        }),
        WireType::Interface => run.inside(|run| {
            let mut table = run.table();
            let Some((name, at)) = read_interface(&mut run.reader, &mut table)? else {
                return Err(GobFault::text("expected a variant, the interface is nil"));
            };
            if !matches!(run.table().kind(at), WireType::Struct(_)) {
                read_single(&mut run.reader)?;
            }
            visitor.visit_enum(GobVariant { run, name, at })
        }),
        _ => ValueDecoder { run, at }
            .mismatch("an enum (a string, an integer, or a struct with one field set)"),
    }
}

fn by_number<'de, V: Visitor<'de>>(number: Option<u32>, visitor: V) -> Result<V::Value, GobFault> {
    let Some(number) = number else { return Err(GobFault::text("expected the number of a variant")) };
    let number: U32Deserializer<GobFault> = number.into_deserializer();
    visitor.visit_enum(number)
}

struct GobVariant<'r, 'n, 'de, 't> {
    run: &'r mut DecodeRun<'de, 't>,
    name: &'n str,
    at: TypeIndex,
}

impl<'r, 'de, 't> EnumAccess<'de> for GobVariant<'r, '_, 'de, 't> {
    type Error = GobFault;
    type Variant = ValueDecoder<'r, 'de, 't>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), GobFault> {
        let name: StrDeserializer<'_, GobFault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, ValueDecoder { run: self.run, at: self.at }))
    }
}

/// Reads the content of a variant.
impl<'de> VariantAccess<'de> for ValueDecoder<'_, 'de, '_> {
    type Error = GobFault;

    fn unit_variant(self) -> Result<(), GobFault> {
        self.run.skip(self.at)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, GobFault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, GobFault> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, GobFault> {
        self.deserialize_struct("", fields, visitor)
    }
}
