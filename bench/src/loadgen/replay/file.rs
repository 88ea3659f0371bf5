//! Reads a file of recorded requests, line by line; errors name the line.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base64;

/// The supported version of the file.
const VERSION: u64 = 1;
/// Maximum length of a line: the largest body in base64, plus the other fields.
const LINE_BYTES_MAX: u64 = (16 << 20) / 3 * 4 + (64 << 10);
/// Maximum size of all distinct requests, which are held in memory.
const BYTES_MAX: usize = 1 << 30;
/// Maximum length of a recording: 30 days.
const AT_US_MAX: u64 = 30 * 86_400 * 1_000_000;
/// Maximum number of methods, counted separately per codec.
const METHODS_MAX: usize = 1024;

/// Why a file cannot be replayed.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be read: check the name and the permissions.
    Unreadable(PathBuf, io::Error),
    /// It does not begin like a recording: it is something else, or of another version.
    NoRecord(PathBuf, String),
    /// A line is invalid: the file was changed, or the requested operation is impossible with it.
    Line {
        /// The file.
        file: PathBuf,
        /// The line number; the head is line 1.
        line: usize,
        /// The problem.
        what: String,
    },
    /// It contains no request that could be sent.
    Empty(PathBuf),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Unreadable(file, error) => write!(f, "{}: {error}", file.display()),
            Unusable::NoRecord(file, what) => write!(f, "{}: no recording: {what}", file.display()),
            Unusable::Line { file, line, what } => write!(f, "{}:{line}: {what}", file.display()),
            Unusable::Empty(file) => write!(f, "{}: there is no request in it to be sent", file.display()),
        }
    }
}

impl std::error::Error for Unusable {}

/// The head of a file.
#[derive(Clone, Debug, Deserialize)]
pub struct Head {
    coreloop_record: u64,
    /// One in this many requests was recorded.
    pub sample: u64,
}

/// A line.
#[derive(Deserialize)]
struct Line {
    at_us: u64,
    method: String,
    codec: Option<String>,
    connection: u64,
    #[serde(default)]
    time_left_us: u32,
    #[serde(default)]
    one_way: bool,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    left_out: Option<String>,
}

/// A request as sent; requests are distinct if any part differs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Its index among the methods.
    pub method: u16,
    /// The body.
    pub body: Vec<u8>,
    /// The deadline, in µs; 0 for none.
    pub time_left_us: u32,
}

/// A recorded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its time, in µs from the beginning of the recording.
    pub at_us: u64,
    /// Its connection, numbered from 0.
    pub connection: u64,
    /// Its index among the requests.
    pub request: u32,
}

/// The contents of a file.
#[derive(Debug)]
pub struct Recording {
    /// The file's head.
    pub head: Head,
    /// Methods with their codecs, and the number of calls of each.
    pub methods: Vec<(String, String, u32)>,
    /// Each distinct request, with the line of its first occurrence.
    pub requests: Vec<(Request, usize)>,
    /// All calls, in order of their times.
    pub calls: Vec<Recorded>,
    /// Number of requests recorded without their body, which are not sent.
    pub left_out: u64,
    /// Number of one-way requests, which have no answer.
    pub one_way: u64,
    /// Whether the last line is incomplete: the recording was interrupted.
    pub is_cut: bool,
}

impl Recording {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Recording, Unusable> {
        let unreadable = |error| Unusable::Unreadable(path.into(), error);
        let mut lines =
            Lines { file: BufReader::new(File::open(path).map_err(unreadable)?), path, number: 0 };
        let no_record = |what: String| Unusable::NoRecord(path.into(), what);
        let (first, _) = lines.next()?.ok_or_else(|| no_record("it is empty".into()))?;
        let head: Head = serde_json::from_slice(&first).map_err(|error| no_record(error.to_string()))?;
        if head.coreloop_record != VERSION {
            return Err(no_record(format!("version {} is not known here", head.coreloop_record)));
        }
        let mut reading = Reading::new(head);
        let mut has_ended = false;
        while let Some((text, is_whole)) = lines.next()? {
            let wrong = |what: String| Unusable::Line { file: path.into(), line: lines.number, what };
            if has_ended {
                return Err(wrong("there is something behind the end".into()));
            }
            match serde_json::from_slice::<Line>(&text) {
                Ok(line) => reading.take(line, lines.number).map_err(wrong)?,
                Err(_) if is_end(&text) => has_ended = true,
                Err(_) if !is_whole => reading.recording.is_cut = true,
                Err(error) => return Err(wrong(error.to_string())),
            }
        }
        reading.recording.calls.sort_by_key(|call| call.at_us);
        if reading.recording.calls.is_empty() {
            return Err(Unusable::Empty(path.into()));
        }
        Ok(reading.recording)
    }
}

