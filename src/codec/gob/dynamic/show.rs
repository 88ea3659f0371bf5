//! Reads a value by the types on the wire alone, into JSON.
//!
//! What a sender left out is shown, so a few bytes may stand for a great deal: a struct of a thousand fields, none of
//! them sent; a type that holds two of another that holds two. What is shown has a budget that grows with the body.

use base64::Engine as _;
use serde_json::{Map, Number, Value};

use super::super::fault::Fault;
use super::super::number::{Deltas, Reader};
use super::super::plan::{Collector, Plan};
use super::super::skip::{array_count, read_interface, read_single, skip_top};
use super::super::time;
use super::super::wire::{At, Kind, Table};
use super::moment::rfc3339;
use crate::codec::depth_max;

/// What may be shown of an empty body, and for each byte of it, and in all: in bytes, roughly.
const BUDGET_MIN: usize = 1 << 20;
const BUDGET_PER_BYTE: usize = 64;
const BUDGET_MAX: usize = 256 << 20;
/// What a value costs, beside its text.
const VALUE_BYTES: usize = 32;

/// The value of a message (without its length), whose types the definition messages define; `after` goes on with it.
/// Also gives what is left of that.
pub(super) fn value_of<'b>(
    definitions: &[u8],
    payload: &'b [u8],
    after: &'b [u8],
) -> Result<(Value, &'b [u8]), Fault> {
    let mut plan = Plan::of(definitions)?;
    let mut reader = Reader::new(payload, after);
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
        count => Err(Fault::said(format_args!("{count} more bytes"))),
    }
}

struct Show<'b, 't> {
    reader: Reader<'b>,
    table: &'t Table,
    /// Containers around the place: below `depth_max`.
    depth: usize,
    depth_max: usize,
    /// Structs around the place, those of which a zero is being shown among them.
    open: Vec<At>,
    /// Bytes that may still be shown.
    budget: usize,
}

impl<'b, 't> Show<'b, 't> {
    fn kind(&self, at: At) -> &'t Kind {
        self.table.kind(at)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.budget = self
            .budget
            .checked_sub(bytes)
            .ok_or_else(|| Fault::text("what it leaves out is too much to be shown"))?;
        Ok(())
    }

    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, Fault>) -> Result<R, Fault> {
        self.depth += 1;
        if self.depth >= self.depth_max {
            return Err(Fault::TooDeep);
        }
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// A value that has no field or element around it.
    fn top(&mut self, at: At) -> Result<Value, Fault> {
        if !matches!(self.kind(at), Kind::Struct(_)) {
            read_single(&mut self.reader)?;
        }
        self.value(at)
    }

    fn value(&mut self, at: At) -> Result<Value, Fault> {
        self.spend(VALUE_BYTES)?;
        let reader = &mut self.reader;
        Ok(match self.table.kind(at) {
            Kind::Undefined => return Err(Fault::text("a value of a type that is never defined")),
            Kind::Bool => Value::Bool(reader.uint()? != 0),
            Kind::Int => reader.int()?.into(),
            Kind::Uint => reader.uint()?.into(),
            Kind::Float => float(reader.float()?),
            Kind::Bytes => base64(reader.bytes()?),
            Kind::String | Kind::OpaqueText => text(reader.bytes()?).into(),
            Kind::Complex => vec![float(reader.float()?), float(reader.float()?)].into(),
            Kind::Opaque { name } => opaque(name, reader.bytes()?),
            Kind::Array { elem, len } => {
                let count = array_count(reader, *len)?;
                self.list(count, *elem)?
            }
            Kind::Slice { elem } => {
                let count = reader.count()?;
                self.list(count, *elem)?
            }
            Kind::Map { key, elem } => self.inside(|show| show.map(*key, *elem))?,
            Kind::Struct(fields) => {
                self.open.push(at);
                let object = self.inside(|show| show.fields(fields))?;
                self.open.pop();
                object
            }
            Kind::Interface => self.inside(Show::interface)?,
        })
    }

    fn list(&mut self, count: usize, elem: At) -> Result<Value, Fault> {
        self.inside(|show| (0..count).map(|_| show.value(elem)).collect::<Result<Vec<_>, _>>())
            .map(Value::Array)
    }

    fn map(&mut self, key: At, elem: At) -> Result<Value, Fault> {
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

    fn fields(&mut self, fields: &'t [(Box<str>, At)]) -> Result<Value, Fault> {
        let mut object = Map::new();
        let (mut deltas, mut next) = (Deltas::new(), 0);
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

    fn interface(&mut self) -> Result<Value, Fault> {
        let mut table = self.table;
        let Some((name, at)) = read_interface(&mut self.reader, &mut table)? else { return Ok(Value::Null) };
        let value = self.top(at)?;
        Ok(Map::from_iter([("$type".to_owned(), name.into()), ("value".to_owned(), value)]).into())
    }

    /// What was left out.
    fn zero(&mut self, at: At) -> Result<Value, Fault> {
        self.spend(VALUE_BYTES)?;
        Ok(match self.kind(at) {
            Kind::Undefined => return Err(Fault::text("a value of a type that is never defined")),
            Kind::Bool => Value::Bool(false),
            Kind::Int | Kind::Uint => 0.into(),
            Kind::Float => float(0.0),
            Kind::Complex => vec![float(0.0), float(0.0)].into(),
            Kind::Bytes | Kind::String | Kind::OpaqueText => "".into(),
            Kind::Opaque { name } if **name == *time::WIRE_NAME => rfc3339(&time::Parts::ZERO).into(),
            Kind::Opaque { .. } => "".into(),
            Kind::Interface => Value::Null,
            Kind::Slice { .. } => Value::Array(Vec::new()),
            Kind::Map { key, .. } if has_text(self.kind(*key)) => Map::new().into(),
            Kind::Map { .. } => Value::Array(Vec::new()),
            Kind::Array { elem, len } => self
                .inside(|show| (0..*len).map(|_| show.zero(*elem)).collect::<Result<Vec<_>, _>>())
                .map(Value::Array)?,
            // It holds itself: in Go through a pointer, which is nil.
            Kind::Struct(_) if self.open.contains(&at) => Value::Null,
            Kind::Struct(fields) => {
                self.open.push(at);
                let object = self.inside(|show| show.zeros(fields))?;
                self.open.pop();
                object.into()
            }
        })
    }

    fn zeros(&mut self, fields: &'t [(Box<str>, At)]) -> Result<Map<String, Value>, Fault> {
        let mut object = Map::new();
        for (name, at) in fields {
            self.spend(name.len())?;
            let zero = self.zero(*at)?;
            object.insert(name.to_string(), zero);
        }
        Ok(object)
    }
}

fn has_text(kind: &Kind) -> bool {
    matches!(kind, Kind::String | Kind::OpaqueText)
}

/// What JSON has no number for goes by Go's name for it.
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
