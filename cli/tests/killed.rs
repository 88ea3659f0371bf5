//! A served binary that is killed and started again, from the view of its client.

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Served, coreloop};
use coreloop::Code;
use coreloop::client::{Backoff, CallError, Client};
use coreloop::codec::Codec;

#[test]
fn a_client_reconnects_after_the_server_is_killed() {
    let server = Served::start(&[]);
    let address = server.address().to_owned();
    let client = Client::builder(&address)
        .configure(|config| config.backoff = Backoff { base_ms: 5, max_ms: 50 })
        .connect()
        .unwrap();
    let multiply = |client: &Client| client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#);
    let mut calls: Vec<_> =
        (0..10).map(|_| client.start_bytes("Echo.Sleep", Codec::Json, b"60000")).collect();
    // Answered after the earlier calls have arrived: calls on one connection arrive in order.
    assert_eq!(multiply(&client).unwrap(), b"42");
    server.signal("KILL");
    assert_eq!(server.wait().code, None, "it had no time to say anything");
    for call in &mut calls {
        let error = call.wait_timeout(PATIENCE).expect("it does not wait for the dead").unwrap_err();
        assert!(matches!(error, CallError::Lost { .. }), "{error:?}");
        assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, true), "{error:?}");
    }
    let error = multiply(&client).unwrap_err();
    assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, false), "{error:?}");
    assert_eq!((client.stats().lost, client.in_flight()), (1, 0));

    let again = Served::start_command(coreloop(&["serve", "--listen", &address]), 1);
    let until = Instant::now() + PATIENCE;
    while let Err(error) = multiply(&client) {
        assert!(!error.may_have_run(), "{error:?}");
        assert!(Instant::now() < until, "it is not found again: {error}");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.stats().connects, 2);
    drop(client);
    assert_eq!(again.stop().code, Some(0));
}
