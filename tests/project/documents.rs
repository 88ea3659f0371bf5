//! Checks the documents: links lead somewhere; commands, names and features exist.
//!
//! Their Rust blocks are compiled and run with the documentation tests (`src/lib.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The maximum number of lines of the README: details belong into `docs`.
const README_LINES_MAX: usize = 250;

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, at most {README_LINES_MAX} are allowed");
}

/// Returns the README and the pages of `docs`.
fn documents() -> Vec<String> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = pages.filter_map(|name| name.to_str().map(|name| format!("docs/{name}")));
    std::iter::once("README.md".to_owned()).chain(pages.filter(|name| name.ends_with(".md"))).collect()
}

/// Returns the lines of the blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fence = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), fence) {
            (Some(opened), None) => fence = Some(opened == language),
            (Some(_), Some(_)) => fence = None,
            (None, Some(true)) => lines.push(line.to_owned()),
            (None, _) => {}
        }
    }
    lines
}

/// Returns the anchor of a heading as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut links = 0;
    let others =
        ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md", "bench/peers/README.md"];
    for document in documents().into_iter().chain(others.map(str::to_owned)) {
        let text = read(&document);
        let folder = Path::new(&document).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (path, heading) =
                link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
            let target = if path.is_empty() { PathBuf::from(&document) } else { folder.join(path) };
            assert!(root().join(&target).exists(), "{document}: {link} leads nowhere");
            if let Some(heading) = heading {
                let page = read(target.to_str().unwrap());
                let headings = page.lines().filter(|line| line.starts_with('#'));
                let found =
                    headings.map(|line| anchor(line.trim_start_matches('#'))).any(|name| name == heading);
                assert!(found, "{document}: {link} names no heading");
            }
        }
    }
    assert!(links > 10, "{links} links were looked at");
}

#[test]
fn every_command_of_the_readme_exists() {
    let args = read("cli/src/args.rs");
    let manifest = read("Cargo.toml");
    let mut commands = 0;
    for document in [
        "README.md",
        "docs/embedding.md",
        "docs/architecture.md",
        "docs/client.md",
        "docs/comparison.md",
        "docs/features.md",
        "docs/go-interop.md",
        "docs/grpc.md",
        "docs/http.md",
        "docs/overload.md",
        "docs/performance.md",
        "docs/services.md",
        "docs/tuning.md",
    ] {
        for line in blocks(&read(document), "sh") {
            let line = line.split(" #").next().unwrap().trim().to_owned();
            let words: Vec<&str> = line.split_whitespace().collect();
            let after = |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
            commands += 1;
            match words[..] {
                [] => commands -= 1,
                ["cargo", "run" | "build", ..] if after("--example").is_some() => {
                    let name = after("--example").unwrap();
                    assert!(root().join(format!("examples/{name}.rs")).exists(), "{document}: {line}");
                }
                ["cargo", "run" | "build", ..] if after("-p").is_some() => {
                    let folder = after("-p").unwrap().trim_start_matches("coreloop-");
                    assert!(root().join(folder).join("Cargo.toml").exists(), "{document}: {line}");
                    if let Some(bin) = after("--bin") {
                        let path = root().join(format!("{folder}/src/bin/{bin}.rs"));
                        assert!(path.exists(), "{document}: {line}");
                    }
                }
                ["cargo", "run", ..] => {
                    assert!(manifest.contains(r#"default-members = [".", "cli"]"#));
                    if let Some(command) = after("--") {
                        let mut variant = command.to_owned();
                        variant[..1].make_ascii_uppercase();
                        assert!(
                            args.contains(&format!("    {variant}({variant}Args),")),
                            "{document}: {line}"
                        );
                    }
                }
                ["cargo", "test" | "tree" | "add" | "doc" | "install", ..] => {}
                ["python3", script, ..] => assert!(root().join(script).exists(), "{document}: {line}"),
                ["redis-benchmark" | "redis-cli", ..] => {}
                // `cli/tests/grpc.rs` runs them.
                ["grpcurl", .., "127.0.0.1:6550", _] if document == "docs/grpc.md" => {}
                // The address of `serve`, and a method of the demo services.
                ["curl", .., url] => assert!(url.starts_with("http://127.0.0.1:6550/"), "{document}: {line}"),
                _ => panic!("{document}: who looks after `{line}`?"),
            }
        }
    }
    assert!(commands > 5, "{commands} commands were looked at");
}

#[test]
fn the_table_of_features_names_every_feature() {
    let manifest = read("Cargo.toml");
    let features = manifest.split("\n[features]\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let features: BTreeSet<&str> =
        features.lines().filter_map(|line| line.split_once(" = ").map(|(name, _)| name)).collect();
    let page = read("docs/features.md");
    // Not for users: the micro-benchmarks need it.
    let is_hidden = |feature: &str| ["default", "bench-internals"].contains(&feature);
    for feature in features.iter().filter(|feature| !is_hidden(feature)) {
        assert!(page.contains(&format!("| `{feature}` |")), "the table of docs/features.md lacks {feature}");
    }
}

#[test]
fn the_readme_lists_every_example_and_document_and_each_example_is_run() {
    let (readme, runs) = (read("README.md"), read("tests/project/examples.rs"));
    let mut examples = 0;
    for name in fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".rs")) else { continue };
        assert!(readme.contains(&format!("(examples/{name}.rs) |")), "README.md does not list {name}");
        assert!(runs.contains(&format!("\"{name}\"")), "tests/project/examples.rs does not run {name}");
        examples += 1;
    }
    assert!(examples > 5, "{examples} examples were looked at");
    for document in documents().iter().skip(1) {
        assert!(
            readme.contains(&format!("- [{document}]({document})")),
            "README.md does not list {document}"
        );
    }
}

