//! JSON Web Tokens (RFC 7519) for coreloop: an [`Interceptor`] that verifies the bearer tokens of calls with the public keys
//! of a JWKS file (RFC 7517), on a worker, and sets the principal and its roles.
//!
//! ```no_run
//! use coreloop::Server;
//! use coreloop::interceptor::Permissions;
//! use coreloop_jwt::JwtCheck;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = JwtCheck::from_file("/etc/orders/jwks.json")?.issuer("https://login.example").audience("orders");
//! let server = Server::builder()
//!     .interceptor(tokens)
//!     .interceptor(Permissions::new().allow("Orders.*", ["role:admin"]))
//!     .start()?;
//! # Ok(())
//! # }
//! ```
//!
//! What is checked, after RFC 8725: the signature, with a key whose type and, if it states one, whose algorithm is that of the
//! token; the time of expiry, which must be there, and `nbf`; the issuer and the audience, once they are set. The algorithm
//! `none` does not exist here, and HMAC only for a key that the file has as a symmetric one. No token appears in an output.
//!
//! Keys rotate with the file: a token that names a key which is not known makes it read again, at most every ten seconds, on
//! the worker that verifies the token; [`JwtCheck::reload`] does it at once. A file that cannot be used changes nothing.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod keys;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use coreloop::Status;
use coreloop::interceptor::{Admit, AdmitCall, Hooks, Interceptor};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

pub use keys::JwksError;
use keys::VerifyingKeys;

/// The most bytes of a token.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The most roles of a token.
const ROLES_MAX: usize = 1024;
/// The least time between two reads of the file because of tokens with unknown keys.
const RELOAD_EVERY: Duration = Duration::from_secs(10);

/// Admits calls that carry a valid JSON Web Token as their bearer token, and sets the principal to its subject, with its
/// roles. Others are refused as `unauthenticated`.
///
/// The signature is verified on a worker ([`Admit::OnWorker`]): it takes 20 to 200 µs, by the kind of the key. Calls without
/// a token are refused on the reactor.
pub struct JwtCheck {
    file: PathBuf,
    /// Held for a look-up and for an exchange, both short.
    keys: RwLock<Arc<VerifyingKeys>>,
    /// When the file may be read again because of an unknown key.
    next_reload: std::sync::Mutex<Instant>,
    validation: Validation,
    principal_claim: String,
    roles_claim: String,
    is_optional: bool,
}

type Roles = Arc<[Arc<str>]>;

/// Why a token was refused; the text is for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NotAToken,
    UnknownKey,
    Invalid(&'static str),
}

