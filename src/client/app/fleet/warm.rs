//! Connections that are opened ahead of the first call: to a bounded number of servers, those of the client's zone before
//! others, a few at a time, and not by all clients at once.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use super::super::ClientApp;
use crate::reactor::Conns;

/// Attempts to connect ahead at a time.
const WARM_DIALS_MAX: usize = 8;

/// The longest time after a change of the servers before connections are opened; it is drawn.
const WARM_JITTER: Duration = Duration::from_millis(100);

/// The time between two looks at the connections that are being opened.
const WARM_EVERY: Duration = Duration::from_millis(10);

impl ClientApp {
    /// Schedules the opening of connections, after the servers have changed.
    pub(super) fn begin_warming(&mut self, number: u64, now: Instant) {
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        if fleet.config.warm_endpoints_max == 0 {
            return;
        }
        let jitter = fleet.random.hash_one((number, fleet.lines.len())) % WARM_JITTER.as_micros() as u64;
        let at = now + Duration::from_micros(jitter);
        fleet.warm_at = Some(at);
        self.look_by(at);
    }

    /// Opens connections to servers that have none and are to have one.
    pub(super) fn warm_up(&mut self, conns: &mut Conns<'_, ClientApp>, number: u64) {
        let now = conns.now();
        let Some(fleet) = self.fleets.get_mut(&number) else { return };
        if fleet.warm_at.is_none_or(|at| at > now) {
            return;
        }
        let warm_max = fleet.config.warm_endpoints_max;
        let (mut warm, mut dialing, mut cold) = (0, 0, Vec::new());
        // Those that are kept and are not in the client's zone.
        let mut warm_outside = Vec::new();
        for (id, number) in &fleet.lines {
            let is_outside = !fleet.policies.is_in_zone(*id);
            match self.lines.get(number) {
                Some(line) if line.is_warm => {
                    warm += 1;
                    dialing += usize::from(line.is_dialing());
                    warm_outside.extend(is_outside.then_some(*number));
                }
                Some(_) => cold.push((is_outside, fleet.random.hash_one(number), *number)),
                None => {}
            }
        }
        cold.sort_unstable();
        // Servers of the zone that have come later replace others.
        let cold_inside = cold.iter().take_while(|(is_outside, ..)| !is_outside).count();
        let replaced = (warm + cold_inside).saturating_sub(warm_max).min(cold_inside);
        for number in warm_outside.into_iter().take(replaced) {
            if let Some(line) = self.lines.get_mut(&number) {
                line.keep_none();
                warm -= 1;
            }
        }
        let wanted = warm_max.saturating_sub(warm).min(cold.len());
        let now_possible = wanted.min(WARM_DIALS_MAX.saturating_sub(dialing));
        fleet.warm_at = (now_possible < wanted).then(|| now + WARM_EVERY);
        for (.., number) in cold.into_iter().take(now_possible) {
            if let Some(line) = self.lines.get_mut(&number) {
                line.keep_warm();
                self.dial_for_waiting(conns, number);
            }
        }
    }
}
