//! Bearer tokens from a fixed set, given by the program or read from a file.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Admit, AdmitCall, Hooks, Interceptor};
use crate::error_text::debug_as_text;
use crate::status::Status;

/// The most bytes of a file of tokens.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The most bytes of a token: a longer one of a caller is not known.
const TOKEN_BYTES_MAX: usize = 4096;

/// Admits calls that carry one of the bearer tokens of a set, in the metadata entry or HTTP field `authorization`
/// (RFC 6750), and sets the principal to the name of the token, with its roles. Others are refused as `unauthenticated`.
///
/// A token is found by a keyed hash of all its bytes, and compared in a time that depends on the length of the caller's
/// token only: nothing can be learned from the time that a refusal takes. No token appears in an output. Raw JSON-RPC and
/// net/rpc connections transmit no metadata: their calls are refused.
///
/// ```
/// use coreloop::interceptor::TokenCheck;
/// use coreloop::{Context, Server};
///
/// let tokens = TokenCheck::new([("alice", "s3cret-of-alice"), ("batch", "s3cret-of-batch")])
///     .roles("alice", ["admin"]);
/// let builder = Server::builder()
///     .interceptor(tokens)
///     .method("User.Name", |cx: &Context<'_>, (): ()| Ok(cx.principal().map(str::to_owned)));
/// ```
pub struct TokenCheck {
    /// Held for a look-up and for an exchange, both short.
    tokens: RwLock<TokenSet>,
    file: Option<PathBuf>,
    exempt: Vec<String>,
    is_optional: bool,
}

/// Tokens by their keyed hash.
#[derive(Default)]
pub(crate) struct TokenSet {
    keyed: RandomState,
    owners: HashMap<u64, TokenOwner>,
}

struct TokenOwner {
    token: Box<[u8]>,
    name: Arc<str>,
    roles: Arc<[Arc<str>]>,
}

impl TokenSet {
    /// Adds the token of an owner, in place of the same token of another.
    fn add(&mut self, owner: TokenOwner) {
        assert!(!owner.token.is_empty(), "expected tokens of at least one byte");
        let hash = self.keyed.hash_one(&owner.token);
        if let Some(other) = self.owners.insert(hash, owner)
            && other.token != self.owners[&hash].token
        {
            // Two tokens have one hash, of 64 bits: another key separates them.
            self.keyed = RandomState::new();
            let owners: Vec<TokenOwner> =
                std::mem::take(&mut self.owners).into_values().chain([other]).collect();
            owners.into_iter().for_each(|owner| self.add(owner));
        }
    }

    fn owner_of(&self, given: &[u8]) -> Option<&TokenOwner> {
        if given.is_empty() || given.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let owner = self.owners.get(&self.keyed.hash_one(given))?;
        constant_time_eq(given, &owner.token).then_some(owner)
    }

    /// Returns whether both have the same tokens, each of the same owner with the same roles.
    fn is_same(&self, other: &TokenSet) -> bool {
        let has = |owner: &TokenOwner| {
            let found = other.owner_of(&owner.token);
            found.is_some_and(|found| found.name == owner.name && found.roles == owner.roles)
        };
        self.owners.len() == other.owners.len() && self.owners.values().all(has)
    }

    /// Reads lines of a name, a token and perhaps roles.
    fn parse(text: &str) -> Result<TokenSet, TokenFileFault> {
        let mut set = TokenSet::default();
        for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text.trim())) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut parts = text.split_ascii_whitespace();
            let (name, token, roles, more) = (parts.next(), parts.next(), parts.next(), parts.next());
            let (Some(name), Some(token), None) = (name, token, more) else {
                return Err(TokenFileFault::Line {
                    line,
                    expected: "`NAME TOKEN` or `NAME TOKEN ROLE,ROLE`",
                });
            };
            if token.len() > TOKEN_BYTES_MAX {
                return Err(TokenFileFault::Line { line, expected: "a token of at most 4096 bytes" });
            }
            let roles = roles.into_iter().flat_map(|roles| roles.split(','));
            let roles: Arc<[Arc<str>]> = roles.filter(|role| !role.is_empty()).map(Arc::from).collect();
            let before = set.owners.len();
            set.add(TokenOwner { token: token.as_bytes().into(), name: name.into(), roles });
            if set.owners.len() == before {
                return Err(TokenFileFault::Line { line, expected: "each token once" });
            }
        }
        Ok(set)
    }

    fn read(path: &Path) -> Result<TokenSet, TokenFileError> {
        let fault = |fault| TokenFileError { path: path.to_owned(), fault };
        let read = || {
            let bytes = std::fs::metadata(path)?.len();
            if bytes > FILE_BYTES_MAX {
                let text = format!("expected at most {FILE_BYTES_MAX} bytes, found {bytes}");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
            std::fs::read_to_string(path)
        };
        TokenSet::parse(&read().map_err(|error| fault(TokenFileFault::Io(error)))?).map_err(fault)
    }
}