#[test]
fn the_guide_quotes_the_example_as_it_is() {
    let (guide, mut quotes) = (read("docs/guide.md"), 0);
    let mut file: Option<String> = None;
    let mut quote: Option<String> = None;
    for line in guide.lines() {
        match (&mut quote, line) {
            (None, "```rust,ignore") => quote = Some(String::new()),
            (Some(text), "```") => {
                let path = file.as_ref().expect("a file is named before its quotes");
                assert!(read(path).contains(text.as_str()), "{path} does not have these lines:\n{text}");
                (quote, quotes) = (None, quotes + 1);
            }
            (Some(text), line) => *text += &format!("{line}\n"),
            (None, line) => {
                let named = line.split("(../examples/shop/").nth(1).and_then(|rest| rest.split(')').next());
                file = named
                    .filter(|path| path.ends_with(".rs"))
                    .map(|path| format!("examples/shop/{path}"))
                    .or(file);
            }
        }
    }
    assert!(quotes > 5, "{quotes} quotes were looked at");
}

/// Returns how many crates from the registry the embedded server depends on, and how many of this workspace.
fn crates(args: &[&str]) -> Option<(usize, usize)> {
    let fixed = ["tree", "--offline", "--locked", "-p", "coreloop", "-e", "normal", "--prefix", "none"];
    let out = Command::new(env!("CARGO")).current_dir(root()).args(fixed).args(args).output().unwrap();
    if !out.status.success() {
        // Crates for other platforms may not have been fetched.
        eprintln!("SKIPPED: {}", String::from_utf8_lossy(&out.stderr));
        return None;
    }
    let tree = String::from_utf8(out.stdout).unwrap();
    let all: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let ours = all.iter().filter(|line| line.starts_with("coreloop")).count();
    Some((all.len() - ours, ours))
}

#[test]
fn the_page_of_features_counts_the_crates_right() {
    let page = read("docs/features.md");
    let (Some((registry, ours)), Some((least, _))) = (crates(&[]), crates(&["--no-default-features"])) else {
        return;
    };
    let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains(&format!("with default features: {registry} crates from the registry")),
        "{registry}"
    );
    assert!(flat.contains(&format!("and {ours} of our own")), "{ours}");
    assert!(flat.contains(&format!("Without default features it is {least} from the registry")), "{least}");
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if let [feature, _, added] = cells[..]
            && let Ok(added) = added.parse::<usize>()
            && let Some((all, _)) =
                crates(&["--no-default-features", "--features", feature.trim_matches('`')])
        {
            assert_eq!(added, all - least, "{feature}");
        }
    }
}

