//! Names of methods with packages and in other scripts, over every protocol and on the pages; and HTTP behavior
//! that needs a socket: probes, malformed first lines, timeouts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::reactor::Address;
use coreloop::server::ServerBuilder;
use coreloop::{Code, Context, Server, Status};

const PRICE: &str = "acme.shop.v1.Shop.Price";
const COUNT: &str = "Wörter.世界.Zählen";

struct Stock;

#[coreloop::service(name = "acme.shop.v1.Stock")]
impl Stock {
    /// How many there are.
    #[rpc(idempotent)]
    fn count(&self, _cx: &Context) -> Result<u32, Status> {
        Ok(7)
    }
}

fn builder() -> ServerBuilder {
    let twice = |_: &Context<'_>, number: i64| Ok::<_, Status>(number * 2);
    Server::builder().method(PRICE, twice).method(COUNT, twice).service(Stock).cores(1).listen("127.0.0.1:0")
}

fn connect(address: &Address) -> TcpStream {
    let stream = TcpStream::connect(address.to_string()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Returns everything that the server sends in response to these bytes until it closes.
fn response_to(address: &Address, bytes: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Returns status and body of one request.
fn ask(address: &Address, line: &str, fields: &str, body: &str) -> (u16, String) {
    let fields = format!("Host: a\r\nConnection: close\r\n{fields}");
    let answer = response_to(address, &format!("{line} HTTP/1.1\r\n{fields}\r\n{body}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn get(address: &Address, target: &str) -> (u16, String) {
    ask(address, &format!("GET {target}"), "", "")
}

fn call(address: &Address, path: &str) -> (u16, String) {
    ask(address, &format!("POST {path}"), "Content-Type: application/json\r\nContent-Length: 2\r\n", "21")
}

#[test]
fn a_method_with_a_package_has_one_path() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    let address = &server.addresses()[0];
    for path in
        ["/acme.shop.v1.Shop/Price", "/acme%2Eshop.v1.Shop/%50rice", "http://a/acme.shop.v1.Shop/Price?x"]
    {
        assert_eq!(call(address, path), (200, "42".into()), "{path}");
    }
    for path in [
        "/acme/shop.v1.Shop.Price",
        "/acme.shop/v1.Shop.Price",
        "/acme.shop.v1/Shop.Price",
        "/acme.shop.v1/Shop%2EPrice",
        "/acme.shop.v1.Shop.Price",
        "/acme/shop/v1/Shop/Price",
        "/acme.shop.v1.Shop/Price/",
        "//acme.shop.v1.Shop/Price",
        "/acme.shop.v1.Shop%2FPrice",
        "/acme.shop.v1.shop/price",
        "/acme.shop.v1.Shop/Price%3Fx",
        "/x/../acme.shop.v1.Shop/Price",
    ] {
        assert_eq!(call(address, path).0, 404, "{path}");
    }
    let text = |path| call(address, path).1;
    assert!(text("/acme.shop.v1.Shop/Prize").contains("there is no method acme.shop.v1.Shop.Prize here"));
    assert!(text("/acme.shop.v2.Shop/Price").contains("there is no service acme.shop.v2.Shop here"));
    server.shutdown();
}

#[test]
fn names_with_packages_or_other_scripts_work_everywhere() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    let address = &server.addresses()[0];
    for scheme in [
        "native",
        "http",
        #[cfg(feature = "jsonrpc")]
        "jsonrpc",
    ] {
        let client = Client::connect(format!("{scheme}:{address}")).unwrap();
        for name in [PRICE, COUNT] {
            assert_eq!(client.call_bytes(name, Codec::Json, b"21").unwrap(), b"42", "{scheme} {name}");
        }
        let error = client.call_bytes("acme.shop.v1/Shop.Price", Codec::Json, b"21").unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{scheme}: {error}");
    }
    assert_eq!(call(address, "/W%C3%B6rter.%E4%B8%96%e7%95%8c/Z%C3%A4hlen"), (200, "42".into()));
    server.shutdown();
}

#[cfg(feature = "jsonrpc")]
#[test]
fn go_error_texts_split_a_name_at_its_last_dot() {
    let _turn = crate::common::shared();
    let server = builder().start().unwrap();
    for (name, text) in [
        ("acme.shop.v1.Shop.Prize", "rpc: can't find method acme.shop.v1.Shop.Prize"),
        ("acme.shop.v2.Shop.Price", "rpc: can't find service acme.shop.v2.Shop.Price"),
        ("acme.Price", "rpc: can't find service acme.Price"),
        ("Price", "rpc: service/method request ill-formed: Price"),
    ] {
        let mut stream = connect(&server.addresses()[0]);
        stream.write_all(format!(r#"{{"method":"{name}","params":[1],"id":1}}"#).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(&format!(r#""error":"{text}""#)), "{answer}");
    }
    server.shutdown();
}

#[test]
fn pages_and_built_in_services_name_services_with_their_package() {
    let _turn = crate::common::shared();
    let server = builder().application("Shop", "2.1").start().unwrap();
    let address = &server.addresses()[0];
    let document: serde_json::Value = serde_json::from_str(&get(address, "/openapi.json").1).unwrap();
    assert_eq!(document["info"]["title"], "Shop");
    let price = &document["paths"]["/acme.shop.v1.Shop/Price"]["post"];
    assert_eq!((&price["tags"][0], &price["operationId"]), (&"acme.shop.v1.Shop".into(), &PRICE.into()));
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert!(paths.iter().any(|path| *path == "/W%C3%B6rter.%E4%B8%96%E7%95%8C/Z%C3%A4hlen"), "{paths:?}");
    let count = &document["paths"]["/acme.shop.v1.Stock/Count"]["get"]["parameters"][1];
    assert_eq!((&count["name"], &count["required"]), (&"message".into(), &false.into()));
    for (service, answer) in [
        ("", (200, "\"serving\"")),
        ("%22acme.shop.v1.Shop%22", (200, "\"serving\"")),
        ("%22acme.shop.v1.Stock%22", (200, "\"serving\"")),
        ("%22acme%22", (404, r#"{"code":"not_found","message":"there is no service \"acme\" here"}"#)),
    ] {
        let (status, body) = get(address, &format!("/Health/Check?message={service}"));
        assert_eq!((status, &body[..]), answer, "{service}");
    }
    let (status, methods) = get(address, "/Meta/Methods?message=%22acme.shop.v1.Shop%22");
    assert!(status == 200 && methods.contains(PRICE) && !methods.contains("Stock.Count"), "{methods}");
    assert_eq!(get(address, "/acme.shop.v1.Stock/Count"), (200, "7".into()));
    server.shutdown();
}

#[test]
fn invalid_names_cannot_be_registered() {
    let error = |names: &[&str]| {
        let method = |builder: ServerBuilder, name: &&str| {
            builder.method(name, |_, number: i64| Ok::<_, Status>(number))
        };
        names.iter().fold(Server::builder(), method).listen("127.0.0.1:0").start().err().unwrap().to_string()
    };
    for (name, reason) in [
        ("Price", "no dot"),
        ("shop..Price", "empty part"),
        (".Price", "empty part"),
        ("Shop.", "empty part"),
        ("Shop/Price", "a slash"),
        ("a/b.Price", "a slash"),
        ("Shop.My Price", "white space"),
        ("Shop.Price\u{1b}", "control characters"),
        (&format!("Shop.{}", "x".repeat(300)), "at most 256 bytes, found 305"),
    ] {
        let error = error(&[name]);
        assert!(error.contains(&format!("{name:?}")) && error.contains(reason), "{error}");
    }
    assert!(error(&["Shop.Price", "Shop.Price"]).contains("two methods have the name Shop.Price"));
}

#[test]
fn probes_answer_by_the_state_of_the_server() {
    let _turn = crate::common::shared();
    let server = builder().console(false).openapi(false).start().unwrap();
    let address = &server.addresses()[0];
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(get(address, path), (200, "ok\n".into()), "{path}");
        assert_eq!(ask(address, &format!("HEAD {path}"), "", ""), (200, String::new()), "{path}");
        assert_eq!(ask(address, &format!("POST {path}"), "", "").0, 405, "{path}");
    }
    server.health().set("acme.shop.v1.Stock", false);
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/healthz", 503)] {
        assert_eq!(get(address, path).0, status, "{path}");
        assert_eq!(ask(address, &format!("HEAD {path}"), "", ""), (status, String::new()), "{path}");
    }
    assert_eq!(get(address, "/readyz").1, "not serving: acme.shop.v1.Stock\n");
    server.health().set("acme.shop.v1.Stock", true);
    assert_eq!(get(address, "/readyz").0, 200);
    // Console and document are switched off; a load balancer's probe is answered all the same.
    assert_eq!((get(address, "/").0, get(address, "/openapi.json").0), (404, 404));
    assert!(response_to(address, "OPTIONS / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 204 "));
    server.shutdown();
}

#[test]
fn a_malformed_request_is_answered_and_an_unknown_method_is_501() {
    let _turn = crate::common::shared();
    let server = builder().listen("http:127.0.0.1:0").start().unwrap();
    let [mixed, http] = server.addresses() else { panic!("two listeners") };
    for address in [mixed, http] {
        assert_eq!(ask(address, "BREW /coffee", "", "").0, 501);
        assert_eq!(ask(address, "PROPFIND *", "", "").0, 501);
        assert_eq!(ask(address, "\r\nGET /livez", "", "").0, 200);
        for (line, status) in [("GET /\r\n", "400"), ("GET\r\n", "400"), ("PRI * HTTP/2.0\r\n", "505")] {
            if line.starts_with("PRI") && cfg!(feature = "grpc") && address == mixed {
                // There it is the start of HTTP/2.
                continue;
            }
            assert!(response_to(address, line).starts_with(&format!("HTTP/1.1 {status} ")), "{line:?}");
        }
    }
    for line in ["hello\r\n", "FOO\r\n", "\0", "FOO bar\r\n", " GET / HTTP/1.1\r\n", "a(b / HTTP/1.1\r\n"] {
        assert_eq!(response_to(mixed, line), "", "{line:?} is of no protocol");
        let answer = response_to(http, line);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection: close"),
            "{line:?}: {answer}"
        );
    }
    server.shutdown();
}

#[test]
fn an_endless_first_line_times_out() {
    let _turn = crate::common::shared();
    let change = |config: &mut coreloop::config::Config| {
        (config.limits.first_bytes_ms, config.limits.head_ms) = (30, 30);
    };
    let server = builder().listen("http:127.0.0.1:0").configure(change).start().unwrap();
    for address in server.addresses() {
        assert!(response_to(address, "GET /livez").starts_with("HTTP/1.1 408 "));
        assert!(response_to(address, "\r\nGET /livez HTTP/1.1\r\nHost").starts_with("HTTP/1.1 408 "));
        for line in ["GE", "BREW", "BREW ", "\r\n"] {
            assert_eq!(response_to(address, line), "", "{line:?}");
        }
    }
    server.shutdown();
}
