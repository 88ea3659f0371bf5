//! Connections on which nothing is said: asked for a sign of life, given up, or closed because nobody uses them.

use std::io;
use std::time::{Duration, Instant};

use super::Cx;
use super::endpoint::EndpointState;
use crate::client::config::ClientConfig;
use crate::message::Outgoing;

/// Looks after a connection that is silent: one that owes answers is asked for a sign of life, one that nobody uses is
/// closed. Gives the time of the next look.
pub(super) fn watch(cx: &mut Cx<'_>, line: &mut EndpointState) -> Option<Instant> {
    let ms = Duration::from_millis;
    let ClientConfig { ping_ms, idle_ms, .. } = *line.config;
    let ping_ms = if line.scheme.can_ping() { ping_ms } else { 0 };
    let now = cx.now();
    if cx.session.pending.is_empty() {
        cx.session.pending.shrink();
        if cx.session.is_draining {
            // It closes, and will not be idle again.
            return None;
        }
        let idle_at = (idle_ms > 0).then(|| cx.session.last_used + ms(idle_ms));
        if idle_at.is_some_and(|at| at <= now) {
            line.retire(cx.key());
            cx.session.is_draining = true;
            cx.close();
            return None;
        }
        // A call may begin in between, and fall silent.
        let ping_at = (ping_ms > 0).then(|| now + ms(ping_ms));
        return idle_at.into_iter().chain(ping_at).min();
    }
    if ping_ms == 0 {
        return None;
    }
    // Any byte is a sign of life: a large reply on a slow link is one all the time that it takes.
    let heard_at = cx.last_heard().max(cx.session.owed_since);
    if let Some(pinged_at) = cx.session.pinged_at.filter(|pinged_at| *pinged_at >= heard_at) {
        // Counted from the question: this thread may have been stopped before it asked, and the server not.
        let dead_at = pinged_at + ms(ping_ms);
        if dead_at <= now {
            cx.abort(io::ErrorKind::TimedOut);
            return None;
        }
        return Some(dead_at);
    }
    let ping_at = heard_at + ms(ping_ms);
    if ping_at > now {
        return Some(ping_at);
    }
    cx.session.pinged_at = Some(now);
    cx.send(Outgoing::Ping { id: 0 });
    Some(now + ms(ping_ms))
}