fn is_end(text: &[u8]) -> bool {
    let value: Result<serde_json::Value, _> = serde_json::from_slice(text);
    value.is_ok_and(|value| value.get("end").is_some_and(serde_json::Value::is_object))
}

struct Lines<'a> {
    file: BufReader<File>,
    path: &'a Path,
    /// The number of the last line read; the first is 1.
    number: usize,
}

impl Lines<'_> {
    /// Returns the next line, and whether its line end was present.
    fn next(&mut self) -> Result<Option<(Vec<u8>, bool)>, Unusable> {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut self.file, LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line);
        let read = read.map_err(|error| Unusable::Unreadable(self.path.into(), error))?;
        self.number += 1;
        if read == 0 {
            return Ok(None);
        }
        let is_whole = line.last() == Some(&b'\n');
        if !is_whole && line.len() as u64 == LINE_BYTES_MAX {
            let what = "longer than any line of a recording".into();
            return Err(Unusable::Line { file: self.path.into(), line: self.number, what });
        }
        Ok(Some((line, is_whole)))
    }
}

struct Reading {
    recording: Recording,
    methods: HashMap<(String, String), u16>,
    requests: HashMap<Request, u32>,
    bytes: usize,
}

impl Reading {
    fn new(head: Head) -> Reading {
        let recording = Recording {
            head,
            methods: Vec::new(),
            requests: Vec::new(),
            calls: Vec::new(),
            left_out: 0,
            one_way: 0,
            is_cut: false,
        };
        Reading { recording, methods: HashMap::new(), requests: HashMap::new(), bytes: 0 }
    }

    fn take(&mut self, line: Line, number: usize) -> Result<(), String> {
        if line.at_us > AT_US_MAX {
            return Err("at_us: later than any recording lasts".into());
        }
        let (codec, body) = match (line.codec, line.body, line.left_out) {
            (Some(codec), Some(body), None) => (codec, body),
            (_, None, Some(_)) => {
                self.recording.left_out += 1;
                return Ok(());
            }
            _ => return Err("a request has codec and body, or it says why its body was left out".into()),
        };
        let body = base64::decode(body.as_bytes()).ok_or("body: no base64")?;
        self.recording.one_way += u64::from(line.one_way);
        let known = self.recording.methods.len();
        let key = (line.method, codec);
        let method = match self.methods.get(&key) {
            Some(method) => *method,
            None if known < METHODS_MAX => {
                self.recording.methods.push((key.0.clone(), key.1.clone(), 0));
                self.methods.insert(key, known as u16);
                known as u16
            }
            None => return Err(format!("more than {METHODS_MAX} methods")),
        };
        let count = &mut self.recording.methods[usize::from(method)].2;
        *count = count.saturating_add(1);
        let request = Request { method, body, time_left_us: line.time_left_us };
        let place = match self.requests.get(&request) {
            Some(place) => *place,
            None => {
                // Each body is held three times: here, in the table, and in its sent form.
                self.bytes += 3 * request.body.len() + 256;
                if self.bytes > BYTES_MAX {
                    return Err("so far more different requests than there is room for".into());
                }
                let place = self.recording.requests.len() as u32;
                self.recording.requests.push((request.clone(), number));
                self.requests.insert(request, place);
                place
            }
        };
        let Line { at_us, connection, .. } = line;
        self.recording.calls.push(Recorded { at_us, connection, request: place });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEAD: &str = r#"{"coreloop_record":1,"version":"0.1.0","sample":10,"blank":[]}"#;
    const ADD: &str = r#"{"at_us":5,"method":"Arith.Add","protocol":"http","codec":"json","connection":3,"time_left_us":7,"one_way":false,"body":"e30="}"#;
    const END: &str = r#"{"end":{"recorded":1}}"#;

    fn read(text: &str) -> Result<Recording, Unusable> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("record");
        fs::write(&path, text).expect("written");
        Recording::read(&path)
    }

