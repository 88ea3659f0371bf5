//! Callers: threads that call one after the other, and a list of the calls that failed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coreloop::Code;
use coreloop::client::Client;

use crate::common::PATIENCE;
use crate::server::WorkClient;

/// What a load is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Threads whose calls must not run twice.
    pub place: usize,
    /// Threads whose calls may run twice.
    pub price: usize,
    /// The time that the server takes for each, in microseconds.
    pub us: u64,
    /// A thread begins its calls this far apart; zero: each as soon as the one before has ended.
    pub every: Duration,
}

/// A call that failed.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "a failed assertion shows all of it")]
pub struct Failed {
    pub id: u64,
    /// Whether it could be repeated.
    pub is_idempotent: bool,
    pub code: Code,
    pub may_have_run: bool,
    pub text: String,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next_id: AtomicU64,
    begun: AtomicU64,
    ok: AtomicU64,
    failed: Mutex<Vec<Failed>>,
    /// The microseconds that each call took.
    took_us: Mutex<Vec<u64>>,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of all calls of a load.
#[derive(Debug)]
pub struct Ended {
    /// Calls that were made.
    pub calls: u64,
    /// Those that succeeded.
    pub ok: u64,
    /// The others.
    pub failed: Vec<Failed>,
    took_us: Vec<u64>,
}

impl Load {
    /// Starts the threads.
    pub fn start(client: &Client, shape: Shape) -> Load {
        let shared = Arc::new(Shared::default());
        let kinds = std::iter::repeat_n(false, shape.place).chain(std::iter::repeat_n(true, shape.price));
        let threads = kinds
            .map(|is_idempotent| {
                let (shared, work) = (shared.clone(), WorkClient::new(client.clone()));
                std::thread::spawn(move || call_until_stopped(&shared, work, shape, is_idempotent))
            })
            .collect();
        Load { shared, threads }
    }

    /// Returns how many calls have succeeded.
    pub fn ok(&self) -> u64 {
        self.shared.ok.load(Ordering::Relaxed)
    }

    /// Returns how many calls have failed.
    pub fn failed(&self) -> usize {
        self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until this many more calls have succeeded.
    #[track_caller]
    pub fn wait_for_ok(&self, more: u64) {
        let wanted = self.ok() + more;
        wait_until(&format!("{more} more calls succeed"), || self.ok() >= wanted);
    }

    /// Waits until this many more calls have ended, in whatever way.
    #[track_caller]
    pub fn wait_for_ends(&self, more: u64) {
        let ends = || self.ok() + self.failed() as u64;
        let wanted = ends() + more;
        wait_until(&format!("{more} more calls end"), || ends() >= wanted);
    }

    /// Ends the load and returns what became of its calls.
    pub fn end(self) -> Ended {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the caller does not panic");
        }
        let failed = std::mem::take(&mut *self.shared.failed.lock().expect("no caller panicked"));
        let took_us = std::mem::take(&mut *self.shared.took_us.lock().expect("no caller panicked"));
        let calls = self.shared.begun.load(Ordering::Relaxed);
        let ended = Ended { calls, ok: self.shared.ok.load(Ordering::Relaxed), failed, took_us };
        assert_eq!(ended.calls, ended.ok + ended.failed.len() as u64, "every call ends exactly once");
        ended
    }
}

impl Ended {
    /// Returns the microseconds within which this share of the calls ended; for the eye, not for assertions.
    pub fn within_us(&self, share: f64) -> u64 {
        let mut sorted = self.took_us.clone();
        sorted.sort_unstable();
        let index = (sorted.len() as f64 * share) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Returns the failed calls that could have been repeated, or were certain not to have run.
    pub fn needless(&self) -> Vec<&Failed> {
        self.failed.iter().filter(|failed| failed.is_idempotent || !failed.may_have_run).collect()
    }
}

fn call_until_stopped(shared: &Shared, work: WorkClient<Client>, shape: Shape, is_idempotent: bool) {
    let began = Instant::now();
    let mut due = Duration::ZERO;
    while !shared.stop.load(Ordering::Relaxed) {
        if !shape.every.is_zero() {
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            due += shape.every;
        }
        // Even numbers must not run twice.
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed) * 2 + u64::from(is_idempotent);
        shared.begun.fetch_add(1, Ordering::Relaxed);
        let begins = Instant::now();
        let result = match is_idempotent {
            true => work.price(&id, &shape.us),
            false => work.place(&id, &shape.us),
        };
        let us = u64::try_from(begins.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.took_us.lock().unwrap_or_else(PoisonError::into_inner).push(us);
        match result {
            Ok(answer) => {
                assert_eq!(answer, id, "the answer of another call");
                shared.ok.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let failed = Failed {
                    id,
                    is_idempotent,
                    code: error.code(),
                    may_have_run: error.may_have_run(),
                    text: error.to_string(),
                };
                shared.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
                // A client that refuses at once must not fill the list.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Waits until the condition holds; fails the test after [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
