//! One value of a key: its kinds, their ranges, and conversion from and to text.
//!
//! The same check applies to a value from a file, the environment, a flag or the program, so none of them accepts a
//! value that another rejects. Nothing here depends on the list of keys; that is `keys.rs`.

use std::fmt;

use super::networks::network;
use super::{
    AcceptMode, ClientAuth, ConfigError, FairBy, ForwardedField, MissingFields, Origin, SocketMode, TlsMode,
};

/// What a key accepts. Number ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Addresses,
    /// Addresses to listen on, a choice of them; may be empty.
    ChosenAddresses,
    /// IP addresses, networks, and `unix`; may be empty.
    Networks,
    /// Web origins; may be empty.
    Origins,
    /// `Service.Method=N`; may be empty.
    MethodLimits,
    /// `METHODS=CALLER CALLER…`; may be empty.
    PermissionRules,
    /// Paths of files; may be empty.
    Files,
    Switch,
    Choice(&'static [&'static str]),
    /// Permission bits in octal.
    SocketFileMode,
    /// A user or a group, by name or number; may be empty.
    Account,
    /// A line of text with at most this many characters; may be empty.
    Line(usize),
    Number(u64, u64),
    /// A number of bytes, optionally written with a unit.
    Bytes(u64, u64),
}

/// A value of some kind, checked or unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConfigValue {
    List(Vec<String>),
    Switch(bool),
    Text(String),
    Number(u64),
}

/// Why a value was rejected, and the value as a person would write it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ValueFault {
    Invalid(String),
    OutOfRange(String),
}

impl ValueFault {
    /// Returns the error for a key that expects something else.
    pub(super) fn into_error(self, key: String, expected: String, origin: Origin) -> ConfigError {
        match self {
            ValueFault::Invalid(came) => ConfigError::Invalid { key, expected, came, origin },
            ValueFault::OutOfRange(came) => ConfigError::OutOfRange { key, expected, came, origin },
        }
    }
}

impl ValueKind {
    /// Returns what is expected, for an error's "expected …".
    pub(super) fn expected(self) -> String {
        match self {
            ValueKind::Addresses => {
                "one or more addresses, `host:port` (IPv6 in brackets) or `unix:PATH`, each once".to_owned()
            }
            ValueKind::ChosenAddresses => "addresses as in `listen`, each once".to_owned(),
            ValueKind::Networks => {
                "IP addresses, networks like `10.0.0.0/8` with zeros behind their bits, or `unix`, each once"
                    .to_owned()
            }
            ValueKind::Origins => {
                "origins, `scheme://host` with or without a port, or `*`, each once".to_owned()
            }
            ValueKind::MethodLimits => {
                "limits like `Service.Method=8`, from 1 to 4294967295, each method once".to_owned()
            }
            ValueKind::PermissionRules => {
                "rules like `Orders.*=role:admin spiffe://shop/*`: methods, `=`, and one or more callers"
                    .to_owned()
            }
            ValueKind::Files => "paths of files".to_owned(),
            ValueKind::Switch => "true or false".to_owned(),
            ValueKind::Choice(names) => {
                let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                quoted.join(" or ")
            }
            ValueKind::SocketFileMode => {
                "permission bits as octal text, such as \"0660\", at most \"0777\"".to_owned()
            }
            ValueKind::Account => "the name or the number of an account".to_owned(),
            ValueKind::Line(max) => {
                format!("a line of at most {max} characters, without control characters")
            }
            ValueKind::Number(min, max) => format!("an integer from {min} to {max}"),
            ValueKind::Bytes(min, max) => {
                format!("a size from {min} to {max} bytes, an integer or like \"16 MiB\" (KiB, MiB, GiB)")
            }
        }
    }

