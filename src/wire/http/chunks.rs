//! Reads a chunked body (RFC 9112 section 7.1): framing byte by byte, data in whole pieces.
//!
//! It stores no bytes. Input is either data, which the caller takes, or framing (trailers included), which is checked
//! and dropped. One budget limits all framing of a body.

/// The state of a chunked body that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    at: ChunkPosition,
    /// The size being read, then the remaining bytes of the chunk.
    left: u64,
    /// Bytes of data so far, including all of the current chunk.
    total: u64,
    /// The maximum bytes of data.
    total_max: u64,
    /// Bytes of framing so far.
    overhead: u64,
    /// The maximum bytes of framing, in addition to one per byte of data.
    overhead_max: u64,
}

/// The next expected element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkPosition {
    /// The digits of a size, and how many were read.
    Size(u8),
    /// White space before an extension.
    BeforeExt,
    /// White space, then an extension's name.
    ExtName,
    /// The rest of the name.
    InExtName,
    /// White space after a name, then `=`, `;` or the end.
    AfterExtName,
    /// White space, then a value.
    ExtValue,
    /// A value that is a token.
    InExtToken,
    /// A value in quotes.
    InExtQuotes,
    /// The character after a backslash in quotes.
    InExtEscape,
    /// After a quoted value.
    AfterExtValue,
    /// The LF of a size line.
    SizeLf,
    /// The data.
    Data,
    /// The CR after the data.
    DataCr,
    /// The LF after the data.
    DataLf,
    /// A trailer or the end.
    TrailerStart,
    /// The name of a trailer.
    TrailerName,
    /// The value of a trailer.
    TrailerValue,
    /// The LF after a trailer.
    TrailerLf,
    /// The LF of the empty line.
    LastLf,
    /// The body has ended.
    Done,
}

/// A piece of the body at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyPiece {
    /// This many bytes of data.
    Data(usize),
    /// This many bytes of framing.
    Framing(usize),
    /// This many bytes of framing, which end the body.
    End(usize),
}

/// A fault in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkFault {
    /// It is ambiguous or invalid.
    Malformed(&'static str),
    /// More data than the limit.
    TooLarge,
    /// More framing than the budget.
    TooMuchFraming,
}

/// Whether a byte may be in a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether a byte may be in a field's value (RFC 9110 section 5.5), white space included.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

impl Chunks {
    pub(crate) fn new(total_max: u64, overhead_max: u64) -> Chunks {
        Chunks { at: ChunkPosition::Size(0), left: 0, total: 0, total_max, overhead: 0, overhead_max }
    }

