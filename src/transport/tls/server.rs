//! What the connections of a server share: certificates, the authorities of clients, ticket keys, counters.
//!
//! A set of certificates is made completely from its files before it replaces another one. A listener looks at a counter
//! when it accepts, and takes the new set without waiting for anything.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};

use super::engine::alert_name;
use super::files::{self, TlsFileError, TlsFileFault};
use super::gate::HandshakeGate;
use super::provider::{digest, provider};
use super::stream::{Socket, TlsStream};
use super::tickets::TicketKeys;
use crate::config::{ClientAuth, TlsConfig};
use crate::tls::{PeerCertificate, TlsAlert, TlsFailure, TlsFailureKind, TlsSnapshot};

const SECONDS_OF_A_DAY: i64 = 86_400;
/// From this many days before its end on, a certificate is reported when the server starts and when it is loaded again.
const EXPIRES_SOON_DAYS: i64 = 14;

/// A certificate of a server, with its validity.
struct LoadedCertificate {
    path: PathBuf,
    /// Seconds since the epoch.
    not_after: i64,
    /// The certificates of the file.
    chain: Vec<CertificateDer<'static>>,
}

/// A set of certificates, and what is made of it.
struct CertificateSet {
    config: Arc<ServerConfig>,
    loaded: Vec<LoadedCertificate>,
    /// What decides which clients are accepted.
    client_rules: Vec<u8>,
    tickets: Arc<TicketKeys>,
}

/// Where the keys of tickets may come from.
enum TicketSource<'a> {
    /// The set before.
    Set(&'a CertificateSet),
    /// What another process has written; empty if there was none.
    State(&'a [u8]),
}

impl TicketSource<'_> {
    /// Returns the keys, if they were used with these rules for clients.
    fn for_rules(&self, client_rules: &[u8]) -> Option<Arc<TicketKeys>> {
        match self {
            TicketSource::Set(before) => {
                (before.client_rules == client_rules).then(|| before.tickets.clone())
            }
            TicketSource::State(bytes) => {
                let digest = digest_of(client_rules);
                TicketKeys::from_bytes(bytes.strip_prefix(digest.as_ref())?).map(Arc::new)
            }
        }
    }
}

fn digest_of(client_rules: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, client_rules)
}

/// Certificates that were read and are not used yet.
pub(crate) struct PreparedCertificates(Arc<CertificateSet>);

impl PreparedCertificates {
    /// Returns the files that have other contents than those in use: certificates, and the rules for clients.
    pub(crate) fn changed_files(&self, server: &TlsServer) -> Vec<String> {
        let (before, now) = (server.current(), &self.0);
        let is_other = |loaded: &&LoadedCertificate| {
            !before.loaded.iter().any(|other| other.path == loaded.path && other.chain == loaded.chain)
        };
        let changed = now.loaded.iter().filter(is_other).map(|loaded| loaded.path.display().to_string());
        let settings = &server.settings;
        let rules = [&settings.client_ca, &settings.client_crl].into_iter().filter(|path| !path.is_empty());
        let rules = rules.cloned().collect::<Vec<_>>().join(", ");
        changed.chain((before.client_rules != now.client_rules).then_some(rules)).collect()
    }
}

/// The counters of TLS. Handshakes are rare compared with calls, so that all reactors share them.
#[derive(Debug, Default)]
pub(crate) struct TlsCounters {
    full: AtomicU64,
    resumed: AtomicU64,
    failures: [AtomicU64; TlsFailureKind::ALL.len()],
    alerts_sent: AlertCounters,
    alerts_received: AlertCounters,
}

/// How often each alert was sent, or received, by its number.
#[derive(Debug)]
struct AlertCounters(Box<[AtomicU64]>);

impl Default for AlertCounters {
    fn default() -> AlertCounters {
        AlertCounters((0..=u8::MAX).map(|_| AtomicU64::new(0)).collect())
    }
}

impl AlertCounters {
    fn add(&self, number: u8) {
        self.0[usize::from(number)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the alerts that there were, by name.
    fn read(&self) -> Vec<(String, u64)> {
        let mut counts: Vec<(String, u64)> = Vec::new();
        for (number, counter) in (0..=u8::MAX).zip(&self.0) {
            let count = counter.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            let name = alert_name(number);
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => counts.push((name, count)),
            }
        }
        counts
    }
}

impl TlsCounters {
    pub(super) fn on_handshake(&self, is_resumed: bool) {
        let counter = if is_resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_failure(&self, failure: &TlsFailure) {
        self.failures[failure.kind() as usize].fetch_add(1, Ordering::Relaxed);
        match failure.alert() {
            Some(TlsAlert::Sent(number)) => self.alerts_sent.add(number),
            Some(TlsAlert::Received(number)) => self.alerts_received.add(number),
            None => {}
        }
    }
}

/// The TLS of a server.
pub(crate) struct TlsServer {
    settings: TlsConfig,
    /// Held only to exchange the pointer.
    current: Mutex<Arc<CertificateSet>>,
    /// Changes with `current`.
    generation: AtomicU64,
    gate: Arc<HandshakeGate>,
    counters: Arc<TlsCounters>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Reads the files; `handshakes_max` is for all reactors together. With the `ticket_state` of the process before this one
    /// its tickets are opened, unless the rules for clients are others.
    pub(crate) fn load(
        settings: &TlsConfig,
        handshakes_max: usize,
        ticket_state: Option<&[u8]>,
    ) -> Result<TlsServer, TlsFileError> {
        let set = CertificateSet::load(settings, TicketSource::State(ticket_state.unwrap_or_default()))?;
        Ok(TlsServer {
            settings: settings.clone(),
            current: Mutex::new(Arc::new(set)),
            generation: AtomicU64::new(0),
            gate: HandshakeGate::new(handshakes_max),
            counters: Arc::default(),
        })
    }

