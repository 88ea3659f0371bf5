//! Reads a record of `--json`: only the compared fields, with the field's name in every error.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The largest file that is read: the record of a day is some 100 KB.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Maximum runs in one file.
const RUNS_MAX: usize = 1000;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be read: check the name and the permissions.
    Unreadable(PathBuf, io::Error),
    /// It is larger than any record, so it is something else.
    TooLarge(PathBuf),
    /// It is not JSON: it was cut, or is something else.
    NoJson(PathBuf, serde_json::Error),
    /// A field is missing or has another type: the file is no record of this program, or of another version.
    Field {
        /// The file.
        file: PathBuf,
        /// The path of the field, as `total.latency.percentiles[3]`.
        field: String,
        /// The expected type or value.
        wanted: &'static str,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Unreadable(file, error) => write!(f, "{}: {error}", file.display()),
            Unusable::TooLarge(file) => {
                write!(f, "{}: larger than {} MiB, so no record", file.display(), FILE_BYTES_MAX >> 20)
            }
            Unusable::NoJson(file, error) => write!(f, "{}: no JSON: {error}", file.display()),
            Unusable::Field { file, field, wanted } => {
                write!(f, "{}: {field}: {wanted} is missing here", file.display())
            }
        }
    }
}

impl std::error::Error for Unusable {}

/// The contents of a file: one run, or several of the same.
#[derive(Clone, Debug)]
pub struct Record {
    /// The runs; at least one.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The settings and the machine, which must be equal for figures to be compared. Field, and value as shown.
    pub settings: BTreeMap<String, String>,
    /// All methods together, then each method of a mix.
    pub methods: Vec<Method>,
    /// CPU time of the server per call, if it was watched.
    pub server_cpu_ns: Option<f64>,
    /// The intervals of the measured window.
    pub points: Vec<Point>,
    /// The run's own caveats.
    pub doubts: Vec<&'static str>,
}

/// The figures of one method.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Ok answers per second.
    pub calls_per_s: f64,
    /// Calls that were answered with ok.
    pub ok: f64,
    /// Calls that failed or had no answer.
    pub failed: f64,
    /// Percentile and latency in ns, both ascending.
    pub latency: Vec<(f64, f64)>,
}

/// One interval.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Ok answers per second.
    pub calls_per_s: f64,
    /// Median latency; `None` without an answer.
    pub p50_ns: Option<f64>,
    /// 99th percentile of the latency; `None` without an answer.
    pub p99_ns: Option<f64>,
    /// CPU time of the server per call, if it was watched.
    pub server_cpu_ns: Option<f64>,
}

/// The settings that affect the figures; others (the seed, the duration, the address) do not.
const SETTINGS: [&str; 9] =
    ["protocol", "own_server", "connections", "depth", "rate", "arrivals", "threads", "spin", "time_left_us"];
const MACHINE: [&str; 3] = ["cpu", "cores", "kernel"];
/// The verdict's fields that are caveats.
const DOUBTS: [(&str, &str); 6] = [
    ("late", "the generator was late by itself"),
    ("saturated", "the generator was saturated"),
    ("disturbed", "something else ran on the generator's core"),
    ("stolen", "the hypervisor kept cores to itself"),
    ("rate_missed", "the rate was not reached"),
    ("cut_short", "the run was cut short"),
];

impl Record {
    /// Reads a file: one record as `--json` writes it, or a list of records.
    pub fn read(file: &Path) -> Result<Record, Unusable> {
        let unreadable = |error| Unusable::Unreadable(file.into(), error);
        let opened = File::open(file).map_err(unreadable)?;
        let mut text = Vec::new();
        opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(Unusable::TooLarge(file.into()));
        }
        let value: Value =
            serde_json::from_slice(&text).map_err(|error| Unusable::NoJson(file.into(), error))?;
        let top = At { file, path: String::new(), value: &value };
        let runs = match &value {
            Value::Array(_) => top.items("a record")?.iter().map(Run::read).collect::<Result<Vec<_>, _>>()?,
            _ => vec![Run::read(&top)?],
        };
        match runs.len() {
            1..=RUNS_MAX => Ok(Record { runs }),
            _ => Err(top.wrong("a list of 1 to 1000 records")),
        }
    }
}

