//! A whole comparison: prepares the subjects, runs section after section, and writes the record after each.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use super::ground::{Failure, Ground};
use super::load::Order;
use super::peer::{Kind, Spoken};
use super::prepare::{self, Builds};
use super::record::{LeftOut, Record, Setting, State};
use super::subject::{self, Client, Subject};
use super::{Options, Section, keep};
use crate::loadgen::Ending;
use crate::versus::Load;

/// After this number of failures a peer is not tried again.
const FAILURES_MAX: u32 = 3;
/// Time to start and stop a server, in seconds, for the progress estimate.
pub const START_S: f64 = 0.3;

/// The comparison ends early at the user's request.
pub struct Stopped;

/// State that all sections share.
pub struct Comparison<'a> {
    pub options: &'a Options,
    pub ground: Ground,
    /// The servers that take part.
    pub subjects: Vec<Rc<Subject>>,
    pub record: Record,
    files: keep::Files,
    began: Instant,
    failures: HashMap<String, u32>,
    /// Measurements that have failed once and are not retried in the next round.
    broken: HashSet<(String, String)>,
}

impl<'a> Comparison<'a> {
    pub fn new(options: &'a Options, ground: Ground, record: Record, files: keep::Files) -> Comparison<'a> {
        Comparison {
            options,
            ground,
            subjects: Vec::new(),
            record,
            files,
            began: Instant::now(),
            failures: HashMap::new(),
            broken: HashSet::new(),
        }
    }

    /// Runs all requested sections. The results are written even if the run is cut short.
    pub fn run(mut self, wanted: Vec<subject::Found>) -> Result<Ending, String> {
        let is_cut = self.sections(wanted).is_err();
        self.record.state = if is_cut { State::Cut } else { State::Complete };
        self.write()?;
        self.ground.screen.end();
        self.ground.screen.say(&super::text::render(&self.record));
        for path in self.files.written() {
            self.ground.screen.say(&format!("written: {}", path.display()));
        }
        Ok(match (is_cut, self.record.is_empty()) {
            (true, _) => Ending::Cut,
            (false, true) => Ending::AllFailed,
            (false, false) => Ending::Complete,
        })
    }

    fn sections(&mut self, wanted: Vec<subject::Found>) -> Result<(), Stopped> {
        self.prepare(wanted)?;
        let sections = self.options.sections();
        let planned_s = sections.iter().map(|section| self.planned_s(*section)).sum();
        self.ground.screen.plan(planned_s);
        self.ground.screen.say(&format!(
            "{} take part; it takes some {}",
            self.subjects.len(),
            super::screen::minutes(planned_s)
        ));
        for section in sections {
            match section {
                Section::Capacity => self.capacity()?,
                Section::Tails => self.tails()?,
                Section::Memory => self.memory()?,
                Section::Syscalls => self.syscalls()?,
                Section::Wrk => self.wrk()?,
                Section::Article => self.article()?,
                Section::Mix => self.mix()?,
                Section::Overload => self.overload()?,
            }
            // Writing may succeed again at the end; only a failure then is an error.
            if let Err(why) = self.write() {
                self.ground.screen.say(&format!("! {why}"));
            }
        }
        Ok(())
    }

    fn planned_s(&self, section: Section) -> f64 {
        match section {
            Section::Capacity => self.capacity_s(),
            Section::Tails => self.tails_s(),
            Section::Memory => self.memory_s(),
            Section::Syscalls => self.syscalls_s(),
            Section::Wrk => self.wrk_s(),
            Section::Article => self.article_s(),
            Section::Mix => self.mix_s(),
            Section::Overload => self.overload_s(),
        }
    }

    fn prepare(&mut self, wanted: Vec<subject::Found>) -> Result<(), Stopped> {
        let mut builds = Builds::new();
        for found in wanted {
            let subject = match found {
                Ok(subject) => subject,
                Err((peer, why)) => {
                    self.leave_out(&peer, "all", why, None);
                    continue;
                }
            };
            if subject.is_coreloop && self.options.coreloop.is_none() && !self.build_coreloop(&mut builds)? {
                continue;
            }
            let ready = prepare::prepare(&self.ground, subject, &mut builds, &mut self.record.left_out);
            match ready {
                Ok(Some((subject, peer))) => {
                    if peer.is_coreloop {
                        self.record.coreloop.clone_from(&peer.version);
                    }
                    self.record.peers.push(peer);
                    self.subjects.push(Rc::new(subject));
                }
                Ok(None) => {}
                Err(_) => return Err(Stopped),
            }
        }
        Ok(())
    }

    /// Builds coreloop, at most once. Returns whether its program exists.
    fn build_coreloop(&mut self, builds: &mut Builds) -> Result<bool, Stopped> {
        let words = ["cargo", "build", "--release", "-p", "coreloop-cli"];
        let Some(home) = super::workspace() else {
            let is_there = self.ground.own.with_file_name("coreloop").is_file();
            if !is_there && self.broken.insert(("coreloop".into(), "build".into())) {
                let why = "no program and no repository to build it in: name it with --coreloop".into();
                self.leave_out("coreloop", "all", why, Some(words.join(" ")));
            }
            return Ok(is_there);
        };
        let key = (home.clone(), words.map(ToOwned::to_owned).to_vec());
        if !builds.contains_key(&key) {
            self.ground.screen.begin("building coreloop".into());
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).current_dir(home);
            // Build beside this program, wherever that was built.
            if let Some(target) = self.ground.own.parent().and_then(std::path::Path::parent) {
                command.arg("--target-dir").arg(target);
            }
            let result = prepare::run_build(&self.ground, command).map_err(|_| Stopped)?;
            if let Err(why) = &result {
                self.leave_out("coreloop", "all", why.clone(), None);
            }
            builds.insert(key.clone(), result);
        }
        Ok(builds[&key].is_ok())
    }

