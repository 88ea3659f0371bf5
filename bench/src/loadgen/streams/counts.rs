//! The counts of streams, beside those of their messages.

use std::collections::BTreeMap;

use coreloop::Code;
use serde::Serialize;

use super::{Shape, StreamCall};
use crate::loadgen::idle::Growth;
use crate::loadgen::run::{Measured, Plan};
use crate::loadgen::tally::{Call, STATUSES, Timeline};
use crate::loadgen::units;
use crate::loadgen::verdict::Verdict;

/// The time of an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time, in ns from the start of the run.
    pub ns: u64,
    /// Whether it is in the measured window.
    pub is_measured: bool,
}

impl Now {
    /// Returns the time `ns` of a run.
    pub fn of(ns: u64, time: &Timeline) -> Now {
        Now { ns, is_measured: (time.from_ns..time.end_ns).contains(&ns) }
    }

    /// Returns a call that began at `since_ns`, and counts if it ends in the window.
    pub fn call_since(self, since_ns: u64) -> Call {
        Call { intended_ns: since_ns, sent_ns: since_ns, counts: self.is_measured, ..Call::default() }
    }
}

/// One thread's counts of its streams.
#[derive(Clone, Debug, Default)]
pub struct StreamCounts {
    /// Opened streams, in the whole run.
    pub opened: u64,
    /// Ended streams by status, in the whole run.
    pub ended: [u64; STATUSES],
    /// Streams that the server ended before the caller had.
    pub ended_early: u64,
    /// Streams lost with their connection.
    pub lost: u64,
    /// Streams that had not ended when the run did.
    pub unfinished: u64,
    /// Those of them that had not sent their round of `--read-after-send`.
    pub mid_round: u64,
    /// Messages sent in the window.
    pub messages_sent: u64,
    /// Messages that arrived in the window.
    pub messages_received: u64,
    /// Bytes of the bodies of these messages.
    pub bytes_sent: u64,
    /// Bytes of the bodies of these messages.
    pub bytes_received: u64,
    /// Messages on bidirectional streams that answered none.
    pub unasked: u64,
    /// Rules of the protocol that the server has broken.
    pub rules_broken: u64,
    /// The first of them.
    pub first_broken_rule: Option<&'static str>,
}

impl StreamCounts {
    /// Adds another thread's counts.
    pub fn add(&mut self, other: &StreamCounts) {
        self.opened += other.opened;
        for (count, more) in self.ended.iter_mut().zip(other.ended) {
            *count += more;
        }
        self.ended_early += other.ended_early;
        self.lost += other.lost;
        self.unfinished += other.unfinished;
        self.mid_round += other.mid_round;
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.unasked += other.unasked;
        self.rules_broken += other.rules_broken;
        self.first_broken_rule = self.first_broken_rule.or(other.first_broken_rule);
    }
}

/// The figures of the streams of a run.
#[derive(Clone, Debug, Serialize)]
pub struct StreamFigures {
    /// Which sides of the method stream.
    pub shape: Shape,
    /// Streams open at the same time, over all connections.
    pub streams: u32,
    /// Messages of each stream; 0: as many as the run has time for.
    pub messages: u64,
    /// Whether each stream sent a round of messages before its echoes were taken.
    pub read_after_send: bool,
    /// Streams opened in the whole run.
    pub opened: u64,
    /// Streams that ended in the whole run, by status name.
    pub ended_by_status: BTreeMap<&'static str, u64>,
    /// Streams that the server ended before the caller had.
    pub ended_early: u64,
    /// Streams lost with their connection.
    pub lost: u64,
    /// Streams without an end when the run ended.
    pub unfinished: u64,
    /// Messages sent per second, within the window.
    pub sent_per_s: f64,
    /// Messages received per second, within the window.
    pub received_per_s: f64,
    /// Bytes of messages, without frame headers, sent per second.
    pub bytes_sent_per_s: f64,
    /// Bytes of messages, without frame headers, received per second.
    pub bytes_received_per_s: f64,
    /// Messages on bidirectional streams that answered none.
    pub unasked: u64,
    /// Rules of the protocol that the server has broken.
    pub rules_broken: u64,
    /// The memory of the watched process, for each stream of those open at a time.
    pub memory: Option<Growth>,
}

impl StreamFigures {
    /// Computes the figures of a run, and adds what is to be said about them to its verdict.
    pub fn of(call: &StreamCall, plan: &Plan, measured: &Measured, verdict: &mut Verdict) -> StreamFigures {
        let counts = &measured.streams;
        let named = Code::ALL.iter().map(|code| code.name()).zip(counts.ended);
        let per_s = |count: u64| count as f64 / measured.window_s;
        let count = |count: u64| units::count(count as f64);
        let mut say = |text: String| verdict.remarks.push(text);
        if counts.mid_round > 0 {
            say(format!(
                "{} streams stood still in a round of {} messages: neither side's window let them send the rest \
                 before something was taken. --read-after-send needs a round that the windows can hold.",
                count(counts.mid_round),
                call.depth
            ));
        } else if counts.unfinished > 0 {
            say(format!("{} streams had not ended when the run did.", count(counts.unfinished)));
        }
        if counts.ended_early > 0 {
            say(format!(
                "{} streams were ended by the server before the generator had ended them.",
                count(counts.ended_early)
            ));
        }
        if counts.unasked > 0 {
            say(format!(
                "{} messages answered none: the method does not echo one by one.",
                count(counts.unasked)
            ));
        }
        if let Some(rule) = counts.first_broken_rule {
            say(format!(
                "The server broke the protocol {} times, and these calls were cancelled; first: {rule}.",
                count(counts.rules_broken)
            ));
        }
        // Streams that stand still are an incomplete run, not one in which every call failed.
        if counts.unfinished > 0 {
            verdict.incomplete = true;
            verdict.all_failed = false;
        }
        StreamFigures {
            shape: call.shape,
            streams: call.streams_each * plan.connections,
            messages: call.messages,
            read_after_send: call.read_after_send,
            opened: counts.opened,
            ended_by_status: named.filter(|(_, count)| *count > 0).collect(),
            ended_early: counts.ended_early,
            lost: counts.lost,
            unfinished: counts.unfinished,
            sent_per_s: per_s(counts.messages_sent),
            received_per_s: per_s(counts.messages_received),
            bytes_sent_per_s: per_s(counts.bytes_sent),
            bytes_received_per_s: per_s(counts.bytes_received),
            unasked: counts.unasked,
            rules_broken: counts.rules_broken,
            memory: None,
        }
    }
}
