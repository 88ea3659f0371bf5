//! Go's net/rpc over gob: a header and a body for each call, answers in any order.
//!
//! A stream defines each type once, so a connection tracks which types it has sent. After that a call has the same
//! bytes each time, except for its number in the header. Of an answer, the header is decoded and the body skipped,
//! including any type definitions in it.

use std::collections::HashMap;
use std::sync::Arc;

use coreloop::codec::gob::stream::{
    DefinedType, DefinitionLimits, Definitions, GobMessage, HEADER_ID, ReceivedItem, STRING, SplitItem,
    StreamError, StructWriter, UINT, put_struct_definition, split,
};
use coreloop::wire::netrpc::connect::{CONNECT, ConnectError, ConnectReply, granted};

use super::super::mix::{Call, Content};
use super::jsonrpc::code_of;
use super::{Body, Decoded, Protocol, Reply};
use crate::frame::BODY_BYTES_MAX;

/// Maximum header types that are kept of one connection; a server has one.
const HEADERS_MAX: usize = 16;

/// The client's side of net/rpc on one connection.
pub struct Gob {
    calls: Arc<[Template]>,
    /// Whether this connection has defined a method's types.
    is_defined: Vec<bool>,
    /// Type ids that this connection has defined.
    sent: Vec<i32>,
    /// Types that the server has defined.
    known: Definitions,
    /// Types that may be a header, as the server defines them: the numbers and types of the fields, by type id.
    headers: Vec<(i32, Fields)>,
    /// Whether a CONNECT precedes everything.
    is_behind_http: bool,
    /// Whether the answer to CONNECT is outstanding.
    is_asking: bool,
    /// The call whose body is next; its header has been read.
    answered: Option<u64>,
}

/// A clone is for another connection, so it begins with an empty stream state.
impl Clone for Gob {
    fn clone(&self) -> Gob {
        let is_behind_http = self.is_behind_http;
        Gob { is_behind_http, is_asking: is_behind_http, ..Gob::of(self.calls.clone()) }
    }
}

/// The positions of number and error in a header, and the types of all its fields.
#[derive(Clone)]
struct Fields {
    seq: usize,
    error: usize,
    types: Vec<i32>,
}

/// The parts of a call.
struct Template {
    /// Type definitions by id: of the header, and of the argument.
    header_types: Vec<(i32, Vec<u8>)>,
    body_types: Vec<(i32, Vec<u8>)>,
    /// The header's payload up to its call number.
    header: Vec<u8>,
    /// The argument's message.
    body: Vec<u8>,
}

impl Gob {
    /// Creates the protocol with the bodies of the mix in its order, each a self-contained stream.
    pub fn new(bodies: &[Body]) -> Result<Gob, String> {
        let calls = bodies.iter().map(Template::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Gob::of(calls.into()))
    }

    fn of(calls: Arc<[Template]>) -> Gob {
        Gob {
            is_defined: vec![false; calls.len()],
            calls,
            sent: Vec::new(),
            known: Definitions::new(DefinitionLimits::default()),
            headers: Vec::new(),
            is_behind_http: false,
            is_asking: false,
            answered: None,
        }
    }

    /// Switches to servers behind Go's `rpc.HandleHTTP`.
    pub fn behind_http(self) -> Gob {
        Gob { is_behind_http: true, is_asking: true, ..self }
    }

    #[cold]
    fn granted<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a> {
        match granted(bytes) {
            ConnectReply::NeedMore => Decoded::NeedMore(bytes.len() + 1),
            ConnectReply::Yes { bytes } => {
                self.is_asking = false;
                Decoded::Greeted(bytes)
            }
            ConnectReply::No(ConnectError::NotHttp { .. }) => {
                Decoded::Broken("the server does not speak HTTP, behind which gob would be")
            }
            ConnectReply::No(ConnectError::Refused { .. }) => {
                Decoded::Broken("the server does not speak gob behind HTTP: it refuses CONNECT /_goRPC_")
            }
            ConnectReply::No(_) => Decoded::Broken("the server does not end its answer to CONNECT"),
        }
    }

