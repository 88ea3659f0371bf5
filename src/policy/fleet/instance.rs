//! An instance of a service, as a resolver describes it.

use std::collections::BTreeMap;

/// One server of a service: where it is, and what balancing needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Identifies the instance among those of its service. By default its address.
    pub id: String,
    /// The address as a client takes it, with its scheme if that is not the native one: `10.0.0.7:6550`,
    /// `http:10.0.0.7:80`, `unix:/run/shop.sock`.
    pub address: String,
    /// The share of the calls, relative to the other instances. Default 1; 0 takes no calls while another instance can.
    pub weight: u32,
    /// The zone, such as a data centre or a region; `None` if it is not known.
    pub zone: Option<String>,
    /// Further labels.
    pub metadata: BTreeMap<String, String>,
}

impl Instance {
    /// Creates an instance of weight 1, without zone and labels, whose id is its address.
    pub fn new(address: impl Into<String>) -> Instance {
        let address = address.into();
        Instance { id: address.clone(), address, weight: 1, zone: None, metadata: BTreeMap::new() }
    }

    /// Sets the id.
    pub fn id(mut self, id: impl Into<String>) -> Instance {
        self.id = id.into();
        self
    }

    /// Sets the weight.
    pub fn weight(mut self, weight: u32) -> Instance {
        self.weight = weight;
        self
    }

    /// Sets the zone.
    pub fn zone(mut self, zone: impl Into<String>) -> Instance {
        self.zone = Some(zone.into());
        self
    }

    /// Adds a label, in place of another of the same key.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Instance {
        self.metadata.insert(key.into(), value.into());
        self
    }
}