    /// Returns the first piece of `input`, which must not be empty.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<BodyPiece, ChunkFault> {
        if self.at == ChunkPosition::Data {
            let bytes = self.left.min(input.len() as u64);
            self.left -= bytes;
            if self.left == 0 {
                self.at = ChunkPosition::DataCr;
            }
            return Ok(BodyPiece::Data(bytes as usize));
        }
        for (at, byte) in input.iter().enumerate() {
            self.overhead += 1;
            if self.overhead > self.overhead_max.saturating_add(self.total) {
                return Err(ChunkFault::TooMuchFraming);
            }
            self.at = self.after(*byte)?;
            match self.at {
                ChunkPosition::Done => return Ok(BodyPiece::End(at + 1)),
                ChunkPosition::Data => return Ok(BodyPiece::Framing(at + 1)),
                _ => {}
            }
        }
        Ok(BodyPiece::Framing(input.len()))
    }

    /// Returns the position after a byte of framing.
    fn after(&mut self, byte: u8) -> Result<ChunkPosition, ChunkFault> {
        let malformed = |what| Err(ChunkFault::Malformed(what));
        Ok(match (self.at, byte) {
            (ChunkPosition::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // Sixteen digits cannot overflow; no valid size has more.
                if digits == 16 {
                    return malformed("a chunk size has more than 16 digits");
                }
                self.left = self.left << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0));
                ChunkPosition::Size(digits + 1)
            }
            (ChunkPosition::Size(0), _) => return malformed("a chunk size begins with a digit"),
            (
                ChunkPosition::Size(_)
                | ChunkPosition::InExtToken
                | ChunkPosition::AfterExtValue
                | ChunkPosition::InExtName,
                b'\r',
            ) => ChunkPosition::SizeLf,
            (
                ChunkPosition::Size(_)
                | ChunkPosition::BeforeExt
                | ChunkPosition::InExtToken
                | ChunkPosition::AfterExtValue
                | ChunkPosition::InExtName
                | ChunkPosition::AfterExtName,
                b';',
            ) => ChunkPosition::ExtName,
            (ChunkPosition::Size(_) | ChunkPosition::BeforeExt, b' ' | b'\t') => ChunkPosition::BeforeExt,
            (ChunkPosition::InExtToken | ChunkPosition::AfterExtValue, b' ' | b'\t') => {
                ChunkPosition::BeforeExt
            }
            (ChunkPosition::ExtName, b' ' | b'\t') => ChunkPosition::ExtName,
            (ChunkPosition::ExtName | ChunkPosition::InExtName, byte) if is_token(byte) => {
                ChunkPosition::InExtName
            }
            (ChunkPosition::InExtName | ChunkPosition::AfterExtName, b' ' | b'\t') => {
                ChunkPosition::AfterExtName
            }
            (ChunkPosition::InExtName | ChunkPosition::AfterExtName, b'=') => ChunkPosition::ExtValue,
            (ChunkPosition::ExtValue, b' ' | b'\t') => ChunkPosition::ExtValue,
            (ChunkPosition::ExtValue, b'"') => ChunkPosition::InExtQuotes,
            (ChunkPosition::ExtValue | ChunkPosition::InExtToken, byte) if is_token(byte) => {
                ChunkPosition::InExtToken
            }
            (ChunkPosition::InExtQuotes, b'"') => ChunkPosition::AfterExtValue,
            (ChunkPosition::InExtQuotes, b'\\') => ChunkPosition::InExtEscape,
            (ChunkPosition::InExtQuotes | ChunkPosition::InExtEscape, byte) if is_text(byte) => {
                ChunkPosition::InExtQuotes
            }
            (ChunkPosition::SizeLf, b'\n') if self.left == 0 => ChunkPosition::TrailerStart,
            (ChunkPosition::SizeLf, b'\n') => {
                self.total = self.total.saturating_add(self.left);
                if self.total > self.total_max {
                    return Err(ChunkFault::TooLarge);
                }
                ChunkPosition::Data
            }
            (ChunkPosition::DataCr, b'\r') => ChunkPosition::DataLf,
            (ChunkPosition::DataLf, b'\n') => ChunkPosition::Size(0),
            (ChunkPosition::DataCr | ChunkPosition::DataLf, _) => {
                return malformed("a chunk does not end where its size says");
            }
            (ChunkPosition::TrailerStart, b'\r') => ChunkPosition::LastLf,
            (ChunkPosition::TrailerStart | ChunkPosition::TrailerName, byte) if is_token(byte) => {
                ChunkPosition::TrailerName
            }
            (ChunkPosition::TrailerName, b':') => ChunkPosition::TrailerValue,
            (ChunkPosition::TrailerValue, b'\r') => ChunkPosition::TrailerLf,
            (ChunkPosition::TrailerValue, byte) if is_text(byte) => ChunkPosition::TrailerValue,
            (ChunkPosition::TrailerLf, b'\n') => ChunkPosition::TrailerStart,
            (ChunkPosition::LastLf, b'\n') => ChunkPosition::Done,
            (
                ChunkPosition::TrailerStart
                | ChunkPosition::TrailerName
                | ChunkPosition::TrailerValue
                | ChunkPosition::TrailerLf
                | ChunkPosition::LastLf,
                _,
            ) => {
                return malformed("a trailer is malformed");
            }
            (
                ChunkPosition::Size(_)
                | ChunkPosition::BeforeExt
                | ChunkPosition::ExtName
                | ChunkPosition::InExtName
                | ChunkPosition::AfterExtName
                | ChunkPosition::ExtValue
                | ChunkPosition::InExtToken
                | ChunkPosition::InExtQuotes
                | ChunkPosition::InExtEscape
                | ChunkPosition::AfterExtValue
                | ChunkPosition::SizeLf,
                _,
            ) => return malformed("a chunk's size line is malformed"),
            (ChunkPosition::Data | ChunkPosition::Done, _) => return malformed("there is no framing here"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a body in pieces of `step` bytes. Returns its data, and the bytes consumed.
    fn read(
        stream: &[u8],
        step: usize,
        total_max: u64,
        overhead_max: u64,
    ) -> Result<(Vec<u8>, usize), ChunkFault> {
        let (mut chunks, mut out, mut taken) = (Chunks::new(total_max, overhead_max), Vec::new(), 0);
        while taken < stream.len() {
            let input = &stream[taken..stream.len().min(taken.saturating_add(step))];
            match chunks.next(input)? {
                BodyPiece::Data(bytes) => {
                    out.extend_from_slice(&input[..bytes]);
                    taken += bytes;
                }
                BodyPiece::Framing(bytes) => taken += bytes,
                BodyPiece::End(bytes) => return Ok((out, taken + bytes)),
            }
        }
        panic!("the body has no end");
    }

    fn verdict(stream: &[u8]) -> Option<ChunkFault> {
        let whole = read(stream, usize::MAX, 1000, 1000);
        for step in 1..stream.len() {
            assert_eq!(read(stream, step, 1000, 1000), whole, "{} in steps of {step}", stream.escape_ascii());
        }
        whole.err()
    }

    #[test]
    fn data_does_not_depend_on_the_split() {
        let stream = "4\r\nWiki\r\n006;a=b; c ;\td\r\npedia \r\nD ; q = \"x\\\"y\" ;z\r\nin \r\n\r\nchunks\r\n\
            0\r\nX-A: b\r\nY:\r\n\r\nnext";
        for step in 1..=stream.len() {
            let (data, taken) = read(stream.as_bytes(), step, 1000, 1000).unwrap();
            assert_eq!((&data[..], taken), (&b"Wikipedia in \r\n\r\nchunks"[..], stream.len() - 4));
        }
    }

    #[test]
    fn an_ambiguous_body_is_refused() {
        for stream in [
            &b"\r\n"[..],
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5_\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"5\rhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5;\r\nhello\r\n0\r\n\r\n",
            b"5;a\nhello\r\n0\r\n\r\n",
            b"5;a=\r\nhello\r\n0\r\n\r\n",
            b"5;a=\"b\r\nhello\r\n0\r\n\r\n",
            b"5;a=\"b\"c\r\nhello\r\n0\r\n\r\n",
            b"5;a b\r\nhello\r\n0\r\n\r\n",
            b"5;\0\r\nhello\r\n0\r\n\r\n",
            b"00000000000000005\r\nhello\r\n0\r\n\r\n",
            b"0\r\nX : a\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\nX: a\r\n folded\r\n\r\n",
            b"0\r\nX: a\n\r\n",
            b"0\r\nX: \0\r\n\r\n",
            b"0\r\n\n",
            b"0\n\n",
        ] {
            assert!(
                matches!(verdict(stream), Some(ChunkFault::Malformed(_))),
                "{}: {:?}",
                stream.escape_ascii(),
                verdict(stream)
            );
        }
    }

    #[test]
    fn a_size_is_checked_before_its_data() {
        assert_eq!(verdict(b"3e9\r\n"), Some(ChunkFault::TooLarge));
        assert_eq!(verdict(b"ffffffffffffffff\r\n"), Some(ChunkFault::TooLarge));
        assert_eq!(verdict(b"1\r\na\r\nffffffffffffffff\r\n"), Some(ChunkFault::TooLarge));
    }

    #[test]
    fn one_budget_limits_all_framing() {
        let of = |stream: &str| read(stream.as_bytes(), usize::MAX, 1000, 40).err();
        let all = "1;ext=12345\r\na\r\n0;ext=12345\r\nX-Trailer: 12345\r\n\r\n";
        assert_eq!(of(all), Some(ChunkFault::TooMuchFraming));
        for shorter in [all.replace("1;ext=12345", "1"), all.replace("X-Trailer: 12345\r\n", "")] {
            assert_eq!(of(&shorter), None);
        }
        let bytewise = "1\r\na\r\n".repeat(12);
        assert_eq!(of(&bytewise), Some(ChunkFault::TooMuchFraming));
        let larger = "a\r\n0123456789\r\n".repeat(50) + "0\r\n\r\n";
        assert_eq!(of(&larger), None);
    }
}
