//! The description of a method that `Meta.Methods` returns.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeStruct, Serializer};

#[cfg(feature = "server")]
use super::Method;

/// Defines a struct that is serialized by field names. Written out here since the embedded server does without
/// serde's derive.
macro_rules! plain_struct {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident $key:literal $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut fields = serializer.serialize_struct(stringify!($name), [$($key),*].len())?;
                $(fields.serialize_field($key, &self.$field)?;)*
                fields.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct HealthFields;

                impl<'de> Visitor<'de> for HealthFields {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a struct ", stringify!($name)))
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut value = $name::default();
                        while let Some(key) = map.next_key::<String>()? {
                            match &*key {
                                $($key => value.$field = map.next_value()?,)*
                                _ => { map.next_value::<IgnoredAny>()?; }
                            }
                        }
                        Ok(value)
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<$name, A::Error> {
                        let mut value = $name::default();
                        $(
                            value.$field = seq
                                .next_element()?
                                .ok_or_else(|| serde::de::Error::missing_field($key))?;
                        )*
                        Ok(value)
                    }
                }

                deserializer.deserialize_struct(stringify!($name), &[$($key),*], HealthFields)
            }
        }
    };
}

#[cfg(all(feature = "server", feature = "grpc"))]
pub(super) use plain_struct;

plain_struct! {
    /// The description of a method in the reply of `Meta.Methods`.
    MethodInfo {
        /// The full name, `Service.Method`.
        name "Name" String,
        /// The hash that identifies it on the wire.
        hash "Hash" u32,
        /// The fingerprint of its types.
        schema "Schema" u32,
        /// Its types, for people.
        signature "Signature" String,
        /// Its types as the fingerprint covers them: `ARGUMENT->REPLY`.
        types "Types" String,
        /// `inline`, `pooled` or `blocking`.
        kind "Kind" String,
        /// The names of the codecs that it accepts.
        codecs "Codecs" Vec<String>,
        /// Whether it is idempotent.
        idempotent "FreeOfSideEffects" bool,
        /// Its documentation.
        docs "Docs" String,
    }
}

impl MethodInfo {
    /// Describes a method.
    #[cfg(feature = "server")]
    pub fn of(method: &Method) -> MethodInfo {
        MethodInfo {
            name: method.name().to_owned(),
            hash: method.hash(),
            schema: method.schema(),
            signature: method.signature(),
            types: format!("{}->{}", method.argument().text(), method.reply().text()),
            kind: method.runs().name().to_owned(),
            codecs: method.codec_names().map(str::to_owned).collect(),
            idempotent: method.is_idempotent(),
            docs: method.documentation().to_owned(),
        }
    }
}