    fn define(sent: &mut Vec<i32>, types: &[(i32, Vec<u8>)], out: &mut Vec<u8>) {
        for (id, definition) in types {
            if !sent.contains(id) {
                sent.push(*id);
                out.extend_from_slice(definition);
            }
        }
    }

    /// Records a type definition, also as a header if it can be one.
    fn learn(&mut self, message: GobMessage<'_>) -> Result<(), StreamError> {
        self.known.define(message)?;
        let (id, definition) = message.definition()?;
        let DefinedType::Struct { fields } = definition.form else { return Ok(()) };
        let place = |name, of| fields.iter().position(|(known, id)| known == name && *id == of);
        if let (Some(seq), Some(error)) = (place("Seq", UINT), place("Error", STRING))
            && self.headers.len() < HEADERS_MAX
            && !self.headers.iter().any(|(known, _)| *known == id)
        {
            let types = fields.iter().map(|(_, id)| *id).collect();
            self.headers.push((id, Fields { seq, error, types }));
        }
        Ok(())
    }

    fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Decoded<'a>, StreamError> {
        if let Some(seq) = self.answered {
            return self.next_of_answer(seq, bytes);
        }
        let header = match split(bytes, BODY_BYTES_MAX)? {
            SplitItem::NeedMore { bytes_min } => return Ok(Decoded::NeedMore(bytes_min)),
            SplitItem::Message(message) => message,
        };
        let id = header.id()?;
        let len = header.whole().len();
        if id < 0 {
            self.learn(header)?;
            return Ok(Decoded::Skip(len));
        }
        let Some((_, fields)) = self.headers.iter().find(|(known, _)| *known == id) else {
            return Ok(Decoded::Broken(
                "the server does not speak gob as net/rpc does: an answer without a header",
            ));
        };
        match read_header(header.payload(), fields) {
            Some((seq, b"")) => {
                self.answered = Some(seq);
                Ok(Decoded::Skip(len))
            }
            Some((seq, error)) => self.refused(seq, error, bytes, len),
            None => Ok(Decoded::Broken("a header of net/rpc cannot be read")),
        }
    }

    /// Decodes what follows a header: new types, and the body, which may define more types inside interfaces.
    fn next_of_answer<'a>(&mut self, seq: u64, bytes: &'a [u8]) -> Result<Decoded<'a>, StreamError> {
        if let SplitItem::Message(message) = split(bytes, BODY_BYTES_MAX)?
            && message.id()? < 0
        {
            self.learn(message)?;
            return Ok(Decoded::Skip(message.whole().len()));
        }
        match self.known.take(bytes, BODY_BYTES_MAX)? {
            ReceivedItem::NeedMore { bytes_min } => Ok(Decoded::NeedMore(bytes_min)),
            ReceivedItem::Definition { bytes } => Ok(Decoded::Skip(bytes)),
            ReceivedItem::Value { bytes: len, .. } => {
                self.answered = None;
                let body = &bytes[..len];
                Ok(Decoded::Reply(Reply { id: seq, status: 0, queue_us: 0, handler_us: 0, body, len }))
            }
        }
    }

    /// Decodes what follows the header of an error: an empty body, preceded by its type if that is new. The header is
    /// kept until all has arrived, because it contains the error's text.
    fn refused<'a>(
        &mut self,
        seq: u64,
        text: &'a [u8],
        bytes: &'a [u8],
        header_len: usize,
    ) -> Result<Decoded<'a>, StreamError> {
        let (mut len, mut new) = (header_len, Vec::new());
        loop {
            let message = match split(&bytes[len..], BODY_BYTES_MAX)? {
                SplitItem::NeedMore { bytes_min } => return Ok(Decoded::NeedMore(len + bytes_min)),
                SplitItem::Message(message) => message,
            };
            len += message.whole().len();
            if message.id()? > 0 {
                break;
            }
            new.push(message);
        }
        new.into_iter().try_for_each(|message| self.learn(message))?;
        let status = code_of(text).number();
        Ok(Decoded::Reply(Reply { id: seq, status, queue_us: 0, handler_us: 0, body: text, len }))
    }
}

