//! Batches: answered together, in the order of their requests, within limits.

use super::*;

fn call(id: &str, argument: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"Echo.Echo","params":[{argument}],"id":{id}}}"#)
}

fn ok(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":["note"]}"#;
const NOT_AN_OBJECT: &str = "invalid request: not an object";

#[test]
fn a_batch_is_answered_in_the_order_of_its_requests() {
    let mut server = server();
    let stream = format!(
        " [ {} ,\n{NOTE}, {},{} ] {}",
        call("1", "\"a\""),
        call("\"x\"", "{}"),
        call("3", "[]"),
        call("4", "0")
    );
    let response = server.receive(stream.as_bytes());
    let bodies: Vec<&[u8]> = response.iter().map(|response| &response.1[..]).collect();
    assert_eq!(bodies, [&b"\"a\""[..], b"\"note\"", b"{}", b"[]", b"0"]);
    assert!(request_of(&response[1]).one_way);
    for at in [3, 2] {
        server.echo(&response[at]);
    }
    assert_eq!(server.output(), "");
    server.echo(&response[4]);
    assert_eq!(server.output(), ok("4", "0") + "\n", "others need not wait for it");
    server.echo(&response[0]);
    assert_eq!(server.output(), format!("[{},{},{}]\n", ok("1", "\"a\""), ok("\"x\"", "{}"), ok("3", "[]")));
    assert!(format!("{:?}", server.wire).contains("is_over: false"));
}

#[test]
fn several_batches_may_be_open() {
    let mut server = server();
    let batch = |a, b| format!("[{},{}]", call(a, a), call(b, b));
    let response = server.receive((batch("1", "2") + &batch("3", "4")).as_bytes());
    for at in [3, 0, 2, 1] {
        server.echo(&response[at]);
    }
    assert_eq!(
        server.output(),
        format!("[{},{}]\n[{},{}]\n", ok("3", "3"), ok("4", "4"), ok("1", "1"), ok("2", "2"))
    );
}

#[test]
fn notifications_in_a_batch_give_no_answer() {
    assert_eq!(answers(format!("[{NOTE},{NOTE}]")), "");
    assert_eq!(answers(format!("[{NOTE},{},{NOTE}]", call("1", "1"))), format!("[{}]\n", ok("1", "1")));
    let mut server = server();
    assert_eq!(server.receive_and_echo(format!("[{NOTE}]{}", call("1", "1")).as_bytes()).len(), 2);
    assert_eq!(server.output(), ok("1", "1") + "\n");
}

#[test]
fn an_invalid_request_in_a_batch_is_answered_in_place() {
    // The examples of the specification's section 7.
    assert_eq!(answers("[]"), error("null", -32600, "invalid request: an empty batch") + "\n");
    assert_eq!(answers(" [ ] "), error("null", -32600, "invalid request: an empty batch") + "\n");
    let garbage = error("null", -32600, NOT_AN_OBJECT);
    assert_eq!(answers("[1]"), format!("[{garbage}]\n"));
    assert_eq!(answers("[1,[],\"x\"]"), format!("[{garbage},{garbage},{garbage}]\n"));
    let stream = format!(
        r#"[{},{{"foo":"boo"}},{{"jsonrpc":"2.0","method":"foo.get","id":"5"}},{NOTE},7]"#,
        call("1", "1")
    );
    assert_eq!(
        answers(stream),
        format!(
            "[{},{},{},{garbage}]\n",
            ok("1", "1"),
            error("null", -32600, "invalid request: `jsonrpc` is not \\\"2.0\\\""),
            error("\"5\"", -32601, "method not found: foo.get"),
        )
    );
    // 1.0 has no batches.
    assert_eq!(
        answers(r#"[{"method":"Echo.Echo","params":[1],"id":1}]"#),
        format!("[{}]\n", error("1", -32600, "invalid request: `jsonrpc` is not \\\"2.0\\\""))
    );
}

#[test]
fn an_invalid_batch_gets_one_answer_and_no_calls() {
    let mut server = server();
    let response = server.receive_and_echo(
        format!("[{},{{\"jsonrpc\":\"2.0\",\"method\"}}]{}", call("1", "1"), call("2", "2")).as_bytes(),
    );
    assert_eq!(response.len(), 2);
    let at = call("1", "1").len() + "[,{\"jsonrpc\":\"2.0\",\"method\"".len();
    let parse = error("null", -32700, &format!("parse error: expected `:` at byte {at}"));
    assert_eq!(server.output(), format!("{parse}\n{}\n", ok("2", "2")));
}

#[test]
fn a_batch_over_the_in_flight_limit_is_refused() {
    let limits = Limits { in_flight_max: 3, ..Limits::default() };
    let batch = |n| format!("[{}]", vec!["1"; n].join(","));
    let mut server = server_with(limits);
    assert_eq!(server.receive_and_echo(batch(3).as_bytes()).len(), 3);
    server.output();
    let response = server.receive_and_echo((batch(4) + &call("1", "1")).as_bytes());
    assert_eq!((response.len(), refusal_of(&response[0]).code), (2, Code::ResourceExhausted));
    let refused = error("null", -32008, "a batch of 4 requests is over the limit of 3");
    assert_eq!(server.output(), format!("{refused}\n{}\n", ok("1", "1")));
    // A batch that is too long must still be JSON.
    server.receive_and_echo(b"[1,2,3,4,nil]");
    assert_eq!(
        server.output(),
        error("null", -32700, "parse error: expected true, false or null at byte 9") + "\n"
    );
}

#[test]
fn outstanding_answers_of_batches_are_limited() {
    let limits = Limits { in_flight_max: 2, ..Limits::default() };
    let mut server = server_with(limits);
    let batch = format!("[{},{}]", call("1", "1"), call("2", "2"));
    let response = server.receive(batch.repeat(4).as_bytes());
    assert_eq!(response.len(), 8);
    let refused = server.receive_and_echo(batch.as_bytes());
    assert_eq!((refused.len(), refusal_of(&refused[0]).code), (1, Code::ResourceExhausted));
    let message = "the unanswered batches of this connection contain too many requests";
    assert_eq!(server.output(), error("null", -32008, message) + "\n");
    server.echo(&response[0]);
    server.echo(&response[1]);
    assert_eq!(server.receive(batch.as_bytes()).len(), 2, "one has ended, so there is room");
}

#[test]
fn bytes_of_waiting_answers_are_limited() {
    let limits = Limits { write_queue_high_bytes: 200, ..Limits::default() };
    let mut server = server_with(limits);
    let batch = format!("[{},{},{}]", call("1", "1"), call("2", "2"), call("3", "3"));
    let response = server.receive(batch.as_bytes());
    let large = format!("\"{}\"", "x".repeat(500));
    for response in &response {
        server.reply(request_of(response).id, Code::Ok, large.as_bytes());
    }
    let full = "the answers to the batches of this connection are too large in total";
    let full = |id| error(id, -32008, full);
    assert_eq!(server.output(), format!("[{},{},{}]\n", ok("1", &large), full("2"), full("3")));
    let response = server.receive(batch.as_bytes());
    server.reply(request_of(&response[0]).id, Code::Ok, large.as_bytes());
    assert_eq!(server.output(), "", "what went out does not count");
}

#[test]
fn a_batch_waits_for_its_lost_bytes() {
    let mut server = server();
    server.arrive(format!("[{},{}]", call("1", "1"), call("2", "2")).as_bytes());
    let first = server.next().unwrap();
    server.held.clear();
    assert_eq!(server.next(), None);
    server.echo(&first);
    assert_eq!(server.output(), "");
}
