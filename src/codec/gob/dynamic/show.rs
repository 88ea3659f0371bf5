//! Reads a value into JSON, with the types on the wire alone.
//!
//! Values that the sender left out are shown, so a few bytes may expand to a large output: a struct of a thousand
//! fields of which none was sent, or a type that contains two of another that contains two. The output has a budget
//! that grows with the body.

use base64::Engine as _;
use serde_json::{Map, Number, Value};

use super::super::fault::GobFault;
use super::super::number::{FieldDeltas, GobReader};
use super::super::plan::{Collector, Plan};
use super::super::skip::{array_count, read_interface, read_single, skip_top};
use super::super::time;
use super::super::wire::{TypeIndex, TypeTable, WireType};
use super::moment::rfc3339;
use crate::codec::depth_max;

/// The output budget in bytes, approximately: for an empty body, for each byte of the body, and in total.
const BUDGET_MIN: usize = 1 << 20;
const BUDGET_PER_BYTE: usize = 64;
const BUDGET_MAX: usize = 256 << 20;
/// The cost of a value in addition to its text, in bytes.
const VALUE_BYTES: usize = 32;

/// Converts the value of a message (without its length); also returns the unread rest of `after`.
///
/// The types are defined by the messages in `definitions`; the value may continue in `after`.
pub(super) fn value_of<'b>(
    definitions: &[u8],
    payload: &'b [u8],
    after: &'b [u8],
) -> Result<(Value, &'b [u8]), GobFault> {
    let mut plan = Plan::of(definitions)?;
    let mut reader = GobReader::new(payload, after);
    let id = reader.id()?;
    let (mut at, holds_interfaces) = plan.root(id)?;
    if holds_interfaces {
        let mut collector = Collector::new(definitions)?;
        let mut first_pass = reader;
        skip_top(&mut first_pass, &mut collector, at, depth_max())?;
        let found = collector.found();
        if !found.is_empty() {
            plan = Plan::with(definitions, &found)?;
            at = plan.root(id)?.0;
        }
    }
    let body_bytes = payload.len() + after.len();
    let mut show = Show {
        reader,
        table: plan.table(),
        depth: 0,
        depth_max: depth_max(),
        open: Vec::new(),
        budget: body_bytes.saturating_mul(BUDGET_PER_BYTE).saturating_add(BUDGET_MIN).min(BUDGET_MAX),
    };
    let value = show.top(at)?;
    match show.reader.left().len() {
        0 => Ok((value, show.reader.after())),
        count => Err(GobFault::said(format_args!("{count} more bytes"))),
    }
}

struct Show<'b, 't> {
    reader: GobReader<'b>,
    table: &'t TypeTable,
    /// The number of containers around the current place: below `depth_max`.
    depth: usize,
    depth_max: usize,
    /// The structs around the current place, including those whose zero is being shown.
    open: Vec<TypeIndex>,
    /// The number of bytes that may still be shown.
    budget: usize,
}