/// The types that a connection has defined so far. Each process numbers its types itself, so bodies of several
/// processes may conflict; this checks whether one more call fits.
#[derive(Default)]
pub struct Ids(HashMap<i32, Vec<u8>>);

impl Ids {
    /// Adds the types that a call defines. Returns false if an id already belongs to another type.
    pub fn take(&mut self, call: &Call) -> bool {
        let Content::Body(bytes) = &call.content else { return true };
        let Ok((types, _)) = parts(bytes) else { return true };
        types
            .into_iter()
            .all(|(id, definition)| *self.0.entry(id).or_insert_with(|| definition.clone()) == definition)
    }
}

/// Returns an error if the argument of a call cannot be sent.
pub fn check(call: &Call) -> Result<(), String> {
    let Content::Body(bytes) = &call.content else { return Err("no argument of gob".into()) };
    let body = Body { method: call.method.clone(), bytes: bytes.clone(), time_left_us: 0 };
    Template::new(&body).map(|_| ())
}

impl Template {
    fn new(body: &Body) -> Result<Template, String> {
        // Go's header of a call (net/rpc server.go), with an id that no type of an argument has.
        let mut stream = Vec::new();
        put_struct_definition(&mut stream, HEADER_ID, "Request", &[("ServiceMethod", STRING), ("Seq", UINT)]);
        let mut header = StructWriter::new(&mut stream, HEADER_ID);
        header.text(body.method.as_bytes());
        header.uint(1);
        header.end();
        let wrong = |error: StreamError| error.to_string();
        let (header_types, header) = parts(&stream).map_err(wrong)?;
        let (body_types, value) = parts(&body.bytes).map_err(wrong)?;
        // The end of the payload: the number's field, the number, the end of the struct.
        let header = header.payload();
        let header = header[..header.len() - 3].to_vec();
        Ok(Template { header_types, body_types, header, body: value.whole().to_vec() })
    }
}

/// Splits a self-contained stream into its definitions and its value.
#[allow(clippy::type_complexity, reason = "a list and what follows it")]
fn parts(stream: &[u8]) -> Result<(Vec<(i32, Vec<u8>)>, GobMessage<'_>), StreamError> {
    let (mut types, mut rest) = (Vec::new(), stream);
    loop {
        let SplitItem::Message(message) = split(rest, usize::MAX)? else {
            return Err(StreamError::Malformed("the body of a call ends early".into()));
        };
        match message.id()? {
            id if id < 0 => types.push((-id, message.whole().to_vec())),
            _ => return Ok((types, message)),
        }
        rest = &rest[message.whole().len()..];
    }
}

impl Protocol for Gob {
    #[inline]
    fn append(&mut self, method: usize, id: u64, out: &mut Vec<u8>) {
        let call = &self.calls[method];
        let is_first = !self.is_defined[method];
        if is_first {
            Gob::define(&mut self.sent, &call.header_types, out);
        }
        let (number, number_len) = spell(id);
        // A struct omits a field that is zero.
        let tail = if id == 0 { 0 } else { 1 + number_len };
        let (prefix, prefix_len) = spell((call.header.len() + tail + 1) as u64);
        out.extend_from_slice(&prefix[..prefix_len]);
        out.extend_from_slice(&call.header);
        if id != 0 {
            out.push(1);
            out.extend_from_slice(&number[..number_len]);
        }
        out.push(0);
        if is_first {
            Gob::define(&mut self.sent, &call.body_types, out);
            self.is_defined[method] = true;
        }
        out.extend_from_slice(&call.body);
    }

    #[inline]
    fn decode<'a>(&mut self, bytes: &'a [u8]) -> Decoded<'a> {
        if self.is_asking {
            return self.granted(bytes);
        }
        match self.next(bytes) {
            Ok(decoded) => decoded,
            Err(StreamError::TooLarge { .. }) => Decoded::Broken("an answer larger than 16 MiB, or no gob"),
            Err(_) => Decoded::Broken("the server does not speak gob"),
        }
    }

    fn reset(&mut self) {
        self.is_defined.fill(false);
        self.sent.clear();
        self.known = Definitions::new(DefinitionLimits::default());
        self.headers.clear();
        self.answered = None;
        self.is_asking = self.is_behind_http;
    }

    fn greeting(&self) -> &'static [u8] {
        if self.is_behind_http { CONNECT } else { b"" }
    }
}

