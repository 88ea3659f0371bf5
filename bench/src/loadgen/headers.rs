//! `--header` and `--metadata`: entries sent with every call, as HTTP header fields or as metadata of native frames.

use super::speech::AddressProtocol;

/// Header fields that the generator writes itself, or that would change where a request ends.
const OWN_FIELDS: [&str; 8] = [
    "connect-protocol-version",
    "connect-timeout-ms",
    "connection",
    "content-length",
    "content-type",
    "te",
    "transfer-encoding",
    "upgrade",
];
/// Maximum bytes of all header fields together; servers refuse a longer head.
const FIELDS_BYTES_MAX: usize = 32 << 10;
/// Maximum bytes of a native frame's metadata (docs/wire.md).
const METADATA_BYTES_MAX: usize = 65_528;

/// Name and value.
pub type Entry = (String, String);

/// The entries sent with every call.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HeaderOptions {
    /// Send this with every call: a header field over http:, metadata over native:. Repeatable.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<Entry>,
    /// The same, written NAME=VALUE. Repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = metadata)]
    pub metadata: Vec<Entry>,
}

fn header(text: &str) -> Result<Entry, String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    named(name, value)
}

fn metadata(text: &str) -> Result<Entry, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    named(name, value)
}

fn named(name: &str, value: &str) -> Result<Entry, String> {
    match name.trim() {
        "" => Err("the name is empty".into()),
        name => Ok((name.into(), value.trim().into())),
    }
}

impl HeaderOptions {
    /// Returns all entries in order, checked against what the protocol can carry.
    pub fn entries(&self, speaks: AddressProtocol) -> Result<Vec<Entry>, String> {
        let entries: Vec<Entry> = self.header.iter().chain(&self.metadata).cloned().collect();
        match speaks {
            _ if entries.is_empty() => {}
            AddressProtocol::Native => check_metadata(&entries)?,
            AddressProtocol::Http | AddressProtocol::Grpc => check_fields(&entries)?,
            AddressProtocol::Gob | AddressProtocol::GobHttp | AddressProtocol::JsonRpc => {
                return Err(format!(
                    "{speaks}: cannot carry --header or --metadata: use http: or native:, or leave them out"
                ));
            }
        }
        Ok(entries)
    }
}

fn check_metadata(entries: &[Entry]) -> Result<(), String> {
    for (name, _) in entries {
        if name.len() > 255 {
            return Err(format!("metadata name of {} bytes: at most 255", name.len()));
        }
        if name == "method" {
            return Err("metadata \"method\" names the method in native frames: use --method".into());
        }
    }
    match metadata_bytes(entries).len() {
        bytes if bytes > METADATA_BYTES_MAX => {
            Err(format!("metadata of {bytes} bytes: at most {METADATA_BYTES_MAX}"))
        }
        _ => Ok(()),
    }
}

fn check_fields(entries: &[Entry]) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for (name, value) in entries {
        if !name.bytes().all(is_token) {
            return Err(format!("header name {name:?}: only letters, digits and !#$%&'*+-.^_`|~"));
        }
        if OWN_FIELDS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(format!("header {name}: loadgen sets this field itself"));
        }
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(format!("header {name}: the value has a control character"));
        }
    }
    match entries.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() {
        bytes if bytes > FIELDS_BYTES_MAX => {
            Err(format!("headers of {bytes} bytes: at most {FIELDS_BYTES_MAX}"))
        }
        _ => Ok(()),
    }
}

/// Encodes entries as a native frame's metadata, padded to a multiple of 8 bytes.
pub fn metadata_bytes(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in entries {
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Encodes entries as header fields, each with its line end.
pub fn fields(entries: &[Entry]) -> String {
    entries.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// Returns the command line without the values of headers: results are shared, and the values may be secrets.
pub fn redacted(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut is_value = false;
    let hide = |text: &str, separator: char| {
        let (name, _) = text.split_once(separator).unwrap_or(("", text));
        format!("{name}{separator}…")
    };
    let mut separator = ':';
    let mut shown = Vec::new();
    for argument in arguments {
        if std::mem::take(&mut is_value) {
            shown.push(hide(&argument, separator));
            continue;
        }
        let known = [("--header", ':'), ("--metadata", '=')];
        let option = known.into_iter().find(|(option, _)| {
            argument == *option || argument.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))
        });
        match option {
            Some((option, of_option)) => match argument.get(option.len() + 1..) {
                Some(value) => shown.push(format!("{option}={}", hide(value, of_option))),
                None => {
                    (is_value, separator) = (true, of_option);
                    shown.push(argument);
                }
            },
            None => shown.push(argument),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(headers: &[&str], pairs: &[&str]) -> HeaderOptions {
        HeaderOptions {
            header: headers.iter().map(|text| header(text).expect("well-formed")).collect(),
            metadata: pairs.iter().map(|text| metadata(text).expect("well-formed")).collect(),
        }
    }

    #[test]
    fn both_forms_split_at_the_first_separator() {
        let options = options(&["authorization: Bearer a=b:c"], &["tenant=x: y"]);
        let want = [("authorization", "Bearer a=b:c"), ("tenant", "x: y")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(options.entries(AddressProtocol::Http), Ok(want.to_vec()));
        assert_eq!(options.entries(AddressProtocol::Native), Ok(want.to_vec()));
        for wrong in ["", "name", ": value", " : "] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
        assert!(metadata("name: value").is_err() && metadata("=value").is_err());
    }

    #[test]
    fn protocols_without_headers_refuse_them() {
        for speaks in [AddressProtocol::Gob, AddressProtocol::GobHttp, AddressProtocol::JsonRpc] {
            let why = options(&["a: b"], &[]).entries(speaks).expect_err("no place");
            assert!(why.contains(speaks.name()) && why.contains("http:"), "{why}");
            assert_eq!(HeaderOptions::default().entries(speaks), Ok(Vec::new()));
        }
    }

    #[test]
    fn fields_that_would_break_a_request_are_refused() {
        let long = format!("a: {}", "x".repeat(FIELDS_BYTES_MAX));
        for (text, want) in [
            ("Content-Length: 5", "loadgen sets"),
            ("a b: c", "header name"),
            ("a: b\r\nc: d", "control character"),
            (&*long, "at most 32768"),
        ] {
            let why = options(&[text], &[]).entries(AddressProtocol::Http).expect_err(text);
            assert!(why.contains(want), "{text}: {why}");
        }
        let long = format!("a={}", "x".repeat(65_530));
        for (text, want) in [("method=A.B", "--method"), (&*long, "at most 65528")] {
            let why = options(&[], &[text]).entries(AddressProtocol::Native).expect_err(text);
            assert!(why.contains(want), "{why}");
        }
    }

    #[test]
    fn metadata_matches_the_protocol_document() {
        let entries = [("b3".to_owned(), "1".to_owned())];
        assert_eq!(metadata_bytes(&entries), [2, b'b', b'3', 1, 0, b'1', 0, 0]);
        assert_eq!(fields(&entries), "b3: 1\r\n");
        assert!(metadata_bytes(&[]).is_empty());
    }

    #[test]
    fn values_are_removed_from_the_recorded_command_line() {
        let words =
            ["loadgen", "--header", "a: secret", "--metadata=k=secret", "--header=b:secret", "--json", "f"];
        let shown = redacted(words.map(String::from));
        assert_eq!(shown, ["loadgen", "--header", "a:…", "--metadata=k=…", "--header=b:…", "--json", "f"]);
    }
}