impl Run {
    fn read(top: &At<'_>) -> Result<Run, Unusable> {
        let mut settings = BTreeMap::new();
        for (group, names) in [("settings", &SETTINGS[..]), ("machine", &MACHINE)] {
            let at = top.get(group)?;
            for name in names {
                settings.insert(format!("{group}.{name}"), at.get(name)?.shown());
            }
        }
        // Records from before there was TLS do not say it.
        let tls = top.get("settings")?.find("tls").map_or_else(|| "false".to_owned(), |at| at.shown());
        settings.insert("settings.tls".to_owned(), tls);
        // Records of calls, and those from before there were streams, have none.
        if let Some(at) = top.find("streams") {
            for name in ["shape", "streams", "messages", "read_after_send"] {
                settings.insert(format!("streams.{name}"), at.get(name)?.shown());
            }
        }
        let window_s = top.get("window_s")?.number_above_zero()?;
        let mut methods = vec![Method::read(&top.get("total")?, window_s)?];
        let listed = top.get("methods")?.items("a list of methods")?;
        for (at, method) in listed.iter().enumerate() {
            for name in ["name", "codec", "weight"] {
                settings.insert(format!("methods[{at}].{name}"), method.get(name)?.shown());
            }
            if listed.len() > 1 {
                methods.push(Method::read(method, window_s)?);
            }
        }
        let server = top.get("server")?;
        let server_cpu_ns = match server.value {
            Value::Null => None,
            _ => Some(server.get("cpu_ns_per_call")?.number()?),
        };
        let points = top.get("series")?.items("a list of intervals")?;
        let verdict = top.get("verdict")?;
        let mut doubts = Vec::new();
        for (name, words) in DOUBTS {
            if verdict.get(name)?.truth()? {
                doubts.push(words);
            }
        }
        Ok(Run {
            settings,
            methods,
            server_cpu_ns,
            points: points.iter().map(Point::read).collect::<Result<_, _>>()?,
            doubts,
        })
    }
}

impl Method {
    fn read(at: &At<'_>, window_s: f64) -> Result<Method, Unusable> {
        let count = |name| at.get(name)?.number();
        let ok = count("ok")?;
        let mut latency: Vec<(f64, f64)> = Vec::new();
        let percentiles = at.get("latency")?.get("percentiles")?;
        for pair in percentiles.items("a list of percentiles")? {
            let known = match pair.items("a percentile and its time")?.as_slice() {
                [percent, ns] => (percent.number()?, ns.number()?),
                _ => return Err(pair.wrong("a percentile and its time")),
            };
            if latency.last().is_some_and(|last| last.0 >= known.0 || last.1 > known.1) {
                return Err(pair.wrong("a percentile above the one before"));
            }
            latency.push(known);
        }
        Ok(Method {
            name: at.get("name")?.text()?,
            calls_per_s: ok / window_s,
            ok,
            failed: count("errors")? + count("unanswered")? + count("never_sent")?,
            latency,
        })
    }
}

impl Point {
    fn read(at: &At<'_>) -> Result<Point, Unusable> {
        let ok = at.get("ok")?.number()?;
        let ended = ok + at.get("failed")?.number()?;
        // Records of earlier versions lack this field.
        let cpu_ns = at.find("server_cpu_ns").map_or(Ok(None), |field| field.number_if_any())?;
        Ok(Point {
            calls_per_s: ok / at.get("length_s")?.number_above_zero()?,
            p50_ns: at.get("p50_ns")?.number_if_any()?,
            p99_ns: at.get("p99_ns")?.number_if_any()?,
            server_cpu_ns: cpu_ns.filter(|_| ended > 0.0).map(|ns| ns / ended),
        })
    }
}

/// A position in a file.
struct At<'a> {
    file: &'a Path,
    path: String,
    value: &'a Value,
}

impl<'a> At<'a> {
    fn find(&self, name: &str) -> Option<At<'a>> {
        let dot = if self.path.is_empty() { "" } else { "." };
        let value = self.value.get(name)?;
        Some(At { file: self.file, path: format!("{}{dot}{name}", self.path), value })
    }

    fn get(&self, name: &str) -> Result<At<'a>, Unusable> {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.find(name).ok_or_else(|| Unusable::Field {
            file: self.file.into(),
            field: format!("{}{dot}{name}", self.path),
            wanted: "a field of a loadgen record",
        })
    }

    fn items(&self, wanted: &'static str) -> Result<Vec<At<'a>>, Unusable> {
        let items = self.value.as_array().ok_or_else(|| self.wrong(wanted))?;
        let at = |(at, value)| At { file: self.file, path: format!("{}[{at}]", self.path), value };
        Ok(items.iter().enumerate().map(at).collect())
    }

    /// Returns a number that is not negative: no figure is below 0.
    fn number(&self) -> Result<f64, Unusable> {
        let number = self.value.as_f64().filter(|number| *number >= 0.0 && number.is_finite());
        number.ok_or_else(|| self.wrong("a number from 0"))
    }

    fn number_above_zero(&self) -> Result<f64, Unusable> {
        let number = self.value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        number.ok_or_else(|| self.wrong("a number above 0"))
    }

    fn number_if_any(&self) -> Result<Option<f64>, Unusable> {
        if self.value.is_null() { Ok(None) } else { self.number().map(Some) }
    }

    fn text(&self) -> Result<String, Unusable> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.wrong("a text"))
    }

    fn truth(&self) -> Result<bool, Unusable> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    fn shown(&self) -> String {
        match self.value {
            Value::String(text) => text.clone(),
            Value::Null => "none".into(),
            other => other.to_string(),
        }
    }

    fn wrong(&self, wanted: &'static str) -> Unusable {
        let field = if self.path.is_empty() { "the whole" } else { &self.path };
        Unusable::Field { file: self.file.into(), field: field.into(), wanted }
    }
}
