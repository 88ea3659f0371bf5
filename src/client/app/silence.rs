//! Connections on which nothing is said: asked for a sign of life, given up, or closed because nobody uses them.

use std::io;
use std::time::{Duration, Instant};

use super::Cx;
use super::line::{Line, State};
use crate::client::config::ClientConfig;
use crate::message::Outgoing;

/// Looks after a connection that is silent: one that owes answers is asked for a sign of life, one that nobody uses is
/// closed. Gives the time of the next look.
pub(super) fn watch(cx: &mut Cx<'_>, line: &mut Line) -> Option<Instant> {
    let ms = Duration::from_millis;
    let ClientConfig { ping_ms, idle_ms, .. } = *line.config;
    let ping_ms = if line.scheme.can_ping() { ping_ms } else { 0 };
    let now = cx.now();
    if cx.session.pending.is_empty() {
        cx.session.pending.shrink();
        let idle_at = (idle_ms > 0).then(|| cx.session.last_used + ms(idle_ms));
        if idle_at.is_some_and(|at| at <= now) && !cx.session.is_draining {
            if line.state == State::Open(cx.key()) {
                line.state = State::Idle;
            }
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
    let (ping_at, dead_at) = (cx.session.last_heard + ms(ping_ms), cx.session.last_heard + ms(ping_ms) * 2);
    if cx.session.is_pinged {
        if dead_at <= now {
            cx.abort(io::ErrorKind::TimedOut);
            return None;
        }
        return Some(dead_at);
    }
    if ping_at > now {
        return Some(ping_at);
    }
    cx.session.is_pinged = true;
    cx.send(Outgoing::Ping { id: 0 });
    Some(dead_at)
}
