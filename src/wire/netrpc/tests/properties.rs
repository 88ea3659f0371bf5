//! Properties that hold for any bytes, in any split.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn limits() -> Limits {
    Limits {
        frame_bytes_max: 300,
        gob_types_max: 8,
        gob_type_bytes_max: 120,
        in_flight_max: 4,
        ..Limits::default()
    }
}

/// The result of a stream: the messages, the output, and the end.
type Trace = (Vec<ReceivedMessage>, Vec<u8>, Option<Broken>);

fn server_trace<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace {
    let mut server = server_with(limits());
    let mut all = Vec::new();
    for piece in pieces {
        server.held.extend_from_slice(piece);
        while let Some(parsed) = server.next() {
            echo(&mut server, &parsed);
            all.push(parsed);
        }
    }
    (all, server.output(), server.broken)
}

fn client_trace<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Trace {
    let mut client = NetRpcEnd::of(NetRpcClient::new(300));
    let parsed = pieces.into_iter().flat_map(|piece| client.receive(piece)).collect();
    (parsed, client.output(), client.broken)
}

/// A stream of our calls, and a server's answers.
fn talk() -> (Vec<u8>, Vec<u8>) {
    let mut client = client();
    for (id, name) in ["Arith.Add", "No.Such", "Echo.Echo", "Users.Get", "Arith.Add"].iter().enumerate() {
        let body =
            if id % 2 == 0 { body_of(&GoArgs { a: -1, b: 1 << 40 }) } else { body_of(&vec!["x".to_owned()]) };
        client.call(id as u64, name, id == 4, &body);
    }
    let requests = client.output();
    let answered = server_trace([&requests[..]]).1;
    (requests, answered)
}

/// Whole streams and pieces of them, with changed bytes, so that streams are often nearly valid.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let (requests, answered) = talk();
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    let near = (select(vec![requests, answered]), changes).prop_map(|(mut stream, changes)| {
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        stream
    });
    prop_oneof![near, vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn any_bytes_in_any_split_give_one_result(stream in stream(), cuts in vec(any::<Index>(), 0..6)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            pieces.push(&stream[from..cut]);
            from = cut;
        }
        prop_assert_eq!(server_trace(pieces.clone()), server_trace([&stream[..]]));
        prop_assert_eq!(server_trace(stream.chunks(1)), server_trace([&stream[..]]));
        prop_assert_eq!(client_trace(pieces), client_trace([&stream[..]]));
        prop_assert_eq!(client_trace(stream.chunks(1)), client_trace([&stream[..]]));
    }

    #[test]
    fn calls_round_trip(
        calls in vec((any::<u64>(), select(&METHODS[..]), any::<i64>(), ".{0,40}"), 1..20),
        cuts in vec(1..50usize, 1..10),
    ) {
        let (mut client, mut server) = (client(), server());
        for (at, (_, name, number, text)) in calls.iter().enumerate() {
            let body = match at % 4 {
                0 => body_of(&GoArgs { a: *number, b: at as i64 }),
                1 => body_of(text),
                2 => body_of(&vec![text.clone(), text.clone()]),
                _ => body_of(&GoEmpty {}),
            };
            client.call(at as u64, name, false, &body);
        }
        let (requests, mut parsed, mut from) = (client.output(), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let to = (from + cut).min(requests.len());
            parsed.extend(server.receive(&requests[from..to]));
            from = to;
            if from == requests.len() {
                break;
            }
        }
        prop_assert_eq!(parsed.len(), calls.len());
        let mut order: Vec<usize> = (0..calls.len()).collect();
        order.sort_by_key(|at| calls[*at].0);
        for at in &order {
            prop_assert_eq!(request_of(&parsed[*at]).method, method_hash(calls[*at].1));
            echo(&mut server, &parsed[*at]);
        }
        let parsed = client.receive(&server.output());
        let ids: Vec<usize> = parsed.iter().map(|parsed| answer_of(parsed).id as usize).collect();
        prop_assert_eq!(ids, order);
        for parsed in &parsed {
            let at = answer_of(parsed).id as usize;
            let (_, _, number, text) = &calls[at];
            match at % 4 {
                0 => prop_assert_eq!(gob::decode(&parsed.1), Ok(GoArgs { a: *number, b: at as i64 })),
                1 => prop_assert_eq!(gob::decode(&parsed.1), Ok(text.clone())),
                2 => prop_assert_eq!(gob::decode(&parsed.1), Ok(vec![text.clone(), text.clone()])),
                _ => prop_assert_eq!(gob::decode(&parsed.1), Ok(GoEmpty {})),
            }
        }
    }
}
