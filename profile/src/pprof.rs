//! Writes profiles in pprof's format: profile.proto of github.com/google/pprof, compressed by gzip.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::symbols::{Mapping, Symbols, mappings};

/// The unit of a kind of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Nanoseconds,
    Bytes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Nanoseconds => "nanoseconds",
            Unit::Bytes => "bytes",
        }
    }
}

/// A message of protobuf that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Writes a number; zero is the default and is left out.
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Message)) {
        let mut message = Message::default();
        fill(&mut message);
        self.bytes(field, &message.0);
    }

    fn packed(&mut self, field: u32, values: impl Iterator<Item = u64>) {
        let mut packed = Message::default();
        values.for_each(|value| packed.varint(value));
        self.bytes(field, &packed.0);
    }
}

/// The table of texts; the first is empty.
struct Texts {
    indices: HashMap<String, u64>,
    texts: Vec<String>,
}

impl Texts {
    fn index(&mut self, text: &str) -> u64 {
        if let Some(index) = self.indices.get(text) {
            return *index;
        }
        let index = self.texts.len() as u64;
        self.indices.insert(text.to_owned(), index);
        self.texts.push(text.to_owned());
        index
    }
}

/// A profile that is being written.
pub(crate) struct Pprof {
    out: Message,
    texts: Texts,
    functions: HashMap<(String, String), u64>,
    locations: HashMap<usize, u64>,
    symbols: Symbols,
    mappings: Vec<Mapping>,
}

impl Pprof {
    /// Begins a profile with these kinds of values, of which the one at `main` is shown first.
    pub(crate) fn new(kinds: &[(&str, Unit)], main: usize) -> Pprof {
        let texts = Texts { indices: HashMap::from([(String::new(), 0)]), texts: vec![String::new()] };
        let mut pprof = Pprof {
            out: Message::default(),
            texts,
            functions: HashMap::new(),
            locations: HashMap::new(),
            symbols: Symbols::default(),
            mappings: mappings(),
        };
        for (kind, unit) in kinds {
            pprof.value_type(1, kind, *unit);
        }
        let main = pprof.texts.index(kinds[main].0);
        pprof.out.number(14, main);
        pprof.write_mappings();
        pprof
    }

    fn value_type(&mut self, field: u32, kind: &str, unit: Unit) {
        let (kind, unit) = (self.texts.index(kind), self.texts.index(unit.name()));
        self.out.message(field, |message| {
            message.number(1, kind);
            message.number(2, unit);
        });
    }

    /// Names are in the profile already: pprof need not look for them.
    fn write_mappings(&mut self) {
        for (at, mapping) in self.mappings.iter().enumerate() {
            let file = self.texts.index(&mapping.file);
            self.out.message(3, |message| {
                message.number(1, at as u64 + 1);
                message.number(2, mapping.start);
                message.number(3, mapping.end);
                message.number(4, mapping.offset);
                message.number(5, file);
                (7..=10).for_each(|known| message.number(known, 1));
            });
        }
    }

    pub(crate) fn set_period(&mut self, kind: &str, unit: Unit, period: u64) {
        self.value_type(11, kind, unit);
        self.out.number(12, period);
    }

    pub(crate) fn set_times(&mut self, began: SystemTime, took: Duration) {
        let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.out.number(9, began.as_nanos() as u64);
        self.out.number(10, took.as_nanos() as u64);
    }

    pub(crate) fn comment(&mut self, text: &str) {
        let index = self.texts.index(text);
        self.out.number(13, index);
    }

    /// Adds a stack (the innermost first), its values in the order of the kinds, and labels.
    pub(crate) fn sample(&mut self, stack: &[usize], values: &[u64], labels: &[(&str, &str)]) {
        let locations: Vec<u64> =
            stack.iter().enumerate().map(|(at, address)| self.location(*address, at > 0)).collect();
        let labels: Vec<(u64, u64)> =
            labels.iter().map(|(key, value)| (self.texts.index(key), self.texts.index(value))).collect();
        self.out.message(2, |message| {
            message.packed(1, locations.into_iter());
            message.packed(2, values.iter().copied());
            for (key, value) in labels {
                message.message(3, |label| {
                    label.number(1, key);
                    label.number(2, value);
                });
            }
        });
    }

    fn location(&mut self, address: usize, is_return: bool) -> u64 {
        if let Some(id) = self.locations.get(&address) {
            return *id;
        }
        let id = self.locations.len() as u64 + 1;
        self.locations.insert(address, id);
        let frames = self.symbols.of(address, is_return).to_vec();
        let lines: Vec<(u64, u64)> = frames
            .iter()
            .map(|frame| (self.function(&frame.function, &frame.file), frame.line.into()))
            .collect();
        let contains = |mapping: &Mapping| (mapping.start..mapping.end).contains(&(address as u64));
        let mapping = self.mappings.iter().position(contains).map_or(0, |at| at as u64 + 1);
        self.out.message(4, |message| {
            message.number(1, id);
            message.number(2, mapping);
            message.number(3, address as u64);
            for (function, line) in lines {
                message.message(4, |message| {
                    message.number(1, function);
                    message.number(2, line);
                });
            }
        });
        id
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (name.to_owned(), file.to_owned());
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        let id = self.functions.len() as u64 + 1;
        self.functions.insert(key, id);
        let (name, file) = (self.texts.index(name), self.texts.index(file));
        self.out.message(5, |message| {
            message.number(1, id);
            message.number(2, name);
            message.number(3, name);
            message.number(4, file);
        });
        id
    }

    /// Returns the profile, compressed.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        for text in &self.texts.texts {
            self.out.bytes(6, text.as_bytes());
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&self.out.0).expect("a Vec takes all bytes");
        gzip.finish().expect("a Vec takes all bytes")
    }
}
