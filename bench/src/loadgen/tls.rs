//! The options of TLS, and what the connections to a server with TLS share.

use std::path::PathBuf;

use coreloop::client::ClientTls;
use coreloop::transport::{DetachedTls, TlsClient};
use socket2::Socket;

/// The TLS settings of the connections, for addresses like `native+tls:HOST:PORT` and `https:HOST:PORT`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsOptions {
    /// With TLS: trust the authorities in this PEM file, instead of those of the system.
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub ca: Option<PathBuf>,
    /// With TLS: present the certificate in this PEM file.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "TLS")]
    pub cert: Option<PathBuf>,
    /// With TLS: the private key of the certificate.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "TLS")]
    pub key: Option<PathBuf>,
    /// With TLS: expect a certificate for this name, instead of the host of the address.
    #[arg(long, value_name = "NAME", help_heading = "TLS")]
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// Returns the settings, if any is given.
    pub fn settings(&self) -> Option<ClientTls> {
        let mut settings = ClientTls::default();
        settings.ca = self.ca.clone();
        settings.certificate = self.cert.clone();
        settings.key = self.key.clone();
        settings.server_name = self.server_name.clone();
        (settings != ClientTls::default()).then_some(settings)
    }

    /// Returns an error if a setting is given for an address without TLS.
    pub fn refuse(&self, address: &str) -> Result<(), String> {
        match self.settings() {
            None => Ok(()),
            Some(_) => Err(format!(
                "--ca, --cert, --key and --server-name: {address} has no TLS (native+tls:HOST:PORT and https:HOST:PORT have)"
            )),
        }
    }
}

/// The TLS of the connections to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTls {
    /// The settings, with the name of the server.
    pub settings: ClientTls,
    client: TlsClient,
    alpn: &'static [&'static [u8]],
}

impl TargetTls {
    /// Reads the files. `host` is what the certificate must be for, unless the settings name something else. An error is one
    /// line of text.
    pub fn load(
        settings: Option<ClientTls>,
        host: &str,
        alpn: &'static [&'static [u8]],
    ) -> Result<TargetTls, String> {
        let mut settings = settings.unwrap_or_default();
        settings.server_name.get_or_insert_with(|| host.to_owned());
        let client = TlsClient::load(&settings).map_err(|error| error.to_string())?;
        Ok(TargetTls { settings, client, alpn })
    }

    /// Begins a session over a socket whose connect was begun.
    pub fn begin(&self, socket: Socket) -> std::io::Result<DetachedTls> {
        DetachedTls::new(&self.client, socket, None, self.alpn)
    }
}
