//! `loadgen compare` with failing peers: the peers are small scripts around the floor, in a temporary folder.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coreloop_bench::compare::record::{Record, State};
use coreloop_bench::process::{self, Group};
use tempfile::TempDir;

const FLOOR: &str = env!("CARGO_BIN_EXE_floor");
const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");
/// Arguments for a short run.
const SHORT: &str = "--sections capacity --loads 2x2 --quick --seconds 0.1 --warmup 0.02";

/// A folder of peers, and another for output.
struct Place {
    peers: TempDir,
    out: TempDir,
}

/// The result of a comparison.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    record: Option<Record>,
}

impl Place {
    fn new() -> Place {
        let folder = || tempfile::tempdir().expect("a folder");
        Place { peers: folder(), out: folder() }
    }

    /// Adds a peer that is the floor, with lines of its `peer.toml` replaced or added.
    fn peer(&self, name: &str, lines: &[(&str, &str)]) -> &Self {
        let mut all = vec![
            ("title", format!("{name:?}")),
            ("differs", "'It is the floor.'".into()),
            ("protocol", "'native'".into()),
            ("server", format!("[{FLOOR:?}, '--listen', '{{address}}']")),
            ("version", format!("[{FLOOR:?}, '--version']")),
            ("calls", "['add']".into()),
            ("pipelines", "true".into()),
        ];
        for (key, value) in lines {
            all.retain(|(known, _)| known != key);
            all.push((key, (*value).into()));
        }
        let text: String = all.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let home = self.home(name);
        fs::create_dir(&home).expect("a folder of its own");
        fs::write(home.join("peer.toml"), text).expect("written");
        self
    }

    fn home(&self, name: &str) -> std::path::PathBuf {
        self.peers.path().join(name)
    }

    /// A comparison of the peers alone, unless the arguments select more.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(LOADGEN);
        command.args(["compare", "--skip", "coreloop", "--peers"]).arg(self.peers.path());
        if !arguments.contains("--record") {
            command.args(["--json", "compare.json", "--report", "compare.html"]);
        }
        command.args(arguments.split_whitespace()).current_dir(self.out.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &str) -> Run {
        self.finish(self.command(arguments))
    }

    fn finish(&self, mut command: Command) -> Run {
        let output = command.output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            record: self.record(),
        }
    }

    fn record(&self) -> Option<Record> {
        let text = fs::read_to_string(self.out.path().join("compare.json")).ok()?;
        Some(serde_json::from_str(&text).expect("a record"))
    }
}

impl Run {
    fn record(&self) -> &Record {
        self.record.as_ref().unwrap_or_else(|| panic!("no record: {}{}", self.stdout, self.stderr))
    }

    /// Returns why a peer or a part of it was left out.
    fn why(&self, peer: &str, what: &str) -> &str {
        let mut left_out = self.record().left_out.iter();
        let found = left_out.find(|left_out| left_out.peer == peer && left_out.what == what);
        let why = &found.unwrap_or_else(|| panic!("{peer}, {what} in {:#?}", self.record().left_out)).why;
        assert!(self.stdout.contains(why.as_str()), "{why} in {}", self.stdout);
        why
    }

    /// Asserts that this many rounds were measured, at the one load of the test.
    fn assert_measured(&self, peer: &str, rounds: usize) {
        let cell = self.record().capacity.iter().find(|cell| cell.peer == peer);
        let runs = &cell.unwrap_or_else(|| panic!("{peer} in {}", self.stdout)).runs;
        assert_eq!(runs.len(), rounds, "{peer}: {runs:?}");
        for run in runs {
            assert!(run.calls_per_s > 0.0 && run.errors == 0 && run.p99_us > Some(0.0), "{run:?}");
            assert!(run.server_us_per_call > Some(0.0) && run.peak_kib > Some(100), "{run:?}");
        }
    }
}

#[test]
fn failing_peers_are_reported_and_the_others_run() {
    let place = Place::new();
    place
        .peer("good", &[])
        .peer("no-build", &[("build", "['sh', '-c', 'echo no compiler >&2; exit 3']")])
        .peer("no-start", &[("server", "['sh', '-c', 'echo no such flag >&2; exit 1']")])
        .peer("no-version", &[("version", "['false']")])
        .peer("no-words", &[("protocol", "'http'")])
        .peer("wrong-users", &[("calls", "['add', 'users-100']")])
        .peer("missing", &[("needs", "[{ program = 'no-such-program', install = 'apt-get install it' }]")])
        .peer("torn", &[("pipelines", "maybe")]);
    let run = place.run(&format!("{SHORT} --rounds 2"));
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert_eq!(run.record().state, State::Complete);
    run.assert_measured("good", 2);
    run.assert_measured("wrong-users", 2);
    for (peer, what, want) in [
        ("no-build", "all", "no compiler"),
        ("no-start", "all", "no such flag"),
        ("no-version", "all", "does not say its version"),
        ("no-words", "all", "add: "),
        ("wrong-users", "users-100", "no users"),
        ("missing", "all", "no program no-such-program"),
        ("torn", "all", "pipelines"),
    ] {
        let why = run.why(peer, what);
        assert!(why.contains(want), "{peer}: {why}");
    }
    let missing = run.record().left_out.iter().find(|left_out| left_out.peer == "missing");
    assert_eq!(missing.and_then(|missing| missing.install.as_deref()), Some("apt-get install it"));
    assert!(run.stdout.contains("to install it: apt-get install it"), "{}", run.stdout);
    let names: Vec<&str> = run.record().peers.iter().map(|peer| &*peer.name).collect();
    assert_eq!(names, ["good", "wrong-users"]);
}