#[test]
fn the_codes_of_http_are_as_documented() {
    let page = read("docs/http.md");
    let mut documented = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `") && line.split(" | ").count() == 4) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        documented
            .extend([0, 2].map(|at| (cells[at].trim_matches('`').to_owned(), cells[at + 1].to_owned())));
    }
    let codes = coreloop::Code::ALL.into_iter().filter(|code| *code != coreloop::Code::Ok);
    let expected: BTreeSet<_> =
        codes.map(|code| (code.connect_name().to_owned(), code.http_status().to_string())).collect();
    assert_eq!(documented, expected);
}

/// Returns every Rust file of the crates that the documents describe, as one text.
fn sources() -> String {
    let mut text = String::new();
    let mut folders: Vec<PathBuf> =
        ["src", "poller/src", "bufpool/src"].map(|folder| root().join(folder)).into();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

#[test]
fn the_names_in_the_documents_exist() {
    let sources = sources();
    let words: BTreeSet<&str> = sources.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut names = 0;
    for document in [
        "README.md",
        "docs/architecture.md",
        "docs/embedding.md",
        "docs/client.md",
        "docs/features.md",
        "docs/go-interop.md",
        "docs/overload.md",
        "docs/performance.md",
        "docs/services.md",
        "docs/tuning.md",
    ] {
        let text = read(document);
        let mut is_block = false;
        for line in text.lines() {
            is_block ^= line.starts_with("```");
            for quoted in line.split('`').skip(1).step_by(2).filter(|_| !is_block) {
                let is_path =
                    quoted.contains('/') && quoted.split('/').all(|part| !part.contains([' ', ':']));
                if is_path {
                    let found = root().join(quoted).exists() || root().join("src").join(quoted).exists();
                    assert!(found, "{document}: there is no {quoted}");
                    names += 1;
                }
                let is_name =
                    |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
                // A Rust path (`Core::read`), or a word that can only be a name.
                if quoted.split("::").all(is_name) && (quoted.contains("::") || quoted.contains('_')) {
                    for part in quoted.split("::").filter(|part| *part != "coreloop") {
                        assert!(words.contains(part), "{document}: nothing is called {part}");
                        names += 1;
                    }
                }
            }
        }
    }
    assert!(names > 50, "{names} names were looked up");
}

/// The most files and steps of the walk in docs/architecture.md: a call must stay easy to follow.
const WALK_FILES_MAX: usize = 27;
const WALK_STEPS_MAX: usize = 89;

#[test]
fn the_walk_of_a_pooled_call_is_short_and_each_step_is_in_its_file() {
    let page = read("docs/architecture.md");
    let (_, walk) = page.split_once("\n| turn | file | functions, in order |\n").expect("the walk");
    let (mut files, mut steps) = (BTreeSet::new(), 0);
    for row in walk.lines().skip(1).take_while(|line| line.starts_with('|')) {
        let quoted: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let (file, functions) = quoted.split_first().unwrap_or_else(|| panic!("{row}"));
        let path = if root().join(file).exists() { (*file).to_owned() } else { format!("src/{file}") };
        let source = read(&path);
        for function in functions {
            let is_defined = ["(", "<"].iter().any(|next| source.contains(&format!("fn {function}{next}")));
            assert!(is_defined, "docs/architecture.md: {path} has no function {function}");
        }
        assert!(!functions.is_empty(), "{row}");
        files.insert(path);
        steps += functions.len();
    }
    assert!(files.len() > 20 && files.len() <= WALK_FILES_MAX, "{} files", files.len());
    assert!(steps > 40 && steps <= WALK_STEPS_MAX, "{steps} steps");
}
