//! Runs one measured window: makes the calls of an order with the client of that subject.
//!
//! The load generator runs in this process, so its progress is visible; the bare client and the peers' clients are
//! processes that print their results.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::ground::{Failure, Ground, command_of};
use super::peer::Kind;
use super::record::{Run, Setting};
use super::subject::{Client, Subject};
use crate::loadgen::mix::Call;
use crate::loadgen::speech::AddressProtocol;
use crate::loadgen::{self, Ask, verdict};
use crate::process::{self, Group, Server, tree};
use crate::{drive, versus};

/// How long a client may take beyond warm-up and window.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// How often a request to end is checked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Above this share of wrong answers a run is discarded: its figures mean nothing.
const ERROR_SHARE_MAX: f64 = 0.01;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Order {
    /// The kind of call.
    pub kind: Kind,
    /// Whether 1 % of the calls are slow ones.
    pub slow_among: bool,
    /// Connections and calls in flight on each; in an open loop this is the maximum.
    pub load: versus::Load,
    /// Calls per second of an open loop; `None`: a closed loop.
    pub rate: Option<f64>,
    /// Length of the window, in seconds.
    pub seconds: f64,
    /// Length of the warm-up before it, in seconds.
    pub warmup_s: f64,
    /// Which cores server and client use.
    pub setting: Setting,
    /// The round, from 1.
    pub round: u32,
}

/// The server to call.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// Its process id.
    pub pid: u32,
}

impl At {
    /// Returns the address and the process id of a server.
    pub fn of(server: &Server) -> At {
        At { address: server.address, pid: server.pid() }
    }
}

/// The result of a window.
pub struct Measured {
    /// The figures.
    pub run: Run,
    /// Answers in the whole run, including the warm-up.
    pub calls_in_all: u64,
}

impl Ground {
    /// Returns the order of a closed loop of the usual length.
    pub fn order(&self, kind: Kind, load: versus::Load, setting: Setting, round: u32) -> Order {
        Order {
            kind,
            slow_among: false,
            load,
            rate: None,
            seconds: self.seconds,
            warmup_s: self.warmup_s,
            setting,
            round,
        }
    }

    /// Makes the calls. If the server has died meanwhile, that is the reported failure, whatever the client saw.
    pub fn make(&self, subject: &Subject, server: &mut Server, order: &Order) -> Result<Measured, Failure> {
        let result = self.call(subject, At::of(server), order);
        self.check()?;
        if let Some(death) = server.death() {
            return Err(Failure::Broken(death));
        }
        result
    }

    /// Makes the calls while other clients may call the same server.
    pub fn call(&self, subject: &Subject, at: At, order: &Order) -> Result<Measured, Failure> {
        self.check()?;
        let mut measured = match &subject.client {
            Client::Loadgen(speaks) => self.by_loadgen(subject, *speaks, at, order)?,
            Client::Drive => {
                let mut command = Command::new(&self.own);
                command.args(["drive", &at.address.to_string()]);
                command.args(["--method", subject.adds.method, "--codec", subject.adds.codec]);
                self.by_process(command, at, order)?
            }
            Client::Own { command, folder } => {
                let at_home = Subject { folder: folder.clone(), ..subject.clone() };
                let threads = self.cores.of(order.setting).1.len();
                let mut command = command_of(&at_home, command, Some(at.address), threads);
                let kind = if order.kind == Kind::Add { subject.first_kind() } else { order.kind };
                command.args(["--call", kind.name()]);
                if let Some(rate) = order.rate {
                    command.args(["--rate", &rate.to_string()]);
                }
                self.by_process(command, at, order)?
            }
        };
        self.check()?;
        let run = &mut measured.run;
        run.peak_kib = tree::peak_kib(at.pid).ok();
        let calls = (run.calls_per_s * order.seconds).max(1.0);
        if measured.calls_in_all == 0 || run.errors as f64 > calls * ERROR_SHARE_MAX {
            let first = run.first_error.as_deref().unwrap_or("no answer at all");
            return Err(Failure::Broken(format!("{} wrong answers, the first: {first}", run.errors)));
        }
        Ok(measured)
    }

