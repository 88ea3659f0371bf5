//! Writes the messages of OTLP, in protobuf and in JSON.
//!
//! The messages are described once, in `spans.rs` and `points.rs`: each field by its number and its name ([`Field`]). This
//! file knows the two formats: proto3's encoding, and the JSON encoding of OTLP (opentelemetry-proto,
//! `docs/specification.md`, "JSON Protobuf Encoding"): names in lower camel case, ids in hexadecimal, 64-bit whole numbers as
//! strings, enumerations as numbers. A field with its default value is left out, unless its method says otherwise.

use std::fmt::Write;

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFormat {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl BodyFormat {
    /// Returns the media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            BodyFormat::Protobuf => "application/x-protobuf",
            BodyFormat::Json => "application/json",
        }
    }
}

/// A field of a message.
#[derive(Clone, Copy)]
pub(super) struct Field {
    number: u32,
    name: &'static str,
}

/// Creates a field.
pub(super) const fn field(number: u32, name: &'static str) -> Field {
    Field { number, name }
}

/// The wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// The body of a message that is being written.
pub(super) struct MessageWriter {
    format: BodyFormat,
    bytes: Vec<u8>,
}

impl MessageWriter {
    /// Creates a writer of the fields of a message, without its braces in JSON.
    pub(super) fn new(format: BodyFormat) -> MessageWriter {
        MessageWriter { format, bytes: Vec::new() }
    }

