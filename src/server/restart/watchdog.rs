//! The sign of life for a service manager: given only if every reactor has had a turn since the last one.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::systemd::Notifier;
use crate::server::{Completion, ServerShared};

/// The thread that gives the signs. Dropping it ends the thread.
pub(super) struct Watchdog {
    /// Nothing is sent; dropping the sender ends the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the thread. A sign is due within each `within`; it is given twice as often.
    pub(super) fn start(
        shared: Arc<ServerShared>,
        notifier: Notifier,
        within: Duration,
    ) -> io::Result<Watchdog> {
        let (end, ended) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("coreloop-watchdog".to_owned())
            .spawn(move || run(&shared, &notifier, within / 2, &ended))?;
        Ok(Watchdog { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &ServerShared, notifier: &Notifier, period: Duration, ended: &Receiver<()>) {
    loop {
        let round = Round::begin(shared);
        if ended.recv_deadline(Instant::now() + period) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if round.have_all_turned() {
            notifier.send("WATCHDOG=1");
        }
    }
}

/// The turns of the reactors at one moment, and those since.
struct Round<'a> {
    shared: &'a ServerShared,
    /// The reactors that run, with the number of their turns.
    turns: Vec<(usize, u64)>,
}

impl<'a> Round<'a> {
    /// Asks every reactor for a turn: an idle one has none otherwise.
    fn begin(shared: &'a ServerShared) -> Round<'a> {
        let turns = shared.parts.iter().map(|part| part.reactor.turns.value()).enumerate();
        let runs = |(index, _): &(usize, u64)| shared.parts[*index].remote.mail(Completion::Nudge).is_ok();
        Round { shared, turns: turns.filter(runs).collect() }
    }

    /// Returns whether each of them has had a turn since.
    fn have_all_turned(&self) -> bool {
        self.turns.iter().all(|(index, turns)| self.shared.parts[*index].reactor.turns.value() != *turns)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::super::systemd::Environment;
    use super::*;
    use crate::codec::Codec;
    use crate::context::Context;
    use crate::server::Server;
    use crate::service::Kind;

    const WITHIN: Duration = Duration::from_millis(200);

    #[test]
    fn signs_are_given_while_every_reactor_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let lookup = |_: &str| Some(path.display().to_string());
        let notifier = Notifier::new(&Environment(&lookup)).unwrap().unwrap();
        let (begun, is_begun) = bounded::<()>(1);
        let (goes_on, may_go_on) = bounded::<()>(1);
        let stall = move |_: &Context<'_>, n: i64| {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            Ok(n)
        };
        let server = Server::in_memory().cores(2).method_of_kind("Test.Stall", Kind::Inline, stall);
        let server = server.start().unwrap();
        let watchdog = Watchdog::start(server.shared.clone(), notifier, WITHIN).unwrap();
        // Signs are given although nothing happens on the reactors.
        for _ in 0..3 {
            let mut bytes = [0; 64];
            let n = manager.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..n], b"WATCHDOG=1");
        }
        drop(watchdog);

        let address = server.addresses()[0].to_string();
        let caller = std::thread::spawn(move || {
            let client = crate::client::Direct::connect(&address).unwrap();
            client.call_bytes("Test.Stall", Codec::Json, b"7").unwrap()
        });
        is_begun.recv().unwrap();
        let round = Round::begin(&server.shared);
        assert!(!round.have_all_turned(), "one reactor cannot have had a turn");
        goes_on.send(()).unwrap();
        assert_eq!(caller.join().unwrap(), b"7");
        while !round.have_all_turned() {
            std::thread::yield_now();
        }
        assert_eq!(round.turns.len(), 2);
        server.shutdown();
    }
}