impl JwtCheck {
    /// Reads the keys from a JWKS file: `{"keys": [...]}`. RSA, EC (P-256 and P-384), Ed25519 and symmetric keys are used,
    /// others, and those for encryption, are skipped.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is larger than 1 MiB, is not of this form, or has no key that can be used or more than 256.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<JwtCheck, JwksError> {
        let file = path.into();
        let keys = VerifyingKeys::read(&file)?;
        // Without a configured audience, tokens with one are accepted.
        let validation =
            Validation { validate_nbf: true, leeway: 60, validate_aud: false, ..Validation::default() };
        Ok(JwtCheck {
            file,
            keys: RwLock::new(Arc::new(keys)),
            next_reload: std::sync::Mutex::new(Instant::now() + RELOAD_EVERY),
            validation,
            principal_claim: "sub".to_owned(),
            roles_claim: "roles".to_owned(),
            is_optional: false,
        })
    }

    /// Sets the issuer that tokens must name (`iss`). Without one, the keys alone decide.
    pub fn issuer(mut self, issuer: &str) -> JwtCheck {
        self.validation.set_issuer(&[issuer]);
        self.validation.required_spec_claims.insert("iss".to_owned());
        self
    }

    /// Sets the audience that tokens must name (`aud`), perhaps among others. Without one, tokens for other services of the
    /// same issuer are accepted.
    pub fn audience(mut self, audience: &str) -> JwtCheck {
        self.validation.set_audience(&[audience]);
        self.validation.validate_aud = true;
        self.validation.required_spec_claims.insert("aud".to_owned());
        self
    }

    /// Sets the seconds by which the clocks of issuer and server may differ. Default: 60.
    pub fn leeway_secs(mut self, seconds: u64) -> JwtCheck {
        self.validation.leeway = seconds;
        self
    }

    /// Sets the claim that is the principal. Default: `sub`. A token without it is refused.
    pub fn principal_claim(mut self, name: &str) -> JwtCheck {
        self.principal_claim = name.to_owned();
        self
    }

    /// Sets the claim that has the roles: a list of texts, or one text with spaces in between, as `scope` has. Default:
    /// `roles`. A token without it has no roles.
    pub fn roles_claim(mut self, name: &str) -> JwtCheck {
        self.roles_claim = name.to_owned();
        self
    }

    /// Lets calls without an `authorization` entry pass, with the principal that an interceptor before has set, or none. A
    /// token that is not valid is refused all the same.
    pub fn optional(mut self) -> JwtCheck {
        self.is_optional = true;
        self
    }

    /// Reads the file again, and returns the number of its keys.
    ///
    /// # Errors
    ///
    /// As of [`JwtCheck::from_file`]: the keys in use remain.
    pub fn reload(&self) -> Result<usize, JwksError> {
        let keys = VerifyingKeys::read(&self.file)?;
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(count)
    }

    /// Returns the file of the keys.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn keys(&self) -> Arc<VerifyingKeys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether it is time to look for new keys, and notes that it is done.
    fn may_reload(&self, now: Instant) -> bool {
        let mut next = self.next_reload.lock().unwrap_or_else(PoisonError::into_inner);
        let may = now >= *next;
        if may {
            *next = now + RELOAD_EVERY;
        }
        may
    }

    /// Verifies a token, and returns the principal and its roles.
    fn verify(&self, token: &[u8], now: Instant) -> Result<(String, Roles), Refusal> {
        let header = decode_header(token).map_err(|_| Refusal::NotAToken)?;
        let claims = match self.claims(token, &header) {
            // An unknown key may be a new one. A file that cannot be read now is tried again with a later token.
            Err(Refusal::UnknownKey) if self.may_reload(now) && self.reload().is_ok() => {
                self.claims(token, &header)?
            }
            claims => claims?,
        };
        let principal = claims.get(&self.principal_claim).and_then(Value::as_str);
        let principal =
            principal.filter(|name| !name.is_empty()).ok_or(Refusal::Invalid("it names no subject"))?;
        let roles = match claims.get(&self.roles_claim) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => text.split_whitespace().map(Arc::from).collect(),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<Arc<str>>> =
                    list.iter().map(|role| role.as_str().map(Arc::from)).collect();
                texts.ok_or(Refusal::Invalid("its roles are not texts"))?
            }
            Some(_) => return Err(Refusal::Invalid("its roles are not texts")),
        };
        if roles.len() > ROLES_MAX {
            return Err(Refusal::Invalid("it has more than 1024 roles"));
        }
        Ok((principal.to_owned(), roles.into()))
    }

    fn claims(&self, token: &[u8], header: &Header) -> Result<Map<String, Value>, Refusal> {
        let keys = self.keys();
        let key = keys.key_for(header).ok_or(Refusal::UnknownKey)?;
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        match decode(token, key, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::ExpiredSignature => Refusal::Invalid("it has expired"),
                ErrorKind::ImmatureSignature => Refusal::Invalid("it is not valid yet"),
                ErrorKind::InvalidIssuer => Refusal::Invalid("it is of another issuer"),
                ErrorKind::InvalidAudience => Refusal::Invalid("it is for another audience"),
                ErrorKind::MissingRequiredClaim(_) => Refusal::Invalid("it lacks one of exp, iss and aud"),
                ErrorKind::InvalidSignature => Refusal::Invalid("its signature is wrong"),
                _ => Refusal::NotAToken,
            }),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotAToken => f.write_str("the bearer token is no JSON Web Token that is accepted here"),
            Refusal::UnknownKey => f.write_str("the bearer token is signed with a key that is not known"),
            Refusal::Invalid(why) => write!(f, "the bearer token is refused: {why}"),
        }
    }
}

impl Interceptor for JwtCheck {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        let token = match call.bearer_token() {
            Ok(Some(token)) => token,
            Ok(None) if self.is_optional => return Admit::Continue,
            Ok(None) => {
                let text = "expected a bearer token in the entry or field \"authorization\", found none";
                return Admit::Refuse(Status::unauthenticated(text));
            }
            Err(status) => return Admit::Refuse(status),
        };
        if token.len() > TOKEN_BYTES_MAX {
            let text =
                format!("expected a bearer token of at most {TOKEN_BYTES_MAX} bytes, found {}", token.len());
            return Admit::Refuse(Status::unauthenticated(text));
        }
        if !call.is_on_worker() {
            return Admit::OnWorker;
        }
        match self.verify(token, Instant::now()) {
            Ok((principal, roles)) => {
                call.set_principal_with_roles(principal, roles);
                Admit::Continue
            }
            Err(refusal) => Admit::Refuse(Status::unauthenticated(refusal.to_string())),
        }
    }
}

impl fmt::Debug for JwtCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtCheck")
            .field("file", &self.file)
            .field("keys", &self.keys().len())
            .finish_non_exhaustive()
    }
}
