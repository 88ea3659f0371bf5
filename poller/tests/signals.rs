//! Stop signals, sent to this process. In a separate file, and so a separate process: signals affect all of it.

#![cfg(all(feature = "signals", not(loom)))]

use std::sync::mpsc;

use coreloop_poller::signals::{self, INT, TERM};

// One test: several would receive each other's signals.
#[test]
fn stop_signals_end_with_the_guard() {
    let (tell, told) = mpsc::channel();
    let first = signals::on_stop({
        let tell = tell.clone();
        move |signal| {
            let name = std::thread::current().name().map(str::to_owned);
            tell.send(("first", signal, name)).expect("the test listens");
        }
    })
    .expect("registers");
    for signal in [TERM, INT, TERM] {
        signals::raise(signal).expect("sends");
        assert_eq!(told.recv(), Ok(("first", signal, Some("coreloop-signals".into()))));
    }

    // Two can listen, and one can stop.
    let second = signals::on_stop(move |signal| {
        tell.send(("second", signal, None)).expect("the test listens");
    })
    .expect("registers");
    signals::raise(INT).expect("sends");
    let mut heard =
        [told.recv().expect("one"), told.recv().expect("the other")].map(|(who, signal, _)| (who, signal));
    heard.sort();
    assert_eq!(heard, [("first", INT), ("second", INT)]);

    drop(first);
    signals::raise(TERM).expect("sends");
    assert_eq!(told.recv(), Ok(("second", TERM, None)));

    // The last sender is dropped with the last thread: its channel closes only if drop has joined it.
    drop(second);
    assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn no_such_signal_is_an_error() {
    assert!(signals::raise(4096).is_err());
}
