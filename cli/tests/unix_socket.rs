//! A server on a Unix socket behind nginx, whose workers run as another user: the example of docs/http.md.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, Served, coreloop, run};

const DOCS: &str = include_str!("../../docs/http.md");

/// The user of nginx's workers, which is also its group.
const NGINX_USER: &str = "www-data";

/// Returns the output of a program, if it is installed and succeeds.
fn output_of(program: &str, args: &[&str]) -> Option<String> {
    let output: Option<Output> = Command::new(program).args(args).output().ok();
    let output = output.filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns whether nginx can be started with workers of another user; with `CI` set it must.
fn has_nginx() -> bool {
    let is_root = output_of("id", &["-u"]).as_deref() == Some("0");
    let has_user = output_of("id", &["-g", NGINX_USER]).is_some();
    let has = is_root && has_user && output_of("nginx", &["-v"]).is_some();
    assert!(has || std::env::var_os("CI").is_none(), "needs root, nginx and its user {NGINX_USER}");
    if !has {
        eprintln!("skipped: needs root, nginx and its user {NGINX_USER}");
    }
    has
}

/// An nginx process, stopped with its workers when it is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

impl Nginx {
    /// Starts it with the configuration of the docs, for a socket and a port of this test.
    fn start(folder: &Path, socket: &Path, port: u16) -> Nginx {
        let example = DOCS.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next());
        let example = example.expect("docs/http.md has a configuration of nginx");
        assert!(
            example.contains("unix:/run/coreloop/http.sock") && example.contains("listen 80;"),
            "{example}"
        );
        let example = example
            .replace("/run/coreloop/http.sock", socket.to_str().expect("text"))
            .replace("listen 80;", &format!("listen 127.0.0.1:{port};"));
        let at = folder.display();
        let config = format!(
            "user {NGINX_USER};\ndaemon off;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\nevents {{}}\n\
             http {{\naccess_log off;\n{example}\n}}\n"
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, config).expect("written");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path).arg("-p").arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
        let mut nginx = Nginx(command.spawn().expect("nginx starts"));
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = nginx.0.try_wait().expect("it was not waited for");
            let log = || fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < until, "nginx does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
        nginx
    }
}

/// Calls a method through the proxy; returns the status line and the body.
fn call(port: u16) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("nginx listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let body = r#"{"A":6,"B":7}"#;
    let head =
        "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

fn serve(socket: &Path, set: &[&str]) -> Served {
    let mut command = coreloop(&["serve", "--listen", &format!("http:unix:{}", socket.display())]);
    command.args(set.iter().flat_map(|pair| ["--set", pair]));
    Served::start_command(command, 1)
}

#[test]
fn nginx_reaches_a_socket_of_its_group() {
    if !has_nginx() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // nginx's workers must be able to enter the folder.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let socket = folder.path().join("http.sock");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
    let _nginx = Nginx::start(folder.path(), &socket, port);
    let group = format!("unix_group={NGINX_USER}");
    // As in the docs; by number; and by default.
    let number = format!("unix_group={}", output_of("id", &["-g", NGINX_USER]).expect("it has a group"));
    for set in [&["unix_mode=0660", &group][..], &["unix_mode=0660", &number], &[]] {
        let server = serve(&socket, set);
        let meta = fs::symlink_metadata(&socket).expect("the socket");
        let expected = if set.is_empty() { 0o666 } else { 0o660 };
        assert_eq!((meta.mode() & 0o777, meta.uid()), (expected, 0), "{set:?}");
        assert_eq!(call(port), ("HTTP/1.1 200 OK".to_owned(), "42".to_owned()), "{set:?}");
        assert_eq!(server.stop().code, Some(0));
        assert!(!socket.exists());
    }
    // The workers do run as another user.
    let server = serve(&socket, &["unix_mode=0600"]);
    assert_eq!(call(port).0, "HTTP/1.1 502 Bad Gateway");
    server.stop();
}

#[test]
fn a_successor_keeps_its_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    let first = serve(&socket, &[]);
    fs::remove_file(&socket).expect("it was there");
    let second = serve(&socket, &[]);
    assert_eq!(first.stop().code, Some(0));
    let address = format!("http:unix:{}", socket.display());
    assert_eq!(run(&["call", &address, "Arith.Multiply", r#"{"A":6,"B":7}"#]).stdout, "42\n");
    // A killed server leaves its file, which the next one replaces.
    second.signal("KILL");
    second.wait();
    assert!(socket.exists());
    let third = serve(&socket, &[]);
    assert_eq!(third.stop().code, Some(0));
    assert!(!socket.exists());
}

#[test]
fn an_unknown_account_is_an_error_with_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("unix:{}", folder.path().join("s").display());
    for (key, what) in [("unix_user", "user"), ("unix_group", "group")] {
        let ran = run(&["serve", "--listen", &address, "--set", &format!("{key}=no-such-account")]);
        let expected = format!(
            "coreloop: cannot listen on {address}: `{key}`: expected the name or the number of a {what} of this system; \
             got \"no-such-account\"\n"
        );
        assert_eq!((ran.code, ran.stderr), (Some(1), expected));
    }
}