    fn by_loadgen(
        &self,
        subject: &Subject,
        speaks: AddressProtocol,
        at: At,
        order: &Order,
    ) -> Result<Measured, Failure> {
        let calls = calls(subject, speaks, order)?;
        let ask = Ask {
            speaks,
            connections: order.load.connections,
            depth: Some(order.load.depth),
            rate: order.rate,
            warmup_s: order.warmup_s,
            seconds: order.seconds,
            core: (order.setting == Setting::Apart).then(|| self.cores.client[0]),
            watch: Some(at.pid),
            ..Ask::of(at.address, "")
        };
        // With shared cores the generator's thread is not pinned itself; it inherits the cores of the thread that
        // starts it.
        let cores = self.cores.of(order.setting).1;
        process::confine_self(cores).map_err(|error| format!("cores {cores:?}: {error}"))?;
        // Ends early when everything is to end, and when the server is gone.
        let stop = Arc::new(AtomicBool::new(false));
        let outcome = ask.make(&calls, &stop, &mut |live| {
            self.screen.live(live);
            if self.stop.load(Ordering::Relaxed) || !process::is_running(at.pid) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        process::confine_self(&self.cores.all).map_err(|error| format!("all cores: {error}"))?;
        let outcome = outcome?;
        let run = run_of(&outcome, self.cores.of(order.setting), order.round);
        Ok(Measured { run, calls_in_all: outcome.answers_in_all })
    }

    /// Runs a client process; the arguments common to all clients follow the command.
    fn by_process(&self, mut command: Command, at: At, order: &Order) -> Result<Measured, Failure> {
        let numbers = [
            ("--connections", order.load.connections.to_string()),
            ("--depth", order.load.depth.to_string()),
            ("--seconds", order.seconds.to_string()),
            ("--warmup", order.warmup_s.to_string()),
            ("--watch", at.pid.to_string()),
        ];
        command.args(numbers.iter().flat_map(|(name, value)| [*name, value.as_str()]));
        let patience = Duration::from_secs_f64(order.seconds + order.warmup_s) + CLIENT_PATIENCE;
        let (server_cores, client_cores) = self.cores.of(order.setting);
        let said = self.finish(command, client_cores, patience, || self.screen.tick())?;
        let line = said.stdout.lines().rev().find(|line| line.starts_with('{'));
        let outcome = line.and_then(|line| serde_json::from_str::<drive::Outcome>(line).ok());
        let outcome = outcome.ok_or_else(|| match said.last_words.as_str() {
            "" => format!("its client measured nothing ({})", said.status),
            words => format!("its client measured nothing ({}): {words}", said.status),
        })?;
        let mut run = run_of_process(&outcome, (server_cores, client_cores), order.round);
        if matches!(tree::members(at.pid).len(), 2..) {
            // `drive` reads the clock of one process, which misses the server's descendants.
            (run.server_us_per_call, run.server_share) = (None, None);
        }
        Ok(Measured { run, calls_in_all: outcome.calls_in_all })
    }

    /// Runs a program to its end and collects its output; calls `meanwhile` while it runs.
    pub fn finish(
        &self,
        mut command: Command,
        cores: &[usize],
        patience: Duration,
        mut meanwhile: impl FnMut(),
    ) -> Result<ProgramOutput, Failure> {
        process::confine(&mut command, cores);
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let group = Group::spawn(&mut command);
        let mut group = group.map_err(|error| format!("cannot start {name}: {error}"))?;
        let mut stdout = group.child().stdout.take().expect("asked for a pipe above");
        let stderr = group.child().stderr.take().expect("asked for a pipe above");
        let (sender, heard) = mpsc::channel();
        let words = thread::spawn(move || last_words(stderr));
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        let until = Instant::now() + patience;
        let stdout = loop {
            match heard.recv_timeout(LOOK_EVERY) {
                Ok(text) => break text,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("{name}: its output is lost").into());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.check()?;
                    meanwhile();
                    if Instant::now() > until {
                        return Err(format!("{name} did not end in time").into());
                    }
                }
            }
        };
        let status = group.child().wait().map_err(|error| format!("{name}: {error}"))?;
        // Other processes of its group may hold the pipe open.
        drop(group);
        let last_words = words.join().unwrap_or_default();
        Ok(ProgramOutput { stdout, last_words, status })
    }
}

/// The output of a program that ended.
pub struct ProgramOutput {
    /// The complete standard output.
    pub stdout: String,
    /// The last lines of the standard error.
    pub last_words: String,
    /// The exit status.
    pub status: std::process::ExitStatus,
}

/// Joins the last nonempty lines into one.
fn last_words(stderr: impl Read) -> String {
    const LINES: usize = 3;
    let mut last = std::collections::VecDeque::with_capacity(LINES + 1);
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() {
            last.push_back(line);
        }
        if last.len() > LINES {
            last.pop_front();
        }
    }
    Vec::from(last).join(" / ")
}

