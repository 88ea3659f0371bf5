//! The rules for the fields of a request and its trailers (RFC 9113 sections 8.1 to 8.3).
//!
//! A field list that breaks one is malformed: its stream ends with PROTOCOL_ERROR, and nothing of it is delivered.

use super::hpack::FieldList;

/// The pseudo-header fields of a request, as places in its field list, and what else the connection needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Head {
    /// The place of `:method`.
    pub method: usize,
    /// The place of `:path`; only CONNECT has none.
    pub path: Option<usize>,
    /// The place of `:scheme`; only CONNECT has none.
    pub scheme: Option<usize>,
    /// The place of `:authority`, or that of `host`.
    pub authority: Option<usize>,
    /// The announced bytes of the body.
    pub content_length: Option<u64>,
}

/// Returns a value by its place in the list; empty if there is none.
pub fn value_at(fields: &FieldList, place: Option<usize>) -> &[u8] {
    place.and_then(|place| fields.get(place)).map_or(&[], |field| field.value)
}

/// The bytes of a token in lower case (RFC 9110 section 5.6.2).
const IS_NAME_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    table
};

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| IS_NAME_BYTE[usize::from(byte)])
}

fn is_value(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    !is_blank(value.first())
        && !is_blank(value.last())
        && !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
}

/// Checks a field that is not a pseudo-header field.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if !is_name(name) {
        return Err("a field name is empty, has an upper case letter, or is no token");
    }
    if !is_value(value) {
        return Err("a field value has a NUL, CR, LF, or a blank at an end");
    }
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            Err("a field belongs to HTTP/1.1 connections only")
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => Err("te is not trailers"),
        _ => Ok(()),
    }
}

/// Reads a length: up to 18 digits, and nothing else.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| match byte {
        b'0'..=b'9' => length.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

fn set(slot: &mut Option<usize>, place: usize) -> Result<(), &'static str> {
    if slot.replace(place).is_some() { Err("a pseudo-header field is repeated") } else { Ok(()) }
}

/// Checks the fields of a request.
pub fn check_request(fields: &FieldList) -> Result<Http2Head, &'static str> {
    let (mut method, mut path, mut scheme, mut authority) = (None, None, None, None);
    let (mut host, mut content_length, mut is_past_pseudo) = (None, None, false);
    for (place, field) in fields.iter().enumerate() {
        if field.name.first() == Some(&b':') {
            if is_past_pseudo {
                return Err("a pseudo-header field follows another field");
            }
            if !is_value(field.value) {
                return Err("a field value has a NUL, CR, LF, or a blank at an end");
            }
            match field.name {
                b":method" => set(&mut method, place)?,
                b":path" => set(&mut path, place)?,
                b":scheme" => set(&mut scheme, place)?,
                b":authority" => set(&mut authority, place)?,
                _ => return Err("an unknown pseudo-header field"),
            }
            continue;
        }
        is_past_pseudo = true;
        check_field(field.name, field.value)?;
        match field.name {
            b"host" if host.replace(place).is_some() => return Err("host is repeated"),
            b"content-length" => {
                let announced = length(field.value).ok_or("content-length is not a number")?;
                if content_length.replace(announced).is_some() {
                    return Err("content-length is repeated");
                }
            }
            _ => {}
        }
    }
    let method = method.ok_or("a request without :method")?;
    let name = value_at(fields, Some(method));
    if name.is_empty() || !name.iter().all(|byte| IS_NAME_BYTE[usize::from(byte.to_ascii_lowercase())]) {
        return Err(":method is no token");
    }
    if name == b"CONNECT" {
        if path.is_some() || scheme.is_some() || authority.is_none() {
            return Err("CONNECT has :authority, and neither :path nor :scheme");
        }
    } else {
        let target = value_at(fields, path);
        if value_at(fields, scheme).is_empty() || target.is_empty() {
            return Err("a request without :scheme or :path");
        }
        let is_target = target[0] == b'/' || (target == b"*" && name == b"OPTIONS");
        if !is_target || target.iter().any(|byte| byte.is_ascii_control() || matches!(byte, b' ' | b'#')) {
            return Err(":path does not begin with a slash, or has a blank or control character");
        }
    }
    if value_at(fields, authority).contains(&b'@') {
        return Err(":authority has user information");
    }
    if let (Some(authority), Some(host)) = (authority, host)
        && !value_at(fields, Some(authority)).eq_ignore_ascii_case(value_at(fields, Some(host)))
    {
        return Err(":authority and host disagree");
    }
    Ok(Http2Head { method, path, scheme, authority: authority.or(host), content_length })
}

/// Checks the fields of trailers.
pub fn check_trailers(fields: &FieldList) -> Result<(), &'static str> {
    for field in fields.iter() {
        if field.name.first() == Some(&b':') {
            return Err("a pseudo-header field in trailers");
        }
        check_field(field.name, field.value)?;
        if matches!(field.name, b"content-length" | b"host" | b"te") {
            return Err("a field of trailers belongs to the head");
        }
    }
    Ok(())
}
