//! `loadgen diff` as a program: with records that `loadgen --json` wrote, modified records, and invalid files.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::process::Command;

use coreloop::{Server, demo};
use serde_json::{Value, json};
use support::loadgen;
use tempfile::TempDir;

/// A record of a real run against the demo server, with its process watched.
fn record() -> Value {
    let server = demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().expect("it starts");
    let pid = std::process::id();
    let arguments = format!(
        "--mix Arith.AddFixed=9,Arith.Multiply=1 --rate 4k --connections 4 --warmup 0 --duration 1.2 --watch {pid}"
    );
    let run = loadgen(&server.addresses()[0].to_string(), &arguments);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let measured = run.json["series"].as_array().expect("a list");
    assert!(measured.iter().all(|point| point["server_cpu_ns"].is_u64()), "{measured:?}");
    run.json
}

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a folder"))
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.0.path().join(name), content).expect("it can be written");
    }

    /// Returns exit code, standard output, standard error.
    fn diff(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .arg("diff")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn diff_of(&self, old: &Value, new: &Value) -> (Option<i32>, String, String) {
        self.put("old.json", &old.to_string());
        self.put("new.json", &new.to_string());
        self.diff(&["old.json", "new.json"])
    }
}

/// Returns the record with every latency multiplied by a factor.
fn slowed(record: &Value, factor: f64) -> Value {
    let mut slow = record.clone();
    let longer = |value: &mut Value| {
        if let Some(ns) = value.as_f64() {
            *value = json!(ns * factor);
        }
    };
    let slow_method = |method: &mut Value| {
        for pair in method["latency"]["percentiles"].as_array_mut().expect("a list") {
            longer(&mut pair[1]);
        }
    };
    slow_method(&mut slow["total"]);
    slow["methods"].as_array_mut().expect("a list").iter_mut().for_each(slow_method);
    for point in slow["series"].as_array_mut().expect("a list") {
        longer(&mut point["p50_ns"]);
        longer(&mut point["p99_ns"]);
    }
    slow
}

#[test]
fn equal_slower_and_faster_records_are_judged() {
    let (files, real) = (Files::new(), record());
    let (code, text, why) = files.diff_of(&real, &real);
    assert_eq!((code, why.as_str()), (Some(0), ""), "{text}");
    assert!(text.contains("0 worse, 0 better beyond the noise"), "{text}");
    for figure in ["calls/s", "p50", "p99", "failed", "CPU a call", "Arith.Multiply"] {
        assert!(text.contains(figure), "{figure} is not in\n{text}");
    }
    // Large enough to exceed the noise of any machine: no deviation is a hundred times the median.
    let slow = slowed(&real, 1e4);
    let (code, text, _) = files.diff_of(&real, &slow);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("WORSE") && !text.contains("better \n"), "{text}");
    let (code, text, _) = files.diff_of(&slow, &real);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 worse") && !text.contains("WORSE"), "{text}");
    // Several rounds in a file, of which one was slow.
    let (code, text, _) = files.diff_of(&json!([real, real, slow]), &json!([real]));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn other_settings_or_machines_are_compared_only_with_anyway() {
    let (files, real) = (Files::new(), record());
    for (group, field, value) in [
        ("settings", "connections", json!(5)),
        ("machine", "cpu", json!("another")),
        ("settings", "rate", json!(null)),
    ] {
        let mut other = slowed(&real, 1e4);
        other[group][field] = value.clone();
        let (code, text, _) = files.diff_of(&real, &other);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("{group}.{field}: ")) && !text.contains("WORSE"), "{text}");
        assert!(text.contains("p99"), "the figures are shown all the same: {text}");
        let (code, text, _) = files.diff(&["old.json", "new.json", "--anyway"]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("{group}.{field}: ")), "{text}");
    }
    let mut other = real.clone();
    other["methods"][0]["name"] = json!("Other.Method");
    other["settings"]["seed"] = json!(77);
    let (code, text, _) = files.diff_of(&real, &other);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("methods[0].name: Arith.AddFixed in the old file, Other.Method"), "{text}");
    assert!(!text.contains("seed"), "it does not make the figures: {text}");
}

#[test]
fn invalid_records_are_errors_with_file_and_field() {
    let (files, real) = (Files::new(), record());
    let text = real.to_string();
    files.put("old.json", &text);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (content, words) in [
        ("", "no JSON"),
        (&text[..text.len() / 2], "no JSON"),
        (&deep, "no JSON"),
        ("\u{0}\u{1}", "no JSON"),
        ("{\"version\": 1e999}", "no JSON"),
        ("[]", "the whole"),
        ("3", "settings"),
        ("{}", "settings"),
        ("[null]", "[0].settings"),
    ] {
        files.put("new.json", content);
        let (code, out, why) = files.diff(&["old.json", "new.json"]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{why}");
        assert!(why.contains("new.json") && why.contains(words), "{words}: {why}");
        assert_eq!(why.lines().count(), 1, "{why}");
    }
    let (code, _, why) = files.diff(&["missing.json", "old.json"]);
    assert!(code == Some(2) && why.contains("missing.json"), "{why}");
    let (code, _, why) = files.diff(&[".", "old.json"]);
    assert_eq!(code, Some(2), "a folder: {why}");
}

#[test]
fn each_field_is_required_and_checked() {
    let (files, real) = (Files::new(), record());
    files.put("old.json", &real.to_string());
    for (pointer, field) in [
        ("/settings/depth", "settings.depth"),
        ("/machine/kernel", "machine.kernel"),
        ("/window_s", "window_s"),
        ("/total/ok", "total.ok"),
        ("/methods/1/latency/percentiles", "methods[1].latency.percentiles"),
        ("/methods/0/weight", "methods[0].weight"),
        ("/server/cpu_ns_per_call", "server.cpu_ns_per_call"),
        ("/series/2/p99_ns", "series[2].p99_ns"),
        ("/verdict/late", "verdict.late"),
    ] {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let mut less = real.clone();
        let removed =
            less.pointer_mut(parent).and_then(Value::as_object_mut).and_then(|all| all.remove(name));
        assert!(removed.is_some(), "{pointer}");
        files.put("new.json", &less.to_string());
        let (code, _, why) = files.diff(&["old.json", "new.json"]);
        assert!(code == Some(2) && why.contains(&format!("new.json: {field}: ")), "{pointer}: {why}");
    }
    for (pointer, value) in [
        ("/window_s", json!(0)),
        ("/total/ok", json!(-1)),
        ("/total/errors", json!("3")),
        ("/series", json!({})),
        ("/series/0/length_s", json!(0.0)),
        ("/series/0/p50_ns", json!(true)),
        ("/total/latency/percentiles/3", json!([1])),
        ("/total/latency/percentiles/3/0", json!(0)),
        ("/total/latency/percentiles/3/1", json!(1e18)),
        ("/verdict/saturated", json!(null)),
        ("/methods/1/name", json!(7)),
    ] {
        let mut wrong = real.clone();
        *wrong.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        files.put("new.json", &wrong.to_string());
        let (code, _, why) = files.diff(&["old.json", "new.json"]);
        assert!(code == Some(2) && why.contains("new.json: "), "{pointer}: {why}");
    }
}
