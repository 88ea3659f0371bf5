//! Health checks: a ping on a connection of each server that has had no answers for a while.
//!
//! A check that is not answered in time has failed; the policies find that themselves.

use super::super::{ClientApp, Cx};
use crate::message::Outgoing;
use crate::reactor::Conns;

impl ClientApp {
    /// Checks the servers of a fleet whose checks are due.
    pub(super) fn make_due_checks(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        for id in fleet.policies.take_due_checks(conns.now()) {
            let line = fleet.lines.get(&id).and_then(|line| self.lines.get(line));
            let Some(&key) = line.and_then(|line| line.connections.first()) else { continue };
            conns.with(key, |cx| cx.send(Outgoing::Ping { id: 0 }));
        }
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
