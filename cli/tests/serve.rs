//! `coreloop serve`: its output, the sources of its configuration, its errors.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use common::{PATIENCE, Ran, Served, coreloop, run};
use serde_json::Value;

#[test]
fn standard_output_has_only_the_listeners() {
    let server = Served::start(&["--stats-every", "3600"]);
    let address = server.address().to_owned();
    assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
    let ended = server.stop();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    // The hints for people have the real address.
    assert!(
        ended.stderr.contains(&format!(" call {address} Arith.Multiply '{{\"A\":6,\"B\":7}}'\n")),
        "{ended:?}"
    );
    assert!(ended.stderr.contains(&format!(" list {address}\n")), "{ended:?}");
    assert!(ended.stderr.contains(&format!(" http://{address}/Arith/Multiply\n")), "{ended:?}");
    assert_eq!((ended.summary("calls"), ended.summary("connections")), (0, 0));
}

#[test]
fn serve_is_the_default_command() {
    let mut command = coreloop(&[]);
    command.env("CORELOOP_LISTEN", "127.0.0.1:0,127.0.0.1:0");
    let server = Served::start_command(command, 2);
    assert_ne!(server.addresses[0], server.addresses[1]);
    for address in &server.addresses {
        assert_eq!(run(&["call", address, "Echo.Echo", "\"hi\""]).stdout, "\"hi\"\n");
    }
    server.signal("INT");
    let ended = server.wait();
    // Each call asks for the method's streams first.
    assert_eq!((ended.code, ended.summary("calls")), (Some(0), 4), "{ended:?}");
}

#[test]
fn statistics_are_printed_while_it_runs() {
    let server = Served::start(&["--stats-every", "1"]);
    // A call that outlasts the first line.
    assert_eq!(run(&["call", server.address(), "Echo.Sleep", "1500"]).code, Some(0));
    let ended = server.stop();
    let line = ended.stderr.lines().find(|line| line.starts_with("stats: ")).unwrap_or_default();
    assert!(line.contains("open connections 1") && line.contains("dropped 0"), "{ended:?}");
}

#[test]
fn print_config_shows_origins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    std::fs::write(&file, "workers = 3\nbatch_max = 8\n\n[limits]\ndrain_ms = 700\n").unwrap();
    let file = file.to_str().unwrap();
    let mut command = coreloop(&["serve", "--config", file, "--print-config", "--cores", "1"]);
    command.args(["--set", "limits.idle_ms=5000", "--listen", "127.0.0.1:0", "--listen", "unix:/a"]);
    command.env("CORELOOP_BATCH_MAX", "16");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "listen = [\"127.0.0.1:0\", \"unix:/a\"]  # flag --listen".to_owned(),
        "cores = 1  # flag --cores".to_owned(),
        format!("workers = 3  # file {file}:1"),
        "batch_max = 16  # env CORELOOP_BATCH_MAX".to_owned(),
        format!("limits.drain_ms = 700  # file {file}:5"),
        "limits.idle_ms = 5000  # flag --set".to_owned(),
        "pin = false  # default".to_owned(),
        // The resolved value, not "auto".
        "accept = \"acceptor\"  # default".to_owned(),
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\nis not in\n{text}");
    }
    // The output is a valid configuration again.
    let again = folder.path().join("b.toml");
    std::fs::write(&again, &text).unwrap();
    let printed = run(&["serve", "--config", again.to_str().unwrap(), "--print-config"]).stdout;
    assert!(printed.contains("\nworkers = 3  # file "), "{printed}");
}

#[test]
fn mistakes_are_one_line_and_exit_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let line = |args: &[&str]| {
        let ran = run(&[&["serve"], args].concat());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (Some(1), "", 1), "{ran:?}");
        assert!(ran.stderr.starts_with("coreloop: "), "{ran:?}");
        ran.stderr
    };
    let in_use = line(&["--listen", &taken]);
    assert!(in_use.contains(&taken) && in_use.to_lowercase().contains("address already in use"), "{in_use}");
    assert!(line(&["--set", "limts.idle_ms=5"]).contains("did you mean `limits.idle_ms`?"));
    assert!(line(&["--set", "cores"]).contains("key=value"));
    assert!(line(&["--cores", "many"]).contains("`cores` in flag --cores"));
    assert!(line(&["--listen", "nowhere"]).contains("host:port"));
    assert!(line(&["--listen", "no-such-host.invalid:1"]).contains("no-such-host.invalid:1"));
    assert!(line(&["--config", "/no/such.toml"]).contains("cannot read /no/such.toml"));
}