/// Returns number and error of a header; the payload begins with its type's id.
#[inline]
fn read_header<'a>(payload: &'a [u8], fields: &Fields) -> Option<(u64, &'a [u8])> {
    let (mut rest, mut next) = (payload, 0);
    take_number(&mut rest)?;
    let (mut seq, mut error) = (0, &[][..]);
    loop {
        let delta = usize::try_from(take_number(&mut rest)?).ok()?;
        if delta == 0 {
            return rest.is_empty().then_some((seq, error));
        }
        next = delta.checked_add(next)?;
        let at = next - 1;
        match *fields.types.get(at)? {
            UINT => {
                let number = take_number(&mut rest)?;
                seq = if at == fields.seq { number } else { seq };
            }
            STRING => {
                let len = usize::try_from(take_number(&mut rest)?).ok()?;
                let (text, after) = rest.split_at_checked(len)?;
                rest = after;
                error = if at == fields.error { text } else { error };
            }
            // Go's header has no fields of other types.
            _ => return None,
        }
    }
}

/// Decodes an unsigned integer: below 128 one byte; otherwise the negated byte count, then the bytes, high byte
/// first.
#[inline]
fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (first, after) = rest.split_first()?;
    if *first < 0x80 {
        *rest = after;
        return Some(u64::from(*first));
    }
    let (bytes, after) = after.split_at_checked(usize::from(first.wrapping_neg()))?;
    *rest = after;
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Encodes an unsigned integer; returns its bytes and their number.
#[inline]
fn spell(number: u64) -> ([u8; 9], usize) {
    let mut bytes = [0; 9];
    if number < 0x80 {
        bytes[0] = number as u8;
        return (bytes, 1);
    }
    let count = 8 - number.leading_zeros() as usize / 8;
    bytes[0] = (count as u8).wrapping_neg();
    bytes[1..=count].copy_from_slice(&number.to_be_bytes()[8 - count..]);
    (bytes, 1 + count)
}

#[cfg(test)]
mod tests {
    use coreloop::codec::gob;
    use coreloop::codec::gob::dynamic::{decode_json, encode_json};
    use coreloop::codec::gob::stream::SentTypes;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::super::tests::at_every_split;
    use super::*;

    fn body(method: &str, argument: &Value) -> Body {
        let mut bytes = Vec::new();
        encode_json(argument, &mut bytes).expect("it has a form");
        Body { method: method.into(), bytes, time_left_us: 0 }
    }

    fn gob() -> Gob {
        let two = json!({"A": 6, "B": 7});
        Gob::new(&[body("Arith.Add", &two), body("Arith.Multiply", &two), body("Echo.Echo", &json!("é"))])
            .expect("well-formed")
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Response {
        service_method: String,
        seq: u64,
        error: String,
    }

    /// Returns the values of a stream as shown.
    fn shown(mut bytes: &[u8]) -> Vec<Value> {
        let mut known = Definitions::new(DefinitionLimits::default());
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let taken = match known.take(bytes, 1 << 20).expect("a stream") {
                ReceivedItem::Definition { bytes } => bytes,
                ReceivedItem::Value { bytes: taken, definitions, .. } => {
                    values.push(decode_json(&[&definitions, &bytes[..taken]].concat()).expect("a value"));
                    taken
                }
                ReceivedItem::NeedMore { .. } => panic!("it ends early"),
            };
            bytes = &bytes[taken..];
        }
        values
    }

