//! Runs the examples and checks their output. `documents.rs` checks the text about them.
//!
//! The Redis example is driven over its socket, split at every byte, and by redis-benchmark and redis-cli where
//! they are installed (where `CI` is set they must be).

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Far more than any example takes: an example that hangs fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of an example. Cargo builds the examples for `cargo test`, beside the tests:
/// `target/<profile>/examples`.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    // `cargo test --test project` alone builds no examples, and would test the result of an earlier build.
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let source = root().join(format!("examples/{name}.rs"));
    let is_new = changed(&path) >= changed(&source);
    assert!(is_new, "{} is missing or old: `cargo build --examples` makes it", path.display());
    path
}

/// A running program, which ends with the test.
struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(name: &str, args: &[&str]) -> Running {
        let mut child = Command::new(example(name)).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// Returns the address in its first line.
    fn address(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned()
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() > until => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Returns the rest of its output after it has ended successfully.
    fn finish(&mut self) -> String {
        let status = self.wait();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(status.success(), "{status}: {rest}");
        rest
    }

    fn terminate(&mut self) -> String {
        assert!(run("kill", &["-TERM", &self.child.id().to_string()]).status.success());
        self.finish()
    }
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

// The examples of services.

#[test]
fn the_calculator_calculates_and_ends() {
    let mut running = Running::start("calculator", &["--once"]);
    running.address();
    let out = running.finish();
    assert_eq!(out, "6 + 7 = 13\n42 / 6 = 7\n42 / 0: invalid_argument: cannot divide\n");
}

#[test]
fn the_calculator_without_once_serves_until_it_is_told_to_end() {
    let mut running = Running::start("calculator", &["127.0.0.1:0"]);
    let address = running.address();
    let client = coreloop::client::Direct::connect(&address).unwrap();
    let json = coreloop::codec::Codec::Json;
    assert_eq!(client.call_bytes("Calculator.Add", json, br#"{"A":1,"B":2}"#).unwrap(), b"3");
    running.terminate();
}

#[test]
fn a_webhook_and_files_are_served_beside_a_method() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("css")).unwrap();
    fs::write(folder.path().join("index.html"), "<p>shop</p>").unwrap();
    fs::write(folder.path().join("css/a b.css"), "p {}").unwrap();
    let mut running = Running::start("routes", &[folder.path().to_str().unwrap(), "127.0.0.1:0"]);
    let address = running.address();
    let curl = |args: &[&str], path: &str| {
        let url = format!("http://{address}{path}");
        let out = run(
            "curl",
            &[&["-sS", "--path-as-is", "-w", " %{http_code} %{content_type}", &url], args].concat(),
        );
        String::from_utf8(out.stdout).unwrap()
    };
    let (right, wrong) = ("X-Signature: f3924d17", "X-Signature: 00000000");
    assert_eq!(curl(&["-d", "order=7", "-H", right], "/hooks/payments"), " 204 ");
    assert!(curl(&["-d", "order=8", "-H", right], "/hooks/payments").ends_with(" 401 application/json"));
    assert!(curl(&["-d", "order=7", "-H", wrong], "/hooks/payments").ends_with(" 401 application/json"));
    assert_eq!(curl(&[], "/Shop/Paid"), "1 200 application/json");
    assert_eq!(curl(&[], "/static/"), "<p>shop</p> 200 text/html; charset=utf-8");
    assert_eq!(curl(&[], "/static/css/a%20b.css"), "p {} 200 text/css; charset=utf-8");
    assert!(curl(&[], "/static/css").contains(" 404 text/plain"));
    assert!(curl(&[], "/static/../index.html").ends_with(" 404 application/json"));
    running.terminate();
}

#[test]
fn a_deferred_answer_comes_and_a_caller_that_gave_up_is_heard_of() {
    let mut running = Running::start("deferred", &[]);
    running.address();
    let out = running.finish();
    for line in [
        "Grace gave up",
        "the porter finds that Grace has gone",
        "Ada: come in, Ada",
        "1 answer came too late",
    ] {
        assert!(out.lines().any(|said| said == line), "{line:?} is missing in {out}");
    }
}

#[test]
fn an_embedding_program_outlives_its_server() {
    let mut running = Running::start("embedding", &[]);
    running.address();
    let out = running.finish();
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        r#"Plant is "not_serving""#,
        r#"Plant is "serving""#,
        "1 connection, 1 call of Plant.Height",
        "drained: 0 calls were cut short",
        "the plant still grows",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_program_has_sections_of_its_own_in_every_layer() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text =
        "[server]\nworkers = 2\nlisten = [\"127.0.0.1:0\"]\n[orders]\nlimit = 7\npassword = \"hunter2\"\n";
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let program = example("config");
    let program = program.to_str().unwrap();
    let printed = run(program, &["--config", path, "--set", "server.cores=1", "--print-config"]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    for line in [
        "server.cores = 1  # flag --set".to_owned(),
        format!("server.workers = 2  # file {path}:2"),
        format!("orders.limit = 7  # file {path}:5"),
        "orders.currency = \"EUR\"  # default".to_owned(),
        format!("# orders.password: a secret, file {path}:6"),
    ] {
        assert!(printed.lines().any(|said| said == line), "{line:?} is missing in {printed}");
    }
    let refused = run(program, &["--set", "orders.limits=5"]);
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains("unknown key `orders.limits` in flag --set; did you mean `orders.limit`?"),
        "{error}"
    );

    let mut running = Running::start("config", &["--config", path]);
    let client = coreloop::client::Direct::connect(running.address()).unwrap();
    let json = coreloop::codec::Codec::Json;
    assert_eq!(client.call_bytes("Orders.Price", json, b"7").unwrap(), br#""175 EUR""#);
    let status = client.call_bytes("Orders.Price", json, b"8").unwrap_err();
    assert!(status.to_string().contains("over the limit of 7 (orders.limit)"), "{status}");
    running.terminate();
}

// The examples of the shared client.

/// Returns what an example prints after its address, line by line, after it has ended successfully.
fn lines_of(name: &str, args: &[&str]) -> Vec<String> {
    let mut running = Running::start(name, args);
    running.address();
    running.finish().lines().map(str::to_owned).collect()
}

#[test]
fn threads_share_a_client_and_hear_what_went_wrong() {
    let mut lines = lines_of("client_threads", &[]);
    // Whether the last call was sent before its server ended depends on the machine.
    let last = lines.pop().unwrap();
    assert!(last.starts_with("after closing time: unavailable, may have run: "), "{last}");
    let expected = [
        "4 threads: 1000 answers on 1 connection, sum 4980000",
        "4 apples: 160",
        "too many: the server says out_of_range: we have not that many",
        "in a hurry: deadline_exceeded, may have run: true",
        "elsewhere: unavailable, may have run: false",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn calls_are_awaited_on_tokio_and_a_timeout_cancels_at_the_server() {
    let expected = [
        "one: 70 pages",
        "a hundred: 49500 pages",
        "two: 10 pages, and not_found: no book 1000",
        "in a task: 30 pages",
        "nobody brought it back",
        "the server: the reservation was given up",
    ];
    assert_eq!(lines_of("client_tokio", &[]), expected);
}

#[test]
fn a_batch_is_one_write_and_one_way_calls_arrive() {
    let expected = [
        "67 calls wait, 0 have left",
        "sum of the squares: 89440; the server has read 1 time",
        "noted: [20, 21, 22]",
        "noted: 23",
    ];
    assert_eq!(lines_of("batch", &[]), expected);
}

#[test]
fn a_client_follows_the_servers_of_a_resolver() {
    let expected = [
        "registration: Registered",
        "registration: Registered",
        "answers come from \"one\" and \"two\"",
        "one has deregistered",
        "answers come from \"two\"",
    ];
    let lines = Running::start("resolver", &[]).finish();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn nested_calls_share_a_budget_and_end_together() {
    let budget_us = 60_000_000;
    let lines = lines_of("nested", &["60000"]);
    let mut left_us = budget_us;
    for (line, who) in lines.iter().zip(["top", "middle", "bottom"]) {
        let said = line.strip_prefix(&format!("{who}: ")).and_then(|rest| rest.strip_suffix(" us left"));
        let left: u64 = said.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        assert!(left > 0 && left < left_us, "{left} us of {left_us}: each has less than the one above");
        left_us = left;
    }
    let rest = [
        "found 3",
        "top: as long as it takes",
        "middle: as long as it takes",
        "bottom: as long as it takes",
        "the bottom searches",
        "the bottom is cancelled",
    ];
    assert_eq!(lines[3..], rest);
}

// The example of a user codec.

#[test]
fn a_codec_of_the_user_is_called_by_both_clients_and_refuses_a_changed_body() {
    let expected = [
        "client: 500 cents from 1 to 2",
        "direct: 500 cents from 1 to 2",
        "changed: invalid_argument: argument of Bank.Transfer: malformed user-64 body: the checksum \
         does not match",
    ];
    assert_eq!(lines_of("own_codec", &[]), expected);
}

// The example of streams.

#[test]
fn readings_of_a_sensor_reach_a_watcher_and_temperatures_are_converted() {
    let expected = ["roof: 21.5 °C", "roof: 22 °C", "2 readings were reported", "32 °F", "212 °F"];
    assert_eq!(lines_of("streams", &[]), expected);
}

// The example of a protocol.

#[test]
fn a_protocol_of_the_programs_own_shares_the_port_with_the_others() {
    let mut running = Running::start("own_protocol", &[]);
    let address = running.address();
    let script = b"call 1 Math.Double 21\ncall 2 Math.Double \"x\"\ncall me\ncall 3 Math.Halve 2\n";
    let answers = [
        "1 ok 42",
        "2 invalid_argument argument of Math.Double: malformed json body: ",
        "0 invalid_argument expected `call ID Service.Method JSON`",
        "3 unimplemented there is no method with the hash ",
    ];
    for pieces in [script.len(), 1, 7] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in script.chunks(pieces) {
            stream.write_all(piece).unwrap();
        }
        let lines: Vec<String> =
            BufReader::new(&stream).lines().take(answers.len()).collect::<Result<_, _>>().unwrap();
        for (line, answer) in lines.iter().zip(answers) {
            assert!(line.starts_with(answer), "{line:?} is not {answer:?}");
        }
    }
    for scheme in ["native", "http", "jsonrpc"] {
        let client = coreloop::client::Client::connect(format!("{scheme}:{address}")).unwrap();
        let reply = client.call_bytes("Math.Double", coreloop::codec::Codec::Json, b"4").unwrap();
        assert_eq!(reply, b"8", "{scheme}");
    }
    running.terminate();
}

// The Redis example.

fn redis() -> (Running, String) {
    let mut running = Running::start("redis", &["127.0.0.1:0"]);
    let address = running.address();
    (running, address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn expect(stream: &mut TcpStream, answer: &[u8]) {
    let mut got = vec![0; answer.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(answer));
}

/// Returns everything that the server sends in response to these bytes before it closes.
fn answer_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Every command, with values that look like the protocol and one that is empty.
const PIPELINE: &[u8] = b"PING\r\n*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nping\r\n$2\r\nhi\r\n\
    *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\n\r\n*1\r\n$0\x00\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\
    *3\r\n$3\r\nset\r\n$1\r\ne\r\n$0\r\n\r\nGET e\r\n  get   k  \nDEL k\r\nDEL k\r\nGET k\r\n\
    *3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nsave\r\n*2\r\n$7\r\nCOMMAND\r\n$4\r\nDOCS\r\n\
    *1\r\n$4\r\nWHAT\r\nSET k\r\nPING\r\n";
const ANSWERS: &[u8] = b"+PONG\r\n+PONG\r\n$2\r\nhi\r\n\
    +OK\r\n$9\r\n\r\n*1\r\n$0\x00\r\n\
    +OK\r\n$0\r\n\r\n$9\r\n\r\n*1\r\n$0\x00\r\n:1\r\n:0\r\n$-1\r\n\
    *2\r\n$4\r\nsave\r\n$0\r\n\r\n*0\r\n\
    -ERR unknown command, or a wrong number of arguments\r\n\
    -ERR unknown command, or a wrong number of arguments\r\n+PONG\r\n";

#[test]
fn redis_answers_a_pipeline_in_order_wherever_it_is_split() {
    let (mut running, address) = redis();
    assert_eq!(String::from_utf8_lossy(&answer_to(&address, PIPELINE)), String::from_utf8_lossy(ANSWERS));
    let mut stream = connect(&address);
    for cut in 0..=PIPELINE.len() {
        let (head, tail) = PIPELINE.split_at(cut);
        stream.write_all(head).unwrap();
        // A round trip on another connection: the server has most likely read the first part alone.
        let mut other = connect(&address);
        other.write_all(b"PING\r\n").unwrap();
        expect(&mut other, b"+PONG\r\n");
        stream.write_all(tail).unwrap();
        expect(&mut stream, ANSWERS);
    }
    for byte in PIPELINE {
        stream.write_all(&[*byte]).unwrap();
    }
    expect(&mut stream, ANSWERS);
    drop(stream);
    running.terminate();
}

#[test]
fn redis_answers_hostile_bytes_with_an_error_and_closes() {
    let (mut running, address) = redis();
    let long_line = vec![b'x'; 5000];
    let many_words = b"*1025\r\n".as_slice();
    let wrong: [&[u8]; 14] = [
        b"*x\r\n",
        b"*-1\r\n",
        b"*99999999999999999999\r\n",
        b"*18446744073709551615\r\n",
        b"*2147483647\r\n",
        b"*0\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$18446744073709551615\r\n",
        b"*1\r\n$16777217\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n$4\r\nPINGxx$4\r\n",
        &long_line,
        many_words,
    ];
    for bytes in wrong {
        let mut stream = connect(&address);
        stream.write_all(b"PING\r\n").unwrap();
        stream.write_all(bytes).unwrap();
        // The server closes by itself, although the peer does not.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(
            answer,
            "+PONG\r\n-ERR Protocol error\r\n",
            "{:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
        );
    }
    // Half a command followed by the end is not an error: it has no answer.
    assert_eq!(answer_to(&address, b"*2\r\n$3\r\nGET\r\n$1"), b"");
    assert_eq!(answer_to(&address, b"PING\r\n"), b"+PONG\r\n", "others are served as before");
    running.terminate();
}

/// Returns true if Redis's own tools are installed. Without them a test prints a note and passes, except where `CI`
/// is set.
fn has_redis_tools() -> bool {
    let has = |tool| Command::new(tool).arg("--version").output().is_ok();
    let has = has("redis-benchmark") && has("redis-cli");
    if !has {
        assert!(env::var_os("CI").is_none(), "redis-tools are not installed: apt-get install redis-tools");
        eprintln!("SKIPPED: redis-benchmark and redis-cli are not installed");
    }
    has
}

#[test]
fn redis_benchmark_finds_nothing_wrong() {
    if !has_redis_tools() {
        return;
    }
    let (mut running, address) = redis();
    let port = address.rsplit_once(':').unwrap().1;
    for depth in ["1", "16"] {
        let args = [
            "-p",
            port,
            "-t",
            "ping_inline,ping_mbulk,set,get",
            "-n",
            "5000",
            "-r",
            "100",
            "-P",
            depth,
            "-q",
        ];
        let out = run("redis-benchmark", &args);
        let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && wrong.is_empty(), "-P {depth}: {}: {wrong}{said}", out.status);
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET"] {
            // Between the result lines, progress lines overwrite each other.
            let is_done = |line: &str| {
                let last = line.rsplit('\r').next().unwrap_or(line).trim();
                last.starts_with(&format!("{test}: ")) && last.contains("requests per second")
            };
            assert!(said.split('\n').any(is_done), "-P {depth}: no result for {test} in {said}");
        }
        assert!(!said.to_lowercase().contains("error"), "-P {depth}: {said}");
    }
    running.terminate();
}

#[test]
fn redis_cli_gets_back_what_it_set_whatever_bytes_they_are() {
    if !has_redis_tools() {
        return;
    }
    let (mut running, address) = redis();
    let port = address.rsplit_once(':').unwrap().1;
    let binary: Vec<u8> = (0..=255).cycle().take(1000).chain(*b"\r\n$5\r\n").collect();
    let large: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (key, value) in [("text", b"hello".as_slice()), ("binary", &binary), ("large", &large)] {
        let cli = |args: &[&str]| {
            let args = [&["-p", port][..], args].concat();
            Command::new("redis-cli").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut set = cli(&["-x", "SET", key]);
        set.stdin.take().unwrap().write_all(value).unwrap();
        assert_eq!(set.wait_with_output().unwrap().stdout, b"OK\n", "{key}");
        let mut got = cli(&["--raw", "GET", key]).wait_with_output().unwrap().stdout;
        assert_eq!(got.pop(), Some(b'\n'), "redis-cli ends what it prints with a line's end");
        assert!(got == value, "{key}: {} bytes came back, not the {} that were set", got.len(), value.len());
    }
    running.terminate();
}
