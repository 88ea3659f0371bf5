//! The settings of a server behind proxies.

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

/// The field by which HTTP proxies tell the client of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardedField {
    /// `X-Forwarded-For`: addresses between commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedField {
    /// The names in a config file, in the order of the variants.
    pub const NAMES: [&'static str; 2] = ["x-forwarded-for", "forwarded"];

    /// Returns the name used in a config file.
    pub fn name(self) -> &'static str {
        ForwardedField::NAMES[self as usize]
    }

    /// Returns the field with that name, if there is one.
    pub fn from_name(name: &str) -> Option<ForwardedField> {
        [ForwardedField::XForwardedFor, ForwardedField::Forwarded]
            .into_iter()
            .find(|field| field.name() == name)
    }
}
