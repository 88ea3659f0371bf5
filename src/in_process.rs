//! A client of a server in the same process: for tests of services, without a port.

use crate::client::{CallError, Client};
use crate::reactor::Address;
use crate::server::Server;

impl Server {
    /// Connects a client to the server: in memory, if the server listens there ([`Server::in_memory`]), otherwise at the
    /// first of its addresses.
    ///
    /// ```
    /// use coreloop::{Context, Server, Status};
    ///
    /// struct Shop;
    ///
    /// #[coreloop::service]
    /// impl Shop {
    ///     fn price(&self, _cx: &Context, count: u64) -> Result<u64, Status> { Ok(40 * count) }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::in_memory().service(Shop).start()?;
    /// assert_eq!(ShopClient::new(server.client()?).price(&2)?, 80);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Connect`]: the server has no address that can be reached.
    pub fn client(&self) -> Result<Client, CallError> {
        let is_memory = |address: &&Address| matches!(address, Address::Memory(_));
        let addresses = self.addresses();
        match addresses.iter().find(is_memory).or(addresses.first()) {
            Some(address) => Client::connect(address),
            None => {
                let text = "the server listens on no address";
                Err(CallError::Connect(std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, text)))
            }
        }
    }
}
