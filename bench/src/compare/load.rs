//! One measured window: the calls of an order, made by whoever makes them for that subject.
//!
//! The load generator runs in this process, so that one sees how it goes; the bare client and the clients of peers are
//! processes, and print what they found.

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
use crate::loadgen::speech::Speaks;
use crate::loadgen::{self, Ask, verdict};
use crate::process::{self, Group, Server, tree};
use crate::{drive, versus};

/// How long a client may take beyond warm-up and window.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// How often one looks whether all is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// With a larger share of wrong answers nothing else of a run means anything.
const ERROR_SHARE_MAX: f64 = 0.01;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is called.
    pub kind: Kind,
    /// With 1 % slow calls among them.
    pub slow_among: bool,
    /// Connections and calls in flight on each; in an open loop at most.
    pub load: versus::Load,
    /// Calls per second: an open loop.
    pub rate: Option<f64>,
    /// Length of the window.
    pub seconds: f64,
    /// Before it.
    pub warmup_s: f64,
    /// Which cores.
    pub setting: Setting,
    /// From 1.
    pub round: u32,
}

/// The server that is called.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
}

impl At {
    /// That one.
    pub fn of(server: &Server) -> At {
        At { address: server.address, pid: server.pid() }
    }
}

/// What came of it.
pub struct Measured {
    /// The figures.
    pub run: Run,
    /// Answers in the whole run, those of the warm-up too.
    pub calls_in_all: u64,
}

impl Ground {
    /// A closed loop of the usual length.
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

    /// Makes the calls. A server that has died meanwhile is the failure, whatever the client saw of it.
    pub fn make(&self, subject: &Subject, server: &mut Server, order: &Order) -> Result<Measured, Failure> {
        let result = self.call(subject, At::of(server), order);
        self.check()?;
        if let Some(death) = server.death() {
            return Err(Failure::Broken(death));
        }
        result
    }

    /// The same, beside others that call the same server.
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
        speaks: Speaks,
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
        // Where the cores are shared the generator's thread, which is not pinned, takes after the one that starts it.
        let cores = self.cores.of(order.setting).1;
        process::confine_self(cores).map_err(|error| format!("cores {cores:?}: {error}"))?;
        // Ends early when all is to end, and when nobody is left to answer.
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

    /// A client that is a process; what all of them are told is put behind the command.
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
            // The client reads the clock of one process.
            (run.server_us_per_call, run.server_share) = (None, None);
        }
        Ok(Measured { run, calls_in_all: outcome.calls_in_all })
    }

    /// Runs a program to its end, and hears what it says; `meanwhile` is called while it runs.
    pub fn finish(
        &self,
        mut command: Command,
        cores: &[usize],
        patience: Duration,
        mut meanwhile: impl FnMut(),
    ) -> Result<Said, Failure> {
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
        // Others of its group may hold the pipe.
        drop(group);
        let last_words = words.join().unwrap_or_default();
        Ok(Said { stdout, last_words, status })
    }
}

/// What a program said.
pub struct Said {
    /// All of its standard output.
    pub stdout: String,
    /// The last lines of its standard error.
    pub last_words: String,
    /// How it ended.
    pub status: std::process::ExitStatus,
}

/// The last lines that are not empty, in one.
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

fn calls(subject: &Subject, speaks: Speaks, order: &Order) -> Result<Vec<Call>, String> {
    if !order.slow_among {
        return Ok(vec![subject.call(speaks, order.kind, 1)?]);
    }
    Ok(vec![subject.call(speaks, order.kind, 99)?, subject.call(speaks, Kind::Sleep, 1)?])
}

/// Of a mix the first method is the one that is looked at.
fn run_of(outcome: &loadgen::Outcome, cores: (&[usize], &[usize]), round: u32) -> Run {
    let figures = outcome.methods.first().unwrap_or(&outcome.total);
    let us = |percent| figures.latency.at(percent).map(|ns| ns as f64 / 1e3);
    let (verdict, total) = (&outcome.verdict, &outcome.total);
    let is_open = outcome.settings.rate.is_some();
    let flags = [
        (verdict.late, "late"),
        // A closed loop's client that is full is seen in its share.
        (verdict.saturated && is_open, "saturated"),
        (verdict.disturbed, "disturbed"),
        (verdict.stolen, "stolen"),
        (verdict.rate_missed, "rate missed"),
        (is_open && total.unanswered + total.never_sent > 0, "calls left over"),
    ];
    // What an open loop leaves over was asked for too fast; in a closed one it was never answered.
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
    /// Above this the client's core was another's too.
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
    fn last_words_are_the_last_lines_that_say_something() {
        let text = "one\ntwo\n\nthree\n  four  \n\n";
        assert_eq!(last_words(text.as_bytes()), "two / three / four");
        assert_eq!(last_words(&b"\xff\n"[..]), "\u{fffd}");
        assert_eq!(last_words(&b""[..]), "");
    }
}
