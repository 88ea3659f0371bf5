//! The layers of the root crate: a module imports lower layers only, and never a neighbour.
//!
//! It reads the sources as text, without tests and comments, so that a cycle is reported as soon as it is
//! introduced. Tests, examples and benches may import anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers of the root crate, lowest first. The modules of the vocabulary layer may import each other; in every
/// other layer neighbours do not.
const FLOORS: [&[&str]; 13] = [
    &["poller", "bufpool", "threads", "error_text", "json_text", "calendar", "random"],
    &[
        "message",
        "codec_number",
        "method_name",
        "context",
        "extensions",
        "status",
        "config",
        "stats",
        "tls",
        "trace",
        "log_events",
        "log_text",
    ],
    &["wire", "codec", "policy"],
    &["conn", "mailbox", "transport"],
    &["stream"],
    &["reactor"],
    &["agent"],
    &["service", "workers", "discovery"],
    &["metrics"],
    &["otlp"],
    &["server", "client"],
    &["admin"],
    &["demo", "macro_support", "protocol", "debug", "in_process", "lib"],
];
const TOOLS: usize = 0;
const WORDS: usize = 1;

/// Exceptions for neighbours: the folder, and the module that it may import. Where a net/rpc message ends, and what
/// a connection must remember, depends on gob's grammar, and a second parser of it would be redundant. The
/// exception covers no typed values: decoding those stays with the codec.
const NEIGHBOURS: [(&str, &str); 1] = [("wire/netrpc/", "codec::gob::stream")];

/// Exceptions for imports that run upward: the file, and the module that it may import. The keys of a program's own section
/// are found by describing its type, and descriptions of types live with the codecs. A server starts its admin listener, which
/// is a server itself.
const UPWARD: [(&str, &str); 3] =
    [("config/section.rs", "codec::describe"), ("server/live.rs", "admin"), ("server/mod.rs", "admin")];

/// The maximum number of lines of a file without its tests. When a file is longer, split off the second question
/// that it answers.
const LINES_MAX: usize = 600;

/// Files that are longer, and may not grow beyond this until they are divided.
const LONGER_STILL: [(&str, usize); 0] = [];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Rust file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns the files below `src`, as `wire/native.rs`, with their text.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    files_below(&src)
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

pub(super) fn is_test_file(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

/// Returns the path of a file's module: `wire/native.rs` is `["wire", "native"]`.
fn module_of(name: &str) -> Vec<&str> {
    let path = name.strip_suffix(".rs").unwrap();
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').collect() }
}

/// Returns the text without its tests: the items after a `cfg(test)` at the outermost level.
pub(super) fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test") {
            // An item of one line ends in a semicolon, a longer one with a brace in the first column.
            for line in lines.by_ref() {
                let is_one_line = line.ends_with(';') || line.ends_with("{}");
                if line.starts_with('}') || !line.starts_with([' ', '#']) && is_one_line {
                    break;
                }
            }
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Returns the text without comments and the examples in them. A string that contains `//` is cut short, which
/// hides no import.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns the identifiers that may continue a path: one, or the first ones of a group in braces.
fn heads(after: &str) -> Vec<String> {
    let is_ident = |letter: char| letter.is_alphanumeric() || letter == '_';
    let ident = |text: &str| text.chars().take_while(|letter| is_ident(*letter)).collect::<String>();
    let Some(group) = after.trim_start().strip_prefix('{') else { return vec![ident(after)] };
    let (mut heads, mut depth, mut is_head) = (Vec::new(), 0, true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_head = true,
            _ if is_head && is_ident(letter) => {
                heads.push(ident(&group[at..]));
                is_head = false;
            }
            _ => {}
        }
    }
    heads
}

/// Returns the modules at the root of the crate that a file names, by `crate::` or by enough `super::`.
fn imports(name: &str, text: &str) -> BTreeSet<String> {
    let code = without_comments(&without_tests(text));
    let depth = module_of(name).len();
    let mut found = BTreeSet::new();
    for (at, root) in code.match_indices("crate::") {
        let is_whole = !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        if is_whole {
            found.extend(heads(&code[at + root.len()..]));
        }
    }
    let mut rest = &code[..];
    while let Some(at) = rest.find("super::") {
        rest = &rest[at..];
        let mut climbed = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            rest = after;
            climbed += 1;
        }
        if climbed >= depth {
            found.extend(heads(rest));
        }
    }
    found
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Returns true if the file mentions only the permitted part of the neighbour.
fn is_let_through(name: &str, text: &str, module: &str) -> bool {
    let code = without_comments(&without_tests(text));
    let mentions = code.match_indices("crate::").map(|(at, root)| &code[at + root.len()..]);
    let mut mentions = mentions.filter(|after| heads(after).iter().any(|head| head == module));
    NEIGHBOURS.iter().chain(&UPWARD).any(|(folder, path)| {
        let path = format!("{path}::");
        name.starts_with(folder)
            && path.starts_with(module)
            && mentions.all(|after| after.starts_with(&path))
            && !code.contains(&format!("super::{module}"))
    })
}