/// A file of tokens cannot be used. Its text contains no token.
pub struct TokenFileError {
    path: PathBuf,
    fault: TokenFileFault,
}

#[derive(Debug)]
enum TokenFileFault {
    Io(io::Error),
    Line { line: usize, expected: &'static str },
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            TokenFileFault::Io(error) => write!(f, "tokens of {}: {error}", self.path.display()),
            TokenFileFault::Line { line, expected } => {
                write!(f, "tokens of {}, line {line}: expected {expected}", self.path.display())
            }
        }
    }
}

debug_as_text!(TokenFileError);

impl std::error::Error for TokenFileError {}

impl TokenCheck {
    /// Creates the check of these tokens, each with the name of its owner. Several tokens may have the same name: to
    /// replace a token, add the new one before the old one is removed.
    ///
    /// # Panics
    ///
    /// A token is empty.
    pub fn new<N: Into<Arc<str>>, T: AsRef<[u8]>>(tokens: impl IntoIterator<Item = (N, T)>) -> TokenCheck {
        let mut set = TokenSet::default();
        for (name, token) in tokens {
            set.add(TokenOwner { token: token.as_ref().into(), name: name.into(), roles: Arc::default() });
        }
        TokenCheck::of(set, None)
    }

    fn of(set: TokenSet, file: Option<PathBuf>) -> TokenCheck {
        TokenCheck { tokens: RwLock::new(set), file, exempt: Vec::new(), is_optional: false }
    }

    /// Reads the tokens from a file: on each line a name, a token, and perhaps roles with commas in between, separated by
    /// spaces. Empty lines and those that begin with `#` are skipped. [`TokenCheck::reload`] reads it again.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is larger than 16 MiB, or has a line of another form.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<TokenCheck, TokenFileError> {
        let path = path.into();
        Ok(TokenCheck::of(TokenSet::read(&path)?, Some(path)))
    }

    /// Reads the file of [`TokenCheck::from_file`] again, and returns the number of tokens. Calls that have been admitted
    /// go on. Without a file nothing changes.
    ///
    /// # Errors
    ///
    /// As of [`TokenCheck::from_file`]: the tokens in use remain.
    pub fn reload(&self) -> Result<usize, TokenFileError> {
        if self.file.is_some() {
            self.exchange(self.read_again()?);
        }
        Ok(self.tokens.read().unwrap_or_else(PoisonError::into_inner).owners.len())
    }

    /// Reads the file, for [`TokenCheck::exchange`]. Without a file there are no tokens.
    pub(crate) fn read_again(&self) -> Result<TokenSet, TokenFileError> {
        self.file.as_ref().map_or_else(|| Ok(TokenSet::default()), |path| TokenSet::read(path))
    }

    /// Returns whether the tokens in use are these.
    pub(crate) fn has(&self, others: &TokenSet) -> bool {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).is_same(others)
    }

    pub(crate) fn exchange(&self, tokens: TokenSet) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Sets the roles of the owner of this name.
    pub fn roles<R: Into<Arc<str>>>(mut self, name: &str, roles: impl IntoIterator<Item = R>) -> TokenCheck {
        let roles: Arc<[Arc<str>]> = roles.into_iter().map(Into::into).collect();
        let tokens = self.tokens.get_mut().unwrap_or_else(PoisonError::into_inner);
        for owner in tokens.owners.values_mut().filter(|owner| *owner.name == *name) {
            owner.roles = roles.clone();
        }
        self
    }

    /// Exempts the methods that match a pattern, as in
    /// [`ServerBuilder::interceptor_for`](crate::server::ServerBuilder::interceptor_for): their callers need no token, and
    /// have no principal.
    pub fn except(mut self, pattern: &str) -> TokenCheck {
        self.exempt.push(pattern.to_owned());
        self
    }

    /// Lets calls without an `authorization` entry pass, with the principal that an interceptor before has set, or none:
    /// [`Permissions`](super::Permissions) decides. A token that is not known is refused all the same.
    pub fn optional(mut self) -> TokenCheck {
        self.is_optional = true;
        self
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

impl Interceptor for TokenCheck {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if self.exempt.iter().any(|pattern| super::chain::matches(pattern, call.method())) {
            return Admit::Continue;
        }
        let token = match call.bearer_token() {
            Ok(Some(token)) => token,
            Ok(None) if self.is_optional => return Admit::Continue,
            Ok(None) => {
                let text = "expected a bearer token in the entry or field \"authorization\", found none";
                return Admit::Refuse(Status::unauthenticated(text));
            }
            Err(status) => return Admit::Refuse(status),
        };
        match self.tokens.read().unwrap_or_else(PoisonError::into_inner).owner_of(token) {
            Some(owner) => {
                call.set_principal_with_roles(owner.name.clone(), owner.roles.clone());
                Admit::Continue
            }
            None => Admit::Refuse(Status::unauthenticated("the bearer token is not known")),
        }
    }
}

