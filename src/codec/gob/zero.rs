//! How the zeros of `codec/zero.rs` are handed into the reading of a gob body.

use serde::de::Visitor;

use super::fault::Fault;
use super::run::Run;
use super::time;
use super::wire::Kind;
use crate::codec::zero::{UntypedZero, ZeroContext};

pub(super) use crate::codec::zero::Zero;

impl<'de> ZeroContext<'de> for Run<'de, '_> {
    type Error = Fault;
    const IS_HUMAN_READABLE: bool = false;
    const SPECIAL: &'static str = time::NAME;

    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, Fault>) -> Result<R, Fault> {
        Run::inside(self, read)
    }

    fn through<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, Fault>) -> Result<R, Fault> {
        Run::through(self, read)
    }

    fn missing_field(&mut self, error: &mut Fault, fields: &[&'static str]) -> Option<&'static str> {
        let Fault::MissingField(name) = *error else { return None };
        *error = Fault::said(Fault::MissingField(name));
        fields.contains(&name).then_some(name)
    }

    fn set_learnt(&mut self) {
        self.learnt = true;
    }

    fn without_zero(&mut self, field: &str, error: Fault) -> Fault {
        if self.learnt || self.too_deep {
            return error;
        }
        Fault::without_zero(field, &error)
    }

    fn untyped(&self, kind: Option<u32>) -> UntypedZero {
        match kind.map(|at| self.table().kind(at)) {
            Some(Kind::Bool) => UntypedZero::Bool,
            Some(Kind::Int) => UntypedZero::Int,
            Some(Kind::Uint) => UntypedZero::Uint,
            Some(Kind::Float) => UntypedZero::Float,
            Some(Kind::String | Kind::OpaqueText) => UntypedZero::Text,
            Some(Kind::Bytes) => UntypedZero::Bytes,
            Some(Kind::Slice { .. }) => UntypedZero::List,
            Some(Kind::Map { .. }) => UntypedZero::Map,
            // Nil pointers, and what the sender does not know.
            _ => UntypedZero::Unit,
        }
    }

    fn special<V: Visitor<'de>>(visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(time::Parts::ZERO.into_access())
    }
}