    /// Reads the files again, without using them yet. It waits for the disk.
    pub(crate) fn prepare(&self) -> Result<PreparedCertificates, TlsFileError> {
        CertificateSet::load(&self.settings, TicketSource::Set(&self.current()))
            .map(|set| PreparedCertificates(Arc::new(set)))
    }

    /// Uses what was read for connections that are accepted from now on.
    pub(crate) fn exchange(&self, prepared: PreparedCertificates) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = prepared.0;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Writes the keys of tickets, which are secret, and for which rules they are.
    #[cfg(feature = "restart")]
    pub(crate) fn ticket_state(&self) -> Vec<u8> {
        let set = self.current();
        [digest_of(&set.client_rules).as_ref(), &set.tickets.to_bytes()].concat()
    }

    fn current(&self) -> Arc<CertificateSet> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a line for each certificate that expires soon.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let now = now();
        let soon = |certificate: &&LoadedCertificate| {
            certificate.not_after - now < EXPIRES_SOON_DAYS * SECONDS_OF_A_DAY
        };
        let set = self.current();
        let line = |certificate: &LoadedCertificate| {
            let days = (certificate.not_after - now).max(0) / SECONDS_OF_A_DAY;
            format!("the certificate in {} expires in {days} days", certificate.path.display())
        };
        set.loaded.iter().filter(soon).map(line).collect()
    }

    pub(crate) fn snapshot(&self) -> TlsSnapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let set = self.current();
        TlsSnapshot {
            full_handshakes: count(&counters.full),
            resumed_handshakes: count(&counters.resumed),
            failures: counters.failures.each_ref().map(count),
            alerts_sent: counters.alerts_sent.read(),
            alerts_received: counters.alerts_received.read(),
            handshakes_in_progress: self.gate.in_progress(),
            certificates: set
                .loaded
                .iter()
                .map(|loaded| (loaded.path.display().to_string(), loaded.not_after))
                .collect(),
        }
    }

    /// Returns what a listener needs to accept sessions. Peers without TLS are served too unless it `is_required`.
    pub(crate) fn acceptor(self: &Arc<TlsServer>, is_required: bool, alpn: Vec<Vec<u8>>) -> TlsAcceptor {
        let set = self.current();
        let generation = self.generation.load(Ordering::Acquire);
        let config = with_alpn(&set, &alpn);
        TlsAcceptor { server: self.clone(), is_required, alpn, used: RefCell::new((generation, config)) }
    }
}

/// Makes the sessions of one listener.
pub(crate) struct TlsAcceptor {
    server: Arc<TlsServer>,
    is_required: bool,
    alpn: Vec<Vec<u8>>,
    /// The set in use, and its generation.
    used: RefCell<(u64, Arc<ServerConfig>)>,
}

impl TlsAcceptor {
    /// Returns whether another handshake may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.server.gate.has_room()
    }

    /// Creates the session of a connection that was accepted.
    pub(crate) fn accept<S: Socket>(&self, socket: S) -> TlsStream<S> {
        let mut used = self.used.borrow_mut();
        let generation = self.server.generation.load(Ordering::Acquire);
        // If the set is just being exchanged, the one before serves this connection.
        if used.0 != generation
            && let Ok(set) = self.server.current.try_lock()
        {
            *used = (generation, with_alpn(&set, &self.alpn));
        }
        let session = ServerSession {
            config: used.1.clone(),
            is_required: self.is_required,
            counters: self.server.counters.clone(),
        };
        TlsStream::server(socket, session, self.server.gate.enter())
    }
}

/// What the session of one connection is made of.
pub(crate) struct ServerSession {
    pub(super) config: Arc<ServerConfig>,
    pub(super) is_required: bool,
    pub(super) counters: Arc<TlsCounters>,
}

fn with_alpn(set: &CertificateSet, alpn: &[Vec<u8>]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&set.config);
    config.alpn_protocols = alpn.to_vec();
    Arc::new(config)
}

fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs() as i64
}