    /// Parses the text of an environment variable or a flag.
    pub(super) fn value_of_text(self, text: &str) -> Result<ConfigValue, ValueFault> {
        let text = text.trim();
        let invalid = || ValueFault::Invalid(format!("\"{}\"", text.escape_debug()));
        let value = match self {
            ValueKind::ChosenAddresses
            | ValueKind::Networks
            | ValueKind::Origins
            | ValueKind::MethodLimits
            | ValueKind::PermissionRules
            | ValueKind::Files
                if text.is_empty() =>
            {
                ConfigValue::List(Vec::new())
            }
            ValueKind::Addresses
            | ValueKind::ChosenAddresses
            | ValueKind::Networks
            | ValueKind::Origins
            | ValueKind::MethodLimits
            | ValueKind::PermissionRules
            | ValueKind::Files => {
                ConfigValue::List(text.split(',').map(|part| part.trim().to_owned()).collect())
            }
            ValueKind::Switch => ConfigValue::Switch(text.parse().map_err(|_| invalid())?),
            ValueKind::Choice(_) | ValueKind::SocketFileMode | ValueKind::Account | ValueKind::Line(_) => {
                ConfigValue::Text(text.to_owned())
            }
            // Digits only: the standard parser also accepts "+5".
            ValueKind::Number(..) | ValueKind::Bytes(..) if is_integer(text) => match text.parse() {
                Ok(number) => ConfigValue::Number(number),
                Err(_) => return Err(ValueFault::OutOfRange(text.to_owned())),
            },
            ValueKind::Bytes(..) => return self.value_of_size(text),
            ValueKind::Number(..) => return Err(invalid()),
        };
        self.admit(value)
    }

    /// Parses a size with a unit: `64KiB`, `16 MiB`.
    pub(super) fn value_of_size(self, text: &str) -> Result<ConfigValue, ValueFault> {
        let came = || format!("\"{}\"", text.escape_debug());
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(unit_at);
        let shift = UNITS.iter().find(|(_, name)| name.eq_ignore_ascii_case(unit.trim()));
        match (digits.is_empty(), shift) {
            (false, Some((unit_bytes, _))) => {
                let number = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(*unit_bytes));
                self.admit(ConfigValue::Number(number.ok_or_else(|| ValueFault::OutOfRange(came()))?))
            }
            (true, _) | (_, None) => Err(ValueFault::Invalid(came())),
        }
    }

    /// Returns the value if it is of this kind and within the range.
    pub(super) fn admit(self, value: ConfigValue) -> Result<ConfigValue, ValueFault> {
        match (self, &value) {
            (ValueKind::Addresses | ValueKind::ChosenAddresses, ConfigValue::List(list)) => {
                if list.is_empty() && self == ValueKind::Addresses {
                    return Err(ValueFault::Invalid("an empty list".to_owned()));
                }
                for (at, address) in list.iter().enumerate() {
                    if !is_address(address) {
                        return Err(ValueFault::Invalid(format!("\"{}\"", address.escape_debug())));
                    }
                    // With port 0 each listener gets its own port.
                    if list[..at].contains(address) && !address.ends_with(":0") {
                        return Err(ValueFault::Invalid(format!("\"{address}\" twice")));
                    }
                }
                Ok(value)
            }
            (ValueKind::Networks, ConfigValue::List(list)) => {
                all_once(list, |text| network(text).is_some(), value.clone())
            }
            (ValueKind::MethodLimits, ConfigValue::List(list)) => {
                for (at, text) in list.iter().enumerate() {
                    let Some((name, _)) = split_method_limit(text) else {
                        return Err(ValueFault::Invalid(format!("\"{}\"", text.escape_debug())));
                    };
                    let is_same =
                        |other: &String| split_method_limit(other).is_some_and(|(other, _)| other == name);
                    if list[..at].iter().any(is_same) {
                        return Err(ValueFault::Invalid(format!("\"{name}\" twice")));
                    }
                }
                Ok(value)
            }
            (ValueKind::PermissionRules, ConfigValue::List(list)) => {
                match list.iter().find(|text| split_permission_rule(text).is_none()) {
                    Some(text) => Err(ValueFault::Invalid(format!("\"{}\"", text.escape_debug()))),
                    None => Ok(value),
                }
            }
            (ValueKind::Origins, ConfigValue::List(list)) => all_once(list, is_origin, value.clone()),
            (ValueKind::Files, ConfigValue::List(list)) => {
                match list.iter().find(|path| path.is_empty() || path.contains(char::is_control)) {
                    Some(path) => Err(ValueFault::Invalid(format!("\"{}\"", path.escape_debug()))),
                    None => Ok(value),
                }
            }
            (ValueKind::Switch, ConfigValue::Switch(_)) => Ok(value),
            (ValueKind::Choice(names), ConfigValue::Text(text)) if names.contains(&text.as_str()) => {
                Ok(value)
            }
            (ValueKind::SocketFileMode, ConfigValue::Text(text)) if text.parse::<SocketMode>().is_ok() => {
                Ok(value)
            }
            (ValueKind::Account, ConfigValue::Text(text)) if is_account(text) => Ok(value),
            (ValueKind::Line(max), ConfigValue::Text(text))
                if text.chars().count() <= max && !text.contains(char::is_control) =>
            {
                Ok(value)
            }
            (ValueKind::Number(min, max) | ValueKind::Bytes(min, max), ConfigValue::Number(number)) => {
                if (min..=max).contains(number) {
                    Ok(value)
                } else {
                    Err(ValueFault::OutOfRange(value.to_string()))
                }
            }
            (
                ValueKind::Addresses
                | ValueKind::ChosenAddresses
                | ValueKind::Networks
                | ValueKind::Origins
                | ValueKind::MethodLimits
                | ValueKind::PermissionRules
                | ValueKind::Files
                | ValueKind::Switch
                | ValueKind::Choice(_)
                | ValueKind::SocketFileMode
                | ValueKind::Account
                | ValueKind::Line(_)
                | ValueKind::Number(..)
                | ValueKind::Bytes(..),
                _,
            ) => Err(ValueFault::Invalid(value.to_string())),
        }
    }

    /// Formats the value as TOML; sizes with the largest unit that divides them.
    pub(super) fn toml(self, value: &ConfigValue) -> String {
        match (self, value) {
            (ValueKind::Bytes(..), ConfigValue::Number(number)) if *number > 0 => {
                match UNITS.iter().find(|(unit_bytes, _)| number % unit_bytes == 0) {
                    Some((unit_bytes, name)) if *unit_bytes > 1 => {
                        format!("\"{} {name}\"", number / unit_bytes)
                    }
                    Some(_) | None => number.to_string(),
                }
            }
            (_, value) => value.to_string(),
        }
    }
}