#[test]
fn unknown_variables_warn_and_wrong_values_fail() {
    // A variable that Kubernetes sets for a service named coreloop-headless, and a misspelt key.
    let variables = [
        ("CORELOOP_HEADLESS_SERVICE_HOST", "10.0.0.1"),
        ("CORELOOP_HEADLESS_SERVICE_PORT_RPC", "6550"),
        ("CORELOOP_HEADLESS_PORT_6550_TCP", "tcp://10.0.0.1:6550"),
        ("CORELOOP_PORT", "tcp://10.0.0.1:6550"),
        ("CORELOOP_WORKRES", "1"),
    ];
    let with_variables = |args: &[&str]| {
        let mut command = coreloop(args);
        command.envs(variables);
        command
    };
    let server =
        Served::start_command(with_variables(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]), 1);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warnings =
        |stderr: &str| stderr.lines().filter(|line| line.starts_with("coreloop: warning: ")).count();
    assert_eq!(warnings(&ended.stderr), 4, "{ended:?}");
    let likely = "`CORELOOP_WORKRES` is ignored; did you mean `CORELOOP_WORKERS`?\n";
    assert!(ended.stderr.contains(likely), "{ended:?}");

    let printed: Ran = with_variables(&["serve", "--print-config"]).output().unwrap().into();
    assert_eq!((printed.code, warnings(&printed.stderr)), (Some(0), 4), "{printed:?}");
    assert!(!printed.stdout.contains("warning"), "{printed:?}");
    // Warnings are printed even if the server does not start.
    let failed: Ran =
        with_variables(&["serve", "--listen", "unix:/no/such/folder/s"]).output().unwrap().into();
    assert_eq!((failed.code, warnings(&failed.stderr)), (Some(1), 4), "{failed:?}");

    let mut command = coreloop(&["serve"]);
    let wrong: Ran = command.env("CORELOOP_WORKERS", "tcp://10.0.0.1:6550").output().unwrap().into();
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("`workers` in environment variable CORELOOP_WORKERS"), "{wrong:?}");
}

#[test]
fn only_one_of_two_simultaneous_starts_succeeds() {
    for round in 0..12 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let accept = if round % 3 == 0 { "accept=acceptor" } else { "accept=auto" };
        let start = || {
            let mut command = coreloop(&["serve", "--listen", &free, "--cores", "3", "--set", accept]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut children = [start(), start()];
        // The surviving server prints its address; the other one ends without a line on standard output.
        let lines = children.each_mut().map(|child| {
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            line
        });
        let live = lines.iter().position(|line| !line.is_empty()).expect("one of them lives");
        assert_eq!(lines.iter().filter(|line| line.is_empty()).count(), 1, "round {round}: {lines:?}");
        let [first, second] = children;
        let (live, other) = if live == 0 { (first, second) } else { (second, first) };
        let refused: Ran = other.wait_with_output().unwrap().into();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.stderr.contains(&format!("cannot listen on {free}: Address already in use")),
            "{refused:?}"
        );
        // Once the server drains, the next one can have the address.
        assert!(
            Command::new("kill").args(["-s", "TERM", &live.id().to_string()]).status().unwrap().success()
        );
        let ended: Ran = live.wait_with_output().unwrap().into();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let next = Served::start_command(coreloop(&["serve", "--listen", &free, "--cores", "2"]), 1);
        assert_eq!(next.stop().code, Some(0));
    }
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (http, native) = (format!("http:127.0.0.1:{free}"), format!("native:127.0.0.1:{free}"));
    for cores in ["1", "3"] {
        let ran = run(&["serve", "--cores", cores, "--listen", &http, "--listen", &native]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("Address already in use"), "{ran:?}");
    }
}

