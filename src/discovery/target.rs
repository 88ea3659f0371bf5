//! The URL of a service: `consul://127.0.0.1:8500/orders?zone=a`.

use std::fmt;

/// A parsed URL: `SCHEME://AUTHORITY/PATH?KEY=VALUE&…`; a key without a value has an empty one. `static:a:1,b:2` has no
/// authority; its path is what follows the colon. Keys and values may be percent-encoded (RFC 3986, section 2.1), such as
/// `%26` for `&`; authority and path are used as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    scheme: String,
    authority: String,
    path: String,
    parameters: Vec<(String, String)>,
}

/// A URL that is not valid.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetError {
    /// The URL.
    pub url: String,
    /// What was expected.
    pub expected: String,
}

crate::error_text::debug_as_text!(TargetError);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the resolver URL {:?}: expected {}", self.url, self.expected)
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// Returns the scheme of a text that is a resolver URL (`SCHEME://…`, or `static:…`), if it is one.
    pub fn scheme_of(text: &str) -> Option<&str> {
        let (scheme, rest) = text.split_once(':')?;
        let is_word = !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        (is_word && (rest.starts_with("//") || scheme == "static")).then_some(scheme)
    }

    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// It is not one, or the encoding of a parameter is not valid.
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        let error = |expected: &str| TargetError { url: text.to_owned(), expected: expected.to_owned() };
        let scheme =
            Target::scheme_of(text).ok_or_else(|| error("SCHEME://AUTHORITY/PATH, or static:ADDRESS,…"))?;
        let rest = &text[scheme.len() + 1..];
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path)),
            None => ("", rest),
        };
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key.is_empty() {
                return Err(error("parameters as KEY or KEY=VALUE"));
            }
            let decoded = |text: &str| {
                decode(text).ok_or_else(|| {
                    let expected = "two hexadecimal digits after each % and UTF-8 when decoded";
                    error(&format!("{expected}, in the parameter {key:?}; found {text:?}"))
                })
            };
            parameters.push((decoded(key)?, decoded(value)?));
        }
        Ok(Target {
            text: text.to_owned(),
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: path.to_owned(),
            parameters,
        })
    }

    /// Returns the scheme.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns what is between `//` and the next `/`: usually host and port. Empty if the URL has none.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the path without its first `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the value of a parameter, decoded.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Returns all parameters, decoded, in their order.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Decodes a percent-encoded text. A `+` stands for itself.
fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.as_bytes().split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? << 4 | digit(digits[1])?) as u8);
        bytes.extend_from_slice(rest);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once() {
        let target =
            Target::parse("consul://a%20b:1/c%20d?dc=west%201&t%61g=%26%3d%25%32%35&x=%C3%A9+&y").unwrap();
        let found: Vec<(&str, &str)> = target.parameters().collect();
        assert_eq!(found, [("dc", "west 1"), ("tag", "&=%25"), ("x", "é+"), ("y", "")]);
        assert_eq!((target.authority(), target.path()), ("a%20b:1", "c%20d"));
    }

    #[test]
    fn an_encoding_that_is_not_valid_is_an_error_that_names_the_parameter() {
        for (query, key, found) in [
            ("zone=a&dc=%", "dc", "%"),
            ("dc=a%2", "dc", "a%2"),
            ("dc=%2x", "dc", "%2x"),
            ("dc=%+1", "dc", "%+1"),
            ("dc=%%41", "dc", "%%41"),
            ("dc=%\u{e9}", "dc", "%\u{e9}"),
            ("dc=%ff", "dc", "%ff"),
            ("d%zz=west", "d%zz", "d%zz"),
        ] {
            let error = Target::parse(&format!("consul://a:1/b?{query}")).unwrap_err();
            let expected = "two hexadecimal digits after each % and UTF-8 when decoded";
            assert_eq!(error.expected, format!("{expected}, in the parameter {key:?}; found {found:?}"));
        }
    }
}
