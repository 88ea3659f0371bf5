//! Restarts under load, ten in a row, with the number of reactors going 4, 2, 4. Where the protocol announces a drain, no
//! call fails, with TLS or without; where it does not, no accepted call loses its answer, and the rest is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop_bench::loadgen::outcome::Outcome;
use coreloop_bench::loadgen::speech::AddressProtocol;
use coreloop_bench::loadgen::{Ask, mix};

use crate::authority::Authority;
use crate::common::{PATIENCE, Ran, Served};
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

/// A load with TLS, of a client that threads share, until it is stopped.
struct TlsLoad {
    address: String,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl TlsLoad {
    fn start(address: String, authority: &Authority) -> TlsLoad {
        let client = Client::builder(&address).tls(|tls| tls.ca = Some(authority.ca())).connect();
        let client = client.expect("it listens").with_timeout(PATIENCE);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..CONNECTIONS).map(|_| {
            let (client, stop, answered) = (client.clone(), stop.clone(), answered.clone());
            std::thread::spawn(move || {
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) && errors.len() < 10 {
                    match client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#) {
                        Ok(product) => {
                            assert_eq!(product, b"42");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => errors.push(error.to_string()),
                    }
                    // The rate of a thread is below this.
                    std::thread::sleep(Duration::from_millis(5));
                }
                errors
            })
        });
        let threads = threads.collect();
        TlsLoad { address, stop, answered, threads }
    }

    /// Waits until calls are answered, in a time that begins now.
    fn wait(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        let enough = before + 2 * u64::from(CONNECTIONS);
        wait_until("calls are answered over TLS", || self.answered.load(Ordering::Relaxed) >= enough);
    }

    /// Returns the number of calls, none of which has failed.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let errors = thread.join().expect("a caller does not panic");
            assert!(errors.is_empty(), "{}: {errors:?}", self.address);
        }
        self.answered.load(Ordering::Relaxed)
    }
}

/// What became of the calls of a restart.
struct Restarted<const N: usize> {
    outcomes: [Outcome; N],
    /// Calls over TLS; none has failed.
    over_tls: u64,
    /// What each process says at its end.
    ended: Vec<Ran>,
}

/// Restarts a server under these loads, and under those of clients with TLS.
fn restart_under<const N: usize>(protocols: [AddressProtocol; N], with_tls: &[&str]) -> Restarted<N> {
    let place = Place::new();
    let authority = Authority::new();
    let pair = authority.server();
    let tls = [("certificate", pair.certificate), ("key", pair.key)]
        .map(|(name, path)| format!("--set=tls.{name}={}", path.display()));
    let more = ["--set", "limits.drain_ms=30000", "--set", "tls.mode=optional"];
    let start = |cores: &str| place.start(&[&["--cores", cores, &tls[0], &tls[1]], &more[..]].concat());
    let mut server: Served = start("4");
    let address: SocketAddr = server.address().parse().expect("an address");
    let loads = protocols.map(|speaks| Load::start(address, speaks));
    let tls_loads = with_tls.iter().map(|scheme| TlsLoad::start(format!("{scheme}:{address}"), &authority));
    let tls_loads: Vec<TlsLoad> = tls_loads.collect();
    loads.iter().for_each(Load::wait);
    tls_loads.iter().for_each(TlsLoad::wait);
    let mut ended = Vec::new();
    for restart in 0..restarts() {
        let next = start(["2", "4"][restart % 2]);
        ended.push(server.wait());
        server = next;
        loads.iter().for_each(Load::wait);
        tls_loads.iter().for_each(TlsLoad::wait);
    }
    let outcomes = loads.map(Load::end);
    let over_tls = tls_loads.into_iter().map(TlsLoad::end).sum();
    ended.push(server.stop());
    for ran in &ended {
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    Restarted { outcomes, over_tls, ended }
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
    let Restarted { outcomes, over_tls, ended } = restart_under(protocols, &["native+tls", "https"]);
    let mut ok = over_tls;
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
        let Restarted { outcomes: [outcome], ended, .. } = restart_under([protocol], &[]);
        let (calls, connections) = (&outcome.total, &outcome.connections);
        assert_eq!((total(&ended, "calls"), total(&ended, "dropped")), (calls.ok, 0), "{protocol:?}");
        // What is lost was sent to a connection that was about to close.
        assert_eq!(calls.errors, calls.lost, "{protocol:?}: {calls:?}");
        assert_eq!(connections.attempts_failed, 0, "{protocol:?}: {connections:?}");
        assert!(total(&ended, "calls") > 0 && unread(&ended) <= calls.lost, "{protocol:?}: {calls:?}");
        println!("{protocol:?}: {} ok, {} lost, {} connections lost", calls.ok, calls.lost, connections.lost);
    }
}
