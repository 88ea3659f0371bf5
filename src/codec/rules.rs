//! The rules for values that come from the protocol of a call and the settings of its method, not from the codec.
//!
//! The rules apply to a thread while it runs a call, since the handler decodes and encodes. They are read only where
//! a value is not accepted without them, so a value that is accepted costs nothing.

use std::cell::Cell;

#[cfg(any(feature = "json", feature = "messagepack", feature = "gob"))]
use super::Codec;
use crate::config::MissingFields;
use crate::message::JsonDialect;

/// The rules of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ValueRules {
    /// The handling of fields that a body lacks. `ByProtocol` selects the default of the codec: zero in gob, an error
    /// in the others.
    missing: MissingFields,
    /// Whether JSON is written as in protobuf's JSON mapping: NaN and infinities as text, unit as `{}`.
    is_proto_json: bool,
    /// Whether the body is the list of JSON-RPC's params: several arguments by position.
    has_positions: bool,
}

thread_local! {
    static RULES: Cell<ValueRules> = const {
        Cell::new(ValueRules { missing: MissingFields::ByProtocol, is_proto_json: false, has_positions: false })
    };
}

impl ValueRules {
    /// Returns the rules of a call in this dialect, for a method with this setting.
    pub(crate) fn of(dialect: JsonDialect, setting: MissingFields) -> ValueRules {
        let missing = match (setting, dialect) {
            (
                MissingFields::ByProtocol,
                JsonDialect::GoRpc | JsonDialect::GoRpcPositions | JsonDialect::Connect,
            ) => MissingFields::Zero,
            (setting, _) => setting,
        };
        ValueRules {
            missing,
            is_proto_json: dialect == JsonDialect::Connect,
            has_positions: matches!(dialect, JsonDialect::Positions | JsonDialect::GoRpcPositions),
        }
    }

    /// Returns the rules that apply to this thread.
    pub(crate) fn current() -> ValueRules {
        RULES.get()
    }

    /// Runs the function under these rules.
    pub(crate) fn apply<R>(self, run: impl FnOnce() -> R) -> R {
        /// Restores the previous rules, also when the function panics.
        struct RestoreRules(ValueRules);
        impl Drop for RestoreRules {
            fn drop(&mut self) {
                RULES.set(self.0);
            }
        }
        let before = RULES.get();
        if before == self {
            return run();
        }
        RULES.set(self);
        let _restore = RestoreRules(before);
        run()
    }

    /// Returns whether a field that a body lacks is set to zero.
    #[cfg(any(feature = "json", feature = "messagepack", feature = "gob"))]
    pub(super) fn fills_zeros(self, codec: Codec) -> bool {
        match self.missing {
            MissingFields::ByProtocol => codec == Codec::Gob,
            MissingFields::Zero => true,
            MissingFields::Error => false,
        }
    }

    /// Returns whether the body has several arguments by position.
    #[cfg(feature = "json")]
    pub(super) fn has_positions(self) -> bool {
        self.has_positions
    }

    /// Returns whether JSON is written as in protobuf's JSON mapping.
    #[cfg(any(feature = "json", feature = "messagepack"))]
    pub(super) fn is_proto_json(self) -> bool {
        self.is_proto_json
    }
}
