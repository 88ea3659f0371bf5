//! The server's side, one message at a time.

use coreloop_bufpool::Chunk;

use super::*;

fn ok(id: &str, result: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n")
}

fn error_line(id: &str, number: i32, message: &str) -> String {
    error(id, number, message) + "\n"
}

#[test]
fn an_argument_is_read_in_place() {
    let mut server = server();
    let stream = br#"{"method":"Arith.Add","params":[ {"A":6, "B":7} ],"id":41}"#;
    let response = server.receive(stream);
    let request = request_of(&response[0]);
    assert_eq!(request.method, method_hash("Arith.Add"));
    assert_eq!((request.codec, request.one_way, request.compressed, request.name), (128, false, false, None));
    assert_eq!((request.schema, request.time_left_us, request.metadata.len()), (0, 0, 0));
    assert!(!request.body.is_scratch());
    assert_eq!(&stream[request.body.range()], br#"{"A":6, "B":7}"#);
}

#[test]
fn arguments_of_2_0_are_positional_or_named_or_left_out() {
    for (params, argument) in [
        (r#","params":[{"A":1}]"#, r#"{"A":1}"#),
        (r#","params":{"A":1}"#, r#"{"A":1}"#),
        (r#","params":{}"#, "{}"),
        (r#","params":["x"]"#, r#""x""#),
        (r#","params":[[1,2]]"#, "[1,2]"),
        (r#","params":[null]"#, "null"),
        (r#","params":[]"#, ""),
        (r#","params":null"#, ""),
        ("", ""),
    ] {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"Arith.Add"{params},"id":1}}"#);
        let response = server().receive(request.as_bytes());
        assert_eq!(request_of(&response[0]).method, method_hash("Arith.Add"));
        assert_eq!(String::from_utf8_lossy(&response[0].1), argument, "{request}");
    }
}

#[test]
fn ids_of_2_0_are_echoed_as_they_were_written() {
    let long_text = format!("\"{}\"", "x".repeat(ID_BYTES_MAX - 2));
    let digits = "9".repeat(300);
    for id in [
        "0",
        "-0",
        "7",
        "-17",
        "1.5",
        "1.50e+3",
        "18446744073709551616",
        &digits,
        "\"\"",
        "\"a b\"",
        r#""\u0061\"\\""#,
        "\"é世\"",
        "null",
        &long_text,
    ] {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id": {id} }}"#);
        assert_eq!(answers(request), ok(id, "1"));
    }
}

#[test]
fn ids_of_2_0_that_are_none_are_refused_with_null() {
    for id in ["{}", "[1]", "true", "false"] {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id":{id}}}"#);
        let message = "invalid request: the id is neither a string nor a number nor null";
        assert_eq!(answers(request), error_line("null", -32600, message));
    }
    let id = "1".repeat(ID_BYTES_MAX + 1);
    for (jsonrpc, answer) in [
        (r#""jsonrpc":"2.0","#, error_line("null", -32600, "invalid request: an id of 1025 bytes, 1024 is the limit")),
        (
            "",
            "{\"id\":null,\"result\":null,\"error\":\"invalid request: an id of 1025 bytes, 1024 is the limit\"}\n".into(),
        ),
    ] {
        let request = format!(r#"{{{jsonrpc}"method":"Echo.Echo","params":[1],"id":{id}}}"#);
        assert_eq!(answers(request), answer);
    }
}

#[test]
fn a_notification_is_one_way_and_never_answered() {
    let mut server = server();
    let response = server.receive_and_echo(
        br#"{"jsonrpc":"2.0","method":"Echo.Echo","params":[1]}{"jsonrpc":"2.0","method":"No.Such"}
            {"jsonrpc":"2.0","method":"Echo.Echo","params":[1,2]}"#,
    );
    let first = request_of(&response[0]);
    assert!(first.one_way);
    let refusal = refusal_of(&response[1]);
    assert!(refusal.one_way && refusal.code == Code::Unimplemented);
    assert!(refusal_of(&response[2]).one_way && refusal_of(&response[2]).code == Code::InvalidArgument);
    // An answer to a notification is dropped.
    server.reply(first.id, Code::Ok, b"1");
    assert_eq!(server.output(), "");
}

#[test]
fn unknown_methods_are_refused_as_in_the_dialect() {
    let response = server().receive(br#"{"jsonrpc":"2.0","method":"No.Such","params":[1,2],"id":7}"#);
    let refusal = refusal_of(&response[0]);
    assert_eq!((refusal.code, refusal.codec, refusal.one_way), (Code::Unimplemented, 2, false));
    assert_eq!(
        answers(r#"{"jsonrpc":"2.0","method":"No.Such","params":[1,2],"id":7}"#),
        error_line("7", -32601, "method not found: No.Such")
    );
    for (name, text) in [
        ("Arith.Nope", "rpc: can't find method Arith.Nope"),
        ("Nope.Add", "rpc: can't find service Nope.Add"),
        ("Deep.Name.Put", "rpc: can't find method Deep.Name.Put"),
        ("Deep.Add", "rpc: can't find service Deep.Add"),
        ("Add", "rpc: service/method request ill-formed: Add"),
        (".", "rpc: can't find service ."),
        ("", "rpc: service/method request ill-formed: "),
    ] {
        let request = format!(r#"{{"method":"{name}","params":7,"id":1}}"#);
        assert_eq!(answers(request), format!("{{\"id\":1,\"result\":null,\"error\":\"{text}\"}}\n"));
    }
    let long = "é".repeat(300);
    let output = answers(format!(r#"{{"jsonrpc":"2.0","method":"{long}","id":1}}"#));
    assert_eq!(output, error_line("1", -32601, &format!("method not found: {}", "é".repeat(256))));
}

#[test]
fn names_may_be_written_with_escapes() {
    for name in ["Arith\\u002eAdd", "\\u0041rith.\\u0041dd"] {
        let request = format!(r#"{{"met\u0068od":"{name}","p\u0061rams":[1],"i\u0064":2}}"#);
        assert_eq!(answers(request), "{\"id\":2,\"result\":1,\"error\":null}\n");
    }
    let request = r#"{"json\u0072pc":"2\u002e0","method":"\u00c9chos.Tout","params":[1],"id":2}"#;
    assert_eq!(answers(request), ok("2", "1"));
}

#[test]
fn an_invalid_request_of_2_0_is_refused() {
    let no_method = "invalid request: the method is missing, or not a string";
    let version = "invalid request: `jsonrpc` is not \\\"2.0\\\"";
    let scalar = "invalid request: params are an array or an object, not a ";
    for (request, id, message) in [
        (r#"{"jsonrpc":"2.0"}"#, "null", no_method.to_owned()),
        (r#"{"jsonrpc":"2.0","id":7}"#, "7", no_method.into()),
        (r#"{"jsonrpc":"2.0","method":1,"params":"bar"}"#, "null", no_method.into()),
        (r#"{"jsonrpc":"2.0","method":null,"id":"x"}"#, "\"x\"", no_method.into()),
        (r#"{"jsonrpc":"2","method":"Echo.Echo","id":1}"#, "1", version.into()),
        (r#"{"jsonrpc":"1","method":"Echo.Echo","id":1}"#, "1", version.into()),
        (r#"{"jsonrpc":1.0,"method":"Echo.Echo","id":1}"#, "1", version.into()),
        (r#"{"jsonrpc":["2.0"],"method":"Echo.Echo","id":1}"#, "1", version.into()),
        (r#"{"jsonrpc":"2.1","method":"Echo.Echo"}"#, "null", version.into()),
        (r#"{"jsonrpc":2.0,"method":"Echo.Echo","id":1}"#, "1", version.into()),
        (r#"{"jsonrpc":null,"method":"Echo.Echo","id":1}"#, "1", version.into()),
        (r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":"bar","id":1}"#, "1", format!("{scalar}string")),
        (r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":1,"id":1}"#, "1", format!("{scalar}number")),
        (r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":false}"#, "null", format!("{scalar}bool")),
    ] {
        assert_eq!(answers(request), error_line(id, -32600, &message), "{request}");
    }
}

#[test]
fn the_version_1_0_is_1_0() {
    for version in [r#""1.0""#, r#""1\u002e0""#] {
        let output = answers(format!(
            r#"{{"jsonrpc":{version},"method":"Echo.Echo","params":[1],"id":[7]}}
            {{"jsonrpc":{version},"method":"Echo.No","params":[1],"id":2}}
            {{"jsonrpc":{version},"method":"Echo.Echo","id":3}}
            {{"jsonrpc":{version},"method":"Echo.Echo","params":[1]}}"#
        ));
        let expected = concat!(
            r#"{"id":[7],"result":1,"error":null}"#,
            "\n",
            r#"{"id":2,"result":null,"error":"rpc: can't find method Echo.No"}"#,
            "\n",
            r#"{"id":3,"result":null,"error":"jsonrpc: request body missing params"}"#,
            "\n",
            r#"{"id":null,"result":1,"error":null}"#,
            "\n",
        );
        assert_eq!(output, expected);
    }
    // A fault after it is answered in the same version, as after a request without one.
    let output = answers(r#"{"jsonrpc":"1.0","method":"Echo.Echo","params":[1],"id":1}{"method":}"#);
    assert!(output.lines().nth(1).unwrap().starts_with(r#"{"id":null,"result":null,"error":"#), "{output}");
}

#[test]
fn an_id_is_echoed_if_every_reader_takes_it() {
    for id in ["0", "-1.5e3", "18446744073709551616", "1e308", r#""\u00e9\ud83e\udd80""#, "null"] {
        let two = format!(r#"{{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id":{id}}}"#);
        assert_eq!(answers(two), ok(id, "1"));
        let one = format!(r#"{{"method":"Echo.Echo","params":[1],"id":{id}}}"#);
        assert_eq!(answers(one), format!("{{\"id\":{id},\"result\":1,\"error\":null}}\n"));
    }
    for (id, what) in [
        ("1e3756501519", "a number that not every JSON reader takes"),
        ("-1E+400", "a number that not every JSON reader takes"),
        ("1e-99999", "a number that not every JSON reader takes"),
        (r#""\ud83e""#, "a string with half a surrogate pair"),
    ] {
        let message = format!("invalid request: the id has {what}");
        let two = format!(r#"{{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id":{id}}}"#);
        assert_eq!(answers(&two), error_line("null", -32600, &message));
        assert_eq!(answers(format!("[{two}]")), format!("[{}]\n", error("null", -32600, &message)));
        for id in [id.to_owned(), format!("[[1],{id}]")] {
            let one = format!(r#"{{"method":"Echo.Echo","params":[1],"id":{id}}}"#);
            let refused = format!("{{\"id\":null,\"result\":null,\"error\":\"{message}\"}}\n");
            assert_eq!(answers(one), refused);
        }
    }
}

#[test]
fn repeated_members_are_refused() {
    for (again, name) in [
        (r#""id":2"#, "id"),
        (r#""i\u0064":1"#, "id"),
        (r#""method":"Echo.Echo""#, "method"),
        (r#""params":[1]"#, "params"),
        (r#""params":null"#, "params"),
    ] {
        let members = format!(r#""method":"Echo.Echo","params":[1],"id":1,{again}"#);
        let id = if name == "id" && !again.contains('\\') { "2" } else { "1" };
        assert_eq!(
            answers(format!(r#"{{"jsonrpc":"2.0",{members}}}"#)),
            error_line(id, -32600, &format!("invalid request: the member `{name}` occurs twice"))
        );
        assert_eq!(
            answers(format!("{{{members}}}")),
            format!(
                "{{\"id\":{id},\"result\":null,\"error\":\"jsonrpc: the member {name} occurs twice\"}}\n"
            )
        );
    }
    let strange = r#"{"x":1,"x":{"id":5},"method":"Echo.Echo","params":[1],"id":1}"#;
    assert_eq!(answers(strange), "{\"id\":1,\"result\":1,\"error\":null}\n", "others mean nothing here");
}

#[test]
fn params_of_2_0_are_one_argument() {
    let request = r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":[1,2,3],"id":1}"#;
    let message = "invalid params: the method takes one argument, not 3";
    assert_eq!(answers(request), error_line("1", -32602, message));
}

#[test]
fn replies_may_have_any_order_and_equal_ids() {
    let mut server = server();
    let response = server.receive(
        br#"{"method":"Echo.Echo","params":["a"],"id":1}{"jsonrpc":"2.0","method":"Echo.Echo","params":["b"],"id":1}
            {"method":"Echo.Echo","params":["c"],"id":"x"}"#,
    );
    let ids: Vec<u64> = response.iter().map(|response| request_of(response).id).collect();
    assert!(ids[0] < ids[1] && ids[1] < ids[2]);
    for at in [2, 0, 1] {
        server.reply(ids[at], Code::Ok, &response[at].1);
        server.reply(ids[at], Code::Ok, b"\"again\"");
    }
    assert_eq!(
        server.output(),
        "{\"id\":\"x\",\"result\":\"c\",\"error\":null}\n{\"id\":1,\"result\":\"a\",\"error\":null}\n\
         {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"b\"}\n"
    );
}

#[test]
fn every_code_has_its_form() {
    for code in Code::ALL.into_iter().filter(|code| *code != Code::Ok) {
        let mut server = server();
        let response = server.receive(
            br#"{"jsonrpc":"2.0","method":"Echo.Echo","id":1}{"method":"Echo.Echo","params":[],"id":2}"#,
        );
        server.reply(request_of(&response[0]).id, code, b"no \"such\" thing");
        server.reply(request_of(&response[1]).id, code, b"no \"such\" thing");
        let (number, name) = (code.jsonrpc_number(), code.name());
        assert_eq!(
            server.output(),
            format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{{\"code\":{number},\"message\":\"no \\\"such\\\" thing\",\
                 \"data\":{{\"code\":\"{name}\"}}}}}}\n{{\"id\":2,\"result\":null,\"error\":\"no \\\"such\\\" thing\"}}\n"
            )
        );
    }
}

#[test]
fn an_error_without_a_message_has_the_name_of_its_code() {
    let mut server = server();
    let response = server.receive(br#"{"method":"Echo.Echo","params":[],"id":2}"#);
    server.reply(request_of(&response[0]).id, Code::NotFound, b"");
    assert_eq!(server.output(), "{\"id\":2,\"result\":null,\"error\":\"not_found\"}\n");
}

#[test]
fn large_results_are_linked_and_empty_ones_are_null() {
    let mut server = server();
    let response = server.receive(&br#"{"method":"Echo.Echo","params":[],"id":2}"#.repeat(2));
    let large = format!("\"{}\"", "x".repeat(100_000));
    let chunk = SendBody::Chunk(Chunk::from(large.clone().into_bytes()));
    server.say(super::reply(request_of(&response[0]).id, Code::Ok, chunk));
    assert!(server.queue.segments() > 1, "a large result is not copied");
    assert_eq!(server.output(), format!("{{\"id\":2,\"result\":{large},\"error\":null}}\n"));
    let none = SendBody::Chunk(Chunk::from(Vec::new()));
    server.say(super::reply(request_of(&response[1]).id, Code::Ok, none));
    assert_eq!(server.output(), "{\"id\":2,\"result\":{},\"error\":null,\"null\":true}\n");
}

#[test]
fn invalid_json_is_answered_and_the_connection_continues() {
    let good = r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id":1}"#;
    for (bad, expected, at) in [
        (&b"{\"jsonrpc\":\"2.0\",\"method\":}"[..], "a value", 26),
        (b"{\"jsonrpc\" \"2.0\"}", "`:`", 11),
        (b"{nonsense}", "a member's name", 1),
        (b"{\"a\":1,}", "a member's name", 7),
        (b"{\"a\":1 2}", "`,` or the closing bracket", 7),
        (b"{\"a\":01}", "`,` or the closing bracket", 6),
        (b"{\"a\":1.}", "a digit", 7),
        (b"{\"a\":-}", "a digit", 6),
        (b"{\"a\":1e+}", "a digit", 8),
        (b"{\"a\":tru}", "true, false or null", 5),
        (b"{\"a\":\"\\x\"}", "an escape", 7),
        (b"{\"a\":\"\\u12g4\"}", "a hexadecimal digit", 10),
        (b"{\"a\":\"\n\"}", "a character of a string, or its end", 6),
        (b"{\"a\":\"\xff\"}", "UTF-8", 6),
        (b"{\"a\":[1,]}", "a value", 8),
        (b"[1,2,nul]", "true, false or null", 5),
        (b"[{\"jsonrpc\":\"2.0\",\"method\":\"Echo.Echo\",\"id\":1},{\"method\"]}]", "", 0),
    ] {
        let answer = if expected.is_empty() {
            // The brackets do not match: the bytes after them cannot be trusted.
            error_line("null", -32700, "parse error: a bracket closes what is not open")
        } else {
            error_line("null", -32700, &format!("parse error: expected {expected} at byte {at}"))
                + &ok("1", "1")
        };
        assert_eq!(answers([bad, good.as_bytes()].concat()), answer, "{}", bad.escape_ascii());
    }
}

#[test]
fn a_fault_is_reported_in_the_peers_dialect() {
    let output = answers(r#"{"method":"Echo.Echo","params":[1],"id":1}{"method":}{"method":7,"id":3}"#);
    assert_eq!(
        output,
        "{\"id\":1,\"result\":1,\"error\":null}\n\
         {\"id\":null,\"result\":null,\"error\":\"parse error: expected a value at byte 10\"}\n\
         {\"id\":3,\"result\":null,\"error\":\"jsonrpc: the method is not a string\"}\n"
    );
}

#[test]
fn an_uncertain_end_is_one_error_and_the_end() {
    let good = r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id":1}"#;
    let deep = |n: usize| "[".repeat(n);
    let not_an_object = "parse error: a message is an object or an array";
    for (bad, number, message) in [
        ("x".to_owned(), -32700, not_an_object),
        (",".into(), -32700, not_an_object),
        ("\"text\"".into(), -32700, not_an_object),
        ("12".into(), -32700, not_an_object),
        ("}".into(), -32700, not_an_object),
        ("\u{feff}".into(), -32700, not_an_object),
        ("{\"a\":]}".into(), -32700, "parse error: a bracket closes what is not open"),
        (deep(132), -32700, "parse error: nested deeper than 128 (depth_max)"),
        (format!("{{\"a\":{}", deep(131)), -32700, "parse error: nested deeper than 128 (depth_max)"),
    ] {
        let mut server = server();
        let stream = [good, &bad, good].concat();
        server.receive_and_echo(stream.as_bytes());
        assert_eq!(server.output(), ok("1", "1") + &error_line("null", number, message), "{bad}");
        assert!(server.is_over, "{bad}");
    }
}

#[test]
fn calls_in_flight_are_answered_after_the_final_error() {
    let mut server = server();
    let response = server.receive(br#"{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id":1}?"#);
    server.echo(&response[1]);
    assert!(server.is_over && server.receive(b"{}").is_empty());
    server.echo(&response[0]);
    assert!(server.output().ends_with(&ok("1", "1")));
}

#[test]
fn an_argument_of_the_maximum_depth_is_accepted() {
    // With the envelope, and in a batch.
    let limits = Limits { depth_max: 5, ..Limits::default() };
    let request = |n: usize| {
        format!(
            r#"[{{"jsonrpc":"2.0","method":"Echo.Echo","params":[{}{}],"id":1}}]"#,
            "[".repeat(n),
            "]".repeat(n)
        )
    };
    let mut server = server_with(limits);
    assert_eq!(server.receive_and_echo(request(5).as_bytes())[0].1, b"[[[[[]]]]]");
    assert!(server.receive_and_echo(request(6).as_bytes())[0].1.is_empty() && server.is_over);
}

#[test]
fn a_message_over_the_limit_is_the_last() {
    let request = r#"{"jsonrpc":"2.0","method":"Echo.Echo","params":["xxxxxxxx"],"id":1}"#;
    let limits = |frame_bytes_max| Limits { frame_bytes_max, ..Limits::default() };
    let mut just = server_with(limits(request.len()));
    assert_eq!(just.receive_and_echo(request.repeat(2).as_bytes()).len(), 2);
    assert!(!just.is_over);
    for pieces in [request.len(), 1] {
        let mut server = server_with(limits(request.len() - 1));
        let mut response = Vec::new();
        for piece in request.as_bytes().chunks(pieces) {
            response.extend(server.receive_and_echo(piece));
        }
        assert_eq!((response.len(), refusal_of(&response[0]).code), (1, Code::ResourceExhausted));
        let message = format!("a message of more than {} bytes (frame_bytes_max)", request.len() - 1);
        assert_eq!(server.output(), error_line("null", -32008, &message));
        assert!(server.is_over);
    }
}

#[test]
fn white_space_is_skipped_and_never_kept() {
    let mut server = server();
    for _ in 0..100 {
        assert!(server.receive(&b" \t\r\n".repeat(1000)).is_empty());
        assert!(server.held.is_empty());
    }
    assert_eq!(server.skipped, 400_000);
    server.receive_and_echo(b" {\"method\":\"Echo.Echo\",\"params\":[1],\"id\":1}\r\n\r\n");
    assert_eq!(server.output(), "{\"id\":1,\"result\":1,\"error\":null}\n");
    assert!(server.held.is_empty());
}

#[test]
fn a_late_peer_is_notified_in_2_0_only() {
    for (stream, answer) in [
        (r#"{"jsonrpc":"2."#, error_line("null", -32004, "the message took too long to arrive (frame_ms)")),
        (r#"{"method":"Echo.Echo","params":[1],"id":1}{"met"#, String::new()),
        ("?", String::new()),
    ] {
        let mut server = server();
        server.receive_and_echo(stream.as_bytes());
        server.output();
        server.wire.send_late(&mut Out { queue: &mut server.queue, pool: &mut server.pool });
        assert_eq!(server.output(), answer);
        server.wire.send_drain(&mut Out { queue: &mut server.queue, pool: &mut server.pool });
        assert_eq!(server.output(), "", "there is no word for a drain");
    }
}

#[test]
fn an_answer_in_the_steady_state_keeps_no_memory() {
    let mut server = server();
    for _ in 0..3 {
        server.receive_and_echo(&br#"{"method":"Echo.Echo","params":[1],"id":1}"#.repeat(100));
        server.output();
    }
    assert_eq!(server.pool.stats().outstanding, 0);
}
