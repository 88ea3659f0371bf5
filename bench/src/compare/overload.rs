//! Goodput under overload: `loadgen overload` against each server whose protocol the load generator has, in a process of
//! its own, as a user runs it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use serde::Deserialize;

use super::ground::{Failure, Ground};
use super::peer::Kind;
use super::record::{OverloadPoint, OverloadRow, OverloadRun, Setting};
use super::run::{Comparison, START_S, Stopped};
use super::subject::Subject;
use crate::loadgen::speech::AddressProtocol;
use crate::process::Server;

/// The offered loads, as multiples of the capacity.
const FACTORS: [f64; 4] = [0.8, 1.3, 2.0, 5.0];
/// Windows in which the capacity is measured, and the warm-up of each.
const CAPACITY_WINDOWS: f64 = 3.0;
/// HTTP answers in order, so it needs a connection for each call in flight.
const HTTP_CONNECTIONS: &str = "256";
const PATIENCE: Duration = Duration::from_secs(120);

/// How the load generator calls a server in this section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called {
    /// The protocol, as in an address.
    pub protocol: String,
    /// The full name of the method that returns a list of users.
    pub method: String,
}

/// What is read of the result of `loadgen overload`.
#[derive(Deserialize)]
struct Printed {
    capacity: PrintedCapacity,
    steps: Vec<PrintedStep>,
}

#[derive(Deserialize)]
struct PrintedCapacity {
    calls_per_s: f64,
}

#[derive(Deserialize)]
struct PrintedStep {
    factor: f64,
    states_deadline: bool,
    goodput: f64,
    ceiling: Option<f64>,
    ok_latency: Option<PrintedTimes>,
    doubts: Vec<String>,
}

#[derive(Deserialize)]
struct PrintedTimes {
    p99_ns: u64,
}

/// A file for the result, removed on drop.
struct ResultFile(PathBuf);

impl Drop for ResultFile {
    fn drop(&mut self) {
        // A file that cannot be removed is small and in the folder of temporary files.
        let _ = fs::remove_file(&self.0);
    }
}

impl Subject {
    /// Returns how the load generator calls the server in this section.
    fn called(&self) -> Vec<Called> {
        let usual = self.spoken.speaks().filter(|_| self.calls.contains(&Kind::Users100));
        let usual = usual
            .map(|protocol| Called { protocol: protocol.name().to_owned(), method: "Users.List".to_owned() });
        usual.into_iter().chain(self.overload.iter().cloned()).collect()
    }
}

impl Ground {
    fn overload(
        &self,
        server: &mut Server,
        Called { protocol, method }: &Called,
    ) -> Result<Printed, Failure> {
        let client_cores = self.cores.of(Setting::Apart).1;
        let file = ResultFile(env::temp_dir().join(format!("coreloop-overload-{}.json", std::process::id())));
        let factors: Vec<String> = FACTORS.iter().map(ToString::to_string).collect();
        let mut command = Command::new(&self.own);
        command.arg("overload").arg(format!("{protocol}:{}", server.address));
        command.args(["--method", method, "--body", "100", "--quiet"]);
        command.args(["--factors", &factors.join(",")]);
        command.args([
            "--duration",
            &format!("{}s", self.seconds),
            "--warmup",
            &format!("{}s", self.warmup_s),
        ]);
        command.args(["--watch", &server.pid().to_string(), "--json"]).arg(&file.0);
        if protocol == AddressProtocol::Http.name() {
            command.args(["--depth", "1", "--connections", HTTP_CONNECTIONS]);
        }
        let patience = Duration::from_secs_f64(self.overload_s(protocol)) + PATIENCE;
        let said = self.finish(command, client_cores, patience, || self.screen.tick())?;
        if let Some(death) = server.death() {
            return Err(Failure::Broken(death));
        }
        let text = fs::read_to_string(&file.0);
        let printed = text.ok().and_then(|text| serde_json::from_str::<Printed>(&text).ok());
        let printed =
            printed.ok_or(format!("loadgen overload failed ({}): {}", said.status, said.last_words))?;
        match printed.steps.iter().all(|step| step.ok_latency.is_none()) {
            true => Err(Failure::Broken("no call succeeded under overload".into())),
            false => Ok(printed),
        }
    }

    /// Returns the planned time of one server, in seconds.
    fn overload_s(&self, protocol: &str) -> f64 {
        let has_deadlines = AddressProtocol::split(&format!("{protocol}:x")).0.carries_deadlines();
        let passes = if has_deadlines { 2.0 } else { 1.0 };
        (passes * FACTORS.len() as f64 + CAPACITY_WINDOWS) * (self.seconds + self.warmup_s) + START_S
    }
}

impl Comparison<'_> {
    pub fn overload_s(&self) -> f64 {
        let called = self.subjects.iter().flat_map(|subject| subject.called());
        let each: f64 = called.map(|called| self.ground.overload_s(&called.protocol)).sum();
        each * f64::from(self.options.rounds())
    }

    pub fn overload(&mut self) -> Result<(), Stopped> {
        for round in 1..=self.options.rounds() {
            for subject in self.in_turn(round) {
                for called in subject.called() {
                    let planned_s = self.ground.overload_s(&called.protocol);
                    let what = format!("overload, {}", called.protocol);
                    let measured = self.attempt(&subject, &what, planned_s, |ground| {
                        let mut server = ground.start(&subject, Setting::Apart)?;
                        let printed = ground.overload(&mut server, &called)?;
                        server.stop();
                        Ok(printed)
                    })?;
                    let Some(printed) = measured else { continue };
                    self.ground.screen.say(&said(&subject, &called.protocol, &printed));
                    self.keep(&subject, &called.protocol, round, printed);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, subject: &Subject, protocol: &str, round: u32, printed: Printed) {
        let rows = &mut self.record.overload;
        let at = rows
            .iter()
            .position(|row| row.peer == subject.name && row.protocol == protocol)
            .unwrap_or_else(|| {
                rows.push(OverloadRow {
                    peer: subject.name.clone(),
                    protocol: protocol.to_owned(),
                    capacity: Vec::new(),
                    points: Vec::new(),
                });
                rows.len() - 1
            });
        let row = &mut rows[at];
        row.capacity.push(printed.capacity.calls_per_s);
        for step in printed.steps {
            let PrintedStep { factor, states_deadline, goodput, ceiling, ok_latency, doubts } = step;
            let run = OverloadRun {
                round,
                goodput,
                ceiling,
                p99_us: ok_latency.map(|times| times.p99_ns as f64 / 1e3),
                doubts,
            };
            match row.at_mut(factor, states_deadline) {
                Some(point) => point.runs.push(run),
                None => row.points.push(OverloadPoint { factor, states_deadline, runs: vec![run] }),
            }
        }
    }
}

fn said(subject: &Subject, protocol: &str, printed: &Printed) -> String {
    let steps: Vec<String> = printed
        .steps
        .iter()
        .map(|step| {
            let stated = if step.states_deadline { "" } else { " unstated" };
            format!("{}×{stated} {:.0} %", step.factor, step.goodput * 100.0)
        })
        .collect();
    format!(
        "overload  {}, {protocol}  {:.0} calls/s; in time: {}",
        subject.title,
        printed.capacity.calls_per_s,
        steps.join(", ")
    )
}
