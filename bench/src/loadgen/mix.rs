//! The calls to make: one method with its body, or a weighted mix of several.

use coreloop::codec::gob::dynamic::encode_json;
use serde_json::{Value, json};

use super::speech::AddressProtocol;
use super::units;
use crate::frame::BODY_BYTES_MAX;
use crate::request::{Expect, Request, codec_number};

/// A message of `Users.Import`.
const USER: &[u8] =
    br#"{"ID":7,"Name":"user-7","Age":7,"Email":"u7@example.com","Tags":["tag0"],"Scores":{"s0":0.5}}"#;

/// One method of the mix.
#[derive(Clone, Debug)]
pub struct Call {
    /// The full name of the method.
    pub method: String,
    /// The name of the body's codec.
    pub codec: String,
    /// Its frequency relative to the other methods.
    pub weight: u32,
    /// The data to send.
    pub content: Content,
    /// The stated deadline, in µs; 0 for none.
    pub time_left_us: u32,
}

/// The data that a call sends.
#[derive(Clone, Debug)]
pub enum Content {
    /// Native: a complete frame.
    Frame(Request),
    /// Other protocols: the encoded argument, which the protocol embeds into its request.
    Body(Vec<u8>),
}

/// The source of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The method's usual argument, for the demo's methods.
    Usual,
    /// This JSON text.
    Json(String),
    /// This many bytes of a type that the codec encodes as bytes or text.
    Size(usize),
    /// These encoded bytes, in any codec.
    Bytes(Vec<u8>),
}

impl Call {
    /// Creates a call with its body encoded. The default codec is the protocol's; in native frames the method's usual
    /// one: fixed for `Arith.AddFixed`, raw for `Echo.Bytes` and for sizes and hexadecimal bytes, otherwise JSON.
    pub fn new(
        speaks: AddressProtocol,
        method: &str,
        weight: u32,
        codec: Option<&str>,
        body: &Body,
        time_left_us: u32,
    ) -> Result<Call, String> {
        if let Err(error) = coreloop::MethodName::parse(method) {
            return Err(format!("`{method}` is no full name: {error}"));
        }
        if let Some(only) = speaks.codec() {
            if codec.is_some_and(|codec| codec != only) {
                return Err(format!("{speaks}: has the codec {only} and no other: leave --codec out"));
            }
            let content = Content::Body(foreign_body(speaks, method, body)?);
            return Ok(Call { method: method.into(), codec: only.into(), weight, content, time_left_us });
        }
        let usual = match (body, method) {
            (Body::Usual, "Arith.AddFixed") => "fixed",
            (Body::Size(_), "Echo.Chat") => "json",
            (Body::Usual, "Echo.Bytes") | (Body::Size(_) | Body::Bytes(_), _) => "raw",
            _ => "json",
        };
        let codec = codec.unwrap_or(usual);
        if codec_number(codec).is_none() {
            return Err(format!("unknown codec {codec}: raw, fixed, json, compact or messagepack"));
        }
        let bytes = match (body, codec) {
            (Body::Usual, _) => usual_body(method, codec)?,
            (Body::Json(text), "json") => {
                let value: Result<serde_json::Value, _> = serde_json::from_str(text);
                value.map_err(|error| format!("the body of {method} is no JSON: {error}"))?;
                Some(text.clone().into_bytes())
            }
            (Body::Json(_), codec) => {
                return Err(format!("a JSON body goes with the codec json; for {codec} give --body-hex"));
            }
            // The text is also valid base64, so it serves for strings and for byte strings.
            (Body::Size(size), "json") if *size < BODY_BYTES_MAX - 2 => {
                Some(format!("\"{}\"", "A".repeat(*size)).into_bytes())
            }
            (Body::Size(size), "raw") if *size <= BODY_BYTES_MAX => Some(vec![0x41; *size]),
            (Body::Size(size), "raw" | "json" | "compact") if *size > BODY_BYTES_MAX - 8 => {
                return Err(format!("a body is at most {BODY_BYTES_MAX} bytes"));
            }
            (Body::Size(size), "compact") if *size <= BODY_BYTES_MAX - 8 => Some(compact_bytes(*size)),
            (Body::Size(_), codec) => {
                return Err(format!(
                    "--body-bytes goes with the codecs raw, json and compact; for {codec} give --body-hex"
                ));
            }
            (Body::Bytes(bytes), _) => Some(bytes.clone()),
        };
        // The reply's contents are not checked here; only `Arith.AddFixed` has an operand that changes.
        let expect = bytes.is_some().then_some(Expect::Any);
        let request = Request::new(method, codec, bytes, expect)?.with_time_left_us(time_left_us);
        let content = Content::Frame(request);
        Ok(Call { method: method.into(), codec: codec.into(), weight, content, time_left_us })
    }

