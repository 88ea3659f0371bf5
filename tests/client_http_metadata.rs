//! Metadata of a client that speaks HTTP: header fields, or an error before anything is sent.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coreloop::client::{CallError, Client};
use coreloop::codec::Codec;
use coreloop::{Code, Context, Server};

#[test]
fn an_entry_that_cannot_be_a_header_field_fails_the_call_and_nothing_is_sent() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counted = heard.clone();
    let server = Server::builder()
        .method("Who.Tenant", move |cx: &Context, (): ()| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(cx.metadata().find("tenant").map(|value| String::from_utf8_lossy(value).into_owned()))
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let address = server.addresses()[0].to_string();
    let client = Client::connect(&format!("http:{address}")).unwrap();
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
        // One that fits does not make up for it.
        let misfit = misfit.with_metadata("tenant", b"fits").unwrap();
        let error = call(&misfit).unwrap_err();
        assert!(matches!(&error, CallError::Metadata { key: named } if named == key), "{key:?}: {error:?}");
        assert_eq!((error.code(), error.may_have_run()), (Code::InvalidArgument, false), "{error}");
    }
    assert_eq!(heard.load(Ordering::Relaxed), 0);
    let fits = client.with_metadata("tenant", "é, 7".as_bytes()).unwrap();
    assert_eq!(call(&fits).unwrap(), "\"é, 7\"".as_bytes());
    // Where metadata are no header fields they may be anything.
    let native = Client::connect(&address).unwrap().with_metadata("a b", b"\r\n").unwrap();
    assert_eq!(call(&native).unwrap(), b"null");
}
