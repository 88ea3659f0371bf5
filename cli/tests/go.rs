//! Interoperability with Go's net/rpc in both directions: its client with our server, our client with its server,
//! over gob, gob behind an HTTP CONNECT, and JSON.
//!
//! The Go program is tests/go/interop; it is built once. Without Go every test prints that it is skipped and passes,
//! unless `CI` is set.

mod common;

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use coreloop::Code;
use coreloop::client::{CallError, Caller, Client, MethodId};
use coreloop::codec::{Bytes, Codec, Plain, encode_plain};
use coreloop::demo::{Args, ArithClient, EchoClient, Quotient, User, UsersClient};
use coreloop::{Context, Server};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use common::{Served, coreloop};

const PROTOCOLS: [&str; 3] = ["gob", "dialhttp", "jsonrpc"];

/// A Go program, built once for the whole test run.
fn built(name: &str, flags: &[&str]) -> Output {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/go/interop");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut build = Command::new("go");
    build.arg("build").args(flags).arg("-o").arg(program).arg(".").current_dir(source);
    build.output().expect("go runs")
}

/// The program, if Go is installed.
fn interop() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = BUILT.get_or_init(|| {
        if Command::new("go").arg("version").output().is_err() {
            assert!(env::var_os("CI").is_none(), "Go is not installed, and it is what this is held to");
            return None;
        }
        let build = built("interop", &[]);
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop"))
    });
    if program.is_none() {
        eprintln!("SKIPPED: Go is not installed");
    }
    program.clone()
}

/// Runs all checks of Go's client.
fn check(program: &Path, protocol: &str, address: &str) {
    let run = Command::new(program).args(["check", protocol, address]).output().expect("it runs");
    let text = [&run.stdout[..], &run.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        run.status.success() && text.contains("every answer is as it must be"),
        "{protocol} at {address}: {text}"
    );
}

#[derive(Serialize, Deserialize)]
struct Line {
    sku: String,
    price: f64,
}

impl Line {
    fn told(&self) -> String {
        format!("{:?}:{}", self.sku, self.price)
    }
}

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    count: i64,
    lines: Vec<Line>,
    stock: BTreeMap<String, i64>,
    main: Line,
    gift: bool,
    #[serde(default = "three")]
    stars: u8,
}

fn three() -> u8 {
    3
}

#[derive(Serialize, Deserialize)]
struct Told {
    text: String,
}

#[test]
fn missing_and_null_values_of_gos_client_are_zero() {
    if interop().is_none() {
        return;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/go/values");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("values");
    let build = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).output();
    let build = build.expect("go runs");
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let tell = |_: &Context<'_>, order: Order| {
        let Order { item, count, lines, stock, main, gift, stars } = order;
        let lines: Vec<String> = lines.iter().map(Line::told).collect();
        let text =
            format!("{item:?} {count} [{}] {stock:?} {} {gift} {stars}", lines.join(", "), main.told());
        Ok(Told { text })
    };
    let mean = |_: &Context<'_>, list: Vec<f64>| Ok(list.iter().sum::<f64>() / list.len() as f64);
    let server = Server::builder().method("Orders.Tell", tell).method("Orders.Mean", mean);
    let server = server.listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    let run = Command::new(&program).args(["jsonrpc", &address]).output().expect("it runs");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("every value is as it must be"), "{text}");
    server.shutdown();
}

#[test]
fn gos_client_gets_every_answer_of_ours() {
    let Some(program) = interop() else { return };
    let folder = TempDir::new().expect("a folder");
    let unix = format!("unix:{}", folder.path().join("socket").display());
    let served = Served::start_command(coreloop(&["serve", "--listen", "127.0.0.1:0", "--listen", &unix]), 2);
    for address in &served.addresses {
        for protocol in PROTOCOLS {
            check(&program, protocol, address);
        }
    }
    assert_eq!(served.stop().code, Some(0));
}

#[test]
fn closing_gos_gob_client_cancels_its_calls() {
    let Some(program) = interop() else { return };
    let served = Served::start(&[]);
    for protocol in ["gob", "dialhttp"] {
        check(&program, protocol, served.address());
    }
    // The client closes with a call of a minute in flight each time: the drain neither waits for it nor cancels it.
    let ran = served.stop();
    assert_eq!(ran.code, Some(0));
    let text = [ran.stdout, ran.stderr].concat();
    assert!(text.contains("dropped 2, drain-cancelled 0"), "{text}");
}

