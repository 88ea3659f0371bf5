//! The TLS settings of a server.

/// Settings of TLS (feature `tls`; docs/tls.md). A server without certificates serves no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whether the listeners require TLS, once there is a certificate. Default: [`TlsMode::Required`]. A listener with
    /// `+tls` or `+plain` behind its protocol (`native+tls:0.0.0.0:6551`) requires it or serves none. In-memory listeners
    /// serve none otherwise.
    pub mode: TlsMode,

    /// PEM files with the server's certificates, each followed by those between it and its authority. Default: empty, no
    /// TLS. With several a client gets the one for the name that it asks for (SNI), and the first for an unknown name.
    pub certificate: Vec<String>,

    /// PEM files with the private keys, in the order of the certificates.
    pub key: Vec<String>,

    /// A PEM file with the authorities that clients' certificates must be of. Default: empty, clients are asked for no
    /// certificate.
    pub client_ca: String,

    /// Whether clients need a certificate, once there is `client_ca`. Default: [`ClientAuth::Required`].
    pub client_auth: ClientAuth,

    /// A PEM file with revocation lists of these authorities. Default: empty, nothing is revoked. If it is set, every
    /// authority needs a list there, and a list that has expired refuses the clients of its authority.
    pub client_crl: String,
}

/// Whether listeners require TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsMode {
    /// No listener serves TLS.
    Off,
    /// A connection that begins with a handshake has TLS, and others are served without it.
    Optional,
    /// A connection that begins with anything else is refused.
    #[default]
    Required,
}

impl TlsMode {
    /// The names in a config file, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["off", "optional", "required"];

    /// Returns the name used in a config file.
    pub fn name(self) -> &'static str {
        TlsMode::NAMES[self as usize]
    }

    /// Returns the mode with that name, if there is one.
    pub fn from_name(name: &str) -> Option<TlsMode> {
        [TlsMode::Off, TlsMode::Optional, TlsMode::Required].into_iter().find(|mode| mode.name() == name)
    }
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Clients are not asked for one.
    Off,
    /// Clients may present one; it must be valid then.
    Optional,
    /// Clients without a valid one are refused.
    #[default]
    Required,
}

impl ClientAuth {
    /// The names in a config file, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["off", "optional", "required"];

    /// Returns the name used in a config file.
    pub fn name(self) -> &'static str {
        ClientAuth::NAMES[self as usize]
    }

    /// Returns the value with that name, if there is one.
    pub fn from_name(name: &str) -> Option<ClientAuth> {
        [ClientAuth::Off, ClientAuth::Optional, ClientAuth::Required]
            .into_iter()
            .find(|auth| auth.name() == name)
    }
}