    /// Records what is left out of the comparison.
    pub fn leave_out(&mut self, peer: &str, what: &str, why: String, install: Option<String>) {
        self.ground.screen.say(&format!("{peer}: {what} left out: {why}"));
        self.record.left_out.push(LeftOut { peer: peer.into(), what: what.into(), why, install });
    }

    /// Returns whether a program is installed; if not, leaves the section out.
    pub fn has(&mut self, program: &str, section: &str, install: &str) -> bool {
        if prepare::find(program, std::path::Path::new("/")).is_some() {
            return true;
        }
        let why = format!("there is no program {program}");
        self.leave_out(program, section, why, Some(install.into()));
        false
    }

    /// Measures something of a subject. A failed measurement is recorded and not retried; a subject that fails
    /// repeatedly is not tried at all.
    pub fn attempt<T>(
        &mut self,
        subject: &Subject,
        what: &str,
        planned_s: f64,
        measure: impl FnOnce(&Ground) -> Result<T, Failure>,
    ) -> Result<Option<T>, Stopped> {
        let key = (subject.name.clone(), what.to_owned());
        let failures = self.failures.get(&subject.name).copied().unwrap_or(0);
        if failures >= FAILURES_MAX || self.broken.contains(&key) {
            self.ground.screen.done(planned_s);
            return Ok(None);
        }
        self.ground.screen.begin(format!("{what}, {}", subject.title));
        let result = measure(&self.ground);
        self.ground.screen.done(planned_s);
        match result {
            Ok(measured) => Ok(Some(measured)),
            Err(Failure::Stopped) => Err(Stopped),
            Err(Failure::Broken(why)) => {
                self.leave_out(&subject.name, what, why, None);
                self.broken.insert(key);
                self.failures.insert(subject.name.clone(), failures + 1);
                if failures + 1 == FAILURES_MAX {
                    let why = format!("it failed {FAILURES_MAX} times");
                    self.leave_out(&subject.name, "the rest", why, None);
                }
                Ok(None)
            }
        }
    }

    /// Returns the subjects of a round; every second round has the reverse order.
    pub fn in_turn(&self, round: u32) -> Vec<Rc<Subject>> {
        let mut order = self.subjects.clone();
        if round.is_multiple_of(2) {
            order.reverse();
        }
        order
    }

    /// Returns the rate of `add` in a closed loop of 64 connections: from the section capacity, or measured now.
    pub fn capacity_of(&mut self, subject: &Subject) -> Result<Option<f64>, Stopped> {
        let load = Load { connections: 64, depth: 1 };
        let cell = self.record.cell(&subject.name, Setting::Apart, Kind::Add.name(), &load.to_string());
        if let Some(spread) = cell.and_then(super::record::Cell::calls_per_s) {
            return Ok(Some(spread.median));
        }
        let run = self.attempt(subject, "its capacity", 0.0, |ground| {
            let mut server = ground.start(subject, Setting::Apart)?;
            let order: Order = ground.order(Kind::Add, load, Setting::Apart, 0);
            let measured = ground.make(subject, &mut server, &order);
            server.stop();
            measured
        })?;
        Ok(run.map(|measured| measured.run.calls_per_s))
    }

    /// Writes record, page and Markdown in their current state.
    fn write(&mut self) -> Result<(), String> {
        self.record.took_s = self.began.elapsed().as_secs_f64();
        self.files.write(&self.record)
    }
}

impl Subject {
    /// Returns whether its client supports a rate.
    pub fn has_rate(&self) -> bool {
        self.client != Client::Drive
    }

    /// Returns the maximum calls in flight on a connection of an open loop. Over HTTP it is one: HTTP clients do not
    /// pipeline.
    pub fn depth_max(&self) -> u32 {
        if self.pipelines && self.spoken != Spoken::Http { 16 } else { 1 }
    }
}

/// Returns the path of coreloop's program, which may not be built yet.
pub fn coreloop_at(options: &Options, own: &std::path::Path) -> PathBuf {
    let named = options.coreloop.as_ref();
    // Made absolute, because it runs in other folders.
    named.map_or(own.with_file_name("coreloop"), |path| path.canonicalize().unwrap_or(path.clone()))
}
