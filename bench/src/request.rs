//! The bare client's call: a frame that is built once, in which each call changes only the id and an operand, and the
//! check of its reply.

use coreloop::codec::Codec;

use crate::frame::{self, HEADER_BYTES, Header, REPLY, REQUEST};

/// The first operand of `Arith.AddFixed`; the other is the call's id.
const AUGEND: i64 = 0x1234_5678_9abc;

/// A request that is sent repeatedly.
#[derive(Clone, Debug)]
pub struct Request {
    frame: Vec<u8>,
    /// Offset of the body, after the header and the metadata.
    body_at: usize,
    expect: Expect,
}

/// The expected body of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Eight bytes: the sum of the two operands (the second operand differs from call to call).
    Sum,
    /// These bytes.
    Bytes(Vec<u8>),
    /// Any body: only the status is checked.
    Any,
}

/// Returns the number of a codec by its name on the command line.
pub fn codec_number(name: &str) -> Option<u8> {
    (0..=u8::MAX).filter_map(Codec::from_number).find(|codec| codec.name() == name).map(Codec::number)
}

/// Parses a string of hexadecimal digits.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl Request {
    /// Creates a request for `method`. The default arguments of the demo methods `Arith` are 6 and 7; other methods
    /// require a body.
    pub fn new(
        method: &str,
        codec: &str,
        body: Option<Vec<u8>>,
        expect: Option<Expect>,
    ) -> Result<Request, String> {
        let codec_byte = codec_number(codec).ok_or(format!("unknown codec {codec}"))?;
        let (body, usual) = match (body, method, codec) {
            (Some(body), "Echo.Bytes", "raw") => (body.clone(), Expect::Bytes(body)),
            (Some(body), ..) => (body, Expect::Any),
            (None, "Arith.AddFixed", "fixed") => {
                ([AUGEND.to_le_bytes(), 0_i64.to_le_bytes()].concat(), Expect::Sum)
            }
            (None, _, codec) => {
                let reply = match method {
                    "Arith.Add" | "Arith.AddFixed" => 13,
                    "Arith.Multiply" => 42,
                    _ => return Err(format!("{method} needs a body: --json or --body-hex")),
                };
                match codec {
                    "json" => (br#"{"A":6,"B":7}"#.to_vec(), Expect::Bytes(format!("{reply}").into())),
                    // Variable-length and zigzag: a small value is encoded as twice the value.
                    "compact" => (vec![12, 14], Expect::Bytes(vec![2 * reply])),
                    _ => return Err(format!("{method} with codec {codec} needs a body: --body-hex")),
                }
            }
        };
        let expect = expect.unwrap_or(usual);
        if expect == Expect::Sum && body.len() != 16 {
            return Err("a sum can be expected of two operands only: 16 bytes".into());
        }
        if body.len() > frame::BODY_BYTES_MAX {
            return Err(format!("a body is at most {} bytes", frame::BODY_BYTES_MAX));
        }
        let header = Header {
            kind: REQUEST,
            codec: codec_byte,
            metadata_bytes: 0,
            call: 0,
            word: frame::method_hash(method),
            body_bytes: body.len() as u32,
        };
        let mut frame = header.to_bytes().to_vec();
        frame.extend_from_slice(&body);
        Ok(Request { frame, body_at: HEADER_BYTES, expect })
    }

    /// States a deadline with every call, in microseconds from its receipt; 0 for none.
    pub fn with_time_left_us(mut self, us: u32) -> Request {
        self.frame[24..28].copy_from_slice(&us.to_le_bytes());
        self
    }

    /// Sends this metadata with every call: encoded entries, at most 65 528 bytes and a multiple of 8.
    pub fn with_metadata(mut self, metadata: &[u8]) -> Request {
        debug_assert!(self.body_at == HEADER_BYTES && metadata.len().is_multiple_of(8));
        self.frame[6..8].copy_from_slice(&(metadata.len() as u16).to_le_bytes());
        self.frame.splice(HEADER_BYTES..HEADER_BYTES, metadata.iter().copied());
        self.body_at += metadata.len();
        self
    }

    /// Returns the encoded argument.
    pub fn body(&self) -> &[u8] {
        &self.frame[self.body_at..]
    }

    /// Appends the call `id` to the output.
    #[inline]
    pub fn append(&self, id: u64, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.frame);
        out[at + 8..at + 16].copy_from_slice(&id.to_le_bytes());
        if self.expect == Expect::Sum {
            let operand_at = at + self.body_at + 8;
            out[operand_at..operand_at + 8].copy_from_slice(&id.to_le_bytes());
        }
    }

    /// Returns an error if the reply to a call is wrong.
    #[inline]
    pub fn verdict(&self, header: &Header, body: &[u8]) -> Result<(), String> {
        let good = match &self.expect {
            Expect::Sum => body == self.augend().wrapping_add(header.call as i64).to_le_bytes(),
            Expect::Bytes(bytes) => body == bytes,
            Expect::Any => true,
        };
        if good && header.word == 0 && header.kind == REPLY && header.codec == self.frame[4] {
            return Ok(());
        }
        Err(self.complaint(header, body))
    }

    fn augend(&self) -> i64 {
        match self.frame[self.body_at..].first_chunk() {
            Some(bytes) => i64::from_le_bytes(*bytes),
            None => 0,
        }
    }

    #[cold]
    fn complaint(&self, header: &Header, body: &[u8]) -> String {
        if header.kind != REPLY {
            return format!("a frame of kind {} in place of a reply", header.kind);
        }
        if header.word != 0 {
            return format!("status {}: {}", header.word, String::from_utf8_lossy(body));
        }
        format!("codec {}, unexpected body {body:02x?}", header.codec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(call: u64, codec: u8, status: u32, body: &[u8]) -> Header {
        let body_bytes = body.len() as u32;
        Header { kind: REPLY, codec, metadata_bytes: 0, call, word: status, body_bytes }
    }

    #[test]
    fn sum_follows_the_call_id() {
        let request = Request::new("Arith.AddFixed", "fixed", None, None).expect("known");
        let mut out = vec![0xff; 3];
        request.append(5, &mut out);
        let frame::Next::Frame { header, body, len: 48 } = frame::next(&out[3..]) else { panic!("{out:?}") };
        assert_eq!((header.call, header.codec, header.kind), (5, 1, REQUEST));
        assert_eq!(body, [AUGEND.to_le_bytes(), 5_i64.to_le_bytes()].concat());
        let sum = (AUGEND + 5).to_le_bytes();
        assert_eq!(request.verdict(&reply(5, 1, 0, &sum), &sum), Ok(()));
        assert!(request.verdict(&reply(6, 1, 0, &sum), &sum).is_err());
        let refused = request.verdict(&reply(5, 1, 12, b"no such"), b"no such");
        assert_eq!(refused, Err("status 12: no such".into()));
    }

    #[test]
    fn metadata_lies_between_header_and_body() {
        let metadata = [2, b'b', b'3', 1, 0, b'1', 0, 0];
        let request = Request::new("Arith.AddFixed", "fixed", None, None).expect("known");
        let request = request.with_metadata(&metadata);
        let mut out = Vec::new();
        request.append(5, &mut out);
        assert_eq!((out.len(), &out[32..40]), (56, metadata.as_slice()));
        let frame::Next::Frame { header, body, .. } = frame::next(&out) else { panic!("{out:?}") };
        assert_eq!((header.metadata_bytes, header.call), (8, 5));
        assert_eq!(body, [AUGEND.to_le_bytes(), 5_i64.to_le_bytes()].concat());
        let sum = (AUGEND + 5).to_le_bytes();
        assert_eq!(request.verdict(&reply(5, 1, 0, &sum), &sum), Ok(()));
    }

    #[test]
    fn product_in_json_and_compact() {
        for (codec, number, answer) in [("json", 2, b"42".as_slice()), ("compact", 4, &[84])] {
            let request = Request::new("Arith.Multiply", codec, None, None).expect("known");
            assert_eq!(request.verdict(&reply(1, number, 0, answer), answer), Ok(()));
            assert!(request.verdict(&reply(1, number, 0, b"43"), b"43").is_err());
        }
    }

    #[test]
    fn hex_is_pairs_of_digits() {
        assert_eq!(from_hex("0Cff"), Some(vec![12, 255]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("é"), None);
        assert_eq!(from_hex("+1"), None);
    }

    #[test]
    fn unknown_method_without_a_body_is_refused() {
        assert!(Request::new("Users.Get", "json", None, None).is_err());
        assert!(Request::new("Users.Get", "json", Some(b"1".to_vec()), None).is_ok());
    }
}