    /// Returns a name that distinguishes it from the other calls of the mix: the method, with the body's beginning if
    /// the method occurs twice.
    pub fn label(&self, all: &[Call]) -> String {
        if all.iter().filter(|other| other.method == self.method).count() < 2 {
            return self.method.clone();
        }
        let place = all.iter().position(|other| std::ptr::eq(other, self)).map_or(0, |at| at + 1);
        format!("{} #{place}", self.method)
    }
}

/// Encodes an argument in the codec of a protocol other than native.
fn foreign_body(speaks: AddressProtocol, method: &str, body: &Body) -> Result<Vec<u8>, String> {
    if speaks == AddressProtocol::Grpc {
        return protobuf_body(method, body);
    }
    let is_gob = speaks.codec() == Some("gob");
    let value = match body {
        Body::Usual => match method {
            "Arith.Add" | "Arith.AddFixed" | "Arith.Multiply" => json!({"A": 6, "B": 7}),
            "Arith.Divide" => json!({"A": 7, "B": 2}),
            "Echo.Echo" => json!("hello"),
            "Echo.Bytes" if is_gob => json!({"$bytes": "aGVsbG8="}),
            "Echo.Bytes" => json!("aGVsbG8="),
            "Users.Get" if is_gob => json!({"$uint": 1}),
            "Echo.Sleep" | "Users.Get" | "Users.List" => json!(1),
            "Health.Check" | "Meta.Methods" => json!(""),
            _ => return Err(format!("{method} needs a body: --body or --body-bytes")),
        },
        // JSON is sent as written, so that a number of many digits stays exact.
        Body::Json(text) if !is_gob => {
            let read: Result<Value, _> = serde_json::from_str(text);
            read.map_err(|error| format!("the body of {method} is no JSON: {error}"))?;
            return Ok(text.clone().into_bytes());
        }
        Body::Json(text) => {
            serde_json::from_str(text).map_err(|error| format!("the body of {method} is no JSON: {error}"))?
        }
        Body::Size(size) if *size >= BODY_BYTES_MAX - 64 => {
            return Err(format!("a body is at most {BODY_BYTES_MAX} bytes"));
        }
        // Gob distinguishes text and byte strings; in JSON the text is also valid base64.
        Body::Size(size) if is_gob && method != "Echo.Echo" => {
            return Ok(gob_bytes(*size));
        }
        Body::Size(size) => Value::from("A".repeat(*size)),
        Body::Bytes(_) => return Err(format!("{speaks}: takes --body, not --body-hex")),
    };
    if !is_gob {
        return Ok(value.to_string().into_bytes());
    }
    let mut out = Vec::new();
    encode_json(&value, &mut out).map_err(|error| format!("the body of {method}: {error}"))?;
    Ok(out)
}

/// Encodes an argument as a message of protobuf. Scalars are those of `google.protobuf`, with the value as field 1.
fn protobuf_body(method: &str, body: &Body) -> Result<Vec<u8>, String> {
    let value = match (body, method) {
        (Body::Bytes(bytes), _) => return Ok(bytes.clone()),
        (Body::Size(size), _) => Value::from("A".repeat(*size)),
        (Body::Json(text), _) => {
            serde_json::from_str(text).map_err(|error| format!("the body of {method} is no JSON: {error}"))?
        }
        // Fields 1 and 2 of `Args`.
        (Body::Usual, "Arith.Add" | "Arith.AddFixed" | "Arith.Multiply") => return Ok(vec![8, 6, 16, 7]),
        (Body::Usual, "Arith.Divide") => return Ok(vec![8, 7, 16, 2]),
        (Body::Usual, "Echo.Echo" | "Echo.Bytes") => json!("hello"),
        (Body::Usual, "Echo.Sleep" | "Users.Get" | "Users.List") => json!(1),
        (Body::Usual, _) => return Err(format!("{method} needs a body: --body or --body-hex")),
    };
    let mut out = Vec::new();
    match value {
        Value::Number(number) if number.is_i64() => {
            out.push(8);
            // A negative number has ten bytes: its two's complement.
            varint(number.as_i64().unwrap_or_default() as u64, &mut out);
        }
        Value::String(text) => {
            out.push(10);
            varint(text.len() as u64, &mut out);
            out.extend_from_slice(text.as_bytes());
        }
        _ => {
            return Err(
                "grpc: takes a whole number or a string as --body; give other messages by --body-hex".into(),
            );
        }
    }
    Ok(out)
}

/// Appends a number in groups of seven bits, the lowest first.
fn varint(mut rest: u64, out: &mut Vec<u8>) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Returns a byte string of that size, encoded in gob.
fn gob_bytes(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = coreloop::codec::Bytes::from(vec![0x41; size]);
    // It cannot fail: the type is built in, and the size was checked.
    let _ = coreloop::codec::gob::encode(&bytes, &mut out);
    out
}

