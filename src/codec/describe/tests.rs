//! Tests of the tracer: every shape, recursion, and the types that cannot be traced.

use std::collections::{BTreeMap, HashMap};

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::*;
use crate::codec::Bytes;

fn text<T: DeserializeOwned>() -> String {
    Description::of::<T>().unwrap().text()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code, reason = "only described")]
struct DescribedUser {
    #[serde(rename = "ID")]
    id: u64,
    name: String,
    age: u8,
    email: String,
    tags: Vec<String>,
    scores: HashMap<String, f64>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
enum Every {
    Unit,
    New(Box<InnerEnum>),
    Pair(u8, char),
    Fields { on: bool, kids: Vec<Every> },
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
enum InnerEnum {
    Back(Box<Every>),
    Stop,
    Other(Last),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
enum Last {
    X,
    Y(()),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct ListNode {
    value: i32,
    next: Option<Box<ListNode>>,
    by_name: BTreeMap<String, ListNode>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct NestedList(Vec<NestedList>);

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct ChainPair(u8, Option<Box<ChainPair>>);

#[test]
fn every_scalar_has_its_text() {
    assert_eq!(text::<(bool, char, String)>(), "(bool,char,string)");
    assert_eq!(text::<(i8, i16, i32, i64, i128)>(), "(i8,i16,i32,i64,i128)");
    assert_eq!(text::<(u8, u16, u32, u64, u128)>(), "(u8,u16,u32,u64,u128)");
    assert_eq!(text::<(f32, f64, (), Bytes)>(), "(f32,f64,unit,bytes)");
    assert_eq!(text::<[u8; 32]>(), "(u8*32)");
    assert_eq!(text::<[u8; 0]>(), "()");
    assert_eq!(text::<std::num::NonZeroU16>(), "u16");
    assert_eq!(text::<Option<Option<u8>>>(), "??u8");
    assert_eq!(text::<BTreeMap<(u8, i8), Vec<bool>>>(), "[(u8,i8):[bool]]");
    assert_eq!(text::<Result<u8, std::time::Duration>>(), "<Ok:u8|Err:{secs:u64,nanos:u32}>");
}

#[test]
fn the_demo_user_has_gos_names() {
    // The number was computed independently of this code: it is on the wire and must not change.
    let description = Description::of::<DescribedUser>().unwrap();
    assert_eq!(
        description.text(),
        "{ID:u64,Name:string,Age:u8,Email:string,Tags:[string],Scores:[string:f64]}"
    );
    assert!(matches!(description.shape(), Shape::Struct { name, .. } if name == "DescribedUser"));
    let id = Description::of::<u64>().unwrap();
    assert_eq!(fingerprint(&id, &description), 0x37c0_beb2);
    assert_eq!(
        format!("{} -> {}", id.readable(), description.readable()),
        "u64 -> {ID: u64, Name: string, Age: u8, Email: string, Tags: [string], Scores: [string: f64]}"
    );
}

#[test]
fn nested_variants_are_found() {
    assert_eq!(
        text::<Every>(),
        "<Unit|New:<Back:^1|Stop|Other:<X|Y:unit>>|Pair:(u8,char)|Fields:{on:bool,kids:[^2]}>"
    );
    assert_eq!(text::<Vec<Option<Last>>>(), "[?<X|Y:unit>]");
    assert_eq!(text::<BTreeMap<String, InnerEnum>>().matches("Other").count(), 1);
}

#[test]
fn recursive_types_are_described() {
    assert_eq!(text::<ListNode>(), "{value:i32,next:?^1,by_name:[string:^1]}");
    assert_eq!(text::<NestedList>(), "[^0]");
    assert_eq!(text::<ChainPair>(), "(u8,?^1)");
    assert_eq!(text::<Option<NestedList>>(), "?[^0]");
}

mod other {
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only described")]
    pub struct ListNode {
        pub inner: Option<Box<super::ListNode>>,
    }
}

#[test]
fn two_types_may_share_a_name() {
    assert_eq!(text::<other::ListNode>(), "{inner:?{value:i32,next:?^1,by_name:[string:^1]}}");
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct Attributes {
    #[serde(default)]
    kept: u8,
    #[serde(skip)]
    skipped: u8,
    unit: Marker,
    wrapped: Wrapped,
}

#[derive(Deserialize)]
struct Marker;

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct Wrapped(i16);

#[test]
fn serdes_attributes_are_respected() {
    assert_eq!(text::<Attributes>(), "{kept:u8,unit:unit,wrapped:i16}");
}

#[derive(Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "only described")]
enum Untagged {
    A(u8),
    B { x: u8 },
}

#[derive(Debug)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Picky, D::Error> {
        u8::deserialize(deserializer)?;
        Err(D::Error::custom("never good enough"))
    }
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct Holds {
    ok: u8,
    picky: Picky,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct Flat {
    a: u8,
    #[serde(flatten)]
    rest: Marked,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct Marked {
    b: u8,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
struct AliasedFields {
    #[serde(alias = "z", alias = "b")]
    a: u8,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only described")]
enum Endless {
    Again(Box<Endless>),
}

struct Looping;

impl<'de> Deserialize<'de> for Looping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Looping, D::Error> {
        <(Box<Looping>,)>::deserialize(deserializer).map(|_| Looping)
    }
}

#[test]
fn untraceable_types_report_a_remedy() {
    assert!(matches!(Description::of::<Untagged>(), Err(DescribeError::SelfDescribing { .. })));
    let Err(error) = Description::of::<Holds>() else { panic!("described") };
    assert!(
        matches!(&error, DescribeError::Refused { path, message, .. } if path == "picky" && message == "never good enough")
    );
    assert!(error.to_string().contains("by hand"));
    assert!(matches!(Description::of::<Flat>(), Err(DescribeError::Unsupported { .. })));
    assert!(matches!(Description::of::<AliasedFields>(), Err(DescribeError::Unsupported { .. })));
    assert!(matches!(Description::of::<Endless>(), Err(DescribeError::Unsupported { .. })));
    assert!(matches!(Description::of::<Looping>(), Err(DescribeError::Unsupported { .. })));
}
