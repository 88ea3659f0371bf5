//! The logger of `coreloop serve`: a line on standard error for each event, as text or as JSON.
//!
//! The library calls it on a thread of its own, behind a bounded queue. What the command line itself has to say takes the
//! same way ([`say`]), so that a standard error that is not read delays neither calls nor the end.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use coreloop::log_events;
use coreloop::log_text::{put_string, put_time};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::{Deserialize, Serialize};

/// The most bytes of a text in a line.
const TEXT_BYTES_MAX: usize = 1024;
/// The most bytes of the fields of a line before the last one.
const FIELDS_BYTES_MAX: usize = 4096;
/// Events about which the command line has a message of its own, for people.
const SAID_OTHERWISE: [&str; 3] = ["started", "admin_skipped", "drained"];
/// The kind of messages for people only.
const HINT: &str = "hint";
/// Kinds of own messages that are written as text without the name of the program in front.
const PLAIN: [&str; 2] = [HINT, "stats"];

static IS_JSON: AtomicBool = AtomicBool::new(false);

/// The section `log` of the configuration.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// The least important events that are written.
    pub level: LogLevel,
    /// The form of the lines.
    pub format: LogForm,
}

/// What is written.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warn,
    /// All events.
    #[default]
    Info,
}

/// The form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogForm {
    /// For people.
    #[default]
    Text,
    /// A JSON object for each line.
    Json,
}

impl LogSettings {
    fn filter(self) -> LevelFilter {
        match self.level {
            LogLevel::Off => LevelFilter::Off,
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
        }
    }

    /// Makes this the logger of the process.
    pub fn install(self) {
        let logger = LineLogger { filter: self.filter(), form: self.format };
        if log::set_boxed_logger(Box::new(logger)).is_err() {
            return;
        }
        log::set_max_level(self.filter());
        if self.format == LogForm::Json {
            IS_JSON.store(true, Ordering::Relaxed);
            // Standard error has JSON lines only. The hook runs on the thread that panics.
            std::panic::set_hook(Box::new(|panic| say(Level::Error, "panic", panic.to_string())));
        }
    }
}

/// Writes a message of the command line.
pub fn say(level: Level, kind: &'static str, message: String) {
    log_events::say(level, kind, message);
}

/// Writes a message for people: nothing if the lines are JSON.
pub fn hint(message: String) {
    say(Level::Info, HINT, message);
}

/// Returns whether the lines are JSON.
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Waits until everything so far is written, but not for long.
pub fn finish() {
    log_events::finish();
}

struct LineLogger {
    filter: LevelFilter,
    form: LogForm,
}

impl Log for LineLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.filter
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(line) = line(self.form, record, SystemTime::now()) else { return };
        if io::stderr().lock().write_all(line.as_bytes()).is_err() {
            log_events::note_lost();
        }
    }

    fn flush(&self) {}
}

/// The fields of a record.
#[derive(Default)]
struct Fields {
    kind: String,
    /// Milliseconds that the event has waited.
    delayed_ms: u64,
    /// `"name":value` with commas between.
    json: String,
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        match key.as_str() {
            "kind" => self.kind = value.to_string(),
            "delayed_ms" => self.delayed_ms = value.to_u64().unwrap_or(0),
            _ if self.json.len() > FIELDS_BYTES_MAX => {}
            name => {
                if !self.json.is_empty() {
                    self.json.push(',');
                }
                put_string(&mut self.json, name);
                self.json.push(':');
                match value.to_u64() {
                    Some(number) => {
                        let _ = write!(self.json, "{number}");
                    }
                    None => put_string(&mut self.json, &bounded(value.to_string())),
                }
            }
        }
        Ok(())
    }
}

