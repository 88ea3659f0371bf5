//! `Debug` of every public error type is its readable text, since `fn main() -> Result<(), E>` prints that.

use std::fs;
use std::path::{Path, PathBuf};

/// Error types that never leave the crate.
const PRIVATE: [&str; 2] = ["GobFault", "TraceError"];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn debug_of_every_public_error_type_is_its_text() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut found = 0;
    for file in files.iter().filter(|file| !file.ends_with("error_text.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let names = text.lines().filter_map(|line| {
            let rest =
                line.strip_prefix("impl std::error::Error for ").or(line.strip_prefix("impl Error for "));
            rest.map(|rest| rest.split([' ', '{']).next().unwrap().to_owned())
        });
        for name in names.filter(|name| !PRIVATE.contains(&name.as_str())) {
            found += 1;
            let implemented = text.contains(&format!("debug_as_text!({name});"));
            assert!(implemented, "{}: {name} derives Debug; use debug_as_text!", file.display());
        }
    }
    assert!(found >= 17, "only {found} error types were found");
}
