//! Converts the text of a TOML file into settings, each with its line number.
//!
//! This file opens no files and does not decide which setting wins; that is `layers.rs`. The parser reports
//! positions, so an error names the line without a second search for the key.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::KEYS;
use super::layers::{Setting, SettingValue};
use super::schema::{KnownKey, Schema};
use super::value::{ConfigValue, ValueFault, ValueKind};
use super::{ConfigError, Origin};

/// Returns every setting in the text, in line order; errors call the file `path`.
pub(super) fn settings(schema: &Schema, path: &str, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let mut leaves = leaves(schema, root.get_ref());
    // The parser sorts by name; of several errors, the first one in the file must be reported.
    leaves.sort_by_key(|leaf| leaf.at);
    leaves
        .into_iter()
        .map(|leaf| {
            leaf.setting(schema, Origin::File { path: path.to_owned(), line: line_of(text, leaf.at) })
        })
        .collect()
}

/// A value that is not a table (or is an empty one), with its dotted name and the position of the name.
struct Leaf<'a> {
    name: String,
    at: usize,
    value: &'a DeValue<'a>,
}

/// Collects the leaves with an explicit list instead of recursion, so that a deeply nested file cannot overflow the
/// stack.
fn leaves<'a>(schema: &Schema, root: &'a DeTable<'a>) -> Vec<Leaf<'a>> {
    let mut leaves = Vec::new();
    let mut tables = vec![(String::new(), root)];
    while let Some((prefix, table)) = tables.pop() {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() && schema.find(&name).is_none() => {
                    tables.push((format!("{name}."), inner));
                }
                // An empty section sets nothing; commenting out all of its lines leaves one behind.
                DeValue::Table(_) if schema.is_section(&name) => {}
                value => leaves.push(Leaf { name, at: key.span().start, value }),
            }
        }
    }
    leaves
}

impl Leaf<'_> {
    fn setting(&self, schema: &Schema, origin: Origin) -> Result<Setting, ConfigError> {
        if let Some(key) = schema.find(&self.name) {
            let value = match key {
                KnownKey::Server(at) => value_of_toml(KEYS[at].kind, self.value).map(SettingValue::Server),
                KnownKey::Section(section, at) => {
                    let section = &schema.sections[section];
                    section.admit(&section.keys[at], plain(self.value)).map(SettingValue::Section)
                }
            };
            return match value {
                Ok(value) => Ok(Setting { key, value, origin }),
                Err(misfit) => Err(schema.refusal(key, misfit, origin)),
            };
        }
        if schema.is_section(&self.name) {
            return Err(ConfigError::Invalid {
                key: self.name.clone(),
                expected: format!("a table: [{}]", self.name),
                came: came(self.value),
                origin,
            });
        }
        Err(schema.unknown_key(&self.name, origin))
    }
}

/// The value without the positions of its parts.
fn plain(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Boolean(on) => toml::Value::Boolean(*on),
        DeValue::Datetime(time) => toml::Value::Datetime(*time),
        // A number that does not fit stays its text, which no key of a number accepts.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Float),
        DeValue::Array(items) => toml::Value::Array(items.iter().map(|item| plain(item.get_ref())).collect()),
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                (key.get_ref().to_string(), plain(value.get_ref()))
            };
            toml::Value::Table(table.iter().map(entry).collect())
        }
    }
}

fn value_of_toml(kind: ValueKind, value: &DeValue<'_>) -> Result<ConfigValue, ValueFault> {
    let value = match (kind, value) {
        (_, DeValue::Boolean(on)) => ConfigValue::Switch(*on),
        (ValueKind::Bytes(..), DeValue::String(text)) => return kind.value_of_size(text),
        // One file needs no list.
        (ValueKind::Files, DeValue::String(text)) => ConfigValue::List(vec![text.to_string()]),
        (_, DeValue::String(text)) => ConfigValue::Text(text.to_string()),
        // The number of a user or a group.
        (ValueKind::Account, DeValue::Integer(number)) if number.radix() == 10 => {
            ConfigValue::Text(number.as_str().to_owned())
        }
        (_, DeValue::Integer(number)) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => ConfigValue::Number(number),
            // Negative or beyond 64 bits: still a number, and the key takes a number.
            Err(_) if matches!(kind, ValueKind::Number(..) | ValueKind::Bytes(..)) => {
                return Err(ValueFault::OutOfRange(number.to_string()));
            }
            Err(_) => return Err(ValueFault::Invalid(number.to_string())),
        },
        (
            ValueKind::Addresses
            | ValueKind::ChosenAddresses
            | ValueKind::Networks
            | ValueKind::Origins
            | ValueKind::MethodLimits
            | ValueKind::PermissionRules
            | ValueKind::Files,
            DeValue::Array(items),
        ) => {
            let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(ValueFault::Invalid(format!("{} in the list", came(other)))),
            };
            ConfigValue::List(items.iter().map(text).collect::<Result<_, _>>()?)
        }
        (_, DeValue::Array(_) | DeValue::Table(_) | DeValue::Float(_) | DeValue::Datetime(_)) => {
            return Err(ValueFault::Invalid(came(value)));
        }
    };
    kind.admit(value)
}

