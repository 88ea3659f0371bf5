//! Restarts under load, ten in a row, with the number of reactors going 4, 2, 4. Where the protocol announces a drain, no
//! call fails; where it does not, no accepted call loses its answer, and the rest is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use coreloop_bench::loadgen::outcome::Outcome;
use coreloop_bench::loadgen::speech::AddressProtocol;
use coreloop_bench::loadgen::{Ask, mix};

use crate::common::{Ran, Served};
use crate::{Place, wait_until};

/// CI makes fewer (`RESTARTS`), with each number of reactors.
fn restarts() -> usize {
    std::env::var("RESTARTS").map_or(10, |text| text.parse().expect("RESTARTS is a number"))
}
const CONNECTIONS: u32 = 4;
/// Calls per second of one load.
const RATE: f64 = 400.0;

/// A load that runs until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    /// Intervals in which calls were answered.
    lively: Arc<AtomicU64>,
    thread: JoinHandle<Outcome>,
}

impl Load {
    fn start(address: SocketAddr, speaks: AddressProtocol) -> Load {
        let (stop, lively) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, live) = (stop.clone(), lively.clone());
        let thread = std::thread::spawn(move || {
            let ask = Ask {
                speaks,
                connections: CONNECTIONS,
                depth: Some(1),
                rate: Some(RATE),
                seconds: 3600.0,
                ..Ask::of(address, "")
            };
            let calls = mix::parse(speaks, "Arith.Multiply=1", None, 0).expect("a mix");
            let outcome = ask.make(&calls, &stopped, &mut |now| {
                live.fetch_add(u64::from(now.rate > 0.0), Ordering::Relaxed);
            });
            outcome.expect("it runs")
        });
        Load { stop, lively, thread }
    }

    /// Waits until calls are answered, in a time that begins now.
    fn wait(&self) {
        let before = self.lively.load(Ordering::Relaxed);
        wait_until("calls are answered", || self.lively.load(Ordering::Relaxed) >= before + 2);
    }

    fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the generator does not panic")
    }
}

/// Restarts a server under these loads; returns what became of their calls, and what each process says at its end.
fn restart_under<const N: usize>(protocols: [AddressProtocol; N]) -> ([Outcome; N], Vec<Ran>) {
    let place = Place::new();
    let start = |cores: &str| place.start(&["--cores", cores, "--set", "limits.drain_ms=30000"]);
    let mut server: Served = start("4");
    let address: SocketAddr = server.address().parse().expect("an address");
    let loads = protocols.map(|speaks| Load::start(address, speaks));
    loads.iter().for_each(Load::wait);
    let mut ended = Vec::new();
    for restart in 0..restarts() {
        let next = start(["2", "4"][restart % 2]);
        ended.push(server.wait());
        server = next;
        loads.iter().for_each(Load::wait);
    }
    let outcomes = loads.map(Load::end);
    ended.push(server.stop());
    for ran in &ended {
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    (outcomes, ended)
}

/// Returns the calls that the processes have not read, as they say.
fn unread(ended: &[Ran]) -> u64 {
    let counted = ended.iter().filter(|ran| ran.stderr.contains("drain-unread"));
    counted.map(|ran| ran.summary("drain-unread")).sum()
}

fn total(ended: &[Ran], name: &str) -> u64 {
    ended.iter().map(|ran| ran.summary(name)).sum()
}

#[test]
fn no_call_fails_where_the_protocol_announces_a_drain() {
    let protocols = [AddressProtocol::Native, AddressProtocol::Http, AddressProtocol::Grpc];
    let (outcomes, ended) = restart_under(protocols);
    let mut ok = 0;
    for (outcome, protocol) in outcomes.iter().zip(protocols) {
        let (calls, connections) = (&outcome.total, &outcome.connections);
        assert_eq!((calls.errors, calls.unanswered), (0, 0), "{protocol:?}: {calls:?}");
        assert_eq!((connections.lost, connections.attempts_failed), (0, 0), "{protocol:?}: {connections:?}");
        assert!(connections.drained >= restarts() as u64, "{protocol:?}: {connections:?}");
        ok += calls.ok;
    }
    assert_eq!((total(&ended, "calls"), total(&ended, "errors"), total(&ended, "dropped")), (ok, 0, 0));
}

#[test]
fn no_accepted_call_loses_its_answer_where_it_does_not() {
    for protocol in [AddressProtocol::Gob, AddressProtocol::JsonRpc] {
        let ([outcome], ended) = restart_under([protocol]);
        let (calls, connections) = (&outcome.total, &outcome.connections);
        assert_eq!((total(&ended, "calls"), total(&ended, "dropped")), (calls.ok, 0), "{protocol:?}");
        // What is lost was sent to a connection that was about to close.
        assert_eq!(calls.errors, calls.lost, "{protocol:?}: {calls:?}");
        assert_eq!(connections.attempts_failed, 0, "{protocol:?}: {connections:?}");
        assert!(total(&ended, "calls") > 0 && unread(&ended) <= calls.lost, "{protocol:?}: {calls:?}");
        println!("{protocol:?}: {} ok, {} lost, {} connections lost", calls.ok, calls.lost, connections.lost);
    }
}
