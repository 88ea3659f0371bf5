//! Balancing: which of several usable endpoints an attempt uses.

pub(super) mod draw;
pub(super) mod ring;
pub(super) mod turns;

use std::fmt;

use super::call::{AttemptEnd, EndpointId, PickFor};
use super::instance::Instance;

/// How the calls are divided among the usable endpoints. All of them respect the weights of the instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// Of two endpoints drawn at random the one with the lower latency × (attempts in flight + 1), with a penalty for
    /// failures. The latency is a peak EWMA: it rises at once and falls slowly. The best choice for most services
    /// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001; Finagle and linkerd do the same).
    #[default]
    P2c,
    /// In turn, by weight. An endpoint that is slow gets as many calls as the others.
    RoundRobin,
    /// At random, by weight.
    Weighted,
    /// Of two endpoints drawn at random the one with fewer attempts in flight and less waiting by its own report, with a
    /// penalty for failures. For methods with long and very different durations.
    LeastLoaded,
    /// By the key of the call: calls with the same key use the same endpoint while it is usable, and the next one of a
    /// hash ring otherwise. When one of n endpoints comes or goes, about 1/n of the keys move. Calls without a key are
    /// balanced as with [`Balance::P2c`].
    ConsistentHash,
}

/// A way of balancing of a program's own.
pub trait Balancer: Send + fmt::Debug {
    /// Picks one of the candidates by its index. There is at least one. An index that is too large is reduced modulo their
    /// number.
    fn pick(&mut self, call: &PickFor<'_>, candidates: &Candidates<'_>) -> usize;

    /// Takes note of the end of an attempt.
    fn on_end(&mut self, end: &AttemptEnd) {
        let _ = end;
    }
}

/// One endpoint that an attempt may use.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// Identifies the endpoint.
    pub id: EndpointId,
    /// The instance.
    pub instance: &'a Instance,
    /// The weight of the instance, less during a slow start.
    pub weight: f32,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The estimated latency in microseconds (peak EWMA); 0 before the first end.
    pub latency_us: u64,
    /// The microseconds that a new call would wait at the server, as it said in the last seconds; 0 if it did not.
    pub load_us: u32,
    /// Whether a connection exists.
    pub is_connected: bool,
}

/// The endpoints that an attempt may use: usable, where calls must stay, connected if any of them is; not tried
/// before by the same call, and not with a server that has asked for a pause, if others are left. Their order changes only when the set does.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    pub(super) slots: &'a [u16],
    pub(super) source: &'a dyn CandidateSource,
}

/// Where [`Candidates`] come from.
pub(super) trait CandidateSource {
    fn candidate(&self, slot: u16) -> Candidate<'_>;
}

impl<'a> Candidates<'a> {
    /// Returns their number.
    #[allow(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the candidate at an index, if there is one.
    pub fn get(&self, index: usize) -> Option<Candidate<'a>> {
        self.slots.get(index).map(|slot| self.source.candidate(*slot))
    }

    /// Returns all candidates.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'a>> {
        let source = self.source;
        self.slots.iter().map(move |slot| source.candidate(*slot))
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
