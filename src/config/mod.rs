//! The configuration: plain structs with public fields and safe defaults.
//!
//! `server.rs` has the fields of a server's configuration and their meaning; `limits.rs` has the bounds, of which bare
//! reactors and clients use some. Nothing here opens a socket or starts a thread, and nothing is checked until
//! `Config::validate` turns a `Config` into a `ValidConfig`, which is valid by construction. `keys.rs` is the table
//! of names and ranges; `layers.rs` reads file, environment and flags, and `section.rs` has the sections of a program's
//! own.

#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
mod keys;
mod limits;
#[cfg(feature = "server")]
mod networks;
mod observe;
#[cfg(feature = "server")]
mod profile;
#[cfg(feature = "server")]
mod proxies;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod socket_mode;
#[cfg(feature = "server")]
mod tls;
#[cfg(feature = "server")]
mod valid;
#[cfg(feature = "server")]
mod value;

#[cfg(feature = "config-file")]
mod changes;
#[cfg(feature = "config-file")]
mod file;
#[cfg(feature = "config-file")]
mod layers;
#[cfg(feature = "config-file")]
mod nearest;
#[cfg(feature = "config-file")]
mod print;
#[cfg(feature = "config-file")]
mod schema;
#[cfg(feature = "config-file")]
mod section;
#[cfg(feature = "config-file")]
mod warning;

pub use limits::Limits;
#[cfg(feature = "server")]
pub(crate) use networks::Networks;
pub use observe::{AdminConfig, OtlpConfig, TraceConfig};
#[cfg(feature = "server")]
pub use profile::Profile;
#[cfg(feature = "server")]
pub use proxies::{ForwardedField, ProxyProtocolConfig};
#[cfg(feature = "server")]
pub use server::*;
#[cfg(feature = "server")]
pub use tls::{ClientAuth, TlsConfig, TlsMode};

/// How a missing field of an argument is handled, or a null whose type has no null.
///
/// A serde default (`#[serde(default)]`, `Option`) applies in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissingFields {
    /// Zero in protocols whose clients leave out zero values: gob, JSON-RPC 1.0, and requests with
    /// `Connect-Protocol-Version`. An error in plain JSON over HTTP, JSON-RPC 2.0, and native JSON and MessagePack.
    #[default]
    ByProtocol,
    /// Zero in every protocol: 0, false, an empty text, list or map, a struct of zeros, the first variant of an enum
    /// without data. A type without a zero value (an enum with data, a NonZero) is an error.
    Zero,
    /// An error in every protocol. In gob, which does not distinguish a zero from a missing field, only a field that
    /// the sender's type does not have.
    Error,
}

impl MissingFields {
    /// The names in a config file, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["by_protocol", "zero", "error"];

    /// Returns the name used in a config file.
    pub fn name(self) -> &'static str {
        match self {
            MissingFields::ByProtocol => "by_protocol",
            MissingFields::Zero => "zero",
            MissingFields::Error => "error",
        }
    }

    /// Returns the rule with that name, if there is one.
    pub fn from_name(name: &str) -> Option<MissingFields> {
        let all = [MissingFields::ByProtocol, MissingFields::Zero, MissingFields::Error];
        all.into_iter().find(|rule| rule.name() == name)
    }
}

/// When finished replies are written: at the end of the turn by default, earlier or later as these fields set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flush {
    /// A write queue that exceeds this within a turn is flushed at once. Default 0: 80 % of
    /// [`Limits::write_queue_high_bytes`], which it may not exceed. Too small: many small writes instead of one.
    /// Equal to the high mark: reading stops before the first write is tried.
    pub high_mark_bytes: usize,

    /// Microseconds that a reply may wait for further replies after its turn. Default 0: it is written when its turn
    /// ends. Too large: every single reply is late by that much.
    pub delay_us: u64,
}

/// The bounds on the work of one turn of the loop, so that one busy peer cannot delay all others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnBudget {
    /// Bytes read from one connection in one turn; the rest is read in the next turn. Default 256 KiB. Too small:
    /// large frames take many turns and reads. Too large: a fast sender delays all other peers.
    pub read_bytes_max: usize,

    /// Connections accepted in one turn. Default 64. Too small: a burst of clients waits in the kernel's backlog,
    /// which drops some when full. Too large: a burst delays the answers on open connections.
    pub accepts_max: usize,

    /// Messages decoded from one connection in one turn. Default 1024. Too small: deep pipelines break into small
    /// batches. Too large: one peer that pipelines tiny requests holds the loop.
    pub messages_max: usize,
}

impl Default for TurnBudget {
    fn default() -> Self {
        TurnBudget { read_bytes_max: 256 << 10, accepts_max: 64, messages_max: 1024 }
    }
}