impl CertificateSet {
    fn load(settings: &TlsConfig, tickets: TicketSource<'_>) -> Result<CertificateSet, TlsFileError> {
        let mut by_name = NamedCertificates::default();
        let mut loaded = Vec::new();
        for (certificate, key) in settings.certificate.iter().zip(&settings.key) {
            let (pair, not_after) = load_pair(Path::new(certificate), Path::new(key))?;
            loaded.push(LoadedCertificate { path: certificate.into(), not_after, chain: pair.cert.clone() });
            by_name.add(pair);
        }
        let (verifier, client_rules) = client_verifier(settings)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites of TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(by_name));
        // Tickets resume sessions; nothing is stored for them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // A resumed session is not verified again: other rules for clients need other keys.
        let tickets = tickets.for_rules(&client_rules).unwrap_or_else(|| Arc::new(TicketKeys::new()));
        config.ticketer = tickets.clone();
        config.max_early_data_size = 0;
        Ok(CertificateSet { config: Arc::new(config), loaded, client_rules, tickets })
    }
}

/// Reads a certificate and its key, and checks that they can be used together, now. Returns when the certificate expires.
fn load_pair(certificate: &Path, key: &Path) -> Result<(Arc<CertifiedKey>, i64), TlsFileError> {
    const SETTING: &str = "tls.certificate";
    let fault = |fault| TlsFileError::new(SETTING, certificate, fault);
    let chain = files::certificates(SETTING, certificate)?;
    let secret = files::private_key("tls.key", key)?;
    let signer = provider()
        .key_provider
        .load_private_key(secret)
        .map_err(|error| TlsFileError::new("tls.key", key, TlsFileFault::Unusable(error.to_string())))?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Ok(()) => {}
        Err(Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            return Err(fault(TlsFileFault::KeyMismatch { key: key.to_owned() }));
        }
        Err(Error::InconsistentKeys(_)) => {}
        Err(error) => return Err(fault(TlsFileFault::Unusable(error.to_string()))),
    }
    for der in &pair.cert {
        let (not_before, not_after) = PeerCertificate::new(der).validity();
        let now = now();
        if now < not_before || now > not_after {
            return Err(fault(TlsFileFault::NotValidNow { not_before, not_after, now }));
        }
    }
    let not_after = pair.cert.first().map_or(0, |leaf| PeerCertificate::new(leaf).validity().1);
    Ok((Arc::new(pair), not_after))
}

/// Returns the verifier of clients' certificates, and bytes that are equal for equal rules.
fn client_verifier(settings: &TlsConfig) -> Result<(Arc<dyn ClientCertVerifier>, Vec<u8>), TlsFileError> {
    let path = Path::new(&settings.client_ca);
    if settings.client_ca.is_empty() || settings.client_auth == ClientAuth::Off {
        return Ok((WebPkiClientVerifier::no_client_auth(), Vec::new()));
    }
    let roots = files::roots("tls.client_ca", path)?;
    // Another version of this program may compare them.
    let mut rules = match settings.client_auth {
        ClientAuth::Required => vec![1],
        ClientAuth::Optional => vec![2],
        ClientAuth::Off => Vec::new(),
    };
    for root in &roots.roots {
        rules.extend_from_slice(&root.subject);
        rules.extend_from_slice(&root.subject_public_key_info);
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if !settings.client_crl.is_empty() {
        let lists = files::revocation_lists("tls.client_crl", Path::new(&settings.client_crl))?;
        lists.iter().for_each(|list| rules.extend_from_slice(list));
        // Without a current list of an authority it is unknown which of its certificates are revoked.
        builder = builder.with_crls(lists).only_check_end_entity_revocation().enforce_revocation_expiration();
    }
    if settings.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| {
        use rustls::server::VerifierBuilderError;
        let (setting, path) = match &error {
            VerifierBuilderError::InvalidCrl(_) => ("tls.client_crl", Path::new(&settings.client_crl)),
            _ => ("tls.client_ca", path),
        };
        TlsFileError::new(setting, path, TlsFileFault::Unusable(error.to_string()))
    })?;
    Ok((verifier, rules))
}

/// Certificates by the names that they are for. A client that names none of them gets the first.
#[derive(Debug, Default)]
struct NamedCertificates {
    first: Option<Arc<CertifiedKey>>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl NamedCertificates {
    /// Adds a certificate. For a name that several certificates have, the first is used.
    fn add(&mut self, pair: Arc<CertifiedKey>) {
        if let Some(leaf) = pair.cert.first() {
            for name in PeerCertificate::new(leaf).dns_names() {
                let name = name.to_ascii_lowercase();
                let (map, name) = match name.strip_prefix('*') {
                    Some(rest) => (&mut self.wildcard, rest.to_owned()),
                    None => (&mut self.exact, name),
                };
                map.entry(name).or_insert_with(|| pair.clone());
            }
        }
        self.first.get_or_insert(pair);
    }
}

impl ResolvesServerCert for NamedCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            // A `*` stands for one label (RFC 9525, section 6.3).
            let below = || self.wildcard.get(&name[name.find('.')?..]);
            self.exact.get(&name).or_else(below)
        });
        named.or(self.first.as_ref()).cloned()
    }
}
