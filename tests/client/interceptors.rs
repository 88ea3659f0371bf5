//! Interceptors of a client: what they see and change, and one end for each call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use coreloop::client::{CallError, Client, ClientInterceptor, EndedClientCall, NewCall, WhenFull};
use coreloop::codec::{Codec, Plain};
use coreloop::server::ServerBuilder;
use coreloop::service::Method;
use coreloop::{Code, Context, Server, Status};

use crate::common::rig::{ON_PURPOSE, Rig, rig_with};
use crate::common::{PATIENCE, eventually, shared};

/// When a call began, by its interceptor.
struct Began(u64);

/// Counts calls and keeps their ends; adds a name; refuses `*.Forbidden`.
#[derive(Default)]
struct Watch {
    begun: AtomicU64,
    ends: Mutex<Vec<(String, Code, bool)>>,
}

impl ClientInterceptor for Watch {
    fn before_send(&self, call: &mut NewCall<'_>) -> Result<(), Status> {
        call.insert(Began(self.begun.fetch_add(1, Ordering::SeqCst)));
        if call.method().ends_with(".Forbidden") {
            return Err(Status::permission_denied("by the client"));
        }
        if call.carries_metadata() {
            call.set_metadata("name", b"wrong")?;
            call.set_metadata("name", b"ann")?;
        }
        Ok(())
    }

    fn on_end(&self, end: &EndedClientCall<'_>) {
        assert!(
            end.extensions.get::<Began>().is_some_and(|began| began.0 < self.begun.load(Ordering::SeqCst))
        );
        self.ends.lock().unwrap().push((end.method.to_owned(), end.code, end.error.is_some()));
    }
}

fn server() -> Rig {
    rig_with(&["127.0.0.1:0"], |_| {}, with_methods)
}

fn with_methods(builder: ServerBuilder) -> ServerBuilder {
    let count = Method::server_stream::<Plain<i64>, Plain<i64>>("Stream.Count", |_cx, n, sink| {
        (0..n).try_for_each(|n| sink.try_send(&n))?;
        Ok(())
    });
    let sum = Method::client_stream::<Plain<i64>, Plain<i64>>("Stream.Sum", |_cx, numbers| {
        numbers.collect::<Result<Vec<i64>, Status>>().map(|numbers| numbers.iter().sum())
    });
    builder
        .method("Name.Get", |cx: &Context<'_>, _n: i64| {
            Ok(String::from_utf8_lossy(cx.metadata().find("name").unwrap_or(b"none")).into_owned())
        })
        .method_of(count.unwrap())
        .method_of(sum.unwrap().kind(coreloop::service::Kind::Blocking))
}

fn watched(address: &str) -> (Client, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let client = Client::builder(address).interceptor(watch.clone()).connect().unwrap();
    (client, watch)
}

fn ask(client: &Client, method: &str) -> Result<Vec<u8>, CallError> {
    client.call_bytes(method, Codec::Json, b"1")
}

#[test]
fn each_form_of_call_is_seen_and_has_one_end() {
    let _turn = shared();
    let rig = server();
    let (client, watch) = watched(&rig.address.to_string());
    assert_eq!(
        ask(&client, "Name.Get").unwrap(),
        b"\"ann\"",
        "the connection is no call, and the name was replaced"
    );
    // The caller's own entry is replaced too, and a clone has the same interceptors.
    let other = client.with_metadata("name", b"bob").unwrap();
    assert_eq!(ask(&other, "Name.Get").unwrap(), b"\"ann\"");
    assert_eq!(ask(&client, "Inline.Panic").unwrap_err().code(), Code::Internal);
    assert_eq!(ask(&client, "No.Method").unwrap_err().code(), Code::Unimplemented);
    let refused = ask(&client, "Pooled.Forbidden").unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string().contains("by the client")),
        (Code::PermissionDenied, true)
    );
    client.send_bytes("Pooled.Double", Codec::Json, b"1").unwrap();
    let batch = client.batch();
    let (first, second) =
        (batch.start_bytes("Name.Get", Codec::Json, b"1"), batch.start_bytes("Name.Get", Codec::Json, b"1"));
    batch.send();
    assert_eq!((first.wait().unwrap(), second.wait().unwrap()), (b"\"ann\"".to_vec(), b"\"ann\"".to_vec()));
    // A batch that is not sent.
    let batch = client.batch();
    let unsent = batch.start_bytes("Name.Get", Codec::Json, b"1");
    drop(batch);
    assert!(unsent.wait().is_err());
    // Streams.
    let numbers: Result<Vec<Vec<u8>>, _> =
        client.server_stream_bytes("Stream.Count", Codec::Json, b"3").unwrap().collect();
    assert_eq!(numbers.unwrap().len(), 3);
    let upload = client.client_stream_bytes("Stream.Sum", Codec::Json).unwrap();
    upload.messages().send(&b"5".to_vec()).unwrap();
    assert_eq!(upload.finish().unwrap(), b"5");
    // Given up, and late.
    let held = client.start_bytes("Pooled.Hold", Codec::Json, b"1");
    eventually("it is held", || rig.held.lock().unwrap().len() == 1);
    drop(held);
    let late = client.with_timeout(Duration::from_millis(10));
    assert_eq!(ask(&late, "Pooled.Hold").unwrap_err().code(), Code::DeadlineExceeded);
    eventually("each has ended", || {
        watch.ends.lock().unwrap().len() as u64 == watch.begun.load(Ordering::SeqCst)
    });
    let mut ends = std::mem::take(&mut *watch.ends.lock().unwrap());
    ends.sort_by_key(|(method, code, _)| (method.clone(), *code as u32));
    let ends: Vec<(&str, Code, bool)> =
        ends.iter().map(|(method, code, failed)| (&**method, *code, *failed)).collect();
    assert_eq!(
        ends.iter()
            .filter(|(method, ..)| *method == "Name.Get")
            .map(|(_, code, _)| *code)
            .collect::<Vec<_>>(),
        [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::FailedPrecondition],
        "{ends:?}"
    );
    for (method, code, failed) in [
        ("Inline.Panic", Code::Internal, false),
        ("No.Method", Code::Unimplemented, false),
        ("Pooled.Forbidden", Code::PermissionDenied, true),
        ("Pooled.Double", Code::Ok, false),
        ("Stream.Count", Code::Ok, false),
        ("Stream.Sum", Code::Ok, false),
        ("Pooled.Hold", Code::Cancelled, true),
    ] {
        assert!(ends.contains(&(method, code, failed)), "{method} {code}: {ends:?}");
    }
    assert_eq!(ends.len(), 5 + 8, "{ends:?}");
}