impl<'b, 't> Show<'b, 't> {
    fn kind(&self, at: TypeIndex) -> &'t WireType {
        self.table.kind(at)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), GobFault> {
        self.budget = self
            .budget
            .checked_sub(bytes)
            .ok_or_else(|| GobFault::text("what it leaves out is too much to be shown"))?;
        Ok(())
    }

    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, GobFault>) -> Result<R, GobFault> {
        self.depth += 1;
        if self.depth >= self.depth_max {
            return Err(GobFault::TooDeep);
        }
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// Reads a value that is not inside a field or an element.
    fn top(&mut self, at: TypeIndex) -> Result<Value, GobFault> {
        if !matches!(self.kind(at), WireType::Struct(_)) {
            read_single(&mut self.reader)?;
        }
        self.value(at)
    }

    fn value(&mut self, at: TypeIndex) -> Result<Value, GobFault> {
        self.spend(VALUE_BYTES)?;
        let reader = &mut self.reader;
        Ok(match self.table.kind(at) {
            WireType::Undefined => return Err(GobFault::text("a value of a type that is never defined")),
            WireType::Bool => Value::Bool(reader.uint()? != 0),
            WireType::Int => reader.int()?.into(),
            WireType::Uint => reader.uint()?.into(),
            WireType::Float => float(reader.float()?),
            WireType::Bytes => base64(reader.bytes()?),
            WireType::String | WireType::OpaqueText => text(reader.bytes()?).into(),
            WireType::Complex => vec![float(reader.float()?), float(reader.float()?)].into(),
            WireType::Opaque { name } => opaque(name, reader.bytes()?),
            WireType::Array { elem, len } => {
                let count = array_count(reader, *len)?;
                self.list(count, *elem)?
            }
            WireType::Slice { elem } => {
                let count = reader.count()?;
                self.list(count, *elem)?
            }
            WireType::Map { key, elem } => self.inside(|show| show.map(*key, *elem))?,
            WireType::Struct(fields) => {
                self.open.push(at);
                let object = self.inside(|show| show.fields(fields))?;
                self.open.pop();
                object
            }
            WireType::Interface => self.inside(Show::interface)?,
        })
    }

    fn list(&mut self, count: usize, elem: TypeIndex) -> Result<Value, GobFault> {
        self.inside(|show| (0..count).map(|_| show.value(elem)).collect::<Result<Vec<_>, _>>())
            .map(Value::Array)
    }

    fn map(&mut self, key: TypeIndex, elem: TypeIndex) -> Result<Value, GobFault> {
        let count = self.reader.count()?;
        if !has_text(self.kind(key)) {
            let pair = |show: &mut Self| Ok(vec![show.value(key)?, show.value(elem)?].into());
            return (0..count).map(|_| pair(self)).collect::<Result<Vec<_>, _>>().map(Value::Array);
        }
        let mut object = Map::new();
        for _ in 0..count {
            let key = text(self.reader.bytes()?);
            object.insert(key, self.value(elem)?);
        }
        Ok(object.into())
    }

    fn fields(&mut self, fields: &'t [(Box<str>, TypeIndex)]) -> Result<Value, GobFault> {
        let mut object = Map::new();
        let (mut deltas, mut next) = (FieldDeltas::new(), 0);
        loop {
            let came = deltas.next(&mut self.reader, fields.len())?;
            for (name, at) in &fields[next..came.unwrap_or(fields.len())] {
                self.spend(name.len())?;
                let zero = self.zero(*at)?;
                object.insert(name.to_string(), zero);
            }
            let Some(field) = came else { return Ok(object.into()) };
            let (name, at) = &fields[field];
            self.spend(name.len())?;
            let value = self.value(*at)?;
            object.insert(name.to_string(), value);
            next = field + 1;
        }
    }

    fn interface(&mut self) -> Result<Value, GobFault> {
        let mut table = self.table;
        let Some((name, at)) = read_interface(&mut self.reader, &mut table)? else { return Ok(Value::Null) };
        let value = self.top(at)?;
        Ok(Map::from_iter([("$type".to_owned(), name.into()), ("value".to_owned(), value)]).into())
    }

    /// Returns the zero of a value that was left out.
    fn zero(&mut self, at: TypeIndex) -> Result<Value, GobFault> {
        self.spend(VALUE_BYTES)?;
        Ok(match self.kind(at) {
            WireType::Undefined => return Err(GobFault::text("a value of a type that is never defined")),
            WireType::Bool => Value::Bool(false),
            WireType::Int | WireType::Uint => 0.into(),
            WireType::Float => float(0.0),
            WireType::Complex => vec![float(0.0), float(0.0)].into(),
            WireType::Bytes | WireType::String | WireType::OpaqueText => "".into(),
            WireType::Opaque { name } if **name == *time::WIRE_NAME => rfc3339(&time::TimeParts::ZERO).into(),
            WireType::Opaque { .. } => "".into(),
            WireType::Interface => Value::Null,
            WireType::Slice { .. } => Value::Array(Vec::new()),
            WireType::Map { key, .. } if has_text(self.kind(*key)) => Map::new().into(),
            WireType::Map { .. } => Value::Array(Vec::new()),
            WireType::Array { elem, len } => self
                .inside(|show| (0..*len).map(|_| show.zero(*elem)).collect::<Result<Vec<_>, _>>())
                .map(Value::Array)?,
            // The struct contains itself: in Go through a pointer, which is nil.
            WireType::Struct(_) if self.open.contains(&at) => Value::Null,
            WireType::Struct(fields) => {
                self.open.push(at);
                let object = self.inside(|show| show.zeros(fields))?;
                self.open.pop();
                object.into()
            }
        })
    }

    fn zeros(&mut self, fields: &'t [(Box<str>, TypeIndex)]) -> Result<Map<String, Value>, GobFault> {
        let mut object = Map::new();
        for (name, at) in fields {
            self.spend(name.len())?;
            let zero = self.zero(*at)?;
            object.insert(name.to_string(), zero);
        }
        Ok(object)
    }
}

fn has_text(kind: &WireType) -> bool {
    matches!(kind, WireType::String | WireType::OpaqueText)
}

/// Converts a number; Go's name replaces a number that JSON cannot represent.
fn float(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "+Inf".into(),
        None => "-Inf".into(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn base64(bytes: &[u8]) -> Value {
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

fn opaque(name: &str, bytes: &[u8]) -> Value {
    match time::read(bytes) {
        Ok(moment) if name == time::WIRE_NAME => rfc3339(&moment).into(),
        _ => base64(bytes),
    }
}
