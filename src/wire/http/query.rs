//! The argument of a GET, which is in the query (Connect's Unary-Get-Request).

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::fault::RequestFault;

/// Padding is optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Appends the argument of a query to `out`. Unknown parameters are skipped; a repeated known one is refused. Returns
/// whether the query marks itself as Connect protocol.
pub(super) fn argument(query: &str, out: &mut Vec<u8>) -> Result<bool, RequestFault> {
    let mut known = [None; 5];
    const NAMES: [&[u8]; 5] = [b"message", b"encoding", b"base64", b"compression", b"connect"];
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = percent(name)?;
        if let Some(at) = NAMES.iter().position(|known| *known == &name[..])
            && known[at].replace(value).is_some()
        {
            return Err(RequestFault::invalid("a parameter of the query occurs twice"));
        }
    }
    let [message, encoding, base64, compression, connect] = known;
    let is = |value: Option<&str>, right: &[u8]| -> Result<bool, RequestFault> {
        value.map_or(Ok(true), |value| Ok(*percent(value)? == *right))
    };
    if !is(connect, b"v1")? {
        return Err(RequestFault::invalid("connect must be v1"));
    }
    if !is(encoding, b"json")? {
        return Err(RequestFault::unsupported("encoding must be json"));
    }
    if !is(compression, b"identity")? && !is(compression, b"")? {
        return Err(RequestFault::unsupported("compression must be identity: no other is supported here"));
    }
    let is_connect = connect.is_some();
    let Some(message) = message else { return Ok(is_connect) };
    let message = percent(message)?;
    if base64.is_some() && is(base64, b"1")? {
        let decoded = BASE64.decode_vec(&*message, out);
        return decoded
            .map(|()| is_connect)
            .map_err(|_| RequestFault::invalid("message is not base64 of the URL-safe alphabet"));
    }
    out.extend_from_slice(&message);
    Ok(is_connect)
}

/// Percent-decoding as in forms: a plus sign is a space.
fn percent(text: &str) -> Result<Cow<'_, [u8]>, RequestFault> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let hex = |at: usize| after.get(at).and_then(|digit| (*digit as char).to_digit(16));
                let (Some(high), Some(low)) = (hex(0), hex(1)) else {
                    return Err(RequestFault::invalid(
                        "a percent sign in the query is not followed by two hex digits",
                    ));
                };
                out.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            b'+' => out.push(b' '),
            byte => out.push(*byte),
        }
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<String, u16> {
        let mut out = Vec::new();
        argument(query, &mut out).map_err(|fault| fault.status)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_argument_is_percent_encoded_or_base64() {
        let json = Ok(r#"{"A": 1}"#.to_owned());
        assert_eq!(of("connect=v1&encoding=json&message=%7B%22A%22%3a+1%7D"), json);
        assert_eq!(of("message=eyJBIjogMX0&base64=1&encoding=json&compression=identity"), json);
        assert_eq!(of("message=eyJBIjogMX0%3D&base64=1&other=%41&a"), json);
        assert_eq!(of("message=%e4%b8%96&base64=0"), Ok("世".into()));
        for query in ["", "message=", "connect=v1&encoding=json"] {
            assert_eq!(of(query), Ok(String::new()), "{query}");
        }
    }

    #[test]
    fn unknown_requests_are_refused() {
        for (query, status) in [
            ("connect=v2", 400),
            ("encoding=proto&message=1", 415),
            ("compression=gzip&message=1", 415),
            ("message=1&message=1", 400),
            ("message=1&%6dessage=1", 400),
            ("message=%", 400),
            ("message=%4", 400),
            ("message=%+1", 400),
            ("message=%zz", 400),
            ("message=/w==&base64=1", 400),
            ("message=a&base64=1", 400),
        ] {
            assert_eq!(of(query), Err(status), "{query}");
        }
    }
}
