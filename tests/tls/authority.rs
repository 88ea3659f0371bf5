//! An authority that issues certificates of every kind into a folder.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub serial: SerialNumber,
}

/// What a certificate says.
#[derive(Default)]
pub struct Wanted<'a> {
    pub names: &'a [&'a str],
    pub uri: Option<&'a str>,
    pub common_name: Option<&'a str>,
    pub has_expired: bool,
}

/// An authority, and the folder that it writes to.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    issued: std::cell::Cell<u64>,
}

impl Authority {
    pub fn new() -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Each has a name of its own, as authorities have.
        params.distinguished_name.push(DnType::CommonName, folder.path().display().to_string());
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { folder, issuer: Issuer::new(params, key), issued: std::cell::Cell::new(1) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The certificate of the authority.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub fn issue(&self, name: &str, wanted: &Wanted<'_>) -> Pair {
        let names: Vec<String> = wanted.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, wanted.common_name.unwrap_or(name));
        if let Some(uri) = wanted.uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after =
            if wanted.has_expired { date_time_ymd(2021, 1, 1) } else { date_time_ymd(2090, 1, 1) };
        self.issued.set(self.issued.get() + 1);
        let serial = SerialNumber::from(self.issued.get());
        params.serial_number = Some(serial.clone());
        let secret = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&secret, &self.issuer).unwrap();
        let pair = Pair {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            serial,
        };
        std::fs::write(&pair.certificate, certificate.pem()).unwrap();
        std::fs::write(&pair.key, secret.serialize_pem()).unwrap();
        pair
    }

    /// A certificate for localhost.
    pub fn server(&self) -> Pair {
        self.issue("server", &Wanted { names: &["localhost", "127.0.0.1", "::1"], ..Wanted::default() })
    }

    /// A certificate of a client with a SPIFFE id.
    pub fn client(&self) -> Pair {
        let uri = Some("spiffe://shop/orders");
        self.issue("client", &Wanted { names: &["orders.shop.example"], uri, ..Wanted::default() })
    }

    /// Writes a revocation list.
    pub fn revoke(&self, revoked: &[&Pair]) -> PathBuf {
        let entry = |pair: &&Pair| RevokedCertParams {
            serial_number: pair.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.path("revocations.pem");
        std::fs::write(&path, params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
