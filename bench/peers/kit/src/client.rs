//! A client's command line, and its calls: so many in flight on each connection, or so many due a second.
//!
//! All on one thread. A task for each call that may be in flight, which makes its calls one after the other: what a
//! program with so many users would do. In an open loop the tasks take calls that are due; what is due and finds all
//! tasks of its connection busy stays in the schedule, and its latency counts from when it was due.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use tokio::runtime;
use tokio::task::{JoinSet, LocalSet};

use crate::pace::{Pace, Share};
use crate::process::raise_files_limit;
use crate::version::named;
use crate::window::{Outcome, Window};

/// How long the answers that are still owed at the end are waited for.
const DRAIN: Duration = Duration::from_secs(5);

/// The calls of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Call {
    /// `Arith.Add` of two integers.
    #[value(name = "add")]
    Add,
    /// `Echo` of 1 KiB.
    #[value(name = "echo-1k")]
    Echo1k,
    /// `Users.List` of 100.
    #[value(name = "users-100")]
    Users100,
    /// `Echo` of 256 KiB.
    #[value(name = "echo-256k")]
    Echo256k,
}

/// `ADDRESS --call add --connections N --depth D --seconds S --warmup W [--rate R] [--watch PID]`.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// The server.
    pub address: SocketAddr,
    /// What to call.
    #[arg(long, value_enum, default_value = "add")]
    pub call: Call,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,
    /// Calls in flight on each; with --rate at most.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub depth: u32,
    /// Length of the measured window.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Length of the run-up before it.
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub warmup: f64,
    /// Calls per second in all: an open loop, at even distances.
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Also read the CPU time of this process at the window's ends.
    #[arg(long, value_name = "PID")]
    pub watch: Option<u32>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|_| "not a number")?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("between 0 and 86400".into()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().map_err(|_| "not a number")?;
    if (0.001..=1e7).contains(&rate) { Ok(rate) } else { Err("between 0.001 and 10000000".into()) }
}

/// Why a call does not count as answered, or not rightly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is an answer, but not the right one. The connection lives.
    Wrong(String),
    /// There is none, and the connection is of no use any more.
    Lost(String),
}

/// One connection of a peer's client.
pub trait Caller: 'static {
    /// Makes a call and checks its reply. Numbers differ from call to call.
    fn call(&self, number: u64) -> impl Future<Output = Result<(), Failure>>;
}

/// A client's `main`: reads the command line, connects, calls, prints the outcome.
///
/// `crates` are what `--version` names. `connect` makes a connection, on which the call of the arguments is made.
pub fn main<C: Caller>(crates: &[&str], connect: impl AsyncFn(&Arguments) -> Result<C, String>) -> ExitCode {
    let matches = named(Arguments::command(), crates).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run_alone(&arguments, connect) {
        Ok(outcome) => {
            println!("{}", serde_json::to_string(&outcome).expect("plain numbers and text"));
            if outcome.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{}: {error}", crates[0]);
            ExitCode::FAILURE
        }
    }
}

/// As [`run`], in a runtime of its own on this thread.
fn run_alone<C: Caller>(
    arguments: &Arguments,
    connect: impl AsyncFn(&Arguments) -> Result<C, String>,
) -> Result<Outcome, String> {
    raise_files_limit().map_err(told)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    LocalSet::new().block_on(&runtime, run(arguments, connect))
}

/// Connects, calls, and says what was measured. Within a `LocalSet`.
pub async fn run<C: Caller>(
    arguments: &Arguments,
    connect: impl AsyncFn(&Arguments) -> Result<C, String>,
) -> Result<Outcome, String> {
    let mut callers = Vec::with_capacity(arguments.connections as usize);
    for _ in 0..arguments.connections {
        callers.push(Rc::new(connect(arguments).await?));
    }
    let window = Rc::new(Window::new(arguments.watch, arguments.rate.is_some()));
    let pace = arguments.rate.map(|rate| Pace::new(rate, arguments.connections));
    let mut tasks = JoinSet::new();
    window.start();
    for (connection, caller) in callers.iter().enumerate() {
        for slot in 0..arguments.depth {
            let (caller, window) = (Rc::clone(caller), Rc::clone(&window));
            if let Some(pace) = &pace {
                tasks.spawn_local(call_when_due(caller, window, pace.share_of(connection)));
            } else {
                let first = connection as u64 * u64::from(arguments.depth) + u64::from(slot);
                tasks.spawn_local(call_on(caller, window, first));
            }
        }
    }
    tokio::select! {
        kept = keep_time(arguments, &window) => kept.map_err(told)?,
        failed = pace_out(&pace, &window) => return Err(told(failed)),
        () = all_ended(&mut tasks, &window) => {}
    }
    // Whoever waits for a call to become due need not; what is due is still made, as far as there is time.
    pace.iter().for_each(Pace::end);
    let in_time = tokio::time::timeout(DRAIN, all_ended(&mut tasks, &window)).await.is_ok();
    let in_flight = if in_time { 0 } else { tasks.len() as u64 };
    match &pace {
        // An open loop may have been too fast.
        Some(pace) => window.on_left_over(in_flight, pace.left_ns()),
        None if in_flight > 0 => window.on_lost("calls without an answer".into(), in_flight),
        None => {}
    }
    window.outcome(arguments.connections, arguments.depth)
}

fn told(error: io::Error) -> String {
    error.to_string()
}

