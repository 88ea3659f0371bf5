//! A wall clock that jumps, years forward and back: deadlines, idle times and drains do not notice, since they use the
//! monotonic clock; dates, lines of the log and session tickets do, since they mean the time of day.
//!
//! The server runs with a library in front of the C library (`LD_PRELOAD`) whose wall clock has an offset, which the test
//! changes in a mapped file. It is compiled with `cc`; without it the tests are skipped.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "../../tests/tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use the rest")]
mod authority;
mod common;

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::http::Raw;
use common::{PATIENCE, Served, coreloop};
use coreloop::Code;
use coreloop::client::Client;
use coreloop::codec::Codec;

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void begin(void) {
  int file = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
  void *mapped = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();
  offset = mapped;
  close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  int status = syscall(SYS_clock_gettime, clock, at);
  if (status == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += *offset;
  return status;
}

time_t time(time_t *into) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (into) *into = at.tv_sec;
  return at.tv_sec;
}

int gettimeofday(struct timeval *at, void *zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"#;

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// The clock of a server.
struct Clock {
    folder: tempfile::TempDir,
    library: PathBuf,
    offset: std::fs::File,
}

impl Clock {
    /// `None` without a C compiler.
    fn new() -> Option<Clock> {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, SHIM).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
        let Ok(output) = cc.output() else {
            eprintln!("skipped: cc is not installed");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(folder.path().join("offset"), [0; 8]).unwrap();
        let offset = std::fs::OpenOptions::new().write(true).open(folder.path().join("offset")).unwrap();
        Some(Clock { folder, library, offset })
    }

    /// Sets the clock of the server, in seconds from now.
    fn jump(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn serve(&self, args: &[&str]) -> Served {
        let mut command = coreloop(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
        command.args(args).env("LD_PRELOAD", &self.library);
        command.env("CLOCK_OFFSET", self.folder.path().join("offset"));
        Served::start_command(command, 1)
    }
}

/// Returns the year in the `Date` of an answer. The date is made once a second at most.
fn year(raw: &mut Raw) -> String {
    let answer = raw.ask("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 200);
    answer.field("Date").expect("every answer has one").split(' ').nth(3).expect("a year").to_owned()
}

#[test]
fn calls_and_connections_do_not_notice_that_the_clock_jumps() {
    let Some(clock) = Clock::new() else { return };
    let idle = "limits.idle_ms=60000";
    let served = clock.serve(&["--set", idle]);
    let mut raw = Raw::to(served.address());
    let now: i64 = year(&mut raw).parse().unwrap();
    let client = Client::connect(served.address()).unwrap();
    for years in [10, -10, 0] {
        // One call waits while the clock jumps, with a deadline far away; one has a deadline that must hold.
        let (patient, hasty) = (client.clone().with_timeout(PATIENCE), client.clone());
        let waits = thread::spawn(move || patient.call_bytes("Echo.Sleep", Codec::Json, b"400"));
        let late = thread::spawn(move || {
            hasty.with_timeout(Duration::from_millis(200)).call_bytes("Echo.Sleep", Codec::Json, b"60000")
        });
        clock.jump(years * YEAR);
        assert_eq!(waits.join().unwrap().unwrap(), b"400", "{years} years");
        assert_eq!(late.join().unwrap().unwrap_err().code(), Code::DeadlineExceeded);
        // The connection is the same, and idle for no time at all. The shim works: the dates are of that year, give or take
        // leap days.
        let shown: i64 = year(&mut raw).parse().unwrap();
        assert!((shown - now - years).abs() <= 1, "{shown} {now} {years}");
    }
    clock.jump(10 * YEAR);
    let ran = served.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.summary("dropped"), 0, "{}", ran.stderr);
}

#[test]
fn times_of_connections_end_although_the_clock_is_set_back() {
    let Some(clock) = Clock::new() else { return };
    let times = ["limits.idle_ms=300", "limits.first_bytes_ms=300", "limits.drain_ms=300"];
    let times = times.map(|set| format!("--set={set}"));
    let served = clock.serve(&[&times[0], &times[1], &times[2]]);
    let mut raw = Raw::to(served.address());
    year(&mut raw);
    let mut silent = Raw::to(served.address());
    clock.jump(-10 * YEAR);
    for stream in [&mut raw.0, &mut silent.0] {
        // A notice may come before the end.
        stream.read_to_end(&mut Vec::new()).expect("the server closes the connection");
    }
    // A drain has its time too, with a call that does not end: a call that crosses its begin is served.
    let mut raw = Raw::to(served.address());
    year(&mut raw);
    let body = "60000";
    let head = "POST /Echo/Sleep HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ";
    raw.send(format!("{head}{}\r\n\r\n{body}", body.len()));
    clock.jump(-20 * YEAR);
    let ran = served.stop();
    assert_eq!((ran.code, ran.summary("drain-cancelled")), (Some(0), 1), "{}", ran.stderr);
}

#[test]
fn the_log_has_the_time_of_day() {
    let Some(clock) = Clock::new() else { return };
    let served = clock.serve(&["--set", "log.format=json"]);
    clock.jump(-30 * YEAR);
    let mut raw = Raw::to(served.address());
    raw.send("no protocol at all\r\n\r\n");
    let _ = raw.0.read_to_end(&mut Vec::new());
    let ran = served.stop();
    let line = ran.stderr.lines().find(|line| line.contains("protocol_error")).expect("an event");
    let year = line.strip_prefix("{\"time\":\"").and_then(|rest| rest.get(..4)).expect("a time");
    let year: i64 = year.parse().expect("a year");
    assert!(year < 2010, "{line}");
}

#[test]
fn session_tickets_age_by_the_time_of_day() {
    let Some(clock) = Clock::new() else { return };
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let authority = authority::Authority::new();
    let pair = authority.server();
    let settings = [("certificate", &pair.certificate), ("key", &pair.key)]
        .map(|(name, path)| format!("--set=tls.{name}={}", path.display()));
    let served = clock.serve(&[&settings[0], &settings[1]]);
    let is_resumed = |option: &str| {
        let (ca, session) = (authority.ca(), authority.path("session"));
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", served.address(), "-ign_eof", "-CAfile"]).arg(ca);
        command.arg(option).arg(session);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        child.stdin.take().expect("piped").write_all(request).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("HTTP/1.1 200 "), "{shown}");
        shown.contains("\nReused, ")
    };
    assert!(!is_resumed("-sess_out"));
    assert!(is_resumed("-sess_in"));
    // Back and forward a little: the key that sealed the ticket is still known.
    clock.jump(-HOUR);
    assert!(is_resumed("-sess_in"));
    clock.jump(HOUR);
    assert!(is_resumed("-sess_in"));
    clock.jump(13 * HOUR);
    assert!(!is_resumed("-sess_in"), "no key is used for more than twelve hours");
    let ran = served.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}
