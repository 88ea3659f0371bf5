//! Measures HTTP servers with wrk, an independent check of the load generator's figures.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs, io};

use serde::Deserialize;

use super::capacity::line;
use super::ground::{Failure, Ground};
use super::peer::Spoken;
use super::record::{Cell, Run, Setting};
use super::run::{Comparison, START_S, Stopped};
use super::subject::Subject;
use crate::process::{self, Server, tree};

pub const INSTALL: &str = "apt-get install wrk";
const CONNECTIONS: [u32; 2] = [64, 400];
/// wrk has no warm-up, so a short run of this length precedes each run.
const WARMUP_S: u64 = 1;
const PATIENCE: Duration = Duration::from_secs(30);

/// The script that makes the call and prints the result as one line of JSON; wrk's own report is rounded.
const SCRIPT: &str = r#"wrk.method = "POST"
wrk.path = "/Arith/Add"
wrk.body = '{"A":6,"B":7}'
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"errors":%d,"p50_us":%f,"p99_us":%f,"p999_us":%f,"max_us":%f,"mean_us":%f}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max, latency.mean))
end
"#;

/// The output of the script.
#[derive(Deserialize)]
struct Printed {
    requests: u64,
    duration_us: u64,
    errors: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    mean_us: f64,
}

/// The script as a temporary file, removed on drop.
struct Script(PathBuf);

impl Script {
    fn write() -> io::Result<Script> {
        let path = env::temp_dir().join(format!("coreloop-compare-{}.lua", std::process::id()));
        fs::write(&path, SCRIPT).map(|()| Script(path))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // A file that cannot be removed is small and in the folder of temporary files.
        let _ = fs::remove_file(&self.0);
    }
}

/// The parameters of a wrk run.
#[derive(Clone, Copy)]
pub struct Wrk {
    pub threads: u32,
    pub connections: u32,
    pub seconds: u64,
    pub setting: Setting,
    pub round: u32,
}

impl Ground {
    /// Makes a short warm-up run and a measured one.
    pub fn wrk(&self, server: &mut Server, wrk: Wrk) -> Result<Run, Failure> {
        let script = Script::write().map_err(|error| format!("wrk's script: {error}"))?;
        let (server_cores, client_cores) = self.cores.of(wrk.setting);
        let run = |seconds: u64| {
            let mut command = Command::new("wrk");
            let words = format!("-t{} -c{} -d{seconds}s --latency -s", wrk.threads, wrk.connections);
            command.args(words.split(' ')).arg(&script.0).arg(format!("http://{}", server.address));
            let patience = Duration::from_secs(seconds) + PATIENCE;
            self.finish(command, client_cores, patience, || self.screen.tick())
        };
        run(WARMUP_S)?;
        let cpu = || tree::cpu_ns(server.pid()).ok();
        let (server_before, client_before) = (cpu(), process::ended_children_cpu_ns());
        let said = run(wrk.seconds)?;
        let (server_after, client_after) = (cpu(), process::ended_children_cpu_ns());
        if let Some(death) = server.death() {
            return Err(Failure::Broken(death));
        }
        let printed = said.stdout.lines().rev().find(|line| line.starts_with('{'));
        let printed: Printed = printed
            .and_then(|line| serde_json::from_str(line).ok())
            .ok_or(format!("wrk measured nothing ({}): {}", said.status, said.last_words))?;
        if printed.requests == 0 || printed.errors > printed.requests / 100 {
            let why = format!("{} of wrk's {} requests failed", printed.errors, printed.requests);
            return Err(Failure::Broken(why));
        }
        let server_ns = server_after.zip(server_before).map(|(after, before)| after.saturating_sub(before));
        let client_ns = Some(client_after.saturating_sub(client_before));
        let window_ns = printed.duration_us.max(1) as f64 * 1e3;
        let per_call = |ns: Option<u64>| Some(ns? as f64 / 1e3 / printed.requests as f64);
        let share = |ns: Option<u64>, cores: &[usize]| Some(ns? as f64 / window_ns / cores.len() as f64);
        Ok(Run {
            round: wrk.round,
            calls_per_s: printed.requests as f64 * 1e9 / window_ns,
            server_us_per_call: per_call(server_ns),
            client_us_per_call: per_call(client_ns),
            server_share: share(server_ns, server_cores),
            client_share: share(client_ns, client_cores),
            p50_us: Some(printed.p50_us),
            p99_us: Some(printed.p99_us),
            p999_us: Some(printed.p999_us),
            max_us: Some(printed.max_us),
            mean_us: Some(printed.mean_us),
            errors: printed.errors,
            first_error: (printed.errors > 0).then(|| "as wrk counts them".to_owned()),
            peak_kib: tree::peak_kib(server.pid()).ok(),
            ..Run::default()
        })
    }
}

impl Comparison<'_> {
    pub fn speaks_http(subject: &Subject) -> bool {
        subject.spoken == Spoken::Http
    }

    fn wrk_seconds(&self) -> u64 {
        self.ground.seconds.ceil().max(1.0) as u64
    }

    fn wrk_each_s(&self) -> f64 {
        (self.wrk_seconds() + WARMUP_S) as f64 + START_S
    }

    pub fn wrk_s(&self) -> f64 {
        let subjects = self.subjects.iter().filter(|subject| Self::speaks_http(subject)).count();
        (subjects * CONNECTIONS.len()) as f64 * self.wrk_each_s() * f64::from(self.options.rounds())
    }

    pub fn wrk(&mut self) -> Result<(), Stopped> {
        if !self.subjects.iter().any(|subject| Self::speaks_http(subject)) || !self.has("wrk", "wrk", INSTALL)
        {
            return Ok(());
        }
        for connections in CONNECTIONS {
            let first = self.record.wrk.len();
            let cells =
                self.subjects.iter().filter(|subject| Self::speaks_http(subject)).map(|subject| Cell {
                    peer: subject.name.clone(),
                    setting: Setting::Apart,
                    call: "add".into(),
                    connections,
                    depth: 1,
                    client_threads: 1,
                    runs: Vec::new(),
                });
            self.record.wrk.extend(cells.collect::<Vec<_>>());
            let what = format!("wrk {connections}x1");
            for round in 1..=self.options.rounds() {
                for subject in self.in_turn(round) {
                    if !Self::speaks_http(&subject) {
                        continue;
                    }
                    let seconds = self.wrk_seconds();
                    let wrk = Wrk { threads: 1, connections, seconds, setting: Setting::Apart, round };
                    let run = self.attempt(&subject, &what, self.wrk_each_s(), |ground| {
                        let mut server = ground.start(&subject, wrk.setting)?;
                        let run = ground.wrk(&mut server, wrk)?;
                        server.stop();
                        Ok(run)
                    })?;
                    let Some(run) = run else { continue };
                    self.ground.screen.say(&line(&what, &subject, &run));
                    let cells = &mut self.record.wrk[first..];
                    if let Some(cell) = cells.iter_mut().find(|cell| cell.peer == subject.name) {
                        cell.runs.push(run);
                    }
                }
            }
        }
        Ok(())
    }
}