    /// Returns the number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Goes back to an earlier length, where a field or an item began.
    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Returns what was written: fields or items, for [`MessageWriter::list_of`].
    pub(super) fn into_parts(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the body of a request with these fields.
    pub(super) fn into_body(self) -> Vec<u8> {
        match self.format {
            BodyFormat::Protobuf => self.bytes,
            BodyFormat::Json => [b"{", &self.bytes[..], b"}"].concat(),
        }
    }

    /// Writes a message.
    pub(super) fn message(&mut self, field: Field, write: impl FnOnce(&mut MessageWriter)) {
        match self.format {
            BodyFormat::Protobuf => self.with_length(field, write),
            BodyFormat::Json => {
                self.key(field);
                self.braces(write);
            }
        }
    }

    /// Writes a list of messages; nothing if it is empty.
    pub(super) fn list<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut MessageWriter, T),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        if self.format == BodyFormat::Json {
            self.key(field);
            self.bytes.push(b'[');
        }
        items.for_each(|item| self.item(field, |writer| write(writer, item)));
        if self.format == BodyFormat::Json {
            self.bytes.push(b']');
        }
    }

    /// Writes a list from items that were written by [`MessageWriter::item`].
    pub(super) fn list_of(&mut self, field: Field, items: &[u8]) {
        match self.format {
            BodyFormat::Protobuf => self.bytes.extend_from_slice(items),
            BodyFormat::Json => {
                self.key(field);
                self.bytes.push(b'[');
                self.bytes.extend_from_slice(items);
                self.bytes.push(b']');
            }
        }
    }

    /// Writes one message of a list.
    pub(super) fn item(&mut self, field: Field, write: impl FnOnce(&mut MessageWriter)) {
        match self.format {
            BodyFormat::Protobuf => self.with_length(field, write),
            BodyFormat::Json => {
                self.comma();
                self.braces(write);
            }
        }
    }

    /// Writes a text, also an empty one.
    pub(super) fn text_always(&mut self, field: Field, value: &str) {
        match self.format {
            BodyFormat::Protobuf => self.bytes_field(field, value.as_bytes()),
            BodyFormat::Json => {
                self.key(field);
                self.quoted(value);
            }
        }
    }

    /// Writes a text.
    pub(super) fn text(&mut self, field: Field, value: &str) {
        if !value.is_empty() {
            self.text_always(field, value);
        }
    }

    /// Writes an id.
    pub(super) fn id(&mut self, field: Field, value: &[u8]) {
        match self.format {
            BodyFormat::Protobuf => self.bytes_field(field, value),
            BodyFormat::Json => {
                self.key(field);
                self.bytes.push(b'"');
                value.iter().for_each(|byte| self.print(format_args!("{byte:02x}")));
                self.bytes.push(b'"');
            }
        }
    }

    /// Writes a `fixed64`, also zero.
    pub(super) fn fixed64(&mut self, field: Field, value: u64) {
        match self.format {
            BodyFormat::Protobuf => {
                self.tag(field, FIXED64);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
            BodyFormat::Json => {
                self.key(field);
                self.print(format_args!("\"{value}\""));
            }
        }
    }

    /// Writes an `sfixed64`, also zero.
    pub(super) fn sfixed64(&mut self, field: Field, value: i64) {
        match self.format {
            BodyFormat::Protobuf => self.fixed64(field, value as u64),
            BodyFormat::Json => {
                self.key(field);
                self.print(format_args!("\"{value}\""));
            }
        }
    }

    /// Writes an `int64`, also zero.
    pub(super) fn int64(&mut self, field: Field, value: i64) {
        match self.format {
            BodyFormat::Protobuf => {
                self.tag(field, VARINT);
                self.varint(value as u64);
            }
            BodyFormat::Json => self.sfixed64(field, value),
        }
    }

    /// Writes a `uint32` or an enumeration.
    pub(super) fn uint32(&mut self, field: Field, value: u32) {
        if value == 0 {
            return;
        }
        match self.format {
            BodyFormat::Protobuf => {
                self.tag(field, VARINT);
                self.varint(value.into());
            }
            BodyFormat::Json => {
                self.key(field);
                self.print(format_args!("{value}"));
            }
        }
    }

    /// Writes a `fixed32`.
    pub(super) fn fixed32(&mut self, field: Field, value: u32) {
        match self.format {
            BodyFormat::Protobuf if value != 0 => {
                self.tag(field, FIXED32);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
            BodyFormat::Protobuf => {}
            BodyFormat::Json => self.uint32(field, value),
        }
    }

    /// Writes a `bool`, also false.
    pub(super) fn bool(&mut self, field: Field, value: bool) {
        match self.format {
            BodyFormat::Protobuf => {
                self.tag(field, VARINT);
                self.varint(value.into());
            }
            BodyFormat::Json => {
                self.key(field);
                self.print(format_args!("{value}"));
            }
        }
    }

    /// Writes a `double`, also zero.
    pub(super) fn double(&mut self, field: Field, value: f64) {
        match self.format {
            BodyFormat::Protobuf => {
                self.tag(field, FIXED64);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
            BodyFormat::Json => {
                self.key(field);
                self.json_double(value);
            }
        }
    }

    /// Writes a list of `fixed64`.
    pub(super) fn fixed64s(&mut self, field: Field, values: &[u64]) {
        match self.format {
            BodyFormat::Protobuf => {
                self.tag(field, LENGTH);
                self.varint(values.len() as u64 * 8);
                values.iter().for_each(|value| self.bytes.extend_from_slice(&value.to_le_bytes()));
            }
            BodyFormat::Json => self.array(field, values, |writer, value| {
                writer.print(format_args!("\"{value}\""));
            }),
        }
    }

    /// Writes a list of `double`.
    pub(super) fn doubles(&mut self, field: Field, values: &[f64]) {
        match self.format {
            BodyFormat::Protobuf => {
                self.tag(field, LENGTH);
                self.varint(values.len() as u64 * 8);
                values.iter().for_each(|value| self.bytes.extend_from_slice(&value.to_le_bytes()));
            }
            BodyFormat::Json => self.array(field, values, |writer, value| writer.json_double(*value)),
        }
    }

    // Protobuf.

    fn tag(&mut self, field: Field, wire_type: u32) {
        self.varint((field.number << 3 | wire_type).into());
    }

    fn varint(&mut self, value: u64) {
        let (buffer, len) = varint(value);
        self.bytes.extend_from_slice(&buffer[..len]);
    }

    fn bytes_field(&mut self, field: Field, value: &[u8]) {
        self.tag(field, LENGTH);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// Writes a field whose length is known when its content is written: the content moves if the length needs more than a
    /// byte.
    fn with_length(&mut self, field: Field, write: impl FnOnce(&mut MessageWriter)) {
        self.tag(field, LENGTH);
        let start = self.bytes.len();
        self.bytes.push(0);
        write(self);
        let (buffer, len) = varint((self.bytes.len() - start - 1) as u64);
        self.bytes.splice(start..=start, buffer[..len].iter().copied());
    }

    // JSON.

    /// Writes a comma unless this is the first field or item.
    fn comma(&mut self) {
        if !matches!(self.bytes.last(), None | Some(b'{' | b'[')) {
            self.bytes.push(b',');
        }
    }

    fn key(&mut self, field: Field) {
        self.comma();
        self.print(format_args!("\"{}\":", field.name));
    }

    fn braces(&mut self, write: impl FnOnce(&mut MessageWriter)) {
        self.bytes.push(b'{');
        write(self);
        self.bytes.push(b'}');
    }

    fn array<T>(&mut self, field: Field, values: &[T], write: impl Fn(&mut MessageWriter, &T)) {
        self.key(field);
        self.bytes.push(b'[');
        for value in values {
            self.comma();
            write(self, value);
        }
        self.bytes.push(b']');
    }

    /// Proto3's JSON has texts for what JSON has no numbers for.
    fn json_double(&mut self, value: f64) {
        if value.is_nan() {
            self.print(format_args!("\"NaN\""));
        } else if value.is_infinite() {
            self.print(format_args!("\"{}Infinity\"", if value < 0.0 { "-" } else { "" }));
        } else {
            // Rust prints the shortest number that is read as the same value, in the grammar of JSON.
            self.print(format_args!("{value:?}"));
        }
    }

    fn quoted(&mut self, text: &str) {
        self.bytes.push(b'"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
            self.bytes.extend_from_slice(&rest.as_bytes()[..at]);
            match rest.as_bytes()[at] {
                byte @ (b'"' | b'\\') => self.bytes.extend([b'\\', byte]),
                byte => self.print(format_args!("\\u{byte:04x}")),
            }
            rest = &rest[at + 1..];
        }
        self.bytes.extend_from_slice(rest.as_bytes());
        self.bytes.push(b'"');
    }

    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = BytesText(&mut self.bytes).write_fmt(text);
    }
}

/// Text that is appended to bytes.
struct BytesText<'a>(&'a mut Vec<u8>);

impl Write for BytesText<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Returns the bytes of a varint and their number.
fn varint(mut value: u64) -> ([u8; 10], usize) {
    let (mut buffer, mut len) = ([0; 10], 0);
    loop {
        buffer[len] = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return (buffer, len + 1);
        }
        buffer[len] |= 0x80;
        len += 1;
    }
}
