//! The built-in pages pass through interceptors as calls do.

use std::io::{Read, Write};
use std::net::TcpStream;

use coreloop::interceptor::{RateLimit, TokenCheck};
use coreloop::wire::ProtocolId;

use super::*;

const PAGES: [&str; 5] = ["/", "/openapi.json", "/livez", "/readyz", "/healthz"];
const TOKEN: &str = "Authorization: Bearer token-of-ann\r\n";

type PageEnd = (Option<String>, Option<String>, Code);

/// The ends of calls: the name of the method, the principal, the code.
#[derive(Default)]
struct PageEnds(Mutex<Vec<PageEnd>>);

impl Interceptor for PageEnds {
    fn hooks(&self) -> Hooks {
        Hooks::ON_END
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        assert!(matches!(end.place, EndPlace::Inline | EndPlace::Refused), "{end:?}");
        assert_ne!(end.protocol, Some(ProtocolId::Native));
        let name = end.method_name.map(str::to_owned);
        self.0.lock().unwrap().push((name, end.extensions.principal().map(str::to_owned), end.code));
    }
}

fn start(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Server {
    change(Server::builder().cores(1).workers(1).listen("127.0.0.1:0")).start().unwrap()
}

/// Sends a request, and returns the whole answer.
fn ask(server: &Server, line: &str, fields: &str) -> String {
    ask_at(&server.addresses()[0].to_string(), line, fields)
}

fn ask_at(address: &str, line: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

fn tokens() -> TokenCheck {
    TokenCheck::new([("ann", "token-of-ann")])
}

#[test]
fn a_token_is_needed_for_every_page() {
    let _turn = shared();
    let ends = Arc::new(PageEnds::default());
    let server = start(|builder| builder.interceptor(ends.clone()).interceptor(tokens()));
    let mut expected = Vec::new();
    for path in PAGES {
        let name = format!("GET {path}");
        for method in ["GET", "HEAD"] {
            let line = format!("{method} {path}");
            let refused = ask(&server, &line, "");
            assert_eq!(status(&refused), "401", "{line}: {refused}");
            assert!(refused.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{refused}");
            assert!(!refused.contains("html") && !refused.contains("paths"), "{refused}");
            let served = ask(&server, &line, TOKEN);
            assert_eq!(status(&served), "200", "{line}: {served}");
            let (head, body) = served.split_once("\r\n\r\n").unwrap();
            assert!(!head.contains("WWW-Authenticate") && !head.contains("Server-Timing"), "{head}");
            assert_eq!(body.is_empty(), method == "HEAD", "{served}");
            expected.push((Some(name.clone()), None, Code::Unauthenticated));
            expected.push((Some(name.clone()), Some("ann".to_owned()), Code::Ok));
        }
    }
    // Refused before its target is known.
    assert_eq!(status(&ask(&server, "GET /nothing", TOKEN)), "404");
    expected.push((None, None, Code::Unimplemented));
    let snapshot = server.shutdown();
    assert_eq!(*ends.0.lock().unwrap(), expected);
    let counted: u64 = snapshot.methods.iter().map(|method| method.calls).sum();
    let refused: u64 = snapshot.refused.iter().map(|(_, count)| count).sum();
    assert_eq!((counted, refused), (10, 11));
}

#[test]
fn a_pattern_leaves_a_probe_open() {
    let _turn = shared();
    let server = start(|builder| builder.interceptor(tokens().except("GET /*z")));
    let open = |path: &&str| status(&ask(&server, &format!("GET {path}"), "")) == "200";
    assert_eq!(
        PAGES.iter().filter(|path| open(path)).collect::<Vec<_>>(),
        [&"/livez", &"/readyz", &"/healthz"]
    );
    server.shutdown();
    // The other way round: only the pages.
    let server = start(|builder| {
        let builder = builder.method("Arith.Double", |_cx: &Context<'_>, n: i64| Ok(2 * n));
        builder.interceptor_for("GET /openapi.json", tokens()).interceptor_for("GET /", tokens())
    });
    let open = |path: &&str| status(&ask(&server, &format!("GET {path}"), "")) == "200";
    assert_eq!(
        PAGES.iter().filter(|path| open(path)).collect::<Vec<_>>(),
        [&"/livez", &"/readyz", &"/healthz"]
    );
    let called =
        ask(&server, "POST /Arith/Double", "Content-Type: application/json\r\nContent-Length: 1\r\n\r\n2");
    assert_eq!(status(&called), "200", "{called}");
    server.shutdown();
}

#[test]
fn limits_of_interceptors_apply_to_pages() {
    let _turn = shared();
    let server = start(|builder| builder.interceptor_for("GET /openapi.json", RateLimit::per_second(0.001)));
    let codes = [(); 3].map(|()| status(&ask(&server, "GET /openapi.json", "")).to_owned());
    assert_eq!(codes, ["200", "429", "429"]);
    assert!(ask(&server, "GET /openapi.json", "").contains("\r\nRetry-After: "));
    assert_eq!(status(&ask(&server, "GET /livez", "")), "200");
    server.shutdown();
}

#[test]
fn a_page_is_not_called_by_its_hash() {
    let _turn = shared();
    let rig = rig_of(|builder| builder);
    let mut peer = rig.peer();
    for path in PAGES {
        let frame = Frame::call(1, &format!("GET {path}"), 1);
        peer.ask(&frame).is(1, Code::Unimplemented, "there is no method");
    }
}

#[cfg(feature = "grpc")]
#[test]
fn pages_over_http_2_need_a_token_too() {
    let _turn = shared();
    let ends = Arc::new(PageEnds::default());
    let rig = rig_of(|builder| builder.interceptor(ends.clone()).interceptor(tokens()));
    let mut peer = crate::grpc::Http2Peer::connect(&rig.address);
    for (stream, path) in (0_u32..).map(|n| 4 * n + 1).zip(PAGES) {
        let refused = peer.get(stream, path, &[]);
        assert_eq!(
            (refused.field(":status"), refused.field("www-authenticate")),
            (Some("401"), Some("Bearer"))
        );
        let served = peer.get(stream + 2, path, &[("authorization", "Bearer token-of-ann")]);
        assert_eq!(served.field(":status"), Some("200"), "{served:?}");
        assert_eq!(served.field("content-length").unwrap(), served.body().len().to_string());
        let over_http_1 = ask_at(&rig.address.to_string(), &format!("GET {path}"), TOKEN);
        assert_eq!(over_http_1.split_once("\r\n\r\n").unwrap().1, served.body());
    }
    assert_eq!(ends.0.lock().unwrap().len(), 3 * PAGES.len());
}
