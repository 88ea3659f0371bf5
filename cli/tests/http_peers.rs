//! The served binary under third-party tools and clients: wrk, the Connect client, an OpenAPI validator, Chromium.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coreloop::codec::Bytes;
use coreloop::{Context, Server, Status};
use serde::{Deserialize, Serialize};

use common::Served;
use common::http::{Raw, has_tool};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the output of a successful run.
#[track_caller]
fn text(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
    out.into_owned()
}

#[test]
fn wrk_gets_nothing_but_answers() {
    if !has_tool("wrk", "-v") {
        return;
    }
    let server = Served::start(&[]);
    let script = root().join("tests/data/http/multiply.lua");
    let url = format!("http://{}", server.address());
    let output =
        Command::new("wrk").args(["-t", "1", "-c", "64", "-d", "2s", "-s"]).arg(script).arg(url).output();
    let report = text(&output.expect("wrk runs"));
    // The script counts answers other than 42; wrk prints no line about errors if there are none.
    assert!(report.contains("wrong answers: 0\n"), "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.summary("calls") > 64 && ended.summary("errors") == 0, "{ended:?}");
}

/// Installs the packages of a folder of `tests/node` beside its script, and runs the script with an argument; `None`
/// if node or npm is missing.
fn run_node(folder: &str, script: &str, argument: &str) -> Option<String> {
    if !has_tool("node", "--version") || !has_tool("npm", "--version") {
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    for file in ["package.json", "package-lock.json", script] {
        fs::copy(root().join("tests/node").join(folder).join(file), place.path().join(file)).unwrap();
    }
    let npm = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    text(&Command::new("npm").args(npm).current_dir(&place).output().expect("npm runs"));
    let output = Command::new("node").args([script, argument]).current_dir(&place).output();
    Some(text(&output.expect("node runs")))
}

#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Color {
    Red,
    Green,
}

#[derive(Serialize, Deserialize)]
struct Values {
    long: i64,
    unsigned: u64,
    real: f64,
    data: Bytes,
    text: String,
    yes: bool,
    points: Vec<Point>,
    main: Option<Point>,
    color: Color,
}

struct ValuesService;

#[coreloop::service(name = "Values", client = false)]
impl ValuesService {
    fn same(&self, _cx: &Context, values: Values) -> Result<Values, Status> {
        Ok(values)
    }

    #[rpc(idempotent)]
    fn nothing(&self, _cx: &Context) -> Result<(), Status> {
        Ok(())
    }
}

#[test]
fn the_connect_client_carries_all_protobuf_json_values() {
    let server = Server::builder().service(ValuesService).listen("127.0.0.1:0").start().unwrap();
    let url = format!("http://{}", server.addresses()[0]);
    let Some(printed) = run_node("connect", "values.mjs", &url) else { return };
    assert!(printed.contains("every value is as it must be"), "{printed}");
    server.shutdown();
}

#[test]
fn the_connect_client_works_unchanged() {
    let server = Served::start(&[]);
    let url = format!("http://{}", server.address());
    let Some(printed) = run_node("connect", "connect.mjs", &url) else { return };
    assert_eq!(printed.lines().count(), 14, "{printed}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_json_rpc_client_jayson_works_over_http_and_tcp() {
    let server = Served::start(&[]);
    let Some(printed) = run_node("jayson", "jayson.mjs", server.address()) else { return };
    assert_eq!(printed.lines().count(), 15, "{printed}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn json_rpc_clients_of_python_work() {
    if !has_tool("python3", "--version") {
        return;
    }
    let has_clients = Command::new("python3").args(["-c", "import jsonrpclib, jsonrpcclient"]).output();
    let has_clients = has_clients.unwrap().status.success();
    assert!(
        has_clients || std::env::var_os("CI").is_none(),
        "jsonrpclib-pelix and jsonrpcclient are not installed"
    );
    if !has_clients {
        return eprintln!("SKIPPED: jsonrpclib-pelix and jsonrpcclient are not installed");
    }
    let server = Served::start(&[]);
    let url = format!("http://{}", server.address());
    let script = root().join("tests/python/json_rpc.py");
    let output = Command::new("python3").arg(script).arg(url).output();
    assert_eq!(text(&output.expect("python3 runs")).lines().count(), 6);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_openapi_document_is_valid() {
    let server = Served::start(&[]);
    let answer = Raw::connect(&server).ask("GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, is_free) in [("/Arith/Multiply", false), ("/Users/Get", true), ("/Echo/Sleep", false)] {
        assert!(paths[path]["post"].is_object() && paths[path]["get"].is_object() == is_free, "{path}");
    }
    let watch = &paths["/Users/Watch"]["post"]["responses"]["200"]["content"]["application/x-ndjson"];
    assert!(watch["schema"].is_object(), "{watch}");
    assert!(
        paths.get("/Users/Import").is_none() && paths.get("/Echo/Chat").is_none(),
        "arguments that are streams"
    );
    // Every reference resolves, and no name refers to two operations.
    let (mut references, mut names) = (Vec::new(), Vec::new());
    collect(&document, &mut references, &mut names);
    assert!(references.len() > 10 && names.len() > 10, "{references:?} {names:?}");
    for reference in references {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);

    let has_validator = has_tool("python3", "--version")
        && Command::new("python3")
            .args(["-c", "import openapi_spec_validator"])
            .output()
            .unwrap()
            .status
            .success();
    assert!(has_validator || std::env::var_os("CI").is_none(), "openapi-spec-validator is not installed");
    if !has_validator {
        return eprintln!("SKIPPED: openapi-spec-validator is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    fs::write(&file, &answer.body).unwrap();
    text(&Command::new("python3").args(["-m", "openapi_spec_validator"]).arg(file).output().unwrap());
}

fn collect(value: &serde_json::Value, references: &mut Vec<String>, names: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member.as_str()) {
                    ("$ref", Some(reference)) => references.push(reference.to_owned()),
                    ("operationId", Some(id)) => names.push(id.to_owned()),
                    _ => collect(member, references, names),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, references, names)),
        _ => {}
    }
}

/// The probe that HAProxy sends by default is `OPTIONS / HTTP/1.0`; the other two are common in its configurations.
#[test]
fn the_health_checks_of_haproxy_pass() {
    if !has_tool("haproxy", "-v") {
        return;
    }
    let server = Served::start(&["--set", "http.console=false"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin");
    let backend = |name: &str, check: &str| {
        let address = server.address();
        format!(
            "backend {name}\n  mode http\n  option httpchk {check}\n  server s {address} check inter 50ms\n"
        )
    };
    let config = format!(
        "global\n  stats socket {}\ndefaults\n  timeout connect 5s\n  timeout server 5s\n  timeout client 5s\n{}{}{}",
        socket.display(),
        backend("plain", ""),
        backend("ready", "GET /readyz"),
        backend("head", "HEAD /livez HTTP/1.1\\r\\nHost:\\ a")
    );
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, config).unwrap();
    let mut haproxy = Command::new("haproxy").arg("-db").arg("-f").arg(&file).spawn().expect("haproxy runs");
    let states = || -> Option<Vec<String>> {
        let mut admin = UnixStream::connect(&socket).ok()?;
        admin.write_all(b"show stat\n").ok()?;
        let mut table = String::new();
        admin.read_to_string(&mut table).ok()?;
        let mut lines = table.trim_start_matches("# ").lines();
        let at = lines.next()?.split(',').position(|column| column == "check_status")?;
        let rows = lines.filter(|line| line.contains(",s,"));
        Some(rows.filter_map(|row| row.split(',').nth(at)).map(str::to_owned).collect())
    };
    let is_decided = |state: &String| state.starts_with('L');
    let found = loop {
        match states() {
            Some(states) if states.len() == 3 && states.iter().all(is_decided) => break states,
            _ if haproxy.try_wait().unwrap().is_some() => panic!("haproxy ended"),
            _ => std::thread::yield_now(),
        }
    };
    haproxy.kill().unwrap();
    haproxy.wait().unwrap();
    assert_eq!(found, ["L7OK"; 3]);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_jdk_client_is_answered_in_http_1() {
    if !has_tool("java", "--version") {
        return;
    }
    let server = Served::start(&[]);
    let url = format!("http://{}", server.address());
    let program = root().join("tests/java/Upgrade.java");
    let output = Command::new("java").arg(program).arg(url).output().expect("java runs");
    assert_eq!(text(&output), "HTTP_1_1 200 ok\nHTTP_1_1 200 \"serving\"\nHTTP_1_1 200 42\n");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_console_shows_unicode_names_and_the_application() {
    if !has_tool("chromium", "--version") || !has_tool("timeout", "--version") {
        return;
    }
    let server = coreloop::Server::builder()
        .method("shop.Wörter.Zählen", |_, number: i64| Ok::<_, coreloop::Status>(number))
        .application("Läden & Söhne", "1")
        .cores(1)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let profile = tempfile::tempdir().unwrap();
    let url = format!("http://{}/#shop.W%C3%B6rter.Z%C3%A4hlen", server.addresses()[0]);
    let output = Command::new("timeout")
        .args([
            "90",
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--dump-dom",
        ])
        .args(["--virtual-time-budget=10000", &format!("--user-data-dir={}", profile.path().display()), &url])
        .output();
    let page = text(&output.expect("chromium runs"));
    assert!(page.contains("<title>Läden &amp; Söhne</title>") && page.contains("<h1>Läden &amp; Söhne</h1>"));
    assert!(page.contains("<h2>shop.Wörter</h2>"), "{page}");
    let found = page.split("<details ").find(|part| part.contains("id=\"shop.Wörter.Zählen\""));
    assert!(found.is_some_and(|part| part.split('>').next().unwrap().contains("open")), "{page}");
    server.shutdown();
}

#[test]
fn the_console_page_calls_in_a_real_browser() {
    if !has_tool("chromium", "--version")
        || !has_tool("node", "--version")
        || !has_tool("timeout", "--version")
    {
        return;
    }
    let server = Served::start(&[]);
    let url = format!("http://{}", server.address());
    let script = root().join("tests/node/console/console.mjs");
    let output = Command::new("timeout").args(["90", "node"]).arg(script).arg(url).output();
    assert!(text(&output.expect("node runs")).contains("the console page works"));
    assert_eq!(server.stop().code, Some(0));
}