#[test]
fn a_server_that_dies_during_a_run_is_reported() {
    let place = Place::new();
    // The kernel ends it once it has used a second of CPU time; the window would last ten minutes.
    let mortal = format!("['sh', '-c', 'ulimit -t 1; exec {FLOOR} --listen {{address}}']");
    place.peer("mortal", &[("server", &mortal)]).peer("other", &[]);
    let only = "--sections capacity --loads 64x16 --quick --warmup 0.02";
    let run = place.run(&format!("{only} --only mortal --seconds 600"));
    assert_eq!(run.code, Some(1), "nothing was measured: {}", run.stdout);
    let why = run.why("mortal", "capacity add 64x16");
    assert!(why.contains("the server died"), "{why}");
    let again = place.run(&format!("{SHORT} --only other"));
    again.assert_measured("other", 1);
}

#[test]
fn a_peers_own_client_counts_if_it_reports_no_error() {
    let place = Place::new();
    // The common arguments of clients follow: --call add, then those that the bare client has too.
    let client = format!(
        "['sh', '-c', 'address=$1; shift 3; exec {LOADGEN} drive $address \"$@\"', 'client', '{{address}}']"
    );
    let lines = [("protocol", "'own'"), ("client", client.as_str())];
    let wrong = "['sh', '-c', 'echo out of luck >&2', 'client', '{address}']";
    place.peer("good", &lines).peer("silent", &[("protocol", "'own'"), ("client", wrong)]);
    let liar = place.home("good").join("liar.sh");
    fs::write(&liar, liar_script()).expect("written");
    place.peer("liar", &[("protocol", "'own'"), ("client", "['sh', '../good/liar.sh', '{address}']")]);
    let run = place.run(SHORT);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    run.assert_measured("good", 1);
    assert!(run.why("silent", "all").contains("out of luck"));
    assert!(run.why("liar", "all").contains("5 wrong answers, the first: 7 is no sum"));
}

/// A client that makes the calls, and reports that some of the answers were wrong.
fn liar_script() -> String {
    format!(
        "address=$1; shift 3\n{LOADGEN} drive $address \"$@\" | \
         sed 's/\"errors\":0,\"first_error\":null/\"errors\":5,\"first_error\":\"7 is no sum\"/'\n"
    )
}

#[test]
fn a_server_without_its_port_is_restarted_with_another() {
    let place = Place::new();
    // Every second start fails, as if another process had taken the port first.
    let script =
        "if [ -e taken ]; then rm taken; exec \"$0\" --listen \"$1\"; fi; : > taken; echo in use >&2; exit 1";
    let server = format!("['sh', '-c', '{script}', {FLOOR:?}, '{{address}}']");
    place.peer("late", &[("server", &server), ("ready", "'connect'")]);
    let never = "['sh', '-c', 'echo {address} is in use >&2; exit 1']";
    place.peer("never", &[("server", never), ("ready", "'connect'")]);
    let run = place.run(SHORT);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    run.assert_measured("late", 1);
    assert!(run.why("never", "all").contains("is in use"));
}

#[test]
fn every_section_has_figures_and_files() {
    let place = Place::new();
    place.peer("floor", &[("calls", "['add', 'echo-256k']")]);
    let out = place.out.path().join("record");
    let run = place.run(
        "--sections capacity,tails,memory,mix --loads 2x1,2x2 --quick --seconds 0.2 --warmup 0.02 --rounds 2 \
         --shared --mix-rate 500 --markdown table.md --record record",
    );
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let json = fs::read_dir(&out).expect("the folder").filter_map(Result::ok).map(|entry| entry.path());
    let json = json.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let path = json.last().expect("a record");
    let record: Record = serde_json::from_str(&fs::read_to_string(&path).expect("text")).expect("a record");
    assert_eq!(record.capacity.len(), 4, "two loads in two settings");
    assert!(record.capacity.iter().all(|cell| cell.runs.len() == 2), "{:#?}", record.capacity);
    let point = record.tails[0].at(0.5).expect("half of its capacity");
    assert!(point.runs.len() == 2 && point.p99_us().is_some(), "{point:?}");
    assert!(record.memory[0].bytes_per_idle().is_some() && record.memory[0].peak_kib > Some(100));
    assert!(record.slow_mix.is_empty(), "it has no slow call");
    let pair = &record.beside_big[0];
    assert!(pair.p99_ratio().is_some() && pair.rate <= 500.0, "{pair:?}");
    assert!(path.with_extension("html").exists());
    let table = fs::read_to_string(place.out.path().join("table.md")).expect("the table");
    assert!(table.contains("| server | called by |"), "{table}");
    assert!(run.stdout.contains("open loop at 50 %"), "{}", run.stdout);
}