/// Returns the value if each text of its list is of a kind, and no two are the same.
fn all_once(
    list: &[String],
    is_of_kind: impl Fn(&str) -> bool,
    value: ConfigValue,
) -> Result<ConfigValue, ValueFault> {
    for (at, text) in list.iter().enumerate() {
        if !is_of_kind(text) {
            return Err(ValueFault::Invalid(format!("\"{}\"", text.escape_debug())));
        }
        if list[..at].contains(text) {
            return Err(ValueFault::Invalid(format!("\"{text}\" twice")));
        }
    }
    Ok(value)
}

/// Formats as TOML, sizes in bytes.
impl fmt::Display for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigValue::List(list) => {
                let quoted: Vec<String> = list.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", quoted.join(", "))
            }
            ConfigValue::Switch(on) => write!(f, "{on}"),
            ConfigValue::Text(text) => f.write_str(&quoted(text)),
            ConfigValue::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Protocols that a listener can be restricted to, as `ProtocolId` names them.
const PROTOCOLS: [&str; 5] = ["native", "gob", "jsonrpc", "http", "grpc"];

/// Splits an address to listen on into its protocol prefix, if there is one, and the rest: `http:127.0.0.1:8080`.
///
/// ```
/// use coreloop::config::split_listen;
/// assert_eq!(split_listen("http:[::1]:80"), (Some("http"), "[::1]:80"));
/// assert_eq!(split_listen("native+tls:[::1]:80"), (Some("native"), "[::1]:80"));
/// // A host may have the name of a protocol.
/// assert_eq!(split_listen("http:80"), (None, "http:80"));
/// ```
pub fn split_listen(listen: &str) -> (Option<&str>, &str) {
    let (protocol, _, rest) = split_listener(listen);
    (protocol, rest)
}

/// Returns what is said of TLS behind the protocol of a listener: `native+tls:`, `http+plain:`.
pub(crate) fn listener_tls(listen: &str) -> Option<TlsMode> {
    split_listener(listen).1
}

/// Splits an address to listen on into its protocol, what is said of TLS, and the rest.
fn split_listener(listen: &str) -> (Option<&str>, Option<TlsMode>, &str) {
    let none = (None, None, listen);
    let Some((prefix, rest)) = listen.split_once(':') else { return none };
    let (name, tls) = match prefix.split_once('+') {
        Some((name, "tls")) => (name, Some(TlsMode::Required)),
        Some((name, "plain")) => (name, Some(TlsMode::Off)),
        Some(_) => return none,
        None if prefix == "https" => ("http", Some(TlsMode::Required)),
        None => (prefix, None),
    };
    if PROTOCOLS.contains(&name) && rest.contains([':', '/']) { (Some(name), tls, rest) } else { none }
}

