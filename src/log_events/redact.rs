//! Texts lose what may be a secret before they are passed on: user information and secret parameters of URLs, and
//! credentials.
//!
//! No event has a secret on purpose. This is for texts of errors, which may quote a URL or a field of a header.

use std::borrow::Cow;

/// Words in the names of parameters and fields whose values are secrets. Names that end with `_env` are those of
/// variables instead.
const SECRET_WORDS: [&str; 6] = ["token", "passw", "secret", "api_key", "apikey", "credential"];
/// A field whose value is a secret up to its end: a scheme, and credentials that may have several parts.
const AUTHORIZATION: &str = "authorization";
/// In front of credentials, wherever they are.
const BEARER: &str = "bearer ";
/// In place of a secret.
const HIDDEN: &str = "…";

/// Returns the text without secrets.
pub(super) fn redacted(text: &str) -> Cow<'_, str> {
    if !text.contains(['=', ':', ' ']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':', ' ']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        if out.ends_with(':') && rest.starts_with("//") {
            out.push_str("//");
            rest = without_user(&rest[2..], &mut out);
        } else if let Some(ends_value) = secret_after(&out) {
            let begin = rest.find(|c: char| !matches!(c, ' ' | '"' | '\'' | '=' | ':')).unwrap_or(rest.len());
            let (gap, value) = rest.split_at(begin);
            let length = value.find(ends_value).unwrap_or(value.len());
            out.push_str(gap);
            if length > 0 {
                out.push_str(HIDDEN);
            }
            rest = &value[length..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Appends the mark of user information if a URL has some before its host, and returns what follows that.
fn without_user<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let end = rest.find(|c: char| matches!(c, '/' | '?' | '#' | ',' | '"') || c.is_whitespace());
    match rest[..end.unwrap_or(rest.len())].rfind('@') {
        Some(at) => {
            out.push_str(HIDDEN);
            &rest[at..]
        }
        None => rest,
    }
}

/// Returns what ends the secret that follows this text, if one follows.
fn secret_after(out: &str) -> Option<fn(char) -> bool> {
    let is_line_end: fn(char) -> bool = |c| matches!(c, '"' | '\'' | '\n' | '\r');
    let is_value_end: fn(char) -> bool =
        |c| c.is_whitespace() || matches!(c, '&' | '#' | ',' | ';' | '"' | '\'' | ')' | ']' | '}');
    let tail = &out.as_bytes()[out.len().saturating_sub(BEARER.len())..];
    if tail.eq_ignore_ascii_case(BEARER.as_bytes()) {
        return Some(is_value_end);
    }
    let name = out.strip_suffix(['=', ':'])?.trim_end_matches(['"', '\'', ' ']);
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begin = name
        .rfind(|c: char| !is_part(c))
        .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    let name = name[begin..].to_ascii_lowercase().replace('-', "_");
    if name.ends_with(AUTHORIZATION) {
        return Some(is_line_end);
    }
    let is_secret = !name.ends_with("_env") && SECRET_WORDS.iter().any(|word| name.contains(word));
    is_secret.then_some(is_value_end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_be_a_secret_is_hidden() {
        for (text, shown) in [
            ("nothing to hide: 10.0.0.1:80 is away", "nothing to hide: 10.0.0.1:80 is away"),
            (
                "consul://127.0.0.1:8500/demo?token=s3cret&zone=a",
                "consul://127.0.0.1:8500/demo?token=…&zone=a",
            ),
            ("consul://h:1/demo?token_env=NAME&wait=1s", "consul://h:1/demo?token_env=NAME&wait=1s"),
            ("http://me:pa@ss@host:1/x: refused", "http://…@host:1/x: refused"),
            ("etcd://a@b,c@d/p", "etcd://…@b,c@d/p"),
            ("X-Consul-Token: abc, retry: 1", "X-Consul-Token: …, retry: 1"),
            ("authorization: Basic YTpi Zzz", "authorization: …"),
            ("{\"Authorization\": \"Digest a=1, b=2\"}", "{\"Authorization\": \"…\"}"),
            ("sent Bearer abc.def, got 401", "sent Bearer …, got 401"),
            ("api_key = 'k1' and password:p", "api_key = '…' and password:…"),
            ("token=", "token="),
            ("", ""),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,60}", secret in "[a-z0-9]{8}") {
            redacted(&text);
            let url = format!("{text} consul://u:{secret}@h/{secret}x?a=1&token={secret}");
            let shown = redacted(&url).replace(&format!("/{secret}x"), "");
            prop_assert!(!shown.contains(&secret) || text.contains(&secret), "{}", shown);
        }
    }
}
