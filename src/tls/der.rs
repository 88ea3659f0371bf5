//! The parts of a certificate (RFC 5280) that are read here: subject, validity, and subject alternative names.
//!
//! A strict reader of DER for these parts alone. The certificate has been verified before, or is the program's own, so
//! whatever is not as expected is left out; nothing here panics.

use crate::calendar;

/// One element: its tag, its contents, and what follows it.
struct Element<'a> {
    tag: u8,
    contents: &'a [u8],
    rest: &'a [u8],
}

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Context-specific tags of a TBSCertificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// The choices of a GeneralName.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
/// subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The attributes of names that have a short form (RFC 4514, section 3, and emailAddress as OpenSSL writes it).
const ATTRIBUTES: [(&[u8], &str); 9] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
];

/// What is read of a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) subject: String,
    pub(super) dns_names: Vec<String>,
    pub(super) uris: Vec<String>,
    /// The validity, in seconds since the epoch.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Reads the parts of a certificate; `None` if it has not the form of one.
pub(super) fn parts(certificate: &[u8]) -> Option<Parts> {
    let outer = expect(certificate, SEQUENCE)?;
    let mut rest = expect(outer.contents, SEQUENCE)?.contents;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.rest;
    }
    // The serial number, the algorithm of the signature, the issuer.
    for _ in 0..3 {
        rest = element(rest)?.rest;
    }
    let validity = expect(rest, SEQUENCE)?;
    let not_before = element(validity.contents)?;
    let not_after = element(not_before.rest)?;
    let subject = expect(validity.rest, SEQUENCE)?;
    let mut parts = Parts {
        subject: name(subject.contents),
        not_before: time(&not_before)?,
        not_after: time(&not_after)?,
        ..Parts::default()
    };
    // The public key; then optional ids, and the extensions.
    rest = element(subject.rest)?.rest;
    while let Some(field) = element(rest) {
        if field.tag == EXTENSIONS {
            read_alternative_names(field.contents, &mut parts);
        }
        rest = field.rest;
    }
    Some(parts)
}

fn read_alternative_names(extensions: &[u8], parts: &mut Parts) {
    let Some(list) = expect(extensions, SEQUENCE) else { return };
    let mut rest = list.contents;
    while let Some(extension) = element(rest) {
        rest = extension.rest;
        let Some(id) = expect(extension.contents, OID) else { continue };
        if id.contents != SUBJECT_ALT_NAME {
            continue;
        }
        // An optional flag says whether the extension is critical.
        let value =
            if id.rest.first() == Some(&BOOLEAN) { element(id.rest).map(|flag| flag.rest) } else { None };
        let value = expect(value.unwrap_or(id.rest), OCTET_STRING);
        let Some(names) = value.and_then(|value| expect(value.contents, SEQUENCE)) else { continue };
        let mut names = names.contents;
        while let Some(name) = element(names) {
            names = name.rest;
            let Ok(text) = std::str::from_utf8(name.contents) else { continue };
            match name.tag {
                DNS_NAME if text.is_ascii() => parts.dns_names.push(text.to_owned()),
                URI if text.is_ascii() => parts.uris.push(text.to_owned()),
                _ => {}
            }
        }
    }
}

/// Writes a name as RFC 4514 does, with the last component first.
fn name(mut components: &[u8]) -> String {
    let mut texts = Vec::new();
    while let Some(component) = element(components) {
        components = component.rest;
        if component.tag != SET {
            continue;
        }
        let mut attributes = component.contents;
        let mut text = String::new();
        while let Some(attribute) = element(attributes) {
            attributes = attribute.rest;
            if !text.is_empty() {
                text.push('+');
            }
            write_attribute(attribute.contents, &mut text);
        }
        texts.push(text);
    }
    texts.reverse();
    texts.join(",")
}

fn write_attribute(attribute: &[u8], text: &mut String) {
    let Some(id) = expect(attribute, OID) else { return };
    let Some(value) = element(id.rest) else { return };
    match ATTRIBUTES.iter().find(|(oid, _)| *oid == id.contents) {
        Some((_, short)) => text.push_str(short),
        None => text.push_str(&oid(id.contents)),
    }
    text.push('=');
    let value = String::from_utf8_lossy(value.contents);
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let is_special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        if is_special || at == 0 && matches!(c, ' ' | '#') || at == last && c == ' ' {
            text.push('\\');
        }
        text.push(if c.is_control() { '\u{fffd}' } else { c });
    }
}

/// Writes an object identifier as numbers with dots.
fn oid(bytes: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0_u64;
    for byte in bytes {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// Reads a time in seconds since the epoch.
fn time(element: &Element<'_>) -> Option<i64> {
    let text = element.contents.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number =
        |digits: &[u8]| digits.iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, rest) = match (element.tag, text.len()) {
        (UTC_TIME, 12) => {
            let year = number(&text[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(((calendar::days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn expect(input: &[u8], tag: u8) -> Option<Element<'_>> {
    element(input).filter(|element| element.tag == tag)
}

/// Reads one element with a tag of one byte and a definite length of at most three bytes.
fn element(input: &[u8]) -> Option<Element<'_>> {
    let (&[tag, first], rest) = input.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some(Element { tag, contents, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_forms_are_read() {
        let read = |tag, contents: &[u8]| time(&Element { tag, contents, rest: &[] });
        assert_eq!(read(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(read(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000));
        assert_eq!(read(GENERALIZED_TIME, b"20240229120000Z"), Some(1_709_208_000));
        assert_eq!(read(UTC_TIME, b"500101000000Z"), Some(-631_152_000));
        for wrong in [&b"700101000000"[..], b"7001010000Z", b"701301000000Z", b"70010100000xZ", b""] {
            assert_eq!(read(UTC_TIME, wrong), None);
        }
    }

    #[test]
    fn names_are_written_with_short_attributes_and_escapes() {
        // C=DE, O="a, b", then an attribute without a short form.
        let der = [
            &[0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x06, 0x13, 0x02, b'D', b'E'][..],
            &[0x31, 0x0d, 0x30, 0x0b, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x0c, 0x04, b'a', b',', b' ', b'b'],
            &[0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x05, 0x0c, 0x01, b'7'],
        ]
        .concat();
        assert_eq!(name(&der), "2.5.4.5=7,O=a\\, b,C=DE");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for input in
            [&b""[..], b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00", b"text"]
        {
            assert_eq!(parts(input), None);
        }
    }
}
