//! Runs the ablation end to end. The program starts itself as the server, so nothing is simulated.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn ablation(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ablation"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().expect("it runs")
}

#[test]
fn the_pool_is_measured_drawn_and_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let brief = ["--rounds", "2", "--seconds", "0.1", "--warmup", "0.02", "--no-strace"];
    let files = ["--images", "pictures", "--json", "figures.json"];
    let output = ablation(&[&["measure", "pool"], &brief[..], &files[..]].concat(), folder.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("### `pool`"), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("| ")).count(), 1 + 5 * 2, "{stdout}");
    assert!(stderr.lines().any(|line| line.starts_with("20/20  pool ")), "{stderr}");
    let picture = fs::read_to_string(folder.path().join("pictures/ablation-pool.svg")).expect("a picture");
    assert!(picture.starts_with("<svg"));
    let text = fs::read_to_string(folder.path().join("figures.json")).expect("figures");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["runs"].as_array().map(Vec::len), Some(20));
    let rows = json["rows"].as_array().expect("a list");
    let allocations = |row: &Value| row["counted"]["allocations_per_call"].as_f64().expect("counted");
    for pair in rows.chunks(2) {
        // A read and a reply need one buffer each, whatever else a call allocates.
        assert!(allocations(&pair[1]) > allocations(&pair[0]), "{pair:?}");
        assert!(pair.iter().all(|row| row["cpu_us_per_call"]["min"].as_f64() > Some(0.0)), "{pair:?}");
        assert_eq!(pair[0]["cpu_ratio"]["median"], 1.0);
    }
}

#[test]
fn unknown_sets_and_settings_are_errors() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (arguments, want) in [
        (&["measure", "colour"][..], "steps"),
        (&["serve", "--set", "batch_max=0"], "batch_max"),
        (&["serve", "--set", "batch_maxi=1"], "did you mean"),
    ] {
        let output = ablation(arguments, here);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(want), "{arguments:?}");
    }
}

#[test]
fn page_has_a_picture_and_a_table_for_every_set() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let told = ablation(&["measure", "colour"], &docs);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let sets = told.split("one of ").nth(1).and_then(|rest| rest.lines().next()).expect("the sets");
    let page = fs::read_to_string(docs.join("performance.md")).expect("the page");
    for set in sets.split(", ") {
        assert!(page.contains(&format!("](img/ablation-{set}.svg)")), "{set} has no picture on the page");
    }
    let tables = page.matches("| load | | server CPU, µs a call | × the first |").count();
    assert_eq!(tables, sets.split(", ").count(), "a table for each");
    let flames = fs::read_dir(docs.join("img")).expect("pictures").map(|entry| entry.expect("one").path());
    let mut seen = 0;
    for flame in flames
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("flame-")))
    {
        let size = fs::metadata(&flame).expect("a file").len();
        assert!(size < 300_000, "{} has {size} bytes", flame.display());
        seen += 1;
    }
    assert_eq!(seen, 4, "flame graphs");
}