/// Returns the line of a record that is written now; `None` if it is for the other form only.
fn line(form: LogForm, record: &Record<'_>, now: SystemTime) -> Option<String> {
    let mut fields = Fields::default();
    // This visitor has no errors.
    let _ = record.key_values().visit(&mut fields);
    let message = bounded(record.args().to_string());
    let at = now - Duration::from_millis(fields.delayed_ms);
    let is_own = record.target() == "coreloop::cli";
    let mut line = String::new();
    match form {
        LogForm::Json => {
            if is_own && fields.kind == HINT {
                return None;
            }
            line.push_str("{\"time\":\"");
            put_time(&mut line, at);
            let level = record.level().as_str().to_ascii_lowercase();
            let _ = write!(line, "\",\"level\":\"{level}\",\"target\":");
            put_string(&mut line, &bounded(record.target().to_owned()));
            line.push_str(",\"kind\":");
            put_string(&mut line, &bounded(fields.kind));
            line.push_str(",\"message\":");
            put_string(&mut line, &message);
            let _ = write!(line, ",\"fields\":{{{}}}}}", fields.json);
        }
        LogForm::Text => {
            if !is_own && SAID_OTHERWISE.contains(&&*fields.kind) {
                return None;
            }
            if !is_own {
                put_time(&mut line, at);
                line.push(' ');
            }
            if is_own && PLAIN.contains(&&*fields.kind) {
                line.push_str(&message);
            } else {
                line.push_str(match record.level() {
                    Level::Error => "coreloop: error: ",
                    Level::Warn => "coreloop: warning: ",
                    Level::Info | Level::Debug | Level::Trace => "coreloop: ",
                });
                // One event is one line, whatever a peer or another program has sent.
                line.extend(message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
            }
        }
    }
    line.push('\n');
    Some(line)
}

/// Returns a text of at most [`TEXT_BYTES_MAX`] bytes and a mark.
fn bounded(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use log::kv::ToValue;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    fn record_line(
        form: LogForm,
        level: Level,
        kind: &str,
        message: &str,
        fields: &[(&str, Value<'_>)],
    ) -> String {
        let mut all = vec![("kind", kind.to_value())];
        all.extend_from_slice(fields);
        let mut record = Record::builder();
        record.level(level).target("coreloop::test").key_values(&all);
        line(form, &record.args(format_args!("{message}")).build(), UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_line_has_time_level_kind_and_fields() {
        let fields =
            [("peer", "1.2.3.4:5".to_value()), ("count", 7_u64.to_value()), ("delayed_ms", 0_u64.to_value())];
        assert_eq!(
            record_line(LogForm::Json, Level::Warn, "a_kind", "is \"it\"", &fields),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"target\":\"coreloop::test\",\"kind\":\"a_kind\",\
             \"message\":\"is \\\"it\\\"\",\"fields\":{\"peer\":\"1.2.3.4:5\",\"count\":7}}\n"
        );
        assert_eq!(
            record_line(LogForm::Text, Level::Warn, "a_kind", "one\ntwo", &fields),
            "1970-01-01T00:00:00.000Z coreloop: warning: one\u{fffd}two\n"
        );
    }

    #[test]
    fn lines_are_bounded() {
        let long = "é\n".repeat(10_000);
        let names: Vec<String> = (0..1000).map(|index| format!("field{index}")).collect();
        let fields: Vec<(&str, Value<'_>)> = names.iter().map(|name| (&**name, (*long).to_value())).collect();
        for form in [LogForm::Json, LogForm::Text] {
            let line = record_line(form, Level::Info, &long, &long, &fields);
            // A control character takes six bytes.
            assert!(line.len() < 6 * (FIELDS_BYTES_MAX + 5 * TEXT_BYTES_MAX), "{}", line.len());
            assert_eq!(line.matches('\n').count(), 1);
        }
    }

    proptest! {
        #[test]
        fn json_lines_have_what_was_written(
            message in any::<String>(), kind in "[a-z_]{1,10}", text in any::<String>(), number in any::<u64>(),
        ) {
            let fields = [("a", text.to_value()), ("n", number.to_value())];
            let line = record_line(LogForm::Json, Level::Info, &kind, &message, &fields);
            prop_assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
            let json: Json = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(json["message"].as_str(), Some(&*bounded(message)));
            prop_assert_eq!(json["kind"].as_str(), Some(&*kind));
            prop_assert_eq!(json["fields"]["a"].as_str(), Some(&*bounded(text)));
            prop_assert_eq!(json["fields"]["n"].as_u64(), Some(number));
        }
    }
}
