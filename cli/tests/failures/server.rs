//! The server of these tests, in a process of its own: a service that notes each run of a call in a file and has faults
//! that a method switches on and off.
//!
//! The process is this test binary once more: it runs the one ignored test below, which serves if the environment says
//! so. A file that each run is written to outlives the process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coreloop::{Code, Context, Server, Status, signals};
use serde::{Deserialize, Serialize};

/// The variable with the settings of a server process, as JSON.
const SETTINGS: &str = "CORELOOP_TEST_SERVER";

/// How the calls of a server fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    /// Each call takes this much longer, in microseconds.
    pub delay_us: u64,
    /// One of this many calls fails, the first one included; 0: none does.
    pub fail_one_of: u64,
    /// The number of the code with which they fail.
    pub code: u32,
}

/// What a server has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Attempts of calls that have begun.
    pub attempts: u64,
    /// Those marked as repeated or hedged.
    pub marked: u64,
    /// Attempts that failed on purpose.
    pub failed: u64,
    /// Attempts whose caller gave up before the end.
    pub cancelled: u64,
}

/// The settings of a server process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The address to listen on.
    pub listen: String,
    /// The file that the runs are noted in.
    pub runs: String,
    /// The registry that it registers itself in.
    pub register: Option<String>,
}

#[derive(Debug)]
struct Work {
    runs: Mutex<File>,
    attempts: AtomicU64,
    marked: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    delay_us: AtomicU64,
    fail_one_of: AtomicU64,
    code: AtomicU64,
}

#[coreloop::service]
impl Work {
    /// A call that must not run twice. It returns its number.
    #[rpc(blocking)]
    fn place(&self, cx: &Context, id: u64, us: u64) -> Result<u64, Status> {
        self.run(cx, id, us)
    }

    /// A call that may run twice.
    #[rpc(blocking, idempotent)]
    fn price(&self, cx: &Context, id: u64, us: u64) -> Result<u64, Status> {
        self.run(cx, id, us)
    }

    /// A call that takes no time and is not noted in the file, for high rates. It must not run twice.
    #[rpc(inline)]
    fn tally(&self, cx: &Context, id: u64) -> Result<u64, Status> {
        self.begin(cx)?;
        Ok(id)
    }

    /// Switches faults on and off.
    #[rpc(inline)]
    fn set_faults(&self, _cx: &Context, faults: Faults) -> Result<(), Status> {
        self.delay_us.store(faults.delay_us, Ordering::Relaxed);
        self.code.store(u64::from(faults.code), Ordering::Relaxed);
        self.fail_one_of.store(faults.fail_one_of, Ordering::Relaxed);
        Ok(())
    }

    /// Returns what was counted.
    #[rpc(inline, idempotent)]
    fn counts(&self, _cx: &Context) -> Result<Counts, Status> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Counts {
            attempts: get(&self.attempts),
            marked: get(&self.marked),
            failed: get(&self.failed),
            cancelled: get(&self.cancelled),
        })
    }
}

impl Work {
    /// Counts an attempt, and fails it if it is one that is to fail.
    fn begin(&self, cx: &Context) -> Result<(), Status> {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        if cx.metadata().iter().any(|(key, _)| key == "attempt") {
            self.marked.fetch_add(1, Ordering::Relaxed);
        }
        let fail_one_of = self.fail_one_of.load(Ordering::Relaxed);
        if fail_one_of != 0 && number.is_multiple_of(fail_one_of) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let code = u32::try_from(self.code.load(Ordering::Relaxed)).ok().and_then(Code::from_number);
            return Err(Status::new(code.unwrap_or(Code::Internal), "on purpose"));
        }
        Ok(())
    }

    fn run(&self, cx: &Context, id: u64, us: u64) -> Result<u64, Status> {
        {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.write_all(&id.to_le_bytes()).expect("the runs are written");
        }
        self.begin(cx)?;
        let us = us + self.delay_us.load(Ordering::Relaxed);
        cx.sleep(Duration::from_micros(us)).inspect_err(|_| {
            self.cancelled.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(id)
    }
}

#[test]
#[ignore = "a server process of the other tests"]
fn serve() {
    let Ok(settings) = std::env::var(SETTINGS) else { return };
    let settings: Settings = serde_json::from_str(&settings).expect("the settings are JSON");
    let runs = OpenOptions::new().create(true).append(true).open(&settings.runs).expect("the file opens");
    let work = Work {
        runs: Mutex::new(runs),
        attempts: AtomicU64::new(0),
        marked: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        cancelled: AtomicU64::new(0),
        delay_us: AtomicU64::new(0),
        fail_one_of: AtomicU64::new(0),
        code: AtomicU64::new(0),
    };
    let mut builder = Server::builder().cores(1).workers(1).service(work).listen(&settings.listen);
    if let Some(url) = &settings.register {
        builder = builder.register(url);
    }
    let server = builder.start().expect("it starts");
    let stopper = server.stopper();
    let _signals = signals::on_stop(move |_signal| stopper.stop()).expect("signals are watched");
    println!("listening on {}", server.addresses()[0]);
    server.wait().expect("it drains");
}

/// Returns the command that serves with these settings.
pub fn command(settings: &Settings) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "server::serve", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(SETTINGS, serde_json::to_string(settings).expect("it is JSON")).stdin(Stdio::null());
    command
}

/// Reads the numbers of the calls that have run, each as often as it ran.
pub fn runs(file: &Path) -> Vec<u64> {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect()
}
