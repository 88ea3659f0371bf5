//! Base64 decoder (RFC 4648 section 4): padded, without white space. The server's recorder writes this form.

/// Decodes the text; `None` if it is not valid Base64.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, []) = text.as_chunks::<4>() else { return None };
    let mut out = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let is_last = at + 1 == groups.len();
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > if is_last { 2 } else { 0 } {
            return None;
        }
        let mut number = 0_u32;
        for byte in &group[..4 - padding] {
            number = number << 6 | u32::from(value_of(*byte)?);
        }
        number <<= 6 * padding;
        let bytes = number.to_be_bytes();
        // Bits behind the last byte must be zero: each value has exactly one encoding.
        if bytes[4 - padding..].iter().any(|rest| *rest != 0) {
            return None;
        }
        out.extend_from_slice(&bytes[1..4 - padding]);
    }
    Some(out)
}

fn value_of(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_vectors_of_the_rfc() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode(b"+/+/").as_deref(), Some(&[0xfb, 0xff, 0xbf][..]));
        for wrong in ["Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm8*", "Zh==", "Zm9=", " Zg=", "Zg\n="] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
