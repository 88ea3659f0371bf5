//! Names of methods in their two forms: as text (`shop.v1.Orders.Price`) and as an HTTP path
//! (`/shop.v1.Orders/Price`).
//!
//! Every protocol, page and error text parses names with [`MethodName`], so that all of them agree where a service
//! ends and its method begins: at the last dot. The macro `#[coreloop::service]` checks its names in
//! `macros/src/options.rs`, since that crate cannot import this one.

use std::fmt;

/// The name of a method: `Service.Method`, with an optional package before it (`shop.v1.Orders.Price`).
///
/// The method is what follows the last dot; what precedes it is the full name of the service, package included. No
/// part is empty. A name has no white space, no control characters and no slash, and at most
/// [`BYTES_MAX`](MethodName::BYTES_MAX) bytes. Letters of any script are allowed, and names are case-sensitive.
///
/// ```
/// use coreloop::MethodName;
///
/// let name = MethodName::parse("shop.v1.Orders.Price")?;
/// assert_eq!((name.package(), name.service(), name.method()), (Some("shop.v1"), "shop.v1.Orders", "Price"));
/// assert_eq!(name.http_path(), "/shop.v1.Orders/Price");
/// assert_eq!(MethodName::parse("Wörter.Zählen")?.http_path(), "/W%C3%B6rter/Z%C3%A4hlen");
/// # Ok::<(), coreloop::method_name::MethodNameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodName<'a> {
    text: &'a str,
    /// The position of the last dot.
    dot: usize,
}

/// Why a text is not the name of a method.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodNameError {
    /// It has no dot, so either the service or the method is missing.
    NoDot,
    /// It begins or ends with a dot, or has two in a row.
    EmptyPart,
    /// It has a character that is not allowed in a name.
    InvalidCharacter(char),
    /// It is longer than [`MethodName::BYTES_MAX`].
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

crate::error_text::debug_as_text!(MethodNameError);

impl fmt::Display for MethodNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MethodNameError::NoDot => f.write_str("expected Service.Method, found no dot"),
            MethodNameError::EmptyPart => {
                f.write_str("expected Service.Method, found an empty part before, between or after the dots")
            }
            MethodNameError::InvalidCharacter('/') => {
                f.write_str("expected Service.Method, found a slash (the slash is only in the path of HTTP)")
            }
            MethodNameError::InvalidCharacter(found) => {
                let found = found.escape_debug();
                write!(f, "expected no white space and no control characters, found '{found}'")
            }
            MethodNameError::TooLong { bytes } => {
                write!(f, "expected at most {} bytes, found {bytes}", MethodName::BYTES_MAX)
            }
        }
    }
}

impl std::error::Error for MethodNameError {}

impl<'a> MethodName<'a> {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Parses a name.
    ///
    /// # Errors
    ///
    /// See [`MethodNameError`].
    pub fn parse(text: &'a str) -> Result<MethodName<'a>, MethodNameError> {
        if text.len() > MethodName::BYTES_MAX {
            return Err(MethodNameError::TooLong { bytes: text.len() });
        }
        // Initially true: a dot at the start is an empty part, like the second of two dots in a row.
        let mut was_dot = true;
        for found in text.chars() {
            match found {
                '.' if was_dot => return Err(MethodNameError::EmptyPart),
                found if !is_name_character(found) => return Err(MethodNameError::InvalidCharacter(found)),
                _ => was_dot = found == '.',
            }
        }
        match text.rfind('.') {
            None => Err(MethodNameError::NoDot),
            Some(_) if was_dot => Err(MethodNameError::EmptyPart),
            Some(dot) => Ok(MethodName { text, dot }),
        }
    }

    /// Splits a text that a peer sent, whether or not it is a valid name, at the last dot into service and method.
    /// Returns `None` if there is no dot.
    pub fn split(text: &str) -> Option<(&str, &str)> {
        text.rsplit_once('.')
    }

    /// Returns the whole name.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Returns the package, if there is one: `shop.v1` of `shop.v1.Orders.Price`.
    pub fn package(self) -> Option<&'a str> {
        self.service().rsplit_once('.').map(|(package, _)| package)
    }

