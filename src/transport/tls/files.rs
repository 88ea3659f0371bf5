//! Reading certificates, keys, roots and revocation lists from files. It waits for the disk: never on a reactor's thread.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// What is wrong with the files of a TLS configuration. The text names the file, what was expected in it, and what was
/// found; it never contains a key.
pub struct TlsFileError {
    setting: &'static str,
    path: PathBuf,
    fault: TlsFileFault,
}

/// What is wrong with a file of a TLS configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsFileFault {
    /// It cannot be read.
    Read(io::Error),
    /// It is not a PEM file, or not a complete one, such as one that is being written.
    NotPem(String),
    /// It has no section of the kind that is needed, such as a certificate or a private key.
    Missing(&'static str),
    /// What it contains cannot be used.
    Unusable(String),
    /// The private key does not belong to the certificate.
    KeyMismatch {
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate has expired, or is not valid yet.
    NotValidNow {
        /// The seconds since the epoch from which on it is valid.
        not_before: i64,
        /// The seconds since the epoch until which it is valid.
        not_after: i64,
        /// The current time, in seconds since the epoch.
        now: i64,
    },
}

impl TlsFileError {
    pub(super) fn new(setting: &'static str, path: &Path, fault: TlsFileFault) -> TlsFileError {
        TlsFileError { setting, path: path.to_owned(), fault }
    }

    /// Returns the setting that names the file, such as `tls.certificate`.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is wrong with it.
    pub fn fault(&self) -> &TlsFileFault {
        &self.fault
    }
}

crate::error_text::debug_as_text!(TlsFileError);

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}: ", self.setting, self.path.display())?;
        match &self.fault {
            TlsFileFault::Read(error) => write!(f, "cannot be read: {error}"),
            TlsFileFault::NotPem(why) => write!(f, "expected complete PEM sections; {why}"),
            TlsFileFault::Missing(kind) => write!(f, "expected a PEM section with {kind}; found none"),
            TlsFileFault::Unusable(why) => write!(f, "cannot be used: {why}"),
            TlsFileFault::KeyMismatch { key } => {
                write!(
                    f,
                    "expected the certificate of the private key in {}; it has another public key",
                    key.display()
                )
            }
            TlsFileFault::NotValidNow { not_before, now, .. } if now < not_before => {
                write!(
                    f,
                    "expected a certificate that is valid now; it will be from {} on",
                    date(*not_before)
                )
            }
            TlsFileFault::NotValidNow { not_after, .. } => {
                write!(f, "expected a certificate that is valid now; it expired on {}", date(*not_after))
            }
        }
    }
}

impl std::error::Error for TlsFileError {}

fn date(seconds: i64) -> String {
    let (year, month, day) = crate::calendar::date(i128::from(seconds.div_euclid(86_400)));
    format!("{year:04}-{month:02}-{day:02}")
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsFileError> {
    fs::read(path).map_err(|error| TlsFileError::new(setting, path, TlsFileFault::Read(error)))
}

/// Reads all sections of one kind.
fn sections<T: PemObject>(
    setting: &'static str,
    path: &Path,
    bytes: &[u8],
    kind: &'static str,
) -> Result<Vec<T>, TlsFileError> {
    let found: Result<Vec<T>, pem::Error> = T::pem_slice_iter(bytes).collect();
    let found = found
        .map_err(|error| TlsFileError::new(setting, path, TlsFileFault::NotPem(format!("found {error}"))))?;
    if found.is_empty() {
        return Err(TlsFileError::new(setting, path, TlsFileFault::Missing(kind)));
    }
    Ok(found)
}

/// Reads a chain of certificates, the leaf first.
pub(super) fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    sections(setting, path, &read(setting, path)?, "a certificate")
}

/// Reads the first private key.
pub(super) fn private_key(
    setting: &'static str,
    path: &Path,
) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let bytes = read(setting, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let fault = match error {
            pem::Error::NoItemsFound => TlsFileFault::Missing("a private key"),
            // The error's text contains no part of the file.
            other => TlsFileFault::NotPem(format!("found {other}")),
        };
        TlsFileError::new(setting, path, fault)
    })
}

/// Reads the certificates of authorities.
pub(super) fn roots(setting: &'static str, path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsFileError::new(setting, path, TlsFileFault::Unusable(error.to_string())))?;
    }
    Ok(roots)
}

/// Reads certificate revocation lists.
#[cfg(feature = "server")]
pub(super) fn revocation_lists(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsFileError> {
    sections(setting, path, &read(setting, path)?, "a revocation list (X509 CRL)")
}
