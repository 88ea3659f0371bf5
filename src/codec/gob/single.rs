//! A serializer for integers alone: the bytes of a byte string, the parts of a time.

use serde::Serialize;
use serde::ser::{Impossible, Serializer};

use super::fault::GobFault;

pub(super) struct Number;

type No = Impossible<i64, GobFault>;

#[cold]
fn refused<R>() -> Result<R, GobFault> {
    Err(GobFault::text("expected an integer, as the description has it"))
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$ok, GobFault> {
            refused()
        }
    )*};
}

macro_rules! take {
    ($($method:ident $type:ty;)*) => {$(
        #[inline]
        fn $method(self, number: $type) -> Result<i64, GobFault> {
            Ok(number.into())
        }
    )*};
}

impl Serializer for Number {
    type Ok = i64;
    type Error = GobFault;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    take! {
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
    }

    refuse! {
        serialize_bool(bool) -> i64;
        serialize_u64(u64) -> i64;
        serialize_f32(f32) -> i64;
        serialize_f64(f64) -> i64;
        serialize_char(char) -> i64;
        serialize_str(&str) -> i64;
        serialize_bytes(&[u8]) -> i64;
        serialize_none() -> i64;
        serialize_unit() -> i64;
        serialize_unit_struct(&'static str) -> i64;
        serialize_unit_variant(&'static str, u32, &'static str) -> i64;
        serialize_seq(Option<usize>) -> No;
        serialize_tuple(usize) -> No;
        serialize_tuple_struct(&'static str, usize) -> No;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> No;
        serialize_map(Option<usize>) -> No;
        serialize_struct(&'static str, usize) -> No;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> No;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _value: &T) -> Result<i64, GobFault> {
        refused()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<i64, GobFault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<i64, GobFault> {
        refused()
    }
}