    /// Returns the full name of the service, with its package: `shop.v1.Orders` of `shop.v1.Orders.Price`.
    pub fn service(self) -> &'a str {
        &self.text[..self.dot]
    }

    /// Returns the method: `Price` of `shop.v1.Orders.Price`.
    pub fn method(self) -> &'a str {
        &self.text[self.dot + 1..]
    }

    /// Returns the HTTP path of the method: `/shop.v1.Orders/Price`. A character that is not allowed in a path
    /// segment (RFC 3986, section 3.3) is percent-encoded as UTF-8.
    pub fn http_path(self) -> String {
        let mut path = String::with_capacity(self.text.len() + 1);
        write_http_path(self.text, |bytes| path.push_str(&String::from_utf8_lossy(bytes)));
        path
    }

    /// Returns the name for an HTTP path without its query; `None` if it is not the path of any method.
    ///
    /// A method has one path. Spellings of it that are equivalent by RFC 3986, section 6.2.2, are the same path: a
    /// percent-encoded letter, digit, `-`, `.`, `_` or `~` is that character, and hexadecimal digits have no case.
    /// Any other path (an additional or missing slash, a dot in place of the slash, `%2F`, a character encoded or
    /// plain that [`http_path`](MethodName::http_path) writes otherwise) belongs to no method.
    ///
    /// ```
    /// use coreloop::MethodName;
    ///
    /// let mut buffer = [0; MethodName::BYTES_MAX];
    /// let name = MethodName::from_http_path("/shop.Orders/%50rice", &mut buffer).unwrap();
    /// assert_eq!(name.as_str(), "shop.Orders.Price");
    /// assert_eq!(MethodName::from_http_path("/shop/Orders.Price", &mut buffer), None);
    /// ```
    pub fn from_http_path(path: &str, buffer: &'a mut [u8; MethodName::BYTES_MAX]) -> Option<MethodName<'a>> {
        let (mut len, mut dot) = (0, None);
        let mut rest = path.as_bytes().strip_prefix(b"/")?;
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            let byte = match first {
                b'/' if dot.is_none() => {
                    dot = Some(len);
                    b'.'
                }
                b'%' => {
                    let (digits, after) = after.split_first_chunk::<2>()?;
                    rest = after;
                    let byte = hex_value(digits[0])? << 4 | hex_value(digits[1])?;
                    if is_path_character(byte) && !is_unreserved(byte) {
                        return None;
                    }
                    byte
                }
                first if is_path_character(first) => first,
                _ => return None,
            };
            *buffer.get_mut(len)? = byte;
            len += 1;
        }
        let name = MethodName::parse(std::str::from_utf8(&buffer[..len]).ok()?).ok()?;
        // Otherwise a dot in the last segment would split the name at a place other than the slash.
        (dot == Some(name.dot)).then_some(name)
    }
}

impl fmt::Display for MethodName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// Writes the HTTP path for a name that a caller gave, in pieces. A text that is not a valid name gets a path that is
/// not the path of any method, and that ends neither the request line nor the path.
pub(crate) fn write_http_path(name: &str, mut write: impl FnMut(&[u8])) {
    let (service, method) = MethodName::split(name).unwrap_or((name, ""));
    for segment in [service, method] {
        write(b"/");
        let mut rest = segment.as_bytes();
        while let Some(at) = rest.iter().position(|byte| !is_path_character(*byte)) {
            let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit)];
            write(&rest[..at]);
            write(&[b'%', hex(rest[at] >> 4), hex(rest[at] & 15)]);
            rest = &rest[at + 1..];
        }
        write(rest);
    }
}

fn is_name_character(c: char) -> bool {
    !(c == '/' || c.is_whitespace() || c.is_control())
}

