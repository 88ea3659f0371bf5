//! The demo services. `coreloop serve` serves them; examples, tests and the load generator call them.
//!
//! They are small and deterministic, so that two servers can be compared by their replies: sums wrap, and users are
//! generated from their number. They also show how services are written.

mod arith;
mod echo;
mod users;

pub use arith::{Args, Arith, ArithClient, Pair, Quotient};
pub use echo::{Echo, EchoClient, Failure};
pub use users::{User, UserMessage, Users, UsersClient};

use crate::server::ServerBuilder;

/// Adds all demo services to a server.
///
/// ```
/// use coreloop::Server;
/// use coreloop::client::Direct;
/// use coreloop::demo::{Args, ArithClient};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = coreloop::demo::services(Server::builder()).listen("127.0.0.1:0").start()?;
/// let mut arith = ArithClient::new(Direct::connect(&server.addresses()[0].to_string())?);
/// assert_eq!(arith.multiply(&Args { a: 6, b: 7 })?, 42);
/// # Ok(())
/// # }
/// ```
pub fn services(builder: ServerBuilder) -> ServerBuilder {
    builder.service(Arith).service(Echo).service(Users)
}
