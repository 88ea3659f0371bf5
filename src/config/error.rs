//! What can be wrong with a configuration, and where a value came from.
//!
//! Every error names the key, what was expected, what was found, and its file and line (or variable, or flag), so
//! that the operator can correct it without reading the source. The checks themselves are in `value.rs` and
//! `valid.rs`.

use std::error::Error;
use std::fmt;
use std::io;

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// No layer sets the value.
    #[default]
    Default,
    /// The embedding program sets the field.
    Program,
    /// A line of a config file.
    File {
        /// The file, by the name that the program was given.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// The environment variable of that name.
    Env(String),
    /// A flag on the command line, such as `--cores`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Program => f.write_str("program"),
            Origin::File { path, line } => write!(f, "file {path}:{line}"),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Why a configuration was refused.
#[non_exhaustive]
pub enum ConfigError {
    /// No key has this name. Correct the spelling, or remove it.
    UnknownKey {
        /// The key or flag as it was written.
        key: String,
        /// Where the key is written.
        origin: Origin,
        /// The known name that is nearest to `key`.
        nearest: String,
        /// Whether `nearest` is close enough to be the intended name.
        likely: bool,
    },
    /// The value has the wrong type or form. Write one of the expected form.
    Invalid {
        /// The key's dotted name.
        key: String,
        /// What the key accepts.
        expected: String,
        /// What was found instead.
        came: String,
        /// Where the value is written.
        origin: Origin,
    },
    /// The value is a number outside the range of the key. Choose one within it.
    OutOfRange {
        /// The key's dotted name.
        key: String,
        /// The range.
        expected: String,
        /// The number that was found.
        came: String,
        /// Where the value is written.
        origin: Origin,
    },
    /// The value is valid alone but conflicts with another key's value. Change either.
    Conflict {
        /// The key's dotted name.
        key: String,
        /// What the other key requires.
        expected: String,
        /// The value that was found.
        came: String,
        /// Where the value is written.
        origin: Origin,
    },
    /// The config file is not valid TOML, or defines a key twice. Correct that line.
    Syntax {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// The config file cannot be read. Check its name and permissions.
    Unreadable {
        /// The file.
        path: String,
        /// The cause.
        cause: io::Error,
    },
    /// A section of a program's own cannot be used: its name is taken or not valid, or its type has no keys. Correct
    /// the program.
    Section {
        /// The name of the section.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The argument of `--set` is not of the form `key=value`.
    NotAPair {
        /// The argument that was found.
        came: String,
    },
}

crate::error_text::debug_as_text!(ConfigError);

impl ConfigError {
    /// The same error of a key with this prefix.
    #[cfg(feature = "config-file")]
    pub(super) fn with_prefix(mut self, prefix: &str) -> ConfigError {
        if let ConfigError::Invalid { key, .. }
        | ConfigError::OutOfRange { key, .. }
        | ConfigError::Conflict { key, .. } = &mut self
        {
            key.insert_str(0, prefix);
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::UnknownKey { key, origin, nearest, likely } => {
                // An unchecked name may contain line breaks.
                let key = key.escape_debug();
                write!(f, "unknown key `{key}` in {}; ", OriginClause(origin))?;
                if *likely {
                    write!(f, "did you mean `{nearest}`?")
                } else {
                    write!(f, "the nearest known name is `{nearest}`")
                }
            }
            ConfigError::Invalid { key, expected, came, origin }
            | ConfigError::OutOfRange { key, expected, came, origin }
            | ConfigError::Conflict { key, expected, came, origin } => {
                write!(f, "`{key}` in {}: expected {expected}; got {came}", OriginClause(origin))
            }
            ConfigError::Syntax { path, line, message } => write!(f, "{path} line {line}: {message}"),
            ConfigError::Unreadable { path, cause } => write!(f, "cannot read {path}: {cause}"),
            ConfigError::Section { name, message } => {
                write!(f, "section `{}`: {message}", name.escape_debug())
            }
            ConfigError::NotAPair { came } => {
                write!(f, "--set expects `key=value`; got `{}`", came.escape_debug())
            }
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The text of `cause` is part of this error's own text.
            ConfigError::Unreadable { cause, .. } => cause.source(),
            ConfigError::UnknownKey { .. }
            | ConfigError::Invalid { .. }
            | ConfigError::OutOfRange { .. }
            | ConfigError::Conflict { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::Section { .. }
            | ConfigError::NotAPair { .. } => None,
        }
    }
}

/// An origin formatted as the end of a sentence: "in coreloop.toml line 3".
struct OriginClause<'a>(&'a Origin);

impl fmt::Display for OriginClause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::Default => f.write_str("the defaults"),
            Origin::Program => f.write_str("the program's config"),
            Origin::File { path, line } => write!(f, "{path} line {line}"),
            Origin::Env(name) => write!(f, "environment variable {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_key_place_and_values() {
        let error = ConfigError::OutOfRange {
            key: "batch_max".into(),
            expected: "an integer from 1 to 64".into(),
            came: "65".into(),
            origin: Origin::File { path: "a.toml".into(), line: 3 },
        };
        assert_eq!(
            error.to_string(),
            "`batch_max` in a.toml line 3: expected an integer from 1 to 64; got 65"
        );
    }

    #[test]
    fn far_names_are_not_called_likely() {
        let error = |likely| ConfigError::UnknownKey {
            key: "x\n".into(),
            origin: Origin::Flag("--set".into()),
            nearest: "pin".into(),
            likely,
        };
        assert_eq!(
            error(false).to_string(),
            "unknown key `x\\n` in flag --set; the nearest known name is `pin`"
        );
        assert_eq!(error(true).to_string(), "unknown key `x\\n` in flag --set; did you mean `pin`?");
    }

    #[test]
    fn an_unreadable_file_keeps_its_cause() {
        let cause = io::Error::new(io::ErrorKind::NotFound, "gone");
        let error = ConfigError::Unreadable { path: "a.toml".into(), cause };
        assert_eq!(error.to_string(), "cannot read a.toml: gone");
        assert_eq!(format!("{error:?}"), "cannot read a.toml: gone");
    }
}
