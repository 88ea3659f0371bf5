//! Health checks of servers that have answered nothing for a while: a ping on a connection, or, where the protocol has no
//! ping, the call of `Health.Check`.
//!
//! A check that is not answered in time has failed; the policies find that themselves.

use std::time::{Duration, Instant};

use super::super::{ClientApp, Cx, send_if_room};
use super::FleetState;
use crate::client::CallError;
use crate::client::call_slot::{Promise, ReplyBody};
use crate::client::reply::ReplyOutcome;
use crate::message::Outgoing;
use crate::policy::fleet::EndpointId;
use crate::reactor::Conns;
use crate::status::Code;

/// What `Health.Check` answers, as JSON, while a server does not serve.
const NOT_SERVING: &[u8] = b"\"not_serving\"";

impl ClientApp {
    /// Checks the servers of a fleet whose checks are due.
    pub(super) fn make_due_checks(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        let is_call = fleet.scheme.can_call_health();
        for id in fleet.policies.take_due_checks(conns.now()) {
            if is_call {
                self.call_health(conns, number, id);
                continue;
            }
            let Some(fleet) = self.fleets.get(&number) else { return };
            let line = fleet.lines.get(&id).and_then(|line| self.lines.get(line));
            let Some(&key) = line.and_then(|line| line.connections.first()) else { continue };
            conns.with(key, |cx| cx.send(Outgoing::Ping { id: 0 }));
        }
    }

    /// Calls `Health.Check` of a server. A call that has not ended is not made again: the policies count the time.
    fn call_health(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64, id: EndpointId) {
        let now = conns.now();
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        let line = fleet.lines.get(&id).and_then(|line| self.lines.get_mut(line));
        let (Some(line), Some(client)) = (line, fleet.client.upgrade()) else { return };
        if line.connections.is_empty() || !fleet.checking.insert(id) {
            return;
        }
        let deadline = now + fleet.check_timeout();
        let check = Promise::check_of(&client, id, now, deadline);
        match send_if_room(&self.shared.stats, conns, line, check) {
            None => self.look_by(deadline),
            Some(check) => {
                // Each connection has a call; how those end says enough.
                check.discard();
                fleet.checking.remove(&id);
                fleet.policies.on_check_skipped(id);
            }
        }
    }

    /// Handles the end of a check that is a call.
    #[cold]
    pub(super) fn on_check_ended(
        &mut self,
        now: Instant,
        mut check: Promise,
        outcome: &Result<ReplyOutcome, CallError>,
        body: &ReplyBody,
    ) {
        let id = check.fleet_call().and_then(|call| call.endpoint);
        if let (Some(fleet), Some(id)) = (self.fleets.get_mut(&check.endpoint().number), id)
            && fleet.checking.remove(&id)
        {
            fleet.policies.on_check_end(now, id, is_healthy(outcome, body));
        }
        check.discard();
    }

    /// Handles the answer to a ping.
    #[cold]
    pub(in crate::client::app) fn on_pong(&mut self, cx: &mut Cx<'_>) {
        let line = self.lines.get(&cx.session.line);
        if let Some((number, id)) = line.and_then(|line| line.fleet)
            && let Some(fleet) = self.fleets.get_mut(&number)
        {
            fleet.policies.on_check_end(cx.now(), id, true);
        }
    }
}

impl FleetState {
    /// Returns when a check that is a call is given up, and with it its connection: later than the checks that eject the
    /// server, since they begin again when its only connection ends.
    fn check_timeout(&self) -> Duration {
        let health = &self.policies.config().health;
        let each_ms = health.interval_ms.saturating_mul(2).saturating_add(health.timeout_ms);
        // A year: an instant must not overflow.
        let ms_max = 365 * 24 * 3_600 * 1_000;
        Duration::from_millis(each_ms.saturating_mul(u64::from(health.unhealthy_after)).min(ms_max))
    }
}

/// Returns whether a server is healthy that has answered a check so. One without `Health.Check` answers an error, which
/// shows as much as a pong; so does one that demands credentials.
fn is_healthy(outcome: &Result<ReplyOutcome, CallError>, body: &ReplyBody) -> bool {
    let Ok(answer) = outcome else { return false };
    match answer.code() {
        Code::Ok => body.as_bytes() != NOT_SERVING,
        Code::Unavailable | Code::Internal | Code::DeadlineExceeded | Code::DataLoss => false,
        _ => true,
    }
}