/// Returns what is wrong with the imports of one file.
fn faults(name: &str, text: &str) -> Vec<String> {
    let path = module_of(name);
    let own = path.first().copied().unwrap_or("lib");
    let Some(own_floor) = floor_of(own) else {
        return vec![format!("src/{name}: the module {own} stands on no floor; give it one in this test")];
    };
    let mut faults = Vec::new();
    for module in imports(name, text) {
        let fault = match floor_of(&module) {
            // A name that the root re-exports: it hides the layer that it comes from.
            None if own_floor == FLOORS.len() - 1 => continue,
            None => "which is no module: name the one it lives in",
            Some(floor) if floor < own_floor || module == own => continue,
            Some(floor) if floor == own_floor && [TOOLS, WORDS, FLOORS.len() - 1].contains(&floor) => {
                continue;
            }
            Some(_) if is_let_through(name, text, &module) => continue,
            Some(floor) if floor == own_floor => "its neighbour",
            Some(_) => "upward",
        };
        faults.push(format!("src/{name}: {own} imports {module}, {fault}"));
    }
    faults
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn each_floor_imports_lower_floors_only() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|(name, _)| !is_test_file(name))
        .flat_map(|(name, text)| faults(name, text))
        .collect();
    assert_none(&faults);
}

#[test]
fn every_file_says_at_its_top_what_lives_there() {
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| !is_test_file(name) && !text.starts_with("//! "))
        .map(|(name, _)| format!("src/{name} does not begin with //!"))
        .collect();
    assert_none(&faults);
}

#[test]
fn no_file_answers_two_questions() {
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !is_test_file(name))
        .filter_map(|(name, text)| {
            let (name, lines) = (format!("src/{name}"), without_tests(&text).lines().count());
            let longer = LONGER_STILL.iter().find(|(path, _)| *path == name);
            let lines_max = longer.map_or(LINES_MAX, |(_, lines_max)| *lines_max);
            (lines > lines_max).then(|| format!("{name} has {lines} lines of {lines_max} at the most"))
        })
        .collect();
    assert_none(&faults);
}

#[test]
fn the_tools_do_not_know_the_house() {
    for tool in ["poller", "bufpool"] {
        let manifest = fs::read_to_string(root().join(tool).join("Cargo.toml")).unwrap();
        let dependencies = manifest.lines().filter(|line| line.starts_with("coreloop"));
        assert_eq!(dependencies.collect::<Vec<_>>(), [""; 0], "{tool}/Cargo.toml");
        for path in files_below(&root().join(tool).join("src")) {
            let code = without_comments(&fs::read_to_string(&path).unwrap());
            assert!(!code.contains("coreloop::"), "{}", path.display());
        }
    }
}

// Tests of the check itself.

#[test]
fn an_import_that_runs_upward_or_sideways_is_seen() {
    let seen = |name, text| faults(name, text).len();
    assert_eq!(seen("wire/native.rs", "use crate::conn::Conn;"), 1);
    assert_eq!(seen("wire/native.rs", "use crate::codec;"), 1);
    assert_eq!(
        seen("wire/native.rs", "use crate::{\n    codec::{Codec, Body},\n    message, server::Server,\n};"),
        2
    );
    assert_eq!(seen("wire/native.rs", "fn f() -> crate::reactor::Address { todo() }"), 1);
    assert_eq!(seen("wire/native.rs", "use super::super::conn::Conn;"), 1);
    assert_eq!(seen("mailbox.rs", "use super::conn::Conn;"), 1);
    assert_eq!(seen("wire/native.rs", "use crate::codec::gob::stream::Sent;"), 1);
    assert_eq!(seen("wire/netrpc/head.rs", "use crate::codec::gob::decode;"), 1);
    assert_eq!(
        seen("wire/netrpc/head.rs", "use crate::codec::gob::stream::Sent;\nuse crate::codec::Codec;"),
        1
    );
    assert_eq!(
        seen("wire/netrpc/head.rs", "use crate::codec::gob::stream::Sent;\nuse crate::{codec, wire};"),
        1
    );
    assert_eq!(seen("status.rs", "use crate::Server;"), 1);
    assert_eq!(seen("nowhere.rs", ""), 1);
    assert_eq!(seen("stats/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::conn::Conn;"), 1);
}

#[test]
fn an_import_that_runs_downward_is_let_through() {
    let none = |name, text| assert_eq!(faults(name, text), [""; 0]);
    none(
        "wire/native.rs",
        "use crate::message::Message;\nuse super::Wire;\nuse crate::wire::{Broken, Received};",
    );
    none(
        "conn/mod.rs",
        "//! See crate::server.\n/// use crate::server;\nuse crate::wire::Wire; // crate::server",
    );
    none("wire/netrpc/head.rs", "use crate::codec::gob::stream::{Sent, split};");
    none("context.rs", "use crate::message::Metadata;\nuse crate::bufpool::Chunk;");
    none("lib.rs", "pub use server::Server;\npub use crate::client::Direct;");
    none("stats/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::conn::Conn;\n}\n");
    none("stats/mod.rs", "#[cfg(test)]\nuse crate::conn::Conn;\n");
}
