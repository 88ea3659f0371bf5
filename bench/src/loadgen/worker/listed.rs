//! Listed calls: each uses the connection that the list assigns, and waits for that connection only.

use std::io;

use super::{BURST_CALLS_MAX, BURST_LINKS_MAX, Worker};
use crate::loadgen::protocol::Protocol;
use crate::loadgen::schedule::Entry;
use crate::loadgen::tally::Call;

impl<P: Protocol> Worker<P> {
    /// Sends calls that are due, at most one burst. Returns whether more are due.
    pub(super) fn send_listed(&mut self, now_ns: u64) -> io::Result<bool> {
        let horizon_ns = now_ns.min(self.thread.time.end_ns - 1);
        let mut more = false;
        for sent in 0.. {
            let Some(schedule) = &mut self.thread.job.schedule else { break };
            let Some(entry) = schedule.entry().filter(|entry| entry.due_ns <= horizon_ns) else { break };
            if sent == BURST_CALLS_MAX || self.dirty.len() > BURST_LINKS_MAX {
                more = true;
                break;
            }
            schedule.advance();
            let at = entry.link as usize;
            if self.waiting[at].is_empty() && self.links[at].has_room() {
                if entry.due_ns >= self.thread.time.from_ns {
                    self.thread.tally.late.record(now_ns - entry.due_ns);
                }
                self.begin_listed(entry, now_ns);
            } else {
                self.thread.tally.held += u64::from(entry.due_ns >= self.thread.time.from_ns);
                self.waiting[at].push_back(entry);
            }
        }
        self.flush_dirty();
        Ok(more)
    }

    /// Sends the calls that waited for this connection, as far as it has room now.
    pub(super) fn send_waiting(&mut self, at: usize) {
        if self.waiting.get(at).is_none_or(|waiting| waiting.is_empty()) || !self.thread.wants_more {
            return;
        }
        let now_ns = self.thread.time.now_ns();
        while self.links[at].has_room()
            && let Some(entry) = self.waiting[at].pop_front()
        {
            self.begin_listed(entry, now_ns);
        }
        self.flush_dirty();
    }

    fn begin_listed(&mut self, entry: Entry, now_ns: u64) {
        let Entry { due_ns, link, request, method } = entry;
        let counts = due_ns >= self.thread.time.from_ns;
        self.links[link as usize].begin_call(Call {
            intended_ns: due_ns,
            sent_ns: now_ns,
            method,
            request,
            counts,
            trace: 0,
        });
        self.thread.tally.on_sent(1);
        self.in_flight += 1;
        if !std::mem::replace(&mut self.links[link as usize].is_dirty, true) {
            self.dirty.push(link);
        }
    }
}
