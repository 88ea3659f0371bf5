//! Go's own encoding/gob as oracle: what it writes is read, written again, and read and compared by it.
//!
//! The values come from a seeded generator in tests/go/gobcorpus, of many types; a second test draws new seeds for a
//! bounded time and prints each. Without Go both say so and pass, except where `CI` is set.

#![cfg(feature = "gob")]

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fmt::Debug;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coreloop::codec::gob::{Time, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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

/// Fields of Go's Sent in another order, and one that it has not.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    a: i64,
    b: f64,
    c: String,
    d: String,
}

/// Whether Go is here. Without it a test says so and passes, except where `CI` is set.
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

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(body: &[u8]) -> Vec<u8> {
    let value: T = decode(body)
        .unwrap_or_else(|error| panic!("{}: {error}: {}", std::any::type_name::<T>(), body.escape_ascii()));
    let mut out = Vec::new();
    encode(&value, &mut out).unwrap();
    assert_eq!(decode::<T>(&out).unwrap(), value, "{}", out.escape_ascii());
    out
}

type Again = fn(&[u8]) -> Vec<u8>;

/// By number of the type: read, written again, read once more.
const AGAIN: [Again; 16] = [
    again::<Numbers>,
    again::<Lists>,
    again::<Maps>,
    again::<Pointers>,
    again::<Tree>,
    again::<Kinds>,
    again::<Got>,
    again::<i64>,
    again::<u64>,
    again::<f64>,
    again::<String>,
    again::<coreloop::codec::Bytes>,
    again::<bool>,
    again::<Vec<Inner>>,
    again::<BTreeMap<String, Vec<String>>>,
    again::<[u8; 4]>,
];

fn there_and_back(program: &PathBuf, seed: u64, count: usize) {
    println!("seed {seed}, {count} values");
    let (seed, count) = ((seed >> 1).to_string(), count.to_string());
    let written = Command::new(program).args(["write", &seed, &count]).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let (mut rest, mut answer) = (&written.stdout[..], Vec::new());
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (body, tail) = tail.split_at(len);
        let body = AGAIN[usize::from(head[0])](body);
        answer.push(head[0]);
        answer.extend_from_slice(&(body.len() as u32).to_be_bytes());
        answer.extend_from_slice(&body);
        rest = tail;
    }
    let mut check = Command::new(program)
        .args(["check", &seed, &count])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may find a fault before it has read everything; then that is what is told.
    let _ = check.stdin.take().unwrap().write_all(&answer);
    let out = check.wait_with_output().unwrap();
    assert!(out.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_go_wrote_is_what_go_reads() {
    let Some(program) = corpus_program() else { return };
    there_and_back(&program, 2, 1600);
}

#[test]
fn values_drawn_anew_go_there_and_back() {
    let Some(program) = corpus_program() else { return };
    let seconds = env::var("GOB_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let given = env::var("GOB_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let mut seed =
        given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    loop {
        there_and_back(&program, seed, 800);
        if given.is_some() || Instant::now() >= end {
            return;
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
}