/// Go's net/rpc has no drain notice, so the client continues to call.
#[test]
fn gos_client_loses_no_answer_to_a_drain() {
    let Some(program) = interop() else { return };
    for protocol in PROTOCOLS {
        // Far longer than the test may take: the server ends because its connections do.
        let served = Served::start(&["--cores", "2", "--set", "limits.drain_ms=600000"]);
        let mut client = Command::new(&program);
        client.args(["drain", protocol, served.address()]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = client.spawn().expect("it runs");
        let mut stdout = BufReader::new(client.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("text");
        assert_eq!(line, "calls in flight\n", "{protocol}");
        let ran = served.stop();
        line.clear();
        stdout.read_line(&mut line).expect("text");
        let output = client.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{protocol}: {}", String::from_utf8_lossy(&output.stderr));
        let answered: u64 =
            line.trim_end().strip_prefix("answered ").expect("a number").parse().expect("one");
        assert_eq!(ran.code, Some(0), "{protocol}: {ran:?}");
        let counted = (ran.summary("calls"), ran.summary("errors"), ran.summary("dropped"));
        assert_eq!(counted, (answered, 0, 0), "{protocol}: every answer that was given has arrived");
        assert_eq!(ran.summary("drain-cancelled"), 0, "{protocol}");
    }
}

/// Methods without a reply, or without an argument.
fn nothing() -> Server {
    let builder = Server::builder()
        .method("Nothing.Unit", |_cx: &Context, _argument: i64| Ok(()))
        .method("Nothing.None", |_cx: &Context, _argument: i64| Ok(None::<i64>))
        .method("Nothing.Some", |_cx: &Context, number: i64| Ok(Some(number)))
        .method("Nothing.Takes", |_cx: &Context, (): ()| Ok(1_i64));
    builder.listen("127.0.0.1:0").start().expect("it starts")
}

#[test]
fn gos_client_accepts_empty_replies() {
    let Some(program) = interop() else { return };
    let server = nothing();
    let run = Command::new(program).args(["nothing", &server.addresses()[0].to_string()]).output();
    let run = run.expect("it runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    server.shutdown();
}

#[test]
fn our_client_reads_empty_replies() {
    static UNIT: MethodId = MethodId::new("Nothing.Unit");
    static NONE: MethodId = MethodId::new("Nothing.None");
    static TAKES: MethodId = MethodId::new("Nothing.Takes");
    let server = nothing();
    for scheme in ["jsonrpc", "http"] {
        let client = Client::connect(format!("{scheme}:{}", server.addresses()[0])).expect("it listens");
        client.call::<Plain<i64>, Plain<()>>(&UNIT, &1).expect("nothing");
        let none: Option<i64> = client.call::<Plain<i64>, Plain<Option<i64>>>(&NONE, &1).expect("none");
        assert_eq!(none, None);
        // A map, too: an empty object would be one.
        let map: Option<BTreeMap<String, i64>> =
            client.call::<Plain<i64>, Plain<Option<BTreeMap<String, i64>>>>(&NONE, &1).expect("none");
        assert_eq!(map, None);
        assert_eq!(client.call::<Plain<()>, Plain<i64>>(&TAKES, &()).expect("one"), 1);
        let bytes = client.call_bytes("Nothing.None", Codec::Json, b"1").expect("none");
        assert_eq!(bytes, b"null");
    }
    server.shutdown();
}

#[test]
fn gos_client_finds_no_race_with_ours() {
    let Some(_) = interop() else { return };
    let build = built("interop-race", &["-race"]);
    if !build.status.success() {
        // The race detector needs cgo and a C compiler.
        let why = String::from_utf8_lossy(&build.stderr).into_owned();
        assert!(env::var_os("CI").is_none() && (why.contains("cgo") || why.contains("gcc")), "{why}");
        return eprintln!("SKIPPED: Go cannot build with -race here: {why}");
    }
    let served = Served::start(&[]);
    check(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-race"), "gob", served.address());
    assert_eq!(served.stop().code, Some(0));
}

/// Go's server for a protocol; killed when the value is dropped.
fn go_server(program: &Path, protocol: &str, address: &str) -> Served {
    let mut command = Command::new(program);
    command.args(["serve", protocol, address]);
    Served::start_command(command, 1)
}

/// The text of a failed call to Go's server, and the code to which our client maps it.
fn failure<T: std::fmt::Debug>(result: Result<T, CallError>) -> (Code, String) {
    match result {
        Err(CallError::Status(status)) => (status.code, status.message.to_string()),
        other => panic!("a failure was expected, not {other:?}"),
    }
}

/// Runs all calls of our client to Go's server.
fn make_all_calls(address: &str) {
    let client = Client::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let (arith, echo, users) =
        (ArithClient::new(client.clone()), EchoClient::new(client.clone()), UsersClient::new(client.clone()));
    assert_eq!(arith.multiply(&Args { a: -6, b: 7 }).unwrap(), -42, "{address}");
    for (a, b) in [(6, 7), (0, 0), (i64::MAX, 0), (i64::MIN, 0)] {
        assert_eq!(arith.add(&Args { a, b }).unwrap(), a + b);
    }
    assert_eq!(arith.divide(&Args { a: 17, b: 5 }).unwrap(), Quotient { quo: 3, rem: 2 });
    assert_eq!(failure(arith.divide(&Args { a: 1, b: 0 })), (Code::Unknown, "divide by zero".to_owned()));

    for text in ["", "hello", "é世\0\"\\", &"x".repeat(100_000)] {
        assert_eq!(echo.echo(&text.to_owned()).unwrap(), text);
    }
    let bytes: Vec<u8> = (0..1 << 20).map(|n| (n * 7) as u8).collect();
    assert_eq!(&echo.bytes(&Bytes::from(&bytes[..])).unwrap()[..], bytes);

    // In JSON Go encodes an absent list as null, which our client does not accept as a list: these replies have
    // elements in every list.
    for id in [11, 23, 1_000_007] {
        assert_eq!(users.get(&id).unwrap(), User::new(id));
    }
    let is_gob = address.starts_with("gob");
    if is_gob {
        for id in [0, 1, 2, 3, 1 << 40] {
            assert_eq!(users.get(&id).unwrap(), User::new(id));
        }
        let all = users.list(&100).unwrap();
        assert_eq!(all, (1..=100).map(User::new).collect::<Vec<_>>());
    }
    assert_eq!(failure(users.list(&-1)), (Code::Unknown, "n out of range".to_owned()));

    // A quick call overtakes a slow one; hundreds are in flight at once; a one-way call blocks no other call.
    let slow = echo.sleep_start(&2000);
    assert_eq!(arith.add(&Args { a: 1, b: 2 }).unwrap(), 3);
    assert!(!slow.is_done(), "a quick call waited for a slow one");
    arith.add_one_way(&Args { a: 1, b: 1 }).expect("it is sent");
    let many: Vec<_> = (0..500).map(|a| arith.add_start(&Args { a, b: 3 })).collect();
    for (a, sum) in many.into_iter().enumerate() {
        assert_eq!(sum.wait().unwrap(), a as i64 + 3);
    }
    assert_eq!(slow.wait().unwrap(), 2000);

    // Methods that Go's server does not have.
    let codec = if is_gob { Codec::Gob } else { Codec::Json };
    let mut argument = Vec::new();
    encode_plain(codec, &7i64, &mut argument).expect("a number has a form");
    for (name, code, text) in [
        ("Nobody.Add", Code::Unimplemented, "rpc: can't find service Nobody.Add"),
        ("Arith.Nothing", Code::Unimplemented, "rpc: can't find method Arith.Nothing"),
        ("NoDot", Code::Unknown, "rpc: service/method request ill-formed: NoDot"),
    ] {
        assert_eq!(failure(client.call_bytes(name, codec, &argument)), (code, text.to_owned()));
    }
    assert_eq!(arith.add(&Args { a: 20, b: 22 }).unwrap(), 42, "the connection is as good as before");
    let stats = client.stats();
    assert_eq!(
        (stats.unknown_replies, stats.late_replies),
        (0, 0),
        "the answer to the one-way call is dropped"
    );
}

#[test]
fn our_client_gets_every_answer_of_gos() {
    let Some(program) = interop() else { return };
    let folder = TempDir::new().expect("a folder");
    for (protocol, scheme) in [("gob", "gob"), ("dialhttp", "gob-http"), ("jsonrpc", "jsonrpc")] {
        let server = go_server(&program, protocol, "127.0.0.1:0");
        make_all_calls(&format!("{scheme}:{}", server.address()));
        let unix = format!("unix:{}", folder.path().join(protocol).display());
        let _server = go_server(&program, protocol, &unix);
        make_all_calls(&format!("{scheme}:{unix}"));
    }
}

#[test]
fn our_client_reports_a_server_without_go_rpc() {
    let Some(program) = interop() else { return };
    // A Go web server without rpc.HandleHTTP.
    let server = go_server(&program, "web", "127.0.0.1:0");
    let error = Client::connect(format!("gob-http:{}", server.address())).unwrap_err();
    assert!(matches!(error, CallError::Connect(_)), "{error:?}");
    assert!(error.to_string().contains("the server says \"HTTP/1.0 404 Not Found\""), "{error}");
}

#[test]
fn our_client_gets_every_answer_of_ours_in_gob() {
    for scheme in ["gob", "gob-http"] {
        gets_every_answer_of_ours(scheme);
    }
}

fn gets_every_answer_of_ours(scheme: &str) {
    let served = Served::start(&[]);
    let client = Client::connect(format!("{scheme}:{}", served.address())).unwrap();
    let users = UsersClient::new(client.clone());
    for id in 0..20 {
        assert_eq!(users.get(&id).unwrap(), User::new(id));
    }
    let arith = ArithClient::new(client.clone());
    assert_eq!(failure(arith.divide(&Args { a: 1, b: 0 })), (Code::Unknown, "divide by zero".to_owned()));
    // A value of another type fails that call, and no other.
    let mut text = Vec::new();
    encode_plain(Codec::Gob, &"text".to_owned(), &mut text).expect("text has a form");
    for argument in [&text[..], b"\x03\x04\x00", b"no gob"] {
        let (code, message) = failure(client.call_bytes("Arith.Add", Codec::Gob, argument));
        assert_eq!(code, Code::Unknown, "{message}");
    }
    assert_eq!(arith.add(&Args { a: 20, b: 22 }).unwrap(), 42);
    let stats = client.stats();
    assert_eq!((stats.connects, stats.lost), (1, 0));
    assert_eq!(served.stop().code, Some(0));
}
