//! Connections on which nothing is received: they are pinged, given up, or closed because no call uses them.

use std::io;
use std::time::{Duration, Instant};

use super::Cx;
use super::endpoint::EndpointState;
use crate::client::config::ClientConfig;
use crate::message::Outgoing;

/// Checks a connection that is silent: pings it if replies are outstanding, closes it if it is idle. Returns the time
/// of the next check.
pub(super) fn watch(cx: &mut Cx<'_>, line: &mut EndpointState) -> Option<Instant> {
    let ms = Duration::from_millis;
    let ClientConfig { ping_ms, idle_ms, .. } = *line.config;
    let ping_ms = if line.scheme.can_ping() { ping_ms } else { 0 };
    // Pings keep a connection that was made ahead from being idle at the server.
    let idle_ms = if line.is_warm && line.scheme.can_ping() { 0 } else { idle_ms };
    let now = cx.now();
    if cx.session.pending.is_empty() {
        cx.session.pending.shrink();
        if cx.session.is_draining {
            // The connection is closing and does not become idle again.
            return None;
        }
        let idle_at = (idle_ms > 0).then(|| cx.session.last_used + ms(idle_ms));
        if idle_at.is_some_and(|at| at <= now) {
            if !line.is_warm {
                line.keep_none();
            }
            line.retire(cx.key());
            cx.session.is_draining = true;
            cx.close();
            return None;
        }
        // A call may start in between and get no reply.
        let ping_at = (ping_ms > 0).then(|| now + ms(ping_ms));
        return idle_at.into_iter().chain(ping_at).min();
    }
    if ping_ms == 0 {
        return None;
    }
    // Any byte shows that the server is alive: a large reply on a slow link does so for as long as it takes.
    let heard_at = cx.last_heard().max(cx.session.owed_since);
    if let Some(pinged_at) = cx.session.pinged_at.filter(|pinged_at| *pinged_at >= heard_at) {
        // Counted from the ping, not from the last byte received: this thread may have been suspended before it sent
        // the ping.
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
