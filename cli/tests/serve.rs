//! `coreloop serve`: what it prints, where its configuration comes from, what it refuses.

mod common;

use std::net::TcpListener;

use common::{Served, coreloop, run};

#[test]
fn standard_output_has_the_listeners_and_nothing_else() {
    let server = Served::start(&["--stats-every", "3600"]);
    let address = server.address().to_owned();
    assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
    let ended = server.stop();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    // People are told how to go on, with the real address.
    assert!(
        ended.stderr.contains(&format!(" call {address} Arith.Multiply '{{\"A\":6,\"B\":7}}'\n")),
        "{ended:?}"
    );
    assert!(ended.stderr.contains(&format!(" list {address}\n")), "{ended:?}");
    assert!(ended.stderr.contains(&format!(" http://{address}/Arith/Multiply\n")), "{ended:?}");
    assert_eq!((ended.summary("calls"), ended.summary("connections")), (0, 0));
}

#[test]
fn without_a_command_it_serves_where_the_environment_says() {
    let mut command = coreloop(&[]);
    command.env("CORELOOP_LISTEN", "127.0.0.1:0,127.0.0.1:0");
    let server = Served::start_command(command, 2);
    assert_ne!(server.addresses[0], server.addresses[1]);
    for address in &server.addresses {
        assert_eq!(run(&["call", address, "Echo.Echo", "\"hi\""]).stdout, "\"hi\"\n");
    }
    server.signal("INT");
    let ended = server.wait();
    assert_eq!((ended.code, ended.summary("calls")), (Some(0), 2), "{ended:?}");
}

#[test]
fn statistics_come_while_it_runs() {
    let server = Served::start(&["--stats-every", "1"]);
    // A call that outlasts the first line.
    assert_eq!(run(&["call", server.address(), "Echo.Sleep", "1500"]).code, Some(0));
    let ended = server.stop();
    let line = ended.stderr.lines().find(|line| line.starts_with("stats: ")).unwrap_or_default();
    assert!(line.contains("open connections 1") && line.contains("dropped 0"), "{ended:?}");
}

#[test]
fn print_config_says_where_each_value_came_from() {
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
        // What it comes to here, not "auto".
        "accept = \"acceptor\"  # default".to_owned(),
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\nis not in\n{text}");
    }
    // What is printed is a configuration again.
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

    let mut command = coreloop(&["serve"]);
    let output = command.env("CORELOOP_WORKRES", "1").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("did you mean `CORELOOP_WORKERS`?"), "{stderr}");
}

#[test]
fn a_unix_socket_is_served_and_its_file_is_gone_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a socket");
    let address = format!("unix:{}", path.display());
    let server = Served::start_command(coreloop(&["serve", "--listen", &address]), 1);
    assert_eq!(server.address(), address);
    for target in [address.clone(), format!("native:{address}")] {
        assert_eq!(run(&["call", &target, "Arith.Multiply", r#"{"A":6,"B":7}"#]).stdout, "42\n");
    }
    // A second server finds it in use, and leaves it alone.
    let second = run(&["serve", "--listen", &address]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(path.exists());
    assert_eq!(server.stop().code, Some(0));
    assert!(!path.exists());
}
