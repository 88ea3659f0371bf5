//! The choice of an endpoint: probes first, then the zone, then connected endpoints before others, then the balancing.
//!
//! The lists from which endpoints are drawn are rebuilt when an endpoint changes, at the next choice: a choice itself
//! costs the same with three endpoints and with a thousand.

use super::balance::draw::DrawList;
use super::balance::ring::Ring;
use super::balance::turns::Turns;
use super::balance::{Balance, Balancer, Candidate, CandidateSource, Candidates};
use super::breaker::{BreakerChange, BreakerEvent, BreakerState};
use super::call::{EndpointId, PickFor};
use super::config::FleetConfig;
use super::ejection::{self, Suspect};
use super::endpoint::{Endpoint, Table};
use super::zone::{SHARE_WHOLE, ZoneWeights, share_in_zone};
use crate::random::{Random, mix};

/// Two costs are taken for equal up to this factor: the difference is less than what is known.
const TOLERANCE: f32 = 1.25;

/// One choice of this many uses the worse of the two endpoints drawn: otherwise a difference that is gone would not be
/// found out, and a failing endpoint would have too few attempts for its breaker to open.
const EXPLORE_ONE_IN: u32 = 128;

/// One choice of this many may use an endpoint without a connection although others have one.
const COLD_ONE_IN: u32 = 8;

/// Half-open endpoints that are looked at for one choice.
const PROBES_LOOKED_AT: usize = 4;

/// Draws by weight before an endpoint in its slow start is taken in any case.
const SLOW_START_DRAWS: u32 = 4;

/// The endpoints of the client's zone, or those outside it.
#[derive(Debug, Default)]
struct Tier {
    /// Those from which one is drawn.
    list: DrawList,
    /// Usable ones without a connection, while there are others.
    cold: Vec<u16>,
    cold_turn: usize,
    /// For the weighted round robin.
    turns: Turns,
    mean_weight: f32,
}

/// An endpoint that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub slot: u16,
    pub is_probe: bool,
}

/// The lists from which endpoints are chosen.
#[derive(Debug)]
pub(super) struct Selection {
    is_stale: bool,
    is_ring_stale: bool,
    /// A breaker becomes half-open at this time, in nanoseconds.
    change_ns: u64,
    tiers: [Tier; 2],
    /// The share of the calls that use the first tier, out of [`SHARE_WHOLE`].
    share: u32,
    /// Ejected endpoints with a half-open breaker.
    probes: Vec<u16>,
    probe_turn: usize,
    ring: Ring,
    pub ejected: u32,
    suspects: Vec<Suspect>,
    ring_entries: Vec<(u16, u64, u32)>,
    untried: Vec<u16>,
    /// Until this time, in nanoseconds, there may be endpoints whose servers have asked for a pause.
    paused_until_ns: u64,
}

/// What a choice depends on besides the lists.
#[derive(Debug)]
pub(super) struct ChoiceContext<'a> {
    pub table: &'a Table,
    pub call: &'a PickFor<'a>,
    pub now_ns: u64,
    pub config: &'a FleetConfig,
}

impl ChoiceContext<'_> {
    #[inline]
    fn is_untried(&self, slot: u16) -> bool {
        self.call.tried.is_empty() || !self.call.tried.contains(&self.table.at(slot).id)
    }

    fn is_paused(&self, slot: u16) -> bool {
        self.table.at(slot).paused_until_ns > self.now_ns
    }
}

impl Selection {
    pub fn new() -> Selection {
        Selection {
            is_stale: true,
            is_ring_stale: true,
            change_ns: u64::MAX,
            tiers: Default::default(),
            share: SHARE_WHOLE,
            probes: Vec::new(),
            probe_turn: 0,
            ring: Ring::default(),
            ejected: 0,
            suspects: Vec::new(),
            ring_entries: Vec::new(),
            untried: Vec::new(),
            paused_until_ns: 0,
        }
    }

    /// Takes note that an endpoint has changed.
    pub fn set_stale(&mut self) {
        self.is_stale = true;
    }

    /// Takes note that endpoints have come or gone, or that weights have changed.
    pub fn set_ring_stale(&mut self) {
        self.is_stale = true;
        self.is_ring_stale = true;
    }

    /// Takes note that an endpoint is to be avoided until this time.
    pub fn on_pause(&mut self, until_ns: u64) {
        self.paused_until_ns = self.paused_until_ns.max(until_ns);
    }