#[test]
fn a_lost_connection_and_a_full_client_end_calls_once() {
    let _turn = shared();
    let rig = server();
    let watch = Arc::new(Watch::default());
    let client = Client::builder(&*rig.address.to_string())
        .interceptor(watch.clone())
        .in_flight_max(1, WhenFull::Refuse)
        .connect()
        .unwrap();
    let held = client.start_bytes("Pooled.Hold", Codec::Json, b"1");
    eventually("it is held", || rig.held.lock().unwrap().len() == 1);
    assert!(matches!(ask(&client, "Name.Get"), Err(CallError::Full { .. })));
    assert_eq!(watch.ends.lock().unwrap().len(), 1, "the call that found no room");
    drop(rig);
    assert!(held.wait().is_err());
    eventually("both have ended", || watch.ends.lock().unwrap().len() == 2);
    assert_eq!(watch.begun.load(Ordering::SeqCst), 2);
}

#[test]
fn protocols_without_metadata_refuse_entries_and_transmit_the_others() {
    let _turn = shared();
    let rig = server();
    for scheme in ["http", "jsonrpc"] {
        let (client, watch) = watched(&format!("{scheme}:{}", rig.address));
        let expected: &[u8] = if scheme == "http" { b"\"ann\"" } else { b"\"none\"" };
        assert_eq!(ask(&client, "Name.Get").unwrap(), expected, "{scheme}");
        eventually("it has ended", || watch.ends.lock().unwrap().len() == 1);
    }
    struct Always;
    impl ClientInterceptor for Always {
        fn before_send(&self, call: &mut NewCall<'_>) -> Result<(), Status> {
            call.set_metadata("name", b"ann")
        }
    }
    let client = Client::builder(&*format!("jsonrpc:{}", rig.address)).interceptor(Always).connect().unwrap();
    let error = ask(&client, "Name.Get").unwrap_err().to_string();
    assert!(error.contains("the protocol jsonrpc cannot transmit the metadata entry \"name\""), "{error}");
}

#[test]
fn panics_are_contained_and_the_first_that_refuses_is_the_last_that_sees() {
    let _turn = shared();
    let rig = server();
    struct Panics(bool);
    impl ClientInterceptor for Panics {
        fn before_send(&self, _call: &mut NewCall<'_>) -> Result<(), Status> {
            assert!(!self.0, "{ON_PURPOSE}");
            Ok(())
        }
        fn on_end(&self, _end: &EndedClientCall<'_>) {
            panic!("{ON_PURPOSE}");
        }
    }
    let (first, last) = (Arc::new(Watch::default()), Arc::new(Watch::default()));
    let of = |panics| {
        Client::builder(&*rig.address.to_string())
            .interceptor(first.clone())
            .interceptor(Panics(panics))
            .interceptor(last.clone())
            .connect()
            .unwrap()
    };
    assert_eq!(ask(&of(false), "Name.Get").unwrap(), b"\"ann\"");
    let error = ask(&of(true), "Name.Get").unwrap_err();
    assert_eq!((error.code(), error.to_string().contains(ON_PURPOSE)), (Code::Internal, true));
    eventually("they have ended", || first.ends.lock().unwrap().len() == 2);
    assert_eq!((first.begun.load(Ordering::SeqCst), last.begun.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(last.ends.lock().unwrap().len(), 1);
}

#[test]
fn the_end_comes_before_the_result_and_outside_its_lock() {
    let _turn = shared();
    let rig = server();
    /// Waits in `on_end` for the test.
    struct Waits(Mutex<mpsc::Receiver<()>>);
    impl ClientInterceptor for Waits {
        fn on_end(&self, _end: &EndedClientCall<'_>) {
            self.0.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
    }
    let (go, wait) = mpsc::channel();
    let client =
        Client::builder(&*rig.address.to_string()).interceptor(Waits(Mutex::new(wait))).connect().unwrap();
    let mut call = client.start_bytes("Pooled.Count", Codec::Json, b"1");
    rig.wait_for_runs(1);
    // Neither looking at the call nor waiting for it blocks on the hook.
    assert!(call.try_take().is_none());
    assert!(call.wait_timeout(Duration::from_millis(1)).is_none());
    go.send(()).unwrap();
    assert_eq!(call.wait().unwrap(), b"1");
    let _: &Server = rig.server();
}
