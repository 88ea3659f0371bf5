//! Options of one call, and the ways in which a client cannot be built.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use coreloop::client::{BuildError, CallError, CallOptions, Client, Direct};
use coreloop::codec::Codec;
use coreloop::message::Priority;
use coreloop::{Code, Context, Server};

use crate::common::raw_server::{RawServer, connected, end, start};

#[test]
fn options_of_a_call_go_before_the_settings_of_its_client() {
    let server = RawServer::start();
    let client = server.client().with_timeout(Duration::from_secs(1000));
    let client = client.with_priority(Priority::Low).unwrap().with_metadata("a", b"1").unwrap();
    let mut side = connected(&client, &server);
    let options = CallOptions::new()
        .timeout(Duration::from_secs(60))
        .metadata("b", "2")
        .metadata("b", [3])
        .priority(Priority::Highest)
        .idempotent(true);
    let one = client.with_options(&options);
    let call = start(&one, "with");
    let request = side.echo();
    assert!(request.time_left_us <= 60_000_000 && request.time_left_us > 0);
    let value = |key: &str| request.value(key);
    assert_eq!(
        (value("a").as_deref(), value("b").as_deref(), value("priority").as_deref()),
        (Some("1"), Some("2"), Some("0"))
    );
    assert_eq!(end(call).unwrap(), b"with");
    // The client itself is as before, and options that say nothing change nothing.
    for client in [&client, &client.with_options(&CallOptions::new())] {
        let call = start(client, "without");
        let request = side.echo();
        assert!(request.time_left_us > 60_000_000);
        assert_eq!((request.value("b"), request.value("priority").as_deref()), (None, Some("2")));
        end(call).unwrap();
    }
    // A client without metadata takes those of the options.
    let bare = server.client();
    let mut side = connected(&bare, &server);
    let call = start(&bare.with_options(&options), "bare");
    let request = side.echo();
    assert_eq!((request.value("a"), request.value("b").as_deref()), (None, Some("2")));
    end(call).unwrap();
}

#[test]
fn metadata_that_cannot_be_sent_fail_the_call_alone() {
    let server = RawServer::start();
    let client = server.client().with_metadata("a", &[0; 40_000]).unwrap();
    let too_long = |options: CallOptions| {
        let error = client.with_options(&options).call_bytes("A.B", Codec::Raw, b"").unwrap_err();
        assert!(matches!(error, CallError::MetadataTooLong(_)), "{error:?}");
        assert_eq!((error.code(), error.may_have_run()), (Code::InvalidArgument, false));
    };
    too_long(CallOptions::new().metadata("", "x"));
    too_long(CallOptions::new().metadata("k", vec![0; 70_000]));
    too_long(CallOptions::new().metadata("b", vec![0; 40_000]));
    let mut side = connected(&client, &server);
    let call = start(&client, "still");
    side.echo();
    assert_eq!(end(call).unwrap(), b"still");
}

#[cfg(feature = "http")]
#[test]
fn an_entry_of_the_options_must_fit_the_protocol() {
    let client = Client::builder("http:127.0.0.1:1").build().unwrap();
    let options = CallOptions::new().metadata("a b", "x");
    let error = client.with_options(&options).call_bytes("A.B", Codec::Json, b"").unwrap_err();
    assert!(matches!(error, CallError::Metadata { .. }), "{error:?}");
}

#[test]
fn addresses_are_text_sockets_or_hosts_with_ports() {
    let server = Server::builder()
        .method("Math.Double", |_cx: &Context, number: i64| Ok(number * 2))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let address = &server.addresses()[0];
    let text = address.to_string();
    let socket: SocketAddr = text.parse().unwrap();
    let port = socket.port();
    for client in [
        Client::connect(address),
        Client::connect(&text),
        Client::connect(text.clone()),
        Client::connect(socket),
        Client::connect(("localhost", port)),
        Client::connect((Ipv4Addr::LOCALHOST, port)),
        Client::connect(format!("native:{text}")),
    ] {
        assert_eq!(client.unwrap().call_bytes("Math.Double", Codec::Json, b"21").unwrap(), b"42");
    }
    let direct = Direct::connect(socket).unwrap();
    assert_eq!(direct.call_bytes("Math.Double", Codec::Json, b"21").unwrap(), b"42");
}

#[test]
fn a_wrong_configuration_is_no_failed_call() {
    let built = |address: &str| Client::builder(address).build().unwrap_err();
    let error = built("no-port");
    assert!(matches!(&error, BuildError::Address(error) if error.text == "no-port"), "{error}");
    let error = Client::builder("a:1").configure(|config| config.in_flight_max = 0).build().unwrap_err();
    let BuildError::Config(field) = &error else { panic!("{error}") };
    assert_eq!(field.field, "in_flight_max");
    let error = CallError::from(error);
    assert_eq!((error.code(), error.may_have_run()), (Code::FailedPrecondition, false));
    assert_eq!(
        error.to_string(),
        "failed_precondition: the client cannot be built: in_flight_max: expected a value from 1 to 1048576; found 0"
    );
    for result in [Client::connect("no-port").map(drop), Direct::connect("no-port").map(drop)] {
        assert!(matches!(result, Err(CallError::Build(BuildError::Address(_)))), "{result:?}");
    }
}

#[cfg(all(feature = "http", feature = "jsonrpc"))]
#[test]
fn a_client_speaks_one_protocol_and_a_direct_one_the_native() {
    let error = Client::builder("static:http:a:1,jsonrpc:a:1").build().unwrap_err();
    assert!(error.to_string().contains("must use one protocol; found http and jsonrpc"), "{error}");
    let error = Direct::connect("http:a:1").unwrap_err();
    assert!(matches!(error, CallError::Build(BuildError::OnlyNative { .. })), "{error:?}");
}
