//! What the connections of a client share: the roots that it trusts, its own certificate, and the sessions that it may resume.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::{IpAddr, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::engine::Engine;
use super::files::{self, TlsFileError, TlsFileFault};
use super::provider::provider;
use super::stream::{Socket, TlsStream};
use crate::tls::{TlsFailure, TlsFailureKind};

/// The servers whose sessions a client remembers.
const RESUMED_SERVERS_MAX: usize = 256;

/// The TLS settings of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientTls {
    /// A PEM file with the authorities that servers' certificates must be of. Default: none, those that the system trusts
    /// (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    pub ca: Option<PathBuf>,

    /// The name that the server's certificate must have, and that is sent to it (SNI). Default: none, the host of the
    /// address; `localhost` over a Unix socket and in memory.
    pub server_name: Option<String>,

    /// A PEM file with the client's own certificate and those between it and the authority. Default: none; a server that
    /// requires one refuses the connection. Needs [`ClientTls::key`].
    pub certificate: Option<PathBuf>,

    /// A PEM file with the private key of that certificate.
    pub key: Option<PathBuf>,
}

/// Why the TLS settings of a client cannot be used.
#[non_exhaustive]
pub enum ClientTlsError {
    /// A file cannot be used.
    File(TlsFileError),
    /// The name is neither a DNS name nor an IP address.
    ServerName {
        /// The name.
        name: String,
    },
    /// A certificate without a key, or a key without a certificate.
    HalfPair {
        /// What is given.
        found: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// The system has no certificates of authorities that it trusts.
    NoSystemRoots {
        /// What was found instead.
        found: String,
    },
}

crate::error_text::debug_as_text!(ClientTlsError);

impl fmt::Display for ClientTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientTlsError::File(error) => error.fmt(f),
            ClientTlsError::ServerName { name } => {
                write!(f, "the name of the server: expected a DNS name or an IP address; found {name:?}")
            }
            ClientTlsError::HalfPair { found, missing } => {
                write!(f, "expected a certificate and its key; found `{found}` without `{missing}`")
            }
            ClientTlsError::NoSystemRoots { found } => write!(
                f,
                "expected certificates of authorities that this system trusts; {found} (`ca` names a file with others)"
            ),
        }
    }
}

impl std::error::Error for ClientTlsError {}

impl From<TlsFileError> for ClientTlsError {
    fn from(error: TlsFileError) -> ClientTlsError {
        ClientTlsError::File(error)
    }
}

/// The TLS of a client, shared by its connections.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &TlsClient) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server_name == other.server_name
    }
}

impl Eq for TlsClient {}

impl TlsClient {
    /// Reads the files. It waits for the disk.
    ///
    /// # Errors
    ///
    /// [`ClientTlsError`].
    pub fn load(settings: &ClientTls) -> Result<TlsClient, ClientTlsError> {
        let roots = match &settings.ca {
            Some(path) => Arc::new(files::roots("ca", path)?),
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites of TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        let mut config = match (&settings.certificate, &settings.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) => return Err(ClientTlsError::HalfPair { found: "certificate", missing: "key" }),
            (None, Some(_)) => return Err(ClientTlsError::HalfPair { found: "key", missing: "certificate" }),
            (Some(certificate), Some(key)) => {
                let chain = files::certificates("certificate", certificate)?;
                let secret = files::private_key("key", key)?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| {
                    let fault = match error {
                        rustls::Error::InconsistentKeys(_) => TlsFileFault::KeyMismatch { key: key.clone() },
                        other => TlsFileFault::Unusable(other.to_string()),
                    };
                    TlsFileError::new("certificate", certificate, fault)
                })?
            }
        };
        config.resumption = Resumption::in_memory_sessions(RESUMED_SERVERS_MAX);
        let server_name = settings.server_name.as_deref().map(server_name).transpose()?;
        Ok(TlsClient { config: Arc::new(config), server_name })
    }

    /// Begins a session over a connection to `host` (the part of the address before the port); `None` over a Unix socket
    /// or in memory.
    pub(crate) fn secure<S: Socket>(
        &self,
        socket: S,
        host: Option<&str>,
        alpn: &[&[u8]],
    ) -> Result<TlsStream<S>, TlsFailure> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host.unwrap_or("localhost"))
                .map_err(|error| TlsFailure::new(TlsFailureKind::Certificate, error.to_string()))?,
        };
        Ok(TlsStream::client(socket, Engine::client(self.config.clone(), name, alpn)?))
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, ClientTlsError> {
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Ok(ServerName::IpAddress(IpAddr::from(ip)));
    }
    ServerName::try_from(text.to_owned()).map_err(|_| ClientTlsError::ServerName { name: text.to_owned() })
}

/// Returns the authorities that the system trusts, which are read once.
fn system_roots() -> Result<Arc<RootCertStore>, ClientTlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system may have certificates that are not usable; the others are.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let found = if errors.is_empty() { "found none".to_owned() } else { errors.join("; ") };
        return Err(ClientTlsError::NoSystemRoots { found });
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}