impl fmt::Debug for TokenCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<&Arc<str>> = tokens.owners.values().map(|owner| &owner.name).collect();
        names.sort_unstable();
        f.debug_list().entries(names).finish()
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
    fn each_token_has_its_owner() {
        let check =
            TokenCheck::new([("ann", "one"), ("bob", "two"), ("ann", "three")]).roles("ann", ["admin"]);
        let owner = |token: &str| {
            let tokens = check.tokens.read().unwrap();
            tokens.owner_of(token.as_bytes()).map(|owner| (owner.name.to_string(), owner.roles.len()))
        };
        let found = ["one", "two", "three", "four", "", "onex"].map(owner);
        let [ann, bob] = ["ann", "bob"].map(str::to_owned);
        assert_eq!(found, [Some((ann.clone(), 1)), Some((bob, 0)), Some((ann, 1)), None, None, None]);
        assert_eq!(owner(&"one".repeat(TOKEN_BYTES_MAX)), None);
        assert_eq!(format!("{check:?}"), r#"["ann", "ann", "bob"]"#, "no token is printed");
    }

    #[test]
    fn a_file_has_a_name_a_token_and_roles_on_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let owner = |check: &TokenCheck, token: &str| {
            let tokens = check.tokens.read().unwrap();
            tokens.owner_of(token.as_bytes()).map(|owner| format!("{} {:?}", owner.name, owner.roles))
        };
        write("# names, tokens, roles\n\nann one admin,ops\r\n  bob\ttwo\n");
        let check = TokenCheck::from_file(&path).unwrap();
        assert_eq!(owner(&check, "one").unwrap(), r#"ann ["admin", "ops"]"#);
        assert_eq!(owner(&check, "two").unwrap(), "bob []");
        // What cannot be used changes nothing, and is not printed.
        for (text, expected) in [
            ("ann s3cret\nbob\n", "line 2: expected `NAME TOKEN` or"),
            ("ann s3cret a b\n", "line 1: expected `NAME TOKEN` or"),
            ("ann s3cret\nbob s3cret\n", "line 2: expected each token once"),
            (&format!("ann {}\n", "s3cret".repeat(700)), "line 1: expected a token of at most 4096 bytes"),
        ] {
            write(text);
            let error = check.reload().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(expected) && !shown.contains("s3cret"), "{shown}");
            assert!(owner(&check, "one").is_some());
        }
        std::fs::write(&path, b"ann \xff\n").unwrap();
        assert!(check.reload().unwrap_err().to_string().contains("UTF-8"));
        write("ann three\n");
        assert_eq!(check.reload().unwrap(), 1);
        assert_eq!([owner(&check, "one"), owner(&check, "three")], [None, Some("ann []".to_owned())]);
        std::fs::remove_file(&path).unwrap();
        assert!(check.reload().is_err() && owner(&check, "three").is_some());
    }
}
