//! Server processes that are killed, stopped, drained and started again on the same port.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coreloop::client::Direct;

use crate::common::PATIENCE;
use crate::server::{self, Counts, Faults, Settings, WorkClient};

/// A server process, and what is needed to start it again. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    settings: Settings,
    child: Child,
}

impl Process {
    /// Starts a server at this address that notes its runs in this file.
    fn start(listen: &str, runs: PathBuf, register: Option<&str>) -> Process {
        let mut settings = Settings {
            listen: listen.to_owned(),
            runs: runs.to_str().expect("the path is text").to_owned(),
            register: register.map(str::to_owned),
        };
        let (child, address) = spawn(&settings);
        settings.listen = address;
        Process { settings, child }
    }

    /// Starts it again on the same port. It must have ended.
    pub fn start_again(&mut self) {
        let (child, address) = spawn(&self.settings);
        assert_eq!(address, self.settings.listen);
        self.child = child;
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> &str {
        &self.settings.listen
    }

    /// Returns the numbers of the calls that it has run, each as often as it ran, over all starts.
    pub fn runs(&self) -> Vec<u64> {
        server::runs(self.settings.runs.as_ref())
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "cannot signal {}", self.child.id());
    }

    /// Kills it without a warning, and waits until the system has closed its sockets.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is a child");
    }

    /// Lets it drain and waits for its end.
    pub fn drain(&mut self) {
        self.signal("TERM");
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("it is a child") {
                Some(status) => return assert!(status.success(), "it drained, but ended with {status}"),
                None => assert!(Instant::now() < until, "it does not drain"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the number of descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// Returns what it has counted since its start.
    pub fn counts(&self) -> Counts {
        self.control().counts().expect("it answers")
    }

    /// Switches its faults.
    pub fn set_faults(&self, faults: Faults) {
        self.control().set_faults(&faults).expect("it answers");
    }

    /// Connects past all clients under test.
    fn control(&self) -> WorkClient<Direct> {
        WorkClient::new(Direct::connect(self.address()).expect("it listens"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::zombie_processes, reason = "the caller waits for the returned process")]
fn spawn(settings: &Settings) -> (Child, String) {
    let mut child = server::command(settings).stdout(Stdio::piped()).spawn().expect("this binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).expect("the output is text") == 0 {
            panic!("the server process ended before it listened: {:?}", child.wait());
        }
        // The test harness may have begun the line.
        if let Some((_, address)) = line.split_once("listening on ") {
            let address = address.trim_end().to_owned();
            // Nothing it prints later may block it.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return (child, address);
        }
    }
}

/// Several servers of one service.
#[derive(Debug)]
pub struct Servers {
    pub all: Vec<Process>,
    /// The files of their runs are in it.
    _folder: tempfile::TempDir,
}

impl Servers {
    /// Starts this many on free ports of this machine.
    pub fn start(count: usize) -> Servers {
        Servers::start_with("127.0.0.1:0", count, None)
    }

    /// Starts this many, which register themselves.
    pub fn start_registered(count: usize, url: &str) -> Servers {
        Servers::start_with("127.0.0.1:0", count, Some(url))
    }

    /// Starts this many at this address, whose port is 0.
    pub fn start_on(listen: &str, count: usize) -> Servers {
        Servers::start_with(listen, count, None)
    }

    fn start_with(listen: &str, count: usize, register: Option<&str>) -> Servers {
        let folder = tempfile::tempdir().expect("a folder");
        let runs = |index: usize| folder.path().join(format!("runs-{index}"));
        let start = |index: usize| Process::start(listen, runs(index), register);
        Servers { all: (0..count).map(start).collect(), _folder: folder }
    }

    /// Returns the URL of all of them as a fixed list.
    pub fn fixed(&self) -> String {
        let addresses: Vec<&str> = self.all.iter().map(Process::address).collect();
        format!("static:{}", addresses.join(","))
    }

    /// Returns the sum of what they have counted since their starts.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for counts in self.all.iter().map(Process::counts) {
            sum.attempts += counts.attempts;
            sum.marked += counts.marked;
            sum.failed += counts.failed;
            sum.cancelled += counts.cancelled;
        }
        sum
    }

    /// Returns how often each call has run, on all of them.
    pub fn runs(&self) -> std::collections::BTreeMap<u64, usize> {
        let mut runs = std::collections::BTreeMap::new();
        for id in self.all.iter().flat_map(Process::runs) {
            *runs.entry(id).or_default() += 1;
        }
        runs
    }
}
