use super::*;
use crate::agent::{AgentAction, AgentRig};

const TIME: Duration = Duration::from_secs(5);

fn get(target: &str) -> HttpRequest<'_> {
    HttpRequest { method: "GET", target, fields: &[], content_type: "application/json", body: b"" }
}

fn response(body: &str) -> HttpResponse {
    HttpResponse { head: ReceivedHead { status: 200, fields: Vec::new() }, body: body.as_bytes().to_vec() }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Starts an exchange; returns its connection and what it opened.
fn start(client: &mut AgentHttp, rig: &mut AgentRig) -> (LinkId, Option<String>) {
    let actions = rig.run(|cx| client.start(get("/a"), TIME, cx));
    let opened = actions.iter().find_map(|action| match action {
        AgentAction::Connect(_, LinkTarget::Tcp { address, attempt, .. }) => {
            Some(format!("{address}#{attempt}"))
        }
        _ => None,
    });
    let Some(AgentAction::Send(link, bytes)) = actions.last() else { panic!("{actions:?}") };
    assert!(bytes.starts_with(b"GET /a HTTP/1.1\r\nHost: "));
    (*link, opened)
}

#[test]
fn a_connection_is_kept_and_a_stale_one_is_replaced_once() {
    let (mut client, mut rig) = (AgentHttp::new("h:1"), AgentRig::new());
    let (first, opened) = start(&mut client, &mut rig);
    assert_eq!(opened.as_deref(), Some("h:1#0"));
    let mut events = Vec::new();
    rig.run(|cx| events = client.on_bytes(first, ANSWER, cx));
    assert_eq!(events, [HttpEvent::Response(response("ok"))]);
    let (second, opened) = start(&mut client, &mut rig);
    assert_eq!((second, opened), (first, None));
    // The server has closed it; the request is repeated on a new connection.
    let mut event = None;
    let actions = rig.run(|cx| event = client.on_closed(first, "reset", cx));
    assert_eq!(event, None);
    let [AgentAction::Connect(third, _), AgentAction::Send(..)] = actions[..] else { panic!("{actions:?}") };
    rig.run(|cx| event = client.on_closed(third, "refused", cx));
    assert_eq!(event, Some(HttpEvent::Failed("h:1: refused".to_owned())));
    assert!(!client.is_busy());
}

#[test]
fn addresses_come_in_turns_after_failures() {
    let (mut client, mut rig) = (AgentHttp::new("a:1,b:2"), AgentRig::new());
    let mut all = Vec::new();
    for _ in 0..4 {
        let (link, opened) = start(&mut client, &mut rig);
        all.extend(opened);
        rig.run(|cx| drop(client.on_closed(link, "refused", cx)));
    }
    assert_eq!(all, ["a:1#0", "b:2#0", "a:1#1", "b:2#1"]);
}

#[test]
fn an_answer_has_a_time_limit() {
    let (mut client, mut rig) = (AgentHttp::new("h:1"), AgentRig::new());
    let (link, _) = start(&mut client, &mut rig);
    rig.run(|cx| assert_eq!(client.on_bytes(link, &ANSWER[..20], cx), []));
    rig.run(|cx| assert_eq!(client.on_time(cx), None));
    rig.now += TIME;
    assert!(client.next_at().unwrap() <= rig.now);
    let mut event = None;
    let actions = rig.run(|cx| event = client.on_time(cx));
    assert_eq!(event, Some(HttpEvent::Failed("h:1: no answer within 5s".to_owned())));
    assert_eq!(actions, [AgentAction::Close(link)]);
    // What still comes of that connection is ignored.
    rig.run(|cx| assert_eq!(client.on_bytes(link, &ANSWER[20..], cx), []));
}

#[test]
fn a_stream_is_passed_on_in_pieces_and_an_error_as_a_whole() {
    let (mut client, mut rig) = (AgentHttp::new("h:1"), AgentRig::new());
    rig.run(|cx| client.start_stream(get("/w"), TIME, cx));
    let link = client.link.unwrap();
    rig.run(|cx| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        assert_eq!(client.on_bytes(link, head, cx), [HttpEvent::Piece(b"abc".to_vec())]);
        cx.now += TIME / 2;
        assert_eq!(client.on_bytes(link, b"1\r\nd\r\n", cx), [HttpEvent::Piece(b"d".to_vec())]);
        assert_eq!(client.next_at(), Some(cx.now + TIME));
        assert_eq!(client.on_bytes(link, b"0\r\n\r\n", cx).len(), 1);
    });
    rig.run(|cx| client.start_stream(get("/w"), TIME, cx));
    rig.run(|cx| {
        let error = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno";
        let events = client.on_bytes(link, error, cx);
        let [HttpEvent::Response(response)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(response.describe(), "status 503: no");
    });
}

#[test]
fn a_connection_that_does_not_end_cleanly_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
    ] {
        let (mut client, mut rig) = (AgentHttp::new("h:1"), AgentRig::new());
        let (link, _) = start(&mut client, &mut rig);
        let actions = rig.run(|cx| {
            assert!(matches!(client.on_bytes(link, answer, cx)[..], [HttpEvent::Response(_)]));
        });
        assert_eq!(actions, [AgentAction::Close(link)]);
        let (next, opened) = start(&mut client, &mut rig);
        assert!(next != link && opened.is_some());
    }
}
