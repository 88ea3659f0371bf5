//! The two ends of a takeover without their sockets, for fuzzing. Behind the feature `bench-internals`; not part of the public
//! interface.

use super::protocol::{Donor, DonorStep, Fault, Heir, HeirStep};

/// What one end has made of the bytes of the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TakeoverTrace {
    /// The steps, other than waiting.
    pub steps: Vec<TakeoverStep>,
    /// Why the takeover has failed.
    pub fault: Option<TakeoverFault>,
}

/// A step of either end.
#[derive(Debug, PartialEq, Eq)]
pub enum TakeoverStep {
    /// The offer is to be sent.
    Offer,
    /// The new process serves, with the sockets of these names.
    Ready(Vec<String>),
    /// These sockets (their names, and which descriptors they have) and pieces of state are adopted.
    Adopt(Vec<(String, u32)>, Vec<(String, Vec<u8>)>),
    /// The sockets are the new process's.
    Yours,
}

/// Why a takeover has failed.
#[derive(Debug, PartialEq, Eq)]
pub enum TakeoverFault {
    /// The other end has refused, with this text.
    Refused(String),
    /// The other end has this version.
    Version(u16),
    /// The other end does not keep to the protocol.
    Broken(&'static str),
}

impl From<Fault> for TakeoverFault {
    fn from(fault: Fault) -> TakeoverFault {
        match fault {
            Fault::Refused(text) => TakeoverFault::Refused(text),
            Fault::Version(version) => TakeoverFault::Version(version),
            Fault::Broken(what) => TakeoverFault::Broken(what),
        }
    }
}

/// What [`TakeoverTrace::push`] was given.
enum PushedStep {
    Some,
    None,
    Failed,
}

impl TakeoverTrace {
    fn push(&mut self, step: Result<Option<TakeoverStep>, Fault>) -> PushedStep {
        match step {
            Ok(Some(step)) => self.steps.push(step),
            Ok(None) => return PushedStep::None,
            Err(fault) => {
                self.fault = Some(fault.into());
                return PushedStep::Failed;
            }
        }
        PushedStep::Some
    }
}

/// Passes the bytes of a new process to the running one.
pub fn donor<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> TakeoverTrace {
    let (mut donor, mut trace) = (Donor::default(), TakeoverTrace::default());
    for mut piece in pieces {
        loop {
            let step = donor.receive(std::mem::take(&mut piece)).map(|step| match step {
                DonorStep::Wait => None,
                DonorStep::Offer => Some(TakeoverStep::Offer),
                DonorStep::Ready(names) => Some(TakeoverStep::Ready(names)),
            });
            match trace.push(step) {
                PushedStep::Some => {}
                PushedStep::None => break,
                PushedStep::Failed => return trace,
            }
        }
    }
    trace
}

/// Passes the bytes of a running process to the new one; this many descriptors come with the first of them.
pub fn heir<'a>(pieces: impl Iterator<Item = &'a [u8]>, descriptors: u32) -> TakeoverTrace {
    let (mut heir, _) = Heir::new();
    let mut trace = TakeoverTrace::default();
    let mut fds = 0..descriptors;
    for mut piece in pieces {
        loop {
            let step = heir.receive(std::mem::take(&mut piece), fds.by_ref()).map(|step| match step {
                HeirStep::Wait => None,
                HeirStep::Yours => Some(TakeoverStep::Yours),
                HeirStep::Adopt(offer) => {
                    let sockets = offer.sockets.into_iter().map(|socket| (socket.name, socket.socket));
                    let states = offer.states.into_iter().map(|state| (state.name, state.bytes));
                    Some(TakeoverStep::Adopt(sockets.collect(), states.collect()))
                }
            });
            match trace.push(step) {
                PushedStep::Some => {}
                PushedStep::None => break,
                PushedStep::Failed => return trace,
            }
        }
    }
    trace
}
