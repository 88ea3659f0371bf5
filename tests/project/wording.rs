//! The wording of documents, messages and comments: none contains a phrase of [`PHRASES`].
//!
//! Documents, string literals and comments are checked everywhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Phrases that are not plain technical English: name the peer, caller, thread or setting instead.
const PHRASES: [&str; 29] = [
    "who",
    "whoever",
    "whom",
    "whose turn",
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "anew",
    "at hand",
    "so many",
    "is told",
    "are told",
    "was told",
    "be told",
    "by letter",
    "oneself",
    "one's own",
    "his",
    "stands at",
    "stands in",
    "stands on",
    "stands behind",
    "stands beside",
    "stands there",
    "what is owed",
    "for want of",
    "all that there is",
    "come home",
];

/// The folders whose strings and comments are checked.
const FOLDERS: [&str; 7] =
    ["src", "poller/src", "bufpool/src", "macros/src", "cli/src", "bench/src", "bench/micro/src"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the phrases in a text, on word boundaries and across lines.
fn phrases_in(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase().replace('’', "'");
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '_')
        .filter(|w| !w.is_empty())
        .collect();
    let words = format!(" {} ", words.join(" "));
    PHRASES.into_iter().filter(|phrase| words.contains(&format!(" {phrase} "))).collect()
}

/// Returns the files below a folder with this extension, as paths from the root.
fn files_below(folder: &str, extension: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The string literals and the comments of a Rust file, each with its line. Adjacent line comments are one piece.
#[derive(Default)]
struct SourceTexts {
    strings: Vec<(usize, String)>,
    comments: Vec<(usize, String)>,
}

/// Separates the string literals and comments of a Rust file from the rest. Its tests are left out.
fn texts_of(source: &str) -> SourceTexts {
    let source = super::layers::without_tests(source);
    let mut texts = SourceTexts::default();
    let (mut rest, mut line, mut comment_line) = (&source[..], 1, 0);
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        if rest.starts_with("//") {
            taken = rest.find('\n').unwrap_or(rest.len());
            let text = rest[..taken].trim_start_matches(['/', '!']);
            match texts.comments.last_mut() {
                Some((_, comment)) if comment_line + 1 == line => *comment += &format!("\n{text}"),
                _ => texts.comments.push((line, text.to_owned())),
            }
            comment_line = line;
        } else if let Some((hashes, start)) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = rest[start..].find(&end).unwrap_or(rest.len() - start);
            texts.strings.push((line, rest[start..start + length].to_owned()));
            taken = (start + length + end.len()).min(rest.len());
        } else if first == '"' {
            let mut letters = rest.char_indices().skip(1);
            let mut end = rest.len();
            while let Some((at, letter)) = letters.next() {
                match letter {
                    '\\' => drop(letters.next()),
                    '"' => {
                        end = at;
                        break;
                    }
                    _ => {}
                }
            }
            texts.strings.push((line, rest[1..end].replace("\\n", " ").replace("\\\n", " ")));
            taken = (end + 1).min(rest.len());
        } else if first == '\'' {
            // A character literal; a lifetime has no closing quote after one character.
            let character = rest[1..].strip_prefix('\\').map_or(&rest[1..], |escaped| escaped);
            let escape = rest.len() - 1 - character.len();
            let letter = character.chars().next().map_or(0, char::len_utf8);
            if escape == 1 || character[letter..].starts_with('\'') {
                taken = 1 + escape + letter;
                taken += rest[taken..].find('\'').map_or(0, |at| at + 1);
            }
        } else if first.is_alphanumeric() || first == '_' {
            // Takes a whole word, so that an `r` at the end of a name does not begin a raw string.
            taken = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        }
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    texts
}

/// Returns, for text that begins with `r#"` or similar, the number of hashes and where the content begins.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let content = after[hashes..].strip_prefix('"')?;
    Some((hashes, text.len() - content.len()))
}

fn faults(path: &str, pieces: impl IntoIterator<Item = (usize, String)>) -> Vec<String> {
    let fault = |(line, text): (usize, String)| {
        phrases_in(&text)
            .into_iter()
            .map(move |phrase| format!("{path}:{line}: {phrase:?} in {text:?}"))
            .collect::<Vec<_>>()
    };
    pieces.into_iter().flat_map(fault).collect()
}

/// Returns the Rust files that are not tests.
fn sources() -> impl Iterator<Item = String> {
    let files = FOLDERS.into_iter().flat_map(|folder| files_below(folder, "rs"));
    files.filter(|path| !super::layers::is_test_file(path))
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} phrases to reword:\n{}\n", faults.len(), faults.join("\n"));
}

#[test]
fn the_documents_use_plain_words() {
    let mut pages: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            (Path::new(name).extension()? == "md").then(|| name.to_owned())
        })
        .collect();
    pages.extend(files_below("docs", "md"));
    pages.extend(["bench/README.md", "bench/peers/README.md"].map(str::to_owned));
    assert!(pages.len() > 10, "{} pages were read", pages.len());
    let paragraphs = |page: &String| {
        let (text, mut line) = (read(page), 1);
        let paragraphs: Vec<(usize, String)> = text
            .split("\n\n")
            .map(|paragraph| {
                let at = line;
                line += paragraph.matches('\n').count() + 2;
                (at, paragraph.to_owned())
            })
            .collect();
        faults(page, paragraphs)
    };
    assert_none(&pages.iter().flat_map(paragraphs).collect::<Vec<_>>());
}

#[test]
fn messages_and_help_use_plain_words() {
    let found: Vec<String> =
        sources().flat_map(|path| faults(&path, texts_of(&read(&path)).strings)).collect();
    assert_none(&found);
}

#[test]
fn comments_use_plain_words() {
    let found: Vec<_> = sources().flat_map(|path| faults(&path, texts_of(&read(&path)).comments)).collect();
    assert_none(&found);
}

// Tests of the checks themselves.

#[test]
fn phrases_are_found_on_word_boundaries_and_across_lines() {
    assert_eq!(phrases_in("Whoever asks, and the one at\nhand."), ["whoever", "at hand"]);
    assert_eq!(phrases_in("the whole of this history"), [""; 0]);
}

#[test]
fn strings_and_comments_are_told_apart() {
    let texts = texts_of(
        "//! One\n//! two\nfn f<'a>(c: char) -> &'a str {\n    if c == '\"' || c == '\\'' { r#\"raw \"text\"\"# } else { \"a // \\\" b\" } // end\n}\n",
    );
    assert_eq!(texts.strings, [(4, "raw \"text\"".to_owned()), (4, "a // \\\" b".to_owned())]);
    assert_eq!(texts.comments, [(1, " One\n two".to_owned()), (4, " end".to_owned())]);
}
