//! The keys of a JWKS file.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

/// The most bytes of the file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most keys of the file.
const KEYS_MAX: usize = 256;

/// Keys by their id.
pub(crate) struct VerifyingKeys {
    by_id: HashMap<String, VerifyingKey>,
    /// Keys without an id: each token without one is verified with the only one whose kind fits.
    nameless: Vec<VerifyingKey>,
}

struct VerifyingKey {
    key: DecodingKey,
    /// The only algorithm that the key is for, if it states one.
    algorithm: Option<Algorithm>,
}

impl VerifyingKey {
    /// A token chooses among the algorithms of the key's own kind, so an RSA key is never used as the secret of an HMAC.
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.key.family() == algorithm.family() && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

/// The file of the keys cannot be used.
pub struct JwksError {
    path: PathBuf,
    fault: JwksFault,
}

enum JwksFault {
    Io(io::Error),
    Form(serde_json::Error),
    NoKeys,
    TooMany(usize),
    Twice(String),
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys of {}: ", self.path.display())?;
        match &self.fault {
            JwksFault::Io(error) => error.fmt(f),
            JwksFault::Form(error) => {
                write!(f, "expected a JSON Web Key Set, `{{\"keys\": [...]}}`: {error}")
            }
            JwksFault::NoKeys => {
                f.write_str("expected at least one key for signatures (RSA, EC P-256 or P-384, Ed25519)")
            }
            JwksFault::TooMany(found) => write!(f, "expected at most {KEYS_MAX} keys, found {found}"),
            JwksFault::Twice(id) => write!(f, "expected each key id once, found {id:?} twice"),
        }
    }
}

impl fmt::Debug for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for JwksError {}

/// The keys are parsed one by one: a key of a kind that is not known does not spoil the others.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl VerifyingKeys {
    pub(crate) fn read(path: &Path) -> Result<VerifyingKeys, JwksError> {
        let read = || {
            let bytes = std::fs::metadata(path)?.len();
            if bytes > FILE_BYTES_MAX {
                let text = format!("expected at most {FILE_BYTES_MAX} bytes, found {bytes}");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
            std::fs::read(path)
        };
        let keys = read().map_err(JwksFault::Io).and_then(|bytes| VerifyingKeys::parse(&bytes));
        keys.map_err(|fault| JwksError { path: path.to_owned(), fault })
    }

    fn parse(bytes: &[u8]) -> Result<VerifyingKeys, JwksFault> {
        let set: KeySet = serde_json::from_slice(bytes).map_err(JwksFault::Form)?;
        if set.keys.len() > KEYS_MAX {
            return Err(JwksFault::TooMany(set.keys.len()));
        }
        let mut keys = VerifyingKeys { by_id: HashMap::new(), nameless: Vec::new() };
        for key in set.keys {
            let Ok(jwk) = serde_json::from_value::<Jwk>(key) else { continue };
            if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
                continue;
            }
            let Ok(key) = DecodingKey::from_jwk(&jwk) else { continue };
            let algorithm = match jwk.common.key_algorithm.as_ref().map(|name| name.to_string().parse()) {
                None => None,
                Some(Ok(algorithm)) => Some(algorithm),
                // An algorithm for encryption, or one that is not known.
                Some(Err(_)) => continue,
            };
            let key = VerifyingKey { key, algorithm };
            match jwk.common.key_id {
                Some(id) if keys.by_id.contains_key(&id) => return Err(JwksFault::Twice(id)),
                Some(id) => drop(keys.by_id.insert(id, key)),
                None => keys.nameless.push(key),
            }
        }
        if keys.len() == 0 {
            return Err(JwksFault::NoKeys);
        }
        Ok(keys)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len() + self.nameless.len()
    }

    /// Returns the key that a token with this header was signed with. A token without a key id has the only key that fits.
    pub(crate) fn key_for(&self, header: &Header) -> Option<&DecodingKey> {
        let fits = |key: &&VerifyingKey| key.fits(header.alg);
        let key = match &header.kid {
            Some(id) => self.by_id.get(id).filter(fits),
            None => {
                let mut fitting = self.by_id.values().chain(&self.nameless).filter(fits);
                fitting.next().filter(|_| fitting.next().is_none())
            }
        };
        key.map(|key| &key.key)
    }
}
