//! Handles numbers that JSON cannot represent: serde_json writes NaN and infinities as null, and the reader cannot
//! recover the value.
//!
//! [`Finite`] wraps serde_json's serializer and forwards everything to it. It refuses such numbers with an error that
//! names the path of the field, or writes them as text as in protobuf's JSON mapping.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::rules::ValueRules;

/// The result of checking the numbers of one value.
#[derive(Default)]
pub(super) struct Numbers {
    /// The first number that JSON cannot represent.
    refused: Cell<Option<f64>>,
    /// The path of fields to it, innermost first.
    path: RefCell<Vec<String>>,
}

impl Numbers {
    /// Returns the error message for the refused number, if there is one.
    #[cold]
    pub(super) fn refusal(&self) -> Option<String> {
        let number = self.refused.get()?;
        let mut path = String::new();
        for part in self.path.borrow().iter().rev() {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        Some(match &*path {
            "" => format!("it is {number}, which JSON has no number for"),
            path => format!("field \"{path}\" is {number}, which JSON has no number for"),
        })
    }

    #[cold]
    fn put<S: Serializer>(&self, number: f64, inner: S) -> Result<S::Ok, S::Error> {
        if ValueRules::current().is_proto_json() {
            return inner.serialize_str(match number {
                f64::INFINITY => "Infinity",
                f64::NEG_INFINITY => "-Infinity",
                _ => "NaN",
            });
        }
        self.refused.set(Some(number));
        Err(serde::ser::Error::custom("JSON has no such number"))
    }

    #[cold]
    fn came_from<E>(&self, error: E, part: impl FnOnce() -> String) -> E {
        if self.refused.get().is_some() {
            self.path.borrow_mut().push(part());
        }
        error
    }
}

/// Returns the name of a map's entry, for the path.
fn entry_name(key: &(impl Serialize + ?Sized)) -> String {
    let text = serde_json::to_string(key).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

/// Wraps a serializer, one of its compound serializers, or a value that is passed to it.
pub(super) struct Finite<'n, X> {
    pub(super) inner: X,
    pub(super) numbers: &'n Numbers,
}

impl<'n, X> Finite<'n, X> {
    #[inline]
    fn beside<Y>(&self, inner: Y) -> Finite<'n, Y> {
        Finite { inner, numbers: self.numbers }
    }
}

impl<T: Serialize + ?Sized> Serialize for Finite<'_, &T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(self.beside(inner))
    }
}

macro_rules! forward {
    ($($method:ident($kind:ty))*) => {$(
        #[inline]
        fn $method(self, value: $kind) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

macro_rules! compound {
    ($($method:ident($($argument:ident: $kind:ty),*) $compound:ident;)*) => {$(
        #[inline]
        fn $method(self, $($argument: $kind),*) -> Result<Finite<'n, S::$compound>, S::Error> {
            let numbers = self.numbers;
            Ok(Finite { inner: self.inner.$method($($argument),*)?, numbers })
        }
    )*};
}

impl<'n, S: Serializer> Serializer for Finite<'n, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Finite<'n, S::SerializeSeq>;
    type SerializeTuple = Finite<'n, S::SerializeTuple>;
    type SerializeTupleStruct = Finite<'n, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Finite<'n, S::SerializeTupleVariant>;
    type SerializeMap = Finite<'n, S::SerializeMap>;
    type SerializeStruct = Finite<'n, S::SerializeStruct>;
    type SerializeStructVariant = Finite<'n, S::SerializeStructVariant>;

    forward! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_char(char) serialize_str(&str) serialize_bytes(&[u8]) serialize_unit_struct(&'static str)
    }

    compound! {
        serialize_seq(len: Option<usize>) SerializeSeq;
        serialize_tuple(len: usize) SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, at: u32, variant: &'static str, len: usize)
            SerializeTupleVariant;
        serialize_map(len: Option<usize>) SerializeMap;
        serialize_struct(name: &'static str, len: usize) SerializeStruct;
        serialize_struct_variant(name: &'static str, at: u32, variant: &'static str, len: usize)
            SerializeStructVariant;
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            return self.inner.serialize_f32(value);
        }
        self.numbers.put(f64::from(value), self.inner)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            return self.inner.serialize_f64(value);
        }
        self.numbers.put(value, self.inner)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.beside(value);
        self.inner.serialize_some(&value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, at, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.beside(value);
        self.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let (numbers, value) = (self.numbers, self.beside(value));
        self.inner
            .serialize_newtype_variant(name, at, variant, &value)
            .map_err(|error| numbers.came_from(error, || variant.to_owned()))
    }

    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! elements {
    ($($compound:ident $method:ident;)*) => {$(
        impl<S: $compound> $compound for Finite<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                let (numbers, value) = (self.numbers, self.beside(value));
                self.inner
                    .$method(&value)
                    .map_err(|error| numbers.came_from(error, || "[]".to_owned()))
            }

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

macro_rules! fields {
    ($($compound:ident;)*) => {$(
        impl<S: $compound> $compound for Finite<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                let (numbers, value) = (self.numbers, self.beside(value));
                self.inner
                    .serialize_field(name, &value)
                    .map_err(|error| numbers.came_from(error, || name.to_owned()))
            }

            #[inline]
            fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                self.inner.skip_field(name)
            }

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<S: SerializeMap> SerializeMap for Finite<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let (numbers, value) = (self.numbers, self.beside(value));
        self.inner.serialize_value(&value).map_err(|error| numbers.came_from(error, || "[]".to_owned()))
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), S::Error> {
        let (numbers, value) = (self.numbers, self.beside(value));
        self.inner.serialize_entry(key, &value).map_err(|error| numbers.came_from(error, || entry_name(key)))
    }

    #[inline]
    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}
