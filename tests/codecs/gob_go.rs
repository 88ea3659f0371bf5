//! Go's own encoding/gob as oracle: its output is read and written again here, and Go reads and compares the
//! result.
//!
//! The values come from a seeded generator in tests/go/gobcorpus, of many types; a second test draws new seeds for
//! a bounded time and prints each. Without Go both print a note and pass, except where `CI` is set.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fmt::Debug;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coreloop::codec::gob::Time;
use coreloop::codec::gob::dynamic::{decode_json, encode_json};
use coreloop::codec::{self, Codec, Described, DescribedBy, Description, Plain, StreamItem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Numbers {
    a: i8,
    b: i16,
    c: i32,
    d: i64,
    e: u8,
    f: u16,
    g: u32,
    h: u64,
    i: f32,
    j: f64,
    k: bool,
    l: char,
    m: String,
    n: Vec<u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    x: i64,
    y: i64,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lists {
    ints: Vec<i64>,
    strings: Vec<String>,
    bytes: Vec<coreloop::codec::Bytes>,
    inners: Vec<Inner>,
    array: [i32; 3],
    grid: [(u16, u16); 2],
    floats: Vec<f64>,
    bools: Vec<bool>,
    narrow: Vec<i16>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Maps {
    plain: BTreeMap<String, i64>,
    by_int: HashMap<i32, String>,
    inners: BTreeMap<String, Inner>,
    nested: BTreeMap<String, Vec<BTreeMap<u8, bool>>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pointers {
    maybe: Option<String>,
    number: Option<i64>,
    inner: Option<Box<Inner>>,
    list: Option<Vec<i64>>,
    last: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tree {
    value: i64,
    kids: Vec<Tree>,
    left: Option<Box<Tree>>,
    by_name: BTreeMap<String, Tree>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Circle {
    radius: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(Circle),
    Side(i64),
    Corners(f64, f64),
    #[serde(rename_all = "PascalCase")]
    Named {
        name: String,
        size: u32,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Colour {
    Red,
    Green,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kinds {
    colour: Colour,
    shapes: Vec<Shape>,
    pair: (i64, String),
    unit: (),
    when: Time,
    big: i128,
    last: bool,
}

/// A type that serde cannot describe: it looks at its tag while it is read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "Kind", rename_all_fields = "PascalCase")]
enum Tagged {
    Disc { radius: f64 },
    Label { size: u32, text: String },
}

struct TaggedByHand;

impl DescribedBy for TaggedByHand {
    fn description() -> Description {
        let fields = [
            ("Kind", codec::Shape::String),
            ("Radius", codec::Shape::float(64)),
            ("Size", codec::Shape::uint(32)),
            ("Text", codec::Shape::String),
        ];
        Description::new(codec::Shape::structure("Tagged", fields))
    }
}

/// The fields of Go's `Sent` in another order, and one that it does not have.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    a: i64,
    b: f64,
    c: String,
    d: String,
}

/// Returns the compiled generator; `None` without Go, in which case the test prints a note and passes, except where
/// `CI` is set.
fn corpus_program() -> Option<PathBuf> {
    if Command::new("go").arg("version").output().is_err() {
        assert!(
            env::var_os("CI").is_none(),
            "Go is not installed, and nothing else tells whether gob is right"
        );
        eprintln!("SKIPPED: Go is not installed");
        return None;
    }
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/go/gobcorpus");
    let name = format!("gobcorpus-{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let build = Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).output();
    let build = build.unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    Some(program)
}

fn recode<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(body: &[u8]) -> Vec<u8> {
    recode_as::<Plain<T>>(body)
}

fn recode_as<M: StreamItem<Item: PartialEq + Debug>>(body: &[u8]) -> Vec<u8> {
    let value = M::decode_item(Codec::Gob, body)
        .unwrap_or_else(|error| panic!("{}: {error}: {}", std::any::type_name::<M>(), body.escape_ascii()));
    let mut out = Vec::new();
    M::encode_item(&value, Codec::Gob, &mut out).unwrap();
    assert_eq!(M::decode_item(Codec::Gob, &out).unwrap(), value, "{}", out.escape_ascii());
    out
}

type Recode = fn(&[u8]) -> Vec<u8>;

/// By type number: reads, writes, and reads again.
const RECODE: [Recode; 17] = [
    recode::<Numbers>,
    recode::<Lists>,
    recode::<Maps>,
    recode::<Pointers>,
    recode::<Tree>,
    recode::<Kinds>,
    recode::<Got>,
    recode::<i64>,
    recode::<u64>,
    recode::<f64>,
    recode::<String>,
    recode::<coreloop::codec::Bytes>,
    recode::<bool>,
    recode::<Vec<Inner>>,
    recode::<BTreeMap<String, Vec<String>>>,
    recode::<[u8; 4]>,
    recode_as::<Described<Plain<Tagged>, TaggedByHand>>,
];

fn round_trip(program: &PathBuf, seed: u64, count: usize) {
    println!("seed {seed}, {count} values");
    let (seed, count) = ((seed >> 1).to_string(), count.to_string());
    let written = Command::new(program).args(["write", &seed, &count]).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let mut answer = Vec::new();
    for (kind, body) in records(&written.stdout) {
        put_record(&mut answer, kind, &RECODE[usize::from(kind)](body));
    }
    check(program, &seed, &count, &answer);
}

/// Returns the type number and the content of each record.
fn records(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_first_chunk::<5>()?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (content, tail) = tail.split_at(len);
        rest = tail;
        Some((head[0], content))
    })
}

fn put_record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(content);
}

/// Makes Go read and compare the answer.
fn check(program: &PathBuf, seed: &str, count: &str, answer: &[u8]) {
    let mut check = Command::new(program)
        .args(["check", seed, count])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Go may find a difference before it has read everything; its exit status and standard error report that.
    let _ = check.stdin.take().unwrap().write_all(answer);
    let out = check.wait_with_output().unwrap();
    assert!(out.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn go_reads_back_what_it_wrote() {
    let Some(program) = corpus_program() else { return };
    round_trip(&program, 2, 1600);
}

#[test]
fn new_random_values_survive_a_round_trip() {
    let Some(program) = corpus_program() else { return };
    let seconds = env::var("GOB_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let given = env::var("GOB_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let mut seed =
        given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    loop {
        round_trip(&program, seed, 800);
        if given.is_some() || Instant::now() >= end {
            return;
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
}

/// Returns true if a value is displayed as Go's encoding/json has it. Nil and zero, which gob does not distinguish,
/// may differ.
fn is_shown_as(shown: &Value, text: &Value) -> bool {
    match (shown, text) {
        (shown, Value::Null) => is_zero(shown),
        (Value::Number(one), Value::Number(other)) if one.is_f64() => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_shown_as(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_same = |(name, shown): (&String, &Value)| {
                other.get(name).is_some_and(|text| is_shown_as(shown, text))
            };
            one.len() == other.len() && one.iter().all(is_same)
        }
        // A map with numbers as keys: encoding/json turns them into text.
        (Value::Array(pairs), Value::Object(other)) => {
            let is_same = |pair: &Value| {
                other.get(&pair[0].to_string()).is_some_and(|text| is_shown_as(&pair[1], text))
            };
            pairs.len() == other.len() && pairs.iter().all(is_same)
        }
        (one, other) => one == other,
    }
}

fn is_zero(shown: &Value) -> bool {
    match shown {
        Value::Null => true,
        Value::Bool(is_so) => !is_so,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.iter().all(is_zero),
        Value::Object(fields) => fields.values().all(is_zero),
    }
}

#[test]
fn values_of_go_are_displayed_as_in_encoding_json() {
    let Some(program) = corpus_program() else { return };
    let run = |mode: &str| {
        let out = Command::new(&program).args([mode, "5", "1600"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let (streams, texts) = (run("write"), run("json"));
    let mut compared = [0; 17];
    for ((kind, body), (_, text)) in records(&streams).zip(records(&texts)) {
        let shown = decode_json(body).unwrap_or_else(|error| panic!("{error}: {}", body.escape_ascii()));
        if let Ok(text) = serde_json::from_slice::<Value>(text) {
            assert!(is_shown_as(&shown, &text), "shown {shown}\nis    {text}");
            compared[usize::from(kind)] += 1;
        }
    }
    // encoding/json has no complex numbers, and values that hold an infinity are left out.
    let few: Vec<usize> = (0..17).filter(|kind| *kind != 6 && compared[*kind] < 20).collect();
    assert!(few.is_empty(), "{few:?} of {compared:?}");
}

/// Returns JSON for the value of a type, where it can be made of the displayed value.
fn made_of(kind: u8, shown: &Value) -> Option<Value> {
    let is_empty =
        shown.as_array().is_some_and(Vec::is_empty) || shown.as_object().is_some_and(|it| it.is_empty());
    match kind {
        7 | 10 | 12 | 13 => Some(shown.clone()),
        8 => Some(json!({ "$uint": shown })),
        9 => Some(json!({ "$float": shown })),
        11 => Some(json!({ "$bytes": shown })),
        14 => Some(json!({ "$map": shown })),
        _ => None,
    }
    // An empty value has no type.
    .filter(|_| !is_empty)
    .filter(|_| {
        kind != 14 || shown.as_object().is_some_and(|lists| lists.values().any(|list| list[0].is_string()))
    })
}

#[test]
fn go_reads_values_made_from_json() {
    let Some(program) = corpus_program() else { return };
    let written = Command::new(&program).args(["write", "7", "1600"]).output().unwrap();
    let (mut answer, mut made) = (Vec::new(), 0);
    for (kind, body) in records(&written.stdout) {
        let mut out = Vec::new();
        match made_of(kind, &decode_json(body).unwrap()) {
            Some(value) => {
                encode_json(&value, &mut out).unwrap_or_else(|error| panic!("{value}: {error}"));
                put_record(&mut answer, kind, &out);
                made += 1;
            }
            // Types that JSON cannot represent are sent back unchanged.
            None => put_record(&mut answer, kind, &if kind == 6 { RECODE[6](body) } else { body.to_vec() }),
        }
    }
    assert!(made > 500, "{made}");
    check(&program, "7", "1600", &answer);
}
