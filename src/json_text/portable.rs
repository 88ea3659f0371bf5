//! Checks for JSON that every reader accepts. An echoed id must be such JSON, or some clients cannot read its
//! response.
//!
//! The grammar permits more than some readers accept: numbers outside a double's range, escapes of half a surrogate
//! pair, repeated names, any nesting.

use super::reader::{JsonFault, JsonReader};
use super::strings::has_lone_surrogate;

/// The maximum nesting.
const DEPTH_MAX: usize = 16;
/// The maximum digits of an exponent, without leading zeros: a double's exponent is below 309.
const EXPONENT_DIGITS_MAX: usize = 3;

/// Checks a value that the reader has accepted. The error is the part that some readers refuse.
#[inline]
pub(crate) fn check(value: &[u8]) -> Result<(), &'static str> {
    match value {
        // A number of this length is below 10^20.
        [b'0'..=b'9', ..] if value.len() <= 20 && value.iter().all(u8::is_ascii_digit) => Ok(()),
        [b'"', text @ ..] if !text.contains(&b'\\') => Ok(()),
        _ => check_any(value),
    }
}

#[inline(never)]
fn check_any(value: &[u8]) -> Result<(), &'static str> {
    let mut walk = Walk { reader: JsonReader::new(value, DEPTH_MAX), value };
    walk.check().map_err(|Unportable(what)| what)
}

/// The part that some readers refuse.
struct Unportable(&'static str);

impl From<JsonFault> for Unportable {
    fn from(_: JsonFault) -> Unportable {
        // The value was accepted before, in a text that may be nested more deeply.
        Unportable("more than 16 containers inside each other")
    }
}

struct Walk<'a> {
    reader: JsonReader<'a>,
    value: &'a [u8],
}

impl Walk<'_> {
    /// Checks the next value. It recurses as deeply as the reader permits, which is [`DEPTH_MAX`].
    fn check(&mut self) -> Result<(), Unportable> {
        match self.reader.next() {
            Some(b'{') => self.check_object(),
            Some(b'[') => {
                let mut goes_on = self.reader.opens(b'[', b']')?;
                while goes_on {
                    self.check()?;
                    goes_on = self.reader.goes_on(b']')?;
                }
                Ok(())
            }
            first => {
                let range = self.reader.value()?;
                let text = &self.value[range];
                match first {
                    Some(b'"') => check_string(text),
                    Some(b'-' | b'0'..=b'9') if !is_portable_number(text) => {
                        Err(Unportable("a number that not every JSON reader takes"))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn check_object(&mut self) -> Result<(), Unportable> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut goes_on = self.reader.opens(b'{', b'}')?;
        while goes_on {
            let name = self.reader.name()?;
            let name = &self.value[name];
            if name.contains(&b'\\') {
                return Err(Unportable("a name that is written with escapes"));
            }
            if names.contains(&name) {
                return Err(Unportable("an object with a name that repeats"));
            }
            names.push(name);
            self.check()?;
            goes_on = self.reader.goes_on(b'}')?;
        }
        Ok(())
    }
}

fn check_string(text: &[u8]) -> Result<(), Unportable> {
    if has_lone_surrogate(text) {
        return Err(Unportable("a string with half a surrogate pair"));
    }
    Ok(())
}

/// Whether a double can represent the number and its exponent is short: some readers refuse overflow, underflow, or
/// an exponent that does not fit an integer.
fn is_portable_number(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (significand, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
    let exponent = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    let is_zero = !significand.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    exponent.len() <= EXPONENT_DIGITS_MAX
        && text.parse().is_ok_and(|number: f64| number.is_finite() && (is_zero || number != 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_every_reader_accepts_is_portable() {
        for value in [
            "0",
            "-1",
            "18446744073709551615",
            "123456789012345678901234567890",
            "1.5e3",
            "-0.0",
            "1e308",
            "2.5E-300",
            "0e5",
            "null",
            "true",
            r#""""#,
            r#""x""#,
            r#""\u00e9\ud83e\udd80\n""#,
            r#"[1, {"a": [2]}, "b"]"#,
            "{}",
            "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
        ] {
            assert_eq!(check(value.as_bytes()), Ok(()), "{value}");
        }
    }

    #[test]
    fn json_that_some_reader_refuses_is_not_portable() {
        for value in [
            "1e3756501519",
            "-1e400",
            "1e309",
            "1e-400",
            "0e3756501519",
            "1E+99999999999999999999999",
            r#""\ud83e""#,
            r#""\udd80\ud83e""#,
            r#""\ud83e\n""#,
            r#"[1, [1e999]]"#,
            r#"{"a": 1, "a": 2}"#,
            r#"{"a": 1, "\u0061": 2}"#,
            r#"{"\ud83e": 1}"#,
            "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]",
        ] {
            assert!(check(value.as_bytes()).is_err(), "{value}");
        }
        let long = "9".repeat(400);
        assert!(check(long.as_bytes()).is_err());
    }
}