#[test]
fn the_file_of_a_unix_socket_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a socket");
    let address = format!("unix:{}", path.display());
    let server = Served::start_command(coreloop(&["serve", "--listen", &address]), 1);
    assert_eq!(server.address(), address);
    for target in [address.clone(), format!("native:{address}")] {
        assert_eq!(run(&["call", &target, "Arith.Multiply", r#"{"A":6,"B":7}"#]).stdout, "42\n");
    }
    // A second server finds the socket in use, and does not remove it.
    let second = run(&["serve", "--listen", &address]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(path.exists());
    assert_eq!(server.stop().code, Some(0));
    assert!(!path.exists());
}

/// Connects this often, sends bytes of no protocol, and waits for the end of each connection.
fn break_the_protocol(address: &str, times: usize) {
    for _ in 0..times {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[0; 64]).unwrap();
        let mut answer = Vec::new();
        // The connection may be reset.
        let _ = stream.read_to_end(&mut answer);
    }
}

#[test]
fn events_are_lines_of_json_and_a_flood_of_one_kind_is_few_of_them() {
    let server = Served::start(&["--admin", "off", "--set", "log.format=json", "--stats-every", "3600"]);
    break_the_protocol(server.address(), 1000);
    assert_eq!(run(&["call", server.address(), "Echo.Echo", "\"hi\""]).stdout, "\"hi\"\n");
    let address = server.address().to_owned();
    let ended = server.stop();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    for kind in ["started", "drain_begun", "drained", "summary"] {
        assert_eq!(of_kind(kind).len(), 1, "{kind} in {}", ended.stderr);
    }
    assert_eq!(of_kind("started")[0]["fields"]["addresses"], address);
    for line in &lines {
        let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key} in {line}"));
        let time = text("time").as_bytes();
        assert!(time.len() == 24 && time[10] == b'T' && time[23] == b'Z', "{line}");
        assert!(["info", "warn", "error"].contains(&text("level")), "{line}");
        assert!(text("target").starts_with("coreloop::") && !text("message").is_empty(), "{line}");
        assert!(line["fields"].is_object(), "{line}");
    }
    let broken = of_kind("protocol_error");
    assert!(broken[0]["fields"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", broken[0]);
    let suppressed: u64 = of_kind("suppressed")
        .iter()
        .filter(|line| line["fields"]["of"] == "protocol_error")
        .map(|line| line["fields"]["count"].as_u64().unwrap())
        .sum();
    assert_eq!(broken.len() as u64 + suppressed, 1000);
    assert!(broken.len() < 500 && suppressed > 0, "{} lines", broken.len());
}

#[test]
fn the_level_and_the_form_of_the_log_are_configuration() {
    let printed = run(&["serve", "--print-config", "--set", "log.level=warn"]).stdout;
    assert!(printed.contains("\n[log]\n") || printed.contains("log.level = "), "{printed}");
    let wrong = run(&["serve", "--set", "log.format=xml"]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("`log.format`"), "{wrong:?}");
    assert!(wrong.stderr.contains("\"text\" or \"json\""), "{wrong:?}");
    for (level, count) in [("off", 0), ("error", 0), ("warn", 1), ("info", 1)] {
        let server = Served::start(&["--admin", "off", "--set", &format!("log.level={level}")]);
        break_the_protocol(server.address(), 1);
        let ended = server.stop();
        let lines = ended.stderr.lines();
        let found = lines.filter(|line| line.contains(" coreloop: warning: 127.0.0.1:")).count();
        assert_eq!((ended.code, found), (Some(0), count), "{level} {ended:?}");
        assert_eq!(ended.stderr.contains("coreloop: drained in "), level == "info", "{level} {ended:?}");
    }
}

/// Starts a server whose standard error is this. Returns its address, and that of its metrics.
fn serve_with_error(stderr: Stdio) -> (Child, String, String) {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = coreloop(&["serve", "--listen", "127.0.0.1:0", "--admin", &admin]);
    command.args(["--set", "log.format=json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address =
        line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
    (child, address, admin)
}

/// Returns the number of events with this outcome.
fn log_events(admin: &str, outcome: &str) -> u64 {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let name = format!("coreloop_log_events_total{{outcome=\"{outcome}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Waits for the end of a server after SIGTERM.
fn stop(child: Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let (send, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut child = child;
        send.send(child.wait().unwrap()).unwrap();
    });
    assert_eq!(ended.recv_timeout(PATIENCE).expect("it ends").code(), Some(0));
}

#[test]
fn a_standard_error_that_nobody_reads_delays_nothing() {
    let (unread, mut full) = std::io::pipe().unwrap();
    let stderr = full.try_clone().unwrap();
    // A pipe holds 64 KiB, or less.
    let (send, filled) = mpsc::channel();
    let filler = thread::spawn(move || {
        for _ in 0..64 {
            if full.write_all(&[b' '; 1024]).is_err() {
                break;
            }
        }
        let _ = send.send(());
        // Blocks until the other end is closed.
        let _ = full.write_all(b" ");
    });
    filled.recv_timeout(PATIENCE).unwrap();
    let (child, address, admin) = serve_with_error(stderr.into());
    break_the_protocol(&address, 100);
    assert_eq!(run(&["call", &address, "Echo.Echo", "\"hi\""]).stdout, "\"hi\"\n");
    assert_eq!(log_events(&admin, "logged"), 0, "the logger waits for the pipe");
    assert!(log_events(&admin, "suppressed") > 0);
    stop(child);
    drop(unread);
    filler.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn lines_that_cannot_be_written_are_counted() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (child, address, admin) = serve_with_error(full.into());
    break_the_protocol(&address, 3);
    assert_eq!(run(&["call", &address, "Echo.Echo", "\"hi\""]).stdout, "\"hi\"\n");
    let mut tries = 0;
    // The start, and three peers.
    while log_events(&admin, "dropped") < 4 {
        tries += 1;
        assert!(tries < 10_000, "the lines are not counted");
        thread::yield_now();
    }
    stop(child);
}