fn calls(subject: &Subject, speaks: AddressProtocol, order: &Order) -> Result<Vec<Call>, String> {
    if !order.slow_among {
        return Ok(vec![subject.call(speaks, order.kind, 1)?]);
    }
    Ok(vec![subject.call(speaks, order.kind, 99)?, subject.call(speaks, Kind::Sleep, 1)?])
}

/// Converts an outcome into a run. Of a mix, only the first method counts.
fn run_of(outcome: &loadgen::Outcome, cores: (&[usize], &[usize]), round: u32) -> Run {
    let figures = outcome.methods.first().unwrap_or(&outcome.total);
    let us = |percent| figures.latency.at(percent).map(|ns| ns as f64 / 1e3);
    let (verdict, total) = (&outcome.verdict, &outcome.total);
    let is_open = outcome.settings.rate.is_some();
    let flags = [
        (verdict.late, "late"),
        // In a closed loop, a client at its limit shows in its CPU share.
        (verdict.saturated && is_open, "saturated"),
        (verdict.disturbed, "disturbed"),
        (verdict.stolen, "stolen"),
        (verdict.rate_missed, "rate missed"),
        (is_open && total.unanswered + total.never_sent > 0, "calls left over"),
    ];
    // In an open loop unanswered calls mean that the rate was too high; in a closed loop they are errors.
    let errors = total.errors + if is_open { 0 } else { total.unanswered };
    let said = outcome.messages.iter().next().map(|(status, message)| format!("{status}: {message}"));
    let threads = &outcome.generator.threads;
    Run {
        round,
        calls_per_s: outcome.calls_per_s,
        server_us_per_call: outcome.server.as_ref().map(|server| server.cpu_ns_per_call / 1e3),
        server_system_us_per_call: None,
        client_us_per_call: Some(outcome.generator.cpu_ns_per_call / 1e3),
        server_share: outcome.server.as_ref().map(|server| server.cpu_share / cores.0.len() as f64),
        client_share: threads.iter().map(|used| used.cpu_share).reduce(f64::max),
        client_waited_share: threads.iter().map(|used| used.waited_share).reduce(f64::max),
        p50_us: us(50.0),
        p99_us: us(99.0),
        p999_us: us(99.9),
        max_us: Some(figures.latency.max_ns as f64 / 1e3),
        mean_us: Some(figures.latency.mean_ns / 1e3),
        errors,
        first_error: said.or(verdict.remarks.first().cloned()).filter(|_| errors > 0),
        peak_kib: None,
        against: flags.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| (*word).to_owned()).collect(),
    }
}

fn run_of_process(outcome: &drive::Outcome, cores: (&[usize], &[usize]), round: u32) -> Run {
    /// Above this share, another process used the client's core.
    const WAITED_SHARE_MAX: f64 = 0.05;
    let per_call = |ns: u64| ns as f64 / 1e3 / outcome.calls.max(1) as f64;
    let share = |ns: u64, cores: &[usize]| ns as f64 / 1e9 / outcome.seconds.max(1e-9) / cores.len() as f64;
    let is_late =
        outcome.late_p99_us.is_some_and(|late_us| verdict::is_late(late_us * 1e3, outcome.p99_us * 1e3));
    let flags = [
        (is_late, "late"),
        (outcome.client_waited_share > WAITED_SHARE_MAX, "disturbed"),
        (outcome.left_over > 0, "calls left over"),
    ];
    Run {
        round,
        calls_per_s: outcome.calls_per_s,
        server_us_per_call: outcome.server_cpu_ns.map(per_call),
        server_system_us_per_call: outcome.server_system_ns.map(per_call),
        client_us_per_call: Some(per_call(outcome.client_cpu_ns)),
        server_share: outcome.server_cpu_ns.map(|ns| share(ns, cores.0)),
        client_share: Some(share(outcome.client_cpu_ns, cores.1)),
        client_waited_share: Some(outcome.client_waited_share),
        p50_us: Some(outcome.p50_us),
        p99_us: Some(outcome.p99_us),
        p999_us: Some(outcome.p999_us),
        max_us: Some(outcome.max_us),
        mean_us: None,
        errors: outcome.errors,
        first_error: outcome.first_error.clone(),
        peak_kib: None,
        against: flags.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| (*word).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_nonempty_lines() {
        let text = "one\ntwo\n\nthree\n  four  \n\n";
        assert_eq!(last_words(text.as_bytes()), "two / three / four");
        assert_eq!(last_words(&b"\xff\n"[..]), "\u{fffd}");
        assert_eq!(last_words(&b""[..]), "");
    }
}
