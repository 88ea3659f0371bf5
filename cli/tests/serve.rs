//! `coreloop serve`: its output, the sources of its configuration, its errors.

mod common;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use common::{Ran, Served, coreloop, run};

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
