//! The wire of a client's connection: which protocol it speaks is known from its address.

use crate::codec::Codec;
use crate::message::{Message, Outgoing};
use crate::wire::{Decoded, Native, Out, Wire};

/// A protocol that clients speak, by the name that stands in front of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// coreloop's own frames: `native:`, or nothing.
    #[default]
    Native,
}

impl Scheme {
    /// Every one that this build speaks.
    pub const ALL: &'static [Scheme] = &[Scheme::Native];

    /// The name, as it stands in front of an address.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Native => "native",
        }
    }

    /// Parts an address from the protocol in front of it.
    ///
    /// ```
    /// use coreloop::wire::Scheme;
    /// assert_eq!(Scheme::split("native:localhost:1"), (Scheme::Native, "localhost:1"));
    /// // A host may have the name of a protocol.
    /// assert_eq!(Scheme::split("native:80"), (Scheme::Native, "native:80"));
    /// ```
    pub fn split(address: &str) -> (Scheme, &str) {
        for scheme in Scheme::ALL {
            let rest = address.strip_prefix(scheme.name()).and_then(|rest| rest.strip_prefix(':'));
            if let Some(rest) = rest.filter(|rest| rest.contains([':', '/'])) {
                return (*scheme, rest);
            }
        }
        (Scheme::Native, address)
    }

    /// The codec of every body, where the protocol has but one.
    pub fn codec(self) -> Option<Codec> {
        match self {
            Scheme::Native => None,
        }
    }

    /// Whether it can ask a server for a sign of life.
    pub fn can_ping(self) -> bool {
        self == Scheme::Native
    }
}

/// A client's connection.
#[derive(Debug)]
pub enum Asks {
    /// The native protocol.
    Native(Native),
}

impl Asks {
    /// A connection that has said nothing yet, to that authority (the address without its scheme).
    pub fn new(scheme: Scheme, authority: &str, frame_bytes_max: usize) -> Asks {
        let _ = authority;
        match scheme {
            Scheme::Native => Asks::Native(Native::client(frame_bytes_max)),
        }
    }
}

impl Wire for Asks {
    type Message = Message;
    type Outgoing<'a> = Outgoing<'a>;

    fn decode(&mut self, input: &[u8]) -> Decoded<Message> {
        match self {
            Asks::Native(wire) => wire.decode(input),
        }
    }

    fn encode(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) {
        match self {
            Asks::Native(wire) => wire.encode(outgoing, out),
        }
    }

    fn encode_drain(&mut self, out: &mut Out<'_>) {
        match self {
            Asks::Native(wire) => wire.encode_drain(out),
        }
    }

    fn is_inside_message(&self) -> bool {
        match self {
            Asks::Native(wire) => wire.is_inside_message(),
        }
    }

    fn aside(&self) -> &[u8] {
        match self {
            Asks::Native(wire) => wire.aside(),
        }
    }
}