    /// Returns the time until the first of the endpoints that may be used takes calls; 0 if one does now. `None` if none
    /// may be used.
    pub fn shortest_pause_ns(&self, table: &Table, now_ns: u64) -> Option<u64> {
        let mut shortest = None;
        for slot in self.tiers.iter().flat_map(|tier| tier.list.slots().iter().chain(&tier.cold)) {
            let pause_ns = table.at(*slot).paused_until_ns.saturating_sub(now_ns);
            if pause_ns == 0 {
                return Some(0);
            }
            shortest = Some(shortest.unwrap_or(u64::MAX).min(pause_ns));
        }
        shortest
    }

    /// Returns whether the lists must be rebuilt before a choice.
    #[inline]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.is_stale || now_ns >= self.change_ns
    }

    /// Returns whether all calls stay in the client's zone.
    pub fn is_in_zone(&self) -> bool {
        self.share == SHARE_WHOLE
    }

    /// Rebuilds the lists.
    pub fn refresh(&mut self, table: &mut Table, now_ns: u64, config: &FleetConfig, random: &mut Random) {
        self.is_stale = false;
        self.look_at_breakers(table, now_ns, config);
        let weights = self.eject(table, config);
        self.fill_tiers(table, config, random);
        let (has_first, has_second) = (!self.tiers[0].list.is_empty(), !self.tiers[1].list.is_empty());
        self.share = match (has_first, has_second) {
            (true, true) => share_in_zone(weights, config.zone_usable_min_percent),
            (false, true) => 0,
            (_, false) => SHARE_WHOLE,
        };
        if self.is_ring_stale && config.balance == Balance::ConsistentHash {
            self.is_ring_stale = false;
            self.ring_entries.clear();
            let entry = |(slot, endpoint): (u16, &Endpoint)| (slot, endpoint.hash, endpoint.instance.weight);
            self.ring_entries.extend(table.iter().map(entry));
            self.ring.fill(&self.ring_entries);
        }
    }

    fn look_at_breakers(&mut self, table: &mut Table, now_ns: u64, config: &FleetConfig) {
        self.change_ns = u64::MAX;
        self.suspects.clear();
        for (slot, endpoint) in table.iter_mut() {
            endpoint.tier = u8::from(config.zone.is_some() && endpoint.instance.zone != config.zone);
            endpoint.is_ejected = false;
            endpoint.is_listed = false;
            if !endpoint.is_suspect() {
                continue;
            }
            if !endpoint.breaker.is_closed() {
                let (next, change) = endpoint.breaker.next(BreakerEvent::Tick, now_ns, &config.breaker);
                debug_assert!(matches!(change, None | Some(BreakerChange::HalfOpened)));
                endpoint.breaker = next;
                if let BreakerState::Open { until_ns } = next.state() {
                    self.change_ns = self.change_ns.min(until_ns);
                }
            }
            let is_unhealthy = !endpoint.health.is_healthy();
            self.suspects.push(Suspect { is_unhealthy, failures: endpoint.breaker.failures(), slot });
        }
    }

    /// Ejects as many of the suspects as may be, and returns the weights of the client's zone.
    fn eject(&mut self, table: &mut Table, config: &FleetConfig) -> ZoneWeights {
        let ejected_max = ejection::ejected_max(table.len(), config.breaker.ejected_max_percent);
        // More look broken than may be ejected: those that stay in use count as usable. Otherwise a zone whose endpoints all
        // look broken would send its calls to the few outside it, which look broken too.
        let is_panic = self.suspects.len() > ejected_max;
        self.probes.clear();
        self.ejected = 0;
        for suspect in ejection::choose(&mut self.suspects, ejected_max) {
            let endpoint = table.at_mut(suspect.slot);
            endpoint.is_ejected = true;
            self.ejected += 1;
            let is_half_open = matches!(endpoint.breaker.state(), BreakerState::HalfOpen { .. });
            if is_half_open && endpoint.health.is_healthy() {
                self.probes.push(suspect.slot);
            }
        }
        let mut weights = ZoneWeights::default();
        for (_, endpoint) in table.iter().filter(|(_, endpoint)| endpoint.tier == 0) {
            let weight = u64::from(endpoint.instance.weight);
            weights.zone += weight;
            let is_usable = if is_panic { !endpoint.is_ejected } else { !endpoint.is_suspect() };
            if is_usable && !endpoint.is_down {
                weights.usable += weight;
            }
        }
        weights
    }

    fn fill_tiers(&mut self, table: &mut Table, config: &FleetConfig, random: &mut Random) {
        let is_in_turn = config.balance == Balance::RoundRobin;
        let (mut has_connected, mut has_up, mut has_weight) = ([false; 2], [false; 2], false);
        for endpoint in table.iter().map(|(_, endpoint)| endpoint).filter(|endpoint| !endpoint.is_ejected) {
            let tier = usize::from(endpoint.tier);
            if endpoint.instance.weight > 0 {
                has_weight = true;
                has_connected[tier] |= endpoint.is_connected;
                has_up[tier] |= !endpoint.is_down;
            }
        }
        for tier in &mut self.tiers {
            for (slot, wait) in tier.turns.waits() {
                if let Some(endpoint) = table.in_slot_mut(slot) {
                    endpoint.turn_wait = Some(wait);
                }
            }
            tier.turns.clear();
            tier.list.clear();
            tier.cold.clear();
        }
        for (slot, endpoint) in table.iter_mut() {
            let weight = endpoint.instance.weight;
            if endpoint.is_ejected || (weight == 0 && has_weight) {
                continue;
            }
            endpoint.is_listed = true;
            let index = usize::from(endpoint.tier);
            let is_cold =
                if has_connected[index] { !endpoint.is_connected } else { has_up[index] && endpoint.is_down };
            let tier = &mut self.tiers[index];
            if is_cold {
                tier.cold.push(slot);
                continue;
            }
            tier.list.push(slot, weight);
            if is_in_turn {
                let step = Turns::step(weight.max(1) as f32);
                let wait = endpoint.turn_wait.take().unwrap_or_else(|| random.next_u64() % step);
                tier.turns.push(slot, wait.min(step));
            }
        }
        for tier in &mut self.tiers {
            tier.mean_weight = tier.list.mean_weight();
        }
    }

    /// Chooses an endpoint, if there is any that may be used.
    #[inline]
    pub fn choose(
        &mut self,
        context: &ChoiceContext<'_>,
        balancer: Option<&mut (dyn Balancer + 'static)>,
        random: &mut Random,
    ) -> Option<Choice> {
        if !self.probes.is_empty()
            && let Some(slot) = self.next_probe(context)
        {
            return Some(Choice { slot, is_probe: true });
        }
        let first = self.first_tier(context.call.key, random);
        let slot = self.choose_listed(first, context, balancer, random)?;
        Some(Choice { slot, is_probe: false })
    }

    fn next_probe(&mut self, context: &ChoiceContext<'_>) -> Option<u16> {
        for _ in 0..PROBES_LOOKED_AT.min(self.probes.len()) {
            self.probe_turn = (self.probe_turn + 1) % self.probes.len();
            let slot = self.probes[self.probe_turn];
            let breaker = &context.table.at(slot).breaker;
            if breaker.admits_probe(context.now_ns, &context.config.breaker) && context.is_untried(slot) {
                return Some(slot);
            }
        }
        None
    }

    /// Returns the tier of a call: by its key if it has one, so that a key does not change its endpoint with each call.
    #[inline]
    fn first_tier(&self, key: Option<u64>, random: &mut Random) -> usize {
        match self.share {
            SHARE_WHOLE => 0,
            0 => 1,
            share => {
                let bits = key.map_or_else(|| random.next_u64(), |key| mix(key ^ 0x5a5a_5a5a));
                usize::from((bits >> 48) as u32 >= share)
            }
        }
    }

    fn choose_listed(
        &mut self,
        first: usize,
        context: &ChoiceContext<'_>,
        mut balancer: Option<&mut (dyn Balancer + 'static)>,
        random: &mut Random,
    ) -> Option<u16> {
        if context.now_ns < self.paused_until_ns {
            let chosen = self.choose_unpaused(first, context, balancer.as_deref_mut(), random);
            if chosen.is_some() {
                return chosen;
            }
        }
        for index in [first, 1 - first] {
            let untried = |slot| context.is_untried(slot);
            let chosen = self.choose_in(index, context, balancer.as_deref_mut(), random, &untried);
            let cold = || self.tiers[index].cold.iter().copied().find(|slot| untried(*slot));
            if let Some(slot) = chosen.or_else(cold) {
                return Some(slot);
            }
        }
        // The call has tried every one.
        let chosen = self.choose_in(first, context, balancer.as_deref_mut(), random, &|_| true);
        chosen.or_else(|| self.choose_in(1 - first, context, balancer, random, &|_| true))
    }

    /// Chooses among the endpoints whose servers have not asked for a pause: one that the call has not tried, or one whose
    /// pause is over. A first attempt does not leave its tier for that.
    #[cold]
    fn choose_unpaused(
        &mut self,
        first: usize,
        context: &ChoiceContext<'_>,
        mut balancer: Option<&mut (dyn Balancer + 'static)>,
        random: &mut Random,
    ) -> Option<u16> {
        let is_first_attempt = context.call.tried.is_empty();
        for may_be_tried in [false, true] {
            let is_permitted = |slot| {
                let is_over = may_be_tried && context.table.at(slot).paused_until_ns > 0;
                !context.is_paused(slot) && (is_over || context.is_untried(slot))
            };
            for index in [first, 1 - first] {
                let chosen = self.choose_in(index, context, balancer.as_deref_mut(), random, &is_permitted);
                if chosen.is_some() || is_first_attempt {
                    return chosen;
                }
            }
            let cold = self.tiers[first].cold.iter().chain(&self.tiers[1 - first].cold);
            if let Some(slot) = cold.copied().find(|slot| is_permitted(*slot)) {
                return Some(slot);
            }
        }
        None
    }

    #[inline]
    fn choose_in(
        &mut self,
        index: usize,
        context: &ChoiceContext<'_>,
        balancer: Option<&mut (dyn Balancer + 'static)>,
        random: &mut Random,
        is_permitted: &impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let tier = &mut self.tiers[index];
        if tier.list.is_empty() {
            return None;
        }
        let key = context.call.key.filter(|_| context.config.balance == Balance::ConsistentHash);
        if let (Some(key), None) = (key, &balancer) {
            let is_usable = |slot| is_permitted(slot) && is_usable_for_key(index, context, slot, key);
            if let Some(slot) = self.ring.find(key, is_usable) {
                return Some(slot);
            }
        }
        if let Some(slot) = tier.next_cold(context, random, is_permitted) {
            return Some(slot);
        }
        if let Some(balancer) = balancer {
            self.untried.clear();
            self.untried.extend(tier.list.slots().iter().copied().filter(|slot| is_permitted(*slot)));
            let slots = &self.untried[..];
            if slots.is_empty() {
                return None;
            }
            let picked = balancer.pick(context.call, &Candidates { slots, source: context });
            return Some(slots[picked % slots.len()]);
        }
        let now_ns = context.now_ns;
        let at = |slot| context.table.at(slot);
        match context.config.balance {
            Balance::P2c | Balance::ConsistentHash => tier.better_of_two(context, random, is_permitted, {
                |endpoint, weight| endpoint.load.cost_by_latency(now_ns, endpoint.in_flight, weight)
            }),
            Balance::LeastLoaded => tier.better_of_two(context, random, is_permitted, |endpoint, weight| {
                endpoint.load.cost_by_load(now_ns, endpoint.in_flight, weight)
            }),
            Balance::Weighted => tier.draw(context, random, is_permitted),
            Balance::RoundRobin => tier.turns.take(is_permitted, |slot| {
                at(slot).instance.weight.max(1) as f32 * at(slot).slow_start.growth(now_ns)
            }),
        }
    }

    /// Returns whether there is an endpoint that the call has not tried and that may be used now.
    pub fn has_untried(&self, table: &Table, tried: &[EndpointId], now_ns: u64) -> bool {
        let mut lists = self.tiers.iter().flat_map(|tier| tier.list.slots().iter().chain(&tier.cold));
        lists.any(|slot| {
            let endpoint = table.at(*slot);
            endpoint.paused_until_ns <= now_ns && !tried.contains(&endpoint.id)
        })
    }

    /// Asserts that the lists match the table, if they are not stale.
    pub fn check(&self, table: &Table, config: &FleetConfig) {
        if !cfg!(debug_assertions) || self.is_stale {
            return;
        }
        let ejected = table.iter().filter(|(_, endpoint)| endpoint.is_ejected).count();
        assert_eq!(ejected, self.ejected as usize);
        assert!(ejected <= ejection::ejected_max(table.len(), config.breaker.ejected_max_percent));
        for (index, tier) in self.tiers.iter().enumerate() {
            for slot in tier.list.slots().iter().chain(&tier.cold) {
                let endpoint = table.at(*slot);
                assert!(endpoint.is_listed && !endpoint.is_ejected && usize::from(endpoint.tier) == index);
            }
        }
        for slot in &self.probes {
            assert!(table.at(*slot).is_ejected);
        }
    }
}

/// Returns whether the ring may use an endpoint for a key. An endpoint that cannot be connected is tried from time to
/// time; one in its slow start has a part of its keys, always the same.
fn is_usable_for_key(tier: usize, context: &ChoiceContext<'_>, slot: u16, key: u64) -> bool {
    let endpoint = context.table.at(slot);
    let growth = endpoint.slow_start.growth(context.now_ns);
    endpoint.is_listed
        && usize::from(endpoint.tier) == tier
        && (!endpoint.is_down || context.now_ns >= endpoint.cold_try_ns)
        && (growth >= 1.0 || (mix(key ^ endpoint.hash) >> 40) as f32 / ((1_u32 << 24) as f32) < growth)
}

impl Tier {
    /// Returns an endpoint without a connection that is to be tried, now and then.
    #[inline]
    fn next_cold(
        &mut self,
        context: &ChoiceContext<'_>,
        random: &mut Random,
        is_permitted: &impl Fn(u16) -> bool,
    ) -> Option<u16> {
        if self.cold.is_empty() || random.below(COLD_ONE_IN) != 0 {
            return None;
        }
        self.cold_turn = (self.cold_turn + 1) % self.cold.len();
        let slot = self.cold[self.cold_turn];
        (context.now_ns >= context.table.at(slot).cold_try_ns && is_permitted(slot)).then_some(slot)
    }

    /// Draws two endpoints and returns the one with the lower cost. Costs that are about equal leave the choice to the
    /// draw, and with it to the weights.
    #[inline]
    fn better_of_two(
        &self,
        context: &ChoiceContext<'_>,
        random: &mut Random,
        is_permitted: &impl Fn(u16) -> bool,
        cost: impl Fn(&Endpoint, f32) -> f32,
    ) -> Option<u16> {
        let first = self.list.draw_permitted(random, is_permitted)?;
        if self.list.slots().len() == 1 {
            return Some(first);
        }
        let others = |slot| slot != first && is_permitted(slot);
        let Some(second) = self.list.draw_permitted(random, others) else { return Some(first) };
        let (a, b) = (context.table.at(first), context.table.at(second));
        let weight = |endpoint: &Endpoint| {
            if self.list.is_even() { 1.0 } else { endpoint.instance.weight.max(1) as f32 / self.mean_weight }
        };
        let is_first_better = cost(a, weight(a)) <= TOLERANCE * cost(b, weight(b));
        let (mut better, mut other) = if is_first_better { (a, b) } else { (b, a) };
        let (mut slot, mut other_slot) = if is_first_better { (first, second) } else { (second, first) };
        if random.below(EXPLORE_ONE_IN) == 0 {
            (slot, other_slot) = (other_slot, slot);
            (better, other) = (other, better);
        }
        let (growth, other_growth) =
            (better.slow_start.growth(context.now_ns), other.slow_start.growth(context.now_ns));
        let is_too_new = growth < other_growth && random.fraction() * other_growth > growth;
        Some(if is_too_new { other_slot } else { slot })
    }

    /// Draws an endpoint by weight.
    fn draw(
        &self,
        context: &ChoiceContext<'_>,
        random: &mut Random,
        is_permitted: &impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let mut slot = self.list.draw_permitted(random, is_permitted)?;
        for _ in 1..SLOW_START_DRAWS {
            let growth = context.table.at(slot).slow_start.growth(context.now_ns);
            if growth >= 1.0 || random.fraction() < growth {
                break;
            }
            slot = self.list.draw_permitted(random, is_permitted)?;
        }
        Some(slot)
    }
}

impl CandidateSource for ChoiceContext<'_> {
    fn candidate(&self, slot: u16) -> Candidate<'_> {
        let endpoint = self.table.at(slot);
        Candidate {
            id: endpoint.id,
            instance: &endpoint.instance,
            weight: endpoint.instance.weight.max(1) as f32 * endpoint.slow_start.growth(self.now_ns),
            in_flight: endpoint.in_flight,
            latency_us: endpoint.load.latency_us(),
            load_us: endpoint.load.reported_us(self.now_ns),
            is_connected: endpoint.is_connected,
        }
    }
}
