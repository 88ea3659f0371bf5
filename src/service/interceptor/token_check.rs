//! Bearer tokens from a fixed set.

use std::hint::black_box;
use std::sync::Arc;

use super::{Admit, AdmitCall, Hooks, Interceptor};
use crate::status::Status;

/// The most tokens of a [`TokenCheck`]: each call is compared with all of them.
const TOKENS_MAX: usize = 1024;

/// Admits calls that carry one of the bearer tokens of a fixed set, in the metadata entry or HTTP field
/// `authorization` (RFC 6750), and sets the principal to the name of the token. Others are refused as `unauthenticated`.
///
/// A token is compared with all tokens of the set, and each comparison takes the same time wherever the tokens differ; it
/// depends on the length of the caller's token only. No token appears in an output. Raw JSON-RPC and net/rpc connections
/// transmit no metadata: their calls are refused.
///
/// ```
/// use coreloop::interceptor::TokenCheck;
/// use coreloop::{Context, Server};
///
/// let tokens = TokenCheck::new([("alice", "s3cret-of-alice"), ("batch", "s3cret-of-batch")]);
/// let builder = Server::builder()
///     .interceptor(tokens)
///     .method("User.Name", |cx: &Context<'_>, (): ()| Ok(cx.principal().map(str::to_owned)));
/// ```
pub struct TokenCheck {
    tokens: Vec<(Arc<str>, Box<[u8]>)>,
    exempt: Vec<String>,
}

impl TokenCheck {
    /// Creates the check of these tokens, each with the name of its owner. Several tokens may have the same name: to
    /// replace a token, add the new one before the old one is removed.
    ///
    /// # Panics
    ///
    /// A token is empty, or there are more than 1,024.
    pub fn new<N: Into<Arc<str>>, T: AsRef<[u8]>>(tokens: impl IntoIterator<Item = (N, T)>) -> TokenCheck {
        let tokens: Vec<(Arc<str>, Box<[u8]>)> =
            tokens.into_iter().map(|(name, token)| (name.into(), token.as_ref().into())).collect();
        assert!(tokens.iter().all(|(_, token)| !token.is_empty()), "expected tokens of at least one byte");
        assert!(tokens.len() <= TOKENS_MAX, "expected at most {TOKENS_MAX} tokens, found {}", tokens.len());
        TokenCheck { tokens, exempt: Vec::new() }
    }

    /// Exempts the methods that match a pattern, as in
    /// [`ServerBuilder::interceptor_for`](crate::server::ServerBuilder::interceptor_for): their callers need no token, and
    /// have no principal.
    pub fn except(mut self, pattern: &str) -> TokenCheck {
        self.exempt.push(pattern.to_owned());
        self
    }

    /// Returns the name of the token's owner.
    fn name_of(&self, given: &[u8]) -> Option<&Arc<str>> {
        let mut found = None;
        for (index, (_, token)) in self.tokens.iter().enumerate() {
            let is_same = constant_time_eq(given, token);
            // Not the comparison but its outcome is looked at, after each token has been compared in full.
            found = if is_same { Some(index) } else { found };
        }
        found.map(|index| &self.tokens[index].0)
    }
}

/// Compares two byte strings in a time that depends on the length of the first one only.
fn constant_time_eq(given: &[u8], token: &[u8]) -> bool {
    let mut difference = given.len() ^ token.len();
    for (at, byte) in given.iter().enumerate() {
        // An index within the token, whatever its length; it is not empty.
        difference |= usize::from(byte ^ token[at % token.len()]);
        // Keeps the compiler from ending the loop at the first difference.
        difference = black_box(difference);
    }
    black_box(difference) == 0
}

/// Returns the token of the value of an `authorization` entry. The scheme is compared without regard to case
/// (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

impl Interceptor for TokenCheck {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if self.exempt.iter().any(|pattern| super::chain::matches(pattern, call.method())) {
            return Admit::Continue;
        }
        let Some(value) = call.metadata().find("authorization") else {
            let text = "expected a bearer token in the entry or field \"authorization\", found none";
            return Admit::Refuse(Status::unauthenticated(text));
        };
        let Some(token) = bearer(value) else {
            let text =
                "expected a bearer token in the entry or field \"authorization\", found another scheme";
            return Admit::Refuse(Status::unauthenticated(text));
        };
        match self.name_of(token) {
            Some(name) => {
                call.set_principal(name.clone());
                Admit::Continue
            }
            None => Admit::Refuse(Status::unauthenticated("the bearer token is not known")),
        }
    }
}

impl std::fmt::Debug for TokenCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.tokens.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_the_same_only_as_a_whole() {
        for (given, token, expected) in [
            ("secret", "secret", true),
            ("secreT", "secret", false),
            ("Secret", "secret", false),
            ("secre", "secret", false),
            ("secrets", "secret", false),
            ("secretsecret", "secret", false),
            ("", "secret", false),
            ("a", "aa", false),
            ("aa", "a", false),
            ("a", "a", true),
        ] {
            assert_eq!(constant_time_eq(given.as_bytes(), token.as_bytes()), expected, "{given} {token}");
        }
        // A difference in the length beyond one byte is one.
        assert!(!constant_time_eq(&[b'a'; 257], b"a"));
    }

    #[test]
    fn each_token_has_its_name() {
        let check = TokenCheck::new([("ann", "one"), ("bob", "two"), ("ann", "three")]);
        let names = ["one", "two", "three", "four", ""]
            .map(|token| check.name_of(token.as_bytes()).map(|name| &**name));
        assert_eq!(names, [Some("ann"), Some("bob"), Some("ann"), None, None]);
        assert_eq!(format!("{check:?}"), r#"["ann", "bob", "ann"]"#, "no token is printed");
        assert_eq!(TokenCheck::new([("", ""); 0]).name_of(b"x"), None);
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        for (value, expected) in [
            (&b"Bearer abc"[..], Some(&b"abc"[..])),
            (b"bearer  abc ", Some(b"abc")),
            (b"BEARER abc", Some(b"abc")),
            (b"Basic abc", None),
            (b"Bearerabc", None),
            (b"Bearer", None),
            (b"Bearer ", Some(b"")),
            (b"", None),
        ] {
            assert_eq!(bearer(value), expected, "{value:?}");
        }
    }
}