/// Whether the text is an origin as a browser writes it in `Origin` (Fetch, section 3.2): lower case, no path, no
/// default port; or `*`.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return origin == "*" };
    let is_plain =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' | b'[' | b']');
    let is_default_port =
        scheme == "http" && host.ends_with(":80") || scheme == "https" && host.ends_with(":443");
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_lowercase() || b"0123456789+-.".contains(&byte));
    !scheme.is_empty() && !host.is_empty() && is_scheme && host.bytes().all(is_plain) && !is_default_port
}

/// Whether the text is a number or has the form of an account name. Only the system knows whether the account exists.
fn is_account(text: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, ':' | ',' | '/');
    text.len() <= 255 && text.chars().all(is_plain) && !text.starts_with('-')
}

/// Splits `Service.Method=N`.
pub(crate) fn split_method_limit(text: &str) -> Option<(&str, u32)> {
    let (name, most) = text.split_once('=')?;
    let (name, most) = (name.trim(), most.trim());
    let is_name = name.contains('.') && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    let most = if is_integer(most) { most.parse().ok()? } else { return None };
    (is_name && most > 0).then_some((name, most))
}

/// Splits `METHODS=CALLER CALLER…`.
pub(crate) fn split_permission_rule(text: &str) -> Option<(&str, std::str::SplitWhitespace<'_>)> {
    let (methods, callers) = text.split_once('=')?;
    let (methods, callers) = (methods.trim(), callers.split_whitespace());
    let is_rule = !methods.is_empty() && callers.clone().next().is_some() && !text.contains(char::is_control);
    is_rule.then_some((methods, callers))
}

fn is_address(listen: &str) -> bool {
    let (_, address) = split_listen(listen);
    if address.chars().any(char::is_control) {
        return false;
    }
    if let Some(path) = address.strip_prefix("unix:") {
        return !path.is_empty() && path.len() <= UNIX_PATH_BYTES_MAX;
    }
    if let Some(name) = address.strip_prefix("memory:") {
        return !name.is_empty();
    }
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host_fits = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty() && !host.contains([':', '/', '[', ']']) && !host.contains(char::is_whitespace)
        }
    };
    host_fits && !port.starts_with('-') && is_integer(port) && port.parse::<u16>().is_ok()
}

/// The path length of `sockaddr_un`, less the terminating zero.
const UNIX_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Largest first: the first unit that divides a size gives the shortest text.
const UNITS: [(u64, &str); 4] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];

/// A config field that can be read and written as a value.
///
/// Only values that the field's kind has admitted are written, so a write cannot fail.
pub(super) trait ConfigField {
    fn read(&self) -> ConfigValue;
    fn write(&mut self, value: ConfigValue);
}

const ADMITTED: &str = "the kind of the key admits only what its field holds";

impl ConfigField for Vec<String> {
    fn read(&self) -> ConfigValue {
        ConfigValue::List(self.clone())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::List(list) = value else { unreachable!("{ADMITTED}") };
        *self = list;
    }
}

impl ConfigField for String {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.clone())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = text;
    }
}

impl ConfigField for bool {
    fn read(&self) -> ConfigValue {
        ConfigValue::Switch(*self)
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Switch(on) = value else { unreachable!("{ADMITTED}") };
        *self = on;
    }
}

impl ConfigField for u64 {
    fn read(&self) -> ConfigValue {
        ConfigValue::Number(*self)
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Number(number) = value else { unreachable!("{ADMITTED}") };
        *self = number;
    }
}

impl ConfigField for usize {
    fn read(&self) -> ConfigValue {
        // No platform has a usize of more than 64 bits.
        ConfigValue::Number(*self as u64)
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Number(number) = value else { unreachable!("{ADMITTED}") };
        *self = usize::try_from(number).expect(ADMITTED);
    }
}

impl ConfigField for SocketMode {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.to_string())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = text.parse().expect(ADMITTED);
    }
}

impl ConfigField for AcceptMode {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.name().to_owned())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = AcceptMode::from_name(&text).expect(ADMITTED);
    }
}

impl ConfigField for ForwardedField {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.name().to_owned())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = ForwardedField::from_name(&text).expect(ADMITTED);
    }
}

impl ConfigField for FairBy {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.name().to_owned())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = FairBy::from_name(&text).expect(ADMITTED);
    }
}

impl ConfigField for TlsMode {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.name().to_owned())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = TlsMode::from_name(&text).expect(ADMITTED);
    }
}

impl ConfigField for ClientAuth {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.name().to_owned())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = ClientAuth::from_name(&text).expect(ADMITTED);
    }
}