/// Call after call, as long as calls are wanted. The first number differs from task to task, the others follow it.
async fn call_on<C: Caller>(caller: Rc<C>, window: Rc<Window>, first: u64) {
    let mut number = first;
    while window.wants_calls() {
        let since_ns = window.now_ns();
        if !count(caller.call(number).await, since_ns, &window).await {
            return;
        }
        number += 1;
    }
}

/// The calls of a connection that are due, until there are to be no more.
async fn call_when_due<C: Caller>(caller: Rc<C>, window: Rc<Window>, share: Rc<Share>) {
    while let Some((number, due_ns)) = share.take().await {
        if !count(caller.call(number).await, due_ns, &window).await {
            return;
        }
    }
}

/// Whether the connection is of further use.
#[inline]
async fn count(result: Result<(), Failure>, since_ns: u64, window: &Window) -> bool {
    match result {
        Ok(()) => window.on_reply(since_ns),
        Err(Failure::Wrong(why)) => {
            window.on_reply(since_ns);
            window.on_lost(why, 1);
            // A call that goes wrong before it has to wait would never let the clock have its turn.
            tokio::task::yield_now().await;
        }
        Err(Failure::Lost(why)) => {
            window.on_lost(why, 1);
            return false;
        }
    }
    true
}

/// Opens and closes the window.
async fn keep_time(arguments: &Arguments, window: &Window) -> io::Result<()> {
    tokio::time::sleep(Duration::from_secs_f64(arguments.warmup)).await;
    window.open()?;
    tokio::time::sleep(Duration::from_secs_f64(arguments.seconds)).await;
    window.close()
}

/// Calls become due; never ends but by an error, and without a pace not at all.
async fn pace_out(pace: &Option<Pace>, window: &Window) -> io::Error {
    match pace {
        Some(pace) => pace.run(window).await.err().unwrap_or(io::ErrorKind::UnexpectedEof.into()),
        None => std::future::pending().await,
    }
}

/// Waits for the tasks; one that panicked is an error of the run.
async fn all_ended(tasks: &mut JoinSet<()>, window: &Window) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            window.on_lost(error.to_string(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use super::*;

    /// Answers after its task was asked again, save one call that goes wrong.
    struct Fake {
        calls: Rc<Cell<u64>>,
        fails_at: u64,
        failure: fn(String) -> Failure,
    }

    impl Caller for Fake {
        async fn call(&self, _number: u64) -> Result<(), Failure> {
            tokio::task::yield_now().await;
            self.calls.set(self.calls.get() + 1);
            if self.calls.get() == self.fails_at { Err((self.failure)("odd".into())) } else { Ok(()) }
        }
    }

    fn outcome(text: &str, fails_at: u64, failure: fn(String) -> Failure) -> (Result<Outcome, String>, u64) {
        let arguments = Arguments::try_parse_from(["fake", "127.0.0.1:1"].into_iter().chain(text.split(' ')));
        let calls = Rc::new(Cell::new(0));
        let connect = async |_: &Arguments| Ok(Fake { calls: Rc::clone(&calls), fails_at, failure });
        let outcome = run_alone(&arguments.expect("a command line"), connect);
        (outcome, calls.get())
    }

    #[test]
    fn a_closed_loop_counts_what_it_called() {
        let (outcome, calls) =
            outcome("--connections 2 --depth 3 --warmup 0.01 --seconds 0.05", 5, Failure::Wrong);
        let outcome = outcome.expect("a window");
        assert_eq!((outcome.calls_in_all, outcome.errors), (calls, 1));
        assert!(outcome.calls > 0 && outcome.calls <= calls);
        assert_eq!(outcome.first_error.as_deref(), Some("odd"));
    }

    #[test]
    fn an_open_loop_calls_when_calls_are_due() {
        let began = Instant::now();
        let (outcome, calls) =
            outcome("--connections 3 --depth 2 --warmup 0 --seconds 0.1 --rate 5000", 0, Failure::Wrong);
        let outcome = outcome.expect("a window");
        // A call is not made before it is due: the first at the start.
        assert!(calls as f64 <= began.elapsed().as_secs_f64() * 5000.0 + 1.0 && calls > 0, "{calls}");
        assert_eq!((outcome.calls_in_all, outcome.errors), (calls, 0));
    }

    #[test]
    fn a_run_whose_connections_are_all_lost_ends_and_says_why() {
        let (outcome, _) = outcome("--seconds 3600", 3, Failure::Lost);
        assert_eq!(outcome, Err("odd".into()));
    }

    #[test]
    fn calls_that_go_wrong_at_once_do_not_stop_the_clock() {
        struct Wrong;
        impl Caller for Wrong {
            async fn call(&self, _number: u64) -> Result<(), Failure> {
                Err(Failure::Wrong("at once".into()))
            }
        }
        for text in ["--warmup 0 --seconds 0.05", "--warmup 0 --seconds 0.05 --rate 1e7"] {
            let text = ["fake", "127.0.0.1:1"].into_iter().chain(text.split(' '));
            let arguments = Arguments::try_parse_from(text).expect("a command line");
            let outcome = run_alone(&arguments, async |_: &Arguments| Ok(Wrong)).expect("it ends");
            assert_eq!(outcome.first_error.as_deref(), Some("at once"));
        }
    }

    #[test]
    fn an_unknown_call_is_refused_by_name() {
        let parsed = Arguments::try_parse_from(["fake", "127.0.0.1:1", "--call", "subtract"]);
        let error = parsed.expect_err("no such call").to_string();
        assert!(error.contains("subtract") && error.contains("users-100"), "{error}");
    }
}
