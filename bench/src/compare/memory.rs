//! Memory: of a server that just started, of idle connections, and the peak while 400 connections are busy.
//!
//! Where the load generator knows the protocol, connections are opened a few at a time and each makes one call.
//! Otherwise the peer's own client holds them, at a rate so low that nearly all are idle.

use std::thread;
use std::time::Duration;

use super::ground::{Failure, Ground, command_of};
use super::peer::Kind;
use super::probe::{self, Caller};
use super::record::{Memory, Setting};
use super::run::{Comparison, START_S, Stopped};
use super::subject::{Client, Subject};
use crate::loadgen::speech::AddressProtocol;
use crate::process::{Server, tree};
use crate::versus::Load;

/// Lets the server end its turn (release buffers) before its memory is read.
const SETTLE: Duration = Duration::from_millis(300);
/// Connections that are opened before they are used: few enough for the smallest backlog.
const BURST: usize = 64;
const IDLE: u32 = 5000;
const IDLE_QUICK: u32 = 500;
const BUSY: Load = Load { connections: 400, depth: 1 };
/// How long a peer's client holds idle connections, and how often it calls over all of them.
const HELD_S: f64 = 3.0;
const HELD_RATE: f64 = 500.0;

impl Comparison<'_> {
    fn has_memory(subject: &Subject) -> bool {
        // All native kinds of coreloop use the same server, so one of them suffices.
        let is_same = subject.is_coreloop && !matches!(&*subject.name, "coreloop-inline" | "coreloop-http");
        !is_same && subject.has_rate()
    }

    fn idle_connections(&self) -> u32 {
        if self.options.quick { IDLE_QUICK } else { IDLE }
    }

    fn memory_each_s(&self) -> f64 {
        let busy_s = self.ground.seconds + self.ground.warmup_s;
        START_S * 2.0 + busy_s + f64::from(self.idle_connections()) / 2000.0 + SETTLE.as_secs_f64()
    }

    pub fn memory_s(&self) -> f64 {
        let subjects = self.subjects.iter().filter(|subject| Self::has_memory(subject)).count();
        subjects as f64 * self.memory_each_s()
    }

    pub fn memory(&mut self) -> Result<(), Stopped> {
        let connections = self.idle_connections();
        for subject in self.subjects.clone() {
            if !Self::has_memory(&subject) {
                continue;
            }
            let planned_s = self.memory_each_s();
            let idle = self.attempt(&subject, "idle memory", planned_s / 2.0, |ground| {
                let mut server = ground.start(&subject, Setting::Apart)?;
                let found = match &subject.client {
                    Client::Loadgen(speaks) => held_here(ground, &subject, &server, *speaks, connections),
                    Client::Drive | Client::Own { .. } => {
                        held_by_client(ground, &subject, &server, connections)
                    }
                };
                if let Some(death) = server.death() {
                    return Err(Failure::Broken(death));
                }
                server.stop();
                found
            })?;
            let known = self.record.cell(&subject.name, Setting::Apart, Kind::Add.name(), &BUSY.to_string());
            let known = known.and_then(super::record::Cell::peak_kib);
            let peak_kib = match known {
                Some(peak_kib) => Some(peak_kib),
                None => self
                    .attempt(&subject, "memory at 400x1", planned_s / 2.0, |ground| {
                        let mut server = ground.start(&subject, Setting::Apart)?;
                        let order = ground.order(Kind::Add, BUSY, Setting::Apart, 1);
                        let measured = ground.make(&subject, &mut server, &order)?;
                        server.stop();
                        Ok(measured.run.peak_kib)
                    })?
                    .flatten(),
            };
            if idle.is_none() && peak_kib.is_none() {
                continue;
            }
            let (start_kib, idle_kib) = idle.unzip();
            let memory = Memory {
                peer: subject.name.clone(),
                start_kib,
                idle_connections: connections,
                idle_kib,
                peak_kib,
            };
            let mib = |kib: Option<u64>| kib.map_or("?".into(), |kib| format!("{:.1}", kib as f64 / 1024.0));
            self.ground.screen.say(&format!(
                "memory  {:<22}  {} MiB at start, {} bytes per idle connection, {} MiB at most",
                subject.name,
                mib(start_kib),
                memory.bytes_per_idle().map_or("?".into(), |bytes| format!("{bytes:.0}")),
                mib(peak_kib)
            ));
            self.record.memory.push(memory);
        }
        Ok(())
    }
}

fn resident_kib(server: &Server) -> Result<u64, String> {
    thread::sleep(SETTLE);
    tree::resident_kib(server.pid()).map_err(|error| format!("its memory: {error}"))
}

/// Returns the memory at the server's start and with the connections, in KiB.
fn held_here(
    ground: &Ground,
    subject: &Subject,
    server: &Server,
    speaks: AddressProtocol,
    connections: u32,
) -> Result<(u64, u64), Failure> {
    let call = subject.call(speaks, Kind::Add, 1)?;
    let open = || probe::connect(server.address, speaks, &call);
    // The first connection includes what the server sets up once.
    let mut first = open()?;
    first.call(1)?;
    let start_kib = resident_kib(server)?;
    let mut held: Vec<Box<dyn Caller>> = Vec::with_capacity(connections as usize);
    while held.len() < connections as usize {
        ground.check()?;
        ground.screen.tick();
        let burst = BURST.min(connections as usize - held.len());
        let opened = held.len();
        for _ in 0..burst {
            held.push(open()?);
        }
        // An answered connection has been accepted, so the backlog is empty for the next ones.
        for caller in &mut held[opened..] {
            caller.call(1)?;
        }
    }
    Ok((start_kib, resident_kib(server)?))
}

/// Measures the same where only the peer's client has the protocol: the maximum seen while it runs.
fn held_by_client(
    ground: &Ground,
    subject: &Subject,
    server: &Server,
    connections: u32,
) -> Result<(u64, u64), Failure> {
    let Client::Own { command, folder } = &subject.client else {
        return Err(Failure::Broken("its client cannot hold connections".into()));
    };
    let run = |connections: u32, seconds: f64, rate: f64| {
        let at_home = Subject { folder: folder.clone(), ..subject.clone() };
        let mut command = command_of(&at_home, command, Some(server.address), 1);
        let kind = subject.first_kind().name();
        let words = format!(
            "--call {kind} --connections {connections} --depth 1 --seconds {seconds} --warmup 1 --rate {rate}"
        );
        command.args(words.split(' ')).args(["--watch", &server.pid().to_string()]);
        let mut most_kib = 0;
        let patience = Duration::from_secs(60);
        let said = ground.finish(command, ground.cores.of(Setting::Apart).1, patience, || {
            ground.screen.tick();
            most_kib = most_kib.max(tree::resident_kib(server.pid()).unwrap_or(0));
        })?;
        match said.stdout.lines().rev().find(|line| line.starts_with('{')) {
            Some(_) => Ok(most_kib),
            None => Err(Failure::Broken(format!("its client measured nothing: {}", said.last_words))),
        }
    };
    run(1, 0.2, 10.0)?;
    let start_kib = resident_kib(server)?;
    Ok((start_kib, run(connections, HELD_S, HELD_RATE)?.max(start_kib)))
}
