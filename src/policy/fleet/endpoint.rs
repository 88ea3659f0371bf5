//! The state of one endpoint, and the table of all.

use super::breaker::Breaker;
use super::call::EndpointId;
use super::health::Health;
use super::instance::Instance;
use super::load::Load;
use super::slow_start::SlowStart;

/// The state of one endpoint. Times are in nanoseconds.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub id: EndpointId,
    pub instance: Instance,
    /// The hash of the instance's id.
    pub hash: u64,
    pub is_connected: bool,
    /// It is not connected, and the last attempt to connect failed.
    pub is_down: bool,
    /// An attempt may use it, though others are connected, from this time on.
    pub cold_try_ns: u64,
    /// Its server has asked for no more calls until this time.
    pub paused_until_ns: u64,
    pub in_flight: u32,
    /// Attempts by outcome.
    pub ended: [u64; 4],
    pub load: Load,
    pub breaker: Breaker,
    pub health: Health,
    pub slow_start: SlowStart,
    /// Computed by the selection: it gets no calls but probes.
    pub is_ejected: bool,
    /// Computed by the selection: it is in a list of the tier below.
    pub is_listed: bool,
    /// Computed by the selection: 0 in the client's zone, or if the client has none; else 1.
    pub tier: u8,
    /// The wait until its turn in the weighted round robin, if it has one.
    pub turn_wait: Option<u64>,
}

impl Endpoint {
    /// Returns whether it would be ejected if that were allowed for all.
    pub fn is_suspect(&self) -> bool {
        !self.breaker.is_closed() || !self.health.is_healthy()
    }
}

/// The bits of an id that are the slot.
const SLOT_BITS: u32 = 16;

/// All endpoints. A slot is used again after its endpoint is gone; the id is not.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Endpoint>>,
    free: Vec<u16>,
    serial: u64,
    count: usize,
}

impl Table {
    /// Returns the id of the next endpoint, and takes a slot for it. There is one: the number of endpoints is bounded by
    /// [`ENDPOINTS_MAX`](super::ENDPOINTS_MAX).
    pub fn insert(&mut self, endpoint: impl FnOnce(EndpointId) -> Endpoint) -> EndpointId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u16
        });
        self.serial += 1;
        let id = EndpointId(self.serial << SLOT_BITS | u64::from(slot));
        self.slots[usize::from(slot)] = Some(endpoint(id));
        self.count += 1;
        id
    }

    /// Removes an endpoint.
    pub fn remove(&mut self, slot: u16) -> Option<Endpoint> {
        let removed = self.slots.get_mut(usize::from(slot)).and_then(Option::take);
        if removed.is_some() {
            self.free.push(slot);
            self.count -= 1;
        }
        removed
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the endpoint with the id, if it is not gone.
    pub fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        let slot = (id.0 & ((1 << SLOT_BITS) - 1)) as usize;
        self.slots.get(slot)?.as_ref().filter(|endpoint| endpoint.id == id)
    }

    /// Like [`Table::get`].
    #[inline]
    pub fn get_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        let slot = (id.0 & ((1 << SLOT_BITS) - 1)) as usize;
        self.slots.get_mut(slot)?.as_mut().filter(|endpoint| endpoint.id == id)
    }

    /// Returns the endpoint in a slot of a list, which holds slots of endpoints only.
    #[inline]
    pub fn at(&self, slot: u16) -> &Endpoint {
        self.slots[usize::from(slot)].as_ref().expect("lists are rebuilt when an endpoint goes")
    }

    /// Like [`Table::at`].
    #[inline]
    pub fn at_mut(&mut self, slot: u16) -> &mut Endpoint {
        self.slots[usize::from(slot)].as_mut().expect("lists are rebuilt when an endpoint goes")
    }

    /// Returns the endpoint in a slot, if there is one.
    pub fn in_slot_mut(&mut self, slot: u16) -> Option<&mut Endpoint> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// Returns all endpoints with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Endpoint)> {
        let with_slot = |(slot, endpoint): (usize, _)| Some((slot as u16, Option::as_ref(endpoint)?));
        self.slots.iter().enumerate().filter_map(with_slot)
    }

    /// Like [`Table::iter`].
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut Endpoint)> {
        let with_slot = |(slot, endpoint): (usize, _)| Some((slot as u16, Option::as_mut(endpoint)?));
        self.slots.iter_mut().enumerate().filter_map(with_slot)
    }
}
