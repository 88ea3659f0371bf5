//! Inserts the zeros of `codec/zero.rs` into the reading of a gob body.

use serde::de::Visitor;

use super::fault::GobFault;
use super::run::DecodeRun;
use super::time;
use super::wire::WireType;
use crate::codec::zero::{UntypedZero, ZeroContext};

pub(super) use crate::codec::zero::Zero;

impl<'de> ZeroContext<'de> for DecodeRun<'de, '_> {
    type Error = GobFault;
    const IS_HUMAN_READABLE: bool = false;
    const SPECIAL: &'static str = time::NAME;

    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, GobFault>) -> Result<R, GobFault> {
        DecodeRun::inside(self, read)
    }

    fn through<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, GobFault>) -> Result<R, GobFault> {
        DecodeRun::through(self, read)
    }

    fn missing_field(&mut self, error: &mut GobFault, fields: &[&'static str]) -> Option<&'static str> {
        let GobFault::MissingField(name) = *error else { return None };
        *error = GobFault::said(GobFault::MissingField(name));
        fields.contains(&name).then_some(name)
    }

    fn set_learnt(&mut self) {
        self.learnt = true;
    }

    fn without_zero(&mut self, field: &str, error: GobFault) -> GobFault {
        if self.learnt || self.too_deep {
            return error;
        }
        GobFault::without_zero(field, &error)
    }

    fn untyped(&self, kind: Option<u32>) -> UntypedZero {
        match kind.map(|at| self.table().kind(at)) {
            Some(WireType::Bool) => UntypedZero::Bool,
            Some(WireType::Int) => UntypedZero::Int,
            Some(WireType::Uint) => UntypedZero::Uint,
            Some(WireType::Float) => UntypedZero::Float,
            Some(WireType::String | WireType::OpaqueText) => UntypedZero::Text,
            Some(WireType::Bytes) => UntypedZero::Bytes,
            Some(WireType::Slice { .. }) => UntypedZero::List,
            Some(WireType::Map { .. }) => UntypedZero::Map,
            // Nil pointers, and fields that the sender does not have.
            _ => UntypedZero::Unit,
        }
    }

    fn special<V: Visitor<'de>>(visitor: V) -> Result<V::Value, GobFault> {
        visitor.visit_seq(time::TimeParts::ZERO.into_access())
    }
}