/// The value as written if that is short, else its type.
fn came(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => ConfigValue::Text(text.to_string()).to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        settings(&Schema::of_server(), "a.toml", text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn all_toml_forms_of_a_key_are_equal() {
        for text in [
            "[limits]\nidle_ms = 5",
            "limits.idle_ms = 5",
            "limits = { idle_ms = 5 }",
            "'limits'.idle_ms = 0x5",
        ] {
            let settings = settings(&Schema::of_server(), "a.toml", text).unwrap();
            assert_eq!(settings.len(), 1);
            assert_eq!(Schema::of_server().name(settings[0].key), "limits.idle_ms");
            assert!(matches!(settings[0].value, SettingValue::Server(ConfigValue::Number(5))));
        }
    }

    #[test]
    fn an_unknown_key_names_its_line_and_nearest_key() {
        assert_eq!(
            refusal("cores = 2\n[limit]\n\nframe_bytes_max = 5\n"),
            "unknown key `limit.frame_bytes_max` in a.toml line 4; did you mean `limits.frame_bytes_max`?"
        );
        assert_eq!(
            refusal("[limts]"),
            "unknown key `limts` in a.toml line 1; the nearest known name is `listen`"
        );
    }

    #[test]
    fn the_first_error_in_the_file_is_reported() {
        assert!(refusal("workers = 'a'\ncores = 'b'").contains("`workers` in a.toml line 1"));
    }

    #[test]
    fn wrong_types_report_expected_and_found() {
        for (text, error) in [
            ("cores = 'two'", "`cores` in a.toml line 1: expected an integer from 0 to 1024; got \"two\""),
            ("cores = 1.5", "`cores` in a.toml line 1: expected an integer from 0 to 1024; got 1.5"),
            ("\ncores = -1", "`cores` in a.toml line 2: expected an integer from 0 to 1024; got -1"),
            ("cores = 1025", "`cores` in a.toml line 1: expected an integer from 0 to 1024; got 1025"),
            ("pin = 1", "`pin` in a.toml line 1: expected true or false; got 1"),
            (
                "accept = 'both'",
                "`accept` in a.toml line 1: expected \"auto\" or \"reuseport\" or \"acceptor\"; got \"both\"",
            ),
            (
                "listen = ['a:1', 5]",
                "`listen` in a.toml line 1: expected one or more addresses, `host:port` (IPv6 in brackets) or \
                 `unix:PATH`, each once; got 5 in the list",
            ),
            (
                "limits.frame_bytes_max = '1 kB'",
                "`limits.frame_bytes_max` in a.toml line 1: expected a size from 1 to 4294901727 bytes, an integer \
                 or like \"16 MiB\" (KiB, MiB, GiB); got \"1 kB\"",
            ),
            (
                "unix_mode = 660",
                "`unix_mode` in a.toml line 1: expected permission bits as octal text, such as \"0660\", at most \
                 \"0777\"; got 660",
            ),
            (
                "unix_user = -1",
                "`unix_user` in a.toml line 1: expected the name or the number of an account; got \"-1\"",
            ),
            ("limits = 5", "`limits` in a.toml line 1: expected a table: [limits]; got 5"),
            ("[cores]\na = 1", "`cores` in a.toml line 1: expected an integer from 0 to 1024; got a table"),
        ] {
            assert_eq!(refusal(text), error);
        }
    }

    #[test]
    fn a_toml_syntax_error_names_its_line() {
        assert!(refusal("cores = 2\nworkers = = 3").starts_with("a.toml line 2: "));
        assert!(refusal("cores = 2\n\ncores = 3").starts_with("a.toml line 3: "));
    }

    #[test]
    fn an_empty_section_sets_nothing() {
        assert!(settings(&Schema::of_server(), "a.toml", "[limits]\n# idle_ms = 5\n").unwrap().is_empty());
        assert!(settings(&Schema::of_server(), "a.toml", "").unwrap().is_empty());
    }
}
