//! Protocols that a program adds to its server's ports.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::server_protocol::STARTS;
use super::sniff::{Sniffed, sniff};
use super::{DrainNotice, Out, Protocol, Received, ServerContext, StreamSupport};
use crate::config::Limits;
use crate::message::{Message, Outgoing};

/// A server's end of a protocol, as an object: what [`Protocol`] is for a protocol whose messages are [`Message`] and
/// [`Outgoing`]. It is implemented for each of those.
pub trait ServerEnd: Send {
    /// As [`Protocol::receive`].
    fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message>;
    /// As [`Protocol::send`].
    fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>);
    /// As [`Protocol::send_drain`].
    fn send_drain(&mut self, out: &mut Out<'_>);
    /// As [`Protocol::send_last`].
    fn send_last(&mut self, out: &mut Out<'_>);
    /// As [`Protocol::send_late`].
    fn send_late(&mut self, out: &mut Out<'_>);
    /// As [`Protocol::on_time`].
    fn on_time(&mut self, now: Instant, limits: &Limits, out: &mut Out<'_>);
    /// As [`Protocol::next_time`].
    fn next_time(&self) -> Option<Instant>;
    /// As [`Protocol::is_inside_message`].
    fn is_inside_message(&self) -> bool;
    /// As [`Protocol::is_in_head`].
    fn is_in_head(&self) -> bool;
    /// As [`Protocol::scratch`].
    fn scratch(&self) -> &[u8];
    /// As [`Protocol::held_bytes`].
    fn held_bytes(&self) -> usize;
    /// As [`Protocol::on_end`].
    fn on_end(&mut self) -> bool;
    /// As [`Protocol::is_end_of_reading`].
    fn is_end_of_reading(&self) -> bool;
    /// As [`Protocol::drain_notice`].
    fn drain_notice(&self) -> DrainNotice;
    /// As [`Protocol::is_lingering`].
    fn is_lingering(&self) -> bool;
    /// As [`Protocol::stream_support`].
    fn stream_support(&self) -> StreamSupport;
    /// As [`Protocol::has_ended`].
    fn has_ended(&self) -> bool;
}

/// Implements [`ServerEnd`] by the functions of [`Protocol`] with the same names.
macro_rules! server_end {
    ($(fn $name:ident(&self) -> $result:ty;)* $(mut fn $mut_name:ident(&mut self $(, $arg:ident: $ty:ty)*) -> $mut_result:ty;)*) => {
        impl<P: for<'a> Protocol<Message = Message, Outgoing<'a> = Outgoing<'a>> + Send> ServerEnd for P {
            $(fn $name(&self) -> $result {
                Protocol::$name(self)
            })*
            $(fn $mut_name(&mut self $(, $arg: $ty)*) -> $mut_result {
                Protocol::$mut_name(self $(, $arg)*)
            })*
        }
    };
}

server_end! {
    fn next_time(&self) -> Option<Instant>;
    fn is_inside_message(&self) -> bool;
    fn is_in_head(&self) -> bool;
    fn scratch(&self) -> &[u8];
    fn held_bytes(&self) -> usize;
    fn is_end_of_reading(&self) -> bool;
    fn drain_notice(&self) -> DrainNotice;
    fn is_lingering(&self) -> bool;
    fn stream_support(&self) -> StreamSupport;
    fn has_ended(&self) -> bool;
    mut fn receive(&mut self, input: &[u8], out: &mut Out<'_>) -> Received<Message>;
    mut fn send(&mut self, outgoing: Outgoing<'_>, out: &mut Out<'_>) -> ();
    mut fn send_drain(&mut self, out: &mut Out<'_>) -> ();
    mut fn send_last(&mut self, out: &mut Out<'_>) -> ();
    mut fn send_late(&mut self, out: &mut Out<'_>) -> ();
    mut fn on_time(&mut self, now: Instant, limits: &Limits, out: &mut Out<'_>) -> ();
    mut fn on_end(&mut self) -> bool;
}

impl fmt::Debug for dyn ServerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerEnd")
    }
}

type MakeEnd = Box<dyn Fn(&Arc<ServerContext>) -> Box<dyn ServerEnd> + Send + Sync>;

/// A protocol that a program adds to its server's ports
/// ([`ServerBuilder::protocol`](crate::server::ServerBuilder::protocol)): it is served beside those of this crate,
/// recognized by its first bytes.
pub struct AddedProtocol {
    name: &'static str,
    starts: &'static [&'static [u8]],
    make: MakeEnd,
}

impl AddedProtocol {
    /// Creates the protocol of that name. A connection whose first bytes are one of `starts` gets the end that `make`
    /// creates, whose first input begins with these bytes.
    pub fn new<P>(
        name: &'static str,
        starts: &'static [&'static [u8]],
        make: impl Fn(&Arc<ServerContext>) -> P + Send + Sync + 'static,
    ) -> AddedProtocol
    where
        P: for<'a> Protocol<Message = Message, Outgoing<'a> = Outgoing<'a>> + Send + 'static,
    {
        AddedProtocol { name, starts, make: Box::new(move |context| Box::new(make(context))) }
    }
}

impl AddedProtocol {
    pub(super) fn make(&self, context: &Arc<ServerContext>) -> Box<dyn ServerEnd> {
        (self.make)(context)
    }
}

impl fmt::Debug for AddedProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedProtocol").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The result of looking at the first bytes.
pub(super) enum FoundAdded<'a> {
    /// The bytes are of this protocol.
    Is(&'a AddedProtocol),
    /// More bytes may decide.
    NeedMore,
    /// The bytes are of none of these protocols.
    None,
}

/// The protocols that a program has added to a server.
#[derive(Debug, Default)]
pub struct AddedProtocols(Vec<AddedProtocol>);

impl AddedProtocols {
    /// Adds a protocol.
    ///
    /// # Errors
    ///
    /// It has no first bytes, or a connection could begin with its first bytes and those of another protocol.
    pub fn add(&mut self, protocol: AddedProtocol) -> Result<(), String> {
        let AddedProtocol { name, starts, .. } = &protocol;
        if starts.iter().any(|start| start.is_empty()) || starts.is_empty() {
            return Err(format!("the protocol {name} has no first bytes by which it is recognized"));
        }
        let added = self.0.iter().flat_map(|other| other.starts.iter().map(|start| (*start, other.name)));
        let known = STARTS.iter().map(|(start, id)| (*start, id.name()));
        for (other_start, other) in added.chain(known) {
            for start in *starts {
                if start.starts_with(other_start) || other_start.starts_with(start) {
                    let (start, other_start) = (start.escape_ascii(), other_start.escape_ascii());
                    return Err(format!(
                        "the first bytes \"{start}\" of the protocol {name} overlap with \"{other_start}\" of {other}"
                    ));
                }
            }
        }
        if let Some(start) = starts.iter().find(|start| matches!(sniff(start), Sniffed::Is(_))) {
            let start = start.escape_ascii();
            return Err(format!(
                "the first bytes \"{start}\" of the protocol {name} are those of another protocol"
            ));
        }
        self.0.push(protocol);
        Ok(())
    }

    /// Finds the protocol whose first bytes these are.
    pub(super) fn find(&self, input: &[u8]) -> FoundAdded<'_> {
        let mut found = FoundAdded::None;
        for protocol in &self.0 {
            for start in protocol.starts {
                if input.starts_with(start) {
                    return FoundAdded::Is(protocol);
                }
                if start.starts_with(input) {
                    found = FoundAdded::NeedMore;
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NativeServer;

    fn added(name: &'static str, starts: &'static [&'static [u8]]) -> AddedProtocol {
        AddedProtocol::new(name, starts, |_| NativeServer::new(1))
    }

    #[test]
    fn first_bytes_that_another_protocol_may_have_are_refused() {
        let mut all = AddedProtocols::default();
        all.add(added("lines", &[b"call ", b"\xfa\x01"])).unwrap();
        const CASES: &[(&[&[u8]], &str)] = &[
            (&[], "the protocol other has no first bytes by which it is recognized"),
            (&[b""], "the protocol other has no first bytes by which it is recognized"),
            (&[b"GET "], "the first bytes \"GET \" of the protocol other overlap with \"GET \" of http"),
            (&[b"PO"], "the first bytes \"PO\" of the protocol other overlap with \"POST \" of http"),
            (
                &[b"\x19\x96\x02"],
                "the first bytes \"\\x19\\x96\\x02\" of the protocol other overlap with \"\\x19\\x96\" of native",
            ),
            (&[b"caller"], ""),
            (
                &[b"call me"],
                "the first bytes \"call me\" of the protocol other overlap with \"call \" of lines",
            ),
            (&[b"BREW /"], "the first bytes \"BREW /\" of the protocol other are those of another protocol"),
        ];
        for (starts, text) in CASES {
            match all.add(added("other", starts)) {
                Ok(()) => assert_eq!(*text, ""),
                Err(error) => assert_eq!(error, *text),
            }
        }
    }

    #[test]
    fn the_first_bytes_decide_when_they_are_complete() {
        let mut all = AddedProtocols::default();
        all.add(added("lines", &[b"call ", b"cast "])).unwrap();
        for cut in 1..5 {
            assert!(matches!(all.find(&b"cast "[..cut]), FoundAdded::NeedMore), "cut at {cut}");
        }
        assert!(matches!(all.find(b"call 1"), FoundAdded::Is(protocol) if protocol.name == "lines"));
        assert!(matches!(all.find(b"cart "), FoundAdded::None));
    }
}