impl ConfigField for MissingFields {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.name().to_owned())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("{ADMITTED}") };
        *self = MissingFields::from_name(&text).expect(ADMITTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ValueKind = ValueKind::Bytes(0, 1 << 40);

    #[test]
    fn sizes_take_integers_and_binary_units() {
        for (text, bytes) in
            [("0", 0), ("1000", 1000), ("64KiB", 65_536), (" 16 MiB ", 16 << 20), ("1 gib", 1 << 30)]
        {
            assert_eq!(SIZE.value_of_text(text), Ok(ConfigValue::Number(bytes)), "{text}");
        }
        for text in ["", "KiB", "1 KB", "64k", "1.5 MiB", "+5", "0x10", "1_000", "1 Ki B"] {
            assert!(matches!(SIZE.value_of_text(text), Err(ValueFault::Invalid(_))), "{text}");
        }
        for text in ["-1", "2000 GiB", "99999999999999999999", "99999999999 GiB", "99999999999999999999 B"] {
            assert!(matches!(SIZE.value_of_text(text), Err(ValueFault::OutOfRange(_))), "{text}");
        }
    }

    #[test]
    fn sizes_print_with_the_largest_unit_that_divides_them() {
        for (bytes, text) in [
            (0, "0"),
            (1000, "1000"),
            (1 << 10, "\"1 KiB\""),
            (3 << 20, "\"3 MiB\""),
            (1025 << 10, "\"1025 KiB\""),
        ] {
            assert_eq!(SIZE.toml(&ConfigValue::Number(bytes)), text);
        }
    }

    #[test]
    fn numbers_take_no_unit_and_keep_their_range() {
        let kind = ValueKind::Number(1, 64);
        assert_eq!(kind.value_of_text("64"), Ok(ConfigValue::Number(64)));
        assert_eq!(kind.value_of_text("65"), Err(ValueFault::OutOfRange("65".into())));
        assert_eq!(kind.value_of_text("0"), Err(ValueFault::OutOfRange("0".into())));
        assert_eq!(kind.value_of_text("1 KiB"), Err(ValueFault::Invalid("\"1 KiB\"".into())));
    }

    #[test]
    fn addresses_are_host_and_port_or_a_unix_path() {
        for good in [
            "127.0.0.1:0",
            "localhost:6550",
            "[::1]:80",
            "unix:/run/a.sock",
            "unix:a b",
            "http:127.0.0.1:80",
            "native:[::1]:80",
            "jsonrpc:unix:/a",
            "http:80",
        ] {
            assert!(is_address(good), "{good}");
        }
        let long = format!("unix:{}", "a".repeat(UNIX_PATH_BYTES_MAX + 1));
        for bad in [
            "",
            "6550",
            ":6550",
            "a:",
            "a:+1",
            "a:-0",
            "a:65536",
            "::1:80",
            "[::1]",
            "[]:1",
            "[a]:1",
            "http://a:1",
            "http:native:a:1",
            "tls:a:1",
            "http:unix:",
            "a b:1",
            "unix:",
            "unix:a\0b",
            &long,
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_as_a_browser_writes_it() {
        for good in ["*", "https://a.example", "http://a:8080", "http://[::1]:8080", "app+x://a"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "https://",
            "://a",
            "https://a/",
            "https://A",
            "http://a:80",
            "https://a b",
            "null",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
        assert_eq!(ValueKind::Origins.value_of_text(" "), Ok(ConfigValue::List(Vec::new())));
        let twice = ValueKind::Origins.value_of_text("http://a, http://a");
        assert_eq!(twice, Err(ValueFault::Invalid("\"http://a\" twice".into())));
    }

    #[test]
    fn duplicate_addresses_are_refused_except_port_0() {
        assert!(ValueKind::Addresses.value_of_text("a:0, a:0,b:1").is_ok());
        assert_eq!(
            ValueKind::Addresses.value_of_text("a:1,a:1"),
            Err(ValueFault::Invalid("\"a:1\" twice".into()))
        );
        assert_eq!(ValueKind::Addresses.value_of_text(""), Err(ValueFault::Invalid("\"\"".into())));
        assert_eq!(
            ValueKind::Addresses.admit(ConfigValue::List(vec![])),
            Err(ValueFault::Invalid("an empty list".into()))
        );
    }

    #[test]
    fn quoted_text_escapes_special_characters() {
        assert_eq!(quoted("a\"b\\c\nd\u{7f}é"), "\"a\\\"b\\\\c\\u000Ad\\u007Fé\"");
    }
}
