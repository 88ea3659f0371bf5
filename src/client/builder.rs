//! The builder of a client: addresses and the route among them, limits, and the driver.

use std::sync::Arc;

use super::address::{BuildError, ToAddress};
use super::config::{ClientConfig, WhenFull};
use super::driver::Driver;
use super::endpoint::Endpoint;
use super::interceptor::{ClientInterceptor, ClientInterceptors};
use super::shared::{Client, ClientShared};
use super::{CallError, Route};
use crate::reactor::{Address, AddressError};
use crate::wire::Scheme;

/// Builds a [`Client`].
#[must_use = "a builder does nothing until it is built"]
pub struct ClientBuilder {
    addresses: Vec<String>,
    route: Option<Arc<dyn Route>>,
    driver: Option<Driver>,
    interceptors: Vec<Arc<dyn ClientInterceptor>>,
    config: ClientConfig,
}

impl ClientBuilder {
    pub(super) fn new(address: impl ToAddress) -> ClientBuilder {
        ClientBuilder {
            addresses: vec![address.to_address()],
            route: None,
            driver: None,
            interceptors: Vec::new(),
            config: ClientConfig::default(),
        }
    }

    /// Uses this driver for the client's connections. By default the client starts one of its own.
    pub fn on(mut self, driver: &Driver) -> ClientBuilder {
        self.driver = Some(driver.clone());
        self
    }

    /// Sets all limits.
    pub fn config(mut self, config: ClientConfig) -> ClientBuilder {
        self.config = config;
        self
    }

    /// Changes some of the limits.
    pub fn configure(mut self, change: impl FnOnce(&mut ClientConfig)) -> ClientBuilder {
        change(&mut self.config);
        self
    }

    /// Sets the most calls that may be in flight, and what happens to calls beyond that: two fields of
    /// [`ClientConfig`].
    pub fn in_flight_max(self, in_flight_max: usize, when_full: WhenFull) -> ClientBuilder {
        self.configure(|config| (config.in_flight_max, config.when_full) = (in_flight_max, when_full))
    }

    /// Adds addresses, and the [`Route`] that picks one of them for each call. The first address is endpoint 0, and
    /// these follow in their order. Each endpoint has its own connection and its own limits. All use the same
    /// protocol.
    pub fn route(mut self, others: &[impl ToAddress], route: impl Route) -> ClientBuilder {
        self.addresses.extend(others.iter().map(ToAddress::to_address));
        self.route = Some(Arc::new(route));
        self
    }

    /// Adds a [`ClientInterceptor`] of all calls of the client and its clones. To use it elsewhere too, pass an [`Arc`].
    pub fn interceptor(mut self, interceptor: impl ClientInterceptor) -> ClientBuilder {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Builds the client. It connects at its first call.
    ///
    /// # Errors
    ///
    /// A setting is wrong, or no thread could be started.
    pub fn build(self) -> Result<Client, BuildError> {
        self.config.check()?;
        let scheme = Scheme::split(&self.addresses[0]).0;
        let others = self.addresses.iter().map(|text| Scheme::split(text).0);
        if let Some(other) = others.into_iter().find(|other| *other != scheme) {
            return Err(BuildError::Protocols { first: scheme, other });
        }
        let read = |text: String| {
            let target: Address = Scheme::split(&text).1.parse()?;
            Ok((text, target))
        };
        let addresses: Vec<(String, Address)> =
            self.addresses.into_iter().map(read).collect::<Result<_, AddressError>>()?;
        let driver = match self.driver {
            Some(driver) => driver,
            None => Driver::spawn().map_err(BuildError::Thread)?,
        };
        let config = Arc::new(self.config);
        let interceptors: ClientInterceptors = self.interceptors.into();
        let endpoint = |(index, address)| {
            let route = self.route.clone();
            let interceptors = interceptors.clone();
            Arc::new(Endpoint::new(
                driver.clone(),
                index,
                scheme,
                address,
                config.clone(),
                route,
                interceptors,
            ))
        };
        let endpoints: Vec<Arc<Endpoint>> = addresses.into_iter().enumerate().map(endpoint).collect();
        Ok(Client::of(ClientShared {
            endpoints,
            route: self.route,
            driver,
            config,
            scheme,
            #[cfg(feature = "json")]
            description: Default::default(),
        }))
    }

    /// Builds the client and waits until it is connected, for up to `connect_timeout_ms`. Do not call this with a
    /// driver on a reactor of a server that has not started yet, nor in async code: there use [`ClientBuilder::build`] and
    /// [`Client::ready`].
    ///
    /// # Errors
    ///
    /// [`CallError::Build`] where [`ClientBuilder::build`] fails; [`CallError::Connect`] if the connection cannot be made.
    pub fn connect(self) -> Result<Client, CallError> {
        let client = self.build()?;
        client.ready().wait()?;
        Ok(client)
    }
}
