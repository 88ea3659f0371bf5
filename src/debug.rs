//! `Debug` of the types whose content is nothing to print: markers, builders, handles and what holds a connection. They
//! print their names.

use std::fmt;

/// Implements `Debug` with the type's name.
macro_rules! debug_as_name {
    ($($(#[$meta:meta])* [$($generics:tt)*] $type:ty, $name:literal;)*) => {$(
        $(#[$meta])*
        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )*};
}

debug_as_name! {
    [T, X] crate::codec::Plain<T, X>, "Plain";
    [T, X] crate::codec::EncodeOnly<T, X>, "EncodeOnly";
    #[cfg(feature = "fixed")]
    [T, X] crate::codec::Fixed<T, X>, "Fixed";
    #[cfg(feature = "protobuf")]
    [F] crate::codec::protobuf::Protobuf<F>, "Protobuf";
    [M, D] crate::codec::Described<M, D>, "Described";
    [T] crate::macro_support::Probe<T>, "Probe";
    #[cfg(feature = "server")]
    [] crate::service::futures::AsyncCall, "AsyncCall";
    [] crate::context::Deferral<'_>, "Deferral";
    [] crate::context::ContextParts<'_>, "ContextParts";
    [] crate::wire::Out<'_>, "Out";
    [A: crate::reactor::App] crate::reactor::ClosedConn<'_, A>, "ClosedConn";
    [A: crate::reactor::App] crate::reactor::ConnCx<'_, A>, "ConnCx";
    [A: crate::reactor::App] crate::reactor::Conns<'_, A>, "Conns";
    [A: crate::reactor::App] crate::reactor::Reactor<A>, "Reactor";
    [M] crate::reactor::Remote<M>, "Remote";
    #[cfg(feature = "server")]
    [M] crate::reactor::AcceptorShare<M>, "AcceptorShare";
    #[cfg(feature = "server")]
    [] crate::reactor::Listener, "Listener";
    #[cfg(feature = "server")]
    [] crate::server::Server, "Server";
    #[cfg(feature = "server")]
    [] crate::server::ServerBuilder, "ServerBuilder";
    #[cfg(feature = "server")]
    [] crate::server::Stopper, "Stopper";
    #[cfg(feature = "client")]
    [] crate::client::ClientBuilder, "ClientBuilder";
}
