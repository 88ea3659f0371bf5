//! Client metadata: sent by the address's protocol, or the call fails before anything is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::PATIENCE;
use coreloop::client::{CallError, Client};
use coreloop::codec::Codec;
use coreloop::message::Priority;
use coreloop::wire::Scheme;
use coreloop::{Code, Context, Server};

/// Returns a server that answers with the tenant in the metadata, and counts its calls.
fn tenant_server() -> (Server, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let tenant = move |cx: &Context, (): ()| {
        counted.fetch_add(1, Ordering::Relaxed);
        let tenant = cx.metadata().find("tenant").unwrap_or(b"nobody");
        Ok(String::from_utf8_lossy(tenant).into_owned())
    };
    let server = Server::builder().method("Who.Tenant", tenant).listen("127.0.0.1:0").start().unwrap();
    (server, calls)
}

#[test]
fn metadata_fail_where_the_protocol_has_none() {
    let (server, calls) = tenant_server();
    let mut without = 0;
    for scheme in Scheme::ALL.iter().filter(|scheme| !scheme.carries_metadata()) {
        let address = format!("{}:{}", scheme.name(), server.addresses()[0]);
        let client = Client::connect(&address).unwrap();
        let codec = if *scheme == Scheme::JsonRpc { Codec::Json } else { Codec::Gob };
        let mut nothing = Vec::new();
        coreloop::codec::encode_plain(codec, &(), &mut nothing).unwrap();
        let call = |client: &Client| client.call_bytes("Who.Tenant", codec, &nothing);
        let error = call(&client.with_metadata("tenant", b"7").unwrap()).unwrap_err();
        let CallError::Metadata { scheme: named, key } = &error else { panic!("{address}: {error:?}") };
        assert_eq!((named, &**key), (scheme, "tenant"));
        assert_eq!((error.code(), error.may_have_run()), (Code::InvalidArgument, false), "{error}");
        let words = error.to_string();
        assert!(words.contains(scheme.name()) && words.contains("transmits no metadata"), "{words}");
        assert_eq!(calls.load(Ordering::Relaxed), without, "{address}: nothing was sent");
        // The connection still works, and a deadline is not metadata.
        call(&client.with_timeout(PATIENCE)).unwrap();
        // These are hints: a call goes without them.
        call(&client.with_priority(Priority::Lowest).unwrap().with_want_load(true).unwrap()).unwrap();
        without += 2;
        assert_eq!(calls.load(Ordering::Relaxed), without);
    }
    assert_eq!(without, 6);
}

#[test]
fn an_invalid_header_field_fails_the_call_unsent() {
    let (server, calls) = tenant_server();
    let address = server.addresses()[0].to_string();
    let client = Client::connect(format!("http:{address}")).unwrap();
    let call = |client: &Client| client.call_bytes("Who.Tenant", Codec::Json, b"null");
    for (key, value) in [
        ("a b", &b"x"[..]),
        ("é", b"x"),
        ("a:", b"x"),
        ("tenant", b"x\r\ny: z"),
        ("tenant", b"\0"),
        ("tenant", b"\x7f"),
        ("Host", b"elsewhere"),
        ("content-length", b"0"),
        ("transfer-encoding", b"chunked"),
        ("connection", b"close"),
        ("Connect-Timeout-Ms", b"1"),
    ] {
        let misfit = client.with_metadata(key, value).unwrap();
        // A valid entry does not make up for it.
        let misfit = misfit.with_metadata("tenant", b"fits").unwrap();
        let error = call(&misfit).unwrap_err();
        assert!(
            matches!(&error, CallError::Metadata { scheme: Scheme::Http, key: named } if named == key),
            "{key:?}: {error:?}"
        );
        assert_eq!((error.code(), error.may_have_run()), (Code::InvalidArgument, false), "{error}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    let fits = client.with_metadata("tenant", "é, 7".as_bytes()).unwrap();
    assert_eq!(call(&fits).unwrap(), "\"é, 7\"".as_bytes());
    // Where metadata entries are not header fields they may contain any bytes.
    let native = Client::connect(&address).unwrap().with_metadata("a b", b"\r\n").unwrap();
    assert_eq!(call(&native).unwrap(), b"\"nobody\"");
}
