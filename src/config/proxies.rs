//! The settings of a server behind proxies that pass on the bytes of connections.

/// Settings of the PROXY protocol, which tells the addresses of the clients of a proxy (docs/proxies.md).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyProtocolConfig {
    /// The proxies whose connections begin with a header of version 1 or 2: IP addresses, networks such as `10.0.0.0/8`,
    /// and `unix` for all peers of Unix sockets. Default: empty, and no connection has a header. Once it is set, a
    /// connection from another peer is closed, and so is one without a header. Too wide: those peers can pretend to
    /// be any client.
    pub from: Vec<String>,

    /// The listeners that expect the header, as they are written in `listen`. Default: empty, all of them except those in
    /// memory. Listeners that are not named accept connections of any peer, without a header. It needs `from`.
    pub listen: Vec<String>,
}
