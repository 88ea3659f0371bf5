//! The comparison as a program, with the floors only: the server's program belongs to another package.

#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn versus(arguments: &str) -> (Output, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_versus"))
        .args(arguments.split_whitespace())
        .args(["--json", "figures.json"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let json = fs::read_to_string(folder.path().join("figures.json")).unwrap_or_default();
    (output, serde_json::from_str(&json).unwrap_or(Value::Null))
}

#[test]
fn floors_are_measured_with_memory_and_client_cost() {
    let (output, json) =
        versus("--only floor --loads 2x2,400x1 --direct --rounds 2 --seconds 0.05 --warmup 0.02");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runs = json["runs"].as_array().expect("a list");
    let order: Vec<String> =
        runs.iter().map(|run| format!("{} {} {}", run["load"], run["round"], run["subject"])).collect();
    assert_eq!(
        order[..4],
        [
            r#""2x2" 1 "floor""#,
            r#""2x2" 1 "floor-hand-off""#,
            r#""2x2" 2 "floor-hand-off""#,
            r#""2x2" 2 "floor""#
        ]
    );
    for run in runs {
        assert_eq!(run["outcome"]["errors"], 0, "{run}");
        assert!(run["client_us_per_call"].as_f64() > Some(0.0), "{run}");
        assert!(run["peak_kib"].as_u64() > Some(100), "{run}");
    }
    let summaries = json["summaries"].as_array().expect("a list");
    let named = |name: &str| summaries.iter().find(|summary| summary["subject"] == name).expect(name);
    assert!(named("floor, Direct")["p50_ratio"]["median"].as_f64() > Some(0.0));
    assert!(named("floor, blocking")["p50_ratio"].is_null());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("peak MiB") && text.contains("1x1, direct client"), "{text}");
}

#[test]
fn a_missing_server_or_empty_selection_is_one_line() {
    for (arguments, want) in [
        ("--coreloop /no/such/server --open", "no server at /no/such/server"),
        ("--coreloop /no/such/server --open=64x1,1x1", "no server at /no/such/server"),
        ("--open=many", "CONNECTIONSxDEPTH"),
        ("--only nobody", "leaves nothing"),
        ("--loads 0x1", "CONNECTIONSxDEPTH"),
    ] {
        let (output, json) = versus(arguments);
        assert!(!output.status.success() && json.is_null(), "{arguments}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(want), "{arguments}: {stderr}");
    }
}
