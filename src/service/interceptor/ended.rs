//! The end of a call, as interceptors receive it.

use crate::context::Peer;
use crate::extensions::Extensions;
use crate::policy::run_queue::ShedReason;
use crate::status::Code;
use crate::wire::ProtocolId;

/// The end of a call.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EndedCall<'a> {
    /// The index of the reactor.
    pub reactor: usize,
    /// The connection, as a number that is unique on its reactor.
    pub connection: u64,
    /// The peer.
    pub peer: Peer,
    /// The connection's protocol.
    pub protocol: Option<ProtocolId>,
    /// The caller's id of the call, unique among its unanswered calls on the connection unless it is one-way.
    pub id: u64,
    /// The index of the method; `None` if the request was refused before its method was known.
    pub method: Option<u32>,
    /// `Service.Method`; `None` if the request was refused before its method was known.
    pub method_name: Option<&'a str>,
    /// The caller expects no answer.
    pub one_way: bool,
    /// How the call ended. A call whose connection has closed is `cancelled`.
    pub code: Code,
    /// Where the call ended.
    pub place: EndPlace,
    /// Microseconds that the call was queued; 0 if it ended before its work did.
    pub queue_us: u32,
    /// Microseconds that the handler took; 0 if the call ended before its work did.
    pub handler_us: u32,
    /// Bytes of the argument, as received, without the messages of streams; 0 if the request was refused by the
    /// protocol.
    pub request_bytes: usize,
    /// Bytes of the reply's body, or of the message of a failure, without the messages of streams; 0 for a one-way
    /// call.
    pub reply_bytes: usize,
    /// What interceptors have attached to the call.
    pub extensions: Extensions<'a>,
}

impl<'a> EndedCall<'a> {
    /// Returns the name of the authenticated caller.
    pub fn principal(&self) -> Option<&'a str> {
        self.extensions.principal()
    }
}

/// Where a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndPlace {
    /// Refused at admission: the protocol, the method or an interceptor does not accept it, or the server drains.
    Refused,
    /// Not run, so that other calls end in time.
    Shed(ShedReason),
    /// Not run, because its deadline had passed when it was decoded.
    LateAtDecode,
    /// Not run, because its deadline had passed when a worker took it.
    LateAtDequeue,
    /// A handler on the reactor's thread returned.
    Inline,
    /// A handler on a worker returned, or an interceptor refused the call there.
    Worker,
    /// The handler's deferred reply was sent or dropped.
    Deferred,
    /// Answered at its deadline; its work may go on.
    LateAtAnswer,
    /// The caller cancelled it.
    Cancelled,
    /// The caller broke a rule of the protocol in a frame of the call, or sent a message of a stream that cannot be
    /// decoded, or closed its sending half while the call needed more from it.
    Broken,
    /// Given up because the drain took too long.
    Drained,
    /// Its connection has closed.
    Dropped,
}

impl EndPlace {
    /// Returns the name of the place, for logs.
    pub fn name(self) -> &'static str {
        match self {
            EndPlace::Refused => "refused",
            EndPlace::Shed(_) => "shed",
            EndPlace::LateAtDecode => "late_at_decode",
            EndPlace::LateAtDequeue => "late_at_dequeue",
            EndPlace::Inline => "inline",
            EndPlace::Worker => "worker",
            EndPlace::Deferred => "deferred",
            EndPlace::LateAtAnswer => "late_at_answer",
            EndPlace::Cancelled => "cancelled",
            EndPlace::Broken => "broken",
            EndPlace::Drained => "drained",
            EndPlace::Dropped => "dropped",
        }
    }
}
