//! The target for bodies in protobuf.

use std::collections::BTreeMap;
use std::fmt::Debug;

use coreloop::codec::protobuf::{Converted, Lists, Protobuf, Scalars};
use coreloop::codec::{AddedCodecs, Argument, Body, Bytes, Codec, Raw};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A message with each kind of field, among them its own type.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize, prost::Message)]
#[allow(missing_docs)]
pub struct Tree {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub bytes: Vec<u8>,
    #[prost(sint64, tag = "3")]
    pub signed: i64,
    #[prost(double, repeated, tag = "4")]
    pub weights: Vec<f64>,
    #[prost(btree_map = "string, uint32", tag = "5")]
    pub counts: BTreeMap<String, u32>,
    #[prost(message, repeated, tag = "6")]
    pub kids: Vec<Tree>,
    #[prost(message, optional, boxed, tag = "16")]
    pub next: Option<Box<Tree>>,
    #[prost(fixed32, optional, tag = "536870911")]
    pub last: Option<u32>,
}

/// Asserts that a decoded value, encoded and decoded again, has the same bytes.
fn stable<T: DeserializeOwned + Serialize + Debug, X: AddedCodecs<T>>(input: &[u8]) {
    let Ok(value) = X::decode(Codec::Protobuf, input) else { return };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    X::encode(Codec::Protobuf, &value, &mut first).unwrap();
    let again = X::decode(Codec::Protobuf, &first)
        .unwrap_or_else(|error| panic!("{value:?} was written as {}: {error}", first.escape_ascii()));
    X::encode(Codec::Protobuf, &again, &mut second).unwrap();
    assert_eq!(first, second, "{value:?} became {again:?}");
}

/// Decodes protobuf bodies as messages, as wrappers, and as lists.
pub fn codec_protobuf(input: &[u8]) {
    stable::<Tree, Protobuf>(input);
    stable::<Vec<Tree>, Protobuf<Lists>>(input);
    stable::<i64, Protobuf>(input);
    stable::<String, Protobuf>(input);
    stable::<(), Protobuf>(input);
    stable::<u8, Protobuf<Converted>>(input);
    stable::<Vec<i16>, Protobuf<Scalars>>(input);
    stable::<Vec<f32>, Protobuf<Scalars>>(input);
    stable::<Vec<String>, Protobuf<Scalars>>(input);
    stable::<Bytes, Protobuf<Scalars>>(input);
    // The same reader of tags and lengths twice, ours and prost's.
    let ours = <Raw as Argument>::decode(Codec::Protobuf, Body::Slice(input)).map(|bytes| bytes.into_owned());
    let prosts = <Protobuf as AddedCodecs<Vec<u8>>>::decode(Codec::Protobuf, input);
    assert_eq!(ours.is_ok(), prosts.is_ok());
    assert_eq!(ours.ok(), prosts.ok());
}