#[test]
fn missing_tools_are_reported_with_their_install_command() {
    let place = Place::new();
    place.peer("floor", &[]);
    let mut command = place.command("--sections capacity,syscalls --loads 1x1 --quick --seconds 0.1");
    command.env("PATH", "/nowhere");
    let run = place.finish(command);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    run.assert_measured("floor", 1);
    assert!(run.why("strace", "syscalls").contains("no program strace"));
    assert!(run.stdout.contains("apt-get install strace"), "{}", run.stdout);
}

#[test]
fn one_core_is_reported_as_unreliable() {
    let place = Place::new();
    place.peer("floor", &[]);
    let mut command = place.command(SHORT);
    let cores = process::allowed_cores().expect("affinity");
    process::confine(&mut command, &cores[..1]);
    let run = place.finish(command);
    run.assert_measured("floor", 1);
    assert_eq!(run.record().settings.server_cores, run.record().settings.client_cores);
    assert!(run.record().notes.iter().any(|note| note.contains("only one core")), "{:?}", run.record().notes);
    assert!(run.stdout.contains("only one core"), "{}", run.stdout);
}

#[test]
fn no_server_to_compare_is_an_error_of_one_line() {
    let place = Place::new();
    let run = place.run("");
    assert!(run.code != Some(0) && run.record.is_none());
    assert!(run.stderr.contains("has a peer.toml"), "{}", run.stderr);
    let mut command = Command::new(LOADGEN);
    command.args(["compare", "--peers", "/no/such/folder"]).current_dir(place.out.path());
    let run = place.finish(command);
    assert!(
        run.stderr.contains("no peers in /no/such/folder") && run.stderr.contains("--peers"),
        "{}",
        run.stderr
    );
    place.peer("floor", &[]);
    for (arguments, want) in [
        ("--only nobody", "no server's name begins with \"nobody\"; known: coreloop-inline"),
        ("--skip floor", "leave no server"),
        ("--coreloop /no/such/program", "no program at /no/such/program"),
        ("--seconds 0", "between 0.01 and 3600"),
    ] {
        let run = place.run(arguments);
        assert!(run.code != Some(0) && run.record.is_none(), "{arguments}");
        assert!(run.stderr.contains(want), "{arguments}: {}", run.stderr);
    }
}

/// Waits until a process has ended, without a time limit.
fn assert_ends(file: &Path) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let until = Instant::now() + Duration::from_secs(20);
    for pid in text.split_whitespace() {
        let pid = pid.parse().expect("a number");
        while process::is_running(pid) {
            assert!(Instant::now() < until, "{pid} of {} lives", file.display());
            std::thread::yield_now();
        }
    }
}

/// Compares a server that this shell command starts; the comparison receives a signal once it reports a run.
fn interrupted(place: &Place, first: &str, signal: i32) -> (Option<i32>, String) {
    let script = format!("{first}; exec \"$0\" --listen \"$1\"");
    let server = format!("['sh', '-c', '{script}', {FLOOR:?}, '{{address}}']");
    place.peer("parent", &[("server", &server)]);
    let mut command =
        place.command("--sections capacity --loads 1x1 --seconds 0.2 --warmup 0.02 --rounds 100");
    let mut group = Group::spawn(&mut command).expect("it starts");
    let stdout = group.child().stdout.take().expect("asked for a pipe");
    let mut lines = BufReader::new(stdout);
    let mut text = String::new();
    while !text.contains("round 1 ") {
        assert!(lines.read_line(&mut text).expect("text") > 0, "it ended: {text}");
    }
    // SAFETY: no pointers; the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(group.id() as libc::pid_t, signal) }, 0);
    lines.read_to_string(&mut text).expect("text");
    let status = group.child().wait().expect("it ends");
    assert_ends(&place.home("parent").join("pids"));
    (status.code(), text)
}

#[test]
fn an_interrupt_keeps_results_and_leaves_no_process() {
    let place = Place::new();
    let (code, text) = interrupted(&place, "sleep 600 & echo $$ $! >> pids", libc::SIGINT);
    assert_eq!(code, Some(130), "{text}");
    let record = place.record().expect("it was written");
    assert_eq!(record.state, State::Cut);
    assert!((1..100).contains(&record.capacity[0].runs.len()), "{}", record.capacity[0].runs.len());
    assert!(text.contains("cut short") && text.contains("written: compare.json"), "{text}");
}

#[test]
fn no_server_outlives_a_killed_comparison() {
    let place = Place::new();
    let (code, _) = interrupted(&place, "echo $$ >> pids", libc::SIGKILL);
    assert_eq!(code, None);
}
