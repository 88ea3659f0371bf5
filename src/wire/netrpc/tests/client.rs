//! The client's side, and both sides together.

use super::*;

/// Returns what a client receives from an echo server for these calls.
fn talk(calls: &[(u64, &str, bool, Vec<u8>)]) -> Vec<ReceivedMessage> {
    let (mut client, mut server) = (client(), server());
    for (id, name, one_way, body) in calls {
        client.call(*id, name, *one_way, body);
    }
    let parsed = server.receive(&client.output());
    assert_eq!((parsed.len(), &server.broken), (calls.len(), &None));
    parsed.iter().rev().for_each(|parsed| echo(&mut server, parsed));
    let parsed = client.receive(&server.output());
    assert_eq!((&client.broken, client.held.len()), (&None, 0));
    parsed
}

#[test]
fn values_of_every_form_round_trip() {
    let user = GoUser {
        id: 1 << 40,
        name: "é世".to_owned(),
        age: 255,
        email: String::new(),
        tags: vec!["a".to_owned(), String::new()],
        scores: BTreeMap::from([("x".to_owned(), 1.0 / 3.0), ("y".to_owned(), -0.5)]),
    };
    let map = BTreeMap::from([(-1i64, vec![true]), (7, Vec::new())]);
    let parsed = talk(&[
        (1, "Echo.Echo", false, body_of(&user)),
        (2, "Echo.Echo", false, body_of(&vec![user.clone(), user.clone()])),
        (3, "Echo.Echo", false, body_of(&map)),
        (4, "Echo.Echo", false, body_of(&"text".to_owned())),
        (5, "Echo.Echo", false, body_of(&())),
        (6, "Echo.Echo", false, body_of(&GoArgs { a: 0, b: 0 })),
        (1 << 62, "Echo.Echo", false, body_of(&user)),
    ]);
    let ids: Vec<u64> = parsed.iter().map(|parsed| answer_of(parsed).id).collect();
    assert_eq!(ids, [1 << 62, 6, 5, 4, 3, 2, 1]);
    assert!(parsed.iter().all(|parsed| answer_of(parsed).status == 0 && answer_of(parsed).codec == 3));
    assert_eq!(gob::decode(&parsed[0].1), Ok(user.clone()));
    assert_eq!(gob::decode(&parsed[1].1), Ok(GoArgs { a: 0, b: 0 }));
    assert_eq!(gob::decode(&parsed[2].1), Ok(()));
    assert_eq!(gob::decode(&parsed[3].1), Ok("text".to_owned()));
    assert_eq!(gob::decode(&parsed[4].1), Ok(map));
    assert_eq!(gob::decode(&parsed[5].1), Ok(vec![user.clone(), user.clone()]));
    assert_eq!(gob::decode(&parsed[6].1), Ok(user));
}

#[test]
fn an_error_has_the_servers_text_and_its_code() {
    let parsed = talk(&[(1, "No.Such", false, body_of(&1i64)), (2, "NoDot", false, body_of(&1i64))]);
    let parsed: Vec<_> = parsed
        .iter()
        .map(|parsed| {
            (answer_of(parsed).id, answer_of(parsed).status, String::from_utf8(parsed.1.clone()).unwrap())
        })
        .collect();
    assert_eq!(
        parsed,
        [
            (2, Code::Unknown.number(), "rpc: service/method request ill-formed: NoDot".to_owned()),
            (1, Code::Unimplemented.number(), "rpc: can't find service No.Such".to_owned()),
        ]
    );
}

#[test]
fn the_answer_to_a_one_way_call_is_dropped() {
    // Several may be in flight with one id, and one that is answered as well.
    let one_way = |id, name| (id, name, true, body_of(&GoArgs { a: 1, b: 2 }));
    let parsed = talk(&[
        one_way(0, "Echo.Echo"),
        one_way(0, "No.Such"),
        (0, "Echo.Echo", false, body_of(&7i64)),
        one_way(0, "Echo.Echo"),
        (1, "Echo.Echo", false, body_of(&GoArgs { a: 1, b: 2 })),
    ]);
    let ids: Vec<u64> = parsed.iter().map(|parsed| answer_of(parsed).id).collect();
    assert_eq!(ids, [1, 0]);
    assert_eq!(gob::decode(&parsed[0].1), Ok(GoArgs { a: 1, b: 2 }));
}

#[test]
fn only_calls_are_written() {
    let mut client = client();
    client.say(Outgoing::Cancel { id: 1 });
    client.say(Outgoing::Ping { id: 1 });
    client.say(Outgoing::Drain);
    assert_eq!(client.output(), b"");
    let mut server = server();
    server.say(Outgoing::Pong { id: 1 });
    server.say(Outgoing::Drain);
    let GoServer { wire, queue, pool } = GoServer::of(&mut server);
    wire.send_drain(&mut Out { queue, pool });
    wire.send_late(&mut Out { queue, pool });
    assert_eq!(server.output(), b"");
}

/// The parts of a server's side, to be borrowed separately.
struct GoServer<'e> {
    wire: &'e mut NetRpc,
    queue: &'e mut WriteQueue,
    pool: &'e mut Pool,
}

impl GoServer<'_> {
    fn of(end: &mut NetRpcEnd<NetRpc>) -> GoServer<'_> {
        GoServer { wire: &mut end.wire, queue: &mut end.queue, pool: &mut end.pool }
    }
}

#[test]
fn an_invalid_argument_is_refused_by_the_server() {
    let (mut client, mut server) = (client(), server());
    for body in [&b"{\"A\":6}"[..], b"", &[3, 4, 0], &[4, 0xff, 0x84, 0]] {
        client.call(1, "Echo.Echo", false, body);
        let parsed = server.receive(&client.output());
        assert_eq!(server.broken, None);
        echo(&mut server, &parsed[0]);
        let parsed = client.receive(&server.output());
        let text = "rpc: service/method request ill-formed: the argument is not a gob body of this process";
        assert_eq!((answer_of(&parsed[0]).id, parsed[0].1.as_slice()), (1, text.as_bytes()));
    }
}

#[test]
fn an_answer_over_the_limit_fails_only_its_call() {
    for pieces in [1, 3, 700, 1 << 20] {
        let (mut client, mut server) = (NetRpcEnd::of(NetRpcClient::new(1000)), server());
        for id in 1..=4 {
            client.call(id, "Echo.Echo", id == 3, &body_of(&String::new()));
        }
        let parsed = server.receive(&client.output());
        for (parsed, bytes) in parsed.iter().zip([1000, 5000, 2000, 10]) {
            let body = body_of(&"x".repeat(bytes));
            server.reply(request_of(parsed).id, Code::Ok, SendBody::Bytes(&body));
        }
        let parsed: Vec<ReceivedMessage> =
            server.output().chunks(pieces).flat_map(|piece| client.receive(piece)).collect();
        assert_eq!((&client.broken, parsed.len()), (&None, 3), "in pieces of {pieces}");
        for (parsed, id) in parsed.iter().zip([1, 2]) {
            let Message::Refused(refusal) = &parsed.0 else { panic!("{:?}", parsed.0) };
            assert_eq!((refusal.id, refusal.code), (id, Code::ResourceExhausted));
            assert!(refusal.message.contains("limit of 1000 (frame_bytes_max)"), "{}", refusal.message);
        }
        assert_eq!(answer_of(&parsed[2]).id, 4);
        assert_eq!(gob::decode(&parsed[2].1), Ok("x".repeat(10)));
    }
}