/// Returns a string or byte string of that size, encoded in compact: its length as a varint, then its bytes.
fn compact_bytes(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    varint(size as u64, &mut out);
    out.resize(out.len() + size, b'A');
    out
}

/// Returns `None` for methods whose usual body [`Request`] provides.
fn usual_body(method: &str, codec: &str) -> Result<Option<Vec<u8>>, String> {
    match (method, codec) {
        ("Arith.AddFixed", "fixed") => Ok(None),
        ("Arith.Add" | "Arith.AddFixed" | "Arith.Multiply", "json" | "compact") => Ok(None),
        ("Arith.Add" | "Arith.AddFixed" | "Arith.Multiply", "gob") => {
            foreign_body(AddressProtocol::Gob, method, &Body::Usual).map(Some)
        }
        ("Arith.Divide", "json") => Ok(Some(br#"{"A":7,"B":2}"#.to_vec())),
        ("Echo.Echo" | "Echo.Chat", "json") => Ok(Some(br#""hello""#.to_vec())),
        // More than a run takes: the stream lasts until its end.
        ("Users.Watch", "json") => Ok(Some(b"1000000000".to_vec())),
        ("Users.Import", "json") => Ok(Some(USER.to_vec())),
        ("Echo.Bytes", "raw") => Ok(Some(b"hello".to_vec())),
        ("Echo.Sleep" | "Users.Get" | "Users.List", "json") => Ok(Some(b"1".to_vec())),
        ("Health.Check" | "Meta.Methods", "json") => Ok(Some(Vec::new())),
        _ => Err(format!("{method} with the codec {codec} needs a body: --body, --body-bytes or --body-hex")),
    }
}

/// Parses `Arith.AddFixed=99,Echo.Sleep:20=1`: methods, each with a JSON body if it needs one, and weights.
pub fn parse(
    speaks: AddressProtocol,
    text: &str,
    codec: Option<&str>,
    time_left_us: u32,
) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    for entry in entries(text) {
        let (what, weight) =
            entry.rsplit_once('=').ok_or(format!("`{entry}` has no weight: write Service.Method=99"))?;
        let weight = weight.trim().parse().ok().filter(|weight| (1..=1_000_000).contains(weight));
        let weight = weight
            .ok_or(format!("the weight of `{what}` is a whole number between 1 and {}", units::count(1e6)))?;
        let (method, body) = match what.split_once(':') {
            Some((method, json)) => (method, Body::Json(json.to_owned())),
            None => (what, Body::Usual),
        };
        calls.push(Call::new(speaks, method.trim(), weight, codec, &body, time_left_us)?);
    }
    match calls.len() {
        0 => Err("an empty mix".into()),
        1..=64 => Ok(calls),
        _ => Err("a mix has at most 64 methods".into()),
    }
}

/// Splits at the commas that are not inside JSON.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut in_string, mut escaped) = (0_i32, false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => depth += 1,
            '}' | ']' if !in_string => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0 && !in_string
    })
    .filter(|entry| !entry.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(call: &Call) -> Vec<u8> {
        let Content::Frame(request) = &call.content else { panic!("{call:?} is not native") };
        let mut frame = Vec::new();
        request.append(1, &mut frame);
        frame
    }

    fn body(call: Result<Call, String>) -> Vec<u8> {
        let Content::Body(bytes) = call.expect("it has a body").content else { panic!("it is native") };
        bytes
    }

    #[test]
    fn other_protocols_encode_only_the_argument() {
        let call = |speaks, method, body| Call::new(speaks, method, 1, None, &body, 0);
        assert_eq!(body(call(AddressProtocol::Http, "Arith.Add", Body::Usual)), br#"{"A":6,"B":7}"#);
        let long = Body::Json("12345678901234567890123".into());
        assert_eq!(body(call(AddressProtocol::JsonRpc, "S.M", long)), b"12345678901234567890123");
        assert_eq!(body(call(AddressProtocol::JsonRpc, "Echo.Bytes", Body::Size(4))), b"\"AAAA\"");
        let gob = body(call(AddressProtocol::Gob, "Users.Get", Body::Usual));
        assert_eq!(coreloop::codec::gob::decode::<u64>(&gob), Ok(1));
        let gob = body(call(AddressProtocol::Gob, "Echo.Bytes", Body::Size(3)));
        assert_eq!(coreloop::codec::gob::decode::<coreloop::codec::Bytes>(&gob), Ok(b"AAA"[..].into()));
        let gob = body(call(AddressProtocol::Gob, "Echo.Echo", Body::Size(3)));
        assert_eq!(coreloop::codec::gob::decode::<String>(&gob), Ok("AAA".into()));
        for (speaks, text) in
            [(AddressProtocol::Http, "{"), (AddressProtocol::Gob, "{"), (AddressProtocol::Gob, "[1,true]")]
        {
            assert!(call(speaks, "S.M", Body::Json(text.into())).is_err(), "{text}");
        }
        assert!(call(AddressProtocol::Http, "S.M", Body::Usual).is_err());
        assert!(call(AddressProtocol::Http, "S.M", Body::Bytes(vec![1])).is_err());
        assert!(call(AddressProtocol::Gob, "S.M", Body::Size(BODY_BYTES_MAX)).is_err());
        let mixed = parse(AddressProtocol::Http, "Arith.Add=1", Some("gob"), 0);
        assert!(mixed.expect_err("it has another").contains("the codec json"));
    }

    #[test]
    fn grpc_encodes_scalars_as_wrappers() {
        let call = |method, body| Call::new(AddressProtocol::Grpc, method, 1, None, &body, 0);
        assert_eq!(body(call("Users.List", Body::Json("300".into()))), [8, 0xac, 2]);
        assert_eq!(body(call("Echo.Echo", Body::Json(r#""é""#.into()))), [10, 2, 0xc3, 0xa9]);
        assert_eq!(body(call("S.M", Body::Json("-1".into()))).len(), 11);
        assert_eq!(body(call("S.M", Body::Bytes(vec![1]))), [1]);
        assert_eq!(body(call("Arith.Add", Body::Usual)), [8, 6, 16, 7]);
        assert!(call("S.M", Body::Json("[1]".into())).is_err() && call("S.M", Body::Usual).is_err());
    }

    #[test]
    fn mix_has_methods_bodies_and_weights() {
        let text = r#"Arith.AddFixed=99, Echo.Sleep:20=1,Arith.Add:{"A":1,"B":2}=5,Echo.Echo:"a,=\"b"=2"#;
        let calls = parse(AddressProtocol::Native, text, None, 0).expect("well-formed");
        let seen: Vec<_> =
            calls.iter().map(|call| (call.method.as_str(), call.codec.as_str(), call.weight)).collect();
        let want = [
            ("Arith.AddFixed", "fixed", 99),
            ("Echo.Sleep", "json", 1),
            ("Arith.Add", "json", 5),
            ("Echo.Echo", "json", 2),
        ];
        assert_eq!(seen, want);
        assert!(frame(&calls[3]).ends_with(br#""a,=\"b""#));
    }

    #[test]
    fn wrong_mixes_are_told() {
        for (text, want) in [
            ("", "an empty mix"),
            ("Arith.Add", "no weight"),
            ("Arith.Add=0", "whole number"),
            ("Arith.Add=x", "whole number"),
            ("Add=1", "no full name"),
            ("Arith.Add:{=1", "no JSON"),
            ("Users.Put=1", "needs a body"),
        ] {
            let why = parse(AddressProtocol::Native, text, None, 0).expect_err(text);
            assert!(why.contains(want), "{text}: {why}");
        }
    }

    #[test]
    fn bodies_by_size_and_codec() {
        let call = |method, codec, body| Call::new(AddressProtocol::Native, method, 1, codec, &body, 0);
        assert_eq!(frame(&call("Echo.Bytes", None, Body::Size(100)).expect("raw")).len(), 132);
        assert!(call("Echo.Echo", Some("json"), Body::Size(8)).is_ok());
        assert!(call("Echo.Echo", Some("messagepack"), Body::Size(8)).is_err());
        for (size, prefix) in [(8, &[8][..]), (300, &[0xac, 2])] {
            let text = call("Echo.Echo", Some("compact"), Body::Size(size)).expect("compact");
            assert_eq!(frame(&text)[32..], [prefix, &vec![b'A'; size]].concat());
        }
        assert!(call("Echo.Echo", Some("compact"), Body::Bytes(vec![1, 65])).is_ok());
        assert!(call("Echo.Bytes", None, Body::Size(BODY_BYTES_MAX + 1)).is_err());
        assert!(call("Arith.Add", Some("yaml"), Body::Usual).is_err());
    }

    #[test]
    fn two_calls_of_one_method_have_different_labels() {
        let calls = parse(AddressProtocol::Native, "Echo.Sleep:1=1,Echo.Sleep:2=1,Arith.AddFixed=1", None, 0)
            .expect("well-formed");
        let labels: Vec<String> = calls.iter().map(|call| call.label(&calls)).collect();
        assert_eq!(labels, ["Echo.Sleep #1", "Echo.Sleep #2", "Arith.AddFixed"]);
    }
}
