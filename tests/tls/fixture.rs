//! A server with TLS, and clients of it.

use std::time::{Duration, Instant};

use coreloop::client::{CallError, Client, ClientTls, Direct};
use coreloop::codec::{Argument, Body, Codec, RawBytes};
use coreloop::config::Config;
use coreloop::context::Outcome;
use coreloop::server::{ReloadError, TlsFileError};
use coreloop::service::{Method, finish};
use coreloop::{Context, Server, Status, TlsSnapshot};

use crate::authority::{Authority, Pair, text};

/// The longest that anything may take before a test fails: far more than it ever needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds; fails the test after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the server knows of its caller.
fn who(cx: &Context<'_>, _: ()) -> Result<Vec<String>, Status> {
    let Some(certificate) = cx.peer().certificate() else { return Ok(Vec::new()) };
    let mut known = vec![certificate.subject().to_owned()];
    known.extend(certificate.dns_names().iter().cloned());
    known.extend(certificate.spiffe_id().map(str::to_owned));
    Ok(known)
}

fn echo(cx: &Context<'_>, codec: Codec, body: Body<'_>, out: &mut Vec<u8>) -> Outcome {
    match <RawBytes as Argument>::decode(codec, body) {
        Ok(bytes) => finish::<RawBytes>(cx, codec, Ok(bytes), out),
        Err(error) => finish::<RawBytes>(cx, codec, Err(error.into()), out),
    }
}

pub struct Fixture {
    pub authority: Authority,
    pub pair: Pair,
    pub server: Server,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture::with(|_, _| {})
    }

    pub fn with(change: impl FnOnce(&Authority, &mut Config)) -> Fixture {
        let authority = Authority::new();
        let pair = authority.server();
        let server = Server::builder()
            .configure(|config| {
                config.listen = vec!["127.0.0.1:0".to_owned()];
                config.cores = 1;
                config.tls.certificate = vec![text(&pair.certificate)];
                config.tls.key = vec![text(&pair.key)];
                change(&authority, config);
            })
            .method("Greeter.Greet", |_: &Context<'_>, name: String| Ok(format!("hello, {name}")))
            .method_of(Method::new::<RawBytes, RawBytes>("Greeter.Echo", Box::new(echo)).unwrap())
            .method("Greeter.Who", who)
            .start()
            .unwrap();
        Fixture { authority, pair, server }
    }

    /// `host:port`, where the host is one of the certificate's names.
    pub fn address(&self) -> String {
        self.server.addresses()[0].to_string()
    }

    pub fn settings(&self) -> ClientTls {
        let mut tls = ClientTls::default();
        tls.ca = Some(self.authority.ca());
        tls
    }

    pub fn settings_of(&self, pair: &Pair) -> ClientTls {
        let mut tls = self.settings();
        tls.certificate = Some(pair.certificate.clone());
        tls.key = Some(pair.key.clone());
        tls
    }

    pub fn direct(&self, tls: &ClientTls) -> Result<Direct, CallError> {
        direct(&self.address(), tls)
    }

    /// A client with an address of this scheme.
    pub fn client(&self, scheme: &str, settings: &ClientTls) -> Client {
        let address = format!("{scheme}:{}", self.address());
        Client::builder(address).tls(|tls| *tls = settings.clone()).build().unwrap()
    }

    /// Reads the files again.
    pub fn reload(&self) -> Result<(), TlsFileError> {
        let reloader = self.server.reloader();
        match reloader.reload(reloader.config()) {
            Ok(_) => Ok(()),
            Err(ReloadError::Tls(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    pub fn tls(&self) -> TlsSnapshot {
        self.server.stats().tls.unwrap()
    }
}

/// Connects to `host:port`; for threads, which cannot share a fixture.
pub fn direct(address: &str, tls: &ClientTls) -> Result<Direct, CallError> {
    Direct::connect_tls(format!("native+tls:{address}"), tls, Some(PATIENCE))
}

/// Calls `Greeter.Greet`.
pub fn greet(direct: &Direct) -> Result<String, CallError> {
    let reply = direct.call_bytes("Greeter.Greet", Codec::Json, br#""you""#)?;
    Ok(String::from_utf8(reply).unwrap())
}

/// Returns the failure of TLS that an error is made of.
#[track_caller]
pub fn failure(error: &CallError) -> &coreloop::TlsFailure {
    let error = match error {
        CallError::Connect(error) | CallError::Lost { error, .. } => error,
        other => panic!("expected a failure of TLS; found {other}"),
    };
    coreloop::TlsFailure::of(error).unwrap_or_else(|| panic!("expected a failure of TLS; found {error}"))
}