    #[test]
    fn a_stream_defines_each_type_once() {
        let (mut gob, mut out, mut want) = (gob(), Vec::new(), Vec::new());
        let two = json!({"A": 6, "B": 7});
        for (method, name, argument) in [
            (0, "Arith.Add", &two),
            (1, "Arith.Multiply", &two),
            (2, "Echo.Echo", &json!("é")),
            (0, "Arith.Add", &two),
        ] {
            for id in [0, 1, 127, 128, 255, 256, 65_535, 1 << 20, u64::MAX] {
                gob.append(method, id, &mut out);
                want.extend([json!({"ServiceMethod": name, "Seq": id}), argument.clone()]);
            }
        }
        // The reader rejects a type that is defined twice.
        assert_eq!(shown(&out), want);
        gob.reset();
        let mut again = Vec::new();
        gob.append(1, 1, &mut again);
        assert_eq!(shown(&again).len(), 2);
    }

    #[test]
    fn split_answers_are_read_when_complete() {
        let (mut sent, mut bytes) = (SentTypes::new(), Vec::new());
        let mut say = |seq, error: &str, reply: &Value| {
            let response = Response { service_method: "Arith.Add".into(), seq, error: error.into() };
            let mut stream = Vec::new();
            gob::encode(&response, &mut stream).expect("it has a form");
            sent.append(&stream, &mut bytes).expect("a stream");
            sent.append(&body("", reply).bytes, &mut bytes).expect("a stream");
        };
        say(300, "", &json!(5));
        say(0, "", &json!({"Quo": 3, "Rem": 1}));
        say(1, "divide by zero", &json!({}));
        say(2, "rpc: can't find service Arith.Modulo", &json!({}));
        say(128, "", &json!({"Quo": 3}));
        let seen = at_every_split(gob, &bytes);
        let want = [
            "300 0",
            "0 0",
            "1 2 0 0 divide by zero",
            "2 12 0 0 rpc: can't find service Arith.Modulo",
            "128 0",
        ];
        assert_eq!(seen.len(), want.len());
        for (seen, want) in seen.iter().zip(want) {
            assert!(seen.starts_with(want), "{seen} is not {want}");
        }
    }

    #[test]
    fn behind_http_the_greeting_is_answered_first() {
        let mut answers = Vec::new();
        let mut sent = SentTypes::new();
        let mut say = |seq| {
            let response = Response { service_method: String::new(), seq, error: String::new() };
            let mut stream = Vec::new();
            gob::encode(&response, &mut stream).expect("it has a form");
            sent.append(&stream, &mut answers).expect("a stream");
            sent.append(&body("", &json!(5)).bytes, &mut answers).expect("a stream");
        };
        (7..9).for_each(&mut say);
        let granted = b"HTTP/1.0 200 Connected to Go RPC\n\n";
        let seen = at_every_split(|| gob().behind_http(), &[granted, &answers[..]].concat());
        assert_eq!(seen.len(), 3);
        assert!(seen[0] == "greeted" && seen[1].starts_with("7 0") && seen[2].starts_with("8 0"), "{seen:?}");
        // Each connection sends CONNECT again; without HTTP none does.
        let mut behind = gob().behind_http();
        assert_eq!((behind.greeting(), behind.decode(granted)), (CONNECT, Decoded::Greeted(granted.len())));
        behind.reset();
        assert_eq!(behind.decode(granted), Decoded::Greeted(granted.len()));
        assert_eq!(gob().greeting(), b"");
        for (answer, why) in [
            (&b"HTTP/1.1 404 Not Found\r\n"[..], "refuses"),
            (b"220 smtp", "does not speak HTTP"),
            (&[b"HTTP/1.1 ".as_slice(), &[b'x'; 5000]].concat(), "does not end"),
        ] {
            let Decoded::Broken(said) = gob().behind_http().decode(answer) else { panic!("{answer:?}") };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn undecodable_answers_break() {
        for (bytes, why) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\nand so on, as long as a message of gob would have to be, and more"[..], "gob"),
            (&[3, 4, 0, 6], "without a header"),
            (&[0], "does not speak gob"),
            (&[0xfc, 0x7f, 0xff, 0xff, 0xff], "16 MiB"),
        ] {
            match gob().decode(bytes) {
                Decoded::Broken(said) => assert!(said.contains(why), "{bytes:?}: {said}"),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
    }
}
