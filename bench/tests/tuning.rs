//! Runs the tuning program end to end. The server's program belongs to another package, so the floor takes its place:
//! it accepts none of the settings, and answers the same calls.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn a_set_is_measured_drawn_and_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("coreloop");
    fs::write(&script, format!("#!/bin/sh\nexec '{}'\n", env!("CARGO_BIN_EXE_floor"))).expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it may be run");
    let output = Command::new(env!("CARGO_BIN_EXE_tuning"))
        .args(["cores", "--rounds", "2", "--seconds", "0.1", "--warmup", "0.02"])
        .args(["--coreloop", "./coreloop", "--images", "pictures", "--json", "figures.json"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("### `cores`"), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("| ")).count(), 1 + 3 * 2, "{stdout}");
    assert!(stderr.lines().any(|line| line.starts_with("12/12  cores 1")), "{stderr}");
    let picture = fs::read_to_string(folder.path().join("pictures/tuning-cores.svg")).expect("a picture");
    assert!(picture.starts_with("<svg"));
    let text = fs::read_to_string(folder.path().join("figures.json")).expect("figures");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["runs"].as_array().map(Vec::len), Some(12));
    for row in json["rows"].as_array().expect("a list") {
        assert_eq!(row["errors"], 0, "{row}");
        assert!(row["calls_per_s"]["min"].as_f64() > Some(0.0), "{row}");
    }
}

#[test]
fn an_unknown_set_or_missing_server_is_an_error() {
    for (arguments, want) in
        [(vec!["colour"], "busy-poll"), (vec!["--coreloop", "/no/such"], "no server at /no/such")]
    {
        let program = env!("CARGO_BIN_EXE_tuning");
        let output = Command::new(program).args(&arguments).stdin(Stdio::null()).output().expect("it runs");
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(want), "{arguments:?}");
    }
}

#[test]
fn page_has_a_picture_and_a_table_for_every_set() {
    let program = env!("CARGO_BIN_EXE_tuning");
    let output = Command::new(program).arg("colour").stdin(Stdio::null()).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let sets = told.split("one of ").nth(1).and_then(|rest| rest.lines().next()).expect("the sets");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = fs::read_to_string(docs.join("tuning.md")).expect("the page");
    for set in sets.split(", ") {
        assert!(page.contains(&format!("](img/tuning-{set}.svg)")), "{set} has no picture on the page");
        assert!(docs.join(format!("img/tuning-{set}.svg")).exists(), "{set}");
    }
    assert_eq!(page.matches("| load | ").count(), sets.split(", ").count(), "a table for each");
}
