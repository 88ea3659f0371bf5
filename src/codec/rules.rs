//! What the protocol of a call, and the settings of its method, say about values beside the codec.
//!
//! The rules hold for a thread while it runs a call, since a handler decodes and encodes by itself. They are looked at
//! only where a value does not fit without them, so a value that does pays nothing for them.

use std::cell::Cell;

#[cfg(any(feature = "json", feature = "messagepack", feature = "gob"))]
use super::Codec;
use crate::config::MissingFields;
use crate::message::JsonDialect;

/// The rules of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ValueRules {
    /// What becomes of fields that a body lacks. `ByProtocol`: what the codec itself says, zero in gob and an error in
    /// the others.
    missing: MissingFields,
    /// JSON is written as protobuf's JSON mapping has it: NaN and infinities as text, unit as `{}`.
    is_proto_json: bool,
}

thread_local! {
    static RULES: Cell<ValueRules> = const {
        Cell::new(ValueRules { missing: MissingFields::ByProtocol, is_proto_json: false })
    };
}

impl ValueRules {
    /// The rules of a call in that dialect, where its method has that setting.
    pub(crate) fn of(dialect: JsonDialect, setting: MissingFields) -> ValueRules {
        let missing = match (setting, dialect) {
            (MissingFields::ByProtocol, JsonDialect::GoRpc | JsonDialect::Connect) => MissingFields::Zero,
            (setting, _) => setting,
        };
        ValueRules { missing, is_proto_json: dialect == JsonDialect::Connect }
    }

    /// The rules that hold on this thread.
    pub(crate) fn current() -> ValueRules {
        RULES.get()
    }

    /// Runs the function under these rules.
    pub(crate) fn apply<R>(self, run: impl FnOnce() -> R) -> R {
        /// Also when the function panics.
        struct Restore(ValueRules);
        impl Drop for Restore {
            fn drop(&mut self) {
                RULES.set(self.0);
            }
        }
        let before = RULES.get();
        if before == self {
            return run();
        }
        RULES.set(self);
        let _restore = Restore(before);
        run()
    }

    /// Whether a field that a body lacks is zero.
    #[cfg(any(feature = "json", feature = "messagepack", feature = "gob"))]
    pub(super) fn fills_zeros(self, codec: Codec) -> bool {
        match self.missing {
            MissingFields::ByProtocol => codec == Codec::Gob,
            MissingFields::Zero => true,
            MissingFields::Error => false,
        }
    }

    /// Whether JSON is written as protobuf's JSON mapping has it.
    #[cfg(any(feature = "json", feature = "messagepack"))]
    pub(super) fn is_proto_json(self) -> bool {
        self.is_proto_json
    }
}