/// Returns whether a byte is unreserved by RFC 3986, section 2.3: encoded or not, it is the same character.
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns whether a byte may be in a path segment without encoding (`pchar` of RFC 3986, section 3.3).
pub(crate) fn is_path_character(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

pub(crate) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(path: &str) -> Option<String> {
        MethodName::from_http_path(path, &mut [0; MethodName::BYTES_MAX]).map(|name| name.to_string())
    }

    #[test]
    fn the_last_dot_separates_service_and_method() {
        let of = |text| MethodName::parse(text).map(|name| (name.package(), name.service(), name.method()));
        assert_eq!(of("Orders.Price"), Ok((None, "Orders", "Price")));
        assert_eq!(of("shop.v1.Orders.Price"), Ok((Some("shop.v1"), "shop.v1.Orders", "Price")));
        assert_eq!(of("世.界"), Ok((None, "世", "界")));
    }

    #[test]
    fn invalid_names_are_refused_with_the_reason() {
        for (text, error) in [
            ("", MethodNameError::NoDot),
            ("Price", MethodNameError::NoDot),
            (".", MethodNameError::EmptyPart),
            (".Price", MethodNameError::EmptyPart),
            ("Orders.", MethodNameError::EmptyPart),
            ("shop..Price", MethodNameError::EmptyPart),
            ("Orders/Price", MethodNameError::InvalidCharacter('/')),
            ("Orders. Price", MethodNameError::InvalidCharacter(' ')),
            ("Orders.Pri\u{a0}ce", MethodNameError::InvalidCharacter('\u{a0}')),
            ("Orders.Price\n", MethodNameError::InvalidCharacter('\n')),
            ("Orders.Price\u{85}", MethodNameError::InvalidCharacter('\u{85}')),
        ] {
            assert_eq!(MethodName::parse(text), Err(error), "{text:?}");
        }
        let long = format!("S.{}", "m".repeat(MethodName::BYTES_MAX - 2));
        assert!(MethodName::parse(&long).is_ok());
        let longer = format!("{long}m");
        assert_eq!(MethodName::parse(&longer), Err(MethodNameError::TooLong { bytes: 257 }));
        assert_eq!(
            (decoded("/S/m"), decoded(&MethodName::parse(&long).unwrap().http_path())),
            (Some("S.m".into()), Some(long))
        );
    }

    #[test]
    fn a_method_has_one_path_and_its_equivalents() {
        let price = Some("shop.v1.Orders.Price".to_owned());
        for path in ["/shop.v1.Orders/Price", "/shop%2Ev1%2eOrders/%50rice", "/%73hop.v1.Orders/Pric%65"] {
            assert_eq!(decoded(path), price, "{path}");
        }
        for path in [
            "shop.v1.Orders/Price",
            "//shop.v1.Orders/Price",
            "/shop.v1.Orders//Price",
            "/shop.v1.Orders/Price/",
            "/shop.v1.Orders.Price",
            "/shop.v1/Orders.Price",
            "/shop.v1/Orders%2EPrice",
            "/shop/v1/Orders/Price",
            "/shop.v1.Orders%2FPrice",
            "/shop.v1.Orders/%2FPrice",
            "/shop.v1.Orders\\Price",
            "/shop.v1.Orders%5CPrice",
            "/./shop.v1.Orders/Price",
            "/x/../shop.v1.Orders/Price",
            "/shop.v1.Orders/./Price",
            "/shop.v1.Orders/Price.",
            "/.shop.v1.Orders/Price",
            "/shop.v1.Orders/",
            "//Price",
            "/",
            "",
            "/shop.v1.Orders/Price%",
            "/shop.v1.Orders/Price%5",
            "/shop.v1.Orders/%5rice",
            "/shop.v1.Orders/%00Price",
            "/shop.v1.Orders/Price%20",
            "/shop.v1.Orders/Pric\u{e9}",
            "/shop.v1.Orders/Pric%E9",
            "/shop.v1.Orders/Price%C0%AE",
        ] {
            assert_eq!(decoded(path), None, "{path}");
        }
        // These are the paths of other names, which are not registered.
        for path in [
            "/shop.v1.orders/Price",
            "/shop.v1.Orders/Price;a",
            "/shop.v1.Orders/Price%3Fa",
            "/shop.v1.Orders/%2550rice",
        ] {
            assert!(decoded(path).is_some_and(|name| Some(&name) != price.as_ref()), "{path}");
        }
    }

    #[test]
    fn characters_outside_pchar_are_percent_encoded() {
        let name = MethodName::parse("a$b.c<d\"%?#é").unwrap();
        assert_eq!(name.http_path(), "/a$b/c%3Cd%22%25%3F%23%C3%A9");
        assert_eq!(decoded(&name.http_path()).as_deref(), Some(name.as_str()));
        for path in ["/a%24b/c%3Cd%22%25%3F%23%C3%A9", "/a$b/c<d%22%25%3F%23%C3%A9"] {
            assert_eq!(decoded(path), None, "{path}");
        }
    }

    /// Generates a part of a name, from all allowed characters.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Za-z][A-Za-z0-9_]{0,8}",
            proptest::collection::vec(
                any::<char>().prop_filter("", |c| *c != '.' && is_name_character(*c)),
                1..6
            )
            .prop_map(String::from_iter),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(part(), 2..5).prop_map(|parts| parts.join("."))
    }

    /// Writes each character of a path in one of its spellings, chosen by `choices`; returns true if all of them are
    /// equivalent.
    fn spelled(path: &str, choices: &[u8]) -> (String, bool) {
        let (mut out, mut is_equivalent) = (String::new(), true);
        let mut choices = choices.iter().cycle();
        let mut bytes = path.bytes();
        while let Some(byte) = bytes.next() {
            let choice = choices.next().unwrap() % 8;
            match byte {
                b'%' => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    out += &format!("%{}", if choice < 4 { digits } else { digits.to_lowercase() });
                }
                byte if choice == 0 => {
                    is_equivalent &= is_unreserved(byte);
                    out += &format!("%{byte:02X}");
                }
                b'/' if choice == 1 => {
                    is_equivalent = false;
                    out += "//";
                }
                byte => out.push(char::from(byte)),
            }
        }
        (out, is_equivalent)
    }

    proptest! {
        #[test]
        fn a_printed_name_parses_back(text in name()) {
            let name = MethodName::parse(&text).unwrap();
            prop_assert_eq!(name.to_string(), &text[..]);
            prop_assert_eq!(MethodName::parse(name.as_str()), Ok(name));
            prop_assert_eq!(format!("{}.{}", name.service(), name.method()), &text[..]);
            prop_assert!(!name.method().contains('.'));
        }

        #[test]
        fn a_written_path_decodes_back(text in name()) {
            let path = MethodName::parse(&text).unwrap().http_path();
            prop_assert!(path.bytes().all(|byte| byte == b'/' || byte == b'%' || is_path_character(byte)));
            prop_assert_eq!(decoded(&path), Some(text));
        }

        #[test]
        fn only_equivalent_spellings_decode_to_the_method(text in name(), choices in proptest::collection::vec(any::<u8>(), 1..40)) {
            let path = MethodName::parse(&text).unwrap().http_path();
            let (spelling, is_equivalent) = spelled(&path, &choices);
            prop_assert_eq!(decoded(&spelling) == Some(text), is_equivalent, "{} as {}", path, spelling);
        }

        /// Whatever a path decodes to is a name whose own path is equivalent to it.
        #[test]
        fn a_decoded_name_has_an_equivalent_path(path in "/[a-zA-Z.%0-9/~$é]{1,12}/?[a-z.%0-9]{1,6}") {
            if let Some(text) = decoded(&path) {
                let canonical = MethodName::parse(&text).unwrap().http_path();
                prop_assert_eq!(normalized(&path), canonical);
            }
        }
    }

    /// Normalizes as in RFC 3986, section 6.2.2: upper-case digits, and no unreserved character encoded.
    fn normalized(path: &str) -> String {
        let (mut out, mut rest) = (String::new(), path);
        while let Some(at) = rest.find('%') {
            out += &rest[..at];
            let byte = u8::from_str_radix(&rest[at + 1..at + 3], 16).unwrap();
            out += &if is_unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
            rest = &rest[at + 3..];
        }
        out + rest
    }
}
