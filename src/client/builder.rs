//! What a client is built of: addresses and who picks among them, bounds, the thread that drives it.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::config::{ClientConfig, WhenFull};
use super::driver::Driver;
use super::endpoint::Endpoint;
use super::shared::{Client, ClientShared};
use super::{CallError, Route};
use crate::reactor::{Address, AddressError};
use crate::wire::Scheme;

/// A client to be built.
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    addresses: Vec<String>,
    route: Option<Arc<dyn Route>>,
    driver: Option<Driver>,
    config: ClientConfig,
}

impl ClientBuilder {
    pub(super) fn new(address: &str) -> ClientBuilder {
        ClientBuilder {
            addresses: vec![address.to_owned()],
            route: None,
            driver: None,
            config: ClientConfig::default(),
        }
    }

    /// The thread that drives its connections. Without this it has one of its own.
    pub fn on(mut self, driver: &Driver) -> ClientBuilder {
        self.driver = Some(driver.clone());
        self
    }

    /// All bounds at once.
    pub fn config(mut self, config: ClientConfig) -> ClientBuilder {
        self.config = config;
        self
    }

    /// Changes some of the bounds.
    pub fn configure(mut self, change: impl FnOnce(&mut ClientConfig)) -> ClientBuilder {
        change(&mut self.config);
        self
    }

    /// Calls that may be on their way or with the server, and what happens to those over it: two fields of
    /// [`ClientConfig`].
    pub fn in_flight_max(self, in_flight_max: usize, when_full: WhenFull) -> ClientBuilder {
        self.configure(|config| (config.in_flight_max, config.when_full) = (in_flight_max, when_full))
    }

    /// More addresses, and who picks one of them for each call. The first one is line 0, these follow in their order; each
    /// has a connection and the bounds for itself. All speak the same protocol.
    pub fn route(mut self, others: &[&str], route: impl Route) -> ClientBuilder {
        self.addresses.extend(others.iter().map(|address| (*address).to_owned()));
        self.route = Some(Arc::new(route));
        self
    }

    /// The client; it connects when it is first called.
    ///
    /// # Errors
    ///
    /// [`CallError::Connect`] with what is wrong: an address that cannot be read, a bound that cannot be, no thread.
    pub fn build(self) -> Result<Client, CallError> {
        let invalid = |error: &dyn fmt::Display| {
            CallError::Connect(io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
        };
        self.config.check().map_err(|error| invalid(&error))?;
        let scheme = Scheme::split(&self.addresses[0]).0;
        let others = self.addresses.iter().map(|text| Scheme::split(text).0);
        if let Some(other) = others.into_iter().find(|other| *other != scheme) {
            let error = format!(
                "all addresses of a client must use one protocol; found {} and {}",
                scheme.name(),
                other.name()
            );
            return Err(invalid(&error));
        }
        let read = |text: String| {
            let target: Address = Scheme::split(&text).1.parse()?;
            Ok((text, target))
        };
        let addresses: Vec<(String, Address)> = self
            .addresses
            .into_iter()
            .map(read)
            .collect::<Result<_, AddressError>>()
            .map_err(|error| invalid(&error))?;
        let driver = match self.driver {
            Some(driver) => driver,
            None => Driver::spawn().map_err(CallError::Connect)?,
        };
        let config = Arc::new(self.config);
        let endpoint = |(index, address)| {
            let route = self.route.clone();
            Arc::new(Endpoint::new(driver.clone(), index, scheme, address, config.clone(), route))
        };
        let endpoints: Vec<Arc<Endpoint>> = addresses.into_iter().enumerate().map(endpoint).collect();
        Ok(Client::of(ClientShared { endpoints, route: self.route, driver, config, scheme }))
    }

    /// The client, connected: waits for that, up to `connect_timeout_ms`. Not for a driver whose guest has no host yet,
    /// nor in async code: there [`ClientBuilder::build`], and [`Client::ready`].
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`]; and [`CallError::Connect`] if no connection can be had.
    pub fn connect(self) -> Result<Client, CallError> {
        let client = self.build()?;
        client.ready().wait()?;
        Ok(client)
    }
}
