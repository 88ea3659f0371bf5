//! The section `auth` of the configuration: tokens from a file, rules, and the limits of principals, over every protocol.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::config::Config;
use coreloop::service::Kind;
use coreloop::{Code, Context, Server};

use crate::common::{eventually, shared};

const TOKENS: &str = "ann s3cret-1 admin\nbob s3cret-2\n# a comment\n";

fn server(change: impl FnOnce(&mut Config)) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, TOKENS).unwrap();
    let builder = Server::builder()
        .cores(1)
        .workers(1)
        .listen("127.0.0.1:0")
        .method("Orders.Caller", |cx: &Context<'_>, _n: i64| {
            Ok(cx.principal().unwrap_or("unknown").to_owned())
        })
        .method("Orders.Cancel", |cx: &Context<'_>, _n: i64| Ok(cx.extensions().has_role("admin")))
        .method("Stock.Count", |_cx: &Context<'_>, n: i64| Ok(n))
        .configure(|config| {
            config.auth.tokens_file = file.to_str().unwrap().to_owned();
            change(config);
        });
    (builder.start().unwrap(), folder)
}

fn call(client: &Client, token: &str, method: &str) -> Result<String, (Code, String)> {
    let value = format!("Bearer {token}");
    let client = match token {
        "" => client.clone(),
        _ => client.with_metadata("authorization", value.as_bytes()).unwrap(),
    };
    match client.call_bytes(method, Codec::Json, b"1") {
        Ok(body) => Ok(String::from_utf8(body).unwrap()),
        Err(error) => Err((error.code(), error.to_string())),
    }
}

#[test]
fn rules_decide_by_principal_and_role_whatever_the_protocol() {
    let _turn = shared();
    let (server, _folder) = server(|config| {
        let rules =
            ["Health.*=anyone", "Orders.*=role:admin", "Orders.Caller=authenticated", "Stock.Count=anyone"];
        config.auth.allow = rules.map(str::to_owned).to_vec();
    });
    let address = server.addresses()[0].to_string();
    for scheme in ["native", "http"] {
        let client = Client::connect(format!("{scheme}:{address}")).unwrap();
        let code = |token, method| call(&client, token, method).map_err(|(code, _)| code);
        assert_eq!(call(&client, "s3cret-1", "Orders.Cancel").unwrap(), "true", "{scheme}");
        assert_eq!(call(&client, "s3cret-2", "Orders.Caller").unwrap(), "\"bob\"", "{scheme}");
        assert_eq!(call(&client, "", "Stock.Count").unwrap(), "1", "{scheme}");
        let (denied, text) = call(&client, "s3cret-2", "Orders.Cancel").unwrap_err();
        assert_eq!(denied, Code::PermissionDenied);
        assert!(text.contains("\"bob\" is not allowed to call Orders.Cancel"), "{text}");
        for (token, method, expected) in [
            ("", "Orders.Cancel", Code::Unauthenticated),
            ("", "Orders.Caller", Code::Unauthenticated),
            // A token that is not known is refused even where none is needed.
            ("s3cret-3", "Stock.Count", Code::Unauthenticated),
            // No rule names it.
            ("s3cret-1", "Meta.Methods", Code::PermissionDenied),
        ] {
            assert_eq!(code(token, method), Err(expected), "{scheme} {token} {method}");
        }
    }
    #[cfg(feature = "metrics")]
    {
        let families = server.inspector().metric_families();
        let decisions =
            families.iter().find(|family| family.name == "coreloop_server_permission_decisions").unwrap();
        let decisions: Vec<String> =
            decisions.samples.iter().map(|one| format!("{} {:?}", one.labels[0].1, one.value)).collect();
        let expected = [("allowed", 3), ("denied", 2), ("unauthenticated", 2)]
            .map(|(decision, each)| format!("{decision} Count({})", each * 2));
        assert_eq!(decisions, expected);
    }
    // Without metadata, what is open to anyone.
    let client = Client::connect(format!("jsonrpc:{address}")).unwrap();
    assert_eq!(client.call_bytes("Stock.Count", Codec::Json, b"1").unwrap(), b"1");
    let error = client.call_bytes("Orders.Caller", Codec::Json, b"1").unwrap_err().to_string();
    assert!(error.contains("Orders.Caller is open to authenticated callers only"), "{error}");
}

#[test]
fn each_principal_has_its_own_limits() {
    let _turn = shared();
    let (server, _folder) = server(|config| config.auth.calls_per_second = 1);
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    eventually("a second call within a second", || {
        call(&client, "s3cret-1", "Orders.Caller").is_err_and(|(code, _)| code == Code::ResourceExhausted)
    });
    assert_eq!(call(&client, "s3cret-2", "Orders.Caller").unwrap(), "\"bob\"");
}

#[test]
fn calls_in_progress_of_a_principal_are_limited_until_their_handlers_return() {
    let _turn = shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, TOKENS).unwrap();
    let (entered, enters) = channel();
    let entered = Mutex::new(entered);
    let leave = Arc::new(Barrier::new(3));
    let gate = leave.clone();
    let running = Arc::new(AtomicUsize::new(0));
    let server = Server::builder()
        .cores(1)
        .listen("127.0.0.1:0")
        .method_of_kind("Orders.Hold", Kind::Blocking, move |_cx: &Context<'_>, n: i64| {
            entered.lock().unwrap().send(n).unwrap();
            gate.wait();
            running.fetch_add(1, Ordering::Relaxed);
            Ok(n)
        })
        .method("Orders.Quick", |_cx: &Context<'_>, n: i64| Ok(n))
        .configure(|config| {
            config.auth.tokens_file = file.to_str().unwrap().to_owned();
            config.auth.in_progress_max = 2;
        })
        .start()
        .unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || call(&client, "s3cret-1", "Orders.Hold"))
        })
        .collect();
    enters.recv().unwrap();
    enters.recv().unwrap();
    let (code, text) = call(&client, "s3cret-1", "Orders.Quick").unwrap_err();
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.contains("limited to 2 calls in progress"), "{text}");
    assert_eq!(call(&client, "s3cret-2", "Orders.Quick").unwrap(), "1");
    leave.wait();
    for held in held {
        assert_eq!(held.join().unwrap().unwrap(), "1");
    }
    // The place of a call is free when its caller has the answer, or a moment later.
    eventually("a free place", || call(&client, "s3cret-1", "Orders.Quick").is_ok());
}

#[test]
fn what_cannot_work_prevents_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "ann\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let start = |change: &dyn Fn(&mut Config)| {
        let builder = Server::builder().listen("127.0.0.1:0").configure(|config| change(config));
        builder.start().map(drop).expect_err("no start").to_string()
    };
    let text = start(&|config| config.auth.tokens_file = file.clone());
    assert!(text.contains("line 1: expected `NAME TOKEN`"), "{text}");
    let text = start(&|config| config.auth.tokens_file = format!("{file}.not"));
    assert!(text.contains("tokens.not: No such file"), "{text}");
    let text = start(&|config| config.auth.allow = vec!["Orders.*=anyone".to_owned()]);
    assert!(text.contains("\"Orders.*\" matches none"), "{text}");
    let text = start(&|config| config.auth.allow = vec!["Orders.*".to_owned()]);
    assert!(text.contains("auth.allow") && text.contains("rules like"), "{text}");
}