    #[test]
    fn requests_are_distinct_and_calls_ordered_by_time() {
        let later = ADD.replace("\"at_us\":5", "\"at_us\":9");
        let other = ADD.replace("e30=", "e30K").replace("\"at_us\":5", "\"at_us\":2");
        let without = r#"{"at_us":1,"method":"Echo.Bytes","codec":"raw","connection":0,"left_out":"opaque"}"#;
        let read =
            read(&format!("{HEAD}\n{later}\n{ADD}\n{other}\n{without}\n{END}\n")).expect("a recording");
        let times: Vec<_> = read.calls.iter().map(|call| (call.at_us, call.request)).collect();
        assert_eq!(times, [(2, 1), (5, 0), (9, 0)]);
        assert_eq!((read.left_out, read.is_cut, read.head.sample), (1, false, 10));
        assert_eq!(read.methods, [("Arith.Add".to_owned(), "json".to_owned(), 3)]);
        assert_eq!(read.requests[0], (Request { method: 0, body: b"{}".to_vec(), time_left_us: 7 }, 2));
        assert_eq!(read.requests[1].1, 4);
    }

    #[test]
    fn a_cut_file_is_read_up_to_its_last_complete_line() {
        let whole = format!("{HEAD}\n{ADD}\n{ADD}\n{END}\n");
        let two = HEAD.len() + 1 + 2 * (ADD.len() + 1);
        for cut in HEAD.len() + 1 + ADD.len()..whole.len() {
            let read = read(&whole[..cut]).expect("it has a request");
            // A last line that lacks only its line end is complete.
            let is_second = cut >= two - 1;
            assert_eq!(read.calls.len(), 1 + usize::from(is_second), "cut at {cut}");
            let is_even =
                [two - 1, two, two - ADD.len() - 2, two - ADD.len() - 1, whole.len() - 1].contains(&cut);
            assert_eq!(read.is_cut, !is_even, "cut at {cut}");
        }
    }

    #[test]
    fn errors_name_their_line() {
        for (text, words) in [
            (String::new(), "no recording: it is empty"),
            ("{}\n".into(), "no recording: "),
            ("\u{0}\n".into(), "no recording: "),
            (HEAD.replace("record\":1", "record\":2"), "version 2"),
            (HEAD.into(), "no request in it"),
            (format!("{HEAD}\nrubbish\n{ADD}\n"), "record:2: "),
            (format!("{HEAD}\n{ADD}\n\n{ADD}\n"), "record:3: "),
            (format!("{HEAD}\n{ADD}\n{END}\n{ADD}\n"), "record:4: there is something behind the end"),
            (format!("{HEAD}\n{}\n", ADD.replace("e30=", "e3!=")), "record:2: body: no base64"),
            (format!("{HEAD}\n{}\n", ADD.replace("\"body\"", "\"bode\"")), "record:2: a request has"),
            (format!("{HEAD}\n{}\n", ADD.replace("\"codec\":\"json\",", "")), "record:2: a request has"),
            (format!("{HEAD}\n{}\n", ADD.replace("\"at_us\":5", "\"at_us\":-5")), "record:2: "),
            (
                format!("{HEAD}\n{}\n", ADD.replace("\"at_us\":5", "\"at_us\":9999999999999")),
                "record:2: at_us",
            ),
            (format!("{HEAD}\n{}", "[".repeat(100_000)), "no request in it"),
        ] {
            let why = read(&text).expect_err(words).to_string();
            assert!(why.contains(words), "{words}: {why}");
        }
        assert!(Recording::read(Path::new("no such file")).is_err());
    }
}
